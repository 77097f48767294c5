//! The one way into the store: a queue, a thread, and a commit for all that waits.
//!
//! ```text
//!  publish ─┐                       ┌► current alerts ─┐
//!           ├► urgent │ other ► batch ► arrival ► rules ├► Store::commit (one fsync) ► replies, tails
//!  replica ─┘                       └► effects ► seal ──┘
//! ```
//!
//! Everything that must agree commits together: the record, the state of current alerts, the state of the rules, and
//! the effects of the rules as sealed records. The thread takes urgent work first. The rules have a budget a batch;
//! beyond it, receipts commit alone and the evaluation follows in the next commit, still in stored arrival order: a
//! row says up to which arrival evaluation has come, so a crash resumes there.
//!
//! A commit that fails for want of space refuses what was in it and reloads the state, so that memory never runs ahead
//! of the disk. Any other failure of the disk ends the pipeline for good: what is on the disk is unknown then, and the
//! process must end. [`Handle::failed`] tells.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use campanile_alert::{Clock, DepartmentId, OriginId, Timestamp, World};
use campanile_discovery::keys::SigningKey;
use campanile_discovery::roster::RosterHandle;
use campanile_log::{
    Accepted, Appended, Batch, Entry, Evidence, Hash, Key, LogId, Position, Refusal, Replica, Standing, Store,
};
use parking_lot::{Condvar, Mutex};
use rand::RngCore as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tracing::{error, warn};

use crate::count;
use crate::current::Current;
use crate::derive::{Arrival, Derive, Derived, Event};
use crate::metrics::Metrics;
use crate::record::{Body, Content, Draft, Header, Kind, Seal};
use crate::tails::Tails;

/// How many pieces of urgent work may wait; the reserve that floods of other work cannot take.
const URGENT_WAITING_MAX: usize = 1_024;
/// How many pieces of other work may wait.
const OTHER_WAITING_MAX: usize = 4_096;
/// How many pieces of work go into one commit.
const BATCH_MAX: usize = 256;
/// How long the rules may take in one commit before the rest of the evaluation is put off to the next.
const RULES_BUDGET: Duration = Duration::from_millis(2);
/// How many arrivals may wait for evaluation before no new work is taken.
const DEFERRED_MAX: usize = 4_096;
/// How many records may follow from one arrival; a bound beside the depth limit of the rules.
const DERIVED_MAX: usize = 4_096;

/// How many contradicting records are kept in mind; the store bounds them for each log.
const EVIDENCE_MAX: usize = 1_024;

const EVALUATED_ROW: &[u8] = b"bus/evaluated";
const DERIVE_PREFIX: &[u8] = b"derive/";

/// Why a publish was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The identity was published before with other content.
    #[error("{0} was published before with other content; give the changed message a new identifier")]
    Conflict(String),
    /// The message is about another department's.
    #[error("{reference} belongs to {owner}; only {owner} may update or cancel it")]
    NotOwner {
        /// The message referred to.
        reference: String,
        /// Whose it is.
        owner: DepartmentId,
    },
    /// The disk is full. May be tried again.
    #[error("the node's disk is full; free space on it, then publish again")]
    Full,
    /// Too much waits already. May be tried again.
    #[error("the node is overloaded; wait and publish again")]
    Overloaded,
    /// The node is ending. May be tried again elsewhere or later.
    #[error("the node is shutting down after a failure of its disk")]
    Failed,
    /// The record would be larger than 1 MiB.
    #[error("the record would have {0} bytes; at most 1 MiB is taken")]
    TooLarge(usize),
}

impl PublishError {
    /// True when the same publish may be tried again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Overloaded | Self::Failed)
    }
}

/// The answer to a publish.
#[derive(Debug, Clone)]
pub struct Published {
    /// The log of the record.
    pub log: LogId,
    /// Its position, on the disk.
    pub position: Position,
    /// It had been published before; this is the first answer.
    pub duplicate: bool,
    /// The record; absent for a duplicate.
    pub arrival: Option<Arc<Arrival>>,
}

