//! The after-action report: what a run came to, in the order in which people ask.
//!
//! [`Report::of`] derives every table from scenario, transcript and verdict; [`Form`] writes them as one HTML file, as
//! Markdown, as JUnit XML or as JSON, which is the [`Report`] itself, field by field. Pure: the same inputs give the same
//! bytes. Persons appear as roles only.
//!
//! ```text
//! scenario ─┐
//! transcript├─► expectations · timeline · cascade · people · disturbances · improvements ─► HTML, Markdown, JUnit, JSON
//! verdict  ─┘
//! ```

use campanile_alert::DateTime;
use serde::Serialize;

use crate::judge;
use crate::scenario::{Scenario, TextOrWords, Words};
use crate::transcript::Transcript;
use crate::verdict::{Ended, Item, Outcome, Verdict};

mod cascade;
mod chart;
mod hotwash;
mod people;
mod timeline;
mod write;

pub use cascade::{Cascade, Group};
pub use hotwash::{Action, Hotwash, Lesson, Mark};
pub use people::{Disturbance, Reply, Request, RequestKind};
pub use timeline::{Arrival, Narrator, Row, Timeline};
pub use write::Form;

/// The version of the JSON form; a field that changes its meaning raises it.
pub const FORMAT: u32 = 1;

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two of the inputs are not of one run.
    #[error("{0} are not of the same run; give the files that one `campanile drill run --out` wrote")]
    Strangers(&'static str),
    /// What people added does not fit the drill.
    #[error("{0}")]
    Hotwash(String),
    /// A template does not fit its data, which is a fault of this program.
    #[error("the report could not be written: {0}")]
    Template(String),
}

/// All that a report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// The drill's name.
    pub drill: String,
    /// What it was about; a language that the scenario leaves out is empty.
    pub title: Text,
    /// The name of the exercise.
    pub exercise: String,
    /// What stands in every text of the exercise.
    pub marker: Text,
    /// T+0 on the drill's clock, with its offset.
    pub start: String,
    /// When it ended, in milliseconds since T+0.
    pub end_ms: i64,
    /// The verdict as the judge wrote it; with marks given afterwards, as it is with them.
    pub verdict: Verdict,
    /// The objectives, by id.
    pub objectives: Vec<Objective>,
    /// The expectations: what should not have been seen, what is missing and what was late first.
    pub expectations: Vec<Expectation>,
    /// What was seen, in order.
    pub timeline: Timeline,
    /// What led to what.
    pub cascade: Cascade,
    /// Who was asked or told, and how long the answer took.
    pub requests: Vec<Request>,
    /// Faults, crashes, pauses and departments that were not heard.
    pub disturbances: Vec<Disturbance>,
    /// What waits for an observer.
    pub to_be_judged: Vec<ToBeJudged>,
    /// What is to be mended: one for each expectation that failed and each variant that did not fail as written, then
    /// what people added.
    pub improvements: Vec<Improvement>,
    /// What people said afterwards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lessons: Vec<Lesson>,
}

/// A text in both languages; one that nobody wrote is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Text {
    /// English.
    pub en: String,
    /// Traditional Chinese.
    pub zh_hant: String,
}

/// An objective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Its id.
    pub id: String,
    /// What was to be shown.
    pub text: Text,
    /// The capability that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Its share of the score.
    pub weight: u32,
    /// Whether it must be met in full.
    pub must: bool,
    /// Whether it failed.
    pub failed: bool,
    /// What was reached of it, in permille; absent while nothing of it is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<u32>,
    /// How many of its expectations wait for an observer.
    pub to_be_judged: u32,
    /// How many expectations it has.
    pub expectations: usize,
    /// How many of them were met in time.
    pub met: usize,
}

/// An expectation and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    /// As the judge wrote it.
    #[serde(flatten)]
    pub item: Item,
    /// What was expected, in the planner's words where there are any; those may be in one language only.
    pub text: Text,
    /// By how many milliseconds it was late; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<i64>,
    /// The rows of the timeline that prove it, in the order of `evidence`.
    pub rows: Vec<u64>,
}

/// A question for an observer that has no mark yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToBeJudged {
    /// The expectation.
    pub expectation: String,
    /// The objective.
    pub objective: String,
    /// The observer, by role.
    pub by: String,
    /// What is asked.
    pub question: String,
    /// The marks that can be given, `0-3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<String>,
    /// The file with what to look for, from the scenario's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
    /// When it is to be looked at, in milliseconds since T+0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<i64>,
}

/// Something to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Improvement {
    /// What it is called: `A1`, `A2`….
    pub id: String,
    /// The expectation that failed; absent for what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expectation: Option<String>,
    /// The objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// What is the matter.
    pub text: Text,
    /// The role that mends it; absent until somebody takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Until when, `2026-11-30`; absent until it is agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Whether it is done.
    pub done: bool,
}

