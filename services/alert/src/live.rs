//! Which alerts are in force: a ledger that messages are applied to, in any order.
//!
//! ```text
//!                 ┌── Update ──────────────► superseded ─┐
//!   (unseen) ─► in force ── time ──────────► expired ────┤  a stronger end replaces a weaker one:
//!      │          ├── Update with AllClear ► all-clear ──┤  expired < superseded < all-clear < cancelled
//!      │          └── Cancel ──────────────► cancelled ◄─┘
//!      └── named by a Cancel or Update before it came: a tombstone, so the late alert is born ended
//! ```
//!
//! The four ends are kept apart, since they mean different things to a rule and to a person: silence is not an all-clear.
//! Because the strongest end wins, the ledger comes out the same whatever order the messages arrive in.
//!
//! The ledger is pure. It is stored as one row an entry: [`Changes`] names the rows that a message changed, and
//! [`Ledger::restore`] takes all rows back at start. Ended entries and tombstones are kept until they can no longer
//! matter ([`KEEP`]), then [`Ledger::sweep`] drops them, so the ledger is bounded by what was said in that time.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::ids::{AlertId, DepartmentId};
use crate::message::{Alert, MessageType, ResponseType, Status};
use crate::time::Timestamp;
use crate::world::World;

/// How long an ended entry or a tombstone is kept, beyond the alert's own `expires`: 7 days.
pub const KEEP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It holds.
    InForce,
    /// Its `expires` has passed; nobody said that the danger is over.
    Expired,
    /// An Update stands in its place.
    Superseded,
    /// An Update said that the danger is over.
    AllClear,
    /// A Cancel took it back.
    Cancelled,
}

/// How an alert ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The kind of end; never [`State::InForce`].
    pub state: State,
    /// When the message that ended it was sent, or when it expired.
    pub at: Timestamp,
    /// The message that ended it; absent when it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AlertId>,
}

/// One row: an alert, or the tombstone of one that has not come yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The department that issued it.
    pub department: DepartmentId,
    /// Its world.
    pub world: World,
    /// Whether its status is Draft. Drafts go to persons only and never end an issued alert.
    #[serde(default)]
    pub draft: bool,
    /// Its identity.
    pub id: AlertId,
    /// Whether the message has come; false for a tombstone.
    pub seen: bool,
    /// The last of its `expires`; absent when unseen, or when no info says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Its end; absent while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Until when the row is kept once it has ended.
    pub keep_until: Timestamp,
    /// What the caller wants to find it by, for example its position in a log; opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Box<str>>,
}

impl Entry {
    /// The key of its row, unique for (department, world, draft or issued, identity).
    pub fn key(&self) -> String {
        key(&self.department, &self.world, self.draft, &self.id)
    }

    /// Where it stands at `now`. A tombstone has the state that its alert will be born with.
    pub fn state(&self, now: Timestamp) -> State {
        match (&self.end, self.expires) {
            (Some(end), _) => end.state,
            (None, Some(expires)) if expires <= now => State::Expired,
            (None, _) => State::InForce,
        }
    }

    /// Takes an end if it is stronger than the one it has; of two alike the earlier one, so that order does not matter.
    fn take(&mut self, end: End) -> bool {
        let better = match &self.end {
            None => true,
            Some(old) => end.state > old.state || (end.state == old.state && end < *old),
        };
        if better {
            self.end = Some(end);
        }
        better
    }
}

/// The key of an alert's row.
pub fn key(department: &DepartmentId, world: &World, draft: bool, id: &AlertId) -> String {
    // Departments and worlds hold no slash, so two identities never share a key.
    format!("{department}/{world}/{}/{id}", if draft { "draft" } else { "issued" })
}

/// What the ledger needs to know of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The department that published it.
    pub department: DepartmentId,
    /// Departments whose alerts it may end as well, because the roster delegates that; usually empty.
    pub delegated: Vec<DepartmentId>,
    /// Its world.
    pub world: World,
    /// Its status.
    pub status: Status,
    /// Its identity.
    pub id: AlertId,
    /// What it does.
    pub msg_type: MessageType,
    /// When it was sent.
    pub sent: Timestamp,
    /// The messages it names.
    pub references: Vec<AlertId>,
    /// The last of its `expires`; absent when it has none.
    pub expires: Option<Timestamp>,
    /// Whether every info of it says AllClear.
    pub all_clear: bool,
    /// What the caller wants to find it by.
    pub position: Option<Box<str>>,
}