/// What became of a replica.
#[derive(Debug, Clone)]
pub enum Stored {
    /// It is on the disk now, or was already.
    Durable,
    /// It does not fit here.
    Refused(Refusal),
    /// The disk is full, or the pipeline has ended.
    Failed,
}

/// A replica whose signature and body have been checked.
#[derive(Debug)]
pub struct Checked {
    /// What the store appends.
    pub replica: Replica,
    /// The decoded header.
    pub header: Arc<Header>,
    /// The decoded body, when we may read it and it is readable.
    pub body: Option<Arc<Body>>,
}

enum Work {
    Publish {
        draft: Box<Draft>,
        identity: Option<(Key, Hash)>,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    Replica {
        checked: Box<Checked>,
        reply: oneshot::Sender<Stored>,
    },
    Evidence(Box<Evidence>),
    Checkpoint {
        log: LogId,
        bytes: Bytes,
    },
    Sweep,
}

struct Waiting {
    work: Work,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Queues {
    urgent: VecDeque<Waiting>,
    other: VecDeque<Waiting>,
    closed: bool,
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    urgent_room: Arc<Semaphore>,
    other_room: Arc<Semaphore>,
    failed: watch::Sender<bool>,
}

/// What the pipeline works with.
pub struct Parts {
    /// The federation's name.
    pub federation: String,
    /// This node.
    pub origin: OriginId,
    /// The clock that stamps records.
    pub clock: Arc<dyn Clock>,
    /// The durable store.
    pub store: Arc<dyn Store>,
    /// The rosters accepted so far.
    pub roster: RosterHandle,
    /// The keys that sign.
    pub keys: Arc<ArcSwap<SigningKeys>>,
    /// The rules, or nothing.
    pub derive: Option<Box<dyn Derive>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The keys a node signs with: one for what is real, one for exercises.
#[derive(Debug)]
pub struct SigningKeys {
    /// For the urgent and routine lanes.
    pub live: SigningKey,
    /// For the exercise lane.
    pub exercise: SigningKey,
}

/// The way in, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    due: watch::Receiver<Option<Timestamp>>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("pipeline::Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Publishes a draft and waits until it is on the disk.
    ///
    /// `identity` is the idempotency key and the hash of the content; absent for records that are never repeated.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was stored then.
    pub async fn publish(&self, draft: Draft, identity: Option<(Key, Hash)>) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        let urgent = draft.urgent || draft.body.content.kind() != Kind::DeliveryReport;
        let work = Work::Publish { draft: Box::new(draft), identity, reply };
        self.enqueue(work, urgent).await.map_err(|()| PublishError::Failed)?;
        answer.await.unwrap_or(Err(PublishError::Failed))
    }

    /// Puts a replica in line; the receiver of the answer may wait for its durability later.
    ///
    /// Waits for room in the queue, which is how a slow disk slows the stream down.
    pub async fn store(&self, checked: Checked) -> oneshot::Receiver<Stored> {
        let (reply, answer) = oneshot::channel();
        let urgent = checked.header.urgent;
        let work = Work::Replica { checked: Box::new(checked), reply };
        // When the pipeline has ended the reply is dropped, and the caller sees that.
        let _ended = self.enqueue(work, urgent).await;
        answer
    }

    /// Keeps a record that contradicts one held.
    pub async fn evidence(&self, evidence: Evidence) {
        let _ended = self.enqueue(Work::Evidence(Box::new(evidence)), true).await;
    }

    /// Keeps the newest checkpoint of a log; left out when the queue is full, since another follows.
    pub fn checkpoint(&self, log: LogId, bytes: Bytes) {
        if let Ok(permit) = Arc::clone(&self.shared.other_room).try_acquire_owned() {
            self.push(Waiting { work: Work::Checkpoint { log, bytes }, _permit: permit }, false);
        }
    }

    /// Has what has expired marked, and what is long gone dropped.
    pub async fn sweep(&self) {
        let _ended = self.enqueue(Work::Sweep, false).await;
    }

    /// When the rules want their next tick.
    pub fn due(&self) -> watch::Receiver<Option<Timestamp>> {
        self.due.clone()
    }

    /// Becomes true when the disk has failed and the process must end.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.shared.failed.subscribe()
    }

