//! What people see of the engine: what waits for them, what is in force, and what is to be reviewed.

use campanile_alert::{AlertId, Timestamp, World};
use serde::{Deserialize, Serialize};

use crate::{Cause, EffectKey, Sentence};

/// Effects that wait for persons: one rule, one cause, all targets not yet allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// 32 hex digits that name it in an answer.
    pub id: String,
    /// The world: a screen must show EXERCISE or LIVE in the button itself.
    pub world: World,
    /// The rule's id.
    pub rule: String,
    /// The event that would be issued.
    pub effect: String,
    /// The keys of the targets, in order.
    pub targets: Vec<String>,
    /// The cause, as it stands now.
    pub cause: AlertId,
    /// The texts that would be published for the first target, by language.
    pub headlines: Vec<(String, String)>,
    /// How many different persons must agree.
    pub need: usize,
    /// The roles that may answer.
    pub by: Vec<String>,
    /// Who has agreed to `shown` so far, by roster id, in order.
    pub approvals: Vec<String>,
    /// The hash of what is shown: the effects' keys, the version of the rule and the texts.
    #[serde(with = "crate::hexed")]
    pub shown: [u8; 32],
    /// Since when it waits.
    pub since: Timestamp,
    /// When silence has its consequence; `None` when none follows any more.
    pub deadline: Option<Timestamp>,
    /// The event in force that stands against what would be issued: the two contradict each other, and no rule decides
    /// between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Why persons are asked.
    pub why: Sentence,
}

/// An effect in force that a person has to decide about; a Cancel by an officer ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The effect.
    pub effect: EffectKey,
    /// Its message in force, which the Cancel refers to.
    pub message: AlertId,
    /// Since when it waits.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Why.
    pub why: Sentence,
}

/// How an effect in force stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// A cause is in force.
    Supported,
    /// The last cause has ended; it stays until then.
    Lingering(Timestamp),
    /// It waits for a person since then.
    Review(Timestamp),
}

/// An effect in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The effect.
    pub effect: EffectKey,
    /// Its message in force.
    pub message: AlertId,
    /// How it stands.
    pub standing: Standing,
    /// The causes behind it, in order.
    pub causes: Vec<Cause>,
    /// Since when it is in force.
    pub since: Timestamp,
    /// When it ends at the latest.
    pub until: Timestamp,
}
