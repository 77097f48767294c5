//! The projection of current alerts: which are in force, whose they are, and where their records stand.
//!
//! The rules of the ledger are the domain's ([`campanile_alert::live`]); here it is fed with counted records and stored
//! as rows in the same commit as the record that changed it, so nothing is replayed at start.

use campanile_alert::live::{Changes, Entry, Facts, Ledger, State};
use campanile_alert::{AlertId, DepartmentId, Timestamp, World};
use campanile_discovery::roster::Roster;
use campanile_log::{Standing, Store};

use crate::derive::Arrival;
use crate::pipeline::{StartError, read_rows};
use crate::record::Content;

const PREFIX: &[u8] = b"alert/";

/// A state row to set, or to remove.
pub(crate) type Row = (Vec<u8>, Option<Vec<u8>>);

/// What the ledger keeps of a record beside the alert's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The arrival number of the record here.
    pub arrival: u64,
    /// Its urgent mark.
    pub urgent: bool,
    /// Its event in the vocabulary.
    pub event: Option<String>,
}

impl Mark {
    fn to_text(&self) -> String {
        let urgent = if self.urgent { 'u' } else { 'r' };
        format!("{}:{urgent}:{}", self.arrival, self.event.as_deref().unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (arrival, urgent, event) = (parts.next()?, parts.next()?, parts.next()?);
        let event = (!event.is_empty()).then(|| event.to_owned());
        Some(Self { arrival: arrival.parse().ok()?, urgent: urgent == "u", event })
    }
}

/// The current alerts of all departments and worlds, as this node knows them.
#[derive(Debug, Default)]
pub struct Current {
    ledger: Ledger,
}

impl Current {
    /// Takes the rows of the store up again.
    pub(crate) fn restore(&mut self, store: &dyn Store) -> Result<(), StartError> {
        let mut entries = Vec::new();
        for (_, row) in read_rows(store, PREFIX)? {
            let entry: Entry = serde_json::from_slice(&row)
                .map_err(|error| StartError::State { part: "current alerts", reason: error.to_string() })?;
            entries.push(entry);
        }
        self.ledger = Ledger::restore(entries);
        Ok(())
    }

    /// Takes a stored record in and gives the rows that changed. Records that do not count change nothing.
    pub(crate) fn apply(&mut self, arrival: &Arrival, roster: &Roster) -> Vec<Row> {
        let Some(body) = &arrival.body else { return Vec::new() };
        let Content::Alert { alert, .. } = &body.content else { return Vec::new() };
        if arrival.entry.standing != Standing::Counted {
            return Vec::new();
        }
        let department = arrival.header.origin.department().clone();
        let mark = Mark {
            arrival: arrival.entry.arrival,
            urgent: arrival.header.urgent,
            event: body.classification.event.clone(),
        };
        let mut facts = Facts::of(alert, department, arrival.header.world.clone(), Some(mark.to_text().into()));
        if !facts.references.is_empty() {
            facts.delegated = self.delegated(&facts, roster);
        }
        rows(self.ledger.apply(&facts, arrival.received))
    }

    /// Marks what has expired and drops what can no longer matter; gives the rows that changed.
    pub(crate) fn sweep(&mut self, now: Timestamp) -> Vec<Row> {
        rows(self.ledger.sweep(now))
    }

    /// The departments that let this one amend an alert that it refers to.
    fn delegated(&self, facts: &Facts, roster: &Roster) -> Vec<DepartmentId> {
        let lets = |owner: &DepartmentId| {
            facts.references.iter().any(|id| {
                self.mark(owner, &facts.world, id)
                    .is_some_and(|mark| roster.may_amend(owner, &facts.department, mark.event.as_deref()))
            })
        };
        let others = roster.departments.iter().map(|department| &department.id);
        others.filter(|owner| **owner != facts.department && lets(owner)).cloned().collect()
    }

    /// True when the department has an alert of that identity, or has ended one before it came.
    pub fn knows(&self, department: &DepartmentId, world: &World, id: &AlertId) -> bool {
        self.ledger.get(department, world, id).is_some()
    }

    /// Whose alert of that identity is known, and its event; the first in the order of the roster.
    pub fn owner_of(&self, roster: &Roster, world: &World, id: &AlertId) -> Option<(DepartmentId, Option<String>)> {
        roster.departments.iter().find_map(|department| {
            let entry = self.ledger.get(&department.id, world, id).filter(|entry| entry.seen)?;
            Some((department.id.clone(), mark_of(entry)?.event))
        })
    }

    /// True when the department's alert of that identity stands in the urgent lane.
    pub fn is_urgent(&self, department: &DepartmentId, world: &World, id: &AlertId) -> bool {
        self.mark(department, world, id).is_some_and(|mark| mark.urgent)
    }

    /// Where an alert stands at `now`; absent when it is not known or long gone.
    pub fn state(&self, department: &DepartmentId, world: &World, id: &AlertId, now: Timestamp) -> Option<State> {
        self.ledger.get(department, world, id).filter(|entry| entry.seen).map(|entry| entry.state(now))
    }

    /// The record of an alert; absent when it is not known or long gone.
    pub fn mark(&self, department: &DepartmentId, world: &World, id: &AlertId) -> Option<Mark> {
        self.ledger.get(department, world, id).and_then(mark_of)
    }

    /// The ledger itself, for lists.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// What an entry says of its record.
pub fn mark_of(entry: &Entry) -> Option<Mark> {
    Mark::parse(entry.position.as_deref()?)
}

fn rows(changes: Changes) -> Vec<Row> {
    let key = |key: &str| [PREFIX, key.as_bytes()].concat();
    let mut rows: Vec<Row> = changes
        .entries
        .iter()
        .filter_map(|entry| Some((key(&entry.key()), Some(serde_json::to_vec(entry).ok()?))))
        .collect();
    rows.extend(changes.removed.iter().map(|removed| (key(removed), None)));
    rows
}
