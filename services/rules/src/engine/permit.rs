//! Who allows an effect: nobody has to, a signed envelope does, or persons are asked.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Timestamp, World, geometry};
use sha2::{Digest, Sha256};

use super::state::{Asking, Batches, CandidateKey, InForce, Known, Phase, RuleIn, later};
use super::{Active, Engine, Step};
use crate::{EffectKey, IfSilent, Sentence, Silence, Verdict};

/// Whether a rule may issue by itself.
enum Leave {
    AtOnce(Sentence),
    Ask(Ask),
}

/// Whom to ask, and why.
struct Ask {
    need: usize,
    by: BTreeSet<String>,
    silence_holds: bool,
    /// The event in force that stands against it.
    against: Option<String>,
    why: Sentence,
}

/// An antonym in force on a target.
struct Clash {
    event: String,
    why: Sentence,
}

impl Engine {
    /// A candidate whose conditions hold: it joins what is in force, and the rest is issued or asked for.
    pub(super) fn permit(&mut self, active: &Active, key: &CandidateKey, step: &mut Step) {
        let Some(candidate) = self.state.candidates.get(key).cloned() else { return };
        let (rule, world) = (&active.rule, &key.lineage.world);
        let (mut fresh, mut joined, mut barred, mut weaker) = (BTreeSet::new(), 0_usize, 0_usize, None);
        for target in &candidate.targets {
            let effect = effect_key(key, &candidate.effect, target);
            if self.is_suppressed(&effect, key) {
                barred += 1;
            } else if self.state.effects.get(&effect).is_some() {
                joined += usize::from(self.join(&effect, key, step));
            } else if let Some(why) = self.gives_way(&effect, step.now) {
                weaker.get_or_insert(why);
            } else if !candidate.refused.contains(target) {
                fresh.insert(target.clone());
            }
        }
        if let Some((by, why)) = weaker {
            step.used.insert((by, None));
            step.note(&rule.id, world, Verdict::Suppressed, why);
        }
        if joined > 0 {
            let why = Sentence::new(
                format!("the cause supports {joined} effects in force as well"),
                format!("此原因亦支持 {joined} 項現行效果"),
            );
            step.note(&rule.id, world, Verdict::Joined, why);
        }
        if barred > 0 {
            let why = Sentence::new(
                format!(
                    "{barred} targets were ended by an officer or at their limit; only a new cause brings them back"
                ),
                format!("{barred} 個目標已由人員或期限終止，須有新原因才會再發出"),
            );
            step.note(&rule.id, world, Verdict::Suppressed, why);
        }
        if fresh.is_empty() {
            return self.settle_candidate(key, step);
        }
        match self.leave(active, key, &candidate.targets, &fresh, step) {
            Leave::AtOnce(why) => self.grant(active, key, &fresh, why, step),
            Leave::Ask(ask) => self.ask(active, key, fresh, ask, step),
        }
    }

    fn leave(
        &self,
        active: &Active,
        key: &CandidateKey,
        all: &BTreeSet<String>,
        fresh: &BTreeSet<String>,
        step: &Step,
    ) -> Leave {
        let (rule, world) = (&active.rule, &key.lineage.world);
        let effect = self.effect_name(active, key);
        let clash = fresh.iter().find_map(|target| self.clash(active, &effect, world, target));
        let against = clash.as_ref().map(|clash| clash.event.clone());
        let asked = |need: usize, by: BTreeSet<String>, silence_holds: bool, why: Sentence| {
            Leave::Ask(Ask { need, by, silence_holds, against: against.clone(), why })
        };
        let inside = match (&rule.envelope, rule.approve.need) {
            (None, 0) => match (&clash, &rule.conflict) {
                (Some(clash), Some(conflict)) => {
                    return asked(1, [conflict.ask.clone()].into(), true, clash.why.clone());
                }
                _ => Ok(Sentence::new("the rule asks nobody", "規則無須批准")),
            },
            (None, _) => Err(Sentence::new("the rule asks persons", "規則須由人員批准")),
            (Some(_), _) => self.inside_envelope(active, key, all, clash.as_ref(), step),
        };
        let at_once = match inside {
            Ok(why) => why,
            Err(why) if rule.approve.need == 0 => return asked(1, self.answerers(active), true, why),
            Err(why) => return asked(rule.approve.need, rule.approve.by.clone(), clash.is_some(), why),
        };
        let most = rule.pick.as_ref().and_then(|pick| pick.at_most);
        let crowd = most.filter(|most| all.len() > *most).map(|most| {
            let sites = all.len();
            Sentence::new(
                format!("{sites} targets are concerned, the rule takes {most} by itself"),
                format!("涉及 {sites} 個目標，規則自行處理的上限是 {most} 個"),
            )
        });
        match crowd.or_else(|| self.over_limit(active, world, step.time)) {
            Some(why) => asked(rule.approve.need.max(1), self.answerers(active), true, why),
            None => Leave::AtOnce(at_once),
        }
    }

