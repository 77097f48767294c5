//! The gateway: a member of the bus whose channels hand alerts on to people.
//!
//! ```text
//!  bus ─► member ─► dispatch ─► board ─► notice ─► one worker a channel ─► feed, screens, brokers ─► people
//!                       │                              │
//!                       └──────── ledger ◄─────────────┴─► delivery ─► reports on the bus
//! ```
//!
//! Read in this order: [`notice`] (what may go out, and to whom), [`board`] (what is in force), [`channels`] (how it
//! goes out), [`dispatch`] (what is done when), [`delivery`] (what is said about it), [`http`] (what the public reads),
//! [`server`] (what runs).

pub mod config;
pub mod estates;
pub mod incoming;
pub mod texts;

pub mod board;
pub mod notice;

pub mod channels;

pub mod delivery;
pub mod dispatch;
mod ledger;
pub mod member;

pub mod http;
pub mod metrics;
pub mod server;

#[cfg(test)]
mod testing;

pub use config::Config;
pub use server::{Addresses, Error, Server};

#[cfg(feature = "mutants")]
use campanile_mutants::active as mutant;

/// Whether a bug is put in on purpose; never outside the tests.
#[cfg(not(feature = "mutants"))]
const fn mutant(_name: &str) -> bool {
    false
}
