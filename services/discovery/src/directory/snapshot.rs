//! Updates from two pictures of a directory, for those that have no change feed of their own.

use std::collections::BTreeMap;

use campanile_alert::OriginId;
use tokio::sync::mpsc;

use super::{Entry, Update};

/// All that watchers may see, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) hints: BTreeMap<OriginId, Vec<u8>>,
    pub(super) roster: Option<Vec<u8>>,
}

/// Turns each picture into the updates since the one before.
#[derive(Debug, Default)]
pub(super) struct Differ(Option<Snapshot>);

impl Differ {
    pub(super) fn next(&mut self, now: Snapshot) -> Vec<Update> {
        let entry =
            |(origin, envelope): (&OriginId, &Vec<u8>)| Entry { origin: origin.clone(), envelope: envelope.clone() };
        let mut updates = Vec::new();
        match &self.0 {
            None => updates.push(Update::Reset(now.hints.iter().map(entry).collect())),
            Some(before) => {
                let changed =
                    now.hints.iter().filter(|(origin, envelope)| before.hints.get(*origin) != Some(*envelope));
                updates.extend(changed.map(entry).map(Update::Put));
                let gone = before.hints.keys().filter(|origin| !now.hints.contains_key(*origin));
                updates.extend(gone.cloned().map(Update::Gone));
            }
        }
        if now.roster != self.0.as_ref().and_then(|before| before.roster.clone()) {
            updates.extend(now.roster.clone().map(Update::Roster));
        }
        self.0 = Some(now);
        updates
    }
}

/// Hands updates over, waiting where the watcher is slow. False when the watcher is gone.
pub(super) async fn send(to: &mpsc::Sender<Update>, updates: Vec<Update>) -> bool {
    for update in updates {
        if to.send(update).await.is_err() {
            return false;
        }
    }
    true
}
