//! What the rules were given of a record beside its bytes, kept so that they can decide again.
//!
//! A row below an arrival's number says when the record was received, and whether it was our own come back from a peer.
//! What we wrote ourselves has none: it is received as it is sealed, and the rules always see it. What others wrote has
//! one when a decision may have rested on it, and was never seen when it has none.

use std::collections::HashMap;
use std::sync::Arc;

use campanile_alert::{OriginId, Timestamp};
use campanile_log::{Entry, LogId, Standing, Store};

use super::reopen;
use crate::derive::Arrival;
use crate::record::{self, Body};

/// Below it the arrival number, eight bytes.
const PREFIX: &[u8] = b"received/";

/// How the rules met a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Met {
    /// It came and was given to them.
    Came = 0,
    /// It was our own, had been lost, and came back.
    Returned = 1,
    /// They were never given it.
    Never = 2,
}

/// The row of a record: the instant of receipt in nanoseconds, 16 bytes, and how the rules met it.
pub(super) fn row(arrival: &Arrival, met: Met) -> (Vec<u8>, Vec<u8>) {
    let mut value = arrival.received.as_nanosecond().to_be_bytes().to_vec();
    value.push(met as u8);
    (key(arrival.entry.arrival), value)
}

fn key(arrival: u64) -> Vec<u8> {
    [PREFIX, &arrival.to_be_bytes()].concat()
}

/// The place of the record before one in its log, epoch and number: the one that its previous hash or its link names.
pub(super) fn place_before(entry: &Entry) -> Option<(u64, u64)> {
    let Entry { position, link, .. } = entry;
    if position.seq > 1 { Some((position.epoch, position.seq - 1)) } else { link.map(|at| at.place()) }
}

/// The header time of the record before one in its log, if that was here before it.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn stored_time_before(
    store: &dyn Store,
    entry: &Entry,
    place: (u64, u64),
) -> Result<Option<Timestamp>, campanile_log::Error> {
    let before = store.get(&entry.log, place.0, place.1)?.filter(|before| before.arrival < entry.arrival);
    Ok(before.and_then(|before| record::open_header(&before.header).ok()).map(|header| header.time))
}

/// A record as the rules were given it.
#[derive(Debug)]
pub struct Given {
    /// The record.
    pub arrival: Arrival,
    /// Its body.
    pub body: Arc<Body>,
    /// The header time of the record before it in its log; absent when that was not here.
    pub previous_time: Option<Timestamp>,
}

/// The records of a store as the rules were given them, to be asked for in the order in which they came.
pub struct Again<'s> {
    store: &'s dyn Store,
    own: &'s OriginId,
    times: HashMap<LogId, ((u64, u64), Timestamp)>,
}

impl std::fmt::Debug for Again<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again").field("own", &self.own).finish_non_exhaustive()
    }
}

impl<'s> Again<'s> {
    /// The records of a node's store.
    pub fn new(store: &'s dyn Store, own: &'s OriginId) -> Self {
        Self { store, own, times: HashMap::new() }
    }

    /// A record as the rules were given it; `None` when they never were, or nothing rested on it.
    ///
    /// # Errors
    /// When the store, or the record, cannot be read.
    pub fn given(&mut self, entry: Entry) -> Result<Option<Given>, super::StartError> {
        let mut arrival = reopen(entry, Timestamp::MAX)?;
        let previous_time = self.time_before(&arrival.entry)?;
        let (log, place) = (arrival.entry.log.clone(), arrival.entry.position.place());
        self.times.insert(log, (place, arrival.header.time));
        let met = match self.store.state(&key(arrival.entry.arrival))? {
            Some(row) => {
                let (received, met) = read(&row).ok_or_else(|| super::StartError::State {
                    part: "receipts",
                    reason: format!("arrival {} has a row of {} bytes", arrival.entry.arrival, row.len()),
                })?;
                arrival.received = received;
                met
            }
            None if arrival.header.origin == *self.own => Met::Came,
            None => Met::Never,
        };
        arrival.returned = met == Met::Returned;
        let is_read =
            arrival.entry.standing == Standing::Counted && arrival.header.reader_version_min <= record::READER_VERSION;
        let body = arrival.body.clone().filter(|_| is_read && met != Met::Never);
        Ok(body.map(|body| Given { arrival, body, previous_time }))
    }

    fn time_before(&self, entry: &Entry) -> Result<Option<Timestamp>, campanile_log::Error> {
        let Some(place) = place_before(entry) else { return Ok(None) };
        match self.times.get(&entry.log) {
            Some((at, time)) if *at == place => Ok(Some(*time)),
            _ => stored_time_before(self.store, entry, place),
        }
    }
}

fn read(row: &[u8]) -> Option<(Timestamp, Met)> {
    let (nanoseconds, met) = row.split_first_chunk::<16>()?;
    let received = Timestamp::from_nanosecond(i128::from_be_bytes(*nanoseconds)).ok()?;
    let met = match met {
        [0] => Met::Came,
        [1] => Met::Returned,
        [2] => Met::Never,
        _ => return None,
    };
    Some((received, met))
}
