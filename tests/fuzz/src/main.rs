//! The program that libFuzzer drives. `CAMPANILE_FUZZ` names the target.
#![no_main]
#![allow(clippy::panic, reason = "libFuzzer has no other way to say that it was called wrongly")]

use std::sync::LazyLock;

static TARGET: LazyLock<&'static campanile_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("CAMPANILE_FUZZ").unwrap_or_default();
    let names: Vec<&str> = campanile_fuzz::TARGETS.iter().map(|target| target.name).collect();
    campanile_fuzz::target(&name).unwrap_or_else(|| panic!("CAMPANILE_FUZZ={name:?} is none of {}", names.join(", ")))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
