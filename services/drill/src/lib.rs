//! Drills: a scenario that is played, with faults and people in it, and a verdict that is the same every time.
//!
//! One file serves as unit test, drill in CI, live drill and recorded incident. Read in this order: [`scenario`] (what is
//! played and what is expected), [`transcript`] (what was seen), [`judge`] (how the one is held against the other) and
//! [`verdict`] (what comes of it). The virtual and the live world emit the same transcript, so both are judged by the
//! same code. Everything here is pure, the live parts aside: no clock, no file, no network, no random source.

mod check;
mod han;
pub mod import;
pub mod judge;
#[cfg(feature = "live")]
pub mod live;
mod places;
pub mod record;
pub mod report;
pub mod scenario;
pub mod time;
pub mod transcript;
pub mod verdict;
pub mod world;

pub use judge::Judge;
pub use report::Report;
pub use scenario::Scenario;
pub use time::{Length, Offset};
pub use transcript::{Event, Transcript, What};
pub use verdict::Verdict;
pub use world::{Bench, Played, play, play_all};
