//! The durable, chained log of a node: what an acknowledgement stands on.
//!
//! A log is the append-only sequence of one origin in one lane, cut into epochs. This crate keeps a node's own logs,
//! its replicas of other origins' logs and the small state that must move with them (rule state, evidence,
//! checkpoints), all behind one atomic commit. It knows bytes, not alerts: headers, bodies and signatures are opaque,
//! and the only cryptography here is the SHA-256 that names a record. Signatures and rights are judged by callers.

mod chain;
pub mod epoch;
mod error;
pub mod sqlite;
mod store;
mod values;

pub use error::Error;
pub use sqlite::SqliteStore;
pub use store::{
    Accepted, Appended, Batch, Draft, EVIDENCE_MAX, Evidence, Key, Recorded, Refusal, Replica, Seal, Sealed, Slot,
    StateRows, Store, Work,
};
pub use values::{Entry, Hash, HashError, Lane, Link, LogId, Position, Standing};
