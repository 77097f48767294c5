//! `rules replay`: a decision made again from the node's log; exit 0 only if the same bytes come out.

use campanile_client::rules::Replayed;

use super::activate::short;
use crate::alert::{Wanted, wanted_id};
use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// What `rules replay` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An effect: `sender,identifier,sent`, or the identifier alone
    #[arg(value_parser = wanted_id)]
    id: Wanted,
    #[command(flatten)]
    connect: Connect,
}

/// Decides again.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let replayed = args.connect.client().await?.replay(&args.id.0).await?;
    out.show(&replayed, lines)?;
    Ok(Verdict::of(replayed.same))
}

fn lines(replayed: &Replayed) -> Vec<String> {
    let rule = replayed.rule.as_ref().map_or("?", |rule| rule.id.as_str());
    let records = replayed.records;
    match &replayed.difference {
        None => vec![format!("same bytes: {rule}, body {}, {records} records", short(&replayed.stored_hash))],
        Some(difference) => vec![format!("DIFFERENT: {rule}, after {records} records: {difference}")],
    }
}
