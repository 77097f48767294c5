//! Records of running nodes as the transcript writes them.

use std::collections::BTreeMap;

use campanile_alert::{MessageType, ResponseType};
use campanile_client::exercise::{ExerciseAlert, ExerciseRecord};

use super::clock::DrillClock;
use crate::transcript::Record;

/// What is known of messages beside what stands in them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The inject that a message is, by the message.
    pub(super) injects: BTreeMap<String, String>,
    /// The target and the kinds of an effect in force, by CAP `identifier`, as its node says.
    pub(super) effects: BTreeMap<String, (String, Vec<String>)>,
    /// The target of each effect's message that was seen.
    targets: BTreeMap<String, String>,
}

impl Known {
    /// An alert of the exercise, as its node published it.
    pub(super) fn record(&mut self, record: &ExerciseRecord, content: &ExerciseAlert, clock: &DrillClock) -> Record {
        let alert = &content.alert;
        let id = alert.id().to_string();
        let references: Vec<String> = alert.referenced().iter().map(ToString::to_string).collect();
        let effect = self.effects.get(alert.identifier.as_str()).cloned();
        let target = content.rule.as_ref().map(|_| {
            // A Cancel names no place: it has the target of what it ends.
            let before = || references.iter().rev().find_map(|before| self.targets.get(before)).cloned();
            let site = || content.classification.sites.first().cloned();
            effect.as_ref().map(|(target, _)| target.clone()).or_else(before).or_else(site).unwrap_or_default()
        });
        if let Some(target) = &target {
            self.targets.insert(id.clone(), target.clone());
        }
        let clear = |info: &campanile_alert::Info| info.response_types.contains(&ResponseType::AllClear);
        Record {
            position: record.position.to_string(),
            from: record.department.clone(),
            msg_type: Some(alert.msg_type),
            status: Some(alert.status),
            exercise: None,
            event: content.classification.event.clone(),
            inject: self.injects.get(&id).cloned(),
            rule: content.rule.clone(),
            target,
            kinds: effect.map(|(_, kinds)| kinds).unwrap_or_default(),
            signal: content.classification.signal.clone(),
            level: content.classification.level,
            severity: alert.severity(),
            headlines: alert.infos.iter().filter_map(|info| info.headline.clone()).collect(),
            expires: alert.expires().map(|at| clock.ms(at)),
            all_clear: alert.msg_type == MessageType::Update
                && !alert.infos.is_empty()
                && alert.infos.iter().all(clear),
            references,
            causes: content.causes.iter().map(ToString::to_string).collect(),
            depth: content.depth,
            id,
        }
    }
}
