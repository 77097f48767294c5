//! Publishers, and a ledger outside the system of what was acknowledged to them.
//!
//! A publisher repeats one fire until it is acknowledged, and then takes the next. What it tried is in the ledger before
//! the first try, so that a record nobody tried, and a second record of one fire, are found at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::{Alert, Clock as _};
use campanile_client::{Client, Position, Publish};
use campanile_discovery::{SignedRoster, SystemClock};
use campanile_log::{SqliteStore, Store as _};
use campanile_tests::process::{Processes, eventually, fires, logs};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::town::HEAL_WITHIN;

/// How long one fire may take to be acknowledged, faults included.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);

/// What one closure of the backlog may take: a commit of its own, in a debug build on a busy machine.
const CLOSURE: Duration = Duration::from_millis(50);

/// What was tried and what was acknowledged, by the number of the fire.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) tried: BTreeMap<usize, Alert>,
    pub(crate) acknowledged: BTreeMap<usize, Position>,
    /// Answers that said that the fire was there already: its first answer had been lost.
    pub(crate) repeated: usize,
    pub(crate) failed: usize,
}

/// Publishers at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<()>>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    next: AtomicUsize,
    acknowledged: AtomicUsize,
    stop: AtomicBool,
    pause: Duration,
}

impl Load {
    /// One publisher for each client, from fire `first` on; each waits `pause` between two fires.
    pub(crate) fn start(clients: Vec<Client>, first: usize, pause: Duration) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::default(),
            next: AtomicUsize::new(first),
            acknowledged: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            pause,
        });
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn(publish(client, Arc::clone(&shared)));
        }
        Self { shared, tasks }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more fires were acknowledged.
    pub(crate) async fn more(&mut self, fires: usize, within: Duration) -> Result<()> {
        let (wanted, begun) = (self.acknowledged() + fires, Instant::now());
        while self.acknowledged() < wanted {
            if let Some(ended) = self.tasks.try_join_next() {
                bail!("a publisher ended: {ended:?}");
            }
            let came = fires - (wanted - self.acknowledged()).min(fires);
            ensure!(begun.elapsed() < within, "{came} of {fires} acknowledgements within {} s", within.as_secs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Lets each publisher have its last fire acknowledged, and gives the ledger.
    pub(crate) async fn end(mut self) -> Result<Ledger> {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        let ledger = std::mem::take(&mut *self.shared.ledger.lock());
        ensure!(ledger.tried.len() == ledger.acknowledged.len(), "a fire was tried and not acknowledged");
        Ok(ledger)
    }

    /// Ends at once; what was not acknowledged by now may stand in the log or not.
    pub(crate) async fn abandon(mut self) -> Ledger {
        self.tasks.shutdown().await;
        std::mem::take(&mut *self.shared.ledger.lock())
    }
}

async fn publish(client: Client, shared: Arc<Shared>) -> Result<()> {
    while !shared.stop.load(Ordering::SeqCst) {
        let fire = shared.next.fetch_add(1, Ordering::SeqCst);
        let alert = fires::fire(fire, SystemClock.now())?;
        shared.ledger.lock().tried.insert(fire, alert.clone());
        let what = Publish::alert(&alert);
        let begun = Instant::now();
        let published = loop {
            match client.publish(&what).await {
                Ok(published) => break published,
                Err(error) if error.may_repeat() => {
                    ensure!(begun.elapsed() < ACKNOWLEDGED_WITHIN, "fire {fire} is not acknowledged: {error}");
                    shared.ledger.lock().failed += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error).with_context(|| format!("fire {fire} was refused")),
            }
        };
        ensure!(published.id == alert.id(), "the answer to fire {fire} is about {}", published.id);
        {
            let mut ledger = shared.ledger.lock();
            ledger.repeated += usize::from(published.duplicate);
            ledger.acknowledged.insert(fire, published.position);
        }
        shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(shared.pause).await;
    }
    Ok(())
}

impl Ledger {
    /// Adds what another load did.
    pub(crate) fn join(&mut self, other: Self) {
        self.tried.extend(other.tried);
        self.acknowledged.extend(other.acknowledged);
        self.repeated += other.repeated;
        self.failed += other.failed;
    }

    /// Each acknowledged fire stands where it was said to stand; no fire stands twice; none differs from what was sent.
    pub(crate) fn compare(&self, store: &SqliteStore) -> Result<()> {
        let mut seen = BTreeSet::new();
        for logged in logs::alerts(store, &logs::urgent(crate::FSD))? {
            let name = &logged.alert.identifier;
            let fire = fires::number(name).with_context(|| format!("nobody published {name}"))?;
            let tried = self.tried.get(&fire).with_context(|| format!("nobody published fire {fire}"))?;
            ensure!(seen.insert(fire), "fire {fire} stands twice");
            ensure!(&logged.alert == tried, "fire {fire} stands with another content");
            ensure!(logged.counted(), "fire {fire} does not count");
            if let Some(position) = self.acknowledged.get(&fire) {
                let place = (logged.position.epoch, logged.position.seq, logged.position.hash.to_string());
                let said = (position.epoch, position.seq, position.hash.clone());
                ensure!(place == said, "fire {fire} stands at {place:?}, and {said:?} was acknowledged");
            }
        }
        let missing: Vec<_> = self.acknowledged.keys().filter(|fire| !seen.contains(fire)).collect();
        ensure!(missing.is_empty(), "acknowledged and missing: {missing:?}");
        Ok(())
    }
}

/// Compares the tails of the urgent logs of fsd and edb at these members.
pub(crate) fn equal(town: &Processes, members: &[&str]) -> Result<()> {
    for author in [crate::FSD, crate::EDB] {
        let log = logs::urgent(author);
        let tail = town.store(author)?.tail(&log);
        for member in members {
            let held = town.store(member)?.tail(&log);
            ensure!(held == tail, "{member} holds {log} to {held:?} of {tail:?}");
        }
    }
    Ok(())
}

/// After the faults: positions become equal, and edb has closed one school for each fire that it holds, within 30 s and
/// what the backlog takes.
pub(crate) async fn healed(town: &mut Processes, members: &[&str], ledger: &Ledger) -> Result<Duration> {
    let begun = Instant::now();
    let missing =
        ledger.tried.len().saturating_sub(logs::alerts(&town.store(crate::EDB)?, &logs::urgent(crate::EDB))?.len());
    let within = HEAL_WITHIN + CLOSURE * u32::try_from(missing)?;
    let equal = eventually("all members equal", within, async || {
        equal(town, members)?;
        let edb = town.store(crate::EDB)?;
        let fires = logs::alerts(&edb, &logs::urgent(crate::FSD))?.len();
        let closures = logs::alerts(&edb, &logs::urgent(crate::EDB))?.len();
        ensure!(closures >= fires, "edb has made {closures} of {fires} closures");
        equal(town, members)
    });
    let equal = equal.await;
    for member in members.iter().filter(|_| equal.is_err()) {
        eprintln!("the log of {member} ends:\n{}", town.log_tail(member)?);
    }
    equal?;
    Ok(begun.elapsed())
}

/// Compares a member's store with the ledger: fires, closures, chains, signatures.
pub(crate) fn judge(town: &Processes, member: &str, ledger: &Ledger) -> Result<u64> {
    let roster = town.federation().roster()?;
    let roster = SignedRoster::verify(&roster, &town.federation().root()?, None, true)?;
    let store = town.store(member)?;
    let check = || {
        ledger.compare(&store)?;
        ensure!(store.evidence()?.is_empty(), "there is evidence of a fork");
        closed_once(&store)?;
        logs::verify(&store, &roster)
    };
    check().with_context(|| format!("the store of {member}"))
}

/// Each fire that stands here has one closure of its own school, and there are no others.
fn closed_once(store: &SqliteStore) -> Result<()> {
    let fires: BTreeSet<_> = logs::alerts(store, &logs::urgent(crate::FSD))?
        .iter()
        .filter_map(|f| fires::number(&f.alert.identifier))
        .collect();
    let mut closed = BTreeSet::new();
    for closure in logs::alerts(store, &logs::urgent(crate::EDB))? {
        let name = &closure.alert.identifier;
        ensure!(
            closure.is_first() && closure.counted(),
            "{name} is {:?}, {:?}",
            closure.alert.msg_type,
            closure.standing
        );
        let [cause] = closure.causes.as_slice() else { bail!("{name} has the causes {:?}", closure.causes) };
        let fire = fires::number(cause).with_context(|| format!("{name} has the cause {cause}"))?;
        ensure!(closed.insert(fire), "fire {fire} closed its school twice");
        ensure!(
            closure.sites() == BTreeSet::from([fires::site(fire).as_str()]),
            "fire {fire} closed {:?}",
            closure.sites()
        );
    }
    ensure!(closed == fires, "{} schools were closed by {} fires", closed.len(), fires.len());
    Ok(())
}

/// Waits until a member holds so many fires.
pub(crate) async fn holds(town: &Processes, member: &str, fires: usize, within: Duration) -> Result<()> {
    eventually("fires at the other side", within, async || {
        let held: u64 = town.store(member)?.epochs(&logs::urgent(crate::FSD)).iter().map(|tail| tail.seq).sum();
        ensure!(held >= fires as u64, "{held} of {fires} fires are held");
        Ok(())
    })
    .await
}

/// `campanile log verify` on a store.
pub(crate) async fn log_verify(town: &Processes, data: &Path) -> Result<()> {
    let roster = town.federation().dir().join("roster.json");
    let words = ["campanile".into(), "log".into(), "verify".into(), data.join("store"), "--roster".into(), roster];
    let code = tokio::task::spawn_blocking(|| campanile_cli::run(words.map(std::ffi::OsString::from))).await?;
    ensure!(code == ExitCode::SUCCESS, "campanile log verify {} fails", data.display());
    Ok(())
}
