//! The inside of a commit on SQLite.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::chain::{self, PendingTails, Verdict};
use crate::store::EVIDENCE_MAX;
use crate::{
    Accepted, Appended, Batch, Draft, Entry, Error, Evidence, Hash, Key, LogId, Position, Recorded, Replica, Sealed,
    Standing,
};

use super::{Shared, rows};

/// A batch under way. Everything in it is dropped unless the transaction commits.
pub(super) struct SqliteBatch<'a> {
    pub(super) conn: &'a Connection,
    pub(super) shared: &'a Shared,
    pub(super) epochs: &'a HashMap<LogId, u64>,
    pub(super) tails: PendingTails<'a>,
    /// Row ids given to logs in this batch.
    pub(super) new_logs: HashMap<LogId, i64>,
    pub(super) last_arrival: u64,
    /// The first failure of the disk: after it the batch cannot commit, whatever the work returns.
    pub(super) broken: Option<Broken>,
}

/// A failure of the disk inside a batch.
pub(super) enum Broken {
    Full,
    Other(String),
}

impl SqliteBatch<'_> {
    /// Runs `work` on the connection and remembers a failure.
    fn run<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        if self.broken.is_some() {
            return Err(Error::Poisoned);
        }
        work(self).map_err(|source| {
            let error = rows::fail(action, &self.shared.place, source);
            self.broken = Some(match &error {
                Error::Full { .. } => Broken::Full,
                other => Broken::Other(other.to_string()),
            });
            error
        })
    }

    fn log_row(&mut self, log: &LogId) -> Result<i64, rusqlite::Error> {
        if let Some(id) = self.known_row(log) {
            return Ok(id);
        }
        self.conn
            .prepare_cached("INSERT INTO logs (origin, lane) VALUES (?1, ?2)")?
            .execute(params![&*log.origin, log.lane.as_str()])?;
        let id = self.conn.last_insert_rowid();
        self.new_logs.insert(log.clone(), id);
        Ok(id)
    }

    fn known_row(&self, log: &LogId) -> Option<i64> {
        self.new_logs.get(log).copied().or_else(|| self.shared.row(log))
    }

    fn recorded(&mut self, key: &[u8; 32]) -> Result<Option<Recorded>, rusqlite::Error> {
        let new_logs = &self.new_logs;
        let name = |id| new_logs.iter().find(|(_, row)| **row == id).map(|(log, _)| log.clone());
        let recorded = rows::recorded(self.shared, self.conn, key, name)?;
        let is_last = |recorded: &Recorded| self.tails.tail(&recorded.log) == Some(recorded.position);
        Ok(recorded.filter(|recorded| !crate::mutant("dedup-by-high-watermark") || is_last(recorded)))
    }

    /// Writes the row and its look-ups, and gives the entry its arrival number.
    fn insert(&mut self, mut entry: Entry, key: Option<([u8; 32], Hash)>) -> Result<Entry, rusqlite::Error> {
        let log = self.log_row(&entry.log)?;
        entry.arrival = self.last_arrival + 1;
        let arrival = rows::signed(entry.arrival);
        let (standing, reason) = rows::standing_columns(&entry.standing);
        let link = entry.link.map(rows::link_bytes);
        self.conn
            .prepare_cached(
                "INSERT INTO entries (arrival, log, epoch, seq, hash, previous, link, header, body, signatures, \
                 standing, reason, guard, key, content) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                arrival,
                log,
                rows::signed(entry.position.epoch),
                rows::signed(entry.position.seq),
                entry.position.hash.0.as_slice(),
                entry.previous.0.as_slice(),
                link.as_ref().map(|bytes| bytes.as_slice()),
                &*entry.header,
                entry.body.as_deref(),
                &*entry.signatures,
                standing,
                reason,
                rows::guard(&entry),
                key.as_ref().map(|(key, _)| key.as_slice()),
                key.as_ref().map(|(_, content)| content.0.as_slice()),
            ])?;
        let mut lookup = self.conn.prepare_cached("INSERT OR IGNORE INTO lookup (tag, arrival) VALUES (?1, ?2)")?;
        lookup.execute(params![rows::tag(&entry.position.hash.0), arrival])?;
        if let Some((key, _)) = &key {
            lookup.execute(params![rows::tag(key), arrival])?;
        }
        self.last_arrival = entry.arrival;
        self.tails.set(&entry.log, entry.position);
        Ok(entry)
    }

    fn append_replica(&mut self, replica: Replica, position: Position) -> Result<Entry, rusqlite::Error> {
        let key = match replica.idempotency {
            Some((key, content)) => {
                let key = Hash::of(&key.0).0;
                self.recorded(&key)?.is_none().then_some((key, content))
            }
            None => None,
        };
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
        self.insert(entry, key)
    }

    /// Fills in the body of a record held as a header alone; `None` if it is held whole.
    fn add_body(
        &mut self,
        log: &LogId,
        position: Position,
        body: Bytes,
        standing: Standing,
        idempotency: Option<(Key, Hash)>,
    ) -> Result<Option<Entry>, rusqlite::Error> {
        let Some(row) = self.known_row(log) else { return Ok(None) };
        let sql = format!("SELECT {} FROM entries WHERE log = ?1 AND epoch = ?2 AND seq = ?3", rows::COLUMNS);
        let held = self
            .conn
            .prepare_cached(&sql)?
            .query_row(params![row, rows::signed(position.epoch), rows::signed(position.seq)], |row| {
                rows::entry(self.shared, self.conn, row)
            })
            .optional()?;
        let Some((mut entry, _)) = held.filter(|(entry, _)| entry.body.is_none()) else { return Ok(None) };
        entry.body = Some(body);
        entry.standing = standing;
        let (standing, reason) = rows::standing_columns(&entry.standing);
        let arrival = rows::signed(entry.arrival);
        self.conn
            .prepare_cached("UPDATE entries SET body = ?2, standing = ?3, reason = ?4, guard = ?5 WHERE arrival = ?1")?
            .execute(params![arrival, entry.body.as_deref(), standing, reason, rows::guard(&entry)])?;
        if let Some((key, content)) = idempotency {
            let key = Hash::of(&key.0).0;
            if self.recorded(&key)?.is_none() {
                let changed = self
                    .conn
                    .prepare_cached("UPDATE entries SET key = ?2, content = ?3 WHERE arrival = ?1 AND key IS NULL")?
                    .execute(params![arrival, key.as_slice(), content.0.as_slice()])?;
                if changed == 1 {
                    self.conn
                        .prepare_cached("INSERT OR IGNORE INTO lookup (tag, arrival) VALUES (?1, ?2)")?
                        .execute(params![rows::tag(&key), arrival])?;
                }
            }
        }
        Ok(Some(entry))
    }
}

