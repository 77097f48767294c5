//! L1, D1 and T1 in a first form: 64 publishers, and the processes of fsd, edb and isd's gateway killed in turn while
//! they publish. What was acknowledged is written down here, outside of all of them, and compared at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::{Alert, Clock as _};
use campanile_client::{Client, Position, Publish};
use campanile_discovery::SystemClock;
use campanile_log::{SqliteStore, Store as _};
use campanile_tests::process::{Processes, eventually, fires, logs, rounds, seed};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::PROGRAM;

const FSD: &str = "fsd/node-1";
const EDB: &str = "edb/node-1";
const GATEWAY: &str = "isd/gateway-1";
const PUBLISHERS: usize = 64;
/// Rounds of three kills; `CAMPANILE_CHAOS_ROUNDS` makes them that many times as many.
const ROUNDS: usize = 10;
/// Fires between two kills, so 10,260 in all.
const STAGE: usize = 342;
/// Fires between two kills of a longer form: it is about the kills.
const LONG_STAGE: usize = 10;
/// How often one publisher tries one fire, at 50 ms or more apart.
const TRIES_MAX: u32 = 1_000;
/// Each closure is a commit of its own in a debug build; a busy machine makes some 25 of them a second.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(480);

/// What was acknowledged, by the number of the fire: where, and whether it was called a duplicate.
type Ledger = BTreeMap<usize, (Position, bool)>;

/// What the publishers share.
struct Work {
    /// Fires that may be published now.
    released: Semaphore,
    next: AtomicUsize,
    /// How many there are in all.
    fires: usize,
    acknowledged: AtomicUsize,
    failed: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_fires_through_thirty_kills_lose_nothing_double_nothing_and_close_each_school_once() {
    let seed = seed("kill");
    let times = rounds();
    let (rounds, stage) = (ROUNDS * times, if times > 1 { LONG_STAGE } else { STAGE });
    let fires = rounds * 3 * stage;
    let begun = Instant::now();
    let mut processes = Processes::prepare(PROGRAM, None).expect("a federation");
    let pack = fires::write_pack(processes.dir(), fires).expect("a pack");
    processes.node(FSD, &[]).expect("fsd");
    processes.node(EDB, &[&pack]).expect("edb");
    processes.gateway(GATEWAY).expect("the gateway");
    for member in [FSD, EDB, GATEWAY] {
        processes.start(member).await.expect(member);
    }
    processes.allow_closures().await.expect("two persons of the directorate sign");

    let work = Arc::new(Work {
        released: Semaphore::new(0),
        next: AtomicUsize::new(0),
        fires,
        acknowledged: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
    });
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let client = processes.client("fsd/dispatch").await.expect("a client");
        publishers.spawn(publish(client, Arc::clone(&work)));
    }

