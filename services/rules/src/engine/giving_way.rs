//! One effect gives way to another of the department: a full suspension replaces "stay in school".
//!
//! The stronger one is sent as an Update of the weaker one, so nobody reads two orders for one place; when it ends, the
//! weaker one is decided again. Which gives way to which is written down by the department, never read from an order of
//! rows.

use std::collections::BTreeSet;

use campanile_alert::{AlertId, MessageType, Timestamp};

use super::{Engine, Step};
use crate::{EffectKey, Sentence, Suppression, Verdict};

impl Engine {
    /// Why an effect may not be issued now: a stronger one is in force, or is issued in the same step, for its target.
    pub(super) fn gives_way(&self, key: &EffectKey, now: Timestamp) -> Option<(String, Sentence)> {
        let rules = self.suppressions.iter().filter(|rule| rule.effect == key.effect);
        rules.into_iter().find_map(|rule| {
            let stronger = self.effect_on(&rule.during, key)?;
            let kinds = self.state.effects.get(&stronger).map(|effect| effect.kinds_at(now))?;
            covers(rule, &kinds).then(|| {
                let (target, by) = (&key.target, &rule.during);
                let why = Sentence::new(
                    format!("{} gives way to {by} for {target} ({})", key.effect, rule.title.en),
                    format!("{target} 的「{}」讓位予「{by}」（{}）", key.effect, rule.title.zh_hant),
                );
                (rule.id.clone(), why)
            })
        })
    }

    /// Ends the effects that give way to this one; gives their messages still to be referred to, when its own message
    /// takes their place.
    pub(super) fn take_the_place(&mut self, key: &EffectKey, sent: Timestamp, step: &mut Step) -> Vec<AlertId> {
        let kinds = self.state.effects.get(key).map(|effect| effect.kinds_at(step.now)).unwrap_or_default();
        let rules: Vec<Suppression> = self
            .suppressions
            .iter()
            .filter(|rule| rule.during == key.effect && covers(rule, &kinds))
            .cloned()
            .collect();
        let mut taken = Vec::new();
        for rule in rules {
            let Some(weaker) = self.effect_on(&rule.effect, key) else { continue };
            let Some(active) = self.rules.get(&weaker.rule).cloned() else { continue };
            let why = Sentence::new(
                format!("{} replaces {} for {} ({})", key.effect, rule.effect, key.target, rule.title.en),
                format!("{} 以「{}」取代「{}」（{}）", key.target, key.effect, rule.effect, rule.title.zh_hant),
            );
            step.note(&weaker.rule, &weaker.world, Verdict::Suppressed, why);
            step.used.insert((rule.id.clone(), None));
            if rule.supersede {
                let ids = self.state.effects.get(&weaker).map(|effect| effect.messages.clone()).unwrap_or_default();
                taken.extend(ids.into_iter().filter(|(_, expires)| *expires > sent).map(|(id, _)| id));
            } else {
                self.publish(&active, &weaker, MessageType::Cancel, step);
            }
            self.remove_effect(&weaker);
        }
        taken
    }

    /// An effect is over: what gave way to it is decided again.
    pub(super) fn decide_again(&mut self, ended: &EffectKey, step: &mut Step) {
        let weaker: BTreeSet<String> = self
            .suppressions
            .iter()
            .filter(|rule| rule.during == ended.effect)
            .map(|rule| rule.effect.clone())
            .collect();
        if weaker.is_empty() {
            return;
        }
        let held = self.state.candidates.with_any([&ended.target]).filter(|key| key.lineage.world == ended.world);
        let held: BTreeSet<_> = held.cloned().collect();
        for key in held {
            let wanted = self.state.candidates.get(&key).is_some_and(|candidate| weaker.contains(&candidate.effect));
            let Some(active) = self.rules.get(&key.rule).cloned().filter(|_| wanted) else { continue };
            self.permit(&active, &key, step);
        }
    }

    /// An effect of ours of that event on the same target in the same world.
    fn effect_on(&self, event: &str, like: &EffectKey) -> Option<EffectKey> {
        let issuers = self.issuers.get(event)?;
        issuers.iter().find_map(|rule| {
            let key = EffectKey { rule: rule.clone(), effect: event.into(), ..like.clone() };
            self.state.effects.get(&key).map(|_| key)
        })
    }
}

/// Whether the stronger effect concerns the kinds that the weaker one must give way to.
fn covers(rule: &Suppression, kinds: &BTreeSet<String>) -> bool {
    rule.kinds.is_empty() || rule.kinds.is_subset(kinds)
}
