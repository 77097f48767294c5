//! A store in memory with a durable and a pending half, so that tests can crash it and fill its disk.
//!
//! ```text
//! batch under way ──write──► written, seen by readers, lost in a crash ──sync──► durable
//! ```
//!
//! A [`Disk`] is what survives. A [`MemoryStore`] is one process over it: a commit writes its batch and syncs, so that
//! nothing written stays unsynced. [`MemoryStore::crash`] refuses everything after; opening the disk again is the next
//! start, and takes back what was written and never synced. [`Fault`]s are met by a commit chosen beforehand.
//! [`MemoryStore::look`] reads a disk from outside, as a test does that keeps its own accounts.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::chain::{self, Held, PendingTails, Tails, Verdict, Walk};
use crate::store::{EVIDENCE_MAX, StateRows, Work};
use crate::{
    Accepted, Appended, Batch, Draft, Entry, Error, Evidence, Hash, Key, LogId, Position, Recorded, Replica, Sealed,
    Standing, Store,
};

const PLACE: &str = "memory";

/// What survives a crash. Clones share it.
#[derive(Clone, Default)]
pub struct Disk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    image: RwLock<Image>,
    tails: RwLock<Tails>,
    /// How to take back each commit that is written and not synced, oldest first.
    unsynced: Mutex<Vec<Undo>>,
    /// One process at a time, as with the lock of a directory.
    open: Mutex<bool>,
}

#[derive(Default, Clone)]
struct Image {
    /// In order of arrival: number 1 at index 0.
    entries: Vec<Entry>,
    places: BTreeMap<LogId, BTreeMap<(u64, u64), u64>>,
    hashes: HashMap<Hash, u64>,
    keys: HashMap<Key, Recorded>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    evidence: Vec<Evidence>,
    checkpoints: HashMap<LogId, Bytes>,
}

/// How to take a written commit back.
struct Undo {
    entries: usize,
    evidence: usize,
    keys: Vec<Key>,
    hashes: Vec<Hash>,
    bodies: Vec<Entry>,
    state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    checkpoints: Vec<(LogId, Option<Bytes>)>,
}

/// What a batch has changed so far.
#[derive(Default)]
struct Pending {
    entries: Vec<Entry>,
    places: HashMap<(LogId, u64, u64), u64>,
    bodies: HashMap<u64, (Bytes, Standing)>,
    keys: HashMap<Key, Recorded>,
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    evidence: Vec<Evidence>,
    checkpoints: HashMap<LogId, Bytes>,
}

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: nothing is kept, the store goes on.
    Full,
    /// The fsync fails: the store is poisoned, and the next start finds the batch or does not.
    Io {
        /// Whether the next start finds the batch.
        kept: bool,
    },
}

/// A process over a [`Disk`].
pub struct MemoryStore {
    disk: Disk,
    /// Whether it is the process, or only looks on.
    owns: bool,
    process: Mutex<Process>,
    scrubbed: Mutex<u64>,
}

#[derive(Default)]
struct Process {
    epochs: HashMap<LogId, u64>,
    poisoned: bool,
    commits: u64,
    faults: BTreeMap<u64, Fault>,
}

impl MemoryStore {
    /// Opens a store over `disk`, which may hold what an earlier one left.
    ///
    /// # Errors
    /// [`Error::InUse`] while another store over this disk is open.
    pub fn open(disk: &Disk) -> Result<Self, Error> {
        let mut open = disk.0.open.lock();
        if std::mem::replace(&mut *open, true) {
            return Err(Error::InUse { path: PLACE.to_owned() });
        }
        drop(open);
        disk.power_cut();
        Ok(Self { disk: disk.clone(), owns: true, process: Mutex::default(), scrubbed: Mutex::default() })
    }

    /// Looks at `disk` from outside, whether a process has it open or not: it reads, and refuses every commit.
    pub fn look(disk: &Disk) -> Self {
        let process = Process { poisoned: true, ..Process::default() };
        Self { disk: disk.clone(), owns: false, process: Mutex::new(process), scrubbed: Mutex::default() }
    }

