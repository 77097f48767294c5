//! The receiving side of replication: one task for each log of each origin, for as long as the node runs.
//!
//! ```text
//!           ┌────────── back-off, at most 10 s, with jitter; a poke ends it at once ──────────┐
//!  choose a holder ─► Pull from our durable tail ─► judge each record ─► pipeline ─► credit ──┘
//!    the origin first, then any other holder
//! ```
//!
//! Our own durable tail is the position, so it cannot run ahead of the disk. Judging goes on while earlier records are
//! on their way to the disk; credit goes back only for what is durable. A holder whose records are refused is left for
//! the next one. Our own logs are pulled as well, from each peer until it has told all that it holds, and again when it is
//! seen to hold more: what a lost or restored disk had comes back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Clock, OriginId, Timestamp};
use campanile_discovery::roster::RosterHandle;
use campanile_log::{Lane, LogId, Position, Store};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::checkpoint::Checkpoints;
use crate::metrics::Metrics;
use crate::peer_service::{CREDIT_BYTES_MAX, OLDER_MAX};
use crate::pipeline;
use crate::record;
use crate::surroundings::{Link, Surroundings, jitter, random_below};
use crate::tails::Tails;
use crate::transport::MESSAGE_BYTES_MAX;
use crate::verify::Verifier;

mod rosters;
mod stream;

use stream::{Stream, reason_of};

/// The credit a stream opens with, in bytes.
const CREDIT: u32 = 4 << 20;
/// Credit is given back in pieces of at least this many bytes.
const CREDIT_STEP: u32 = 64 << 10;
/// Less than that is given back after this long, so that a record costs no message of its own in return.
const CREDIT_REST: Duration = Duration::from_millis(100);
/// How many records of one log are on their way to the disk at once.
const IN_FLIGHT_MAX: usize = 256;
/// The longest pause between attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// The first pause; doubled by each attempt without a record.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
/// Silence on an open stream after which it is given up: three bookmarks.
const SILENCE_MAX: Duration = Duration::from_secs(16);
/// How long another holder serves a log before the origin is tried again.
const RELAY_TURN: Duration = Duration::from_secs(15);
/// A deadline on every unary call.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// How many peers are asked for one of our own logs at once: each sends all of it that we lack.
const ASKED_MAX: usize = 3;
/// The most rosters fetched in a row to come up to a number.
const ROSTERS_MAX: u64 = 1_024;

/// What a log looks like from here, for operators.
#[derive(Debug, Clone, Default)]
pub struct LogView {
    /// The tail that the origin last spoke of, or a higher one that another holder has.
    pub seen: Option<Position>,
    /// When the origin last spoke: sent a record or a bookmark itself, or signed the newest checkpoint that others have
    /// passed on. What else another holder sends says nothing about whether the origin still speaks, nor whether that is
    /// all it has said.
    pub heard: Option<Timestamp>,
    /// Who serves it now.
    pub served_by: Option<OriginId>,
    /// How the last attempt failed; empty when all is well.
    pub last_error: String,
}

/// The tasks that pull, and what they see.
pub struct Pullers {
    views: Mutex<HashMap<LogId, LogView>>,
    addresses: Mutex<BTreeMap<OriginId, Vec<String>>>,
    wake: Mutex<HashMap<OriginId, Arc<Notify>>>,
    running: Mutex<HashMap<(LogId, Option<OriginId>), CancellationToken>>,
    /// Which holders have answered for which log since the start: true when one has told all that it holds, and all is
    /// durable here; false when it could not be asked so far.
    answers: watch::Sender<BTreeMap<(LogId, OriginId), bool>>,
    /// Holders that were seen to have more of one of our own logs than is here, and were not asked for it since.
    ahead: watch::Sender<BTreeSet<(LogId, OriginId)>>,
    /// Earlier rosters that a record named and nobody had, with when they were asked for.
    lost_rosters: Mutex<BTreeMap<u64, Instant>>,
}

