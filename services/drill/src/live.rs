//! A drill against running nodes: the same scenario, the same transcript, the same judge, with real clocks and people.
//!
//! ```text
//! guards ─► streams open ─► T+0 ─► injects by script nodes' own clients ─► running nodes, rules, gateways
//!                                          ▲                                        │ records, questions
//!    controllers: pause, resume, inject, abort                                      ▼
//!    players: people, or their scripts with their own certificates ◄────── transcript ─► judge ─► verdict
//! ```
//!
//! Nothing here can make anything real: every message is published with status Exercise and the exercise's name, nodes
//! sign it with the exercise key, and gateways hand it to nothing but sinks. [`guards`] makes sure of that before the
//! first inject, [`play`] runs, [`clear`] takes everything of the exercise back, however the drill ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Clock, DepartmentId};
use campanile_client::Client;

pub use self::clear::{Cleared, clear};
pub use self::clock::DrillClock;
pub use self::control::{Command, Request};
pub use self::guards::{Refused, guard, supports};
pub use self::play::{Line, play};
use crate::transcript::Transcript;
use crate::verdict::Verdict;

mod clear;
mod clock;
mod control;
mod guards;
mod injects;
mod people;
mod play;
mod record;
mod sight;

/// The greatest speed factor.
pub const SPEED_MAX: u32 = 1000;

/// The way to everybody who takes part.
#[derive(Debug, Clone, Default)]
pub struct Crew {
    /// A client of each department's own node, for all nodes of the cast but gateways. It needs the role read, and where
    /// the node is played by injects, or must be cleared afterwards, publish or approve.
    pub nodes: BTreeMap<DepartmentId, Client>,
    /// The players' own clients by role, for players that are scripts.
    pub players: BTreeMap<String, Client>,
    /// The roles of each person of the roster, by the person's id.
    pub persons: BTreeMap<String, Vec<String>>,
}

/// How a live drill is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many times as fast as the clock the drill's own time passes, 1 to 1000. Timers of nodes do not follow it.
    pub speed: u32,
    /// Whether players are their scripts, with their own certificates; else people answer by themselves.
    pub scripted: bool,
    /// Whether controllers bring about by hand the faults that the driver cannot; else such a scenario is refused.
    pub faults_by_hand: bool,
    /// The clock of the federation.
    pub clock: Arc<dyn Clock>,
    /// How long a drill that has stopped itself waits for a controller before it ends.
    pub frozen_wait: Duration,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Played {
    /// What was seen.
    pub transcript: Transcript,
    /// What it came to.
    pub verdict: Verdict,
    /// What was taken back at the end.
    pub cleared: Cleared,
}

/// Why a live drill could not be run. A drill that fails is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A guard does not hold, or the scenario needs what a live run cannot do. Nothing was published.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// A node did not answer.
    #[error("{department}'s node: {source}")]
    Node {
        /// Whose.
        department: DepartmentId,
        /// What it said.
        #[source]
        source: campanile_client::Error,
    },
}
