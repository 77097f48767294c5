//! Who can be reached where: what the directory says, once verified, over what the disk remembers.
//!
//! One task takes the directory's updates. It verifies each hint against the roster in force, offers rosters to the
//! [`RosterHandle`], judges the hints again when a roster comes into force, and writes what is good to disk. A node that
//! the directory no longer lists stays here with its last address: lease expiry, a wiped etcd and a dead directory look
//! alike from outside, and traffic must stop for none of them. A directory that was away from the start costs nothing
//! but news.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campanile_alert::{Clock, OriginId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::directory::{Directory, DirectoryHealth, Entry, HINTS_MAX, Update};
use crate::hint::{HINT_BYTES_MAX, Hint};
use crate::keys::SigningKey;
use crate::roster::{RosterHandle, read_bounded, write_whole};

/// The name of the file of hints in the cache folder.
const CACHE_FILE: &str = "hints.json";
/// The longest cache file, in bytes.
const CACHE_BYTES_MAX: usize = HINTS_MAX * 4096;
/// How long changes gather before the cache is written.
const CACHE_DELAY: Duration = Duration::from_millis(200);

/// A node and where to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The last verified hint.
    pub hint: Hint,
    /// Since when the directory lists it no more; absent while it does. It may run all the same.
    pub unregistered_since: Option<Timestamp>,
    /// When the hint last came from the directory, or when the cache was read.
    pub seen: Timestamp,
}

/// All known members by name.
pub type View = BTreeMap<OriginId, Member>;

/// What [`Members::start`] needs.
#[derive(Debug)]
pub struct MembersConfig {
    /// Where hints and rosters come from.
    pub directory: Arc<dyn Directory>,
    /// Whom to believe, and what gets new rosters.
    pub roster: RosterHandle,
    /// The folder for the last good hints; absent means that a restart begins with nothing.
    pub cache: Option<PathBuf>,
    /// The time for "since".
    pub clock: Arc<dyn Clock>,
}

/// How discovery does: three ages, so that "old" never hides behind "working".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The directory's own account.
    pub directory: DirectoryHealth,
    /// The number of the roster in force.
    pub roster: u64,
    /// How long ago that roster was issued.
    pub roster_age: Duration,
    /// How long ago each node's hint was last confirmed.
    pub endpoint_ages: BTreeMap<OriginId, Duration>,
    /// Hints passed over because no listed key signed them, or they could not be read.
    pub hints_ignored: u64,
    /// Rosters from the directory that were refused.
    pub rosters_refused: u64,
}

/// The members of the federation as this process knows them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Members(Arc<Owner>);

/// Ends the task with the last handle; the task itself holds only `Inner`.
#[derive(Debug)]
struct Owner {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Inner {
    config: MembersConfig,
    view: watch::Sender<Arc<View>>,
    hints_ignored: AtomicU64,
    rosters_refused: AtomicU64,
}

impl Members {
    /// Begins with what the cache holds, and follows the directory. Call it inside a tokio runtime.
    ///
    /// It never waits for the directory and never fails: a damaged cache is reported and passed over.
    pub fn start(config: MembersConfig) -> Self {
        let updates = config.directory.watch();
        let now = config.clock.now();
        let cached = config.cache.as_deref().map(load).unwrap_or_default();
        let inner = Arc::new(Inner {
            view: watch::channel(Arc::new(View::new())).0,
            hints_ignored: AtomicU64::new(0),
            rosters_refused: AtomicU64::new(0),
            config,
        });
        let mut book = Book::default();
        for entry in cached {
            book.entries
                .insert(entry.origin, Raw { envelope: entry.envelope, seen: now, unregistered_since: Some(now) });
        }
        inner.publish(&book);
        let roster = inner.config.roster.subscribe();
        let task = tokio::spawn(follow(inner.clone(), book, updates, roster));
        Self(Arc::new(Owner { inner, task }))
    }

