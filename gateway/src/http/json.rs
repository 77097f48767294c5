//! The JSON of the feeds: what a program needs to show an alert, and to check where it comes from.

use std::collections::BTreeMap;

use campanile_alert::{Alert, Area, Certainty, MessageType, OriginId, Severity, Timestamp, Urgency};
use campanile_log::Hash;
use serde::Serialize;

use crate::board::EndKind;
use crate::channels::feed::Snapshot;
use crate::incoming::{CauseRef, Incoming, Place};
use crate::notice::{DrillNotice, EndNotice};
use crate::texts::{Language, Texts};

/// The list of alerts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertList {
    /// The gateway that says so.
    pub gateway: OriginId,
    /// When the list last changed.
    pub updated: Timestamp,
    /// What is in force, the newest first; then what was cancelled or all-clear in the last hour.
    pub alerts: Vec<AlertJson>,
}

/// One alert.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertJson {
    /// The record's hash: SHA-256 of its header bytes.
    pub record: Hash,
    /// Where the record stands in its author's log.
    pub position: Place,
    /// `in-force`, `superseded`, `cancelled`, `all-clear` or `expired`.
    pub state: &'static str,
    /// Whose alert it is.
    pub department: String,
    /// CAP `sender`.
    pub sender: String,
    /// CAP `identifier`.
    pub identifier: String,
    /// The text of CAP `sent`.
    pub sent: String,
    /// CAP `msgType`.
    pub msg_type: MessageType,
    /// The event's code in the vocabulary; absent when it is unclassified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The level on the event's scale; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// The signal's code; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The sites it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// The worst of its infos; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Of its first info; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,
    /// Of its first info; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
    /// When the last of its infos expires; absent when none says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The rule that issued it; absent when a person or a system did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The alerts that led to it, the nearest first.
    pub causes: Vec<CauseRef>,
    /// Where it applies; the shapes are the texts of CAP.
    pub areas: Vec<AreaJson>,
    /// The words, by language.
    pub texts: BTreeMap<&'static str, Texts>,
    /// The CAP message, below this server.
    pub cap: String,
    /// The record's bytes, below this server.
    pub record_url: String,
}

/// One area.
#[derive(Debug, PartialEq, Serialize)]
pub struct AreaJson {
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    polygons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    circles: Vec<String>,
}

impl AreaJson {
    fn of(area: &Area) -> Self {
        Self {
            description: area.description.clone(),
            polygons: area.polygons.iter().map(|polygon| polygon.text().to_owned()).collect(),
            circles: area.circles.iter().map(|circle| circle.text().to_owned()).collect(),
        }
    }
}

/// The end of an alert, as an event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndJson {
    /// The record of the alert that ended.
    pub record: Hash,
    /// CAP `identifier` of it.
    pub identifier: String,
    /// How it ended.
    pub state: EndKind,
    /// When.
    pub at: Timestamp,
    /// The record that ended it; absent for an expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Hash>,
}

/// One alert of an exercise; every text bears the drill mark.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillJson {
    exercise: String,
    #[serde(flatten)]
    alert: AlertJson,
}

/// The list at one instant.
pub fn alerts(snapshot: &Snapshot, origin: &OriginId) -> AlertList {
    let in_force = snapshot.in_force.iter().map(|notice| alert(notice.incoming(), "in-force"));
    let ended = snapshot.ended.iter().map(|end| alert(end.incoming(), end.end().kind.as_str()));
    AlertList { gateway: origin.clone(), updated: snapshot.updated, alerts: in_force.chain(ended).collect() }
}

/// One alert with its state.
pub fn alert(incoming: &Incoming, state: &'static str) -> AlertJson {
    alert_with(incoming, state, |language| Texts::of(incoming, language))
}

/// How an alert stands in a snapshot; `superseded` and `expired` are told apart by what it says itself.
pub fn state_in(snapshot: &Snapshot, incoming: &Incoming) -> &'static str {
    let record = incoming.record;
    if snapshot.in_force.iter().any(|notice| notice.incoming().record == record) {
        return "in-force";
    }
    match snapshot.ended.iter().find(|end| end.incoming().record == record) {
        Some(end) => end.end().kind.as_str(),
        None => "ended",
    }
}

/// The end of an alert.
pub fn end(end: &EndNotice) -> EndJson {
    EndJson {
        record: end.incoming().record,
        identifier: end.incoming().alert.identifier.clone(),
        state: end.end().kind,
        at: end.end().at,
        by: end.end().by.as_ref().map(|by| by.record),
    }
}

/// The alerts of an exercise.
pub fn drill(notices: &[DrillNotice]) -> Vec<DrillJson> {
    let one = |notice: &DrillNotice| {
        let mut alert = alert_with(notice.incoming(), "in-force", |language| notice.texts(language));
        for area in &mut alert.areas {
            area.description = format!("{} {}", Language::En.drill_mark(), area.description);
        }
        DrillJson { exercise: notice.exercise().to_string(), alert }
    };
    notices.iter().map(one).collect()
}

fn alert_with(incoming: &Incoming, state: &'static str, texts: impl Fn(Language) -> Texts) -> AlertJson {
    let Alert { sender, identifier, sent, msg_type, infos, .. } = &*incoming.alert;
    let mut areas: Vec<AreaJson> = Vec::new();
    for area in infos.iter().flat_map(|info| &info.areas).map(AreaJson::of) {
        // The infos of one message mostly repeat one shape under a name in each language.
        if !areas.iter().any(|seen| (&seen.polygons, &seen.circles) == (&area.polygons, &area.circles)) {
            areas.push(area);
        }
    }
    AlertJson {
        record: incoming.record,
        position: incoming.place.clone(),
        state,
        department: incoming.department.to_string(),
        sender: sender.clone(),
        identifier: identifier.clone(),
        sent: sent.text().to_owned(),
        msg_type: *msg_type,
        event: incoming.classification.event.clone(),
        level: incoming.classification.level,
        signal: incoming.classification.signal.clone(),
        sites: incoming.classification.sites.clone(),
        severity: incoming.alert.severity(),
        urgency: infos.first().map(|info| info.urgency),
        certainty: infos.first().map(|info| info.certainty),
        expires: incoming.alert.expires(),
        rule: incoming.rule.clone(),
        causes: incoming.causes.clone(),
        areas,
        texts: Language::ALL.map(|language| (language.tag(), texts(language))).into_iter().collect(),
        cap: format!("/cap/{}.xml", incoming.record),
        record_url: format!("/records/{}", incoming.record),
    }
}
