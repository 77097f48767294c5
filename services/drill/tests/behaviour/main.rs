//! What a drill does, seen from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say by it what they need"
)]

mod chance;
mod day;
mod format;
mod gallery;
mod import;
mod record;
mod report;
mod shipped;
mod story;
