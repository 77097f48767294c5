//! What was seen, as rows: where a record went stands in the row of the record, what repeats itself stands once.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::MessageType;
use serde::Serialize;

use super::people::fault_zh;
use crate::scenario::Scenario;
use crate::transcript::{Answered, EffectName, Event, Record, Subject, Transcript, What};
use crate::verdict::Verdict;

/// The most rows of a report. Beyond it what proves nothing and asks nobody is left out, last first.
const ROWS_MAX: usize = 3000;

/// The rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// In the order of time.
    pub rows: Vec<Row>,
    /// How many rows are left out because they are too many to read; the transcript has them.
    pub left_out: usize,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The number of the event in the transcript.
    pub seq: u64,
    /// Milliseconds since T+0.
    pub at_ms: i64,
    /// The node where it was seen; absent for what concerns the whole drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Everybody whom it concerns: departments, sorted.
    pub concerns: Vec<String>,
    /// What it is: `inject`, `alert`, `update`, `cancel`, `asked`, `answered`…
    pub kind: &'static str,
    /// What was seen: names and roles.
    pub what: String,
    /// What was said with it: headlines, reasons; may be empty.
    pub said: String,
    /// How many such events follow each other; 1 for one.
    pub times: u32,
    /// Where the record arrived afterwards, in the order of time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<Arrival>,
    /// The expectations that it proves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proves: Vec<String>,
}

/// A record that arrived at another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// The department.
    pub node: String,
    /// Milliseconds since T+0.
    pub at_ms: i64,
}

/// In which row each event stands.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<u64, u64>);

impl Places {
    /// The number of the row in which an event stands.
    pub(super) fn row(&self, event: u64) -> Option<u64> {
        self.0.get(&event).copied()
    }
}

impl Timeline {
    pub(super) fn of(scenario: &Scenario, transcript: &Transcript, verdict: &Verdict) -> (Self, Places) {
        let mut rows: Vec<Row> = Vec::new();
        let mut places = Places::default();
        let mut records: BTreeMap<&str, usize> = BTreeMap::new();
        let mut narrator = Narrator::new(scenario);
        for event in &transcript.events {
            if let What::Seen { id } = &event.what {
                let row = records.get(id.as_str()).and_then(|index| rows.get_mut(*index));
                if let (Some(row), Some(node)) = (row, &event.node) {
                    places.0.insert(event.seq, row.seq);
                    row.reached.push(Arrival { node: node.to_string(), at_ms: event.at.ms() });
                    row.concerns.push(node.to_string());
                }
                continue;
            }
            let row = narrator.row(event);
            let again = rows.last_mut().filter(|last| {
                last.reached.is_empty()
                    && (last.kind, &last.node, &last.what, &last.said) == (row.kind, &row.node, &row.what, &row.said)
            });
            if let Some(last) = again {
                last.times += 1;
                places.0.insert(event.seq, last.seq);
                continue;
            }
            if let What::Record(record) = &event.what {
                records.insert(&record.id, rows.len());
            }
            places.0.insert(event.seq, event.seq);
            rows.push(row);
        }
        for item in &verdict.items {
            for seq in item.evidence.iter().filter_map(|seq| places.row(*seq)) {
                if let Ok(index) = rows.binary_search_by_key(&seq, |row| row.seq)
                    && let Some(row) = rows.get_mut(index)
                    && !row.proves.contains(&item.id)
                {
                    row.proves.push(item.id.clone());
                }
            }
        }
        for row in &mut rows {
            row.concerns.sort();
            row.concerns.dedup();
        }
        let left_out = shorten(&mut rows);
        (Self { rows, left_out }, places)
    }
}

/// Leaves rows out until there are few enough, and says how many. What proves an expectation, asks or stops stays.
fn shorten(rows: &mut Vec<Row>) -> usize {
    let before = rows.len();
    let plain = |row: &Row| row.proves.is_empty() && matches!(row.kind, "alert" | "update" | "record" | "notice");
    let mut over = before.saturating_sub(ROWS_MAX);
    let mut from_the_end: Vec<Row> = Vec::new();
    for row in rows.drain(..).rev() {
        if over > 0 && plain(&row) {
            over -= 1;
        } else {
            from_the_end.push(row);
        }
    }
    rows.extend(from_the_end.into_iter().rev());
    before - rows.len()
}

