//! Members on disks that lose what was not synced, fail an fsync, or are full.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::Clock as _;
use campanile_client::{Code, Publish, Retry, wanted};
use campanile_discovery::SystemClock;
use campanile_tests::process::{Processes, eventually, fires, seed};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::load::{Ledger, Load, healed, holds, judge, log_verify};
use crate::lossy::{self, Disk, Mount};
use crate::town::{self, HEAL_WITHIN, left_out, rounds};
use crate::{EDB, FSD};

/// Power cuts in continuous integration.
const CUTS: usize = 12;

/// A member's disk, mounted or not.
struct Place {
    member: &'static str,
    disk: Disk,
    path: tempfile::TempDir,
    mount: Option<Mount>,
}

impl Place {
    /// Gives a member a lossy disk for its data.
    fn give(town: &mut Processes, member: &'static str) -> Result<Self> {
        let path = tempfile::Builder::new().prefix("campanile-lossy-").tempdir()?;
        let disk = Disk::new();
        let mount = Some(Mount::over(&disk, path.path())?);
        town.configure(member, |config| config["data"] = json!(path.path()))?;
        Ok(Self { member, disk, path, mount })
    }

    /// Ends the mount, after the member has ended.
    fn unmount(&mut self) -> Result<()> {
        self.mount.take().context("not mounted")?.end()
    }

    fn mount(&mut self) -> Result<()> {
        self.mount = Some(Mount::over(&self.disk, self.path.path())?);
        Ok(())
    }

