//! Claims about the shipped programs under chaos: bad networks, lossy disks, jumping clocks, damaged files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod clock;
mod damage;
mod disks;
mod load;
mod lossy;
mod netns;
mod network;
mod proxy;
mod town;

/// The program of a member.
const PROGRAM: &str = env!("CARGO_BIN_EXE_campanile-member");
const FSD: &str = "fsd/node-1";
const EDB: &str = "edb/node-1";
