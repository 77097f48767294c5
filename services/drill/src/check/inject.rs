//! What is played, and what goes wrong.

use campanile_alert::{MessageType, Status};
use campanile_rules::short::{Frame, ShortAlert};

use super::Check;
use crate::places::Step::{self, Element, Field};
use crate::scenario::{Condition, Fault, Inject, Via};
use crate::time::Length;

/// The most alerts of one inject.
const TIMES_MAX: u32 = 10_000;

/// The most repetitions of a stuck sender.
const REPEAT_MAX: u32 = 100_000;

impl Check<'_> {
    pub(super) fn inject(&mut self, index: usize) {
        let scenario = self.scenario;
        let Some(inject) = scenario.injects.get(index) else { return };
        let path = [Field("injects"), Element(index)];
        if scenario.injects.iter().take(index).any(|before| before.id == inject.id) {
            let message = format!("two injects are named {}", inject.id);
            self.report(&[path[0], path[1], Field("id")], "D004", message, Some("rename one".into()));
        }
        self.one_inject(&path, inject);
    }

    pub(super) fn one_inject(&mut self, path: &[Step<'_>], inject: &Inject) {
        let here = |field| [path, &[Field(field)]].concat();
        let name_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if inject.id.is_empty() || inject.id.len() > 48 || !inject.id.chars().all(name_ok) {
            let help = Some("use letters, digits, hyphens, underscores and full stops, at most 48".into());
            self.report(&here("id"), "D004", format!("`{}` is no name of an inject", inject.id), help);
        }
        if inject.at.is_some_and(|at| at > self.end) {
            let message = format!("the inject comes after the drill has ended at {}", self.end);
            self.report(&here("at"), "D011", message, Some("move it, or `clock: end`".into()));
        }
        if !inject.times.is_none_or(|times| (1..=TIMES_MAX).contains(&times)) {
            let help = Some(format!("write 1 to {TIMES_MAX}"));
            self.report(&here("times"), "D003", "so many alerts are not played", help);
        }
        if inject.within.is_some_and(|within| within.ms() < 0) {
            self.report(
                &here("within"),
                "D011",
                "a time cannot run backwards",
                Some("write a length such as 5s".into()),
            );
        }
        if let Some(objective) = &inject.objective {
            self.objective(&here("objective"), objective);
        }
        if let Some(controller) = &inject.controller {
            let controllers: Vec<&str> = self.scenario.cast.controllers.iter().map(String::as_str).collect();
            self.known(&here("controller"), "D014", "controller", controller, controllers.into_iter());
        }
        if let Some(condition) = &inject.only_if {
            self.condition(&here("only-if"), condition);
        }
        match inject.via {
            Via::Alert => self.alert_inject(path, inject),
            Via::Person => match (&inject.to, &inject.say) {
                (Some(to), Some(_)) => self.player(&here("to"), to),
                (None, _) => self.lacks(path, "who is told", "to: edb.duty-officer"),
                (_, None) => self.lacks(path, "what is said", "say: …"),
            },
            Via::Approval => match (&inject.to, &inject.rule) {
                (Some(to), Some(_)) => self.player(&here("to"), to),
                (None, _) => self.lacks(path, "who answers", "to: edb.duty-officer"),
                (_, None) => self.lacks(path, "the rule that is answered", "rule: edb.school-closure.fire"),
            },
        }
    }

    fn lacks(&mut self, path: &[Step<'_>], what: &str, write: &str) {
        self.report(path, "D016", format!("the inject does not say {what}"), Some(format!("write `{write}`")));
    }

    fn alert_inject(&mut self, path: &[Step<'_>], inject: &Inject) {
        let here = |field| [path, &[Field(field)]].concat();
        match &inject.from {
            Some(from) => self.node(&here("from"), from),
            None => self.lacks(path, "who publishes it", "from: fsd"),
        }
        match (&inject.updates, &inject.cancels, &inject.alert) {
            (Some(_), Some(_), _) => {
                self.report(path, "D016", "an inject updates or cancels, not both", Some("make it two".into()));
            }
            (Some(of), None, _) => self.follows(&here("updates"), inject, of),
            (None, Some(of), None) => self.follows(&here("cancels"), inject, of),
            (None, Some(_), Some(_)) => {
                let help = Some("take the alert out; a Cancel has no words".into());
                self.report(&here("alert"), "D016", "what is cancelled says nothing more", help);
            }
            (None, None, None) => self.lacks(path, "what is published", "alert: {event: fire, level: 3}"),
            (None, None, Some(alert)) => self.short(&here("alert"), alert),
        }
        if let Some(alert) = &inject.alert {
            for (field, given) in [
                ("id", !alert.id.is_empty()),
                ("of", alert.of.is_some()),
                ("from", alert.from.is_some()),
                ("exercise", alert.exercise.is_some()),
            ] {
                if given {
                    let help = Some("say it of the inject, or leave it out".into());
                    let path = [path, &[Field("alert"), Field(field)]].concat();
                    self.report(&path, "D016", format!("an alert of a drill has no `{field}`"), help);
                }
            }
        }
    }

    /// An inject that goes on with another one.
    fn follows(&mut self, path: &[Step<'_>], inject: &Inject, of: &str) {
        self.named_inject(path, of);
        if inject.id == of {
            self.report(path, "D015", "an inject cannot follow itself", None);
        }
        if let (Some(at), Some(Some(before))) = (inject.at, self.injects.get(of))
            && at < *before
        {
            let message = format!("it comes at {at}, before {of} at {before}");
            self.report(path, "D011", message, Some("move one of them".into()));
        }
        let first = self.scenario.injects.iter().find(|first| first.id == of);
        if let Some(first) = first.filter(|first| first.from != inject.from) {
            let message = format!("{of} was published by {}", first.from.as_deref().unwrap_or("nobody"));
            self.report(path, "D016", message, Some("only who published an alert may update or cancel it".into()));
        }
    }

    /// The words of an alert: the first that is not in the vocabulary.
    pub(super) fn short(&mut self, path: &[Step<'_>], alert: &ShortAlert) {
        let here = |field| [path, &[Field(field)]].concat();
        match &alert.event {
            Some(event) => self.event(&here("event"), event),
            None => self.report(path, "D017", "the alert names no event", Some("write `event: fire`".into())),
        }
        if let Some(signal) = &alert.signal {
            let signals: Vec<&str> = campanile_alert::vocabulary::v1().signals().map(|s| s.code.as_str()).collect();
            self.known(&here("signal"), "D017", "signal", signal, signals.into_iter());
        }
        if let Some(status) = &alert.status
            && !matches!(Status::from_cap(status), Some(Status::Actual | Status::Exercise | Status::Test))
        {
            let help = Some("leave it out, or write Actual or Test to play what should not happen".into());
            self.report(&here("status"), "D017", format!("status {status} is not played"), help);
        }
        let frame = Frame {
            identifier: String::new(),
            sender: String::new(),
            status: Status::Exercise,
            msg_type: MessageType::Alert,
            sent: self.scenario.clock.start.instant(),
            of: &[],
        };
        let known =
            alert.event.as_deref().is_some_and(|event| campanile_alert::vocabulary::v1().event(event).is_some());
        let signal = alert.signal.as_deref();
        let signal = signal.is_none_or(|signal| campanile_alert::vocabulary::v1().signal(signal).is_some());
        if let (true, Err(why)) = (known && signal, alert.to_cap(frame)) {
            self.report(path, "D017", why, None);
        }
    }

    pub(super) fn condition(&mut self, path: &[Step<'_>], condition: &Condition) {
        let Condition { not, live, pending, acked } = condition;
        let given = [not.is_some(), live.is_some(), pending.is_some(), acked.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let help = Some("write one of not, live, pending, acked".into());
            self.report(path, "D010", "a condition says one thing", help);
        }
        let here = |field| [path, &[Field(field)]].concat();
        if let Some(not) = not {
            self.condition(&here("not"), not);
        }
        if let Some(meant) = live {
            self.matched(&here("live"), meant);
        }
        if let Some(acked) = acked {
            self.player(&here("acked"), &acked.person);
        }
    }

    pub(super) fn fault(&mut self, path: &[Step<'_>], fault: &Fault) {
        let here = |field| [path, &[Field(field)]].concat();
        let kinds = [
            fault.partition.is_some(),
            fault.delay.is_some(),
            fault.loss.is_some(),
            fault.reorder.is_some(),
            fault.duplicate.is_some(),
            fault.clock_skew.is_some(),
            fault.crash.is_some(),
            fault.disk_full.is_some(),
            fault.etcd.is_some(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            let help = "write one of partition, delay, loss, reorder, duplicate, clock-skew, crash, disk-full, etcd";
            self.report(path, "D016", "a fault is one thing", Some(help.into()));
        }
        if fault.at > self.end {
            let message = format!("the fault begins after the drill has ended at {}", self.end);
            self.report(&here("at"), "D011", message, Some("move it, or `clock: end`".into()));
        }
        if fault.lasts.is_some_and(|lasts| lasts <= Length::default()) {
            self.report(
                &here("for"),
                "D011",
                "a fault lasts longer than nothing",
                Some("write a length such as 5m".into()),
            );
        }
        if fault.repeat.is_some_and(|repeat| repeat > REPEAT_MAX) {
            self.report(
                &here("repeat"),
                "D003",
                "so many repetitions are not played",
                Some(format!("at most {REPEAT_MAX}")),
            );
        }
        if let Some(inject) = &fault.duplicate {
            self.named_inject(&here("duplicate"), inject);
            if let Some(Some(at)) = self.injects.get(inject.as_str())
                && *at > fault.at
            {
                let message = format!("{inject} comes at {at}, so nothing can be repeated at {}", fault.at);
                self.report(&here("at"), "D011", message, Some("move the fault behind the inject".into()));
            }
        }
        let directory = |name: &&String| name.as_str() != "etcd";
        if let Some(cut) = &fault.partition {
            let sides = [("cut", &cut.cut), ("from", &cut.from)];
            for (field, name) in sides.into_iter().flat_map(|(field, side)| side.iter().map(move |name| (field, name)))
            {
                if directory(&name) {
                    self.node(&[path, &[Field("partition"), Field(field)]].concat(), name);
                }
            }
        }
        let delay = fault.delay.iter().flat_map(|delay| delay.nodes.iter().map(|name| ("delay", name)));
        let loss = fault.loss.iter().flat_map(|loss| loss.nodes.iter().map(|name| ("loss", name)));
        let reorder = fault.reorder.iter().flat_map(|share| share.nodes.iter().map(|name| ("reorder", name)));
        let skew = fault.clock_skew.iter().map(|skew| ("clock-skew", &skew.node));
        let crash = fault.crash.iter().map(|name| ("crash", name));
        let full = fault.disk_full.iter().map(|name| ("disk-full", name));
        for (field, name) in delay.chain(loss).chain(reorder).chain(skew).chain(crash).chain(full) {
            self.node(&here(field), name);
        }
    }
}
