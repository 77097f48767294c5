//! How departments find and know each other: keys, the signed roster, mutual TLS, and the directory of addresses.
//!
//! The directory (etcd, a file, memory) only gives hints. What counts is signed: the [`roster`] by governance, each hint
//! by its node's key. Read in this order: [`keys`] and [`envelope`] (how anything is signed), [`roster`] (who is who),
//! [`identity`] and [`tls`] (who stands at the other end), [`pki`] (making keys and certificates), [`clock`].

pub mod clock;
pub mod envelope;
pub mod identity;
pub mod keys;
pub mod pki;
pub mod roster;
pub mod tls;

pub use clock::SystemClock;
pub use identity::{PeerIdentity, PeerKind, Role};
pub use keys::{KeyId, Signature, SigningKey, VerifyingKey, pae};
pub use roster::{Roster, RosterCache, RosterHandle, SignedRoster};
pub use tls::{Acceptor, Connector, Expect, Identity, IdentityFiles, TlsMaterial};