impl Report {
    /// Derives the report. `hotwash` is what people added afterwards.
    ///
    /// # Errors
    /// [`Error::Strangers`] when the inputs are not of one run, [`Error::Hotwash`] when what people added names what is
    /// not there.
    pub fn of(
        scenario: &Scenario,
        transcript: &Transcript,
        verdict: &Verdict,
        hotwash: Option<&Hotwash>,
    ) -> Result<Self, Error> {
        let hex = |digest: [u8; 32]| hex::encode(digest);
        if verdict.scenario != hex(scenario.digest()) || transcript.header.scenario != verdict.scenario {
            return Err(Error::Strangers("the scenario and the verdict"));
        }
        if verdict.transcript != hex(transcript.digest()) || verdict.items.len() != scenario.expect.len() {
            return Err(Error::Strangers("the transcript and the verdict"));
        }
        let verdict = match hotwash {
            Some(hotwash) => hotwash.judged(scenario, transcript, verdict)?,
            None => verdict.clone(),
        };
        let last = transcript.events.last().map_or(0, |event| event.at.ms());
        let end_ms = if verdict.ended == Ended::Complete { scenario.end().ms().max(last) } else { last };
        let (timeline, places) = Timeline::of(scenario, transcript, &verdict);
        let expectations = expectations(scenario, &verdict, &places);
        let improvements = hotwash::improvements(&expectations, &verdict, hotwash)?;
        Ok(Self {
            format: FORMAT,
            drill: verdict.drill.clone(),
            title: (&scenario.title).into(),
            exercise: scenario.mode.exercise_id.to_string(),
            marker: (&scenario.mode.marker).into(),
            start: start(scenario, transcript).text().to_owned(),
            end_ms,
            objectives: objectives(scenario, &verdict),
            expectations,
            cascade: Cascade::of(transcript),
            requests: people::requests(scenario, transcript),
            disturbances: people::disturbances(scenario, transcript),
            to_be_judged: to_be_judged(scenario, &verdict),
            lessons: hotwash.map(|hotwash| hotwash.lessons.clone()).unwrap_or_default(),
            improvements,
            timeline,
            verdict,
        })
    }
}

/// T+0 as the run's clock showed it, with the offset that the scenario is written in.
fn start(scenario: &Scenario, transcript: &Transcript) -> DateTime {
    DateTime::from_instant(transcript.header.start, scenario.clock.start.offset_minutes())
}

impl From<&Words> for Text {
    fn from(words: &Words) -> Self {
        Self { en: words.en.clone(), zh_hant: words.zh_hant.clone() }
    }
}

impl From<&TextOrWords> for Text {
    fn from(text: &TextOrWords) -> Self {
        match text {
            TextOrWords::Text(text) => Self { en: text.clone(), zh_hant: String::new() },
            TextOrWords::Words(words) => words.into(),
        }
    }
}

fn objectives(scenario: &Scenario, verdict: &Verdict) -> Vec<Objective> {
    let rows = verdict.objectives.iter().map(|(id, came)| {
        let planned = scenario.objectives.get(id);
        let own = || verdict.items.iter().filter(|item| item.objective == *id);
        Objective {
            id: id.clone(),
            text: planned.map(|planned| Text::from(&planned.text)).unwrap_or_default(),
            capability: planned.and_then(|planned| planned.capability.clone()),
            weight: came.weight,
            must: came.must,
            failed: came.failed,
            score: came.score,
            to_be_judged: came.to_be_judged,
            expectations: own().count(),
            met: own().filter(|item| item.outcome == Outcome::Met).count(),
        }
    });
    rows.collect()
}

/// How far up an outcome stands: what is worst first.
fn urgency(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Forbidden => 0,
        Outcome::Missed => 1,
        Outcome::Late => 2,
        Outcome::Open => 3,
        Outcome::ToBeJudged => 4,
        Outcome::Judged => 5,
        Outcome::Met => 6,
    }
}

fn expectations(scenario: &Scenario, verdict: &Verdict, places: &timeline::Places) -> Vec<Expectation> {
    let rows = verdict.items.iter().zip(&scenario.expect).map(|(item, expect)| {
        let late = item.outcome == Outcome::Late;
        Expectation {
            text: Text { en: item.expected.clone(), zh_hant: judge::sentence_zh(expect) },
            late_ms: item.at.zip(item.due).map(|(at, due)| at - due).filter(|by| late && *by > 0),
            rows: item.evidence.iter().filter_map(|seq| places.row(*seq)).collect(),
            item: item.clone(),
        }
    });
    let mut rows: Vec<Expectation> = rows.collect();
    rows.sort_by_key(|row| urgency(row.item.outcome));
    rows
}

fn to_be_judged(scenario: &Scenario, verdict: &Verdict) -> Vec<ToBeJudged> {
    let open = verdict.items.iter().zip(&scenario.expect).filter(|(item, _)| item.outcome == Outcome::ToBeJudged);
    let rows = open.map(|(item, expect)| {
        let by = expect.judged_by.clone().unwrap_or_default();
        ToBeJudged {
            expectation: item.id.clone(),
            objective: item.objective.clone(),
            question: expect.question.clone().unwrap_or_default(),
            scale: expect.scale.map(|scale| scale.to_string()),
            rubric: scenario.cast.observers.get(&by).and_then(|observer| observer.rubric.clone()),
            due: item.due,
            by,
        }
    });
    rows.collect()
}
