//! The verbs of drill controllers: a scenario checked, played in virtual time, and judged.

use crate::failure::Answer;
use crate::out::Out;

mod check;
mod load;
mod run;

/// The verbs about drills.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Find everything that is wrong with scenarios, before anything is started
    Check(check::Args),
    /// Play a scenario and its variants in virtual time, and judge them
    Run(run::Args),
}

/// Does what the verb says.
///
/// # Errors
/// When it cannot be done.
pub async fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Check(args) => check::run(&args, out),
        Verb::Run(args) => run::run(&args, out),
    }
}
