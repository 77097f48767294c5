//! Claims about a node as its callers meet it: what it tells of one fire's way, and what it says to clients that no one
//! here wrote and to input that makes no sense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod buf;
mod nonsense;
mod python;
mod setting;
mod way;
