//! What a node answers about alerts, in the domain's types: each checked at the door, each with a JSON form for humans.

use std::fmt;

use bytes::Bytes;
use campanile_alert::classify::Classification;
use campanile_alert::{Alert, AlertId, DepartmentId, ExerciseId, Severity, Status, Timestamp};
use campanile_proto::bus::v1 as bus;
use campanile_proto::convert::{self, Fault};
use campanile_proto::gateway::v1 as gateway;
use campanile_proto::rules::v1 as rules;
use serde::Serialize;

/// A place in a log. Its text is `origin:lane:epoch:seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The author: `department/node`.
    pub origin: String,
    /// `urgent`, `routine` or `exercise`.
    pub lane: &'static str,
    /// The epoch.
    pub epoch: u64,
    /// The number within the epoch, from 1.
    pub seq: u64,
    /// The hash of the record there, in hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.origin, self.lane, self.epoch, self.seq)
    }
}

impl Position {
    pub(crate) fn from_wire(position: Option<bus::Position>, name: &str) -> Result<Self, Fault> {
        let position = position.ok_or_else(|| missing(name))?;
        let lane = convert::lane_from_wire(position.lane, &format!("{name}.lane"))?;
        Ok(Self {
            origin: position.origin,
            lane: convert::lane_name(lane),
            epoch: position.epoch,
            seq: position.seq,
            hash: hex::encode(&position.hash),
        })
    }
}

pub(crate) fn missing(name: &str) -> Fault {
    Fault { path: name.into(), reason: "it is missing from the answer".into() }
}

/// An alert that another follows from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// The alert.
    pub id: AlertId,
    /// The author of its record.
    pub origin: String,
    /// The hash of its record, in hexadecimal digits.
    pub record_hash: String,
}

/// The rule that issued an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// The pack that it stands in.
    pub pack: String,
    /// SHA-256 of the pack, in hexadecimal digits.
    pub pack_digest: String,
    /// The data sets it read, each with SHA-256 in hexadecimal digits.
    pub data_sets: Vec<(String, String)>,
}

impl From<rules::RuleRef> for Rule {
    fn from(rule: rules::RuleRef) -> Self {
        let data_sets = rule.data_sets.into_iter().map(|set| (set.name, hex::encode(&set.digest))).collect();
        Self { id: rule.id, pack: rule.pack, pack_digest: hex::encode(&rule.pack_digest), data_sets }
    }
}

/// Whether an alert is in force at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// Not known: an Ack, an Error, or a message that does not count.
    Unknown,
    /// In force.
    InForce,
    /// An Update took its place.
    Superseded,
    /// A Cancel ended it.
    Cancelled,
    /// Its time ran out, which is no all-clear.
    Expired,
    /// An all-clear ended it.
    AllClear,
}

