//! Who was asked or told what, who answered and how long it took; and what stood in the way meanwhile.

use std::collections::BTreeMap;

use serde::Serialize;

use super::timeline::{effect, targets};
use crate::scenario::{Fault, Scenario};
use crate::transcript::{Answered, Subject, Transcript, What};

/// Something that persons were asked, told or shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What kind of thing.
    pub kind: RequestKind,
    /// The event in the transcript by which it began.
    pub seq: u64,
    /// The node; absent for a message of the controllers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it was about: a rule and its effect, a message, a department.
    pub about: String,
    /// The roles that were asked at first.
    pub to: Vec<String>,
    /// How many had to answer.
    pub need: u32,
    /// When they were asked, in milliseconds since T+0.
    pub at_ms: i64,
    /// When silence has its consequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<i64>,
    /// When others were asked as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalated_ms: Option<i64>,
    /// Those others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub escalated_to: Vec<String>,
    /// When it was settled; absent when nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_ms: Option<i64>,
    /// Who answered, in order.
    pub replies: Vec<Reply>,
}

/// The kinds of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    /// To approve an effect.
    Approval,
    /// To end or keep an effect in force.
    Review,
    /// To take note of a message of the controllers.
    Message,
    /// To take note that a department is not heard.
    Stale,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The role.
    pub person: String,
    /// `approve`, `reject` or `acknowledge`.
    pub answer: &'static str,
    /// When, in milliseconds since T+0.
    pub at_ms: i64,
    /// How long after this role was asked.
    pub took_ms: i64,
}

/// Something that stood in the way for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disturbance {
    /// `fault`, `down`, `stale` or `paused`.
    pub kind: &'static str,
    /// The node; absent for what concerns the whole drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it was.
    pub what: String,
    /// The same in Traditional Chinese; empty for a name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zh_hant: String,
    /// The event in the transcript by which it began.
    pub seq: u64,
    /// From when, in milliseconds since T+0.
    pub from_ms: i64,
    /// Until when; absent when it lasted to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<i64>,
}

/// What a request is found by when an answer comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Question(String, String),
    Review(String, String),
    Message(String, String),
    Stale(String, String),
}

/// All requests, in the order in which they began.
pub(super) fn requests(scenario: &Scenario, transcript: &Transcript) -> Vec<Request> {
    let mut all: Vec<Request> = Vec::new();
    let mut last: BTreeMap<Key, usize> = BTreeMap::new();
    for event in &transcript.events {
        let node = event.node.as_ref().map(ToString::to_string);
        let own = node.clone().unwrap_or_default();
        let at_ms = event.at.ms();
        let mut begin = |key: Key, kind: RequestKind, about: String, to: &[String], need: u32, deadline_ms| {
            let node = node.clone().filter(|_| kind != RequestKind::Message);
            last.insert(key, all.len());
            all.push(Request {
                kind,
                seq: event.seq,
                node,
                about,
                to: to.to_vec(),
                need,
                at_ms,
                deadline_ms,
                escalated_ms: None,
                escalated_to: Vec::new(),
                closed_ms: None,
                replies: Vec::new(),
            });
        };
        match &event.what {
            What::Asked(asked) => {
                let about = format!("{} → {}{}", asked.rule, asked.effect, targets(&asked.targets));
                let key = Key::Question(own, asked.pending.clone());
                begin(key, RequestKind::Approval, about, &asked.to, asked.need, asked.deadline);
            }
            What::Review { effect: of } => {
                begin(Key::Review(own, effect(of)), RequestKind::Review, effect(of), &[], 1, None);
            }
            What::Told { person, inject } => {
                let said = scenario.injects.iter().find(|one| one.id == *inject).and_then(|one| one.say.clone());
                let about = said.map_or_else(|| inject.clone(), |said| format!("{inject}: {said}"));
                let key = Key::Message(inject.clone(), person.clone());
                begin(key, RequestKind::Message, about, std::slice::from_ref(person), 1, None);
            }
            What::Stale { from, shown_to } => {
                begin(Key::Stale(own, from.to_string()), RequestKind::Stale, from.to_string(), shown_to, 1, None);
            }
            _ => settle(event.what.clone(), own, at_ms, &last, &mut all),
        }
    }
    all
}

fn found<'a>(last: &BTreeMap<Key, usize>, all: &'a mut [Request], key: &Key) -> Option<&'a mut Request> {
    all.get_mut(*last.get(key)?)
}

