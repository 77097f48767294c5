//! What led to what: the messages of one thing as one box, its causes to the left, its effects to the right.
//!
//! An alert, its updates and its cancel are one group; so are the effects of one rule and one event on many targets, and
//! the many alerts of one inject. The layout is a function of the groups alone: a column for each step from the first
//! cause, in a column by where the causes stand, then by time.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::MessageType;
use serde::Serialize;

use crate::transcript::{Record, Transcript, What};

/// The most groups that are drawn; what belongs to a cascade comes first, then what came first.
const GROUPS_MAX: usize = 64;

/// The groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cascade {
    /// In the order in which they began; a number is an index in this list.
    pub groups: Vec<Group>,
    /// How many groups are left out because they are too many to draw.
    pub left_out: usize,
}

/// Messages that are one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The signal, or the event, with the highest level that it had.
    pub what: String,
    /// The department that published it.
    pub from: String,
    /// The rule that issued it; absent for what no rule issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The injects that it is, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub injects: Vec<String>,
    /// The keys of its targets, sorted; empty for none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// How many alerts, updates and cancels it has.
    pub alerts: u32,
    /// Updates.
    pub updates: u32,
    /// Cancels.
    pub cancels: u32,
    /// The event in the transcript by which it began.
    pub seq: u64,
    /// When it began, in milliseconds since T+0.
    pub from_ms: i64,
    /// When its last message came.
    pub to_ms: i64,
    /// The groups that caused it.
    pub causes: BTreeSet<usize>,
    /// The column that it stands in: steps from the first cause.
    pub column: usize,
    /// The row in its column.
    pub row: usize,
    #[serde(skip)]
    level: u32,
}

impl Cascade {
    pub(super) fn of(transcript: &Transcript) -> Self {
        let mut groups = groups(transcript);
        let left_out = shorten(&mut groups);
        place(&mut groups);
        Self { groups, left_out }
    }
}

fn groups(transcript: &Transcript) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut of_message: BTreeMap<&str, usize> = BTreeMap::new();
    let mut of_name: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for event in &transcript.events {
        let What::Record(record) = &event.what else { continue };
        let Some(sent @ (MessageType::Alert | MessageType::Update | MessageType::Cancel)) = record.msg_type else {
            continue;
        };
        let thread = record.references.iter().find_map(|id| of_message.get(id.as_str()).copied());
        let by = record.rule.as_deref().or(record.inject.as_deref());
        let name = by.map(|by| (record.from.as_str(), record.event.as_deref().unwrap_or_default(), by));
        let index = thread.or_else(|| name.and_then(|name| of_name.get(&name).copied())).unwrap_or(groups.len());
        if index == groups.len() {
            groups.push(begin(record, event.seq, event.at.ms()));
        }
        of_message.insert(&record.id, index);
        if let Some(name) = name {
            of_name.entry(name).or_insert(index);
        }
        let causes: BTreeSet<usize> = record
            .causes
            .iter()
            .filter_map(|id| of_message.get(id.as_str()).copied())
            .filter(|at| *at != index)
            .collect();
        if let Some(group) = groups.get_mut(index) {
            group.take(record, sent, event.at.ms());
            group.causes.extend(causes);
        }
    }
    groups
}

fn begin(record: &Record, seq: u64, at_ms: i64) -> Group {
    Group {
        what: String::new(),
        from: record.from.clone(),
        rule: record.rule.clone(),
        injects: Vec::new(),
        targets: Vec::new(),
        alerts: 0,
        updates: 0,
        cancels: 0,
        seq,
        from_ms: at_ms,
        to_ms: at_ms,
        causes: BTreeSet::new(),
        column: 0,
        row: 0,
        level: 0,
    }
}

impl Group {
    fn take(&mut self, record: &Record, sent: MessageType, at_ms: i64) {
        match sent {
            MessageType::Update => self.updates += 1,
            MessageType::Cancel => self.cancels += 1,
            _ => self.alerts += 1,
        }
        self.to_ms = self.to_ms.max(at_ms);
        let level = record.level.unwrap_or(0);
        // A cancel says less of what it was than what it cancels.
        if self.what.is_empty() || (sent != MessageType::Cancel && level > self.level) {
            self.level = level.max(self.level);
            let name = record.signal.as_ref().or(record.event.as_ref()).unwrap_or(&record.id);
            self.what = if self.level > 0 { format!("{name} level {}", self.level) } else { name.clone() };
        }
        if let Some(inject) = record.inject.as_ref().filter(|inject| !self.injects.contains(inject)) {
            self.injects.push(inject.clone());
        }
        if let Some(target) = record.target.as_ref().filter(|target| !target.is_empty())
            && let Err(at) = self.targets.binary_search(target)
        {
            self.targets.insert(at, target.clone());
        }
    }
}

/// Keeps as many groups as can be drawn, and says how many are left out.
fn shorten(groups: &mut Vec<Group>) -> usize {
    let over = groups.len().saturating_sub(GROUPS_MAX);
    if over == 0 {
        return 0;
    }
    let joined: BTreeSet<usize> = groups
        .iter()
        .enumerate()
        .filter(|(_, group)| !group.causes.is_empty())
        .flat_map(|(index, group)| group.causes.iter().copied().chain([index]))
        .collect();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|index| (!joined.contains(index), *index));
    let mut kept: Vec<usize> = order.into_iter().take(GROUPS_MAX).collect();
    kept.sort_unstable();
    let new: BTreeMap<usize, usize> = kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let mut index = 0;
    groups.retain(|_| {
        index += 1;
        new.contains_key(&(index - 1))
    });
    for group in groups {
        group.causes = group.causes.iter().filter_map(|old| new.get(old).copied()).collect();
    }
    over
}

/// Gives each group its column and row. A cause that began later than its effect, as after an update, moves nothing.
fn place(groups: &mut [Group]) {
    let mut columns: Vec<Vec<usize>> = Vec::new();
    let mut column_of: Vec<usize> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let before = group.causes.range(..index).filter_map(|cause| column_of.get(*cause));
        let column = before.max().map_or(0, |column| column + 1);
        column_of.push(column);
        if columns.len() <= column {
            columns.resize(column + 1, Vec::new());
        }
        if let Some(own) = columns.get_mut(column) {
            own.push(index);
        }
    }
    for (column, members) in columns.iter_mut().enumerate() {
        // Twice the mean row of the causes, in whole numbers.
        let middle = |index: &usize| {
            let causes = groups.get(*index).map(|group| group.causes.range(..*index)).into_iter().flatten();
            let rows: Vec<usize> = causes.filter_map(|cause| Some(groups.get(*cause)?.row)).collect();
            (rows.iter().sum::<usize>() * 2).checked_div(rows.len()).unwrap_or(0)
        };
        members.sort_by_key(|index| (middle(index), *index));
        for (row, index) in members.iter().enumerate() {
            if let Some(group) = groups.get_mut(*index) {
                (group.column, group.row) = (column, row);
            }
        }
    }
}
