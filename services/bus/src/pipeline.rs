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
//!
//! Here are the queue and the words; `committer` is the thread, `turn` one commit in the making. Where the surroundings
//! have no threads, the committer is a task, and the same in everything else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use campanile_alert::{Clock, DepartmentId, OriginId, Timestamp};
use campanile_discovery::keys::SigningKey;
use campanile_discovery::roster::RosterHandle;
use campanile_log::{Entry, Evidence, Hash, Key, Lane, LogId, Position, Refusal, Replica, Store};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tracing::warn;

use crate::current::Current;
use crate::derive::{Arrival, Derive};
use crate::metrics::Metrics;
use crate::record::{Body, Content, Draft, Header, Kind};
use crate::surroundings::Surroundings;
use crate::tails::Tails;

mod committer;
mod given;
mod turn;

use committer::Committer;
pub use given::{Again, Given};

/// How many pieces of urgent work may wait; the reserve that floods of other work cannot take.
const URGENT_WAITING_MAX: usize = 1_024;
/// How many pieces of other work may wait.
const OTHER_WAITING_MAX: usize = 4_096;
/// How many pieces of work go into one commit.
const BATCH_MAX: usize = 256;
/// How long the rules may take in one commit before the rest of the evaluation is put off to the next.
const RULES_BUDGET: Duration = Duration::from_millis(2);
/// How long work that nobody waits for may stay in the queue so that it shares a commit with other work.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many arrivals may wait for evaluation before no new work is taken.
const DEFERRED_MAX: usize = 4_096;
/// How many records may follow from one arrival; a bound beside the depth limit of the rules.
const DERIVED_MAX: usize = 4_096;

/// How many contradicting records are kept in mind; the store bounds them for each log.
const EVIDENCE_MAX: usize = 1_024;

const EVALUATED_ROW: &[u8] = b"bus/evaluated";
/// The number of the last arrival that was a record of our own, come back from a peer.
const RETURNED_ROW: &[u8] = b"bus/returned";
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
    /// The store is empty, and nobody could tell yet what this node had published before. May be tried again.
    #[error(
        "the node's store is empty and no other node could tell yet what it held; let the node reach another one, or start \
         it with --begin-anew if it has no past"
    )]
    NoPast,
    /// Another roster came into force while it waited, and may not give what the one before gave. May be tried again.
    #[error("another roster came into force while the message waited; publish again")]
    RosterChanged,
    /// The record would be larger than 1 MiB.
    #[error("the record would have {0} bytes; at most 1 MiB is taken")]
    TooLarge(usize),
}

impl PublishError {
    /// True when the same publish may be tried again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Overloaded | Self::Failed | Self::NoPast | Self::RosterChanged)
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

/// A state row to set, or to remove.
pub type StateChange = (Vec<u8>, Option<Vec<u8>>);

/// Whether work has a commit begun for it, or goes with the next.
///
/// Every commit is a sync of the disk, and syncs queue behind one another; so what nobody waits for leaves the disk to
/// what somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// A commit begins as soon as the one before has ended.
    Now,
    /// It goes with the next commit, at the latest after a few milliseconds.
    Soon,
}

enum Work {
    Publish {
        draft: Box<Draft>,
        identity: Option<(Key, Hash)>,
        judged: Option<u64>,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    Replica {
        checked: Box<Checked>,
        reply: oneshot::Sender<Stored>,
    },
    Rows {
        rows: Vec<StateChange>,
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
    haste: Haste,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Queues {
    urgent: VecDeque<Waiting>,
    other: VecDeque<Waiting>,
    /// How many of both are in haste.
    hasty: usize,
    closed: bool,
}

impl Queues {
    fn push(&mut self, waiting: Waiting, urgent: bool) {
        self.hasty += usize::from(waiting.haste == Haste::Now);
        if urgent {
            self.urgent.push_back(waiting);
        } else {
            self.other.push_back(waiting);
        }
    }

    /// What the next commit is made of, the urgent first.
    fn drain(&mut self) -> Vec<Waiting> {
        let urgent = self.urgent.len().min(BATCH_MAX);
        let mut batch: Vec<Waiting> = self.urgent.drain(..urgent).collect();
        let other = self.other.len().min(BATCH_MAX - urgent);
        batch.extend(self.other.drain(..other));
        self.hasty -= batch.iter().filter(|waiting| waiting.haste == Haste::Now).count();
        batch
    }

    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.other.is_empty()
    }

    /// How much longer all that waits may wait; `None` when a commit is due.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if self.hasty > 0 || self.closed || self.urgent.len() + self.other.len() >= BATCH_MAX {
            return None;
        }
        let oldest =
            [self.urgent.front(), self.other.front()].into_iter().flatten().map(|waiting| waiting.since).min()?;
        PATIENCE.checked_sub(now.duration_since(oldest)).filter(|rest| !rest.is_zero())
    }
}