impl AlertState {
    fn from_wire(value: i32) -> Self {
        match bus::AlertState::try_from(value) {
            Ok(bus::AlertState::InForce) => Self::InForce,
            Ok(bus::AlertState::Superseded) => Self::Superseded,
            Ok(bus::AlertState::Cancelled) => Self::Cancelled,
            Ok(bus::AlertState::Expired) => Self::Expired,
            Ok(bus::AlertState::AllClear) => Self::AllClear,
            // A state that only a newer node knows is not known here.
            Ok(bus::AlertState::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

/// An alert as the node holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertRecord {
    /// The message.
    pub alert: Alert,
    /// What it means in the vocabulary.
    pub classification: Classification,
    /// Where it stands.
    pub position: Position,
    /// The department that published it.
    pub department: String,
    /// When its author sealed it.
    pub time: Timestamp,
    /// When it came to be on the node's disk.
    pub received: Timestamp,
    /// The alerts that led to it.
    pub causes: Vec<Cause>,
    /// The rule that issued it; absent when a person did.
    pub rule: Option<Rule>,
    /// The length of the chain of effects.
    pub depth: u32,
    /// The exercise it belongs to.
    pub exercise: Option<String>,
    /// W3C trace context.
    pub traceparent: String,
    /// Its state at the node when it answered.
    pub state: AlertState,
    /// Why it does not count; absent when it does.
    pub not_counted: Option<String>,
}

impl AlertRecord {
    pub(crate) fn from_wire(record: Option<bus::AlertRecord>) -> Result<Self, Vec<Fault>> {
        let one = |fault: Fault| vec![fault];
        let record = record.ok_or_else(|| one(missing("alert")))?;
        let alert = convert::alert_from_wire(record.alert.ok_or_else(|| one(missing("alert.alert")))?)?;
        let causes = record.causes.into_iter().map(|cause| Cause {
            id: AlertId::new(cause.sender, cause.identifier, cause.sent),
            origin: cause.origin,
            record_hash: hex::encode(&cause.record_hash),
        });
        Ok(Self {
            alert,
            classification: convert::classification_from_wire(record.classification.unwrap_or_default()),
            position: Position::from_wire(record.position, "position").map_err(one)?,
            department: record.department,
            time: convert::timestamp_from_wire(record.time.as_ref(), "time").map_err(one)?,
            received: convert::timestamp_from_wire(record.received.as_ref(), "received").map_err(one)?,
            causes: causes.collect(),
            rule: record.rule.map(Rule::from),
            depth: record.depth,
            exercise: record.exercise_id,
            traceparent: record.traceparent,
            state: AlertState::from_wire(record.state),
            not_counted: Some(record.not_counted).filter(|reason| !reason.is_empty()),
        })
    }
}

/// What one channel did with an alert: counts, never a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The alert.
    pub id: AlertId,
    /// The channel, for example `feed`.
    pub channel: String,
    /// How many endpoints or recipients came to each stage, for example `("handed", 2)`.
    pub stages: Vec<(String, u64)>,
    /// How many failed for each reason, for example `("timeout", 1)`.
    pub failures: Vec<(String, u64)>,
    /// When the last of it happened; absent when the gateway did not say.
    pub time: Option<Timestamp>,
}

impl From<gateway::DeliveryReport> for Delivery {
    fn from(report: gateway::DeliveryReport) -> Self {
        let stage = |count: gateway::StageCount| (word(count.stage().as_str_name(), "DELIVERY_STAGE_"), count.count);
        let failure =
            |count: gateway::FailureCount| (word(count.reason().as_str_name(), "FAILURE_REASON_"), count.count);
        Self {
            id: AlertId::new(report.sender, report.identifier, report.sent),
            channel: report.channel,
            stages: report.stages.into_iter().map(stage).collect(),
            failures: report.failures.into_iter().map(failure).collect(),
            time: convert::timestamp_from_wire(report.time.as_ref(), "time").ok(),
        }
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase().replace('_', "-")
}

/// An alert and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertDetail {
    /// The alert.
    pub alert: AlertRecord,
    /// The alerts that name it as a cause, as far as the node knows.
    pub effects: Vec<AlertRecord>,
    /// What gateways did with it, as far as the node knows.
    pub deliveries: Vec<Delivery>,
    /// The exact bytes it came in; absent for an alert made on the bus.
    #[serde(skip)]
    pub original: Option<Bytes>,
    /// The record itself, to check signature and hash.
    #[serde(skip)]
    pub record: Option<bus::Record>,
}

/// Which alerts; what is empty or absent matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Departments that published it.
    pub departments: Vec<DepartmentId>,
    /// Events of the vocabulary.
    pub events: Vec<String>,
    /// Statuses.
    pub statuses: Vec<Status>,
    /// Severities.
    pub severities: Vec<Severity>,
    /// The exercise.
    pub exercise: Option<ExerciseId>,
}

impl Filter {
    pub(crate) fn to_wire(&self) -> bus::Filter {
        bus::Filter {
            departments: self.departments.iter().map(ToString::to_string).collect(),
            events: self.events.clone(),
            statuses: self.statuses.iter().map(|&status| convert::status_to_wire(status).into()).collect(),
            severities: self.severities.iter().map(|&value| convert::severity_to_wire(value).into()).collect(),
            exercise_id: self.exercise.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// How far a watcher has come; any node of the federation can resume it. Keep its text to go on after a restart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cursor(pub(crate) bus::Cursor);

/// The text is not one that [`Cursor`] wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text is no cursor; use one that a watch has given, whole")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use prost::Message as _;
        f.write_str(&hex::encode(self.0.encode_to_vec()))
    }
}

impl std::str::FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        use prost::Message as _;
        let bytes = hex::decode(text.trim()).map_err(|_| CursorError)?;
        bus::Cursor::decode(bytes.as_slice()).map(Self).map_err(|_| CursorError)
    }
}
