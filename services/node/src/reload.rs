//! Reading certificates, keys and the roster again while a member runs.

use campanile_bus::Bus;
use campanile_discovery::roster::Error as RosterError;

use crate::config::{Member, chain};

/// Why something on the disk was not taken; what was in use stays in use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or its content is refused.
    #[error("the {what} on the disk was refused, the old one stays: {reason}")]
    Refused {
        /// What it is.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A signing key that the roster does not list for this origin.
    #[error("the roster does not list key {0}; publish a roster that does first")]
    Unlisted(String),
}

/// Takes what is new on the disk: the roster first, then the signing keys, last the certificate. Gives a sentence for
/// each thing that changed.
///
/// # Errors
/// [`Error`] at the first thing that is refused; what came before it has been taken, what comes after has not.
pub fn reload(member: &Member, bus: &Bus) -> Result<Vec<String>, Error> {
    let refused = |what, error: &dyn std::error::Error| Error::Refused { what, reason: chain(error) };
    let mut changes = Vec::new();
    let roster = std::fs::read(&member.roster).map_err(|error| refused("roster", &error))?;
    let before = bus.roster().current().number;
    match bus.roster().offer(&roster) {
        // The file may lag behind what peers have sent since.
        Ok(_) | Err(RosterError::RollBack { .. }) => {}
        Err(error) => return Err(refused("roster", &error)),
    }
    let roster = bus.roster().current();
    if roster.number != before {
        changes.push(format!("roster {} is in force in place of {before}", roster.number));
    }
    let keys = member.load_keys().map_err(|error| refused("signing key", &error))?;
    let listed = roster.origin(bus.origin());
    for key in [&keys.live, &keys.exercise] {
        if !listed.is_some_and(|origin| origin.keys.iter().any(|known| known.id == key.id())) {
            return Err(Error::Unlisted(key.id().to_string()));
        }
    }
    let serial = bus.material().identity().peer().serial.clone();
    bus.material().reload().map_err(|error| refused("certificate", &error))?;
    let identity = bus.material().identity();
    if identity.peer().serial != serial {
        let peer = identity.peer();
        changes.push(format!("certificate {} is in use until {}", peer.serial, peer.not_after));
    }
    if keys.live.id() != bus.keys().live.id() || keys.exercise.id() != bus.keys().exercise.id() {
        changes.push(format!("key {} signs from the next record on", keys.live.id()));
        bus.set_keys(keys);
    }
    Ok(changes)
}
