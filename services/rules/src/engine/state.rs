//! What the engine remembers: tables of rows that are written in the same commit as the input that changed them.
//!
//! ```text
//! row key = one letter of the table, then the key as JSON          row value = the row as JSON
//!   t  the engine's time                  k  a cause that is known          c  a rule and a cause that match
//!   e  an effect in force                 s  an officer's Cancel            x  a message known to be ended
//!   p  a pause                            v  a signed envelope              b  when batches were issued
//!   h  when a department was last heard   n  a public notice of a department
//!   r  an effect that came back after a disk was lost
//! ```
//! A crash leaves either all rows of an input or none, because they commit with it. Indexes (timers, message ids) are
//! made again from the rows, so a restored engine goes on with the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use campanile_alert::{AlertId, Area, Certainty, DepartmentId, MessageType, Severity, Timestamp, Urgency, World};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::adopt::Returned;
use crate::{Cause, EffectKey, Envelope, Sentence, StateRow};

/// The most earlier messages that an effect refers to, and that a cause is known by; older ones are forgotten.
pub(super) const MESSAGES_MAX: usize = 64;

/// The most messages remembered as ended before they were seen; the one that would be forgotten first goes first.
pub(super) const ENDED_MAX: usize = 10_000;

/// A cause through all its updates: the first message seen of it. Another department's identifier is its own, and so is
/// another world's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Lineage {
    pub(super) world: World,
    pub(super) department: DepartmentId,
    pub(super) root: AlertId,
}

/// A cause as it stands now. There may be 100,000 of them, so its lists have no room to spare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Its messages, the one in force last.
    pub(super) ids: Box<[AlertId]>,
    pub(super) cause: Cause,
    pub(super) message: MessageType,
    pub(super) event: String,
    pub(super) level: Option<u32>,
    pub(super) signal: Option<String>,
    /// Since when event, level, signal and urgency are what they are; absent in rows of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    #[serde(default)]
    pub(super) urgencies: Box<[Urgency]>,
    #[serde(default)]
    pub(super) severities: Box<[Severity]>,
    pub(super) certainties: Box<[Certainty]>,
    pub(super) areas: Box<[Area]>,
    pub(super) sites: Box<[String]>,
    /// The record's time, clamped between the record before it and its receipt.
    pub(super) time: Timestamp,
    pub(super) expires: Option<Timestamp>,
    /// Whether it expired without having been renewed.
    pub(super) expired: bool,
    /// As deep as any of its messages said.
    pub(super) depth: u32,
    /// The rules that any of its messages named; see [`InForce::behind`].
    pub(super) rules: Box<[String]>,
    pub(super) authors: Box<[String]>,
}

/// How long an expired cause is remembered, and a message that was ended before it came: 7 days.
pub(super) const MEMORY_S: i64 = 7 * 24 * 3600;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct CandidateKey {
    pub(super) lineage: Lineage,
    pub(super) rule: String,
    /// What a row of the rule's table issues; empty for a rule that issues one thing, and for a table's own timer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) effect: String,
}

/// A rule and a cause that match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) effect: String,
    pub(super) targets: BTreeSet<String>,
    /// Targets that a person refused.
    pub(super) refused: BTreeSet<String>,
    pub(super) phase: Phase,
    /// The kinds that each target's row names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) kinds: BTreeMap<String, BTreeSet<String>>,
    /// When a session opens that the rule has to decide about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wake: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The conditions hold, but not yet for long enough.
    Holding { until: Timestamp },
    /// Persons are asked.
    Asking(Box<Asking>),
    /// Nothing is to be decided.
    Settled,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asking {
    pub(super) targets: BTreeSet<String>,
    pub(super) need: usize,
    pub(super) by: BTreeSet<String>,
    #[serde(with = "crate::hexed")]
    pub(super) shown: [u8; 32],
    pub(super) since: Timestamp,
    pub(super) deadline: Option<Timestamp>,
    pub(super) escalated: bool,
    /// Over the limit or against an antonym: silence must not issue it.
    pub(super) silence_holds: bool,
    pub(super) approvals: BTreeSet<String>,
    /// The event in force that stands against what would be issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) against: Option<String>,
    pub(super) why: Sentence,
}

/// A cause as an effect remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Support {
    pub(super) cause: Cause,
    pub(super) depth: u32,
    pub(super) rules: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) kinds: BTreeSet<String>,
}

