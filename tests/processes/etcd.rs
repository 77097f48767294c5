//! What a federation does while its directory or one of its departments is away, and how a newcomer joins it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::message::Status;
use campanile_alert::{Clock as _, DepartmentId, OriginId};
use campanile_cli::local;
use campanile_client::{Client, Event, Filter, Publish, Start};
use campanile_discovery::directory::{EtcdConfig, EtcdDirectory, Update};
use campanile_discovery::identity::Role;
use campanile_discovery::pki::{ClientPlan, DepartmentDir, DepartmentPlan, NodePlan, Request, Validity};
use campanile_discovery::roster::{Draft, OriginKind, Right, RightArea, SignedRoster};
use campanile_discovery::testing::{EtcdServer, EtcdVersion};
use campanile_discovery::{Directory as _, SystemClock};
use campanile_log::Store as _;
use campanile_tests::process::{Processes, eventually, fires, logs};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::PROGRAM;

const FSD: &str = "fsd/node-1";
const EDB: &str = "edb/node-1";
const HAD: &str = "had/node-1";
const GATEWAY: &str = "isd/gateway-1";
const TOWN: [&str; 3] = [FSD, EDB, GATEWAY];
const SITES: usize = 2_000;
/// How long a fire may take to become a closure on the public page. A failure shows as 5 s of silence or more; a busy
/// machine and a debug build take a fraction of it.
const HOP_WITHIN: Duration = Duration::from_secs(5);
/// How long what was broken may take to mend: back-offs of at most 10 s, twice.
const HEAL_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_goes_on_while_etcd_3_4_is_frozen_killed_compacted_rewound_and_wiped_and_registration_heals() {
    traffic_survives(EtcdVersion::V34).await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_goes_on_while_etcd_3_5_is_frozen_killed_compacted_rewound_and_wiped_and_registration_heals() {
    traffic_survives(EtcdVersion::V35).await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn traffic_survives(version: EtcdVersion) -> Result<()> {
    let Some(mut etcd) = start_etcd(version).await? else { return Ok(()) };
    let mut town = Processes::prepare(PROGRAM, Some(etcd_directory(&etcd)))?;
    start_town(&mut town).await?;
    registered(&town, &etcd, "at first").await?;
    let traffic = Traffic::of(&town).await?;
    let mut running = traffic.keep_up();

    etcd.pause()?;
    running.more(8).await.context("while etcd was frozen")?;
    etcd.resume()?;
    registered(&town, &etcd, "after etcd was frozen").await?;

    etcd.kill()?;
    running.more(8).await.context("while etcd was dead")?;
    etcd = blocking(etcd, EtcdServer::start_again).await?;
    registered(&town, &etcd, "after etcd was killed").await?;
    running.more(4).await.context("after etcd was killed")?;

    etcd = blocking(etcd, EtcdServer::keep).await?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        etcd.compact().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    registered(&town, &etcd, "while etcd was compacted ten times a second").await?;
    running.more(4).await.context("while etcd was compacted")?;

    etcd = blocking(etcd, EtcdServer::rewind).await?;
    registered(&town, &etcd, "after etcd was rewound").await?;
    running.more(4).await.context("after etcd was rewound")?;

    etcd = blocking(etcd, EtcdServer::wipe).await?;
    registered(&town, &etcd, "after etcd was wiped").await?;
    running.more(4).await.context("after etcd was wiped")?;
    let (count, slowest) = running.end().await?;
    eprintln!("{version:?}: {count} fires became closures, the slowest in {:.2} s", slowest.as_secs_f64());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_start_while_etcd_is_dead_find_each_other_by_what_they_remember() {
    let run = async {
        let version = EtcdVersion::V34;
        let Some(mut etcd) = start_etcd(version).await? else { return Ok(()) };
        let mut town = Processes::prepare(PROGRAM, Some(etcd_directory(&etcd)))?;
        start_town(&mut town).await?;
        registered(&town, &etcd, "at first").await?;
        Traffic::of(&town).await?.fire_closes(0, HEAL_WITHIN).await?;
        remembered(&mut town).await?;
        for member in TOWN {
            town.stop(member).await?;
        }
        etcd.kill()?;
        for member in TOWN {
            town.start(member).await?;
        }
        let took = Traffic::of(&town).await?.fire_closes(1, HEAL_WITHIN).await?;
        eprintln!("without etcd the first closure took {:.2} s from the start", took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_department_that_was_frozen_or_dead_catches_up_and_closes_each_school_once() {
    let run = async {
        let mut town = Processes::prepare(PROGRAM, None)?;
        start_town(&mut town).await?;
        let traffic = Traffic::of(&town).await?;
        traffic.fire_closes(0, HEAL_WITHIN).await?;
        let mut next = 1;
        for how in ["frozen", "dead"] {
            if how == "frozen" {
                town.signal(EDB, "-STOP").await?
            } else {
                town.kill(EDB).await?
            }
            let away = Instant::now();
            while away.elapsed() < Duration::from_secs(10) {
                traffic.publish(next).await?;
                next += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            if how == "frozen" {
                town.signal(EDB, "-CONT").await?
            } else {
                town.start(EDB).await.map(drop)?
            }
            let back = Instant::now();
            traffic.shows(&(0..next).collect::<Vec<_>>(), HEAL_WITHIN).await?;
            eprintln!("{how} for 10 s, {next} fires: caught up {:.2} s after", back.elapsed().as_secs_f64());
        }
        let closures = logs::alerts(&town.store(GATEWAY)?, &logs::urgent(EDB))?;
        let closed: BTreeSet<_> = closures.iter().flat_map(|closure| closure.causes.clone()).collect();
        ensure!(
            closures.len() == next && closed.len() == next,
            "{} closures of {} fires, {next} published",
            closures.len(),
            closed.len()
        );
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_dead_origin_reaches_a_late_joiner_through_another_and_the_origin_is_heard_at_once_when_back() {
    let run = async {
        let mut town = Processes::prepare(PROGRAM, None)?;
        start_town(&mut town).await?;
        town.node(HAD, &[])?;
        let traffic = Traffic::of(&town).await?;
        for fire in 0..5 {
            traffic.fire_closes(fire, HEAL_WITHIN).await?;
        }
        town.kill(FSD).await?;
        town.start(HAD).await?;
        eventually("fsd's log at had", HEAL_WITHIN, async || {
            let held = logs::alerts(&town.store(HAD)?, &logs::urgent(FSD))?;
            ensure!(held.len() == 5 && held.iter().all(|fire| fire.counted()), "{} fires are held", held.len());
            Ok(())
        })
        .await?;
        ensure!(town.store(HAD)?.tail(&logs::urgent(FSD)) == town.store(FSD)?.tail(&logs::urgent(FSD)), "other tails");
        // By now everyone takes fsd's log from another holder.
        tokio::time::sleep(Duration::from_secs(2)).await;
        town.start(FSD).await?;
        let took = traffic.fire_closes(5, HOP_WITHIN).await.context("after the origin was back")?;
        eprintln!("back from the dead, its fire became a closure in {:.2} s", took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sixth_department_joins_with_its_own_keys_and_nobody_is_restarted() {
    let run = async {
        let mut town = Processes::prepare(PROGRAM, None)?;
        start_town(&mut town).await?;
        town.node(HAD, &[])?;
        town.start(HAD).await?;
        let traffic = Traffic::of(&town).await?;
        traffic.fire_closes(0, HEAL_WITHIN).await?;
        let before = town.pids();

        // The department makes its keys on its own side, and sends a file without secrets.
        let own = town.dir().join("on-the-side-of-dsd");
        let (dsd, node) = (DepartmentId::try_new("dsd")?, OriginId::try_new(DepartmentId::try_new("dsd")?, "node-1")?);
        let mut plan = DepartmentPlan::new(dsd.clone());
        plan.names = BTreeMap::from([("en".into(), "Drainage Services Department".into())]);
        plan.nodes = vec![NodePlan { name: "node-1".into(), kind: OriginKind::Node, hosts: Vec::new() }];
        let roles = [Role::Publish, Role::Read].into();
        plan.clients = vec![ClientPlan { name: "control-room".into(), roles, person: None }];
        let request = Request::create(&own, &plan, Validity::development(SystemClock.now()))?;
        ensure!(!String::from_utf8_lossy(&request).contains("PRIVATE"), "the request holds a secret");

        // Governance checks it, gives it rights and signs the next roster.
        let federation = town.federation();
        let root = federation.root()?;
        let present = SignedRoster::verify(&federation.roster()?, &root, None, true)?;
        let mut draft = Draft::after(&present);
        let right = Right { events: vec!["flood".into()], statuses: vec![Status::Actual], area: RightArea::Everywhere };
        Request::verify(&request)?.add_to(&mut draft, vec![right])?;
        let mut envelope = draft.finish(SystemClock.now())?;
        envelope.sign(&federation.governance_key(1)?);
        let roster = envelope.to_bytes();
        SignedRoster::verify(&roster, &root, Some(&present), true)?;

        // One node reads it from its disk; to the others it comes from their peers.
        std::fs::write(town.roster_file(FSD)?, &roster)?;
        town.signal(FSD, "-HUP").await?;
        town.node_with("dsd/node-1", &DepartmentDir::new(&own, &dsd).node("node-1"), &roster, &[])?;
        town.start("dsd/node-1").await?;
        let files = DepartmentDir::new(&own, &dsd).client("control-room");
        let newcomer = town.client_with(&dsd, files, &roster).await?;
        let mut watch = newcomer.watch(Start::Beginning, &Filter::default());
        let flood = fires::flood("dsd", "flood-1", SystemClock.now())?;
        let begun = Instant::now();
        newcomer.publish(&Publish::alert(&flood)).await?;
        for member in [FSD, EDB, HAD, GATEWAY] {
            eventually(&format!("the newcomer's flood at {member}"), HEAL_WITHIN, async || {
                let held = logs::alerts(&town.store(member)?, &logs::urgent(&node.to_string()))?;
                let [only] = held.as_slice() else { bail!("{} messages are held", held.len()) };
                ensure!(only.alert == flood, "another message is held");
                ensure!(only.counted(), "it does not count");
                Ok(())
            })
            .await?;
        }
        eprintln!("everyone holds and counts the newcomer's alert {:.2} s after", begun.elapsed().as_secs_f64());
        traffic.page_holds("flood-1", HEAL_WITHIN).await?;

        // It receives what the others had said before it came, and what they say now.
        traffic.fire_closes(1, HEAL_WITHIN).await?;
        let mut wanted = BTreeSet::from([fires::identifier(0), fires::identifier(1), "flood-1".to_owned()]);
        let mut closures = 0;
        let receive = async {
            while !wanted.is_empty() || closures < 2 {
                match watch.next().await.context("the watch ended")?? {
                    Event::Alert(record) => {
                        ensure!(record.not_counted.is_none(), "{:?}", record.not_counted);
                        closures += usize::from(record.department == "edb");
                        wanted.remove(&record.alert.identifier);
                    }
                    Event::Unreadable { faults, .. } => bail!("{faults:?}"),
                    Event::Heartbeat(_) | Event::Resumed { .. } => {}
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(HEAL_WITHIN, receive).await.context("the newcomer does not receive the others")??;
        let mut after = town.pids();
        after.remove("dsd/node-1");
        ensure!(after == before, "someone was restarted: {before:?} and {after:?}");
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Etcd's own calls block.
pub(crate) async fn start_etcd(version: EtcdVersion) -> Result<Option<EtcdServer>> {
    Ok(tokio::task::spawn_blocking(move || EtcdServer::start(version)).await??)
}

async fn blocking(
    mut etcd: EtcdServer,
    work: fn(&mut EtcdServer) -> Result<(), campanile_discovery::testing::Error>,
) -> Result<EtcdServer> {
    tokio::task::spawn_blocking(move || work(&mut etcd).map(|()| etcd)).await?.map_err(Into::into)
}

pub(crate) fn etcd_directory(etcd: &EtcdServer) -> serde_json::Value {
    json!({"kind": "etcd", "endpoints": [etcd.url()], "ttl_s": 3, "timeout_ms": 1000})
}

/// Starts fsd, edb with the fire pack, and the gateway.
async fn start_town(town: &mut Processes) -> Result<()> {
    let pack = fires::write_pack(town.dir(), SITES)?;
    town.node(FSD, &[])?;
    town.node(EDB, &[&pack])?;
    town.gateway(GATEWAY)?;
    for member in TOWN {
        town.start(member).await?;
    }
    town.allow_closures().await
}

/// Waits until a stranger who asks etcd anew finds all three, and edb sees the other two as registered.
async fn registered(town: &Processes, etcd: &EtcdServer, when: &str) -> Result<()> {
    let begun = Instant::now();
    let client = town.client("edb/directorate-1").await?;
    eventually(&format!("registration {when}"), HEAL_WITHIN, async || {
        let directory = EtcdDirectory::open(EtcdConfig::at(&etcd.url()), local::FEDERATION)?;
        let first = tokio::time::timeout(Duration::from_secs(3), directory.watch().recv()).await?;
        let Some(Update::Reset(hints)) = first else { bail!("etcd said {first:?}") };
        let found: BTreeSet<String> = hints.iter().map(|hint| hint.origin.to_string()).collect();
        ensure!(found == TOWN.map(str::to_owned).into(), "etcd lists {found:?}");
        let peers = client.peers().await?;
        let seen: BTreeSet<&str> = peers.iter().filter(|p| p.registered).map(|p| p.origin.as_str()).collect();
        ensure!(seen.contains(FSD) && seen.contains(GATEWAY), "edb sees {seen:?} registered");
        Ok(())
    })
    .await?;
    eprintln!("registered {when} after {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Waits until each member has written down where the others are.
async fn remembered(town: &mut Processes) -> Result<()> {
    for member in TOWN {
        let file = town.data(member)?.join("members/hints.json");
        eventually("the cache of hints", HEAL_WITHIN, async || {
            let text = std::fs::read_to_string(&file)?;
            ensure!(TOWN.iter().all(|name| text.contains(name)), "{member} remembers {text}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Publishes fires as Fire Services, and looks for their closures on the public page.
#[derive(Clone)]
struct Traffic {
    client: Client,
    http: std::net::SocketAddr,
}

impl Traffic {
    async fn of(town: &Processes) -> Result<Self> {
        let http = town.ready(GATEWAY)?.http.context("the gateway serves nobody")?;
        Ok(Self { client: town.client("fsd/dispatch").await?, http })
    }

    /// Publishes a fire; what fails for a moment is tried again.
    async fn publish(&self, fire: usize) -> Result<()> {
        let what = Publish::alert(&fires::fire(fire, SystemClock.now())?);
        eventually("publishing", HOP_WITHIN, async || Ok(self.client.publish(&what).await?)).await?;
        Ok(())
    }

    /// Publishes a fire and waits until its closure is on the page.
    async fn fire_closes(&self, fire: usize, within: Duration) -> Result<Duration> {
        let begun = Instant::now();
        self.publish(fire).await?;
        self.shows(&[fire], within).await?;
        Ok(begun.elapsed())
    }

    /// Waits until the closures of these fires are on the page.
    async fn shows(&self, fires: &[usize], within: Duration) -> Result<()> {
        eventually("closures on the page", within, async || {
            let page = self.page().await?;
            let missing: Vec<_> = fires.iter().filter(|fire| !page.contains(&fires::site(**fire))).collect();
            ensure!(missing.is_empty(), "no closure for {missing:?}");
            Ok(())
        })
        .await
    }

    async fn page_holds(&self, text: &str, within: Duration) -> Result<()> {
        eventually("the page", within, async || {
            ensure!(self.page().await?.contains(text), "{text} is not on the page");
            Ok(())
        })
        .await
    }

    async fn page(&self) -> Result<String> {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(self.http).await?;
            stream.write_all(b"GET /alerts.json HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
            let mut answer = String::new();
            stream.take(64 << 20).read_to_string(&mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.0 200"), "the page answers {:?}", answer.lines().next());
            Ok(answer)
        };
        tokio::time::timeout(Duration::from_secs(3), ask).await?
    }

    /// Lets one fire follow another in the background, each awaited until it is a closure on the page.
    fn keep_up(&self) -> Running {
        let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (traffic, counted, told) = (self.clone(), Arc::clone(&done), Arc::clone(&stop));
        let runtime = tokio::runtime::Handle::current();
        let work = async move |traffic: Self| {
            let mut slowest = Duration::ZERO;
            for fire in 0..SITES {
                if told.load(Ordering::SeqCst) {
                    return Ok((fire, slowest));
                }
                let took = traffic.fire_closes(fire, HOP_WITHIN).await.with_context(|| format!("fire {fire}"))?;
                slowest = slowest.max(took);
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            bail!("the traffic ran out of sites")
        };
        let task = tokio::task::spawn_blocking(move || runtime.block_on(work(traffic)));
        Running { done, stop, task }
    }
}

/// Traffic in the background.
struct Running {
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(usize, Duration)>>,
}

impl Running {
    /// Waits until so many more fires have become closures.
    async fn more(&mut self, fires: usize) -> Result<()> {
        let wanted = self.done.load(Ordering::SeqCst) + fires;
        let begun = Instant::now();
        while self.done.load(Ordering::SeqCst) < wanted {
            if self.task.is_finished() {
                let ended = (&mut self.task).await?;
                bail!("the traffic ended: {:#}", ended.err().context("without a reason")?);
            }
            ensure!(begun.elapsed() < HOP_WITHIN * u32::try_from(fires)?, "the traffic is too slow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn end(self) -> Result<(usize, Duration)> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await?
    }
}
