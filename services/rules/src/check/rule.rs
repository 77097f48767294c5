//! Checks and resolves one rule of a pack.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Certainty, MessageType, Urgency};

use super::{Check, Scope, message_type, place};
use crate::document::{ApproveDoc, CauseDoc, EnvelopeDoc, LevelDoc, PickDoc, RuleDoc, SourceDoc, UntilDoc, Word};
use crate::{
    AfterLinger, Approve, CauseMatch, ColumnMatch, Conflict, DEPTH_MAX, EnvelopeRule, Escalation, IfSilent, Limit,
    Pick, Rule, Sentence, Silence, Source, Until,
};

impl Check {
    /// The rule, or `None` after at least one finding that is an error.
    pub(super) fn rule(&mut self, doc: &RuleDoc, scope: &Scope<'_>, digest: [u8; 32]) -> Option<Rule> {
        let id = &doc.rule;
        self.identity(doc, scope);
        let (effective_from, effective_to) =
            doc.effective.as_ref().map_or((None, None), |period| self.period(period, scope.offset_minutes));
        let (Some(cause_doc), Some(then_doc)) = (&doc.cause, &doc.then) else {
            let help = "write `cause:` and `then:`, or `suppress:`".to_string();
            self.report(place(doc), "E005", format!("rule {} has no cause or issues nothing", id.value), Some(help));
            return None;
        };
        if doc.on_suppress.is_some() {
            self.report(place(doc), "E005", "`on-suppress` belongs to a rule with `suppress`", None);
        }
        let hold_s = doc.hold.as_ref().map_or(Some(0), |word| self.seconds(word));
        let cause = self.cause(cause_doc, scope);
        let longest = self.vocabulary.expires_max(Some(&cause_doc.event.value)).as_secs();
        if let (Some(word), Some(hold_s)) = (&doc.hold, hold_s.filter(|hold_s| *hold_s > longest)) {
            let message =
                format!("held for {} h it never fires: such an alert lives {} h", hold_s / 3600, longest / 3600);
            self.word(word, "W090", message, Some("shorten `hold`".into()));
        }
        let absent = doc.absent.as_ref().map(|absent| self.absent(absent));
        let table = match (&doc.table, &cause) {
            (Some(table), Some(cause)) => Some(self.table(table, doc, cause, scope)),
            (Some(_), None) => Some(None),
            (None, _) => None,
        };
        let pick = doc.pick.as_ref().map(|pick| self.pick(pick, scope));
        let only_if = doc.only_if.as_ref().map(|word| self.condition(word, doc, scope));
        let issues: BTreeSet<String> = match (&table, &then_doc.issue) {
            (Some(Some(table)), _) => table.issues().into_iter().map(String::from).collect(),
            (Some(None), _) => BTreeSet::new(),
            (None, issue) => issue.iter().map(|word| word.value.clone()).collect(),
        };
        let then = self.then(then_doc, doc, &issues, scope);
        let envelope = doc.envelope.as_ref().map(|envelope| self.envelope(envelope, scope));
        let approve = self.approve(doc);
        let until = self.until(doc, &issues);
        let conflict = doc.conflict.as_ref().map(|conflict| {
            self.event(&conflict.with);
            if !issues.iter().any(|issue| self.vocabulary.antonyms(issue, &conflict.with.value)) {
                let issued: Vec<&str> = issues.iter().map(String::as_str).collect();
                let message = format!("`{}` is no antonym of {}", conflict.with.value, issued.join(", "));
                self.word(&conflict.with, "E002", message, None);
            }
            if let Some(word) = &conflict.meanwhile {
                self.fixed(word, "meanwhile", &["keep-both-shown"]);
            }
            Conflict { with: conflict.with.value.clone(), ask: conflict.ask.value.clone() }
        });
        if let Some(merge) = &doc.merge {
            let words = [("severity", &merge.severity, "max"), ("area", &merge.area, "union")];
            for (field, word, allowed) in words {
                if let Some(word) = word {
                    self.fixed(word, field, &[allowed]);
                }
            }
            self.fixed(&merge.end, "end", &["all-causes-ended"]);
            let key: Vec<&str> = merge.key.iter().map(|word| word.value.as_str()).collect();
            if !key.is_empty() && key != ["rule", "effect", "target"] {
                let at = merge.key.first().map_or(place(doc), |word| word.referenced);
                self.report(at, "E003", "`key` is [rule, effect, target]", None);
            }
        }
        let limit = doc.limit.as_ref().map(|limit| {
            let per_s = self.seconds(&limit.per);
            self.fixed(&limit.over, "over", &["hold-and-page"]);
            let count = limit.at_most.value.strip_suffix(" batches").and_then(|count| count.parse::<usize>().ok());
            if count.is_none_or(|count| count == 0 || count > 1_000) {
                let help = "write for example 5 batches".to_string();
                self.word(&limit.at_most, "E003", "`at-most` is 1 to 1000 batches", Some(help));
            }
            Some(Limit { per_s: per_s?, batches_max: count? })
        });
        let answerable = approve.as_ref().is_some_and(|approve| !approve.by.is_empty())
            || envelope.iter().flatten().any(|envelope: &EnvelopeRule| !envelope.by.is_empty());
        if (doc.limit.is_some() || doc.envelope.is_some()) && !answerable {
            let help = "name roles in `approve: {by: […]}`".to_string();
            self.report(place(doc), "E072", "over its limits the rule must ask someone, and names nobody", Some(help));
        }
        // `Some(None)` is a part that was given and found wrong: it is reported, and the rule cannot be used.
        Some(Rule {
            id: id.value.clone(),
            title: Sentence::new(doc.title.en.as_str(), doc.title.zh_hant.as_str()),
            sources: doc.source.iter().map(source).collect(),
            effective_from,
            effective_to,
            cause: cause?,
            hold_s: hold_s?,
            absent: transpose(absent)?,
            table: transpose(table)?,
            pick: transpose(pick)?,
            only_if: transpose(only_if)?,
            then: then?,
            envelope: transpose(envelope)?,
            approve: approve?,
            conflict,
            until: until?,
            limit: transpose(limit)?,
            digest,
        })
    }

