//! What happened in a run, in order: one line an event, and a hash over all of them. Two runs of one seed have the same.

use std::fmt::Display;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// The events of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Mutex<Vec<String>>,
    /// The run's time, put before each line.
    now_ms: Mutex<u64>,
}

impl Trace {
    /// Writes an event down; `who` is a node, or `run`.
    pub(crate) fn note(&self, who: &str, event: impl Display) {
        let line = format!("{:>7} {who:<4} {event}", self.now_ms.lock());
        self.lines.lock().push(line);
    }

    pub(crate) fn set_time(&self, now_ms: u64) {
        *self.now_ms.lock() = now_ms;
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The hash over all lines.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for line in self.lines.lock().iter() {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        hex::encode(hasher.finalize())
    }
}
