//! The release before this one, beside this one: each understands the other's records both ways, and either takes over
//! the other's data, whichever member goes first.
//!
//! It runs only when asked, since it wants the program of that release:
//!
//! ```sh
//! CAMPANILE_PREVIOUS=…/campanile cargo test -p campanile-tests --features previous --test previous
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::Clock as _;
use campanile_client::{Client, Publish};
use campanile_discovery::{SignedRoster, SystemClock};
use campanile_log::Store as _;
use campanile_tests::process::{Processes, eventually, fires, logs};

const PROGRAM: &str = env!("CARGO_BIN_EXE_campanile-member");
const FSD: &str = "fsd/node-1";
const EDB: &str = "edb/node-1";
const GATEWAY: &str = "isd/gateway-1";
const MEMBERS: [&str; 3] = [FSD, EDB, GATEWAY];
/// The most fires of one run; each has a school of its own.
const FIRES_MAX: usize = 5_000;
/// Between two changes of release.
const REST: Duration = Duration::from_secs(2);
/// How long one fire is tried, at 50 ms or more apart.
const PUBLISH_WITHIN: Duration = Duration::from_secs(60);
const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);

fn previous() -> PathBuf {
    let path = std::env::var_os("CAMPANILE_PREVIOUS");
    let path = PathBuf::from(path.expect("CAMPANILE_PREVIOUS names the program of the release before this one"));
    assert!(path.is_file(), "CAMPANILE_PREVIOUS names no file: {}", path.display());
    path
}

/// Publishes one fire after another until it is told to stop: what was acknowledged, by number, with its position.
async fn publish(client: Client, ending: Arc<AtomicBool>) -> Result<BTreeMap<usize, (u64, u64, String)>> {
    let mut acknowledged = BTreeMap::new();
    for number in 0..FIRES_MAX {
        if ending.load(Ordering::SeqCst) {
            break;
        }
        let what = Publish::alert(&fires::fire(number, SystemClock.now())?);
        let again = async {
            loop {
                match client.publish(&what).await {
                    Ok(published) => return anyhow::Ok(published.position),
                    Err(error) if error.may_repeat() => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => bail!("fire {number} was refused: {error}"),
                }
            }
        };
        let position = tokio::time::timeout(PUBLISH_WITHIN, again).await.context("a fire was never acknowledged")??;
        acknowledged.insert(number, (position.epoch, position.seq, position.hash));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(acknowledged)
}

/// Everybody holds every acknowledged fire where it was acknowledged, and each closed its school once.
fn compare(processes: &Processes, acknowledged: &BTreeMap<usize, (u64, u64, String)>) -> Result<()> {
    let roster = SignedRoster::verify(&processes.federation().roster()?, &processes.federation().root()?, None, true)?;
    for member in MEMBERS {
        let store = processes.store(member)?;
        logs::verify(&store, &roster).with_context(|| format!("the store of {member}"))?;
        ensure!(store.evidence()?.is_empty(), "{member} holds evidence of a fork");
        let mut held = BTreeMap::new();
        for logged in logs::alerts(&store, &logs::urgent(FSD))? {
            ensure!(logged.counted(), "{member}: {} does not count", logged.alert.identifier);
            let number = fires::number(&logged.alert.identifier).context("a message that nobody published")?;
            let place = (logged.position.epoch, logged.position.seq, logged.position.hash.to_string());
            ensure!(held.insert(number, place).is_none(), "{member}: fire {number} stands twice");
        }
        ensure!(held == *acknowledged, "{member} holds {} of {} fires", held.len(), acknowledged.len());
        let mut closed = BTreeSet::new();
        for closure in logs::alerts(&store, &logs::urgent(EDB))? {
            let name = &closure.alert.identifier;
            ensure!(closure.is_first() && closure.counted(), "{member}: {name} is {:?}", closure.alert.msg_type);
            let [cause] = closure.causes.as_slice() else { bail!("{member}: {name} has causes {:?}", closure.causes) };
            let fire = fires::number(cause).with_context(|| format!("{member}: {name} has the cause {cause}"))?;
            ensure!(closed.insert(fire), "{member}: fire {fire} closed its school twice");
        }
        ensure!(closed.len() == acknowledged.len(), "{member}: {} of {}", closed.len(), acknowledged.len());
    }
    Ok(())
}

/// All members run the one release under traffic and change to the other in this order, and back in the same order.
async fn there_and_back(order: [&str; 3]) -> Result<()> {
    let mut processes = Processes::prepare(PROGRAM, None)?;
    let pack = fires::write_pack(processes.dir(), FIRES_MAX)?;
    processes.node(FSD, &[])?;
    processes.node(EDB, &[&pack])?;
    processes.gateway(GATEWAY)?;
    for member in MEMBERS {
        processes.program_of(member, Some(previous()))?;
        processes.start(member).await?;
    }
    processes.allow_closures().await?;
    let ending = Arc::new(AtomicBool::new(false));
    let publisher = tokio::spawn(publish(processes.client("fsd/dispatch").await?, Arc::clone(&ending)));
    tokio::time::sleep(REST).await;
    for program in [None, Some(previous())] {
        for member in order {
            processes.stop(member).await?;
            processes.program_of(member, program.clone())?;
            processes.start(member).await?;
            tokio::time::sleep(REST).await;
        }
    }
    ending.store(true, Ordering::SeqCst);
    let acknowledged = publisher.await??;
    ensure!(acknowledged.len() > 100, "only {} fires were published", acknowledged.len());
    eventually("all members hold all of it", CATCH_UP_WITHIN, async || compare(&processes, &acknowledged)).await?;
    eprintln!("{order:?}: {} fires, each closed its school once", acknowledged.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_the_release_before_and_this_one_work_side_by_side_and_replace_each_other_in_any_order() {
    for order in [[FSD, EDB, GATEWAY], [GATEWAY, EDB, FSD], [EDB, GATEWAY, FSD]] {
        there_and_back(order).await.unwrap_or_else(|error| panic!("{order:?}: {error:#}"));
    }
}
