//! How things stand at an instant, and what there is instead of what was expected.

use std::collections::BTreeSet;

use campanile_alert::MessageType;

use super::rise::clashes;
use super::view::{Question, View};
use crate::scenario::{AckedBy, Claim, Expect, Match};
use crate::transcript::Subject;

/// The most things that a sentence names.
const NAMED_MAX: usize = 6;

/// What a look at a claim finds.
pub(super) enum Look {
    /// It is so, by these events.
    So(Vec<u64>),
    /// It is not so.
    Not { evidence: Vec<u64>, why: String },
}

impl View {
    /// Whether a claim is so now.
    pub(super) fn state(&self, expect: &Expect, claim: Claim<'_>) -> Look {
        let node = expect.node.as_deref();
        let evidence: Option<Vec<u64>> = match claim {
            Claim::Live(meant) => self.live_now(meant, node).map(|seq| vec![seq]),
            Claim::None(meant) | Claim::Never(meant) => return self.absent(meant, node),
            Claim::Conflict(meant) => {
                self.open_questions(node).find(|question| clashes(meant, &question.asked)).map(|q| vec![q.seq])
            }
            Claim::Stale(meant) => {
                let fits = |own: &str, from: &str, to: &[String]| {
                    node.is_none_or(|node| own == node)
                        && from == meant.from
                        && meant.shown_to.as_ref().is_none_or(|role| to.contains(role))
                };
                let mut stale = self.stale.iter();
                let found = stale.find(|((own, from), (_, to, _))| fits(own.as_str(), from.as_str(), to));
                found.map(|(_, (seq, ..))| vec![*seq])
            }
            Claim::Pending(meant) => {
                let open = self.open_questions(node).find(|question| self.asks(meant, &question.asked));
                let mut reviews = self.reviews.iter();
                let review = reviews.find(|((own, effect), _)| {
                    node.is_none_or(|node| own.as_str() == node) && self.reviews(meant, effect)
                });
                let seq = open.map(|question| question.seq).or(review.map(|(_, seq)| *seq));
                let enough = meant.count.is_none_or(|count| count == self.times_asked(meant, node));
                seq.filter(|_| enough).map(|seq| vec![seq])
            }
            Claim::Escalated(meant) => {
                let fits = |question: &&Question| {
                    question.escalated
                        && question.asked.to.contains(&meant.to)
                        && meant.rule.as_ref().is_none_or(|rule| *rule == question.asked.rule)
                };
                self.open_questions(node).find(fits).map(|question| vec![question.seq])
            }
            Claim::Acks(meant) => {
                let fits = |about: &Subject| match about {
                    Subject::Rule(rule) => meant.inject.is_none() && meant.rule.as_ref().is_none_or(|r| r == rule),
                    Subject::Inject(inject) => {
                        meant.rule.is_none() && meant.inject.as_ref().is_none_or(|i| i == inject)
                    }
                    Subject::Stale(_) => meant.rule.is_none() && meant.inject.is_none(),
                };
                let person = |name: &str| expect.person.as_ref().is_none_or(|person| person == name);
                let soon = |after: Option<i64>| meant.within.is_none_or(|w| after.is_some_and(|ms| ms <= w.ms()));
                let ack = self.acks.iter().find(|a| fits(&a.about) && person(&a.person) && soon(a.after_ms));
                ack.map(|ack| vec![ack.seq])
            }
            Claim::Count(meant) => {
                let (number, evidence) = self.count(meant);
                let right = meant.is.is_none_or(|is| number == is)
                    && meant.at_most.is_none_or(|most| number <= most)
                    && meant.at_least.is_none_or(|least| number >= least);
                let why = format!("there are {number}");
                return if right { Look::So(evidence) } else { Look::Not { evidence, why } };
            }
            Claim::Sent(meant) => {
                let wanted =
                    Match { effect: Some(meant.effect.clone()), target: meant.target.clone(), ..Match::default() };
                let mut sent: Vec<_> =
                    self.records.values().filter(|known| self.fits(&wanted, &known.record)).collect();
                sent.sort_by_key(|known| known.seq);
                let types: Vec<MessageType> = sent.iter().filter_map(|known| known.record.msg_type).collect();
                let evidence = sent.iter().map(|known| known.seq).collect();
                let names: Vec<&str> = types.iter().map(|sent| sent.as_cap()).collect();
                let why = format!("sent was [{}]", names.join(", "));
                return if types == meant.is { Look::So(evidence) } else { Look::Not { evidence, why } };
            }
            Claim::Notice(meant) => {
                let found = self.notices.iter().find(|(notice, _)| notice.sink && self.fits_notice(meant, notice));
                found.map(|(_, seq)| vec![*seq])
            }
            Claim::Same(_) => return self.same(),
            Claim::Frozen => self.frozen.map(|seq| vec![seq]),
            Claim::Judged => None,
        };
        match evidence {
            Some(evidence) => Look::So(evidence),
            None => Look::Not { evidence: Vec::new(), why: self.instead(expect, claim) },
        }
    }