/// Tells events one after another, each as a row of its own.
#[derive(Debug, Clone)]
pub struct Narrator<'a> {
    scenario: &'a Scenario,
    /// The rule behind each question.
    questions: BTreeMap<String, String>,
}

impl<'a> Narrator<'a> {
    /// Of a scenario: it has the titles of injects.
    pub fn new(scenario: &'a Scenario) -> Self {
        Self { scenario, questions: BTreeMap::new() }
    }

    /// The row of an event. Events come in their order: a question is named by its rule when it is answered.
    pub fn row(&mut self, event: &Event) -> Row {
        if let What::Asked(asked) = &event.what {
            self.questions.insert(asked.pending.clone(), asked.rule.clone());
        }
        row(self.scenario, event, &self.questions)
    }
}

fn row(scenario: &Scenario, event: &Event, questions: &BTreeMap<String, String>) -> Row {
    let (kind, what, said) = told(scenario, event, questions);
    let mut concerns: BTreeSet<String> = event.node.iter().map(ToString::to_string).collect();
    concerns.extend(roles(&event.what).into_iter().filter_map(|role| Some(role.split_once('.')?.0.to_owned())));
    if let What::Stale { from, .. } | What::Heard { from } = &event.what {
        concerns.insert(from.to_string());
    }
    Row {
        seq: event.seq,
        at_ms: event.at.ms(),
        node: event.node.as_ref().map(ToString::to_string),
        concerns: concerns.into_iter().collect(),
        kind,
        what,
        said,
        times: 1,
        reached: Vec::new(),
        proves: Vec::new(),
    }
}

/// The roles that an event names.
fn roles(what: &What) -> Vec<&str> {
    match what {
        What::Asked(asked) => asked.to.iter().map(String::as_str).collect(),
        What::Escalated { to, .. } | What::Stale { shown_to: to, .. } => to.iter().map(String::as_str).collect(),
        What::Answered { person, .. } | What::Told { person, .. } | What::Acked { person, .. } => vec![person],
        _ => Vec::new(),
    }
}

