//! A department's node in virtual time: its store, its engine, its clock, and what it knows.
//!
//! One commit takes records in, runs the rules over each in stored order, and writes the effects beside them, as a real
//! node does. A crash leaves what commits made durable, with the engine's rows; a start reads everything back from the
//! store's bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use campanile_alert::live::{Facts, Ledger};
use campanile_alert::{DepartmentId, Timestamp, World};
use campanile_log::memory::{Disk, MemoryStore};
use campanile_log::{
    Accepted, Appended, Batch, Draft, Entry, Error as StoreError, Key, Lane, LogId, Replica, Standing, Store as _,
    StoreExt as _, epoch,
};
use campanile_rules::{Engine, Verdict as Decided};

use super::Error;
use super::bench::Seat;
use super::record::{Body, Content, Rec, Unsealed};
use crate::scenario::NodeKind;

/// The most records of one commit: a cascade that does not end is an error, not a stall.
const WORK_MAX: usize = 20_000;

/// Records and bytes of one page of a read.
const PAGE: (usize, usize) = (256, 4 << 20);

/// The engine's rows stand under this.
const ROWS: &[u8] = b"rule/";

/// What a node is asked to commit.
pub(super) enum Work {
    /// A record of another node, as it came.
    Replica(Box<Entry>, Arc<Rec>),
    /// A record of its own, with the key under which a repetition is the same.
    Own(Box<Unsealed>, Option<Key>),
}

/// What a commit led to.
#[derive(Default)]
pub(super) struct Done {
    /// The records that are new here, in stored order.
    pub(super) stored: Vec<(Entry, Arc<Rec>)>,
    /// Whether what waits for persons may have changed.
    pub(super) asks: bool,
    /// Own records that had been published before.
    pub(super) repeated: usize,
    /// Whether a replica did not fit: what is before it has to be pulled first.
    pub(super) gap: bool,
}

/// A node.
pub(super) struct Node {
    pub(super) id: DepartmentId,
    pub(super) kind: NodeKind,
    seat: Seat,
    disk: Disk,
    /// Absent while it is down.
    up: Option<Up>,
    pub(super) disk_full: bool,
    pub(super) skew_ms: i64,
    /// When a tick is scheduled, on the drill's clock.
    pub(super) tick_at: Option<i64>,
}

struct Up {
    store: MemoryStore,
    engine: Option<Engine>,
    /// What is in force; only gateways ask.
    ledger: Option<Ledger>,
    /// The header time of the last record of each log.
    last: BTreeMap<LogId, Timestamp>,
}

impl Node {
    pub(super) fn new(id: DepartmentId, kind: NodeKind, seat: Seat) -> Self {
        let disk = Disk::default();
        Self { id, kind, seat, disk, up: None, disk_full: false, skew_ms: 0, tick_at: None }
    }

    /// Starts, with what the disk holds. `now` is its own clock's time, `random` makes the epoch its own.
    pub(super) fn start(&mut self, now: Timestamp, random: u64) -> Result<(), Error> {
        let store = MemoryStore::open(&self.disk)?;
        let mut engine = self.seat.engine(&self.id)?;
        let mut ledger = (self.kind == NodeKind::Gateway).then(Ledger::default);
        let mut last = BTreeMap::new();
        let mut rows = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        // Each page ends above the one before it.
        loop {
            let page = store.state_prefix(ROWS, after.as_deref(), PAGE.0)?;
            let Some((key, _)) = page.last() else { break };
            after = Some(key.clone());
            rows.extend(page);
        }
        if let Some(engine) = &mut engine {
            let rows = rows.into_iter().map(|(key, value)| (key.get(ROWS.len()..).unwrap_or_default().to_vec(), value));
            engine.restore(rows)?;
        }
        let mut arrival = 0;
        loop {
            let page = store.arrivals(arrival, PAGE.0, PAGE.1)?;
            let Some(end) = page.last() else { break };
            arrival = end.arrival;
            for entry in &page {
                let rec = Rec::read(entry).ok_or_else(|| Error::Record(entry.log.to_string()))?;
                last.insert(entry.log.clone(), rec.header.time);
                note(&mut ledger, &rec, now);
            }
        }
        let now_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        for lane in Lane::ALL {
            let log = self.log(lane);
            let above = store.tail(&log).map_or(0, |tail| tail.epoch);
            let random = u32::try_from(random & u64::from(u32::MAX)).unwrap_or(0);
            store.begin_epoch(&log, epoch::next(now_ms, random, above))?;
        }
        self.up = Some(Up { store, engine, ledger, last });
        Ok(())
    }

