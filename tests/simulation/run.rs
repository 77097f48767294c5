//! One run of one seed: nodes under turmoil, clients and faults drawn from the seed, the ledger beside it all.
//!
//! ```text
//! 0 s ── clients publish, faults come and go ── 16 s ── all is mended ── at most 30 s ── everything is equal
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use campanile_alert::Clock as _;
use campanile_discovery::MemoryHub;
use campanile_log::memory::{Disk, MemoryStore};
use campanile_log::{Entry, LogId, Position, Store as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::etcd::faults::EtcdFaults;
use crate::etcd::{self, Etcd};
use crate::faults::Faults;
use crate::federation::{DEPARTMENTS, OFFICERS};
use crate::governance::Governance;
use crate::ledger::{Acked, Ledger};
use crate::lies::Lies;
use crate::node::{Book, Call, Found, Node, Shared, Wish};
use crate::surroundings::SimClock;
use crate::workload::{FIRE_RULE, State, Workload};
use crate::{closures, decisions};

pub(crate) mod scenarios;

/// How far the run moves at once.
const TICK_MS: u64 = 20;
/// How long faults come.
const FAULTS_MS: u64 = 16_000;
/// How long it may take after the last fault until all nodes hold the same.
const SETTLE_MS: u64 = 30_000;
/// How long nothing may change before the run is over.
const QUIET_MS: u64 = 1_500;
/// How long a client waits for an answer before it asks again.
const PATIENCE_MS: u64 = 8_000;

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) hash: String,
    pub(crate) lines: Vec<String>,
    pub(crate) faults: Vec<String>,
    pub(crate) records: u64,
    pub(crate) closures: usize,
}

/// How two nodes are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Connection {
    #[default]
    Good,
    /// Nothing gets through.
    Cut,
    /// Nothing gets through in one direction.
    OneWay { from: usize, to: usize },
    /// Everything waits, and goes on later.
    Held,
}

/// A run under way.
pub(crate) struct Run {
    pub(crate) sim: turmoil::Sim<'static>,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) chance: StdRng,
    pub(crate) now_ms: u64,
    links: BTreeMap<(usize, usize), Connection>,
    elapsed: Arc<AtomicI64>,
    work: Workload,
    has_envelope: bool,
    is_signed: bool,
}

/// Through which directory the nodes of a run find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Through {
    /// The one in memory, which never fails.
    Memory,
    /// The model etcd, which has faults of its own.
    Etcd,
}

/// Runs a seed from its start to its judgement.
pub(crate) fn run(seed: u64, through: Through) -> Outcome {
    let mut run = Run::drawn(seed, through);
    let panics = crate::panics();
    let (mut faults, mut etcd_faults) = (Faults::default(), EtcdFaults::new(seed));
    let mut next_ms = 1_000;
    while run.now_ms < FAULTS_MS && run.is_sound() {
        if run.now_ms >= next_ms {
            // A client goes by the clock of its own department.
            let clocks: Vec<_> = run.nodes.iter().map(|node| node.clock.now()).collect();
            if run.chance.random_ratio(1, 16) {
                run.cancel_a_closure(clocks[1]);
            } else {
                run.work.next(&mut run.chance, &clocks, run.now_ms);
            }
            next_ms = run.now_ms + run.chance.random_range(100..900);
        }
        faults.turn(&mut run);
        etcd_faults.turn(&mut run);
        run.step();
    }
    faults.mend(&mut run);
    etcd_faults.mend(&mut run);
    run.work.resume(run.now_ms);
    run.settle();
    if crate::panics() > panics {
        run.shared.ledger.fault("a task panicked; see the output".into());
    }
    let store = run.nodes[0].look();
    let outcome = Outcome {
        hash: run.shared.ledger.trace.hash(),
        lines: run.shared.ledger.trace.lines(),
        faults: run.shared.ledger.faults(),
        records: store.last_arrival(),
        closures: closures::count(&run.nodes[1].look()),
    };
    drop(run);
    outcome
}

