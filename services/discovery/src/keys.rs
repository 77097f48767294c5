//! Ed25519 keys and the one way in which anything on the bus is signed.
//!
//! A signature covers the DSSE pre-authentication encoding of a type and of the exact bytes ([`pae`]), so that bytes
//! signed as one kind of thing are never valid as another, and nothing has to be brought into a canonical form first.
//! Private keys live in PKCS#8 PEM files and in [`SigningKey`], whose `Debug` shows no secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a key or a signature was refused. No variant ever carries key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a PEM block with a PKCS#8 private key.
    #[error("the file holds no PKCS#8 private key in PEM; make one with `campanile pki request`")]
    Pem,
    /// The private key is of another kind, or damaged.
    #[error("the private key is not a whole Ed25519 key; make a new one with `campanile pki request`")]
    NotEd25519,
    /// The system gave no random bytes.
    #[error("the system's random source failed; a key cannot be made now")]
    Random,
    /// A public key that is not 32 bytes in base64.
    #[error("a public key must be 32 bytes in base64; copy it from the request file whole")]
    Public,
    /// A key id that is not 16 hexadecimal digits.
    #[error("a key id must be 16 lower-case hexadecimal digits; it is the start of the public key's SHA-256")]
    Id,
    /// The signature was made by another key than the one it is checked with.
    #[error("the signature names key {named}, not {held}; look the key up by the id in the signature")]
    OtherKey {
        /// The id that stands in the signature.
        named: KeyId,
        /// The id of the key in hand.
        held: KeyId,
    },
    /// The signature does not fit the bytes.
    #[error("the signature by key {0} does not fit; the bytes were changed or signed as another type")]
    Bad(KeyId),
}

/// The first 16 hexadecimal digits of the SHA-256 of a public key. A hint for look-up, never proof by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The id as its eight bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 8];
        if text.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(Error::Id);
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for KeyId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// The DSSE pre-authentication encoding: what is signed, for a payload of a type.
///
/// `payload_type` is a media type, for example `application/vnd.campanile.roster.v1+json`; lengths are in bytes.
///
/// Source: DSSE protocol 1.0.2, "Signature definition".
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let mut out = Vec::with_capacity(head.len() + payload.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
    out
}

/// An Ed25519 signature and the id of the key that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose key: a hint for the look-up.
    pub key_id: KeyId,
    /// The 64 bytes of the signature. Any other length never verifies.
    pub value: Vec<u8>,
}

/// An Ed25519 public key: 32 bytes, base64 in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Takes the 32 bytes of a public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut id = [0; 8];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        KeyId(id)
    }

    /// Checks a signature over a payload of a type.
    ///
    /// # Errors
    /// [`Error::OtherKey`] when the signature names another key, [`Error::Bad`] when it does not fit.
    pub fn verify(&self, payload_type: &str, payload: &[u8], signature: &Signature) -> Result<(), Error> {
        let held = self.id();
        if signature.key_id != held {
            return Err(Error::OtherKey { named: signature.key_id, held });
        }
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&pae(payload_type, payload), &signature.value)
            .map_err(|_| Error::Bad(held))
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = STANDARD.decode(text).map_err(|_| Error::Public)?;
        bytes.try_into().map(Self).map_err(|_| Error::Public)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        key.to_string()
    }
}

/// An Ed25519 private key. It signs; it shows itself to nobody but [`SigningKey::to_pem`].
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
    public: VerifyingKey,
}

impl SigningKey {
    /// Makes a new key from the system's random source.
    ///
    /// # Errors
    /// [`Error::Random`] when the system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| Error::Random)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Makes the key that belongs to a 32-byte seed: for tests and simulations that must repeat to the byte.
    ///
    /// # Errors
    /// [`Error::NotEd25519`] never happens for 32 bytes, and is passed on if the library says otherwise.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, Error> {
        // PKCS#8 v1 of an Ed25519 key: a fixed head of 16 bytes, then the seed. Source: RFC 8410 §7.
        const HEAD: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        Self::from_pkcs8(&[HEAD.as_slice(), seed].concat())
    }

    /// Reads the text of a PKCS#8 PEM file.
    ///
    /// # Errors
    /// [`Error::Pem`] when there is no such block, [`Error::NotEd25519`] when the key is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| Error::Pem)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// Writes the text of a PKCS#8 PEM file. Keep it in a file that only its owner reads.
    pub fn to_pem(&self) -> String {
        let body = STANDARD.encode(&self.pkcs8);
        let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        // Version 1 files (OpenSSL's) have no public half to compare with, hence "maybe unchecked".
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| Error::NotEd25519)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| Error::NotEd25519)?;
        Ok(Self { pair, pkcs8: der.to_vec(), public: VerifyingKey(public) })
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public
    }

    /// The id of the public half.
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// Signs a payload as a type.
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Signature {
        let value = self.pair.sign(&pae(payload_type, payload)).as_ref().to_vec();
        Signature { key_id: self.id(), value }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, ***)", self.id())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn pae_is_the_one_of_the_dsse_text() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_signature_is_good_for_its_type_its_bytes_and_its_key_alone() {
        let key = SigningKey::generate().unwrap();
        let other = SigningKey::generate().unwrap().verifying_key();
        let signature = key.sign("a", b"payload");
        let public = key.verifying_key();
        assert_eq!(public.verify("a", b"payload", &signature), Ok(()));
        assert_eq!(public.verify("b", b"payload", &signature), Err(Error::Bad(public.id())));
        assert_eq!(public.verify("a", b"Payload", &signature), Err(Error::Bad(public.id())));
        assert!(matches!(other.verify("a", b"payload", &signature), Err(Error::OtherKey { .. })));
        let short = Signature { value: signature.value.iter().copied().take(63).collect(), ..signature };
        assert_eq!(public.verify("a", b"payload", &short), Err(Error::Bad(public.id())));
    }

    #[test]
    fn a_key_survives_its_pem_file_and_a_seed_gives_one_key() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.verifying_key(), again.verifying_key());
        let seeded = SigningKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(seeded.id(), SigningKey::from_pem(&seeded.to_pem()).unwrap().id());
        assert!(matches!(SigningKey::from_pem("no key"), Err(Error::Pem)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SigningKey::from_seed(&[9; 32]).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("***") && shown.contains(&key.id().to_string()), "{shown}");
        assert!(!shown.contains(&hex::encode([9; 32])), "{shown}");
    }

    #[test]
    fn ids_and_public_keys_round_trip_as_text() {
        let public = SigningKey::from_seed(&[1; 32]).unwrap().verifying_key();
        assert_eq!(public.to_string().parse::<VerifyingKey>(), Ok(public));
        assert_eq!(public.id().to_string().parse::<KeyId>(), Ok(public.id()));
        for bad in ["", "00", "ABCDEFABCDEFABCD", "zzzzzzzzzzzzzzzz"] {
            assert_eq!(bad.parse::<KeyId>(), Err(Error::Id), "{bad:?}");
        }
    }
}
