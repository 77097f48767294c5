//! Checkpoints: an origin's signed word about its tail, so that two peers who compare notes can prove a split view.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use campanile_alert::{Clock, OriginId};
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
    /// The newest one of each own log, and the tail it is about.
    own: Mutex<HashMap<LogId, (Position, Bytes)>>,
}

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
        Self { federation, origin, clock, keys, store, own: Mutex::default() }
    }

    /// The newest checkpoint of a log: freshly signed when it is ours and has grown, else the one stored here.
    pub fn newest(&self, log: &LogId, tail: Option<&Position>) -> Option<Bytes> {
        if *log.origin != *self.origin.to_string() {
            return self.store.checkpoint(log).ok().flatten();
        }
        let tail = *tail?;
        let mut own = self.own.lock();
        if let Some((position, bytes)) = own.get(log)
            && *position == tail
        {
            return Some(bytes.clone());
        }
        let body: Bytes = wire::CheckpointBody {
            federation: self.federation.clone(),
            tail: Some(record::position_to_wire(log, &tail)),
            time: Some(convert::timestamp_to_wire(self.clock.now())),
        }
        .encode_to_vec()
        .into();
        let keys = self.keys.load();
        let key = if log.lane == Lane::Exercise { &keys.exercise } else { &keys.live };
        let signatures = record::signatures_to_wire(&[key.sign(CHECKPOINT_TYPE, &body)]);
        let bytes: Bytes = wire::Checkpoint { body, signatures }.encode_to_vec().into();
        own.insert(log.clone(), (tail, bytes.clone()));
        Some(bytes)
    }
}

/// Opens a checkpoint of `log` and checks its signature; `None` when it proves nothing.
pub fn open(roster: &Roster, federation: &str, log: &LogId, checkpoint: &wire::Checkpoint) -> Option<Position> {
    let body = wire::CheckpointBody::decode(checkpoint.body.clone()).ok()?;
    let (named, tail) = record::position_from_wire(body.tail.as_ref()?).ok()?;
    if named != *log || body.federation != federation {
        return None;
    }
    let origin: OriginId = log.origin.parse().ok()?;
    let signatures = record::signatures_from_wire(&checkpoint.signatures).ok()?;
    signatures
        .iter()
        .any(|signature| {
            roster
                .key(&origin, signature.key_id, key_lane(log.lane), tail.epoch, tail.seq)
                .is_ok_and(|key| key.verify(CHECKPOINT_TYPE, &checkpoint.body, signature).is_ok())
        })
        .then_some(tail)
}
