//! The project under measurement: the shipped binary as processes, driven through the SDK.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::{Alert, Clock, xml};
use campanile_client::admin::Envelope;
use campanile_client::{Client, Credentials, Options as ClientOptions, Publish};
use campanile_discovery::pki::Federation;
use campanile_discovery::roster::{ClientId, RosterHandle};
use campanile_discovery::tls::{Identity, IdentityFiles, TlsMaterial};
use campanile_discovery::{Expect, MemoryHub, SystemClock};
use campanile_node::config::Member;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};

use super::fires::Fires;
use super::stats::Sample;
use crate::local::{self, GatewayNode};
use crate::node_run::{GatewayConfig, Ready};

/// The shipped fire pack.
pub(super) const PACK: &str = include_str!("../../../rules/packs/edb-fire.rules.yaml");
const FIRE_RULE: &str = "edb.school-closure.fire";
/// How long a process may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a chain may take to come to its end.
const CHAIN_WITHIN: Duration = Duration::from_secs(60);

/// The gateway of the bench.
#[derive(Debug, clap::Args)]
pub struct GatewayArgs {
    /// Its configuration.
    #[arg(long)]
    config: PathBuf,
}

/// Nanoseconds of the wall clock: processes of one machine share it.
pub(super) fn now_ns() -> i128 {
    SystemClock.now().as_nanosecond()
}

/// Says on stdout that a thing is durable now.
#[allow(clippy::print_stdout, reason = "the bench reads it")]
pub(super) fn tell(id: &str) {
    println!("{id} {}", now_ns());
}

/// Says on stdout where a process listens.
#[allow(clippy::print_stdout, reason = "the bench reads it")]
pub(super) fn say_ready(address: SocketAddr) -> Result<()> {
    let ready = Ready { origin: "floor/floor".into(), address, metrics: None, http: None };
    println!("{}", serde_json::to_string(&ready)?);
    Ok(())
}

