//! Rows of the database as values, each checked against its own hash as it is read.

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params};
use sha2::{Digest, Sha256};

use crate::{Entry, Error, Hash, Lane, LogId, Position, Recorded, Standing};

use super::Shared;

/// The columns that [`entry`] reads, in its order.
pub(super) const COLUMNS: &str =
    "arrival, log, epoch, seq, hash, previous, link, header, body, signatures, standing, reason, guard";

const COUNTED: i64 = 1;
const NOT_COUNTED: i64 = 2;
const NO_BODY: i64 = 3;

/// Translates a failure of SQLite met while doing `action` on `place`.
pub(super) fn fail(action: &'static str, place: &str, source: rusqlite::Error) -> Error {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    // A cell of another type than this program writes.
    if matches!(
        source,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    ) {
        return Error::Corrupt { place: place.to_owned(), reason: source.to_string() };
    }
    // The index of the WAL could not grow with it: the frames were written, but nobody will see them, and the next commit
    // takes their place. SQLite has no word of its own for a disk that is full at this point.
    let extended = source.sqlite_error().map(|error| error.extended_code);
    if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
        return Error::Full { place: place.to_owned() };
    }
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { place: place.to_owned() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Corrupt { place: place.to_owned(), reason: source.to_string() }
        }
        _ => Error::Io { action, place: place.to_owned(), source: Box::new(source) },
    }
}

/// Reads one row. The fault beside the entry says what does not match; such an entry is only for reports.
pub(super) fn entry(
    shared: &Shared,
    conn: &Connection,
    row: &Row<'_>,
) -> Result<(Entry, Option<String>), rusqlite::Error> {
    let log = shared.name(conn, row.get(1)?)?;
    let position = Position { epoch: unsigned(row.get(2)?), seq: unsigned(row.get(3)?), hash: hash(row, 4)? };
    let link = match row.get_ref(6)?.as_blob_or_null()? {
        None => None,
        Some(bytes) => Some(link_from(bytes).ok_or_else(|| wrong(6, "link"))?),
    };
    let standing = match row.get::<_, i64>(10)? {
        COUNTED => Standing::Counted,
        NOT_COUNTED => Standing::NotCounted { reason: row.get::<_, Option<String>>(11)?.unwrap_or_default() },
        NO_BODY => Standing::NoBody,
        _ => return Err(wrong(10, "standing")),
    };
    let entry = Entry {
        arrival: unsigned(row.get(0)?),
        log,
        position,
        previous: hash(row, 5)?,
        link,
        header: Bytes::copy_from_slice(row.get_ref(7)?.as_blob()?),
        body: row.get_ref(8)?.as_blob_or_null()?.map(Bytes::copy_from_slice),
        signatures: Bytes::copy_from_slice(row.get_ref(9)?.as_blob()?),
        standing,
    };
    let fault = if Hash::of(&entry.header) != position.hash {
        Some("the header does not match its hash".to_owned())
    } else if guard(&entry) != row.get::<_, i64>(12)? {
        Some("body, signatures or place do not match their check value".to_owned())
    } else {
        None
    };
    Ok((entry, fault))
}

/// The check value over what the header's hash does not cover.
pub(super) fn guard(entry: &Entry) -> i64 {
    let mut sum = Sha256::new();
    sum.update(entry.arrival.to_be_bytes());
    sum.update(entry.position.epoch.to_be_bytes());
    sum.update(entry.position.seq.to_be_bytes());
    sum.update(entry.previous.0);
    if let Some(link) = entry.link {
        sum.update(link_bytes(link));
    }
    let (standing, reason) = standing_columns(&entry.standing);
    sum.update(standing.to_be_bytes());
    sum.update(reason.unwrap_or_default().as_bytes());
    sum.update((entry.body.as_ref().map_or(u64::MAX, |body| body.len() as u64)).to_be_bytes());
    sum.update(entry.body.as_deref().unwrap_or_default());
    sum.update(&entry.signatures);
    tag(&sum.finalize().into())
}