impl Facts {
    /// Reads the facts of a message.
    pub fn of(alert: &Alert, department: DepartmentId, world: World, position: Option<Box<str>>) -> Self {
        let is_clear = |info: &crate::message::Info| info.response_types.contains(&ResponseType::AllClear);
        // An info without `expires` holds until someone ends it, so the whole message does.
        let endless = alert.infos.iter().any(|info| info.expires.is_none());
        Self {
            department,
            delegated: Vec::new(),
            world,
            status: alert.status,
            id: alert.id(),
            msg_type: alert.msg_type,
            sent: alert.sent.instant(),
            references: alert.referenced().to_vec(),
            expires: if endless { None } else { alert.expires() },
            all_clear: !alert.infos.is_empty() && alert.infos.iter().all(is_clear),
            position,
        }
    }
}

/// What a message or the passing of time changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Rows to write: each entry under its [`Entry::key`].
    pub entries: Vec<Entry>,
    /// Keys of rows to delete.
    pub removed: Vec<String>,
    /// The key of the alert that came into force.
    pub began: Option<String>,
    /// Alerts that have come and now have another end than before.
    pub ended: Vec<(String, State)>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.removed.is_empty()
    }
}

/// The ledger.
///
/// A node holds 100,000 entries and more at a time, so an entry is boxed (a tree's nodes are half empty) and its text is
/// kept once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    shelves: BTreeMap<Shelf, BTreeMap<AlertId, Box<Entry>>>,
}

/// The entries of one department in one world, drafts apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shelf {
    department: DepartmentId,
    world: World,
    draft: bool,
}

impl Ledger {
    /// Takes the stored rows back.
    pub fn restore(rows: impl IntoIterator<Item = Entry>) -> Self {
        let mut ledger = Self::default();
        for entry in rows {
            let shelf = Shelf { department: entry.department.clone(), world: entry.world.clone(), draft: entry.draft };
            ledger.shelves.entry(shelf).or_default().insert(entry.id.clone(), Box::new(entry));
        }
        ledger
    }

    /// Applies a message at `now`, the instant it arrived.
    ///
    /// An Alert or Update comes into force unless something ended it before. An Update supersedes what it names, or ends
    /// it as all-clear, and an all-clear is itself never in force. A Cancel cancels what it names. Names that have not
    /// come yet become tombstones. Ack and Error change nothing. Only alerts of the same world and of the same
    /// department, or of one that delegated to it, are ended. Applying a message twice changes nothing.
    pub fn apply(&mut self, facts: &Facts, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        let draft = facts.status == Status::Draft;
        let end = match facts.msg_type {
            MessageType::Cancel => Some(State::Cancelled),
            MessageType::Update if facts.all_clear => Some(State::AllClear),
            MessageType::Update => Some(State::Superseded),
            MessageType::Alert | MessageType::Ack | MessageType::Error => None,
        };
        if let Some(state) = end {
            let end = End { state, at: facts.sent, by: Some(facts.id.clone()) };
            for department in std::iter::once(&facts.department).chain(&facts.delegated) {
                for id in facts.references.iter().filter(|id| **id != facts.id) {
                    self.end_one(department, facts, draft, id, &end, now, &mut changes);
                }
            }
        }
        if matches!(facts.msg_type, MessageType::Alert | MessageType::Update) {
            self.begin(facts, draft, now, &mut changes);
        }
        changes
    }

    #[allow(clippy::too_many_arguments)]
    fn end_one(
        &mut self,
        department: &DepartmentId,
        facts: &Facts,
        draft: bool,
        id: &AlertId,
        end: &End,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let shelf = Shelf { department: department.clone(), world: facts.world.clone(), draft };
        let entry = self.shelves.entry(shelf).or_default().entry(id.clone()).or_insert_with(|| {
            Box::new(Entry {
                department: department.clone(),
                world: facts.world.clone(),
                draft,
                id: id.clone(),
                seen: false,
                expires: None,
                end: None,
                keep_until: keep_until(now, facts.expires),
                position: None,
            })
        });
        if !entry.take(end.clone()) {
            return;
        }
        entry.keep_until = entry.keep_until.max(keep_until(now, entry.expires));
        if entry.seen {
            changes.ended.push((entry.key(), end.state));
        }
        changes.entries.push(Entry::clone(entry));
    }

