//! Checks and resolves what a rule issues: its words, its texts, its validity, and what gives way to it.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Certainty, ResponseType, Severity, Urgency};
use serde_saphyr::Location;

use super::rule::{roles, source, transpose};
use super::{Check, Scope, place};
use crate::condition::Condition;
use crate::document::{AbsentDoc, RuleDoc, SuppressDoc, ThenDoc, Word};
use crate::pack::Absent;
use crate::{Sentence, Suppression, Text, Then, Validity};

impl Check {
    /// Whether the pack's owner may issue an event.
    pub(super) fn issued(&mut self, issue: &str, at: Location, scope: &Scope<'_>) {
        let events: Vec<&str> = self.vocabulary.events().map(|event| event.code.as_str()).collect();
        let Some(event) = self.vocabulary.event(issue) else {
            let help = crate::diagnostic::nearest(issue, events.iter().copied())
                .map_or_else(|| format!("known are {}", events.join(", ")), |near| format!("did you mean `{near}`?"));
            return self.report(at, "E002", format!("there is no event `{issue}`"), Some(help));
        };
        if !event.effect {
            self.report(at, "E010", format!("{} is not something that rules issue", event.code), None);
        } else if let Some(owner) = scope.owner.as_ref().filter(|owner| !event.owners.contains(owner)) {
            let owners: Vec<&str> = event.owners.iter().map(|owner| owner.as_str()).collect();
            let help = format!("it belongs to {}", owners.join(", "));
            self.report(at, "E010", format!("{owner} may not issue {}", event.code), Some(help));
        }
    }

    pub(super) fn then(
        &mut self,
        doc: &ThenDoc,
        rule: &RuleDoc,
        issues: &BTreeSet<String>,
        scope: &Scope<'_>,
    ) -> Option<Then> {
        let picks = rule.pick.is_some();
        match (&doc.issue, &rule.table) {
            (Some(word), None) => self.issued(&word.value, word.referenced, scope),
            (Some(word), Some(_)) => self.word(word, "E005", "the rows of the table say what is issued", None),
            (None, None) => self.report(place(rule), "E005", "`then` does not say what it issues", None),
            (None, Some(_)) => {}
        }
        let area = match scope.document.areas.get(&doc.area.value) {
            Some(area) if !picks => Some(self.area(area)),
            Some(_) | None => {
                let fixed = if picks { "target.site" } else { "cause.area" };
                let mut allowed = vec![fixed];
                allowed.extend(scope.document.areas.keys().map(String::as_str).filter(|_| !picks));
                self.fixed(&doc.area, "area", &allowed);
                None
            }
        };
        if let Some(word) = &doc.per {
            self.fixed(word, "per", if picks { &["target"] } else { &["cause"] });
        }
        let severity = self.code(&doc.severity, "severity", Severity::ALL, Severity::as_cap);
        let urgency = doc
            .urgency
            .as_ref()
            .map_or(Some(Urgency::Immediate), |word| self.code(word, "urgency", Urgency::ALL, Urgency::as_cap));
        // What a department has decided is so: it is Observed unless the rule says otherwise.
        let certainty = doc
            .certainty
            .as_ref()
            .map_or(Some(Certainty::Observed), |word| self.code(word, "certainty", Certainty::ALL, Certainty::as_cap));
        let mut responses = Vec::new();
        for word in &doc.response {
            responses.extend(self.code(word, "response", ResponseType::ALL, ResponseType::as_cap));
        }
        let draft = match &doc.status {
            Some(word) if word.value == "Actual" => {
                let help = "leave `status` out: an effect takes the status of its causes".to_string();
                let message = "the rule could turn an exercise into something real";
                self.word(word, "E040", message, Some(help));
                false
            }
            Some(word) => self.fixed(word, "status", &["Draft"]),
            None => false,
        };
        if draft && doc.to.is_empty() {
            self.report(place(rule), "E072", "a draft is put to nobody", Some("name roles in `to: […]`".into()));
        }
        let next = doc.next.as_ref().and_then(|next| Some((self.seconds(&next.after)?, roles(&next.to))));
        let texts = self.texts_by_issue(doc, rule, issues, scope);
        Some(Then {
            issue: doc.issue.as_ref().map(|word| word.value.clone()).unwrap_or_default(),
            draft,
            to: roles(&doc.to),
            next,
            severity: severity?,
            urgency: urgency?,
            certainty: certainty?,
            responses,
            area: transpose(area)?,
            texts: texts?,
            validity: self.validity(doc),
        })
    }

    fn texts_by_issue(
        &mut self,
        doc: &ThenDoc,
        rule: &RuleDoc,
        issues: &BTreeSet<String>,
        scope: &Scope<'_>,
    ) -> Option<BTreeMap<String, Vec<(String, Text)>>> {
        let mut out = BTreeMap::new();
        for (issue, word) in doc.texts.iter().filter(|(issue, _)| !issues.contains(*issue)) {
            self.word(word, "E004", format!("the rule does not issue `{issue}`"), None);
        }
        for issue in issues {
            let Some(word) = doc.texts.get(issue).or(doc.text.as_ref()) else {
                let message = format!("no text is named for {issue}");
                self.report(place(rule), "E091", message, Some("add `text: NAME` to `then`".into()));
                return None;
            };
            let Some(texts) = scope.document.texts.get(&word.value) else {
                let known: Vec<&str> = scope.document.texts.keys().map(String::as_str).collect();
                let help = format!("the pack has {}", known.join(", "));
                self.word(word, "E004", format!("there is no text `{}`", word.value), Some(help));
                return None;
            };
            // The same text for two issues is checked once.
            let found = self.found.len();
            let written =
                self.texts(texts, rule.pick.is_some(), rule.table.is_some() && !scope.document.kinds.is_empty());
            if out.values().any(|other| *other == written) {
                self.found.truncate(found);
            }
            out.insert(issue.clone(), written);
        }
        Some(out)
    }

