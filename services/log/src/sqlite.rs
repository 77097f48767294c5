//! The embedded store: one SQLite database in WAL mode behind one committer.
//!
//! On disk, in one directory:
//! ```text
//! lock            held by the process that has the directory open
//! log.db          user_version = FORMAT, application_id = "CMPN"
//! log.db-wal      commits since the last checkpoint; bounded to WAL_BYTES_MAX
//!
//! entries         arrival (row id) | log epoch seq | hash previous link | header body signatures | standing | guard
//!                 key content: SHA-256 of the idempotency key, and the hash of the content recorded under it
//! lookup          first 8 bytes of a record's hash or of a key's hash -> arrival; one narrow tree for both, so that
//!                 an insert dirties two random leaves at most
//! logs state evidence checkpoints meta
//! ```
//! What a crash leaves: SQLite takes the longest prefix of whole commits in the WAL, and `synchronous=FULL` has put a
//! commit there before it is acknowledged. `meta.mark` is the last arrival number known to have reached `log.db` itself;
//! a start verifies what lies above it, and [`Store::scrub`] the rest. Every read checks header against hash, and all
//! else of the row against its guard, so damage is an error and never wrong data.

mod batch;
mod keeper;
mod readers;
mod rows;

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::chain::{self, Held, PendingTails, Tails, Walk};
use crate::store::{StateRows, Work};
use crate::{Entry, Error, Evidence, Hash, Key, LogId, Position, Recorded, Store};

use batch::{Broken, SqliteBatch};
use keeper::Keeper;
use readers::Readers;

/// The format this version reads and writes.
const FORMAT: i64 = 1;
const APPLICATION: i64 = 0x434D_504E;
/// How long a statement waits for SQLite's own locks, which are held for moments only.
const BUSY_MS_MAX: u64 = 10_000;
/// Above this the committer itself empties the WAL, so that it cannot outgrow the disk.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// One page of the database and the header of its frame in the WAL.
const FRAME_BYTES: u64 = 4_096 + 24;
/// Entries verified in one step at the start.
const VERIFY_STEP: usize = 1024;
/// Bytes held at one time while verifying.
const VERIFY_BYTES_MAX: usize = 16 << 20;

const SCHEMA: &str = "
CREATE TABLE logs (id INTEGER PRIMARY KEY, origin TEXT NOT NULL, lane TEXT NOT NULL, UNIQUE (origin, lane));
CREATE TABLE entries (
    arrival INTEGER PRIMARY KEY, log INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    hash BLOB NOT NULL, previous BLOB NOT NULL, link BLOB, header BLOB NOT NULL, body BLOB,
    signatures BLOB NOT NULL, standing INTEGER NOT NULL, reason TEXT, guard INTEGER NOT NULL, key BLOB, content BLOB);
CREATE UNIQUE INDEX entries_place ON entries (log, epoch, seq);
CREATE TABLE lookup (tag INTEGER NOT NULL, arrival INTEGER NOT NULL, PRIMARY KEY (tag, arrival)) WITHOUT ROWID;
CREATE TABLE state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY, log INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
    header BLOB NOT NULL, body BLOB, signatures BLOB NOT NULL, UNIQUE (log, epoch, seq, hash));
CREATE TABLE checkpoints (log INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('mark', 0);
";

/// How to open a [`SqliteStore`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The most bytes `log.db` may grow to; beyond it commits are [`Error::Full`]. Absent: as much as the disk has.
    pub bytes_max: Option<u64>,
}

/// A store in a directory. Dropping it closes it.
pub struct SqliteStore {
    shared: Arc<Shared>,
    readers: Readers,
    /// Where the next scrub goes on: the last arrival number verified in this round.
    scrubbed: Mutex<u64>,
    /// Absent when opened read-only.
    writer: Mutex<Option<Writer>>,
    keeper: Option<Keeper>,
    /// Last, so that it is given up when all else is closed.
    _lock: Option<File>,
}

struct Writer {
    conn: Connection,
    /// The epoch begun for each log of our own.
    epochs: HashMap<LogId, u64>,
}

