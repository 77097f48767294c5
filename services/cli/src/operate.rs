//! How a node is, as it says itself: status, peers, lag.

use campanile_client::admin::{LogLag, NodeStatus, Peer};
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// Which node.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
}

/// Shows how the node is.
///
/// # Errors
/// When the node cannot be asked.
pub async fn status(args: Args, out: Out) -> Answer {
    let status = args.connect.client().await?.status().await?;
    out.show(&status, status_lines)?;
    Ok(Verdict::Passed)
}

/// Shows the other nodes.
///
/// # Errors
/// When the node cannot be asked.
pub async fn peers(args: Args, out: Out) -> Answer {
    let peers = args.connect.client().await?.peers().await?;
    out.show(&peers, |peers| peers.iter().flat_map(peer_lines).collect())?;
    if peers.is_empty() {
        out.note("the node knows no other node; see `campanile doctor` for the directory and the roster");
    }
    Ok(Verdict::Passed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    origin: &'a str,
    behind: Option<u64>,
    #[serde(flatten)]
    log: &'a LogLag,
}

/// Shows how far each log is behind.
///
/// # Errors
/// When the node cannot be asked.
pub async fn lag(args: Args, out: Out) -> Answer {
    let peers = args.connect.client().await?.peers().await?;
    let rows: Vec<Row<'_>> = peers
        .iter()
        .flat_map(|peer| peer.logs.iter().map(|log| Row { origin: &peer.origin, behind: behind(log), log }))
        .collect();
    out.show(&rows, |rows| rows.iter().map(|row| format!("{:<20} {}", row.origin, log_line(row.log))).collect())?;
    Ok(Verdict::Passed)
}

/// How many records are missing; absent when that cannot be said: nothing was heard, or another epoch has begun.
pub fn behind(log: &LogLag) -> Option<u64> {
    let seen = log.seen.as_ref()?;
    match &log.held {
        Some(held) if held.epoch == seen.epoch => Some(seen.seq.saturating_sub(held.seq)),
        Some(held) if held.epoch > seen.epoch => Some(0),
        _ => None,
    }
}

fn log_line(log: &LogLag) -> String {
    let at = |position: &Option<campanile_client::Position>| {
        position.as_ref().map_or_else(|| "nothing".to_owned(), |p| format!("{}/{}", p.epoch, p.seq))
    };
    let behind = match (behind(log), &log.seen) {
        (Some(0), _) => "level".to_owned(),
        (Some(n), _) => format!("{n} behind"),
        (None, Some(_)) => "an epoch behind".to_owned(),
        (None, None) => "never heard of".to_owned(),
    };
    let heard = log.heard_age_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", seconds(ms)));
    let from = log.served_by.as_deref().unwrap_or("nobody");
    format!("{:<9} holds {}, {behind}, heard {heard}, served by {from}", log.lane, at(&log.held))
}

fn peer_lines(peer: &Peer) -> Vec<String> {
    let word = |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
    let mut lines = vec![format!(
        "{:<20} {}, {}, at {}",
        peer.origin,
        word(peer.connected, "connected", "not connected"),
        word(peer.registered, "registered", "not registered"),
        if peer.addresses.is_empty() { "no known address".to_owned() } else { peer.addresses.join(", ") }
    )];
    lines.extend(peer.last_error.iter().map(|error| format!("  last error: {error}")));
    lines.extend(peer.logs.iter().map(|log| format!("  {}", log_line(log))));
    lines
}

fn status_lines(status: &NodeStatus) -> Vec<String> {
    let unknown = || "not known".to_owned();
    let time = |time: Option<campanile_alert::Timestamp>| time.map_or_else(unknown, |t| t.to_string());
    let heard =
        status.directory_age_ms.map_or_else(|| "never heard".to_owned(), |ms| format!("heard {} ago", seconds(ms)));
    let free = status.disk_free_bytes.map_or_else(unknown, |bytes| format!("{} MiB free", bytes >> 20));
    let mut lines = vec![
        format!("node         {} of {}, version {}", status.origin, status.federation, status.version),
        format!("time         {}", time(status.time)),
        format!("roster       {} of {}", status.roster, time(status.roster_issued)),
        format!("certificate  until {}", time(status.certificate_expires)),
        format!("signing key  {}", status.key_id),
        format!("directory    {}, {heard}", status.directory),
        format!("records      {}, of which {} are not counted", status.records, status.not_counted),
        format!("disk         {free}"),
    ];
    lines.extend(status.tails.iter().map(|tail| format!("log          {tail}")));
    lines.extend(status.forks.iter().map(|fork| format!("FORK         {fork}; see `campanile doctor`")));
    lines
}

/// Milliseconds as people read them.
pub fn seconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", std::time::Duration::from_millis(ms).as_secs_f64()),
        _ => format!("{} min", ms / 60_000),
    }
}
