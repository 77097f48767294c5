//! Holds what was seen against what was expected: a pure state machine, the same for virtual and live runs.
//!
//! ```text
//! event ──► deadlines that have passed ──► the event is taken in ──► what it makes true, or breaks
//! ```
//!
//! A claim that something happens (`live`, `pending`, `acks`…) is met by the event that makes it so, and is late when that
//! comes after its deadline and within the time that earns half. A claim about how things stand (`none`, `count`, `sent`,
//! `same`, and whatever has `at`) is looked at once, when all events of its instant are in. `never` and `always` are
//! looked at after every event.

use std::collections::BTreeMap;
use std::sync::Arc;

use self::state::Look;
use self::view::View;
use crate::scenario::{Claim, Condition, Deadline, Expect, Scenario};
use crate::time::Offset;
use crate::transcript::{Event, Header, What};
use crate::verdict::{Ended, Item, ObjectiveVerdict, Outcome, Verdict};

mod rise;
mod state;
mod view;
mod words;

pub use words::{sentence, sentence_zh};

/// The most events that are named as evidence of one expectation.
const EVIDENCE_MAX: usize = 32;

/// The judge of one run.
#[derive(Debug, Clone)]
pub struct Judge {
    scenario: Arc<Scenario>,
    view: View,
    items: Vec<Standing>,
    ended: Ended,
    stopped: bool,
}

/// How an expectation stands.
#[derive(Debug, Clone)]
struct Standing {
    due: Option<Deadline>,
    outcome: Outcome,
    at: Option<Offset>,
    evidence: Vec<u64>,
    credit: Option<u32>,
    why: String,
}

impl Judge {
    /// A judge who has seen nothing yet. The scenario is one that was checked.
    pub fn new(scenario: &Scenario) -> Self {
        let items = scenario.expect.iter().map(|expect| Standing {
            due: expect.by.or(expect.at),
            outcome: if expect.judged_by.is_some() { Outcome::ToBeJudged } else { Outcome::Open },
            at: None,
            evidence: Vec::new(),
            credit: None,
            why: String::new(),
        });
        let items = items.collect();
        let scenario = Arc::new(scenario.clone());
        Self { scenario, view: View::default(), items, ended: Ended::Complete, stopped: false }
    }

    /// Takes the next event in, in the order of the transcript.
    pub fn observe(&mut self, event: &Event) {
        self.pass(|due| due < event.at);
        self.view.take(event);
        match &event.what {
            What::Frozen { .. } => self.stop(Ended::Frozen),
            What::Aborted { .. } => self.stop(Ended::Aborted),
            What::Full => self.stop(Ended::Full),
            What::Judged { expectation, mark, remark, .. } => self.mark(expectation, *mark, remark, event),
            _ => {}
        }
        let scenario = Arc::clone(&self.scenario);
        for (index, expect) in scenario.expect.iter().enumerate() {
            self.look(index, expect, event);
        }
    }

    fn stop(&mut self, ended: Ended) {
        if !self.stopped {
            (self.ended, self.stopped) = (ended, true);
        }
    }

    /// Whether a condition holds as things stand: for injects that wait for one. An empty condition holds.
    pub fn holds(&self, condition: &Condition) -> bool {
        let expect = Expect::default();
        let so = |claim| matches!(self.view.state(&expect, claim), Look::So(_));
        condition.not.as_ref().is_none_or(|not| !self.holds(not))
            && condition.live.as_ref().is_none_or(|meant| so(Claim::Live(meant)))
            && condition.pending.as_ref().is_none_or(|meant| so(Claim::Pending(meant)))
            && condition.acked.as_ref().is_none_or(|meant| self.view.acked(meant))
    }

    /// The time at which the judge stands: that of the last event.
    pub fn now(&self) -> Offset {
        self.view.now
    }

