//! The scenario: what a drill plays and what it expects, field by field as planners write it.
//!
//! One type is read from YAML, checked, digested and written back, so an import or a recording that builds one writes
//! the same file that a person would. [`Scenario::parse`] reads and checks; every finding has its line and a caret.
//! What names nothing is a finding, never a silent "no".

use std::collections::BTreeMap;

use campanile_alert::{DateTime, ExerciseId, Status};
use campanile_rules::short::ShortAlert;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::forms::start;
use crate::time::{Length, Offset};

mod cast;
mod expect;
mod forms;
mod inject;

pub(crate) use cast::department_of;
pub use cast::*;
pub use expect::*;
pub use forms::{Deadline, Error as FormError, Percent, Scale, Times};
pub use inject::*;

/// A text in both official languages; a planner may leave one out, and a shipped scenario has both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// English.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub en: String,
    /// Traditional Chinese.
    #[serde(default, rename = "zh-Hant", skip_serializing_if = "String::is_empty")]
    pub zh_hant: String,
}

/// A whole drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// Its name: lower-case letters, digits and hyphens.
    pub drill: String,
    /// What it is about.
    pub title: Words,
    /// What it is to show, by id; every expectation names one.
    pub objectives: BTreeMap<String, Objective>,
    /// The exercise that it is played as.
    pub mode: Mode,
    /// When it begins, and how time passes.
    pub clock: ClockPlan,
    /// Who takes part.
    pub cast: Cast,
    /// What must hold before the first inject of a live run; a virtual run satisfies them by construction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
    /// What is played: the master scenario events list.
    #[serde(default)]
    pub injects: Vec<Inject>,
    /// What goes wrong on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What must happen, and what must not.
    pub expect: Vec<Expect>,
    /// When it counts as passed.
    #[serde(default)]
    pub score: Score,
    /// Changes of the drill that must make it fail, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// What is written afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

/// One thing that the drill is to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Objective {
    /// What is to be shown, in words.
    pub text: TextOrWords,
    /// The capability that it belongs to, for comparison between drills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Its share of the score, 1 to 100.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether anything short of all of it fails the drill, whatever the score.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must: bool,
}

fn one() -> u32 {
    1
}

/// A text in one language, or in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TextOrWords {
    /// As it stands.
    Text(String),
    /// In both languages.
    Words(Words),
}

impl TextOrWords {
    /// The English text, or the only one.
    pub fn en(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Words(words) => &words.en,
        }
    }

    /// The Chinese text, or the only one.
    pub fn zh_hant(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Words(words) if words.zh_hant.is_empty() => &words.en,
            Self::Words(words) => &words.zh_hant,
        }
    }
}

/// The exercise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mode {
    /// Always Exercise: nothing else is played.
    pub status: Status,
    /// The name of the exercise, which every record of it carries.
    pub exercise_id: ExerciseId,
    /// What stands in every text of the exercise.
    pub marker: Words,
}

/// When a drill begins, and how time passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClockPlan {
    /// The wall-clock time of T+0 in the story, with its offset: `2026-10-13T10:20+08:00`.
    #[serde(with = "start")]
    pub start: DateTime,
    /// How a run passes time when the command does not say.
    #[serde(default)]
    pub run: Pace,
    /// When the drill ends; absent: a minute after the last inject, fault or deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Offset>,
    /// What pauses a live run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pause_on: Vec<PauseOn>,
    /// What all jitter and all made ids derive from.
    #[serde(default)]
    pub seed: u64,
}

/// How time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// As fast as it can be computed.
    #[default]
    Virtual,
    /// As on the wall.
    Real,
    /// So many times as fast as on the wall, 1 to 1000.
    Speed(u32),
}

/// What pauses a live run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PauseOn {
    /// A controller says so.
    Controller,
    /// An expectation of a `must` objective has failed.
    MustFailed,
}

/// When a drill has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Score {
    /// The share of the weighted objectives that is enough; an objective that has less of its own has failed.
    #[serde(default = "all")]
    pub pass: Percent,
    /// What lateness is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

impl Default for Score {
    fn default() -> Self {
        Self { pass: all(), late: None }
    }
}

fn all() -> Percent {
    Percent(100)
}

/// What lateness is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Late {
    /// Half of it, up to so many times the time that was allowed: `2x`.
    pub half_credit_within: Times,
}

/// A change of the drill and what it must lead to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// What is different.
    pub change: Change,
    /// What the verdict is then.
    pub verdict: WantedVerdict,
}

/// What a variant changes; at least one field.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Change {
    /// This inject does not come, nor those that update or cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_inject: Option<String>,
    /// An inject comes later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_inject: Option<DelayInject>,
    /// More injects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_injects: Vec<Inject>,
    /// What an inject's alert says instead; what is not given stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alter: BTreeMap<String, ShortAlert>,
    /// More faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_faults: Vec<Fault>,
    /// Whether nothing goes wrong on the way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop_faults: bool,
    /// What players do instead, by role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub players: BTreeMap<String, Player>,
    /// What nodes are instead, by department.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, Node>,
}

/// An inject that comes later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DelayInject {
    /// Which.
    pub id: String,
    /// By how much.
    pub by: Length,
}

/// What a variant must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WantedVerdict {
    /// Exactly these objectives fail.
    pub fails: Vec<String>,
    /// Exactly these expectations are not met in time; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Vec<String>>,
}

/// What is written afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct After {
    /// The forms of the report.
    #[serde(default)]
    pub report: Vec<ReportForm>,
    /// A file with the questions of the hot wash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lessons: Option<String>,
    /// What is kept of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

/// The forms of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportForm {
    /// Markdown.
    Md,
    /// One HTML file.
    Html,
    /// JUnit XML.
    Junit,
    /// JSON.
    Json,
}

/// What is kept of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Keep {
    /// The transcript.
    #[serde(default)]
    pub recording: bool,
    /// The run as a scenario for regression.
    #[serde(default)]
    pub promote: bool,
}

impl Scenario {
    /// SHA-256 of its canonical JSON: the same for two files that differ in layout, comments or the order of fields.
    pub fn digest(&self) -> [u8; 32] {
        // Maps of `serde_json::Value` are sorted; the types hold only what JSON can write.
        let value = serde_json::to_value(self).unwrap_or_default();
        Sha256::digest(value.to_string()).into()
    }

    /// Writes it as a person would.
    ///
    /// # Errors
    /// When a value has no form in YAML, which no scenario that was parsed has.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }

    /// The name of the expectation at an index of `expect`: its own, or `e1`, `e2`… in the order of the file.
    pub fn expectation(&self, index: usize) -> String {
        let own = self.expect.get(index).and_then(|expect| expect.id.clone());
        own.unwrap_or_else(|| format!("e{}", index + 1))
    }

    /// When the drill ends: as the clock says, or a minute after the last inject, fault or deadline.
    pub fn end(&self) -> Offset {
        let injects = self.injects.iter().filter_map(|inject| Some(inject.at? + inject.within.unwrap_or_default()));
        let faults = self.faults.iter().map(|fault| fault.at + fault.lasts.or(fault.within).unwrap_or_default());
        let due = self.expect.iter().flat_map(|expect| [expect.by, expect.at]).filter_map(|due| match due? {
            Deadline::At(at) => Some(at),
            Deadline::End => None,
        });
        let last = injects.chain(faults).chain(due).max().unwrap_or_default();
        self.clock.end.unwrap_or(last + Length::from_ms(60_000))
    }
}
