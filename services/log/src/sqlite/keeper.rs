//! Keeps the WAL short off the commit path: copies it into `log.db` in a thread of its own.
//!
//! ```text
//!  commits ──► |▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░░░░░░░|          the WAL, laid out to WAL_BYTES_READY at the start
//!               due at WAL_BYTES_DUE: 1. a passive pass, beside the commits, copies nearly all
//!                                     2. a short one between two commits copies the rest
//!  commits ──► |▓░░░░░░░░░░░░░░░░░░░░░░░░░░░|          so the next commit begins at the front again
//! ```
//! Overwriting blocks that are there costs half the sync of making a file grow, and a file that never grows is bounded.
//! A checkpoint whose sync failed may not be tried again: SQLite counts what an earlier, partial pass copied as written,
//! and the system may have dropped just that. The store then refuses commits, and the next start copies from the WAL's
//! beginning.
//! Only where readers keep the second pass from its end does the file grow; it is cut off when the log is quiet again.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::Error;

use super::{Shared, connect, rows};

/// The WAL is this large from the start.
const WAL_BYTES_READY: u64 = 16 << 20;
/// When commits have filled this much of it, a checkpoint is due even under load.
const WAL_BYTES_DUE: u64 = 8 << 20;
/// How often the keeper looks, and copies what has come if the log is quiet.
const INTERVAL: Duration = Duration::from_millis(1_000);
/// How long the keeper rests after a pass that failed or did not reach the end, however much was committed since.
const REST: Duration = Duration::from_millis(100);
/// Above this the WAL file is cut off.
const WAL_BYTES_KEPT: u64 = 64 << 20;
/// How long cutting off waits for readers; commits wait meanwhile.
const READERS_WAIT_MAX: Duration = Duration::from_millis(100);

/// The thread and its signal.
pub(super) struct Keeper {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Something was committed since the last checkpoint.
    dirty: bool,
    /// Much was.
    due: bool,
    stop: bool,
}

impl Keeper {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, Error> {
        let conn = connect(&shared.path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|conn| conn.busy_timeout(READERS_WAIT_MAX).map(|()| conn))
            .map_err(|source| rows::fail("open", &shared.place, source))?;
        let signal = Arc::new(Signal::default());
        let seen = Arc::clone(&signal);
        let place = shared.place.clone();
        let thread = std::thread::Builder::new()
            .name("log-checkpoint".to_owned())
            .spawn(move || keep(&conn, &shared, &seen))
            .map_err(|source| Error::Io {
                action: "start the checkpoint thread of",
                place,
                source: Box::new(source),
            })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Tells the keeper that a commit was made, and how many bytes of the WAL are in use now.
    pub(super) fn committed(&self, wal_bytes: u64) {
        let mut state = self.signal.state.lock();
        state.dirty = true;
        if wal_bytes >= WAL_BYTES_DUE && !state.due {
            state.due = true;
            self.signal.changed.notify_one();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.signal.state.lock().stop = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("The checkpoint thread panicked");
        }
    }
}

fn keep(conn: &Connection, shared: &Shared, signal: &Signal) {
    let mut rests = false;
    loop {
        let State { dirty, due, stop } = {
            let mut state = signal.state.lock();
            if rests {
                signal.changed.wait_while_for(&mut state, |state| !state.stop, REST);
            }
            if !state.due && !state.stop {
                signal.changed.wait_for(&mut state, INTERVAL);
            }
            let stop = state.stop;
            State { stop, ..std::mem::take(&mut *state) }
        };
        let grew = wal_bytes(&shared.wal) > WAL_BYTES_KEPT;
        if (dirty || grew || stop) && !shared.poisoned.load(Ordering::Acquire) {
            rests = !checkpoint(conn, shared, due);
        }
        if stop {
            // Whoever copies or looks at `log.db` of a node that has ended finds all of it there.
            if !rests && !shared.poisoned.load(Ordering::Acquire) {
                empty_wal(conn, shared);
            }
            return;
        }
    }
}

/// Copies what can be copied, and notes how far `log.db` itself reaches. Returns whether that is all.
fn checkpoint(conn: &Connection, shared: &Shared, due: bool) -> bool {
    let mut whole = pass(conn, shared);
    if due && !whole {
        let _between = shared.turn.lock();
        whole = pass(conn, shared);
    }
    let is_quiet = !due;
    if wal_bytes(&shared.wal) > WAL_BYTES_KEPT && (is_quiet || !whole) {
        let _between = shared.turn.lock();
        if empty_wal(conn, shared) {
            lay_out(&shared.wal);
        }
    }
    whole
}

/// One passive pass; whether every frame was copied.
fn pass(conn: &Connection, shared: &Shared) -> bool {
    let last = shared.last_arrival.load(Ordering::Acquire);
    match run(conn, "PASSIVE") {
        Ok(true) => {
            shared.mark.store(last, Ordering::Release);
            true
        }
        Ok(false) => false,
        Err(error) => {
            failed(shared, error);
            false
        }
    }
}

/// Whatever may have lost what was copied ends the store; a full disk is only tried again.
fn failed(shared: &Shared, error: rusqlite::Error) {
    let is_busy = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
    let error = rows::fail("copy the write-ahead log into", &shared.place, error);
    if error.is_fatal() && !is_busy {
        shared.poisoned.store(true, Ordering::Release);
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "A checkpoint failed; the store takes no more commits"
        );
    } else {
        tracing::warn!(%error, "A checkpoint failed; the next one tries again");
    }
}

/// Lays the WAL out with zeros, which SQLite reads as the end of what was written.
///
/// Only for one that holds nothing, while nobody commits. Left out where the disk has no room: a WAL that grows is
/// slower, not wrong. The index beside it (`-shm`) must never be
/// opened here: closing it would give up the locks that SQLite holds on it in this process.
pub(super) fn lay_out(wal: &Path) {
    let laid = || -> std::io::Result<()> {
        let mut file = std::fs::File::options().append(true).open(wal)?;
        let before = file.metadata()?.len();
        let missing = usize::try_from(WAL_BYTES_READY.saturating_sub(before)).unwrap_or_default();
        let block = vec![0; 1 << 20];
        for at in (0..missing).step_by(block.len()) {
            if let Err(error) = file.write_all(&block[..block.len().min(missing - at)]) {
                file.set_len(before)?;
                return Err(error);
            }
        }
        file.sync_all()
    };
    if let Err(error) = laid() {
        tracing::warn!(%error, place = %wal.display(), "The write-ahead log could not be laid out; commits are slower");
    }
}

/// Copies all of the WAL and cuts the file off, waiting for readers that still need it. Returns whether it is empty.
pub(super) fn empty_wal(conn: &Connection, shared: &Shared) -> bool {
    match run(conn, "TRUNCATE") {
        Ok(true) => true,
        Ok(false) => {
            tracing::warn!(place = shared.place, "Readers keep the write-ahead log from being cut off");
            false
        }
        Err(error) => {
            failed(shared, error);
            false
        }
    }
}

/// Runs a checkpoint; whether every frame was copied.
fn run(conn: &Connection, mode: &str) -> Result<bool, rusqlite::Error> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (busy, frames, copied): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && frames == copied)
    })
}

fn wal_bytes(wal: &Path) -> u64 {
    std::fs::metadata(wal).map_or(0, |file| file.len())
}
