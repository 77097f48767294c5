//! The verbs of drill controllers: a scenario checked, played in virtual time, and judged.

use crate::failure::Answer;
use crate::out::Out;

mod check;
mod import;
mod live;
mod load;
mod record;
mod report;
mod run;
mod socket;
mod steer;
mod watch;

/// The verbs about drills.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Find everything that is wrong with scenarios, before anything is started
    Check(check::Args),
    /// Play a scenario and judge it: with its variants in virtual time, or with --live against running nodes
    Run(run::Args),
    /// Announce an exercise in the directory; a live drill begins only where it is announced
    Announce(steer::Announce),
    /// Let the clock of a live drill stand still
    Pause(steer::Who),
    /// Let it go on
    Resume(steer::Who),
    /// Bring an inject about now
    Inject(steer::Inject),
    /// Say for a player that a message of the controllers was seen
    Ack(steer::Inject),
    /// Give an expectation the mark of its observer
    Mark(steer::Mark),
    /// Say how a live drill stands
    Status(steer::Who),
    /// Call a drill off and cancel everything of it, also after its run was killed
    Abort(steer::Abort),
    /// Write what a run came to, for the hot wash and for a build server
    Report(report::Args),
    /// Make a scenario of a list of injects in XLSX or CSV
    Import(import::Args),
    /// Make a scenario of a window of real logs, without persons
    Record(record::Args),
}

/// Does what the verb says.
///
/// # Errors
/// When it cannot be done.
pub async fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Check(args) => check::run(&args, out),
        Verb::Run(args) => run::run(&args, out).await,
        Verb::Announce(args) => steer::announce(args, out).await,
        Verb::Pause(who) => steer::pause(who, out).await,
        Verb::Resume(who) => steer::resume(who, out).await,
        Verb::Inject(args) => steer::inject(args, out).await,
        Verb::Ack(args) => steer::ack(args, out).await,
        Verb::Mark(args) => steer::mark(args, out).await,
        Verb::Status(who) => steer::status(who, out).await,
        Verb::Abort(args) => steer::abort(args, out).await,
        Verb::Report(args) => report::run(&args, out),
        Verb::Import(args) => import::run(&args, out),
        Verb::Record(args) => record::run(&args, out),
    }
}
