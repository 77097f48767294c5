//! The ends of the logs, in memory: who waits for a log to grow is woken, and the newest records are served without the
//! disk.
//!
//! Only durable records come here: the pipeline calls [`Tails::advance`] after its commit, so no reader is ever told of
//! a record that a crash could take back (invariant R2).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use campanile_log::{Entry, LogId, Position, Store};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::derive::Arrival;

/// How many of a log's newest records are kept.
const RECENT_RECORDS_MAX: usize = 512;
/// How many bytes of a log's newest records are kept.
const RECENT_BYTES_MAX: usize = 2 << 20;
/// How many arrivals, of all logs, are kept decoded.
const RECENT_ARRIVALS_MAX: usize = 1_024;
/// How many bytes of arrivals are kept.
const RECENT_ARRIVAL_BYTES_MAX: usize = 8 << 20;

/// The ends of all logs held here.
#[derive(Debug)]
pub struct Tails {
    logs: RwLock<HashMap<LogId, LogEnd>>,
    arrivals: RwLock<Recent<Arc<Arrival>>>,
    last: watch::Sender<u64>,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct End {
    /// The tail of its highest epoch; absent when nothing is held.
    pub tail: Option<Position>,
    /// How many records have come since the start that lie below the tail: lost ones that came back.
    pub late: u64,
}

#[derive(Debug)]
struct LogEnd {
    end: End,
    /// One for each who waits, in the order of their coming: they are woken in that order.
    followers: Vec<watch::Sender<End>>,
    recent: Recent<Entry>,
}

#[derive(Debug)]
struct Recent<T> {
    items: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Recent<T> {
    fn push(&mut self, item: T, weight: impl Fn(&T) -> usize, count_max: usize, bytes_max: usize) {
        self.bytes += weight(&item);
        self.items.push_back(item);
        while self.items.len() > count_max || self.bytes > bytes_max {
            let Some(oldest) = self.items.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(weight(&oldest));
        }
    }
}

impl LogEnd {
    fn new(tail: Option<Position>) -> Self {
        Self { end: End { tail, late: 0 }, followers: Vec::new(), recent: Recent::default() }
    }

    fn follow(&mut self) -> watch::Receiver<End> {
        self.followers.retain(|follower| !follower.is_closed());
        let (follower, receiver) = watch::channel(self.end);
        self.followers.push(follower);
        receiver
    }

    /// Takes a stored record in.
    fn take(&mut self, entry: &Entry) {
        let position = entry.position;
        if self.end.tail.is_none_or(|tail| position.place() > tail.place()) {
            self.end.tail = Some(position);
            self.recent.push(entry.clone(), Entry::weight, RECENT_RECORDS_MAX, RECENT_BYTES_MAX);
        } else {
            // A lost record of an older epoch that came back does not move the tail. It stands out of order: memory would
            // serve a log with a hole, so the disk serves until new records have come.
            self.end.late += 1;
            self.recent = Recent::default();
        }
        self.tell();
    }

    fn tell(&mut self) {
        let end = self.end;
        // Who has gone is told no more.
        self.followers.retain(|follower| follower.send(end).is_ok());
    }
}

impl Tails {
    /// Reads where the logs end on the disk.
    pub fn new(store: &dyn Store) -> Self {
        let logs = store.logs().into_iter().map(|(log, tail)| (log, LogEnd::new(Some(tail)))).collect();
        Self { logs: RwLock::new(logs), arrivals: RwLock::default(), last: watch::Sender::new(store.last_arrival()) }
    }

    /// Takes in what a commit made durable, in order of arrival.
    pub fn advance(&self, arrivals: &[Arc<Arrival>]) {
        let Some(last) = arrivals.last() else { return };
        let mut recent = self.arrivals.write();
        for arrival in arrivals {
            let weigh = |arrival: &Arc<Arrival>| arrival.entry.weight();
            recent.push(Arc::clone(arrival), weigh, RECENT_ARRIVALS_MAX, RECENT_ARRIVAL_BYTES_MAX);
        }
        drop(recent);
        let mut logs = self.logs.write();
        for arrival in arrivals {
            logs.entry(arrival.entry.log.clone()).or_insert_with(|| LogEnd::new(None)).take(&arrival.entry);
        }
        drop(logs);
        self.last.send_replace(last.entry.arrival);
    }

    /// The end of a log, to read and to wait for.
    pub fn watch(&self, log: &LogId) -> watch::Receiver<End> {
        self.logs.write().entry(log.clone()).or_insert_with(|| LogEnd::new(None)).follow()
    }

    /// The number of the last durable arrival, to read and to wait for.
    pub fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Whether anybody here waits for what comes.
    pub fn is_watched(&self) -> bool {
        self.last.receiver_count() > 0
    }

    /// The records of a log after a place, from memory; `None` when memory does not reach back that far.
    pub fn recent(&self, log: &LogId, after: (u64, u64), count_max: usize) -> Option<Vec<Entry>> {
        let logs = self.logs.read();
        let items = &logs.get(log)?.recent.items;
        let at = items.iter().rposition(|entry| entry.position.place() == after)?;
        let later = items.iter().skip(at + 1).filter(|entry| entry.position.place() > after);
        Some(later.take(count_max).cloned().collect())
    }

    /// The arrivals after a number, from memory; `None` when memory does not reach back that far.
    pub fn arrivals_after(&self, after: u64, count_max: usize) -> Option<Vec<Arc<Arrival>>> {
        let recent = self.arrivals.read();
        // What is not told yet is not given: whoever has seen an arrival finds everything else that goes by its number.
        let last = *self.last.borrow();
        if after >= last {
            return Some(Vec::new());
        }
        let first = recent.items.front()?.entry.arrival;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let told = recent.items.iter().skip(skip).take_while(|arrival| arrival.entry.arrival <= last);
        Some(told.take(count_max).cloned().collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use campanile_log::{Hash, Lane, Standing};

    use super::*;

    fn log() -> LogId {
        LogId::new("fsd/node-1", Lane::Urgent)
    }

    fn entry(epoch: u64, seq: u64) -> Entry {
        Entry {
            arrival: 0,
            log: log(),
            position: Position { epoch, seq, hash: Hash::ZERO },
            previous: Hash::ZERO,
            link: None,
            header: Bytes::new(),
            body: None,
            signatures: Bytes::new(),
            standing: Standing::NoBody,
        }
    }

    fn end(tail: (u64, u64), places: &[(u64, u64)]) -> LogEnd {
        let mut end = LogEnd::new(Some(entry(tail.0, tail.1).position));
        places.iter().for_each(|(epoch, seq)| end.take(&entry(*epoch, *seq)));
        end
    }

    fn kept(end: &LogEnd) -> Vec<(u64, u64)> {
        end.recent.items.iter().map(|entry| entry.position.place()).collect()
    }

    #[test]
    fn what_comes_back_behind_a_new_epoch_in_one_commit_is_not_taken_for_the_end_of_the_log() {
        let back = end((3, 6), &[(9, 1), (3, 7), (3, 8), (3, 9)]);
        assert_eq!((back.end.tail.unwrap().place(), back.end.late), ((9, 1), 3));
        assert_eq!(kept(&back), []);
        let gone_on = end((3, 6), &[(9, 1), (3, 7), (3, 8), (9, 2), (9, 3)]);
        assert_eq!(kept(&gone_on), [(9, 2), (9, 3)]);
    }
}
