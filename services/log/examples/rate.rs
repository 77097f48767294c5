//! Prints how many commits and records a second the embedded store takes here, in groups of 1 and of 50.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use bytes::Bytes;
use campanile_log::sqlite::{Options, SqliteStore};
use campanile_log::{Draft, Error, Hash, Key, Lane, LogId, Sealed, Store as _, epoch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::current_dir()?.join(format!("rate-{}.tmp", std::process::id()));
    let outcome = measure(&directory);
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn measure(directory: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open(directory, &Options::default())?;
    let log = LogId::new("edb/node-1", Lane::Urgent);
    store.begin_epoch(&log, epoch::next(1, 1, 0))?;
    let mut number = 0_u64;
    for (group, commits) in [(1_u64, 2_000_u64), (50, 2_000)] {
        let mut times = Vec::new();
        let started = Instant::now();
        for _ in 0..commits {
            let begun = Instant::now();
            store.commit(&mut |batch| -> Result<(), Error> {
                for _ in 0..group {
                    number += 1;
                    batch.draft(draft(&log, number))?;
                }
                Ok(())
            })?;
            times.push(begun.elapsed());
        }
        let seconds = started.elapsed().as_secs_f64();
        times.sort();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        let rate = (group * commits) as f64 / seconds;
        println!("groups of {group}: {rate:.0} records/s, commit p50 {:?}, p99 {:?}", at(50), at(99));
    }
    drop(store);
    let started = Instant::now();
    let store = SqliteStore::open(directory, &Options::default())?;
    println!("opened again with {} records in {:?}", store.last_arrival(), started.elapsed());
    Ok(())
}

fn draft(log: &LogId, number: u64) -> Draft<'static> {
    let text = format!("{number:01000}");
    Draft {
        log: log.clone(),
        idempotency: Some(Key(format!("fsd,alerts@fsd,{number},2026-01-01T00:00:00+08:00").into_bytes())),
        content: Hash::of(text.as_bytes()),
        seal: Box::new(move |slot| {
            let header = Bytes::from(format!("{slot:?} {number} {:0200}", 0));
            Ok(Sealed { header, body: Bytes::from(text), signatures: Bytes::from(vec![7; 80]) })
        }),
    }
}
