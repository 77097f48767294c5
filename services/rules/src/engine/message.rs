//! The messages that effects are published as: CAP 1.2, one info for each language.
//!
//! The identifier is made from the effect's key, the record that triggered it and the message type, so a second
//! evaluation after a crash issues the same message and the bus stores it once. Causes never stand in `references`,
//! which name the effect's own earlier messages; they are in `incidents` and in the record around the message.

use std::collections::BTreeMap;

use campanile_alert::vocabulary::{EVENT_CODE, SITE};
use campanile_alert::{
    Alert, Area, CapVersion, Circle, DateTime, Group, Info, MessageType, References, ResponseType, Scope, Urgency,
    ValuePair,
};
use sha2::{Digest, Sha256};

use super::state::{InForce, Known, Lineage, MESSAGES_MAX, Support};
use super::{Active, Engine, Step, classification_of};
use crate::{CAUSES_MAX, Cause, DEPTH_MAX, Effect, EffectKey, Site, Text};

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
}

impl Engine {
    /// Publishes a message of an effect and writes down what it said.
    pub(super) fn publish(&mut self, active: &Active, key: &EffectKey, message: MessageType, step: &mut Step) {
        let Some(effect) = self.state.effects.get(key).cloned() else { return };
        let sent = step.time.max(effect.sent);
        let alert = self.message(active, key, &effect, message, sent, step);
        let supports: BTreeMap<&Lineage, &Support> = effect.support.iter().chain(&effect.expired).collect();
        let mut causes: Vec<Cause> = supports.values().map(|support| support.cause.clone()).collect();
        causes.sort();
        let cause_count = causes.len();
        causes.truncate(CAUSES_MAX);
        let deepest = supports.values().map(|support| support.depth).max().unwrap_or(0);
        let mut rules: Vec<String> = Vec::new();
        for rule in supports.values().flat_map(|support| &support.rules) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        rules.push(key.rule.clone());
        let id = alert.id();
        step.effects.push(Effect {
            key: key.clone(),
            alert,
            classification: classification_of(key),
            causes,
            cause_count,
            rule: active.reference.clone(),
            rules,
            depth: (deepest + 1).min(DEPTH_MAX),
            trigger: step.trigger,
        });
        self.messages.insert(id.clone(), key.clone());
        let mut forgotten = Vec::new();
        self.state.effects.change(key, |effect| {
            effect.named = effect.support.keys().chain(effect.expired.keys()).cloned().collect();
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
        step: &Step,
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
        let words = self.rendered(active, &key.target, known.first().copied());
        let infos = words.into_iter().map(|words| self.info(active, key, effect, message, &known, words));
        Alert {
            version: CapVersion::V1_2,
            identifier: identifier(key, &step.trigger, message, self.department.as_str()),
            sender: self.options.sender.clone(),
            sent: DateTime::from_instant(sent, active.utc_offset_minutes),
            status: key.world.status(),
            msg_type: message,
            password: None,
            source: None,
            scope: Some(Scope::Public),
            restriction: None,
            addresses: None,
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
        let event = self.vocabulary.event(&rule.then.issue);
        let areas = match self.site(active, &key.target) {
            Some(site) => vec![site_area(site, &words.language)],
            None if rule.pick.is_some() => vec![code_area(&key.target)],
            None => cause_areas(known),
        };
        Info {
            categories: event.map(|event| vec![event.category]).unwrap_or_default(),
            event: event.map_or(rule.then.issue.as_str(), |event| event.names.get(&words.language)).into(),
            language: Some(words.language),
            response_types: if cancel { vec![ResponseType::AllClear] } else { rule.then.responses.clone() },
            urgency: if cancel { Urgency::Past } else { rule.then.urgency },
            severity: rule.then.severity,
            certainty: rule.then.certainty,
            audience: None,
            event_codes: vec![ValuePair::new(EVENT_CODE, rule.then.issue.as_str())],
            effective: None,
            onset: None,
            expires: Some(DateTime::from_instant(effect.until, active.utc_offset_minutes)),
            sender_name: None,
            headline: Some(if cancel { words.retract } else { words.headline }),
            description: words.description.filter(|_| !cancel),
            instruction: (!cancel).then_some(words.instruction),
            web: None,
            contact: None,
            parameters: Vec::new(),
            resources: Vec::new(),
            areas,
        }
    }

    /// The texts for a target, the first cause's words filled in; without a cause only the target's are.
    pub(super) fn rendered(&self, active: &Active, target: &str, known: Option<&Known>) -> Vec<Words> {
        let site = self.site(active, target);
        let fill = |language: &str, text: &Text| {
            let event = known.and_then(|known| self.vocabulary.event(&known.event));
            let level = known.and_then(|known| known.level).map(|level| level.to_string());
            let values = [
                ("{target.name}", site.map_or(target, |site| site.name(language)).to_string()),
                ("{target.key}", target.to_string()),
                ("{cause.event}", event.map_or("", |event| event.names.get(language)).to_string()),
                ("{cause.level}", level.unwrap_or_default()),
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
            }
        };
        active.rule.then.texts.iter().map(|(language, text)| fill(language, text)).collect()
    }

    fn site(&self, active: &Active, target: &str) -> Option<&Site> {
        active.rule.pick.as_ref().and_then(|pick| self.data.get(&pick.targets)?.site(target))
    }
}

/// The words in braces that a text may use.
pub(crate) const PLACEHOLDERS: [&str; 5] =
    ["{target.name}", "{target.key}", "{cause.event}", "{cause.level}", "{cause.place}"];

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
