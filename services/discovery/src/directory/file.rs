//! The directory of a shared folder: one file per hint, roster and value, read at an interval.
//!
//! ```text
//! <folder>/lock                                  held while a value or roster is compared and written
//!          nodes/<department>/<node>.json         the hint's envelope
//!          roster/v<number, 20 digits>.json       the roster's envelope
//!          values/<folder>.json                   {"revision": …, "values": {<name>: base64}}
//! ```
//!
//! Every file is written beside its name, synced and renamed, so a reader or a crash sees a whole file or none. There
//! are no leases: a hint stays until its node withdraws it, which is fine for what is never more than a hint.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campanile_alert::{DepartmentId, OriginId};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::snapshot::{self, Differ, Snapshot};
use super::{
    Announcement, Directory, DirectoryHealth, Error, HINTS_MAX, Listing, Monitor, PutOutcome, UPDATES_MAX, Update,
    VALUES_MAX, check_name, check_value,
};
use crate::hint::HINT_BYTES_MAX;
use crate::roster::{ROSTER_BYTES_MAX, read_bounded, write_whole};

/// How long another process may hold the lock before a write gives up.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// The longest file of values, in bytes.
const FOLDER_BYTES_MAX: usize = 64 << 20;

/// A folder as directory.
#[derive(Debug)]
pub struct FileDirectory {
    folder: PathBuf,
    poll: Duration,
    monitor: Arc<Monitor>,
    own: watch::Sender<Option<Announcement>>,
}

/// A folder of values as it stands in its file.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    revision: u64,
    values: BTreeMap<String, String>,
}

impl FileDirectory {
    /// Uses a folder, and makes it where it is missing. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the folder cannot be made.
    pub fn open(folder: impl Into<PathBuf>, poll: Duration) -> Result<Self, Error> {
        let folder = folder.into();
        for part in ["nodes", "roster", "values"] {
            std::fs::create_dir_all(folder.join(part)).map_err(|e| unavailable(&folder, &e))?;
        }
        let monitor = Arc::new(Monitor::default());
        let (own, wanted) = watch::channel(None);
        tokio::spawn(keep_registered(folder.clone(), poll, monitor.clone(), wanted));
        Ok(Self { folder, poll, monitor, own })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await.map_err(io::Error::other);
        match done.flatten() {
            Ok(out) => {
                self.monitor.contact();
                Ok(out)
            }
            Err(error) => {
                self.monitor.failed(&error);
                Err(unavailable(&self.folder, &error))
            }
        }
    }
}

fn unavailable(folder: &Path, error: &io::Error) -> Error {
    Error::Unavailable { place: folder.display().to_string(), reason: error.to_string() }
}

fn hint_path(folder: &Path, origin: &OriginId) -> PathBuf {
    folder.join("nodes").join(origin.department().as_str()).join(format!("{}.json", origin.node()))
}

fn roster_path(folder: &Path, number: u64) -> PathBuf {
    folder.join("roster").join(format!("v{number:020}.json"))
}

fn values_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("values").join(format!("{name}.json"))
}

fn read_optional(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    match read_bounded(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts the wanted hint back whenever it is missing or other than wanted, until the directory is dropped.
async fn keep_registered(
    folder: PathBuf,
    poll: Duration,
    monitor: Arc<Monitor>,
    mut wanted: watch::Receiver<Option<Announcement>>,
) {
    loop {
        let own = wanted.borrow_and_update().clone();
        if let Some(own) = own {
            let folder = folder.clone();
            let put = move || -> io::Result<()> {
                let path = hint_path(&folder, &own.origin);
                if read_optional(&path, HINT_BYTES_MAX)?.as_ref() != Some(&own.envelope) {
                    std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                    write_whole(&path, &own.envelope, false)?;
                }
                Ok(())
            };
            match tokio::task::spawn_blocking(put).await.map_err(io::Error::other).flatten() {
                Ok(()) => {
                    monitor.contact();
                    monitor.registered(true);
                }
                Err(error) => {
                    monitor.failed(&error);
                    monitor.registered(false);
                }
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(poll) => {}
        }
    }
}

fn take_snapshot(folder: &Path) -> io::Result<Snapshot> {
    let mut now = Snapshot::default();
    let names = |path: &Path| -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)?.take(HINTS_MAX) {
            let entry = entry?;
            found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
        }
        Ok(found)
    };
    for (department, path) in names(&folder.join("nodes"))? {
        let Ok(department) = DepartmentId::try_new(department) else { continue };
        for (name, path) in names(&path)? {
            let Some(node) = name.strip_suffix(".json") else { continue };
            let Ok(origin) = OriginId::try_new(department.clone(), node) else { continue };
            // A file that vanishes or is too long between listing and reading is one hint fewer, not a failure.
            if let Ok(Some(envelope)) = read_optional(&path, HINT_BYTES_MAX)
                && now.hints.len() < HINTS_MAX
            {
                now.hints.insert(origin, envelope);
            }
        }
    }
    now.roster = newest_roster(folder)?;
    Ok(now)
}

fn newest_roster(folder: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder.join("roster"))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let number = name.strip_prefix('v').and_then(|n| n.strip_suffix(".json")?.parse::<u64>().ok());
        newest = newest.max(number);
    }
    newest.map_or(Ok(None), |number| read_optional(&roster_path(folder, number), ROSTER_BYTES_MAX))
}

