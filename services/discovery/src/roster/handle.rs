//! The roster in force, the earlier ones that records name, and their copies on disk.
//!
//! On disk each accepted roster is one file, `roster-<number, 20 digits>.json`, the envelope byte for byte. A file is
//! written beside its name, synced, renamed, and the directory synced; a crash leaves either no file or a whole one.
//! Nothing is believed on loading: the files are verified again, from the lowest number up, each against the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Error, ROSTER_BYTES_MAX, RootKeys, SignedRoster};

/// How many rosters stay in memory, those asked for last; others are read from disk when a record names one.
const HISTORY_MAX: usize = 64;

/// What came of an offered roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is the one in force already.
    Known,
    /// It is in force now.
    Accepted,
}

/// The roster in force, shared by all that ask it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RosterHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pinned: RootKeys,
    allow_development: bool,
    cache: Option<RosterCache>,
    current: ArcSwap<SignedRoster>,
    history: Mutex<History>,
    changed: watch::Sender<u64>,
    /// One offer at a time, so that two that cross cannot step over each other.
    offer: Mutex<()>,
}

/// The rosters in memory, each with when it was asked for last.
#[derive(Debug, Default)]
struct History {
    rosters: BTreeMap<u64, (Arc<SignedRoster>, u64)>,
    asked: u64,
    /// The numbers of all that were accepted, in memory or on the disk.
    accepted: BTreeSet<u64>,
}

impl History {
    fn get(&mut self, number: u64) -> Option<Arc<SignedRoster>> {
        self.asked += 1;
        let (roster, asked) = self.rosters.get_mut(&number)?;
        *asked = self.asked;
        Some(roster.clone())
    }

    fn insert(&mut self, roster: Arc<SignedRoster>) {
        self.asked += 1;
        self.accepted.insert(roster.number);
        self.rosters.insert(roster.number, (roster, self.asked));
        while self.rosters.len() > HISTORY_MAX {
            let oldest = self.rosters.iter().min_by_key(|(_, (_, asked))| *asked).map(|(number, _)| *number);
            oldest.map(|number| self.rosters.remove(&number));
        }
    }
}

