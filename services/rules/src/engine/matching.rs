//! Causes come, change and end; which rules they match, and if not, the first condition that stopped it.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Alert, AlertId, Area, Certainty, MessageType, ResponseType, Status, Timestamp, World};

use super::message::join_rules;
use super::state::{Candidate, CandidateKey, ENDED_MAX, Ended, Known, Lineage, MEMORY_S, MESSAGES_MAX, Phase, later};
use super::{Active, Engine, Step, clamped, updates_of};
use crate::{Cause, Classification, ColumnMatch, DEPTH_MAX, Input, Pick, Sentence, Verdict};

/// A rule that stops, and why.
pub(super) type Stopped = (Verdict, Sentence);

impl Engine {
    pub(super) fn alert(&mut self, input: &Input<'_>, alert: &Alert, words: &Classification, step: &mut Step) {
        if let Some(why) = supports_nothing(input) {
            step.note("", &input.world, Verdict::NotMatched, why);
            return;
        }
        if input.department == self.department {
            self.officer(input, alert, step);
        }
        let merged = crate::mutant("causes-merge-across-worlds");
        let message = |id: &AlertId| Lineage {
            world: if merged { World::Actual } else { input.world.clone() },
            department: input.department.clone(),
            root: id.clone(),
        };
        let mut earlier: Vec<Lineage> = Vec::new();
        for reference in alert.referenced().iter().map(message) {
            match self.lineage_of(&reference).cloned() {
                Some(lineage) if !earlier.contains(&lineage) => earlier.push(lineage),
                Some(_) => {}
                None if matches!(alert.msg_type, MessageType::Ack | MessageType::Error) => {}
                // It may still be on its way, in another lane: when it comes it is already over.
                None => self.remember_ended(reference, step),
            }
        }
        match alert.msg_type {
            MessageType::Ack | MessageType::Error => {}
            MessageType::Cancel => self.end_causes(&earlier, step),
            MessageType::Alert | MessageType::Update if all_clear(alert) => self.end_causes(&earlier, step),
            MessageType::Alert | MessageType::Update => {
                let own = message(&alert.id());
                if self.state.ended.get(&own).is_some() {
                    let why = Sentence::new(
                        "the message was already cancelled or superseded when it came",
                        "訊息抵達時已被取消或取代",
                    );
                    step.note("", &input.world, Verdict::NotMatched, why);
                    // What it took the place of is over as well.
                    return self.end_causes(&earlier, step);
                }
                self.cause(input, alert, words, &own, &earlier, step);
            }
        }
    }

    /// The cause that a message belongs to.
    pub(super) fn lineage_of(&self, message: &Lineage) -> Option<&Lineage> {
        self.state.known.key(message).or_else(|| self.lineages.get(message))
    }

