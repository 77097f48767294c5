//! Fuzz targets: one for each decoder that strangers' bytes reach.
//!
//! A target takes any bytes and must come back. It does not only look for panics: where a decoder promises something
//! (what is written reads back the same, nothing unsigned counts), the target asserts it. The same functions run under
//! libFuzzer (`tests/fuzz/run`) and, over the seeds and some thousand changes of them, as a plain test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod federation;
pub mod mutate;
pub mod seeds;
pub mod targets;

/// A fuzz target by name.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, as `tests/fuzz/run` takes it.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Bytes that lead deep into the decoder.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "cap", run: targets::xml::document, seeds: seeds::cap },
    Target { name: "atom", run: targets::xml::document, seeds: seeds::atom },
    Target { name: "edxl", run: targets::xml::document, seeds: seeds::edxl },
    Target { name: "alert", run: targets::record::alert, seeds: seeds::alert },
    Target { name: "frame", run: targets::record::frame, seeds: seeds::frame },
    Target { name: "record", run: targets::record::record, seeds: seeds::record },
    Target { name: "judge", run: targets::record::judge, seeds: seeds::record },
    Target { name: "roster", run: targets::trust::roster, seeds: seeds::roster },
    Target { name: "envelope", run: targets::trust::envelope, seeds: seeds::envelope },
    Target { name: "certificate", run: targets::trust::certificate, seeds: seeds::certificate },
    Target { name: "pack", run: targets::rules::pack, seeds: seeds::pack },
    Target { name: "data", run: targets::rules::data, seeds: seeds::data },
    Target { name: "mapping", run: targets::rules::mapping, seeds: seeds::mapping },
    Target { name: "hko", run: targets::hko::snapshot, seeds: seeds::hko },
    Target { name: "bundle", run: targets::bundle::bundle, seeds: seeds::bundle },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