/// Runs `work` while holding the folder's lock.
fn locked<T>(folder: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    let begun = std::time::Instant::now();
    while let Err(error) = lock.try_lock() {
        if begun.elapsed() > LOCK_WAIT_MAX {
            return Err(io::Error::other(format!("the lock is held by another process: {error}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // The lock goes with the file handle.
    work()
}

fn read_values(path: &Path) -> io::Result<Stored> {
    match read_optional(path, FOLDER_BYTES_MAX)? {
        Some(text) => Ok(serde_json::from_slice(&text)?),
        None => Ok(Stored::default()),
    }
}

#[async_trait]
impl Directory for FileDirectory {
    fn announce(&self, origin: OriginId, instance: String, envelope: Vec<u8>) {
        self.own.send_replace(Some(Announcement { origin, instance, envelope }));
    }

    async fn withdraw(&self) {
        if let Some(own) = self.own.send_replace(None) {
            let remove = move |folder: &Path| {
                let path = hint_path(folder, &own.origin);
                match read_optional(&path, HINT_BYTES_MAX)? {
                    Some(there) if there == own.envelope => std::fs::remove_file(path),
                    _ => Ok(()),
                }
            };
            if let Err(error) = self.blocking(remove).await {
                tracing::debug!(%error, "Hint left behind");
            }
            self.monitor.registered(false);
        }
    }

    fn watch(&self) -> mpsc::Receiver<Update> {
        let (to, updates) = mpsc::channel(UPDATES_MAX);
        let (folder, poll, monitor) = (self.folder.clone(), self.poll, self.monitor.clone());
        tokio::spawn(async move {
            let mut differ = Differ::default();
            loop {
                let place = folder.clone();
                let taken = tokio::task::spawn_blocking(move || take_snapshot(&place)).await;
                match taken.map_err(io::Error::other).flatten() {
                    Ok(now) => {
                        monitor.contact();
                        if !snapshot::send(&to, differ.next(now)).await {
                            return;
                        }
                    }
                    Err(error) => monitor.failed(&error),
                }
                tokio::select! {
                    () = to.closed() => return,
                    () = tokio::time::sleep(poll) => {}
                }
            }
        });
        updates
    }

    async fn roster(&self) -> Result<Option<Vec<u8>>, Error> {
        self.blocking(newest_roster).await
    }

    async fn publish_roster(&self, number: u64, envelope: &[u8]) -> Result<(), Error> {
        let envelope = envelope.to_vec();
        let put = move |folder: &Path| {
            locked(folder, || {
                let path = roster_path(folder, number);
                match read_optional(&path, ROSTER_BYTES_MAX)? {
                    Some(there) => Ok(there == envelope),
                    None => write_whole(&path, &envelope, false).map(|()| true),
                }
            })
        };
        if self.blocking(put).await? { Ok(()) } else { Err(Error::RosterConflict(number)) }
    }

    async fn list(&self, folder: &str) -> Result<Listing, Error> {
        check_name(folder)?;
        let name = folder.to_owned();
        let read = move |folder: &Path| {
            let stored = read_values(&values_path(folder, &name))?;
            let decoded = |(name, text): (String, String)| Ok((name, STANDARD.decode(text).map_err(io::Error::other)?));
            let values = stored.values.into_iter().take(VALUES_MAX).map(decoded).collect::<io::Result<_>>()?;
            Ok(Listing { revision: stored.revision, values })
        };
        self.blocking(read).await
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
        let (values, name, bytes) = (folder.to_owned(), name.to_owned(), STANDARD.encode(bytes));
        let put = move |folder: &Path| {
            // The folder may have been emptied since it was opened.
            std::fs::create_dir_all(folder.join("values"))?;
            locked(folder, || {
                let path = values_path(folder, &values);
                let mut stored = read_values(&path)?;
                if stored.revision != revision {
                    return Ok(PutOutcome::Changed);
                }
                stored.revision = stored.revision.saturating_add(1);
                stored.values.insert(name, bytes);
                let text = serde_json::to_vec(&stored)?;
                if text.len() > FOLDER_BYTES_MAX {
                    return Err(io::Error::other("the folder of values is full"));
                }
                write_whole(&path, &text, false)?;
                Ok(PutOutcome::Done)
            })
        };
        self.blocking(put).await
    }

    fn health(&self) -> DirectoryHealth {
        self.monitor.health()
    }
}
