//! Who takes part in a drill, and what must hold before a live one begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Length;

/// Who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cast {
    /// The departments' nodes, by department.
    pub nodes: BTreeMap<String, Node>,
    /// The people who play, by role: `edb.duty-officer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub players: BTreeMap<String, Player>,
    /// Who runs the drill.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
    /// Who watches and judges, by role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub observers: BTreeMap<String, Observer>,
}

/// What a department's node does in the drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Node {
    /// `script`, `engine` or `gateway`.
    Kind(NodeKind),
    /// An engine with the packs that it evaluates.
    Engine(EngineNode),
}

/// The kinds of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Played by the injects; evaluates nothing.
    Script,
    /// Evaluates the packs that its department has among those given.
    Engine,
    /// Hands notices to channels, which in a drill are sinks.
    Gateway,
}

/// An engine with named packs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EngineNode {
    /// Paths of the packs, from the scenario's file.
    pub engine: Vec<String>,
    /// Other files for the packs' data sets, by their name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Rules whose envelope is signed at the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub envelopes: Vec<String>,
}

impl Node {
    /// What it is.
    pub fn kind(&self) -> NodeKind {
        match self {
            Self::Kind(kind) => *kind,
            Self::Engine(_) => NodeKind::Engine,
        }
    }
}

/// A person who plays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Player {
    /// What the role does in a run without people.
    #[serde(default, rename = "virtual", skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<Reaction>,
    /// The person by roster id, when two roles are one person's; absent: the role is a person of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// What a player is shown, by which its reactions are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// What it is.
    pub on: Occasion,
    /// The rule that it is about.
    pub rule: Option<&'a str>,
    /// The effect that it is about.
    pub effect: Option<&'a str>,
    /// The inject that it is about.
    pub inject: Option<&'a str>,
}

impl Player {
    /// The reactions of its script to what it is shown, with their places in it. Who has no script for a conflict or an
    /// escalation answers as for any question.
    pub fn reactions(&self, prompt: &Prompt<'_>) -> Vec<(usize, &Reaction)> {
        let is = |want: &Option<String>, is: Option<&str>| want.is_none() || want.as_deref() == is;
        let all = |on: Occasion| {
            let fits = move |reaction: &Reaction| {
                reaction.on == on
                    && is(&reaction.rule, prompt.rule)
                    && is(&reaction.effect, prompt.effect)
                    && is(&reaction.inject, prompt.inject)
            };
            self.script.iter().enumerate().filter(move |(_, reaction)| fits(reaction)).collect::<Vec<_>>()
        };
        let own = all(prompt.on);
        let falls_back = matches!(prompt.on, Occasion::Conflict | Occasion::Escalated);
        if own.is_empty() && falls_back { all(Occasion::Pending) } else { own }
    }
}

/// The department of a role: `edb` of `edb.duty-officer`.
pub(crate) fn department_of(role: &str) -> &str {
    role.split_once('.').map_or(role, |(department, _)| department)
}

/// One reaction of a scripted player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reaction {
    /// What the player is shown.
    pub on: Occasion,
    /// Only about this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only about this effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Only about this inject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// How long the player takes.
    #[serde(default)]
    pub after: Length,
    /// Up to how much longer, by the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Length>,
    /// What the player does then.
    #[serde(rename = "do")]
    pub act: Act,
    /// The inject in reserve that the player brings about, for `do: play`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
}

/// What a player reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// The role is asked to approve.
    Pending,
    /// The role is asked because of a conflict.
    Conflict,
    /// The role is asked after others were silent.
    Escalated,
    /// An effect waits for a person of the department to end or keep it.
    Review,
    /// A message of the controllers.
    Message,
    /// The role is shown that a department is not heard.
    Stale,
}

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Says yes.
    Approve,
    /// Says no.
    Reject,
    /// Says that it was seen.
    Acknowledge,
    /// Cancels the effect that waits for a review.
    End,
    /// Does nothing: stands for a person who does not answer.
    Nothing,
    /// Brings about an inject that is kept in reserve.
    Play,
}

/// A person who watches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observer {
    /// The nodes that the person watches.
    pub watches: Vec<String>,
    /// A file with what to look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
}

/// What must hold before a live run begins. Each has one field.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Guard {
    /// What gateways are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<GatewayGuard>,
    /// Which keys nodes hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustGuard>,
    /// The prefix of the directory: `exercise HV26`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// How the drill is called off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortGuard>,
}

/// What gateways are bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GatewayGuard {
    /// `sink`.
    pub bound_to: String,
    /// `forbidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_endpoints: Option<String>,
}

/// Which keys nodes hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrustGuard {
    /// The exercise whose keys they hold.
    pub exercise_key: String,
    /// `absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_key: Option<String>,
}

/// How a drill is called off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AbortGuard {
    /// The word that everybody knows.
    pub word: String,
    /// Who may say it.
    pub by: Vec<String>,
    /// How soon everything is cancelled.
    pub within: Length,
    /// `cancel-all-and-freeze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}
