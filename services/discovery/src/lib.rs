//! How departments find and know each other: keys, the signed roster, mutual TLS, and the directory of addresses.
//!
//! The directory (etcd, a file, memory) only gives hints. What counts is signed: the [`roster`] by governance, each hint
//! by its node's key. Read in this order: [`keys`] and [`envelope`] (how anything is signed), [`roster`] (who is who),
//! [`identity`] and [`tls`] (who stands at the other end), [`pki`] (making keys and certificates), [`hint`],
//! [`directory`] and [`members`] (who is where), [`clock`].

pub mod clock;
pub mod directory;
pub mod envelope;
pub mod hint;
pub mod identity;
pub mod keys;
pub mod members;
pub mod pki;
pub mod roster;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;

pub use clock::SystemClock;
pub use directory::{Directory, DirectoryConfig, MemoryHub};
pub use hint::{Hint, Protocol};
pub use identity::{PeerIdentity, PeerKind, Role};
pub use keys::{KeyId, Signature, SigningKey, VerifyingKey, pae};
pub use members::{Member, Members, MembersConfig};
pub use roster::{Roster, RosterCache, RosterHandle, SignedRoster};
pub use tls::{Acceptor, Connector, Expect, Identity, IdentityFiles, TlsMaterial};

#[cfg(feature = "mutants")]
use campanile_mutants::active as mutant;

/// Whether a bug is put in on purpose; never outside the tests.
#[cfg(not(feature = "mutants"))]
const fn mutant(_name: &str) -> bool {
    false
}