/// What committer, readers and the keeper of the WAL share.
pub(crate) struct Shared {
    /// The database file, for messages.
    place: String,
    path: PathBuf,
    wal: PathBuf,
    tails: RwLock<Tails>,
    names: RwLock<Names>,
    last_arrival: AtomicU64,
    /// The last arrival number known to be in `log.db` itself; the next commit writes it down.
    mark: AtomicU64,
    /// Held by whoever writes: a commit, or the keeper while it copies the last of the WAL.
    turn: Mutex<()>,
    /// Whether there is any evidence, or may be: set before a commit that writes some, never taken back.
    has_evidence: AtomicBool,
    /// Frames of the WAL in use, as the last commit left it.
    wal_frames: AtomicU64,
    poisoned: AtomicBool,
}

#[derive(Default)]
struct Names {
    rows: HashMap<LogId, i64>,
    logs: HashMap<i64, LogId>,
}

impl Names {
    fn add(&mut self, log: LogId, id: i64) {
        self.logs.insert(id, log.clone());
        self.rows.insert(log, id);
    }
}

impl Shared {
    fn row(&self, log: &LogId) -> Option<i64> {
        self.names.read().rows.get(log).copied()
    }

    /// The log with this row id. A reader may meet one that the committer has not published yet: then from the table.
    fn name(&self, conn: &Connection, id: i64) -> Result<LogId, rusqlite::Error> {
        if let Some(log) = self.names.read().logs.get(&id) {
            return Ok(log.clone());
        }
        rows::log_name(conn, id)
    }
}

impl SqliteStore {
    /// Opens the store in `directory`, made if absent, and verifies what a crash could have touched.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Format`], [`Error::Corrupt`], [`Error::Io`], [`Error::Full`].
    pub fn open(directory: &Path, options: &Options) -> Result<Self, Error> {
        let lock = lock(directory)?;
        let path = directory.join("log.db");
        let place = path.display().to_string();
        let mut conn = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
            .map_err(|source| rows::fail("open", &place, source))?;
        prepare(&conn, &place, options)?;
        let shared = Arc::new(load(&conn, &path, place)?);
        let counted = Arc::clone(&shared);
        let hook = move |_: &mut Wal, frames: i32| {
            counted.wal_frames.store(u64::try_from(frames).unwrap_or_default(), Ordering::Release);
            Ok(())
        };
        conn.wal_hook(Some(hook)).map_err(|source| rows::fail("open", &shared.place, source))?;
        keeper::lay_out(&shared.wal);
        let store = Self {
            readers: Readers::new(path),
            scrubbed: Mutex::new(0),
            writer: Mutex::new(Some(Writer { conn, epochs: HashMap::new() })),
            keeper: Some(Keeper::start(Arc::clone(&shared))?),
            shared,
            _lock: Some(lock),
        };
        store.verify_since_mark()?;
        Ok(store)
    }

