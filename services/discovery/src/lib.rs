//! How departments find and know each other: keys, the signed roster, mutual TLS, and the directory of addresses.
//!
//! The directory (etcd, a file, memory) only gives hints. What counts is signed: the [`roster`] by governance, each hint
//! by its node's key. Read in this order: [`keys`] and [`envelope`] (how anything is signed), [`roster`] (who is who),
//! [`clock`].

pub mod clock;
pub mod envelope;
pub mod keys;
pub mod roster;

pub use clock::SystemClock;
pub use keys::{KeyId, Signature, SigningKey, VerifyingKey, pae};
pub use roster::{Roster, RosterCache, RosterHandle, SignedRoster};
