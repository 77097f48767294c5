//! People: what was asked of them, as nodes say it, and what scripted players do about it.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::DepartmentId;
use campanile_client::admin::{LiveEffect, Pending, Rules};
use campanile_client::{Client, Decision, WantedAlert};

use super::clock::DrillClock;
use crate::scenario::{Act, Occasion, Prompt, department_of};
use crate::transcript::{Asked, EffectName, Subject, What};

/// What a reaction is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Question { node: DepartmentId, pending: String, rule: String },
    Review { effect: EffectName, identifier: String },
    Message { inject: String },
    Stale { from: DepartmentId },
}

/// What a role is shown, by which its reactions are chosen.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) role: String,
    pub(super) on: Occasion,
    pub(super) rule: Option<String>,
    pub(super) effect: Option<String>,
    pub(super) inject: Option<String>,
    pub(super) about: About,
}

impl Shown {
    pub(super) fn prompt(&self) -> Prompt<'_> {
        Prompt {
            on: self.on,
            rule: self.rule.as_deref(),
            effect: self.effect.as_deref(),
            inject: self.inject.as_deref(),
        }
    }
}

/// What waits for persons at all nodes.
#[derive(Debug, Default)]
pub(super) struct People {
    pending: BTreeMap<(DepartmentId, String), Pending>,
    reviews: BTreeMap<(DepartmentId, EffectName), String>,
}

impl People {
    /// Compares what a node says with what it said before: events, each with the instant of its beginning where the node
    /// names one, and what is shown to whom.
    pub(super) fn take(
        &mut self,
        node: &DepartmentId,
        rules: &Rules,
        world: &str,
        roles: &[String],
        clock: &DrillClock,
    ) -> (Vec<(Option<campanile_alert::Timestamp>, What)>, Vec<Shown>) {
        let (mut events, mut shown) = (Vec::new(), Vec::new());
        let own = |pending: &&Pending| pending.world == world;
        let open: BTreeMap<&str, &Pending> = rules.pending.iter().filter(own).map(|p| (p.id.as_str(), p)).collect();
        self.pending.retain(|(at, id), _| {
            let stays = at != node || open.contains_key(id.as_str());
            if !stays {
                events.push((None, What::Closed { pending: id.clone() }));
            }
            stays
        });
        for pending in open.into_values() {
            let before = self.pending.insert((node.clone(), pending.id.clone()), pending.clone());
            let fresh: Vec<String> = match &before {
                None => pending.by.clone(),
                Some(before) => pending.by.iter().filter(|role| !before.by.contains(role)).cloned().collect(),
            };
            let on = match &before {
                Some(_) if fresh.is_empty() => continue,
                Some(_) => {
                    events.push((None, What::Escalated { pending: pending.id.clone(), to: fresh.clone() }));
                    Occasion::Escalated
                }
                None => {
                    events.push((pending.since, What::Asked(Box::new(asked(pending, clock)))));
                    if pending.against.is_some() { Occasion::Conflict } else { Occasion::Pending }
                }
            };
            shown.extend(fresh.into_iter().map(|role| Shown {
                role,
                on,
                rule: Some(pending.rule.clone()),
                effect: Some(pending.effect.clone()),
                inject: None,
                about: About::Question { node: node.clone(), pending: pending.id.clone(), rule: pending.rule.clone() },
            }));
        }
        let in_review = |effect: &&LiveEffect| effect.world == world && effect.in_review;
        let reviews: BTreeMap<EffectName, String> =
            rules.effects.iter().filter(in_review).map(|e| (named(e), e.identifier.clone())).collect();
        self.reviews.retain(|(at, effect), _| {
            let stays = at != node || reviews.contains_key(effect);
            if !stays {
                events.push((None, What::Reviewed { effect: effect.clone() }));
            }
            stays
        });
        for (effect, identifier) in reviews {
            if self.reviews.insert((node.clone(), effect.clone()), identifier.clone()).is_some() {
                continue;
            }
            events.push((None, What::Review { effect: effect.clone() }));
            shown.extend(roles.iter().map(|role| Shown {
                role: role.clone(),
                on: Occasion::Review,
                rule: Some(effect.rule.clone()),
                effect: Some(effect.effect.clone()),
                inject: None,
                about: About::Review { effect: effect.clone(), identifier: identifier.clone() },
            }));
        }
        (events, shown)
    }

    /// What waits under an id at a node.
    pub(super) fn pending(&self, node: &DepartmentId, id: &str) -> Option<&Pending> {
        self.pending.get(&(node.clone(), id.to_owned()))
    }

    /// What waits of a rule anywhere.
    pub(super) fn of_rule(&self, rule: &str) -> Option<(&DepartmentId, &Pending)> {
        self.pending.iter().find(|(_, pending)| pending.rule == rule).map(|((node, _), pending)| (node, pending))
    }
}

/// Answers a question with a player's own certificate.
///
/// # Errors
/// Why the node did not take it, in one sentence.
pub(super) async fn answer(client: &Client, pending: &Pending, approve: bool) -> Result<(), String> {
    let decision = Decision {
        pending_id: pending.id.clone(),
        shown_hash: hex::decode(&pending.shown_hash).map_err(|error| error.to_string())?,
        approve,
        reason: String::new(),
    };
    client.approve(&decision).await.map(drop).map_err(|error| error.to_string())
}

/// Ends an effect that waits for a review, with a player's own certificate.
///
/// # Errors
/// Why the node did not take it, in one sentence.
pub(super) async fn end(client: &Client, identifier: &str, reason: &str) -> Result<(), String> {
    let wanted = WantedAlert { sender: None, identifier: identifier.into(), sent: None };
    client.cancel(&wanted, reason).await.map(drop).map_err(|error| error.to_string())
}

/// What a player's acknowledgement is about.
pub(super) fn subject(about: &About) -> Subject {
    match about {
        About::Question { rule, .. } => Subject::Rule(rule.clone()),
        About::Review { effect, .. } => Subject::Rule(effect.rule.clone()),
        About::Message { inject } => Subject::Inject(inject.clone()),
        About::Stale { from } => Subject::Stale(from.clone()),
    }
}

/// Whether an act answers yes.
pub(super) fn approves(act: Act) -> bool {
    act == Act::Approve
}

/// The roles of a department among those that play.
pub(super) fn roles_of<'a>(players: impl Iterator<Item = &'a String>, department: &DepartmentId) -> Vec<String> {
    let own = |role: &&String| department_of(role) == department.as_str();
    players.filter(own).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn asked(pending: &Pending, clock: &DrillClock) -> Asked {
    Asked {
        pending: pending.id.clone(),
        rule: pending.rule.clone(),
        effect: pending.effect.clone(),
        targets: pending.targets.clone(),
        to: pending.by.clone(),
        need: pending.need,
        deadline: pending.deadline.map(|at| clock.ms(at)),
        against: pending.against.clone(),
        why: pending.why_en.clone(),
    }
}

fn named(effect: &LiveEffect) -> EffectName {
    EffectName { rule: effect.rule.clone(), effect: effect.effect.clone(), target: effect.target.clone() }
}