    /// Ends as a crash does. A real node has written the engine's rows with each commit; here they are written now, and
    /// most nodes never are: a drill without crashes does not pay for them.
    pub(super) fn crash(&mut self) -> Result<(), Error> {
        self.tick_at = None;
        let Some(Up { store, engine, .. }) = self.up.take() else { return Ok(()) };
        let rows = engine.map(|mut engine| engine.unwritten()).unwrap_or_default();
        store.with_batch(|batch| {
            rows.iter().try_for_each(|(key, value)| batch.state(&[ROWS, key.as_slice()].concat(), value.as_deref()))
        })?;
        store.crash();
        Ok(())
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    pub(super) fn engine(&self) -> Option<&Engine> {
        self.up.as_ref()?.engine.as_ref()
    }

    pub(super) fn store(&self) -> Option<&MemoryStore> {
        self.up.as_ref().map(|up| &up.store)
    }

    /// Whether a message of a department is in force here.
    pub(super) fn holds(&self, rec: &Rec, now: Timestamp) -> bool {
        let (Some(up), Some(alert), Some(world)) = (&self.up, rec.alert(), rec.world()) else { return false };
        let entry = rec.department().and_then(|own| up.ledger.as_ref()?.get(&own, &world, &alert.id()));
        entry.is_some_and(|entry| entry.state(now) == campanile_alert::live::State::InForce)
    }

    /// Its own log in a lane.
    pub(super) fn log(&self, lane: Lane) -> LogId {
        LogId::new(format!("{}/node-1", self.id), lane)
    }

    /// What follows the last record held here of a log, as `from` holds it.
    pub(super) fn missing(&self, from: &Self, log: &LogId) -> Result<Vec<Entry>, Error> {
        let (Some(own), Some(other)) = (&self.up, &from.up) else { return Ok(Vec::new()) };
        let after = own.store.tail(log).map(|tail| tail.place());
        if other.store.tail(log).map(|tail| tail.place()) <= after {
            return Ok(Vec::new());
        }
        Ok(other.store.read(log, after, PAGE.0, PAGE.1)?)
    }

    /// Takes records in and everything that follows from them, in one commit. `now` is its own clock's time.
    pub(super) fn commit(&mut self, work: Vec<Work>, now: Timestamp) -> Result<Done, Error> {
        let (urgent, exercise) = (self.log(Lane::Urgent), self.log(Lane::Exercise));
        let Some(up) = &mut self.up else { return Err(Error::Down(self.id.to_string())) };
        let Up { store, engine, ledger, last } = up;
        let done = store.with_batch(|batch| {
            let mut done = Done::default();
            let mut waiting: VecDeque<Work> = work.into();
            for _ in 0..WORK_MAX {
                let Some(work) = waiting.pop_front() else { return Ok(done) };
                let Some((entry, rec)) = append(batch, work, &urgent, &exercise, now, &mut done)? else { continue };
                let previous = last.insert(entry.log.clone(), rec.header.time);
                note(ledger, &rec, now);
                for input in rec.inputs(now, previous) {
                    let Some(engine) = engine else { break };
                    let outcome = engine.try_out(&input);
                    done.asks |= outcome.notes.iter().any(|note| asks(note.verdict));
                    waiting.extend(outcome.effects.into_iter().map(|effect| {
                        let content = Content::Alert(Box::new(effect.alert), effect.classification);
                        let body = Body {
                            depth: effect.depth,
                            rules: effect.rules,
                            kinds: effect.kinds.into_iter().collect(),
                            causes: effect.causes.into_iter().map(|cause| cause.alert).collect(),
                            inject: None,
                            author: None,
                            content,
                            effect: Some(effect.key.clone()),
                        };
                        Work::Own(Box::new(Unsealed { world: effect.key.world, body }), None)
                    }));
                }
                done.stored.push((entry, rec));
            }
            Err(StoreError::Invalid { what: "a cascade does not end".into() })
        })?;
        Ok(done)
    }
}

/// Appends one record; `None` when it was there, or does not fit yet.
fn append(
    batch: &mut dyn Batch,
    work: Work,
    urgent: &LogId,
    exercise: &LogId,
    now: Timestamp,
    done: &mut Done,
) -> Result<Option<(Entry, Arc<Rec>)>, StoreError> {
    match work {
        Work::Replica(entry, rec) => {
            let entry = *entry;
            let accepted = batch.replica(Replica {
                log: entry.log,
                epoch: entry.position.epoch,
                seq: entry.position.seq,
                previous: entry.previous,
                link: entry.link,
                header: entry.header,
                body: entry.body,
                signatures: entry.signatures,
                standing: Standing::Counted,
                idempotency: None,
            })?;
            match accepted {
                Accepted::New(entry) => Ok(Some((entry, rec))),
                Accepted::Held | Accepted::BodyAdded(_) => Ok(None),
                Accepted::Refused(_) => {
                    done.gap = true;
                    Ok(None)
                }
            }
        }
        Work::Own(unsealed, key) => {
            let log = if unsealed.world == World::Actual { urgent } else { exercise };
            // What has no key is never compared with anything.
            let keyed = |_: &Key| campanile_log::Hash::of(&serde_json::to_vec(&unsealed.body).unwrap_or_default());
            let content = key.as_ref().map_or(campanile_log::Hash::ZERO, keyed);
            let mut written = None;
            let seal = |slot| {
                let (header, sealed) = unsealed.seal(log, &slot, now);
                written = Some(header);
                Ok(sealed)
            };
            let draft = Draft { log: log.clone(), idempotency: key, content, seal: Box::new(seal) };
            match batch.draft(draft)? {
                Appended::New(entry) => {
                    let header =
                        written.ok_or_else(|| StoreError::Invalid { what: "a record was not sealed".into() })?;
                    let rec = Rec { header, hash: entry.position.hash, body: unsealed.body };
                    Ok(Some((entry, Arc::new(rec))))
                }
                Appended::Duplicate(_) | Appended::Conflict(_) => {
                    done.repeated += 1;
                    Ok(None)
                }
            }
        }
    }
}

/// Writes an alert into the ledger of what is in force.
fn note(ledger: &mut Option<Ledger>, rec: &Rec, now: Timestamp) {
    let Some(ledger) = ledger else { return };
    if let (Some(alert), Some(department), Some(world)) = (rec.alert(), rec.department(), rec.world()) {
        ledger.apply(&Facts::of(alert, department, world, None), now);
    }
}

/// Whether a decision may change what waits for persons.
fn asks(verdict: Decided) -> bool {
    !matches!(
        verdict,
        Decided::NotMatched | Decided::Holding | Decided::Joined | Decided::Suppressed | Decided::Ignored
    )
}