/// Runs the real gateway, and says when each closure is durable in it.
///
/// # Errors
/// When it cannot start.
pub async fn gateway(args: GatewayArgs) -> Result<()> {
    let config = GatewayConfig::load(&args.config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut gateway = GatewayNode::bind(&config.member, config.gateway, clock, &MemoryHub::new()).await?;
    let bus = gateway.bus.clone();
    say_ready(gateway.address)?;
    let telling = tokio::spawn(async move {
        let mut changed = bus.changed();
        let mut after = *changed.borrow_and_update();
        loop {
            while let Ok(page) = bus.arrivals(after, 256).await {
                let Some(last) = page.last() else { break };
                after = last.entry.arrival;
                for body in page.iter().filter_map(|arrival| arrival.body.as_ref()) {
                    body.causes.iter().for_each(|cause| tell(&cause.identifier));
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    });
    let ended = gateway.join().await;
    telling.abort();
    ended
}

/// Reads the member part of a configuration.
///
/// # Errors
/// When the file is not one.
pub(super) fn read_member(path: &Path) -> Result<Member> {
    let mut member: Member = campanile_node::config::read_yaml(path)?;
    member.rebase(path.parent().unwrap_or(Path::new(".")));
    Ok(member)
}

/// A federation on the disk, ready to be started.
pub(super) struct Project {
    pub(super) dir: PathBuf,
    federation: Federation,
}

impl Project {
    /// Makes the federation, the pack and the data set.
    pub(super) fn prepare(dir: &Path, fires: &Fires) -> Result<Self> {
        let plan = local::plan(SystemClock.now())?;
        let federation = Federation::create(dir.join("pki"), &plan)?;
        let (parsed, _) = campanile_rules::Pack::parse(PACK)?;
        std::fs::write(dir.join("edb-fire.rules.yaml"), PACK)?;
        for reference in parsed.data.values() {
            std::fs::write(dir.join(&reference.file), &fires.schools)?;
        }
        std::fs::create_dir_all(dir.join("directory"))?;
        Ok(Self { dir: dir.into(), federation })
    }

    /// The origin of a member's process.
    pub(super) fn origin(member: &str) -> String {
        let node = if member == "isd" { "gateway-1" } else { "node-1" };
        format!("{member}/{node}")
    }

    fn member_json(&self, member: &str, data: &str) -> Result<serde_json::Value> {
        let origin: campanile_alert::OriginId = Self::origin(member).parse()?;
        let files = self.federation.node(&origin);
        let root = self.federation.root()?;
        std::fs::create_dir_all(self.dir.join(data))?;
        Ok(serde_json::json!({
            "federation": local::FEDERATION,
            "origin": origin,
            "listen": "127.0.0.1:0",
            "data": self.dir.join(data),
            "certificate": files.tls.chain,
            "certificate-key": files.tls.key,
            "signing-key": files.signing,
            "exercise-key": files.exercise,
            "roster": self.federation.roster_path(),
            "root": {"threshold": root.threshold, "keys": root.keys},
            "development": true,
            "directory": {"kind": "file", "path": self.dir.join("directory"), "poll_ms": 50},
        }))
    }

    /// Writes the configuration of a floor server. YAML reads JSON.
    pub(super) fn floor_config(&self, member: &str) -> Result<PathBuf> {
        let mut json = self.member_json(member, &format!("floor-data-{member}"))?;
        json["directory"] = serde_json::json!({"kind": "memory"});
        let path = self.dir.join(format!("floor-{member}.yaml"));
        std::fs::write(&path, json.to_string())?;
        Ok(path)
    }

    fn config(&self, member: &str, data: &str) -> Result<PathBuf> {
        let part = self.member_json(member, data)?;
        let json = if member == "isd" {
            serde_json::json!({"member": part, "gateway": {"http": "127.0.0.1:0"}})
        } else {
            let packs: &[&str] = if member == "edb" { &["edb-fire.rules.yaml"] } else { &[] };
            let sender = format!("{member}@campanile.{}", local::FEDERATION);
            serde_json::json!({"member": part, "sender": sender, "packs": packs})
        };
        let path = self.dir.join(format!("{member}.yaml"));
        std::fs::write(&path, json.to_string())?;
        Ok(path)
    }

    /// The certificate of a node and the CA of its department, as files.
    #[cfg(feature = "peers")]
    pub(super) fn tls_files(&self, origin: &str) -> Result<(IdentityFiles, PathBuf)> {
        let origin: campanile_alert::OriginId = origin.parse()?;
        Ok((self.federation.node(&origin).tls, self.federation.department(origin.department()).ca_path()))
    }

    fn roster(&self) -> Result<RosterHandle> {
        Ok(RosterHandle::open(self.federation.root()?, true, None, Some(&self.federation.roster()?))?)
    }

    /// The TLS material of a node, for the floor's client.
    pub(super) fn material(&self, origin: &str) -> Result<TlsMaterial> {
        let files: IdentityFiles = self.federation.node(&origin.parse()?).tls;
        Ok(TlsMaterial::open(files, self.roster()?, Arc::new(SystemClock))?)
    }

    /// Starts the processes of these members, with empty logs of this name.
    pub(super) async fn start(&self, name: &'static str, members: &[&str]) -> Result<Running<'_>> {
        let mut processes = BTreeMap::new();
        for member in members {
            processes.insert((*member).to_owned(), self.spawn(name, member).await?);
        }
        let running = Running { project: self, name, processes };
        if members.len() > 1 {
            running.caught_up(CHAIN_WITHIN).await?;
        }
        Ok(running)
    }

    async fn spawn(&self, name: &str, member: &str) -> Result<Spawned> {
        let config = self.config(member, &format!("{name}-data-{member}"))?.display().to_string();
        let words: &[&str] = if member == "isd" { &["bench-part", "gateway"] } else { &["node", "run"] };
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["--config".to_owned(), config]);
        Spawned::start(self, member, &arguments).await
    }
}

/// A child process that told where it listens.
pub(super) struct Spawned {
    child: Child,
    pub(super) ready: Ready,
    /// What became durable in it, by name, in nanoseconds of the wall clock.
    told: watch::Receiver<usize>,
    times: Arc<Mutex<HashMap<String, i128>>>,
}

impl Spawned {
    /// Starts this binary with other words.
    pub(super) async fn start(project: &Project, name: &str, arguments: &[String]) -> Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(project.dir.join(format!("{name}.log")))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start a process of the bench")?;
        let mut lines = BufReader::new(child.stdout.take().context("the process has no stdout")?).lines();
        let first = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
        let Ok(Ok(Some(first))) = first else {
            let log = std::fs::read_to_string(project.dir.join(format!("{name}.log"))).unwrap_or_default();
            bail!("{name} did not start: {}", log.lines().last().unwrap_or("it said nothing"));
        };
        let ready = serde_json::from_str(&first).with_context(|| format!("{name} said {first:?}"))?;
        let times: Arc<Mutex<HashMap<String, i128>>> = Arc::default();
        let (sender, told) = watch::channel(0);
        let into = Arc::clone(&times);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((id, at)) = line.split_once(' ')
                    && let Ok(at) = at.parse()
                {
                    let mut times = into.lock().await;
                    times.entry(id.to_owned()).or_insert(at);
                    sender.send_replace(times.len());
                }
            }
        });
        Ok(Self { child, ready, told, times })
    }

    async fn wait_for(&self, id: &str) -> Result<i128> {
        let mut told = self.told.clone();
        let look = async {
            loop {
                told.borrow_and_update();
                if let Some(at) = self.times.lock().await.get(id) {
                    return Ok(*at);
                }
                told.changed().await.context("the last process of the chain ended")?;
            }
        };
        tokio::time::timeout(CHAIN_WITHIN, look).await.with_context(|| format!("{id} never came to the end"))?
    }

    pub(super) async fn stop(mut self) {
        // It has ended already, or it ends now.
        let _ended = self.child.kill().await;
    }
}

