//! The verbs of policy staff: packs checked, tested and compared offline; rules listed, paused and pre-authorised at a node.

use crate::failure::{Answer, Verdict};
use crate::out::Out;

mod activate;
mod approve;
mod backtest;
mod check;
mod desk;
mod explain;
mod graph;
mod lint;
mod load;
mod replay;
mod rollback;
mod shadow;
mod test;
mod what_if;

pub(crate) use lint::Found;

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
    /// Show the packs in force, in shadow, and waiting for a second officer
    Packs(activate::PacksArgs),
    /// Agree that a pack be activated; the second person's yes puts it in force
    Activate(activate::Args),
    /// Agree to a pack that waits
    Approve(approve::Args),
    /// Put the pack before it in force again
    Rollback(rollback::Args),
    /// Evaluate a pack beside those in force; it issues nothing
    Shadow(shadow::Args),
    /// Show what can trigger what in the whole federation
    Graph(graph::Args),
    /// Say why an alert or effect led to something, or what stopped each rule
    Explain(explain::Args),
    /// Say what an alert would lead to; nothing is stored or sent
    WhatIf(what_if::Args),
    /// Decide again what an effect's record says was decided; exit 1 unless the same bytes come out
    Replay(replay::Args),
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
        Verb::Packs(args) => activate::packs(args, out).await,
        Verb::Activate(args) => activate::run(args, out).await,
        Verb::Approve(args) => approve::run(args, out).await,
        Verb::Rollback(args) => rollback::run(args, out).await,
        Verb::Shadow(args) => shadow::run(args, out).await,
        Verb::Graph(args) => graph::run(args, out).await,
        Verb::Explain(args) => explain::run(args, out).await,
        Verb::WhatIf(args) => what_if::run(args, out).await,
        Verb::Replay(args) => replay::run(args, out).await,
    }
}