    /// Finishes what waits and ends the thread.
    pub async fn shutdown(&self) {
        self.shared.queues.lock().closed = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            warn!("the pipeline thread did not end in order");
        }
    }

    async fn enqueue(&self, work: Work, urgent: bool) -> Result<(), ()> {
        let room = if urgent { &self.shared.urgent_room } else { &self.shared.other_room };
        let permit = Arc::clone(room).acquire_owned().await.map_err(|_| ())?;
        self.push(Waiting { work, _permit: permit }, urgent);
        Ok(())
    }

    fn push(&self, waiting: Waiting, urgent: bool) {
        let mut queues = self.shared.queues.lock();
        if queues.closed {
            return;
        }
        if urgent {
            queues.urgent.push_back(waiting)
        } else {
            queues.other.push_back(waiting)
        }
        drop(queues);
        self.shared.wake.notify_one();
    }
}

/// Starts the pipeline over what the store holds.
///
/// # Errors
/// When the state in the store cannot be read back.
pub fn start(parts: Parts, current: Arc<Mutex<Current>>, tails: Arc<Tails>) -> Result<Handle, StartError> {
    let (failed, _) = watch::channel(false);
    let (due_sender, due) = watch::channel(None);
    let shared = Arc::new(Shared {
        queues: Mutex::default(),
        wake: Condvar::new(),
        urgent_room: Arc::new(Semaphore::new(URGENT_WAITING_MAX)),
        other_room: Arc::new(Semaphore::new(OTHER_WAITING_MAX)),
        failed,
    });
    let mut committer = Committer {
        parts,
        current,
        tails,
        shared: Arc::clone(&shared),
        due: due_sender,
        deferred: VecDeque::new(),
        times: HashMap::new(),
        evidence: Vec::new(),
    };
    committer.reload()?;
    let thread = std::thread::Builder::new()
        .name("pipeline".into())
        .spawn(move || committer.run())
        .map_err(StartError::Thread)?;
    Ok(Handle { shared, due, thread: Arc::new(Mutex::new(Some(thread))) })
}

