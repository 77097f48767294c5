//! Truth maintenance: an effect stays while a cause supports it, and what happens when the last one is gone.
//!
//! ```text
//!             a cause joins                      last cause ended             linger over
//!  (nothing) ───────────────► Supported ──────────────────────────► Lingering ────────────► Cancel, or
//!                                │  ▲ a cause joins                     │                     │
//!              last cause        │  └───────────────────────────────────┴───────┐             │
//!              expired unheard   └──────────────────────────────────────► Review ◄────────────┘
//!  at max, from anywhere: over. An officer's Cancel, from anywhere: over until a new cause comes.
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Candidate, CandidateKey, InForce, Lineage, Phase, Stand, Support, Suppressed, later};
use super::{Active, Engine, Step};
use crate::{AfterLinger, EffectKey, Sentence, Verdict};

use super::permit::effect_key;
use campanile_alert::{Alert, MessageType, Timestamp};

use crate::Input;

/// How often effects that give way to each other are settled in one step.
const ROUNDS_MAX: usize = 8;

impl Engine {
    /// Brings an effect into being, if it is not; its message is made when the input settles.
    pub(super) fn create(&mut self, active: &Active, key: &EffectKey, step: &mut Step) {
        if self.state.effects.get(key).is_some() {
            return;
        }
        let effect = self.fresh(active, key, step.time);
        self.state.effects.put(key.clone(), effect);
    }

    /// An effect that comes into being at an instant, without causes yet.
    pub(super) fn fresh(&self, active: &Active, key: &EffectKey, at: Timestamp) -> InForce {
        let ceiling = self.vocabulary.expires_max(Some(&key.effect)).as_secs();
        let longest = later(at, active.rule.until.max_s.min(ceiling));
        let sitting = active.frame.schedule.of_target(&key.target).filter(|_| active.rule.table.is_some());
        // Once the session can no longer be held after all, what was issued stays to its end.
        let latch = sitting.as_ref().filter(|_| active.rule.until.latch);
        let latch = latch.map(|sitting| sitting.resume_by.map_or(at, |by| by.max(at)));
        InForce {
            messages: Vec::new(),
            support: BTreeMap::new(),
            expired: BTreeMap::new(),
            named: BTreeSet::new(),
            behind: Vec::new(),
            deepest: 0,
            since: at,
            sent: at,
            until: sitting.map_or(longest, |sitting| sitting.ends.min(longest)),
            stand: Stand::Supported,
            kinds: BTreeSet::new(),
            latch,
        }
    }

    /// A cause supports an effect in force. Whether it did not before.
    pub(super) fn join(&mut self, key: &EffectKey, candidate: &CandidateKey, step: &mut Step) -> bool {
        let Some(known) = self.state.known.get(&candidate.lineage) else { return false };
        let kinds = self.state.candidates.get(candidate).and_then(|candidate| candidate.kinds.get(&key.target));
        let kinds = kinds.cloned().unwrap_or_default();
        let support = Support { cause: known.cause.clone(), depth: known.depth, rules: known.rules.to_vec(), kinds };
        let Some(effect) = self.state.effects.get(key) else { return false };
        if effect.support.get(&candidate.lineage) == Some(&support) {
            return false;
        }
        let new = !effect.support.contains_key(&candidate.lineage);
        self.state.effects.change(key, |effect| {
            effect.expired.remove(&candidate.lineage);
            effect.support.insert(candidate.lineage.clone(), support);
        });
        step.touched.insert(key.clone());
        new
    }

    /// A rule and a cause no longer match at all: that is the cause's end for this rule.
    pub(super) fn drop_candidate(&mut self, key: &CandidateKey, step: &mut Step) {
        self.retain_targets(key, &BTreeSet::new(), step);
        if let Some(candidate) = self.state.candidates.remove(key)
            && matches!(candidate.phase, Phase::Asking(_))
        {
            let why = Sentence::new("the cause ended or no longer matches", "原因已結束或不再符合");
            step.note(&key.rule, &key.lineage.world, Verdict::Withdrawn, why);
        }
    }

