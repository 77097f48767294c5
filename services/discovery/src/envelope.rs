//! The DSSE envelope in JSON: a payload, its type, and the signatures over both.
//!
//! Rosters, hints and requests travel in one. What was verified is what is parsed: the payload is handed out as the
//! bytes that the signatures cover, and nothing is encoded again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::keys::{KeyId, Signature, SigningKey, VerifyingKey};

/// The most signatures that an envelope may carry.
pub const SIGNATURES_MAX: usize = 64;

/// Why an envelope was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More bytes than the caller allows.
    #[error("the envelope has {0} bytes, more than the {1} allowed; it is not what it should be")]
    Long(usize, usize),
    /// Not the JSON of an envelope.
    #[error("the bytes are not a DSSE envelope in JSON: {0}")]
    Shape(String),
    /// The payload or a signature is not base64.
    #[error("the envelope's {0} is not base64; it was cut or changed on its way")]
    Base64(&'static str),
    /// Another type of payload.
    #[error("the envelope holds {found:?}, where {wanted:?} is needed")]
    Type {
        /// The type it has.
        found: String,
        /// The type that was needed.
        wanted: String,
    },
    /// More than [`SIGNATURES_MAX`].
    #[error("the envelope carries {0} signatures, more than the {SIGNATURES_MAX} allowed")]
    ManySignatures(usize),
    /// No signature of a wanted key fits.
    #[error("no signature by a key that counts here fits the envelope")]
    Unsigned,
}

/// A payload with its type and signatures. Nothing in it is trusted until a `verify` has said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// Wraps a payload, unsigned.
    pub fn new(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.into(), payload, signatures: Vec::new() }
    }

    /// Reads the JSON form of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Error`] when it is too long, not an envelope, or of another type than `payload_type`.
    pub fn parse(bytes: &[u8], payload_type: &str, bytes_max: usize) -> Result<Self, Error> {
        if bytes.len() > bytes_max {
            return Err(Error::Long(bytes.len(), bytes_max));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|e| Error::Shape(e.to_string()))?;
        if wire.payload_type != payload_type {
            let found = wire.payload_type.chars().take(80).collect();
            return Err(Error::Type { found, wanted: payload_type.into() });
        }
        if wire.signatures.len() > SIGNATURES_MAX {
            return Err(Error::ManySignatures(wire.signatures.len()));
        }
        let payload = STANDARD.decode(&wire.payload).map_err(|_| Error::Base64("payload"))?;
        let signature = |s: WireSignature| {
            let value = STANDARD.decode(&s.sig).map_err(|_| Error::Base64("signature"))?;
            Ok(Signature { key_id: s.keyid, value })
        };
        let signatures = wire.signatures.into_iter().map(signature).collect::<Result<_, Error>>()?;
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// Writes the JSON form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let sign = |s: &Signature| WireSignature { keyid: s.key_id, sig: STANDARD.encode(&s.value) };
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(sign).collect(),
        };
        // Strings and lists of strings always have a JSON form.
        serde_json::to_vec_pretty(&wire).unwrap_or_default()
    }

    /// Adds a signature; a second one by the same key takes the place of the first.
    pub fn sign(&mut self, key: &SigningKey) {
        let signature = key.sign(&self.payload_type, &self.payload);
        self.signatures.retain(|s| s.key_id != signature.key_id);
        self.signatures.push(signature);
    }

    /// The bytes that the signatures cover.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The type of the payload.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// The signatures as they came, unverified.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Those of `keys` whose signature fits, each once.
    pub fn signers<'k>(&self, keys: impl IntoIterator<Item = &'k VerifyingKey>) -> Vec<VerifyingKey> {
        let mut found: Vec<VerifyingKey> = Vec::new();
        for key in keys {
            let fits = |s: &Signature| key.verify(&self.payload_type, &self.payload, s).is_ok();
            if !found.contains(key) && self.signatures.iter().any(fits) {
                found.push(*key);
            }
        }
        found
    }

    /// Gives the payload if `key` signed it.
    ///
    /// # Errors
    /// [`Error::Unsigned`] when no signature by that key fits.
    pub fn verified_by(&self, key: &VerifyingKey) -> Result<&[u8], Error> {
        match self.signers([key]).is_empty() {
            true => Err(Error::Unsigned),
            false => Ok(&self.payload),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_round_trips_and_counts_each_signer_once() {
        let (a, b) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
        let mut envelope = Envelope::new("t", b"words".to_vec());
        envelope.sign(&a);
        envelope.sign(&a);
        envelope.sign(&b);
        let read = Envelope::parse(&envelope.to_bytes(), "t", 10_000).unwrap();
        assert_eq!(read, envelope);
        assert_eq!(read.signers([&a.verifying_key(), &a.verifying_key(), &b.verifying_key()]).len(), 2);
        assert_eq!(read.verified_by(&a.verifying_key()), Ok(b"words".as_slice()));
    }

    #[test]
    fn a_changed_envelope_has_no_signer() {
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        let mut envelope = Envelope::new("t", b"words".to_vec());
        envelope.sign(&key);
        envelope.payload = b"Words".to_vec();
        assert_eq!(envelope.verified_by(&key.verifying_key()), Err(Error::Unsigned));
        let bytes = envelope.to_bytes();
        assert!(matches!(Envelope::parse(&bytes, "u", 10_000), Err(Error::Type { .. })));
        assert!(matches!(Envelope::parse(&bytes, "t", 10), Err(Error::Long(..))));
        assert!(matches!(Envelope::parse(b"{}", "t", 10), Err(Error::Shape(_))));
    }
}