    fn cause(&mut self, doc: &CauseDoc, scope: &Scope<'_>) -> Option<CauseMatch> {
        let known = self.event(&doc.event);
        let event = self.vocabulary.event(&doc.event.value);
        let mut from = BTreeSet::new();
        for word in &doc.from {
            let Some(department) = self.department(word) else { continue };
            if let Some(event) = event.filter(|event| !event.owners.contains(&department)) {
                let owners: Vec<&str> = event.owners.iter().map(|owner| owner.as_str()).collect();
                let message = format!("{department} may not issue {}, so it is no cause to trust", event.code);
                self.word(word, "E011", message, Some(format!("it belongs to {}", owners.join(", "))));
            }
            from.insert(department);
        }
        if doc.from.is_empty() {
            self.word(&doc.event, "E003", "`from` names no trusted issuer", None);
        }
        let certainty = doc.certainty.as_ref().map(|words| self.certainties(words));
        let urgency = doc.urgency.as_ref().map(|words| {
            let found = words.iter().filter_map(|word| self.code(word, "urgency", Urgency::ALL, Urgency::as_cap));
            found.collect::<BTreeSet<Urgency>>()
        });
        let level_min = doc.level.as_ref().map(|level| {
            let scale = event.and_then(|event| event.scale.as_deref());
            match &level.scale {
                Some(word) => {
                    let scales: Vec<&str> = self.vocabulary.scales().map(|scale| scale.id.as_str()).collect();
                    if self.known(word, "scale", scales.iter().copied()) && scale != Some(word.value.as_str()) {
                        let help = scale.map(|scale| format!("its scale is {scale}"));
                        let message = format!("`{}` is not the scale of {}", word.value, doc.event.value);
                        self.word(word, "E002", message, help);
                    }
                }
                None => self.word(&level.at_least, "E005", "the `scale` of the level is missing", None),
            }
            self.level(level, scope, scale)
        });
        let signals = doc.signal.as_ref().map(|words| {
            if let Some(event) = event.filter(|event| !event.carries_signal) {
                self.word(&doc.event, "E002", format!("{} carries no signal", event.code), None);
            }
            if words.is_empty() {
                self.word(&doc.event, "W033", "`signal` is empty, so the rule never matches", None);
            }
            words.iter().flat_map(|word| self.signal(word)).collect::<BTreeSet<String>>()
        });
        let mut messages: BTreeSet<MessageType> = BTreeSet::new();
        for word in doc.msg.iter().flatten() {
            if self.fixed(word, "msg", &["Alert", "Update"]) {
                messages.extend(message_type(&word.value));
            }
        }
        if messages.is_empty() {
            messages = [MessageType::Alert, MessageType::Update].into();
        }
        let depth = doc.chain.as_ref().map(|chain| &chain.depth_at_most);
        if let Some(word) = depth.filter(|depth| depth.value >= DEPTH_MAX) {
            self.word(word, "E003", format!("a cause may be at most {} deep", DEPTH_MAX - 1), None);
        }
        known.then_some(CauseMatch {
            event: doc.event.value.clone(),
            from,
            certainty,
            level_min: transpose(level_min)?,
            urgency,
            signals,
            messages,
            depth_max: depth.map_or(DEPTH_MAX - 1, |depth| depth.value.min(DEPTH_MAX - 1)),
        })
    }

