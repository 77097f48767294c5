//! The targets, by what they decode.

pub mod bundle;
pub mod hko;
pub mod record;
pub mod rules;
pub mod trust;
pub mod xml;
