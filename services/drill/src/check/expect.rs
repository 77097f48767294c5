//! Expectations: one moment, one claim, and every name in them.

use super::Check;
use crate::places::Step::{self, Element, Field};
use crate::scenario::{Claim, Deadline, Expect, Match};
use crate::world::Bench;

impl Check<'_> {
    pub(super) fn expect(&mut self, index: usize, expect: &Expect) {
        let path = [Field("expect"), Element(index)];
        let here = |field| [path[0], path[1], Field(field)];
        let claims = expect.claims();
        if claims.len() != 1 {
            let help = "write one of live, none, never, conflict, stale, pending, escalated, acks, count, sent, notice, same, frozen, judged-by";
            let message = format!("an expectation has one claim, not {}", claims.len());
            self.report(&path, "D010", message, Some(help.into()));
        }
        let moments = [expect.by.is_some(), expect.at.is_some(), expect.always, expect.never.is_some()];
        if moments.iter().filter(|given| **given).count() != 1 {
            let help = Some("write one of by, at, always, never".into());
            self.report(&path, "D010", "an expectation has one moment", help);
        }
        if expect.always && !matches!(claims.first(), Some(Claim::None(_) | Claim::Count(_)) | None) {
            let help = Some("write `none` or `count` with `always`, or give it a time".into());
            self.report(&here("always"), "D010", "this cannot be so from the first moment on", help);
        }
        for (field, due) in [("by", expect.by), ("at", expect.at)] {
            if let Some(Deadline::At(at)) = due
                && at > self.end
            {
                let message = format!("{at} is after the end of the drill, {}", self.end);
                self.report(&here(field), "D011", message, Some("move it, or `clock: end`".into()));
            }
        }
        match &expect.objective {
            Some(objective) => self.objective(&here("objective"), objective),
            None => {
                let help = Some("write `objective: O1`".into());
                self.report(&path, "D012", "the expectation belongs to no objective", help);
            }
        }
        if let Some(node) = &expect.node {
            self.node(&here("node"), node);
        }
        match (&expect.person, claims.first()) {
            (Some(person), Some(Claim::Acks(_))) => self.player(&here("person"), person),
            (None, Some(Claim::Acks(_))) => {
                let help = Some("write `person: edb.duty-officer`".into());
                self.report(&path, "D014", "it is not said who answers", help);
            }
            (Some(_), Some(_)) => {
                let help = Some("take it out".into());
                self.report(&here("person"), "D016", "only `acks` is about a person", help);
            }
            _ => {}
        }
        if let Some(&claim) = claims.first() {
            self.claim(&path, expect, claim);
        }
        if expect.judged_by.is_none() && (expect.question.is_some() || expect.scale.is_some()) {
            let help = Some("write `judged-by`, or take it out".into());
            self.report(&path, "D016", "a question and a scale are for an observer", help);
        }
    }

    fn claim(&mut self, path: &[Step<'_>; 2], expect: &Expect, claim: Claim<'_>) {
        let here = |field| [path[0], path[1], Field(field)];
        let inside = |field, inner| [path[0], path[1], Field(field), Field(inner)];
        match claim {
            Claim::Live(meant) => self.matched(&here("live"), meant),
            Claim::None(meant) => self.matched(&here("none"), meant),
            Claim::Never(meant) => self.matched(&here("never"), meant),
            Claim::Notice(meant) => self.matched(&here("notice"), meant),
            Claim::Conflict(conflict) => {
                for event in &conflict.between {
                    self.event(&inside("conflict", "between"), event);
                }
                if let Some(role) = &conflict.shown_to {
                    self.player(&inside("conflict", "shown-to"), role);
                }
            }
            Claim::Stale(stale) => {
                self.node(&inside("stale", "from"), &stale.from);
                if let Some(role) = &stale.shown_to {
                    self.player(&inside("stale", "shown-to"), role);
                }
            }
            Claim::Pending(pending) => {
                for (field, event) in [("effect", &pending.effect), ("review", &pending.review)] {
                    if let Some(event) = event {
                        self.event(&inside("pending", field), event);
                    }
                }
                if let Some(role) = &pending.to {
                    self.player(&inside("pending", "to"), role);
                }
            }
            Claim::Acks(acks) => {
                if let Some(inject) = &acks.inject {
                    self.named_inject(&inside("acks", "inject"), inject);
                }
                if acks.within.is_some_and(|within| within.ms() <= 0) {
                    let help = Some("write a length such as 5m".into());
                    self.report(&inside("acks", "within"), "D011", "nobody answers before having been asked", help);
                }
            }
            Claim::Count(count) => {
                if let Some(event) = &count.effect {
                    self.event(&inside("count", "effect"), event);
                }
                if let Some(inject) = &count.inject {
                    self.named_inject(&inside("count", "inject"), inject);
                }
                if count.is.or(count.at_most).or(count.at_least).is_none() {
                    let help = Some("write is, at-most or at-least".into());
                    self.report(&here("count"), "D010", "it is not said how many", help);
                }
                if expect.always && count.is.or(count.at_most).is_none() {
                    let help = Some("write at-most".into());
                    self.report(&here("count"), "D010", "at the first moment there are none", help);
                }
            }
            Claim::Sent(sent) => self.event(&inside("sent", "effect"), &sent.effect),
            Claim::Judged => {
                let observers: Vec<&str> = self.scenario.cast.observers.keys().map(String::as_str).collect();
                let who = expect.judged_by.as_deref().unwrap_or_default();
                self.known(&here("judged-by"), "D014", "observer", who, observers.into_iter());
                if expect.question.is_none() || expect.scale.is_none() {
                    let help = Some("write `question:` and `scale: 0-3`".into());
                    self.report(path, "D016", "the observer is not told what to judge", help);
                }
            }
            Claim::Escalated(_) | Claim::Same(_) | Claim::Frozen => {}
        }
    }

    pub(super) fn objective(&mut self, path: &[Step<'_>], id: &str) {
        let objectives: Vec<&str> = self.scenario.objectives.keys().map(String::as_str).collect();
        self.known(path, "D012", "objective", id, objectives.into_iter());
    }

    pub(super) fn matched(&mut self, path: &[Step<'_>], meant: &Match) {
        let here = |field| [path, &[Field(field)]].concat();
        if let Some(event) = &meant.effect {
            self.event(&here("effect"), event);
        }
        if let Some(from) = &meant.from {
            self.node(&here("from"), from);
        }
        for (field, inject) in
            meant.inject.iter().map(|i| ("inject", i)).chain(meant.chain.iter().flatten().map(|i| ("chain", i)))
        {
            self.named_inject(&here(field), inject);
        }
        if *meant == Match::default() {
            let help = Some("say what is meant: `{effect: class-suspension}`".into());
            self.report(path, "D010", "everything would fit", help);
        }
        if meant.at.is_none() && (meant.outside.is_some() || meant.unmarked) {
            let help = Some("write `at: gateway` beside it".into());
            self.report(path, "D016", "only a notice can be outside a sink or without marks", help);
        }
    }

    /// Every rule that is named is one of a pack.
    pub(super) fn rules(&mut self, bench: &Bench) {
        let rules: Vec<&str> = bench.rules().collect();
        let scenario = self.scenario;
        let mut named: Vec<(Vec<Step<'_>>, &str)> = Vec::new();
        for (index, expect) in scenario.expect.iter().enumerate() {
            let claims = [
                ("pending", expect.pending.as_ref().and_then(|claim| claim.rule.as_ref())),
                ("acks", expect.acks.as_ref().and_then(|claim| claim.rule.as_ref())),
                ("escalated", expect.escalated.as_ref().and_then(|claim| claim.rule.as_ref())),
                ("live", expect.live.as_ref().and_then(|meant| meant.rule.as_ref())),
                ("none", expect.none.as_ref().and_then(|meant| meant.rule.as_ref())),
                ("never", expect.never.as_ref().and_then(|meant| meant.rule.as_ref())),
            ];
            for (field, rule) in claims {
                let path = vec![Field("expect"), Element(index), Field(field), Field("rule")];
                named.extend(rule.map(|rule| (path, rule.as_str())));
            }
        }
        for (index, inject) in scenario.injects.iter().enumerate() {
            let path = vec![Field("injects"), Element(index), Field("rule")];
            named.extend(inject.rule.as_deref().map(|rule| (path, rule)));
        }
        for (role, player) in &scenario.cast.players {
            for (index, reaction) in player.script.iter().enumerate() {
                let path =
                    vec![Field("cast"), Field("players"), Field(role), Field("virtual"), Element(index), Field("rule")];
                named.extend(reaction.rule.as_deref().map(|rule| (path, rule)));
            }
        }
        for (path, rule) in named {
            self.known(&path, "D031", "rule", rule, rules.iter().copied());
        }
    }
}
