//! The calls of the people who run a node: status, peers, rules, pauses, envelopes, reload, and reading its log.

use campanile_alert::{OriginId, Timestamp};
use campanile_proto::bus::v1 as bus;
use campanile_proto::convert::{self, Fault};
use campanile_proto::rules::v1 as rules;
use futures::Stream;
use prost_types::Duration as WireDuration;
use serde::Serialize;
use tonic::{Request, Streaming};

use crate::client::Client;
use crate::error::Error;
use crate::exercise::{AnnouncedExercise, announced};
use crate::values::{Position, Rule};

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node: `department/node`.
    pub origin: String,
    /// The federation's name.
    pub federation: String,
    /// The version of the program.
    pub version: String,
    /// The node's time; absent when it gave none.
    pub time: Option<Timestamp>,
    /// The number of the roster in force.
    pub roster: u64,
    /// When that roster was issued.
    pub roster_issued: Option<Timestamp>,
    /// When the node's certificate ends.
    pub certificate_expires: Option<Timestamp>,
    /// The id of the key that signs real records.
    pub key_id: String,
    /// How long ago the directory was last heard, in milliseconds; absent means never.
    pub directory_age_ms: Option<u64>,
    /// The kind of the directory: `etcd`, `file` or `memory`.
    pub directory: String,
    /// The number of records held, of all origins.
    pub records: u64,
    /// Records held but not counted.
    pub not_counted: u64,
    /// Free bytes on the file system of the store; absent when not known.
    pub disk_free_bytes: Option<u64>,
    /// Tails of all logs held there.
    pub tails: Vec<Position>,
    /// Logs with two records at one position.
    pub forks: Vec<Position>,
    /// The id of the key that signs records of exercises.
    pub exercise_key_id: String,
    /// The exercises that the directory announces, as the node reads it.
    pub exercises: Vec<AnnouncedExercise>,
}

/// Another node, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The peer: `department/node`.
    pub origin: String,
    /// The addresses it was last known at.
    pub addresses: Vec<String>,
    /// A stream to it is open.
    pub connected: bool,
    /// It is registered in the directory now.
    pub registered: bool,
    /// How the last attempt failed; absent when all is well.
    pub last_error: Option<String>,
    /// Its logs.
    pub logs: Vec<LogLag>,
    /// It is a gateway.
    pub gateway: bool,
    /// Of a gateway, the exercises whose notices it hands to sinks, as it says itself; absent where it does not say.
    pub sinks: Option<Vec<String>>,
}

/// How far behind a log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLag {
    /// `urgent`, `routine` or `exercise`.
    pub lane: &'static str,
    /// The tail held; absent when nothing is.
    pub held: Option<Position>,
    /// The tail that the server last spoke of; absent when none was heard.
    pub seen: Option<Position>,
    /// How long ago a bookmark or record came, in milliseconds; absent means never.
    pub heard_age_ms: Option<u64>,
    /// Who serves the log now; absent when nobody does.
    pub served_by: Option<String>,
}

/// The rules of a node, what waits for persons, and what lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// The active rules.
    pub rules: Vec<RuleState>,
    /// What waits for persons.
    pub pending: Vec<Pending>,
    /// The effects that live.
    pub effects: Vec<LiveEffect>,
}

/// A rule and whether it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleState {
    /// The rule; absent when the node did not say.
    pub rule: Option<Rule>,
    /// Its title in English.
    pub title_en: String,
    /// Its title in Traditional Chinese.
    pub title_zh_hant: String,
    /// It is stopped.
    pub paused: bool,
    /// Why it is stopped; empty when it is not.
    pub pause_reason: String,
    /// Its last decision in English; empty when it has made none.
    pub last_decision_en: String,
    /// Its last decision in Traditional Chinese.
    pub last_decision_zh_hant: String,
}

