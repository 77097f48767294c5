//! `rules backtest` and `rules diff`: what packs would have done, and what a change of a pack means.

use std::path::{Path, PathBuf};

use campanile_rules::history::{self, Backtest, Change, Difference};
use campanile_rules::{Pack, compare::compare};
use serde::Serialize;

use super::load;
use crate::alert::instant;
use crate::failure::{Answer, Verdict, failure};
use crate::files;
use crate::out::Out;

/// What `rules backtest` takes.
#[derive(Debug, clap::Args)]
pub struct BacktestArgs {
    /// The packs, or folders of them
    #[arg(long = "pack", required = true, value_name = "PATH")]
    packs: Vec<PathBuf>,
    /// Other versions of them: what differs is printed instead
    #[arg(long, value_name = "PATH")]
    against: Vec<PathBuf>,
    /// The past alerts, in JSON lines
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// From when on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until when
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// What `rules diff` takes.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The pack as it was
    old: PathBuf,
    /// The pack as it is
    new: PathBuf,
    /// Past alerts in JSON lines: says how many of them would have led to something else
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// Plays the history.
///
/// # Errors
/// When a pack, a data set or the history cannot be read.
pub(super) fn backtest(args: &BacktestArgs, out: Out) -> Answer {
    let bound = |text: &Option<String>| text.as_deref().map(instant).transpose();
    let (from, to) = (bound(&args.from)?, bound(&args.to)?);
    let mut changes = read(&args.history)?;
    changes.retain(|change| {
        from.is_none_or(|from| change.issue_time >= from) && to.is_none_or(|to| change.issue_time < to)
    });
    let first = played(&args.packs, &changes)?;
    if args.against.is_empty() {
        out.show(&first, |backtest| {
            let begun = backtest.sent.iter().filter(|sent| sent.begins()).count();
            let total = format!("{} changes, {} messages, {begun} effects", backtest.changes, backtest.sent.len());
            backtest.sent.iter().map(history::Sent::line).chain([total]).collect()
        })?;
        return Ok(Verdict::Passed);
    }
    let second = played(&args.against, &changes)?;
    out.show(&history::difference(&first, &second), differences)?;
    Ok(Verdict::Passed)
}

/// Says what a change of a pack means.
///
/// # Errors
/// When a pack, a data set or the history cannot be read.
pub(super) fn diff(args: &DiffArgs, out: Out) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Changed {
        changes: Vec<String>,
        history: Option<Difference>,
    }
    let pack = |path: &Path| -> anyhow::Result<Pack> { Ok(load::pack(path)?.sound()?.1) };
    let changes = compare(&pack(&args.old)?, &pack(&args.new)?);
    let past = match &args.history {
        None => None,
        Some(path) => {
            let past = read(path)?;
            let (old, new) =
                (played(std::slice::from_ref(&args.old), &past)?, played(std::slice::from_ref(&args.new), &past)?);
            Some(history::difference(&old, &new))
        }
    };
    out.show(&Changed { changes, history: past }, |changed| {
        let mut lines = changed.changes.clone();
        if lines.is_empty() {
            lines.push("nothing that people would notice differs".into());
        }
        if let Some(past) = &changed.history {
            let begun = past.added.iter().chain(&past.removed).filter(|sent| sent.begins()).count();
            lines.push(format!("{begun} past effects would differ"));
            lines.extend(differences(past));
        }
        lines
    })?;
    Ok(Verdict::Passed)
}

fn differences(difference: &Difference) -> Vec<String> {
    let added = difference.added.iter().map(|sent| format!("+ {}", sent.line()));
    let removed = difference.removed.iter().map(|sent| format!("- {}", sent.line()));
    let mut lines: Vec<String> = added.chain(removed).collect();
    lines.sort_by(|a, b| a.get(2..).cmp(&b.get(2..)));
    lines
}

fn read(path: &Path) -> anyhow::Result<Vec<Change>> {
    let text = String::from_utf8_lossy(&files::read(path)?).into_owned();
    history::parse(&text).map_err(|error| failure(format!("{}: {error}", path.display()), "mend the line"))
}

fn played(paths: &[PathBuf], changes: &[Change]) -> anyhow::Result<Backtest> {
    let (packs, data) = load::bench(paths)?;
    history::backtest(&packs, &data, changes).map_err(|error| failure(error, "mend the history or the packs"))
}
