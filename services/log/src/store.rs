//! The contract of a store: one atomic way in, and reads that never wait for it.
//!
//! [`Store::commit`] runs the caller's work over a [`Batch`] inside one transaction and makes all of it durable with
//! one fsync, or nothing. Drafts are sealed (signed) inside the transaction, once their position is known, so effects
//! commit with the record they come from. Reads see committed data only.
//!
//! Append rules (`chain.rs` holds them for every backend). A replica is taken if it is
//! - the next seq of an epoch held here, and its `previous` is the hash at that epoch's tail; or
//! - seq 1 of an epoch not held here, and its link names a position held here in a lower epoch, tail or earlier; or
//! - seq 1 without a link, of an epoch not held here: its origin had nothing of the log then.
//!
//! All three hold for epochs below the highest one as well: a node restored from a backup takes its own lost records
//! back that way, and so does whoever holds a copy. A log is thus a tree of epochs, or several, each a chain; an origin
//! that has lost its disk and reached nobody begins another one, and is not refused for it for ever.

use bytes::Bytes;

use crate::{Entry, Error, Hash, Link, LogId, Position, Standing};

/// What a commit does with its batch. It may be called once only per commit.
pub type Work<'a> = dyn FnMut(&mut dyn Batch) -> Result<(), Error> + 'a;

/// Signs a draft once its place is known. An error of it becomes [`Error::Caller`].
pub type Seal<'a> = Box<dyn FnOnce(Slot) -> Result<Sealed, Box<dyn std::error::Error + Send + Sync>> + 'a>;