    /// The cause no longer reaches the targets outside `targets`: that is its end for them.
    pub(super) fn retain_targets(&mut self, key: &CandidateKey, targets: &BTreeSet<String>, step: &mut Step) {
        let Some(candidate) = self.state.candidates.get(key).cloned() else { return };
        let gone: Vec<String> = candidate.targets.difference(targets).cloned().collect();
        if gone.is_empty() {
            return;
        }
        for target in &gone {
            let effect = effect_key(key, &candidate.effect, target);
            let holds = self.state.effects.get(&effect).is_some_and(|effect| {
                effect.support.contains_key(&key.lineage) || effect.expired.contains_key(&key.lineage)
            });
            if holds {
                self.state.effects.change(&effect, |effect| {
                    effect.support.remove(&key.lineage);
                    effect.expired.remove(&key.lineage);
                });
                step.touched.insert(effect);
            }
        }
        self.state.candidates.change(key, |candidate| {
            candidate.targets.retain(|target| !gone.contains(target));
        });
    }

    /// A cause expired unrenewed: it keeps its effects up, but no longer by itself. Whether it supported any.
    pub(super) fn expire_support(
        &mut self,
        key: &CandidateKey,
        candidate: &Candidate,
        why: &Sentence,
        step: &mut Step,
    ) -> bool {
        let mut any = false;
        for target in &candidate.targets {
            let effect_key = effect_key(key, &candidate.effect, target);
            let Some(effect) = self.state.effects.get(&effect_key) else { continue };
            if !effect.support.contains_key(&key.lineage) {
                any |= effect.expired.contains_key(&key.lineage);
                continue;
            }
            any = true;
            let since = step.time;
            self.state.effects.change(&effect_key, |effect| {
                if let Some(support) = effect.support.remove(&key.lineage) {
                    effect.expired.insert(key.lineage.clone(), support);
                }
                // What is latched stays to the end of its session; nobody has to decide about it.
                if effect.support.is_empty() && !effect.latched(since) {
                    effect.stand = Stand::Review { since, why: why.clone() };
                }
            });
            let reviewed = |effect: &InForce| effect.support.is_empty() && matches!(effect.stand, Stand::Review { .. });
            if self.state.effects.get(&effect_key).is_some_and(reviewed) {
                step.note(&key.rule, &key.lineage.world, Verdict::Review, why.clone());
            }
            step.touched.insert(effect_key);
        }
        any
    }

    /// Nothing is left to decide for a candidate; a question that was open is taken back.
    pub(super) fn settle_candidate(&mut self, key: &CandidateKey, step: &mut Step) {
        let Some(candidate) = self.state.candidates.get(key) else { return };
        let asked = matches!(candidate.phase, Phase::Asking(_));
        if matches!(candidate.phase, Phase::Settled) {
            return;
        }
        self.state.candidates.change(key, |candidate| candidate.phase = Phase::Settled);
        if asked {
            let why = Sentence::new("there is nothing left to decide", "再無須決定的事項");
            step.note(&key.rule, &key.lineage.world, Verdict::Withdrawn, why);
        }
    }

    /// Makes what is published and what stands agree with the causes, for every effect that was touched.
    pub(super) fn settle(&mut self, step: &mut Step) {
        // An effect that ends may let a weaker one of its target come back; nothing gives way in a circle.
        for _ in 0..ROUNDS_MAX {
            let touched = std::mem::take(&mut step.touched);
            if touched.is_empty() {
                return;
            }
            for key in touched {
                self.settle_one(&key, step);
            }
        }
    }