    /// A cause comes or changes.
    fn cause(
        &mut self,
        input: &Input<'_>,
        alert: &Alert,
        words: &Classification,
        own: &Lineage,
        earlier: &[Lineage],
        step: &mut Step,
    ) {
        let Some(event) = words.event.as_deref() else {
            // An update that nobody can read is no all-clear either.
            for lineage in earlier {
                self.lose_sight(lineage, "was updated by a message of unknown event", "被未能分類的訊息更新", step);
            }
            let why =
                Sentence::new("the message is unclassified; it is put to its owner", "訊息未能分類，須由發出部門處理");
            step.note("", &input.world, Verdict::NotMatched, why);
            return;
        };
        let wanted = self.waiting.contains_key(event) || self.watched.contains(event);
        let Some(lineage) = earlier.first().cloned().or_else(|| wanted.then(|| own.clone())) else { return };
        if !wanted {
            return self.end_causes(earlier, step);
        }
        let before = self.state.known.get(&lineage);
        let known = known(input, alert, own.root.clone(), words, event, before);
        if known.expires.is_some_and(|at| at <= step.now) {
            for lineage in earlier {
                self.lose_sight(
                    lineage,
                    "was updated by a message that had already expired",
                    "的更新在抵達時已過期",
                    step,
                );
            }
            let why = Sentence::new("the message had expired before it came", "訊息抵達前已過期");
            step.note("", &input.world, Verdict::NotMatched, why);
            return;
        }
        // What is forgotten of many updates is forgotten here as well, so that a restart changes nothing.
        for update in before.iter().flat_map(|before| updates_of(&lineage, &before.ids)) {
            self.lineages.remove(&update);
        }
        self.lineages.extend(updates_of(&lineage, &known.ids).map(|update| (update, lineage.clone())));
        self.state.known.put(lineage.clone(), known.clone());
        if self.watched.contains(event) {
            self.against.insert(lineage.clone());
        } else {
            self.against.remove(&lineage);
        }
        let waiting = self.waiting.get(event).cloned().unwrap_or_default();
        let before = self.candidates_of(&lineage).into_iter().map(|key| key.rule);
        let before: BTreeSet<String> = before.filter(|rule| !waiting.contains(rule)).collect();
        let mut rules: Vec<&String> = waiting.iter().chain(&before).collect();
        rules.sort_unstable();
        for rule in rules {
            self.weigh(rule, &lineage, &known, step);
        }
        // An Update that joins several causes: the first goes on, the others are over.
        self.end_causes(earlier.get(1..).unwrap_or_default(), step);
    }

    /// Decides one rule about one cause.
    pub(super) fn weigh(&mut self, id: &str, lineage: &Lineage, known: &Known, step: &mut Step) {
        let Some(active) = self.rules.get(id).cloned() else { return self.drop_rule(id, lineage, &[], step) };
        if active.rule.table.is_some() {
            return self.weigh_rows(&active, lineage, known, step);
        }
        let key = CandidateKey { lineage: lineage.clone(), rule: id.into(), effect: String::new() };
        let targets = match self.targets(&active, lineage, known, step) {
            Ok(targets) => targets,
            Err((verdict, why)) => {
                step.note(id, &lineage.world, verdict, why);
                return self.drop_candidate(&key, step);
            }
        };
        let picks = targets.into_iter().map(|target| (target, BTreeSet::new())).collect();
        self.take_up(&active, &key, &active.rule.then.issue, picks, known, step);
    }

    /// A candidate of these targets, each with the kinds it concerns: new, or changed to them.
    pub(super) fn take_up(
        &mut self,
        active: &Active,
        key: &CandidateKey,
        effect: &str,
        picks: BTreeMap<String, BTreeSet<String>>,
        known: &Known,
        step: &mut Step,
    ) {
        let (id, lineage) = (active.rule.id.as_str(), &key.lineage);
        let targets: BTreeSet<String> = picks.keys().cloned().collect();
        let kinds: BTreeMap<_, _> = picks.into_iter().filter(|(_, kinds)| !kinds.is_empty()).collect();
        if self.is_recovering() {
            return self.retain_targets(key, &targets, step);
        }
        if let Some(pause) = self.paused(id, &lineage.world) {
            let why =
                Sentence::new(format!("the rule is paused: {}", pause.reason), format!("規則已暫停：{}", pause.reason));
            step.note(id, &lineage.world, Verdict::Paused, why);
            self.retain_targets(key, &targets, step);
            return;
        }
        if self.state.candidates.get(key).is_some_and(|candidate| candidate.effect != effect) {
            self.drop_candidate(key, step);
        }
        match self.state.candidates.get(key) {
            Some(_) => {
                self.retain_targets(key, &targets, step);
                self.state.candidates.change(key, |candidate| {
                    candidate.targets = targets;
                    candidate.kinds = kinds;
                });
            }
            None => {
                let wait_s = active.rule.hold_s.max(active.rule.absent.as_ref().map_or(0, |absent| absent.within_s));
                let candidate = Candidate {
                    effect: effect.into(),
                    targets,
                    refused: BTreeSet::new(),
                    phase: Phase::Holding { until: later(known.since(), wait_s) },
                    kinds,
                    wake: None,
                };
                self.state.candidates.put(key.clone(), candidate);
            }
        }
        let holding = self.state.candidates.get(key).and_then(|candidate| match candidate.phase {
            Phase::Holding { until } => Some(until),
            _ => None,
        });
        if let Some(until) = holding.filter(|until| *until > step.now) {
            let why = Sentence::new(
                format!("the conditions hold; they must hold until {until}"),
                format!("條件符合，須維持至 {until}"),
            );
            return step.note(id, &lineage.world, Verdict::Holding, why);
        }
        if active.rule.absent.is_some() && !self.nobody_spoke(active, key, known, step) {
            return;
        }
        self.permit(active, key, step);
    }

