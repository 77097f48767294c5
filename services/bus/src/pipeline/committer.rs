//! What commits: it takes what waits, has a [`Turn`] made of it, and answers when the disk has. A thread or a task.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use campanile_alert::Timestamp;
use campanile_log::{Evidence, LogId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{error, warn};

use super::turn::Turn;
use super::{
    DEFERRED_MAX, DERIVE_PREFIX, EVALUATED_ROW, Parts, PublishError, Published, Queues, RETURNED_ROW, Shared,
    StartError, Stored, Waiting, read_rows, reopen,
};
use crate::bus::start;
use crate::current::Current;
use crate::derive::Arrival;
use crate::tails::Tails;

/// How long the thread waits after a commit that failed and may be tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

pub(super) struct Committer {
    pub(super) parts: Parts,
    pub(super) current: Arc<Mutex<Current>>,
    pub(super) tails: Arc<Tails>,
    pub(super) shared: Arc<Shared>,
    pub(super) due: watch::Sender<Option<Timestamp>>,
    /// Arrivals that are stored and not yet evaluated, oldest first.
    pub(super) deferred: VecDeque<Arc<Arrival>>,
    /// How far evaluation had come when it was last written down; absent when that must be written again.
    pub(super) evaluated: Option<u64>,
    /// The last record of each log that was evaluated: its place and header time.
    pub(super) times: HashMap<LogId, ((u64, u64), Timestamp)>,
    /// Records that contradict those held.
    pub(super) evidence: Vec<Evidence>,
}

/// Closes the pipeline when its thread ends.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        // First, so that whoever finds its answer dropped knows why.
        if !self.0.ended_in_order.load(Ordering::SeqCst) {
            self.0.failed.send_replace(true);
        }
        self.0.urgent_room.close();
        self.0.other_room.close();
        let mut queues = self.0.queues.lock();
        queues.closed = true;
        queues.urgent.clear();
        queues.other.clear();
        queues.hasty = 0;
    }
}

pub(super) enum Answer {
    Publish(oneshot::Sender<Result<Published, PublishError>>, Result<Published, PublishError>),
    Replica(oneshot::Sender<Stored>, Stored),
}

/// What the committer does next.
enum Next {
    /// This is to be committed; nothing means that there is evaluation to go on with.
    Commit(Vec<Waiting>),
    /// Nothing is due yet; look again when woken, or after this long.
    Wait(Option<Duration>),
    /// All is done.
    End,
}

/// How it goes on after a commit.
#[derive(PartialEq)]
enum After {
    /// At once.
    Next,
    /// When the disk has had a rest.
    Rest,
    /// Not at all.
    Failed,
}

/// A commit that the disk has answered, and those who wait for the answer.
struct Committed {
    result: Result<(), campanile_log::Error>,
    answers: Vec<Answer>,
    arrivals: Vec<Arc<Arrival>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Committer {
    /// Commits what comes until the end, as a thread.
    pub(super) fn run(mut self) {
        // However the thread ends, by a panic too, nobody may wait for it in vain.
        let _closing = Closing(Arc::clone(&self.shared));
        while let Some(work) = self.take() {
            let committed = self.commit(work);
            match self.answer(committed) {
                After::Next => {}
                After::Rest => std::thread::sleep(AFTER_FAILURE),
                After::Failed => return,
            }
        }
        self.shared.ended_in_order.store(true, Ordering::SeqCst);
    }

    /// Commits what comes until the end, as a task.
    ///
    /// The disk takes its time before and after the commit: what waits meanwhile is lost in a crash, and what is on the
    /// disk may be unanswered.
    pub(super) async fn run_as_task(mut self) {
        let shared = Arc::clone(&self.shared);
        let _closing = Closing(Arc::clone(&shared));
        loop {
            let next = self.next(&mut shared.queues.lock());
            match next {
                Next::Commit(work) => {
                    tokio::time::sleep(shared.surroundings.disk_turn()).await;
                    let committed = self.commit(work);
                    tokio::time::sleep(shared.surroundings.disk_turn()).await;
                    match self.answer(committed) {
                        After::Next => {}
                        After::Rest => tokio::time::sleep(AFTER_FAILURE).await,
                        After::Failed => return,
                    }
                }
                Next::Wait(None) => shared.wake_task.notified().await,
                Next::Wait(Some(rest)) => {
                    // Woken or not, it is looked at again.
                    let _woken = tokio::time::timeout(rest, shared.wake_task.notified()).await;
                }
                Next::End => break,
            }
        }
        shared.ended_in_order.store(true, Ordering::SeqCst);
    }

    /// Waits for work; an empty batch means there is evaluation to go on with, `None` means the end.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut queues = self.shared.queues.lock();
        loop {
            match self.next(&mut queues) {
                Next::Commit(work) => return Some(work),
                Next::Wait(None) => self.shared.wake.wait(&mut queues),
                Next::Wait(Some(rest)) => {
                    self.shared.wake.wait_for(&mut queues, rest);
                }
                Next::End => return None,
            }
        }
    }

