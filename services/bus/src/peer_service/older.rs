//! What a receiver lacks of older epochs.
//!
//! A disk that was lost or set back gives its node a new epoch, and what it had written before comes back to it from
//! peers later, while others have long gone on in the newer epoch. So a stream knows how far its receiver has come in
//! every epoch, not in the highest alone, and fills what lies below before it goes on.
//!
//! ```text
//! receiver   (3,1) (3,2)                         (9,1) (9,2)           it says: after (9,2), older (3,2)
//! server     (3,1) (3,2) (3,3) (3,4) (4,1) (4,2) (9,1) (9,2) (9,3)
//! stream                  1     2     3     4                 5
//! ```
//!
//! Lowest first, so that the receiver holds what an epoch links to before that epoch comes.

use std::collections::{BTreeMap, VecDeque};

use campanile_log::{Entry, Error, LogId, Position, Store};

/// How many older epochs a receiver tells of.
pub const OLDER_MAX: usize = 1_024;

/// True when the receiver has come further in an epoch than is held here.
pub(super) fn is_ahead(store: &dyn Store, log: &LogId, theirs: &[Position]) -> bool {
    let tails: BTreeMap<u64, u64> = store.epochs(log).into_iter().map(|tail| tail.place()).collect();
    theirs.iter().any(|held| tails.get(&held.epoch).is_none_or(|seq| *seq < held.seq))
}

/// How far the receiver of a stream has come.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The last seq of each epoch that it holds or was sent.
    held: BTreeMap<u64, u64>,
    /// Below this epoch it is taken to hold everything, since it could not tell of so many.
    floor: u64,
}

/// Records of one epoch that the receiver lacks, as far as they are held here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) epoch: u64,
    /// The seq before the first.
    pub(super) after: u64,
    /// The last seq.
    pub(super) until: u64,
}

impl Sent {
    /// From what the receiver says that it holds.
    pub(super) fn new(after: Option<Position>, older: &[Position]) -> Self {
        let held = after.iter().chain(older).map(|position| position.place()).collect();
        let floor = if older.len() < OLDER_MAX { 0 } else { older.iter().map(|tail| tail.epoch).min().unwrap_or(0) };
        Self { held, floor }
    }

    /// Takes in that a record was sent.
    pub(super) fn note(&mut self, (epoch, seq): (u64, u64)) {
        let last = self.held.entry(epoch).or_default();
        *last = seq.max(*last);
    }

    /// What the receiver lacks of the epochs below `epoch`, lowest first.
    pub(super) fn gaps_below(&self, epoch: u64, store: &dyn Store, log: &LogId) -> VecDeque<Gap> {
        let tails = store.epochs(log).into_iter().filter(|tail| (self.floor..epoch).contains(&tail.epoch));
        let gap = |tail: Position| Gap {
            epoch: tail.epoch,
            after: self.held.get(&tail.epoch).copied().unwrap_or(0),
            until: tail.seq,
        };
        tails.map(gap).filter(|gap| gap.after < gap.until).collect()
    }
}

/// The record held here at the first of the receiver's positions where it holds another one.
pub(super) fn diverged(store: &dyn Store, log: &LogId, theirs: &[Position]) -> Result<Option<Entry>, Error> {
    let tails: BTreeMap<u64, Position> = store.epochs(log).into_iter().map(|tail| (tail.epoch, tail)).collect();
    for position in theirs {
        // Most are equal to a tail held here, which costs no reading.
        let unlike = tails.get(&position.epoch).is_some_and(|tail| tail.seq >= position.seq && tail != position);
        if unlike
            && let Some(held) = store.get(log, position.epoch, position.seq)?
            && held.position.hash != position.hash
        {
            return Ok(Some(held));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use campanile_log::memory::{Disk, MemoryStore};
    use campanile_log::{Hash, Lane, Link, Replica, Standing, StoreExt as _};

    use super::*;

    fn log() -> LogId {
        LogId::new("fsd/node-1", Lane::Urgent)
    }

    /// An epoch, how many records it has, and the place that its first links to.
    type Epoch = (u64, u64, Option<(u64, u64)>);

    fn store(epochs: &[Epoch]) -> MemoryStore {
        let store = MemoryStore::open(&Disk::default()).unwrap();
        for (epoch, count, link) in epochs {
            let at = |place: &(u64, u64)| store.get(&log(), place.0, place.1).unwrap().unwrap().position;
            let mut previous = Hash::ZERO;
            for seq in 1..=*count {
                let header = Bytes::from(format!("{epoch}:{seq}"));
                let link: Option<Link> = if seq == 1 { link.as_ref().map(at) } else { None };
                let replica = Replica {
                    log: log(),
                    epoch: *epoch,
                    seq,
                    previous,
                    link,
                    header: header.clone(),
                    body: None,
                    signatures: Bytes::new(),
                    standing: Standing::NoBody,
                    idempotency: None,
                };
                let accepted = store.with_batch(|batch| batch.replica(replica)).unwrap();
                assert!(matches!(accepted, campanile_log::Accepted::New(_)), "{accepted:?}");
                previous = Hash::of(&header);
            }
        }
        store
    }

    fn gaps(store: &MemoryStore, sent: &Sent, below: u64) -> Vec<(u64, u64, u64)> {
        let gaps = sent.gaps_below(below, store, &log());
        gaps.iter().map(|gap| (gap.epoch, gap.after, gap.until)).collect()
    }

    fn tail(store: &MemoryStore, epoch: u64, seq: u64) -> Position {
        store.get(&log(), epoch, seq).unwrap().unwrap().position
    }

    #[test]
    fn the_rest_of_an_older_epoch_and_what_links_to_it_is_sent() {
        let store = store(&[(3, 4, None), (4, 2, Some((3, 4))), (9, 2, Some((3, 2)))]);
        let sent = Sent::new(Some(tail(&store, 9, 2)), &[tail(&store, 3, 2)]);
        assert_eq!(gaps(&store, &sent, 9), [(3, 2, 4), (4, 0, 2)]);
        let mut sent = sent;
        [(3, 3), (3, 4), (4, 1), (4, 2)].into_iter().for_each(|place| sent.note(place));
        assert_eq!(gaps(&store, &sent, 9), []);
    }

    #[test]
    fn what_lies_below_the_last_epoch_that_could_be_told_is_taken_to_be_held() {
        let told: Vec<Epoch> =
            (1..=OLDER_MAX as u64 + 2).map(|epoch| (epoch, 1, (epoch > 1).then(|| (epoch - 1, 1)))).collect();
        let store = store(&told);
        let older: Vec<Position> = (3..=OLDER_MAX as u64 + 2).rev().map(|epoch| tail(&store, epoch, 1)).collect();
        assert_eq!(older.len(), OLDER_MAX);
        assert_eq!(gaps(&store, &Sent::new(None, &older), u64::MAX), []);
    }

    #[test]
    fn another_record_in_an_older_epoch_is_found() {
        let store = store(&[(3, 4, None), (9, 2, Some((3, 2)))]);
        let ours = [tail(&store, 9, 2), tail(&store, 3, 3)];
        assert_eq!(diverged(&store, &log(), &ours).unwrap(), None);
        let other = Position { hash: Hash::of(b"other"), ..ours[1] };
        let held = diverged(&store, &log(), &[ours[0], other]).unwrap().unwrap();
        assert_eq!(held.position, ours[1]);
    }
}
