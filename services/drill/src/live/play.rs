//! The run itself: one task that takes what was seen, does what is due, and shows both to the judge.
//!
//! What nodes tell comes a little late and out of order, so it is held back for a moment and written down in the order of
//! the records' own times. Whatever may wait for a node (publishing, answering) is done by other tasks, so that a
//! controller's word never waits behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use campanile_alert::{AlertId, DepartmentId, ExerciseId, MessageType, Severity, Timestamp};
use campanile_client::AlertRecord;
use campanile_client::exercise::{ExerciseContent, ExerciseRecord};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clear::{Cleared, clear};
use super::clock::DrillClock;
use super::control::Request;
use super::guards::{guard, supports};
use super::injects::{Injects, Message, publish};
use super::people::{About, People, Shown, roles_of};
use super::record::Known;
use super::sight::{self, Sight};
use super::{Crew, Error, Options, Played};
use crate::judge::Judge;
use crate::scenario::{NodeKind, Occasion, PauseOn, Reaction, Scenario};
use crate::time::Offset;
use crate::transcript::{Answered, Header, Notice, Record, Run, Transcript, What};
use crate::verdict::Outcome;

mod act;
mod obey;

/// For how long what was seen is held back, so that it is written in the order of its own times.
const LAG: Duration = Duration::from_millis(400);
/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a line of progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long all eyes may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(15);
/// How long records may take to be everywhere after the end.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// How long a department may be silent before people are told, in milliseconds.
const NOT_HEARD_MS: u64 = 60_000;
/// How many messages may wait for a department's node.
const WAITING_MAX: usize = 10_000;
/// The channel of gateways that is a sink.
const SINK: &str = "exercise";

/// What the console is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Something that happened.
    Said(String),
    /// How far it is.
    Progress {
        /// What the drill's clock shows.
        now: Offset,
        /// When it ends.
        end: Offset,
        /// Expectations that are met.
        met: usize,
        /// Those that are missed, late or broken.
        failed: usize,
        /// Those that are open.
        open: usize,
    },
    /// A line of the transcript, as it is written.
    Written(Vec<u8>),
    /// Something real has come; the whole screen should say so.
    Frozen(String),
}

/// Something to do at a time.
#[derive(Debug, Clone)]
enum Step {
    Inject(usize),
    Publish { inject: usize, copy: u32 },
    Again { inject: String },
    FaultBegins(usize),
    FaultEnds(usize),
    React(Box<(Shown, Reaction)>),
}

/// What came of something that was done elsewhere.
enum Done {
    Refused { node: DepartmentId, inject: Option<String>, why: String },
    Said(String),
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Running,
    Frozen(Instant),
    Over,
}

/// Something that was seen, held back for a moment.
struct Held {
    ready: Instant,
    node: Option<DepartmentId>,
    what: Seen,
}

enum Seen {
    Event(What),
    Record(Box<ExerciseRecord>),
}

/// Plays a checked scenario against running nodes: guards, T+0, the end, and clearing up.
///
/// `control` brings the words of controllers; when it is closed, nobody can say anything any more and the drill goes on.
///
/// # Errors
/// [`Error`] when a guard does not hold or a node does not answer before the start. Nothing was published then.
pub async fn play(
    scenario: &Scenario,
    crew: &Crew,
    options: &Options,
    mut control: mpsc::Receiver<Request>,
    console: &mut (dyn FnMut(Line) + Send),
) -> Result<Played, Error> {
    supports(scenario, options)?;
    guard(scenario, crew, options).await?;
    let packs = packs(scenario, crew).await?;
    let exercise = scenario.mode.exercise_id.clone();
    let (mut sights, eyes) = sight::open(crew, &exercise);
    let early = eyes_open(crew, &mut sights).await?;
    let (results, mut done) = mpsc::channel(WAITING_MAX);
    let mut play = Play::new(scenario, crew, options, packs, eyes, results, console);
    play.say(format!("T+0: {} begins as exercise {exercise}", scenario.drill));
    for sight in early {
        play.see(sight);
    }
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut controlled = true;
    while play.stand != Stand::Over {
        tokio::select! {
            biased;
            request = control.recv(), if controlled => match request {
                Some(request) => play.command(request),
                None => controlled = false,
            },
            Some(sight) = sights.recv() => play.see(sight),
            Some(done) = done.recv() => play.take(done),
            _ = looks.tick() => play.look(),
        }
    }
    if !play.aborted {
        play.settle(&mut sights, &mut done).await;
    }
    Ok(play.finish(&exercise).await)
}

