//! What the controllers bring about.

use campanile_alert::{AlertId, DepartmentId, MessageType, Status, World, classify::classify, vocabulary};
use campanile_log::Key;
use campanile_rules::short::{Frame, ShortAlert};

use super::record::{Body, Content, Unsealed};
use super::{Act, Error, Federation};
use crate::scenario::{Act as Answer, Inject, Via};
use crate::transcript::What;

/// What an inject has said so far, through its updates.
#[derive(Debug, Clone)]
pub(super) struct Said {
    words: ShortAlert,
    from: DepartmentId,
    world: World,
    ids: Vec<AlertId>,
    /// The last message, to be sent again by a sender that is stuck.
    last: Option<(Unsealed, Key)>,
}

impl Federation<'_> {
    /// An inject's time has come.
    pub(super) fn inject(&mut self, index: usize) -> Result<(), Error> {
        let scenario = self.scenario;
        let Some(inject) = scenario.injects.get(index) else { return Ok(()) };
        if self.frozen {
            return Ok(());
        }
        if let Some(condition) = &inject.only_if
            && !self.judge.holds(condition)
        {
            let why = "its condition does not hold".into();
            self.emit(None, What::Skipped { id: inject.id.clone(), why });
            return Ok(());
        }
        self.emit(None, What::Inject { id: inject.id.clone() });
        match inject.via {
            Via::Alert => {
                let times = i64::from(inject.times.unwrap_or(1).max(1));
                let within = inject.within.unwrap_or_default().ms();
                for n in 0..times {
                    let at = self.now + within * n / times;
                    let copy = u32::try_from(n).unwrap_or(u32::MAX);
                    self.later(at, Act::Publish { inject: inject.id.clone(), copy });
                }
                Ok(())
            }
            Via::Person => {
                if let Some(role) = &inject.to {
                    self.emit(None, What::Told { person: role.clone(), inject: inject.id.clone() });
                    self.tell(role, &inject.id);
                }
                Ok(())
            }
            Via::Approval => {
                let approve = inject.answer.unwrap_or(Answer::Approve) != Answer::Reject;
                match (&inject.to, &inject.rule) {
                    (Some(role), Some(rule)) => self.answer_rule(role, rule, approve, &inject.id),
                    _ => Ok(()),
                }
            }
        }
    }

    /// One message of an inject is published.
    pub(super) fn publish_inject(&mut self, id: &str, copy: u32) -> Result<(), Error> {
        let scenario = self.scenario;
        let Some(inject) = scenario.injects.iter().find(|inject| inject.id == id) else { return Ok(()) };
        let before = inject.updates.as_ref().or(inject.cancels.as_ref());
        let root = before.map_or_else(|| id.to_owned(), |of| self.roots.get(of).unwrap_or(of).clone());
        self.roots.insert(id.into(), root.clone());
        if before.is_none() {
            let Some(said) = self.begin(inject)? else { return Ok(()) };
            return self.speak(inject, &root, copy, said, MessageType::Alert);
        }
        let msg_type = if inject.cancels.is_some() { MessageType::Cancel } else { MessageType::Update };
        let all = self.said.remove(&root).unwrap_or_default();
        if all.is_empty() {
            let why = format!("there is nothing of {root} that it could follow");
            self.emit(None, What::Refused { inject: Some(id.into()), why });
        }
        for (index, mut said) in all.into_iter().enumerate() {
            if let Some(words) = &inject.alert {
                said.words = words.over(&said.words);
            }
            let copy = u32::try_from(index).unwrap_or(u32::MAX);
            self.speak(inject, &root, copy, said, msg_type)?;
        }
        Ok(())
    }

    /// A new lineage, with the world that its status says.
    fn begin(&mut self, inject: &Inject) -> Result<Option<Said>, Error> {
        let Some(words) = inject.alert.clone() else { return Ok(None) };
        let from = DepartmentId::try_new(inject.from.as_deref().unwrap_or_default())?;
        let world = match words.status.as_deref().and_then(Status::from_cap) {
            Some(Status::Actual) => World::Actual,
            Some(Status::Test) => World::Test,
            Some(Status::System) => World::System,
            _ => self.world.clone(),
        };
        Ok(Some(Said { words, from, world, ids: Vec::new(), last: None }))
    }

    fn speak(
        &mut self,
        inject: &Inject,
        root: &str,
        copy: u32,
        mut said: Said,
        msg_type: MessageType,
    ) -> Result<(), Error> {
        let number = if copy > 0 { format!("-{}", copy + 1) } else { String::new() };
        let made = said.words.to_cap(Frame {
            identifier: format!("{}-{}{number}", self.scenario.mode.exercise_id, inject.id),
            sender: format!("desk@{}.drill", said.from),
            status: said.world.status(),
            msg_type,
            sent: self.clock_of(&said.from),
            of: &said.ids,
        });
        let mut alert = match made {
            Ok(alert) => alert,
            Err(why) => {
                self.emit(None, What::Refused { inject: Some(inject.id.clone()), why });
                return Ok(());
            }
        };
        if said.world == self.world {
            let marker = &self.scenario.mode.marker.en;
            for info in &mut alert.infos {
                let headline = info.headline.take().unwrap_or_else(|| info.event.clone());
                info.headline = Some(format!("{marker} {headline}"));
            }
        }
        let words = classify(&alert, vocabulary::v1());
        let id = alert.id();
        let key = Key(format!("{}\n{id}", said.from).into_bytes());
        let body = Body {
            inject: Some(inject.id.clone()),
            author: said.words.author.clone(),
            ..Body::plain(Content::Alert(Box::new(alert), words))
        };
        let unsealed = Unsealed { world: said.world.clone(), body };
        said.ids.push(id);
        said.last = Some((unsealed.clone(), key.clone()));
        let from = said.from.clone();
        // A Cancel ends it; another inject of the same name would begin anew.
        self.said.entry(root.into()).or_default().push(said);
        if self.can_publish(&from, Some(&inject.id)) {
            self.publish(&from, unsealed.world, unsealed.body, Some(key))?;
        }
        Ok(())
    }

    /// A sender that is stuck sends the same again.
    pub(super) fn publish_again(&mut self, id: &str) -> Result<(), Error> {
        let root = self.roots.get(id).cloned().unwrap_or_else(|| id.into());
        let said = self.said.get(&root).and_then(|all| all.first()).cloned();
        let Some(Said { from, last: Some((unsealed, key)), .. }) = said else { return Ok(()) };
        if self.can_publish(&from, Some(id)) {
            self.publish(&from, unsealed.world, unsealed.body, Some(key))?;
        }
        Ok(())
    }

    /// Whether a node takes something to publish; when not, that is said.
    pub(super) fn can_publish(&mut self, id: &DepartmentId, inject: Option<&str>) -> bool {
        let why = match self.nodes.get(id) {
            None => format!("{id} has no node in this drill"),
            Some(node) if !node.is_up() => format!("{id}'s node is down"),
            Some(node) if node.disk_full => format!("{id}'s disk is full"),
            Some(_) => return true,
        };
        self.emit(Some(id), What::Refused { inject: inject.map(String::from), why });
        false
    }
}
