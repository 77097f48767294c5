//! What the engine and the packs promise, claim by claim.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod desk;

mod packs;
mod persons;
mod replay;
mod shipped;
mod silence;
mod spatial;
mod truth;
