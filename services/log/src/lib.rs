//! The durable, chained log of a node: what an acknowledgement stands on.
//!
//! A log is the append-only sequence of one origin in one lane, cut into epochs. This crate keeps a node's own logs,
//! its replicas of other origins' logs and the small state that must move with them (rule state, evidence,
//! checkpoints), all behind one atomic commit. It knows bytes, not alerts: headers, bodies and signatures are opaque,
//! and the only cryptography here is the SHA-256 that names a record. Signatures and rights are judged by callers.

pub mod bundle;
mod chain;
#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
pub mod conformance;
pub mod epoch;
mod error;
pub mod memory;
pub mod sqlite;
mod store;
mod values;

pub use error::Error;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use store::{
    Accepted, Appended, Batch, Draft, EVIDENCE_MAX, Evidence, Key, Recorded, Refusal, Replica, Seal, Sealed, Slot,
    StateRows, Store, StoreExt, Work,
};
pub use values::{Entry, Hash, HashError, Lane, Link, LogId, Position, Standing};

#[cfg(test)]
mod model;

#[cfg(feature = "mutants")]
use campanile_mutants::active as mutant;

/// Whether a bug is put in on purpose; never outside the tests.
#[cfg(not(feature = "mutants"))]
const fn mutant(_name: &str) -> bool {
    false
}
