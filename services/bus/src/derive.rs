//! What a node makes of the records it holds: the seam between the bus and the rules.
//!
//! The pipeline hands every counted record to one [`Derive`], in stored arrival order, inside the commit that stores
//! the record. What it returns commits with it: drafts become records of our own, state rows are written beside them.
//! So a crash never leaves a cause without its effects, or an effect twice. When a record of others was received is kept
//! where a decision may have rested on it, so that the decision can be made again.

use std::sync::Arc;

use campanile_alert::Timestamp;
use campanile_log::Entry;

use crate::record::{Body, Draft, Header};

/// A record as it came to be stored here.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The stored bytes, position and standing.
    pub entry: Entry,
    /// The decoded header.
    pub header: Arc<Header>,
    /// The decoded body; absent when we may not read it or it is not readable.
    pub body: Option<Arc<Body>>,
    /// When it was stored here.
    pub received: Timestamp,
    /// It is our own and came from a peer: the disk that held it was lost or set back.
    pub returned: bool,
}

/// One counted record, with what the rules need to know of its neighbours.
#[derive(Debug)]
pub struct Event<'a> {
    /// The record.
    pub arrival: &'a Arrival,
    /// Its body, which a counted record always has.
    pub body: &'a Body,
    /// The header time of the record before it in its log; absent for the first.
    pub previous_time: Option<Timestamp>,
}

/// A tick is wanted as soon as all is here that others hold.
pub const AT_ONCE: Timestamp = Timestamp::UNIX_EPOCH;

/// What follows from one record.
#[derive(Debug, Default)]
pub struct Derived {
    /// Records to write, in this order.
    pub drafts: Vec<Draft>,
    /// State rows to set, or to remove when the value is absent. Keys are the deriver's own; the pipeline keeps them
    /// apart from others'.
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Whether a decision may have rested on the record: then its time of receipt is kept, so that a replay reads the
    /// same one.
    pub decided: bool,
}

/// Derives records from records. It reads nothing but its arguments and its own state, so it can be replayed.
pub trait Derive: Send {
    /// Forgets everything and takes up the state rows it once returned.
    ///
    /// # Errors
    /// A sentence when a row is not one of its own; the node does not start then.
    fn restore(&mut self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String>;

    /// What is to be written before anything else of this start; asked once, after the first [`Derive::restore`].
    fn opening(&mut self) -> Vec<Draft> {
        Vec::new()
    }

    /// Takes one counted record and says what follows.
    fn apply(&mut self, event: &Event<'_>) -> Derived;

    /// Whether anything may follow from a record now; where nothing can, nobody is in haste for it.
    fn is_active(&self) -> bool {
        true
    }

    /// The next instant at which it wants a tick; absent when no timer runs, [`AT_ONCE`] when records of our own have come
    /// back and it waits for all that others hold.
    fn due(&self) -> Option<Timestamp>;
}