/// Waits until every node shows what comes from now on; what came before is kept.
async fn eyes_open(crew: &Crew, sights: &mut mpsc::Receiver<Sight>) -> Result<Vec<Sight>, super::Refused> {
    let mut closed: BTreeSet<DepartmentId> = crew.nodes.keys().cloned().collect();
    let mut early = Vec::new();
    let end = Instant::now() + OPEN_WITHIN;
    while !closed.is_empty() {
        match tokio::time::timeout_at(end, sights.recv()).await {
            Ok(Some(Sight::Open(node))) => _ = closed.remove(&node),
            Ok(Some(Sight::Lost(node, why))) => {
                return Err(super::Refused(vec![format!("{node}'s node cannot be watched: {why}")]));
            }
            Ok(Some(sight @ Sight::Real(..))) => early.push(sight),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let names: Vec<String> = closed.iter().map(ToString::to_string).collect();
                let why = format!("{} did not show what comes within {} s", names.join(", "), OPEN_WITHIN.as_secs());
                return Err(super::Refused(vec![why]));
            }
        }
    }
    Ok(early)
}

async fn packs(scenario: &Scenario, crew: &Crew) -> Result<BTreeMap<String, String>, Error> {
    let mut packs = BTreeMap::new();
    for (id, client) in &crew.nodes {
        let engine = scenario.cast.nodes.get(id.as_str()).is_some_and(|node| node.kind() == NodeKind::Engine);
        if engine {
            let own = client.packs().await.map_err(|source| Error::Node { department: id.clone(), source })?;
            packs.extend(own.packs.into_iter().map(|pack| (pack.pack, pack.digest)));
        }
    }
    Ok(packs)
}

struct Play<'a> {
    scenario: &'a Scenario,
    crew: &'a Crew,
    options: &'a Options,
    exercise: ExerciseId,
    world: String,
    clock: DrillClock,
    stand: Stand,
    aborted: bool,
    /// What stands in the Cancels at the end, where every player reads it.
    reason: String,
    transcript: Transcript,
    judge: Judge,
    schedule: BTreeMap<(i64, u64), Step>,
    number: u64,
    held: BTreeMap<(Timestamp, u64), Held>,
    shown: BTreeSet<AlertId>,
    reported: BTreeSet<String>,
    known: Known,
    injects: Injects,
    /// The injects that persons were told.
    passed_on: BTreeSet<String>,
    people: People,
    stale: BTreeSet<(DepartmentId, DepartmentId)>,
    logs: BTreeMap<DepartmentId, BTreeSet<String>>,
    publishers: BTreeMap<DepartmentId, mpsc::Sender<Box<Message>>>,
    /// Open while the drill runs.
    gate: watch::Sender<bool>,
    results: mpsc::Sender<Done>,
    tasks: JoinSet<()>,
    eyes: JoinSet<()>,
    told: Instant,
    console: &'a mut (dyn FnMut(Line) + Send),
}

