//! placeholder

pub mod source;
