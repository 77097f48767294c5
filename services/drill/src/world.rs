//! The virtual world: every department's node in one process, with a clock, a network and a directory that are made.
//!
//! A discrete-event simulation. What happens next stands in a queue by time; each act may put more there. Nodes have
//! real logs and real engines, and pull from each other, from their own tails on, as nodes do; what is simulated is what
//! lies between them, and people. Chance comes from the seed alone and nothing iterates in an order of its own, so the
//! same scenario, packs and seed give the same bytes.
//!
//! ```text
//! inject ─► node: log + rules, one commit ─► pulls by others ─► their rules ─► … ─► gateway ─► sink
//!                    │ questions                                     every step ─► transcript ─► judge
//!                    ▼
//!                players' scripts
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use campanile_alert::{AlertId, DepartmentId, MessageType, Severity, Timestamp, World};
use campanile_log::{Entry, Hash, Key, LogId, Store as _};

use self::net::Net;
use self::node::{Node, Work};
use self::people::{Asking, Waiting};
use self::record::{Body, Content, Rec, Unsealed};
use self::rng::Rng;
use crate::judge::Judge;
use crate::scenario::Scenario;
use crate::time::Offset;
use crate::transcript::{Header, Record, Run, Transcript, What};
use crate::verdict::Verdict;

mod bench;
mod day;
mod faults;
mod gateway;
mod injects;
mod net;
mod node;
mod people;
mod record;
mod rng;
mod variants;

pub use bench::{Bench, Seat};
pub use day::day;
pub use variants::play_all;

/// The most acts of one run: one that does not come to rest is an error, not a stall.
const ACTS_MAX: u64 = 20_000_000;

/// How much longer nodes may pull from each other after the end, so that what was said last is everywhere.
const SETTLE_MS: i64 = 30_000;

/// How long a real alert has to reach the gateways after a drill has stopped itself.
const FREEZE_MS: i64 = 5_000;

/// How long a node whose disk is full waits before it tries again.
const FULL_AGAIN_MS: i64 = 5_000;

