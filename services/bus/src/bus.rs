//! A member of the bus: what a node and a gateway share.
//!
//! [`Bus::open`] takes a store, an identity, a roster and a directory, and runs everything between them: the pipeline,
//! the pulling of every other origin's logs, the announcing of this node, the ticks that the rules ask for. The owner
//! adds the services it wants to [`Bus::peer_service`] and serves them with [`crate::transport`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use campanile_alert::classify::Classification;
use campanile_alert::{Alert, Clock, ExerciseId, OriginId, Scope, Severity, Status, Vocabulary, World, vocabulary};
use campanile_discovery::hint::{Hint, Protocol};
use campanile_discovery::members::Members;
use campanile_discovery::roster::RosterHandle;
use campanile_discovery::tls::TlsMaterial;
use campanile_log::{Lane, LogId, Store};
use campanile_proto::bus::v1::peer_service_server::PeerServiceServer;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::checkpoint::Checkpoints;
use crate::count::{self, Uncounted};
use crate::current::Current;
use crate::derive::{Arrival, Derive};
use crate::metrics::Metrics;
use crate::peer_service::Peers;
use crate::pipeline::{self, Haste, PublishError, Published, SigningKeys, StartError, StateChange};
use crate::pull::Pullers;
use crate::record::{Audience, Body, Content, Draft};
use crate::surroundings::{Machine, Surroundings, blocking};
use crate::tails::Tails;
use crate::transport::Standing;
use crate::verify;

mod past;
pub(crate) mod start;
mod ticks;

use past::Past;
use start::{begin_epochs, check_keys};

/// How many entries the background scrub verifies at a time, and how often.
const SCRUB_STEP: usize = 500;
const SCRUB_EVERY: Duration = Duration::from_secs(10);
/// How often what the rules want written at the start is tried again.
const BEGIN_EVERY: Duration = Duration::from_secs(2);

/// What a member is made of.
pub struct Options {
    /// The federation's name.
    pub federation: String,
    /// This node.
    pub origin: OriginId,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The durable store.
    pub store: Arc<dyn Store>,
    /// The rosters.
    pub roster: RosterHandle,
    /// Certificate, key and trust.
    pub material: TlsMaterial,
    /// The keys that sign records.
    pub keys: SigningKeys,
    /// Where nodes find each other.
    pub members: Members,
    /// A token of this installation, kept beside the store: another one under the same name is a second instance.
    pub instance: String,
    /// Where others reach this node, as host:port.
    pub addresses: Vec<String>,
    /// Peers that are known without a directory.
    pub peers: Vec<(OriginId, Vec<String>)>,
    /// The rules, or nothing.
    pub derive: Option<Box<dyn Derive>>,
    /// An operator's word that an empty store has no past, so that none is waited for.
    pub begin_anew: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("bus::Options").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store or its state could not be taken up.
    #[error("failed to take up the store")]
    Start(#[from] StartError),
    /// An epoch could not be begun.
    #[error("failed to begin an epoch")]
    Epoch(#[from] campanile_log::Error),
    /// The roster does not list this node or its keys.
    #[error("{0}")]
    Roster(String),
}

/// Why a submission was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Not admissible, or outside the department's rights.
    #[error(transparent)]
    Refused(#[from] Uncounted),
    /// Its status and exercise do not make a world.
    #[error(transparent)]
    World(#[from] campanile_alert::world::Error),
    /// The pipeline did not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// An alert to be published.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The message.
    pub alert: Arc<Alert>,
    /// The exact bytes of an imported one, and their media type.
    pub original: Option<(bytes::Bytes, String)>,
    /// What it means in the vocabulary.
    pub classification: Classification,
    /// The exercise it belongs to.
    pub exercise: Option<ExerciseId>,
    /// Departments that may read it when it is Restricted or Private.
    pub audience_departments: Vec<String>,
    /// W3C trace context; empty makes one from the alert's identity.
    pub traceparent: String,
}

/// A running member. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    federation: String,
    origin: OriginId,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    roster: RosterHandle,
    material: TlsMaterial,
    vocabulary: &'static Vocabulary,
    keys: Arc<ArcSwap<SigningKeys>>,
    pipeline: pipeline::Handle,
    current: Arc<Mutex<Current>>,
    tails: Arc<Tails>,
    pullers: Arc<Pullers>,
    peers: Peers,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    members: Members,
    /// Where and how we can be reached, as the directory has it from us.
    hint: Mutex<Hint>,
    surroundings: Arc<dyn Surroundings>,
    /// What the rules want written at the start and is not yet.
    opening: tokio::sync::Mutex<Vec<Draft>>,
    /// Nothing of that is left.
    has_begun: AtomicBool,
    /// What is known of our own past.
    past: Mutex<Past>,
    /// Cancelled once that is no longer sought. (It wakes who waits in the order of their coming.)
    decided: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("origin", &self.0.origin).finish_non_exhaustive()
    }
}

impl Bus {
    /// Opens the store's logs, begins an epoch in each of our own, and starts all that runs.
    ///
    /// # Errors
    /// [`OpenError`] when the store cannot be taken up or the roster does not list this node with its keys.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let machine = Arc::new(Machine::new(options.material.clone()));
        Self::open_within(machine, options).await
    }

