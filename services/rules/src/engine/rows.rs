//! Decision tables at work: which rows decide about a cause, for each session that is open.
//!
//! A session is decided about in the phase in which the signal *began* to hold, or in which the session opened when it
//! held before. So a red rainstorm of 07:00 closes the morning, and still does at nine; one of nine does not. What was
//! decided stays decided however often the signal is repeated, and the same inputs give the same answer whenever they
//! are looked at. The only edge of the clock at which something new is decided is the opening of a session.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::{Stopped, conditions, guard};
use super::state::{Candidate, CandidateKey, Known, Lineage, Phase};
use super::{Active, Engine, Step};
use crate::calendar::Sitting;
use crate::condition::{Answer, Condition};
use crate::table::{ColumnOf, Facts, Table};
use crate::{Sentence, Verdict};

/// What rows decide: by what is issued, the targets and the kinds that each concerns.
type Decided = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

impl Engine {
    /// Decides a table about one cause.
    pub(super) fn weigh_rows(&mut self, active: &Active, lineage: &Lineage, known: &Known, step: &mut Step) {
        let id = &active.rule.id;
        let decided = match self.decide_rows(active, lineage, known, step) {
            Ok((decided, why)) => {
                if decided.is_empty() {
                    step.note(id, &lineage.world, Verdict::NotMatched, why);
                }
                decided
            }
            Err((verdict, why)) => {
                step.note(id, &lineage.world, verdict, why);
                return self.drop_rule(id, lineage, &[], step);
            }
        };
        let keep: Vec<&str> = decided.keys().map(String::as_str).chain([""]).collect();
        self.drop_rule(id, lineage, &keep, step);
        for (issue, picks) in decided {
            let key = CandidateKey { lineage: lineage.clone(), rule: id.clone(), effect: issue.clone() };
            self.take_up(active, &key, &issue, picks, known, step);
        }
        self.wake_at_opening(active, lineage, step);
    }

    /// A row without targets that wakes the rule when the next session opens.
    fn wake_at_opening(&mut self, active: &Active, lineage: &Lineage, step: &Step) {
        let per_session = active.rule.table.as_ref().is_some_and(|table| table.per_session);
        let frame = &active.frame;
        let Some(wake) = frame.schedule.next_opening(step.now, &frame.free).filter(|_| per_session) else { return };
        let key = CandidateKey { lineage: lineage.clone(), rule: active.rule.id.clone(), effect: String::new() };
        let candidate = Candidate {
            effect: String::new(),
            targets: BTreeSet::new(),
            refused: BTreeSet::new(),
            phase: Phase::Settled,
            kinds: BTreeMap::new(),
            wake: Some(wake),
        };
        if self.state.candidates.get(&key) != Some(&candidate) {
            self.state.candidates.put(key, candidate);
        }
    }

    /// A session opens: the rule decides about it.
    pub(super) fn woken(&mut self, key: &CandidateKey, step: &mut Step) {
        self.state.candidates.change(key, |candidate| candidate.wake = None);
        let Some(known) = self.state.known.get(&key.lineage).filter(|known| !known.expired).cloned() else { return };
        self.weigh(&key.rule, &key.lineage, &known, step);
    }

    /// What the rows say, or the first condition that stops the rule; and when they issue nothing, why.
    pub(super) fn decide_rows(
        &self,
        active: &Active,
        lineage: &Lineage,
        known: &Known,
        step: &mut Step,
    ) -> Result<(Decided, Sentence), Stopped> {
        conditions(active, lineage, known, self.vocabulary).map_err(|why| (Verdict::NotMatched, why))?;
        guard(active, known).map_err(|why| (Verdict::Refused, why))?;
        let Some(table) = &active.rule.table else { return Ok((Decided::new(), Sentence::default())) };
        let mut decided = Decided::new();
        let mut why = Vec::new();
        if !table.per_session {
            let facts = facts(known, None);
            let targets = self.targets(active, lineage, known, step)?;
            let row = gather(table, &facts, &targets, &mut decided);
            step.used.extend(row.iter().map(|row| (active.rule.id.clone(), Some(*row))));
            why.push(said(table, row.first().copied(), &facts, ""));
        } else {
            let frame = &active.frame;
            let sittings = frame.schedule.open(step.now, &frame.free);
            if sittings.is_empty() {
                why.push(self.nothing_open(active, step));
            }
            for sitting in sittings {
                let facts = facts(known, Some(&sitting));
                if let Some(condition) = &active.rule.only_if
                    && let Some(stops) = self.session_stops(condition, active, lineage, known, &sitting, step)
                {
                    why.push(stops);
                    continue;
                }
                let row = gather(table, &facts, &[sitting.target.clone()].into(), &mut decided);
                step.used.extend(row.iter().map(|row| (active.rule.id.clone(), Some(*row))));
                why.push(said(table, row.first().copied(), &facts, &sitting.session));
            }
        }
        let join = |texts: Vec<&str>, with: &str| texts.join(with);
        let why = Sentence::new(
            join(why.iter().map(|why| why.en.as_str()).collect(), "; "),
            join(why.iter().map(|why| why.zh_hant.as_str()).collect(), "；"),
        );
        Ok((decided, why))
    }

