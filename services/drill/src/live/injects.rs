//! What script nodes publish: each message by its department's own client, with status Exercise and the marker.

use std::collections::BTreeMap;

use campanile_alert::{Alert, AlertId, DepartmentId, ExerciseId, MessageType, Status, vocabulary};
use campanile_client::{Client, Publish};
use campanile_rules::short::{Frame, ShortAlert};

use super::Crew;
use super::clock::DrillClock;
use crate::scenario::{Inject, Mode};

/// What an inject has said so far, through its updates: a lineage for each of its alerts.
#[derive(Debug, Clone)]
struct Said {
    words: ShortAlert,
    from: DepartmentId,
    ids: Vec<AlertId>,
    last: Alert,
}

/// All that was said.
#[derive(Debug, Default)]
pub(super) struct Injects {
    /// By the inject that began it.
    said: BTreeMap<String, Vec<Said>>,
    /// The inject that began what an inject goes on with.
    roots: BTreeMap<String, String>,
}

/// A message, made and not yet published.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) inject: String,
    pub(super) from: DepartmentId,
    pub(super) alert: Alert,
}

impl Injects {
    /// The messages of an inject now; `copy` is the number of one that is spread over time.
    ///
    /// # Errors
    /// Why there is none, in one sentence.
    pub(super) fn make(
        &mut self,
        inject: &Inject,
        copy: u32,
        mode: &Mode,
        clock: &DrillClock,
    ) -> Result<Vec<Message>, String> {
        let before = inject.updates.as_ref().or(inject.cancels.as_ref());
        let root = before.map_or_else(|| inject.id.clone(), |of| self.roots.get(of).unwrap_or(of).clone());
        self.roots.insert(inject.id.clone(), root.clone());
        if before.is_none() {
            let words = inject.alert.clone().ok_or_else(|| format!("inject {} says nothing", inject.id))?;
            let from = DepartmentId::try_new(inject.from.as_deref().unwrap_or_default());
            let from = from.map_err(|error| error.to_string())?;
            let alert = made(inject, copy, mode, &words, &from, &[], MessageType::Alert, clock)?;
            let said = Said { words, from: from.clone(), ids: vec![alert.id()], last: alert.clone() };
            self.said.entry(root).or_default().push(said);
            return Ok(vec![Message { inject: inject.id.clone(), from, alert }]);
        }
        let msg_type = if inject.cancels.is_some() { MessageType::Cancel } else { MessageType::Update };
        let all = self.said.get_mut(&root).ok_or_else(|| format!("there is nothing of {root} that it could follow"))?;
        let mut messages = Vec::new();
        for (copy, said) in all.iter_mut().enumerate() {
            if let Some(words) = &inject.alert {
                said.words = words.over(&said.words);
            }
            let copy = u32::try_from(copy).unwrap_or(u32::MAX);
            let alert = made(inject, copy, mode, &said.words, &said.from, &said.ids, msg_type, clock)?;
            said.ids.push(alert.id());
            said.last = alert.clone();
            messages.push(Message { inject: inject.id.clone(), from: said.from.clone(), alert });
        }
        Ok(messages)
    }

    /// Whether what an inject updates or cancels has been said; one that follows nothing always may.
    ///
    /// # Errors
    /// The inject that has to come first, in one sentence.
    pub(super) fn may(&self, inject: &Inject) -> Result<(), String> {
        let Some(of) = inject.updates.as_ref().or(inject.cancels.as_ref()) else { return Ok(()) };
        let root = self.roots.get(of).unwrap_or(of);
        if self.said.contains_key(root) {
            return Ok(());
        }
        Err(format!("{} follows {of}, which was not brought about yet", inject.id))
    }

    /// What a sender that is stuck sends again: the last message of an inject's lineage.
    pub(super) fn last(&self, inject: &str) -> Option<Message> {
        let root = self.roots.get(inject).map_or(inject, String::as_str);
        let said = self.said.get(root)?.first()?;
        Some(Message { inject: inject.into(), from: said.from.clone(), alert: said.last.clone() })
    }
}

#[allow(clippy::too_many_arguments, reason = "each is a part of one message")]
fn made(
    inject: &Inject,
    copy: u32,
    mode: &Mode,
    words: &ShortAlert,
    from: &DepartmentId,
    of: &[AlertId],
    msg_type: MessageType,
    clock: &DrillClock,
) -> Result<Alert, String> {
    let number = if copy > 0 { format!("-{}", copy + 1) } else { String::new() };
    let words = admissible(words);
    // Each run has names of its own: the bus never forgets one.
    let run = clock.beginning().as_millisecond();
    let mut alert = words.to_cap(Frame {
        identifier: format!("{}-{run}-{}{number}", mode.exercise_id, inject.id),
        sender: format!("desk@{from}.drill"),
        status: Status::Exercise,
        msg_type,
        sent: clock.instant(),
        of,
    })?;
    let marker = &mode.marker.en;
    alert.note = Some(format!("{marker} {}", mode.exercise_id).trim().to_owned());
    for info in &mut alert.infos {
        let headline = info.headline.take().unwrap_or_else(|| info.event.clone());
        info.headline = Some(format!("{marker} {headline}"));
    }
    Ok(alert)
}

/// The words with a time to hold that the bus admits, where they say none: a story's default is longer than most events
/// may hold.
fn admissible(words: &ShortAlert) -> ShortAlert {
    let event = words.event.as_deref().and_then(|event| vocabulary::v1().event(event));
    let ceiling = event.map(|event| format!("{}s", event.expires_max.as_secs()));
    ShortAlert { expires: words.expires.clone().or(ceiling), ..words.clone() }
}

/// Publishes a message at its department's node. True when the node had it already.
///
/// # Errors
/// Why it was refused, in one sentence.
pub(super) async fn publish(crew: &Crew, message: &Message, exercise: &ExerciseId) -> Result<bool, String> {
    let client: &Client = crew.nodes.get(&message.from).ok_or_else(|| format!("{} has no node here", message.from))?;
    let publish = Publish::alert(&message.alert).exercise(exercise);
    client.publish(&publish).await.map(|published| published.duplicate).map_err(|error| error.to_string())
}