    /// What a candidate issues.
    fn effect_name(&self, active: &Active, key: &CandidateKey) -> String {
        let candidate = self.state.candidates.get(key);
        candidate.map_or_else(|| active.rule.then.issue.clone(), |candidate| candidate.effect.clone())
    }

    /// Everyone who may say yes to this rule.
    fn answerers(&self, active: &Active) -> BTreeSet<String> {
        let envelope = active.rule.envelope.iter().flat_map(|envelope| envelope.by.iter());
        active.rule.approve.by.iter().chain(envelope).cloned().collect()
    }

    /// Why an antonym in force stands against an effect on a target; `None` when none does.
    fn clash(&self, active: &Active, effect: &str, world: &World, target: &str) -> Option<Clash> {
        let rule = &active.rule;
        let antonyms = &self.vocabulary.event(effect)?.antonyms;
        let say = |event: &str| Clash {
            event: event.into(),
            why: Sentence::new(
                format!("{event} is in force on {target}"),
                format!("{target} 現正執行相反安排（{event}）"),
            ),
        };
        if let Some(event) = self.issued_against(antonyms, world, target) {
            return Some(say(&event));
        }
        let site = rule.pick.as_ref().and_then(|pick| self.data.get(&pick.targets)?.site(target));
        let covers = |known: &Known| {
            let points = site.map_or(&[][..], |site| site.points.as_slice());
            let inside = |area| points.iter().any(|point| geometry::contains(area, *point));
            known.sites.iter().any(|site| site == target) || known.areas.iter().any(inside)
        };
        let against = self.against.iter().filter(|lineage| lineage.world == *world);
        let mut known = against.filter_map(|lineage| self.state.known.get(lineage));
        let known = known.find(|known| !known.expired && antonyms.contains(&known.event) && covers(known));
        known.map(|known| say(&known.event))
    }

    /// The event of an effect of ours on a target that is one of `antonyms`. The keys stand in the order of rule and
    /// event, so one look for each pair of them is enough, however many targets there are.
    fn issued_against(&self, antonyms: &[String], world: &World, target: &str) -> Option<String> {
        let mut from =
            EffectKey { world: world.clone(), rule: String::new(), effect: String::new(), target: String::new() };
        while !target.is_empty() {
            let next = self.state.effects.from(&from).next().filter(|key| key.world == *world)?;
            let wanted = EffectKey { target: target.into(), ..next.clone() };
            if antonyms.contains(&next.effect) && self.state.effects.get(&wanted).is_some() {
                return Some(wanted.effect);
            }
            // The least text above the event's own.
            let effect = format!("{}\0", wanted.effect);
            from = EffectKey { effect, target: String::new(), ..wanted };
        }
        None
    }