impl RosterHandle {
    /// Starts from what the cache holds and from `initial`, whichever is newer.
    ///
    /// `pinned` are the root keys of the configuration. An `initial` older than the cache is passed over: the file in
    /// the configuration may lag behind what the federation sent since.
    ///
    /// # Errors
    /// [`Error::None`] when neither gives a roster; any other [`Error`] when `initial` is refused or the disk fails.
    pub fn open(
        pinned: RootKeys,
        allow_development: bool,
        cache: Option<RosterCache>,
        initial: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let mut history = History::default();
        let mut newest: Option<Arc<SignedRoster>> = None;
        for bytes in cache.as_ref().map(RosterCache::read_all).transpose()?.unwrap_or_default() {
            match SignedRoster::verify(&bytes, &pinned, newest.as_deref(), allow_development) {
                Ok(roster) => {
                    let roster = Arc::new(roster);
                    history.insert(roster.clone());
                    newest = Some(roster);
                }
                Err(error) => tracing::warn!(%error, "Cached roster refused and passed over"),
            }
        }
        if let Some(bytes) = initial {
            match SignedRoster::verify(bytes, &pinned, newest.as_deref(), allow_development) {
                Ok(roster) => {
                    let roster = Arc::new(roster);
                    if let Some(cache) = &cache {
                        cache.store(&roster)?;
                    }
                    history.insert(roster.clone());
                    newest = Some(roster);
                }
                Err(Error::RollBack { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let current = newest.ok_or(Error::None)?;
        let (changed, _) = watch::channel(current.number);
        Ok(Self(Arc::new(Inner {
            pinned,
            allow_development,
            cache,
            current: ArcSwap::new(current),
            history: Mutex::new(history),
            changed,
            offer: Mutex::new(()),
        })))
    }

    /// The roster in force.
    pub fn current(&self) -> Arc<SignedRoster> {
        self.0.current.load_full()
    }

    /// The roster of this number, as far as it was accepted here and is not still to come into force.
    ///
    /// The 64 asked for last are in memory. Another is read from disk and counts if the pinned or the present root keys
    /// signed it, or the one after it, when that is in memory, links to it.
    pub fn at(&self, number: u64) -> Option<Arc<SignedRoster>> {
        let current = self.current();
        if number > current.number {
            return None;
        }
        {
            let mut history = self.0.history.lock();
            let known = history.get(number);
            if known.is_some() || !history.accepted.contains(&number) {
                return known;
            }
        }
        // Out of memory but once accepted: its own governance signed it, as was checked when it was accepted.
        let bytes = self.0.cache.as_ref()?.read(number).ok()??;
        let own = SignedRoster::verify(&bytes, &self.0.pinned, None, self.0.allow_development)
            .or_else(|error| {
                let root = RootKeys::from(&current.governance);
                SignedRoster::verify(&bytes, &root, None, self.0.allow_development).map_err(|_| error)
            })
            .or_else(|error| {
                let next = self.0.history.lock().get(number + 1).ok_or(error)?;
                SignedRoster::before(&next, &bytes, self.0.allow_development)
            })
            .ok()?;
        let own = (own.number == number).then(|| Arc::new(own))?;
        self.0.history.lock().insert(own.clone());
        Some(own)
    }

    /// The envelope of an accepted roster as it is passed on; whoever takes it verifies it.
    pub fn envelope(&self, number: u64) -> Option<Vec<u8>> {
        if number > self.current().number {
            return None;
        }
        let known = self.0.history.lock().rosters.get(&number).map(|(roster, _)| roster.envelope().to_vec());
        known.or_else(|| self.0.cache.as_ref()?.read(number).ok()?)
    }

    /// Takes a roster from anywhere: the directory, a peer, an operator. It is cached before it is in force.
    ///
    /// # Errors
    /// [`Error`] when it is refused; the one in force stays.
    pub fn offer(&self, bytes: &[u8]) -> Result<Offer, Error> {
        let _turn = self.0.offer.lock();
        let current = self.current();
        if bytes == current.envelope() {
            return Ok(Offer::Known);
        }
        let next = SignedRoster::verify(bytes, &self.0.pinned, Some(&current), self.0.allow_development)?;
        if next.number == current.number {
            return Ok(Offer::Known);
        }
        if let Some(cache) = &self.0.cache {
            cache.store(&next)?;
        }
        let next = Arc::new(next);
        self.0.history.lock().insert(next.clone());
        tracing::info!(roster = next.number, "Roster in force");
        let number = next.number;
        self.0.current.store(next);
        self.0.changed.send_replace(number);
        Ok(Offer::Accepted)
    }

    /// The lowest roster held above `number`: on the way back to that one, what it links to comes next.
    pub fn held_above(&self, number: u64) -> Option<Arc<SignedRoster>> {
        let above = number.checked_add(1)?;
        let accepted: Vec<u64> = self.0.history.lock().accepted.range(above..).copied().collect();
        accepted.into_iter().find_map(|next| self.at(next))
    }

    /// Takes up a roster that was passed over here, or was in force before this node was there, because a record names
    /// it. The one after it must be held, and link to it. What is in force stays so.
    ///
    /// Without `bytes` what the disk has kept from an earlier life is taken up, if it has.
    ///
    /// # Errors
    /// [`Error`] when it is refused, is not there, or the disk fails.
    pub fn recall(&self, number: u64, bytes: Option<&[u8]>) -> Result<(), Error> {
        let _turn = self.0.offer.lock();
        if self.at(number).is_some() {
            return Ok(());
        }
        let next = number.checked_add(1).and_then(|next| self.at(next)).ok_or(Error::Unlinked(number))?;
        let cache = self.0.cache.as_ref();
        let roster = match bytes {
            Some(bytes) => SignedRoster::before(&next, bytes, self.0.allow_development)?,
            None => {
                let kept = cache.map(|cache| cache.read(number)).transpose()?.flatten();
                SignedRoster::before(&next, &kept.ok_or(Error::None)?, self.0.allow_development)?
            }
        };
        if let (Some(cache), Some(_)) = (cache, bytes) {
            cache.store(&roster)?;
        }
        tracing::info!(roster = number, "An earlier roster was taken up");
        self.0.history.lock().insert(Arc::new(roster));
        Ok(())
    }

    /// Tells of each change by the number now in force. Changes that come close together may show as one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

/// The folder of accepted rosters.
#[derive(Debug, Clone)]
pub struct RosterCache {
    folder: PathBuf,
}

impl RosterCache {
    /// Uses a folder, and makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::Cache`] when it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(|e| failed(&folder, e))?;
        Ok(Self { folder })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("roster-{number:020}.json"))
    }

    /// Writes a roster so that it is whole or absent after a crash.
    ///
    /// # Errors
    /// [`Error::Cache`] when the disk fails.
    pub fn store(&self, roster: &SignedRoster) -> Result<(), Error> {
        let path = self.path(roster.number);
        write_whole(&path, roster.envelope(), false).map_err(|e| failed(&path, e))
    }

    /// The bytes held under a number, unverified; absent when there are none.
    ///
    /// # Errors
    /// [`Error::Cache`] when the disk fails.
    pub fn read(&self, number: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(number);
        match read_bounded(&path, ROSTER_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// All that is held, lowest number first, unverified.
    ///
    /// # Errors
    /// [`Error::Cache`] when the disk fails.
    pub fn read_all(&self) -> Result<Vec<Vec<u8>>, Error> {
        let entries = std::fs::read_dir(&self.folder).map_err(|e| failed(&self.folder, e))?;
        let is_roster = |p: &PathBuf| {
            let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.starts_with("roster-") && name.ends_with(".json")
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(is_roster).collect();
        paths.sort();
        paths.iter().map(|p| read_bounded(p, ROSTER_BYTES_MAX).map_err(|e| failed(p, e))).collect()
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::Cache { path: path.display().to_string(), reason: error.to_string() }
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(std::io::Error::other(format!("the file is longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Writes a file whole or not at all: beside its name, sync, rename, sync the folder. `secret` gives it mode 0600.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], secret: bool) -> std::io::Result<()> {
    let folder = path.parent().ok_or_else(|| std::io::Error::other("the path has no folder"))?;
    // A named temporary file is made with mode 0600, which is right for secrets and opened up for the rest.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    #[cfg(unix)]
    if !secret {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = secret;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}
