//! What has been seen, in bounded memory: the newest keys, oldest forgotten first.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most keys that are remembered. A forgotten message that still stands in the feed is published again, which the
/// bus answers with its first answer.
const KEYS_MAX: usize = 10_000;

/// A set of keys that forgets the oldest; it keeps digests, so its size does not depend on the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub(super) struct Memory {
    order: VecDeque<String>,
    known: BTreeSet<String>,
}

impl Memory {
    /// Whether the key was remembered before.
    pub(super) fn has(&self, key: &str) -> bool {
        self.known.contains(&digest(key))
    }

    /// Remembers a key; false when it was remembered before.
    pub(super) fn add(&mut self, key: &str) -> bool {
        self.add_digest(digest(key))
    }

    fn add_digest(&mut self, digest: String) -> bool {
        if !self.known.insert(digest.clone()) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

fn digest(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()).get(..12).unwrap_or_default())
}

impl From<Vec<String>> for Memory {
    fn from(digests: Vec<String>) -> Self {
        let mut memory = Self::default();
        for digest in digests {
            memory.add_digest(digest);
        }
        memory
    }
}

impl From<Memory> for Vec<String> {
    fn from(memory: Memory) -> Self {
        memory.order.into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_survives_a_restart() {
        let mut memory = Memory::default();
        for i in 0..=KEYS_MAX {
            assert!(memory.add(&i.to_string()));
        }
        assert!(!memory.has("0") && memory.has("1"), "the oldest is forgotten, no other");
        let json = serde_json::to_string(&memory).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&json).unwrap(), memory);
    }
}