struct Shared {
    queues: Mutex<Queues>,
    /// Wakes the committer when it is a thread, and when it is a task.
    wake: Condvar,
    wake_task: Notify,
    surroundings: Arc<dyn Surroundings>,
    urgent_room: Arc<Semaphore>,
    other_room: Arc<Semaphore>,
    failed: watch::Sender<bool>,
    ended_in_order: AtomicBool,
    /// Whether the rules wait for what others send.
    has_rules: AtomicBool,
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
    /// Chance, passing time, and whether there are threads.
    pub surroundings: Arc<dyn Surroundings>,
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
    tails: Arc<Tails>,
    due: watch::Receiver<Option<Timestamp>>,
    running: Arc<Mutex<Option<Running>>>,
}

/// The committer at work.
enum Running {
    Thread(std::thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("pipeline::Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Publishes a draft and waits until it is on the disk.
    ///
    /// `identity` is the idempotency key and the hash of the content; absent for records that are never repeated. `judged`
    /// is the roster by which it was found to be within our rights; absent for what is not judged.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was stored then.
    pub async fn publish(
        &self,
        draft: Draft,
        identity: Option<(Key, Hash)>,
        judged: Option<u64>,
    ) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        let urgent = match draft.lane() {
            Lane::Urgent => true,
            // What officers and timers of the real world decide goes with the urgent; a drill never takes its room.
            Lane::Routine => !matches!(draft.body.content.kind(), Kind::Alert | Kind::DeliveryReport),
            Lane::Exercise => false,
        };
        // The reporter paces itself; nobody else waits for a report.
        let haste = if draft.body.content.kind() == Kind::DeliveryReport { Haste::Soon } else { Haste::Now };
        let work = Work::Publish { draft: Box::new(draft), identity, judged, reply };
        self.enqueue(work, urgent, haste).await.map_err(|()| PublishError::Failed)?;
        // A commit that failed for want of space drops the answers of what it had not come to.
        let failed = || if *self.shared.failed.borrow() { PublishError::Failed } else { PublishError::Full };
        answer.await.unwrap_or_else(|_| Err(failed()))
    }

    /// Puts a replica in line; the receiver of the answer may wait for its durability later.
    ///
    /// Waits for room in the queue, which is how a slow disk slows the stream down.
    pub async fn store(&self, checked: Checked) -> oneshot::Receiver<Stored> {
        let (reply, answer) = oneshot::channel();
        let urgent = checked.header.log.lane == Lane::Urgent;
        // Where neither rules nor a watcher wait for it, its holder has it.
        let waited_for = self.has_rules() || self.tails.is_watched();
        let in_haste = waited_for && checked.header.kind != Kind::DeliveryReport;
        let haste = if in_haste { Haste::Now } else { Haste::Soon };
        let work = Work::Replica { checked: Box::new(checked), reply };
        // When the pipeline has ended the reply is dropped, and the caller sees that.
        let _ended = self.enqueue(work, urgent, haste).await;
        answer
    }

    /// Writes state rows, all or none, and waits until they are on the disk.
    ///
    /// # Errors
    /// [`PublishError::Full`], which may be tried again, or [`PublishError::Failed`]; nothing was written then.
    pub async fn put(&self, rows: Vec<StateChange>, haste: Haste) -> Result<(), PublishError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Work::Rows { rows, reply }, true, haste).await.map_err(|()| PublishError::Failed)?;
        match answer.await {
            Ok(Stored::Durable) => Ok(()),
            _ if *self.shared.failed.borrow() => Err(PublishError::Failed),
            _ => Err(PublishError::Full),
        }
    }

    /// Keeps a record that contradicts one held.
    pub async fn evidence(&self, evidence: Evidence) {
        let _ended = self.enqueue(Work::Evidence(Box::new(evidence)), true, Haste::Now).await;
    }

    /// Keeps the newest checkpoint of a log; left out when the queue is full, since another follows.
    pub fn checkpoint(&self, log: LogId, bytes: Bytes) {
        if let Ok(permit) = Arc::clone(&self.shared.other_room).try_acquire_owned() {
            self.push(Work::Checkpoint { log, bytes }, permit, false, Haste::Soon);
        }
    }

    /// Has what has expired marked, and what is long gone dropped.
    pub async fn sweep(&self) {
        let _ended = self.enqueue(Work::Sweep, false, Haste::Soon).await;
    }

    /// Whether anything may follow from a record now.
    pub fn has_rules(&self) -> bool {
        self.shared.has_rules.load(Ordering::Relaxed)
    }

    /// When the rules want their next tick.
    pub fn due(&self) -> watch::Receiver<Option<Timestamp>> {
        self.due.clone()
    }

    /// Becomes true when the disk has failed and the process must end.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.shared.failed.subscribe()
    }

    /// Finishes what waits and ends the committer.
    pub async fn shutdown(&self) {
        self.shared.queues.lock().closed = true;
        self.shared.wake.notify_all();
        self.shared.wake_task.notify_one();
        let running = self.running.lock().take();
        let in_order = match running {
            None => true,
            Some(Running::Thread(thread)) => tokio::task::spawn_blocking(move || thread.join()).await.is_ok(),
            Some(Running::Task(task)) => task.await.is_ok(),
        };
        if !in_order {
            warn!("the committer did not end in order");
        }
    }

    async fn enqueue(&self, work: Work, urgent: bool, haste: Haste) -> Result<(), ()> {
        let room = if urgent { &self.shared.urgent_room } else { &self.shared.other_room };
        let permit = Arc::clone(room).acquire_owned().await.map_err(|_| ())?;
        self.push(work, permit, urgent, haste);
        Ok(())
    }

    fn push(&self, work: Work, permit: OwnedSemaphorePermit, urgent: bool, haste: Haste) {
        let since = self.shared.surroundings.instant();
        let waiting = Waiting { work, haste, since, _permit: permit };
        let mut queues = self.shared.queues.lock();
        if queues.closed {
            return;
        }
        queues.push(waiting, urgent);
        drop(queues);
        self.shared.wake.notify_one();
        self.shared.wake_task.notify_one();
    }
}

