//! What rules about silence are told: who spoke to the public about what, and who is heard at all.
//!
//! A gateway's report names an alert by its record; where that alert was about is remembered here, as long as a rule
//! waits for somebody's silence. A tick says which departments were heard, so that "nothing was said" and "nothing could
//! be heard" are told apart in a replay too.

use std::collections::BTreeMap;

use campanile_alert::Area;
use campanile_bus::Event;
use campanile_bus::record::Content;
use campanile_log::Hash;
use campanile_proto::gateway::v1::{DeliveryReport, DeliveryStage};
use campanile_rules::{Engine, Input, InputKind};
use serde::{Deserialize, Serialize};

use super::{AREAS_ROW, Rows, key_of};

/// How many alerts are remembered; the one that came first is forgotten first.
const ALERTS_MAX: usize = 1_024;

/// Where an alert was about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    arrival: u64,
    areas: Vec<Area>,
}

/// Where the alerts were about that a report may name, by their records.
#[derive(Debug, Default)]
pub(super) struct Areas(BTreeMap<Hash, About>);

impl Areas {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn take(&mut self, hash: Hash, about: About) {
        self.0.insert(hash, about);
    }

    /// Remembers where an alert is about, when a rule of the engine waits for silence.
    pub(super) fn note(&mut self, engine: &Engine, event: &Event<'_>, rows: &mut Rows) {
        let Content::Alert { alert, .. } = &event.body.content else { return };
        if !engine.rules().any(|rule| rule.absent.is_some()) {
            return;
        }
        let areas: Vec<Area> = alert.infos.iter().flat_map(|info| info.areas.iter().cloned()).collect();
        if areas.is_empty() {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, about)| about.arrival).map(|(hash, _)| *hash);
        if let Some(oldest) = oldest.filter(|_| self.0.len() >= ALERTS_MAX) {
            self.0.remove(&oldest);
            rows.push((key_of(AREAS_ROW, &oldest.0), None));
        }
        let hash = event.arrival.entry.position.hash;
        let about = About { arrival: event.arrival.entry.arrival, areas };
        rows.push((key_of(AREAS_ROW, &hash.0), serde_json::to_vec(&about).ok()));
        self.0.insert(hash, about);
    }

    /// Where the public was told, when a report says that a channel took the alert over.
    pub(super) fn told(&self, report: &DeliveryReport) -> Option<Vec<Area>> {
        let handed = |stage: &campanile_proto::gateway::v1::StageCount| {
            stage.count > 0 && stage.stage() as i32 >= DeliveryStage::Handed as i32
        };
        let hash = Hash::try_from(report.record_hash.as_slice()).ok()?;
        report.stages.iter().any(handed).then(|| self.0.get(&hash).map(|about| about.areas.clone()))?
    }
}

/// One input for each department that a tick says was heard; nothing for any other record. They come just before the
/// tick's moment: what is due then must know of all of them.
pub(super) fn heard<'a>(event: &Event<'_>, input: &Input<'a>) -> Vec<Input<'a>> {
    let Content::Tick(tick) = &event.body.content else { return Vec::new() };
    let before = tick.at.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap_or(tick.at);
    let one = |department: &campanile_alert::DepartmentId| Input {
        department: department.clone(),
        time: before,
        received: before,
        kind: InputKind::Heard,
        ..input.clone()
    };
    tick.heard.iter().map(one).collect()
}