impl std::fmt::Debug for Pullers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pullers").finish_non_exhaustive()
    }
}

/// What every pulling task works with.
#[derive(Clone)]
pub struct Parts {
    /// This node; its own logs are pulled only to recover them.
    pub origin: OriginId,
    /// The federation.
    pub federation: String,
    /// The store, for our tails.
    pub store: Arc<dyn Store>,
    /// The tails, for what is durable.
    pub tails: Arc<Tails>,
    /// The way in.
    pub pipeline: pipeline::Handle,
    /// The rosters.
    pub roster: RosterHandle,
    /// The judgement of records.
    pub verifier: Verifier,
    /// What origins say of the ends of their logs.
    pub checkpoints: Arc<Checkpoints>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The connections, and chance.
    pub surroundings: Arc<dyn Surroundings>,
    /// Ends everything.
    pub stop: CancellationToken,
}

impl Pullers {
    /// No tasks yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            views: Mutex::default(),
            addresses: Mutex::default(),
            wake: Mutex::default(),
            running: Mutex::default(),
            answers: watch::Sender::default(),
            ahead: watch::Sender::default(),
            lost_rosters: Mutex::default(),
        })
    }

    /// A holder has more of a log than is here: if the log is our own, the holder is asked for it again.
    pub(crate) fn note_ahead(&self, log: &LogId, holder: &OriginId) {
        // Only our own logs are asked of each holder, so that this is bounded by the roster.
        if self.running.lock().contains_key(&(log.clone(), Some(holder.clone()))) {
            self.ahead.send_if_modified(|ahead| ahead.insert((log.clone(), holder.clone())));
        }
    }

    /// Starts what is missing for the origins of the roster and ends what left it.
    pub fn follow_roster(self: &Arc<Self>, parts: &Parts) {
        self.follow(parts, |_| true);
    }

    /// Starts the recovery of our own logs alone.
    pub fn follow_own(self: &Arc<Self>, parts: &Parts) {
        self.follow(parts, |origin| *origin == parts.origin);
    }

    /// True when the address of another node is known.
    pub fn knows_others(&self, parts: &Parts) -> bool {
        self.addresses.lock().iter().any(|(origin, known)| *origin != parts.origin && !known.is_empty())
    }

    /// Waits until one peer at least has told all that it holds of our own logs, and no other is still to be heard.
    pub async fn past_is_known(&self, parts: &Parts) {
        let known = |answers: &BTreeMap<(LogId, OriginId), bool>| {
            let others = self.others(parts);
            Lane::ALL.into_iter().all(|lane| {
                let log = LogId::new(parts.origin.to_string(), lane);
                let of = |other: &OriginId| answers.get(&(log.clone(), other.clone())).copied();
                others.iter().any(|other| of(other) == Some(true)) && others.iter().all(|other| of(other).is_some())
            })
        };
        let mut answers = self.answers.subscribe();
        // The sender lives as long as the pullers.
        let _known = answers.wait_for(known).await;
    }

    /// Waits until of each other's logs somebody has told all that it holds, or nobody can be asked.
    pub async fn caught_up(&self, parts: &Parts) {
        let all = |answers: &BTreeMap<(LogId, OriginId), bool>| {
            let others = self.others(parts);
            others.iter().flat_map(|origin| Lane::ALL.map(|lane| LogId::new(origin.to_string(), lane))).all(|log| {
                let of = |other: &OriginId| answers.get(&(log.clone(), other.clone())).copied();
                others.iter().any(|other| of(other) == Some(true)) || others.iter().all(|other| of(other).is_some())
            })
        };
        let mut answers = self.answers.subscribe();
        // The sender lives as long as the pullers.
        let _all = answers.wait_for(all).await;
    }

    /// True when a peer has told all that it holds of our own logs.
    pub fn was_told(&self, parts: &Parts) -> bool {
        let answers = self.answers.borrow();
        Lane::ALL.into_iter().all(|lane| {
            let log = LogId::new(parts.origin.to_string(), lane);
            answers.iter().any(|((of, _), told)| *told && *of == log)
        })
    }

    /// True when every peer that is known has told what it holds of our own logs, or could not be asked.
    pub fn have_answered(&self, parts: &Parts) -> bool {
        let (answers, others) = (self.answers.borrow(), self.others(parts));
        let logs = Lane::ALL.map(|lane| LogId::new(parts.origin.to_string(), lane));
        let has = |other: &OriginId| logs.iter().all(|log| answers.contains_key(&(log.clone(), other.clone())));
        others.iter().all(has)
    }

    /// The nodes of the roster other than this one that have an address.
    fn others(&self, parts: &Parts) -> Vec<OriginId> {
        let roster = parts.roster.current();
        let others = roster.origins.iter().map(|origin| &origin.id).filter(|id| **id != parts.origin);
        others.filter(|id| !self.addresses(id).is_empty()).cloned().collect()
    }

    fn answered(&self, log: &LogId, holder: &OriginId, has_told: bool) {
        self.answers.send_if_modified(|answers| {
            let answer = answers.entry((log.clone(), holder.clone()));
            let changed = matches!(answer, Entry::Vacant(_));
            let answer = answer.or_default();
            let before = std::mem::replace(answer, *answer || has_told);
            changed || before != *answer
        });
    }

    fn follow(self: &Arc<Self>, parts: &Parts, wanted: impl Fn(&OriginId) -> bool) {
        let roster = parts.roster.current();
        let listed = |id: &OriginId| roster.origin(id).is_some();
        self.running.lock().retain(|(log, holder), stop| {
            let stays = log.origin.parse().is_ok_and(|origin| listed(&origin)) && holder.as_ref().is_none_or(listed);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for origin in roster.origins.iter().map(|origin| &origin.id).filter(|id| wanted(id)) {
            for lane in Lane::ALL {
                let log = LogId::new(origin.to_string(), lane);
                if *origin != parts.origin {
                    self.start(parts, origin, &log, None, Task::run);
                    continue;
                }
                let asked = Arc::new(Semaphore::new(ASKED_MAX));
                for holder in roster.origins.iter().map(|other| &other.id).filter(|id| *id != origin) {
                    let (from, asked) = (holder.clone(), Arc::clone(&asked));
                    self.start(parts, origin, &log, Some(holder), |task| task.recover(from, asked));
                }
            }
        }
    }

    /// Starts a task, if it does not run already.
    fn start<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        parts: &Parts,
        origin: &OriginId,
        log: &LogId,
        holder: Option<&OriginId>,
        run: impl FnOnce(Task) -> F,
    ) {
        let stop = match self.running.lock().entry((log.clone(), holder.cloned())) {
            hash_map::Entry::Occupied(_) => return,
            hash_map::Entry::Vacant(entry) => entry.insert(parts.stop.child_token()).clone(),
        };
        let task = Task {
            pullers: Arc::clone(self),
            parts: parts.clone(),
            origin: origin.clone(),
            wake: self.wake_of(holder.unwrap_or(origin)),
            log: log.clone(),
            next_relay: 0,
        };
        let span = info_span!("pull", log = %task.log);
        let running = run(task);
        let run = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = running => {}
            }
        };
        tokio::spawn(run.instrument(span));
    }

    /// Takes the addresses of a node from the directory or the configuration, and wakes its pullers.
    pub fn set_addresses(&self, origin: &OriginId, addresses: Vec<String>) {
        let changed = self.addresses.lock().insert(origin.clone(), addresses.clone()).as_ref() != Some(&addresses);
        if changed {
            self.poke(origin);
        }
    }

    /// The addresses known of a node.
    pub fn addresses(&self, origin: &OriginId) -> Vec<String> {
        self.addresses.lock().get(origin).cloned().unwrap_or_default()
    }

    /// A node says that it is back: its pullers try at once.
    pub fn poke(&self, origin: &OriginId) {
        self.wake_of(origin).notify_waiters();
    }

    /// What the logs look like from here.
    pub fn views(&self) -> HashMap<LogId, LogView> {
        self.views.lock().clone()
    }

    fn wake_of(&self, origin: &OriginId) -> Arc<Notify> {
        Arc::clone(self.wake.lock().entry(origin.clone()).or_default())
    }

    fn view(&self, log: &LogId, change: impl FnOnce(&mut LogView)) {
        change(self.views.lock().entry(log.clone()).or_default());
    }
}