    fn settle_one(&mut self, key: &EffectKey, step: &mut Step) {
        let Some(effect) = self.state.effects.get(key).cloned() else { return };
        let causes: BTreeSet<Lineage> = effect.support.keys().chain(effect.expired.keys()).cloned().collect();
        if !effect.support.is_empty() {
            self.state.effects.change(key, |effect| effect.stand = Stand::Supported);
            let first = effect.messages.is_empty();
            let kinds = effect.kinds_at(step.now);
            if !first && causes == effect.named && kinds == effect.kinds {
                return;
            }
            let Some(active) = self.rules.get(&key.rule).cloned() else { return };
            let message = if first { MessageType::Alert } else { MessageType::Update };
            self.publish(&active, key, message, step);
            if !first {
                step.note(&key.rule, &key.world, Verdict::Joined, changed(key, causes.len(), kinds != effect.kinds));
            }
        } else if effect.stand != Stand::Supported {
            // It has been decided what becomes of it.
        } else if effect.latched(step.now) {
            let until = effect.until;
            let why = Sentence::new(
                format!("the causes of {} are over; it was issued for the session and stays until {until}", key.target),
                format!("{} 的原因已結束；安排已就該時段發出，維持至 {until}", key.target),
            );
            step.note(&key.rule, &key.world, Verdict::Lingering, why);
            self.state.effects.change(key, |effect| effect.stand = Stand::Latched);
        } else if effect.expired.is_empty() {
            let active = self.rules.get(&key.rule).cloned();
            self.last_cause_ended(active.as_deref(), key, step);
        } else {
            // The last one that was renewed has ended, and one that fell silent is left: nobody said all-clear for it.
            let why = Sentence::new(
                "one cause ended and another expired unrenewed; silence is not an all-clear",
                "一個原因已結束，另一個原因過期未續；沒有消息不等於解除",
            );
            self.put_to_review(key, why, step);
        }
    }

    fn last_cause_ended(&mut self, active: Option<&Active>, key: &EffectKey, step: &mut Step) {
        let free = active.filter(|_| self.paused(&key.rule, &key.world).is_none());
        let Some(active) = free else {
            let why = Sentence::new(
                "the last cause ended while the rule is paused or no longer active",
                "最後一個原因結束時，規則已暫停或不再啟用",
            );
            return self.put_to_review(key, why, step);
        };
        let until = later(step.time, active.rule.until.linger_s);
        if active.rule.until.linger_s == 0 {
            return self.lingered(key, step);
        }
        let target = &key.target;
        let why = Sentence::new(
            format!("the last cause of {target} ended; it stays until {until}"),
            format!("{target} 的最後一個原因已結束，維持至 {until}"),
        );
        step.note(&key.rule, &key.world, Verdict::Lingering, why);
        self.state.effects.change(key, |effect| effect.stand = Stand::Lingering { until });
    }

    /// A timer of an effect: it has lingered, or its time is over.
    pub(super) fn effect_timer(&mut self, key: &EffectKey, step: &mut Step) {
        let Some(effect) = self.state.effects.get(key).cloned() else { return };
        if effect.until <= step.now {
            let sitting = self.rules.get(&key.rule).and_then(|active| active.frame.schedule.of_target(&key.target));
            let why = match sitting.is_some_and(|sitting| sitting.ends <= step.now) {
                true => Sentence::new(format!("the session {} is over", key.target), format!("{} 已結束", key.target)),
                false => Sentence::new(
                    format!("{} reached the longest time that the rule allows", key.target),
                    format!("{} 已達規則容許的最長時間", key.target),
                ),
            };
            step.note(&key.rule, &key.world, Verdict::Ended, why);
            return self.end_against_causes(key, step);
        }
        if self.paused(&key.rule, &key.world).is_some() || !self.rules.contains_key(&key.rule) {
            let why = Sentence::new(
                "its time to end came while the rule is paused or no longer active",
                "應結束時規則已暫停或不再啟用",
            );
            return self.put_to_review(key, why, step);
        }
        self.lingered(key, step);
    }

    fn lingered(&mut self, key: &EffectKey, step: &mut Step) {
        let Some(active) = self.rules.get(&key.rule).cloned() else { return };
        match active.rule.until.then {
            AfterLinger::Review => {
                let why = Sentence::new("its causes are over; a person decides", "原因已結束，由人員決定");
                self.put_to_review(key, why, step);
            }
            AfterLinger::Cancel => {
                self.publish(&active, key, MessageType::Cancel, step);
                let why = Sentence::new(
                    format!("the causes of {} are over", key.target),
                    format!("{} 的原因已結束", key.target),
                );
                step.note(&key.rule, &key.world, Verdict::Cancelled, why);
                self.remove_effect(key);
                self.decide_again(key, step);
            }
        }
    }

