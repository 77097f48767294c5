//! `doctor`: what is wrong with a node or a client and its surroundings, and what to do about it.
//!
//! With a node's or gateway's configuration it looks at the files, the disk and the directory, whether the node runs or
//! not, and writes nothing but a probe file into the data folder. With a profile it looks at the client's own files, and
//! asks the node. Both may be given.

use std::path::PathBuf;

use campanile_alert::{Clock as _, Timestamp};
use campanile_discovery::SystemClock;
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::{Answer, Verdict, failure};
use crate::out::{Mark, Out, harmless};

mod disk;
mod member;
mod node;
mod trust;

/// What `doctor` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration of a node or a gateway, to look at its files, disk and directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    check: String,
    state: State,
    detail: String,
    /// What to do; absent when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Finding { check: check.into(), state: State::Ok, detail: detail.into(), next: None });
    }

    fn warn(&mut self, check: impl Into<String>, detail: impl Into<String>, next: impl Into<String>) {
        self.put(State::Warn, check, detail, next);
    }

    fn fail(&mut self, check: impl Into<String>, detail: impl Into<String>, next: impl Into<String>) {
        self.put(State::Fail, check, detail, next);
    }

    fn put(&mut self, state: State, check: impl Into<String>, detail: impl Into<String>, next: impl Into<String>) {
        self.0.push(Finding { check: check.into(), state, detail: detail.into(), next: Some(next.into()) });
    }
}

/// Looks at everything there is to look at; one thing that fails keeps nothing else from being looked at.
///
/// # Errors
/// When there is nothing to look at, or a profile cannot be read.
pub async fn run(args: Args, out: Out) -> Answer {
    let profile = args.connect.resolve()?;
    if args.config.is_none() && profile.node.is_none() && profile.roster.is_none() && profile.certificate.is_none() {
        let next = "give a node's configuration with --config, a client's profile with --profile, or both";
        return Err(failure("there is nothing to look at", next));
    }
    let mut findings = Findings::default();
    let now = SystemClock.now();
    if let Some(path) = &args.config {
        member::look(path, now, &mut findings).await;
    }
    if profile.roster.is_some() || profile.certificate.is_some() {
        trust::profile(&profile, now, &mut findings);
    }
    match &profile.node {
        Some(_) => node::look(&args.connect, now, &mut findings).await,
        None => out.note("the running node was not asked: no profile or --node was given"),
    }
    let Findings(findings) = findings;
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    match out.is_json() {
        true => out.document(&findings)?,
        false => findings.iter().try_for_each(|finding| show(finding, out))?,
    }
    Ok(Verdict::of(!failed))
}

fn show(finding: &Finding, out: Out) -> anyhow::Result<()> {
    let word = match finding.state {
        State::Ok => out.mark("ok  ", Mark::Good),
        State::Warn => out.mark("warn", Mark::Doubtful),
        State::Fail => out.mark("fail", Mark::Bad),
    };
    out.coloured(&format!("{word}  {:<16} {}", harmless(&finding.check), harmless(&finding.detail)))?;
    match &finding.next {
        Some(next) => out.line(format!("{:23}do: {next}", "")),
        None => Ok(()),
    }
}

/// Whole days from `now` to `end`, negative when it is past.
fn days(now: Timestamp, end: Timestamp) -> i64 {
    end.duration_since(now).as_hours().div_euclid(24)
}
