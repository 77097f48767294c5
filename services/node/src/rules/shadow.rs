//! Packs in shadow: an engine of their own sees the same inputs, and what it would issue is written down instead.
//!
//! Nothing follows from a shadow: its records go to the own department alone, hold no message, and are no input. Rows of
//! its engine are kept apart from those of the packs in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::{DepartmentId, Timestamp};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Content, Draft};
use campanile_log::Hash;
use campanile_proto::rules::v1::ShadowDecision;
use campanile_rules::{Decision, Effect, Engine, Input, Options, Verdict};
use serde::{Deserialize, Serialize};

use super::packs::{self, Files, Ready, Unfit};
use super::{Library, Rows, SHADOW_ENGINE_ROW, SHADOW_ROW, effects, key_of};
use crate::alert_service::private;

/// How many packs may be in shadow at once.
const SHADOWS_MAX: usize = 8;

/// A pack in shadow, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// What it is.
    pub files: Files,
    /// Its digest.
    pub digest: Hash,
    /// Since when.
    pub since: Timestamp,
    /// The person who began it, by the roster's id.
    pub person: String,
    /// How many messages it would have issued.
    pub issued: u64,
    /// How often it would have asked persons.
    pub asked: u64,
}

/// The packs in shadow and their engine.
#[derive(Debug, Default)]
pub struct Shadows {
    packs: BTreeMap<String, (Shadow, Arc<Ready>)>,
    engine: Option<Engine>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Shadows {
    /// The packs in shadow, by name.
    pub fn packs(&self) -> impl Iterator<Item = (&String, &Shadow)> {
        self.packs.iter().map(|(name, (shadow, _))| (name, shadow))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    pub(super) fn take_row(&mut self, key: &[u8], value: Vec<u8>) {
        self.rows.insert(key.to_vec(), value);
    }

    pub(super) fn take_pack(&mut self, name: String, shadow: Shadow, library: &Library) -> Result<(), String> {
        match shadow.files.read(library) {
            Ok((ready, _)) => {
                self.packs.insert(name, (shadow, Arc::new(ready)));
            }
            // A shadow that cannot be read any more costs a report, and no warning of anybody.
            Err(unfit) => tracing::warn!(pack = name, "A pack in shadow cannot be read any more: {unfit}"),
        }
        Ok(())
    }

    pub(super) fn begin(
        &mut self,
        files: Files,
        ready: Ready,
        person: String,
        since: Timestamp,
        rows: &mut Rows,
    ) -> Result<(), Unfit> {
        let name = ready.pack.name.clone();
        if self.packs.len() >= SHADOWS_MAX && !self.packs.contains_key(&name) {
            return Err(Unfit(format!("{SHADOWS_MAX} packs are in shadow already; end one first")));
        }
        let digest = Hash(ready.pack.digest);
        let shadow = Shadow { files, digest, since, person, issued: 0, asked: 0 };
        rows.push((key_of(SHADOW_ROW, name.as_bytes()), serde_json::to_vec(&shadow).ok()));
        self.packs.insert(name, (shadow, Arc::new(ready)));
        Ok(())
    }

    pub(super) fn end(&mut self, name: &str, rows: &mut Rows) {
        self.packs.remove(name);
        rows.push((key_of(SHADOW_ROW, name.as_bytes()), None));
        if self.packs.is_empty() {
            let gone = std::mem::take(&mut self.rows).into_keys();
            rows.extend(gone.map(|key| (key_of(SHADOW_ENGINE_ROW, &key), None)));
        }
    }

    /// Makes the engine of the packs that are in shadow now, over what the last one remembered.
    pub(super) fn restart(&mut self, department: &DepartmentId, options: &Options) -> Result<(), Unfit> {
        self.engine = None;
        if self.packs.is_empty() {
            return Ok(());
        }
        let mut engine = packs::engine(department, options, self.packs.values().map(|(_, ready)| ready))?;
        let rows = self.rows.iter().map(|(key, value)| (key.clone(), value.clone()));
        engine.restore(rows).map_err(|error| Unfit(error.to_string()))?;
        self.engine = Some(engine);
        Ok(())
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.engine.as_ref().and_then(Engine::due)
    }

    /// Evaluates an input; the drafts say what would have been done.
    pub(super) fn apply(&mut self, input: &Input<'_>, rows: &mut Rows) -> Vec<Draft> {
        let Some(engine) = &mut self.engine else { return Vec::new() };
        let outcome = engine.apply(input);
        for (key, value) in outcome.state {
            match &value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(&key),
            };
            rows.push((key_of(SHADOW_ENGINE_ROW, &key), value));
        }
        let issued: Vec<ShadowDecision> = outcome.effects.iter().map(issued).collect();
        let asked = outcome.notes.iter().filter(|note| note.verdict == Verdict::Asked);
        let asked: Vec<ShadowDecision> = asked.map(|note| asking(engine, note)).collect();
        if issued.is_empty() && asked.is_empty() {
            return Vec::new();
        }
        for (name, (shadow, _)) in &mut self.packs {
            let of = |decision: &&ShadowDecision| decision.rule.as_ref().is_some_and(|rule| rule.pack == *name);
            shadow.issued += issued.iter().filter(of).count() as u64;
            shadow.asked += asked.iter().filter(of).count() as u64;
            rows.push((key_of(SHADOW_ROW, name.as_bytes()), serde_json::to_vec(shadow).ok()));
        }
        let (status, exercise) = (input.world.status(), input.world.exercise().cloned());
        let draft = |decision| plain_draft(status, exercise.clone(), private(), Content::Shadow(Box::new(decision)));
        issued.into_iter().chain(asked).map(draft).collect()
    }
}

fn issued(effect: &Effect) -> ShadowDecision {
    let text = |language: &str| effects::headline(&effect.alert, language);
    ShadowDecision {
        rule: Some(effects::rule_to_wire(&effect.rule)),
        trigger: effect.trigger.to_vec(),
        target: effect.key.target.clone(),
        effect_event: effect.key.effect.clone(),
        message_type: effect.alert.msg_type.to_string(),
        text_en: text("en"),
        text_zh_hant: text("zh-Hant"),
    }
}

fn asking(engine: &Engine, note: &Decision) -> ShadowDecision {
    ShadowDecision {
        rule: engine.reference(&note.rule).map(effects::rule_to_wire),
        trigger: note.record.to_vec(),
        target: String::new(),
        effect_event: engine.rule(&note.rule).map(|rule| rule.then.issue.clone()).unwrap_or_default(),
        message_type: String::new(),
        text_en: note.why.en.clone(),
        text_zh_hant: note.why.zh_hant.clone(),
    }
}
