//! Malicious peers and clients over real mutual TLS, regressions of what they once could do, and the threat table.
//!
//! What the stories of `tests/e2e` already prove is not proven again here; `deploy/SECURITY.md` says where each threat is
//! met, and [`table`] checks that every test it names exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod alone;
mod author;
mod crowd;
mod door;
mod liar;
mod memory;
mod relay;
mod restore;
#[path = "../e2e/setting.rs"]
#[allow(dead_code, reason = "the stories need more of it")]
mod setting;
mod table;
mod words;