/// Why a run could not be played. A drill that fails is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store of a node.
    #[error("a node's log failed")]
    Store(#[from] campanile_log::Error),
    /// The engine of a node.
    #[error("a node's rules cannot be evaluated")]
    Engine(#[from] campanile_rules::Error),
    /// A name of the scenario that is none.
    #[error(transparent)]
    Name(#[from] campanile_alert::ids::Error),
    /// A stored record that does not read back.
    #[error("a record of {0} cannot be read back from the log")]
    Record(String),
    /// A node that is not running was asked to commit.
    #[error("{0}'s node is down")]
    Down(String),
    /// A pack of a variant.
    #[error("a variant's packs cannot be read: {0}")]
    Pack(String),
    /// It does not come to rest.
    #[error("the run does not come to rest within {ACTS_MAX} steps")]
    Restless,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Played {
    /// What was seen.
    pub transcript: Transcript,
    /// What it came to.
    pub verdict: Verdict,
}

/// Plays a checked scenario once, without its variants. `seed` decides everything that is left to chance.
///
/// # Errors
/// [`Error`] when it cannot be played at all.
pub fn play(scenario: &Scenario, bench: &Bench, seed: u64) -> Result<Played, Error> {
    let digest = hex::encode(scenario.digest());
    Federation::new(scenario, bench, seed, digest, None)?.run()
}

/// What happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Inject(usize),
    Publish { inject: String, copy: u32 },
    Again { inject: String },
    Pull { to: DepartmentId, from: DepartmentId, log: LogId },
    Tick(DepartmentId),
    FaultBegins(usize),
    FaultEnds(usize),
    NotHeard { at: DepartmentId, from: DepartmentId, since: i64 },
    React { role: String, reaction: usize, to: Waiting },
}

/// The federation in virtual time.
struct Federation<'a> {
    scenario: &'a Scenario,
    bench: &'a Bench,
    start: Timestamp,
    world: World,
    rng: Rng,
    now: i64,
    end: i64,
    queue: BTreeMap<(i64, u64), Act>,
    number: u64,
    nodes: BTreeMap<DepartmentId, Node>,
    net: Net,
    /// The faults that last, by their place in the scenario.
    lasting: BTreeSet<usize>,
    /// Pulls that are on their way.
    pulls: BTreeSet<(DepartmentId, DepartmentId, LogId)>,
    /// Since when a node does not hear a department.
    deaf: BTreeMap<(DepartmentId, DepartmentId), i64>,
    /// What a node has told its people not to hear.
    stale: BTreeSet<(DepartmentId, DepartmentId)>,
    /// What injects have said, by the inject that began it.
    said: BTreeMap<String, Vec<injects::Said>>,
    /// The inject that began what an inject goes on with.
    roots: BTreeMap<String, String>,
    asked: BTreeMap<(DepartmentId, String), Asking>,
    reviews: BTreeSet<(DepartmentId, campanile_rules::EffectKey)>,
    /// Records that were read before, by their hash: what was read once is not read again at each node.
    read: HashMap<Hash, Arc<Rec>>,
    /// Messages that were shown whole.
    shown: HashSet<AlertId>,
    frozen: bool,
    transcript: Transcript,
    judge: Judge,
}

impl<'a> Federation<'a> {
    fn new(
        scenario: &'a Scenario,
        bench: &'a Bench,
        seed: u64,
        digest: String,
        variant: Option<String>,
    ) -> Result<Self, Error> {
        let start = scenario.clock.start.instant();
        let header = Header {
            drill: scenario.drill.clone(),
            scenario: digest,
            packs: bench.digests(),
            seed,
            run: Run::Virtual,
            start,
            variant,
        };
        let mut nodes = BTreeMap::new();
        for (department, node) in &scenario.cast.nodes {
            let id = DepartmentId::try_new(department.as_str())?;
            nodes.insert(id.clone(), Node::new(id, node.kind(), bench.seat(department)));
        }
        Ok(Self {
            scenario,
            bench,
            start,
            world: World::Exercise(scenario.mode.exercise_id.clone()),
            rng: Rng::new(seed),
            now: 0,
            end: scenario.end().ms(),
            queue: BTreeMap::new(),
            number: 0,
            nodes,
            net: Net::default(),
            lasting: BTreeSet::new(),
            pulls: BTreeSet::new(),
            deaf: BTreeMap::new(),
            stale: BTreeSet::new(),
            said: BTreeMap::new(),
            roots: BTreeMap::new(),
            asked: BTreeMap::new(),
            reviews: BTreeSet::new(),
            read: HashMap::new(),
            shown: HashSet::new(),
            frozen: false,
            transcript: Transcript::new(header),
            judge: Judge::new(scenario),
        })
    }

    fn run(mut self) -> Result<Played, Error> {
        self.open()?;
        for _ in 0..ACTS_MAX {
            let Some(((at, _), act)) = self.queue.pop_first().filter(|((at, _), _)| *at <= self.end) else {
                return self.close();
            };
            self.now = at;
            self.act(act)?;
        }
        Err(Error::Restless)
    }

    /// Starts the nodes, signs what the cast says is signed, and puts what the scenario brings into the queue.
    fn open(&mut self) -> Result<(), Error> {
        let ids: Vec<DepartmentId> = self.nodes.keys().cloned().collect();
        for id in &ids {
            self.start_node(id)?;
        }
        for id in &ids {
            self.sign(id)?;
        }
        for (index, inject) in self.scenario.injects.iter().enumerate() {
            if let Some(at) = inject.at {
                self.later(at.ms(), Act::Inject(index));
            }
        }
        for (index, fault) in self.scenario.faults.iter().enumerate() {
            self.later(fault.at.ms(), Act::FaultBegins(index));
        }
        Ok(())
    }

    fn start_node(&mut self, id: &DepartmentId) -> Result<(), Error> {
        let random = self.rng.next();
        let now = self.clock_of(id);
        let Some(node) = self.nodes.get_mut(id) else { return Ok(()) };
        node.start(now, random)?;
        self.wake(id);
        Ok(())
    }

    /// The envelopes that are signed when the drill begins.
    fn sign(&mut self, id: &DepartmentId) -> Result<(), Error> {
        let seat = self.bench.seat(id.as_str());
        let day = jiff::SignedDuration::from_hours(24);
        for rule in &seat.envelopes {
            let Some((digest, signers)) = seat.signers(rule) else { continue };
            let (from, to) = (self.start - day, self.start + day * 365);
            let envelope = campanile_rules::Envelope { rule: rule.clone(), digest, signers, from, to };
            self.publish(id, self.world.clone(), Body::plain(Content::Envelope(envelope)), None)?;
        }
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<(), Error> {
        match act {
            Act::Inject(index) => self.inject(index),
            Act::Publish { inject, copy } => self.publish_inject(&inject, copy),
            Act::Again { inject } => self.publish_again(&inject),
            Act::Pull { to, from, log } => self.pull(&to, &from, &log),
            Act::Tick(node) => self.tick(&node),
            Act::FaultBegins(index) => self.fault_begins(index),
            Act::FaultEnds(index) => self.fault_ends(index),
            Act::NotHeard { at, from, since } => {
                self.not_heard(&at, &from, since);
                Ok(())
            }
            Act::React { role, reaction, to } => self.react(&role, reaction, &to),
        }
    }

    /// Lets the pulls that are on their way arrive, compares what the nodes hold, and judges.
    fn close(mut self) -> Result<Played, Error> {
        let (end, settled) = (self.end, self.end + SETTLE_MS);
        self.queue.retain(|_, act| matches!(act, Act::Pull { .. }));
        for _ in 0..ACTS_MAX {
            let Some(((at, _), Act::Pull { to, from, log })) = self.queue.pop_first() else { break };
            if at > settled {
                break;
            }
            self.now = at;
            self.pull(&to, &from, &log)?;
            self.queue.retain(|_, act| matches!(act, Act::Pull { .. }));
        }
        self.now = end;
        let nodes: Vec<DepartmentId> = self.nodes.keys().cloned().collect();
        for id in nodes {
            let Some(store) = self.nodes.get(&id).and_then(Node::store) else { continue };
            let logs = store.logs();
            let tails: Vec<String> = logs.iter().map(|(log, tail)| format!("{log} {tail} {}", tail.hash)).collect();
            let records = store.last_arrival();
            let digest = campanile_log::Hash::of(tails.join("\n").as_bytes()).to_string();
            self.emit(Some(&id), What::Digest { records, digest });
        }
        self.emit(None, What::Ended);
        let digest = self.transcript.digest();
        let verdict = self.judge.finish(&self.transcript.header, digest);
        Ok(Played { transcript: self.transcript, verdict })
    }

    /// Writes an event into the transcript, and shows it to the judge.
    fn emit(&mut self, node: Option<&DepartmentId>, what: What) {
        let at = Offset::from_ms(self.now.min(self.end));
        if let Some(event) = self.transcript.add(at, node.cloned(), what) {
            self.judge.observe(event);
        }
    }

    fn later(&mut self, at: i64, act: Act) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), act);
    }

    /// What a node's own clock shows.
    fn clock_of(&self, id: &DepartmentId) -> Timestamp {
        let skew = self.nodes.get(id).map_or(0, |node| node.skew_ms);
        let ms = jiff::SignedDuration::from_millis(self.now.saturating_add(skew));
        self.start.checked_add(ms).unwrap_or(Timestamp::MAX)
    }

    /// A node publishes a record of its own. Answers how many were already there.
    fn publish(&mut self, id: &DepartmentId, world: World, body: Body, key: Option<Key>) -> Result<usize, Error> {
        self.commit(id, vec![Work::Own(Box::new(Unsealed { world, body }), key)]).map(|(repeated, _)| repeated)
    }

    /// A node commits; what is new is shown, handed to channels and pulled by others. Answers how many of its own were
    /// already there, and whether something did not fit yet.
    fn commit(&mut self, id: &DepartmentId, work: Vec<Work>) -> Result<(usize, bool), Error> {
        let now = self.clock_of(id);
        let Some(node) = self.nodes.get_mut(id) else { return Ok((0, false)) };
        let done = node.commit(work, now)?;
        let mut logs = BTreeSet::new();
        for (entry, rec) in &done.stored {
            logs.insert(entry.log.clone());
            self.read.entry(rec.hash).or_insert_with(|| Arc::clone(rec));
            self.show(id, entry, rec);
        }
        for log in &logs {
            self.notify(id, log);
        }
        if done.asks {
            self.look_at_questions(id);
        }
        self.wake(id);
        for (_, rec) in &done.stored {
            self.hand_over(id, rec)?;
        }
        Ok((done.repeated, done.gap))
    }

    /// Shows a record in the transcript, when it is an alert.
    fn show(&mut self, id: &DepartmentId, entry: &Entry, rec: &Arc<Rec>) {
        let Some(alert) = rec.alert() else { return };
        let name = alert.id();
        if !self.shown.insert(name.clone()) {
            return self.emit(Some(id), What::Seen { id: name.to_string() });
        }
        let Content::Alert(_, words) = &rec.body.content else { return };
        let effect = rec.body.effect.as_ref();
        let clear =
            |info: &campanile_alert::Info| info.response_types.contains(&campanile_alert::ResponseType::AllClear);
        let record = Record {
            id: name.to_string(),
            position: format!("{}:{}:{}", entry.log, entry.position.epoch, entry.position.seq),
            from: rec.department().map(|own| own.to_string()).unwrap_or_default(),
            msg_type: Some(alert.msg_type),
            status: Some(alert.status),
            exercise: rec.header.exercise.as_ref().map(|exercise| exercise.as_str().into()),
            event: words.event.clone(),
            inject: rec.body.inject.clone(),
            rule: effect.map(|effect| effect.rule.clone()),
            target: effect.map(|effect| effect.target.clone()),
            kinds: rec.body.kinds.clone(),
            signal: words.signal.clone(),
            level: words.level,
            severity: alert.infos.iter().map(|info| info.severity).min(),
            headlines: alert.infos.iter().filter_map(|info| info.headline.clone()).collect(),
            expires: alert.expires().map(|at| at.as_millisecond() - self.start.as_millisecond()),
            all_clear: alert.msg_type == MessageType::Update
                && !alert.infos.is_empty()
                && alert.infos.iter().all(clear),
            references: alert.referenced().iter().map(ToString::to_string).collect(),
            causes: rec.body.causes.iter().map(ToString::to_string).collect(),
            depth: rec.body.depth,
        };
        let real = rec.world() == Some(World::Actual)
            && matches!(alert.msg_type, MessageType::Alert | MessageType::Update)
            && alert.infos.iter().any(|info| matches!(info.severity, Severity::Extreme | Severity::Severe));
        self.emit(Some(id), What::Record(Box::new(record)));
        if real && !self.frozen {
            self.freeze(id, &name);
        }
    }

    /// Something real has come: the drill plays nothing more, and says so.
    fn freeze(&mut self, id: &DepartmentId, record: &AlertId) {
        self.frozen = true;
        self.queue.retain(|_, act| {
            !matches!(act, Act::Inject(_) | Act::Publish { .. } | Act::Again { .. } | Act::React { .. })
        });
        self.end = self.end.min(self.now + FREEZE_MS);
        let why = format!("REAL ALERT of {id}: the exercise has stopped");
        self.emit(None, What::Frozen { record: record.to_string(), why });
    }

    /// Sets a node's alarm for the moment that its rules wait for.
    fn wake(&mut self, id: &DepartmentId) {
        let (start, now) = (self.start, self.now);
        let Some(node) = self.nodes.get_mut(id) else { return };
        let Some(due) = node.engine().and_then(campanile_rules::Engine::due) else { return };
        // To the next whole millisecond: an alarm before its time would have to be set again.
        let due_ms = due.duration_since(start).as_nanos().div_euclid(1_000_000) + 1;
        let at = i64::try_from(due_ms).unwrap_or(i64::MAX).saturating_sub(node.skew_ms).max(now + 1);
        if at <= self.end && node.tick_at.is_none_or(|set| set > at) {
            node.tick_at = Some(at);
            self.later(at, Act::Tick(id.clone()));
        }
    }

    fn tick(&mut self, id: &DepartmentId) -> Result<(), Error> {
        let (now, clock) = (self.now, self.clock_of(id));
        let Some(node) = self.nodes.get_mut(id) else { return Ok(()) };
        if node.tick_at != Some(now) || !node.is_up() {
            return Ok(());
        }
        if node.disk_full {
            node.tick_at = Some(now + FULL_AGAIN_MS);
            self.later(now + FULL_AGAIN_MS, Act::Tick(id.clone()));
            return Ok(());
        }
        node.tick_at = None;
        // The moment itself, not when it is written down: who was heard comes just before it.
        let Some(at) = node.engine().and_then(campanile_rules::Engine::due).filter(|due| *due <= clock) else {
            self.wake(id);
            return Ok(());
        };
        let heard = self.nodes.keys().filter(|other| *other != id && self.hears(id, other)).cloned().collect();
        self.publish(id, World::System, Body::plain(Content::Tick { at, heard }), None)?;
        Ok(())
    }
}