    /// Drops the candidates of a rule and a cause, but for those of the effects kept.
    pub(super) fn drop_rule(&mut self, rule: &str, lineage: &Lineage, keep: &[&str], step: &mut Step) {
        let others = self.candidates_of(lineage).into_iter();
        for key in others.filter(|key| key.rule == rule && !keep.contains(&key.effect.as_str())).collect::<Vec<_>>() {
            self.drop_candidate(&key, step);
        }
    }

    /// The targets of a rule for a cause, or the first condition that stops it.
    pub(super) fn targets(
        &self,
        active: &Active,
        lineage: &Lineage,
        known: &Known,
        step: &mut Step,
    ) -> Result<BTreeSet<String>, Stopped> {
        conditions(active, lineage, known, self.vocabulary).map_err(|why| (Verdict::NotMatched, why))?;
        guard(active, known).map_err(|why| (Verdict::Refused, why))?;
        let picked = match &active.rule.pick {
            None => [String::new()].into(),
            Some(pick) => {
                let picked = self.pick(pick, known, step);
                if picked.is_empty() {
                    return Err((Verdict::NotMatched, active.nothing_near.clone()));
                }
                picked
            }
        };
        match &active.rule.only_if {
            Some(condition) => self.keep_if(condition, active, lineage, known, picked, step),
            None => Ok(picked),
        }
    }

    fn pick(&self, pick: &Pick, known: &Known, step: &mut Step) -> BTreeSet<String> {
        let Some(set) = self.data.get(&pick.targets) else { return BTreeSet::new() };
        let near = pick.within_m.map(|metres| {
            let memo = (known.cause.hash, pick.targets.clone(), metres.to_bits());
            step.joins.entry(memo).or_insert_with(|| set.within(&known.areas, metres)).clone()
        });
        if pick.columns.is_empty() {
            return near.unwrap_or_else(|| set.sites().map(|site| site.key.clone()).collect());
        }
        let matches = |site: &crate::Site| {
            pick.columns.iter().all(|(column, want)| {
                site.columns.get(column).is_some_and(|values| match want {
                    ColumnMatch::Text(text) => values.contains(text),
                    ColumnMatch::CauseSite => known.sites.iter().any(|site| values.contains(site)),
                })
            })
        };
        match near {
            Some(near) => near.into_iter().filter(|key| set.site(key).is_some_and(matches)).collect(),
            None => set.sites().filter(|site| matches(site)).map(|site| site.key.clone()).collect(),
        }
    }

    /// Cancel, lowering or AllClear: the causes are over.
    pub(super) fn end_causes(&mut self, lineages: &[Lineage], step: &mut Step) {
        for lineage in lineages {
            for key in self.candidates_of(lineage) {
                self.drop_candidate(&key, step);
            }
            if let Some(known) = self.state.known.get(lineage).cloned().filter(|_| self.is_recovering()) {
                self.end_for_returned(lineage, &known);
            }
            self.forget_cause(lineage);
        }
    }

