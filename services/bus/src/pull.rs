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
//! the next one. Our own logs are pulled as well, once from each peer: what a restored disk has lost comes back.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use campanile_alert::{Clock, OriginId, Timestamp};
use campanile_discovery::roster::RosterHandle;
use campanile_log::{Evidence, Lane, LogId, Position, Refusal, Store};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use futures::stream::FuturesOrdered;
use futures::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use prost::Message as _;
use rand::Rng as _;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::checkpoint;
use crate::metrics::{Metrics, OriginLabel};
use crate::peer_service::CREDIT_BYTES_MAX;
use crate::pipeline::{self, Stored};
use crate::record;
use crate::tails::Tails;
use crate::transport::{Channels, MESSAGE_BYTES_MAX};
use crate::verify::{Verdict, Verifier};

/// The credit a stream opens with, in bytes.
const CREDIT: u32 = 4 << 20;
/// Credit is given back in pieces of at least this many bytes.
const CREDIT_STEP: u32 = 64 << 10;
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
/// How often it is looked for a first member to ask.
const OWN_FIRST: Duration = Duration::from_millis(20);
/// How often it is looked whether a member has come up that was not yet asked for our own past.
const OWN_EVERY: Duration = Duration::from_secs(1);
/// The most rosters fetched in a row to come up to a number.
const ROSTERS_MAX: u64 = 1_024;