    fn put_to_review(&mut self, key: &EffectKey, why: Sentence, step: &mut Step) {
        let since = step.time;
        step.note(&key.rule, &key.world, Verdict::Review, why.clone());
        self.state.effects.change(key, |effect| effect.stand = Stand::Review { since, why });
    }

    pub(super) fn remove_effect(&mut self, key: &EffectKey) -> Option<InForce> {
        let effect = self.state.effects.remove(key)?;
        for (id, _) in &effect.messages {
            self.messages.remove(id);
        }
        Some(effect)
    }

    /// Ends an effect although causes may still be there: these causes do not bring it back, a new one does.
    fn end_against_causes(&mut self, key: &EffectKey, step: &mut Step) {
        let Some(effect) = self.remove_effect(key) else { return };
        let known = |lineage: &&Lineage| self.state.known.get(lineage).is_some();
        let mut lineages: BTreeSet<Lineage> =
            effect.support.keys().chain(effect.expired.keys()).filter(known).cloned().collect();
        let same = |other: &&CandidateKey| other.rule == key.rule && other.lineage.world == key.world;
        let matching = self.state.candidates.with_any([&key.target]).filter(same);
        lineages.extend(matching.map(|candidate| candidate.lineage.clone()));
        step.touched.remove(key);
        if !lineages.is_empty() {
            self.state.suppressed.put(key.clone(), Suppressed { lineages });
        }
        self.decide_again(key, step);
    }

    pub(super) fn is_suppressed(&self, effect: &EffectKey, candidate: &CandidateKey) -> bool {
        self.state.suppressed.get(effect).is_some_and(|row| row.lineages.contains(&candidate.lineage))
    }

    /// Cancels what the rule has said beyond the messages that an officer's Cancel names. A Cancel is stored before it is
    /// weighed, so what followed from earlier records may stand behind it, and would hold with nobody to end it.
    fn withdraw_unseen(&mut self, key: &EffectKey, cancel: &Alert, step: &mut Step) {
        let Some(effect) = self.state.effects.get(key) else { return };
        let last = effect.messages.last().filter(|(_, expires)| *expires > step.time);
        let is_unseen = last.is_some_and(|(id, _)| !cancel.referenced().contains(id));
        // Messages of it that are coming back are weighed together, when all of them are here.
        if !is_unseen || self.state.returned.get(key).is_some() {
            return;
        }
        let Some(active) = self.rules.get(&key.rule).cloned() else { return };
        self.publish(&active, key, MessageType::Cancel, step);
    }

    /// What a person of our own department published about an effect of ours.
    pub(super) fn officer(&mut self, input: &Input<'_>, alert: &Alert, step: &mut Step) {
        let about = alert.referenced().iter().filter_map(|id| self.messages.get(id));
        let about: BTreeSet<EffectKey> = about.filter(|key| key.world == input.world).cloned().collect();
        let ours = self.messages.contains_key(&alert.id());
        for key in about {
            if ours {
                continue;
            }
            self.officer_on_returned(&key, alert);
            match alert.msg_type {
                MessageType::Cancel => {
                    let why = Sentence::new(
                        format!("an officer cancelled {}; only a new cause brings it back", key.target),
                        format!("人員已取消 {}，須有新原因才會再發出", key.target),
                    );
                    step.note(&key.rule, &key.world, Verdict::Ended, why);
                    self.withdraw_unseen(&key, alert, step);
                    self.end_against_causes(&key, step);
                }
                // An officer's own wording replaces ours; what we publish later must refer to it too.
                MessageType::Update => self.adopt(&key, alert),
                MessageType::Alert | MessageType::Ack | MessageType::Error => {}
            }
        }
    }
}

fn changed(key: &EffectKey, causes: usize, kinds: bool) -> Sentence {
    let target = &key.target;
    match kinds {
        true => Sentence::new(
            format!("what {target} concerns changed; it has {causes} causes now"),
            format!("{target} 涉及的範圍有變，現有 {causes} 個原因"),
        ),
        false => Sentence::new(
            format!("the causes of {target} changed; it has {causes} now"),
            format!("{target} 的原因有變，現有 {causes} 個"),
        ),
    }
}
