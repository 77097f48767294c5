//! Decisions made again: the records of the store go through the rules once more, in the order in which they came.
//!
//! Everything that a decision rests on is written down: records, ticks, approvals, the packs in the activation records,
//! the data sets by digest, and the time of receipt of what others sent. So the same bytes must come out, and where they
//! do not, something is damaged or this release decides otherwise.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use campanile_alert::{AlertId, OriginId};
use campanile_bus::pipeline::{Again, Given};
use campanile_bus::record::{self, Content, Draft};
use campanile_bus::{Arrival, Derive, Event};
use campanile_discovery::roster::RosterHandle;
use campanile_log::{Hash, Store};
use campanile_proto::bus::v1 as wire;
use campanile_proto::rules::v1::ActivationStep;
use campanile_rules::{Decision, Options, Verdict};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::packs::Files;
use super::{Library, NodeRules, Rows, Unfit};

/// How many records are gone through at most.
const RECORDS_MAX: u64 = 5_000_000;
/// How many are read at a time, and how many bytes of them.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 64 << 20;

/// What a replay works with.
#[derive(Clone)]
pub struct Parts {
    /// The records.
    pub store: Arc<dyn Store>,
    /// This node.
    pub origin: OriginId,
    /// The data sets.
    pub library: Arc<Library>,
    /// What the engines are told.
    pub options: Options,
    /// The rosters.
    pub roster: RosterHandle,
    /// Cancelled when nobody waits for the answer any more.
    pub stop: CancellationToken,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("replay::Parts").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why nothing could be decided again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be read.
    #[error("the store could not be read")]
    Store(#[from] campanile_log::Error),
    /// A record, or what is kept beside it, cannot be read.
    #[error("what the store holds is not readable")]
    Record(#[from] campanile_bus::pipeline::StartError),
    /// The rules cannot be made.
    #[error(transparent)]
    Rules(#[from] Unfit),
    /// Nobody waits, or there are too many records.
    #[error("the replay was given up: {0}")]
    GivenUp(&'static str),
}

/// What was decided at one record.
#[derive(Debug)]
pub struct Decided {
    /// The record's hash.
    pub trigger: Hash,
    /// One sentence for each rule, in the order of their ids.
    pub decisions: Vec<Decision>,
}

/// What came of an effect decided again.
#[derive(Debug)]
pub struct Replayed {
    /// The record that led to it; absent when nothing did.
    pub trigger: Option<Hash>,
    /// Its body as it was decided again, with the salt of the one in the log.
    pub body: Option<bytes::Bytes>,
    /// How many records were gone through.
    pub records: u64,
    /// What was decided where it was issued.
    pub decisions: Vec<Decision>,
}

/// Says what was decided at the arrival of a record: for each rule, or for those that it concerned.
///
/// # Errors
/// [`Error`].
pub fn at(parts: &Parts, number: u64) -> Result<Option<Decided>, Error> {
    let mut found = None;
    walk(parts, number, |rules, event| {
        if event.arrival.entry.arrival < number {
            rules.apply(event);
            return ControlFlow::Continue(());
        }
        let trigger = event.arrival.entry.position.hash;
        let explained = rules.input(event, &mut Rows::new()).map(|input| rules.view.lock().engine.explain(&input));
        rules.apply(event);
        let decisions = merged(explained.unwrap_or_default(), decided_at(rules, &trigger));
        found = Some(Decided { trigger, decisions });
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Decides again what led to an effect, up to the record that holds it.
///
/// # Errors
/// [`Error`].
pub fn effect(parts: &Parts, effect: &Arrival) -> Result<Replayed, Error> {
    let salt = effect.entry.body.as_ref().and_then(|body| {
        let body = wire::RecordBody::decode(body.clone()).ok()?;
        <[u8; 16]>::try_from(body.salt.as_ref()).ok()
    });
    let wanted = effect.body.as_deref().and_then(|body| identity(&body.content));
    let mut replayed = Replayed { trigger: None, body: None, records: 0, decisions: Vec::new() };
    replayed.records = walk(parts, effect.entry.arrival.saturating_sub(1), |rules, event| {
        let derived = rules.apply(event);
        let made = derived.drafts.into_iter().find(|draft: &Draft| identity(&draft.body.content) == wanted);
        let Some(made) = made else { return ControlFlow::Continue(()) };
        let trigger = event.arrival.entry.position.hash;
        replayed.trigger = Some(trigger);
        replayed.body = salt.map(|salt| record::encode_body(&made.body, &salt));
        replayed.decisions = decided_at(rules, &trigger);
        ControlFlow::Break(())
    })?;
    Ok(replayed)
}

/// Goes through the records from the first to the arrival `last`, and hands each to `each` that the rules were given
/// then. Gives how many there were, of all.
fn walk(
    parts: &Parts,
    last: u64,
    mut each: impl FnMut(&mut NodeRules, &Event<'_>) -> ControlFlow<()>,
) -> Result<u64, Error> {
    let department = parts.origin.department().clone();
    let (library, options, roster) = (Arc::clone(&parts.library), parts.options.clone(), parts.roster.clone());
    let new = |packs| NodeRules::new(department.clone(), packs, Arc::clone(&library), options.clone(), roster.clone());
    // What does not read any more was waited for all the same, and cannot be decided again.
    let mut rules = new(first_packs(parts, last)?).or_else(|_| new(Vec::new()))?;
    // What it wants to write stands in the records.
    let _drafts = rules.opening();
    go(parts, last, |given| {
        each(&mut rules, &Event { arrival: &given.arrival, body: &given.body, previous_time: given.previous_time })
    })
}

/// The packs that the configuration put in force where the node had written nothing before: its rules have taken note for
/// them of what came before that.
fn first_packs(parts: &Parts, last: u64) -> Result<Vec<Files>, Error> {
    let (mut found, mut names) = (Vec::new(), BTreeSet::new());
    go(parts, last, |Given { arrival, body, .. }| {
        if arrival.header.origin != parts.origin || arrival.returned {
            return ControlFlow::Continue(());
        }
        match &body.content {
            Content::Manifest(_) => ControlFlow::Continue(()),
            Content::Activation(act) if act.step() == ActivationStep::Configure && !act.text.is_empty() => {
                // A second one of the same name is of a later start.
                if !names.insert(act.pack.clone()) {
                    return ControlFlow::Break(());
                }
                let files = Files::from_wire(&act.text, &act.data_sets).ok();
                found.extend(files.filter(|files| files.read(&parts.library).is_ok()));
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    })?;
    Ok(found)
}

/// Goes through the records that the rules were given, from the first to the arrival `last`. Gives how many there were, of
/// all.
fn go(parts: &Parts, last: u64, mut each: impl FnMut(&Given) -> ControlFlow<()>) -> Result<u64, Error> {
    let mut again = Again::new(parts.store.as_ref(), &parts.origin);
    let (mut after, mut seen) = (0, 0);
    while after < last {
        let page = parts.store.arrivals(after, PAGE, PAGE_BYTES)?;
        let Some(end) = page.last() else { break };
        after = end.arrival;
        for entry in page.into_iter().take_while(|entry| entry.arrival <= last) {
            seen += 1;
            if seen > RECORDS_MAX {
                return Err(Error::GivenUp("the store holds more records than one replay goes through"));
            }
            if parts.stop.is_cancelled() {
                return Err(Error::GivenUp("nobody waits for the answer"));
            }
            let Some(given) = again.given(entry)? else { continue };
            if each(&given).is_break() {
                return Ok(seen);
            }
        }
    }
    Ok(seen)
}

fn identity(content: &Content) -> Option<AlertId> {
    let Content::Alert { alert, .. } = content else { return None };
    Some(alert.id())
}

fn decided_at(rules: &NodeRules, trigger: &Hash) -> Vec<Decision> {
    rules.view.lock().decisions.values().filter(|decision| decision.record == trigger.0).cloned().collect()
}

/// For each rule what was decided, and where nothing was, what stopped it.
fn merged(explained: Vec<Decision>, decided: Vec<Decision>) -> Vec<Decision> {
    let mut by_rule: std::collections::BTreeMap<String, Decision> =
        explained.into_iter().map(|decision| (decision.rule.clone(), decision)).collect();
    by_rule.extend(decided.into_iter().map(|decision| (decision.rule.clone(), decision)));
    by_rule.into_values().collect()
}

/// Whether a rule was stopped there.
pub fn is_stopped(verdict: Verdict) -> bool {
    use Verdict::{Holding, Ignored, NotMatched, Paused, Refused, Rejected, Suppressed, Withdrawn};
    matches!(verdict, NotMatched | Holding | Paused | Refused | Rejected | Suppressed | Withdrawn | Ignored)
}
