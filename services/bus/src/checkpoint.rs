//! Checkpoints: an origin's signed word about its tail, so that two peers who compare notes can prove a split view, and
//! that whoever gets its records from others knows how long ago it spoke.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use campanile_alert::{Clock, OriginId, Timestamp};
use campanile_discovery::roster::Roster;
use campanile_log::{Lane, LogId, Position, Store};
use campanile_proto::bus::v1 as wire;
use campanile_proto::convert;
use parking_lot::Mutex;
use prost::Message as _;

use crate::pipeline::SigningKeys;
use crate::record::{self, CHECKPOINT_TYPE};
use crate::verify::key_lane;

/// Makes checkpoints of our own logs and gives out those of others as they came.
pub struct Checkpoints {
    federation: String,
    origin: OriginId,
    clock: Arc<dyn Clock>,
    keys: Arc<ArcSwap<SigningKeys>>,
    store: Arc<dyn Store>,
    /// The newest one of each log, own or others', as far as one was made or came since the start.
    newest: Mutex<HashMap<LogId, (Word, Bytes)>>,
}

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Where the log ends; `None` while nothing is in it.
    pub tail: Option<Position>,
    /// When the origin signed it, by its own clock.
    pub time: Timestamp,
}

/// How old a checkpoint of our own may be before it is signed anew: whoever is told it over others hears of us by it.
const SIGNED_EVERY: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints").finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// For the logs of `origin`, signed with its keys.
    pub fn new(
        federation: String,
        origin: OriginId,
        clock: Arc<dyn Clock>,
        keys: Arc<ArcSwap<SigningKeys>>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self { federation, origin, clock, keys, store, newest: Mutex::default() }
    }

    /// The newest checkpoint of a log. Ours is signed freshly when the log has grown, and every ten seconds; another's is
    /// the last that came, or the one stored here.
    pub fn newest(&self, log: &LogId, tail: Option<&Position>) -> Option<Bytes> {
        let mut newest = self.newest.lock();
        let known = newest.get(log);
        if *log.origin != *self.origin.to_string() {
            return known.map(|(_, bytes)| bytes.clone()).or_else(|| self.store.checkpoint(log).ok().flatten());
        }
        let word = Word { tail: tail.copied(), time: self.clock.now() };
        if let Some((before, bytes)) = known
            && before.tail == word.tail
            // A clock that went back makes the one before look as if it came from the future.
            && (jiff::SignedDuration::ZERO..SIGNED_EVERY).contains(&word.time.duration_since(before.time))
        {
            return Some(bytes.clone());
        }
        let body: Bytes = wire::CheckpointBody {
            federation: self.federation.clone(),
            tail: tail.map(|tail| record::position_to_wire(log, tail)),
            time: Some(convert::timestamp_to_wire(word.time)),
            origin: log.origin.to_string(),
            lane: record::lane_to_wire(log.lane).into(),
        }
        .encode_to_vec()
        .into();
        let keys = self.keys.load();
        let key = if log.lane == Lane::Exercise { &keys.exercise } else { &keys.live };
        let signatures = record::signatures_to_wire(&[key.sign(CHECKPOINT_TYPE, &body)]);
        let bytes: Bytes = wire::Checkpoint { body, signatures }.encode_to_vec().into();
        newest.insert(log.clone(), (word, bytes.clone()));
        Some(bytes)
    }

    /// Takes an opened checkpoint of another's log, to be given out from now on, and gives when it was signed, now at the
    /// latest; `None` when the last one was no older.
    pub fn take(&self, log: &LogId, word: Word, bytes: Bytes) -> Option<Timestamp> {
        // A clock that was ahead once must not make all that is signed after it look old.
        let time = word.time.min(self.clock.now());
        let mut newest = self.newest.lock();
        let is_newer = newest.get(log).is_none_or(|(before, known)| before.time < time && *known != bytes);
        is_newer.then(|| {
            newest.insert(log.clone(), (Word { time, ..word }, bytes));
            time
        })
    }
}

/// Opens a checkpoint of `log` and checks its signature; `None` when it proves nothing.
pub fn open(roster: &Roster, federation: &str, log: &LogId, checkpoint: &wire::Checkpoint) -> Option<Word> {
    let body = wire::CheckpointBody::decode(checkpoint.body.clone()).ok()?;
    let tail = body.tail.as_ref().map(record::position_from_wire).transpose().ok()?;
    let (named, tail) = match tail {
        Some((named, tail)) => (named, Some(tail)),
        None => (LogId::new(body.origin.as_str(), record::lane_from_wire(body.lane())?), None),
    };
    if named != *log || body.federation != federation {
        return None;
    }
    let time = convert::timestamp_from_wire(body.time.as_ref(), "time").ok()?;
    let origin: OriginId = log.origin.parse().ok()?;
    let signatures = record::signatures_from_wire(&checkpoint.signatures).ok()?;
    // A key is good for a log in which nothing is yet, if it is good from its first record on.
    let (epoch, seq) = tail.map_or((1, 1), |tail| tail.place());
    let is_signed = signatures.iter().any(|signature| {
        roster
            .key(&origin, signature.key_id, key_lane(log.lane), epoch, seq)
            .is_ok_and(|key| key.verify(CHECKPOINT_TYPE, &checkpoint.body, signature).is_ok())
    });
    is_signed.then_some(Word { tail, time })
}

/// Whether a kept checkpoint is about the same tail as `word`: one that is only newer need not go to the disk.
pub fn ends(kept: &Bytes, word: &Word) -> bool {
    let body = wire::Checkpoint::decode(kept.clone()).and_then(|kept| wire::CheckpointBody::decode(kept.body));
    let tail = body.ok().and_then(|body| record::position_from_wire(body.tail.as_ref()?).ok());
    tail.map(|(_, tail)| tail) == word.tail
}
