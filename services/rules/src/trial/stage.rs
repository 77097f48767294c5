//! The stage of a case: the engines of the departments whose packs are used, a virtual clock, and a log that hands every
//! message to all of them, ours included, as the bus would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use campanile_alert::{
    Alert, AlertId, Area, DepartmentId, ExerciseId, MessageType, OriginId, Timestamp, World, classify::classify,
    vocabulary,
};
use sha2::{Digest, Sha256};

use super::document::{AnswerDoc, MatchDoc, NoticeDoc};
use super::judge;
use crate::short::{Frame, ShortAlert, area};
use crate::{
    Answer, Approval, Classification, Decision, Effect, EffectKey, Engine, Envelope, Input, InputKind, Signer,
};

/// The most inputs of one case: a case that does not come to rest is an error, not a stall.
const INPUTS_MAX: usize = 20_000;

/// What is played, and what came of it.
pub(crate) struct Stage {
    pub(super) engines: BTreeMap<DepartmentId, Engine>,
    pub(super) now: Timestamp,
    /// The alerts of the case by the names it gives them.
    alerts: BTreeMap<String, Played>,
    /// The names by message.
    pub(super) names: BTreeMap<AlertId, String>,
    pub(crate) sent: Vec<Effect>,
    pub(super) notes: Vec<Decision>,
    pub(super) used: BTreeSet<(String, Option<usize>)>,
    /// The last message of each effect, with its kinds.
    pub(super) last: BTreeMap<EffectKey, Effect>,
    number: u64,
    /// Whether everybody who is asked says yes at once, and sentences are not kept: a history is played.
    agreeing: bool,
}

/// An alert of a history.
pub(crate) struct PlayedAlert<'a> {
    pub(crate) name: &'a str,
    pub(crate) from: &'a str,
    pub(crate) event: &'a str,
    pub(crate) signal: Option<&'a str>,
    pub(crate) level: Option<u32>,
    pub(crate) point: Option<[f64; 2]>,
}

#[derive(Clone)]
struct Played {
    doc: ShortAlert,
    from: DepartmentId,
    world: World,
    ids: Vec<AlertId>,
}

/// An input on its way to the engines.
struct Sent {
    department: DepartmentId,
    world: World,
    depth: u32,
    rules: Vec<String>,
    author: Option<String>,
    what: What,
    /// Only this department's engine reads it.
    only: Option<DepartmentId>,
}

enum What {
    Alert(Box<Alert>, Classification),
    Tick(Timestamp),
    Approval(Approval),
    Pause(String),
    Resume(String),
    Envelope(Envelope),
    Notice(Vec<Area>),
    Heard,
}

impl Stage {
    pub(crate) fn new(engines: BTreeMap<DepartmentId, Engine>, start: Timestamp) -> Self {
        Self {
            engines,
            now: start,
            alerts: BTreeMap::new(),
            names: BTreeMap::new(),
            sent: Vec::new(),
            notes: Vec::new(),
            used: BTreeSet::new(),
            last: BTreeMap::new(),
            number: 0,
            agreeing: false,
        }
    }

    pub(crate) fn everybody_agrees(&mut self) {
        self.agreeing = true;
    }

    /// An alert of a history comes, or changes when it stands.
    pub(crate) fn say(&mut self, alert: &PlayedAlert<'_>, standing: bool) -> Result<(), String> {
        let doc = ShortAlert {
            id: alert.name.into(),
            event: Some(alert.event.into()),
            from: Some(alert.from.into()),
            level: alert.level,
            signal: alert.signal.map(String::from),
            point: alert.point,
            ..ShortAlert::default()
        };
        if standing { self.update(&doc) } else { self.alert(&doc) }
    }

    /// An alert of a history is cancelled; its name is free again.
    pub(crate) fn forget(&mut self, name: &str) -> Result<(), String> {
        self.cancel(name)?;
        self.alerts.remove(name);
        Ok(())
    }

    /// Says yes to everything that is asked, each time as as many persons as are needed.
    fn agree(&mut self) -> Result<(), String> {
        let asked: Vec<(DepartmentId, crate::Pending)> = self
            .engines
            .iter()
            .flat_map(|(own, engine)| engine.pending().into_iter().map(move |pending| (own.clone(), pending)))
            .collect();
        for (own, pending) in asked {
            for person in 0..pending.need {
                let approval = Approval {
                    pending: pending.id.clone(),
                    shown: pending.shown,
                    person: format!("person-{person}"),
                    roles: pending.by.clone(),
                    answer: Answer::Approve,
                };
                self.put(&own, pending.world.clone(), What::Approval(approval), Some(own.clone()))?;
            }
        }
        Ok(())
    }

