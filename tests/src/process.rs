//! Whole federations as processes, which tests may stop, freeze and kill.
//!
//! [`Processes`] makes a development federation in a temporary folder and writes each member's configuration with an
//! address of its own, so that a member that was killed comes back where it was. Every process dies with the value that
//! started it, or at the latest with the test's process. [`fires`] makes the fires and the school sites beside them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::{Clock as _, DepartmentId, OriginId, Timestamp};
use campanile_cli::local;
use campanile_cli::node_run::Ready;
use campanile_client::admin::Envelope;
use campanile_client::{Client, Credentials, Options as ClientOptions};
use campanile_discovery::pki::{Federation, NodeFiles};
use campanile_discovery::roster::{ClientId, RootKeys, RosterHandle};
use campanile_discovery::{Expect, Identity, IdentityFiles, SystemClock};
use campanile_log::SqliteStore;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

pub mod fires;
pub mod logs;

/// How long a member may take from its start until it listens, in a debug build on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a member may take to end after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Where fixed ports are chosen: below those that the system gives to outgoing connections, so that none of them takes
/// the port of a member while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many bytes of a member's log are shown when it fails.
const LOG_SHOWN: usize = 4_000;

/// A federation of processes.
#[derive(Debug)]
pub struct Processes {
    program: PathBuf,
    dir: tempfile::TempDir,
    directory: Value,
    federation: Federation,
    members: BTreeMap<OriginId, Member>,
}

#[derive(Debug)]
struct Member {
    verb: &'static str,
    /// What it runs; absent for the test's own program.
    program: Option<PathBuf>,
    /// What starts the program, when it is not started by itself.
    wrapper: Vec<String>,
    env: BTreeMap<String, String>,
    config: PathBuf,
    data: PathBuf,
    roster: PathBuf,
    log: PathBuf,
    ready: Option<Ready>,
    running: Option<(Child, ChildStdin)>,
}

impl Processes {
    /// Makes the federation; nothing runs yet. `program` is the test's `campanile-member`; `directory` is the
    /// directory's configuration, or nothing for a folder beside the members.
    ///
    /// # Errors
    /// When the folder, the keys or a file cannot be made.
    pub fn prepare(program: impl Into<PathBuf>, directory: Option<Value>) -> Result<Self> {
        Self::prepare_since(program, directory, SystemClock.now())
    }