    fn certainties(&mut self, words: &[Word]) -> BTreeSet<Certainty> {
        let mut out = BTreeSet::new();
        for word in words {
            let certainty = self.code(word, "certainty", Certainty::ALL, Certainty::as_cap);
            out.extend(certainty.map(|c| if c == Certainty::VeryLikely { Certainty::Likely } else { c }));
        }
        out
    }

    fn signal(&mut self, word: &Word) -> Vec<String> {
        let vocabulary = self.vocabulary;
        let names: Vec<&str> = vocabulary
            .signals()
            .map(|signal| signal.code.as_str())
            .chain(vocabulary.groups().map(|group| group.code.as_str()))
            .collect();
        self.known(word, "signal", names.iter().copied());
        vocabulary.expand(&word.value).into_iter().map(String::from).collect()
    }

    /// A level: a number, or `params.` and a name.
    fn level(&mut self, doc: &LevelDoc, scope: &Scope<'_>, scale: Option<&str>) -> Option<u32> {
        let word = &doc.at_least;
        let level = match word.value.strip_prefix("params.") {
            Some(name) => {
                let params = &scope.document.params;
                let level = params.get(name).copied();
                if level.is_none() {
                    let known: Vec<&str> = params.keys().map(String::as_str).collect();
                    let help = match known.is_empty() {
                        true => format!("add `params: {{{name}: 3}}` to the pack"),
                        false => format!("the pack has {}", known.join(", ")),
                    };
                    self.word(word, "E004", format!("there is no parameter `{name}`"), Some(help));
                }
                level
            }
            None => {
                let level = word.value.parse::<u32>().ok();
                if level.is_none() {
                    let help = "write a number, or params. and a name".to_string();
                    self.word(word, "E003", format!("`{}` is not a level", word.value), Some(help));
                }
                level
            }
        };
        let scale = scale.and_then(|scale| self.vocabulary.scale(scale));
        if let (Some(level), Some(scale)) = (level, scale)
            && scale.level(level).is_none()
        {
            let values: Vec<String> = scale.levels.iter().map(|level| level.value.to_string()).collect();
            let help = format!("it has {}", values.join(", "));
            self.word(word, "E002", format!("scale {} has no level {level}", scale.id), Some(help));
        }
        level
    }