/// What a log looks like from here, for operators.
#[derive(Debug, Clone, Default)]
pub struct LogView {
    /// The tail that the server last spoke of.
    pub seen: Option<Position>,
    /// When a record or bookmark last came.
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
    running: Mutex<HashMap<LogId, CancellationToken>>,
    /// In how many of our own logs a peer has told all that it holds.
    recovered: watch::Sender<usize>,
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
    /// Where our own logs ended when this process began: what is beyond may have been lost, whatever we wrote since.
    pub own_tails: HashMap<LogId, Position>,
    /// The rosters.
    pub roster: RosterHandle,
    /// The judgement of records.
    pub verifier: Verifier,
    /// The connections.
    pub channels: Arc<Channels>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
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
            recovered: watch::Sender::new(0),
        })
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

    /// Waits until a peer has told all that it holds of each of our own logs.
    pub async fn recovered(&self) {
        let mut recovered = self.recovered.subscribe();
        // The sender lives as long as the pullers.
        let _all = recovered.wait_for(|lanes| *lanes >= Lane::ALL.len()).await;
    }

    fn follow(self: &Arc<Self>, parts: &Parts, wanted: impl Fn(&OriginId) -> bool) {
        let roster = parts.roster.current();
        let mut running = self.running.lock();
        running.retain(|log, stop| {
            let listed = log.origin.parse().is_ok_and(|origin: OriginId| roster.origin(&origin).is_some());
            if !listed {
                stop.cancel();
            }
            listed
        });
        for origin in roster.origins.iter().filter(|origin| wanted(&origin.id)) {
            for lane in Lane::ALL {
                let log = LogId::new(origin.id.to_string(), lane);
                if running.contains_key(&log) {
                    continue;
                }
                let stop = parts.stop.child_token();
                running.insert(log.clone(), stop.clone());
                let task = Task {
                    pullers: Arc::clone(self),
                    parts: parts.clone(),
                    origin: origin.id.clone(),
                    wake: self.wake_of(&origin.id),
                    log,
                    next_relay: 0,
                };
                let span = info_span!("pull", log = %task.log);
                let run = async move {
                    tokio::select! {
                        () = task.run() => {}
                        () = stop.cancelled() => {}
                    }
                };
                tokio::spawn(run.instrument(span));
            }
        }
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
    async fn run(mut self) {
        let own = self.origin == self.parts.origin;
        let mut recovered_from = std::collections::BTreeSet::new();
        let mut pause = BACK_OFF_FIRST;
        let mut origin_failed = false;
        loop {
            let holder = if own {
                let unasked = self.others().into_iter().filter(|other| !recovered_from.contains(other)).collect();
                let Some(next) = self.in_turn(unasked) else {
                    tokio::time::sleep(if recovered_from.is_empty() { OWN_FIRST } else { OWN_EVERY }).await;
                    continue;
                };
                Some(next)
            } else if origin_failed {
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
            let failed = match end {
                End::InOrder => false,
                End::Recovered => {
                    if recovered_from.is_empty() {
                        self.pullers.recovered.send_modify(|lanes| *lanes += 1);
                    }
                    recovered_from.extend(holder.clone());
                    continue;
                }
                End::Failed(reason) => {
                    debug!(holder = ?holder, %reason, "A pull failed");
                    self.pullers.view(&self.log, |view| {
                        view.last_error = reason;
                        view.served_by = None;
                    });
                    true
                }
                End::Distrusted(reason) => {
                    warn!(holder = ?holder, %reason, "A holder sent what cannot be trusted");
                    self.parts.metrics.refused.inc();
                    self.pullers.view(&self.log, |view| {
                        view.last_error = reason;
                        view.served_by = None;
                    });
                    true
                }
            };
            if own && failed {
                // A department that is away is not waited for; it is asked again until it has answered once.
                self.wait(pause).await;
                pause = (pause * 2).min(BACK_OFF_MAX);
                continue;
            }
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

    async fn wait(&self, pause: Duration) {
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            () = self.wake.notified() => {}
        }
    }

    /// The other nodes of the roster, which may hold this log too.
    fn others(&self) -> Vec<OriginId> {
        let roster = self.parts.roster.current();
        let other = |id: &&OriginId| **id != self.origin && **id != self.parts.origin;
        let known = |id: &&OriginId| !self.pullers.addresses(id).is_empty();
        roster.origins.iter().map(|origin| &origin.id).filter(other).filter(known).cloned().collect()
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
        let mut client = PeerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (requests, receiver) = mpsc::channel(8);
        // What a restored disk has lost lies beyond where it ended, below what has been written since.
        let own = self.origin == self.parts.origin;
        let after = if own { self.parts.own_tails.get(&self.log).copied() } else { self.tail() };
        let start = wire::PullStart {
            origin: self.origin.to_string(),
            lane: record::lane_to_wire(self.log.lane).into(),
            after: after.map(|position| record::position_to_wire(&self.log, &position)),
            credit_bytes: CREDIT.min(CREDIT_BYTES_MAX),
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
            match tokio::time::timeout(CALL_WITHIN, client.poke(wire::PokeRequest {})).await {
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
            last: after.map(|position| position.place()),
        }
        .run(messages)
        .await;
        self.parts.metrics.streams.dec();
        end
    }

    fn channel(&self, holder: &OriginId) -> Result<Channel, String> {
        let addresses = self.pullers.addresses(holder);
        let at = rand::rng().random_range(0..addresses.len().max(1));
        let address = addresses.get(at).ok_or_else(|| format!("no address of {holder} is known"))?;
        self.parts.channels.to(holder, address).map_err(|error| error.to_string())
    }
}

struct InFlight {
    bytes: u32,
    stored: Stored,
    record: wire::Record,
}

/// A record on its way to the disk.
struct Waiting {
    answer: oneshot::Receiver<Stored>,
    done: Option<(u32, wire::Record)>,
}

impl Future for Waiting {
    type Output = InFlight;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<InFlight> {
        let stored = ready!(self.answer.poll_unpin(cx)).unwrap_or(Stored::Failed);
        let (bytes, record) = self.done.take().unwrap_or_default();
        Poll::Ready(InFlight { bytes, stored, record })
    }
}

/// One open stream.
struct Stream<'t> {
    task: &'t Task,
    holder: &'t OriginId,
    by_origin: bool,
    client: PeerServiceClient<Channel>,
    requests: mpsc::Sender<wire::PullRequest>,
    in_flight: FuturesOrdered<Waiting>,
    /// Credit that is durable and not yet given back.
    returned: u32,
    /// The place of the last record that came, or from which the stream began.
    last: Option<(u64, u64)>,
}

impl Stream<'_> {
    async fn run(mut self, mut messages: tonic::Streaming<wire::PullResponse>) -> End {
        let turn = tokio::time::sleep(RELAY_TURN);
        let wake = self.task.wake.notified();
        tokio::pin!(turn, wake);
        let own = self.task.origin == self.task.parts.origin;
        loop {
            let room = self.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                biased;
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if let Some(end) = self.settle(done).await {
                        return end;
                    }
                }
                message = tokio::time::timeout(SILENCE_MAX, messages.message()), if room => {
                    let message = match message {
                        Err(_) => return End::Failed("nothing was heard for 16 s".into()),
                        Ok(Err(status)) => return End::Failed(reason_of(&status)),
                        Ok(Ok(None)) => return End::Failed("the holder closed the stream".into()),
                        Ok(Ok(Some(message))) => message,
                    };
                    let caught_up = matches!(&message.kind, Some(wire::pull_response::Kind::Bookmark(_)));
                    if let Some(end) = self.take(message).await {
                        return end;
                    }
                    if own && caught_up && self.in_flight.is_empty() && self.caught_up() {
                        return End::Recovered;
                    }
                }
                () = &mut turn, if !self.by_origin && !own => return End::InOrder,
                // The origin is back, or has moved.
                () = &mut wake, if !self.by_origin && !own => return End::InOrder,
            }
        }
    }

    fn caught_up(&self) -> bool {
        let seen = self.task.pullers.views.lock().get(&self.task.log).and_then(|view| view.seen);
        seen.is_none_or(|seen| self.last.is_some_and(|last| last >= seen.place()))
    }

    async fn take(&mut self, message: wire::PullResponse) -> Option<End> {
        let parts = &self.task.parts;
        let now = parts.clock.now();
        self.task.pullers.view(&self.task.log, |view| view.heard = Some(now));
        match message.kind {
            Some(wire::pull_response::Kind::Record(record)) => self.record(record).await,
            Some(wire::pull_response::Kind::Bookmark(bookmark)) => self.bookmark(bookmark).await,
            Some(wire::pull_response::Kind::Diverged(diverged)) => {
                let record = diverged.record.unwrap_or_default();
                self.fork(&record, "the holder has another record at our tail").await
            }
            Some(wire::pull_response::Kind::Pruned(_)) => Some(End::Failed("the holder has pruned this log".into())),
            // A newer peer may say what this version does not know.
            None => None,
        }
    }

    async fn record(&mut self, record: wire::Record) -> Option<End> {
        let parts = &self.task.parts;
        let verdict = match parts.verifier.judge(&self.task.log, &record, self.by_origin) {
            Verdict::NeedsRoster(number) => match self.fetch_rosters(number).await {
                Ok(()) => parts.verifier.judge(&self.task.log, &record, self.by_origin),
                // Only the origin may say that its roster is not to be had; a relay may just not have it yet.
                Err(NoRoster::Unknown) if self.by_origin => {
                    parts.verifier.judge_without_roster(&self.task.log, &record, self.by_origin)
                }
                Err(NoRoster::Unknown) => {
                    return Some(End::Distrusted("the holder lacks a roster it serves by".into()));
                }
                Err(NoRoster::Failed(reason)) => return Some(End::Failed(reason)),
            },
            verdict => verdict,
        };
        match verdict {
            Verdict::Append(checked) => {
                let weight = record.header.len() + record.body.as_ref().map_or(0, Bytes::len);
                let bytes = u32::try_from(weight).unwrap_or(u32::MAX);
                self.last = Some((checked.header.epoch, checked.header.seq));
                let answer = parts.pipeline.store(*checked).await;
                self.in_flight.push_back(Waiting { answer, done: Some((bytes, record)) });
                None
            }
            Verdict::NeedsRoster(number) => Some(End::Failed(format!("roster {number} could not be had"))),
            Verdict::Refuse(reason) => Some(End::Distrusted(reason)),
        }
    }

    /// Goes on after the disk has answered for one record.
    async fn settle(&mut self, done: InFlight) -> Option<End> {
        match done.stored {
            Stored::Durable => {
                self.returned = self.returned.saturating_add(done.bytes);
                if self.returned >= CREDIT_STEP || self.in_flight.is_empty() {
                    let credit = wire::PullCredit {
                        credit_bytes: std::mem::take(&mut self.returned),
                        durable: self.task.tail().map(|tail| record::position_to_wire(&self.task.log, &tail)),
                    };
                    let message = wire::PullRequest { kind: Some(wire::pull_request::Kind::Credit(credit)) };
                    if self.requests.send(message).await.is_err() {
                        return Some(End::Failed("the holder closed the stream".into()));
                    }
                }
                None
            }
            Stored::Refused(Refusal::Fork { .. }) => {
                self.fork(&done.record, "the holder has another record at a position held here").await
            }
            Stored::Refused(refusal @ (Refusal::Gap { .. } | Refusal::BadPrevious { .. })) => {
                // Opened again from our tail, the holder shows whether it holds another record there.
                Some(End::Failed(refusal.to_string()))
            }
            Stored::Refused(refusal) => Some(End::Distrusted(refusal.to_string())),
            Stored::Failed => Some(End::Failed("the record could not be stored here".into())),
        }
    }

    /// Two records stand at one position: the other one is kept, if its origin made it.
    async fn fork(&mut self, record: &wire::Record, reason: &str) -> Option<End> {
        let parts = &self.task.parts;
        // Only what the origin's own good key has signed proves anything: a relay must not be able to accuse it.
        if let Ok(header) = parts.verifier.proves(&self.task.log, record) {
            warn!(log = %self.task.log, epoch = header.epoch, seq = header.seq, "A log has forked; evidence is kept");
            parts.metrics.forks.inc();
            self.keep_evidence(record, &header).await;
        }
        Some(End::Distrusted(reason.into()))
    }

    async fn keep_evidence(&self, record: &wire::Record, header: &record::Header) {
        let hash = campanile_log::Hash::of(&record.header);
        let evidence = Evidence {
            log: self.task.log.clone(),
            position: Position { epoch: header.epoch, seq: header.seq, hash },
            header: record.header.clone(),
            body: record.body.clone(),
            signatures: record::signatures_as_stored(&record.signatures),
        };
        self.task.parts.pipeline.evidence(evidence).await;
    }

    async fn bookmark(&mut self, bookmark: wire::Bookmark) -> Option<End> {
        let parts = &self.task.parts;
        let log = &self.task.log;
        let seen = match bookmark.tail.as_ref().map(record::position_from_wire) {
            None => None,
            Some(Ok((named, tail))) if named == *log => Some(tail),
            Some(_) => return Some(End::Distrusted("a bookmark names a position of another log".into())),
        };
        self.task.pullers.view(log, |view| view.seen = seen);
        let behind = seen.is_some_and(|seen| self.task.tail().is_none_or(|held| held.place() < seen.place()));
        let label = OriginLabel { origin: log.origin.to_string(), lane: log.lane.as_str().into() };
        let lag = if behind { self.lag(&bookmark) } else { 0.0 };
        parts.metrics.lag_seconds.get_or_create(&label).set(lag);
        if bookmark.roster > parts.roster.current().number
            && let Err(reason) = self.fetch_rosters(bookmark.roster).await
        {
            debug!(?reason, "A newer roster could not be fetched");
        }
        if let Some(checkpoint) = &bookmark.checkpoint {
            return self.checkpoint(checkpoint).await;
        }
        None
    }

    /// How old our tail is: at least this much of the log is missing here.
    fn lag(&self, bookmark: &wire::Bookmark) -> f64 {
        let theirs = campanile_proto::convert::timestamp_from_wire(bookmark.time.as_ref(), "time").ok();
        let held = self.task.tail().and_then(|tail| {
            let entry = self.task.parts.store.get(&self.task.log, tail.epoch, tail.seq).ok()??;
            record::open_header(&entry.header).ok().map(|header| header.time)
        });
        match (theirs, held) {
            (Some(theirs), Some(held)) => theirs.duration_since(held).as_secs_f64().max(0.0),
            _ => 0.0,
        }
    }

    /// Compares the author's word about its tail with what is held here.
    async fn checkpoint(&mut self, checkpoint: &wire::Checkpoint) -> Option<End> {
        let parts = &self.task.parts;
        let log = &self.task.log;
        let roster = parts.roster.current();
        let tail = checkpoint::open(&roster, &parts.federation, log, checkpoint)?;
        let held = parts.store.get(log, tail.epoch, tail.seq).ok()??;
        if held.position.hash != tail.hash {
            warn!(%log, epoch = tail.epoch, seq = tail.seq, "The author's checkpoint names another record than is held");
            parts.metrics.forks.inc();
            return Some(End::Distrusted("the author's checkpoint contradicts what is held here".into()));
        }
        let bytes: Bytes = checkpoint.encode_to_vec().into();
        if parts.store.checkpoint(log).ok().flatten().as_ref() != Some(&bytes) {
            parts.pipeline.checkpoint(log.clone(), bytes);
        }
        None
    }

    async fn fetch_rosters(&mut self, number: u64) -> Result<(), NoRoster> {
        let from = self.task.parts.roster.current().number;
        if number.saturating_sub(from) > ROSTERS_MAX {
            // Nobody is that far ahead in earnest; its newest tells whether this holder is.
            let newest = self.get_roster(None).await?.number;
            let far = format!("{} is {ROSTERS_MAX} rosters ahead of us", self.holder);
            return Err(if newest < number { NoRoster::Unknown } else { NoRoster::Failed(far) });
        }
        for number in from + 1..=number {
            let response = match self.get_roster(Some(number)).await {
                Err(NoRoster::Unknown) if self.get_roster(None).await?.number >= number => {
                    return Err(NoRoster::Failed(format!("{} does not hold roster {number} any more", self.holder)));
                }
                response => response?,
            };
            let offered = self.task.parts.roster.offer(&response.envelope);
            offered.map_err(|error| NoRoster::Failed(error.to_string()))?;
        }
        Ok(())
    }

    async fn get_roster(&mut self, number: Option<u64>) -> Result<wire::GetRosterResponse, NoRoster> {
        let request = wire::GetRosterRequest { number };
        match tokio::time::timeout(CALL_WITHIN, self.client.get_roster(request)).await {
            Err(_) => Err(NoRoster::Failed("the roster did not come within 5 s".into())),
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => Err(NoRoster::Unknown),
            Ok(Err(status)) => Err(NoRoster::Failed(reason_of(&status))),
            Ok(Ok(response)) => Ok(response.into_inner()),
        }
    }
}

/// Why a roster could not be had from a holder.
#[derive(Debug)]
enum NoRoster {
    /// The holder's newest is an older one: whoever named it made it up.
    Unknown,
    /// It may come later.
    Failed(String),
}

/// A status as one line: what went wrong, with what lies under it.
fn reason_of(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        source = error.source();
    }
    text
}
