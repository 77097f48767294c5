//! Where a node says it can be reached: an address book entry that the node itself signed.
//!
//! A hint is never an authority. Who answers at the address is judged by mutual TLS, and a wrong or old hint costs a
//! failed connection, nothing more. Still, an unsigned one is not even tried, so that the directory cannot send nodes
//! knocking at strangers' doors.

use campanile_alert::{ExerciseId, OriginId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::envelope::{self, Envelope};
use crate::keys::SigningKey;
use crate::roster::Roster;

/// The payload type of a hint's envelope.
pub const HINT_TYPE: &str = "application/vnd.campanile.hint.v1+json";
/// The longest hint envelope, in bytes.
pub const HINT_BYTES_MAX: usize = 64 << 10;
/// The most addresses in a hint.
pub const ADDRESSES_MAX: usize = 16;
/// The most exercises in a hint.
pub const SINKS_MAX: usize = 64;

/// Why a hint was passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The envelope cannot be read.
    #[error("the hint's envelope was refused")]
    Envelope(#[from] envelope::Error),
    /// The payload is not a hint, or has too many addresses.
    #[error("the payload is not a hint: {0}")]
    Shape(String),
    /// Under another node's name.
    #[error("the hint of {found} stands under the name of {wanted}")]
    OtherOrigin {
        /// The origin inside.
        found: OriginId,
        /// The name it stands under.
        wanted: OriginId,
    },
    /// Signed by no live key of the origin.
    #[error("the hint of {0} is signed by no key that the roster lists for it now")]
    Unsigned(OriginId),
}

/// The versions of the peer protocol that a node speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

/// Where and how a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The node.
    pub origin: OriginId,
    /// A token of this installation, kept in its data folder: another one under the same origin is a second instance.
    pub instance: String,
    /// `host:port`, best first; at most 16.
    pub addresses: Vec<String>,
    /// The epoch of its logs; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The protocol versions it speaks.
    pub protocol: Protocol,
    /// When its process started.
    pub started: Timestamp,
    /// Of a gateway, the exercises whose notices it hands to sinks, at most 64; those of others it hands to nobody.
    /// Absent where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<ExerciseId>>,
}

impl Hint {
    /// Signs the hint with the node's live key, and gives the envelope.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        // Strings, numbers and lists of them always have a JSON form.
        let mut envelope = Envelope::new(HINT_TYPE, serde_json::to_vec(self).unwrap_or_default());
        envelope.sign(key);
        envelope.to_bytes()
    }

    /// Reads a hint that stands under `origin`'s name, and checks it with the keys that the roster lists.
    ///
    /// # Errors
    /// [`Error`] when it cannot be read, is another node's, or is signed by no live key of that node.
    pub fn verify(bytes: &[u8], origin: &OriginId, roster: &Roster) -> Result<Self, Error> {
        let envelope = Envelope::parse(bytes, HINT_TYPE, HINT_BYTES_MAX)?;
        if envelope.signers(roster.live_keys(origin)).is_empty() {
            return Err(Error::Unsigned(origin.clone()));
        }
        let hint: Self = serde_json::from_slice(envelope.payload()).map_err(|e| Error::Shape(e.to_string()))?;
        if &hint.origin != origin {
            return Err(Error::OtherOrigin { found: hint.origin, wanted: origin.clone() });
        }
        if hint.addresses.len() > ADDRESSES_MAX {
            return Err(Error::Shape(format!("it has {} addresses, more than {ADDRESSES_MAX}", hint.addresses.len())));
        }
        if hint.sinks.as_ref().is_some_and(|sinks| sinks.len() > SINKS_MAX) {
            return Err(Error::Shape(format!("it has sinks for more than {SINKS_MAX} exercises")));
        }
        Ok(hint)
    }

    /// The instance named in an envelope, unverified: enough to notice that somebody else's hint stands in the way.
    pub(crate) fn peek_instance(bytes: &[u8]) -> Option<String> {
        let envelope = Envelope::parse(bytes, HINT_TYPE, HINT_BYTES_MAX).ok()?;
        let hint: Self = serde_json::from_slice(envelope.payload()).ok()?;
        Some(hint.instance)
    }
}
