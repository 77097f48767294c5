//! Leaf certificates, a CA and a signing key change while fires are published: no call fails, nobody is restarted, and
//! every record counts everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use campanile_alert::{Clock as _, DepartmentId};
use campanile_client::{Client, Publish};
use campanile_discovery::SystemClock;
use campanile_discovery::pki::{self, DepartmentDir, KeyRequest, Validity};
use campanile_discovery::roster::{Draft, KeyEnd, KeyUse, Lane, SignedRoster};
use campanile_tests::process::{Processes, eventually, fires, logs};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::PROGRAM;

const FSD: &str = "fsd/node-1";
const EDB: &str = "edb/node-1";
const WITHIN: Duration = Duration::from_secs(60);
/// How many fires there are sites for.
const SITES: usize = 4_000;

/// One publisher that never tries twice. It may be given another connection between two fires.
struct Publisher {
    client: Arc<Mutex<Client>>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Publisher {
    fn start(client: Client) -> Self {
        let client = Arc::new(Mutex::new(client));
        let (acknowledged, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (from, count, end) = (Arc::clone(&client), Arc::clone(&acknowledged), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            for fire in 0..SITES {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let client = from.lock().clone();
                let alert = fires::fire(fire, SystemClock.now())?;
                client.publish(&Publish::alert(&alert)).await.with_context(|| format!("fire {fire}"))?;
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        });
        Self { client, acknowledged, stop, task }
    }

    fn count(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Takes another connection, as a client does when its certificate was renewed.
    async fn reconnect(&self, town: &Town) -> Result<()> {
        let client = town.client("fsd/dispatch").await?;
        *self.client.lock() = client;
        Ok(())
    }

    /// Waits for ten more fires, and until edb holds all that were acknowledged before.
    async fn goes_on(&self, town: &Processes, after: &str) -> Result<()> {
        let wanted = self.count() + 10;
        eventually(after, WITHIN, async || {
            ensure!(!self.task.is_finished() || self.stop.load(Ordering::SeqCst), "the publisher has ended");
            let held = logs::alerts(&town.store(EDB)?, &logs::urgent(FSD))?;
            ensure!(held.iter().all(|fire| fire.counted()), "a fire does not count at edb");
            ensure!(
                self.count() >= wanted && held.len() >= wanted,
                "{} acknowledged, {} held",
                self.count(),
                held.len()
            );
            Ok(())
        })
        .await
    }

    async fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await??;
        Ok(self.acknowledged.load(Ordering::SeqCst))
    }
}

/// What governance and the departments' operators do.
struct Town {
    processes: Processes,
    roster: SignedRoster,
    fsd: DepartmentDir,
}

impl Town {
    /// Signs the next roster; every member reads it from its disk.
    async fn govern(&mut self, change: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
        let mut draft = Draft::after(&self.roster);
        change(&mut draft)?;
        let mut envelope = draft.finish(SystemClock.now())?;
        envelope.sign(&self.processes.federation().governance_key(1)?);
        let bytes = envelope.to_bytes();
        let root = self.processes.federation().root()?;
        self.roster = SignedRoster::verify(&bytes, &root, Some(&self.roster), true)?;
        for member in [FSD, EDB] {
            std::fs::write(self.processes.roster_file(member)?, &bytes)?;
        }
        self.reload().await?;
        let number = self.roster.number;
        for client in ["fsd/dispatch", "edb/duty-officer-1"] {
            let client = self.client(client).await?;
            eventually("the roster in force", WITHIN, async || {
                ensure!(client.status().await?.roster == number, "not yet");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<()> {
        for member in [FSD, EDB] {
            self.processes.signal(member, "-HUP").await?;
        }
        Ok(())
    }

    /// A new connection, with the certificate that lies on the disk now and the roster that is in force now.
    async fn client(&self, client: &str) -> Result<Client> {
        let id: campanile_discovery::roster::ClientId = client.parse()?;
        let files = self.processes.federation().client(&id);
        self.processes.client_with(id.department(), files, self.roster.envelope()).await
    }

    /// Renews every certificate of fsd for so many days, and waits until the node shows the new one: two that were made
    /// in one second are told apart by their end alone.
    async fn renew(&mut self, days: u64) -> Result<()> {
        let before = self.client("fsd/dispatch").await?.status().await?.certificate_expires;
        let validity =
            Validity { leaf: Duration::from_secs(3_600 * 24 * days), ..Validity::development(SystemClock.now()) };
        pki::renew_node(&self.fsd, "node-1", &[], validity)?;
        pki::renew_client(&self.fsd, "dispatch", None, validity)?;
        self.reload().await?;
        eventually("the new certificate", WITHIN, async || {
            let now = self.client("fsd/dispatch").await?.status().await?.certificate_expires;
            ensure!(now.is_some() && now != before, "still the one until {before:?}");
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_leaves_a_ca_and_a_signing_key_change_under_load_without_a_failed_call_or_a_restart() {
    change_everything().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn change_everything() -> Result<()> {
    let mut processes = Processes::prepare(PROGRAM, None)?;
    let pack = fires::write_pack(processes.dir(), SITES)?;
    processes.node(FSD, &[])?;
    processes.node(EDB, &[&pack])?;
    for member in [FSD, EDB] {
        processes.start(member).await?;
    }
    let federation = processes.federation();
    let roster = SignedRoster::verify(&federation.roster()?, &federation.root()?, None, true)?;
    let fsd = federation.department(&DepartmentId::try_new("fsd")?);
    let mut town = Town { processes, roster, fsd };
    let started = town.processes.pids();
    let publisher = Publisher::start(town.client("fsd/dispatch").await?);
    publisher.goes_on(&town.processes, "the first fires").await?;

    town.renew(3).await?;
    publisher.reconnect(&town).await?;
    publisher.goes_on(&town.processes, "after the leaves").await?;

    // Both CAs count while every certificate is renewed.
    let stale = town.processes.dir().join("stale");
    std::fs::create_dir_all(&stale)?;
    let files = town.fsd.client("dispatch");
    for file in [&files.chain, &files.key] {
        std::fs::copy(file, stale.join(file.file_name().context("no name")?))?;
    }
    let next = std::fs::read_to_string(pki::next_ca(&town.fsd, Validity::development(SystemClock.now()))?)?;
    let id = town.fsd.id().clone();
    town.govern(|draft| Ok(draft.add_ca(&id, next)?)).await?;
    let old = std::fs::read_to_string(pki::promote_ca(&town.fsd)?)?;
    town.renew(4).await?;
    publisher.reconnect(&town).await?;
    publisher.goes_on(&town.processes, "with two CAs").await?;
    town.govern(|draft| Ok(draft.remove_ca(&id, &old)?)).await?;
    publisher.goes_on(&town.processes, "after the CA").await?;
    let stale =
        campanile_discovery::IdentityFiles { chain: stale.join("dispatch.pem"), key: stale.join("dispatch.key") };
    let with_old = match town.processes.client_with(&id, stale, town.roster.envelope()).await {
        Ok(client) => client.status().await.map(drop).map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    ensure!(with_old.is_err(), "a certificate of the old CA is let in");

    // Both keys are listed; the node signs with the new one from its reload on.
    let request = KeyRequest::verify(&pki::next_key(&town.fsd, "node-1", KeyUse::Live)?)?;
    let operator = town.client("fsd/dispatch").await?;
    let (present, new) = (operator.status().await?.key_id, request.key.id.to_string());
    town.govern(|draft| Ok(request.add_to(draft)?)).await?;
    pki::promote_key(&town.fsd, "node-1", KeyUse::Live)?;
    town.reload().await?;
    let tails = eventually("the new key", WITHIN, async || {
        let status = operator.status().await?;
        ensure!(status.key_id == new, "the key is {}", status.key_id);
        Ok(status.tails)
    })
    .await?;
    publisher.goes_on(&town.processes, "with two keys").await?;
    let tail = tails.iter().find(|tail| tail.origin == FSD && tail.lane == "urgent").context("no tail of fsd")?;
    let end = KeyEnd { lane: Lane::Urgent, epoch: tail.epoch, seq: tail.seq };
    town.govern(|draft| Ok(draft.end_key(&FSD.parse()?, present.parse()?, vec![end])?)).await?;
    publisher.goes_on(&town.processes, "after the key").await?;
    ensure!(town.processes.pids() == started, "somebody was restarted");

    // Who starts now believes the registration that was signed with the new key, and no other.
    town.processes.stop(EDB).await?;
    town.processes.start(EDB).await?;
    publisher.goes_on(&town.processes, "after edb has started again").await?;

    let count = publisher.end().await?;
    eventually("all at edb", WITHIN, async || {
        let held = logs::alerts(&town.processes.store(EDB)?, &logs::urgent(FSD))?;
        ensure!(held.len() == count && held.iter().all(|fire| fire.counted()), "{} of {count} are held", held.len());
        Ok(())
    })
    .await?;
    for member in [FSD, EDB] {
        logs::verify(&town.processes.store(member)?, &town.roster)?;
    }
    eprintln!(
        "{count} fires published while leaves, CA and signing key changed; none failed; roster {}",
        town.roster.number
    );
    Ok(())
}