    /// The targets that rows would decide something for, or why there are none.
    pub(super) fn rows_would(
        &self,
        active: &Active,
        lineage: &Lineage,
        known: &Known,
        step: &mut Step,
    ) -> Result<BTreeSet<String>, Stopped> {
        let (decided, why) = self.decide_rows(active, lineage, known, step)?;
        let targets: BTreeSet<String> = decided.into_values().flat_map(BTreeMap::into_keys).collect();
        if targets.is_empty() { Err((Verdict::NotMatched, why)) } else { Ok(targets) }
    }

    fn session_stops(
        &self,
        condition: &Condition,
        active: &Active,
        lineage: &Lineage,
        known: &Known,
        sitting: &Sitting,
        step: &Step,
    ) -> Option<Sentence> {
        let phase = sitting.phase(known.since().max(sitting.opens));
        let facts = self.condition_facts(active, lineage, known, None, Some((sitting, phase)), step);
        match condition.decide(&facts) {
            Ok(Answer::Holds) => None,
            Ok(Answer::Stops(part)) => Some(Sentence::new(
                format!("for {} it is not so that {part}", sitting.session),
                format!("{} 不符合條件 {part}", sitting.session),
            )),
            Err(error) => Some(Sentence::new(
                format!("for {} only-if has no answer: {error}", sitting.session),
                format!("{} 的 only-if 未能判斷：{error}", sitting.session),
            )),
        }
    }

    fn nothing_open(&self, active: &Active, step: &Step) -> Sentence {
        let frame = &active.frame;
        let at = |at: campanile_alert::Timestamp| crate::calendar::wall(at).strftime("%Y-%m-%d %H:%M").to_string();
        match frame.schedule.next_opening(step.now, &frame.free) {
            Some(next) => Sentence::new(
                format!("no session is open at {}; the next opens at {}", at(step.now), at(next)),
                format!("{} 沒有開放的時段，下一時段於 {} 開始", at(step.now), at(next)),
            ),
            None => Sentence::new("no session is held in the next weeks", "未來數週沒有時段"),
        }
    }
}

/// Adds what the deciding rows issue for these targets; the rows.
fn gather(table: &Table, facts: &Facts, targets: &BTreeSet<String>, into: &mut Decided) -> Vec<usize> {
    let rows = table.decide(facts);
    for row in rows.iter().filter_map(|row| table.rows.get(*row)) {
        let Some(issue) = &row.issue else { continue };
        let picks = into.entry(issue.clone()).or_default();
        for target in targets {
            picks.entry(target.clone()).or_default().extend(row.kinds.iter().cloned());
        }
    }
    rows
}

/// The words of a cause and a session that rows compare.
fn facts(known: &Known, sitting: Option<&Sitting>) -> Facts {
    let mut facts = Facts::new();
    let worst = |words: Vec<String>| words.into_iter().next();
    facts.extend(known.signal.clone().map(|signal| (ColumnOf::Signal, signal)));
    facts.extend(known.level.map(|level| (ColumnOf::Level, level.to_string())));
    let urgency = worst(known.urgencies.iter().map(ToString::to_string).collect());
    let certainty = worst(known.certainties.iter().map(ToString::to_string).collect());
    let severity = worst(known.severities.iter().map(ToString::to_string).collect());
    facts.extend(urgency.map(|word| (ColumnOf::Urgency, word)));
    facts.extend(certainty.map(|word| (ColumnOf::Certainty, word)));
    facts.extend(severity.map(|word| (ColumnOf::Severity, word)));
    if let Some(sitting) = sitting {
        facts.insert(ColumnOf::Phase, sitting.phase(known.since().max(sitting.opens)).to_string());
        facts.insert(ColumnOf::Session, sitting.session.clone());
    }
    facts
}

/// What the table said about an input, as a person would say it.
fn said(table: &Table, row: Option<usize>, facts: &Facts, session: &str) -> Sentence {
    let words: Vec<&str> =
        table.columns.iter().filter_map(|column| facts.get(&column.of)).map(String::as_str).collect();
    let input = words.join(", ");
    let (of, whose) = match session {
        "" => (String::new(), String::new()),
        session => (format!(" for {session}"), format!("{session}：")),
    };
    match row.and_then(|row| table.rows.get(row)) {
        Some(row) if row.issue.is_none() => Sentence::new(
            format!("line {} of the table issues nothing{of} ({input})", row.line),
            format!("{whose}表格第 {} 行訂明不發出（{input}）", row.line),
        ),
        Some(row) => Sentence::new(
            format!("line {} of the table decides{of} ({input})", row.line),
            format!("{whose}由表格第 {} 行決定（{input}）", row.line),
        ),
        None => Sentence::new(
            format!("no row of the table takes this{of} ({input})"),
            format!("{whose}表格沒有適用的行（{input}）"),
        ),
    }
}