/// Starts the pipeline over what the store holds, and gives what the rules want written before anything else. Without
/// threads, call it inside a runtime.
///
/// # Errors
/// When the state in the store cannot be read back.
pub fn start(
    parts: Parts,
    current: Arc<Mutex<Current>>,
    tails: Arc<Tails>,
) -> Result<(Handle, Vec<Draft>), StartError> {
    let (failed, _) = watch::channel(false);
    let (due_sender, due) = watch::channel(None);
    let shared = Arc::new(Shared {
        queues: Mutex::default(),
        wake: Condvar::new(),
        wake_task: Notify::new(),
        surroundings: Arc::clone(&parts.surroundings),
        urgent_room: Arc::new(Semaphore::new(URGENT_WAITING_MAX)),
        other_room: Arc::new(Semaphore::new(OTHER_WAITING_MAX)),
        failed,
        ended_in_order: AtomicBool::new(false),
        has_rules: AtomicBool::new(false),
    });
    let mut committer = Committer {
        parts,
        current,
        tails: Arc::clone(&tails),
        shared: Arc::clone(&shared),
        due: due_sender,
        deferred: VecDeque::new(),
        evaluated: None,
        times: HashMap::new(),
        evidence: Vec::new(),
    };
    committer.reload()?;
    let opening = committer.parts.derive.as_mut().map(|derive| derive.opening()).unwrap_or_default();
    committer.note_due();
    let running = if shared.surroundings.has_threads() {
        let thread = std::thread::Builder::new().name("pipeline".into());
        Running::Thread(thread.spawn(move || committer.run()).map_err(StartError::Thread)?)
    } else {
        Running::Task(tokio::spawn(committer.run_as_task()))
    };
    Ok((Handle { shared, tails, due, running: Arc::new(Mutex::new(Some(running))) }, opening))
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

/// Decodes a stored entry. The time of receipt is not stored with the entry; the header's time stands for it, but never
/// one that lies ahead of `now`: another department's clock must not become ours.
///
/// # Errors
/// When the header is not readable, which a store that verified it never gives.
pub fn reopen(entry: Entry, now: Timestamp) -> Result<Arrival, crate::record::Error> {
    let header = crate::record::open_header(&entry.header)?;
    let body = entry.body.as_ref().and_then(|body| crate::record::open_body(&header, body).ok());
    let received = header.time.min(now);
    Ok(Arrival { entry, header: Arc::new(header), body: body.map(Arc::new), received, returned: false })
}

/// The permanent identity of an alert: department, sender, identifier, the text of sent; and the hash of its content.
pub fn identity_of(department: &DepartmentId, draft: &Draft) -> Option<(Key, Hash)> {
    let Content::Alert { alert, original, .. } = &draft.body.content else { return None };
    let id = alert.id();
    Some((alert_key(department, &id), content_hash(alert, original.as_deref(), draft.exercise.as_ref())))
}

/// The idempotency key of an alert.
pub fn alert_key(department: &DepartmentId, id: &campanile_alert::AlertId) -> Key {
    let mut key = Vec::with_capacity(128);
    for part in [department.as_str(), id.sender(), id.identifier(), id.sent()] {
        key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    Key(key)
}

/// The hash by which a repetition of an alert is told from another content under the same identity.
pub fn content_hash(
    alert: &campanile_alert::Alert,
    original: Option<&[u8]>,
    exercise: Option<&campanile_alert::ExerciseId>,
) -> Hash {
    use prost::Message as _;
    let mut bytes = campanile_proto::convert::alert_to_wire(alert).encode_to_vec();
    if let Some(exercise) = exercise {
        bytes.extend_from_slice(exercise.as_str().as_bytes());
    }
    // Byte for byte, because an imported message's own signature covers its bytes.
    bytes.extend_from_slice(original.unwrap_or_default());
    Hash::of(&bytes)
}