    fn begin(&mut self, facts: &Facts, draft: bool, now: Timestamp, changes: &mut Changes) {
        let shelf = Shelf { department: facts.department.clone(), world: facts.world.clone(), draft };
        let shelf = self.shelves.entry(shelf).or_default();
        let old = shelf.get(&facts.id);
        if old.is_some_and(|entry| entry.seen) {
            return;
        }
        let mut entry = Entry {
            department: facts.department.clone(),
            world: facts.world.clone(),
            draft,
            id: facts.id.clone(),
            seen: true,
            expires: facts.expires,
            end: old.and_then(|tombstone| tombstone.end.clone()),
            keep_until: keep_until(now, facts.expires),
            position: facts.position.clone(),
        };
        if facts.all_clear && facts.msg_type == MessageType::Update {
            entry.take(End { state: State::AllClear, at: facts.sent, by: Some(facts.id.clone()) });
        }
        if entry.state(now) == State::InForce {
            changes.began = Some(entry.key());
        }
        changes.entries.push(entry.clone());
        shelf.insert(facts.id.clone(), Box::new(entry));
    }

    /// Marks what has expired by `now`, and drops ended entries and tombstones that are kept no longer.
    pub fn sweep(&mut self, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        let mut sweep = |entry: &mut Entry| {
            if entry.end.is_none() && entry.state(now) == State::Expired {
                let at = entry.expires.unwrap_or(now);
                entry.take(End { state: State::Expired, at, by: None });
                changes.ended.push((entry.key(), State::Expired));
                changes.entries.push(entry.clone());
            }
            let keep = entry.end.is_none() || entry.keep_until > now;
            if !keep {
                changes.removed.push(entry.key());
            }
            keep
        };
        self.shelves.retain(|_, shelf| {
            shelf.retain(|_, entry| sweep(entry));
            !shelf.is_empty()
        });
        let removed: std::collections::BTreeSet<&String> = changes.removed.iter().collect();
        changes.entries.retain(|entry| !removed.contains(&entry.key()));
        changes
    }

    /// The issued alerts that are in force at `now`, drafts left out, in the order of [`Ledger::entries`].
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Entry> {
        self.entries().filter(move |entry| entry.seen && !entry.draft && entry.state(now) == State::InForce)
    }

    /// The drafts that are in force at `now`: for persons only.
    pub fn drafts(&self, now: Timestamp) -> impl Iterator<Item = &Entry> {
        self.entries().filter(move |entry| entry.seen && entry.draft && entry.state(now) == State::InForce)
    }

    /// The issued alert of that identity, or its tombstone.
    pub fn get(&self, department: &DepartmentId, world: &World, id: &AlertId) -> Option<&Entry> {
        let shelf = Shelf { department: department.clone(), world: world.clone(), draft: false };
        self.shelves.get(&shelf)?.get(id).map(Box::as_ref)
    }

    /// All entries, tombstones and drafts included, by department, world, issued or draft, and identity.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shelves.values().flat_map(BTreeMap::values).map(Box::as_ref)
    }
}