/// An effect in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct InForce {
    /// Its messages and when they expire, the one in force last; empty until the first is made.
    pub(super) messages: Vec<(AlertId, Timestamp)>,
    /// The causes in force.
    #[serde(with = "pairs")]
    pub(super) support: BTreeMap<Lineage, Support>,
    /// Causes that expired without being renewed: no all-clear, so they keep it up.
    #[serde(with = "pairs")]
    pub(super) expired: BTreeMap<Lineage, Support>,
    /// The causes that its last message names.
    pub(super) named: BTreeSet<Lineage>,
    /// The rules that ever stood behind it, and how deep. They only grow: forgotten with the cause that brought them,
    /// two effects of a circle would take each other up and drop each other without end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) behind: Vec<String>,
    #[serde(default)]
    pub(super) deepest: u32,
    pub(super) since: Timestamp,
    pub(super) sent: Timestamp,
    pub(super) until: Timestamp,
    pub(super) stand: Stand,
    /// The kinds that its last message names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) kinds: BTreeSet<String>,
    /// From when on the end of its causes no longer ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latch: Option<Timestamp>,
}

/// The kind that holds all others.
const ALL: &str = "all";

impl InForce {
    /// The kinds that its causes ask for; what is latched keeps those it had.
    pub(super) fn kinds_at(&self, now: Timestamp) -> BTreeSet<String> {
        let causes = self.support.values().chain(self.expired.values());
        let asked: BTreeSet<String> = causes.flat_map(|support| &support.kinds).cloned().collect();
        let kinds = if self.latched(now) { asked.union(&self.kinds).cloned().collect() } else { asked };
        // The kind `all` holds the others.
        if kinds.contains(ALL) { [ALL.to_string()].into() } else { kinds }
    }

    /// Whether it stays to the end of its session, whatever its causes do.
    pub(super) fn latched(&self, now: Timestamp) -> bool {
        self.latch.is_some_and(|at| at <= now)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Stand {
    Supported,
    Lingering {
        until: Timestamp,
    },
    /// Its causes are over and its session is not.
    Latched,
    Review {
        since: Timestamp,
        why: Sentence,
    },
}

/// An effect that was ended against causes still there; only another cause brings it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Suppressed {
    pub(super) lineages: BTreeSet<Lineage>,
}

/// A rule in a world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct RuleIn {
    pub(super) rule: String,
    pub(super) world: World,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pause {
    pub(super) by: String,
    pub(super) reason: String,
    pub(super) until: Option<Timestamp>,
}

/// A row that may want to be woken.
pub(super) trait Row: Clone + Serialize + DeserializeOwned {
    /// The letter of its table.
    const TABLE: u8;
    /// When something is due.
    fn timer(&self) -> Option<Timestamp>;
    /// The targets that it is found by; most rows are found by their key alone.
    fn targets(&self) -> Option<&BTreeSet<String>> {
        None
    }
}

macro_rules! rows {
    ($($row:ty = $letter:literal, $timer:expr $(, by $targets:ident)?;)+) => {
        $(impl Row for $row {
            const TABLE: u8 = $letter;

            fn timer(&self) -> Option<Timestamp> {
                let timer: fn(&$row) -> Option<Timestamp> = $timer;
                timer(self)
            }
            $(
            fn targets(&self) -> Option<&BTreeSet<String>> {
                Some(&self.$targets)
            })?
        })+
    };
}

rows! {
    Timestamp = b't', |_| None;
    Known = b'k', |known| if known.expired { known.expires.map(|at| later(at, MEMORY_S)) } else { known.expires };
    Candidate = b'c', |candidate| {
        let phase = match &candidate.phase {
            Phase::Holding { until } => Some(*until),
            Phase::Asking(asking) => asking.deadline,
            Phase::Settled => None,
        };
        phase.into_iter().chain(candidate.wake).min()
    }, by targets;
    InForce = b'e', |effect| match &effect.stand {
        Stand::Lingering { until } => Some((*until).min(effect.until)),
        Stand::Supported | Stand::Latched | Stand::Review { .. } => Some(effect.until),
    };
    Suppressed = b's', |_| None;
    Ended = b'x', |ended| Some(ended.0);
    Pause = b'p', |pause| pause.until;
    Envelope = b'v', |_| None;
    Batches = b'b', |_| None;
    Heard = b'h', |_| None;
    Notice = b'n', |notice| Some(later(notice.time, MEMORY_S));
    Waiting = b'w', |_| None;
}

/// No rule is weighed before the next tick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {}

/// When a department was last heard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Heard(pub(super) Timestamp);

/// A public notice: where, and when it was handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Notice {
    pub(super) department: DepartmentId,
    pub(super) areas: Vec<Area>,
    pub(super) time: Timestamp,
}

