//! What the federation promises, shown on whole federations in one process. One file a group of claims.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod activation;
mod adversary;
mod asked;
mod drills;
mod forged;
mod hk_fires;
mod real_input;
mod refusals;
mod setting;
mod stories;
mod worlds;