    /// Opens the store in `directory` for reading alone, as it stands now, also while a node has it open. Logs and
    /// tails are those of this moment, commits are refused, and nothing is verified beforehand.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no store; [`Error::Format`]; [`Error::Corrupt`].
    pub fn open_read_only(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("log.db");
        let place = path.display().to_string();
        let conn =
            connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|source| rows::fail("open", &place, source))?;
        check_format(&conn, &place)?;
        let shared = Arc::new(load(&conn, &path, place)?);
        Ok(Self {
            readers: Readers::new(path),
            scrubbed: Mutex::new(0),
            writer: Mutex::new(None),
            keeper: None,
            shared,
            _lock: None,
        })
    }

    fn read_only(&self) -> Error {
        Error::Invalid { what: format!("{} is open for reading alone", self.shared.place) }
    }

    fn verify_since_mark(&self) -> Result<(), Error> {
        let mut at = self.shared.mark.load(Ordering::Acquire);
        while let Some(next) = self.verify_arrivals(at, VERIFY_STEP)? {
            at = next;
        }
        Ok(())
    }

    /// Verifies up to `step` entries after `after`; `None` at the end.
    fn verify_arrivals(&self, after: u64, step: usize) -> Result<Option<u64>, Error> {
        let entries = self.arrivals(after, step, VERIFY_BYTES_MAX)?;
        let mut walk = Walk::default();
        for (expected, entry) in (after + 1..).zip(&entries) {
            if entry.arrival != expected {
                return Err(self.corrupt(entry, format!("arrival number {expected} is missing before it")));
            }
            self.walk(&mut walk, entry)?;
        }
        match entries.last() {
            Some(last) => Ok(Some(last.arrival)),
            None if after < self.last_arrival() => Err(Error::Corrupt {
                place: self.shared.place.clone(),
                reason: format!("entries after arrival number {after} are missing"),
            }),
            None => Ok(None),
        }
    }

    fn walk(&self, walk: &mut Walk, entry: &Entry) -> Result<(), Error> {
        match walk.step(entry, &mut HeldHere(self))? {
            Some(fault) => Err(self.corrupt(entry, fault)),
            None => Ok(()),
        }
    }

    fn corrupt(&self, entry: &Entry, reason: String) -> Error {
        Error::Corrupt { place: format!("{} {} {}", self.shared.place, entry.log, entry.position), reason }
    }

    /// Runs `read` on a connection of its own.
    fn reading<T>(&self, read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, Error> {
        self.readers.with(|conn| read(conn)).map_err(|source| rows::fail("read from", &self.shared.place, source))
    }

    /// Reads entries by a query over [`rows::COLUMNS`] until a limit is met.
    fn entries(
        &self,
        condition: &str,
        parameters: &[&dyn rusqlite::ToSql],
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Error> {
        let sql = format!("SELECT {} FROM entries WHERE {condition}", rows::COLUMNS);
        let (entries, fault) = self.reading(|conn| {
            let mut statement = conn.prepare_cached(&sql)?;
            let mut found = statement.query(parameters)?;
            let (mut entries, mut bytes) = (Vec::new(), 0_usize);
            while entries.len() < max_entries {
                let Some(row) = found.next()? else { break };
                let (entry, fault) = rows::entry(&self.shared, conn, row)?;
                if let Some(fault) = fault {
                    return Ok((entries, Some((entry, fault))));
                }
                bytes = bytes.saturating_add(entry.weight());
                if bytes > max_bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
            }
            Ok((entries, None))
        })?;
        match fault {
            // What is sound before the fault can still be served; the fault is met again by the next read.
            Some((entry, fault)) if entries.is_empty() => Err(self.corrupt(&entry, fault)),
            _ => Ok(entries),
        }
    }
}

impl Store for SqliteStore {
    fn commit(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        if self.shared.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        let Some(Writer { conn, epochs }) = &mut *writer else { return Err(self.read_only()) };
        let _turn = self.shared.turn.lock();
        let result = self.transact(conn, epochs, work);
        if result.as_ref().is_err_and(Error::is_fatal) {
            self.shared.poisoned.store(true, Ordering::Release);
        }
        result?;
        let wal = self.shared.wal_frames.load(Ordering::Acquire) * FRAME_BYTES;
        if wal > WAL_BYTES_MAX {
            keeper::empty_wal(conn, &self.shared);
        }
        if let Some(keeper) = &self.keeper {
            keeper.committed(wal);
        }
        Ok(())
    }

    fn begin_epoch(&self, log: &LogId, epoch: u64) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        chain::check_above(log, epoch, self.tail(log))?;
        writer.as_mut().ok_or_else(|| self.read_only())?.epochs.insert(log.clone(), epoch);
        Ok(())
    }

    fn tail(&self, log: &LogId) -> Option<Position> {
        self.shared.tails.read().tail(log)
    }

    fn logs(&self) -> Vec<(LogId, Position)> {
        self.shared.tails.read().logs()
    }

    fn epochs(&self, log: &LogId) -> Vec<Position> {
        self.shared.tails.read().epochs(log)
    }

    fn last_arrival(&self) -> u64 {
        self.shared.last_arrival.load(Ordering::Acquire)
    }

    fn read(
        &self,
        log: &LogId,
        after: Option<(u64, u64)>,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Error> {
        let Some(row) = self.shared.row(log) else { return Ok(Vec::new()) };
        let (epoch, seq) = after.unwrap_or((0, 0));
        self.entries(
            "log = ?1 AND (epoch, seq) > (?2, ?3) ORDER BY epoch, seq LIMIT ?4",
            params![row, rows::signed(epoch), rows::signed(seq), rows::signed(max_entries as u64)],
            max_entries,
            max_bytes,
        )
    }

    fn arrivals(&self, after: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        self.entries(
            "arrival > ?1 ORDER BY arrival LIMIT ?2",
            params![rows::signed(after), rows::signed(max_entries as u64)],
            max_entries,
            max_bytes,
        )
    }

    fn get(&self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Entry>, Error> {
        let Some(row) = self.shared.row(log) else { return Ok(None) };
        let place = params![row, rows::signed(epoch), rows::signed(seq)];
        Ok(self.entries("log = ?1 AND epoch = ?2 AND seq = ?3", place, 1, usize::MAX)?.pop())
    }

    fn by_hash(&self, hash: &Hash) -> Result<Option<Entry>, Error> {
        let condition = "arrival IN (SELECT arrival FROM lookup WHERE tag = ?1) AND hash = ?2 ORDER BY arrival LIMIT 1";
        let parameters = params![rows::tag(&hash.0), hash.0.as_slice()];
        Ok(self.entries(condition, parameters, 1, usize::MAX)?.pop())
    }

    fn find(&self, key: &Key) -> Result<Option<Recorded>, Error> {
        let key = Hash::of(&key.0).0;
        self.reading(|conn| rows::recorded(&self.shared, conn, &key, |_| None))
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.reading(|conn| {
            conn.prepare_cached("SELECT value FROM state WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
        })
    }

    fn state_prefix(&self, prefix: &[u8], after: Option<&[u8]>, max: usize) -> Result<StateRows, Error> {
        // The key that follows another one directly is that key with a zero byte behind it.
        let from = match after {
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        self.reading(|conn| {
            let mut statement =
                conn.prepare_cached("SELECT key, value FROM state WHERE key >= ?1 ORDER BY key LIMIT ?2")?;
            let mut found = statement.query(params![from, rows::signed(max as u64)])?;
            let mut pairs = Vec::new();
            while let Some(row) = found.next()? {
                let key: Vec<u8> = row.get(0)?;
                if !key.starts_with(prefix) {
                    break;
                }
                pairs.push((key, row.get(1)?));
            }
            Ok(pairs)
        })
    }

    fn evidence(&self) -> Result<Vec<Evidence>, Error> {
        // It is asked for before every hand-over, and in a sound federation there is none.
        if !self.shared.has_evidence.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        self.reading(|conn| {
            let mut statement = conn
                .prepare_cached("SELECT log, epoch, seq, hash, header, body, signatures FROM evidence ORDER BY id")?;
            let mut found = statement.query([])?;
            let mut all = Vec::new();
            while let Some(row) = found.next()? {
                let (epoch, seq) = (rows::unsigned(row.get(1)?), rows::unsigned(row.get(2)?));
                all.push(Evidence {
                    log: self.shared.name(conn, row.get(0)?)?,
                    position: Position { epoch, seq, hash: rows::hash(row, 3)? },
                    header: Bytes::from(row.get::<_, Vec<u8>>(4)?),
                    body: row.get::<_, Option<Vec<u8>>>(5)?.map(Bytes::from),
                    signatures: Bytes::from(row.get::<_, Vec<u8>>(6)?),
                });
            }
            Ok(all)
        })
    }

    fn checkpoint(&self, log: &LogId) -> Result<Option<Bytes>, Error> {
        let Some(row) = self.shared.row(log) else { return Ok(None) };
        let bytes: Option<Vec<u8>> = self.reading(|conn| {
            conn.prepare_cached("SELECT bytes FROM checkpoints WHERE log = ?1")?
                .query_row([row], |row| row.get(0))
                .optional()
        })?;
        Ok(bytes.map(Bytes::from))
    }

    fn scrub(&self, step: usize) -> Result<Option<u64>, Error> {
        let mut scrubbed = self.scrubbed.lock();
        let reached = self.verify_arrivals(*scrubbed, step.max(1))?;
        *scrubbed = reached.unwrap_or(0);
        Ok(reached)
    }

    fn verify_chain(&self, log: &LogId, from: Option<(u64, u64)>) -> Result<u64, Error> {
        let (mut after, mut count, mut walk) = (from, 0, Walk::default());
        loop {
            let entries = self.read(log, after, VERIFY_STEP, VERIFY_BYTES_MAX)?;
            let Some(last) = entries.last() else { return Ok(count) };
            after = Some(last.position.place());
            for entry in &entries {
                self.walk(&mut walk, entry)?;
                count += 1;
            }
        }
    }
}

impl SqliteStore {
    fn transact(&self, conn: &Connection, epochs: &HashMap<LogId, u64>, work: &mut Work<'_>) -> Result<(), Error> {
        let fail = |action| move |source| rows::fail(action, &self.shared.place, source);
        conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(fail("begin on"))?;
        let rollback = Rollback { conn, shared: &self.shared };
        let mut batch = SqliteBatch {
            conn,
            shared: &self.shared,
            epochs,
            tails: PendingTails::new(&self.shared.tails),
            new_logs: HashMap::new(),
            last_arrival: self.last_arrival(),
            broken: None,
        };
        work(&mut batch)?;
        let SqliteBatch { tails, new_logs, last_arrival, broken, .. } = batch;
        match broken {
            Some(Broken::Full) => return Err(Error::Full { place: self.shared.place.clone() }),
            Some(Broken::Other(reason)) => {
                let place = self.shared.place.clone();
                return Err(Error::Io { action: "write to", place, source: reason.into() });
            }
            None => {}
        }
        let mark = self.shared.mark.swap(0, Ordering::AcqRel);
        if mark > 0 {
            conn.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'mark'")
                .and_then(|mut update| update.execute([rows::signed(mark)]))
                .map_err(fail("write to"))?;
        }
        conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(fail("commit to"))?;
        drop(rollback);
        {
            let mut names = self.shared.names.write();
            new_logs.into_iter().for_each(|(log, id)| names.add(log, id));
        }
        tails.publish();
        self.shared.last_arrival.store(last_arrival, Ordering::Release);
        Ok(())
    }
}

/// Rolls a transaction back that is still open when it goes, a panic of the work included.
struct Rollback<'a> {
    conn: &'a Connection,
    shared: &'a Shared,
}

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            self.shared.poisoned.store(true, Ordering::Release);
            tracing::error!(%error, place = self.shared.place, "Roll-back failed");
        }
    }
}