    fn next(&self, queues: &mut Queues) -> Next {
        let full = self.deferred.len() >= DEFERRED_MAX;
        if !self.deferred.is_empty() && (full || queues.is_empty()) {
            return Next::Commit(Vec::new());
        }
        if !queues.is_empty() {
            let now = self.shared.surroundings.instant();
            return match queues.patience(now).filter(|_| self.deferred.is_empty()) {
                None => Next::Commit(queues.drain()),
                Some(rest) => Next::Wait(Some(rest)),
            };
        }
        if queues.closed { Next::End } else { Next::Wait(None) }
    }

    fn commit(&mut self, batch: Vec<Waiting>) -> Committed {
        let started = self.shared.surroundings.instant();
        let mut answers = Vec::with_capacity(batch.len());
        let mut arrivals = Vec::with_capacity(batch.len());
        let mut permits = Vec::with_capacity(batch.len());
        let mut works = Vec::with_capacity(batch.len());
        for waiting in batch {
            permits.push(waiting._permit);
            works.push(waiting.work);
        }
        let store = Arc::clone(&self.parts.store);
        let mut works = Some(works);
        let result = store.commit(&mut |batch| {
            let mut turn = Turn { committer: self, batch, arrivals: &mut arrivals, rules: Duration::ZERO };
            turn.evaluate()?;
            for work in works.take().unwrap_or_default() {
                turn.work(work, &mut answers)?;
            }
            turn.finish()
        });
        let took = self.shared.surroundings.instant().saturating_duration_since(started);
        self.parts.metrics.commit_seconds.observe(took.as_secs_f64());
        Committed { result, answers, arrivals, _permits: permits }
    }

    /// Tells everybody what the disk has answered.
    fn answer(&mut self, committed: Committed) -> After {
        let Committed { result, answers, arrivals, _permits } = committed;
        let after = match result {
            Ok(()) => {
                self.announce(&arrivals);
                for answer in answers {
                    send(answer);
                }
                let returned = arrivals.iter().filter(|arrival| arrival.returned).map(|arrival| &arrival.entry);
                self.rise_above(returned.map(|entry| (entry.log.clone(), entry.position.epoch)).collect())
            }
            Err(failure) => self.refuse(failure, answers),
        };
        self.due.send_if_modified(|due| {
            let next = self.parts.derive.as_ref().and_then(|derive| derive.due());
            std::mem::replace(due, next) != next
        });
        self.note_rules();
        after
    }

    /// Begins a higher epoch where the highest one held has come back to us: under a clock that has gone back, the one
    /// begun at the start may lie below it, and nothing more could be written.
    fn rise_above(&self, returned: BTreeSet<(LogId, u64)>) -> After {
        let Parts { store, clock, surroundings, .. } = &self.parts;
        let is_highest = |(log, epoch): &&(LogId, u64)| store.tail(log).is_some_and(|tail| tail.epoch == *epoch);
        for (log, _) in returned.iter().filter(is_highest) {
            if let Err(error) = start::begin_epoch(store.as_ref(), log, clock.now(), surroundings.as_ref()) {
                error!(error = %chain_of(&error), "No higher epoch could be begun; the node must end");
                return After::Failed;
            }
        }
        After::Next
    }

