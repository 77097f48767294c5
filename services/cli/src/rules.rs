//! The verbs of policy staff: packs checked offline; rules listed, paused and pre-authorised at a node.

use crate::failure::Answer;
use crate::out::Out;

mod check;
mod desk;

/// The verbs about rules.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Check packs with the data sets beside them, each alone and all against each other
    Check(check::Args),
    /// List the active rules of a node, what waits for persons, and what lives
    List(desk::ListArgs),
    /// Stop a rule before its next evaluation
    Pause(desk::PauseArgs),
    /// Let a paused rule run again
    Resume(desk::ResumeArgs),
    /// Sign a rule's pre-authorisation as the caller
    Envelope(desk::EnvelopeArgs),
}

/// Does what the verb says.
///
/// # Errors
/// When it cannot be done, or the node refuses.
pub async fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Check(args) => check::run(&args, out),
        Verb::List(args) => desk::list(args, out).await,
        Verb::Pause(args) => desk::pause(args, out).await,
        Verb::Resume(args) => desk::resume(args, out).await,
        Verb::Envelope(args) => desk::envelope(args, out).await,
    }
}
