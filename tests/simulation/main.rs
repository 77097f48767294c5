//! Whole federations in simulated time: real bus, log, discovery and rules, driven by a seed. See README.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice
)]

mod closures;
mod faults;
mod federation;
mod ledger;
mod node;
mod run;
mod surroundings;
mod trace;
mod wire;
mod workload;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use run::{Outcome, run};

/// How many seeds are run when nothing else is asked for.
const SEEDS: std::ops::Range<u64> = 0..60;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// How many panics this thread has seen: tokio swallows those of its tasks.
pub(crate) fn panics() -> u64 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
    PANICS.with(Cell::get)
}

/// The seeds to run, and whether every line of them is to be printed.
fn seeds() -> (Vec<u64>, bool) {
    if let Ok(seed) = std::env::var("CAMPANILE_SEED") {
        return (vec![seed.parse().expect("CAMPANILE_SEED is a number")], true);
    }
    let range = std::env::var("CAMPANILE_SEEDS").ok().map(|text| {
        let (from, to) = text.split_once("..").expect("CAMPANILE_SEEDS is written FROM..TO");
        from.parse().expect("FROM is a number")..to.parse().expect("TO is a number")
    });
    let regressions =
        include_str!("regressions.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    match range {
        Some(range) => (range.collect(), false),
        None => (regressions.chain(SEEDS).collect::<BTreeSet<u64>>().into_iter().collect(), false),
    }
}

fn report(seed: u64, outcome: &Outcome) -> String {
    let last = outcome.lines.len().saturating_sub(40);
    format!(
        "seed {seed} failed:\n  {}\nits last events:\n  {}\nrun it again, with every event, by\n  CAMPANILE_SEED={seed} cargo nextest run -p campanile-tests --test simulation every_seed --no-capture\n",
        outcome.faults.join("\n  "),
        outcome.lines[last..].join("\n  "),
    )
}

#[test]
fn every_seed_keeps_the_promises_of_the_bus() {
    let (seeds, is_verbose) = seeds();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let next = AtomicU64::new(0);
    let (failed, totals) = (Mutex::new(Vec::new()), Mutex::new((0, 0)));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    let outcome = run(*seed);
                    if is_verbose {
                        println!("{}", outcome.lines.join("\n"));
                    }
                    let mut totals = totals.lock();
                    *totals = (totals.0 + outcome.records, totals.1 + outcome.closures);
                    if !outcome.faults.is_empty() {
                        eprintln!("{}", report(*seed, &outcome));
                        failed.lock().push(*seed);
                    }
                }
            });
        }
    });
    let (records, closures) = totals.into_inner();
    println!("{} seeds, {records} records, {closures} closures", seeds.len());
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), seeds.len());
    assert!(seeds.len() < 10 || closures > 0, "no seed closed a school, so they prove too little");
}

#[test]
fn l1_a_lost_log_of_private_records_comes_back_as_headers_and_is_continued() {
    let faults = run::scenarios::lose_disk_with_private_records();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn r1_a_record_that_came_back_in_an_older_epoch_reaches_those_who_have_gone_on_to_a_newer() {
    let faults = run::scenarios::come_back_behind_those_who_have_gone_on();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t1_t4_rules_whose_disk_is_gone_close_nothing_twice_and_manage_what_they_had_closed() {
    let faults = run::scenarios::lose_the_state_of_the_rules();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn l3_a_node_set_back_by_a_start_uses_no_position_twice() {
    let faults = run::scenarios::set_back_by_a_start();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn l1_a_fire_whose_commit_fails_is_not_acknowledged() {
    let faults = run::scenarios::fail_the_commit_of_a_fire();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t1_a_crash_between_a_fire_and_its_effects_loses_none() {
    let faults = run::scenarios::crash_between_fires_and_their_effects();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn d1_an_emptied_node_that_reaches_nobody_publishes_nothing_before_it_knows_its_past() {
    let faults = run::scenarios::publish_nothing_before_the_past_is_known();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in [1, 2, 3] {
        let (first, second) = (run(seed), run(seed));
        let differs = first.lines.iter().zip(&second.lines).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed} differs at event {at}:\n  {}\n  {}", first.lines[at], second.lines[at]);
        }
        assert_eq!(first.lines.len(), second.lines.len(), "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert!(first.lines.len() > 50, "seed {seed} does too little to prove anything");
    }
}
