//! Effects that come back: what we had issued, from our own log, after the disk that knew of them was lost or set back.
//!
//! The state of the rules is gone then, or older than the log. Our own records return from peers one by one, and others'
//! logs are still on their way, so nothing is decided until a tick says that all of it is here:
//!
//! ```text
//! our own effects return ──► collected: messages, causes, how it ended ──┐
//! causes come, change, end ─► known, but no rule is weighed ─────────────┤ tick ──► in force again, under their
//! officers' Cancels ────────► collected ─────────────────────────────────┘          causes; then all rules are weighed
//! ```
//!
//! What is collected is rows like the rest, so a crash in between loses nothing. What was not published (pauses,
//! envelopes, answers) was for ourselves alone, and does not come back.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Alert, AlertId, MessageType, Timestamp};
use serde::{Deserialize, Serialize};

use super::message::SESSION;
use super::state::{Batches, Candidate, CandidateKey, InForce, Known, Lineage, MESSAGES_MAX, Phase, RuleIn, Stand};
use super::state::{Row, Support, Suppressed, Waiting};
use super::{Engine, Step, message_of};
use crate::{Cause, Classification, EffectKey, Input, InputKind, Outcome, Sentence, Verdict};

/// What a record of ours says of the rule that issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The rule's id.
    pub rule: String,
    /// The causes that it names.
    pub causes: Vec<Cause>,
}

/// An effect of ours that has come back and is not yet in force again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Returned {
    /// Its messages and when they expire, the one in force last.
    messages: Vec<(AlertId, Timestamp)>,
    /// The causes that its last message names, without those that have ended since.
    causes: Vec<Cause>,
    since: Timestamp,
    sent: Timestamp,
    until: Timestamp,
    end: Option<End>,
}

/// How an effect that came back had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    /// Its causes were over.
    Rule,
    /// An officer cancelled it against its causes.
    Officer,
}

impl Returned {
    /// The effect of a rule that is no longer active: nothing but what its messages said.
    fn bare(&self) -> InForce {
        InForce {
            messages: Vec::new(),
            support: BTreeMap::new(),
            expired: BTreeMap::new(),
            named: BTreeSet::new(),
            behind: Vec::new(),
            deepest: 0,
            since: self.since,
            sent: self.sent,
            until: self.until,
            stand: Stand::Supported,
            kinds: BTreeSet::new(),
            latch: None,
        }
    }
}

impl Row for Returned {
    const TABLE: u8 = b'r';

    fn timer(&self) -> Option<Timestamp> {
        None
    }
}

impl Engine {
    /// Takes back a record of our own that has come from a peer, after the disk that held it was lost or set back.
    /// `issued` is what it says of the rule behind it; `None` when a person or system published it.
    ///
    /// From then on no rule is weighed until the next [`InputKind::Tick`], which [`Engine::due`] asks for at once; it is
    /// to be written when all is here that others hold.
    pub fn take_back(&mut self, input: &Input<'_>, issued: Option<&Issued>) -> Outcome {
        let mut step = Step::new(input, self.state.now());
        if self.state.now() != Some(step.now) {
            self.state.time.put((), step.now);
        }
        if let InputKind::Alert { alert, classification } = &input.kind {
            if let Some(issued) = issued {
                self.collect(input, alert, classification, issued);
            }
            // It may be a cause of other rules, and an officer's word about an effect.
            self.alert(input, alert, classification, &mut step);
        }
        self.settle(&mut step);
        Outcome { effects: step.effects, state: self.unwritten(), notes: step.notes, used: step.used }
    }

    /// Finds the messages of what has come back again, after a restart.
    pub(super) fn restore_returned(&mut self) {
        for (key, row) in self.state.returned.rows() {
            self.messages.extend(row.messages.iter().map(|(id, _)| (id.clone(), key.clone())));
        }
    }

    /// Has it take note of what comes and weigh no rule until the next [`InputKind::Tick`], which [`Engine::due`] asks
    /// for at once, and which weighs all rules: for rules that are not in force yet, and will be judged by what came
    /// before them. The wish is among the rows of the next outcome.
    pub fn wait_for_tick(&mut self) {
        if self.state.waiting.len() == 0 {
            self.state.waiting.put((), Waiting {});
        }
    }

    /// Whether no rule is weighed before the next tick: effects have come back that are not yet in force again, or it was
    /// asked to wait.
    pub(super) fn is_recovering(&self) -> bool {
        self.state.returned.len() + self.state.waiting.len() > 0
    }