    /// Tells when the rules next want a tick, and whether there are any.
    pub(super) fn note_due(&self) {
        self.due.send_replace(self.parts.derive.as_ref().and_then(|derive| derive.due()));
        self.note_rules();
    }

    fn note_rules(&self) {
        let active = self.parts.derive.as_ref().is_some_and(|derive| derive.is_active());
        self.shared.has_rules.store(active, Ordering::Relaxed);
    }

    fn refuse(&mut self, failure: campanile_log::Error, answers: Vec<Answer>) -> After {
        self.parts.metrics.commits_failed.inc();
        let refusal = match &failure {
            campanile_log::Error::Full { .. } => PublishError::Full,
            // What came back with it in one commit comes again by itself, and a higher epoch after it.
            campanile_log::Error::EpochNotAbove { .. } => PublishError::Overloaded,
            _ => PublishError::Failed,
        };
        warn!(error = %failure, "A commit failed");
        for answer in answers {
            send(match answer {
                Answer::Publish(reply, _) => Answer::Publish(reply, Err(refusal.clone())),
                Answer::Replica(reply, _) => Answer::Replica(reply, Stored::Failed),
            });
        }
        if failure.is_fatal() {
            error!(error = %chain_of(&failure), "The store failed; the node must end");
            return After::Failed;
        }
        if let Err(error) = self.reload() {
            error!(error = %chain_of(&error), "The state could not be read back after a failed commit; the node must end");
            return After::Failed;
        }
        // The disk is full, most likely: waiting lets an operator free some, and asks it no faster than that.
        if self.shared.queues.lock().closed { After::Failed } else { After::Rest }
    }

    fn announce(&self, arrivals: &[Arc<Arrival>]) {
        for arrival in arrivals {
            self.parts.metrics.record_stored(arrival);
        }
        self.tails.advance(arrivals);
    }

    /// Takes current alerts, rules and times up again from what the store holds.
    pub(super) fn reload(&mut self) -> Result<(), StartError> {
        let (store, now) = (Arc::clone(&self.parts.store), self.parts.clock.now());
        self.current.lock().restore(store.as_ref())?;
        self.times.clear();
        self.evidence = store.evidence()?;
        self.deferred.clear();
        self.evaluated = None;
        let Some(derive) = &mut self.parts.derive else { return Ok(()) };
        let rows = read_rows(store.as_ref(), DERIVE_PREFIX)?;
        derive.restore(rows).map_err(|reason| StartError::State { part: "rules", reason })?;
        // A store without the row has had no rules so far: they begin with what comes, and wake no old alert.
        let mut after = match store.state(EVALUATED_ROW)? {
            Some(row) => row.try_into().map(u64::from_be_bytes).unwrap_or_default(),
            None => store.last_arrival(),
        };
        let number = |row: Vec<u8>| row.try_into().map(u64::from_be_bytes).unwrap_or_default();
        let returned = store.state(RETURNED_ROW)?.map_or(0, number);
        let own = self.parts.origin.to_string();
        while after < store.last_arrival() {
            let entries = store.arrivals(after, 1_000, 64 << 20)?;
            let Some(last) = entries.last() else { break };
            after = last.arrival;
            for entry in entries {
                let returned = entry.arrival <= returned && *entry.log.origin == *own;
                self.deferred.push_back(Arc::new(Arrival { returned, ..reopen(entry, now)? }));
            }
        }
        self.note_due();
        self.note_rules();
        Ok(())
    }
}

fn send(answer: Answer) {
    // A caller that no longer waits has lost nothing: the record stands or not, and a repetition says which.
    match answer {
        Answer::Publish(reply, result) => drop(reply.send(result)),
        Answer::Replica(reply, stored) => drop(reply.send(stored)),
    }
}

fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
