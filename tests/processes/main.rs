//! Claims about whole federations of real processes: killed, frozen, cut off from etcd, joined by a newcomer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod drill;
mod etcd;
mod flood;
mod kill;
mod rotation;

/// The program of a member.
const PROGRAM: &str = env!("CARGO_BIN_EXE_campanile-member");