    /// Ends the process as a crash does: what is durable stays on the disk, every later commit is refused. Open the
    /// disk again after dropping this store.
    pub fn crash(&self) {
        self.process.lock().poisoned = true;
    }

    /// Lets the `nth` commit from now on (1 is the next) meet `fault`.
    pub fn fail_commit(&self, nth: u64, fault: Fault) {
        let mut process = self.process.lock();
        let at = process.commits + nth;
        process.faults.insert(at, fault);
    }

    /// Forgets the faults that no commit has met yet.
    pub fn spare_commits(&self) {
        self.process.lock().faults.clear();
    }

    fn pages<'a>(entries: impl Iterator<Item = &'a Entry>, max_entries: usize, max_bytes: usize) -> Vec<Entry> {
        let (mut page, mut bytes) = (Vec::new(), 0_usize);
        for entry in entries.take(max_entries) {
            bytes = bytes.saturating_add(entry.weight());
            if bytes > max_bytes && !page.is_empty() {
                break;
            }
            page.push(entry.clone());
        }
        page
    }

    fn walk(&self, walk: &mut Walk, entry: &Entry) -> Result<(), Error> {
        match walk.step(entry, &mut HeldHere(self))? {
            Some(reason) => Err(Error::Corrupt { place: format!("{PLACE} {} {}", entry.log, entry.position), reason }),
            None => Ok(()),
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        if self.owns {
            *self.disk.0.open.lock() = false;
        }
    }
}

impl Disk {
    /// A copy of what is durable, as a backup has it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let image = self.0.image.read().clone();
        let tails = image.tails();
        let copy = Self::default();
        *copy.0.image.write() = image;
        *copy.0.tails.write() = tails;
        copy
    }

    /// Makes durable what is written.
    fn sync(&self) {
        self.0.unsynced.lock().clear();
    }

    /// Takes back what is written and not synced.
    fn power_cut(&self) {
        let unsynced = std::mem::take(&mut *self.0.unsynced.lock());
        if unsynced.is_empty() {
            return;
        }
        let mut image = self.0.image.write();
        for undo in unsynced.into_iter().rev() {
            image.take_back(undo);
        }
        *self.0.tails.write() = image.tails();
    }
}

impl Image {
    fn tails(&self) -> Tails {
        let mut tails = Tails::default();
        // In the order of the places, so that the last of each epoch stays.
        for (log, places) in &self.places {
            for entry in places.values().filter_map(|arrival| self.entry(*arrival)) {
                tails.set(log, entry.position);
            }
        }
        tails
    }

    fn take_back(&mut self, undo: Undo) {
        for entry in self.entries.split_off(undo.entries) {
            if let Some(places) = self.places.get_mut(&entry.log) {
                places.remove(&entry.position.place());
            }
        }
        for entry in undo.bodies {
            let index = usize::try_from(entry.arrival).ok().and_then(|number| number.checked_sub(1));
            if let Some(held) = index.and_then(|index| self.entries.get_mut(index)) {
                *held = entry;
            }
        }
        for hash in undo.hashes {
            self.hashes.remove(&hash);
        }
        for key in undo.keys {
            self.keys.remove(&key);
        }
        for (key, value) in undo.state {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        for (log, bytes) in undo.checkpoints {
            match bytes {
                Some(bytes) => self.checkpoints.insert(log, bytes),
                None => self.checkpoints.remove(&log),
            };
        }
        self.evidence.truncate(undo.evidence);
    }

    fn entry(&self, arrival: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(arrival.checked_sub(1)?).ok()?)
    }

    fn at(&self, log: &LogId, epoch: u64, seq: u64) -> Option<&Entry> {
        self.entry(*self.places.get(log)?.get(&(epoch, seq))?)
    }