    fn cut(&mut self, random: &mut StdRng) -> Result<()> {
        self.unmount()?;
        self.disk.cut(random);
        self.mount()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_l2_t1_power_cuts_lose_nothing_acknowledged_and_leave_no_half_effect() {
    if let Some(reason) = lossy::missing() {
        return left_out(&reason);
    }
    let seed = seed("power cuts");
    power_cuts(seed).await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

async fn power_cuts(seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut town = town::prepare()?;
    let mut places = [Place::give(&mut town, FSD)?, Place::give(&mut town, EDB)?];
    town::start(&mut town).await?;
    let mut load = Load::start(town::dispatch(&town, 4).await?, 0, Duration::from_millis(100));
    for cut in 0..CUTS * rounds() {
        load.more(random.random_range(1..30), HEAL_WITHIN).await.with_context(|| format!("before cut {cut}"))?;
        tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        let victims = match random.random_range(0..3) {
            0 => &mut places[..1],
            1 => &mut places[1..],
            _ => &mut places[..],
        };
        for place in &mut *victims {
            town.kill(place.member).await?;
        }
        for place in &mut *victims {
            place.cut(&mut random)?;
            town.start(place.member).await.with_context(|| format!("after cut {cut}"))?;
        }
    }
    let ledger = load.end().await?;
    let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
    for place in &places {
        judge(&town, place.member, &ledger)?;
        log_verify(&town, place.path.path()).await?;
    }
    for place in &places {
        eprintln!("{}: {:?}", place.member, place.disk.counts());
    }
    let counts = places[0].disk.counts();
    ensure!(counts.writes_lost > 0 && counts.writes_torn > 0, "no write was lost or torn: {counts:?}");
    eprintln!(
        "{} power cuts, {} fires acknowledged, {} calls failed, {} had been stored all the same; equal {:.2} s after",
        CUTS * rounds(),
        ledger.acknowledged.len(),
        ledger.failed,
        ledger.repeated,
        took.as_secs_f64()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_failed_fsync_ends_the_process_and_nothing_is_acknowledged_after_it() {
    if let Some(reason) = lossy::missing() {
        return left_out(&reason);
    }
    let seed = seed("failed fsync");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = town::prepare()?;
        let mut place = Place::give(&mut town, FSD)?;
        town::start(&mut town).await?;
        let mut ledger = Ledger::default();
        for round in 0..4 * rounds() {
            let first = ledger.tried.keys().next_back().map_or(0, |last| last + 1);
            let mut load = Load::start(town::dispatch(&town, 4).await?, first, Duration::from_millis(2));
            load.more(10, HEAL_WITHIN).await?;
            // Of a commit, or of a checkpoint: SQLite takes what an earlier, partial one copied as written.
            match round % 2 {
                0 => place.disk.fail_fsync("log.db", random.random_range(0..2)),
                _ => place.disk.fail_fsync("log.db-wal", random.random_range(0..40)),
            }
            let status = town.ended(FSD, HEAL_WITHIN).await.with_context(|| format!("round {round}"))?;
            ensure!(!status.success(), "the process ended in order after a failed fsync");
            ensure!(place.disk.counts().fsyncs_failed == round as u64 + 1, "the fsync that was to fail was not made");
            ledger.join(load.abandon().await);
            place.cut(&mut random)?;
            town.start(FSD).await?;
            let store = town.store(FSD)?;
            ledger.compare(&store).with_context(|| format!("after failure {round}"))?;
        }
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        log_verify(&town, place.path.path()).await?;
        eprintln!("{:?}; equal {:.2} s after", place.disk.counts(), took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_full_disk_refuses_publishes_as_retryable_serves_reads_and_goes_on_when_there_is_room() {
    if let Some(reason) = lossy::missing() {
        return left_out(&reason);
    }
    let seed = seed("full disk");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = town::prepare()?;
        let mut place = Place::give(&mut town, FSD)?;
        town::start(&mut town).await?;
        // Records of 200 kB take their time in a debug build.
        let patience = |options: &mut campanile_client::Options| options.timeouts.call = HEAL_WITHIN;
        let client = town.client_by("fsd/dispatch", town.ready(FSD)?.address, patience).await?;
        let mut ledger = Ledger::default();
        for round in 0..rounds() {
            place.disk.leave_free(random.random_range(0..200_000));
            let mut refused = 0;
            // Records of 200 kB each, until the room is used up that the log holds already.
            for _ in 0..400 {
                let fire = ledger.tried.len();
                let mut alert = fires::fire(fire, SystemClock.now())?;
                alert.infos[0].description = Some("x".repeat(200_000));
                ledger.tried.insert(fire, alert.clone());
                match client.publish(&Publish::alert(&alert)).await {
                    Ok(published) => drop(ledger.acknowledged.insert(fire, published.position)),
                    Err(error) => {
                        let log = town.log_tail(FSD)?;
                        ensure!(error.code == Code::ResourceExhausted, "{error:?}; the node's log ends:\n{log}");
                        ensure!(error.retry == Retry::Retryable, "{error:?}");
                        refused += 1;
                        if refused == 3 {
                            eprintln!("after {fire} fires: {error}");
                            break;
                        }
                    }
                }
            }
            ensure!(refused == 3, "the disk was never full: {:?}", place.disk.counts());
            client
                .get(&wanted(&ledger.tried[&0].id()))
                .await
                .with_context(|| format!("a full disk keeps from reading: {:?}", town.log_tail(FSD)))?;
            place.disk.make_room();
            for (fire, alert) in &ledger.tried {
                let what = Publish::alert(alert);
                let again = async || Ok(client.publish(&what).await?);
                let published = eventually("publishing with room", HEAL_WITHIN, again)
                    .await
                    .with_context(|| format!("the node's log ends: {:?}", town.log_tail(FSD)))?;
                // What was acknowledged before has the same answer again.
                let before = ledger.acknowledged.insert(*fire, published.position.clone());
                ensure!(before.is_none_or(|before| before == published.position), "fire {fire} has two answers");
            }
            // What was written while it was full is as durable as the rest.
            town.kill(FSD).await?;
            place.cut(&mut random)?;
            town.start(FSD).await.with_context(|| format!("after round {round}"))?;
        }
        holds(&town, EDB, ledger.tried.len(), HEAL_WITHIN * 4).await?;
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        log_verify(&town, place.path.path()).await?;
        eprintln!("{:?}; equal {:.2} s after", place.disk.counts(), took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_sees_it_when_a_disk_lies_about_fsync() {
    if let Some(reason) = lossy::missing() {
        return left_out(&reason);
    }
    let seed = seed("lying disk");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = town::prepare()?;
        let mut place = Place::give(&mut town, FSD)?;
        // Alone: nobody could give back what it loses.
        town.start(FSD).await?;
        let mut load = Load::start(town::dispatch(&town, 2).await?, 0, Duration::ZERO);
        load.more(20, HEAL_WITHIN).await?;
        place.disk.lie();
        load.more(100, HEAL_WITHIN).await?;
        town.kill(FSD).await?;
        let ledger = load.abandon().await;
        place.cut(&mut random)?;
        if let Err(error) = town.start(FSD).await {
            eprintln!("the node does not start on what is left: {error:#}");
            return Ok(());
        }
        let Err(error) = ledger.compare(&town.store(FSD)?) else { bail!("nothing is missing, and all was lost") };
        ensure!(error.to_string().starts_with("acknowledged and missing"), "{error:#}");
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}
