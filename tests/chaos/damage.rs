//! A database with flipped bytes: refused in one sentence, set aside, and refilled by those who hold what was in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use campanile_log::{Lane, LogId, Store as _};
use campanile_tests::process::{Processes, eventually, logs, seed};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::load::{Ledger, Load, healed, judge, log_verify};
use crate::town::{self, HEAL_WITHIN, rounds};
use crate::{EDB, FSD};

/// SQLite's page.
const PAGE: usize = 4_096;

/// Flips a byte in so many pages of a database that nobody has open. The first page is always among them.
fn flip(database: &Path, pages: usize, random: &mut StdRng) -> Result<usize> {
    let mut content = std::fs::read(database).with_context(|| format!("no {}", database.display()))?;
    let count = content.len() / PAGE;
    for n in 0..pages {
        // Page 1 begins with what says that this is a database, and of which format.
        let at = if n == 0 { random.random_range(0..100) } else { random.random_range(0..count * PAGE) };
        content[at] ^= 1 << random.random_range(0..8);
    }
    std::fs::write(database, content)?;
    Ok(count)
}

/// Damages the store of a member, which must then either not start and say why, or be found out by `log verify`. Where
/// neither sees anything, the flips hit bytes that mean nothing (the rest of a page, reserved ones of the header), and
/// every record must be what it was.
async fn damage(town: &mut Processes, member: &str, ledger: &Ledger, random: &mut StdRng) -> Result<PathBuf> {
    // In order, so that all of it is in the one file.
    town.stop(member).await?;
    let data = town.data(member)?;
    let store = data.join("store");
    let pages = random.random_range(1..60);
    let count = flip(&store.join("log.db"), pages, random)?;
    match town.start(member).await {
        Err(error) => {
            let text = format!("{error:#}");
            let said = text.lines().filter(|line| line.contains("log.db")).count();
            eprintln!("{pages} bytes flipped in {count} pages: {}", text.lines().last().unwrap_or_default());
            ensure!(said >= 1 && !text.contains("panicked"), "no sentence names the database: {text}");
        }
        Ok(_) => {
            eprintln!("{pages} bytes flipped in {count} pages: it starts; log verify must find them");
            if log_verify(town, &data).await.is_ok() {
                judge(town, member, ledger).context("runs on a damaged store, and log verify is content")?;
            }
            town.kill(member).await?;
        }
    }
    Ok(store)
}

/// Sets a store aside, and starts the member with none.
async fn begin_anew(town: &mut Processes, member: &str, store: &Path, random: &mut StdRng) -> Result<()> {
    std::fs::rename(store, store.with_extension(format!("damaged-{}", random.random::<u32>())))?;
    town.start(member).await?;
    Ok(())
}

async fn epochs_of(town: &Processes, holder: &str, member: &str) -> Result<Vec<u64>> {
    Ok(town.store(holder)?.epochs(&logs::urgent(member)).iter().map(|tail| tail.epoch).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_l3_an_origin_with_a_damaged_database_refuses_it_and_takes_its_past_back_from_peers() {
    let seed = seed("damage at the origin");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = town::prepare()?;
        town::start(&mut town).await?;
        let mut ledger = Ledger::default();
        for round in 0..3 * rounds() {
            let first = ledger.tried.keys().next_back().map_or(0, |last| last + 1);
            let mut load = Load::start(town::dispatch(&town, 4).await?, first, Duration::from_millis(20));
            load.more(40, HEAL_WITHIN).await.with_context(|| format!("in round {round}"))?;
            ledger.join(load.end().await?);
            healed(&mut town, &[FSD, EDB], &ledger).await?;
            let before = epochs_of(&town, EDB, FSD).await?;
            let store = damage(&mut town, FSD, &ledger, &mut random).await?;
            begin_anew(&mut town, FSD, &store, &mut random).await?;
            eventually("the past is back", HEAL_WITHIN, async || {
                let back = epochs_of(&town, FSD, FSD).await?;
                ensure!(before.iter().all(|epoch| back.contains(epoch)), "{back:?} of {before:?}");
                ledger.compare(&town.store(FSD)?)
            })
            .await?;
        }
        let first = ledger.tried.len();
        let mut load = Load::start(town::dispatch(&town, 2).await?, first, Duration::from_millis(20));
        load.more(10, HEAL_WITHIN).await?;
        ledger.join(load.end().await?);
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        let epochs = epochs_of(&town, EDB, FSD).await?;
        ensure!(epochs.len() > 3 * rounds(), "each start after damage opens an epoch: {epochs:?}");
        eprintln!("{} fires in {} epochs; equal {:.2} s after", ledger.tried.len(), epochs.len(), took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t1_a_department_with_a_damaged_database_takes_its_closures_back_and_closes_no_school_again() {
    let seed = seed("damage at the rules");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = town::prepare()?;
        town::start(&mut town).await?;
        let mut load = Load::start(town::dispatch(&town, 4).await?, 0, Duration::from_millis(20));
        load.more(40, HEAL_WITHIN).await?;
        let mut ledger = load.end().await?;
        healed(&mut town, &[FSD, EDB], &ledger).await?;
        let store = damage(&mut town, EDB, &ledger, &mut random).await?;
        begin_anew(&mut town, EDB, &store, &mut random).await?;
        eventually("the past is back", HEAL_WITHIN, async || {
            ledger.compare(&town.store(EDB)?)?;
            let (here, there) = (town.store(EDB)?, town.store(FSD)?);
            let (back, held) =
                (logs::alerts(&here, &logs::urgent(EDB))?.len(), logs::alerts(&there, &logs::urgent(EDB))?.len());
            ensure!(back == held, "{back} of {held} closures are back");
            Ok(())
        })
        .await?;
        // What the two persons had signed was for their department alone, so nobody else could keep it: they sign again.
        town.allow_closures().await?;
        let mut load = Load::start(town::dispatch(&town, 2).await?, ledger.tried.len(), Duration::from_millis(20));
        load.more(20, HEAL_WITHIN).await?;
        ledger.join(load.end().await?);
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        let routine = LogId::new(EDB, Lane::Routine);
        eventually("the new epoch of the routine log at fsd", HEAL_WITHIN, async || {
            let (here, there) = (town.store(EDB)?.tail(&routine), town.store(FSD)?.tail(&routine));
            ensure!(here == there, "fsd holds it to {there:?} of {here:?}");
            Ok(())
        })
        .await?;
        eprintln!("{} fires; equal {:.2} s after", ledger.tried.len(), took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}