    /// Whether a person has answered.
    pub(super) fn acked(&self, meant: &AckedBy) -> bool {
        let about = |about: &Subject| match about {
            Subject::Rule(rule) => meant.inject.is_none() && meant.rule.as_ref().is_none_or(|r| r == rule),
            Subject::Inject(inject) => meant.rule.is_none() && meant.inject.as_ref().is_none_or(|i| i == inject),
            Subject::Stale(_) => meant.rule.is_none() && meant.inject.is_none(),
        };
        self.acks.iter().any(|ack| ack.person == meant.person && about(&ack.about))
    }

    fn live_now(&self, meant: &Match, node: Option<&str>) -> Option<u64> {
        self.live(node).find(|known| self.fits(meant, &known.record)).map(|known| known.seq)
    }

    fn absent(&self, meant: &Match, node: Option<&str>) -> Look {
        if meant.at.is_some() {
            let found = self.notices.iter().find(|(notice, _)| self.fits_notice(meant, notice));
            return found.map_or(Look::So(Vec::new()), |(notice, seq)| Look::Not {
                evidence: vec![*seq],
                why: format!("{} was handed over", notice.record),
            });
        }
        let anywhere = self.nodes.keys().map(|own| own.as_str()).filter(|own| node.is_none_or(|node| *own == node));
        let mut found = anywhere.filter_map(|own| {
            self.live(Some(own)).find(|known| self.fits(meant, &known.record)).map(|known| (own, known))
        });
        found.next().map_or(Look::So(Vec::new()), |(own, known)| Look::Not {
            evidence: vec![known.seq],
            why: format!("{} is in force at {own}", known.record.id),
        })
    }

    fn same(&self) -> Look {
        let evidence: Vec<u64> = self.digests.values().map(|(_, _, seq)| *seq).collect();
        let different: BTreeSet<&String> = self.digests.values().map(|(_, digest, _)| digest).collect();
        match (self.digests.len(), different.len()) {
            (2.., 1) => Look::So(evidence),
            (0 | 1, _) => Look::Not { evidence, why: "fewer than two nodes gave a digest".into() },
            _ => {
                let hold: Vec<String> =
                    self.digests.iter().map(|(node, (records, ..))| format!("{node} holds {records}")).collect();
                Look::Not { evidence, why: format!("the records differ: {}", hold.join(", ")) }
            }
        }
    }

    fn open_questions<'a>(&'a self, node: Option<&'a str>) -> impl Iterator<Item = &'a Question> {
        let here = move |own: &str| node.is_none_or(|node| own == node);
        self.questions.iter().filter(move |((own, _), q)| here(own.as_str()) && q.open).map(|(_, question)| question)
    }

    /// What there is instead of what was expected, in one sentence.
    pub(super) fn instead(&self, expect: &Expect, claim: Claim<'_>) -> String {
        let node = expect.node.as_deref();
        match claim {
            Claim::Live(_) => {
                let names = self.live(node).map(|known| {
                    let record = &known.record;
                    let target = record.target.as_ref().filter(|target| !target.is_empty());
                    let target = target.map(|target| format!("/{target}")).unwrap_or_default();
                    format!("{}{target}", record.event.as_deref().unwrap_or(&record.id))
                });
                format!("in force is {}", listed(names.collect()))
            }
            Claim::Conflict(_) | Claim::Pending(_) | Claim::Escalated(_) => {
                let asked = self
                    .open_questions(node)
                    .map(|question| format!("{} ({})", question.asked.rule, question.asked.targets.join(", ")));
                format!("waiting is {}", listed(asked.collect()))
            }
            Claim::Acks(_) => {
                let person = |name: &str| expect.person.as_ref().is_none_or(|person| person == name);
                let own = self.acks.iter().filter(|ack| person(&ack.person));
                let abouts = own.map(|ack| match &ack.about {
                    Subject::Rule(rule) => rule.clone(),
                    Subject::Inject(inject) => inject.clone(),
                    Subject::Stale(from) => format!("{from} not heard"),
                });
                format!("answered was {}", listed(abouts.collect()))
            }
            Claim::Notice(_) => format!("{} notices were handed over, none of them fits", self.notices.len()),
            _ => String::new(),
        }
    }
}

/// Names joined by commas, each once, at most some.
fn listed(names: BTreeSet<String>) -> String {
    let all = names.len();
    let mut shown: Vec<String> = names.into_iter().take(NAMED_MAX).collect();
    if all > shown.len() {
        shown.push(format!("and {} more", all - shown.len()));
    }
    if shown.is_empty() { "nothing".into() } else { shown.join(", ") }
}
