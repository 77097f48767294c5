//! What an event makes true, and what it breaks.

use super::view::{View, message};
use crate::scenario::{Claim, ConflictClaim, Expect, Match};
use crate::transcript::{Asked, Event, Subject, What};

impl View {
    /// The evidence when this event makes the claim true, and for an answer how many milliseconds it took.
    pub(super) fn rise(&self, expect: &Expect, claim: Claim<'_>, event: &Event) -> Option<(Vec<u64>, Option<i64>)> {
        let own = event.node.as_ref().map(|node| node.as_str());
        let here = expect.node.as_deref().is_none_or(|node| own == Some(node));
        let risen = match (claim, &event.what) {
            (Claim::Live(meant), what) => {
                let known = self.records.get(message(what)?)?;
                let place = if expect.node.is_some() { here } else { own == Some(known.record.from.as_str()) };
                place && self.is_live(event.node.as_ref()?, &known.record.id) && self.fits(meant, &known.record)
            }
            (Claim::Notice(meant), What::Notice(notice)) => here && notice.sink && self.fits_notice(meant, notice),
            (Claim::Conflict(meant), What::Asked(asked)) => here && clashes(meant, asked),
            (Claim::Stale(meant), What::Stale { from, shown_to }) => {
                here && meant.from == from.as_str() && meant.shown_to.as_ref().is_none_or(|to| shown_to.contains(to))
            }
            (Claim::Pending(meant), What::Asked(asked)) => {
                let times = || self.times_asked(meant, expect.node.as_deref());
                here && self.asks(meant, asked) && meant.count.is_none_or(|count| count == times())
            }
            (Claim::Pending(meant), What::Review { effect }) => here && self.reviews(meant, effect),
            (Claim::Escalated(meant), What::Escalated { pending, to }) => {
                let question = self.questions.get(&(event.node.clone()?, pending.clone()))?;
                let rule = meant.rule.as_ref().is_none_or(|rule| *rule == question.asked.rule);
                here && rule && to.contains(&meant.to)
            }
            (Claim::Acks(meant), What::Answered { .. } | What::Acked { .. }) => {
                let ack = self.acks.last().filter(|ack| ack.seq == event.seq)?;
                let about = match &ack.about {
                    Subject::Rule(rule) => meant.inject.is_none() && meant.rule.as_ref().is_none_or(|r| r == rule),
                    Subject::Inject(inject) => {
                        meant.rule.is_none() && meant.inject.as_ref().is_none_or(|i| i == inject)
                    }
                    Subject::Stale(_) => meant.rule.is_none() && meant.inject.is_none(),
                };
                let person = expect.person.as_ref().is_none_or(|person| *person == ack.person);
                return (about && person).then(|| (vec![event.seq], ack.after_ms));
            }
            (Claim::Frozen, What::Frozen { .. }) => true,
            _ => false,
        };
        risen.then(|| (vec![event.seq], None))
    }

    /// The evidence, and a sentence, when this event breaks what should hold always.
    pub(super) fn breaks(&self, expect: &Expect, claim: Claim<'_>, event: &Event) -> Option<(Vec<u64>, String)> {
        let own = event.node.as_ref().map(|node| node.as_str());
        if expect.node.as_deref().is_some_and(|node| own != Some(node)) {
            return None;
        }
        match claim {
            Claim::None(meant) | Claim::Never(meant) => self.seen(meant, event),
            Claim::Count(count) => {
                if !matches!(event.what, What::Record(_) | What::Notice(_)) {
                    return None;
                }
                let most = count.at_most.or(count.is)?;
                let (number, seqs) = self.count(count);
                (number > most).then(|| (seqs, format!("there are {number}")))
            }
            _ => None,
        }
    }

    /// What should never be, when this event shows it.
    fn seen(&self, meant: &Match, event: &Event) -> Option<(Vec<u64>, String)> {
        let at_gateway = meant.at.is_some() || meant.outside.is_some() || meant.unmarked;
        match &event.what {
            What::Notice(notice) if self.fits_notice(meant, notice) => {
                let to = if notice.sink { "a sink" } else { "what is no sink" };
                Some((vec![event.seq], format!("{} was handed to {to} of {}", notice.record, notice.channel)))
            }
            what if !at_gateway => {
                let known = self.records.get(message(what)?)?;
                let place = event.node.as_ref().map_or("", |node| node.as_str());
                let fits = self.fits(meant, &known.record);
                fits.then(|| (vec![event.seq], format!("{} was seen at {place}", known.record.id)))
            }
            _ => None,
        }
    }
}

/// Whether a question is asked because the two meet.
pub(super) fn clashes(meant: &ConflictClaim, asked: &Asked) -> bool {
    let [a, b] = &meant.between;
    let against = asked.against.as_ref();
    ((*a == asked.effect && against == Some(b)) || (*b == asked.effect && against == Some(a)))
        && meant.target.as_ref().is_none_or(|target| asked.targets.contains(target))
        && meant.shown_to.as_ref().is_none_or(|to| asked.to.contains(to))
}
