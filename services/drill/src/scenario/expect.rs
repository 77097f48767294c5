//! What a drill expects: one moment, one claim, one objective each.

use campanile_alert::{MessageType, Severity, Status};
use serde::{Deserialize, Serialize};

use super::{Deadline, Scale, TextOrWords};
use crate::time::Length;

/// One expectation. It has one moment, one claim and an objective.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expect {
    /// Its name, for variants and reports; absent: `e1`, `e2`… in the order of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// It becomes so at this time at the latest, or is so at the `end`. What says that something is not there, how many
    /// there are, or that all are the same is judged at that time itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Deadline>,
    /// It is so at this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Deadline>,
    /// It is so after every event: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// Nothing like it is ever seen; stands for moment and claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<Match>,
    /// The objective that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// What it is, in words; absent: made from the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextOrWords>,
    /// The node that sees it; absent: the one that publishes, or for `none` any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The person that it is about, for `acks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// An alert or effect is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Match>,
    /// Nothing like it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<Match>,
    /// Two contradicting effects meet, and a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<ConflictClaim>,
    /// A person is told that a department is not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<StaleClaim>,
    /// Somebody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingClaim>,
    /// Others are asked after silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated: Option<EscalatedClaim>,
    /// The person answers what was asked or told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<AcksClaim>,
    /// So many were issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<CountClaim>,
    /// The messages of an effect, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<SentClaim>,
    /// A notice reaches a gateway's sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Match>,
    /// All nodes hold the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<SameClaim>,
    /// The drill has stopped itself because something real came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// The observer who judges it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<String>,
    /// What the observer is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The marks that can be given, `0-3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
}

/// Which records or notices are meant: all that is said must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Match {
    /// The event, of an effect or of any alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// The rule that issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The key of its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The department that published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The inject that it is, or was updated by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// Exactly the kinds that it concerns.
    #[serde(default, alias = "who", skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Its signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Its level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// Its severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What it does: Alert, Update, Cancel.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub msg_type: Option<MessageType>,
    /// A part of the headline in either language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// The injects behind it, through all rules: exactly these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Vec<String>>,
    /// `gateway`: a notice, not a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<AtGateway>,
    /// `sink`: handed to anything but a sink. Only with `at: gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// A notice without the marks of the drill. Only with `at: gateway`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmarked: bool,
}

/// The word `gateway`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtGateway {
    /// A notice at a gateway.
    Gateway,
}

/// The word `sink`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// Any provider that is not a sink.
    Sink,
}

/// Two effects that contradict each other on a target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConflictClaim {
    /// The two effects.
    pub between: [String; 2],
    /// The target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The role that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_to: Option<String>,
}

/// A department that is not heard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StaleClaim {
    /// The department.
    pub from: String,
    /// The role that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_to: Option<String>,
}

/// A question to persons: about a rule, or with `review` about an effect in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PendingClaim {
    /// The rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What would be issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// A target that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A role that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How often it has been asked so far, in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The effect that waits to be ended or kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<String>,
}

/// Others who are asked after silence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EscalatedClaim {
    /// The rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The role that is asked now.
    pub to: String,
}

/// What a person answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AcksClaim {
    /// What was asked: a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was told: an inject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// How soon after having been asked; absent: only the deadline counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Length>,
}

/// How many different alerts of a kind were issued (updates and cancels are not counted).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CountClaim {
    /// The event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// The target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The department that published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The inject that they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// Count notices that reached a gateway, not alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<AtGateway>,
    /// Exactly so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<u64>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
    /// At least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u64>,
}

/// The messages of an effect in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SentClaim {
    /// The event.
    pub effect: String,
    /// The target; absent: all targets together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Alert, Update, Cancel as they were sent.
    pub is: Vec<MessageType>,
}

/// What is the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SameClaim {
    /// `across-nodes`: every node holds the same records of the exercise.
    pub log_digest: Across,
}

/// The words `across-nodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Across {
    /// Every node of the cast.
    AcrossNodes,
}

/// One claim of an expectation, as the judge works with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Claim<'a> {
    /// An alert or effect is in force.
    Live(&'a Match),
    /// Nothing like it is in force; with `always`, or at a gateway, nothing like it is ever seen.
    None(&'a Match),
    /// Nothing like it is ever seen.
    Never(&'a Match),
    /// Two contradicting effects meet, and a person is asked.
    Conflict(&'a ConflictClaim),
    /// A person is told that a department is not heard.
    Stale(&'a StaleClaim),
    /// Somebody is asked.
    Pending(&'a PendingClaim),
    /// Others are asked after silence.
    Escalated(&'a EscalatedClaim),
    /// The person answers.
    Acks(&'a AcksClaim),
    /// So many were issued.
    Count(&'a CountClaim),
    /// The messages of an effect.
    Sent(&'a SentClaim),
    /// A notice reaches a sink.
    Notice(&'a Match),
    /// All nodes hold the same.
    Same(&'a SameClaim),
    /// The drill has stopped itself.
    Frozen,
    /// An observer judges.
    Judged,
}

impl Expect {
    /// Its claims: a checked expectation has one.
    pub fn claims(&self) -> Vec<Claim<'_>> {
        let given = [
            self.live.as_ref().map(Claim::Live),
            self.none.as_ref().map(Claim::None),
            self.never.as_ref().map(Claim::Never),
            self.conflict.as_ref().map(Claim::Conflict),
            self.stale.as_ref().map(Claim::Stale),
            self.pending.as_ref().map(Claim::Pending),
            self.escalated.as_ref().map(Claim::Escalated),
            self.acks.as_ref().map(Claim::Acks),
            self.count.as_ref().map(Claim::Count),
            self.sent.as_ref().map(Claim::Sent),
            self.notice.as_ref().map(Claim::Notice),
            self.same.as_ref().map(Claim::Same),
            self.frozen.then_some(Claim::Frozen),
            self.judged_by.as_ref().map(|_| Claim::Judged),
        ];
        given.into_iter().flatten().collect()
    }
}
