//! `drill run --live`: a scenario against running nodes, with people.
//!
//! A cast file says how to reach whom; every path is a profile as `pki init` writes one, relative to the cast file:
//! ```yaml
//! nodes: {fsd: clients/fsd/dispatch/profile.yaml, edb: clients/edb/directorate-1/profile.yaml}
//! players: {edb.duty-officer: clients/edb/duty-officer-1/profile.yaml}   # only for --players virtual
//! ```
//! The run has a folder of its own, which only its owner may enter: `control.sock` takes the words of controllers,
//! `run.json` tells a later `drill abort` whom to ask when the run itself was killed, and `transcript.jsonl` grows as the
//! drill does.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use campanile_alert::{DepartmentId, ExerciseId};
use campanile_discovery::SystemClock;
use campanile_drill::Scenario;
use campanile_drill::live::{self, Command, Crew, Line, Options, Played, Request};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::socket;
use super::watch::Watch;
use crate::connect::{Connect, open_roster};
use crate::failure::{Next as _, failure};
use crate::files;
use crate::out::{Out, harmless};

/// How many words of controllers may wait.
const REQUESTS_MAX: usize = 64;

/// What `drill run` takes for a live run.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Against running nodes")]
pub(super) struct LiveArgs {
    /// Play it against running nodes
    #[arg(long, requires = "cast")]
    pub(super) live: bool,
    /// How to reach whom: a file with a profile for each node, and for each player that is a script
    #[arg(long, value_name = "FILE", requires = "live")]
    cast: Option<PathBuf>,
    /// How many times as fast as the clock the drill's time passes; timers of nodes do not follow it
    #[arg(long, value_name = "1-1000", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    speed: u32,
    /// Who plays: people by themselves, or their scripts with their certificates
    #[arg(long, value_enum, default_value_t = Players::People)]
    players: Players,
    /// What becomes of faults that this program cannot bring about
    #[arg(long, value_enum, default_value_t = Faults::Refuse)]
    faults: Faults,
    /// The folder of the run; `drill-EXERCISE` when it is not given
    #[arg(long, value_name = "FOLDER")]
    run_dir: Option<PathBuf>,
    /// How long a drill that has stopped itself waits for `drill resume` before it ends
    #[arg(long, value_name = "LENGTH", default_value = "0s", value_parser = length)]
    frozen_wait: Duration,
    /// Show the drill as a timeline that fills the terminal while it runs
    #[arg(long, requires = "live")]
    watch: bool,
}

/// Who plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Players {
    /// People, with the usual commands.
    #[default]
    People,
    /// Their scripts.
    Virtual,
}

/// What becomes of faults that this program cannot bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Faults {
    /// The drill does not begin.
    #[default]
    Refuse,
    /// Controllers are told when to do what.
    ByHand,
}

/// A cast file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CastFile {
    /// A profile for each department's node.
    nodes: BTreeMap<String, PathBuf>,
    /// A profile for each role.
    #[serde(default)]
    players: BTreeMap<String, PathBuf>,
}

/// What stands in `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RunFile {
    /// The exercise.
    pub(super) exercise: ExerciseId,
    /// The cast file, absolute.
    pub(super) cast: PathBuf,
}

/// Plays a scenario against running nodes; `text` is the scenario as it was written, and is kept for the report.
///
/// # Errors
/// When somebody cannot be reached, the folder cannot be used, or a guard does not hold.
pub(super) async fn run(scenario: &Scenario, text: &str, args: &LiveArgs, out: Out) -> anyhow::Result<Played> {
    let cast = args.cast.clone().ok_or_else(|| failure("the cast file is not given", "give one with --cast FILE"))?;
    let exercise = &scenario.mode.exercise_id;
    let options = Options {
        speed: args.speed,
        scripted: args.players == Players::Virtual,
        faults_by_hand: args.faults == Faults::ByHand,
        clock: Arc::new(SystemClock),
        frozen_wait: args.frozen_wait,
    };
    // What no node need be asked about is told before anybody is.
    live::supports(scenario, &options).map_err(|refused| anyhow::anyhow!("{refused}"))?;
    let crew = crew(&cast, options.scripted).await?;
    let folder = args.run_dir.clone().unwrap_or_else(|| folder_of(exercise));
    make_folder(&folder)?;
    let (requests, control) = mpsc::channel(REQUESTS_MAX);
    let listening = socket::serve(&folder, requests.clone()).await?;
    let cast = std::path::absolute(&cast).next("give the cast file by a path that exists")?;
    let run = RunFile { exercise: exercise.clone(), cast };
    files::write(&folder.join("run.json"), &serde_json::to_vec(&run)?, true)?;
    files::write(&folder.join("scenario.yaml"), text.as_bytes(), true)?;
    let path = folder.join("transcript.jsonl");
    let mut transcript = OpenOptions::new().create(true).write(true).truncate(true).open(&path);
    let transcript = transcript.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let mut watch = args.watch.then(|| Watch::open(scenario)).transpose()?;
    let mut unwritten = None;
    let mut stopped = Vec::new();
    let mut console = |line: Line| {
        if let Line::Written(bytes) = &line
            && unwritten.is_none()
            && transcript.write_all(bytes).is_err()
        {
            let what = format!("warning: {} cannot be written; the drill goes on without it", path.display());
            tell(&Line::Said(unwritten.insert(what).clone()), watch.as_mut(), out);
        }
        tell(&line, watch.as_mut(), out);
        if let Line::Frozen(_) = line {
            stopped.push(line);
        }
    };
    let by = scenario.cast.controllers.first().cloned().unwrap_or_default();
    let played = tokio::select! {
        played = live::play(scenario, &crew, &options, control, &mut console) => {
            played.map_err(|error| anyhow::anyhow!("{error}"))
        }
        () = interrupt(requests, by.clone()) => {
            let rest = format!("{exercise} --as {by} --run-dir '{}'", folder.display());
            let next = format!("clear it up with: campanile drill abort {rest}");
            Err(failure("the drill was ended before everything of it was cancelled", next))
        }
    };
    drop(listening);
    if watch.take().is_some() {
        // What filled the screen is gone with it.
        unwritten.iter().for_each(|warning| out.note(warning));
        stopped.iter().for_each(|line| tell(line, None, out));
    } else if std::io::stderr().is_terminal() {
        out.note("");
    }
    let played = played?;
    files::write(&folder.join("verdict.json"), &played.verdict.bytes(), true)?;
    Ok(played)
}

