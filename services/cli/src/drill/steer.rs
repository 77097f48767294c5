//! What controllers, players and observers say to a live drill from another terminal, and how an exercise is announced.

use std::path::PathBuf;
use std::time::Duration;

use campanile_alert::{Clock as _, ExerciseId};
use campanile_discovery::SystemClock;
use campanile_drill::live::{self, Command};

use super::live::{RunFile, crew, folder_of, length};
use super::socket::{self, Answer as Told};
use crate::alert::exercise;
use crate::connect::Connect;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

/// Which run, and who speaks.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// The exercise
    #[arg(value_name = "EXERCISE", value_parser = exercise)]
    exercise: ExerciseId,
    /// Who says it: a controller of the scenario
    #[arg(long = "as", value_name = "ROLE")]
    by: String,
    /// The folder of the run; `drill-EXERCISE` when it is not given
    #[arg(long, value_name = "FOLDER")]
    run_dir: Option<PathBuf>,
}

/// An inject, now.
#[derive(Debug, clap::Args)]
pub struct Inject {
    /// The inject
    #[arg(value_name = "INJECT")]
    id: String,
    #[command(flatten)]
    who: Who,
}

/// A mark for an expectation.
#[derive(Debug, clap::Args)]
pub struct Mark {
    /// The expectation
    #[arg(value_name = "EXPECTATION")]
    expectation: String,
    /// The mark, on the expectation's scale
    #[arg(value_name = "MARK")]
    mark: u32,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    remark: String,
    #[command(flatten)]
    who: Who,
}

/// A drill to be called off, running or not.
#[derive(Debug, clap::Args)]
pub struct Abort {
    #[command(flatten)]
    who: Who,
    /// The cast file, when the folder of the run is lost
    #[arg(long, value_name = "FILE")]
    cast: Option<PathBuf>,
}

/// An exercise to be announced.
#[derive(Debug, clap::Args)]
pub struct Announce {
    /// The exercise
    #[arg(value_name = "EXERCISE", value_parser = exercise)]
    exercise: ExerciseId,
    /// For how long from now; 0s takes it back
    #[arg(long = "for", value_name = "LENGTH", default_value = "8h", value_parser = length)]
    lasts: Duration,
    #[command(flatten)]
    connect: Connect,
}

/// The clock stands still.
pub(super) async fn pause(who: Who, out: Out) -> Answer {
    let command = Command::Pause { by: who.by.clone() };
    say(&who, command, out).await
}

/// It goes on.
pub(super) async fn resume(who: Who, out: Out) -> Answer {
    let command = Command::Resume { by: who.by.clone() };
    say(&who, command, out).await
}

/// An inject comes now.
pub(super) async fn inject(args: Inject, out: Out) -> Answer {
    let command = Command::Inject { by: args.who.by.clone(), id: args.id };
    say(&args.who, command, out).await
}

/// A player has seen a message of the controllers.
pub(super) async fn ack(args: Inject, out: Out) -> Answer {
    let command = Command::Ack { by: args.who.by.clone(), inject: args.id };
    say(&args.who, command, out).await
}

/// An observer judges.
pub(super) async fn mark(args: Mark, out: Out) -> Answer {
    let by = args.who.by.clone();
    let command = Command::Judge { by, expectation: args.expectation, mark: args.mark, remark: args.remark };
    say(&args.who, command, out).await
}

/// How it stands.
pub(super) async fn status(who: Who, out: Out) -> Answer {
    say(&who, Command::Status, out).await
}

async fn say(who: &Who, command: Command, out: Out) -> Answer {
    let folder = who.run_dir.clone().unwrap_or_else(|| folder_of(&who.exercise));
    match socket::tell(&folder, &command).await? {
        Some(answer) => told(answer, out),
        None => Err(failure(
            format!("no drill runs in {}", folder.display()),
            "name the folder of the run with --run-dir; it is on the machine that runs it",
        )),
    }
}

fn told(answer: Told, out: Out) -> Answer {
    match answer {
        Told::Done(done) => out.line(done).map(|()| Verdict::Passed),
        Told::Refused(why) => {
            out.note(why);
            Ok(Verdict::Failed)
        }
    }
}

/// Calls a drill off; where none runs any more, clears up what it left in force.
pub(super) async fn abort(args: Abort, out: Out) -> Answer {
    let who = &args.who;
    let folder = who.run_dir.clone().unwrap_or_else(|| folder_of(&who.exercise));
    // A run that does not answer is taken for dead: what it has in force is cancelled all the same.
    if let Ok(Some(answer)) = socket::tell(&folder, &Command::Abort { by: who.by.clone() }).await {
        return told(answer, out);
    }
    let cast = match args.cast {
        Some(cast) => cast,
        None => {
            let bytes = files::read(&folder.join("run.json"))
                .next("name the folder of the run with --run-dir, or the cast file with --cast")?;
            let run: RunFile = serde_json::from_slice(&bytes).next("name the cast file with --cast")?;
            if run.exercise != who.exercise {
                let what = format!("{} is the run of {}", folder.display(), run.exercise);
                return Err(failure(what, "name the folder of the run with --run-dir"));
            }
            run.cast
        }
    };
    let crew = crew(&cast, false).await?;
    let reason = format!("exercise {} was called off by {}", who.exercise, who.by);
    let cleared = live::clear(&crew, &who.exercise, &reason).await;
    out.show(&cleared, |cleared| {
        let mut lines = vec![format!("{} messages of {} were cancelled", cleared.cancelled, who.exercise)];
        lines.extend(cleared.left.iter().map(|left| format!("LEFT: {left}")));
        lines
    })?;
    Ok(Verdict::of(cleared.left.is_empty()))
}

/// Announces an exercise in the directory of a node.
pub(super) async fn announce(args: Announce, out: Out) -> Answer {
    let until = SystemClock.now().checked_add(args.lasts).next("give a shorter time with --for")?;
    let announced = args.connect.client().await?.announce_exercise(&args.exercise, until).await?;
    out.show(&announced, |announced| match announced.is_empty() {
        true => vec!["no exercise is announced".into()],
        false => announced.iter().map(|one| format!("{} until {} by {}", one.exercise, one.until, one.by)).collect(),
    })?;
    Ok(Verdict::Passed)
}
