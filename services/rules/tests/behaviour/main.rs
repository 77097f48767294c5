//! What the engine and the packs promise, claim by claim.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod desk;

mod gallery;
mod order;
mod packs;
mod past;
mod persons;
mod replay;
mod returned;
mod schema;
mod shipped;
mod silence;
mod spatial;
mod truth;