/// The kind of an event, what was seen, and what was said with it.
fn told(scenario: &Scenario, event: &Event, questions: &BTreeMap<String, String>) -> (&'static str, String, String) {
    let rule = |pending: &String| questions.get(pending).unwrap_or(pending).clone();
    let inject = |id: &str| scenario.injects.iter().find(|inject| inject.id == id);
    let none = String::new;
    match &event.what {
        What::Inject { id } => {
            let title = inject(id).and_then(|inject| inject.title.as_ref());
            ("inject", id.clone(), title.map(both).unwrap_or_default())
        }
        What::Skipped { id, why } => ("skipped", id.clone(), why.clone()),
        What::Refused { inject, why } => ("refused", inject.clone().unwrap_or_default(), why.clone()),
        What::Record(record) => (record_kind(record), name(record), record.headlines.join(" / ")),
        // Stands in the row of the record.
        What::Seen { id } => ("seen", id.clone(), none()),
        What::Asked(asked) => {
            let on = targets(&asked.targets);
            let what = format!("{} → {}{on} → {} ×{}", asked.rule, asked.effect, asked.to.join(", "), asked.need);
            ("asked", what, asked.why.clone())
        }
        What::Answered { pending, person, answer } => {
            let word = if *answer == Answered::Approve { "approve" } else { "reject" };
            ("answered", format!("{person}: {word} {}", rule(pending)), none())
        }
        What::Escalated { pending, to } => ("escalated", format!("{} → {}", rule(pending), to.join(", ")), none()),
        What::Closed { pending } => ("closed", rule(pending), none()),
        What::Review { effect: of } => ("review", effect(of), none()),
        What::Reviewed { effect: of } => ("reviewed", effect(of), none()),
        What::Stale { from, shown_to } => ("stale", format!("{from} → {}", shown_to.join(", ")), none()),
        What::Heard { from } => ("heard", from.to_string(), none()),
        What::Told { person, inject: id } => {
            let said = inject(id).and_then(|inject| inject.say.clone()).unwrap_or_default();
            ("told", format!("{id} → {person}"), said)
        }
        What::Acked { person, about } => ("acked", format!("{person}: {}", subject(about)), none()),
        What::Notice(notice) => {
            let outside = if notice.sink { "" } else { " (no sink)" };
            ("notice", format!("{}{outside}", notice.channel), notice.headlines.join(" / "))
        }
        What::FaultBegan { fault, what } => ("fault", format!("#{fault} {what}"), fault_zh(scenario, *fault)),
        What::FaultEnded { fault } => ("mended", format!("#{fault}"), none()),
        What::Down => ("down", none(), none()),
        What::Up => ("up", none(), none()),
        What::Paused { by } => ("paused", by.clone(), none()),
        What::Resumed { by } => ("resumed", by.clone(), none()),
        What::Frozen { record, why } => ("frozen", record.clone(), why.clone()),
        What::Aborted { by } => ("aborted", by.clone(), none()),
        What::Judged { expectation, by, mark, remark } => {
            ("judged", format!("{expectation}: {mark} ({by})"), remark.clone())
        }
        What::Digest { records, digest } => {
            ("digest", format!("{records} records, {}", digest.get(..12).unwrap_or(digest)), none())
        }
        What::Ended => ("ended", none(), none()),
        What::Full => ("full", none(), none()),
    }
}

fn both(text: &crate::scenario::TextOrWords) -> String {
    match (text.en(), text.zh_hant()) {
        (en, zh) if en == zh || zh.is_empty() => en.to_owned(),
        ("", zh) => zh.to_owned(),
        (en, zh) => format!("{en} / {zh}"),
    }
}

fn record_kind(record: &Record) -> &'static str {
    match record.msg_type {
        Some(MessageType::Alert) => "alert",
        Some(MessageType::Update) => "update",
        Some(MessageType::Cancel) => "cancel",
        _ => "record",
    }
}

/// A record in a few words: `fire level 3 (i3)`, `class-suspension for harbour-view-primary by edb.school-closure.fire`.
fn name(record: &Record) -> String {
    let mut text = record.signal.clone().or_else(|| record.event.clone()).unwrap_or_else(|| record.id.clone());
    if let Some(level) = record.level {
        text.push_str(&format!(" level {level}"));
    }
    if let Some(target) = record.target.as_ref().filter(|target| !target.is_empty()) {
        text.push_str(&format!(" for {target}"));
    }
    if let Some(rule) = &record.rule {
        text.push_str(&format!(" by {rule}"));
    }
    if let Some(inject) = &record.inject {
        text.push_str(&format!(" ({inject})"));
    }
    text
}

pub(super) fn effect(effect: &EffectName) -> String {
    let on = if effect.target.is_empty() { String::new() } else { format!(" for {}", effect.target) };
    format!("{}{on}", effect.effect)
}

/// ` for a, b and 7 more`; nothing for no target.
pub(super) fn targets(targets: &[String]) -> String {
    const NAMED: usize = 3;
    let named: Vec<&str> = targets.iter().take(NAMED).filter(|key| !key.is_empty()).map(String::as_str).collect();
    match (named.is_empty(), targets.len().saturating_sub(NAMED)) {
        (true, _) => String::new(),
        (_, 0) => format!(" for {}", named.join(", ")),
        (_, more) => format!(" for {} and {more} more", named.join(", ")),
    }
}

pub(super) fn subject(about: &Subject) -> String {
    match about {
        Subject::Inject(inject) => inject.clone(),
        Subject::Rule(rule) => rule.clone(),
        Subject::Stale(from) => format!("{from} is not heard"),
    }
}
