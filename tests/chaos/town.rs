//! The federation that most of these tests break: fsd publishes fires, edb closes schools.

use std::time::Duration;

use anyhow::Result;
use campanile_alert::{Clock as _, Timestamp};
use campanile_client::Client;
use campanile_discovery::SystemClock;
pub(crate) use campanile_tests::process::rounds;
use campanile_tests::process::{Processes, fires};

use crate::{EDB, FSD, PROGRAM};

/// How many fires a test may publish.
pub(crate) const SITES: usize = 6_000;
/// How long positions may take to be equal after the faults are over.
pub(crate) const HEAL_WITHIN: Duration = Duration::from_secs(30);

/// Configures fsd and edb with the fire pack; nothing runs yet.
pub(crate) fn prepare() -> Result<Processes> {
    prepare_since(SystemClock.now())
}

/// As [`prepare`], with certificates that are good from this instant.
pub(crate) fn prepare_since(since: Timestamp) -> Result<Processes> {
    let mut town = Processes::prepare_since(PROGRAM, None, since)?;
    let pack = fires::write_pack(town.dir(), SITES)?;
    town.node(FSD, &[])?;
    town.node(EDB, &[&pack])?;
    Ok(town)
}

/// Starts both, and two persons allow the rule to act.
pub(crate) async fn start(town: &mut Processes) -> Result<()> {
    for member in [FSD, EDB] {
        town.start(member).await?;
    }
    town.allow_closures().await
}

/// Clients of the dispatch room, each with a connection of its own.
pub(crate) async fn dispatch(town: &Processes, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(town.client("fsd/dispatch").await?);
    }
    Ok(clients)
}

/// Says that a test was left out, since this machine or this user cannot do what it needs.
pub(crate) fn left_out(reason: &str) {
    eprintln!("LEFT OUT: {reason}");
}

/// The same for what `tests/run` installs: where all tools must be there, it is a failure.
pub(crate) fn tool_missing(reason: &str) {
    let is_required = std::env::var("CAMPANILE_TOOLS").is_ok_and(|value| value == "required");
    assert!(!is_required, "CAMPANILE_TOOLS=required, but {reason}");
    left_out(reason);
}
