//! What the engine gives back: the messages to publish, the rows to store, and a sentence about each decision.

use std::collections::BTreeSet;
use std::fmt;

use campanile_alert::{Alert, AlertId, OriginId, World};
use serde::{Deserialize, Serialize};

use crate::{Classification, Decision};

/// The identity of an effect: one rule, one kind of effect, one target, in one world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectKey {
    /// The world that its causes are in.
    pub world: World,
    /// The rule's id.
    pub rule: String,
    /// The vocabulary's event that is issued, for example `class-suspension`.
    pub effect: String,
    /// The key of the target in its data set; the empty text for a rule without targets.
    pub target: String,
}

impl fmt::Display for EffectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{} ({})", self.rule, self.effect, self.target, self.world)
    }
}

/// A cause as an effect names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The message.
    pub alert: AlertId,
    /// The log that it stands in.
    pub origin: OriginId,
    /// The hash of the record that carries it.
    #[serde(with = "crate::hexed")]
    pub hash: [u8; 32],
}

/// The rule behind an effect, pinned so that the decision can be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// The rule's id.
    pub id: String,
    /// The pack's name.
    pub pack: String,
    /// [`crate::Pack::digest`].
    #[serde(with = "crate::hexed")]
    pub digest: [u8; 32],
    /// The data sets it read, by name, with their digests, in the order of their names.
    pub data: Vec<(String, [u8; 32])>,
}

/// A message to publish in the department's own log, in the same commit as the input that led to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which effect it is about.
    pub key: EffectKey,
    /// The CAP 1.2 message: Alert, Update or Cancel. Its `references` name the effect's own earlier messages.
    pub alert: Alert,
    /// What the record says it is about.
    pub classification: Classification,
    /// The causes in force behind it, at most [`crate::CAUSES_MAX`]; for a Cancel the last ones.
    pub causes: Vec<Cause>,
    /// How many causes there are; more than `causes.len()` when the list was cut.
    pub cause_count: usize,
    /// The kinds that it concerns, when its rule has them.
    pub kinds: BTreeSet<String>,
    /// The rule that decided.
    pub rule: RuleRef,
    /// The ids of all the rules behind it, this one last: the `rules` of the record's own [`crate::Input`].
    pub rules: Vec<String>,
    /// The deepest cause's depth plus one; 1 to [`crate::DEPTH_MAX`].
    pub depth: u32,
    /// The hash of the record that triggered it.
    pub trigger: [u8; 32],
}

/// A row of the engine's state: its key, and its value or `None` when it is to be deleted.
pub type StateRow = (Vec<u8>, Option<Vec<u8>>);

/// What one input led to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Messages to publish, in order.
    pub effects: Vec<Effect>,
    /// Rows to write in the same commit, each key once, in the order of the keys.
    pub state: Vec<StateRow>,
    /// One sentence for each rule that was considered, in order.
    pub notes: Vec<Decision>,
    /// The rows of tables that decided, by rule and index, and the rules by which an effect gave way: for coverage.
    pub used: BTreeSet<(String, Option<usize>)>,
}