/// Pulls one log.
struct Task {
    pullers: Arc<Pullers>,
    parts: Parts,
    origin: OriginId,
    wake: Arc<Notify>,
    log: LogId,
    /// Which other holder comes next.
    next_relay: usize,
}

/// How one stream ended.
#[derive(Debug)]
enum End {
    /// The holder is behind, closed, or it is the origin's turn again: go on at once.
    InOrder,
    /// The holder cannot be reached or broke off.
    Failed(String),
    /// The holder sent what is not to be trusted.
    Distrusted(String),
    /// An own log has been recovered as far as this holder knows it.
    Recovered,
}

impl Task {
    /// Pulls another's log for as long as the node runs.
    async fn run(mut self) {
        let mut pause = BACK_OFF_FIRST;
        let mut origin_failed = false;
        loop {
            let holder = if origin_failed {
                let others = self.others();
                self.in_turn(others)
            } else {
                Some(self.origin.clone())
            };
            let before = self.tail();
            let end = match &holder {
                Some(holder) => self.stream(holder).await,
                None => End::Failed("no holder of the log is known".into()),
            };
            let failed = self.has_failed(holder.as_ref(), end);
            let by_origin = holder.as_ref() == Some(&self.origin);
            // After the origin another holder, after another holder the origin.
            origin_failed = by_origin && failed && !self.others().is_empty();
            if self.tail() != before {
                pause = BACK_OFF_FIRST;
            }
            if failed && !origin_failed {
                self.wait(pause).await;
                pause = (pause * 2).min(BACK_OFF_MAX);
            }
        }
    }

