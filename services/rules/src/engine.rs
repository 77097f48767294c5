//! The engine: evaluates the packs of one department over its inputs, one after another.
//!
//! It keeps truths, it does not fire events. A rule and a cause that match are a *candidate*; a candidate that is
//! allowed (inside a signed envelope, by persons, or because the rule asks nobody) makes *effects*, one for each target;
//! an effect stays while a cause supports it. Every input goes through the same steps:
//!
//! ```text
//! input ──► timers that are due ──► what the input says ──► settle ──► effects, rows, sentences
//!           (hold, linger, max,      (cause comes, changes,   (one message for each effect
//!            deadline, expiry)        ends; person answers)     whose causes changed)
//! ```
//!
//! `matching` is about causes and conditions, `permit` about who allows, `person` about what persons do, `truth` about
//! how effects live and end, `message` about what is published, `state` about what is remembered, `adopt` about effects
//! that come back after a disk was lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use campanile_alert::{AlertId, DepartmentId, Timestamp, Vocabulary, World, vocabulary};
use jiff::civil::Date;

use self::state::{CandidateKey, Lineage, State};
use crate::calendar::Schedule;
use crate::{
    Classification, DataSet, DataSets, Decision, Effect, EffectKey, Fault, Input, InputKind, Manifest, Outcome, Pack,
    Rule, RuleRef, Sentence, StateRow, Suppression, Verdict, check_federation,
};

mod absence;
mod adopt;
mod facts;
mod giving_way;
mod matching;
mod message;
mod permit;
mod person;
mod rows;
mod state;
mod truth;
mod views;

pub use adopt::Issued;
pub(crate) use message::PLACEHOLDERS;

/// What an engine is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// CAP `sender` of the effects, for example `edb@campanile.hk-dev`; no spaces, commas, `<` or `&`.
    pub sender: String,
}

/// Why an engine could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pack of another department.
    #[error("pack {pack} belongs to {owner}, not to {department}; only its owner's node evaluates it")]
    Owner {
        /// The pack.
        pack: String,
        /// Its owner.
        owner: DepartmentId,
        /// The engine's department.
        department: DepartmentId,
    },
    /// A pack that reads a data set which was not given.
    #[error("pack {pack} reads data set {data}, which was not loaded; load {file}")]
    Data {
        /// The pack.
        pack: String,
        /// The data set's name.
        data: String,
        /// The file that the pack names.
        file: String,
    },
    /// Packs that trigger each other in a circle, or two rules of one id.
    #[error("the packs cannot be active together")]
    Federation(#[source] Fault),
    /// A row of state that this release does not understand.
    #[error("state row {key:?} cannot be read; it was written by another release or is damaged")]
    Row {
        /// The row's key, as text.
        key: String,
    },
}

/// A tick is wanted as soon as all is here that others hold.
pub const AT_ONCE: Timestamp = Timestamp::UNIX_EPOCH;

/// A rule at work, with what every effect of it names.
#[derive(Debug)]
struct Active {
    rule: Rule,
    reference: RuleRef,
    utc_offset_minutes: i32,
    /// What it says of a cause that concerns none of its targets: written once, since most causes concern none.
    nothing_near: Sentence,
    frame: Arc<Frame>,
}

/// What the rules of a pack share.
#[derive(Debug)]
struct Frame {
    schedule: Schedule,
    /// The days on which no session is held.
    free: BTreeSet<Date>,
    kinds: BTreeMap<String, Sentence>,
    params: BTreeMap<String, u32>,
}

/// The rules of one department at work. A copy costs little: it shares what both remember until one of them changes it.
#[derive(Debug, Clone)]
pub struct Engine {
    department: DepartmentId,
    options: Options,
    data: DataSets,
    vocabulary: &'static Vocabulary,
    manifests: Vec<Manifest>,
    rules: BTreeMap<String, Arc<Active>>,
    /// Which of the department's effects give way to which.
    suppressions: Vec<Suppression>,
    /// The ids of the rules that issue an event.
    issuers: BTreeMap<String, Vec<String>>,
    /// The departments whose silence a rule waits for.
    listened: BTreeSet<DepartmentId>,
    /// The ids of the rules that wait for an event.
    waiting: BTreeMap<String, Arc<BTreeSet<String>>>,
    /// Events that a conflict may need: the antonyms of what the rules issue.
    watched: BTreeSet<String>,
    /// The known causes of such events.
    against: BTreeSet<Lineage>,
    state: State,
    /// Which cause an update belongs to; the first message of a cause is its own name.
    lineages: HashMap<Lineage, Lineage>,
    /// Which effect a message of ours belongs to.
    messages: HashMap<AlertId, EffectKey>,
}