    /// A timer of a cause: it expires unrenewed, or it is forgotten.
    pub(super) fn expire_cause(&mut self, lineage: &Lineage, step: &mut Step) {
        if self.state.known.get(lineage).is_some_and(|known| known.expired) {
            for key in self.candidates_of(lineage) {
                self.state.candidates.remove(&key);
            }
            return self.forget_cause(lineage);
        }
        self.lose_sight(lineage, "expired and was not renewed", "已過期而未獲更新", step);
    }

    /// A cause is no longer heard of. That is no all-clear: its effects stay and a person decides.
    fn lose_sight(&mut self, lineage: &Lineage, en: &str, zh: &str, step: &mut Step) {
        if crate::mutant("expiry-is-all-clear") {
            return self.end_causes(std::slice::from_ref(lineage), step);
        }
        let name = lineage.root.identifier();
        let why = Sentence::new(format!("cause {name} {en}"), format!("原因 {name} {zh}"));
        let mut needed = self.state.suppressed.rows().any(|(_, row)| row.lineages.contains(lineage));
        for key in self.candidates_of(lineage) {
            let Some(candidate) = self.state.candidates.get(&key).cloned() else { continue };
            let supports = self.expire_support(&key, &candidate, &why, step);
            if !matches!(candidate.phase, Phase::Settled) {
                step.note(&key.rule, &lineage.world, Verdict::Withdrawn, why.clone());
            }
            if supports || !candidate.refused.is_empty() {
                needed = true;
                self.state.candidates.change(&key, |candidate| candidate.phase = Phase::Settled);
            } else {
                self.state.candidates.remove(&key);
            }
        }
        if needed {
            let now = step.now;
            self.state.known.change(lineage, |known| {
                known.expired = true;
                known.expires = Some(known.expires.map_or(now, |at| at.min(now)));
            });
        } else {
            self.forget_cause(lineage);
        }
    }

    fn forget_cause(&mut self, lineage: &Lineage) {
        self.against.remove(lineage);
        if let Some(known) = self.state.known.remove(lineage) {
            for update in updates_of(lineage, &known.ids) {
                self.lineages.remove(&update);
            }
        }
        let held: Vec<_> = self.state.suppressed.rows().filter(|(_, row)| row.lineages.contains(lineage)).collect();
        for key in held.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.state.suppressed.change(&key, |row| {
                row.lineages.remove(lineage);
            });
            if self.state.suppressed.get(&key).is_some_and(|row| row.lineages.is_empty()) {
                self.state.suppressed.remove(&key);
            }
        }
    }

    /// Remembers that a message not seen yet is over, for a week.
    fn remember_ended(&mut self, message: Lineage, step: &Step) {
        if self.state.ended.len() >= ENDED_MAX
            && let Some(oldest) = self.state.ended.next_timer().map(|(_, key)| key.clone())
        {
            self.state.ended.remove(&oldest);
        }
        self.state.ended.put(message, Ended(later(step.now, MEMORY_S)));
    }

    pub(super) fn candidates_of(&self, lineage: &Lineage) -> Vec<CandidateKey> {
        let first = CandidateKey { lineage: lineage.clone(), rule: String::new(), effect: String::new() };
        self.state.candidates.from(&first).take_while(|key| key.lineage == *lineage).cloned().collect()
    }
}

/// Why an input of this status supports no effect; `None` when it may.
pub(super) fn supports_nothing(input: &Input<'_>) -> Option<Sentence> {
    let stray = input.world.status() != input.status;
    match (&input.world, input.status) {
        (_, Status::Draft) => Some(Sentence::new("a draft supports nothing", "草稿不支持任何效果")),
        (World::System, _) | (_, Status::System) => {
            Some(Sentence::new("a message between systems supports nothing", "系統訊息不支持任何效果"))
        }
        (World::Test, _) | (_, Status::Test) => {
            Some(Sentence::new("a test supports nothing", "測試訊息不支持任何效果"))
        }
        _ if stray => Some(Sentence::new("its status and its world differ", "訊息狀態與所屬範圍不符")),
        _ => None,
    }
}