/// Looks chain positions up in the store itself.
struct HeldHere<'a>(&'a SqliteStore);

impl Held for HeldHere<'_> {
    fn hash_at(&mut self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Hash>, Error> {
        let Some(row) = self.0.shared.row(log) else { return Ok(None) };
        self.0.reading(|conn| rows::hash_at(conn, row, epoch, seq))
    }
}

fn lock(directory: &Path) -> Result<File, Error> {
    let place = directory.display().to_string();
    let io = |action| {
        let place = place.clone();
        move |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::StorageFull => Error::Full { place },
            _ => Error::Io { action, place, source: Box::new(source) },
        }
    };
    let made = directory.ancestors().take_while(|folder| !folder.is_dir()).count();
    std::fs::create_dir_all(directory).map_err(io("make the directory"))?;
    // SQLite syncs the directory itself. Were the one that it lies in not synced too, a power cut could take all of it.
    for folder in directory.ancestors().take(made.max(1)).filter_map(Path::parent) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync the directory around"))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(io("open the lock of"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: place }),
        Err(TryLockError::Error(source)) => Err(io("lock")(source)),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
    conn.set_prepared_statement_cache_capacity(64);
    // The plans here do not depend on the values bound; without this a statement is prepared again for each.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The keeper copies the WAL at the end; after a failed sync nobody may, since the WAL is all that is sure.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