    fn inside_envelope(
        &self,
        active: &Active,
        key: &CandidateKey,
        all: &BTreeSet<String>,
        clash: Option<&Clash>,
        step: &Step,
    ) -> Result<Sentence, Sentence> {
        let rule = &active.rule;
        let stop = |en: String, zh: String| Err(Sentence::new(en, zh));
        let Some(limits) = &rule.envelope else {
            return stop("the rule has no envelope".into(), "規則沒有授權範圍".into());
        };
        let Some(known) = self.state.known.get(&key.lineage) else {
            return stop("the cause is not known".into(), "原因不明".into());
        };
        if limits.certainty.as_ref().is_some_and(|want| !known.certainties.iter().all(|is| want.contains(is))) {
            return stop("the certainty is outside the envelope".into(), "確定程度超出授權範圍".into());
        }
        if limits.level_min.is_some_and(|least| known.level.is_none_or(|level| level < least)) {
            return stop("the level is outside the envelope".into(), "級別超出授權範圍".into());
        }
        if let Some(most) = limits.sites_max.filter(|most| all.len() > *most) {
            let sites = all.len();
            return stop(
                format!("{sites} sites are concerned, the envelope allows {most}"),
                format!("涉及 {sites} 個地點，授權範圍上限是 {most} 個"),
            );
        }
        if let Some(clash) = clash.filter(|_| limits.conflict_none) {
            return Err(clash.why.clone());
        }
        let signed = [World::Actual, key.lineage.world.clone()]
            .into_iter()
            .find_map(|world| self.state.envelopes.get(&RuleIn { rule: rule.id.clone(), world }));
        let Some(signed) = signed else {
            return stop("no envelope has been signed for the rule".into(), "規則未有已簽署的授權".into());
        };
        if signed.digest != rule.digest {
            return stop(
                "the envelope was signed for another version of the rule".into(),
                "授權是為規則的另一版本簽署".into(),
            );
        }
        let from = signed.from.max(limits.from);
        if !(from..signed.to.min(limits.to)).contains(&step.now) {
            return stop("the envelope is not valid at this time".into(), "授權現時無效".into());
        }
        let holds = |roles: &[String]| roles.iter().any(|role| limits.by.contains(role));
        let persons: BTreeSet<&str> =
            signed.signers.iter().filter(|signer| holds(&signer.roles)).map(|signer| signer.person.as_str()).collect();
        if persons.len() < limits.need {
            let (is, need) = (persons.len(), limits.need);
            return stop(
                format!("{is} of {need} persons have signed the envelope"),
                format!("授權須 {need} 人簽署，現有 {is} 人"),
            );
        }
        Ok(Sentence::new("all is inside the signed envelope", "符合已簽署的授權範圍"))
    }

    fn over_limit(&self, active: &Active, world: &World, at: Timestamp) -> Option<Sentence> {
        let limit = active.rule.limit.as_ref()?;
        let batches = self.state.batches.get(&RuleIn { rule: active.rule.id.clone(), world: world.clone() })?;
        let recent = batches.0.iter().filter(|time| later(**time, limit.per_s) > at).count();
        (recent >= limit.batches_max).then(|| {
            let (most, per) = (limit.batches_max, limit.per_s / 60);
            Sentence::new(
                format!("the rule has issued {recent} batches within {per} minutes, its limit is {most}"),
                format!("規則在 {per} 分鐘內已發出 {recent} 批，上限是 {most} 批"),
            )
        })
    }

    /// Issues for these targets.
    pub(super) fn grant(
        &mut self,
        active: &Active,
        key: &CandidateKey,
        targets: &BTreeSet<String>,
        why: Sentence,
        step: &mut Step,
    ) {
        let (rule, world) = (&active.rule, &key.lineage.world);
        let issue = self.effect_name(active, key);
        let effects: Vec<EffectKey> = targets.iter().map(|target| effect_key(key, &issue, target)).collect();
        let mut issued = 0_usize;
        for effect in effects.into_iter().filter(|effect| !self.is_suppressed(effect, key)).collect::<Vec<_>>() {
            self.state.suppressed.remove(&effect);
            issued += usize::from(self.state.effects.get(&effect).is_none());
            self.create(active, &effect, step);
            self.join(&effect, key, step);
        }
        let batches = RuleIn { rule: rule.id.clone(), world: world.clone() };
        if let Some(limit) = &rule.limit {
            let mut times = self.state.batches.get(&batches).cloned().unwrap_or_default();
            times.0.retain(|time| later(*time, limit.per_s) > step.time);
            times.0.push(step.time);
            let surplus = times.0.len().saturating_sub(limit.batches_max + 1);
            times.0.drain(..surplus);
            self.state.batches.put(batches, Batches(times.0));
        }
        let why = Sentence::new(
            format!("{}; {issued} effects issued", why.en),
            format!("{}；發出 {issued} 項效果", why.zh_hant),
        );
        step.note(&rule.id, world, Verdict::Issued, why);
        self.state.candidates.change(key, |candidate| candidate.phase = Phase::Settled);
        self.others_join(active, key, targets, step);
    }