    let (mut kills, mut slowest_start, mut ledger) = (0, Duration::ZERO, Ledger::new());
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let mut victims = [FSD, EDB, GATEWAY];
        victims.shuffle(&mut random);
        for victim in victims {
            let at = work.acknowledged.load(Ordering::SeqCst) + random.random_range(stage / 20..stage / 2);
            let (late, down) = (random.random_range(0..20_000), random.random_range(20..500));
            work.released.add_permits(stage);
            let waited = Instant::now();
            while work.acknowledged.load(Ordering::SeqCst) < at {
                while let Some(ended) = publishers.try_join_next() {
                    gather(ended, &mut ledger);
                }
                assert!(waited.elapsed() < Duration::from_secs(120), "no acknowledgement for two minutes, seed {seed}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_micros(late)).await;
            processes.kill(victim).await.expect(victim);
            kills += 1;
            tokio::time::sleep(Duration::from_millis(down)).await;
            let restarted = Instant::now();
            processes.start(victim).await.expect(victim);
            slowest_start = slowest_start.max(restarted.elapsed());
        }
        let acknowledged = work.acknowledged.load(Ordering::SeqCst);
        let (time, start) = (begun.elapsed().as_secs_f64(), slowest_start.as_secs_f64());
        eprintln!("round {round}: {acknowledged} acknowledged after {time:.1} s, slowest start {start:.1} s");
    }
    while let Some(done) = publishers.join_next().await {
        gather(done, &mut ledger);
    }
    let published = begun.elapsed().as_secs_f64();
    assert_eq!(ledger.len(), fires, "seed {seed}");

    eventually("all members caught up", CATCH_UP_WITHIN, async || caught_up(&processes, fires))
        .await
        .expect("caught up");
    let caught_up = begun.elapsed().as_secs_f64();
    for member in [FSD, EDB, GATEWAY] {
        let store = processes.store(member).expect(member);
        compare(&ledger, &store).unwrap_or_else(|error| panic!("{member}, seed {seed}: {error:#}"));
    }
    closed_once(&processes, fires).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    let repeated = ledger.values().filter(|(_, duplicate)| *duplicate).count();
    eprintln!(
        "{} acknowledgements in {rounds} rounds with {kills} kills in {published:.1} s, caught up after {caught_up:.1} s, \
         compared after {:.1} s; slowest start {:.1} s; {} calls failed and were repeated, {repeated} of them had been stored all the same",
        ledger.len(),
        begun.elapsed().as_secs_f64(),
        slowest_start.as_secs_f64(),
        work.failed.load(Ordering::SeqCst),
    );
    assert!(work.failed.load(Ordering::SeqCst) > 0, "no call failed, so no kill came while publishers waited");
}

/// Writes down what publishers had acknowledged that have ended: when all fires are out, those without one have nothing
/// left to do. None may end for another reason.
fn gather(done: Result<Result<Ledger>, tokio::task::JoinError>, ledger: &mut Ledger) {
    for (fire, acknowledged) in done.expect("a publisher").expect("every fire is acknowledged in the end") {
        assert!(ledger.insert(fire, acknowledged).is_none(), "fire {fire} was published by two");
    }
}

/// Takes one fire after another and repeats each until it is acknowledged.
async fn publish(client: Client, work: Arc<Work>) -> Result<Ledger> {
    let mut ledger = Ledger::new();
    loop {
        // The last permits are taken while all fires are out; who waits then has nothing left to do.
        let permit = loop {
            if work.next.load(Ordering::SeqCst) >= work.fires {
                return Ok(ledger);
            }
            if let Ok(permit) = tokio::time::timeout(Duration::from_millis(100), work.released.acquire()).await {
                break permit?;
            }
        };
        permit.forget();
        let fire = work.next.fetch_add(1, Ordering::SeqCst);
        let alert = fires::fire(fire, SystemClock.now())?;
        let acknowledged = until_acknowledged(&client, &alert, &work).await?;
        work.acknowledged.fetch_add(1, Ordering::SeqCst);
        ledger.insert(fire, acknowledged);
    }
}

async fn until_acknowledged(client: &Client, alert: &Alert, work: &Work) -> Result<(Position, bool)> {
    let what = Publish::alert(alert);
    for _ in 0..TRIES_MAX {
        match client.publish(&what).await {
            Ok(published) => {
                ensure!(published.id == alert.id(), "the answer is about {}, not {}", published.id, alert.id());
                return Ok((published.position, published.duplicate));
            }
            Err(error) if error.may_repeat() => {
                work.failed.fetch_add(1, Ordering::SeqCst);
                let pause = rand::rng().random_range(50..100);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Err(error) => return Err(error).with_context(|| format!("{} was refused", alert.identifier)),
        }
    }
    bail!("{} was not acknowledged after {TRIES_MAX} tries", alert.identifier)
}

fn caught_up(processes: &Processes, fires: usize) -> Result<()> {
    let stores = [FSD, EDB, GATEWAY].map(|member| processes.store(member));
    let [fsd, edb, gateway] = stores;
    let (fsd, edb, gateway) = (fsd?, edb?, gateway?);
    for (log, author) in [(logs::urgent(FSD), &fsd), (logs::urgent(EDB), &edb)] {
        let tail = author.tail(&log);
        for (name, store) in [("fsd", &fsd), ("edb", &edb), ("the gateway", &gateway)] {
            ensure!(store.tail(&log) == tail, "{name} holds {log} to {:?} of {tail:?}", store.tail(&log));
        }
    }
    // Other records stand in the log too, so only the full count decides; it is made when it may be reached.
    let records: u64 = edb.epochs(&logs::urgent(EDB)).iter().map(|tail| tail.seq).sum();
    ensure!(records >= u64::try_from(fires)?, "edb has made {records} of {fires} closures");
    let closures = logs::alerts(&edb, &logs::urgent(EDB))?.len();
    ensure!(closures >= fires, "edb has made {closures} of {fires} closures");
    Ok(())
}

/// None missing, none doubled, all chains and signatures good.
fn compare(ledger: &Ledger, store: &SqliteStore) -> Result<()> {
    let log = logs::urgent(FSD);
    let held = logs::alerts(store, &log)?;
    ensure!(held.len() == ledger.len(), "{} fires are held, {} were acknowledged", held.len(), ledger.len());
    let mut seen = BTreeSet::new();
    for logged in &held {
        let fire = fires::number(&logged.alert.identifier).context("a message that nobody published")?;
        ensure!(seen.insert(fire), "fire {fire} stands twice");
        ensure!(logged.counted(), "fire {fire} does not count");
        let (position, _) = ledger.get(&fire).with_context(|| format!("fire {fire} was never acknowledged"))?;
        let place = (logged.position.epoch, logged.position.seq, logged.position.hash.to_string());
        let acknowledged = (position.epoch, position.seq, position.hash.clone());
        ensure!(place == acknowledged, "fire {fire} stands at {place:?}, and {acknowledged:?} was acknowledged");
    }
    Ok(())
}

/// Each fire led to one closure, of its own school, at edb and in the replicas.
fn closed_once(processes: &Processes, fires: usize) -> Result<()> {
    let roster = processes.federation().roster()?;
    let roster = campanile_discovery::SignedRoster::verify(&roster, &processes.federation().root()?, None, true)?;
    for member in [EDB, FSD, GATEWAY] {
        let store = processes.store(member)?;
        let records = logs::verify(&store, &roster).with_context(|| format!("the store of {member}"))?;
        ensure!(store.evidence()?.is_empty(), "{member} holds evidence of a fork");
        let closures = logs::alerts(&store, &logs::urgent(EDB))?;
        let (mut identifiers, mut closed) = (BTreeSet::new(), BTreeSet::new());
        for closure in &closures {
            let name = &closure.alert.identifier;
            ensure!(identifiers.insert(name.clone()), "{member}: effect {name} stands twice");
            ensure!(
                closure.is_first() && closure.counted(),
                "{member}: {name} is {:?}, {:?}",
                closure.alert.msg_type,
                closure.standing
            );
            let [cause] = closure.causes.as_slice() else { bail!("{member}: {name} has causes {:?}", closure.causes) };
            let fire = fires::number(cause).with_context(|| format!("{member}: {name} has the cause {cause}"))?;
            ensure!(closed.insert(fire), "{member}: fire {fire} closed its school twice");
            let site = fires::site(fire);
            ensure!(
                closure.sites() == BTreeSet::from([site.as_str()]),
                "{member}: fire {fire} closed {:?}",
                closure.sites()
            );
        }
        ensure!(closed.len() == fires, "{member}: {} of {fires} fires closed their school", closed.len());
        eprintln!("{member}: {records} records verified, {} closures", closures.len());
    }
    Ok(())
}
