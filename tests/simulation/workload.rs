//! What clients do in a run, drawn from its seed: fires beside schools and away from them, their Updates and Cancels,
//! drills, repetitions, contradictions, fires of departments that may report them and of one that may not, and what
//! officers decide.
//!
//! A client repeats what it has no answer to until it has one; that is how duplicates come about.

use std::sync::Arc;

use campanile_alert::classify::classify;
use campanile_alert::{AlertId, ExerciseId, Scope, Status, Timestamp, vocabulary};
use campanile_bus::bus::{is_urgent, plain_draft};
use campanile_bus::record::{Audience, Content};
use campanile_proto::convert::timestamp_to_wire;
use campanile_proto::rules::v1 as rules_wire;
use campanile_rules::{EffectKey, Pending};
use campanile_tests::cluster::alerts::Fire;
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::federation::{DEPARTMENTS, DIRECTORS};
use crate::node::Wish;

pub(crate) const FIRE_RULE: &str = "edb.school-closure.fire";
/// The place of `campanile up`, with four sites around it; another with one; the open sea, with none.
pub(crate) const PLACES: [(f64, f64); 4] = [(22.3, 114.1), (22.29, 114.093), (22.32, 114.085), (22.2, 114.3)];

/// How far a wish has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// To be sent at that millisecond.
    Waiting { at_ms: u64 },
    /// Sent, not answered.
    InFlight { since_ms: u64 },
    /// On the disk of its node.
    Acked,
    /// Refused for good.
    Refused(String),
}

/// What a client wants, from its first attempt to its answer.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) department: usize,
    pub(crate) wish: Wish,
    pub(crate) state: State,
    pub(crate) attempt: u32,
    /// What it is called in the trace.
    pub(crate) name: String,
    /// It contradicts another, so it must be refused once that one stands.
    pub(crate) contradicts: Option<usize>,
    /// It is asked again until it is answered; an alert can be told from its repetition, and so can what says it twice.
    pub(crate) repeats: bool,
    /// It may be refused: what it is about may be over by the time it comes.
    pub(crate) is_late: bool,
}

impl Intent {
    fn new(department: usize, wish: Wish, name: String, at_ms: u64) -> Self {
        let repeats = matches!(wish, Wish::Publish { .. });
        let state = State::Waiting { at_ms };
        Self { department, wish, state, attempt: 0, name, contradicts: None, repeats, is_late: false }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::InFlight { .. })
    }

    pub(crate) fn id(&self) -> Option<AlertId> {
        match &self.wish {
            Wish::Publish { alert, .. } => Some(alert.id()),
            Wish::Record(_) | Wish::Keys(_) | Wish::Unheard(_) | Wish::Found(_) => None,
        }
    }
}

/// What a run's clients have done so far.
#[derive(Default)]
pub(crate) struct Workload {
    pub(crate) intents: Vec<Intent>,
    /// The fires so far: which intent, the message as it was sent last, and whether it is over.
    fires: Vec<(usize, Fire, bool)>,
    paused: bool,
    count: u32,
}

impl Workload {
    /// Adds what a client thinks of next, of one of the first `departments`.
    pub(crate) fn next(&mut self, chance: &mut StdRng, clocks: &[Timestamp], now_ms: u64) {
        let now = clocks[0];
        match chance.random_range(0..100) {
            0..40 => self.fire(chance, now, now_ms),
            40..56 => self.amend(chance, now, now_ms, "Update"),
            56..63 => self.amend(chance, now, now_ms, "Cancel"),
            63..76 => self.repeat(chance, now_ms),
            76..83 => self.contradict(chance, now_ms),
            83..88 => self.usurp(chance, clocks[2], now_ms),
            88..93 if clocks.len() > 3 => self.report_elsewhere(chance, clocks, now_ms),
            _ => self.pause(now_ms, !self.paused),
        }
    }

    /// had reports a fire, past its own node's checks: it has no right to.
    fn usurp(&mut self, chance: &mut StdRng, now: Timestamp, now_ms: u64) {
        self.count += 1;
        let at = PLACES[chance.random_range(0..PLACES.len())];
        self.usurp_at(2, at, now, now_ms);
    }

    /// A department reports a fire, past its own node's checks.
    pub(crate) fn usurp_at(&mut self, department: usize, at: (f64, f64), now: Timestamp, now_ms: u64) {
        let sender = format!("{}@campanile.test", DEPARTMENTS[department]);
        let fire = Fire { sender, ..Fire::new(format!("usurped-{}", self.count), now, at) };
        let alert = Arc::new(fire.alert().unwrap());
        let (urgent, classification) = (is_urgent(&alert), classify(&alert, vocabulary::v1()));
        let audience = Audience { scope: Scope::Public, departments: Vec::new() };
        let content = Content::Alert { alert, original: None, media_type: None };
        let mut draft = plain_draft(Status::Actual, None, audience, content);
        (draft.urgent, draft.body.classification) = (urgent, classification);
        self.intents.push(Intent::new(department, Wish::Record(Box::new(draft)), fire.identifier, now_ms));
    }