/// The conditions on the cause itself, in the order in which they stop a rule.
pub(super) fn conditions(
    active: &Active,
    lineage: &Lineage,
    known: &Known,
    vocabulary: &campanile_alert::Vocabulary,
) -> Result<(), Sentence> {
    let (rule, cause) = (&active.rule, &active.rule.cause);
    let stop = |en: String, zh: String| Err(Sentence::new(en, zh));
    if known.event != cause.event {
        return stop(format!("the event is {}, not {}", known.event, cause.event), {
            format!("事件是「{}」，不是「{}」", named(vocabulary, &known.event), named(vocabulary, &cause.event))
        });
    }
    if rule.effective_from.is_some_and(|from| known.time < from) || rule.effective_to.is_some_and(|to| known.time >= to)
    {
        return stop("the rule was not in effect at that time".into(), "規則當時並未生效".into());
    }
    if !cause.from.contains(&lineage.department) {
        let from = list(cause.from.iter());
        let who = &lineage.department;
        return stop(
            format!("{who} is not one of the trusted issuers ({from})"),
            format!("{who} 不是可信的發出部門（{from}）"),
        );
    }
    if !cause.messages.contains(&known.message) {
        return stop(
            format!("the message type is {}, the rule reads {}", known.message, list(cause.messages.iter())),
            format!("訊息類別是 {}，規則只讀取 {}", known.message, list(cause.messages.iter())),
        );
    }
    if let Some(want) = &cause.certainty
        && (known.certainties.is_empty() || !known.certainties.iter().all(|is| want.contains(is)))
    {
        let (is, want) = (list(known.certainties.iter()), list(want.iter()));
        return stop(
            format!("the certainty is {is}, the rule needs {want}"),
            format!("確定程度是 {is}，規則要求 {want}"),
        );
    }
    if let Some(least) = cause.level_min {
        match known.level {
            Some(level) if level >= least => {}
            Some(level) => {
                return stop(
                    format!("the level is {level}, the rule needs {least} or above"),
                    format!("級別是 {level}，規則要求 {least} 或以上"),
                );
            }
            None => {
                return stop(
                    format!("the message gives no level, the rule needs {least} or above"),
                    format!("訊息沒有級別，規則要求 {least} 或以上"),
                );
            }
        }
    }
    if let Some(want) = &cause.urgency
        && (known.urgencies.is_empty() || !known.urgencies.iter().all(|is| want.contains(is)))
    {
        let (is, want) = (list(known.urgencies.iter()), list(want.iter()));
        return stop(
            format!("the urgency is {is}, the rule needs {want}"),
            format!("緊急程度是 {is}，規則要求 {want}"),
        );
    }
    if let Some(want) = &cause.signals
        && !known.signal.as_ref().is_some_and(|signal| want.contains(signal))
    {
        let is = known.signal.as_deref().unwrap_or("none");
        return stop(
            format!("the signal is {is}, the rule needs one of {}", list(want.iter())),
            format!("信號是 {}，規則要求 {} 其中之一", known.signal.as_deref().unwrap_or("（無）"), list(want.iter())),
        );
    }
    Ok(())
}

/// The run-time guard of cascades; the static one is `cycles`.
pub(super) fn guard(active: &Active, known: &Known) -> Result<(), Sentence> {
    if known.rules.contains(&active.rule.id) {
        return Err(Sentence::new("the rule already stands behind this cause", "此原因本身源自這項規則"));
    }
    let most = active.rule.cause.depth_max.min(DEPTH_MAX - 1);
    if known.depth > most {
        let depth = known.depth;
        return Err(Sentence::new(
            format!("{depth} rules stand behind this cause, at most {most} may"),
            format!("此原因之前已有 {depth} 項規則，上限是 {most} 項"),
        ));
    }
    Ok(())
}

