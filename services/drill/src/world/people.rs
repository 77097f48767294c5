//! The people of a run without people: what they are shown, and what their scripts say they do.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Alert, DepartmentId, classify::classify, vocabulary};
use campanile_log::Hash;
use campanile_rules::{EffectKey, Engine, Pending};

use super::record::{Body, Content};
use super::{Act, Error, Federation};
use crate::scenario::{Act as Deed, Occasion, Prompt, department_of};
use crate::transcript::{Answered, Asked, EffectName, Subject, What};

/// A question as it was last shown.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    to: BTreeSet<String>,
}

/// What a reaction is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    Question { node: DepartmentId, pending: String },
    Review { node: DepartmentId, effect: EffectKey },
    Message { inject: String },
    Stale { from: DepartmentId },
}

impl Federation<'_> {
    /// The roles of a department that play.
    pub(super) fn people_of(&self, id: &DepartmentId) -> Vec<String> {
        let own = |role: &&String| department_of(role) == id.as_str();
        self.scenario.cast.players.keys().filter(own).cloned().collect()
    }

    /// Compares what waits at a node with what was shown, and shows what is new.
    pub(super) fn look_at_questions(&mut self, id: &DepartmentId) {
        let Some(engine) = self.nodes.get(id).and_then(super::Node::engine) else { return };
        let own = |pending: &Pending| pending.world == self.world;
        let pending: BTreeMap<String, Pending> =
            engine.pending().into_iter().filter(own).map(|pending| (pending.id.clone(), pending)).collect();
        let reviews: BTreeSet<EffectKey> =
            engine.reviews().into_iter().map(|review| review.effect).filter(|key| key.world == self.world).collect();
        let gone: Vec<(DepartmentId, String)> =
            self.asked.keys().filter(|(node, name)| node == id && !pending.contains_key(name)).cloned().collect();
        for key in gone {
            self.asked.remove(&key);
            self.emit(Some(id), What::Closed { pending: key.1 });
        }
        for pending in pending.into_values() {
            self.show_question(id, &pending);
        }
        let over: Vec<(DepartmentId, EffectKey)> =
            self.reviews.iter().filter(|(node, key)| node == id && !reviews.contains(key)).cloned().collect();
        for key in over {
            self.reviews.remove(&key);
            self.emit(Some(id), What::Reviewed { effect: named(&key.1) });
        }
        for effect in reviews {
            if self.reviews.insert((id.clone(), effect.clone())) {
                self.emit(Some(id), What::Review { effect: named(&effect) });
                let shown = Prompt {
                    on: Occasion::Review,
                    rule: Some(&effect.rule),
                    effect: Some(&effect.effect),
                    inject: None,
                };
                for role in self.people_of(id) {
                    self.expect_reaction(&role, &shown, || Waiting::Review {
                        node: id.clone(),
                        effect: effect.clone(),
                    });
                }
            }
        }
    }

    fn show_question(&mut self, id: &DepartmentId, pending: &Pending) {
        let key = (id.clone(), pending.id.clone());
        let to: BTreeSet<String> = pending.by.iter().cloned().collect();
        let before = self.asked.insert(key, Asking { to: to.clone() });
        let fresh: Vec<String> = match &before {
            None => to.into_iter().collect(),
            Some(before) => to.difference(&before.to).cloned().collect(),
        };
        let against = pending.against.clone();
        let on = match (&before, &against) {
            (Some(_), _) if fresh.is_empty() => return,
            (Some(_), _) => {
                self.emit(Some(id), What::Escalated { pending: pending.id.clone(), to: fresh.clone() });
                Occasion::Escalated
            }
            (None, against) => {
                let asked = Asked {
                    pending: pending.id.clone(),
                    rule: pending.rule.clone(),
                    effect: pending.effect.clone(),
                    targets: pending.targets.clone(),
                    to: fresh.clone(),
                    need: u32::try_from(pending.need).unwrap_or(u32::MAX),
                    deadline: pending.deadline.map(|at| at.as_millisecond() - self.start.as_millisecond()),
                    against: against.clone(),
                    why: pending.why.en.clone(),
                };
                self.emit(Some(id), What::Asked(Box::new(asked)));
                if against.is_some() { Occasion::Conflict } else { Occasion::Pending }
            }
        };
        let shown = Prompt { on, rule: Some(&pending.rule), effect: Some(&pending.effect), inject: None };
        for role in &fresh {
            self.expect_reaction(role, &shown, || Waiting::Question { node: id.clone(), pending: pending.id.clone() });
        }
    }

    /// A node that crashed shows nothing.
    pub(super) fn forget_questions(&mut self, id: &DepartmentId) {
        self.asked.retain(|(node, _), _| node != id);
        self.reviews.retain(|(node, _)| node != id);
    }

    /// A person is told something by the controllers.
    pub(super) fn tell(&mut self, role: &str, inject: &str) {
        let shown = Prompt { on: Occasion::Message, rule: None, effect: None, inject: Some(inject) };
        self.expect_reaction(role, &shown, || Waiting::Message { inject: inject.into() });
    }

    /// People are told that a department is not heard.
    pub(super) fn tell_stale(&mut self, from: &DepartmentId, roles: &[String]) {
        let shown = Prompt { on: Occasion::Stale, rule: None, effect: None, inject: None };
        for role in roles {
            self.expect_reaction(role, &shown, || Waiting::Stale { from: from.clone() });
        }
    }

    /// Schedules what a role's script says about what it was shown.
    fn expect_reaction(&mut self, role: &str, shown: &Prompt<'_>, to: impl Fn() -> Waiting) {
        let scenario = self.scenario;
        let Some(player) = scenario.cast.players.get(role) else { return };
        for (index, reaction) in player.reactions(shown) {
            let jitter = self.rng.up_to(reaction.jitter.unwrap_or_default().ms().max(0));
            let at = self.now + reaction.after.ms().max(0) + jitter;
            self.later(at, Act::React { role: role.into(), reaction: index, to: to() });
        }
    }

    /// A person does what the script says.
    pub(super) fn react(&mut self, role: &str, index: usize, to: &Waiting) -> Result<(), Error> {
        let scenario = self.scenario;
        let reaction = scenario.cast.players.get(role).and_then(|player| player.script.get(index));
        let Some(reaction) = reaction else { return Ok(()) };
        match (reaction.act, to) {
            (Deed::Approve | Deed::Reject, Waiting::Question { node, pending }) => {
                self.answer(role, node, pending, reaction.act == Deed::Approve)
            }
            (Deed::End, Waiting::Review { node, effect }) => self.end_effect(node, effect, role),
            (Deed::Acknowledge, to) => {
                let about = match to {
                    Waiting::Question { node, pending } => {
                        let rule = self.question(node, pending).map(|pending| pending.rule);
                        rule.map(Subject::Rule)
                    }
                    Waiting::Review { effect, .. } => Some(Subject::Rule(effect.rule.clone())),
                    Waiting::Message { inject } => Some(Subject::Inject(inject.clone())),
                    Waiting::Stale { from } => Some(Subject::Stale(from.clone())),
                };
                if let Some(about) = about {
                    let node = self.find(department_of(role));
                    self.emit(node.as_ref(), What::Acked { person: role.into(), about });
                }
                Ok(())
            }
            (Deed::Play, _) => {
                let found = scenario.injects.iter().position(|inject| Some(&inject.id) == reaction.play.as_ref());
                found.map_or(Ok(()), |index| self.inject(index))
            }
            _ => Ok(()),
        }
    }

    fn question(&self, node: &DepartmentId, pending: &str) -> Option<Pending> {
        let engine = self.nodes.get(node).and_then(super::Node::engine)?;
        engine.pending().into_iter().find(|open| open.id == pending)
    }

    /// A person answers a question that still waits.
    fn answer(&mut self, role: &str, node: &DepartmentId, pending: &str, approve: bool) -> Result<(), Error> {
        let Some(open) = self.question(node, pending).filter(|open| open.by.iter().any(|by| by == role)) else {
            return Ok(());
        };
        if !self.can_publish(node, None) {
            return Ok(());
        }
        let person = self.scenario.cast.players.get(role).and_then(|player| player.person.clone());
        let person = person.unwrap_or_else(|| role.into());
        let answer = if approve { Answered::Approve } else { Answered::Reject };
        self.emit(Some(node), What::Answered { pending: pending.into(), person: role.into(), answer });
        let content =
            Content::Approval { pending: open.id, shown: Hash(open.shown), person, role: role.into(), approve };
        self.publish(node, open.world, Body::plain(content), None)?;
        Ok(())
    }

    /// The controllers let a role answer whatever waits of a rule.
    pub(super) fn answer_rule(&mut self, role: &str, rule: &str, approve: bool, inject: &str) -> Result<(), Error> {
        let node = self.find(department_of(role));
        let engine = node.as_ref().and_then(|id| self.nodes.get(id)).and_then(super::Node::engine);
        let open = engine.and_then(|engine| {
            let mut pending = engine.pending().into_iter();
            pending.find(|open| open.rule == rule && open.world == self.world)
        });
        match (node, open) {
            (Some(node), Some(open)) => self.answer(role, &node, &open.id, approve),
            _ => {
                let why = format!("{rule} asks nobody at that time");
                self.emit(None, What::Refused { inject: Some(inject.into()), why });
                Ok(())
            }
        }
    }

    /// An officer cancels an effect that waits for a review, with the words that were prepared for it.
    fn end_effect(&mut self, node: &DepartmentId, effect: &EffectKey, role: &str) -> Result<(), Error> {
        let now = self.clock_of(node);
        let found = self.nodes.get(node).and_then(super::Node::engine).and_then(|engine| prepared(engine, effect, now));
        let Some(alert) = found else { return Ok(()) };
        if !self.can_publish(node, None) {
            return Ok(());
        }
        self.number += 1;
        let alert = Alert { identifier: format!("officer-{}", self.number), ..alert };
        let words = classify(&alert, vocabulary::v1());
        self.emit(Some(node), What::Acked { person: role.into(), about: Subject::Rule(effect.rule.clone()) });
        let body = Body { author: Some(role.into()), ..Body::plain(Content::Alert(Box::new(alert), words)) };
        self.publish(node, effect.world.clone(), body, None)?;
        Ok(())
    }
}

/// The correction of an effect that waits for a review.
fn prepared(engine: &Engine, effect: &EffectKey, now: campanile_alert::Timestamp) -> Option<Alert> {
    let review = engine.reviews().into_iter().find(|review| review.effect == *effect)?;
    engine.correction(&review.message, now)
}

fn named(key: &EffectKey) -> EffectName {
    EffectName { rule: key.rule.clone(), effect: key.effect.clone(), target: key.target.clone() }
}
