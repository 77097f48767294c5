//! The rules of a department: packs in YAML, the checker that reads them, and the engine that evaluates them.
//!
//! Everything here is pure. Records, ticks, approvals, data sets and packs are arguments; nothing reads a clock, a file,
//! the network or a random source, so the same inputs give the same bytes on every node and in every replay.
//!
//! Read in this order: [`Input`] (what comes in), [`Outcome`] (what goes out), [`Pack`] (what a rule is), [`DataSet`]
//! (its targets), [`Engine`] (how it decides), [`check_federation`] (why every cascade ends).

pub mod calendar;
mod check;
pub mod compare;
pub mod condition;
mod cycles;
mod data;
mod decision;
mod diagnostic;
mod document;
mod effect;
mod engine;
mod hexed;
pub mod history;
mod input;
pub mod lint;
mod pack;
pub mod schema;
pub mod short;
pub mod table;
pub mod trial;
mod view;

pub use campanile_alert::Classification;
pub use check::Files;
pub use cycles::{Fault, Manifest, ManifestCause, ManifestRule, check_federation};
pub use data::{DataSet, DataSets, Error as DataError, Format, RowSpec, Site};
pub use decision::{Decision, Sentence, Verdict};
pub use diagnostic::{Diagnostic, Gravity, Refusal, nearest, unreadable};
pub use effect::{Cause, Effect, EffectKey, Outcome, RuleRef, StateRow};
pub use engine::{AT_ONCE, Engine, Error, Issued, Options};
pub use input::{Answer, Approval, Envelope, Input, InputKind, Signer};
pub use pack::{
    Absent, AfterLinger, Approve, CauseMatch, ColumnMatch, Conflict, DataRef, EnvelopeRule, Escalation, IfSilent,
    Limit, NamedArea, Pack, Pick, Rule, Silence, Source, Suppression, Text, Then, Until, Validity,
};
pub use view::{Live, Pending, Review, Standing};

/// The greatest depth of an effect: at most four rules may stand behind a message.
pub const DEPTH_MAX: u32 = 4;

/// The most causes that one message names; their number is always given.
pub const CAUSES_MAX: usize = 32;

#[cfg(feature = "mutants")]
use campanile_mutants::active as mutant;

/// Whether a bug is put in on purpose; never outside the tests.
#[cfg(not(feature = "mutants"))]
const fn mutant(_name: &str) -> bool {
    false
}
