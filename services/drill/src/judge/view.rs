//! What has been seen so far: which node holds what, what is in force there, who was asked and who answered.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use campanile_alert::{DepartmentId, MessageType};

use crate::scenario::{CountClaim, Match, PendingClaim};
use crate::time::Offset;
use crate::transcript::{Asked, EffectName, Event, Notice, Record, Subject, What};

/// Through how many messages a chain is followed: the rules allow four, updates add to them.
const CHAIN_MAX: usize = 64;

/// A record with the event that showed it first.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) record: Record,
    pub(super) seq: u64,
}

/// What one node holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// The event by which each message came.
    pub(super) came: BTreeMap<String, u64>,
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) asked: Asked,
    pub(super) at: Offset,
    pub(super) seq: u64,
    pub(super) open: bool,
    /// Whether others were asked after silence.
    pub(super) escalated: bool,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Ack {
    pub(super) person: String,
    pub(super) about: Subject,
    pub(super) seq: u64,
    /// How long after having been asked or told; absent when that was not seen.
    pub(super) after_ms: Option<i64>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) now: Offset,
    pub(super) records: BTreeMap<String, Known>,
    /// The messages by which each message is over, wherever one of them has come: also before it came itself.
    enders: HashMap<String, Vec<String>>,
    pub(super) nodes: BTreeMap<DepartmentId, Held>,
    pub(super) questions: BTreeMap<(DepartmentId, String), Question>,
    pub(super) reviews: BTreeMap<(DepartmentId, EffectName), u64>,
    /// How often a review was asked for, by effect.
    pub(super) reviewed: BTreeMap<EffectName, u32>,
    pub(super) stale: BTreeMap<(DepartmentId, DepartmentId), (u64, Vec<String>, Offset)>,
    told: BTreeMap<(String, String), Offset>,
    pub(super) acks: Vec<Ack>,
    pub(super) notices: Vec<(Notice, u64)>,
    pub(super) digests: BTreeMap<DepartmentId, (u64, String, u64)>,
    pub(super) frozen: Option<u64>,
}

impl View {
    /// Takes an event in.
    pub(super) fn take(&mut self, event: &Event) {
        self.now = self.now.max(event.at);
        let (at, seq) = (event.at, event.seq);
        if let What::Record(record) = &event.what {
            self.learn(record, seq);
        }
        if let Some(id) = message(&event.what) {
            self.arrive(event.node.as_ref(), id, seq);
        }
        let node = || event.node.clone();
        match &event.what {
            What::Asked(asked) => {
                let Some(node) = node() else { return };
                let question = Question { asked: (**asked).clone(), at, seq, open: true, escalated: false };
                self.questions.insert((node, asked.pending.clone()), question);
            }
            What::Answered { pending, person, .. } => {
                let Some(question) = node().and_then(|node| self.questions.get(&(node, pending.clone()))) else {
                    return;
                };
                let about = Subject::Rule(question.asked.rule.clone());
                let after_ms = Some(at.ms() - question.at.ms());
                self.acks.push(Ack { person: person.clone(), about, seq, after_ms });
            }
            What::Escalated { pending, to } => {
                if let Some(question) = node().and_then(|node| self.questions.get_mut(&(node, pending.clone()))) {
                    question.escalated = true;
                    question.asked.to.extend(
                        to.iter().filter(|role| !question.asked.to.contains(role)).cloned().collect::<Vec<_>>(),
                    );
                }
            }
            What::Closed { pending } => {
                if let Some(question) = node().and_then(|node| self.questions.get_mut(&(node, pending.clone()))) {
                    question.open = false;
                }
            }
            What::Review { effect } => {
                if let Some(node) = node() {
                    self.reviews.insert((node, effect.clone()), seq);
                    *self.reviewed.entry(effect.clone()).or_default() += 1;
                }
            }
            What::Reviewed { effect } => {
                if let Some(node) = node() {
                    self.reviews.remove(&(node, effect.clone()));
                }
            }
            What::Stale { from, shown_to } => {
                if let Some(node) = node() {
                    self.stale.insert((node, from.clone()), (seq, shown_to.clone(), at));
                }
            }
            What::Heard { from } => {
                if let Some(node) = node() {
                    self.stale.remove(&(node, from.clone()));
                }
            }
            What::Told { person, inject } => {
                self.told.insert((person.clone(), inject.clone()), at);
            }
            What::Acked { person, about } => {
                let asked = match about {
                    Subject::Inject(inject) => self.told.get(&(person.clone(), inject.clone())).copied(),
                    Subject::Rule(rule) => {
                        let asked =
                            |question: &&Question| question.asked.rule == *rule && question.asked.to.contains(person);
                        self.questions.values().filter(asked).map(|question| question.at).max()
                    }
                    Subject::Stale(from) => {
                        let told =
                            self.stale.iter().find(|((_, whose), (_, to, _))| whose == from && to.contains(person));
                        told.map(|(_, (_, _, at))| *at)
                    }
                };
                let after_ms = asked.map(|asked| at.ms() - asked.ms());
                self.acks.push(Ack { person: person.clone(), about: about.clone(), seq, after_ms });
            }
            What::Notice(notice) => self.notices.push(((**notice).clone(), seq)),
            What::Digest { records, digest } => {
                if let Some(node) = node() {
                    self.digests.insert(node, (*records, digest.clone(), seq));
                }
            }
            What::Frozen { .. } => self.frozen = self.frozen.or(Some(seq)),
            _ => {}
        }
    }

