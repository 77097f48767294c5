//! What people add after a drill: marks of observers, lessons, and who mends what until when.
//!
//! ```yaml
//! marks:
//! - {expectation: e11, by: obs.edb, mark: 2, remark: "Named the next step, not the time"}
//! items:
//! - {expectation: e5, owner: edb.duty-officer, due: 2026-11-30}
//! - {text: {en: "Print the call list", zh-Hant: 列印通訊名單}, objective: O1, owner: edb.directorate}
//! lessons:
//! - {by: obs.edb, question: "What went well?", answer: "The second officer was reached at once."}
//! ```

use std::collections::BTreeSet;

use campanile_alert::DepartmentId;
use serde::{Deserialize, Serialize};

use super::{Error, Expectation, Improvement, Text};
use crate::judge::Judge;
use crate::scenario::{Scenario, TextOrWords};
use crate::time::{Length, Offset};
use crate::transcript::{Transcript, What};
use crate::verdict::{Outcome, Verdict};

/// The longest file, in bytes, and the most entries of each list.
const BYTES_MAX: usize = 1 << 20;
const ENTRIES_MAX: usize = 1000;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hotwash {
    /// Marks that observers give after the run.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// Who mends what until when.
    #[serde(default)]
    pub items: Vec<Action>,
    /// What people said.
    #[serde(default)]
    pub lessons: Vec<Lesson>,
}

/// A mark of an observer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mark {
    /// The expectation's name.
    pub expectation: String,
    /// The observer, by role.
    pub by: String,
    /// On the expectation's scale.
    pub mark: u32,
    /// What the observer wrote.
    #[serde(default)]
    pub remark: String,
}

/// An improvement: of an expectation that failed, or one that people thought of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Action {
    /// The expectation that failed; absent for what people thought of.
    #[serde(default)]
    pub expectation: Option<String>,
    /// The objective; absent: that of the expectation.
    #[serde(default)]
    pub objective: Option<String>,
    /// What is to be done; absent: the sentence that the report makes.
    #[serde(default)]
    pub text: Option<TextOrWords>,
    /// The role that does it.
    #[serde(default)]
    pub owner: Option<String>,
    /// Until when, `2026-11-30`.
    #[serde(default)]
    pub due: Option<jiff::civil::Date>,
    /// Whether it is done.
    #[serde(default)]
    pub done: bool,
}

/// An answer to a question of the hot wash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lesson {
    /// The role that answers.
    pub by: String,
    /// What was asked.
    #[serde(default)]
    pub question: String,
    /// What was said.
    pub answer: String,
}

impl Hotwash {
    /// Reads it from YAML.
    ///
    /// # Errors
    /// [`Error::Hotwash`] with the line, for what is not of this form, too long, or names a person and not a role.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > BYTES_MAX {
            return Err(Error::Hotwash(format!("the file is longer than {BYTES_MAX} bytes")));
        }
        let read: Self = serde_saphyr::from_str(text).map_err(|error| {
            let plain = error.without_snippet();
            let line = plain.location().map_or(0, |at| at.line());
            let why = plain.to_string();
            Error::Hotwash(format!("line {line}: {}", why.lines().next().unwrap_or("the YAML does not parse")))
        })?;
        if [read.marks.len(), read.items.len(), read.lessons.len()].into_iter().any(|entries| entries > ENTRIES_MAX) {
            return Err(Error::Hotwash(format!("a list has more than {ENTRIES_MAX} entries")));
        }
        let owners = read.items.iter().filter_map(|item| item.owner.as_ref());
        let mut roles = owners.chain(read.lessons.iter().map(|lesson| &lesson.by));
        match roles.find(|role| !is_role(role)) {
            Some(name) => Err(Error::Hotwash(format!(
                "{name:?} is no role; write for example edb.duty-officer, since a report names roles and not persons"
            ))),
            None => Ok(read),
        }
    }

    /// The verdict with the marks: the transcript is judged again, and keeps its digest.
    pub(super) fn judged(
        &self,
        scenario: &Scenario,
        transcript: &Transcript,
        verdict: &Verdict,
    ) -> Result<Verdict, Error> {
        if self.marks.is_empty() {
            return Ok(verdict.clone());
        }
        let mut judge = Judge::new(scenario);
        transcript.events.iter().for_each(|event| judge.observe(event));
        let end = transcript.events.last().map_or(Offset::START, |event| event.at);
        let mut later = transcript.clone();
        for mark in &self.marks {
            self.check(scenario, mark)?;
            let Mark { expectation, by, mark, remark } = mark.clone();
            let what = What::Judged { expectation, by, mark, remark };
            // The remark stands in the table; no event of the transcript proves it.
            if let Some(event) = later.add(end + Length::default(), None, what) {
                judge.observe(event);
            }
        }
        let mut with = judge.finish(&transcript.header, transcript.digest());
        let last = transcript.events.len() as u64;
        with.items.iter_mut().for_each(|item| item.evidence.retain(|seq| *seq <= last));
        with.variants.clone_from(&verdict.variants);
        Ok(with)
    }

    fn check(&self, scenario: &Scenario, mark: &Mark) -> Result<(), Error> {
        let name = &mark.expectation;
        let wrong = |why: String| Err(Error::Hotwash(why));
        let index = (0..scenario.expect.len()).find(|index| scenario.expectation(*index) == *name);
        let Some(expect) = index.and_then(|index| scenario.expect.get(index)) else {
            return wrong(format!("a mark is given for {name}, which the scenario does not have; check the name"));
        };
        let (Some(by), Some(scale)) = (&expect.judged_by, expect.scale) else {
            return wrong(format!("{name} is not for an observer to judge; take the mark out"));
        };
        if *by != mark.by {
            return wrong(format!("{name} is for {by} to judge, not for {}", mark.by));
        }
        if !(scale.least..=scale.most).contains(&mark.mark) {
            return wrong(format!(
                "{name} is marked {}; give a mark from {} to {}",
                mark.mark, scale.least, scale.most
            ));
        }
        if self.marks.iter().filter(|other| other.expectation == *name).count() > 1 {
            return wrong(format!("{name} is marked twice; keep one mark"));
        }
        Ok(())
    }
}

