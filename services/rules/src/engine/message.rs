//! The messages that effects are published as: CAP 1.2, one info for each language.
//!
//! The identifier is made from the effect's key, the record that triggered it and the message type, so a second
//! evaluation after a crash issues the same message and the bus stores it once. Causes never stand in `references`,
//! which name the effect's own earlier messages; they are in `incidents` and in the record around the message.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::vocabulary::{EVENT_CODE, SITE};
use campanile_alert::{
    Alert, AlertId, Area, CapVersion, Circle, DateTime, Group, Info, MessageType, References, ResponseType, Scope,
    Status, Urgency, ValuePair,
};
use sha2::{Digest, Sha256};

use super::state::{CandidateKey, InForce, Known, Lineage, MESSAGES_MAX, Support};
use super::{Active, Engine, Step, classification_of};
use crate::{CAUSES_MAX, Cause, DEPTH_MAX, Effect, EffectKey, NamedArea, Sentence, Site, Text, Validity};

/// The radius of the circle around each position of a site, in kilometres: a school with its yard.
const SITE_RADIUS_KM: f64 = 0.05;

/// The most areas that an effect without targets takes over from its causes.
const AREAS_MAX: usize = 100;

/// The texts of an effect, filled in.
pub(super) struct Words {
    pub(super) language: String,
    pub(super) headline: String,
    pub(super) instruction: String,
    description: Option<String>,
    retract: String,
    speech: BTreeMap<String, String>,
    /// When a channel may send it, as parameters; empty until it is made into a message.
    validity: Vec<ValuePair>,
}