    /// Other causes of the same rule that match these targets support them from now on, and what they asked for and now
    /// is in force is no longer asked.
    fn others_join(&mut self, active: &Active, key: &CandidateKey, targets: &BTreeSet<String>, step: &mut Step) {
        let issue = self.effect_name(active, key);
        let effects: Vec<(&String, EffectKey)> =
            targets.iter().map(|target| (target, effect_key(key, &issue, target))).collect();
        let live: BTreeMap<&String, &InForce> =
            effects.iter().filter_map(|(target, effect)| Some((*target, self.state.effects.get(effect)?))).collect();
        // Most of them joined when they came; a rule that has issued a thousand times must not look at each again.
        let has_more = |other: &&CandidateKey| {
            let same = *other != key
                && (&other.rule, &other.effect) == (&key.rule, &key.effect)
                && other.lineage.world == key.lineage.world;
            same && self.state.candidates.get(other).is_some_and(|candidate| match candidate.phase {
                Phase::Holding { .. } => false,
                Phase::Asking(_) => true,
                Phase::Settled => candidate
                    .targets
                    .iter()
                    .any(|target| live.get(target).is_some_and(|effect| !effect.support.contains_key(&other.lineage))),
            })
        };
        let others: BTreeSet<CandidateKey> =
            self.state.candidates.with_any(targets).filter(has_more).cloned().collect();
        for other in others {
            let Some(candidate) = self.state.candidates.get(&other).cloned() else { continue };
            for target in candidate.targets.intersection(targets) {
                let effect = effect_key(&other, &issue, target);
                if !self.is_suppressed(&effect, &other) && self.state.effects.get(&effect).is_some() {
                    self.join(&effect, &other, step);
                }
            }
            if let Phase::Asking(asking) = &candidate.phase {
                let live = |target: &String| self.state.effects.get(&effect_key(&other, &issue, target)).is_some();
                if asking.targets.iter().all(live) {
                    self.settle_candidate(&other, step);
                }
            }
        }
    }

    fn ask(&mut self, active: &Active, key: &CandidateKey, targets: BTreeSet<String>, ask: Ask, step: &mut Step) {
        let rule = &active.rule;
        let shown = self.shown(active, key, &targets);
        let before = self.state.candidates.get(key).and_then(|candidate| match &candidate.phase {
            Phase::Asking(asking) => Some(Asking::clone(asking)),
            _ => None,
        });
        if before.as_ref().is_some_and(|asking| asking.shown == shown) {
            return;
        }
        let count = targets.len();
        // A changed question keeps its deadline: updates that keep coming must not put the answer off for ever.
        let asking = match before {
            Some(before) => Asking {
                targets,
                shown,
                approvals: BTreeSet::new(),
                silence_holds: before.silence_holds || ask.silence_holds,
                against: ask.against,
                why: ask.why.clone(),
                ..before
            },
            None => Asking {
                targets,
                need: ask.need,
                by: ask.by,
                shown,
                since: step.time,
                deadline: rule.approve.silence.as_ref().map(|silence| later(step.time, silence.within_s)),
                escalated: false,
                silence_holds: ask.silence_holds,
                approvals: BTreeSet::new(),
                against: ask.against,
                why: ask.why.clone(),
            },
        };
        let (need, by) = (asking.need, super::matching::list(asking.by.iter()));
        let why = Sentence::new(
            format!("{}; {need} of {by} are asked about {count} targets", ask.why.en),
            format!("{}；就 {count} 個目標請 {by} 其中 {need} 人批准", ask.why.zh_hant),
        );
        step.note(&rule.id, &key.lineage.world, Verdict::Asked, why);
        self.state.candidates.change(key, |candidate| candidate.phase = Phase::Asking(asking.into()));
    }

    /// The hash of what persons are shown: the effects' keys, the rule's version and the texts.
    fn shown(&self, active: &Active, key: &CandidateKey, targets: &BTreeSet<String>) -> [u8; 32] {
        let issue = self.effect_name(active, key);
        let effects: Vec<EffectKey> = targets.iter().map(|t| effect_key(key, &issue, t)).collect();
        let known = self.state.known.get(&key.lineage);
        let texts: Vec<Vec<(String, String, String)>> = targets
            .iter()
            .map(|target| {
                let words = self.rendered(active, &issue, target, known, &self.kinds_of(key, target));
                words.into_iter().map(|w| (w.language, w.headline, w.instruction)).collect()
            })
            .collect();
        let bytes = serde_json::to_vec(&(effects, active.rule.digest, texts)).unwrap_or_default();
        Sha256::digest(bytes).into()
    }

