//! The `campanile` command as a library: [`run`] takes the arguments and gives the exit code.
//!
//! Read in this order: [`args`] (the verbs), [`failure`] (how a verb ends), [`out`] (what goes where), [`connect`] (the
//! way to a node), then one file for each group of verbs.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::FromArgMatches as _;

pub mod args;
pub mod connect;
pub mod failure;
pub mod files;
pub mod out;

pub mod alert;
pub mod bench;
pub mod doctor;
pub mod drill;
pub mod feeds;
pub mod local;
pub mod log;
pub mod node_run;
pub mod operate;
pub mod pki;
pub mod roster;
pub mod rules;
pub mod source;
pub mod trace;
pub mod up;

use args::{Cli, Command, GatewayVerb, NodeVerb};
use failure::{Answer, Verdict};
use out::Out;

/// The verb was done, and a check failed or the node refused.
const FAILED: u8 = 1;
/// The verb could not be done: the arguments or the surroundings are not right.
const NOT_DONE: u8 = 2;

/// Runs the command; the first of `args` is the program's name.
pub fn run<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> ExitCode {
    let parsed = args::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data and go to stdout, the rest to stderr; clap knows which. Closed ends say nothing.
            let told = error.print();
            drop(told);
            return if error.use_stderr() { ExitCode::from(NOT_DONE) } else { ExitCode::SUCCESS };
        }
    };
    tell(&cli);
    let out = Out::new(cli.json);
    let help = format!("see `campanile {} --help`", name(&cli.command));
    match perform(cli.command, out) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(FAILED),
        Err(error) if out::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out.note(format!("error: {}", failure::sentence(&error, &help)));
            ExitCode::from(if failure::refused_by_node(&error) { FAILED } else { NOT_DONE })
        }
    }
}

fn perform(command: Command, out: Out) -> Answer {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the system gave no threads; free memory and try again")?;
    runtime.block_on(dispatch(command, out))
}

async fn dispatch(command: Command, out: Out) -> Answer {
    match command {
        Command::Bench(args) => {
            bench::run(bench::Args { json: args.json || out.is_json(), ..args }).await.map(|()| Verdict::Passed)
        }
        Command::BenchPart(part) => bench::part(part).await.map(|()| Verdict::Passed),
        Command::Up(args) => up::run(up::Args { json: args.json || out.is_json(), ..args }).await.map(Verdict::of),
        Command::Node(NodeVerb::Run(args)) => node_run::node(args).await.map(|()| Verdict::Passed),
        Command::Gateway(GatewayVerb::Run(args)) => node_run::gateway(args).await.map(|()| Verdict::Passed),
        Command::Alert(verb) => alert::run(verb, out).await,
        Command::Trace(args) => trace::run(args, out).await,
        Command::Source(verb) => feeds::run(verb, out).await,
        Command::Rules(verb) => rules::run(verb, out).await,
        Command::Drill(verb) => drill::run(verb, out).await,
        Command::Doctor(args) => doctor::run(args, out).await,
        Command::Status(args) => operate::status(args, out).await,
        Command::Peers(args) => operate::peers(args, out).await,
        Command::Lag(args) => operate::lag(args, out).await,
        Command::Log(verb) => log::run(verb, out),
        Command::Pki(verb) => pki::run(verb, out),
        Command::Roster(verb) => roster::run(verb, out).await,
    }
}

/// The verb's name, for the hint to its help.
fn name(command: &Command) -> &'static str {
    match command {
        Command::Bench(_) | Command::BenchPart(_) => "bench",
        Command::Up(_) => "up",
        Command::Node(_) => "node run",
        Command::Gateway(_) => "gateway run",
        Command::Alert(_) => "alert",
        Command::Trace(_) => "trace",
        Command::Source(_) => "source",
        Command::Rules(_) => "rules",
        Command::Drill(_) => "drill",
        Command::Doctor(_) => "doctor",
        Command::Status(_) => "status",
        Command::Peers(_) => "peers",
        Command::Lag(_) => "lag",
        Command::Log(_) => "log",
        Command::Pki(_) => "pki",
        Command::Roster(_) => "roster",
    }
}

/// Sets up what programs tell on stderr: warnings and errors, from a server also what an operator would ask about.
fn tell(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    let serves = matches!(cli.command, Command::Node(_) | Command::Gateway(_) | Command::Source(_));
    let level = match cli.verbose {
        0 if !serves => "warn",
        0 | 1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let set =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).try_init();
    // A second run in one process, as in tests, keeps what the first one set up.
    drop(set);
}