/// A proposal that waits for persons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Its id, to be named in the decision.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// `actual` or `exercise:ID`.
    pub world: String,
    /// What is proposed: the effect's event, or `review`.
    pub effect: String,
    /// Keys of the targets.
    pub targets: Vec<String>,
    /// Names of the targets in English.
    pub target_names: Vec<String>,
    /// How many persons must agree.
    pub need: u32,
    /// The roles that may agree.
    pub by: Vec<String>,
    /// The persons who have agreed, by the roster's ids.
    pub approved_by: Vec<String>,
    /// SHA-256 of what an approval covers, in hexadecimal digits.
    pub shown_hash: String,
    /// Until when an answer is awaited; absent means without limit.
    pub deadline: Option<Timestamp>,
    /// Why it asks, in English.
    pub why_en: String,
    /// Why it asks, in Traditional Chinese.
    pub why_zh_hant: String,
    /// The text that would be issued, in English.
    pub text_en: String,
    /// The text that would be issued, in Traditional Chinese.
    pub text_zh_hant: String,
    /// Since when it waits; absent when the node did not say.
    pub since: Option<Timestamp>,
    /// The event in force that stands against what is proposed; no rule decides between the two.
    pub against: Option<String>,
}

/// An effect that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveEffect {
    /// The rule.
    pub rule: String,
    /// `actual` or `exercise:ID`.
    pub world: String,
    /// The effect's event.
    pub effect: String,
    /// The target's key.
    pub target: String,
    /// CAP `identifier` of the message in force.
    pub identifier: String,
    /// CAP `identifier`s of its causes.
    pub causes: Vec<String>,
    /// A person is asked to review it.
    pub in_review: bool,
    /// When it ends at the latest; absent when the node did not say.
    pub max: Option<Timestamp>,
    /// The kinds that it concerns.
    pub kinds: Vec<String>,
    /// The departments of its causes that are not heard now. That is no all-clear: what they say may not come through.
    pub unheard: Vec<Unheard>,
}

/// A department that is not heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unheard {
    /// The department.
    pub department: String,
    /// When it was heard last; absent means not since the node started.
    pub since: Option<Timestamp>,
}

/// A rule to stop or to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The rule's id.
    pub rule: String,
    /// True stops it, false releases it.
    pub paused: bool,
    /// Why; required when it is stopped.
    pub reason: String,
    /// Until when it is stopped; absent means until it is released.
    pub until: Option<Timestamp>,
}

/// A pre-authorisation to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The rule's id.
    pub rule: String,
    /// From when it holds; absent means from now.
    pub valid_from: Option<Timestamp>,
    /// Until when it holds.
    pub valid_to: Timestamp,
}

/// A record of a log, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// The record: the exact bytes that were signed, and the signatures.
    pub record: bus::Record,
    /// Its arrival number at the node.
    pub arrival: u64,
    /// Why it does not count; absent when it does.
    pub not_counted: Option<String>,
}

