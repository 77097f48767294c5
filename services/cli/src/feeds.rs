//! `source`: feeds in. The sources themselves are in [`crate::source`]; here they are joined to a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use campanile_alert::classify::MappingTable;
use campanile_alert::{ExerciseId, Status, xml};
use campanile_client::{Client, Publish};
use campanile_discovery::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::connect::Connect;
use crate::failure::{Answer, Next as _, Verdict};
use crate::files;
use crate::out::Out;
use crate::source::cap::{CapSource, Place};
use crate::source::hko::{Config, Fetch, HkoSource};
use crate::source::{
    Http, Publication, PublishError, Published, Runner, Source, StateFile, Step, Timing, run as run_loop,
};

/// The sources.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// The Hong Kong Observatory's warnings, from its open data or a folder of recorded files
    Hko(Hko),
    /// A feed of CAP messages: Atom, RSS, EDXL-DE or one message
    Cap(Cap),
}

/// What `source hko` takes.
#[derive(Debug, clap::Args)]
pub struct Hko {
    /// The open data's address, up to weather.php
    #[arg(long, default_value = Fetch::HKO, conflicts_with = "folder")]
    url: String,
    /// A folder of recorded files instead
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How warnings become alerts; deploy/sources/hko.yaml shows the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What `source cap` takes.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Cap {
    /// The feed's address
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    url: Option<String>,
    /// A file instead, which another program writes over
    #[arg(long)]
    file: Option<PathBuf>,
    /// The mapping table of the source; the node must have loaded the same
    #[arg(long, value_name = "FILE")]
    mapping: PathBuf,
    /// The exercise that its Exercise messages belong to
    #[arg(long, value_name = "ID", value_parser = crate::alert::exercise)]
    exercise: Option<ExerciseId>,
    #[command(flatten)]
    common: Common,
}

/// What every source takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Where it keeps what it has seen, so that a restart neither repeats nor loses a message
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Seconds from one poll to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Poll once and end: exit code 1 when the source is stale or a message was not taken
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Runs a source until Ctrl-C, or once.
///
/// # Errors
/// When an argument or a file is not right, or the node cannot be reached at the start.
pub async fn run(verb: Verb, out: Out) -> Answer {
    let http = || Http::try_new().next("this is a fault of the program; report it");
    match verb {
        Verb::Hko(args) => {
            let config: Config = match &args.config {
                Some(path) => serde_saphyr::from_str(&files::read_text(path)?)
                    .map_err(|error| anyhow::anyhow!("{}", error.without_snippet()))
                    .with_context(|| format!("{} does not configure this source", path.display()))
                    .next("see deploy/sources/hko.yaml for what it may hold")?,
                None => Config::default(),
            };
            let fetch = match args.folder {
                Some(folder) => Fetch::Folder(folder),
                None => Fetch::url(&args.url, http()?)?,
            };
            let exercise = config.exercise.clone();
            drive(HkoSource::new(config, fetch), exercise, args.common, out).await
        }
        Verb::Cap(args) => {
            let table = MappingTable::parse(&files::read_text(&args.mapping)?)
                .with_context(|| format!("{} is no mapping table", args.mapping.display()))
                .next("see deploy/sources/nsw-rfs.mapping.yaml for one")?;
            let place = match (args.file, args.url) {
                (Some(file), _) => Place::File(file),
                (None, url) => Place::url(&url.unwrap_or_default(), http()?)?,
            };
            drive(CapSource::new(place, table), args.exercise, args.common, out).await
        }
    }
}

async fn drive<S: Source>(source: S, exercise: Option<ExerciseId>, args: Common, out: Out) -> Answer {
    let client = args.connect.client().await?;
    let file = args.state.map_or_else(StateFile::none, StateFile::at);
    let timing = Timing { interval: Duration::from_secs(args.interval), ..Timing::default() };
    let mut runner = Runner::open(source, file, timing)?;
    let mut publish = move |publication: Publication| publish(client.clone(), exercise.clone(), publication);
    let clock = Arc::new(SystemClock);
    if args.once {
        let step = runner.step(&*clock, &mut publish).await?;
        tell(&step, out);
        return Ok(Verdict::of(step.refused.is_empty() && step.waiting == 0 && !step.health.is_stale()));
    }
    let stop = CancellationToken::new();
    let watching = stop.clone();
    let ctrl_c = tokio::spawn(async move {
        // Where Ctrl-C cannot be heard, the process is ended from outside, which loses nothing.
        if tokio::signal::ctrl_c().await.is_ok() {
            watching.cancel();
        }
    });
    let ended = run_loop(runner, clock, publish, |step| tell(step, out), stop).await;
    ctrl_c.abort();
    ended?;
    Ok(Verdict::Passed)
}

/// Hands one message to the node.
async fn publish(
    client: Client,
    exercise: Option<ExerciseId>,
    publication: Publication,
) -> Result<Published, PublishError> {
    let (status, mut what) = match publication {
        Publication::Alert(alert) => (Some(alert.status), Publish::alert(&alert)),
        Publication::CapXml { bytes, source, .. } => (status_of(&bytes), Publish::cap_xml(bytes).source(source)),
    };
    // An exercise is named for its own messages alone: the node refuses an Actual one that names it.
    if let Some(exercise) = exercise.filter(|_| status == Some(Status::Exercise)) {
        what = what.exercise(&exercise);
    }
    match client.publish(&what).await {
        Ok(done) => Ok(Published { id: done.id, position: done.position.to_string(), duplicate: done.duplicate }),
        Err(error) if error.may_repeat() => Err(PublishError::Retryable(error.to_string())),
        Err(error) => Err(PublishError::Terminal(error.to_string())),
    }
}

/// The status of a message in XML; `None` when it cannot be read, which the node will say.
fn status_of(bytes: &[u8]) -> Option<Status> {
    let document = xml::read(bytes, &xml::Limits::default()).ok()?;
    Some(document.messages.first()?.result.as_ref().ok()?.status)
}

/// Prints what a round did, when it did something.
fn tell(step: &Step, out: Out) {
    let told = match out.is_json() {
        true => out.item(step),
        false => step.published.iter().try_for_each(|done| {
            let again = if done.duplicate { ", as before" } else { "" };
            out.line(format!("published {} at {}{again}", done.id, done.position))
        }),
    };
    // The messages are on the bus all the same; a closed stdout must not stop a source.
    drop(told);
    for (id, reason) in &step.refused {
        out.note(format!("refused {id}: {reason}"));
    }
    if step.waiting > 0 {
        out.note(format!("{} messages wait for the node", step.waiting));
    }
    if let crate::source::Health::Stale { since, reason } = &step.health {
        out.note(format!("the source is stale since {since}: {reason}"));
    }
}
