//! The connections that read.

use std::path::PathBuf;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use super::connect;

/// Reads at one time; more wait. Each may cache 1 MiB.
const READERS_MAX: usize = 8;

/// A bounded set of read connections, opened as they are needed.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<(Vec<Connection>, usize)>,
    returned: Condvar,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new((Vec::new(), 0)), returned: Condvar::new() }
    }

    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let lent = self.lend()?;
        lent.conn.as_ref().map_or(Err(rusqlite::Error::InvalidQuery), read)
    }

    fn lend(&self) -> Result<Lent<'_>, rusqlite::Error> {
        let mut idle = self.idle.lock();
        loop {
            if let Some(conn) = idle.0.pop() {
                return Ok(Lent { readers: self, conn: Some(conn) });
            }
            if idle.1 < READERS_MAX {
                idle.1 += 1;
                drop(idle);
                let mut lent = Lent { readers: self, conn: None };
                let conn = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -1024;")?;
                lent.conn = Some(conn);
                return Ok(lent);
            }
            self.returned.wait(&mut idle);
        }
    }
}

struct Lent<'a> {
    readers: &'a Readers,
    conn: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self.readers.idle.lock();
        match self.conn.take() {
            Some(conn) => idle.0.push(conn),
            None => idle.1 -= 1,
        }
        self.readers.returned.notify_one();
    }
}