/// Ctrl-C calls the drill off; the second one ends this, and `drill abort` clears up.
async fn interrupt(requests: mpsc::Sender<Request>, by: String) {
    let pressed = async || {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    pressed().await;
    let (answer, _) = oneshot::channel();
    // What is said of it stands on the console.
    drop(requests.send(Request { command: Command::Abort { by }, answer }).await);
    pressed().await;
}

/// Connects to everybody.
///
/// # Errors
/// When the file cannot be read or somebody cannot be reached.
pub(super) async fn crew(path: &Path, scripted: bool) -> anyhow::Result<Crew> {
    let text = files::read_text(path)?;
    let cast: CastFile = serde_saphyr::from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}", error.without_snippet()))
        .with_context(|| format!("{} is not a cast file", path.display()))
        .next("write nodes: {department: profile}, and players: {role: profile} for --players virtual")?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut crew = Crew::default();
    for (name, profile) in &cast.nodes {
        let department = DepartmentId::try_new(name).next("name departments under nodes, for example edb")?;
        let connect = Connect { profile: Some(folder.join(profile)), ..Connect::default() };
        if crew.persons.is_empty()
            && let Some(roster) = open_roster(&connect.resolve()?)?
        {
            let roster = roster.current();
            let persons = roster.persons.iter();
            crew.persons = persons.map(|person| (person.id.clone(), person.roles.clone())).collect();
        }
        let client = connect.client().await.with_context(|| format!("{name} cannot take part"))?;
        crew.nodes.insert(department, client);
    }
    for (role, profile) in cast.players.iter().filter(|_| scripted) {
        let connect = Connect { profile: Some(folder.join(profile)), ..Connect::default() };
        let client = connect.client().await.with_context(|| format!("{role} cannot take part"))?;
        crew.players.insert(role.clone(), client);
    }
    Ok(crew)
}

/// The folder of an exercise's run in the working folder.
pub(super) fn folder_of(exercise: &ExerciseId) -> PathBuf {
    PathBuf::from(format!("drill-{exercise}"))
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    // Whoever may write into the folder may steer the drill.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))
        .next("give another folder with --run-dir")
}

/// Says something on the controllers' console.
fn tell(line: &Line, watch: Option<&mut Watch<'_>>, out: Out) {
    if let Some(watch) = watch {
        return watch.tell(line);
    }
    let terminal = std::io::stderr().is_terminal();
    match line {
        Line::Said(text) => {
            if terminal {
                over("");
            }
            out.note(text);
        }
        Line::Progress { now, end, met, failed, open } if terminal => {
            over(&format!("{now} of {end}: {met} met, {failed} failed, {open} open"));
        }
        Line::Progress { .. } | Line::Written(_) => {}
        Line::Frozen(text) => {
            let bar = "*".repeat(72);
            for line in ["", &bar, &format!("*** {text}"), "*** THE EXERCISE HAS STOPPED. THIS IS NOT A DRILL."] {
                out.note(line);
            }
            out.note("*** 演習已停止。這不是演習。");
            out.note(&bar);
        }
    }
}

/// Writes over the line of progress.
fn over(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let done = write!(stderr, "\r{}\u{1b}[K", harmless(text)).and_then(|()| stderr.flush());
    // There is nowhere left to say that stderr is closed.
    drop(done);
}

/// Reads a length of time such as `10m`.
///
/// # Errors
/// When it is none.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    let length: campanile_drill::Length =
        text.parse().map_err(|error: campanile_drill::time::Error| error.to_string())?;
    u64::try_from(length.ms()).map(Duration::from_millis).map_err(|_| "give a length that is not negative".into())
}