    /// Another department that has the right reports a fire; no rule looks at it.
    fn report_elsewhere(&mut self, chance: &mut StdRng, clocks: &[Timestamp], now_ms: u64) {
        self.count += 1;
        let department = chance.random_range(3..clocks.len());
        let now = clocks[department];
        let sender = format!("{}@campanile.test", DEPARTMENTS[department]);
        let fire = Fire { sender, ..Fire::new(format!("elsewhere-{}", self.count), now, PLACES[0]) };
        let name = format!("{} of {}", fire.identifier, DEPARTMENTS[department]);
        self.intents.push(Intent::new(department, wish(&fire), name, now_ms));
    }

    /// An officer of edb ends a closure against its causes.
    pub(crate) fn cancel(&mut self, effect: &EffectKey, message: &AlertId, now: Timestamp, now_ms: u64) {
        self.count += 1;
        let fire = Fire {
            sender: "edb@campanile.test".into(),
            msg_type: "Cancel",
            references: vec![message.clone()],
            status: Some(if effect.world.exercise().is_some() { "Exercise" } else { "Actual" }),
            note: Some("as the seed says".into()),
            ..Fire::new(format!("ended-{}", self.count), now, PLACES[0])
        };
        let wish = Wish::Publish { alert: Arc::new(fire.alert().unwrap()), exercise: effect.world.exercise().cloned() };
        let mut intent = Intent::new(1, wish, format!("{} of {effect}", fire.identifier), now_ms);
        intent.is_late = true;
        self.intents.push(intent);
    }

    fn fire(&mut self, chance: &mut StdRng, now: Timestamp, now_ms: u64) {
        self.count += 1;
        let mut fire = Fire::new(format!("fire-{}", self.count), now, PLACES[chance.random_range(0..PLACES.len())]);
        fire.level = Some([1, 3, 3, 4][chance.random_range(0..4)]);
        if chance.random_ratio(1, 4) {
            fire.severity = "Minor";
        }
        if chance.random_ratio(1, 4) {
            fire.status = Some("Exercise");
            fire.note = Some("drill-1".into());
        }
        let name = format!("{} {} level {:?}", fire.identifier, fire.status.unwrap_or_default(), fire.level);
        self.fires.push((self.intents.len(), fire.clone(), false));
        self.intents.push(Intent::new(0, wish(&fire), name, now_ms));
    }

    /// Adds a fire beside schools.
    pub(crate) fn report(&mut self, identifier: &str, now: Timestamp, now_ms: u64) {
        let mut fire = Fire::new(identifier, now, PLACES[0]);
        fire.level = Some(3);
        self.fires.push((self.intents.len(), fire.clone(), false));
        self.intents.push(Intent::new(0, wish(&fire), identifier.into(), now_ms));
    }

    /// Adds a fire beside schools in an exercise of its own.
    pub(crate) fn report_drill(&mut self, identifier: &str, exercise: &str, now: Timestamp, now_ms: u64) -> Fire {
        let mut fire = Fire::new(identifier, now, PLACES[0]);
        (fire.level, fire.status, fire.note) = (Some(3), Some("Exercise"), Some(exercise.into()));
        let exercise = Some(ExerciseId::try_new(exercise).unwrap());
        let wish = Wish::Publish { alert: Arc::new(fire.alert().unwrap()), exercise };
        self.intents.push(Intent::new(0, wish, identifier.into(), now_ms));
        fire
    }

    /// Ends a fire of drill-1.
    pub(crate) fn put_out(&mut self, fire: &Fire, now: Timestamp, now_ms: u64) {
        let identifier = format!("{}-is-out", fire.identifier);
        let (msg_type, references) = ("Cancel", vec![fire.id()]);
        let out = Fire { identifier: identifier.clone(), msg_type, references, sent: now, ..fire.clone() };
        self.intents.push(Intent::new(0, wish(&out), identifier, now_ms));
    }

    fn amend(&mut self, chance: &mut StdRng, now: Timestamp, now_ms: u64, kind: &'static str) {
        let known: Vec<usize> = (0..self.fires.len())
            .filter(|at| !self.fires[*at].2 && self.intents[self.fires[*at].0].state == State::Acked)
            .collect();
        if known.is_empty() {
            return;
        }
        let at = known[chance.random_range(0..known.len())];
        self.count += 1;
        let before = &self.fires[at].1;
        let fire = Fire {
            identifier: format!("fire-{}", self.count),
            msg_type: kind,
            references: vec![before.id()],
            sent: now,
            level: if kind == "Cancel" { before.level } else { Some([1, 3, 4][chance.random_range(0..3)]) },
            ..before.clone()
        };
        let name = format!("{} {kind} of {} level {:?}", fire.identifier, before.identifier, fire.level);
        self.fires[at] = (self.intents.len(), fire.clone(), kind == "Cancel");
        self.intents.push(Intent::new(0, wish(&fire), name, now_ms));
    }