    /// Writes a batch and says how to take it back.
    fn write(&mut self, pending: Pending) -> Undo {
        let hashes = pending.entries.iter().map(|entry| entry.position.hash);
        let undo = Undo {
            entries: self.entries.len(),
            evidence: self.evidence.len(),
            hashes: hashes.filter(|hash| !self.hashes.contains_key(hash)).collect(),
            keys: pending.keys.keys().filter(|key| !self.keys.contains_key(*key)).cloned().collect(),
            bodies: pending.bodies.keys().filter_map(|arrival| self.entry(*arrival)).cloned().collect(),
            state: pending.state.keys().map(|key| (key.clone(), self.state.get(key).cloned())).collect(),
            checkpoints: pending
                .checkpoints
                .keys()
                .map(|log| (log.clone(), self.checkpoints.get(log).cloned()))
                .collect(),
        };
        for entry in pending.entries {
            self.places.entry(entry.log.clone()).or_default().insert(entry.position.place(), entry.arrival);
            self.hashes.entry(entry.position.hash).or_insert(entry.arrival);
            self.entries.push(entry);
        }
        for (arrival, (body, standing)) in pending.bodies {
            let index = usize::try_from(arrival).ok().and_then(|number| number.checked_sub(1));
            if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
                entry.body = Some(body);
                entry.standing = standing;
            }
        }
        for (key, value) in pending.state {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        self.keys.extend(pending.keys);
        self.evidence.extend(pending.evidence);
        self.checkpoints.extend(pending.checkpoints);
        undo
    }
}

impl Store for MemoryStore {
    fn commit(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let mut process = self.process.lock();
        if process.poisoned {
            return Err(Error::Poisoned);
        }
        process.commits += 1;
        let number = process.commits;
        let fault = process.faults.remove(&number);
        let shared = &*self.disk.0;
        let mut batch = MemoryBatch {
            shared,
            epochs: &process.epochs,
            tails: PendingTails::new(&shared.tails),
            durable: self.last_arrival(),
            pending: Pending::default(),
        };
        work(&mut batch)?;
        let MemoryBatch { tails, pending, .. } = batch;
        match fault {
            Some(Fault::Full) => return Err(Error::Full { place: PLACE.to_owned() }),
            Some(Fault::Io { kept: false }) => {}
            _ => {
                let undo = shared.image.write().write(pending);
                shared.unsynced.lock().push(undo);
                tails.publish();
                self.disk.sync();
            }
        }
        if fault.is_some() {
            process.poisoned = true;
            let source = "injected input/output error".into();
            return Err(Error::Io { action: "commit to", place: PLACE.to_owned(), source });
        }
        Ok(())
    }

    fn begin_epoch(&self, log: &LogId, epoch: u64) -> Result<(), Error> {
        let mut process = self.process.lock();
        chain::check_above(log, epoch, self.tail(log))?;
        process.epochs.insert(log.clone(), epoch);
        Ok(())
    }

    fn tail(&self, log: &LogId) -> Option<Position> {
        self.disk.0.tails.read().tail(log)
    }

    fn logs(&self) -> Vec<(LogId, Position)> {
        self.disk.0.tails.read().logs()
    }

    fn epochs(&self, log: &LogId) -> Vec<Position> {
        self.disk.0.tails.read().epochs(log)
    }

    fn last_arrival(&self) -> u64 {
        self.disk.0.image.read().entries.len() as u64
    }