    /// How each expectation stands so far, in the order of the scenario: for a line of progress.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.items.iter().map(|item| item.outcome)
    }

    /// The names of expectations of `must` objectives that have failed so far: what pauses a live run.
    pub fn must_failed(&self) -> Vec<String> {
        let must = |expect: &Expect| {
            let objective = expect.objective.as_ref().and_then(|id| self.scenario.objectives.get(id));
            objective.is_some_and(|objective| objective.must)
        };
        let broken = |item: &Standing| matches!(item.outcome, Outcome::Missed | Outcome::Forbidden | Outcome::Late);
        let both = self.scenario.expect.iter().zip(&self.items).enumerate();
        both.filter(|(_, (expect, item))| must(expect) && broken(item))
            .map(|(index, _)| self.scenario.expectation(index))
            .collect()
    }

    /// The verdict: everything that was due is judged, what was to hold always has held.
    ///
    /// `header` and `digest` are the transcript's.
    pub fn finish(mut self, header: &Header, digest: [u8; 32]) -> Verdict {
        let end = if self.stopped { self.view.now } else { self.scenario.end().max(self.view.now) };
        self.pass(|due| due <= end);
        self.view.now = end;
        let scenario = Arc::clone(&self.scenario);
        for (index, expect) in scenario.expect.iter().enumerate() {
            self.close(index, expect, end);
        }
        self.verdict(header, digest, end)
    }

    /// Judges what was due at an instant that has passed.
    fn pass(&mut self, passed: impl Fn(Offset) -> bool) {
        let scenario = Arc::clone(&self.scenario);
        let mut due: Vec<(Offset, usize)> = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            if let (Some(Deadline::At(at)), Outcome::Open) = (item.due, item.outcome)
                && passed(at)
            {
                due.push((at, index));
            }
        }
        due.sort_unstable();
        for (at, index) in due {
            let Some((expect, claim)) = scenario.expect.get(index).and_then(|e| Some((e, *e.claims().first()?))) else {
                continue;
            };
            let before = std::mem::replace(&mut self.view.now, at);
            let happens = expect.by.is_some() && happens(claim);
            let look = if happens { None } else { Some(self.view.state(expect, claim)) };
            let why = if happens { self.view.instead(expect, claim) } else { String::new() };
            self.view.now = before.max(at);
            let Some(item) = self.items.get_mut(index) else { continue };
            match look {
                Some(Look::So(evidence)) => item.settle(Outcome::Met, Some(at), evidence, 1000),
                Some(Look::Not { evidence, why }) => {
                    item.settle(Outcome::Missed, None, evidence, 0);
                    item.why = why;
                }
                None => {
                    item.settle(Outcome::Missed, None, Vec::new(), 0);
                    item.why = why;
                }
            }
        }
    }

    /// What an event does to an expectation.
    fn look(&mut self, index: usize, expect: &Expect, event: &Event) {
        let Some(item) = self.items.get(index) else { return };
        let Some(&claim) = expect.claims().first() else { return };
        if expect.always || expect.never.is_some() {
            if item.outcome == Outcome::Open
                && let Some((evidence, why)) = self.view.breaks(expect, claim, event)
                && let Some(item) = self.items.get_mut(index)
            {
                item.settle(Outcome::Forbidden, Some(event.at), evidence, 0);
                item.why = why;
            }
            return;
        }
        let waits = match (item.outcome, item.at) {
            (Outcome::Open, _) => true,
            // Missed, and not too late to earn half.
            (Outcome::Missed, None) => self.late_limit(item.due).is_some_and(|limit| event.at <= limit),
            _ => false,
        };
        if expect.by.is_none() || !happens(claim) || !waits {
            return;
        }
        let Some((evidence, took_ms)) = self.view.rise(expect, claim, event) else { return };
        let factor = self.scenario.score.late.as_ref().map(|late| i64::from(late.half_credit_within.0));
        let allowed = match claim {
            Claim::Acks(acks) => acks.within.map(crate::time::Length::ms),
            _ => None,
        };
        let slow = allowed.is_some_and(|allowed| took_ms.is_none_or(|took| took > allowed));
        let too_slow = allowed.is_some_and(|allowed| {
            took_ms.is_none_or(|took| factor.is_none_or(|factor| took > allowed.saturating_mul(factor)))
        });
        let Some(item) = self.items.get_mut(index) else { return };
        match (item.outcome, slow) {
            (Outcome::Open, false) => item.settle(Outcome::Met, Some(event.at), evidence, 1000),
            _ if slow && too_slow => {
                item.settle(Outcome::Missed, Some(event.at), evidence, 0);
                item.why = "the answer came too late".into();
            }
            _ => item.settle(Outcome::Late, Some(event.at), evidence, 500),
        }
    }

    /// Until when half can still be earned.
    fn late_limit(&self, due: Option<Deadline>) -> Option<Offset> {
        let factor = i64::from(self.scenario.score.late.as_ref()?.half_credit_within.0);
        match due? {
            Deadline::At(at) => Some(Offset::from_ms(at.ms().saturating_mul(factor))),
            Deadline::End => None,
        }
    }

    fn mark(&mut self, expectation: &str, mark: u32, remark: &str, event: &Event) {
        let found = (0..self.items.len()).find(|index| self.scenario.expectation(*index) == expectation);
        let Some((index, expect)) = found.and_then(|index| Some((index, self.scenario.expect.get(index)?))) else {
            return;
        };
        let (Some(scale), Some(item)) = (expect.scale, self.items.get_mut(index)) else { return };
        let mark = mark.clamp(scale.least, scale.most);
        let credit = 1000 * (mark - scale.least) / (scale.most - scale.least).max(1);
        item.settle(Outcome::Judged, Some(event.at), vec![event.seq], credit);
        item.why = remark.into();
    }

    /// What an expectation comes to when the run is over.
    fn close(&mut self, index: usize, expect: &Expect, end: Offset) {
        let Some(&claim) = expect.claims().first() else { return };
        let Some(item) = self.items.get(index).filter(|item| item.outcome == Outcome::Open) else { return };
        let due = item.due;
        if expect.always || expect.never.is_some() {
            if let Some(item) = self.items.get_mut(index) {
                item.settle(Outcome::Met, None, Vec::new(), 1000);
            }
            return;
        }
        // What was due later than a run that was stopped stays open, and earns nothing.
        if due != Some(Deadline::End) {
            if let Some(item) = self.items.get_mut(index) {
                (item.credit, item.why) = (Some(0), format!("the run ended at {end}, before it was due"));
            }
            return;
        }
        let look = self.view.state(expect, claim);
        let Some(item) = self.items.get_mut(index) else { return };
        match look {
            Look::So(evidence) => item.settle(Outcome::Met, Some(end), evidence, 1000),
            Look::Not { evidence, why } => {
                item.settle(Outcome::Missed, None, evidence, 0);
                item.why = why;
            }
        }
    }

    fn verdict(self, header: &Header, digest: [u8; 32], end: Offset) -> Verdict {
        let scenario = &self.scenario;
        let enough = scenario.score.pass.0 * 10;
        let mut objectives: BTreeMap<String, ObjectiveVerdict> = BTreeMap::new();
        let (mut earned, mut possible) = (0_u64, 0_u64);
        for (id, objective) in &scenario.objectives {
            let own = scenario.expect.iter().zip(&self.items).filter(|(e, _)| e.objective.as_deref() == Some(id));
            let own: Vec<&Standing> = own.map(|(_, item)| item).collect();
            let credits: Vec<u64> = own.iter().filter_map(|item| item.credit.map(u64::from)).collect();
            let score = credits.iter().sum::<u64>().checked_div(credits.len() as u64);
            if let Some(score) = score {
                earned += score * u64::from(objective.weight);
                possible += u64::from(objective.weight);
            }
            let short = |score: u64| score < u64::from(enough) || (objective.must && score < 1000);
            let verdict = ObjectiveVerdict {
                failed: score.is_some_and(short),
                score: score.and_then(|score| u32::try_from(score).ok()),
                weight: objective.weight,
                must: objective.must,
                to_be_judged: u32::try_from(own.len() - credits.len()).unwrap_or(u32::MAX),
            };
            objectives.insert(id.clone(), verdict);
        }
        let score = earned.checked_div(possible).and_then(|score| u32::try_from(score).ok()).unwrap_or(1000);
        let musts = objectives.values().all(|objective| !(objective.must && objective.failed));
        let items = scenario.expect.iter().zip(self.items).enumerate().map(|(index, (expect, item))| Item {
            id: scenario.expectation(index),
            objective: expect.objective.clone().unwrap_or_default(),
            expected: sentence(expect),
            outcome: item.outcome,
            credit: item.credit,
            due: item.due.map(|due| match due {
                Deadline::At(at) => at.ms(),
                Deadline::End => end.ms(),
            }),
            at: item.at.map(Offset::ms),
            evidence: item.evidence,
            why: item.why,
        });
        Verdict {
            drill: header.drill.clone(),
            variant: header.variant.clone(),
            run: header.run,
            seed: header.seed,
            scenario: header.scenario.clone(),
            packs: header.packs.clone(),
            transcript: hex::encode(digest),
            passed: musts && score >= enough && matches!(self.ended, Ended::Complete | Ended::Frozen),
            ended: self.ended,
            score,
            enough,
            items: items.collect(),
            objectives,
            variants: Vec::new(),
        }
    }
}

impl Standing {
    fn settle(&mut self, outcome: Outcome, at: Option<Offset>, mut evidence: Vec<u64>, credit: u32) {
        evidence.truncate(EVIDENCE_MAX);
        (self.outcome, self.at, self.evidence, self.credit) = (outcome, at, evidence, Some(credit));
        self.why.clear();
    }
}

/// Whether a claim is met by an event, rather than looked at when it is due.
fn happens(claim: Claim<'_>) -> bool {
    match claim {
        Claim::Live(_)
        | Claim::Conflict(_)
        | Claim::Stale(_)
        | Claim::Pending(_)
        | Claim::Escalated(_)
        | Claim::Acks(_)
        | Claim::Notice(_)
        | Claim::Frozen => true,
        Claim::None(_) | Claim::Never(_) | Claim::Count(_) | Claim::Sent(_) | Claim::Same(_) | Claim::Judged => false,
    }
}
