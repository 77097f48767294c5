//! What controllers, players and observers say, and who may say it.

use super::{Play, Stand, Step};
use crate::live::control::{Command, Request};
use crate::transcript::{Subject, What};

impl Play<'_> {
    /// A controller, player or observer says something.
    pub(super) fn command(&mut self, request: Request) {
        let Request { command, answer } = request;
        let answered = self.obey(command);
        // Whoever asked may have gone.
        drop(answer.send(answered));
    }

    fn obey(&mut self, command: Command) -> Result<String, String> {
        let controllers = &self.scenario.cast.controllers;
        let controls = |by: &str| match controllers.iter().any(|one| one == by) {
            true => Ok(()),
            false => Err(format!("{by} is no controller of this drill; {} may say that", controllers.join(" or "))),
        };
        let now = self.clock.instant();
        match command {
            Command::Pause { by } => {
                controls(&by)?;
                if self.pause(&by) {
                    Ok(format!("paused at {}", self.clock.now()))
                } else {
                    Err("it stands already".into())
                }
            }
            Command::Resume { by } => {
                controls(&by)?;
                if !self.clock.resume() {
                    return Err("it does not stand".into());
                }
                self.stand = Stand::Running;
                self.gate.send_replace(true);
                self.emit(self.clock.instant(), None, What::Resumed { by: by.clone() });
                self.say(format!("RESUMED: {by}"));
                Ok(format!("goes on at {}", self.clock.now()))
            }
            Command::Inject { by, id } => {
                controls(&by)?;
                let index = self.scenario.injects.iter().position(|inject| inject.id == id);
                let index = index.ok_or_else(|| format!("there is no inject {id}"))?;
                self.scenario.injects.get(index).map_or(Ok(()), |inject| self.injects.may(inject))?;
                if self.stand != Stand::Running || self.clock.is_paused() {
                    return Err("the drill stands; resume it first".into());
                }
                self.schedule.retain(|_, step| !matches!(step, Step::Inject(planned) if *planned == index));
                self.inject(index, true);
                Ok(format!("{id} was brought about at {}", self.clock.now()))
            }
            Command::Abort { by } => {
                let named: Vec<&String> =
                    self.scenario.guards.iter().filter_map(|guard| guard.abort.as_ref()).flat_map(|a| &a.by).collect();
                if !named.contains(&&by) {
                    controls(&by)?;
                }
                self.flush(true);
                self.write(self.clock.at(now), None, What::Aborted { by: by.clone() });
                self.say(format!("ABORTED: {by}"));
                self.reason = format!("{}: the exercise was called off by {by}", self.exercise);
                (self.stand, self.aborted) = (Stand::Over, true);
                Ok("everything of the exercise is being cancelled".into())
            }
            Command::Ack { by, inject } => {
                let is_for = self.scenario.injects.iter().any(|one| one.id == inject && one.to.as_ref() == Some(&by));
                if !is_for || !self.passed_on.contains(&inject) {
                    return Err(format!("{by} was not told {inject}; name the inject and the role it was for"));
                }
                let about = Subject::Inject(inject.clone());
                self.emit(now, None, What::Acked { person: by.clone(), about });
                Ok(format!("{by} has seen {inject} at {}", self.clock.now()))
            }
            Command::Judge { by, expectation, mark, remark } => {
                let found =
                    (0..self.scenario.expect.len()).find(|index| self.scenario.expectation(*index) == expectation);
                let expect = found.and_then(|index| self.scenario.expect.get(index));
                if expect.and_then(|expect| expect.judged_by.as_ref()) != Some(&by) {
                    return Err(format!("{expectation} is not for {by} to judge"));
                }
                self.emit(now, None, What::Judged { expectation: expectation.clone(), by, mark, remark });
                Ok(format!("{expectation} has mark {mark}"))
            }
            Command::Status => {
                let stand = match self.stand {
                    Stand::Frozen(_) => "frozen",
                    Stand::Running if self.clock.is_paused() => "paused",
                    Stand::Running => "running",
                    Stand::Over => "over",
                };
                Ok(format!("{stand} at {} of {}", self.clock.now(), self.scenario.end()))
            }
        }
    }
}