impl Engine {
    /// Makes an engine without memory; [`Engine::restore`] gives it one.
    ///
    /// # Errors
    /// [`Error`] when a pack belongs to another department or reads a data set that was not given, or when the packs
    /// among themselves have a circle, a chain beyond the limit or one rule id twice.
    pub fn new(department: DepartmentId, packs: Vec<Pack>, data: DataSets, options: Options) -> Result<Self, Error> {
        let vocabulary = vocabulary::v1();
        let manifests: Vec<Manifest> = packs.iter().map(Pack::manifest).collect();
        if let Some(fault) = check_federation(&manifests).into_iter().next() {
            return Err(Error::Federation(fault));
        }
        let (mut rules, mut suppressions) = (BTreeMap::new(), Vec::new());
        for pack in packs {
            if pack.owner != department {
                return Err(Error::Owner { pack: pack.name, owner: pack.owner, department });
            }
            let mut digests = BTreeMap::new();
            for (name, reference) in &pack.data {
                let missing =
                    || Error::Data { pack: pack.name.clone(), data: name.clone(), file: reference.file.clone() };
                digests.insert(name, data.get(name).ok_or_else(missing)?.digest);
            }
            let calendar = pack.schedule.calendar.clone();
            let free = calendar.iter().filter_map(|name| data.get(name)).flat_map(DataSet::sites);
            let free = free.filter_map(|site| site.key.parse().ok()).collect();
            let frame = Arc::new(Frame { schedule: pack.schedule, free, kinds: pack.kinds, params: pack.params });
            suppressions.extend(pack.suppressions);
            for rule in pack.rules {
                let calendar = calendar.iter().filter(|_| rule.table.is_some() || rule.only_if.is_some());
                let read: BTreeSet<&String> = rule.pick.iter().map(|pick| &pick.targets).chain(calendar).collect();
                let read = read.into_iter().filter_map(|name| Some((name.clone(), *digests.get(name)?))).collect();
                let reference =
                    RuleRef { id: rule.id.clone(), pack: pack.name.clone(), digest: pack.digest, data: read };
                let frame = Arc::clone(&frame);
                let nothing_near = rule.pick.as_ref().map(matching::nothing_picked).unwrap_or_default();
                let utc_offset_minutes = pack.utc_offset_minutes;
                let active = Active { rule, reference, utc_offset_minutes, nothing_near, frame };
                rules.insert(active.rule.id.clone(), Arc::new(active));
            }
        }
        let mut waiting: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut watched = BTreeSet::new();
        let (mut issuers, mut listened) = (BTreeMap::<String, Vec<String>>::new(), BTreeSet::new());
        for (id, active) in &rules {
            for issue in active.rule.issues() {
                issuers.entry(issue.into()).or_default().push(id.clone());
            }
            listened.extend(active.rule.absent.iter().flat_map(|absent| absent.from.iter().cloned()));
            waiting.entry(active.rule.cause.event.clone()).or_default().insert(id.clone());
            let issued = active.rule.issues().into_iter().filter_map(|issue| vocabulary.event(issue));
            watched.extend(issued.flat_map(|event| event.antonyms.iter().cloned()));
        }
        let state = State::default();
        let (lineages, messages) = (HashMap::new(), HashMap::new());
        Ok(Self {
            department,
            options,
            data,
            vocabulary,
            manifests,
            rules,
            suppressions,
            issuers,
            listened,
            waiting: waiting.into_iter().map(|(event, rules)| (event, Arc::new(rules))).collect(),
            watched,
            against: BTreeSet::new(),
            state,
            lineages,
            messages,
        })
    }