    /// Announces where this node is, signed with its live key. A second call replaces the first.
    pub fn announce(&self, hint: &Hint, key: &SigningKey) {
        self.0.inner.config.directory.announce(hint.origin.clone(), hint.instance.clone(), hint.sign(key));
    }

    /// The member of this name, if any hint of it was ever good.
    pub fn get(&self, origin: &OriginId) -> Option<Member> {
        self.0.inner.view.borrow().get(origin).cloned()
    }

    /// All members.
    pub fn view(&self) -> Arc<View> {
        self.0.inner.view.borrow().clone()
    }

    /// Tells of each change. Changes that come close together may show as one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.0.inner.view.subscribe()
    }

    /// The directory itself.
    pub fn directory(&self) -> &Arc<dyn Directory> {
        &self.0.inner.config.directory
    }

    /// How discovery does.
    pub fn health(&self) -> Health {
        let now = self.0.inner.config.clock.now();
        let roster = self.0.inner.config.roster.current();
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let directory = self.0.inner.config.directory.health();
        // What is registered was confirmed when the directory last answered; the rest when it was last seen.
        let endpoint_age = |m: &Member| match (m.unregistered_since, directory.contact_age) {
            (None, Some(contact)) => contact,
            _ => age(m.seen),
        };
        Health {
            roster: roster.number,
            roster_age: age(roster.issued),
            endpoint_ages: self.view().iter().map(|(origin, m)| (origin.clone(), endpoint_age(m))).collect(),
            directory: directory.clone(),
            hints_ignored: self.0.inner.hints_ignored.load(Ordering::Relaxed),
            rosters_refused: self.0.inner.rosters_refused.load(Ordering::Relaxed),
        }
    }

    /// Withdraws the own hint, and stops following the directory.
    pub async fn shutdown(&self) {
        self.0.inner.config.directory.withdraw().await;
        self.0.task.abort();
    }
}

/// What the directory said, verified or not: an origin that the next roster lists must not be asked for twice.
#[derive(Debug, Default)]
struct Book {
    entries: BTreeMap<OriginId, Raw>,
    /// What the directory lists and no key of the roster has signed: the next roster may list that key.
    doubted: BTreeMap<OriginId, Vec<u8>>,
}

#[derive(Debug)]
struct Raw {
    envelope: Vec<u8>,
    seen: Timestamp,
    unregistered_since: Option<Timestamp>,
}

async fn follow(
    inner: Arc<Inner>,
    mut book: Book,
    mut updates: mpsc::Receiver<Update>,
    mut roster: watch::Receiver<u64>,
) {
    let mut dirty = false;
    loop {
        let update = tokio::select! {
            update = updates.recv() => match update {
                Some(update) => Some(update),
                None => return,
            },
            changed = roster.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
            () = tokio::time::sleep(CACHE_DELAY), if dirty => {
                dirty = false;
                inner.save(&book).await;
                continue;
            }
        };
        if let Some(Update::Roster(bytes)) = update {
            inner.offer(bytes).await;
            continue;
        }
        match update {
            Some(update) => inner.take(&mut book, update),
            None => inner.judge_again(&mut book),
        }
        inner.publish(&book);
        dirty = true;
    }
}

