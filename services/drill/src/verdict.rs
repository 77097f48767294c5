//! What a run came to: each expectation with its evidence, each objective with its score, and whether the drill passed.
//!
//! Numbers are whole, so that two machines write the same bytes: credits and scores are in permille.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Offset;
use crate::transcript::Run;

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The drill's name.
    pub drill: String,
    /// The variant that was played; absent for the drill itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How it was played.
    pub run: Run,
    /// The seed of the run.
    pub seed: u64,
    /// The scenario's digest, in hexadecimal.
    pub scenario: String,
    /// The packs' digests by name, in hexadecimal.
    pub packs: BTreeMap<String, String>,
    /// The transcript's digest, in hexadecimal.
    pub transcript: String,
    /// Whether the drill passed: enough score, and every `must` objective met in full. What waits for an observer does
    /// not count.
    pub passed: bool,
    /// How it ended.
    pub ended: Ended,
    /// The weighted share of what was reached, in permille of the objectives that could be judged.
    pub score: u32,
    /// What is enough, in permille.
    pub enough: u32,
    /// The objectives, by id.
    pub objectives: BTreeMap<String, ObjectiveVerdict>,
    /// The expectations, in the order of the scenario.
    pub items: Vec<Item>,
    /// The variants, in the order of the scenario; empty for a run that played none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<VariantVerdict>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was played to its end.
    Complete,
    /// It stopped itself because something real came.
    Frozen,
    /// It was called off.
    Aborted,
    /// It was ended because there was more to see than a transcript holds.
    Full,
}

/// What an objective came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveVerdict {
    /// Whether it failed: less than enough, or for a `must` anything short of all. An objective that only observers
    /// judge, and none has yet, has not failed.
    pub failed: bool,
    /// The share of its expectations that was reached, in permille; absent while nothing of it is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u32>,
    /// Its weight.
    pub weight: u32,
    /// Whether it must be met in full.
    pub must: bool,
    /// How many of its expectations wait for an observer.
    pub to_be_judged: u32,
}

/// What an expectation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its name: as written, or `e1`, `e2`….
    pub id: String,
    /// The objective that it belongs to.
    pub objective: String,
    /// What was expected, in words.
    pub expected: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What it earned, in permille; absent while it waits for an observer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
    /// When it was due, in milliseconds since T+0; absent for what holds always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<i64>,
    /// When it became so, or ceased to be so; absent when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// The events that prove it, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<u64>,
    /// What there was instead, or the observer's remark; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Item {
    /// When it was due.
    pub fn due(&self) -> Option<Offset> {
        self.due.map(Offset::from_ms)
    }

    /// When it became so, or ceased to be so.
    pub fn at(&self) -> Option<Offset> {
        self.at.map(Offset::from_ms)
    }
}

/// What came of an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As expected, in time.
    Met,
    /// As expected, too late.
    Late,
    /// Not as expected.
    Missed,
    /// What should never be was seen.
    Forbidden,
    /// It waits for an observer.
    ToBeJudged,
    /// An observer has given a mark.
    Judged,
    /// Its time has not come; only while a run goes on, or when it ended before.
    Open,
}

/// What a variant came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantVerdict {
    /// Its name.
    pub name: String,
    /// Whether it failed exactly as written.
    pub as_written: bool,
    /// The objectives that should fail.
    pub wanted: Vec<String>,
    /// The objectives that failed.
    pub failed: Vec<String>,
    /// The expectations that were not met in time.
    pub missed: Vec<String>,
    /// What is not as written, in one sentence; empty when all is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The transcript's digest, in hexadecimal.
    pub transcript: String,
}

impl Verdict {
    /// Whether the drill passed and every variant failed exactly as written: exit code 0.
    pub fn holds(&self) -> bool {
        self.passed && self.variants.iter().all(|variant| variant.as_written)
    }

    /// The ids of the objectives that failed.
    pub fn failed(&self) -> Vec<String> {
        self.objectives.iter().filter(|(_, objective)| objective.failed).map(|(id, _)| id.clone()).collect()
    }

    /// The names of the expectations that were not met in time.
    pub fn missed(&self) -> Vec<String> {
        let short =
            |item: &&Item| matches!(item.outcome, Outcome::Late | Outcome::Missed | Outcome::Forbidden | Outcome::Open);
        self.items.iter().filter(short).map(|item| item.id.clone()).collect()
    }

    /// One line of JSON with its end; the same verdict gives the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        // The types hold only text, numbers and lists of them, which JSON can always write.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
