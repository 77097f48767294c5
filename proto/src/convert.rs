//! The only door from wire to domain: what comes in is checked here once, and trusted from here on.
//!
//! [`alert_from_wire`] refuses what the wire may carry but the domain may not, and names *every* fault with its path,
//! so that an integrator mends a message in one round. [`alert_to_wire`] never fails. Domain → wire → domain gives the
//! same value: a canonical text is left out and written again, any other text travels beside its numbers.
//!
//! Small words have functions of their own: classification, times, alert ids, lanes, worlds. Whether a message is valid
//! CAP, or admissible on the bus, is not asked here; that is the domain's own judgement.

mod codes;
mod message;
mod path;
mod shape;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;

pub use codes::{severity_from_wire, severity_to_wire, status_from_wire, status_to_wire};
pub use message::{alert_from_wire, alert_to_wire};
pub use words::{
    WantedAlert, alert_id_from_wire, alert_id_to_wire, classification_from_wire, classification_to_wire,
    lane_from_wire, lane_name, lane_named, timestamp_from_wire, timestamp_to_wire, wanted_alert_from_wire,
    world_from_wire, world_to_wire,
};

use path::Path;

/// The most faults that one conversion reports. A message with more is refused all the same.
pub const FAULTS_MAX: usize = 64;

/// The most polygons that a message may have, over all its infos.
pub const POLYGONS_MAX: usize = 1_000;

/// The most points that a message may have, over all its polygons.
pub const POINTS_MAX: usize = 50_000;

/// The longest reason, in characters; some quote the text that they refuse.
const REASON_CHARS_MAX: usize = 300;

/// One thing that is wrong with a message from the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Fault {
    /// Where it stands, in the names of the protocol, for example `alert.infos[0].severity`.
    pub path: String,
    /// What is wrong and what to do, in one sentence.
    pub reason: String,
}

/// The faults found so far, up to [`FAULTS_MAX`].
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: Path<'_>, reason: impl fmt::Display) {
        if self.0.len() < FAULTS_MAX {
            let reason = reason.to_string().chars().take(REASON_CHARS_MAX).collect();
            self.0.push(Fault { path: path.to_string(), reason });
        }
    }

    /// Keeps the value, or notes why there is none.
    fn keep<T, E: fmt::Display>(&mut self, path: Path<'_>, result: Result<T, E>) -> Option<T> {
        result.map_err(|reason| self.add(path, reason)).ok()
    }

    /// The value, if nothing was wrong. A value is only missing where a fault was noted.
    fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