    fn collect(&mut self, input: &Input<'_>, alert: &Alert, words: &Classification, issued: &Issued) {
        let (Some(effect), id, sent) = (words.event.clone(), alert.id(), alert.sent.instant()) else { return };
        if self.messages.contains_key(&id) {
            return;
        }
        // A session stands in the message; the sites of an effect without targets are those of its causes.
        let session = alert.infos.first().and_then(|info| info.parameter(SESSION)).map(str::to_owned);
        let picks = self.rules.get(&issued.rule).is_none_or(|active| active.rule.pick.is_some());
        let target = session.or_else(|| words.sites.first().filter(|_| picks).cloned()).unwrap_or_default();
        let key = EffectKey { world: input.world.clone(), rule: issued.rule.clone(), effect, target };
        let until = alert.expires().unwrap_or(sent);
        let before = self.state.returned.get(&key).cloned();
        let mut row = before.unwrap_or_else(|| Returned {
            messages: Vec::new(),
            causes: Vec::new(),
            since: sent,
            sent,
            until,
            end: None,
        });
        if row.end.is_some() {
            // A new life of the effect.
            (row.messages, row.since) = (Vec::new(), sent);
        }
        row.messages.push((id.clone(), until));
        row.messages.drain(..row.messages.len().saturating_sub(MESSAGES_MAX));
        (row.sent, row.until, row.causes) = (row.sent.max(sent), until, issued.causes.clone());
        row.end = (alert.msg_type == MessageType::Cancel).then_some(End::Rule);
        self.messages.insert(id, key.clone());
        self.state.returned.put(key, row);
    }

    /// What an officer said about an effect that has come back and is not yet in force.
    pub(super) fn officer_on_returned(&mut self, key: &EffectKey, alert: &Alert) {
        let (id, expires) = (alert.id(), alert.expires());
        self.state.returned.change(key, |row| match alert.msg_type {
            MessageType::Cancel => row.end = Some(End::Officer),
            MessageType::Update => row.messages.push((id, expires.unwrap_or(row.until))),
            MessageType::Alert | MessageType::Ack | MessageType::Error => {}
        });
    }