    /// Signs a rule's envelope: `signed`, or `expired`, which held until the day before.
    pub(super) fn sign(&mut self, rule: &str, how: &str) -> Result<(), String> {
        let (department, digest, need, by) = {
            let (department, rule) = self.rule(rule)?;
            let envelope = rule.envelope.as_ref().ok_or_else(|| format!("rule {} has no envelope", rule.id))?;
            (department.clone(), rule.digest, envelope.need, envelope.by.first().cloned().unwrap_or_default())
        };
        let day = jiff::SignedDuration::from_hours(24);
        let to = match how {
            "none" => return Ok(()),
            "signed" => self.now + day * 365,
            "expired" => self.now - day,
            other => return Err(format!("an envelope is signed, none or expired, not {other}")),
        };
        let signers = (0..need).map(|n| Signer { person: format!("signer-{n}"), roles: vec![by.clone()] }).collect();
        let envelope = Envelope { rule: rule.into(), digest, signers, from: self.now - day * 2, to };
        self.put(&department, World::Actual, What::Envelope(envelope), Some(department.clone()))
    }

    /// Lets time pass: ticks are written when an engine wants one.
    pub(crate) fn pass_to(&mut self, at: Timestamp) -> Result<(), String> {
        for _ in 0..INPUTS_MAX {
            let due = self.engines.iter().filter_map(|(own, engine)| Some((engine.due()?, own.clone()))).min();
            let Some((due, own)) = due.filter(|(due, _)| *due <= at) else {
                self.now = self.now.max(at);
                return Ok(());
            };
            self.now = self.now.max(due);
            self.put(&own.clone(), World::Actual, What::Tick(self.now), Some(own))?;
        }
        Err("the case does not come to rest".into())
    }

    pub(super) fn alert(&mut self, doc: &ShortAlert) -> Result<(), String> {
        let from = doc.from.as_deref().ok_or_else(|| format!("alert {} says not who it is from", doc.id))?;
        let from = DepartmentId::try_new(from).map_err(|error| error.to_string())?;
        let world = match doc.status.as_deref() {
            None | Some("Actual") => World::Actual,
            Some("Exercise") => {
                let name = doc.exercise.as_deref().unwrap_or("drill").to_lowercase();
                World::Exercise(ExerciseId::try_new(name).map_err(|error| error.to_string())?)
            }
            Some("Test") => World::Test,
            Some(other) => return Err(format!("status {other} is not played; write Actual, Exercise or Test")),
        };
        let alert = self.message(doc, &from, &world, MessageType::Alert, &[])?;
        let id = alert.id();
        self.names.insert(id.clone(), doc.id.clone());
        let played = Played { doc: doc.clone(), from, world, ids: vec![id] };
        if self.alerts.insert(doc.id.clone(), played.clone()).is_some() {
            return Err(format!("alert {} comes twice; an update has `of:`", doc.id));
        }
        self.publish(&played, alert)
    }

    /// An update of an alert: what it does not say stays.
    pub(super) fn update(&mut self, doc: &ShortAlert) -> Result<(), String> {
        let name = doc.of.clone().unwrap_or_else(|| doc.id.clone());
        let mut played = self.alerts.get(&name).cloned().ok_or_else(|| format!("there is no alert {name}"))?;
        played.doc = doc.over(&played.doc);
        let alert = self.message(&played.doc, &played.from, &played.world, MessageType::Update, &played.ids)?;
        played.ids.push(alert.id());
        self.names.insert(alert.id(), name.clone());
        self.alerts.insert(name, played.clone());
        self.publish(&played, alert)
    }

    pub(super) fn cancel(&mut self, name: &str) -> Result<(), String> {
        let played = self.alerts.get(name).cloned().ok_or_else(|| format!("there is no alert {name} to cancel"))?;
        let alert = self.message(&played.doc, &played.from, &played.world, MessageType::Cancel, &played.ids)?;
        self.publish(&played, alert)
    }

    fn publish(&mut self, played: &Played, alert: Alert) -> Result<(), String> {
        let words = classify(&alert, vocabulary::v1());
        let what = What::Alert(Box::new(alert), words);
        let author = played.doc.author.clone();
        self.deliver(Sent {
            department: played.from.clone(),
            world: played.world.clone(),
            depth: 0,
            rules: Vec::new(),
            author,
            what,
            only: None,
        })?;
        if self.agreeing { self.agree() } else { Ok(()) }
    }

    pub(super) fn answer(&mut self, doc: &AnswerDoc, answer: Answer) -> Result<(), String> {
        let (department, _) = self.rule(&doc.rule)?;
        let department = department.clone();
        let pending = self.engines.get(&department).map(Engine::pending).unwrap_or_default();
        let pending = pending.into_iter().find(|pending| pending.rule == doc.rule);
        let pending = pending.ok_or_else(|| format!("rule {} asks nobody at that time", doc.rule))?;
        let approval = Approval {
            pending: pending.id,
            shown: pending.shown,
            person: doc.person.clone().unwrap_or_else(|| doc.who.clone()),
            roles: vec![doc.who.clone()],
            answer,
        };
        self.put(&department, pending.world, What::Approval(approval), Some(department.clone()))
    }

    pub(super) fn pause(&mut self, rule: &str, pause: bool) -> Result<(), String> {
        let department = self.rule(rule)?.0.clone();
        let what = if pause { What::Pause(rule.into()) } else { What::Resume(rule.into()) };
        self.put(&department, World::Actual, what, Some(department.clone()))
    }