    fn learn(&mut self, record: &Record, seq: u64) {
        let Entry::Vacant(new) = self.records.entry(record.id.clone()) else { return };
        new.insert(Known { record: record.clone(), seq });
        if matches!(record.msg_type, Some(MessageType::Update | MessageType::Cancel)) {
            for ended in &record.references {
                self.enders.entry(ended.clone()).or_default().push(record.id.clone());
            }
        }
    }

    fn arrive(&mut self, node: Option<&DepartmentId>, id: &str, seq: u64) {
        let Some(node) = node else { return };
        let held = self.nodes.entry(node.clone()).or_default();
        held.came.entry(id.to_owned()).or_insert(seq);
    }

    /// Whether a message that the node holds is in force there now.
    pub(super) fn is_live(&self, node: &DepartmentId, id: &str) -> bool {
        let (Some(held), Some(known)) = (self.nodes.get(node), self.records.get(id)) else { return false };
        let record = &known.record;
        held.came.contains_key(id)
            && !self.enders.get(id).is_some_and(|enders| enders.iter().any(|ender| held.came.contains_key(ender)))
            && matches!(record.msg_type, Some(MessageType::Alert | MessageType::Update))
            && !record.all_clear
            && record.expires.is_none_or(|expires| expires > self.now.ms())
    }

    /// The messages in force at a node, or with `None` each at the node that published it.
    pub(super) fn live<'a>(&'a self, node: Option<&'a str>) -> impl Iterator<Item = &'a Known> {
        let nodes = self.nodes.iter().filter(move |(own, _)| node.is_none_or(|node| own.as_str() == node));
        nodes.flat_map(move |(own, held)| {
            let ids = held.came.keys().filter(move |id| self.is_live(own, id));
            let known = ids.filter_map(|id| self.records.get(id));
            known.filter(move |known| node.is_some() || known.record.from == own.as_str())
        })
    }

    /// The injects behind a message, through all rules.
    fn roots(&self, id: &str) -> BTreeSet<&str> {
        let (mut roots, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            if seen.len() >= CHAIN_MAX || !seen.insert(id) {
                continue;
            }
            let Some((_, known)) = self.records.get_key_value(id) else { continue };
            match (&known.record.inject, known.record.causes.is_empty()) {
                (Some(inject), true) => _ = roots.insert(inject.as_str()),
                _ => open.extend(known.record.causes.iter().map(String::as_str)),
            }
        }
        roots
    }

