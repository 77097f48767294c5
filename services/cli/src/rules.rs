//! The verbs of policy staff: packs checked, tested and compared offline; rules listed, paused and pre-authorised at a node.

use crate::failure::{Answer, Verdict};
use crate::out::Out;

mod backtest;
mod check;
mod desk;
mod lint;
mod load;
mod test;

/// The verbs about rules.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Check packs with the data sets beside them, each alone and all against each other
    Check(check::Args),
    /// Find everything that is wrong with packs, with the tests and data beside them
    Lint(lint::Args),
    /// Run the tests beside packs
    Test(test::Args),
    /// Print the JSON Schema of a pack, so that an editor completes and checks it
    Schema,
    /// Play past alerts through packs and say what they would have sent
    Backtest(backtest::BacktestArgs),
    /// Say what a change of a pack means
    Diff(backtest::DiffArgs),
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
        Verb::Lint(args) => lint::run(&args, out),
        Verb::Test(args) => test::run(&args, out).await,
        Verb::Schema => {
            out.document(&campanile_rules::schema::pack())?;
            Ok(Verdict::Passed)
        }
        Verb::Backtest(args) => backtest::backtest(&args, out),
        Verb::Diff(args) => backtest::diff(&args, out),
        Verb::List(args) => desk::list(args, out).await,
        Verb::Pause(args) => desk::pause(args, out).await,
        Verb::Resume(args) => desk::resume(args, out).await,
        Verb::Envelope(args) => desk::envelope(args, out).await,
    }
}