/// Adds the rules of a chain that are not there yet.
pub(super) fn join_rules<'a>(rules: &mut Vec<String>, more: impl IntoIterator<Item = &'a String>) {
    for rule in more {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
}

impl Engine {
    /// Publishes a message of an effect and writes down what it said.
    pub(super) fn publish(&mut self, active: &Active, key: &EffectKey, message: MessageType, step: &mut Step) {
        let Some(effect) = self.state.effects.get(key).cloned() else { return };
        let sent = step.time.max(effect.sent);
        let taken = match message {
            MessageType::Alert | MessageType::Update => self.take_the_place(key, sent, step),
            _ => Vec::new(),
        };
        let message = if taken.is_empty() { message } else { MessageType::Update };
        let mut alert = self.message(active, key, &effect, message, sent, &step.trigger);
        if !taken.is_empty() {
            let all: Vec<AlertId> = alert.referenced().iter().cloned().chain(taken).collect();
            alert.references = Some(References::from_ids(&all));
        }
        let supports: BTreeMap<&Lineage, &Support> = effect.support.iter().chain(&effect.expired).collect();
        let mut causes: Vec<Cause> = supports.values().map(|support| support.cause.clone()).collect();
        causes.sort();
        let cause_count = causes.len();
        causes.truncate(CAUSES_MAX);
        let deepest = supports.values().map(|support| support.depth).fold(effect.deepest, u32::max);
        let mut behind = effect.behind.clone();
        join_rules(&mut behind, supports.values().flat_map(|support| &support.rules));
        let rules = behind.iter().cloned().chain([key.rule.clone()]).collect();
        let id = alert.id();
        // What the codes of the alert say: every receiver derives the same, and counts nothing else.
        let said = campanile_alert::classify::classify(&alert, self.vocabulary);
        let classification = if said.event.is_some() { said } else { classification_of(key) };
        step.effects.push(Effect {
            key: key.clone(),
            alert,
            classification,
            causes,
            cause_count,
            kinds: effect.kinds_at(step.now),
            rule: active.reference.clone(),
            rules,
            depth: (deepest + 1).min(DEPTH_MAX),
            trigger: step.trigger,
        });
        self.messages.insert(id.clone(), key.clone());
        let mut forgotten = Vec::new();
        let now = step.now;
        self.state.effects.change(key, |effect| {
            effect.kinds = effect.kinds_at(now);
            effect.named = effect.support.keys().chain(effect.expired.keys()).cloned().collect();
            (effect.behind, effect.deepest) = (behind, deepest);
            effect.sent = sent;
            effect.messages.push((id, effect.until));
            let surplus = effect.messages.len().saturating_sub(MESSAGES_MAX);
            forgotten.extend(effect.messages.drain(..surplus));
        });
        for (id, _) in forgotten {
            self.messages.remove(&id);
        }
    }

    /// Takes an officer's update as a message of the effect.
    pub(super) fn adopt(&mut self, key: &EffectKey, alert: &Alert) {
        let id = alert.id();
        let expires = alert.expires();
        self.messages.insert(id.clone(), key.clone());
        self.state.effects.change(key, |effect| {
            effect.messages.push((id, expires.unwrap_or(effect.until)));
            effect.sent = effect.sent.max(alert.sent.instant());
            let surplus = effect.messages.len().saturating_sub(MESSAGES_MAX);
            effect.messages.drain(..surplus);
        });
    }

    fn message(
        &self,
        active: &Active,
        key: &EffectKey,
        effect: &InForce,
        message: MessageType,
        sent: campanile_alert::Timestamp,
        trigger: &[u8; 32],
    ) -> Alert {
        // A message that has expired is no longer to be referred to. Source: CAP 1.2 §3.2.1 `references`.
        let earlier = effect.messages.iter().filter(|(_, expires)| *expires > sent);
        let earlier: Vec<_> = earlier.map(|(id, _)| id.clone()).collect();
        let mut incidents: Vec<String> = effect
            .support
            .values()
            .chain(effect.expired.values())
            .map(|support| support.cause.alert.to_string())
            .collect();
        incidents.sort();
        incidents.truncate(CAUSES_MAX);
        let known: Vec<&Known> = effect.support.keys().filter_map(|lineage| self.state.known.get(lineage)).collect();
        let kinds = effect.kinds_at(sent);
        let words = self.rendered(active, &key.effect, &key.target, known.first().copied(), &kinds);
        let validity = active.rule.then.validity.parameters(sent, active.utc_offset_minutes);
        let words = words.into_iter().map(|words| Words { validity: validity.clone(), ..words });
        let infos = words.map(|words| self.info(active, key, effect, message, &known, words));
        let draft = active.rule.then.draft;
        // A draft goes to persons: the roles it is put to stand as its addresses.
        let roles: Vec<&String> = active.rule.then.to.iter().filter(|_| draft).collect();
        Alert {
            version: CapVersion::V1_2,
            identifier: identifier(key, trigger, message, self.department.as_str()),
            sender: self.options.sender.clone(),
            sent: DateTime::from_instant(sent, active.utc_offset_minutes),
            status: if draft { Status::Draft } else { key.world.status() },
            msg_type: message,
            password: None,
            source: None,
            scope: Some(if draft { Scope::Private } else { Scope::Public }),
            restriction: None,
            addresses: (!roles.is_empty()).then(|| Group::from_items(&roles)),
            codes: Vec::new(),
            // CAP 1.2 §3.2.1 `status`: the exercise should be named in `note`.
            note: key.world.exercise().map(ToString::to_string),
            references: (!earlier.is_empty()).then(|| References::from_ids(&earlier)),
            incidents: (!incidents.is_empty()).then(|| Group::from_items(&incidents)),
            infos: infos.collect(),
            signatures: Vec::new(),
        }
    }

    fn info(
        &self,
        active: &Active,
        key: &EffectKey,
        effect: &InForce,
        message: MessageType,
        known: &[&Known],
        words: Words,
    ) -> Info {
        let (rule, cancel) = (&active.rule, message == MessageType::Cancel);
        let event = self.vocabulary.event(&key.effect);
        let sitting = active.frame.schedule.of_target(&key.target);
        let session = sitting.map(|_| ValuePair::new(SESSION, key.target.as_str()));
        let speech = words.speech.iter().map(|(tag, text)| ValuePair::new(format!("{SPEECH}:{tag}"), text));
        let spoken = if cancel { Vec::new() } else { speech.chain(words.validity.clone()).collect() };
        let parameters = session.into_iter().chain(spoken).collect();
        let areas = match (self.site(active, &key.target), &rule.then.area) {
            (Some(site), _) => vec![site_area(site, &words.language)],
            (None, Some(area)) => vec![named_area(area, &words.language)],
            (None, None) if rule.pick.is_some() => vec![code_area(&key.target)],
            (None, None) => cause_areas(known),
        };
        Info {
            categories: event.map(|event| vec![event.category]).unwrap_or_default(),
            event: event.map_or(key.effect.as_str(), |event| event.names.get(&words.language)).into(),
            language: Some(words.language),
            response_types: if cancel { vec![ResponseType::AllClear] } else { rule.then.responses.clone() },
            urgency: if cancel { Urgency::Past } else { rule.then.urgency },
            severity: rule.then.severity,
            certainty: rule.then.certainty,
            audience: None,
            event_codes: vec![ValuePair::new(EVENT_CODE, key.effect.as_str())],
            effective: None,
            onset: None,
            expires: Some(DateTime::from_instant(effect.until, active.utc_offset_minutes)),
            sender_name: None,
            headline: Some(if cancel { words.retract } else { words.headline }),
            description: words.description.filter(|_| !cancel),
            instruction: (!cancel).then_some(words.instruction),
            web: None,
            contact: None,
            parameters,
            resources: Vec::new(),
            areas,
        }
    }

    /// The texts for a target, the first cause's words filled in; without a cause only the target's are.
    pub(super) fn rendered(
        &self,
        active: &Active,
        effect: &str,
        target: &str,
        known: Option<&Known>,
        kinds: &BTreeSet<String>,
    ) -> Vec<Words> {
        let site = self.site(active, target);
        let frame = &active.frame;
        let sitting = frame.schedule.of_target(target);
        let fill = |language: &str, text: &Text| {
            let in_language = |sentence: &Sentence| {
                if language.starts_with("en") { sentence.en.clone() } else { sentence.zh_hant.clone() }
            };
            let session = sitting.as_ref().and_then(|sitting| frame.schedule.sessions.get(&sitting.session));
            let joined: Vec<String> = kinds.iter().filter_map(|kind| frame.kinds.get(kind)).map(in_language).collect();
            let signal = known.and_then(|known| known.signal.as_ref()).and_then(|code| self.vocabulary.signal(code));
            let event = known.and_then(|known| self.vocabulary.event(&known.event));
            let level = known.and_then(|known| known.level).map(|level| level.to_string());
            let values = [
                ("{target.name}", site.map_or(target, |site| site.name(language)).to_string()),
                ("{target.key}", target.to_string()),
                ("{cause.event}", event.map_or("", |event| event.names.get(language)).to_string()),
                ("{cause.level}", level.unwrap_or_default()),
                ("{cause.signal}", signal.map_or("", |signal| signal.names.get(language)).to_string()),
                ("{session.name}", session.map(|session| in_language(&session.name)).unwrap_or_default()),
                ("{session.day}", target.split_once('/').map_or("", |(day, _)| day).to_string()),
                ("{kinds}", joined.join(if language.starts_with("en") { ", " } else { "、" })),
                (
                    "{cause.place}",
                    known.and_then(|known| known.areas.first()).map_or("", |a| &a.description).to_string(),
                ),
            ];
            let fill = |text: &String| fill(text, &values);
            Words {
                language: language.into(),
                headline: fill(&text.headline),
                instruction: fill(&text.instruction),
                description: text.description.as_ref().map(fill),
                retract: fill(&text.retract),
                speech: text.speech.iter().map(|(tag, text)| (tag.clone(), fill(text))).collect(),
                validity: Vec::new(),
            }
        };
        let texts = active.rule.then.texts.get(effect);
        texts.into_iter().flatten().map(|(language, text)| fill(language, text)).collect()
    }

    /// The kinds that a candidate's row names for a target.
    pub(super) fn kinds_of(&self, key: &CandidateKey, target: &str) -> BTreeSet<String> {
        let kinds = self.state.candidates.get(key).and_then(|candidate| candidate.kinds.get(target));
        kinds.cloned().unwrap_or_default()
    }

    /// The message that would take an effect back, ready to be confirmed: its words were approved with the effect's.
    ///
    /// `message` is any message of the effect, `at` the time it would be sent. `None` when the effect is not in force
    /// or its rule no longer active.
    pub fn correction(&self, message: &AlertId, at: campanile_alert::Timestamp) -> Option<Alert> {
        let key = self.messages.get(message)?;
        let (effect, active) = (self.state.effects.get(key)?, self.rules.get(&key.rule)?);
        let trigger = Sha256::digest(message.to_string()).into();
        Some(self.message(active, key, effect, MessageType::Cancel, at.max(effect.sent), &trigger))
    }

    fn site(&self, active: &Active, target: &str) -> Option<&Site> {
        active.rule.pick.as_ref().and_then(|pick| self.data.get(&pick.targets)?.site(target))
    }
}

/// The words in braces that a text may use.
pub(crate) const PLACEHOLDERS: [&str; 9] = [
    "{target.name}",
    "{target.key}",
    "{cause.event}",
    "{cause.level}",
    "{cause.signal}",
    "{cause.place}",
    "{session.name}",
    "{session.day}",
    "{kinds}",
];

/// `parameter` names of what is spoken (with a language tag behind it) and of when a channel may send.
const SPEECH: &str = "campanile:speech";
/// `parameter` name of the session and day that an effect is for, as `2026-09-15/pm`.
pub(super) const SESSION: &str = "campanile:session";
const NOT_AFTER: &str = "campanile:not-after";
const VALID_WHILE: &str = "campanile:valid-while";
const REPEAT_EVERY: &str = "campanile:repeat-every-seconds";

impl Validity {
    /// As CAP parameters: a channel reads them when it sends, not when it queues.
    fn parameters(&self, sent: campanile_alert::Timestamp, offset_minutes: i32) -> Vec<ValuePair> {
        let day = crate::calendar::local(sent);
        let until = self.not_after.and_then(|time| crate::calendar::instant(day, time));
        let until = until.map(|at| ValuePair::new(NOT_AFTER, DateTime::from_instant(at, offset_minutes).to_string()));
        let cause = self.while_cause.then(|| ValuePair::new(VALID_WHILE, "cause live"));
        let repeat = self.repeat_s.map(|seconds| ValuePair::new(REPEAT_EVERY, seconds.to_string()));
        [until, cause, repeat].into_iter().flatten().collect()
    }
}

/// Fills in each placeholder in one pass from the left, so a name that looks like a placeholder stays as it is.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        filled.push_str(before);
        let hit = values.iter().find_map(|(name, value)| {
            let name = name.strip_prefix('{')?;
            Some((from.strip_prefix(name)?, value))
        });
        match hit {
            Some((after, value)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = from;
            }
        }
    }
    filled.push_str(rest);
    filled
}