/// A durable store of logs, their replicas and the state that moves with them.
///
/// One commit runs at a time; others wait. All calls block, so async callers go through a thread of their own.
pub trait Store: Send + Sync {
    /// Runs `work` over a batch and makes it durable with one fsync, all or nothing.
    ///
    /// When `work` returns an error, everything is rolled back (arrival numbers and idempotency keys too) and the
    /// error is returned.
    ///
    /// `work` must not call `commit` or `begin_epoch` of the same store, which would wait for itself.
    ///
    /// # Errors
    /// The error of `work`; [`Error::Full`] when nothing was kept for want of space; a fatal error (see
    /// [`Error::is_fatal`]) after which every further commit is [`Error::Poisoned`].
    fn commit(&self, work: &mut Work<'_>) -> Result<(), Error>;

    /// Says which epoch the drafts of `log` use from now on in this process. Nothing is written until the first draft,
    /// which gets seq 1 and a link to the tail held then.
    ///
    /// # Errors
    /// [`Error::EpochNotAbove`] when an epoch as high is held; [`Error::Invalid`] for 0 or above [`crate::epoch::MAX`].
    fn begin_epoch(&self, log: &LogId, epoch: u64) -> Result<(), Error>;

    /// The tail of the highest epoch of `log`; absent if nothing is held.
    fn tail(&self, log: &LogId) -> Option<Position>;

    /// Every log held, sorted (urgent first), with the tail of its highest epoch.
    fn logs(&self) -> Vec<(LogId, Position)>;

    /// The tail of each epoch held of `log`, lowest epoch first.
    fn epochs(&self, log: &LogId) -> Vec<Position>;

    /// The number of the last entry stored; 0 if there is none.
    fn last_arrival(&self) -> u64;

    /// Entries of `log` above the place `after` (all if absent), in order of (epoch, seq).
    ///
    /// Returns at most `max_entries`, and stops before the entry that would pass `max_bytes`, but returns at least one
    /// entry if there is one and `max_entries` is not 0. An empty answer means the end.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] when a stored record does not match its hash.
    fn read(
        &self,
        log: &LogId,
        after: Option<(u64, u64)>,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Error>;

    /// Entries of all logs with an arrival number above `after`, in that order; limits as in [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`].
    fn arrivals(&self, after: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<Entry>, Error>;

    /// The entry at a place.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn get(&self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Entry>, Error>;

    /// The entry whose header has this hash, in any log.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn by_hash(&self, hash: &Hash) -> Result<Option<Entry>, Error>;

    /// What was recorded under an idempotency key.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn find(&self, key: &Key) -> Result<Option<Recorded>, Error>;

    /// The value of a state row.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// State rows whose key begins with `prefix` and lies above `after` (absent: from the first), in key order, at
    /// most `max`.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn state_prefix(&self, prefix: &[u8], after: Option<&[u8]>, max: usize) -> Result<StateRows, Error>;

    /// All evidence of forks, oldest first; at most [`EVIDENCE_MAX`] rows are kept for one log.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn evidence(&self) -> Result<Vec<Evidence>, Error>;

    /// The last checkpoint stored for `log`, as the caller encoded it.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn checkpoint(&self, log: &LogId) -> Result<Option<Bytes>, Error>;

    /// Verifies the next `step` entries in arrival order: hash, previous, link, contiguity. Starts again at the first
    /// entry after the last. A background task calls it with a small step, so that all of the disk is read in time.
    ///
    /// Returns the last arrival number verified, or `None` when the round is complete.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the place of the first fault; [`Error::Io`].
    fn scrub(&self, step: usize) -> Result<Option<u64>, Error>;

    /// Verifies every entry of `log` above the place `from` (all if absent) and returns how many there were.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the place of the first fault; [`Error::Io`].
    fn verify_chain(&self, log: &LogId, from: Option<(u64, u64)>) -> Result<u64, Error>;
}

/// Conveniences over any [`Store`].
pub trait StoreExt: Store {
    /// [`Store::commit`] for work that gives a value.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn with_batch<T>(&self, work: impl FnOnce(&mut dyn Batch) -> Result<T, Error>) -> Result<T, Error> {
        let (mut work, mut value) = (Some(work), None);
        self.commit(&mut |batch| {
            if let Some(work) = work.take() {
                value = Some(work(batch)?);
            }
            Ok(())
        })?;
        value.ok_or_else(|| Error::Invalid { what: "the work of the commit was not run".to_owned() })
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

/// State rows: keys and values, in key order.
pub type StateRows = Vec<(Vec<u8>, Vec<u8>)>;

/// How many pieces of evidence are kept for one log; more prove nothing new.
pub const EVIDENCE_MAX: usize = 64;

/// The inside of a commit. Later calls see what earlier ones did.
///
/// A call that fails leaves the batch as it was before the call, unless the error came from the disk: then the commit
/// fails whatever the work returns.
pub trait Batch {
    /// Appends a record of another origin (or a lost one of our own) if the append rules allow it.
    ///
    /// # Errors
    /// Only for the disk; a record that does not fit is [`Accepted::Refused`].
    fn replica(&mut self, replica: Replica) -> Result<Accepted, Error>;

    /// Appends a record to a log of our own, in the epoch begun for it.
    ///
    /// # Errors
    /// [`Error::NoEpoch`], [`Error::EpochNotAbove`], [`Error::Caller`] from `seal`, or the disk.
    fn draft(&mut self, draft: Draft<'_>) -> Result<Appended, Error>;

    /// Sets a state row, or removes it if `value` is absent.
    ///
    /// # Errors
    /// Only for the disk.
    fn state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error>;

    /// Keeps a record that contradicts one held. The same one twice is kept once; beyond
    /// [`EVIDENCE_MAX`] of one log it is left out.
    ///
    /// # Errors
    /// Only for the disk.
    fn evidence(&mut self, evidence: Evidence) -> Result<(), Error>;

    /// Replaces the checkpoint of `log`.
    ///
    /// # Errors
    /// Only for the disk.
    fn checkpoint(&mut self, log: &LogId, bytes: &[u8]) -> Result<(), Error>;

    /// Reads a state row as this batch leaves it so far.
    ///
    /// # Errors
    /// Only for the disk.
    fn read_state(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Looks an idempotency key up, this batch included.
    ///
    /// # Errors
    /// Only for the disk.
    fn find(&mut self, key: &Key) -> Result<Option<Recorded>, Error>;

    /// The tail of the highest epoch of `log`, this batch included.
    fn tail(&mut self, log: &LogId) -> Option<Position>;
}

/// A record of another origin, its signature already checked by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The log it says it is in.
    pub log: LogId,
    /// The epoch in its header.
    pub epoch: u64,
    /// The seq in its header.
    pub seq: u64,
    /// The previous hash in its header.
    pub previous: Hash,
    /// The link in its header.
    pub link: Option<Link>,
    /// The header bytes, whose SHA-256 becomes its hash.
    pub header: Bytes,
    /// The body, checked by the caller against the header; absent if we may not read it.
    pub body: Option<Bytes>,
    /// The signatures in the caller's encoding.
    pub signatures: Bytes,
    /// The caller's judgement; forced to [`Standing::NoBody`] when `body` is absent and it says `Counted`.
    pub standing: Standing,
    /// A key to register with the hash of the content. The first one wins; a second is no error.
    pub idempotency: Option<(Key, Hash)>,
}

/// What became of a [`Replica`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Appended.
    New(Entry),
    /// The same record is already held, with a body if this one has one.
    Held,
    /// Its header was held alone; body and standing are now filled in. The arrival number is the old one.
    BodyAdded(Entry),
    /// Not stored.
    Refused(Refusal),
}

/// Why a replica was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Records before it are missing here; ask for what follows `tail` of that epoch (absent: nothing of it is held).
    #[error("records before it are missing here")]
    Gap {
        /// The tail held of its epoch.
        tail: Option<Position>,
    },
    /// It does not follow the tail held of its epoch.
    #[error("its previous hash is not that of the tail {tail}")]
    BadPrevious {
        /// The tail held of its epoch.
        tail: Position,
    },
    /// It opens an epoch, and its link names no position held here in a lower epoch.
    #[error("its link names no position held here")]
    BadLink {
        /// The link it has.
        link: Option<Link>,
        /// The tail of the highest epoch held; absent if nothing is held.
        tail: Option<Position>,
    },
    /// It belongs to an epoch below the highest one held, of which nothing is held, and it does not open that epoch
    /// from a position held here.
    #[error("it is of an older epoch of which nothing is held here")]
    OlderEpochUnknown {
        /// The tail of the highest epoch held.
        tail: Position,
    },
    /// Another record is held at its position. The caller keeps this one as [`Evidence`].
    #[error("another record is held at its position {held}")]
    Fork {
        /// The position held.
        held: Position,
    },
    /// Its epoch, seq, previous hash and link cannot stand together in any log.
    #[error("{reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
}

/// A record to be written in a log of our own.
pub struct Draft<'a> {
    /// The log; an epoch must have been begun for it.
    pub log: LogId,
    /// The key under which it is recorded for ever; absent if it needs none.
    pub idempotency: Option<Key>,
    /// The hash of the content, by which a repetition and a conflict are told apart.
    pub content: Hash,
    /// Makes header, body and signatures for the place given.
    pub seal: Seal<'a>,
}

/// The place given to a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The epoch of this process for the log.
    pub epoch: u64,
    /// The next seq.
    pub seq: u64,
    /// The hash at the tail; [`Hash::ZERO`] for seq 1.
    pub previous: Hash,
    /// For seq 1: the tail of the highest epoch held; absent if the log is empty.
    pub link: Option<Link>,
}

/// A draft with its place written in and signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The header bytes; their SHA-256 becomes the hash of the record.
    pub header: Bytes,
    /// The body bytes.
    pub body: Bytes,
    /// The signatures in the caller's encoding.
    pub signatures: Bytes,
}

/// What became of a [`Draft`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Sealed and appended.
    New(Entry),
    /// The key was recorded before with the same content; `seal` was not called.
    Duplicate(Recorded),
    /// The key was recorded before with other content; `seal` was not called.
    Conflict(Recorded),
}

/// An idempotency key, in the caller's encoding of (department, sender, identifier, sent).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<u8>);

/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The log of the record.
    pub log: LogId,
    /// Its position.
    pub position: Position,
    /// The hash of its content.
    pub content: Hash,
}

/// A record that contradicts the one held at its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The log both are in.
    pub log: LogId,
    /// The position and hash of the other record, the one not held in the log.
    pub position: Position,
    /// Its header.
    pub header: Bytes,
    /// Its body, if we could have it.
    pub body: Option<Bytes>,
    /// Its signatures.
    pub signatures: Bytes,
}

impl Standing {
    /// The standing to store beside a body that is present or not.
    pub(crate) fn with_body(self, present: bool) -> Self {
        match self {
            Standing::Counted if !present => Standing::NoBody,
            standing => standing,
        }
    }
}
