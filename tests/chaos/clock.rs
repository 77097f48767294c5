//! Members whose wall clock jumps by an hour, and that are frozen in between.
//!
//! libfaketime stands between the program and the clock, and reads the offset from a file at each look. Clocks that only
//! measure (monotonic ones) go on as they are, as they do on a machine whose time is set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::{Clock as _, Timestamp};
use campanile_client::{Client, Code, Publish, Retry};
use campanile_discovery::SystemClock;
use campanile_log::Store as _;
use campanile_tests::process::{Processes, eventually, fires, logs, seed};
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::load::{Ledger, Load, healed, holds, judge};
use crate::town::{self, HEAL_WITHIN, rounds, tool_missing};
use crate::{EDB, FSD};

const HOUR_S: i64 = 3_600;

/// The library that fakes the clock, where Debian puts it.
fn library() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

/// The clock of a member.
struct Wall {
    file: PathBuf,
    offset: i64,
}

impl Wall {
    /// Puts a clock that can be set before a member.
    fn before(town: &mut Processes, member: &str, library: &Path) -> Result<Self> {
        let file = town.dir().join(format!("clock-of-{}", member.replace('/', "-")));
        let (name, library) = (file.to_string_lossy().into_owned(), library.to_string_lossy().into_owned());
        town.launch(
            member,
            &[],
            &[
                ("LD_PRELOAD", &library),
                ("FAKETIME_TIMESTAMP_FILE", &name),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ],
        )?;
        let mut wall = Self { file, offset: 0 };
        wall.set(0)?;
        Ok(wall)
    }

    fn set(&mut self, offset: i64) -> Result<()> {
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, format!("{offset:+}\n"))?;
        std::fs::rename(beside, &self.file)?;
        self.offset = offset;
        Ok(())
    }

    fn now(&self) -> Result<Timestamp> {
        Ok(SystemClock.now().checked_add(SignedDuration::from_secs(self.offset))?)
    }
}

/// Publishes a fire that is dated so, until it is acknowledged.
async fn publish(client: &Client, ledger: &mut Ledger, dated: Timestamp) -> Result<()> {
    let fire = ledger.tried.len();
    let alert = fires::fire(fire, dated)?;
    ledger.tried.insert(fire, alert.clone());
    let published =
        eventually("publishing", HEAL_WITHIN, async || Ok(client.publish(&Publish::alert(&alert)).await?)).await?;
    ledger.acknowledged.insert(fire, published.position);
    Ok(())
}

/// The epochs of a log, which must rise and be linked; and the time of each record.
fn times(town: &Processes, member: &str) -> Result<Vec<(u64, Timestamp)>> {
    let store = town.store(member)?;
    let mut found = Vec::new();
    for logged in logs::alerts(&store, &logs::urgent(member))? {
        let entry = store.get(&logs::urgent(member), logged.position.epoch, logged.position.seq)?;
        let header = campanile_bus::record::open_header(&entry.context("a record went")?.header)?;
        found.push((header.epoch, header.time));
    }
    ensure!(found.is_sorted_by_key(|(epoch, _)| *epoch), "an epoch lies below one before it: {found:?}");
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_an_origin_whose_clock_jumps_an_hour_keeps_its_chain_counts_and_refuses_only_what_its_clock_cannot_know() {
    let Some(library) = library() else { return tool_missing("no libfaketime; Debian's package is faketime") };
    let seed = seed("clock of the origin");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let since = SystemClock.now().checked_sub(SignedDuration::from_hours(3))?;
        let mut town = town::prepare_since(since)?;
        let mut wall = Wall::before(&mut town, FSD, &library)?;
        town::start(&mut town).await?;
        let client = town.client("fsd/dispatch").await?;
        let mut ledger = Ledger::default();
        let (mut refused, mut starts) = (0, 1);
        for _ in 0..rounds() {
            let mut offsets = [HOUR_S, -HOUR_S, 0, HOUR_S, -HOUR_S];
            offsets.shuffle(&mut random);
            for offset in offsets {
                wall.set(offset)?;
                if random.random() {
                    town.kill(FSD).await?;
                    town.start(FSD).await?;
                    starts += 1;
                }
                for _ in 0..4 {
                    publish(&client, &mut ledger, wall.now()?).await?;
                }
                if offset >= 0 {
                    // Dated by the right clock, it is old or new, and either is taken.
                    publish(&client, &mut ledger, SystemClock.now()).await?;
                } else {
                    refused += 1;
                    let early = fires::fire(5_000 + refused, SystemClock.now())?;
                    let Err(error) = client.publish(&Publish::alert(&early)).await else {
                        bail!("what lies an hour ahead was taken");
                    };
                    ensure!(error.code == Code::InvalidArgument && error.retry == Retry::Terminal, "{error:?}");
                    ensure!(error.violations.iter().any(|violation| violation.field == "alert.sent"), "{error:?}");
                }
            }
        }
        wall.set(0)?;
        publish(&client, &mut ledger, SystemClock.now()).await?;
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        let times = times(&town, FSD)?;
        let back = times.windows(2).filter(|two| two[1].1 < two[0].1).count();
        ensure!(back > 0, "the clock of the program never went back");
        eprintln!(
            "{} fires under a clock that went back {back} times, {refused} refused as too early, {starts} starts; equal \
             {:.2} s after",
            ledger.acknowledged.len(),
            took.as_secs_f64()
        );
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t1_a_department_whose_clock_jumps_an_hour_still_closes_each_school_once_and_counts_everywhere() {
    let Some(library) = library() else { return tool_missing("no libfaketime; Debian's package is faketime") };
    let seed = seed("clock of the rules");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let since = SystemClock.now().checked_sub(SignedDuration::from_hours(3))?;
        let mut town = town::prepare_since(since)?;
        let mut wall = Wall::before(&mut town, EDB, &library)?;
        town::start(&mut town).await?;
        let mut load = Load::start(town::dispatch(&town, 2).await?, 0, Duration::from_millis(100));
        for _ in 0..rounds() {
            let mut offsets = [HOUR_S, -HOUR_S, 0];
            offsets.shuffle(&mut random);
            for offset in offsets {
                wall.set(offset)?;
                load.more(10, HEAL_WITHIN).await?;
                if random.random() {
                    town.kill(EDB).await?;
                    town.start(EDB).await?;
                }
                // A freeze on top: it wakes up to another hour than it fell asleep in.
                town.signal(EDB, "-STOP").await?;
                tokio::time::sleep(Duration::from_millis(random.random_range(200..3_000))).await;
                wall.set(random.random_range(-HOUR_S..=HOUR_S))?;
                town.signal(EDB, "-CONT").await?;
                load.more(10, HEAL_WITHIN).await?;
                let tried = load.acknowledged();
                holds(&town, EDB, tried, HEAL_WITHIN).await.with_context(|| format!("under {offset} s"))?;
            }
        }
        wall.set(0)?;
        let ledger = load.end().await?;
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        times(&town, EDB)?;
        eprintln!("{} fires; equal {:.2} s after", ledger.acknowledged.len(), took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}