    fn validity(&mut self, doc: &ThenDoc) -> Validity {
        let not_after = doc.not_after.as_ref().and_then(|word| {
            let time = word.value.parse::<jiff::civil::Time>().ok();
            if time.is_none() {
                let help = Some("write for example \"23:00\"".to_string());
                self.word(word, "E003", format!("`{}` is not a time of day", word.value), help);
            }
            time
        });
        let while_cause = doc.valid_while.as_ref().is_some_and(|word| self.fixed(word, "valid-while", &["cause live"]));
        let repeat_s = doc.repeat_every.as_ref().and_then(|word| {
            let seconds = self.seconds(word)?;
            if seconds < 60 {
                self.word(word, "E003", "`repeat-every` is at least 1m", None);
            }
            Some(seconds)
        });
        Validity { not_after, while_cause, repeat_s }
    }

    pub(super) fn absent(&mut self, doc: &AbsentDoc) -> Option<Absent> {
        self.fixed(&doc.record, "record", &["delivery-report"]);
        if let Some(word) = &doc.area {
            self.fixed(word, "area", &["overlaps-cause"]);
        }
        if let Some(word) = &doc.reached {
            self.fixed(word, "reached", &["handed"]);
        }
        let mut from = BTreeSet::new();
        for word in &doc.from {
            from.extend(self.department(word));
        }
        if doc.from.is_empty() {
            self.word(&doc.record, "E003", "`from` names nobody who should have spoken", None);
        }
        Some(Absent { from, within_s: self.seconds(&doc.within)? })
    }

    /// The one line of `only-if`.
    pub(super) fn condition(&mut self, word: &Word, rule: &RuleDoc, scope: &Scope<'_>) -> Option<Condition> {
        let params = scope.document.params.keys().cloned().collect();
        let condition = match Condition::parse(&word.value, &params) {
            Ok(condition) => condition,
            Err(refused) => {
                self.inside(word, refused.column, refused.code, format!("only-if: {}", refused.message), refused.help);
                return None;
            }
        };
        if condition.looks_at_nothing() {
            self.word(word, "W033", "only-if looks at nothing, so it is always the same", Some("remove it".into()));
        }
        if condition.looks_at("target") && rule.pick.is_none() {
            self.word(word, "E004", "only-if looks at `target`, and the rule picks none", Some("add `pick:`".into()));
        }
        if condition.looks_at("session") && rule.table.is_none() {
            self.word(word, "E004", "only-if looks at `session`, and the rule has no table", None);
        }
        Some(condition)
    }

    /// A rule that makes one effect give way to another.
    pub(super) fn suppression(&mut self, rule: &RuleDoc, doc: &SuppressDoc, scope: &Scope<'_>) -> Option<Suppression> {
        let id = &rule.rule;
        if rule.cause.is_some() || rule.then.is_some() || rule.table.is_some() || rule.until.is_some() {
            let help = "keep `title`, `source`, `effective`, `suppress` and `on-suppress`".to_string();
            self.word(id, "E005", "a rule with `suppress` issues nothing itself", Some(help));
        }
        for word in [&doc.effect, &doc.during.effect] {
            self.issued(&word.value, word.referenced, scope);
        }
        if doc.effect.value == doc.during.effect.value {
            let help = "name two different effects".to_string();
            self.word(&doc.effect, "E033", "an effect cannot give way to itself", Some(help));
        }
        for word in &doc.same {
            self.fixed(word, "same", &["area", "session", "target"]);
        }
        if !doc.same.iter().any(|word| word.value == "session" || word.value == "target") {
            let help = "write `same: [target]` or `same: [area, session]`".to_string();
            self.word(&doc.effect, "E005", "`same` does not say what must be the same", Some(help));
        }
        for word in doc.during.kinds.iter().filter(|word| !scope.document.kinds.contains_key(&word.value)) {
            self.word(word, "E004", format!("there is no kind `{}`", word.value), None);
        }
        let supersede = match &rule.on_suppress {
            Some(word) => self.fixed(word, "on-suppress", &["supersede", "mute"]) && word.value == "supersede",
            None => {
                self.word(id, "E005", "`on-suppress` is missing", Some("write supersede or mute".into()));
                return None;
            }
        };
        Some(Suppression {
            id: id.value.clone(),
            title: Sentence::new(rule.title.en.as_str(), rule.title.zh_hant.as_str()),
            sources: rule.source.iter().map(source).collect(),
            effect: doc.effect.value.clone(),
            during: doc.during.effect.value.clone(),
            kinds: doc.during.kinds.iter().map(|word| word.value.clone()).collect(),
            supersede,
        })
    }
}