impl Client {
    /// How the node is. Role read or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        let (answer, _) = self
            .repeat("status", || {
                let (mut admin, request) = (self.admin.clone(), self.request(bus::GetStatusRequest {}));
                async move { admin.get_status(request).await }
            })
            .await?;
        Ok(NodeStatus {
            origin: answer.origin,
            federation: answer.federation,
            version: answer.version,
            time: time(answer.time),
            roster: answer.roster,
            roster_issued: time(answer.roster_issued),
            certificate_expires: time(answer.certificate_expires),
            key_id: answer.key_id,
            directory_age_ms: age_ms(answer.directory_age),
            directory: answer.directory,
            records: answer.records,
            not_counted: answer.not_counted,
            disk_free_bytes: answer.disk_free_bytes,
            tails: positions(answer.tails, "tails")?,
            forks: positions(answer.forks, "forks")?,
            exercise_key_id: answer.exercise_key_id,
            exercises: announced(answer.exercises)?,
        })
    }

    /// The other nodes, and how far each log is behind. Role read or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn peers(&self) -> Result<Vec<Peer>, Error> {
        let (answer, _) = self
            .repeat("peers", || {
                let (mut admin, request) = (self.admin.clone(), self.request(bus::ListPeersRequest {}));
                async move { admin.list_peers(request).await }
            })
            .await?;
        let peer = |peer: bus::Peer| {
            Ok(Peer {
                origin: peer.origin,
                addresses: peer.addresses,
                connected: peer.connected,
                registered: peer.registered,
                last_error: given(peer.last_error),
                gateway: peer.gateway,
                sinks: peer.sinks.map(|sinks| sinks.exercise_ids),
                logs: peer.logs.into_iter().map(lag).collect::<Result<_, Error>>()?,
            })
        };
        answer.peers.into_iter().map(peer).collect()
    }

    /// The active rules, what waits for persons, and what lives. Role read, approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn rules(&self) -> Result<Rules, Error> {
        let (answer, _) = self
            .repeat("rules", || {
                let (mut admin, request) = (self.admin.clone(), self.request(bus::ListRulesRequest {}));
                async move { admin.list_rules(request).await }
            })
            .await?;
        Ok(Rules {
            rules: answer.rules.into_iter().map(RuleState::from).collect(),
            pending: answer.pending.into_iter().map(Pending::from).collect(),
            effects: answer.effects.into_iter().map(LiveEffect::from).collect(),
        })
    }

    /// Stops or releases a rule before its next evaluation. Role approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once.
    pub async fn pause(&self, pause: &Pause) -> Result<Position, Error> {
        let pause = rules::Pause {
            rule: pause.rule.clone(),
            paused: pause.paused,
            reason: pause.reason.clone(),
            until: pause.until.map(convert::timestamp_to_wire),
            // The node fills in who asks, from the certificate.
            person: String::new(),
            certificate_hash: Vec::new(),
        };
        let mut admin = self.admin.clone();
        let request = self.request(bus::PauseRuleRequest { pause: Some(pause) });
        let answer = self.once("pause", admin.pause_rule(request)).await?;
        position(answer.position)
    }

    /// Signs a pre-authorisation of a rule as the caller. Role approve.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once.
    pub async fn sign_envelope(&self, envelope: &Envelope) -> Result<Position, Error> {
        let request = bus::SignEnvelopeRequest {
            rule: envelope.rule.clone(),
            valid_from: envelope.valid_from.map(convert::timestamp_to_wire),
            valid_to: Some(convert::timestamp_to_wire(envelope.valid_to)),
        };
        let mut admin = self.admin.clone();
        let answer = self.once("envelope", admin.sign_envelope(self.request(request))).await?;
        position(answer.position)
    }

    /// Has the node read certificates, keys and the roster again; one sentence for each change. Role administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn reload(&self) -> Result<Vec<String>, Error> {
        let (answer, _) = self
            .repeat("reload", || {
                let (mut admin, request) = (self.admin.clone(), self.request(bus::ReloadRequest {}));
                async move { admin.reload(request).await }
            })
            .await?;
        Ok(answer.changes)
    }

    /// Streams the records held at the node, of one origin or all, of one lane or all. Role administer.
    ///
    /// The stream is not resumed: an export is whole or it failed. `lane` is `urgent`, `routine` or `exercise`.
    ///
    /// # Errors
    /// [`Error`] when `lane` is none, or it is refused or not answered; in the stream, when it breaks.
    pub async fn read_log(
        &self,
        origin: Option<&OriginId>,
        lane: Option<&str>,
    ) -> Result<impl Stream<Item = Result<LogEntry, Error>> + Send + use<>, Error> {
        let lane = match lane {
            Some(text) => convert::lane_named(text)
                .ok_or_else(|| Error::options(format!("{text:?} is no lane; say urgent, routine or exercise")))?,
            None => bus::Lane::Unspecified,
        };
        let request = bus::ReadLogRequest {
            origin: origin.map(ToString::to_string).unwrap_or_default(),
            lane: lane.into(),
            ..bus::ReadLogRequest::default()
        };
        let mut admin = self.admin.clone();
        let stream = self.once("read_log", admin.read_log(Request::new(request))).await?;
        let silence = self.settings.timeouts.silence;
        Ok(futures::stream::unfold(Some(stream), move |stream| entry(stream, silence)))
    }
}

type Entries = Streaming<bus::ReadLogResponse>;