/// The first eight bytes of a hash, as the look-up table has them.
pub(super) fn tag(hash: &[u8; 32]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

pub(super) fn standing_columns(standing: &Standing) -> (i64, Option<&str>) {
    match standing {
        Standing::Counted => (COUNTED, None),
        Standing::NotCounted { reason } => (NOT_COUNTED, Some(reason)),
        Standing::NoBody => (NO_BODY, None),
    }
}

/// `epoch(8) seq(8) hash(32)`, big-endian.
pub(super) fn link_bytes(link: Position) -> [u8; 48] {
    let mut bytes = [0; 48];
    let (epoch, rest) = bytes.split_at_mut(8);
    let (seq, hash) = rest.split_at_mut(8);
    epoch.copy_from_slice(&link.epoch.to_be_bytes());
    seq.copy_from_slice(&link.seq.to_be_bytes());
    hash.copy_from_slice(&link.hash.0);
    bytes
}

fn link_from(bytes: &[u8]) -> Option<Position> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (seq, hash) = rest.split_first_chunk::<8>()?;
    Some(Position {
        epoch: u64::from_be_bytes(*epoch),
        seq: u64::from_be_bytes(*seq),
        hash: Hash::try_from(hash).ok()?,
    })
}

/// The hash at a place of the log with row id `log`.
pub(super) fn hash_at(conn: &Connection, log: i64, epoch: u64, seq: u64) -> Result<Option<Hash>, rusqlite::Error> {
    conn.prepare_cached("SELECT hash FROM entries WHERE log = ?1 AND epoch = ?2 AND seq = ?3")?
        .query_row(params![log, signed(epoch), signed(seq)], |row| hash(row, 0))
        .optional()
}

/// What is recorded under the idempotency key with this hash.
pub(super) fn recorded(
    shared: &Shared,
    conn: &Connection,
    key: &[u8; 32],
    name: impl Fn(i64) -> Option<LogId>,
) -> Result<Option<Recorded>, rusqlite::Error> {
    let mut statement = conn.prepare_cached(
        "SELECT e.log, e.epoch, e.seq, e.hash, e.content FROM lookup l JOIN entries e ON e.arrival = l.arrival \
         WHERE l.tag = ?1 AND e.key = ?2 ORDER BY l.arrival LIMIT 1",
    )?;
    let mut rows = statement.query(params![tag(key), key.as_slice()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let id = row.get(0)?;
    let log = match name(id) {
        Some(log) => log,
        None => shared.name(conn, id)?,
    };
    let position = Position { epoch: unsigned(row.get(1)?), seq: unsigned(row.get(2)?), hash: hash(row, 3)? };
    Ok(Some(Recorded { log, position, content: hash(row, 4)? }))
}

/// The log with this row id, from the table.
pub(super) fn log_name(conn: &Connection, id: i64) -> Result<LogId, rusqlite::Error> {
    conn.prepare_cached("SELECT origin, lane FROM logs WHERE id = ?1")?.query_row([id], log_id)
}

/// Reads `origin, lane` from the first two columns.
pub(super) fn log_id(row: &Row<'_>) -> Result<LogId, rusqlite::Error> {
    let lane = Lane::parse(row.get_ref(1)?.as_str()?).ok_or_else(|| wrong(1, "lane"))?;
    Ok(LogId::new(row.get_ref(0)?.as_str()?, lane))
}

pub(super) fn hash(row: &Row<'_>, column: usize) -> Result<Hash, rusqlite::Error> {
    Hash::try_from(row.get_ref(column)?.as_blob()?).map_err(|_| wrong(column, "hash"))
}

/// A cell that no version of this program writes; reported as corruption.
fn wrong(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error { code: ErrorCode::DatabaseCorrupt, extended_code: rusqlite::ffi::SQLITE_CORRUPT },
        Some(format!("column {column} holds no {what}")),
    )
}

/// Numbers of ours are kept below 2^63, so the cast keeps their order.
pub(super) fn signed(number: u64) -> i64 {
    number.min(i64::MAX as u64) as i64
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
