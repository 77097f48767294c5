//! What persons do: they answer, pause, resume and sign envelopes.

use std::collections::BTreeSet;

use campanile_alert::{Status, Timestamp, World};
use sha2::{Digest, Sha256};

use super::state::{CandidateKey, Known, Lineage, Pause, Phase, RuleIn};
use super::{Engine, Step};
use crate::{Answer, Approval, Envelope, Input, Sentence, Verdict};

impl Engine {
    /// The name of a question: the same for a rule, a cause and a world however often it changes.
    pub(super) fn pending_id(key: &CandidateKey) -> String {
        let digest = hex::encode(Sha256::digest(serde_json::to_vec(key).unwrap_or_default()));
        digest.get(..32).unwrap_or_default().into()
    }

    pub(super) fn answer(&mut self, input: &Input<'_>, approval: &Approval, step: &mut Step) {
        let found = self.state.candidates.rows().find_map(|(key, candidate)| match &candidate.phase {
            Phase::Asking(asking) if Self::pending_id(key) == approval.pending => Some((key.clone(), asking.clone())),
            _ => None,
        });
        let Some((key, mut asking)) = found else {
            let why = Sentence::new("the question is no longer open", "該事項已不再等候決定");
            return step.note("", &input.world, Verdict::Ignored, why);
        };
        let world = key.lineage.world.clone();
        let authors = self.state.known.get(&key.lineage).map(|known| known.authors.clone()).unwrap_or_default();
        let Some(active) = self.rules.get(&key.rule).cloned() else { return };
        let refused = if self.is_recovering() {
            Some(Sentence::new(
                "what was issued before is still coming back; answer again then",
                "先前發出的內容仍在恢復，請稍後再回應",
            ))
        } else if input.world != world || input.status == Status::Draft {
            Some(Sentence::new("the answer belongs to another world", "回應屬於另一範圍（演習或真實）"))
        } else if self.paused(&key.rule, &world).is_some() {
            Some(Sentence::new("the rule is paused", "規則已暫停"))
        } else if !approval.roles.iter().any(|role| asking.by.contains(role)) {
            Some(Sentence::new("the person holds none of the roles that are asked", "該人員沒有所需角色"))
        } else if active.rule.approve.apart_from_author && authors.contains(&approval.person) {
            Some(Sentence::new("the person published the cause and may not decide", "該人員發出了原因訊息，不得批准"))
        } else if approval.shown != asking.shown {
            Some(Sentence::new("what the person was shown has changed since", "該人員所見內容其後已有更改"))
        } else {
            None
        };
        if let Some(why) = refused {
            return step.note(&key.rule, &world, Verdict::Ignored, why);
        }
        match approval.answer {
            Answer::Reject => {
                let why = Sentence::new("a person refused", "人員拒絕批准");
                step.note(&key.rule, &world, Verdict::Rejected, why);
                self.state.candidates.change(&key, |candidate| {
                    candidate.refused.extend(asking.targets);
                    candidate.phase = Phase::Settled;
                });
            }
            Answer::Approve => {
                asking.approvals.insert(approval.person.clone());
                let (have, need) = (asking.approvals.len(), asking.need);
                if have >= need {
                    let why = Sentence::new(format!("{have} persons agreed"), format!("{have} 人批准"));
                    return self.grant(&active, &key, &asking.targets, why, step);
                }
                let why = Sentence::new(
                    format!("{have} of {need} persons have agreed"),
                    format!("須 {need} 人批准，現有 {have} 人"),
                );
                step.note(&key.rule, &world, Verdict::Answered, why);
                self.state.candidates.change(&key, |candidate| candidate.phase = Phase::Asking(asking));
            }
        }
    }

    pub(super) fn pause(
        &mut self,
        input: &Input<'_>,
        rule: &str,
        reason: &str,
        until: Option<Timestamp>,
        by: &str,
        step: &mut Step,
    ) {
        let why = Sentence::new(format!("paused: {reason}"), format!("已暫停：{reason}"));
        step.note(rule, &input.world, Verdict::Paused, why);
        let row = Pause { by: by.into(), reason: reason.into(), until };
        self.state.pauses.put(RuleIn { rule: rule.into(), world: input.world.clone() }, row);
    }

    pub(super) fn resume(&mut self, input: &Input<'_>, rule: &str, by: &str, step: &mut Step) {
        let key = RuleIn { rule: rule.into(), world: input.world.clone() };
        if self.state.pauses.get(&key).is_none() {
            let why = Sentence::new("the rule was not paused", "規則並未暫停");
            return step.note(rule, &input.world, Verdict::Ignored, why);
        }
        let why = Sentence::new(format!("resumed by {by}"), format!("由 {by} 恢復"));
        step.note(rule, &input.world, Verdict::Paused, why);
        self.unpause(&key, step);
    }

    pub(super) fn end_pause(&mut self, key: &RuleIn, step: &mut Step) {
        let why = Sentence::new("the pause is over", "暫停期已過");
        step.note(&key.rule, &key.world, Verdict::Paused, why);
        self.unpause(key, step);
    }

    /// Evaluates the rule for every cause in force: what came while it was paused has not been forgotten.
    fn unpause(&mut self, key: &RuleIn, step: &mut Step) {
        self.state.pauses.remove(key);
        let Some(event) = self.rules.get(&key.rule).map(|active| active.rule.cause.event.clone()) else { return };
        let causes = self.state.known.rows().filter(|(lineage, known)| {
            known.event == event && !known.expired && (key.world == World::Actual || lineage.world == key.world)
        });
        let causes: Vec<(Lineage, Known)> = causes.map(|(lineage, known)| (lineage.clone(), known.clone())).collect();
        for (lineage, known) in causes {
            self.weigh(&key.rule, &lineage, &known, step);
        }
    }

    /// The pause of a rule that holds in a world: its own, or the real world's.
    pub(super) fn paused(&self, rule: &str, world: &World) -> Option<&Pause> {
        let at = |world: &World| self.state.pauses.get(&RuleIn { rule: rule.into(), world: world.clone() });
        at(world).or_else(|| at(&World::Actual))
    }

    pub(super) fn open_envelope(&mut self, input: &Input<'_>, envelope: &Envelope, step: &mut Step) {
        let Some(active) = self.rules.get(&envelope.rule) else {
            let why = Sentence::new("no active rule has this id", "沒有此編號的規則");
            return step.note(&envelope.rule, &input.world, Verdict::Ignored, why);
        };
        let why = if envelope.digest == active.rule.digest {
            let signers: BTreeSet<&str> = envelope.signers.iter().map(|signer| signer.person.as_str()).collect();
            let count = signers.len();
            Sentence::new(
                format!("an envelope signed by {count} persons is valid from {} to {}", envelope.from, envelope.to),
                format!("由 {count} 人簽署的授權，有效期 {} 至 {}", envelope.from, envelope.to),
            )
        } else {
            Sentence::new(
                "the envelope is for another version of the rule and does not hold",
                "授權屬規則的另一版本，不適用",
            )
        };
        step.note(&envelope.rule, &input.world, Verdict::Answered, why);
        let key = RuleIn { rule: envelope.rule.clone(), world: input.world.clone() };
        self.state.envelopes.put(key, envelope.clone());
    }
}
