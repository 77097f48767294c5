//! Membership of the bus: what a node and a gateway share.
//!
//! Read in this order: [`bus`] (the assembly), [`record`] (what is signed), [`pipeline`] (the one way in), [`derive`]
//! (the seam to the rules), [`count`] (who may say what), [`current`] (which alerts are in force), [`peer_service`] and
//! [`pull`] (replication, both sides), [`verify`] (the judgement of what comes in), [`transport`] (connections),
//! [`surroundings`] (what a member takes from outside itself).

pub mod bus;
pub mod checkpoint;
pub mod count;
pub mod current;
pub mod derive;
pub mod metrics;
pub mod peer_service;
pub mod pipeline;
pub mod pull;
pub mod record;
pub mod surroundings;
pub mod tails;
pub mod transport;
pub mod verify;

pub use bus::{Bus, OpenError, Options, Submission, SubmitError};
pub use derive::{Arrival, Derive, Derived, Event};
pub use pipeline::{Haste, PublishError, Published, SigningKeys};
pub use surroundings::{Machine, Surroundings};

#[cfg(feature = "mutants")]
use campanile_mutants::active as mutant;

/// Whether a bug is put in on purpose; never outside the tests.
#[cfg(not(feature = "mutants"))]
const fn mutant(_name: &str) -> bool {
    false
}