fn identifier(key: &EffectKey, trigger: &[u8; 32], message: MessageType, department: &str) -> String {
    let bytes = serde_json::to_vec(&(key, hex::encode(trigger), message)).unwrap_or_default();
    let digest = hex::encode(Sha256::digest(bytes));
    format!("{department}-{}", digest.get(..32).unwrap_or_default())
}

fn site_area(site: &Site, language: &str) -> Area {
    let circles = site.points.iter().filter_map(|point| Circle::new(*point, SITE_RADIUS_KM).ok()).collect();
    Area { description: site.name(language).into(), circles, ..code_area(&site.key) }
}

fn named_area(area: &NamedArea, language: &str) -> Area {
    let name = if language.starts_with("en") { &area.name.en } else { &area.name.zh_hant };
    Area { description: name.clone(), polygons: vec![area.polygon.clone()], ..Area::default() }
}

/// A target that its data set no longer has: its key is all that is known of its place.
fn code_area(target: &str) -> Area {
    Area { description: target.into(), geocodes: vec![ValuePair::new(SITE, target)], ..Area::default() }
}

fn cause_areas(known: &[&Known]) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    for area in known.iter().flat_map(|known| &known.areas) {
        if areas.len() < AREAS_MAX && !areas.contains(area) {
            areas.push(area.clone());
        }
    }
    areas
}