    /// Opens it in surroundings that are not the machine's own.
    ///
    /// # Errors
    /// [`OpenError`] as for [`Bus::open`].
    pub async fn open_within(surroundings: Arc<dyn Surroundings>, options: Options) -> Result<Self, OpenError> {
        check_keys(&options)?;
        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::default());
        let store = options.store;
        let is_empty =
            Lane::ALL.iter().all(|lane| store.tail(&LogId::new(options.origin.to_string(), *lane)).is_none());
        begin_epochs(store.as_ref(), &options.origin, options.clock.now(), surroundings.as_ref())?;
        let vocabulary = vocabulary::v1();
        let current = Arc::new(Mutex::new(Current::default()));
        let tails = Arc::new(Tails::new(store.as_ref()));
        let keys = Arc::new(ArcSwap::from_pointee(options.keys));
        let (pipeline, opening) = pipeline::start(
            pipeline::Parts {
                federation: options.federation.clone(),
                origin: options.origin.clone(),
                clock: Arc::clone(&options.clock),
                store: Arc::clone(&store),
                roster: options.roster.clone(),
                keys: Arc::clone(&keys),
                derive: options.derive,
                metrics: Arc::clone(&metrics),
                surroundings: Arc::clone(&surroundings),
            },
            Arc::clone(&current),
            Arc::clone(&tails),
        )?;
        let pullers = Pullers::new();
        for (origin, addresses) in options.peers {
            pullers.set_addresses(&origin, addresses);
        }
        let checkpoints = Arc::new(Checkpoints::new(
            options.federation.clone(),
            options.origin.clone(),
            Arc::clone(&options.clock),
            Arc::clone(&keys),
            Arc::clone(&store),
        ));
        let standing = Arc::new(Standing::new(options.material.clone()));
        let peers = Peers {
            store: Arc::clone(&store),
            tails: Arc::clone(&tails),
            roster: options.roster.clone(),
            standing: Arc::clone(&standing),
            clock: Arc::clone(&options.clock),
            checkpoints,
            pullers: Arc::clone(&pullers),
            streams: Peers::stream_bound(),
            stop: stop.clone(),
            surroundings: Arc::clone(&surroundings),
        };
        let past = if is_empty && !options.begin_anew { Past::Sought } else { Past::Known };
        let decided = CancellationToken::new();
        let hint = Hint {
            origin: options.origin.clone(),
            instance: options.instance,
            addresses: options.addresses,
            epoch: None,
            protocol: Protocol { min: PROTOCOL, max: PROTOCOL },
            started: options.clock.now(),
            sinks: None,
        };
        let bus = Self(Arc::new(Inner {
            hint: Mutex::new(hint),
            federation: options.federation,
            origin: options.origin,
            clock: options.clock,
            store,
            roster: options.roster,
            material: options.material,
            vocabulary,
            keys,
            pipeline,
            current,
            tails,
            pullers,
            peers,
            standing,
            metrics,
            members: options.members,
            surroundings,
            opening: tokio::sync::Mutex::new(opening),
            has_begun: AtomicBool::new(false),
            past: Mutex::new(past),
            decided,
            stop,
            tasks: TaskTracker::new(),
        }));
        // What the rules want written stands before anything of others; a node whose disk is empty asks for its own past
        // before that (see `take_up_past`).
        if past == Past::Known {
            bus.begin_or_put_off().await;
            bus.0.decided.cancel();
        }
        bus.announce();
        bus.run();
        Ok(bus)
    }

    fn run(&self) {
        let tasks = &self.0.tasks;
        tasks.spawn(self.clone().follow_roster());
        tasks.spawn(self.clone().follow_members());
        tasks.spawn(self.clone().tick());
        tasks.spawn(self.clone().scrub());
        tasks.close();
    }

    /// Publishes an alert and waits until it is on the disk.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was stored then.
    pub async fn publish(&self, submission: Submission) -> Result<Published, SubmitError> {
        self.ready().await?;
        self.begin().await?;
        let now = self.0.clock.now();
        let Submission { alert, original, classification, exercise, audience_departments, traceparent } = submission;
        World::of(alert.status, exercise.as_ref())?;
        let department = self.0.origin.department();
        let roster = self.0.roster.current();
        self.check_publisher(&roster)?;
        let verdict = count::alert(&roster, department, &alert, &classification, self.0.vocabulary, now);
        let (original, media_type) = original.map_or((None, None), |(bytes, media)| (Some(bytes), Some(media)));
        let scope = alert.scope.unwrap_or(Scope::Private);
        let traceparent = if traceparent.is_empty() { traceparent_of(&alert) } else { traceparent };
        let draft = Draft {
            status: alert.status,
            exercise,
            urgent: is_urgent(&alert),
            audience: Audience { scope, departments: audience_departments },
            body: Body {
                classification,
                causes: Vec::new(),
                cause_count: 0,
                rule: None,
                depth: 0,
                rule_chain: Vec::new(),
                traceparent,
                content: Content::Alert { alert, original, media_type },
            },
        };
        let identity = pipeline::identity_of(department, &draft);
        if let Err(refusal) = verdict {
            // A repetition of what is already on the disk gets its first answer, even after the alert has expired.
            if let Some((key, content)) = &identity
                && let Ok(Some(recorded)) = self.0.store.find(key)
                && recorded.content == *content
            {
                let (log, position) = (recorded.log, recorded.position);
                return Ok(Published { log, position, duplicate: true, arrival: None });
            }
            return Err(refusal.into());
        }
        Ok(self.0.pipeline.publish(draft, identity, Some(roster.number)).await?)
    }

    /// Writes a record that is no alert into our own log.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was stored then.
    pub async fn record(&self, draft: Draft) -> Result<Published, PublishError> {
        self.ready().await?;
        self.begin().await?;
        self.0.pipeline.publish(draft, None, None).await
    }

    /// Writes what the rules want written before anything else of this start, unless it stands: nothing of ours goes in
    /// front of it.
    ///
    /// # Errors
    /// Why it cannot be written now. What can never be written is left out, so that nothing waits for it for ever.
    async fn begin(&self) -> Result<(), PublishError> {
        if self.0.has_begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut opening = self.0.opening.lock().await;
        while let Some(draft) = opening.first() {
            match self.0.pipeline.publish(draft.clone(), None, None).await {
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => tracing::error!(%error, "What the rules want written at the start is left out"),
                Ok(_) => {}
            }
            opening.remove(0);
        }
        self.0.has_begun.store(true, Ordering::Release);
        Ok(())
    }

    /// The same at a start, where nobody waits for it.
    async fn begin_or_put_off(&self) {
        if let Err(error) = self.begin().await {
            warn!(%error, "What the rules want written at the start is put off");
        }
    }

    fn check_publisher(&self, roster: &campanile_discovery::roster::Roster) -> Result<(), Uncounted> {
        let department = self.0.origin.department();
        match roster.publisher(department) {
            Some(publisher) if *publisher == self.0.origin => Ok(()),
            publisher => Err(Uncounted::NotPublisher {
                publisher: publisher.map_or_else(|| "no node".into(), ToString::to_string),
                department: department.clone(),
            }),
        }
    }

    /// Stored records after an arrival number, in order, at most `max`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arrivals(&self, after: u64, max: usize) -> Result<Vec<Arc<Arrival>>, campanile_log::Error> {
        if let Some(arrivals) = self.0.tails.arrivals_after(after, max) {
            return Ok(arrivals);
        }
        let (store, now) = (Arc::clone(&self.0.store), self.0.clock.now());
        let last = *self.changed().borrow();
        let read = blocking(&self.0.surroundings, move || {
            let mut entries = store.arrivals(after, max, 8 << 20)?;
            // What is on the disk and not told yet comes with the next call.
            entries.retain(|entry| entry.arrival <= last);
            let open = |entry| {
                pipeline::reopen(entry, now).map(Arc::new).map_err(|error| campanile_log::Error::Caller(error.into()))
            };
            entries.into_iter().map(open).collect()
        });
        read.await.unwrap_or_else(|error| Err(campanile_log::Error::Caller(error.into())))
    }

    /// The number of the last durable arrival, to read and to wait for.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.tails.last()
    }

    /// Sets or removes state rows of the owner, all or none; keys are kept apart from the bus's own.
    ///
    /// # Errors
    /// [`PublishError`] when the store cannot take them.
    pub async fn put_state(&self, rows: Vec<StateChange>, haste: Haste) -> Result<(), PublishError> {
        let own = |(key, value): StateChange| ([OWNER_PREFIX, &key].concat(), value);
        self.0.pipeline.put(rows.into_iter().map(own).collect(), haste).await
    }

    /// Reads a state row of the owner.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, campanile_log::Error> {
        self.0.store.state(&[OWNER_PREFIX, key].concat())
    }

    /// Reads all state rows of the owner below a prefix, the prefix cut off.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state_rows(&self, prefix: &[u8]) -> Result<Vec<pipeline::StateRow>, campanile_log::Error> {
        pipeline::read_rows(self.0.store.as_ref(), &[OWNER_PREFIX, prefix].concat())
    }

    /// The logs that have forked, each with the first place in doubt; settled forks are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn forks(&self) -> Result<BTreeMap<LogId, (u64, u64)>, campanile_log::Error> {
        Ok(verify::open_forks(&self.0.store.evidence()?, &self.0.roster.current()))
    }

    /// The projection of current alerts. Hold the lock briefly: the pipeline waits for it.
    pub fn current(&self) -> &Mutex<Current> {
        &self.0.current
    }

    /// The federation's name.
    pub fn federation(&self) -> &str {
        &self.0.federation
    }

    /// This node.
    pub fn origin(&self) -> &OriginId {
        &self.0.origin
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The store, for reads.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The rosters.
    pub fn roster(&self) -> &RosterHandle {
        &self.0.roster
    }

    /// The judgement of peers and clients on connections that stay open.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.0.standing
    }

    /// Certificate, key and trust.
    pub fn material(&self) -> &TlsMaterial {
        &self.0.material
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &'static Vocabulary {
        self.0.vocabulary
    }

    /// The pullers, for operators' views and to add addresses.
    pub fn pullers(&self) -> &Arc<Pullers> {
        &self.0.pullers
    }

    /// The members of the federation, and the directory behind them.
    pub fn members(&self) -> &Members {
        &self.0.members
    }

    /// Counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The signing keys in use.
    pub fn keys(&self) -> arc_swap::Guard<Arc<SigningKeys>> {
        self.0.keys.load()
    }

    /// Signs with other keys from the next record on; the roster must list them.
    ///
    /// The registration is signed anew too: once the old key has ended, whoever starts would not believe it.
    pub fn set_keys(&self, keys: SigningKeys) {
        self.0.keys.store(Arc::new(keys));
        self.announce();
    }

    /// The service that peers pull from.
    pub fn peer_service(&self) -> PeerServiceServer<Peers> {
        self.0.peers.clone().into_service()
    }

    /// Becomes true when the disk has failed and the process must end.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.0.pipeline.failed()
    }

    /// Is cancelled when the member ends: streams to peers and clients end with it.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Ends every task and finishes what waits for the disk.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.members.shutdown().await;
        self.0.pipeline.shutdown().await;
        self.0.tasks.wait().await;
    }

    async fn follow_roster(self) {
        let parts = self.pulling();
        let Ok(()) = self.take_up_past(&parts).await else { return };
        let mut changed = self.0.roster.subscribe();
        let mut has_begun = self.begin().await.is_ok();
        loop {
            changed.borrow_and_update();
            self.0.pullers.follow_roster(&parts);
            tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return,
                changed = changed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(BEGIN_EVERY), if !has_begun => has_begun = self.begin().await.is_ok(),
            }
        }
    }

    /// Takes the addresses of the members as the directory tells them; a member it no longer lists keeps its last ones.
    async fn follow_members(self) {
        let mut view = self.0.members.subscribe();
        loop {
            let members = Arc::clone(&view.borrow_and_update());
            for (origin, member) in members.iter().filter(|(origin, _)| **origin != self.0.origin) {
                self.0.pullers.set_addresses(origin, member.hint.addresses.clone());
            }
            tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return,
                changed = view.changed() => if changed.is_err() { return },
            }
        }
    }

    fn announce(&self) {
        let hint = self.0.hint.lock().clone();
        self.0.members.announce(&hint, &self.0.keys.load().live);
    }

    /// Says in the directory, signed, for which exercises this gateway has sinks: notices of others go nowhere. A node
    /// that is no gateway never calls it.
    pub fn state_sinks(&self, exercises: &[ExerciseId]) {
        self.0.hint.lock().sinks = Some(exercises.to_vec());
        self.announce();
    }

    async fn scrub(self) {
        loop {
            tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return,
                () = tokio::time::sleep(SCRUB_EVERY) => {}
            }
            self.0.pipeline.sweep().await;
            let store = Arc::clone(&self.0.store);
            if let Ok(Err(error)) = blocking(&self.0.surroundings, move || store.scrub(SCRUB_STEP)).await {
                tracing::error!(%error, "The scrub found a fault in the store");
            }
        }
    }
}

/// The version of the protocol between nodes.
const PROTOCOL: u32 = 1;
const OWNER_PREFIX: &[u8] = b"owner/";

/// A record of ours that is no alert and follows from nothing.
pub fn plain_draft(status: Status, exercise: Option<ExerciseId>, audience: Audience, content: Content) -> Draft {
    Draft {
        status,
        exercise,
        urgent: false,
        audience,
        body: Body {
            classification: Classification::default(),
            causes: Vec::new(),
            cause_count: 0,
            rule: None,
            depth: 0,
            rule_chain: Vec::new(),
            traceparent: String::new(),
            content,
        },
    }
}

/// True when any info is Severe or Extreme.
pub fn is_urgent(alert: &Alert) -> bool {
    matches!(alert.severity(), Some(Severity::Extreme | Severity::Severe))
}

/// W3C trace context of an alert that starts a trace: derived from its identity, so a replay gives the same.
///
/// Source: W3C Trace Context, `traceparent` version 00.
pub fn traceparent_of(alert: &Alert) -> String {
    let digest = campanile_log::Hash::of(alert.id().to_string().as_bytes()).to_string();
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    format!("00-{}-{}-01", part(0, 32), part(32, 48))
}
