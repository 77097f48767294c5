//! The harness of the tests: whole federations in one process ([`cluster`]) and as processes ([`process`]), and the
//! shared data that some tests need ([`shared`]).

pub mod cluster;
pub mod process;
pub mod shared;
