//! What people see of the engine; nothing here changes it.

use campanile_alert::{AlertId, Timestamp, World};

use super::matching::{known_of, supports_nothing};
use super::state::{InForce, Lineage, Phase, Stand};
use super::{Engine, Step};
use crate::{Decision, EffectKey, Input, InputKind, Live, Pending, Review, Sentence, Standing, Verdict};

impl Engine {
    /// What waits for persons, in the order of causes and rules.
    pub fn pending(&self) -> Vec<Pending> {
        let asking = self.state.candidates.rows().filter_map(|(key, candidate)| match &candidate.phase {
            Phase::Asking(asking) => Some((key, candidate, asking)),
            _ => None,
        });
        asking
            .map(|(key, candidate, asking)| {
                let known = self.state.known.get(&key.lineage);
                let active = self.rules.get(&key.rule);
                let first = asking.targets.first().map_or("", String::as_str);
                let kinds = self.kinds_of(key, first);
                let words = active.map(|active| self.rendered(active, &candidate.effect, first, known, &kinds));
                let words = words.unwrap_or_default();
                Pending {
                    id: Self::pending_id(key),
                    world: key.lineage.world.clone(),
                    rule: key.rule.clone(),
                    effect: candidate.effect.clone(),
                    targets: asking.targets.iter().cloned().collect(),
                    cause: known.map_or_else(|| key.lineage.root.clone(), |known| known.cause.alert.clone()),
                    headlines: words.into_iter().map(|words| (words.language, words.headline)).collect(),
                    need: asking.need,
                    by: asking.by.iter().cloned().collect(),
                    approvals: asking.approvals.iter().cloned().collect(),
                    shown: asking.shown,
                    since: asking.since,
                    deadline: asking.deadline,
                    against: asking.against.clone(),
                    why: asking.why.clone(),
                }
            })
            .collect()
    }

    /// The effects in force that a person has to decide about, in the order of their keys.
    pub fn reviews(&self) -> Vec<Review> {
        let review = |(key, effect): (&EffectKey, &InForce)| match &effect.stand {
            Stand::Review { since, why } => Some(Review {
                effect: key.clone(),
                message: in_force(effect)?,
                since: *since,
                until: effect.until,
                why: why.clone(),
            }),
            Stand::Supported | Stand::Lingering { .. } | Stand::Latched => None,
        };
        self.state.effects.rows().filter_map(review).collect()
    }

    /// The effects in force, in the order of their keys.
    pub fn live(&self) -> Vec<Live> {
        let live = |(key, effect): (&EffectKey, &InForce)| {
            let standing = match &effect.stand {
                Stand::Supported => Standing::Supported,
                Stand::Lingering { until } => Standing::Lingering(*until),
                Stand::Latched => Standing::Lingering(effect.until),
                Stand::Review { since, .. } => Standing::Review(*since),
            };
            let mut causes: Vec<_> =
                effect.support.values().chain(effect.expired.values()).map(|support| support.cause.clone()).collect();
            causes.sort();
            Some(Live {
                effect: key.clone(),
                message: in_force(effect)?,
                standing,
                causes,
                since: effect.since,
                until: effect.until,
            })
        };
        self.state.effects.rows().filter_map(live).collect()
    }

    /// The kinds that an effect in force concerns; `None` when it is not in force.
    pub fn kinds(&self, effect: &EffectKey) -> Option<std::collections::BTreeSet<String>> {
        self.state.effects.get(effect).map(|effect| effect.kinds.clone())
    }

    /// The effect that a message of ours belongs to, while it is in force.
    pub fn effect_of(&self, message: &AlertId) -> Option<&EffectKey> {
        self.messages.get(message)
    }

    /// Until when a rule is paused in a world, and why: `Some((reason, None))` means until it is resumed.
    pub fn pause_of(&self, rule: &str, world: &World) -> Option<(&str, Option<Timestamp>)> {
        self.paused(rule, world).map(|pause| (pause.reason.as_str(), pause.until))
    }

    /// Says for every rule, in the order of their ids, whether this alert would match it as things stand, or the first
    /// condition that stops it. Nothing is changed; an input that is no alert gives nothing.
    pub fn explain(&self, input: &Input<'_>) -> Vec<Decision> {
        let InputKind::Alert { alert, classification } = &input.kind else { return Vec::new() };
        let mut step = Step::new(input, self.state.now());
        let known = known_of(input, alert, classification);
        let lineage = Lineage { world: input.world.clone(), department: input.department.clone(), root: alert.id() };
        for (id, active) in &self.rules {
            let verdict = match supports_nothing(input) {
                Some(why) => Err((Verdict::NotMatched, why)),
                None if active.rule.table.is_some() => self.rows_would(active, &lineage, &known, &mut step),
                None => self.targets(active, &lineage, &known, &mut step),
            };
            let (verdict, why) = match (verdict, self.paused(id, &input.world)) {
                (Err(stopped), _) => stopped,
                (Ok(_), Some(pause)) => (
                    Verdict::Paused,
                    Sentence::new(
                        format!("the conditions hold, but the rule is paused: {}", pause.reason),
                        format!("條件符合，但規則已暫停：{}", pause.reason),
                    ),
                ),
                (Ok(targets), None) => {
                    let count = targets.len();
                    let why = Sentence::new(
                        format!("the conditions hold for {count} targets"),
                        format!("條件符合，涉及 {count} 個目標"),
                    );
                    (Verdict::Issued, why)
                }
            };
            step.note(id, &input.world, verdict, why);
        }
        step.notes
    }
}

fn in_force(effect: &InForce) -> Option<AlertId> {
    effect.messages.last().map(|(id, _)| id.clone())
}