/// Runs `count` things through a chain, `at_once` at a time, and takes the time from the beginning of each until the
/// last process says that it is durable there.
pub(super) async fn drive<F>(last: &Spawned, count: u32, at_once: u32, begin: impl Fn(u32) -> F) -> Result<Sample>
where
    F: Future<Output = Result<(String, i128)>>,
{
    let started = Instant::now();
    let next = std::sync::atomic::AtomicU32::new(0);
    let worker = || async {
        let mut latencies = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if at >= count {
                return Ok::<_, anyhow::Error>(latencies);
            }
            let (id, begun) = begin(at).await?;
            let ended = last.wait_for(&id).await?;
            latencies.push(Duration::from_nanos(u64::try_from(ended - begun).unwrap_or_default()));
        }
    };
    let workers = (0..at_once).map(|_| worker());
    let latencies = futures::future::try_join_all(workers).await?.concat();
    Ok(Sample::new(latencies, started.elapsed()))
}

/// Running members.
pub(super) struct Running<'p> {
    project: &'p Project,
    name: &'static str,
    processes: BTreeMap<String, Spawned>,
}

impl Running<'_> {
    fn process(&self, member: &str) -> Result<&Spawned> {
        self.processes.get(member).with_context(|| format!("{member} does not run"))
    }

    async fn client(&self, client: &str) -> Result<Client> {
        let id: ClientId = client.parse()?;
        let member = id.department().as_str();
        let identity = Identity::load(&self.project.federation.client(&id))?;
        let credentials = Credentials::roster(identity, self.project.roster()?, Arc::new(SystemClock))?;
        let expect = Expect::Origin(Project::origin(member).parse()?);
        let address = self.process(member)?.ready.address.to_string();
        Ok(Client::connect(ClientOptions::new(address, credentials, expect)).await?)
    }

    /// Ends edb's process; its log stays.
    pub(super) async fn edb_away(&mut self) -> Result<()> {
        self.processes.remove("edb").context("edb does not run")?.stop().await;
        Ok(())
    }

    /// Starts edb again, and publishes one alert after another at fsd until edb holds as many records as fsd had at the
    /// start: the times of those calls, and how long it took in all.
    pub(super) async fn edb_back(
        &mut self,
        within: Duration,
        mut next: impl FnMut() -> Result<Alert>,
    ) -> Result<Sample> {
        let wanted = self.records().await?;
        let begun = Instant::now();
        let back = self.project.spawn(self.name, "edb").await?;
        self.processes.insert("edb".into(), back);
        let edb = self.client("edb/duty-officer-1").await?;
        let fsd = self.client("fsd/dispatch").await?;
        let mut latencies = Vec::new();
        loop {
            ensure!(begun.elapsed() < within, "edb did not catch up with fsd within {} s", within.as_secs());
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_millis(500) {
                let publish = Publish::cap_xml(xml::write(&next()?).into_bytes());
                let called = Instant::now();
                fsd.publish(&publish).await?;
                latencies.push(called.elapsed());
            }
            if edb.status().await?.records >= wanted {
                return Ok(Sample::new(latencies, begun.elapsed()));
            }
        }
    }

    /// Waits until edb holds what fsd has.
    pub(super) async fn caught_up(&self, within: Duration) -> Result<()> {
        let edb = self.client("edb/duty-officer-1").await?;
        let end = Instant::now() + within;
        while Instant::now() < end {
            let peers = edb.peers().await?;
            let behind = peers
                .iter()
                .filter(|peer| peer.origin.starts_with("fsd/"))
                .any(|peer| peer.logs.iter().any(|log| log.served_by.is_none() || log.held != log.seen));
            if !behind {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("edb did not catch up with fsd within {} s", within.as_secs())
    }

    /// Two directors allow the fire rule to act at once.
    pub(super) async fn sign_envelope(&self) -> Result<()> {
        let valid_to = SystemClock.now().checked_add(jiff::SignedDuration::from_hours(24))?;
        for client in ["edb/directorate-1", "edb/directorate-2"] {
            let envelope = Envelope { rule: FIRE_RULE.into(), valid_from: None, valid_to };
            self.client(client).await?.sign_envelope(&envelope).await?;
        }
        Ok(())
    }

    /// Publishes alerts at fsd, `at_once` at a time, and takes the time of each.
    pub(super) async fn publish(&self, alerts: Vec<Alert>, at_once: u32) -> Result<Sample> {
        let client = self.client("fsd/dispatch").await?;
        let publishes: Vec<Publish> =
            alerts.iter().map(|alert| Publish::cap_xml(xml::write(alert).into_bytes())).collect();
        let started = Instant::now();
        let mut tasks = Vec::new();
        for part in publishes.chunks(publishes.len().div_ceil(at_once as usize)) {
            let (client, part) = (client.clone(), part.to_vec());
            tasks.push(tokio::spawn(async move {
                let mut latencies = Vec::new();
                for publish in &part {
                    let begun = Instant::now();
                    client.publish(publish).await?;
                    latencies.push(begun.elapsed());
                }
                Ok::<_, campanile_client::Error>(latencies)
            }));
        }
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok(Sample::new(latencies, started.elapsed()))
    }

    /// Publishes fires at fsd and waits for the closure of each in the gateway.
    pub(super) async fn chain(&self, alerts: Vec<Alert>, at_once: u32) -> Result<Sample> {
        let client = self.client("fsd/dispatch").await?;
        let publishes: Vec<(String, Publish)> = alerts
            .iter()
            .map(|alert| (alert.identifier.clone(), Publish::cap_xml(xml::write(alert).into_bytes())))
            .collect();
        let count = u32::try_from(publishes.len())?;
        drive(self.process("isd")?, count, at_once, |at| {
            let (client, publish) = (client.clone(), publishes.get(at as usize).cloned());
            async move {
                let (id, publish) = publish.context("no such alert")?;
                let begun = now_ns();
                client.publish(&publish).await?;
                Ok((id, begun))
            }
        })
        .await
    }

    /// How many records fsd's node holds.
    pub(super) async fn records(&self) -> Result<u64> {
        Ok(self.client("fsd/dispatch").await?.status().await?.records)
    }

    /// The resident memory of a member's process, in MiB.
    pub(super) fn rss_mib(&self, member: &str) -> Result<f64> {
        let pid = self.process(member)?.child.id().context("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no VmRSS")?.parse()?;
        Ok((kib / 1024.0 * 10.0).round() / 10.0)
    }

    /// The size of a member's write-ahead log, in MiB.
    pub(super) fn wal_mib(&self, member: &str) -> f64 {
        let store = self.project.dir.join(format!("{}-data-{member}", self.name)).join("store");
        let files = std::fs::read_dir(store).into_iter().flatten().flatten();
        let wal = files.filter(|file| file.file_name().to_string_lossy().ends_with("-wal"));
        #[allow(clippy::cast_precision_loss)]
        let bytes: f64 = wal.filter_map(|file| file.metadata().ok()).map(|meta| meta.len() as f64).sum();
        (bytes / 1_048_576.0 * 10.0).round() / 10.0
    }

    /// Ends the processes.
    pub(super) async fn stop(self) {
        for (_, process) in self.processes {
            process.stop().await;
        }
    }
}

/// The directory of the bench's federation is a folder; this keeps the configuration in step with the type.
#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use campanile_discovery::DirectoryConfig;

    #[test]
    fn the_configurations_that_the_bench_writes_are_read() {
        let json = serde_json::json!({"kind": "file", "path": "x", "poll_ms": 50});
        let config: DirectoryConfig = serde_saphyr::from_str(&json.to_string()).expect("a directory");
        assert!(matches!(config, DirectoryConfig::File { poll_ms: 50, .. }));
    }
}
