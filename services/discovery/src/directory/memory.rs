//! The directory of one process: a hub in memory that each node joins. For `up`, for tests, and as the model of the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use campanile_alert::OriginId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::snapshot::{self, Differ, Snapshot};
use super::{
    Announcement, Directory, DirectoryHealth, Error, HINTS_MAX, Listing, PutOutcome, UPDATES_MAX, Update, VALUES_MAX,
    check_name, check_value,
};

/// What the nodes of one process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryHub(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    snapshot: Snapshot,
    rosters: BTreeMap<u64, Vec<u8>>,
    /// By folder; the revision is that of the folder's last change.
    folders: BTreeMap<String, Listing>,
    revision: u64,
}

impl Default for MemoryHub {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryHub {
    /// An empty hub.
    pub fn new() -> Self {
        Self(Arc::new(Hub { state: Mutex::default(), changed: watch::channel(0).0 }))
    }

    /// A node's way in. Dropping it ends the node's registration, as a lease would.
    pub fn join(&self) -> MemoryDirectory {
        MemoryDirectory { hub: self.clone(), own: Mutex::new(None) }
    }

    /// Puts any bytes under any origin's name, as somebody with access to a real directory could: for tests.
    pub fn put_raw(&self, origin: OriginId, envelope: Vec<u8>) {
        self.change(|state| {
            state.snapshot.hints.insert(origin, envelope);
        });
    }

    fn change<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        let out = {
            let mut state = self.0.state.lock();
            state.revision = state.revision.saturating_add(1);
            edit(&mut state)
        };
        self.0.changed.send_modify(|n| *n = n.wrapping_add(1));
        out
    }
}

/// One node's end of a [`MemoryHub`].
#[derive(Debug)]
pub struct MemoryDirectory {
    hub: MemoryHub,
    own: Mutex<Option<Announcement>>,
}

impl MemoryDirectory {
    fn leave(&self) {
        if let Some(own) = self.own.lock().take() {
            self.hub.change(|state| {
                if state.snapshot.hints.get(&own.origin) == Some(&own.envelope) {
                    state.snapshot.hints.remove(&own.origin);
                }
            });
        }
    }
}

impl Drop for MemoryDirectory {
    fn drop(&mut self) {
        self.leave();
    }
}

#[async_trait]
impl Directory for MemoryDirectory {
    fn announce(&self, origin: OriginId, instance: String, envelope: Vec<u8>) {
        self.hub.change(|state| {
            if state.snapshot.hints.len() < HINTS_MAX || state.snapshot.hints.contains_key(&origin) {
                state.snapshot.hints.insert(origin.clone(), envelope.clone());
            }
        });
        *self.own.lock() = Some(Announcement { origin, instance, envelope });
    }

    async fn withdraw(&self) {
        self.leave();
    }

    fn watch(&self) -> mpsc::Receiver<Update> {
        let (to, updates) = mpsc::channel(UPDATES_MAX);
        let mut changed = self.hub.0.changed.subscribe();
        // The task must not keep the hub alive by itself, or it would wait for ever for a change that cannot come.
        let hub = Arc::downgrade(&self.hub.0);
        tokio::spawn(async move {
            let mut differ = Differ::default();
            loop {
                let Some(now) = hub.upgrade().map(|hub| hub.state.lock().snapshot.clone()) else { return };
                if !snapshot::send(&to, differ.next(now)).await {
                    return;
                }
                tokio::select! {
                    changed = changed.changed() => if changed.is_err() { return },
                    () = to.closed() => return,
                }
            }
        });
        updates
    }

    async fn roster(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.hub.0.state.lock().snapshot.roster.clone())
    }

    async fn publish_roster(&self, number: u64, envelope: &[u8]) -> Result<(), Error> {
        self.hub.change(|state| match state.rosters.get(&number) {
            Some(there) if there != envelope => Err(Error::RosterConflict(number)),
            _ => {
                state.rosters.insert(number, envelope.to_vec());
                state.snapshot.roster = state.rosters.last_key_value().map(|(_, newest)| newest.clone());
                Ok(())
            }
        })
    }

    async fn list(&self, folder: &str) -> Result<Listing, Error> {
        check_name(folder)?;
        Ok(self.hub.0.state.lock().folders.get(folder).cloned().unwrap_or_default())
    }

    async fn put_unless_changed(
        &self,
        folder: &str,
        revision: u64,
        name: &str,
        bytes: &[u8],
    ) -> Result<PutOutcome, Error> {
        check_name(folder)?;
        check_name(name)?;
        check_value(bytes)?;
        self.hub.change(|state| {
            let now = state.revision;
            let there = state.folders.entry(folder.into()).or_default();
            if there.revision != revision {
                return Ok(PutOutcome::Changed);
            }
            if there.values.len() >= VALUES_MAX && !there.values.contains_key(name) {
                return Err(Error::Invalid(format!("the folder {folder} is full")));
            }
            there.revision = now;
            there.values.insert(name.into(), bytes.to_vec());
            Ok(PutOutcome::Done)
        })
    }

    fn health(&self) -> DirectoryHealth {
        let own = self.own.lock();
        let state = self.hub.0.state.lock();
        let registered = own.as_ref().is_some_and(|o| state.snapshot.hints.get(&o.origin) == Some(&o.envelope));
        DirectoryHealth { contact_age: Some(std::time::Duration::ZERO), registered, ..DirectoryHealth::default() }
    }
}
