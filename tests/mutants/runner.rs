//! Every bug put in on purpose is caught: the catching test passes without it and fails with it.
//!
//! The test programs are those that were built beside this one; each runs as a process of its own, with the mutant's
//! name in its environment. What a mutant does wrong stands in the crate `campanile-mutants`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a catching test may take; with a mutant, hanging is a way to fail, and need not be watched for so long.
const WITHIN: Duration = Duration::from_secs(120);
const WITH_MUTANT_WITHIN: Duration = Duration::from_secs(45);

/// The mutant, the test program, the test in it, and the seed when it has one.
const CAUGHT_BY: &[(&str, &str, &str, Option<&str>)] = &[
    ("accept-gap", "campanile_log", "sqlite::tests::replicas_follow_their_chain", None),
    ("skip-chain-check", "campanile_log", "memory::tests::replicas_follow_their_chain", None),
    ("dedup-by-high-watermark", "campanile_log", "sqlite::tests::replicas_register_keys", None),
    ("merge-ca-bundles", "trust", "s2_a_departments_ca_vouches_for_no_other", None),
    ("causes-merge-across-worlds", "behaviour", "replay::no_effect_rests_on_a_cause_of_another_world", None),
    (
        "expiry-is-all-clear",
        "behaviour",
        "truth::a_cause_that_expires_unrenewed_reopens_nothing_and_goes_to_review",
        None,
    ),
    (
        "unentitled-blocks-log",
        "e2e",
        "adversary::a_lying_origin_is_kept_marked_and_ignored_and_its_next_true_record_counts",
        None,
    ),
    (
        "expiry-at-queueing-only",
        "campanile_gateway",
        "dispatch::tests::g1_nothing_is_sent_after_a_known_cancel_or_after_expiry",
        None,
    ),
    ("acknowledge-before-fsync", "simulation", "l1_a_fire_whose_commit_fails_is_not_acknowledged", None),
    ("epoch-not-renewed", "simulation", "l3_a_node_set_back_by_a_start_uses_no_position_twice", None),
    (
        "rule-fires-on-replay",
        "simulation",
        "t1_t4_rules_whose_disk_is_gone_close_nothing_twice_and_manage_what_they_had_closed",
        None,
    ),
    ("position-apart-from-effects", "simulation", "t1_a_crash_between_a_fire_and_its_effects_loses_none", None),
    ("synchronous-off", "chaos", "disks::l1_l2_t1_power_cuts_lose_nothing_acknowledged_and_leave_no_half_effect", None),
    (
        "re-encode-on-relay",
        "adversaries",
        "relay::r1_a_record_in_a_newer_schema_goes_through_an_older_relay_bit_for_bit",
        None,
    ),
    ("no-require-leader", "etcd", "a_watch_at_a_member_without_a_leader_is_given_up_and_nobody_is_forgotten", None),
    ("anyone-may-cancel", "e2e", "refusals::another_departments_alert_is_not_ones_own_to_cancel_or_update", None),
    ("status-not-read", "campanile_gateway", "board::tests::t3_an_exercise_has_a_board_of_its_own_or_none", None),
];

/// The newest test program of that name beside this one that has the test; several crates may use a name.
fn program(name: &str, test: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let beside = std::fs::read_dir(own.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let stem = path.file_name().and_then(|file| file.to_str()).and_then(|file| file.rsplit_once('-'));
        path.extension().is_none() && stem.is_some_and(|(stem, _)| stem == name)
    };
    let mut programs: Vec<PathBuf> = beside.filter(is_it).collect();
    programs.sort_by_key(|path| std::cmp::Reverse(path.metadata().and_then(|meta| meta.modified()).ok()));
    let has_it = |path: &PathBuf| {
        let listed = Command::new(path).args(["--list", "--format=terse"]).stderr(Stdio::null()).output();
        listed.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).lines().any(|line| line.strip_suffix(": test") == Some(test))
        })
    };
    programs.into_iter().find(has_it).unwrap_or_else(|| {
        panic!("no test program {name} with {test} is built; build all tests with `cargo nextest run --workspace`")
    })
}

/// Whether a test passes with a mutant, or without one.
fn passes(program: &Path, test: &str, seed: Option<&str>, mutant: Option<&str>) -> bool {
    let mut command = Command::new(program);
    command.args(["--exact", test, "--test-threads=1"]).stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(Stdio::piped()).env(campanile_mutants::VARIABLE, mutant.unwrap_or_default());
    if let Some(seed) = seed {
        command.env("CAMPANILE_SEED", seed);
    }
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + if mutant.is_some() { WITH_MUTANT_WITHIN } else { WITHIN };
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let told = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    // A name that has gone would pass by running nothing.
    assert!(
        mutant.is_some() || told.contains("1 passed"),
        "{}: no test {test}, or it does not pass",
        program.display()
    );
    status.success()
}

#[test]
fn every_mutant_is_caught() {
    let listed: BTreeSet<&str> = campanile_mutants::ALL.iter().map(|(name, _)| *name).collect();
    let caught: BTreeSet<&str> = CAUGHT_BY.iter().map(|(mutant, ..)| *mutant).collect();
    assert_eq!(listed, caught, "each mutant has its catching test");
    let mut escaped = Vec::new();
    println!("{:<28} {:<22} caught by", "mutant", "program");
    for (mutant, name, test, seed) in CAUGHT_BY {
        let program = program(name, test);
        assert!(passes(&program, test, *seed, None), "{test} fails without a mutant");
        println!("{mutant:<28} {name:<22} {test}{}", seed.map(|seed| format!(" seed {seed}")).unwrap_or_default());
        if passes(&program, test, *seed, Some(mutant)) {
            escaped.push(mutant);
        }
    }
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
}