    /// As [`Processes::prepare`], with keys and certificates that are good from this instant.
    ///
    /// # Errors
    /// As [`Processes::prepare`].
    pub fn prepare_since(program: impl Into<PathBuf>, directory: Option<Value>, since: Timestamp) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("campanile-processes-").tempdir()?;
        let federation = Federation::create(dir.path().join("pki"), &local::plan(since)?)?;
        let shared = json!({"kind": "file", "path": dir.path().join("directory"), "poll_ms": 200});
        let directory = directory.unwrap_or(shared);
        Ok(Self { program: program.into(), dir, directory, federation, members: BTreeMap::new() })
    }

    /// The temporary folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keys, certificates and the first roster.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Configures a node of the plan with these packs.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn node(&mut self, origin: &str, packs: &[&Path]) -> Result<()> {
        let files = self.federation.node(&origin.parse()?);
        let roster = self.federation.roster()?;
        self.node_with(origin, &files, &roster, packs)
    }

    /// Configures a node whose keys lie elsewhere, with its first roster.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn node_with(&mut self, origin: &str, files: &NodeFiles, roster: &[u8], packs: &[&Path]) -> Result<()> {
        let origin: OriginId = origin.parse()?;
        let member = self.member(&origin, files, roster, free_port()?)?;
        let sender = format!("{}@campanile.{}", origin.department(), local::FEDERATION);
        self.write("node", origin, &json!({"member": member, "sender": sender, "packs": packs}))
    }

    /// Configures a gateway of the plan, without screens.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn gateway(&mut self, origin: &str) -> Result<()> {
        self.gateway_for(origin, &[])
    }

    /// Configures a gateway of the plan, without screens, with sinks for these exercises.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn gateway_for(&mut self, origin: &str, exercises: &[&str]) -> Result<()> {
        let origin: OriginId = origin.parse()?;
        let (port, http) = (free_port()?, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
        let (files, roster) = (self.federation.node(&origin), self.federation.roster()?);
        let member = self.member(&origin, &files, &roster, port)?;
        let mut gateway = json!({"http": http});
        if !exercises.is_empty() {
            gateway["exercises"] = json!({"http": "127.0.0.1:0", "ids": exercises});
        }
        self.write("gateway", origin, &json!({"member": member, "gateway": gateway}))
    }

    fn folder(&self, origin: &OriginId) -> PathBuf {
        self.dir.path().join("members").join(format!("{}-{}", origin.department(), origin.node()))
    }

    fn member(&self, origin: &OriginId, files: &NodeFiles, roster: &[u8], port: u16) -> Result<Value> {
        let folder = self.folder(origin);
        std::fs::create_dir_all(folder.join("data"))?;
        std::fs::write(folder.join("roster.json"), roster)?;
        Ok(json!({
            "federation": local::FEDERATION,
            "origin": origin,
            "listen": SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            "data": folder.join("data"),
            "certificate": files.tls.chain,
            "certificate-key": files.tls.key,
            "signing-key": files.signing,
            "exercise-key": files.exercise,
            "roster": folder.join("roster.json"),
            "root": serde_json::to_value(self.federation.root()?)?,
            "development": true,
            "directory": self.directory,
        }))
    }

    /// JSON is YAML too.
    fn write(&mut self, verb: &'static str, origin: OriginId, config: &Value) -> Result<()> {
        let folder = self.folder(&origin);
        let path = folder.join("config.yaml");
        std::fs::write(&path, serde_json::to_vec_pretty(config)?)?;
        let member = Member {
            verb,
            program: None,
            wrapper: Vec::new(),
            env: BTreeMap::new(),
            config: path,
            data: folder.join("data"),
            roster: folder.join("roster.json"),
            log: folder.join("log"),
            ready: None,
            running: None,
        };
        self.members.insert(origin, member);
        Ok(())
    }

    /// Changes a member's configuration before it is started; `change` gets what stands under `member`.
    ///
    /// # Errors
    /// When there is no such member, or its file cannot be written.
    pub fn configure(&mut self, origin: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let member = self.find(origin)?;
        let mut config: Value = serde_json::from_slice(&std::fs::read(&member.config)?)?;
        let part = config.get_mut("member").context("a configuration without a member")?;
        change(part);
        if let Some(data) = part.get("data").and_then(Value::as_str) {
            member.data = data.into();
        }
        std::fs::write(&member.config, serde_json::to_vec_pretty(&config)?)?;
        Ok(())
    }

    /// Has a member started by another program, which becomes it (`ip netns exec …`), and with these variables.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn launch(&mut self, origin: &str, wrapper: &[&str], env: &[(&str, &str)]) -> Result<()> {
        let member = self.find(origin)?;
        member.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        member.env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(())
    }

    /// Has a member run another program from its next start on, for example that of an earlier release; `None` is the
    /// test's own.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn program_of(&mut self, origin: &str, program: Option<PathBuf>) -> Result<()> {
        self.find(origin)?.program = program;
        Ok(())
    }

    /// Starts a member and waits until it listens.
    ///
    /// # Errors
    /// When it runs already, ends, or does not listen in time; the end of its log is in the message.
    pub async fn start(&mut self, origin: &str) -> Result<Ready> {
        let own = self.program.clone();
        let member = self.find(origin)?;
        let program = member.program.clone().unwrap_or(own);
        ensure!(member.running.is_none(), "{origin} runs already");
        let log = std::fs::File::options().create(true).append(true).open(&member.log)?;
        let mut words: Vec<_> = member.wrapper.iter().map(std::ffi::OsString::from).collect();
        words.push(program.into_os_string());
        let mut words = words.into_iter();
        let mut child = Command::new(words.next().context("no program")?)
            .args(words)
            .args([member.verb, "run", "--config"])
            .arg(&member.config)
            .envs(&member.env)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()))
            // What ends a process stands in the last lines of its log; a backtrace would hide it.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {origin}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line = match tokio::time::timeout(READY_WITHIN, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(other) => bail!("{origin} ended before it listened ({other:?}); its log ends:\n{}", tail(&member.log)),
            Err(_) => bail!("{origin} did not listen in time; its log ends:\n{}", tail(&member.log)),
        };
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("{origin} said {line:?}"))?;
        ensure!(ready.origin == origin, "{origin} says that it is {}", ready.origin);
        member.running = Some((child, input));
        let copy = Ready { origin: ready.origin.clone(), ..ready };
        member.ready = Some(ready);
        Ok(copy)
    }

    /// Kills a member as a power cut would.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self, origin: &str) -> Result<()> {
        let member = self.find(origin)?;
        let (mut child, _input) = member.running.take().with_context(|| format!("{origin} does not run"))?;
        if let Some(status) = child.try_wait()? {
            bail!("{origin} had ended by itself ({status}); its log ends:\n{}", tail(&member.log));
        }
        child.kill().await?;
        Ok(())
    }

    /// Ends a member in order, with SIGTERM.
    ///
    /// # Errors
    /// When it does not run, does not end in time, or ends with a failure.
    pub async fn stop(&mut self, origin: &str) -> Result<()> {
        self.signal(origin, "-TERM").await?;
        let member = self.find(origin)?;
        let (mut child, _input) = member.running.take().with_context(|| format!("{origin} does not run"))?;
        let status = tokio::time::timeout(STOP_WITHIN, child.wait())
            .await
            .with_context(|| format!("{origin} did not end; its log ends:\n{}", tail(&member.log)))??;
        ensure!(status.success(), "{origin} ended with {status}; its log ends:\n{}", tail(&member.log));
        Ok(())
    }

    /// Waits until a member ends by itself, and tells how.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub async fn ended(&mut self, origin: &str, within: Duration) -> Result<std::process::ExitStatus> {
        let member = self.find(origin)?;
        let (child, _) = member.running.as_mut().with_context(|| format!("{origin} does not run"))?;
        let status = tokio::time::timeout(within, child.wait())
            .await
            .with_context(|| format!("{origin} goes on; its log ends:\n{}", tail(&member.log)))??;
        member.running = None;
        Ok(status)
    }

    /// Sends a signal to the process that runs as this member: `-STOP`, `-CONT`, `-HUP`, `-TERM`.
    ///
    /// # Errors
    /// When it does not run or the signal cannot be sent.
    pub async fn signal(&mut self, origin: &str, signal: &str) -> Result<()> {
        let member = self.find(origin)?;
        let (child, _) = member.running.as_ref().with_context(|| format!("{origin} does not run"))?;
        let pid = child.id().with_context(|| format!("{origin} has ended"))?;
        let status = Command::new("kill").args([signal, &pid.to_string()]).status().await?;
        ensure!(status.success(), "the signal {signal} could not be sent to {origin}");
        Ok(())
    }

    /// The process ids of the members that run.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let pid = |(origin, member): (&OriginId, &Member)| Some((origin.to_string(), member.running.as_ref()?.0.id()?));
        self.members.iter().filter_map(pid).collect()
    }

    /// Where a member listens; it must have been started once.
    ///
    /// # Errors
    /// When it was never started.
    pub fn ready(&self, origin: &str) -> Result<&Ready> {
        let member = self.members.get(&origin.parse::<OriginId>()?).with_context(|| format!("no member {origin}"))?;
        member.ready.as_ref().with_context(|| format!("{origin} was never started"))
    }

    /// The file that a member reads its roster from.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn roster_file(&mut self, origin: &str) -> Result<PathBuf> {
        Ok(self.find(origin)?.roster.clone())
    }

    /// The folder of a member's durable data.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn data(&mut self, origin: &str) -> Result<PathBuf> {
        Ok(self.find(origin)?.data.clone())
    }

    /// The store of a member as it stands now, for reading alone.
    ///
    /// # Errors
    /// When it has none yet.
    pub fn store(&self, origin: &str) -> Result<SqliteStore> {
        let member = self.members.get(&origin.parse::<OriginId>()?).with_context(|| format!("no member {origin}"))?;
        Ok(SqliteStore::open_read_only(&member.data.join("store"))?)
    }

    /// The end of a member's log.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn log_tail(&mut self, origin: &str) -> Result<String> {
        Ok(tail(&self.find(origin)?.log))
    }

    /// Connects a client of the plan to `node-1` of its department; each call is made once.
    ///
    /// # Errors
    /// When its certificate cannot be read or the node refuses it.
    pub async fn client(&self, client: &str) -> Result<Client> {
        let id: ClientId = client.parse()?;
        self.client_with(id.department(), self.federation.client(&id), &self.federation.roster()?).await
    }

    /// Connects with a certificate that lies elsewhere, judging the node by the given roster.
    ///
    /// # Errors
    /// As [`Processes::client`].
    pub async fn client_with(&self, department: &DepartmentId, files: IdentityFiles, roster: &[u8]) -> Result<Client> {
        let origin = OriginId::try_new(department.clone(), "node-1")?;
        let address = self.ready(&origin.to_string())?.address;
        self.connect(address, origin, files, roster, |_| ()).await
    }

    /// Connects a client of the plan to `node-1` of its department by way of another address, with options of its own.
    ///
    /// # Errors
    /// As [`Processes::client`].
    pub async fn client_by(
        &self,
        client: &str,
        address: SocketAddr,
        change: impl FnOnce(&mut ClientOptions),
    ) -> Result<Client> {
        let id: ClientId = client.parse()?;
        let origin = OriginId::try_new(id.department().clone(), "node-1")?;
        self.connect(address, origin, self.federation.client(&id), &self.federation.roster()?, change).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        origin: OriginId,
        files: IdentityFiles,
        roster: &[u8],
        change: impl FnOnce(&mut ClientOptions),
    ) -> Result<Client> {
        let root: RootKeys = self.federation.root()?;
        let roster = RosterHandle::open(root, true, None, Some(roster))?;
        let credentials = Credentials::roster(Identity::load(&files)?, roster, Arc::new(SystemClock))?;
        let mut options = ClientOptions::new(address.to_string(), credentials, Expect::Origin(origin));
        options.calls.attempts_max = 1;
        change(&mut options);
        Ok(Client::connect(options).await?)
    }

    /// Two persons of edb's directorate allow the fire rule to act at once.
    ///
    /// # Errors
    /// When edb's node refuses it.
    pub async fn allow_closures(&self) -> Result<()> {
        let valid_to = SystemClock.now().checked_add(jiff::SignedDuration::from_hours(24 * 7))?;
        for client in ["edb/directorate-1", "edb/directorate-2"] {
            let envelope = Envelope { rule: fires::RULE.into(), valid_from: None, valid_to };
            let client = self.client(client).await?;
            // On a bad network a new node may have to wait until a peer has told that it knows of no past.
            eventually("the envelope", READY_WITHIN, async || Ok(client.sign_envelope(&envelope).await?)).await?;
        }
        Ok(())
    }

    fn find(&mut self, origin: &str) -> Result<&mut Member> {
        self.members.get_mut(&origin.parse::<OriginId>()?).with_context(|| format!("no member {origin} is configured"))
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(LOG_SHOWN);
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}

