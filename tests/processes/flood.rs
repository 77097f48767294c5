//! A flood from one department: 52 alerts at once, as on Germany's Warntag of 2020, and then thousands, beside watchers
//! that do not read. What is urgent overtakes it, nothing is lost, and log and memory keep their bounds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use campanile_alert::{Clock as _, DepartmentId};
use campanile_client::{Client, Event, Filter, Publish, Start, Watch};
use campanile_discovery::SystemClock;
use campanile_log::{Lane, LogId, Store as _};
use campanile_tests::process::{Processes, eventually, fires};
use tokio::task::JoinSet;

use crate::PROGRAM;

const HKO: &str = "hko/node-1";
const FSD: &str = "fsd/node-1";
const EDB: &str = "edb/node-1";
const AT_ONCE: usize = 52;
const FLOOD: usize = 10_000;
const PUBLISHERS: usize = 32;
/// Watchers that read one message and then no more.
const ASLEEP: usize = 20;
const WAL_BYTES_MAX: u64 = 256 << 20;
/// What a process may grow by while it takes the flood: what it keeps of 10,000 alerts, and what waits for readers.
const GROWTH_KIB_MAX: u64 = 300 << 10;
const WITHIN: Duration = Duration::from_secs(120);
const FIRES: usize = 500;

/// Publishes fires, and hears of their closures at edb.
struct Fires {
    dispatch: Client,
    closures: Watch,
    next: usize,
}

impl Fires {
    /// The time from the report of a fire until its closure is heard at edb.
    async fn closes(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let fire = fires::fire(self.next, SystemClock.now())?;
        self.next += 1;
        self.dispatch.publish(&Publish::alert(&fire)).await?;
        let heard = async {
            loop {
                let event = self.closures.next().await.context("the watch ended")??;
                if let Event::Alert(record) = event
                    && record.causes.iter().any(|cause| *cause.id.identifier() == *fire.identifier)
                {
                    return anyhow::Ok(begun.elapsed());
                }
            }
        };
        tokio::time::timeout(WITHIN, heard).await.with_context(|| format!("no closure for {}", fire.identifier))?
    }
}

/// How many of the flood's records edb holds.
fn held(town: &Processes) -> Result<usize> {
    let tail = town.store(EDB)?.tail(&LogId::new(HKO, Lane::Routine));
    Ok(tail.map_or(0, |tail| usize::try_from(tail.seq).unwrap_or(usize::MAX)))
}

fn wal_bytes(data: &Path) -> u64 {
    std::fs::metadata(data.join("store/log.db-wal")).map_or(0, |file| file.len())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no VmRSS")?.parse()?)
}

/// Publishes announcements, each until it is acknowledged: a node may say that it is overloaded.
async fn announce(client: Client, next: Arc<AtomicUsize>, end: usize) -> Result<()> {
    loop {
        let n = next.fetch_add(1, Ordering::SeqCst);
        if n >= end {
            return Ok(());
        }
        let what = Publish::alert(&fires::announcement(n, SystemClock.now())?);
        let begun = Instant::now();
        while let Err(error) = client.publish(&what).await {
            ensure!(begun.elapsed() < WITHIN, "announcement {n} is refused: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_fire_overtakes_a_flood_of_ten_thousand_and_log_and_memory_keep_their_bounds() {
    flood().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn flood() -> Result<()> {
    let mut town = Processes::prepare(PROGRAM, None)?;
    let pack = fires::write_pack(town.dir(), FIRES)?;
    town.node(HKO, &[])?;
    town.node(FSD, &[])?;
    town.node(EDB, &[&pack])?;
    for member in [HKO, FSD, EDB] {
        town.start(member).await?;
    }
    town.allow_closures().await?;
    let officer = town.client("edb/duty-officer-1").await?;
    let edb = Filter { departments: vec![DepartmentId::try_new("edb")?], ..Filter::default() };
    // From the beginning: a watch is opened when it is first asked, which may be after the first closure.
    let closures = officer.watch(Start::Beginning, &edb);
    let mut fires = Fires { dispatch: town.client("fsd/dispatch").await?, closures, next: 0 };
    let mut before = Vec::new();
    for _ in 0..20 {
        before.push(fires.closes().await?);
    }
    let mut asleep = Vec::new();
    for _ in 0..ASLEEP {
        let mut watch = town.client("edb/duty-officer-1").await?.watch(Start::Beginning, &Filter::default());
        watch.next().await.context("the watch ended")??;
        asleep.push(watch);
    }
    let pids = town.pids();
    let at_first: Vec<u64> = pids.values().map(|pid| resident_kib(*pid)).collect::<Result<_>>()?;

    let hko = town.client("hko/forecaster").await?;
    let mut all_at_once: JoinSet<_> = (0..AT_ONCE).map(|n| announce(hko.clone(), Arc::new(n.into()), n + 1)).collect();
    while let Some(ended) = all_at_once.join_next().await {
        ended??;
    }
    let next = Arc::new(AtomicUsize::new(AT_ONCE));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        publishers.spawn(announce(town.client("hko/forecaster").await?, Arc::clone(&next), AT_ONCE + FLOOD));
    }
    let flooding = Arc::new(AtomicBool::new(true));
    let over = Arc::clone(&flooding);
    let flood = tokio::spawn(async move {
        while let Some(ended) = publishers.join_next().await {
            ended??;
        }
        over.store(false, Ordering::SeqCst);
        anyhow::Ok(())
    });
    let (mut during, mut overtaken, mut wal, mut grown) = (Vec::new(), 0, 0, vec![0; pids.len()]);
    let data = [HKO, FSD, EDB].map(|member| town.data(member)).into_iter().collect::<Result<Vec<_>>>()?;
    while flooding.load(Ordering::SeqCst) && during.len() < FIRES - 20 {
        let published = next.load(Ordering::SeqCst).min(AT_ONCE + FLOOD).saturating_sub(PUBLISHERS);
        during.push(fires.closes().await?);
        overtaken += usize::from(held(&town)? < published);
        wal = data.iter().map(|data| wal_bytes(data)).max().unwrap_or_default().max(wal);
        for ((pid, first), most) in pids.values().zip(&at_first).zip(&mut grown) {
            *most = resident_kib(*pid)?.saturating_sub(*first).max(*most);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    flood.await??;
    eventually("the flood at edb", WITHIN, async || {
        let held = held(&town)?;
        ensure!(held == AT_ONCE + FLOOD, "{held} of {}", AT_ONCE + FLOOD);
        Ok(())
    })
    .await?;
    fires.closes().await.context("after the flood")?;
    drop(asleep);
    let slowest = during.iter().max().copied().unwrap_or_default();
    eprintln!(
        "{} fires in the flood: closed in {:.3} s at the median ({:.3} s without it), {:.3} s at the most; {overtaken} overtook \
         it; WAL {} MiB, grown by {grown:?} KiB",
        during.len(),
        median(during.clone()).as_secs_f64(),
        median(before).as_secs_f64(),
        slowest.as_secs_f64(),
        wal >> 20,
    );
    ensure!(during.len() >= 10, "the flood was over after {} fires", during.len());
    ensure!(overtaken > 0, "no fire overtook anything, so the flood was none");
    ensure!(wal < WAL_BYTES_MAX, "the write-ahead log grew to {wal} bytes");
    ensure!(grown.iter().all(|grown| *grown < GROWTH_KIB_MAX), "a process grew by {grown:?} KiB");
    Ok(())
}
