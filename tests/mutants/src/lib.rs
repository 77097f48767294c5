//! Bugs put in on purpose, so that the tests can be tested.
//!
//! A crate of the product that has mutants depends on this one under its feature `mutants`, which only the tests turn
//! on. At each place the product asks [`active`]; the answer is no, unless the process was started with the mutant's
//! name in `CAMPANILE_MUTANT`. The shipped binary is built without the feature and holds neither the question nor the
//! bug.

use std::sync::OnceLock;

/// The variable that names the mutant of this process.
pub const VARIABLE: &str = "CAMPANILE_MUTANT";

/// The mutants there are: what each does wrong.
pub const ALL: &[(&str, &str)] = &[
    ("accept-gap", "a record is appended although records before it are missing"),
    ("skip-chain-check", "a record is appended although it names another hash before it"),
    ("dedup-by-high-watermark", "only the last identity of a store counts as published before"),
    ("merge-ca-bundles", "every department's CA vouches for every department"),
    ("causes-merge-across-worlds", "an exercise cause supports what stands in the real world"),
    ("expiry-is-all-clear", "a cause that is heard of no more counts as over"),
    ("unentitled-blocks-log", "a record without right is refused instead of kept, and its log stands still"),
    ("anyone-may-cancel", "an Update or Cancel is not asked whose alert it is about"),
    ("synchronous-off", "a commit is acknowledged although the disk has not been asked to keep it"),
    ("acknowledge-before-fsync", "a publish is answered before its commit is on the disk"),
    ("position-apart-from-effects", "evaluation is said to have come further than its effects"),
    ("epoch-not-renewed", "a start takes the next number as its epoch, which an earlier life may have had"),
    ("rule-fires-on-replay", "what comes back of our own after a loss is evaluated as if it were new"),
    ("re-encode-on-relay", "a record is decoded and encoded again before it is passed on"),
    ("no-require-leader", "a member of etcd that has lost its leader is watched on as if it had news"),
    ("status-not-read", "a gateway shows a drill on the live board"),
    ("expiry-at-queueing-only", "expiry and end are not looked at again before a hand-over"),
];

/// Whether this process was started with that mutant.
///
/// # Panics
/// When the name is not one of [`ALL`], or the variable names one that is not: a mutant nobody catches must not be a
/// slip of the pen.
pub fn active(name: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let known = |name: &str| ALL.iter().any(|(known, _)| *known == name);
    assert!(known(name), "{name} is no mutant");
    let chosen = CHOSEN.get_or_init(|| {
        let chosen = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        assert!(chosen.as_deref().is_none_or(known), "{VARIABLE} names no mutant");
        chosen
    });
    chosen.as_deref() == Some(name)
}