pub(super) fn nothing_picked(pick: &Pick) -> Sentence {
    let set = &pick.targets;
    match pick.within_m {
        Some(metres) => Sentence::new(
            format!("no target of {set} lies within {metres} m of the area"),
            format!("{set} 沒有目標位於範圍 {metres} 米內"),
        ),
        None => Sentence::new(format!("no target of {set} is concerned"), format!("{set} 沒有相關目標")),
    }
}

/// Each value once, in order.
fn each<T: Ord>(values: impl Iterator<Item = T>) -> Box<[T]> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

fn known(
    input: &Input<'_>,
    alert: &Alert,
    own: AlertId,
    words: &Classification,
    event: &str,
    before: Option<&Known>,
) -> Known {
    let likely = |certainty: Certainty| if certainty == Certainty::VeryLikely { Certainty::Likely } else { certainty };
    let mut areas: Vec<Area> = Vec::new();
    for area in alert.infos.iter().flat_map(|info| &info.areas) {
        // Each language repeats the shapes under its own description; one copy is enough to measure from.
        let same = |a: &Area| a.polygons == area.polygons && a.circles == area.circles && a.geocodes == area.geocodes;
        if !areas.iter().any(same) {
            areas.push(area.clone());
        }
    }
    let mut ids = before.map(|known| known.ids.to_vec()).unwrap_or_default();
    ids.retain(|id| *id != own);
    ids.push(own.clone());
    ids.drain(..ids.len().saturating_sub(MESSAGES_MAX));
    let urgencies = each(alert.infos.iter().map(|info| info.urgency));
    let same = |before: &&Known| {
        let words = before.level == words.level && before.signal == words.signal;
        words && before.event == event && (before.urgencies == urgencies || before.since.is_none())
    };
    let since = before.filter(same).map_or_else(|| clamped(input), Known::since);
    let mut authors: BTreeSet<String> = before.iter().flat_map(|known| known.authors.iter().cloned()).collect();
    authors.extend(input.author.clone());
    let mut rules = before.map(|known| known.rules.to_vec()).unwrap_or_default();
    join_rules(&mut rules, &input.rules);
    Known {
        ids: ids.into(),
        cause: Cause { hash: input.hash, alert: own, origin: input.origin.clone() },
        message: alert.msg_type,
        event: event.into(),
        level: words.level,
        signal: words.signal.clone(),
        since: Some(since),
        urgencies,
        severities: each(alert.infos.iter().map(|info| info.severity)),
        certainties: each(alert.infos.iter().map(|info| likely(info.certainty))),
        areas: areas.into(),
        sites: words.sites.clone().into(),
        time: clamped(input),
        expires: alert.expires(),
        expired: false,
        depth: before.map_or(input.depth, |known| known.depth.max(input.depth)),
        rules: rules.into(),
        authors: authors.into_iter().collect(),
    }
}

impl Known {
    /// Since when it says what it says, whatever updates repeated it.
    pub(super) fn since(&self) -> Timestamp {
        self.since.unwrap_or(self.time)
    }
}

/// The cause of an alert that is not stored: for `explain`.
pub(super) fn known_of(input: &Input<'_>, alert: &Alert, words: &Classification) -> Known {
    known(input, alert, alert.id(), words, words.event.as_deref().unwrap_or("unclassified"), None)
}

/// Whether every info says that the danger is over.
fn all_clear(alert: &Alert) -> bool {
    !alert.infos.is_empty() && alert.infos.iter().all(|info| info.response_types.contains(&ResponseType::AllClear))
}

fn named<'a>(vocabulary: &'a campanile_alert::Vocabulary, event: &'a str) -> &'a str {
    vocabulary.event(event).map_or(event, |event| event.names.zh_hant.as_str())
}

pub(super) fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
