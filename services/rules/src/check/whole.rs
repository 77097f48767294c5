//! What is wrong between the rules of one pack.

use std::collections::BTreeSet;

use super::{Check, Scope, place};
use crate::document::{PackDoc, RuleDoc};
use crate::{Rule, Suppression};

impl Check {
    /// What a rule is called and rests on.
    pub(super) fn identity(&mut self, doc: &RuleDoc, scope: &Scope<'_>) {
        let id = &doc.rule;
        let prefix = scope.owner.as_ref().map(|owner| format!("{owner}."));
        if let Some(prefix) = prefix.filter(|prefix| !id.value.starts_with(prefix)) {
            let help = format!("begin it with `{prefix}`");
            self.word(id, "E012", format!("rule `{}` does not belong to the pack's owner", id.value), Some(help));
        }
        if doc.source.is_empty() {
            let help = "add `source: [{text: …, url: …}]`".to_string();
            self.report(place(doc), "E060", format!("rule {} cites no source", id.value), Some(help));
        }
    }

    /// Two effects of the pack that contradict each other need a word about which holds (E031).
    pub(super) fn together(&mut self, rules: &[Rule], suppressions: &[Suppression], document: &PackDoc) {
        let mut told: BTreeSet<(String, String)> = BTreeSet::new();
        for a in rules {
            for b in rules {
                for (x, y) in a.issues().into_iter().flat_map(|x| b.issues().into_iter().map(move |y| (x, y))) {
                    let declared =
                        |one: &str, other: &str| suppressions.iter().any(|s| s.effect == one && s.during == other);
                    let asked = |rule: &Rule, with: &str| rule.conflict.as_ref().is_some_and(|c| c.with == with);
                    let settled = declared(x, y) || declared(y, x) || asked(a, y) || asked(b, x);
                    let first = told.insert((x.min(y).into(), x.max(y).into()));
                    if x < y && self.vocabulary.antonyms(x, y) && !settled && first {
                        let Some(doc) = document.rules.iter().find(|doc| doc.rule.value == b.id) else { continue };
                        let message = format!("{x} and {y} contradict each other, and nothing says which holds");
                        let help = "add a rule with `suppress:`, or `conflict: {with: …, ask: …}`".to_string();
                        self.report(place(doc), "E031", message, Some(help));
                    }
                }
            }
        }
    }
}
