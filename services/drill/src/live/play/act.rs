//! What is due is done: injects, faults, and what scripted players do.

use campanile_alert::DepartmentId;
use sha2::{Digest as _, Sha256};

use super::{Done, Play, Step, WAITING_MAX};
use crate::live::injects::Message;
use crate::live::people::{About, Shown, answer, approves, end, subject};
use crate::scenario::{Act, Occasion, Reaction, Via, department_of};
use crate::transcript::What;

impl Play<'_> {
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Inject(index) => self.inject(index, false),
            Step::Publish { inject, copy } => self.publish_inject(inject, copy),
            Step::Again { inject } => {
                if let Some(message) = self.injects.last(&inject) {
                    self.send(message);
                }
            }
            Step::FaultBegins(index) => self.fault(index),
            Step::FaultEnds(index) => {
                let fault = u32::try_from(index + 1).unwrap_or(u32::MAX);
                if self.scenario.faults.get(index).is_some_and(|fault| fault.duplicate.is_none()) {
                    self.say(format!("BY HAND: end fault {fault} now"));
                }
                self.emit(self.clock.instant(), None, What::FaultEnded { fault });
            }
            Step::React(what) => self.react(&what.0, &what.1),
        }
    }

    /// An inject's time has come, or a controller wants it now.
    pub(super) fn inject(&mut self, index: usize, by_hand: bool) {
        let scenario = self.scenario;
        let Some(inject) = scenario.injects.get(index) else { return };
        let now = self.clock.instant();
        if let Some(condition) = inject.only_if.as_ref().filter(|_| !by_hand) {
            self.flush(true);
            if !self.judge.holds(condition) {
                let why = "its condition does not hold".into();
                self.emit(now, None, What::Skipped { id: inject.id.clone(), why });
                return;
            }
        }
        self.emit(now, None, What::Inject { id: inject.id.clone() });
        match inject.via {
            Via::Alert => {
                let times = i64::from(inject.times.unwrap_or(1).max(1));
                let within = inject.within.unwrap_or_default().ms();
                let start = self.clock.now().ms();
                for n in 0..times {
                    let copy = u32::try_from(n).unwrap_or(u32::MAX);
                    match within * n / times {
                        0 => self.publish_inject(index, copy),
                        after => self.later(start + after, Step::Publish { inject: index, copy }),
                    }
                }
            }
            Via::Person => {
                let Some(role) = &inject.to else { return };
                self.say(format!("TELL {role} ({}): {}", inject.id, inject.say.as_deref().unwrap_or_default()));
                self.emit(now, None, What::Told { person: role.clone(), inject: inject.id.clone() });
                self.passed_on.insert(inject.id.clone());
                self.show(Shown {
                    role: role.clone(),
                    on: Occasion::Message,
                    rule: None,
                    effect: None,
                    inject: Some(inject.id.clone()),
                    about: About::Message { inject: inject.id.clone() },
                });
            }
            Via::Approval => {
                let (Some(role), Some(rule)) = (&inject.to, &inject.rule) else { return };
                let approve = inject.answer.unwrap_or(Act::Approve) != Act::Reject;
                match self.people.of_rule(rule).map(|(node, pending)| (node.clone(), pending.id.clone())) {
                    Some((node, pending)) => self.answer(role, &node, &pending, approve),
                    None => {
                        let why = format!("{rule} asks nobody at that time");
                        self.emit(now, None, What::Refused { inject: Some(inject.id.clone()), why });
                    }
                }
            }
        }
    }

    fn publish_inject(&mut self, index: usize, copy: u32) {
        let scenario = self.scenario;
        let Some(inject) = scenario.injects.get(index) else { return };
        match self.injects.make(inject, copy, &scenario.mode, &self.clock) {
            Ok(messages) => messages.into_iter().for_each(|message| self.send(message)),
            Err(why) => {
                self.say(format!("inject {} was not published: {why}", inject.id));
                let inject = Some(inject.id.clone());
                self.emit(self.clock.instant(), None, What::Refused { inject, why });
            }
        }
    }

    /// Hands a message to the task that publishes at its node.
    fn send(&mut self, message: Message) {
        self.known.injects.insert(message.alert.id().to_string(), message.inject.clone());
        let (node, inject) = (message.from.clone(), message.inject.clone());
        let sent = self.publishers.get(&node).map(|publisher| publisher.try_send(Box::new(message)).is_ok());
        let why = match sent {
            Some(true) => return,
            Some(false) => format!("more than {WAITING_MAX} messages wait for {node}'s node"),
            None => format!("{node} has no node in this drill"),
        };
        self.emit(self.clock.instant(), Some(&node), What::Refused { inject: Some(inject), why });
    }

    fn fault(&mut self, index: usize) {
        let scenario = self.scenario;
        let Some(fault) = scenario.faults.get(index) else { return };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let what = fault.in_words();
        let begin = self.clock.now().ms();
        if let Some(inject) = &fault.duplicate {
            let repeat = i64::from(fault.repeat.unwrap_or(1));
            let within = fault.within.unwrap_or_default().ms();
            for n in 0..repeat {
                self.later(begin + within * n / repeat.max(1), Step::Again { inject: inject.clone() });
            }
            self.later(begin + within, Step::FaultEnds(index));
        } else {
            let lasts = fault.lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            self.say(format!("BY HAND: begin fault {number} now{lasts}: {what}"));
            if let Some(lasts) = fault.lasts {
                self.later(begin + lasts.ms(), Step::FaultEnds(index));
            }
        }
        self.emit(self.clock.instant(), None, What::FaultBegan { fault: number, what });
    }

    /// A scripted player does what its script says, with its own certificate.
    fn react(&mut self, shown: &Shown, reaction: &Reaction) {
        match (reaction.act, &shown.about) {
            (Act::Approve | Act::Reject, About::Question { node, pending, .. }) => {
                self.answer(&shown.role, node, pending, approves(reaction.act));
            }
            (Act::End, About::Review { identifier, effect }) => {
                let acked = What::Acked { person: shown.role.clone(), about: subject(&shown.about) };
                let node = self.node_of(&shown.role);
                self.emit(self.clock.instant(), node.as_ref(), acked);
                let Some(client) = self.crew.players.get(&shown.role).cloned() else { return };
                let (identifier, results) = (identifier.clone(), self.results.clone());
                let reason = format!("{} ended {} in exercise {}", shown.role, effect.effect, self.exercise);
                self.tasks.spawn(async move {
                    if let Err(why) = end(&client, &identifier, &reason).await {
                        // Nobody listens once the run is over.
                        drop(results.send(Done::Said(format!("the effect was not ended: {why}"))).await);
                    }
                });
            }
            (Act::Acknowledge, about) => {
                let node = self.node_of(&shown.role);
                let what = What::Acked { person: shown.role.clone(), about: subject(about) };
                self.emit(self.clock.instant(), node.as_ref(), what);
            }
            (Act::Play, _) => {
                let wanted = reaction.play.as_ref();
                let index = self.scenario.injects.iter().position(|inject| Some(&inject.id) == wanted);
                index.into_iter().for_each(|index| self.inject(index, false));
            }
            _ => {}
        }
    }

    fn answer(&mut self, role: &str, node: &DepartmentId, id: &str, approve: bool) {
        let Some(pending) = self.people.pending(node, id).filter(|pending| pending.by.iter().any(|by| by == role))
        else {
            return;
        };
        let (pending, Some(client)) = (pending.clone(), self.crew.players.get(role).cloned()) else {
            return;
        };
        let (results, role) = (self.results.clone(), role.to_owned());
        self.tasks.spawn(async move {
            if let Err(why) = answer(&client, &pending, approve).await {
                drop(results.send(Done::Said(format!("{role}'s answer was not taken: {why}"))).await);
            }
        });
    }

    /// The department of a role, when its node takes part.
    fn node_of(&self, role: &str) -> Option<DepartmentId> {
        self.crew.nodes.keys().find(|id| id.as_str() == department_of(role)).cloned()
    }

    /// A role is shown something: people see it themselves, a script reacts.
    pub(super) fn show(&mut self, shown: Shown) {
        if !self.options.scripted {
            return;
        }
        let scenario = self.scenario;
        let Some(player) = scenario.cast.players.get(&shown.role) else { return };
        let now = self.clock.now().ms();
        for (_, reaction) in player.reactions(&shown.prompt()) {
            let jitter = self.up_to(reaction.jitter.unwrap_or_default().ms());
            let at = now + reaction.after.ms().max(0) + jitter;
            self.later(at, Step::React(Box::new((shown.clone(), reaction.clone()))));
        }
    }

    /// A number from nought to `most`, from the seed.
    fn up_to(&self, most: i64) -> i64 {
        let digest = Sha256::digest(format!("{} {}", self.scenario.clock.seed, self.number));
        let bytes: [u8; 4] = [digest[0], digest[1], digest[2], digest[3]];
        if most > 0 { i64::from(u32::from_be_bytes(bytes)) % (most + 1) } else { 0 }
    }
}