    /// Whether a record is one that is meant.
    pub(super) fn fits(&self, meant: &Match, record: &Record) -> bool {
        let is = |want: &Option<String>, is: Option<&String>| want.is_none() || want.as_ref() == is;
        let says = |part: &String| record.headlines.iter().any(|headline| headline.contains(part.as_str()));
        is(&meant.effect, record.event.as_ref())
            && is(&meant.rule, record.rule.as_ref())
            && is(&meant.target, record.target.as_ref())
            && meant.from.as_ref().is_none_or(|from| *from == record.from)
            && is(&meant.inject, record.inject.as_ref())
            && meant.kinds.as_ref().is_none_or(|kinds| same_set(kinds, &record.kinds))
            && is(&meant.signal, record.signal.as_ref())
            && (meant.level.is_none() || meant.level == record.level)
            && (meant.severity.is_none() || meant.severity == record.severity)
            && (meant.status.is_none() || meant.status == record.status)
            && (meant.msg_type.is_none() || meant.msg_type == record.msg_type)
            && meant.headline.as_ref().is_none_or(says)
            && meant
                .chain
                .as_ref()
                .is_none_or(|chain| self.roots(&record.id) == chain.iter().map(String::as_str).collect::<BTreeSet<_>>())
    }

    /// Whether a notice is one that is meant.
    pub(super) fn fits_notice(&self, meant: &Match, notice: &Notice) -> bool {
        let status = meant.status.is_none() || meant.status == notice.status;
        let rest = Match { status: None, headline: None, ..meant.clone() };
        let says = |part: &String| notice.headlines.iter().any(|headline| headline.contains(part.as_str()));
        let plain = rest == Match { at: rest.at, outside: rest.outside, unmarked: rest.unmarked, ..Match::default() };
        let record = || self.records.get(&notice.record).is_some_and(|known| self.fits(&rest, &known.record));
        status
            && (meant.outside.is_none() || !notice.sink)
            && (!meant.unmarked || !notice.marked)
            && meant.headline.as_ref().is_none_or(says)
            && (plain || record())
    }

    /// Whether a question is one that is meant.
    pub(super) fn asks(&self, meant: &PendingClaim, asked: &Asked) -> bool {
        meant.review.is_none()
            && meant.rule.as_ref().is_none_or(|rule| *rule == asked.rule)
            && meant.effect.as_ref().is_none_or(|effect| *effect == asked.effect)
            && meant.target.as_ref().is_none_or(|target| asked.targets.contains(target))
            && meant.to.as_ref().is_none_or(|to| asked.to.contains(to))
    }

    /// Whether an effect in review is the one that is meant.
    pub(super) fn reviews(&self, meant: &PendingClaim, effect: &EffectName) -> bool {
        meant.review.as_ref().is_some_and(|review| *review == effect.effect)
            && meant.rule.as_ref().is_none_or(|rule| *rule == effect.rule)
            && meant.target.as_ref().is_none_or(|target| *target == effect.target)
    }

    /// How often what is meant has been asked so far, at a node or anywhere.
    pub(super) fn times_asked(&self, meant: &PendingClaim, node: Option<&str>) -> u32 {
        if meant.review.is_some() {
            return self
                .reviewed
                .iter()
                .filter(|(effect, _)| self.reviews(meant, effect))
                .map(|(_, times)| times)
                .sum();
        }
        let here = |own: &DepartmentId| node.is_none_or(|node| own.as_str() == node);
        let asked = self.questions.iter().filter(|((own, _), question)| here(own) && self.asks(meant, &question.asked));
        u32::try_from(asked.count()).unwrap_or(u32::MAX)
    }

    /// How many alerts or notices there were, and the events that show them, at most as many as are worth showing.
    pub(super) fn count(&self, meant: &CountClaim) -> (u64, Vec<u64>) {
        let wanted = Match {
            effect: meant.effect.clone(),
            target: meant.target.clone(),
            from: meant.from.clone(),
            inject: meant.inject.clone(),
            ..Match::default()
        };
        let seqs: Vec<u64> = match meant.at {
            Some(_) => {
                let fits = self.notices.iter().filter(|(notice, _)| self.fits_notice(&wanted, notice));
                fits.map(|(_, seq)| *seq).collect()
            }
            None => {
                let alerts = self.records.values().filter(|known| known.record.msg_type == Some(MessageType::Alert));
                let mut seqs: Vec<u64> =
                    alerts.filter(|known| self.fits(&wanted, &known.record)).map(|known| known.seq).collect();
                seqs.sort_unstable();
                seqs
            }
        };
        (seqs.len() as u64, seqs)
    }
}

/// The message that an event is about, when it shows one.
pub(super) fn message(what: &What) -> Option<&str> {
    match what {
        What::Record(record) => Some(&record.id),
        What::Seen { id } => Some(id),
        _ => None,
    }
}

fn same_set(a: &[String], b: &[String]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}
