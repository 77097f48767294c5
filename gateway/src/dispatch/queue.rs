//! What a channel still has to do, the most urgent first.
//!
//! The queue holds at most [`WAITING_MAX`] jobs in memory. What does not fit stays on the disk alone, and the queue says
//! that it is incomplete, so that the worker fetches the rest when it has done what is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::incoming::Incoming;

/// The most jobs of one channel in memory.
pub(crate) const WAITING_MAX: usize = 4_096;

/// What is to be done with an alert. Handing comes first, so that an Update is there before what it replaces goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Hand it to its endpoints.
    Hand,
    /// Take it off them.
    Clear,
}

/// The order of jobs: urgent ones first, then as what triggered them came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobKey {
    /// 0 for urgent, 1 for the rest.
    lane: u8,
    /// The arrival that made the job.
    trigger: u64,
    pub(crate) kind: Kind,
    /// The arrival that the job is about.
    pub(crate) arrival: u64,
}

impl JobKey {
    pub(crate) fn new(incoming: &Incoming, trigger: &Incoming, kind: Kind) -> Self {
        let lane = u8::from(!(incoming.urgent || trigger.urgent));
        Self { lane, trigger: trigger.arrival, kind, arrival: incoming.arrival }
    }

    pub(crate) fn row(&self, channel: &str) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Hand => 'h',
            Kind::Clear => 'z',
        };
        format!("job/{channel}/{}{:020}/{kind}{}", self.lane, self.trigger, self.arrival).into_bytes()
    }

    /// Reads the part of a row's key after `job/<channel>/`.
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let (order, what) = std::str::from_utf8(key).ok()?.split_once('/')?;
        let (lane, trigger) = order.split_at_checked(1)?;
        let (kind, arrival) = what.split_at_checked(1)?;
        let kind = match kind {
            "h" => Kind::Hand,
            "z" => Kind::Clear,
            _ => return None,
        };
        Some(Self { lane: lane.parse().ok()?, trigger: trigger.parse().ok()?, kind, arrival: arrival.parse().ok()? })
    }
}

/// Something a channel has to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) key: JobKey,
    pub(crate) incoming: Arc<Incoming>,
    /// How often it has been put off after a failure.
    pub(crate) rounds: u32,
    /// It was made in this process just now, so no attempt of it is written down.
    pub(crate) is_new: bool,
}

impl Job {
    /// A job that may have been begun before.
    pub(crate) fn new(key: JobKey, incoming: Arc<Incoming>) -> Self {
        Self { key, incoming, rounds: 0, is_new: false }
    }
}

#[derive(Debug, Default)]
struct Inside {
    ready: BTreeMap<JobKey, Job>,
    later: BTreeMap<(Instant, JobKey), Job>,
    is_incomplete: bool,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// This job.
    Job(Box<Job>),
    /// Fetch from the disk what did not fit.
    Fetch,
    /// Nothing until this instant, or until something is pushed.
    Wait(Option<Instant>),
}

/// The jobs of one channel.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inside: Mutex<Inside>,
    pushed: Notify,
}

impl Queue {
    /// Adds a job. When the queue is full the least urgent one stays on the disk alone.
    pub(crate) fn push(&self, job: Job) {
        let mut inside = self.inside.lock();
        inside.ready.insert(job.key, job);
        if inside.ready.len() + inside.later.len() > WAITING_MAX {
            inside.ready.pop_last();
            inside.is_incomplete = true;
        }
        drop(inside);
        self.pushed.notify_one();
    }

    /// Puts a job off.
    pub(crate) fn push_later(&self, job: Job, at: Instant) {
        self.inside.lock().later.insert((at, job.key), job);
    }

    /// Says that there may be jobs on the disk that are not here.
    pub(crate) fn mark_incomplete(&self) {
        self.inside.lock().is_incomplete = true;
        self.pushed.notify_one();
    }

    /// The most urgent job that is ready, or what else to do.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let mut inside = self.inside.lock();
        while let Some(entry) = inside.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let job = entry.remove();
            inside.ready.insert(job.key, job);
        }
        if let Some((_, job)) = inside.ready.pop_first() {
            return Next::Job(Box::new(job));
        }
        if inside.is_incomplete && inside.later.len() < WAITING_MAX {
            inside.is_incomplete = false;
            return Next::Fetch;
        }
        Next::Wait(inside.later.first_key_value().map(|((at, _), _)| *at))
    }

    /// True when something more urgent than `key` is ready.
    pub(crate) fn has_before(&self, key: &JobKey) -> bool {
        self.inside.lock().ready.first_key_value().is_some_and(|(first, _)| first < key)
    }

    /// True when the queue holds that job.
    pub(crate) fn holds(&self, key: &JobKey) -> bool {
        let inside = self.inside.lock();
        inside.ready.contains_key(key) || inside.later.keys().any(|(_, later)| later == key)
    }

    pub(crate) fn len(&self) -> usize {
        let inside = self.inside.lock();
        inside.ready.len() + inside.later.len()
    }

    /// Waits until something is pushed.
    pub(crate) async fn pushed(&self) {
        self.pushed.notified().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::testing::{cancel, fire};

    #[test]
    fn urgent_jobs_come_first_and_an_update_is_handed_before_the_old_one_is_cleared() {
        let old = Incoming { arrival: 5, ..fire("a") };
        let new = Incoming { arrival: 9, ..cancel("b", &old) };
        let routine = Incoming { arrival: 1, urgent: false, ..fire("r") };
        let queue = Queue::default();
        let job = |of: &Incoming, by: &Incoming, kind| Job::new(JobKey::new(of, by, kind), Arc::new(of.clone()));
        queue.push(job(&routine, &routine, Kind::Hand));
        queue.push(job(&old, &new, Kind::Clear));
        queue.push(job(&new, &new, Kind::Hand));
        let mut order = Vec::new();
        while let Next::Job(job) = queue.next(Instant::now()) {
            order.push((job.key.arrival, job.key.kind));
        }
        assert_eq!(order, [(9, Kind::Hand), (5, Kind::Clear), (1, Kind::Hand)]);
    }

    #[test]
    fn keys_survive_their_rows_and_sort_the_same() {
        let old = Incoming { arrival: 5, ..fire("a") };
        let keys = [JobKey::new(&old, &old, Kind::Hand), JobKey::new(&old, &old, Kind::Clear)];
        let rows = keys.map(|key| key.row("feed"));
        assert!(rows[0] < rows[1] && keys[0] < keys[1]);
        for (key, row) in keys.iter().zip(&rows) {
            assert_eq!(JobKey::parse(row.strip_prefix(b"job/feed/").expect("the prefix")), Some(*key));
        }
    }

    #[test]
    fn a_full_queue_says_that_it_is_incomplete() {
        let queue = Queue::default();
        for arrival in 0..=WAITING_MAX as u64 {
            let incoming = Incoming { arrival, ..fire("a") };
            queue.push(Job::new(JobKey::new(&incoming, &incoming, Kind::Hand), Arc::new(incoming)));
        }
        assert_eq!(queue.len(), WAITING_MAX);
        while let Next::Job(_) = queue.next(Instant::now()) {}
        queue.mark_incomplete();
        assert!(matches!(queue.next(Instant::now()), Next::Fetch));
    }
}