/// Kept 7 days from arrival, or until the alert expires when that is later; never more than a year, whatever it says.
fn keep_until(now: Timestamp, expires: Option<Timestamp>) -> Timestamp {
    let after = |hours| now.checked_add(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MAX);
    let week = now.checked_add(KEEP).unwrap_or(Timestamp::MAX);
    expires.map_or(week, |expires| week.max(expires)).min(after(366 * 24))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::ExerciseId;
    use crate::testing::fire;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + hour * 3600).unwrap()
    }

    fn id(name: &str) -> AlertId {
        AlertId::new("s", name, "t")
    }

    fn fsd() -> DepartmentId {
        DepartmentId::try_new("fsd").unwrap()
    }

    fn facts(name: &str, msg_type: MessageType, references: &[&str]) -> Facts {
        Facts {
            department: fsd(),
            delegated: vec![],
            world: World::Actual,
            status: Status::Actual,
            id: id(name),
            msg_type,
            sent: at(0),
            references: references.iter().map(|name| id(name)).collect(),
            expires: Some(at(10)),
            all_clear: false,
            position: Some(format!("position of {name}").into()),
        }
    }

    fn state(ledger: &Ledger, name: &str, hour: i64) -> Option<State> {
        ledger.get(&fsd(), &World::Actual, &id(name)).map(|entry| entry.state(at(hour)))
    }

    fn names(ledger: &Ledger, hour: i64) -> Vec<String> {
        ledger.in_force(at(hour)).map(|entry| entry.id.identifier().to_string()).collect()
    }

    #[test]
    fn four_ends_are_different() {
        let mut ledger = Ledger::default();
        for name in ["a", "b", "c", "d"] {
            let changes = ledger.apply(&facts(name, MessageType::Alert, &[]), at(0));
            assert!(changes.began.is_some());
        }
        ledger.apply(&facts("a2", MessageType::Update, &["a"]), at(1));
        ledger.apply(&facts("x", MessageType::Cancel, &["b"]), at(1));
        ledger.apply(&Facts { all_clear: true, ..facts("c2", MessageType::Update, &["c"]) }, at(1));
        assert_eq!(names(&ledger, 2), ["a2", "d"]);
        assert_eq!(state(&ledger, "a", 2), Some(State::Superseded));
        assert_eq!(state(&ledger, "b", 2), Some(State::Cancelled));
        assert_eq!(state(&ledger, "c", 2), Some(State::AllClear));
        assert_eq!(state(&ledger, "c2", 2), Some(State::AllClear), "an all-clear is not in force itself");
        assert_eq!(state(&ledger, "d", 9), Some(State::InForce));
        assert_eq!(state(&ledger, "d", 10), Some(State::Expired), "expires is the first instant without it");
    }

    #[test]
    fn cancel_before_its_alert_lets_it_be_born_cancelled() {
        let mut ledger = Ledger::default();
        let first = ledger.apply(&facts("x", MessageType::Cancel, &["a"]), at(0));
        assert_eq!((first.entries.len(), first.entries[0].seen, first.ended.len()), (1, false, 0));
        let late = ledger.apply(&facts("a", MessageType::Alert, &[]), at(1));
        assert_eq!(late.began, None);
        assert_eq!(state(&ledger, "a", 1), Some(State::Cancelled));
        assert_eq!(ledger.get(&fsd(), &World::Actual, &id("a")).unwrap().position.as_deref(), Some("position of a"));
    }

    #[test]
    fn update_before_its_alert_lets_it_be_born_superseded() {
        let mut ledger = Ledger::default();
        ledger.apply(&facts("a2", MessageType::Update, &["a"]), at(0));
        ledger.apply(&facts("a", MessageType::Alert, &[]), at(1));
        assert_eq!(names(&ledger, 1), ["a2"]);
        assert_eq!(state(&ledger, "a", 1), Some(State::Superseded));
    }

    #[test]
    fn cancel_with_several_references_acts_on_those_that_hold() {
        let mut ledger = Ledger::default();
        ledger.apply(&facts("a", MessageType::Alert, &[]), at(0));
        ledger.apply(&facts("b", MessageType::Alert, &[]), at(0));
        ledger.apply(&facts("x", MessageType::Cancel, &["a"]), at(1));
        let changes = ledger.apply(&Facts { sent: at(2), ..facts("y", MessageType::Cancel, &["a", "b"]) }, at(2));
        assert_eq!(changes.ended.len(), 1, "a was cancelled before");
        assert!(names(&ledger, 2).is_empty());
    }

    #[test]
    fn another_department_or_world_or_a_draft_ends_nothing() {
        let edb = DepartmentId::try_new("edb").unwrap();
        let drill = World::Exercise(ExerciseId::try_new("hv26").unwrap());
        let mut ledger = Ledger::default();
        ledger.apply(&facts("a", MessageType::Alert, &[]), at(0));
        let cancel = facts("x", MessageType::Cancel, &["a"]);
        ledger.apply(&Facts { department: edb.clone(), ..cancel.clone() }, at(1));
        ledger.apply(&Facts { world: drill, ..cancel.clone() }, at(1));
        ledger.apply(&Facts { status: Status::Draft, ..cancel.clone() }, at(1));
        assert_eq!(names(&ledger, 1), ["a"]);
        ledger.apply(&Facts { department: edb, delegated: vec![fsd()], ..cancel }, at(1));
        assert!(names(&ledger, 1).is_empty(), "a delegated department may cancel");
    }

    #[test]
    fn drafts_are_apart_from_issued_alerts() {
        let mut ledger = Ledger::default();
        ledger.apply(&Facts { status: Status::Draft, ..facts("a", MessageType::Alert, &[]) }, at(0));
        assert!(names(&ledger, 1).is_empty());
        assert_eq!(ledger.drafts(at(1)).count(), 1);
    }

    #[test]
    fn cancel_after_expiry_still_says_cancelled() {
        let mut ledger = Ledger::default();
        ledger.apply(&facts("a", MessageType::Alert, &[]), at(0));
        let swept = ledger.sweep(at(11));
        assert_eq!(swept.ended, [(swept.entries[0].key(), State::Expired)]);
        assert!(ledger.sweep(at(11)).is_empty(), "an expiry is told once");
        let changes = ledger.apply(&facts("x", MessageType::Cancel, &["a"]), at(12));
        assert_eq!(changes.ended.first().map(|ended| ended.1), Some(State::Cancelled));
    }

    #[test]
    fn tombstones_and_ends_are_dropped_after_seven_days() {
        let mut ledger = Ledger::default();
        ledger.apply(&facts("x", MessageType::Cancel, &["a"]), at(0));
        assert!(ledger.sweep(at(7 * 24 - 1)).removed.is_empty());
        assert_eq!(ledger.sweep(at(7 * 24)).removed.len(), 1);
        assert_eq!(ledger.entries().count(), 0);
    }

    #[test]
    fn rows_restore_the_ledger() {
        let mut ledger = Ledger::default();
        let mut rows: BTreeMap<String, String> = BTreeMap::new();
        let messages = [
            facts("a", MessageType::Alert, &[]),
            facts("a2", MessageType::Update, &["a", "gone"]),
            facts("x", MessageType::Cancel, &["a2", "later"]),
        ];
        for message in &messages {
            let changes = ledger.apply(message, at(1));
            rows.extend(changes.entries.iter().map(|entry| (entry.key(), serde_json::to_string(entry).unwrap())));
        }
        let restored = Ledger::restore(rows.values().map(|row| serde_json::from_str(row).unwrap()));
        assert_eq!(restored, ledger);
    }

    #[test]
    fn facts_of_an_alert_read_expiry_and_all_clear() {
        let mut alert = fire();
        let read = |alert: &Alert| Facts::of(alert, fsd(), World::Actual, None);
        assert_eq!(read(&alert).expires, alert.expires());
        alert.infos[0].response_types = vec![ResponseType::AllClear];
        assert!(read(&alert).all_clear);
        alert.infos.push(fire().infos.remove(0));
        assert!(!read(&alert).all_clear, "one info still warns");
        alert.infos[1].expires = None;
        assert_eq!(read(&alert).expires, None, "one info holds without end");
    }

    /// Everything but how long rows are kept, which depends on when they came.
    fn outcome(ledger: &Ledger) -> Vec<(String, bool, Option<End>)> {
        ledger.entries().map(|entry| (entry.key(), entry.seen, entry.end.clone())).collect()
    }

    proptest! {
        #[test]
        fn order_and_repetition_of_messages_do_not_matter(order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(), again in 0..8_usize) {
            let messages = [
                facts("a", MessageType::Alert, &[]),
                facts("b", MessageType::Alert, &[]),
                Facts { sent: at(1), ..facts("a2", MessageType::Update, &["a"]) },
                Facts { sent: at(2), ..facts("a3", MessageType::Update, &["a", "a2"]) },
                Facts { sent: at(3), all_clear: true, ..facts("a4", MessageType::Update, &["a3"]) },
                Facts { sent: at(4), ..facts("x", MessageType::Cancel, &["b", "a"]) },
                Facts { sent: at(5), ..facts("y", MessageType::Cancel, &["b", "unknown"]) },
                facts("z", MessageType::Ack, &["a"]),
            ];
            let mut straight = Ledger::default();
            messages.iter().for_each(|message| { straight.apply(message, at(6)); });
            let mut shuffled = Ledger::default();
            order.iter().for_each(|&k| { shuffled.apply(&messages[k], at(6)); });
            let before = shuffled.clone();
            prop_assert!(shuffled.apply(&messages[again], at(6)).is_empty());
            prop_assert_eq!(&before, &shuffled);
            prop_assert_eq!(outcome(&straight), outcome(&shuffled));
        }
    }
}