impl Run {
    /// A run as its seed has it.
    fn drawn(seed: u64, through: Through) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let count = [3, 3, 3, 4, 5, 7][chance.random_range(0..6)];
        let has_newcomer = count > 3 && chance.random_bool(0.5);
        let has_circle = chance.random_ratio(1, 4);
        let has_envelope = chance.random_ratio(3, 4);
        let mut run = Self::through(through, seed, count, has_newcomer, has_circle);
        (run.chance, run.has_envelope) = (chance, has_envelope);
        run
    }

    /// A run of `count` departments; the last of them joins later when there is a newcomer.
    fn new(seed: u64, count: usize, has_newcomer: bool, has_circle: bool) -> Self {
        Self::through(Through::Memory, seed, count, has_newcomer, has_circle)
    }

    fn through(through: Through, seed: u64, count: usize, has_newcomer: bool, has_circle: bool) -> Self {
        let mut sim = turmoil::Builder::new()
            .tick_duration(Duration::from_millis(TICK_MS))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .simulation_duration(Duration::from_secs(3_600))
            .tcp_capacity(4_096)
            .rng_seed(seed)
            .enable_random_order()
            .build();
        let first = &DEPARTMENTS[..count - usize::from(has_newcomer)];
        let governance = Arc::new(parking_lot::Mutex::new(Governance::new(first)));
        let lies = Arc::new(Lies::new(seed));
        let ledger = Arc::new(Ledger::new(Arc::clone(&lies), Arc::clone(&governance)));
        let answers = parking_lot::Mutex::default();
        let directory = match through {
            Through::Memory => Book::Memory(MemoryHub::new()),
            Through::Etcd => Book::Etcd(Etcd::new()),
        };
        let shared = Arc::new(Shared { seed, directory, lies, governance, has_circle, ledger, answers });
        let elapsed = Arc::new(AtomicI64::new(0));
        let nodes: Vec<Arc<Node>> = DEPARTMENTS
            .iter()
            .take(count)
            .enumerate()
            .map(|(index, department)| Node::new(index, department, SimClock::new(Arc::clone(&elapsed)), &shared))
            .collect();
        for node in &nodes[..first.len()] {
            node.configure(shared.governance.lock().roster());
        }
        for node in &nodes {
            let node = Arc::clone(node);
            sim.host(node.department.clone(), move || Arc::clone(&node).run());
        }
        if let Book::Etcd(etcd) = &shared.directory {
            let etcd = Arc::clone(etcd);
            sim.host(etcd::HOST, move || Arc::clone(&etcd).run());
        }
        let work = Workload::default();
        Self {
            sim,
            nodes,
            shared,
            chance: StdRng::seed_from_u64(seed),
            now_ms: 0,
            links: BTreeMap::new(),
            elapsed,
            work,
            has_envelope: true,
            is_signed: false,
        }
    }

    pub(crate) fn note(&self, event: impl std::fmt::Display) {
        self.shared.ledger.trace.note("run", event);
    }

    pub(crate) fn name(&self, at: usize) -> String {
        self.nodes[at].department.clone()
    }

    /// The etcd of the run, which is the host after its nodes; absent where there is none.
    pub(crate) fn etcd(&self) -> Option<Arc<Etcd>> {
        match &self.shared.directory {
            Book::Etcd(etcd) => Some(Arc::clone(etcd)),
            Book::Memory(_) => None,
        }
    }

    /// The name of a host in the network.
    fn host(&self, at: usize) -> &str {
        self.nodes.get(at).map_or(etcd::HOST, |node| &node.department)
    }

    /// The newcomer joins, if there is one that has not.
    pub(crate) fn admit(&mut self, governance: &mut Governance) {
        let Some(at) = (0..self.nodes.len()).find(|at| !self.nodes[*at].has_joined()) else { return };
        let name = self.name(at);
        self.note(format_args!("{name} joins"));
        governance.admit(&name);
        self.nodes[at].configure(governance.roster());
        self.nodes[0].hand_over(&governance.roster());
        self.restart(at);
    }

    /// An officer of edb ends a closure that is in force.
    fn cancel_a_closure(&mut self, now: campanile_alert::Timestamp) {
        let Some(rules) = self.nodes[1].rules() else { return };
        let live: Vec<_> =
            rules.lock().engine.live().into_iter().filter(|live| live.effect.rule == FIRE_RULE).collect();
        if !live.is_empty() {
            let one = &live[self.chance.random_range(0..live.len())];
            self.work.cancel(&one.effect, &one.message, now, self.now_ms);
        }
    }

    fn is_sound(&self) -> bool {
        self.shared.ledger.faults().is_empty()
    }

    /// Lets a little time pass for everybody.
    fn step(&mut self) {
        self.officers();
        self.send();
        self.elapsed.store(i64::try_from(self.now_ms * 1_000).unwrap(), Ordering::SeqCst);
        self.shared.ledger.trace.set_time(self.now_ms);
        if let Err(error) = self.sim.step() {
            self.shared.ledger.fault(format!("a node could not run: {error}"));
        }
        self.now_ms += TICK_MS;
        self.receive();
    }

    /// What people at edb do: sign at the beginning, and answer what they are asked.
    fn officers(&mut self) {
        if !self.now_ms.is_multiple_of(500) {
            return;
        }
        let Some(rules) = self.nodes[1].rules() else { return };
        // A node that died in its first commit has no rule in force yet.
        let digest = rules.lock().engine.rule(FIRE_RULE).map(|rule| rule.digest);
        if let Some(digest) = digest.filter(|_| self.has_envelope && !self.is_signed) {
            self.is_signed = true;
            self.work.sign_envelope(digest, crate::federation::start(), self.now_ms);
        }
        let pending = rules.lock().engine.pending();
        for asked in pending {
            for person in OFFICERS.iter().filter(|person| !asked.approvals.iter().any(|by| by == *person)) {
                self.work.approve(&asked, person, self.now_ms);
            }
        }
    }

    fn send(&mut self) {
        for (at, intent) in self.work.intents.iter_mut().enumerate() {
            let now_ms = self.now_ms;
            match intent.state {
                State::InFlight { since_ms } if now_ms >= since_ms + PATIENCE_MS => {
                    intent.state = State::Waiting { at_ms: now_ms };
                }
                _ => {}
            }
            let State::Waiting { at_ms } = intent.state else { continue };
            if at_ms > now_ms {
                continue;
            }
            let node = &self.nodes[intent.department];
            let call = Call { intent: at, attempt: intent.attempt + 1, wish: intent.wish.clone() };
            if node.call(call) {
                intent.attempt += 1;
                intent.state = State::InFlight { since_ms: now_ms };
                self.shared.ledger.trace.note("run", format_args!("asks {}: {}", node.department, intent.name));
            } else {
                intent.state = State::Waiting { at_ms: now_ms + 200 };
            }
        }
    }

    fn receive(&mut self) {
        let answers = std::mem::take(&mut *self.shared.answers.lock());
        for answer in answers {
            let intent = &mut self.work.intents[answer.intent];
            let (department, ledger) = (self.nodes[intent.department].department.clone(), &self.shared.ledger);
            match answer.result {
                Ok(published) => {
                    let (log, position) = (published.log, published.position);
                    let again = if published.duplicate { " again" } else { "" };
                    ledger.trace.note("run", format_args!("has{again} {}: {log} {position}", intent.name));
                    if intent.contradicts.is_some() && !ledger.is_bereft(&department) {
                        ledger.fault(format!("D1: {} was taken", intent.name));
                    }
                    ledger.acknowledged(Acked { department, id: intent.id(), log, position });
                    intent.state = State::Acked;
                    // What had been said before was lost, and something else stands in its place.
                    if let Some(contradicted) = intent.contradicts {
                        self.work.intents[contradicted].is_late = true;
                    }
                }
                Err(refusal) => {
                    ledger.trace.note("run", format_args!("is refused {}: {}", intent.name, refusal.reason));
                    // An answer to an attempt that was given up says nothing about the one under way.
                    if answer.attempt != intent.attempt || !intent.is_open() {
                        continue;
                    }
                    // What a crash interrupts is asked again, but only alerts can be told from their repetition.
                    if refusal.again && intent.repeats {
                        intent.state = State::Waiting { at_ms: self.now_ms + 500 };
                    } else {
                        let is_alert = matches!(intent.wish, Wish::Publish { .. });
                        let may_be = intent.is_late || self.shared.governance.lock().was_curtailed(&department);
                        if intent.contradicts.is_none() && is_alert && !may_be {
                            ledger.fault(format!("{} was refused: {}", intent.name, refusal.reason));
                        }
                        intent.state = State::Refused(refusal.reason);
                    }
                }
            }
        }
    }

    /// Ends a node's process as a power cut does.
    pub(crate) fn crash(&mut self, at: usize) {
        let node = Arc::clone(&self.nodes[at]);
        self.note(format_args!("crash of {}", node.department));
        self.stop(at);
        self.lost_calls(at);
    }

    /// Does something to a host that the others are not told of: a machine without power closes no connections. (In
    /// which order a runtime drops its tasks is also not the same in every run.)
    fn silently(&mut self, at: usize, change: impl FnOnce(&mut turmoil::Sim<'static>, &str)) {
        let name = self.host(at).to_owned();
        let hosts = self.nodes.len() + usize::from(self.etcd().is_some());
        let others: Vec<usize> = (0..hosts).filter(|other| *other != at).collect();
        for other in &others {
            self.sim.partition(name.as_str(), self.host(*other));
        }
        change(&mut self.sim, &name);
        for other in others {
            let connection = self.link(at, other);
            self.set_link(at, other, connection);
        }
    }

    /// Ends the process of a host, as a power cut does.
    pub(crate) fn stop(&mut self, at: usize) {
        self.silently(at, |sim, name| sim.crash(name));
    }

    /// Starts the process of a host.
    pub(crate) fn begin(&mut self, at: usize) {
        self.silently(at, |sim, name| sim.bounce(name));
    }

    /// How two hosts are connected now.
    fn link(&self, a: usize, b: usize) -> Connection {
        self.links.get(&(a.min(b), a.max(b))).copied().unwrap_or_default()
    }

    /// Connects two hosts in another way.
    pub(crate) fn set_link(&mut self, a: usize, b: usize, connection: Connection) {
        let (first, second) = (self.host(a).to_owned(), self.host(b).to_owned());
        let (first, second) = (first.as_str(), second.as_str());
        self.sim.repair(first, second);
        match connection {
            Connection::Good => self.sim.release(first, second),
            Connection::Cut => self.sim.partition(first, second),
            Connection::OneWay { from, .. } if from == a => self.sim.partition_oneway(first, second),
            Connection::OneWay { .. } => self.sim.partition_oneway(second, first),
            Connection::Held => self.sim.hold(first, second),
        }
        self.links.insert((a.min(b), a.max(b)), connection);
    }

    /// Nobody will answer what this node was asked.
    pub(crate) fn lost_calls(&mut self, at: usize) {
        let node = Arc::clone(&self.nodes[at]);
        node.gone();
        self.shared.answers.lock().retain(|answer| self.work.intents[answer.intent].department != at);
        for intent in self.work.intents.iter_mut().filter(|intent| intent.department == at) {
            if matches!(intent.state, State::InFlight { .. }) {
                let at_ms = self.now_ms + 100;
                // A decision whose outcome is unknown is looked at again and made anew, not repeated blindly.
                intent.state = if intent.repeats { State::Waiting { at_ms } } else { State::Refused("unknown".into()) };
            }
        }
        // What was not synced is lost with the power, and the process has let go of the disk.
        match MemoryStore::open(&node.disk.lock()) {
            Ok(store) => drop(store),
            Err(error) => self.shared.ledger.fault(format!("{} outlived its crash: {error}", node.department)),
        }
        self.shared.ledger.inspect(&node.department, &node.disk.lock());
    }

    /// Takes a node's disk away and puts another in its place, while the node is down.
    pub(crate) fn replace_disk(&mut self, at: usize, disk: Disk) {
        let node = &self.nodes[at];
        let own = crate::federation::origin(&node.department).to_string();
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        let mut held = BTreeSet::new();
        for (_, other) in others {
            let store = other.look();
            for (log, _) in store.logs().into_iter().filter(|(log, _)| *log.origin == *own) {
                let records = store.read(&log, None, usize::MAX, usize::MAX).unwrap();
                held.extend(records.into_iter().map(|entry| (entry.log, entry.position)));
            }
        }
        self.shared.ledger.bereave(&node.department, held);
        *node.disk.lock() = disk;
        self.shared.ledger.write_off(&self.nodes);
    }

    /// Governance ends a key of a department, and hands that to it.
    pub(crate) fn end_key(&self, at: usize, generation: u32) {
        let held: Vec<_> = self.nodes.iter().map(|node| node.look()).collect();
        let (name, mut governance) = (self.name(at), self.shared.governance.lock());
        governance.end_key(&name, crate::federation::live_key(&name, generation).id(), &held);
        self.nodes[at].hand_over(&governance.roster());
    }

    pub(crate) fn restart(&mut self, at: usize) {
        self.note(format_args!("start of {}", self.nodes[at].department));
        self.begin(at);
    }

    /// Runs on until all nodes hold the same and nothing changes any more, and judges the whole.
    fn settle(&mut self) {
        let mended_ms = self.now_ms;
        let (mut quiet_ms, mut before) = (self.now_ms, Vec::new());
        let mut told: Vec<Found> = Vec::new();
        while self.is_sound() {
            self.step();
            for at in 0..self.nodes.len() {
                if self.nodes[at].take_failed() {
                    self.crash(at);
                    self.restart(at);
                }
            }
            if !self.now_ms.is_multiple_of(100) {
                continue;
            }
            let tails = self.tails();
            let open = self.work.intents.iter().filter(|intent| intent.is_open()).count();
            let asked = self.nodes[1].rules().is_none_or(|rules| !rules.lock().engine.pending().is_empty());
            // Rules whose past comes back are weighed when all is here that others hold.
            let waits = |node: &Arc<Node>| {
                node.rules().is_some_and(|rules| rules.lock().engine.due() == Some(campanile_rules::AT_ONCE))
            };
            let recovering = self.nodes.iter().any(waits);
            let newest = self.shared.governance.lock().number();
            let informed = self.nodes.iter().all(|node| node.roster() == Some(newest));
            let proven = self.is_proven();
            let found = self.etcd().is_none() || self.all_found(&told);
            if self.etcd().is_some() {
                told = self.nodes.iter().map(|node| node.ask_found()).collect();
            }
            let equal = informed && proven && found && tails.windows(2).all(|pair| pair[0] == pair[1]);
            if !equal || open > 0 || asked || recovering || tails != before {
                quiet_ms = self.now_ms;
                before = tails;
            }
            if self.now_ms >= quiet_ms + QUIET_MS {
                break;
            }
            if self.now_ms > mended_ms + SETTLE_MS {
                let differing = self.differing();
                self.shared.ledger.fault(format!(
                    "liveness: {SETTLE_MS} ms after the last fault {open} wishes are open, persons are asked: {asked}, rules \
                     wait for their past: {recovering}, all have the newest roster: {informed}, a fork is proven: {proven}, \
                     all are registered and found: {found}, logs differ: {differing}"
                ));
            }
        }
        self.note(format_args!("settled after {} ms", quiet_ms - mended_ms));
        if self.is_sound() {
            self.judge();
        }
    }

    /// Whether every node says that it is registered and that it knows all to be.
    fn all_found(&self, told: &[Found]) -> bool {
        let all: BTreeSet<String> = self.nodes.iter().map(|node| node.department.clone()).collect();
        let has_found = |told: &Found| told.lock().as_ref().is_some_and(|(own, found)| *own && *found == all);
        !told.is_empty() && told.iter().all(has_found)
    }

    /// Whoever holds another branch of a forked log than its author has the proof; nobody needs one when there is none.
    fn is_proven(&self) -> bool {
        let Some(log) = self.shared.lies.forked() else { return true };
        let is_author = |node: &&Arc<Node>| *log.origin == *crate::federation::origin(&node.department).to_string();
        let Some(author) = self.nodes.iter().find(is_author) else { return true };
        !self.nodes.iter().any(|node| self.shared.ledger.lacks_proof(node, author, &log))
    }

    /// What each node holds: the tails of all epochs of all logs, but of one that its author has forked.
    fn tails(&self) -> Vec<Vec<(LogId, Position)>> {
        let forked = self.shared.lies.forked();
        let of = |node: &Arc<Node>| {
            let store = node.look();
            let logs = store.logs().into_iter().map(|(log, _)| log).filter(|log| forked.as_ref() != Some(log));
            logs.flat_map(|log| store.epochs(&log).into_iter().map(move |tail| (log.clone(), tail))).collect()
        };
        self.nodes.iter().map(of).collect()
    }

    fn differing(&self) -> String {
        let mut texts = Vec::new();
        let logs: BTreeSet<LogId> = self.tails().into_iter().flatten().map(|(log, _)| log).collect();
        for log in logs {
            let held: Vec<String> = self
                .nodes
                .iter()
                .map(|node| {
                    let tails: Vec<String> = node.look().epochs(&log).iter().map(ToString::to_string).collect();
                    format!("{} has {}", node.department, tails.join(" "))
                })
                .collect();
            let places: BTreeSet<&str> =
                held.iter().filter_map(|text| text.split_once(" has ")).map(|(_, p)| p).collect();
            if places.len() > 1 {
                texts.push(format!("{log}: {}", held.join(", ")));
            }
        }
        texts.join("; ")
    }

    /// What must hold when all is over: the same bytes everywhere, and for each fire its closures.
    fn judge(&mut self) {
        let ledger = Arc::clone(&self.shared.ledger);
        for node in &self.nodes {
            ledger.inspect(&node.department, &node.disk.lock());
        }
        let forked = self.shared.lies.forked();
        if forked.is_some() {
            self.note(format_args!("{} records of the other branch were served", self.shared.lies.served()));
        }
        self.nodes.iter().for_each(|node| ledger.inspect_evidence(node));
        for owner in &self.nodes {
            let theirs = owner.look();
            let own = crate::federation::origin(&owner.department).to_string();
            let logs = theirs.logs().into_iter().map(|(log, _)| log);
            for log in logs.filter(|log| *log.origin == *own && forked.as_ref() != Some(log)) {
                let records = theirs.read(&log, None, usize::MAX, usize::MAX).unwrap();
                for other in &self.nodes {
                    let copies = other.look().read(&log, None, usize::MAX, usize::MAX).unwrap();
                    let copies_of: BTreeMap<Position, &Entry> =
                        copies.iter().map(|copy| (copy.position, copy)).collect();
                    let same = records.len() == copies.len()
                        && records.iter().all(|record| {
                            // A body that was for others alone is not here; one that is here is the origin's.
                            copies_of.get(&record.position).is_none_or(|copy| {
                                (&record.header, &record.signatures) == (&copy.header, &copy.signatures)
                                    && (copy.body.is_none() || record.body.is_none() || copy.body == record.body)
                            })
                        });
                    if !same {
                        ledger.fault(format!("R1: {log} at {} is not what its origin holds", other.department));
                    }
                }
            }
        }
        ledger.inspect_returned(&self.nodes);
        self.nodes.iter().flat_map(|node| decisions::judge(node)).for_each(|fault| ledger.fault(fault));
        let rules = self.nodes[1].rules();
        let live = rules.map(|rules| rules.lock().engine.live()).unwrap_or_default();
        let in_force = live.into_iter().map(|live| (live.effect.world, live.effect.target)).collect();
        let back = ledger.back(&self.nodes[1].department);
        for fault in closures::judge(&self.nodes[1].look(), &in_force, &back) {
            ledger.fault(fault);
        }
    }
}