    /// Takes back the rows that earlier outcomes asked to store, in any order.
    ///
    /// # Errors
    /// [`Error::Row`] when a row cannot be read; the engine must not be used then, since it would have forgotten
    /// effects in force.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<(), Error> {
        for (key, value) in rows {
            let unreadable = || Error::Row { key: String::from_utf8_lossy(&key).into_owned() };
            self.state.read(&key, &value).ok_or_else(unreadable)?;
        }
        for (lineage, known) in self.state.known.rows() {
            self.lineages.extend(updates_of(lineage, &known.ids).map(|update| (update, lineage.clone())));
            if self.watched.contains(&known.event) {
                self.against.insert(lineage.clone());
            }
        }
        for (key, effect) in self.state.effects.rows() {
            self.messages.extend(effect.messages.iter().map(|(id, _)| (id.clone(), key.clone())));
        }
        self.restore_returned();
        Ok(())
    }

    /// All that it remembers, as its outcomes asked to store it: [`Engine::restore`] of another engine takes it over. In
    /// the order of the keys, each once.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.state.all()
    }

    /// Whether it remembers nothing at all, as before its first input.
    pub fn is_blank(&self) -> bool {
        self.state.is_blank()
    }

    /// Evaluates one input. Inputs come in the order in which they were stored, each once.
    ///
    /// The outcome's effects are published and its rows stored in the same commit as the input.
    pub fn apply(&mut self, input: &Input<'_>) -> Outcome {
        let outcome = self.try_out(input);
        Outcome { state: self.unwritten(), ..outcome }
    }

    /// Takes the rows that changed and were in no outcome yet, each key once, in the order of the keys.
    pub fn unwritten(&mut self) -> Vec<StateRow> {
        self.state.drain()
    }

    /// Evaluates one input as [`Engine::apply`] does, for a caller that stores nothing: the outcome has no rows. Those
    /// that changed stay behind for [`Engine::unwritten`] or the next [`Engine::apply`].
    pub fn try_out(&mut self, input: &Input<'_>) -> Outcome {
        let mut step = Step::new(input, self.state.now());
        if self.state.now() != Some(step.now) {
            self.state.time.put((), step.now);
        }
        self.hear(input, &step);
        match &input.kind {
            InputKind::Tick { .. } if self.is_recovering() => {
                self.settle_past(&mut step);
                self.run_timers(&mut step);
            }
            _ if self.is_recovering() => {}
            _ => self.run_timers(&mut step),
        }
        match &input.kind {
            InputKind::Tick { .. } => {}
            InputKind::Alert { alert, classification } => self.alert(input, alert, classification, &mut step),
            InputKind::Approval(approval) => self.answer(input, approval, &mut step),
            InputKind::Pause { rule, reason, until, by } => {
                self.pause(input, rule, reason, *until, by, &mut step);
            }
            InputKind::Resume { rule, by } => self.resume(input, rule, by, &mut step),
            InputKind::Notice { areas } => self.notice(input, areas, &mut step),
            InputKind::Heard => {}
            InputKind::Envelope(envelope) => self.open_envelope(input, envelope, &mut step),
        }
        self.settle(&mut step);
        Outcome { effects: step.effects, state: Vec::new(), notes: step.notes, used: step.used }
    }

    /// The next instant at which [`InputKind::Tick`] is wanted; `None` when nothing waits for time to pass. It may lie
    /// in the past, when something fell due between two inputs; it is [`AT_ONCE`] after [`Engine::take_back`] and
    /// [`Engine::wait_for_tick`].
    pub fn due(&self) -> Option<Timestamp> {
        if self.is_recovering() { Some(AT_ONCE) } else { self.state.due() }
    }

    /// The department whose rules these are.
    pub fn department(&self) -> &DepartmentId {
        &self.department
    }

    /// The public summaries of its packs, to be published as records and given to [`check_federation`].
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The rule of that id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id).map(|active| &active.rule)
    }

    /// The exact versions that a rule's effects name: its pack and data sets by digest.
    pub fn reference(&self, id: &str) -> Option<&RuleRef> {
        self.rules.get(id).map(|active| &active.reference)
    }

    /// The English names of a rule's targets, in the order given; a key that its data set does not know stands for
    /// itself.
    pub fn target_names(&self, rule: &str, targets: &[String]) -> Vec<String> {
        let pick = self.rule(rule).and_then(|rule| rule.pick.as_ref());
        let data = pick.and_then(|pick| self.data.get(&pick.targets));
        let name = |key: &String| data.and_then(|data| data.site(key)).map(|site| site.name("en").to_owned());
        targets.iter().map(|key| name(key).unwrap_or_else(|| key.clone())).collect()
    }

    /// The rules, in the order of their ids.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|active| &active.rule)
    }

    fn run_timers(&mut self, step: &mut Step) {
        // Each turn takes a timer away or sets it later, so the number of rows bounds the loop; the limit is a backstop.
        for _ in 0..1_000_000 {
            let now = step.now;
            let pause = self.state.pauses.due(now).map(|(at, key)| (at, Timer::Pause(key)));
            let known = self.state.known.due(now).map(|(at, key)| (at, Timer::Known(key)));
            let candidate = self.state.candidates.due(now).map(|(at, key)| (at, Timer::Candidate(key)));
            let effect = self.state.effects.due(now).map(|(at, key)| (at, Timer::Effect(key)));
            let ended = self.state.ended.due(now).map(|(at, key)| (at, Timer::Ended(key)));
            let notice = self.state.notices.due(now).map(|(at, key)| (at, Timer::Notice(key)));
            let next = [pause, known, candidate, effect, ended, notice].into_iter().flatten();
            let Some((_, timer)) = next.min_by_key(|(at, _)| *at) else { return };
            match timer {
                Timer::Pause(key) => self.end_pause(&key, step),
                Timer::Known(lineage) => self.expire_cause(&lineage, step),
                Timer::Candidate(key) => self.candidate_timer(&key, step),
                Timer::Effect(key) => self.effect_timer(&key, step),
                Timer::Ended(message) => {
                    self.state.ended.remove(&message);
                }
                Timer::Notice(key) => {
                    self.state.notices.remove(&key);
                }
            }
        }
    }
}