    /// Sends again what has its answer already.
    fn repeat(&mut self, chance: &mut StdRng, now_ms: u64) {
        let is_done = |intent: &Intent| intent.state == State::Acked && intent.id().is_some();
        let done: Vec<usize> = (0..self.intents.len()).filter(|at| is_done(&self.intents[*at])).collect();
        if !done.is_empty() {
            let again = &mut self.intents[done[chance.random_range(0..done.len())]];
            again.state = State::Waiting { at_ms: now_ms };
        }
    }

    /// Sends other content under an identity that is taken.
    fn contradict(&mut self, chance: &mut StdRng, now_ms: u64) {
        let Some((of, fire, _)) = self.fires.get(chance.random_range(0..self.fires.len().max(1))) else { return };
        if self.intents[*of].state != State::Acked {
            return;
        }
        let note = Some("drill-1, in other words".into());
        let other = Fire { headline: "Something else".into(), note, ..fire.clone() };
        let mut intent = Intent::new(0, wish(&other), format!("other content as {}", fire.identifier), now_ms);
        intent.contradicts = Some(*of);
        self.intents.push(intent);
    }

    pub(crate) fn pause(&mut self, now_ms: u64, paused: bool) {
        self.paused = paused;
        let pause = rules_wire::Pause {
            rule: FIRE_RULE.into(),
            paused,
            reason: "as the seed says".into(),
            until: None,
            person: "edb-officer-1".into(),
            certificate_hash: vec![0; 32],
        };
        let name = if paused { "pause" } else { "resume" };
        self.record(name.into(), Status::Actual, None, Content::Pause(pause), now_ms);
    }

    /// Lets the rules run again, whatever came of earlier wishes.
    pub(crate) fn resume(&mut self, now_ms: u64) {
        // A pause that is still to be sent, or sent again, would come after it.
        let pauses = |wish: &Wish| matches!(wish, Wish::Record(draft) if matches!(&draft.body.content, Content::Pause(pause) if pause.paused));
        for intent in self.intents.iter_mut().filter(|intent| intent.is_open() && pauses(&intent.wish)) {
            intent.state = State::Refused("given up".into());
        }
        self.pause(now_ms, false);
        self.intents.iter_mut().last().unwrap().repeats = true;
    }

    /// Two directors allow the rule to act at once.
    pub(crate) fn sign_envelope(&mut self, digest: [u8; 32], from: Timestamp, now_ms: u64) {
        for person in DIRECTORS {
            let envelope = rules_wire::Envelope {
                rule: FIRE_RULE.into(),
                rule_digest: digest.to_vec(),
                valid_from: Some(timestamp_to_wire(from - jiff::SignedDuration::from_hours(24))),
                valid_to: Some(timestamp_to_wire(from + jiff::SignedDuration::from_hours(24 * 30))),
                person: person.into(),
                certificate_hash: vec![0; 32],
            };
            self.record(format!("envelope of {person}"), Status::Actual, None, Content::Envelope(envelope), now_ms);
        }
    }

    /// An officer agrees to what the rules propose.
    pub(crate) fn approve(&mut self, pending: &Pending, person: &str, now_ms: u64) {
        let name = format!("approval of {} by {person}", pending.id);
        if self.intents.iter().any(|intent| intent.name == name && intent.is_open()) {
            return;
        }
        let approval = rules_wire::Approval {
            rule: pending.rule.clone(),
            pending_id: pending.id.clone(),
            shown_hash: pending.shown.to_vec(),
            decision: rules_wire::Decision::Approve.into(),
            person: person.into(),
            certificate_hash: vec![0; 32],
            reason: "as the seed says".into(),
        };
        let (status, exercise) = (pending.world.status(), pending.world.exercise().cloned());
        self.record(name, status, exercise, Content::Approval(approval), now_ms);
    }

    fn record(&mut self, name: String, status: Status, exercise: Option<ExerciseId>, content: Content, now_ms: u64) {
        let audience = Audience { scope: Scope::Private, departments: Vec::new() };
        let wish = Wish::Record(Box::new(plain_draft(status, exercise, audience, content)));
        self.intents.push(Intent::new(1, wish, name, now_ms));
    }
}

fn wish(fire: &Fire) -> Wish {
    let exercise = (fire.status == Some("Exercise")).then(|| ExerciseId::try_new("drill-1").unwrap());
    Wish::Publish { alert: Arc::new(fire.alert().unwrap()), exercise }
}