/// What an event does to a request that has begun.
fn settle(what: What, own: String, at_ms: i64, last: &BTreeMap<Key, usize>, all: &mut [Request]) {
    match what {
        What::Answered { pending, person, answer } => {
            let answer = if answer == Answered::Approve { "approve" } else { "reject" };
            if let Some(request) = found(last, all, &Key::Question(own, pending)) {
                request.answered(person, answer, at_ms);
            }
        }
        What::Escalated { pending, to } => {
            if let Some(request) = found(last, all, &Key::Question(own, pending)) {
                request.escalated_ms = Some(at_ms);
                request.escalated_to.extend(to.into_iter().filter(|role| !request.to.contains(role)));
            }
        }
        What::Closed { pending } => {
            if let Some(request) = found(last, all, &Key::Question(own, pending)) {
                request.closed_ms = Some(at_ms);
            }
        }
        What::Reviewed { effect: of } => {
            if let Some(request) = found(last, all, &Key::Review(own, effect(&of))) {
                request.closed_ms = Some(at_ms);
            }
        }
        What::Heard { from } => {
            if let Some(request) = found(last, all, &Key::Stale(own, from.to_string())) {
                request.closed_ms = request.closed_ms.or(Some(at_ms));
            }
        }
        What::Acked { person, about } => {
            let key = match &about {
                Subject::Inject(inject) => Key::Message(inject.clone(), person.clone()),
                Subject::Stale(from) => Key::Stale(own, from.to_string()),
                Subject::Rule(rule) => {
                    let rule = format!("{rule} →");
                    let meant = |one: &&mut Request| one.about.starts_with(&rule) && one.to.contains(&person);
                    if let Some(request) = all.iter_mut().rev().find(meant) {
                        request.answered(person, "acknowledge", at_ms);
                    }
                    return;
                }
            };
            if let Some(request) = found(last, all, &key) {
                request.closed_ms = request.closed_ms.or(Some(at_ms));
                request.answered(person, "acknowledge", at_ms);
            }
        }
        _ => {}
    }
}

impl Request {
    /// Adds an answer. A role that was asked only after silence is measured from then.
    fn answered(&mut self, person: String, answer: &'static str, at_ms: i64) {
        let late = self.escalated_ms.filter(|_| self.escalated_to.contains(&person));
        let took_ms = at_ms - late.unwrap_or(self.at_ms);
        self.replies.push(Reply { person, answer, at_ms, took_ms });
    }
}

/// All disturbances, in the order in which they began.
pub(super) fn disturbances(scenario: &Scenario, transcript: &Transcript) -> Vec<Disturbance> {
    let mut all: Vec<Disturbance> = Vec::new();
    let mut open: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
    for event in &transcript.events {
        let node = event.node.as_ref().map(ToString::to_string);
        let own = node.clone().unwrap_or_default();
        let (key, begins) = match &event.what {
            What::FaultBegan { fault, what } => (("fault", fault.to_string()), Some(format!("#{fault} {what}"))),
            What::FaultEnded { fault } => (("fault", fault.to_string()), None),
            What::Down => (("down", own), Some(String::new())),
            What::Up => (("down", own), None),
            What::Stale { from, .. } => (("stale", format!("{own} {from}")), Some(from.to_string())),
            What::Heard { from } => (("stale", format!("{own} {from}")), None),
            What::Paused { by } => (("paused", String::new()), Some(by.clone())),
            What::Resumed { .. } => (("paused", String::new()), None),
            _ => continue,
        };
        match begins {
            Some(what) => {
                let kind = key.0;
                open.insert(key, all.len());
                let zh_hant = match &event.what {
                    What::FaultBegan { fault, .. } => fault_zh(scenario, *fault),
                    _ => String::new(),
                };
                let (seq, from_ms) = (event.seq, event.at.ms());
                all.push(Disturbance { kind, node, what, zh_hant, seq, from_ms, to_ms: None });
            }
            None => {
                if let Some(one) = open.remove(&key).and_then(|index| all.get_mut(index)) {
                    one.to_ms = Some(event.at.ms());
                }
            }
        }
    }
    all
}

/// A fault of the scenario, by its number from 1, in Traditional Chinese; empty where there is none.
pub(super) fn fault_zh(scenario: &Scenario, number: u32) -> String {
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    index.and_then(|index| scenario.faults.get(index)).map(Fault::in_words_zh).unwrap_or_default()
}
