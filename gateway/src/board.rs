//! The board: which alerts of one world are in force here, and how the others ended.
//!
//! It is fed every counted alert in order of arrival, and swept as time goes by. Four ends are kept apart: superseded,
//! cancelled, all-clear, expired. An end that comes before the alert it is about waits for it. What ended stays for an
//! hour, so that a Cancel can be shown; then it is dropped. The board can be rebuilt by feeding it the same arrivals.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use campanile_alert::{AlertId, DepartmentId, MessageType, Status, Timestamp, World};
use campanile_log::Hash;
use jiff::SignedDuration;
use serde::Serialize;

use crate::incoming::Incoming;

/// How long an alert that has ended is still shown as ended.
pub const END_SHOWN: SignedDuration = SignedDuration::from_mins(60);
/// How long an end waits for the alert it is about; longer than any ceiling of `expires`.
const EARLY_END_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The most alerts that one board holds, ended ones included.
const ENTRIES_MAX: usize = 10_000;
/// The most ends that wait for their alerts.
const EARLY_ENDS_MAX: usize = 10_000;

/// How an alert ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// An Update took its place.
    Superseded,
    /// A Cancel withdrew it.
    Cancelled,
    /// An Update says that the danger is over.
    AllClear,
    /// Its time ran out.
    Expired,
}

impl EndKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::AllClear => "all-clear",
            Self::Expired => "expired",
        }
    }
}

/// The end of an alert.
#[derive(Debug, Clone)]
pub struct End {
    /// How.
    pub kind: EndKind,
    /// When it was known here; for an expiry, the instant of `expires`.
    pub at: Timestamp,
    /// The message that ended it; absent for an expiry.
    pub by: Option<Arc<Incoming>>,
}

/// Where an alert stands at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In force.
    InForce,
    /// Its time ran out.
    Expired,
    /// Superseded, cancelled or all-clear.
    Ended,
    /// Not on the board.
    Unknown,
}

/// An alert on the board.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The alert.
    pub incoming: Arc<Incoming>,
    /// Its end; absent while nothing has ended it.
    pub end: Option<End>,
}

impl Entry {
    /// When it changes by itself: in force at its expiry, ended when its end need not be shown any longer.
    fn timer(&self) -> Timestamp {
        match &self.end {
            // Without `expires` an alert is over at once: nothing may stand for ever because nobody said when it ends.
            None => self.incoming.alert.expires().unwrap_or(Timestamp::MIN),
            Some(end) => end.at.checked_add(END_SHOWN).unwrap_or(Timestamp::MAX),
        }
    }
}

/// What one arrival changed.
#[derive(Debug, Default)]
pub struct Change {
    /// The arrival is now in force itself.
    pub entered: bool,
    /// The alerts it ended.
    pub ended: Vec<(Arc<Incoming>, End)>,
    /// The arrival has to be fed again when the board is rebuilt.
    pub keep: bool,
}

/// What the passing of time changed.
#[derive(Debug, Default)]
pub struct Swept {
    /// Alerts that have expired.
    pub expired: Vec<(Arc<Incoming>, End)>,
    /// Records that are gone from the board, by arrival number and hash.
    pub dropped: Vec<(u64, Hash)>,
}

/// The name of an alert here. Another department's identifier is its own, so nobody can occupy someone else's.
type Key = (DepartmentId, AlertId);

/// The alerts of one world.
#[derive(Debug, Default)]
pub struct Board {
    entries: HashMap<Key, Entry>,
    by_record: HashMap<Hash, Key>,
    /// Ends whose alert has not come yet.
    early: HashMap<Key, End>,
    /// Messages that ended others, by arrival, with the time until which they are needed.
    enders: BTreeMap<u64, (Hash, Timestamp)>,
    /// When each entry is to be looked at next: at its expiry, and when its end has been shown for long enough.
    timers: BTreeSet<(Timestamp, Hash)>,
    in_force: usize,
}

impl Board {
    /// Takes one alert record of this board's world, in order of arrival.
    pub fn take(&mut self, incoming: &Arc<Incoming>) -> Change {
        let mut change = Change::default();
        let key = (incoming.department.clone(), incoming.id());
        if self.entries.contains_key(&key) {
            return change;
        }
        if let Some(kind) = ends_others(incoming) {
            self.end_referenced(incoming, kind, &mut change);
        }
        if incoming.can_be_in_force() && self.entries.len() < ENTRIES_MAX {
            let end = match self.early.remove(&key) {
                Some(end) => Some(end),
                None if incoming.is_all_clear() && !incoming.alert.referenced().is_empty() => {
                    Some(End { kind: EndKind::AllClear, at: incoming.received, by: Some(Arc::clone(incoming)) })
                }
                None => None,
            };
            change.entered = end.is_none();
            change.keep = true;
            self.in_force += usize::from(end.is_none());
            self.by_record.insert(incoming.record, key.clone());
            let entry = Entry { incoming: Arc::clone(incoming), end };
            self.timers.insert((entry.timer(), incoming.record));
            self.entries.insert(key, entry);
        }
        change
    }