    fn pick(&mut self, doc: &PickDoc, scope: &Scope<'_>) -> Option<Pick> {
        let sets: Vec<&str> = scope.document.data.keys().map(String::as_str).collect();
        if !sets.contains(&doc.targets.value.as_str()) {
            let help = format!("the pack has {}", sets.join(", "));
            self.word(&doc.targets, "E004", format!("there is no data set `{}`", doc.targets.value), Some(help));
        }
        let within_m = doc.within.as_ref().map(|word| self.metres(word));
        if within_m.is_none() && doc.columns.is_empty() {
            let help = "add `within: 500m` or `where: {column: value}`".to_string();
            self.word(&doc.targets, "E003", "the rule would concern every target", Some(help));
        }
        let column = |word: &Word| match word.value.as_str() {
            "cause.site" => ColumnMatch::CauseSite,
            text => ColumnMatch::Text(text.into()),
        };
        let columns: BTreeMap<String, ColumnMatch> =
            doc.columns.iter().map(|(name, word)| (name.clone(), column(word))).collect();
        let at_most = doc.at_most.as_ref().map(|word| word.value);
        if let Some(word) = doc.at_most.as_ref().filter(|word| word.value == 0) {
            self.word(word, "E003", "`at-most` is at least 1", None);
        }
        Some(Pick { targets: doc.targets.value.clone(), within_m: transpose(within_m)?, columns, at_most })
    }

    fn envelope(&mut self, doc: &EnvelopeDoc, scope: &Scope<'_>) -> Option<EnvelopeRule> {
        let level_min = doc.when.level.as_ref().map(|level| self.level(level, scope, None));
        let certainty = doc.when.certainty.as_ref().map(|words| self.certainties(words));
        let conflict_none = doc.when.conflict.as_ref().is_some_and(|word| self.fixed(word, "conflict", &["none"]));
        let (from, to) = self.period(&doc.valid, scope.offset_minutes);
        if from.is_none() || to.is_none() {
            let at = doc.signed_by.need.referenced;
            self.report(at, "E003", "the envelope needs `valid: {from: …, to: …}`", None);
        }
        if doc.signed_by.need.value == 0 || doc.signed_by.by.is_empty() {
            let help = "name at least one person's role".to_string();
            self.word(&doc.signed_by.need, "E072", "nobody signs the envelope", Some(help));
        }
        Some(EnvelopeRule {
            certainty,
            level_min: transpose(level_min)?,
            sites_max: doc.when.sites.as_ref().map(|sites| sites.at_most),
            conflict_none,
            from: from?,
            to: to?,
            need: doc.signed_by.need.value,
            by: roles(&doc.signed_by.by),
        })
    }