impl Batch for SqliteBatch<'_> {
    fn replica(&mut self, replica: Replica) -> Result<Accepted, Error> {
        if self.broken.is_some() {
            return Err(Error::Poisoned);
        }
        let row = self.known_row(&replica.log);
        let (conn, place) = (self.conn, &self.shared.place);
        let verdict = chain::judge(&self.tails, &replica, &mut |epoch, seq| match row {
            Some(row) => rows::hash_at(conn, row, epoch, seq).map_err(|source| rows::fail("read from", place, source)),
            None => Ok(None),
        });
        match verdict {
            Ok(Verdict::Append(position)) => {
                self.run("append to", |batch| batch.append_replica(replica, position)).map(Accepted::New)
            }
            Ok(Verdict::Same(position)) => {
                let Replica { log, body: Some(body), standing, idempotency, .. } = replica else {
                    return Ok(Accepted::Held);
                };
                let added =
                    self.run("write to", |batch| batch.add_body(&log, position, body, standing, idempotency))?;
                Ok(added.map_or(Accepted::Held, Accepted::BodyAdded))
            }
            Ok(Verdict::Refuse(refusal)) => Ok(Accepted::Refused(refusal)),
            Err(error) => {
                self.broken = Some(Broken::Other(error.to_string()));
                Err(error)
            }
        }
    }

    fn draft(&mut self, draft: Draft<'_>) -> Result<Appended, Error> {
        let key = draft.idempotency.as_ref().map(|key| Hash::of(&key.0).0);
        if let Some(key) = &key
            && let Some(recorded) = self.run("read from", |batch| batch.recorded(key))?
        {
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
        let key = key.map(|key| (key, draft.content));
        self.run("append to", |batch| batch.insert(entry, key)).map(Appended::New)
    }

    fn state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        self.run("write state to", |batch| {
            match value {
                Some(value) => batch
                    .conn
                    .prepare_cached(
                        "INSERT INTO state (key, value) VALUES (?1, ?2) \
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    )?
                    .execute(params![key, value])?,
                None => batch.conn.prepare_cached("DELETE FROM state WHERE key = ?1")?.execute([key])?,
            };
            Ok(())
        })
    }

    fn evidence(&mut self, evidence: Evidence) -> Result<(), Error> {
        if Hash::of(&evidence.header) != evidence.position.hash {
            return Err(Error::Invalid { what: "the hash of the evidence is not that of its header".to_owned() });
        }
        self.shared.has_evidence.store(true, Ordering::Release);
        self.run("write evidence to", |batch| {
            let log = batch.log_row(&evidence.log)?;
            batch
                .conn
                .prepare_cached(
                    "INSERT OR IGNORE INTO evidence (log, epoch, seq, hash, header, body, signatures) \
                     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE (SELECT count(*) FROM evidence WHERE log = ?1) < ?8",
                )?
                .execute(params![
                    log,
                    rows::signed(evidence.position.epoch),
                    rows::signed(evidence.position.seq),
                    evidence.position.hash.0.as_slice(),
                    &*evidence.header,
                    evidence.body.as_deref(),
                    &*evidence.signatures,
                    EVIDENCE_MAX as i64,
                ])?;
            Ok(())
        })
    }

    fn checkpoint(&mut self, log: &LogId, bytes: &[u8]) -> Result<(), Error> {
        self.run("write a checkpoint to", |batch| {
            let log = batch.log_row(log)?;
            batch
                .conn
                .prepare_cached(
                    "INSERT INTO checkpoints (log, bytes) VALUES (?1, ?2) \
                     ON CONFLICT (log) DO UPDATE SET bytes = excluded.bytes",
                )?
                .execute(params![log, bytes])?;
            Ok(())
        })
    }

    fn read_state(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.run("read from", |batch| {
            batch
                .conn
                .prepare_cached("SELECT value FROM state WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    fn find(&mut self, key: &Key) -> Result<Option<Recorded>, Error> {
        let key = Hash::of(&key.0).0;
        self.run("read from", |batch| batch.recorded(&key))
    }

    fn tail(&mut self, log: &LogId) -> Option<Position> {
        self.tails.tail(log)
    }
}