/// Whether it is a role, `department.role`, and not a person's name.
fn is_role(role: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    };
    let department = |text: &str| text == "ctl" || text == "obs" || DepartmentId::try_new(text).is_ok();
    role.split_once('.').is_some_and(|(whose, what)| department(whose) && part(what))
}

/// What is to be mended: of the run first, then what people thought of.
pub(super) fn improvements(
    expectations: &[Expectation],
    verdict: &Verdict,
    hotwash: Option<&Hotwash>,
) -> Result<Vec<Improvement>, Error> {
    let failed = |row: &&Expectation| matches!(row.item.outcome, Outcome::Forbidden | Outcome::Missed | Outcome::Late);
    let of_run = expectations.iter().filter(failed).map(|row| Improvement {
        id: String::new(),
        expectation: Some(row.item.id.clone()),
        objective: Some(row.item.objective.clone()),
        text: sentence(row),
        owner: None,
        due: None,
        done: false,
    });
    let mut all: Vec<Improvement> = of_run.collect();
    all.extend(verdict.variants.iter().filter(|variant| !variant.as_written).map(|variant| Improvement {
        id: String::new(),
        expectation: None,
        objective: None,
        text: Text {
            en: format!("The variant {} did not fail as written: {}. Find out why.", variant.name, variant.why),
            zh_hant: format!("變化 {} 的結果與所寫不符，須查明原因。", variant.name),
        },
        owner: None,
        due: None,
        done: false,
    }));
    let mut taken = BTreeSet::new();
    for action in hotwash.iter().flat_map(|hotwash| &hotwash.items) {
        let text = action.text.as_ref().map(Text::from);
        let found = match &action.expectation {
            Some(name) => {
                let found = all.iter_mut().find(|one| one.expectation.as_ref() == Some(name));
                match found {
                    Some(found) if taken.insert(name.clone()) => Some(found),
                    Some(_) => None,
                    None => {
                        return Err(Error::Hotwash(format!(
                            "an item names the expectation {name}, which did not fail; give it a text of its own instead"
                        )));
                    }
                }
            }
            None => None,
        };
        let due = action.due.map(|due| due.to_string());
        match (found, text) {
            (Some(found), text) => {
                (found.owner, found.due, found.done) = (action.owner.clone(), due, action.done);
                found.text = text.unwrap_or_else(|| found.text.clone());
            }
            (None, Some(text)) => all.push(Improvement {
                id: String::new(),
                expectation: action.expectation.clone(),
                objective: action.objective.clone(),
                text,
                owner: action.owner.clone(),
                due,
                done: action.done,
            }),
            (None, None) => {
                return Err(Error::Hotwash("an item has neither an expectation of its own nor a text".into()));
            }
        }
    }
    all.iter_mut().enumerate().for_each(|(index, one)| one.id = format!("A{}", index + 1));
    Ok(all)
}

/// The sentence that an improvement begins with, for people to go on from.
fn sentence(row: &Expectation) -> Text {
    let item = &row.item;
    let expected = &row.text.en;
    let own = if row.text.zh_hant.is_empty() { String::new() } else { format!("「{}」", row.text.zh_hant) };
    let id = &item.id;
    let why = if item.why.is_empty() { String::new() } else { format!(" ({})", item.why) };
    let due = item.due().map(|due| due.to_string()).unwrap_or_default();
    let at = item.at().map(|at| at.to_string()).unwrap_or_default();
    let (en, zh_hant) = match (item.outcome, row.late_ms) {
        (Outcome::Late, Some(by)) => {
            let by = Length::from_ms(by);
            (format!("“{expected}” came {by} late, at {at}."), format!("{id}{own}遲了 {by}，於 {at} 才達成。"))
        }
        (Outcome::Late, None) => (
            format!("“{expected}” took longer than allowed, until {at}."),
            format!("{id}{own}於 {at} 達成，超出時限。"),
        ),
        (Outcome::Forbidden, _) => (
            format!("“{expected}” was broken at {at}{why}."),
            format!("{id}{own}於 {at} 被違反，出現了不應出現的情況。"),
        ),
        _ if due.is_empty() => (format!("“{expected}” did not happen{why}."), format!("{id}{own}沒有達成。")),
        _ => (format!("“{expected}” did not happen by {due}{why}."), format!("{id}{own}到 {due} 仍未達成。")),
    };
    Text { en, zh_hant }
}