    pub(super) fn notice(&mut self, doc: &NoticeDoc) -> Result<(), String> {
        let from = DepartmentId::try_new(doc.from.as_str()).map_err(|error| error.to_string())?;
        let area = area(doc.point, doc.place.as_deref(), &[])?;
        self.put(&from, World::Actual, What::Notice(vec![area]), None)
    }

    pub(super) fn heard(&mut self, department: &str) -> Result<(), String> {
        let from = DepartmentId::try_new(department).map_err(|error| error.to_string())?;
        self.put(&from, World::Actual, What::Heard, None)
    }

    /// An officer takes an effect back by hand.
    pub(super) fn officer_cancels(&mut self, which: &MatchDoc) -> Result<(), String> {
        let live: Vec<(DepartmentId, crate::Live)> = self
            .engines
            .iter()
            .flat_map(|(own, engine)| engine.live().into_iter().map(move |live| (own.clone(), live)))
            .collect();
        let found = live.into_iter().find(|(_, live)| judge::matches_key(which, &live.effect));
        let Some((own, live)) = found else { return Err("there is no such effect to cancel".into()) };
        let alert = self.engines.get(&own).and_then(|engine| engine.correction(&live.message, self.now));
        let alert = alert.ok_or("the effect has no correction")?;
        // Its words are the prepared ones; an officer's own message has an identifier of its own.
        let alert = Alert { identifier: format!("officer-{}", self.number), ..alert };
        let words = classify(&alert, vocabulary::v1());
        self.put(&own, live.effect.world, What::Alert(Box::new(alert), words), None)
    }

    fn rule(&self, id: &str) -> Result<(&DepartmentId, &crate::Rule), String> {
        let mut engines = self.engines.iter();
        let found = engines.find_map(|(own, engine)| Some((own, engine.rule(id)?)));
        found.ok_or_else(|| format!("there is no rule {id} in the packs that are used"))
    }

    fn put(&mut self, from: &DepartmentId, world: World, what: What, only: Option<DepartmentId>) -> Result<(), String> {
        let department = from.clone();
        self.deliver(Sent { department, world, depth: 0, rules: Vec::new(), author: None, what, only })
    }

    /// Hands an input to the engines, and then everything that follows from it.
    fn deliver(&mut self, sent: Sent) -> Result<(), String> {
        let mut waiting: VecDeque<Sent> = [sent].into();
        let mut count = 0;
        while let Some(sent) = waiting.pop_front() {
            count += 1;
            if count > INPUTS_MAX {
                return Err("the cascade does not end".into());
            }
            self.number += 1;
            let hash: [u8; 32] = Sha256::digest(self.number.to_be_bytes()).into();
            let origin = OriginId::try_new(sent.department.clone(), "node-1").map_err(|error| error.to_string())?;
            let kind = match &sent.what {
                What::Alert(alert, classification) => InputKind::Alert { alert, classification },
                What::Tick(at) => InputKind::Tick { at: *at },
                What::Approval(approval) => InputKind::Approval(approval.clone()),
                What::Pause(rule) => InputKind::Pause {
                    rule: rule.clone(),
                    reason: "the case pauses it".into(),
                    until: None,
                    by: "officer".into(),
                },
                What::Resume(rule) => InputKind::Resume { rule: rule.clone(), by: "officer".into() },
                What::Envelope(envelope) => InputKind::Envelope(envelope.clone()),
                What::Notice(areas) => InputKind::Notice { areas: areas.clone() },
                What::Heard => InputKind::Heard,
            };
            let input = Input {
                hash,
                origin,
                department: sent.department.clone(),
                status: sent.world.status(),
                world: sent.world.clone(),
                time: self.now,
                received: self.now,
                previous_time: None,
                depth: sent.depth,
                rules: sent.rules.clone(),
                author: sent.author.clone(),
                kind,
            };
            for (own, engine) in &mut self.engines {
                if sent.only.as_ref().is_some_and(|only| only != own) {
                    continue;
                }
                let outcome = engine.try_out(&input);
                if !self.agreeing {
                    self.notes.extend(outcome.notes);
                    self.used.extend(outcome.used);
                }
                for effect in outcome.effects {
                    self.names.insert(effect.alert.id(), effect.key.to_string());
                    self.last.insert(effect.key.clone(), effect.clone());
                    self.sent.push(effect.clone());
                    waiting.push_back(Sent {
                        department: own.clone(),
                        world: effect.key.world,
                        depth: effect.depth,
                        rules: effect.rules,
                        author: None,
                        what: What::Alert(Box::new(effect.alert), effect.classification),
                        only: None,
                    });
                }
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        doc: &ShortAlert,
        from: &DepartmentId,
        world: &World,
        msg_type: MessageType,
        of: &[AlertId],
    ) -> Result<Alert, String> {
        self.number += 1;
        doc.to_cap(Frame {
            identifier: format!("{}-{}", doc.id, self.number),
            sender: format!("desk@{from}.test"),
            status: world.status(),
            msg_type,
            sent: self.now,
            of,
        })
    }
}