/// Why a node's state could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("failed to read the store")]
    Store(#[from] campanile_log::Error),
    /// A state row is not readable.
    #[error("the state of the {part} in the store is not readable: {reason}")]
    State {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A stored record is not readable.
    #[error("a stored record is not readable")]
    Record(#[from] crate::record::Error),
    /// No thread could be started.
    #[error("failed to start the pipeline's thread")]
    Thread(#[source] std::io::Error),
}

struct Committer {
    parts: Parts,
    current: Arc<Mutex<Current>>,
    tails: Arc<Tails>,
    shared: Arc<Shared>,
    due: watch::Sender<Option<Timestamp>>,
    /// Arrivals that are stored and not yet evaluated, oldest first.
    deferred: VecDeque<Arc<Arrival>>,
    /// The header time of the last record of each log.
    times: HashMap<LogId, Timestamp>,
    /// Records that contradict those held.
    evidence: Vec<Evidence>,
}

enum Answer {
    Publish(oneshot::Sender<Result<Published, PublishError>>, Result<Published, PublishError>),
    Replica(oneshot::Sender<Stored>, Stored),
}

impl Committer {
    fn run(mut self) {
        loop {
            let Some(work) = self.take() else { break };
            if let Err(failure) = self.commit(work)
                && failure.is_fatal()
            {
                error!(error = %chain_of(&failure), "The store failed; the node must end");
                break;
            }
        }
        self.shared.urgent_room.close();
        self.shared.other_room.close();
        let mut queues = self.shared.queues.lock();
        let was_closed = queues.closed;
        queues.closed = true;
        queues.urgent.clear();
        queues.other.clear();
        drop(queues);
        if !was_closed {
            self.shared.failed.send_replace(true);
        }
    }

    /// Waits for work; an empty batch means there is evaluation to go on with, `None` means the end.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut queues = self.shared.queues.lock();
        loop {
            let full = self.deferred.len() >= DEFERRED_MAX;
            let ready = queues.urgent.len() + queues.other.len();
            if !full && ready > 0 {
                let urgent = queues.urgent.len().min(BATCH_MAX);
                let mut batch: Vec<Waiting> = queues.urgent.drain(..urgent).collect();
                let other = queues.other.len().min(BATCH_MAX - urgent);
                batch.extend(queues.other.drain(..other));
                return Some(batch);
            }
            if !self.deferred.is_empty() {
                return Some(Vec::new());
            }
            if queues.closed {
                return None;
            }
            self.shared.wake.wait(&mut queues);
        }
    }

    fn commit(&mut self, batch: Vec<Waiting>) -> Result<(), campanile_log::Error> {
        let started = Instant::now();
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
        self.parts.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        match &result {
            Ok(()) => {
                self.announce(&arrivals);
                for answer in answers {
                    send(answer);
                }
            }
            Err(failure) => {
                self.parts.metrics.commits_failed.inc();
                let refusal = match failure {
                    campanile_log::Error::Full { .. } => PublishError::Full,
                    _ => PublishError::Failed,
                };
                warn!(error = %failure, "A commit failed");
                for answer in answers {
                    send(match answer {
                        Answer::Publish(reply, _) => Answer::Publish(reply, Err(refusal.clone())),
                        Answer::Replica(reply, _) => Answer::Replica(reply, Stored::Failed),
                    });
                }
                if !failure.is_fatal()
                    && let Err(error) = self.reload()
                {
                    error!(%error, "The state could not be read back after a failed commit; the node must end");
                    return Err(campanile_log::Error::Poisoned);
                }
            }
        }
        self.due.send_if_modified(|due| {
            let next = self.parts.derive.as_ref().and_then(|derive| derive.due());
            std::mem::replace(due, next) != next
        });
        drop(permits);
        result
    }

    fn announce(&self, arrivals: &[Arc<Arrival>]) {
        for arrival in arrivals {
            self.parts.metrics.record_stored(arrival);
        }
        self.tails.advance(arrivals);
    }

    /// Takes current alerts, rules and times up again from what the store holds.
    fn reload(&mut self) -> Result<(), StartError> {
        let store = Arc::clone(&self.parts.store);
        self.current.lock().restore(store.as_ref())?;
        self.times.clear();
        for (log, tail) in store.logs() {
            if let Some(entry) = store.get(&log, tail.epoch, tail.seq)? {
                self.times.insert(log, crate::record::open_header(&entry.header)?.time);
            }
        }
        self.evidence = store.evidence()?;
        self.deferred.clear();
        let Some(derive) = &mut self.parts.derive else { return Ok(()) };
        let rows = read_rows(store.as_ref(), DERIVE_PREFIX)?;
        derive.restore(rows).map_err(|reason| StartError::State { part: "rules", reason })?;
        // A store without the row has had no rules so far: they begin with what comes, and wake no old alert.
        let mut after = match store.state(EVALUATED_ROW)? {
            Some(row) => row.try_into().map(u64::from_be_bytes).unwrap_or_default(),
            None => store.last_arrival(),
        };
        while after < store.last_arrival() {
            let entries = store.arrivals(after, 1_000, 64 << 20)?;
            let Some(last) = entries.last() else { break };
            after = last.arrival;
            for entry in entries {
                self.deferred.push_back(Arc::new(reopen(entry)?));
            }
        }
        self.due.send_replace(self.parts.derive.as_ref().and_then(|derive| derive.due()));
        Ok(())
    }
}

/// A state row: its key and its value.
pub type StateRow = (Vec<u8>, Vec<u8>);

/// Reads every state row below a prefix, the prefix cut off.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn read_rows(store: &dyn Store, prefix: &[u8]) -> Result<Vec<StateRow>, campanile_log::Error> {
    let mut rows: Vec<StateRow> = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.state_prefix(prefix, after.as_deref(), 1_000)?;
        let Some((last, _)) = page.last() else { return Ok(rows) };
        after = Some(last.clone());
        rows.extend(page.into_iter().map(|(key, value)| (key.get(prefix.len()..).unwrap_or_default().to_vec(), value)));
    }
}

