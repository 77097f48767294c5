//! Every target over its seeds and some thousand changes of them, the same at every run: what a commit may not break.
//!
//! `CAMPANILE_SEED` chooses other changes, `CAMPANILE_FUZZ_CHANGES` another number of them for each target. A finding is
//! printed with both, and written to the temporary folder for `tests/fuzz/run --replay`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use campanile_fuzz::mutate::mutate;
use campanile_fuzz::{TARGETS, target};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The longest input.
const BYTES_MAX: usize = 32 << 10;
/// What one input may take in a build without optimisation, on a machine that has other work.
const SLOW: Duration = Duration::from_secs(5);

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn changes(name: &str, share: u64) {
    let target = target(name).unwrap();
    let (seed, count) = (number("CAMPANILE_SEED", 7), number("CAMPANILE_FUZZ_CHANGES", 2_000) / share);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut inputs = seeds.len();
    seeds.iter().for_each(|bytes| once(name, bytes, seed));
    for _ in 0..count {
        let one = &seeds[rng.random_range(0..seeds.len())];
        let other = &seeds[rng.random_range(0..seeds.len())];
        once(name, &mutate(&mut rng, one, other, BYTES_MAX), seed);
        inputs += 1;
    }
    println!("{name}: {inputs} inputs, CAMPANILE_SEED={seed}");
}

fn once(name: &str, bytes: &[u8], seed: u64) {
    let run = target(name).unwrap().run;
    let begun = Instant::now();
    let end = std::panic::catch_unwind(AssertUnwindSafe(|| run(bytes)));
    let took = begun.elapsed();
    if end.is_err() || took > SLOW {
        let path = std::env::temp_dir().join(format!("campanile-fuzz-{name}-{seed}"));
        std::fs::write(&path, bytes).unwrap();
        panic!("CAMPANILE_SEED={seed}: after {took:?}; `tests/fuzz/run --replay {name} {}`", path.display());
    }
}

/// One test a target, so that they share the cores, and the report names the one that fails.
macro_rules! targets {
    ($($test:ident $name:literal $share:literal),* $(,)?) => {
        $(#[test] fn $test() { changes($name, $share); })*

        #[test]
        fn every_target_is_run_here() {
            let here = [$($name),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, here);
        }
    };
}

targets! {
    c1_cap_in_any_shape_reads_back_as_it_was_written "cap" 2,
    c1_atom_in_any_shape_reads_back_as_it_was_written "atom" 2,
    c1_edxl_in_any_shape_reads_back_as_it_was_written "edxl" 2,
    c1_an_alert_on_the_wire_is_the_same_in_xml "alert" 2,
    any_frame_of_a_peer_or_client_is_taken_or_refused "frame" 1,
    any_body_under_a_header_that_fits_it_is_taken_or_refused "record" 1,
    s1_nothing_counts_that_its_author_has_not_signed "judge" 1,
    a_roster_that_governance_was_misled_to_sign_is_sound_or_refused "roster" 1,
    s1_no_envelope_passes_without_the_key_that_must_sign_it "envelope" 1,
    any_certificate_or_key_is_read_or_refused "certificate" 1,
    any_pack_is_taken_or_refused_with_a_reason "pack" 4,
    any_data_set_is_taken_or_refused "data" 1,
    any_mapping_table_is_taken_or_refused "mapping" 2,
    whatever_the_observatory_says_becomes_valid_cap "hko" 1,
    l2_a_bundle_that_passes_holds_records_that_open "bundle" 1,
}

#[test]
fn the_judge_counts_the_records_that_were_not_changed() {
    // Without this, a judge that refuses everything would pass.
    use campanile_bus::verify::{Source, Verdict};
    use campanile_fuzz::federation::{VERIFIER, log, records};
    let counted = records().into_iter().filter(|record| match VERIFIER.judge(&log(), record, Source::Origin) {
        Verdict::Append(checked) => checked.replica.standing == campanile_log::Standing::Counted,
        verdict => panic!("{verdict:?}"),
    });
    assert!(counted.count() >= 3);
}