    fn read(
        &self,
        log: &LogId,
        after: Option<(u64, u64)>,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Error> {
        let image = self.disk.0.image.read();
        let Some(places) = image.places.get(log) else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = places.range((from, Bound::Unbounded)).filter_map(|(_, arrival)| image.entry(*arrival));
        Ok(Self::pages(entries, max_entries, max_bytes))
    }

    fn arrivals(&self, after: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        let image = self.disk.0.image.read();
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(Self::pages(image.entries.iter().skip(skip), max_entries, max_bytes))
    }

    fn get(&self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Entry>, Error> {
        Ok(self.disk.0.image.read().at(log, epoch, seq).cloned())
    }

    fn by_hash(&self, hash: &Hash) -> Result<Option<Entry>, Error> {
        let image = self.disk.0.image.read();
        Ok(image.hashes.get(hash).and_then(|arrival| image.entry(*arrival)).cloned())
    }

    fn find(&self, key: &Key) -> Result<Option<Recorded>, Error> {
        Ok(self.disk.0.image.read().keys.get(key).cloned())
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.disk.0.image.read().state.get(key).cloned())
    }

    fn state_prefix(&self, prefix: &[u8], after: Option<&[u8]>, max: usize) -> Result<StateRows, Error> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        let image = self.disk.0.image.read();
        let rows = image.state.range((from, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        Ok(rows.take(max).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn evidence(&self) -> Result<Vec<Evidence>, Error> {
        Ok(self.disk.0.image.read().evidence.clone())
    }

    fn checkpoint(&self, log: &LogId) -> Result<Option<Bytes>, Error> {
        Ok(self.disk.0.image.read().checkpoints.get(log).cloned())
    }

    fn scrub(&self, step: usize) -> Result<Option<u64>, Error> {
        let mut scrubbed = self.scrubbed.lock();
        let entries = self.arrivals(*scrubbed, step.max(1), usize::MAX)?;
        let mut walk = Walk::default();
        entries.iter().try_for_each(|entry| self.walk(&mut walk, entry))?;
        let reached = entries.last().map(|entry| entry.arrival);
        *scrubbed = reached.unwrap_or(0);
        Ok(reached)
    }

    fn verify_chain(&self, log: &LogId, from: Option<(u64, u64)>) -> Result<u64, Error> {
        let entries = self.read(log, from, usize::MAX, usize::MAX)?;
        let mut walk = Walk::default();
        entries.iter().try_for_each(|entry| self.walk(&mut walk, entry))?;
        Ok(entries.len() as u64)
    }
}

/// Looks chain positions up in the store itself.
struct HeldHere<'a>(&'a MemoryStore);

impl Held for HeldHere<'_> {
    fn hash_at(&mut self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Hash>, Error> {
        Ok(self.0.disk.0.image.read().at(log, epoch, seq).map(|entry| entry.position.hash))
    }
}

struct MemoryBatch<'a> {
    shared: &'a Shared,
    epochs: &'a HashMap<LogId, u64>,
    tails: PendingTails<'a>,
    /// The last arrival number that is durable.
    durable: u64,
    pending: Pending,
}

impl MemoryBatch<'_> {
    /// The entry at a place as this batch leaves it so far.
    fn at(&self, log: &LogId, epoch: u64, seq: u64) -> Option<Entry> {
        let mut entry = match self.pending.places.get(&(log.clone(), epoch, seq)) {
            Some(arrival) => {
                let index = usize::try_from(arrival.checked_sub(self.durable + 1)?).ok()?;
                self.pending.entries.get(index)?.clone()
            }
            None => self.shared.image.read().at(log, epoch, seq)?.clone(),
        };
        if let Some((body, standing)) = self.pending.bodies.get(&entry.arrival) {
            entry.body = Some(body.clone());
            entry.standing = standing.clone();
        }
        Some(entry)
    }

    fn recorded(&self, key: &Key) -> Option<Recorded> {
        self.pending.keys.get(key).cloned().or_else(|| self.shared.image.read().keys.get(key).cloned())
    }

    fn insert(&mut self, mut entry: Entry, key: Option<(Key, Hash)>) -> Entry {
        entry.arrival = self.durable + self.pending.entries.len() as u64 + 1;
        let (epoch, seq) = entry.position.place();
        self.pending.places.insert((entry.log.clone(), epoch, seq), entry.arrival);
        self.pending.entries.push(entry.clone());
        self.tails.set(&entry.log, entry.position);
        self.register(&entry, key);
        entry
    }

    fn register(&mut self, entry: &Entry, key: Option<(Key, Hash)>) {
        if let Some((key, content)) = key
            && self.recorded(&key).is_none()
        {
            self.pending.keys.insert(key, Recorded { log: entry.log.clone(), position: entry.position, content });
        }
    }
}

impl Batch for MemoryBatch<'_> {
    fn replica(&mut self, replica: Replica) -> Result<Accepted, Error> {
        let verdict = chain::judge(&self.tails, &replica, &mut |epoch, seq| {
            Ok(self.at(&replica.log, epoch, seq).map(|entry| entry.position.hash))
        })?;
        Ok(match verdict {
            Verdict::Refuse(refusal) => Accepted::Refused(refusal),
            Verdict::Append(position) => {
                let entry = Entry {
                    arrival: 0,
                    log: replica.log,
                    position,
                    previous: replica.previous,
                    link: replica.link,
                    header: replica.header,
                    standing: replica.standing.with_body(replica.body.is_some()),
                    body: replica.body,
                    signatures: replica.signatures,
                };
                Accepted::New(self.insert(entry, replica.idempotency))
            }
            Verdict::Same(position) => {
                let held = self.at(&replica.log, position.epoch, position.seq);
                match (replica.body, held) {
                    (Some(body), Some(mut entry)) if entry.body.is_none() => {
                        self.pending.bodies.insert(entry.arrival, (body.clone(), replica.standing.clone()));
                        entry.body = Some(body);
                        entry.standing = replica.standing;
                        self.register(&entry, replica.idempotency);
                        Accepted::BodyAdded(entry)
                    }
                    _ => Accepted::Held,
                }
            }
        })
    }

