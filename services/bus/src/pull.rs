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
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Clock, OriginId, Timestamp};
use campanile_discovery::roster::RosterHandle;
use campanile_log::{Lane, LogId, Position, Store};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::metrics::Metrics;
use crate::peer_service::CREDIT_BYTES_MAX;
use crate::pipeline;
use crate::record;
use crate::surroundings::{Link, Surroundings, jitter, random_below};
use crate::tails::Tails;
use crate::transport::MESSAGE_BYTES_MAX;
use crate::verify::Verifier;

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
                        biased;
                        () = stop.cancelled() => {}
                        () = task.run() => {}
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
        let pause = pause.mul_f64(jitter(self.parts.surroundings.as_ref()));
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
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
            return_at: None,
            last: after.map(|position| position.place()),
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