/// A port that is free now, below those that the system gives to outgoing connections. No port is given twice, and tests
/// that run side by side begin in different places, since one that is given is not taken yet.
///
/// # Errors
/// When none of a thousand tried is free.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in 0..1_000 {
        let offset = (std::process::id().wrapping_mul(64) + GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(offset)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {} and {} is free", PORTS.start, PORTS.end)
}

/// The seed of a test: `CAMPANILE_SEED`, or one of its own; it is printed, so that a failure can be played again.
#[allow(clippy::print_stderr, reason = "the seed is what plays a failure again")]
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("CAMPANILE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    eprintln!("{test}: CAMPANILE_SEED={seed}");
    seed
}

/// How many times as long as in continuous integration a test goes on: `CAMPANILE_CHAOS_ROUNDS`, 1 without it, at most
/// 10,000.
pub fn rounds() -> usize {
    std::env::var("CAMPANILE_CHAOS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, 10_000)
}

/// Looks again and again until the answer is there or the time is up; the last reason is told.
///
/// # Errors
/// The last reason, when the time is up.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = tokio::time::Instant::now() + within;
    let pause = (within / 1_000).max(Duration::from_millis(20));
    loop {
        match look().await {
            Ok(answer) => return Ok(answer),
            Err(error) if tokio::time::Instant::now() >= end => {
                return Err(error.context(format!("{what}: not within {} s", within.as_secs())));
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
}