    fn approve(&mut self, rule: &RuleDoc) -> Option<Approve> {
        let Some(doc) = &rule.approve else {
            let help = "write `approve: {need: 2, by: […], …}`, or `{need: 0, reason: …}`".to_string();
            let message = format!("rule {} does not say who approves", rule.rule.value);
            self.report(place(rule), "E072", message, Some(help));
            return None;
        };
        if doc.need.value == 0 {
            if doc.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
                let help = "add `reason: …`, or ask someone".to_string();
                self.word(&doc.need, "E072", "nobody is asked, and no `reason` is given", Some(help));
            }
        } else if doc.by.is_empty() {
            self.word(&doc.need, "E072", "`by` names no role", None);
        }
        for word in &doc.apart_from {
            self.fixed(word, "apart-from", &["author"]);
        }
        let silence = self.silence(doc.within.as_ref(), doc.if_silent.as_ref(), doc.because.as_ref(), true)?;
        let escalates = matches!(silence.as_ref().map(|silence| &silence.then), Some(IfSilent::Escalate));
        let escalation = match &doc.otherwise {
            Some(other) => {
                let then =
                    self.silence(other.within.as_ref(), other.if_silent.as_ref(), other.because.as_ref(), false)?;
                if other.notify.is_empty() {
                    self.word(&doc.need, "E072", "`else` notifies nobody", None);
                }
                Some(Escalation { notify: roles(&other.notify), silence: then })
            }
            None => None,
        };
        if escalates != escalation.is_some() {
            self.escalation_mismatch(doc);
        }
        Some(Approve {
            need: doc.need.value,
            by: roles(&doc.by),
            apart_from_author: !doc.apart_from.is_empty(),
            silence,
            escalation,
        })
    }

    fn escalation_mismatch(&mut self, doc: &ApproveDoc) {
        let help = "write both, or neither".to_string();
        let at = doc.if_silent.as_ref().map_or(doc.need.referenced, |word| word.referenced);
        self.report(at, "E003", "`if-silent: escalate` and `else` belong together", Some(help));
    }

    /// What silence leads to; `None` after an error, `Some(None)` when nothing is said about it.
    fn silence(
        &mut self,
        within: Option<&Word>,
        if_silent: Option<&Word>,
        because: Option<&String>,
        may_escalate: bool,
    ) -> Option<Option<Silence>> {
        let (within, if_silent) = match (within, if_silent) {
            (None, None) => return Some(None),
            (Some(within), Some(if_silent)) => (within, if_silent),
            (Some(word), None) | (None, Some(word)) => {
                self.word(word, "E005", "`within` and `if-silent` belong together", None);
                return None;
            }
        };
        let allowed: &[&str] = if may_escalate { &["hold", "escalate", "issue"] } else { &["hold", "issue"] };
        let fits = self.fixed(if_silent, "if-silent", allowed);
        let then = match (if_silent.value.as_str(), because) {
            ("escalate", _) => IfSilent::Escalate,
            ("issue", Some(because)) if !because.trim().is_empty() => IfSilent::Issue { because: because.clone() },
            ("issue", _) => {
                let help = "add `because: …`".to_string();
                self.word(if_silent, "E071", "silence issues, and no reason is given", Some(help));
                return None;
            }
            _ => IfSilent::Hold,
        };
        let within_s = self.seconds(within)?;
        fits.then_some(Some(Silence { within_s, then }))
    }

    fn until(&mut self, rule: &RuleDoc, issues: &BTreeSet<String>) -> Option<Until> {
        let missing = |check: &mut Self| {
            let help = "add `until: {cause: ends, …, max: 24h}`".to_string();
            let message = format!("rule {} has no end", rule.rule.value);
            check.report(place(rule), "E070", message, Some(help));
        };
        let Some(doc) = &rule.until else {
            missing(self);
            return None;
        };
        let UntilDoc { cause, linger, then, latch, max } = doc;
        self.fixed(cause, "cause", &["ends"]);
        let linger_s = linger.as_ref().map_or(Some(0), |word| self.seconds(word));
        let then = match then {
            Some(word) => self.fixed(word, "then", &["cancel", "review"]).then_some(word.value.as_str()),
            // What stays to the end of its session ends by itself.
            None if latch.is_some() => Some("cancel"),
            None => {
                self.word(cause, "E005", "`until` does not say what happens `then`: cancel or review", None);
                None
            }
        };
        let Some(max) = max else {
            missing(self);
            return None;
        };
        let max_s = self.seconds(max).filter(|seconds| *seconds > 0);
        if max_s.is_none() {
            self.word(max, "E070", "`max` must be more than zero", None);
        }
        if let Some(latch) = latch {
            self.fixed(&latch.after, "after", &["session.resume-by"]);
            self.fixed(&latch.to, "to", &["session.ends"]);
            if rule.table.is_none() {
                self.word(&latch.after, "E005", "`latch` belongs to a table that decides per session", None);
            }
        }
        let ceilings = issues.iter().map(|issue| self.vocabulary.expires_max(Some(issue)).as_secs());
        let ceiling = ceilings.min().unwrap_or(i64::MAX);
        if max_s.is_some_and(|max_s| max_s > ceiling) {
            let help = format!("at most {} h", ceiling / 3600);
            let message = "`max` is beyond what the vocabulary admits for what is issued".to_string();
            self.word(max, "E070", message, Some(help));
        }
        let then = if then? == "cancel" { AfterLinger::Cancel } else { AfterLinger::Review };
        Some(Until { linger_s: linger_s?, then, latch: latch.is_some(), max_s: max_s? })
    }
}

pub(super) fn roles(words: &[Word]) -> BTreeSet<String> {
    words.iter().map(|word| word.value.clone()).collect()
}

/// Absent stays absent, found wrong becomes `None`.
pub(super) fn transpose<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        None => Some(None),
        Some(None) => None,
        Some(some) => Some(some),
    }
}

/// A citation.
pub(super) fn source(doc: &SourceDoc) -> Source {
    let copy = doc.file.clone().zip(doc.sha256.clone());
    Source { text: doc.text.clone(), url: doc.url.clone(), copy }
}
