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
mod decisions;
mod etcd;
mod faults;
mod federation;
mod governance;
mod ledger;
mod lies;
mod node;
mod run;
mod surroundings;
mod trace;
mod wire;
mod workload;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use run::{Outcome, Through, run};

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

/// The seeds that were asked for, each with its directory, and whether every line of them is to be printed; those that have
/// failed once when nothing was asked for.
fn seeds() -> (Vec<(u64, Through)>, bool) {
    let through = match std::env::var("CAMPANILE_DIRECTORY").as_deref() {
        Err(_) | Ok("memory") => Through::Memory,
        Ok("etcd") => Through::Etcd,
        Ok(other) => panic!("CAMPANILE_DIRECTORY is memory or etcd, not {other:?}"),
    };
    if let Ok(seed) = std::env::var("CAMPANILE_SEED") {
        return (vec![(seed.parse().expect("CAMPANILE_SEED is a number"), through)], true);
    }
    if let Ok(text) = std::env::var("CAMPANILE_SEEDS") {
        let (from, to) = text.split_once("..").expect("CAMPANILE_SEEDS is written FROM..TO");
        let (from, to): (u64, u64) = (from.parse().expect("FROM is a number"), to.parse().expect("TO is a number"));
        return ((from..to).map(|seed| (seed, through)).collect(), false);
    }
    let seed = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let seed: u64 = words.next()?.parse().ok()?;
        Some((seed, if words.next() == Some("etcd") { Through::Etcd } else { Through::Memory }))
    };
    let regressions: BTreeSet<(u64, Through)> = include_str!("regressions.txt").lines().filter_map(seed).collect();
    (regressions.into_iter().collect(), false)
}

fn report(seed: u64, through: Through, outcome: &Outcome) -> String {
    let directory = if through == Through::Etcd { "CAMPANILE_DIRECTORY=etcd " } else { "" };
    let last = outcome.lines.len().saturating_sub(40);
    format!(
        "seed {seed} failed:\n  {}\nits last events:\n  {}\nrun it again, with every event, by\n  {directory}CAMPANILE_SEED={seed} cargo nextest run -p campanile-tests --test simulation every_seed --no-capture\n",
        outcome.faults.join("\n  "),
        outcome.lines[last..].join("\n  "),
    )
}

/// Runs seeds on so many threads, and fails with the list of those that failed.
fn keep_the_promises(seeds: &[(u64, Through)], workers: usize, is_verbose: bool) {
    let began = std::time::Instant::now();
    let next = AtomicUsize::new(0);
    let (failed, totals) = (Mutex::new(Vec::new()), Mutex::new((0, 0)));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&(seed, through)) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = run(seed, through);
                    if is_verbose {
                        println!("{}", outcome.lines.join("\n"));
                    }
                    let mut totals = totals.lock();
                    *totals = (totals.0 + outcome.records, totals.1 + outcome.closures);
                    if !outcome.faults.is_empty() {
                        eprintln!("{}", report(seed, through, &outcome));
                        failed.lock().push((seed, through));
                    }
                }
            });
        }
    });
    let (records, closures) = totals.into_inner();
    println!("{} seeds, {records} records, {closures} closures, {:.1} s", seeds.len(), began.elapsed().as_secs_f64());
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), seeds.len());
    assert!(seeds.len() < 10 || closures > 0, "no seed closed a school, so they prove too little");
}

/// The seeds that failed once; or those that are asked for, on all cores.
#[test]
fn every_seed_keeps_the_promises_of_the_bus() {
    let (seeds, is_verbose) = seeds();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    keep_the_promises(&seeds, workers, is_verbose);
}

/// One test for fifty seeds, so that the runner spreads them over its cores among everything else.
macro_rules! fifties {
    ($through:ident: $($name:ident from $first:literal;)*) => {
        $(#[test]
        fn $name() {
            let seeds: Vec<_> = ($first..$first + 50).map(|seed| (seed, Through::$through)).collect();
            keep_the_promises(&seeds, 1, false);
        })*
    };
}