/// A notice in its world, by the hash of its record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct NoticeKey {
    pub(super) world: World,
    #[serde(with = "crate::hexed")]
    pub(super) hash: [u8; 32],
}

/// Until when a message is remembered that was cancelled or superseded before it came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Ended(pub(super) Timestamp);

/// When the last batches of a rule were issued.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Batches(pub(super) Vec<Timestamp>);

/// `at` and `seconds` more, at most the end of time.
pub(super) fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Rows of one kind, with their timers, the targets they are found by, and the keys changed since they were last written
/// out.
#[derive(Debug, Clone)]
pub(super) struct Table<K, R> {
    /// Apart from the trees, since their nodes are half empty and a row may have 500 bytes; shared with copies of the engine
    /// until it changes.
    rows: BTreeMap<Arc<K>, Arc<R>>,
    timers: BTreeSet<(Timestamp, Arc<K>)>,
    by_target: BTreeMap<String, BTreeSet<K>>,
    changed: HashSet<K>,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), timers: BTreeSet::new(), by_target: BTreeMap::new(), changed: HashSet::new() }
    }
}

impl<K: Ord + Hash + Clone + Serialize + DeserializeOwned, R: Row> Table<K, R> {
    pub(super) fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key).map(Arc::as_ref)
    }

    /// The key as the table holds it, when it has a row.
    pub(super) fn key(&self, key: &K) -> Option<&K> {
        self.rows.get_key_value(key).map(|(key, _)| key.as_ref())
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter().map(|(key, row)| (key.as_ref(), row.as_ref()))
    }

    /// The keys from `first` on.
    pub(super) fn from<'a>(&'a self, first: &K) -> impl Iterator<Item = &'a K> + use<'a, K, R> {
        self.rows.range::<K, _>(first..).map(|(key, _)| key.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn put(&mut self, key: K, row: R) {
        self.changed.insert(key.clone());
        self.load(key, row);
    }

    fn load(&mut self, key: K, row: R) {
        let held = self.rows.remove_entry(&key);
        if let Some((key, old)) = &held {
            self.unlink(key, old);
        }
        let key = held.map_or_else(|| Arc::new(key), |(key, _)| key);
        for target in row.targets().into_iter().flatten() {
            self.by_target.entry(target.clone()).or_default().insert(K::clone(&key));
        }
        if let Some(at) = row.timer() {
            self.timers.insert((at, Arc::clone(&key)));
        }
        self.rows.insert(key, Arc::new(row));
    }

    /// The keys of the rows that have one of the targets; one that has several comes several times.
    pub(super) fn with_any<'a>(&'a self, targets: impl IntoIterator<Item = &'a String>) -> impl Iterator<Item = &'a K> {
        targets.into_iter().filter_map(|target| self.by_target.get(target)).flatten()
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<R> {
        let (key, row) = self.rows.remove_entry(key)?;
        self.unlink(&key, &row);
        self.changed.insert(Arc::unwrap_or_clone(key));
        Some(Arc::unwrap_or_clone(row))
    }

    /// Changes a row, when it is there.
    pub(super) fn change(&mut self, key: &K, change: impl FnOnce(&mut R)) {
        if let Some(mut row) = self.remove(key) {
            change(&mut row);
            self.put(key.clone(), row);
        }
    }

    /// Takes a row out of the indexes.
    fn unlink(&mut self, key: &Arc<K>, row: &R) {
        if let Some(at) = row.timer() {
            self.timers.remove(&(at, Arc::clone(key)));
        }
        for target in row.targets().into_iter().flatten() {
            if let Some(keys) = self.by_target.get_mut(target) {
                keys.remove(key.as_ref());
                if keys.is_empty() {
                    self.by_target.remove(target);
                }
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<(Timestamp, &K)> {
        self.timers.first().map(|(at, key)| (*at, key.as_ref()))
    }

    /// The key of a timer that is due.
    pub(super) fn due(&self, now: Timestamp) -> Option<(Timestamp, K)> {
        self.next_timer().filter(|(at, _)| *at <= now).map(|(at, key)| (at, key.clone()))
    }

    fn drain(&mut self, into: &mut Vec<StateRow>) {
        for key in std::mem::take(&mut self.changed) {
            into.push((Self::key_bytes(&key), self.rows.get(&key).map(|row| Self::row_bytes(row))));
        }
    }

    fn all(&self, into: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        into.extend(self.rows().map(|(key, row)| (Self::key_bytes(key), Self::row_bytes(row))));
    }

    fn key_bytes(key: &K) -> Vec<u8> {
        let mut bytes = vec![R::TABLE];
        // Keys and rows hold only text, numbers and lists of them, which JSON can always write.
        bytes.extend(serde_json::to_vec(key).unwrap_or_default());
        bytes
    }

    fn row_bytes(row: &R) -> Vec<u8> {
        serde_json::to_vec(row).unwrap_or_default()
    }

    fn read(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        self.load(serde_json::from_slice(key).ok()?, serde_json::from_slice(value).ok()?);
        Some(())
    }
}

/// Everything the engine remembers.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) time: Table<(), Timestamp>,
    pub(super) known: Table<Lineage, Known>,
    pub(super) candidates: Table<CandidateKey, Candidate>,
    pub(super) effects: Table<EffectKey, InForce>,
    pub(super) suppressed: Table<EffectKey, Suppressed>,
    pub(super) ended: Table<Lineage, Ended>,
    pub(super) pauses: Table<RuleIn, Pause>,
    pub(super) envelopes: Table<RuleIn, Envelope>,
    pub(super) batches: Table<RuleIn, Batches>,
    pub(super) heard: Table<DepartmentId, Heard>,
    pub(super) notices: Table<NoticeKey, Notice>,
    pub(super) returned: Table<EffectKey, Returned>,
    pub(super) waiting: Table<(), Waiting>,
}

impl State {
    /// The rows that changed, in the order of their keys.
    pub(super) fn drain(&mut self) -> Vec<StateRow> {
        let mut rows = Vec::new();
        self.time.drain(&mut rows);
        self.known.drain(&mut rows);
        self.candidates.drain(&mut rows);
        self.effects.drain(&mut rows);
        self.suppressed.drain(&mut rows);
        self.ended.drain(&mut rows);
        self.pauses.drain(&mut rows);
        self.envelopes.drain(&mut rows);
        self.batches.drain(&mut rows);
        self.heard.drain(&mut rows);
        self.notices.drain(&mut rows);
        self.returned.drain(&mut rows);
        self.waiting.drain(&mut rows);
        rows.sort();
        rows
    }

    pub(super) fn is_blank(&self) -> bool {
        let Self { time, known, candidates, effects, suppressed, ended, .. } = self;
        let blank = time.len() + known.len() + candidates.len() + effects.len() + suppressed.len() + ended.len() == 0;
        let Self { pauses, envelopes, batches, heard, notices, returned, waiting, .. } = self;
        let rest = pauses.len() + envelopes.len() + batches.len() + heard.len() + notices.len() + returned.len();
        blank && rest + waiting.len() == 0
    }

    /// All rows, in the order of their keys.
    pub(super) fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        self.time.all(&mut rows);
        self.known.all(&mut rows);
        self.candidates.all(&mut rows);
        self.effects.all(&mut rows);
        self.suppressed.all(&mut rows);
        self.ended.all(&mut rows);
        self.pauses.all(&mut rows);
        self.envelopes.all(&mut rows);
        self.batches.all(&mut rows);
        self.heard.all(&mut rows);
        self.notices.all(&mut rows);
        self.returned.all(&mut rows);
        self.waiting.all(&mut rows);
        rows.sort();
        rows
    }

    /// Takes a stored row back; `None` when it cannot be read.
    pub(super) fn read(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (&table, rest) = key.split_first()?;
        match table {
            Timestamp::TABLE => self.time.read(rest, value),
            Known::TABLE => self.known.read(rest, value),
            Candidate::TABLE => self.candidates.read(rest, value),
            InForce::TABLE => self.effects.read(rest, value),
            Suppressed::TABLE => self.suppressed.read(rest, value),
            Ended::TABLE => self.ended.read(rest, value),
            Pause::TABLE => self.pauses.read(rest, value),
            Envelope::TABLE => self.envelopes.read(rest, value),
            Batches::TABLE => self.batches.read(rest, value),
            Heard::TABLE => self.heard.read(rest, value),
            Notice::TABLE => self.notices.read(rest, value),
            Returned::TABLE => self.returned.read(rest, value),
            Waiting::TABLE => self.waiting.read(rest, value),
            _ => None,
        }
    }

    /// The engine's time: the latest receipt or tick.
    pub(super) fn now(&self) -> Option<Timestamp> {
        self.time.get(&()).copied()
    }

    /// The next instant at which a tick is wanted. What is merely forgotten waits for any other input.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let known = self.known.next_timer().map(|(at, _)| at);
        let candidates = self.candidates.next_timer().map(|(at, _)| at);
        let effects = self.effects.next_timer().map(|(at, _)| at);
        let pauses = self.pauses.next_timer().map(|(at, _)| at);
        [known, candidates, effects, pauses].into_iter().flatten().min()
    }
}

/// A map whose keys are not text, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}