fn check_format(conn: &Connection, place: &str) -> Result<(), Error> {
    let pragma = |name| {
        conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
            .map_err(|source| rows::fail("open", place, source))
    };
    match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION, FORMAT) => Ok(()),
        (_, found) => Err(Error::Format { path: place.to_owned(), found, known: FORMAT }),
    }
}

/// Checks the format, makes the tables of a new database, and sets what a commit promises.
fn prepare(conn: &Connection, place: &str, options: &Options) -> Result<(), Error> {
    let fail = |source| rows::fail("open", place, source);
    let pragma = |name| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fail)?;
    if tables > 0 {
        check_format(conn, place)?;
    }
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;",
    )
    .map_err(fail)?;
    if crate::mutant("synchronous-off") {
        conn.execute_batch("PRAGMA synchronous = OFF").map_err(fail)?;
    }
    if tables == 0 {
        conn.execute_batch(&format!(
            "BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT;"
        ))
        .map_err(fail)?;
    }
    if let Some(bytes) = options.bytes_max {
        let page = pragma("page_size").map_err(fail)?.max(1);
        let pages = rows::signed(bytes) / page;
        pragma(&format!("max_page_count = {}", pages.max(1))).map_err(fail)?;
    }
    Ok(())
}

/// Reads what is kept in memory: logs, the tail of every epoch, the last arrival number and the mark.
fn load(conn: &Connection, path: &Path, place: String) -> Result<Shared, Error> {
    let read = || -> Result<_, rusqlite::Error> {
        let (mut names, mut tails) = (Names::default(), Tails::default());
        let mut logs = conn.prepare("SELECT origin, lane, id FROM logs")?;
        let mut found = logs.query([])?;
        while let Some(row) = found.next()? {
            names.add(rows::log_id(row)?, row.get(2)?);
        }
        // From the last epoch downwards, one step of the index per epoch.
        let mut last = conn.prepare(
            "SELECT epoch, seq, hash FROM entries WHERE log = ?1 AND epoch < ?2 ORDER BY epoch DESC, seq DESC LIMIT 1",
        )?;
        for (log, id) in &names.rows {
            let mut below = i64::MAX;
            while let Some((epoch, tail)) = last
                .query_row([*id, below], |row| {
                    let (epoch, seq) = (row.get(0)?, rows::unsigned(row.get(1)?));
                    Ok((epoch, Position { epoch: rows::unsigned(epoch), seq, hash: rows::hash(row, 2)? }))
                })
                .optional()?
            {
                tails.set(log, tail);
                below = epoch;
            }
        }
        let arrival: i64 = conn.query_row("SELECT coalesce(max(arrival), 0) FROM entries", [], |row| row.get(0))?;
        let mark: i64 = conn.query_row("SELECT value FROM meta WHERE name = 'mark'", [], |row| row.get(0))?;
        let evidence: bool = conn.query_row("SELECT EXISTS (SELECT 1 FROM evidence)", [], |row| row.get(0))?;
        Ok((names, tails, rows::unsigned(arrival), rows::unsigned(mark), evidence))
    };
    let (names, tails, last_arrival, mark, evidence) = read().map_err(|source| rows::fail("load", &place, source))?;
    if mark > last_arrival {
        let reason = format!("it ends at arrival number {last_arrival}, but {mark} entries had reached it");
        return Err(Error::Corrupt { place, reason });
    }
    Ok(Shared {
        wal: path.with_extension("db-wal"),
        path: path.to_owned(),
        place,
        tails: RwLock::new(tails),
        names: RwLock::new(names),
        last_arrival: AtomicU64::new(last_arrival),
        mark: AtomicU64::new(mark),
        turn: Mutex::new(()),
        has_evidence: AtomicBool::new(evidence),
        wal_frames: AtomicU64::new(0),
        poisoned: AtomicBool::new(false),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