/// Decodes a stored entry. The time of receipt is not stored with the entry; the header's time stands for it.
///
/// # Errors
/// When the header is not readable, which a store that verified it never gives.
pub fn reopen(entry: Entry) -> Result<Arrival, crate::record::Error> {
    let header = crate::record::open_header(&entry.header)?;
    let body = entry.body.as_ref().and_then(|body| crate::record::open_body(&header, body).ok());
    let received = header.time;
    Ok(Arrival { entry, header: Arc::new(header), body: body.map(Arc::new), received })
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

/// One commit in the making.
struct Turn<'c, 'b> {
    committer: &'c mut Committer,
    batch: &'b mut dyn Batch,
    arrivals: &'c mut Vec<Arc<Arrival>>,
    /// Time that the rules have taken in this commit.
    rules: Duration,
}

impl Turn<'_, '_> {
    fn work(&mut self, work: Work, answers: &mut Vec<Answer>) -> Result<(), campanile_log::Error> {
        match work {
            Work::Publish { draft, identity, reply } => {
                let result = self.publish(*draft, identity)?;
                answers.push(Answer::Publish(reply, result));
            }
            Work::Replica { checked, reply } => {
                let stored = self.replica(*checked)?;
                answers.push(Answer::Replica(reply, stored));
            }
            Work::Evidence(evidence) => {
                self.batch.evidence((*evidence).clone())?;
                let known = self.committer.evidence.iter().any(|other| other.position == evidence.position);
                if !known && self.committer.evidence.len() < EVIDENCE_MAX {
                    self.committer.evidence.push(*evidence);
                }
            }
            Work::Checkpoint { log, bytes } => self.batch.checkpoint(&log, &bytes)?,
            Work::Sweep => {
                let now = self.committer.parts.clock.now();
                let rows = self.committer.current.lock().sweep(now);
                self.rows(rows)?;
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        mut draft: Draft,
        identity: Option<(Key, Hash)>,
    ) -> Result<Result<Published, PublishError>, campanile_log::Error> {
        if let Content::Alert { alert, .. } = &draft.body.content {
            let current = self.committer.current.lock();
            let world = World::of(draft.status, draft.exercise.as_ref());
            if let Ok(world) = world {
                let department = self.committer.parts.origin.department().clone();
                let roster = self.committer.parts.roster.current();
                if let Err(owner) = count::owns_references(&current, &roster, &department, &world, alert) {
                    return Ok(Err(owner));
                }
            }
        }
        self.inherit_urgency(&mut draft);
        match self.append(&draft, identity)? {
            Some(Appended::New(entry)) => {
                let arrival = self.arrivals.last().cloned();
                let published = Published {
                    log: entry.log.clone(),
                    position: entry.position,
                    duplicate: false,
                    arrival: arrival.clone(),
                };
                if let Some(arrival) = arrival {
                    self.follow(arrival)?;
                }
                Ok(Ok(published))
            }
            Some(Appended::Duplicate(first)) => {
                Ok(Ok(Published { log: first.log, position: first.position, duplicate: true, arrival: None }))
            }
            Some(Appended::Conflict(_)) => {
                let name = match &draft.body.content {
                    Content::Alert { alert, .. } => alert.id().to_string(),
                    _ => "the record".into(),
                };
                Ok(Err(PublishError::Conflict(name)))
            }
            None => Ok(Err(PublishError::TooLarge(crate::record::RECORD_BYTES_MAX + 1))),
        }
    }

    /// What is about an urgent message is urgent: a Cancel must not wait behind routine work.
    fn inherit_urgency(&self, draft: &mut Draft) {
        let Content::Alert { alert, .. } = &draft.body.content else { return };
        if draft.urgent || alert.referenced().is_empty() {
            return;
        }
        let Ok(world) = World::of(draft.status, draft.exercise.as_ref()) else { return };
        let department = self.committer.parts.origin.department();
        let current = self.committer.current.lock();
        draft.urgent = alert.referenced().iter().any(|id| current.is_urgent(department, &world, id));
    }

    /// Seals and appends one of our own records. `None` when it would be too large.
    fn append(
        &mut self,
        draft: &Draft,
        identity: Option<(Key, Hash)>,
    ) -> Result<Option<Appended>, campanile_log::Error> {
        let parts = &self.committer.parts;
        let lane = draft.lane();
        let log = LogId::new(parts.origin.to_string(), lane);
        let keys = parts.keys.load();
        let mut salt = [0; 16];
        rand::rng().fill_bytes(&mut salt);
        let now = parts.clock.now();
        let seal = Seal {
            federation: &parts.federation,
            origin: &parts.origin,
            roster: parts.roster.current().number,
            time: now,
            key: if lane == campanile_log::Lane::Exercise { &keys.exercise } else { &keys.live },
            salt,
        };
        let (idempotency, content) = match identity {
            Some((key, content)) => (Some(key), content),
            None => (None, Hash::ZERO),
        };
        let mut header = None;
        let appended = self.batch.draft(campanile_log::Draft {
            log: log.clone(),
            idempotency,
            content,
            seal: Box::new(|slot| {
                let (sealed, decoded) = seal.seal(draft, &log, slot);
                let size = sealed.header.len() + sealed.body.len() + sealed.signatures.len();
                if size > crate::record::RECORD_BYTES_MAX {
                    return Err(Box::new(crate::record::Error::TooLarge(size)));
                }
                header = Some(decoded);
                Ok(sealed)
            }),
        });
        let appended = match appended {
            Err(campanile_log::Error::Caller(_)) => return Ok(None),
            other => other?,
        };
        if let (Appended::New(entry), Some(header)) = (&appended, header) {
            let arrival = Arrival {
                entry: entry.clone(),
                header: Arc::new(header),
                body: Some(Arc::new(draft.body.clone())),
                received: now,
            };
            self.arrivals.push(Arc::new(arrival));
        }
        Ok(Some(appended))
    }

    fn replica(&mut self, mut checked: Checked) -> Result<Stored, campanile_log::Error> {
        if checked.replica.standing == Standing::Counted
            && let (Some(body), Kind::Alert) = (&checked.body, checked.header.kind)
            && let Content::Alert { alert, .. } = &body.content
        {
            let current = self.committer.current.lock();
            let roster = self.committer.parts.roster.current();
            let department = checked.header.origin.department();
            if let Err(refusal) = count::owns_references(&current, &roster, department, &checked.header.world, alert) {
                checked.replica.standing = Standing::NotCounted { reason: refusal.to_string() };
            }
        }
        let received = self.committer.parts.clock.now();
        let accepted = self.batch.replica(checked.replica)?;
        match accepted {
            Accepted::New(entry) => {
                let arrival = Arc::new(Arrival { entry, header: checked.header, body: checked.body, received });
                self.arrivals.push(Arc::clone(&arrival));
                self.follow(arrival)?;
                Ok(Stored::Durable)
            }
            // Its turn in the order of arrival has passed: people see it, and the rules do not.
            Accepted::BodyAdded(entry) => {
                let arrival = Arrival { entry, header: checked.header, body: checked.body, received };
                self.note(&arrival)?;
                Ok(Stored::Durable)
            }
            Accepted::Held => Ok(Stored::Durable),
            Accepted::Refused(refusal) => Ok(Stored::Refused(refusal)),
        }
    }

    /// Takes a stored record into the current alerts and puts it in line for the rules.
    ///
    /// The line is one for everything, effects included, so the rules see records in stored arrival order whether or
    /// not they are behind.
    fn follow(&mut self, arrival: Arc<Arrival>) -> Result<(), campanile_log::Error> {
        self.note(&arrival)?;
        if self.committer.parts.derive.is_some() {
            self.committer.deferred.push_back(arrival);
            self.evaluate()?;
        }
        Ok(())
    }

    /// Runs the rules over what is in line, for as long as the budget of this commit lasts.
    fn evaluate(&mut self) -> Result<(), campanile_log::Error> {
        while self.rules < RULES_BUDGET {
            let Some(arrival) = self.committer.deferred.pop_front() else { break };
            let started = Instant::now();
            let derived = self.apply(&arrival);
            self.rules += started.elapsed();
            for (key, value) in derived.state {
                let key = [DERIVE_PREFIX, &key].concat();
                self.batch.state(&key, value.as_deref())?;
            }
            if derived.drafts.len() > DERIVED_MAX {
                error!(limit = DERIVED_MAX, "One record led to too many effects; the rest are dropped");
            }
            for mut draft in derived.drafts.into_iter().take(DERIVED_MAX) {
                self.inherit_urgency(&mut draft);
                let identity = identity_of(self.committer.parts.origin.department(), &draft);
                if let Some(Appended::New(_)) = self.append(&draft, identity)?
                    && let Some(effect) = self.arrivals.last().cloned()
                {
                    self.committer.parts.metrics.effects.inc();
                    self.note(&effect)?;
                    self.committer.deferred.push_back(effect);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, arrival: &Arrival) -> Derived {
        let log = &arrival.entry.log;
        let previous_time = self.committer.times.insert(log.clone(), arrival.header.time);
        let reader = arrival.header.reader_version_min > crate::record::READER_VERSION;
        let held = self.in_doubt(arrival);
        match (&mut self.committer.parts.derive, &arrival.body) {
            (Some(derive), Some(body)) if arrival.entry.standing == Standing::Counted && !reader && !held => {
                derive.apply(&Event { arrival, body, previous_time })
            }
            _ => Derived::default(),
        }
    }

    /// True when the record stands in a log that has forked before it: no effect may rest on it by itself.
    fn in_doubt(&self, arrival: &Arrival) -> bool {
        if self.committer.evidence.is_empty() {
            return false;
        }
        let roster = self.committer.parts.roster.current();
        let forks = crate::verify::open_forks(&self.committer.evidence, &roster);
        forks.get(&arrival.entry.log).is_some_and(|first| arrival.entry.position.place() >= *first)
    }

    /// Takes a record into the projection of current alerts.
    fn note(&mut self, arrival: &Arrival) -> Result<(), campanile_log::Error> {
        let roster = self.committer.parts.roster.current();
        let rows = self.committer.current.lock().apply(arrival, &roster);
        self.rows(rows)
    }

    fn rows(&mut self, rows: Vec<crate::current::Row>) -> Result<(), campanile_log::Error> {
        for (key, value) in rows {
            self.batch.state(&key, value.as_deref())?;
        }
        Ok(())
    }

    /// Writes down how far evaluation has come, in the commit that made it so.
    fn finish(&mut self) -> Result<(), campanile_log::Error> {
        if self.committer.parts.derive.is_none() {
            return Ok(());
        }
        let stored = match self.arrivals.last() {
            Some(last) => last.entry.arrival,
            None => self.committer.parts.store.last_arrival(),
        };
        let evaluated = match self.committer.deferred.front() {
            Some(first) => first.entry.arrival.saturating_sub(1),
            None => stored,
        };
        self.batch.state(EVALUATED_ROW, Some(&evaluated.to_be_bytes()))
    }
}

/// The permanent identity of an alert: department, sender, identifier, the text of sent; and the hash of its content.
pub fn identity_of(department: &DepartmentId, draft: &Draft) -> Option<(Key, Hash)> {
    let Content::Alert { alert, original, .. } = &draft.body.content else { return None };
    let id = alert.id();
    Some((alert_key(department, &id), content_hash(alert, original.as_deref(), draft)))
}

/// The idempotency key of an alert.
pub fn alert_key(department: &DepartmentId, id: &campanile_alert::AlertId) -> Key {
    let mut key = Vec::with_capacity(128);
    for part in [department.as_str(), &id.sender, &id.identifier, &id.sent] {
        key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    Key(key)
}

fn content_hash(alert: &campanile_alert::Alert, original: Option<&[u8]>, draft: &Draft) -> Hash {
    use prost::Message as _;
    let mut bytes = campanile_proto::convert::alert_to_wire(alert).encode_to_vec();
    if let Some(exercise) = &draft.exercise {
        bytes.extend_from_slice(exercise.as_str().as_bytes());
    }
    // Byte for byte, because an imported message's own signature covers its bytes.
    bytes.extend_from_slice(original.unwrap_or_default());
    Hash::of(&bytes)
}