    pub(super) fn candidate_timer(&mut self, key: &CandidateKey, step: &mut Step) {
        let Some(active) = self.rules.get(&key.rule).cloned() else {
            // The rule is gone: what it asked for or waited for is gone with it, what is in force stays.
            self.settle_candidate(key, step);
            return;
        };
        let paused = self.paused(&key.rule, &key.lineage.world).is_some();
        let Some(candidate) = self.state.candidates.get(key).cloned() else { return };
        if candidate.wake.is_some_and(|at| at <= step.now) {
            return self.woken(key, step);
        }
        match candidate.phase {
            Phase::Settled => {}
            Phase::Holding { .. } if paused => {
                // Resuming weighs every cause again, with the time it has held by then.
                self.state.candidates.remove(key);
            }
            Phase::Holding { .. } => {
                self.state.candidates.change(key, |candidate| candidate.phase = Phase::Settled);
                let known = self.state.known.get(&key.lineage).cloned();
                let silent =
                    |known: &Known| active.rule.absent.is_none() || self.nobody_spoke(&active, key, known, step);
                if known.as_ref().is_none_or(silent) {
                    self.permit(&active, key, step);
                }
            }
            Phase::Asking(asking) => self.silence(&active, key, *asking, paused, step),
        }
    }

    fn silence(&mut self, active: &Active, key: &CandidateKey, mut asking: Asking, paused: bool, step: &mut Step) {
        let approve = &active.rule.approve;
        let silence: Option<&Silence> = match (&approve.escalation, asking.escalated) {
            (Some(escalation), true) => escalation.silence.as_ref(),
            _ => approve.silence.as_ref(),
        };
        let world = &key.lineage.world;
        let at = asking.deadline.take().unwrap_or(step.now);
        let effect = self.effect_name(active, key);
        let clash = asking.targets.iter().find_map(|target| self.clash(active, &effect, world, target));
        match (silence.map(|silence| &silence.then), &approve.escalation) {
            (Some(IfSilent::Escalate), Some(escalation)) if !asking.escalated => {
                asking.escalated = true;
                asking.by.extend(escalation.notify.iter().cloned());
                asking.deadline = escalation.silence.as_ref().map(|silence| later(at, silence.within_s));
                let to = super::matching::list(escalation.notify.iter());
                let why = Sentence::new(
                    format!("nobody has decided in time; {to} are asked as well"),
                    format!("無人及時決定；現亦請 {to} 決定"),
                );
                step.note(&active.rule.id, world, Verdict::Silent, why);
            }
            (Some(IfSilent::Issue { .. }), _) if clash.is_some() => {
                // What came into force while persons were asked is theirs to weigh, as what was there before.
                if let Some(Clash { event, why }) = clash {
                    step.note(&active.rule.id, world, Verdict::Silent, why.clone());
                    (asking.silence_holds, asking.against, asking.why) = (true, Some(event), why);
                }
            }
            (Some(IfSilent::Issue { because }), _) if !asking.silence_holds && !paused => {
                let why = Sentence::new(
                    format!("nobody answered in time and the rule issues then: {because}"),
                    format!("無人及時回應，規則訂明屆時發出：{because}"),
                );
                return self.grant(active, key, &asking.targets, why, step);
            }
            _ => {
                let why = Sentence::new("nobody has decided in time; it goes on waiting", "無人及時決定；繼續等候");
                step.note(&active.rule.id, world, Verdict::Silent, why);
            }
        }
        self.state.candidates.change(key, |candidate| candidate.phase = Phase::Asking(asking.into()));
    }
}

/// The effect of a candidate on a target.
pub(super) fn effect_key(key: &CandidateKey, effect: &str, target: &str) -> EffectKey {
    EffectKey { world: key.lineage.world.clone(), rule: key.rule.clone(), effect: effect.into(), target: target.into() }
}