impl Inner {
    /// A roster's check and its write to disk are work for another thread.
    async fn offer(self: &Arc<Self>, bytes: Vec<u8>) {
        let handle = self.config.roster.clone();
        let offered = tokio::task::spawn_blocking(move || handle.offer(&bytes)).await;
        match offered {
            Ok(Ok(_)) | Ok(Err(crate::roster::Error::RollBack { .. })) => {}
            Ok(Err(error)) => {
                self.rosters_refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "Roster from the directory refused");
            }
            Err(error) => tracing::error!(%error, "Roster check failed"),
        }
    }

    fn take(&self, book: &mut Book, update: Update) {
        let now = self.config.clock.now();
        match update {
            Update::Reset(entries) => {
                for raw in book.entries.values_mut() {
                    raw.unregistered_since.get_or_insert(now);
                }
                book.doubted.clear();
                for entry in entries {
                    self.put(book, entry, now);
                }
            }
            Update::Put(entry) => self.put(book, entry, now),
            Update::Gone(origin) => {
                book.doubted.remove(&origin);
                if let Some(raw) = book.entries.get_mut(&origin) {
                    raw.unregistered_since.get_or_insert(now);
                }
            }
            Update::Roster(_) => {}
        }
    }

    fn put(&self, book: &mut Book, entry: Entry, now: Timestamp) {
        let roster = self.config.roster.current();
        if let Err(error) = Hint::verify(&entry.envelope, &entry.origin, &roster) {
            self.hints_ignored.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "Hint ignored");
            // The last good hint stays beside it. As long as there is room, it is kept for the roster that may list its
            // origin or its key: the directory does not tell it twice.
            let room = book.doubted.len() < HINTS_MAX || book.doubted.contains_key(&entry.origin);
            if room && entry.envelope.len() <= HINT_BYTES_MAX {
                book.doubted.insert(entry.origin, entry.envelope);
            }
            return;
        }
        book.doubted.remove(&entry.origin);
        book.entries.insert(entry.origin, Raw { envelope: entry.envelope, seen: now, unregistered_since: None });
    }

    /// Takes what a roster that has come into force vouches for.
    fn judge_again(&self, book: &mut Book) {
        let (roster, now) = (self.config.roster.current(), self.config.clock.now());
        let Book { entries, doubted } = book;
        doubted.retain(|origin, envelope| {
            let is_good = Hint::verify(envelope, origin, &roster).is_ok();
            if is_good {
                let envelope = std::mem::take(envelope);
                entries.insert(origin.clone(), Raw { envelope, seen: now, unregistered_since: None });
            }
            !is_good
        });
    }

    fn good<'b>(&self, book: &'b Book) -> impl Iterator<Item = (&'b OriginId, &'b Raw, Hint)> {
        let roster = self.config.roster.current();
        book.entries.iter().filter_map(move |(origin, raw)| {
            let hint = Hint::verify(&raw.envelope, origin, &roster).ok()?;
            Some((origin, raw, hint))
        })
    }

    fn publish(&self, book: &Book) {
        let view: View = self
            .good(book)
            .map(|(origin, raw, hint)| {
                (origin.clone(), Member { hint, unregistered_since: raw.unregistered_since, seen: raw.seen })
            })
            .collect();
        self.view.send_if_modified(|held| {
            let changed = **held != view;
            if changed {
                *held = Arc::new(view);
            }
            changed
        });
    }

    async fn save(&self, book: &Book) {
        let Some(folder) = self.config.cache.clone() else { return };
        let stored: Vec<Stored> = self
            .good(book)
            .map(|(origin, raw, _)| Stored { origin: origin.clone(), envelope: STANDARD.encode(&raw.envelope) })
            .collect();
        let write = move || -> std::io::Result<()> {
            std::fs::create_dir_all(&folder)?;
            write_whole(&folder.join(CACHE_FILE), &serde_json::to_vec(&stored)?, false)
        };
        match tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other).flatten() {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "Hints not cached"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    origin: OriginId,
    envelope: String,
}

/// What the cache holds, unverified.
fn load(folder: &Path) -> Vec<Entry> {
    let read = || -> std::io::Result<Vec<Stored>> {
        Ok(serde_json::from_slice(&read_bounded(&folder.join(CACHE_FILE), CACHE_BYTES_MAX)?)?)
    };
    match read() {
        Ok(stored) => stored
            .into_iter()
            .filter_map(|s| Some(Entry { origin: s.origin, envelope: STANDARD.decode(&s.envelope).ok()? }))
            .take(HINTS_MAX)
            .collect(),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(%error, "Cached hints passed over");
            }
            Vec::new()
        }
    }
}