    fn draft(&mut self, draft: Draft<'_>) -> Result<Appended, Error> {
        if let Some(recorded) = draft.idempotency.as_ref().and_then(|key| self.recorded(key)) {
            let same = recorded.content == draft.content;
            return Ok(if same { Appended::Duplicate(recorded) } else { Appended::Conflict(recorded) });
        }
        let Some(epoch) = self.epochs.get(&draft.log).copied() else {
            return Err(Error::NoEpoch { log: draft.log.to_string() });
        };
        let slot = chain::slot(&self.tails, &draft.log, epoch)?;
        let Sealed { header, body, signatures } = (draft.seal)(slot).map_err(Error::Caller)?;
        let entry = Entry {
            arrival: 0,
            log: draft.log,
            position: Position { epoch, seq: slot.seq, hash: Hash::of(&header) },
            previous: slot.previous,
            link: slot.link,
            header,
            body: Some(body),
            signatures,
            standing: Standing::Counted,
        };
        let key = draft.idempotency.map(|key| (key, draft.content));
        Ok(Appended::New(self.insert(entry, key)))
    }

    fn state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        self.pending.state.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        Ok(())
    }

    fn evidence(&mut self, evidence: Evidence) -> Result<(), Error> {
        if Hash::of(&evidence.header) != evidence.position.hash {
            return Err(Error::Invalid { what: "the hash of the evidence is not that of its header".to_owned() });
        }
        let image = self.shared.image.read();
        let mut same_log =
            image.evidence.iter().chain(&self.pending.evidence).filter(|other| other.log == evidence.log);
        let (count, known) = (same_log.clone().count(), same_log.any(|other| other.position == evidence.position));
        drop(image);
        if !known && count < EVIDENCE_MAX {
            self.pending.evidence.push(evidence);
        }
        Ok(())
    }

    fn checkpoint(&mut self, log: &LogId, bytes: &[u8]) -> Result<(), Error> {
        self.pending.checkpoints.insert(log.clone(), Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn read_state(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(match self.pending.state.get(key) {
            Some(value) => value.clone(),
            None => self.shared.image.read().state.get(key).cloned(),
        })
    }

    fn find(&mut self, key: &Key) -> Result<Option<Recorded>, Error> {
        Ok(self.recorded(key))
    }

    fn tail(&mut self, log: &LogId) -> Option<Position> {
        self.tails.tail(log)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
