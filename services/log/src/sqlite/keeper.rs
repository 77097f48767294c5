//! Keeps the WAL short off the commit path: copies it into `log.db` in a thread of its own.
//!
//! ```text
//!  commits ──► |▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░░░░░░░|          the WAL, laid out to WAL_BYTES_READY at the start
//!               due at WAL_BYTES_DUE: 1. a passive pass, beside the commits, copies nearly all
//!                                     2. a short one between two commits copies the rest
//!  commits ──► |▓░░░░░░░░░░░░░░░░░░░░░░░░░░░|          so the next commit begins at the front again
//! ```
//! Overwriting blocks that are there costs half the sync of making a file grow, and a file that never grows is bounded.
//! Only where readers keep the second pass from its end does the file grow, and is then cut off.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use crate::Error;

use super::{Shared, connect, rows};

/// The WAL is this large from the start.
const WAL_BYTES_READY: u64 = 16 << 20;
/// When commits have filled this much of it, a checkpoint is due even under load.
const WAL_BYTES_DUE: u64 = 8 << 20;
/// How often the keeper looks, and copies what has come if the log is quiet.
const INTERVAL: Duration = Duration::from_millis(1_000);
/// Above this the WAL file is cut off after a checkpoint.
const WAL_BYTES_KEPT: u64 = 64 << 20;

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
    loop {
        let State { dirty, due, stop } = {
            let mut state = signal.state.lock();
            if !state.due && !state.stop {
                signal.changed.wait_for(&mut state, INTERVAL);
            }
            let stop = state.stop;
            State { stop, ..std::mem::take(&mut *state) }
        };
        if (dirty || stop) && !shared.poisoned.load(Ordering::Acquire) {
            checkpoint(conn, shared, due);
        }
        if stop {
            return;
        }
    }
}

/// Copies what can be copied, and notes how far `log.db` itself reaches.
fn checkpoint(conn: &Connection, shared: &Shared, due: bool) {
    let mut whole = pass(conn, shared);
    if due && !whole {
        let _between = shared.turn.lock();
        whole = pass(conn, shared);
    }
    if !whole && wal_bytes(&shared.wal) > WAL_BYTES_KEPT {
        empty_wal(conn, shared);
    }
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
            tracing::warn!(%error, place = shared.place, "Checkpoint failed; the next one tries again");
            false
        }
    }
}

/// Lays the WAL out with zeros, which SQLite reads as the end of what was written.
///
/// Left out where the disk has no room: a WAL that grows is slower, not wrong. The index beside it (`-shm`) must never be
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

/// Copies all of the WAL and cuts the file off, waiting for readers that still need it.
pub(super) fn empty_wal(conn: &Connection, shared: &Shared) {
    match run(conn, "TRUNCATE") {
        Ok(true) => {}
        Ok(false) => tracing::warn!(place = shared.place, "Readers keep the write-ahead log from being cut off"),
        Err(error) => tracing::warn!(%error, place = shared.place, "The write-ahead log could not be cut off"),
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