    /// Where an alert stands at `now`.
    pub fn standing(&self, record: &Hash, now: Timestamp) -> Standing {
        match self.by_record(record) {
            None => Standing::Unknown,
            Some(Entry { end: Some(end), .. }) if end.kind == EndKind::Expired => Standing::Expired,
            Some(Entry { end: Some(_), .. }) => Standing::Ended,
            Some(Entry { incoming, end: None }) if is_over(incoming, now) => Standing::Expired,
            Some(_) => Standing::InForce,
        }
    }

    /// The entry of a record.
    pub fn by_record(&self, record: &Hash) -> Option<&Entry> {
        self.entries.get(self.by_record.get(record)?)
    }

    /// All entries, ended ones included, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many are in force, those included whose expiry has not been swept yet.
    pub fn in_force(&self) -> usize {
        self.in_force
    }

    /// Ends what has expired and drops what ended long ago. It takes as long as there is something to do.
    pub fn sweep(&mut self, now: Timestamp) -> Swept {
        let mut swept = Swept::default();
        while let Some((at, record)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, record));
            let Some(entry) = self.by_record.get(&record).and_then(|key| self.entries.get_mut(key)) else { continue };
            if entry.end.is_none() {
                let at = entry.incoming.alert.expires().unwrap_or(now);
                let end = End { kind: EndKind::Expired, at, by: None };
                entry.end = Some(end.clone());
                self.in_force -= 1;
                self.timers.insert((entry.timer(), record));
                swept.expired.push((Arc::clone(&entry.incoming), end));
            } else {
                swept.dropped.push((entry.incoming.arrival, record));
                if let Some(key) = self.by_record.remove(&record) {
                    self.entries.remove(&key);
                }
            }
        }
        self.early.retain(|_, end| !is_past(end.at, EARLY_END_KEPT, now));
        self.enders.retain(|arrival, (record, until)| {
            if *until <= now {
                swept.dropped.push((*arrival, *record));
            }
            *until > now
        });
        swept
    }

    fn end_referenced(&mut self, ender: &Arc<Incoming>, kind: EndKind, change: &mut Change) {
        let mut needed = END_SHOWN;
        for id in ender.alert.referenced() {
            let end = End { kind, at: ender.received, by: Some(Arc::clone(ender)) };
            // Only the department that published an alert may end it; a reference to another's alert is information.
            let key = (ender.department.clone(), id.clone());
            match self.entries.get_mut(&key) {
                Some(entry) if entry.end.is_none() => {
                    self.timers.remove(&(entry.timer(), entry.incoming.record));
                    entry.end = Some(end.clone());
                    self.timers.insert((entry.timer(), entry.incoming.record));
                    self.in_force -= 1;
                    change.ended.push((Arc::clone(&entry.incoming), end));
                }
                Some(_) => {}
                None if self.early.len() < EARLY_ENDS_MAX => {
                    needed = EARLY_END_KEPT;
                    self.early.insert(key, end);
                }
                None => {}
            }
        }
        if !ender.can_be_in_force() {
            let until = ender.received.checked_add(needed).unwrap_or(Timestamp::MAX);
            self.enders.insert(ender.arrival, (ender.record, until));
            change.keep = true;
        }
    }
}

/// The boards of all worlds that this gateway shows: the real one, and one for each exercise it has sinks for.
#[derive(Debug, Default)]
pub struct Boards {
    live: Board,
    exercises: HashMap<World, Board>,
}

impl Boards {
    /// Boards for the real world and these exercises.
    pub fn new(exercises: impl IntoIterator<Item = World>) -> Self {
        Self { live: Board::default(), exercises: exercises.into_iter().map(|w| (w, Board::default())).collect() }
    }

    /// The real one.
    pub fn live(&self) -> &Board {
        &self.live
    }

    /// The board that a record belongs on: the live one for Actual, an exercise's for Exercise. A Draft, a System or a
    /// Test message has none, and neither has an exercise without a sink here.
    pub fn of(&self, incoming: &Incoming) -> Option<&Board> {
        match board_of(incoming)? {
            World::Actual => Some(&self.live),
            world => self.exercises.get(&world),
        }
    }