fifties! { Memory:
    seeds_000_to_049_keep_the_promises from 0;
    seeds_050_to_099_keep_the_promises from 50;
    seeds_100_to_149_keep_the_promises from 100;
    seeds_150_to_199_keep_the_promises from 150;
    seeds_200_to_249_keep_the_promises from 200;
    seeds_250_to_299_keep_the_promises from 250;
    seeds_300_to_349_keep_the_promises from 300;
    seeds_350_to_399_keep_the_promises from 350;
    seeds_400_to_449_keep_the_promises from 400;
    seeds_450_to_499_keep_the_promises from 450;
}

fifties! { Etcd:
    seeds_500_to_549_keep_the_promises_while_etcd_fails from 500;
    seeds_550_to_599_keep_the_promises_while_etcd_fails from 550;
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
fn l1_a_node_whose_clock_went_back_writes_above_its_lost_log_when_that_has_come_back() {
    let faults = run::scenarios::lose_disk_and_time();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn r4_a_record_under_a_roster_whose_holder_passed_the_one_before_it_over_is_taken_all_the_same() {
    let faults = run::scenarios::pass_a_roster_over();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn s1_a_record_counts_by_the_roster_that_it_names_where_that_was_passed_over_and_gave_no_right() {
    let faults = run::scenarios::pass_over_a_roster_without_the_right();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn s1_a_record_counts_by_the_roster_that_it_names_where_that_was_passed_over_and_gave_the_right() {
    let faults = run::scenarios::pass_over_a_roster_with_the_right();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t4_a_department_is_heard_over_others_while_it_runs_and_missed_when_it_does_not() {
    let faults = run::scenarios::hear_over_others();
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
fn l1_what_was_lost_with_every_disk_that_held_it_is_owed_by_nobody() {
    let faults = run::scenarios::lose_the_only_copy_too();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t4_rules_do_not_wait_for_others_to_be_silent_when_their_past_comes_back() {
    let faults = run::scenarios::recover_while_others_publish();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t1_a_pause_that_could_not_be_sent_does_not_follow_the_resume() {
    let faults = run::scenarios::resume_before_the_pause_was_sent();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn d1_what_a_key_has_signed_counts_though_the_key_ends_while_the_disk_is_lost() {
    let faults = run::scenarios::end_a_key_while_the_disk_is_lost();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn s1_a_fire_is_sealed_under_the_roster_by_which_it_was_let_in() {
    let faults = run::scenarios::withdraw_a_right_before_the_seal();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t1_a_fire_that_burnt_out_before_the_past_was_here_closes_nothing() {
    let faults = run::scenarios::burn_out_while_the_past_comes_back();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn l1_what_a_holder_comes_to_hold_after_it_has_told_all_comes_back() {
    let faults = run::scenarios::come_to_hold_more_after_telling();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn r1_a_node_is_found_that_signs_with_a_key_which_others_hear_of_later() {
    let faults = run::scenarios::learn_of_a_key_after_what_it_signed();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn r1_rosters_reach_those_who_cannot_find_the_only_node_that_has_them() {
    let faults = run::scenarios::keep_the_rosters_from_the_others();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t1_fires_that_come_before_the_packs_are_in_force_close_their_schools_afterwards() {
    let faults = run::scenarios::fail_the_commit_that_puts_packs_in_force();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn t1_a_fire_closes_its_schools_while_etcd_is_away() {
    let faults = run::scenarios::close_schools_without_etcd();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn r1_a_department_that_joins_after_etcd_was_set_back_is_found_by_those_who_had_seen_more() {
    let faults = run::scenarios::set_etcd_back_behind_a_watcher();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for (seed, through) in [1, 2, 3].into_iter().flat_map(|seed| [(seed, Through::Memory), (seed, Through::Etcd)]) {
        let (first, second) = (run(seed, through), run(seed, through));
        let differs = first.lines.iter().zip(&second.lines).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed} differs at event {at}:\n  {}\n  {}", first.lines[at], second.lines[at]);
        }
        assert_eq!(first.lines.len(), second.lines.len(), "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert!(first.lines.len() > 50, "seed {seed} does too little to prove anything");
    }
}