    /// A cause has ended: effects that have come back no longer rest on it.
    pub(super) fn end_for_returned(&mut self, lineage: &Lineage, known: &Known) {
        let is_it =
            |cause: &Cause| cause.origin.department() == &lineage.department && known.ids.contains(&cause.alert);
        let rest = self
            .state
            .returned
            .rows()
            .filter(|(key, row)| key.world == lineage.world && row.end.is_none() && row.causes.iter().any(is_it));
        for key in rest.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.state.returned.change(&key, |row| row.causes.retain(|cause| !is_it(cause)));
        }
    }

    /// All is here that others hold: what came back is in force again, and every rule is weighed.
    pub(super) fn settle_past(&mut self, step: &mut Step) {
        step.time = step.now;
        self.state.waiting.remove(&());
        let returned: Vec<(EffectKey, Returned)> =
            self.state.returned.rows().map(|(key, row)| (key.clone(), row.clone())).collect();
        for (key, row) in returned {
            self.state.returned.remove(&key);
            match row.end {
                None => self.revive(&key, row, step),
                Some(end) => self.end_returned(&key, &row, end),
            }
        }
        let causes: Vec<(Lineage, Known)> = self
            .state
            .known
            .rows()
            .filter(|(_, known)| !known.expired && known.expires.is_none_or(|at| at > step.now))
            .map(|(lineage, known)| (lineage.clone(), known.clone()))
            .collect();
        for (lineage, known) in causes {
            let mut rules: BTreeSet<String> =
                self.waiting.get(&known.event).map(|rules| (**rules).clone()).unwrap_or_default();
            rules.extend(self.candidates_of(&lineage).into_iter().map(|key| key.rule));
            for rule in rules {
                self.weigh(&rule, &lineage, &known, step);
            }
        }
    }

    /// The causes that a row names, as far as they are known here, and those of which nothing is.
    fn causes_of(&self, key: &EffectKey, row: &Returned) -> (BTreeSet<Lineage>, BTreeMap<Lineage, Support>) {
        let (mut known, mut missing) = (BTreeSet::new(), BTreeMap::new());
        for cause in &row.causes {
            let department = cause.origin.department().clone();
            let named = Lineage { world: key.world.clone(), department, root: cause.alert.clone() };
            match self.lineage_of(&message_of(&named, &cause.alert)) {
                Some(lineage) => {
                    known.insert(lineage.clone());
                }
                None if self.state.ended.get(&named).is_some() => {}
                None => {
                    let (cause, rules, kinds) = (cause.clone(), Vec::new(), BTreeSet::new());
                    missing.insert(named, Support { cause, depth: 0, rules, kinds });
                }
            }
        }
        (known, missing)
    }

    fn end_returned(&mut self, key: &EffectKey, row: &Returned, end: End) {
        let (known, _) = self.causes_of(key, row);
        self.remove_effect(key);
        for (id, _) in &row.messages {
            self.messages.remove(id);
        }
        if end == End::Officer && !known.is_empty() {
            let before = self.state.suppressed.get(key).map(|row| row.lineages.clone()).unwrap_or_default();
            self.state.suppressed.put(key.clone(), Suppressed { lineages: before.into_iter().chain(known).collect() });
        }
    }

    fn revive(&mut self, key: &EffectKey, row: Returned, step: &mut Step) {
        let (known, missing) = self.causes_of(key, &row);
        let before = self.state.effects.get(key).cloned();
        let active = self.rules.get(&key.rule).cloned();
        let mut effect = match (&before, &active) {
            (Some(before), _) => before.clone(),
            (None, Some(active)) => InForce { until: row.until, ..self.fresh(active, key, row.since) },
            (None, None) => row.bare(),
        };
        // One that was issued a second time before the first came back has both: the messages to come refer to both.
        if before.is_none() || row.sent >= effect.sent {
            effect.messages.extend(row.messages);
            effect.named = known.iter().chain(missing.keys()).cloned().collect();
        } else {
            effect.messages.splice(0..0, row.messages);
        }
        effect.messages.drain(..effect.messages.len().saturating_sub(MESSAGES_MAX));
        (effect.since, effect.sent) = (effect.since.min(row.since), effect.sent.max(row.sent));
        effect.until = effect.until.max(row.until);
        for lineage in known {
            let Some(cause) = self.state.known.get(&lineage) else { continue };
            let (cause, kinds) = (cause.clone(), BTreeSet::new());
            let support = Support { cause: cause.cause, depth: cause.depth, rules: cause.rules.into(), kinds };
            let side = if cause.expired { &mut effect.expired } else { &mut effect.support };
            side.insert(lineage.clone(), support);
            self.match_again(lineage, key);
        }
        effect.expired.extend(missing);
        if effect.support.is_empty() && !effect.expired.is_empty() {
            let why = Sentence::new(
                "its cause expired, or was lost with the disk; silence is not an all-clear",
                "其原因已過期或隨磁碟遺失；沒有消息不等於解除",
            );
            step.note(&key.rule, &key.world, Verdict::Review, why.clone());
            effect.stand = Stand::Review { since: step.time, why };
        }
        self.count_batch(key, row.since);
        self.state.effects.put(key.clone(), effect);
        step.touched.insert(key.clone());
    }

    /// The rule and the cause had matched, since there is an effect of them.
    fn match_again(&mut self, lineage: Lineage, key: &EffectKey) {
        let Some(active) = self.rules.get(&key.rule) else { return };
        let effect = if active.rule.table.is_some() { key.effect.clone() } else { String::new() };
        if effect.is_empty() && active.rule.then.issue != key.effect {
            return;
        }
        let candidate = CandidateKey { lineage, rule: key.rule.clone(), effect };
        if self.state.candidates.get(&candidate).is_none() {
            let fresh = Candidate {
                effect: key.effect.clone(),
                targets: BTreeSet::new(),
                refused: BTreeSet::new(),
                phase: Phase::Settled,
                kinds: BTreeMap::new(),
                wake: None,
            };
            self.state.candidates.put(candidate.clone(), fresh);
        }
        self.state.candidates.change(&candidate, |row| {
            row.targets.insert(key.target.clone());
        });
    }

    /// What was issued at one instant was one batch, and counts against the rule's limit.
    fn count_batch(&mut self, key: &EffectKey, at: Timestamp) {
        let Some(limit) = self.rules.get(&key.rule).and_then(|active| active.rule.limit.clone()) else { return };
        let batches = RuleIn { rule: key.rule.clone(), world: key.world.clone() };
        let mut times = self.state.batches.get(&batches).cloned().unwrap_or_default().0;
        if !times.contains(&at) {
            times.push(at);
            times.sort();
            times.drain(..times.len().saturating_sub(limit.batches_max + 1));
            self.state.batches.put(batches, Batches(times));
        }
    }
}
