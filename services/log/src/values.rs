//! The values of a log: which log, which position, what stands there.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The lane of a log. Urgent sorts first, so a sorted list of logs is in order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Severe and Extreme alerts and what refers to them.
    Urgent,
    /// Everything else that is live.
    Routine,
    /// Status Exercise or Test; can neither delay nor stall the other two.
    Exercise,
}

impl Lane {
    /// All lanes, urgent first.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Routine, Lane::Exercise];

    /// The name of the lane in text: `urgent`, `routine` or `exercise`.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Routine => "routine",
            Lane::Exercise => "exercise",
        }
    }

    /// The lane named `text`, or `None`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == text)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names a log: one origin in one lane. Sorts by lane, then origin. Displays as `edb/node-1:urgent`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The node that authors the log, for example `edb/node-1`. Opaque here.
    pub origin: Arc<str>,
    /// The lane.
    pub lane: Lane,
}

impl LogId {
    /// Names the log of `origin` in `lane`.
    pub fn new(origin: impl Into<Arc<str>>, lane: Lane) -> Self {
        Self { origin: origin.into(), lane }
    }
}

impl Ord for LogId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.lane, &*self.origin).cmp(&(other.lane, &*other.origin))
    }
}

impl PartialOrd for LogId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.lane)
    }
}

/// A SHA-256 value. Displays and serialises as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What stands for "no previous record".
    pub const ZERO: Hash = Hash([0; 32]);

    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;

    fn try_from(bytes: &[u8]) -> Result<Self, HashError> {
        bytes.try_into().map(Self).map_err(|_| HashError)
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| HashError)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Text or bytes that are no SHA-256 value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 32 bytes, or 64 hexadecimal digits")]
pub struct HashError;

/// A place in a log and what stands there. Sorts by epoch, then seq. Displays as `epoch/seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, see [`crate::epoch`].
    pub epoch: u64,
    /// Counts from 1 in each epoch.
    pub seq: u64,
    /// SHA-256 of the header there.
    pub hash: Hash,
}

impl Position {
    /// The place alone, as cursors have it.
    pub fn place(&self) -> (u64, u64) {
        (self.epoch, self.seq)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

/// The position that the first record of an epoch names: the tail its author held when it opened the epoch.
pub type Link = Position;

/// Whether a stored record may have consequences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has a right to be acted on.
    Counted,
    /// It is chained and signed but has no right, or its body is no good: stored and relayed, never acted on.
    NotCounted {
        /// Why, for people.
        reason: String,
    },
    /// Only the header is held.
    NoBody,
}

/// One stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the order of this node's inserts over all logs; starts at 1, without gaps.
    pub arrival: u64,
    /// The log it is in.
    pub log: LogId,
    /// Where it stands, and the hash of its header.
    pub position: Position,
    /// The hash at the place before it; [`Hash::ZERO`] for seq 1.
    pub previous: Hash,
    /// What the first record of an epoch links to; absent for other records and in the first epoch of a log.
    pub link: Option<Link>,
    /// The header, byte for byte as signed.
    pub header: Bytes,
    /// The body, byte for byte; absent if this node holds the header alone.
    pub body: Option<Bytes>,
    /// The signatures, in the caller's encoding.
    pub signatures: Bytes,
    /// Whether it counts.
    pub standing: Standing,
}

impl Entry {
    /// The bytes this entry weighs against a limit of a read.
    pub fn weight(&self) -> usize {
        self.header.len() + self.body.as_ref().map_or(0, Bytes::len) + self.signatures.len()
    }
}
