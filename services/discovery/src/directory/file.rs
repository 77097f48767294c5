//! The directory of a shared folder: one file per hint, roster and value, read at an interval.
//!
//! ```text
//! <folder>/lock                                  held while a value or roster is compared and written
//!          nodes/<department>/<node>.json         the hint's envelope
//!          roster/v<number, 20 digits>.json       the roster's envelope
//!          values/<key, slashes as dots>.json     {"revision": …, "bytes": base64}
//! ```
//!
//! Every file is written beside its name, synced and renamed, so a reader or a crash sees a whole file or none. There
//! are no leases: a hint stays until its node withdraws it, which is fine for what is never more than a hint.

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
    Announcement, Directory, DirectoryHealth, Error, HINTS_MAX, Monitor, PutOutcome, UPDATES_MAX, Update,
    VALUE_BYTES_MAX, Value, check_key, check_value,
};
use crate::hint::HINT_BYTES_MAX;
use crate::roster::{ROSTER_BYTES_MAX, read_bounded, write_whole};

/// How long another process may hold the lock before a write gives up.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// A folder as directory.
#[derive(Debug)]
pub struct FileDirectory {
    folder: PathBuf,
    poll: Duration,
    monitor: Arc<Monitor>,
    own: watch::Sender<Option<Announcement>>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    revision: u64,
    bytes: String,
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

fn value_path(folder: &Path, key: &str) -> PathBuf {
    // Keys have no dots, so the name is unambiguous.
    folder.join("values").join(format!("{}.json", key.replace('/', ".")))
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

fn read_value(path: &Path) -> io::Result<Option<Value>> {
    let Some(text) = read_optional(path, VALUE_BYTES_MAX * 2)? else { return Ok(None) };
    let stored: Stored = serde_json::from_slice(&text)?;
    let bytes = STANDARD.decode(&stored.bytes).map_err(io::Error::other)?;
    Ok(Some(Value { revision: stored.revision, bytes }))
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

    async fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |folder| read_value(&value_path(folder, &key))).await
    }

    async fn put_if(&self, key: &str, expected: Option<u64>, bytes: &[u8]) -> Result<PutOutcome, Error> {
        check_key(key)?;
        check_value(bytes)?;
        let (key, bytes) = (key.to_owned(), STANDARD.encode(bytes));
        let put = move |folder: &Path| {
            locked(folder, || {
                let path = value_path(folder, &key);
                let there = read_value(&path)?;
                if there.as_ref().map(|v| v.revision) != expected {
                    return Ok(PutOutcome::Conflict(there));
                }
                let revision = expected.unwrap_or(0).saturating_add(1);
                let text = serde_json::to_vec(&Stored { revision, bytes })?;
                write_whole(&path, &text, false)?;
                Ok(PutOutcome::Done(revision))
            })
        };
        self.blocking(put).await
    }

    fn health(&self) -> DirectoryHealth {
        self.monitor.health()
    }
}
