//! Keeps the WAL short off the commit path: copies it into `log.db` in a thread of its own.
//!
//! A passive checkpoint waits for nobody and nobody waits for it. When all frames are copied, the next commit starts
//! the WAL from its beginning again; only where readers keep that from happening does the file grow, and is then
//! truncated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use crate::Error;

use super::{Shared, connect, rows};

/// Commits after which a checkpoint is due even under load.
const COMMITS_MAX: u64 = 1_000;
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
    /// Commits since the last checkpoint, and whether to stop.
    state: Mutex<(u64, bool)>,
    changed: Condvar,
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

    /// Tells the keeper that a commit was made.
    pub(super) fn committed(&self) {
        let mut state = self.signal.state.lock();
        state.0 += 1;
        if state.0 == COMMITS_MAX {
            self.signal.changed.notify_one();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.signal.state.lock().1 = true;
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
        let stop = {
            let mut state = signal.state.lock();
            if state.0 < COMMITS_MAX && !state.1 {
                signal.changed.wait_for(&mut state, INTERVAL);
            }
            if state.0 == 0 && !state.1 {
                continue;
            }
            state.0 = 0;
            state.1
        };
        if !shared.poisoned.load(Ordering::Acquire) {
            checkpoint(conn, shared);
        }
        if stop {
            return;
        }
    }
}

/// Copies what can be copied, and notes how far `log.db` itself reaches.
fn checkpoint(conn: &Connection, shared: &Shared) {
    let last = shared.last_arrival.load(Ordering::Acquire);
    match run(conn, "PASSIVE") {
        Ok(true) => shared.mark.store(last, Ordering::Release),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, place = shared.place, "Checkpoint failed; the next one tries again"),
    }
    if wal_bytes(&shared.wal) > WAL_BYTES_KEPT {
        empty_wal(conn, shared);
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