    /// Asks one holder for our own log until it has told all that it holds, and again when it is seen to hold more: what
    /// it tells is what was on its disk at that moment, and a record of our former life may come to it later.
    ///
    /// A department that is away is not waited for; it is asked again until it has answered.
    async fn recover(self, holder: OriginId, asked: Arc<Semaphore>) {
        let mut pause = BACK_OFF_FIRST;
        let (mut ahead, key) = (self.pullers.ahead.subscribe(), (self.log.clone(), holder.clone()));
        loop {
            if self.pullers.addresses(&holder).is_empty() {
                self.wait(BACK_OFF_MAX).await;
                continue;
            }
            // What it was seen to hold until now is asked for now.
            self.pullers.ahead.send_if_modified(|ahead| ahead.remove(&key));
            let end = match asked.acquire().await {
                Ok(_permit) => self.stream(&holder).await,
                Err(_) => return,
            };
            if matches!(end, End::Recovered) {
                pause = BACK_OFF_FIRST;
                // The sender lives as long as the pullers. What is read holds a lock, so it is let go at once.
                drop(ahead.wait_for(|ahead| ahead.contains(&key)).await);
                continue;
            }
            if self.has_failed(Some(&holder), end) {
                self.wait(pause).await;
                pause = (pause * 2).min(BACK_OFF_MAX);
            }
        }
    }

    /// Writes down how a stream ended, and says whether it failed.
    fn has_failed(&self, holder: Option<&OriginId>, end: End) -> bool {
        let reason = match end {
            End::InOrder | End::Recovered => return false,
            End::Failed(reason) => {
                debug!(?holder, %reason, "A pull failed");
                reason
            }
            End::Distrusted(reason) => {
                warn!(?holder, %reason, "A holder sent what cannot be trusted");
                self.parts.metrics.refused.inc();
                reason
            }
        };
        if let Some(holder) = holder {
            self.pullers.answered(&self.log, holder, false);
        }
        self.pullers.view(&self.log, |view| {
            view.last_error = reason;
            view.served_by = None;
        });
        true
    }

