//! `alert watch`: alerts as they come, one line each, resumed from a cursor file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_client::{Cursor, Event, Start};

use super::{FilterArgs, alert_line};
use crate::connect::Connect;
use crate::failure::{Answer, Next as _, Verdict};
use crate::files;
use crate::out::Out;

/// What `alert watch` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Begin with the first record of all logs instead of with what comes now
    #[arg(long)]
    from_start: bool,
    /// Keep the place here, and go on from it: each alert is seen at least once across restarts
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// End after so many alerts
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connect: Connect,
}

/// Prints alerts until there are enough, or Ctrl-C.
///
/// # Errors
/// When the cursor file is not one, or the node cannot be watched any more.
pub(super) async fn run(args: &Args, out: Out) -> Answer {
    let kept = args.cursor.as_deref().map(load).transpose()?.flatten();
    let start = match (kept, args.from_start) {
        (Some(cursor), _) => Start::After(cursor),
        (None, true) => Start::Beginning,
        (None, false) => Start::Now,
    };
    let mut watch = args.connect.client().await?.watch(start, &args.filter.filter());
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut saved: Option<Cursor> = None;
    while left > 0 {
        let event = tokio::select! {
            event = watch.next() => event,
            stop = tokio::signal::ctrl_c() => {
                stop.context("failed to wait for Ctrl-C")?;
                break;
            }
        };
        match event.transpose()? {
            None => break,
            Some(Event::Alert(record)) => {
                match out.is_json() {
                    true => out.item(&record)?,
                    false => out.line(alert_line(&record))?,
                }
                left -= 1;
            }
            Some(Event::Unreadable { position, faults }) => {
                let place = position.map_or_else(|| "an unknown place".to_owned(), |position| position.to_string());
                let fault =
                    faults.first().map(|fault| format!(" ({}: {})", fault.path, fault.reason)).unwrap_or_default();
                out.note(format!("an alert at {place} cannot be read{fault}; compare the versions of node and client"));
            }
            Some(Event::Heartbeat(_)) => {}
            Some(Event::Resumed { gap: false }) => out.note("the stream was broken and goes on where it was"),
            Some(Event::Resumed { gap: true }) => {
                out.note(
                    "the stream was broken before its first word; alerts may be missing, see `campanile alert list`",
                );
            }
        }
        // After the alert is out: a crash in between shows it twice, never not at all.
        if let (Some(path), Some(cursor)) = (&args.cursor, watch.cursor())
            && saved.as_ref() != Some(cursor)
        {
            files::write(path, format!("{cursor}\n").as_bytes(), true)?;
            saved = Some(cursor.clone());
        }
    }
    Ok(Verdict::Passed)
}

/// The kept cursor; `None` when there is no file yet.
fn load(path: &Path) -> anyhow::Result<Option<Cursor>> {
    if !path.exists() {
        return Ok(None);
    }
    let cursor = files::read_text(path)?
        .parse()
        .with_context(|| format!("{} holds no cursor", path.display()))
        .next("move it away to begin anew")?;
    Ok(Some(cursor))
}