    /// The same, to change it.
    pub fn of_mut(&mut self, incoming: &Incoming) -> Option<&mut Board> {
        match board_of(incoming)? {
            World::Actual => Some(&mut self.live),
            world => self.exercises.get_mut(&world),
        }
    }

    /// Sweeps every board.
    pub fn sweep(&mut self, now: Timestamp) -> Swept {
        let mut all = self.live.sweep(now);
        for board in self.exercises.values_mut() {
            let swept = board.sweep(now);
            all.expired.extend(swept.expired);
            all.dropped.extend(swept.dropped);
        }
        all
    }
}

fn board_of(incoming: &Incoming) -> Option<World> {
    if crate::mutant("status-not-read") {
        return Some(World::Actual);
    }
    match (&incoming.world, incoming.status, incoming.alert.status) {
        (World::Actual, Status::Actual, Status::Actual) => Some(World::Actual),
        (World::Exercise(_), Status::Exercise, Status::Exercise) => Some(incoming.world.clone()),
        _ => None,
    }
}

fn ends_others(incoming: &Incoming) -> Option<EndKind> {
    match incoming.alert.msg_type {
        MessageType::Cancel => Some(EndKind::Cancelled),
        MessageType::Update if incoming.is_all_clear() => Some(EndKind::AllClear),
        MessageType::Update => Some(EndKind::Superseded),
        MessageType::Alert | MessageType::Ack | MessageType::Error => None,
    }
}

fn is_over(incoming: &Incoming, now: Timestamp) -> bool {
    incoming.alert.expires().is_none_or(|expires| expires <= now)
}

fn is_past(at: Timestamp, kept: SignedDuration, now: Timestamp) -> bool {
    at.checked_add(kept).is_ok_and(|until| until <= now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::testing::{at, cancel, exercise_fire, fire, update};

    #[test]
    fn a_cancel_that_comes_before_its_alert_still_ends_it() {
        let mut board = Board::default();
        let first = fire("f1");
        let end = board.take(&Arc::new(cancel("c1", &first)));
        assert!(end.ended.is_empty() && end.keep);
        assert!(!board.take(&Arc::new(Incoming { arrival: 2, ..first.clone() })).entered);
        assert_eq!(board.standing(&first.record, at("2026-11-22T08:05:00+08:00")), Standing::Ended);
    }

    #[test]
    fn the_four_ends_are_kept_apart() {
        let now = at("2026-11-22T08:05:00+08:00");
        for (ender, kind) in [
            (cancel("c", &fire("f1")), EndKind::Cancelled),
            (update("u", &fire("f1"), false), EndKind::Superseded),
            (update("u", &fire("f1"), true), EndKind::AllClear),
        ] {
            let mut board = Board::default();
            assert!(board.take(&Arc::new(fire("f1"))).entered);
            let change = board.take(&Arc::new(ender));
            assert_eq!(change.ended[0].1.kind, kind);
            assert_eq!(board.standing(&fire("f1").record, now), Standing::Ended);
            assert_eq!(change.entered, kind == EndKind::Superseded);
        }
        let mut board = Board::default();
        board.take(&Arc::new(fire("f1")));
        let swept = board.sweep(at("2026-11-22T12:00:00+08:00"));
        assert_eq!(swept.expired[0].1.kind, EndKind::Expired);
        assert_eq!(board.sweep(at("2026-11-22T13:00:00+08:00")).dropped.len(), 1);
        assert_eq!(board.entries().count(), 0);
    }

    #[test]
    fn another_department_ends_nothing() {
        let mut board = Board::default();
        board.take(&Arc::new(fire("f1")));
        let foreign = Incoming { department: "edb".parse().expect("an id"), ..cancel("c", &fire("f1")) };
        assert!(board.take(&Arc::new(foreign)).ended.is_empty());
        assert_eq!(board.standing(&fire("f1").record, at("2026-11-22T08:05:00+08:00")), Standing::InForce);
    }

    #[test]
    fn t3_an_exercise_has_a_board_of_its_own_or_none() {
        let drill = exercise_fire("x1");
        assert!(Boards::default().of(&drill).is_none());
        let mut boards = Boards::new([drill.world.clone()]);
        boards.of_mut(&fire("f1")).expect("the live board").take(&Arc::new(fire("f1")));
        let mut end = cancel("c", &fire("f1"));
        end.world = drill.world.clone();
        end.status = Status::Exercise;
        let mut alert = (*end.alert).clone();
        alert.status = Status::Exercise;
        end.alert = Arc::new(alert);
        let change = boards.of_mut(&end).expect("the exercise's board").take(&Arc::new(end));
        assert!(change.ended.is_empty(), "a drill's Cancel ended a live alert");
        assert_eq!(boards.live().in_force(), 1);
    }
}