    async fn wait(&self, pause: Duration) {
        let pause = pause.mul_f64(jitter(self.parts.surroundings.as_ref()));
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// The other nodes of the roster, which may hold this log too.
    fn others(&self) -> Vec<OriginId> {
        let mut others = self.pullers.others(&self.parts);
        others.retain(|id| *id != self.origin);
        others
    }

    /// One of the holders, another one each time.
    fn in_turn(&mut self, holders: Vec<OriginId>) -> Option<OriginId> {
        let turn = self.next_relay;
        self.next_relay = turn.wrapping_add(1);
        holders.get(turn.checked_rem(holders.len())?).cloned()
    }

    fn tail(&self) -> Option<Position> {
        self.parts.store.tail(&self.log)
    }

    /// Opens one stream from a holder and takes what comes, until it ends.
    async fn stream(&self, holder: &OriginId) -> End {
        let by_origin = *holder == self.origin;
        let channel = match self.channel(holder) {
            Ok(channel) => channel,
            Err(reason) => return End::Failed(reason),
        };
        let mut client = client_of(channel);
        let (requests, receiver) = mpsc::channel(8);
        // What was lost with a disk lies below what has been written since, so all epochs are told, not the highest alone.
        let mut held = self.parts.store.epochs(&self.log).into_iter().rev();
        let after = held.next();
        let start = wire::PullStart {
            origin: self.origin.to_string(),
            lane: record::lane_to_wire(self.log.lane).into(),
            after: after.map(|position| record::position_to_wire(&self.log, &position)),
            credit_bytes: CREDIT.min(CREDIT_BYTES_MAX),
            older: held.take(OLDER_MAX).map(|tail| record::position_to_wire(&self.log, &tail)).collect(),
        };
        let first = wire::PullRequest { kind: Some(wire::pull_request::Kind::Start(start)) };
        if requests.send(first).await.is_err() {
            return End::Failed("the stream did not open".into());
        }
        let opening = tokio::time::timeout(CALL_WITHIN, client.pull(ReceiverStream::new(receiver)));
        let messages = match opening.await {
            Err(_) => return End::Failed("the stream did not open within 5 s".into()),
            Ok(Err(status)) => return End::Failed(reason_of(&status)),
            Ok(Ok(response)) => response.into_inner(),
        };
        self.pullers.view(&self.log, |view| {
            view.served_by = Some(holder.clone());
            view.last_error.clear();
        });
        info!(%holder, "Pulling");
        if self.origin == self.parts.origin && self.log.lane == Lane::Urgent {
            // We were away for this peer: it need not wait for its next attempt, nor take our logs from others.
            match tokio::time::timeout(CALL_WITHIN, client.poke(wire::PokeRequest::default())).await {
                Ok(Ok(_)) => {}
                failed => debug!(%holder, ?failed, "A peer was not told that we are back"),
            }
        }
        self.parts.metrics.streams.inc();
        let end = Stream {
            task: self,
            holder,
            by_origin,
            client,
            requests,
            in_flight: FuturesOrdered::new(),
            returned: 0,
            return_at: None,
            told: None,
            lacking: BTreeSet::new(),
            handed_on: 0,
            handing: JoinSet::new(),
        }
        .run(messages)
        .await;
        self.parts.metrics.streams.dec();
        end
    }

    fn channel(&self, holder: &OriginId) -> Result<Link, String> {
        let addresses = self.pullers.addresses(holder);
        let at = random_below(self.parts.surroundings.as_ref(), addresses.len());
        let address = addresses.get(at).ok_or_else(|| format!("no address of {holder} is known"))?;
        self.parts.surroundings.reach(holder, address).map_err(|error| error.to_string())
    }
}

fn client_of(channel: Link) -> PeerServiceClient<Link> {
    PeerServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