/// The next entry; after an error there is no other.
async fn entry(
    stream: Option<Entries>,
    silence: std::time::Duration,
) -> Option<(Result<LogEntry, Error>, Option<Entries>)> {
    let mut stream = stream?;
    let message = match tokio::time::timeout(silence, stream.message()).await {
        Ok(Ok(Some(message))) => message,
        Ok(Ok(None)) => return None,
        Ok(Err(status)) => return Some((Err(status.into()), None)),
        Err(_) => return Some((Err(Error::late("on the stream")), None)),
    };
    let Some(record) = message.record else {
        return Some((Err(Error::answer(vec![crate::values::missing("record")])), None));
    };
    let entry = LogEntry { record, arrival: message.arrival, not_counted: given(message.not_counted) };
    Some((Ok(entry), Some(stream)))
}

fn one(fault: Fault) -> Error {
    Error::answer(vec![fault])
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn time(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    convert::timestamp_from_wire(time.as_ref(), "time").ok()
}

/// Milliseconds of a duration; a negative one, from a clock set back, is nought.
fn age_ms(age: Option<WireDuration>) -> Option<u64> {
    let age = age?;
    let seconds = u64::try_from(age.seconds).unwrap_or(0);
    Some(seconds.saturating_mul(1_000).saturating_add(u64::try_from(age.nanos / 1_000_000).unwrap_or(0)))
}

fn position(position: Option<bus::Position>) -> Result<Position, Error> {
    Position::from_wire(position, "position").map_err(one)
}

fn positions(list: Vec<bus::Position>, name: &str) -> Result<Vec<Position>, Error> {
    list.into_iter().map(|position| Position::from_wire(Some(position), name).map_err(one)).collect()
}

fn lag(lag: bus::LogLag) -> Result<LogLag, Error> {
    let lane = convert::lane_from_wire(lag.lane, "lane").map_err(one)?;
    let tail = |position: Option<bus::Position>, name| {
        position.map(|position| Position::from_wire(Some(position), name)).transpose().map_err(one)
    };
    Ok(LogLag {
        lane: convert::lane_name(lane),
        held: tail(lag.held, "held")?,
        seen: tail(lag.seen, "seen")?,
        heard_age_ms: age_ms(lag.heard_age),
        served_by: given(lag.served_by),
    })
}

impl From<bus::RuleState> for RuleState {
    fn from(state: bus::RuleState) -> Self {
        Self {
            rule: state.rule.map(Rule::from),
            title_en: state.title_en,
            title_zh_hant: state.title_zh_hant,
            paused: state.paused,
            pause_reason: state.pause_reason,
            last_decision_en: state.last_decision_en,
            last_decision_zh_hant: state.last_decision_zh_hant,
        }
    }
}

impl From<rules::Pending> for Pending {
    fn from(pending: rules::Pending) -> Self {
        Self {
            id: pending.id,
            rule: pending.rule,
            world: pending.world,
            effect: pending.effect,
            targets: pending.targets,
            target_names: pending.target_names,
            need: pending.need,
            by: pending.by,
            approved_by: pending.approved_by,
            shown_hash: hex::encode(&pending.shown_hash),
            deadline: time(pending.deadline),
            why_en: pending.why_en,
            why_zh_hant: pending.why_zh_hant,
            text_en: pending.text_en,
            text_zh_hant: pending.text_zh_hant,
            since: time(pending.since),
            against: pending.against,
        }
    }
}

impl From<rules::LiveEffect> for LiveEffect {
    fn from(effect: rules::LiveEffect) -> Self {
        Self {
            rule: effect.rule,
            world: effect.world,
            effect: effect.effect,
            target: effect.target,
            identifier: effect.identifier,
            causes: effect.causes,
            in_review: effect.in_review,
            max: time(effect.max),
            kinds: effect.kinds,
            unheard: effect.unheard.into_iter().map(Unheard::from).collect(),
        }
    }
}

impl From<rules::Unheard> for Unheard {
    fn from(unheard: rules::Unheard) -> Self {
        Self { department: unheard.department, since: time(unheard.since) }
    }
}