impl<'a> Play<'a> {
    fn new(
        scenario: &'a Scenario,
        crew: &'a Crew,
        options: &'a Options,
        packs: BTreeMap<String, String>,
        eyes: JoinSet<()>,
        results: mpsc::Sender<Done>,
        console: &'a mut (dyn FnMut(Line) + Send),
    ) -> Self {
        let clock = DrillClock::start(options.clock.clone(), options.speed);
        let exercise = scenario.mode.exercise_id.clone();
        let header = Header {
            drill: scenario.drill.clone(),
            scenario: hex::encode(scenario.digest()),
            packs,
            seed: scenario.clock.seed,
            run: Run::Live,
            start: clock.beginning(),
            variant: None,
        };
        let transcript = Transcript::new(header);
        (console)(Line::Written(transcript.bytes()));
        let mut tasks = JoinSet::new();
        let mut publishers = BTreeMap::new();
        let gate = watch::channel(true).0;
        for id in crew.nodes.keys() {
            let (sender, mut waiting) = mpsc::channel::<Box<Message>>(WAITING_MAX);
            publishers.insert(id.clone(), sender);
            let (crew, exercise, results, node) = (crew.clone(), exercise.clone(), results.clone(), id.clone());
            // One after the other, so that an update never overtakes what it updates.
            let mut gate = gate.subscribe();
            tasks.spawn(async move {
                while let Some(message) = waiting.recv().await {
                    // What waits when the drill stands goes on waiting.
                    if gate.wait_for(|open| *open).await.is_err() {
                        return;
                    }
                    if let Err(why) = publish(&crew, &message, &exercise).await {
                        let refused = Done::Refused { node: node.clone(), inject: Some(message.inject), why };
                        if results.send(refused).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        let mut play = Self {
            scenario,
            crew,
            options,
            world: format!("exercise:{exercise}"),
            exercise,
            clock,
            stand: Stand::Running,
            aborted: false,
            reason: format!("{}: the exercise has ended", scenario.mode.exercise_id),
            transcript,
            judge: Judge::new(scenario),
            schedule: BTreeMap::new(),
            number: 0,
            held: BTreeMap::new(),
            shown: BTreeSet::new(),
            reported: BTreeSet::new(),
            known: Known::default(),
            injects: Injects::default(),
            passed_on: BTreeSet::new(),
            people: People::default(),
            stale: BTreeSet::new(),
            logs: BTreeMap::new(),
            publishers,
            gate,
            results,
            tasks,
            eyes,
            told: Instant::now(),
            console,
        };
        for (index, inject) in scenario.injects.iter().enumerate() {
            if let Some(at) = inject.at {
                play.later(at.ms(), Step::Inject(index));
            }
        }
        for (index, fault) in scenario.faults.iter().enumerate() {
            play.later(fault.at.ms(), Step::FaultBegins(index));
        }
        play
    }

    fn later(&mut self, at: i64, step: Step) {
        self.number += 1;
        self.schedule.insert((at, self.number), step);
    }

    fn say(&mut self, text: impl Into<String>) {
        (self.console)(Line::Said(text.into()));
    }

    /// Writes something down, once it is clear that nothing earlier comes.
    fn emit(&mut self, at: Timestamp, node: Option<&DepartmentId>, what: What) {
        self.hold(at, node.cloned(), Seen::Event(what));
    }

    fn hold(&mut self, at: Timestamp, node: Option<DepartmentId>, what: Seen) {
        self.number += 1;
        self.held.insert((at, self.number), Held { ready: Instant::now() + LAG, node, what });
    }

    /// Writes down what was held back long enough, or all of it, and whatever is earlier than that.
    fn flush(&mut self, all: bool) {
        let now = Instant::now();
        let last = self.held.iter().rev().find(|(_, held)| all || held.ready <= now).map(|(key, _)| *key);
        while let Some(entry) = self.held.first_entry().filter(|entry| last.is_some_and(|last| *entry.key() <= last)) {
            let ((at, _), held) = entry.remove_entry();
            let at = self.clock.at(at).min(self.scenario.end());
            match held.what {
                Seen::Event(what) => self.write(at, held.node, what),
                Seen::Record(record) => self.write_record(at, held.node, &record),
            }
        }
    }

    fn write_record(&mut self, at: Offset, node: Option<DepartmentId>, record: &ExerciseRecord) {
        let ExerciseContent::Alert(alert) = &record.content else { return };
        let id = alert.alert.id();
        let what = if self.shown.insert(id.clone()) {
            let mut seen = self.known.record(record, alert, &self.clock);
            seen.exercise = Some(self.exercise.to_string());
            What::Record(Box::new(seen))
        } else {
            What::Seen { id: id.to_string() }
        };
        self.write(at, node, what);
    }

    fn write(&mut self, at: Offset, node: Option<DepartmentId>, what: What) {
        match self.transcript.add(at, node, what) {
            Some(event) => {
                (self.console)(Line::Written(event.line()));
                self.judge.observe(event);
            }
            None => self.stand = Stand::Over,
        }
    }

    /// Something was seen.
    fn see(&mut self, sight: Sight) {
        match sight {
            Sight::Open(_) => {}
            Sight::Record(node, record) => self.see_record(&node, record),
            Sight::Rules(node, rules) => {
                for effect in rules.effects.iter().filter(|effect| effect.world == self.world) {
                    let of = (effect.target.clone(), effect.kinds.clone());
                    self.known.effects.insert(effect.identifier.clone(), of);
                }
                let roles = roles_of(self.scenario.cast.players.keys(), &node);
                let (events, shown) = self.people.take(&node, &rules, &self.world, &roles, &self.clock);
                let now = self.clock.instant();
                for (since, what) in events {
                    self.emit(since.unwrap_or(now), Some(&node), what);
                }
                shown.into_iter().for_each(|shown| self.show(shown));
            }
            Sight::Heard(node, ages) => self.hear(&node, ages),
            Sight::Real(node, record) => self.see_real(&node, &record),
            Sight::Lost(node, why) => {
                let now = self.clock.instant();
                self.emit(now, Some(&node), What::Down);
                self.say(format!("{node}'s node is not seen any more: {why}"));
            }
        }
    }

    fn see_record(&mut self, node: &DepartmentId, record: Box<ExerciseRecord>) {
        // What an earlier run of the exercise left in the logs is no part of this one.
        if record.time < self.clock.beginning() {
            return;
        }
        let place = format!("{} {}", record.position, record.position.hash);
        self.logs.entry(node.clone()).or_default().insert(place);
        if record.not_counted.is_some() {
            return;
        }
        let own = record.department == node.as_str();
        let at = if own { record.time } else { record.received.unwrap_or(record.time) };
        match &record.content {
            ExerciseContent::Alert(_) => self.hold(at, Some(node.clone()), Seen::Record(record)),
            ExerciseContent::Approval { pending, person, approve, .. } if own => {
                let roles = self.crew.persons.get(person).cloned().unwrap_or_default();
                let asked = self.people.pending(node, pending).map(|pending| pending.by.clone()).unwrap_or_default();
                let role = roles.iter().find(|role| asked.contains(role)).or(roles.first()).unwrap_or(person).clone();
                let answer = if *approve { Answered::Approve } else { Answered::Reject };
                self.say(format!("{role} answered: {}", if *approve { "approve" } else { "reject" }));
                self.emit(at, Some(node), What::Answered { pending: pending.clone(), person: role, answer });
            }
            ExerciseContent::Delivery(delivery) => {
                let handed = delivery.stages.iter().any(|(stage, count)| stage == "handed" && *count > 0);
                // Every node that holds the report shows it; it is one notice.
                if !handed || !self.reported.insert(record.position.to_string()) {
                    return;
                }
                let sink = delivery.channel == SINK;
                let notice = Notice {
                    record: delivery.id.to_string(),
                    channel: format!("{}/{}", record.department, delivery.channel),
                    sink,
                    status: Some(record.status),
                    // A gateway's sinks take nothing but notices whose every text it has marked itself.
                    marked: sink,
                    headlines: Vec::new(),
                };
                let gateway = DepartmentId::try_new(&record.department).ok();
                self.emit(record.time, gateway.as_ref(), What::Notice(Box::new(notice)));
            }
            ExerciseContent::Approval { .. } | ExerciseContent::Other => {}
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Refused { node, inject, why } => {
                self.say(format!("{node}'s node refused: {why}"));
                self.emit(self.clock.instant(), Some(&node), What::Refused { inject, why });
            }
            Done::Said(text) => self.say(text),
        }
    }

    /// Does what is due.
    fn look(&mut self) {
        self.flush(false);
        if let Stand::Frozen(since) = self.stand
            && since.elapsed() >= self.options.frozen_wait
        {
            self.stand = Stand::Over;
        }
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            self.progress();
        }
        if self.stand != Stand::Running || self.clock.is_paused() {
            return;
        }
        let now = self.clock.now();
        while let Some(entry) = self.schedule.first_entry().filter(|entry| entry.key().0 <= now.ms()) {
            let step = entry.remove();
            self.step(step);
        }
        // A failure pauses it once: whoever resumes knows.
        let pauses = self.scenario.clock.pause_on.contains(&PauseOn::MustFailed) && !self.clock.has_stood();
        let failed = if pauses { self.judge.must_failed() } else { Vec::new() };
        if !failed.is_empty() {
            self.pause(&format!("{} has failed, and must not", failed.join(", ")));
        }
        if now >= self.scenario.end() {
            self.stand = Stand::Over;
        }
    }

    fn progress(&mut self) {
        let count = |wanted: &[Outcome]| self.judge.outcomes().filter(|outcome| wanted.contains(outcome)).count();
        let line = Line::Progress {
            now: self.clock.now(),
            end: self.scenario.end(),
            met: count(&[Outcome::Met]),
            failed: count(&[Outcome::Missed, Outcome::Forbidden, Outcome::Late]),
            open: count(&[Outcome::Open, Outcome::ToBeJudged]),
        };
        (self.console)(line);
    }

    fn pause(&mut self, by: &str) -> bool {
        let now = self.clock.instant();
        let paused = self.clock.pause();
        if paused {
            self.gate.send_replace(false);
            self.emit(now, None, What::Paused { by: by.into() });
            self.say(format!("PAUSED: {by}"));
        }
        paused
    }

    fn hear(&mut self, node: &DepartmentId, ages: Vec<(DepartmentId, u64)>) {
        let now = self.clock.instant();
        for (from, age) in ages {
            if !self.crew.nodes.contains_key(&from) {
                continue;
            }
            let pair = (node.clone(), from.clone());
            if age < NOT_HEARD_MS {
                if self.stale.remove(&pair) {
                    self.emit(now, Some(node), What::Heard { from });
                }
                continue;
            }
            let shown_to = roles_of(self.scenario.cast.players.keys(), node);
            if shown_to.is_empty() || !self.stale.insert(pair) {
                continue;
            }
            self.emit(now, Some(node), What::Stale { from: from.clone(), shown_to: shown_to.clone() });
            for role in shown_to {
                let about = About::Stale { from: from.clone() };
                self.show(Shown { role, on: Occasion::Stale, rule: None, effect: None, inject: None, about });
            }
        }
    }

    /// Something real was seen: that it is severe, or that it follows from the exercise, is everybody's business.
    fn see_real(&mut self, node: &DepartmentId, real: &AlertRecord) {
        if real.causes.iter().any(|cause| self.shown.contains(&cause.id)) {
            let record = Record {
                id: real.alert.id().to_string(),
                position: real.position.to_string(),
                from: real.department.clone(),
                msg_type: Some(real.alert.msg_type),
                status: Some(real.alert.status),
                event: real.classification.event.clone(),
                rule: real.rule.as_ref().map(|rule| rule.id.clone()),
                severity: real.alert.severity(),
                causes: real.causes.iter().map(|cause| cause.id.to_string()).collect(),
                depth: real.depth,
                ..Record::default()
            };
            self.emit(real.time, Some(node), What::Record(Box::new(record)));
        }
        if matches!(real.alert.severity(), Some(Severity::Severe | Severity::Extreme)) {
            self.freeze(node, real);
        }
    }

    /// Something real came to a node that takes part: the drill stops itself.
    fn freeze(&mut self, node: &DepartmentId, record: &AlertRecord) {
        let real = matches!(record.alert.msg_type, MessageType::Alert | MessageType::Update);
        if !real || self.stand != Stand::Running {
            return;
        }
        let now = self.clock.instant();
        self.clock.pause();
        self.gate.send_replace(false);
        self.stand = Stand::Frozen(Instant::now());
        let headline = record.alert.infos.iter().find_map(|info| info.headline.clone()).unwrap_or_default();
        let why = format!("REAL ALERT of {} at {node}: the exercise has stopped", record.department);
        self.emit(now, None, What::Frozen { record: record.alert.id().to_string(), why: why.clone() });
        self.reason.clone_from(&why);
        (self.console)(Line::Frozen(format!("{why}: {headline}")));
    }

    /// After the end: what was said last comes to be everywhere, as far as it does.
    async fn settle(&mut self, sights: &mut mpsc::Receiver<Sight>, done: &mut mpsc::Receiver<Done>) {
        let end = Instant::now() + SETTLE_MAX;
        let least = Instant::now() + LAG;
        while Instant::now() < end {
            let same = self.logs.len() == self.crew.nodes.len() && {
                let mut all = self.logs.values();
                let first = all.next();
                all.all(|other| Some(other) == first)
            };
            if Instant::now() >= least && (same || self.logs.is_empty()) {
                break;
            }
            tokio::select! {
                Some(sight) = sights.recv() => if !matches!(sight, Sight::Real(..)) { self.see(sight) },
                Some(done) = done.recv() => self.take(done),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.flush(true);
    }

    /// The verdict, and nothing of the exercise in force any more.
    async fn finish(mut self, exercise: &ExerciseId) -> Played {
        // Nobody publishes any more, and what still waits is given up.
        self.publishers.clear();
        self.tasks.shutdown().await;
        let cleared = clear(self.crew, exercise, &self.reason).await;
        self.eyes.shutdown().await;
        let last = self.clock.now().min(self.scenario.end());
        let nodes: Vec<(DepartmentId, BTreeSet<String>)> = std::mem::take(&mut self.logs).into_iter().collect();
        for (node, places) in nodes {
            let list: Vec<&str> = places.iter().map(String::as_str).collect();
            let digest = hex::encode(Sha256::digest(list.join("\n")));
            self.write(last, Some(node), What::Digest { records: places.len() as u64, digest });
        }
        self.write(last, None, What::Ended);
        self.report(&cleared);
        let digest = self.transcript.digest();
        let verdict = self.judge.finish(&self.transcript.header, digest);
        Played { transcript: self.transcript, verdict, cleared }
    }

    fn report(&mut self, cleared: &Cleared) {
        self.say(format!("ENDED: {} messages of the exercise were cancelled", cleared.cancelled));
        for left in &cleared.left {
            self.say(format!("LEFT: {left}"));
        }
    }
}
