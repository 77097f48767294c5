//! Random work on both backends gives the same answers and the same contents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::conformance::{self, keyed, log, replica};
use crate::memory::{Disk, MemoryStore};
use crate::sqlite::{Options, SqliteStore};
use crate::{Batch, Entry, Error, Hash, Lane, LogId, Position, Replica, Standing, Store};

#[derive(Debug, Clone)]
enum Step {
    /// Draft in log `log` under key `key` with content `content`.
    Draft {
        log: usize,
        key: u8,
        content: u8,
    },
    /// A replica near the tail: `back` before the next seq, wrong in its chain if `stray`, without body if `bare`.
    Replica {
        log: usize,
        back: u64,
        stray: bool,
        bare: bool,
    },
    /// A replica that opens an epoch, linked to the tail or not.
    Opens {
        log: usize,
        epoch: u64,
        linked: bool,
    },
    State {
        key: u8,
        value: Option<u8>,
    },
}

#[derive(Debug, Clone)]
enum Move {
    Commit { steps: Vec<Step>, fails: bool },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..12_u8, 0..2_u8).prop_map(|(log, key, content)| Step::Draft { log, key, content }),
        6 => (0..2_usize, 0..3_u64, prop::bool::weighted(0.1), prop::bool::weighted(0.3))
            .prop_map(|(log, back, stray, bare)| Step::Replica { log, back, stray, bare }),
        2 => (0..2_usize, 1..40_u64, any::<bool>()).prop_map(|(log, epoch, linked)| Step::Opens { log, epoch, linked }),
        2 => (0..6_u8, prop::option::of(any::<u8>())).prop_map(|(key, value)| Step::State { key, value }),
    ]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let commit = (prop::collection::vec(step(), 0..8), prop::bool::weighted(0.2))
        .prop_map(|(steps, fails)| Move::Commit { steps, fails });
    prop::collection::vec(prop_oneof![8 => commit, 1 => Just(Move::Reopen)], 1..25)
}

fn own(index: usize) -> LogId {
    log("edb/node-1", Lane::ALL[index])
}

fn foreign(index: usize) -> LogId {
    log("fsd/node-1", Lane::ALL[index])
}

/// What a step asks of the chain, worked out from the tail that the batch shows.
fn replica_for(log: &LogId, tail: Option<Position>, back: u64, stray: bool) -> Replica {
    match tail {
        None => replica(log, 3, 1, Hash::ZERO, None, "first"),
        // The tail again: its header is not known here, so a record at or below it is a fork.
        Some(tail) if back > 0 => {
            replica(log, tail.epoch, tail.seq.saturating_sub(back - 1).max(2), tail.hash, None, "fork")
        }
        Some(tail) => {
            let previous = if stray { Hash::of(b"stray") } else { tail.hash };
            replica(log, tail.epoch, tail.seq + 1, previous, None, "next")
        }
    }
}

/// Does one step and tells what came of it.
fn take(batch: &mut dyn Batch, step: &Step, last: &mut Option<Replica>) -> String {
    match step {
        Step::Draft { log, key, content } => {
            format!("{:?}", batch.draft(keyed(&own(*log), &key.to_string(), &content.to_string())))
        }
        Step::Replica { log, back, stray, bare } => {
            let log = foreign(*log);
            let again = last.clone().filter(|replica| *back == 2 && replica.log == log);
            let mut next = again.unwrap_or_else(|| replica_for(&log, batch.tail(&log), *back, *stray));
            *last = Some(next.clone());
            if *bare {
                next.body = None;
            } else if *stray {
                next.standing = Standing::NotCounted { reason: "stray".to_owned() };
            }
            format!("{:?}", batch.replica(next))
        }
        Step::Opens { log, epoch, linked } => {
            let log = foreign(*log);
            let link = batch.tail(&log).filter(|_| *linked);
            format!("{:?}", batch.replica(replica(&log, *epoch, 1, Hash::ZERO, link, "opens")))
        }
        Step::State { key, value } => {
            let value = value.map(|value| [value]);
            let set = batch.state(&[*key], value.as_ref().map(|value| value.as_slice()));
            format!("{set:?} {:?}", batch.read_state(&[*key]))
        }
    }
}

type Seen = (Vec<Entry>, Vec<(LogId, Position)>, Vec<(Vec<u8>, Vec<u8>)>, String);

fn observe(store: &dyn Store) -> Seen {
    conformance::check_whole(store);
    let keys: Vec<_> = (0..12_u8).map(|key| store.find(&crate::Key(key.to_string().into_bytes())).unwrap()).collect();
    (
        store.arrivals(0, usize::MAX, usize::MAX).unwrap(),
        store.logs(),
        store.state_prefix(b"", None, 100).unwrap(),
        format!("{keys:?}"),
    )
}

fn begin(store: &dyn Store, start: u64) {
    for index in 0..2 {
        store.begin_epoch(&own(index), start).unwrap();
    }
}

fn commit(store: &dyn Store, steps: &[Step], fails: bool) -> Vec<String> {
    let mut answers = Vec::new();
    let result = store.commit(&mut |batch| {
        let mut last = None;
        answers = steps.iter().map(|step| take(batch, step, &mut last)).collect();
        if fails { Err(Error::caller("on purpose")) } else { Ok(()) }
    });
    answers.push(format!("{result:?}"));
    answers
}

/// `CAMPANILE_SEED`, or a random one; printed, so that a failure can be run again.
fn config() -> ProptestConfig {
    let seed = std::env::var("CAMPANILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CAMPANILE_SEED={seed}");
    ProptestConfig { cases: 48, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn backends_agree_on_random_work(moves in moves()) {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let mut start = 100;
        let mut sqlite = SqliteStore::open(directory.path(), &Options::default()).unwrap();
        let mut memory = MemoryStore::open(&disk).unwrap();
        begin(&sqlite, start);
        begin(&memory, start);
        for step in &moves {
            match step {
                Move::Commit { steps, fails } => {
                    prop_assert_eq!(commit(&sqlite, steps, *fails), commit(&memory, steps, *fails));
                }
                Move::Reopen => {
                    drop((sqlite, memory));
                    start += 100;
                    sqlite = SqliteStore::open(directory.path(), &Options::default()).unwrap();
                    memory = MemoryStore::open(&disk).unwrap();
                    begin(&sqlite, start);
                    begin(&memory, start);
                }
            }
            prop_assert_eq!(observe(&sqlite), observe(&memory));
        }
    }
}