enum Timer {
    Pause(state::RuleIn),
    Known(Lineage),
    Candidate(CandidateKey),
    Effect(EffectKey),
    Ended(Lineage),
    Notice(state::NoticeKey),
}

/// A message in the index of causes: the same triple in another world or department is another message.
fn message_of(lineage: &Lineage, id: &AlertId) -> Lineage {
    Lineage { world: lineage.world.clone(), department: lineage.department.clone(), root: id.clone() }
}

/// The messages of a cause but for its first.
fn updates_of<'a>(lineage: &'a Lineage, ids: &'a [AlertId]) -> impl Iterator<Item = Lineage> + 'a {
    ids.iter().filter(|id| **id != lineage.root).map(|id| message_of(lineage, id))
}

/// The work on one input.
struct Step {
    trigger: [u8; 32],
    /// The trigger's time: the header's, clamped between the record before it and its receipt.
    time: Timestamp,
    /// The engine's time, which never goes back.
    now: Timestamp,
    /// Effects whose causes changed.
    touched: BTreeSet<EffectKey>,
    effects: Vec<Effect>,
    notes: Vec<Decision>,
    /// See [`Outcome::used`].
    used: BTreeSet<(String, Option<usize>)>,
    /// Spatial joins already made for a cause: a thousand rules over one data set ask the tree once.
    joins: BTreeMap<([u8; 32], String, u64), BTreeSet<String>>,
}

impl Step {
    fn new(input: &Input<'_>, before: Option<Timestamp>) -> Self {
        let (time, now) = match input.kind {
            InputKind::Tick { at } => (at, at),
            _ => (clamped(input), input.received),
        };
        let now = before.map_or(now, |before| now.max(before));
        Self {
            trigger: input.hash,
            time,
            now,
            touched: BTreeSet::new(),
            effects: Vec::new(),
            notes: Vec::new(),
            used: BTreeSet::new(),
            joins: BTreeMap::new(),
        }
    }

    fn note(&mut self, rule: &str, world: &World, verdict: Verdict, why: Sentence) {
        self.notes.push(Decision { rule: rule.into(), world: world.clone(), record: self.trigger, verdict, why });
    }
}

/// A record's time as it is believed: not before the record ahead of it in its log, and not after its receipt here.
fn clamped(input: &Input<'_>) -> Timestamp {
    input.previous_time.map_or(input.time, |previous| input.time.max(previous)).min(input.received)
}

/// What the record of a message of ours says it is about.
fn classification_of(key: &EffectKey) -> Classification {
    let sites = if key.target.is_empty() { Vec::new() } else { vec![key.target.clone()] };
    Classification { event: Some(key.effect.clone()), level: None, signal: None, sites }
}
