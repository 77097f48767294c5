//! A plain sentence about each decision, in English and Chinese: why a rule fired, or the first condition that
//! stopped it.

use campanile_alert::World;
use serde::{Deserialize, Serialize};

/// A sentence in both official languages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Sentence {
    /// English.
    pub en: String,
    /// Traditional Chinese.
    #[serde(rename = "zh-Hant")]
    pub zh_hant: String,
}

impl Sentence {
    /// Joins the two texts.
    pub fn new(en: impl Into<String>, zh_hant: impl Into<String>) -> Self {
        Self { en: en.into(), zh_hant: zh_hant.into() }
    }
}

/// What kind of decision it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A condition stopped the rule.
    NotMatched,
    /// The conditions hold, the `hold` time does not yet.
    Holding,
    /// New effects are issued.
    Issued,
    /// Persons are asked.
    Asked,
    /// Someone answered, and more answers are needed or the answer does not count.
    Answered,
    /// Nobody answered in time: the next ones are asked, or it stays pending.
    Silent,
    /// A person said no.
    Rejected,
    /// A request to persons is taken back, because its cause ended or changed.
    Withdrawn,
    /// A cause joined or left effects that stay in force.
    Joined,
    /// The last cause ended; the effect lingers.
    Lingering,
    /// A person has to decide about an effect in force.
    Review,
    /// An effect was cancelled by the rule.
    Cancelled,
    /// An effect ended without a message of the rule: at its `max`, or by an officer.
    Ended,
    /// An officer's Cancel stands until a new cause comes.
    Suppressed,
    /// The rule is paused, or resumed.
    Paused,
    /// The cascade guard refused: too deep, or the rule is already in the chain.
    Refused,
    /// An envelope, an approval or a pause that could not be used.
    Ignored,
}

/// One decision about one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The rule's id; empty when the input never got as far as a rule.
    pub rule: String,
    /// The world it was decided in.
    pub world: World,
    /// The hash of the record that led to it.
    #[serde(with = "crate::hexed")]
    pub record: [u8; 32],
    /// What was decided.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub why: Sentence,
}
