//! Whole federations in one process: real servers, real mutual TLS on loopback, a clock that the test sets.
//!
//! A test takes a [`Plan`] (that of `campanile up`, or its own), says which origins run here and with which packs, and
//! gets a [`Cluster`]. Origins of the plan that do not run here have their keys on the disk all the same: the test may
//! be them, honestly or not ([`hostile`]). Alert time is the cluster's clock; timers between programs run in real
//! time, so waiting is always [`wait_for`] with a limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use campanile_alert::{Clock, ManualClock, OriginId, Timestamp};
use campanile_bus::{Arrival, Bus};
use campanile_cli::local::GatewayNode;
use campanile_client::{Client, Credentials, Expect, Identity, Options};
use campanile_discovery::pki::{Federation, Plan};
use campanile_discovery::roster::{ClientId, OriginKind};
use campanile_discovery::{DirectoryConfig, MemoryHub, SystemClock};
use campanile_node::config::{self, Config, Member, Root};

pub mod alerts;
pub mod hostile;
pub mod web;

/// How long a test waits for anything.
pub const LIMIT: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What time it is in a cluster.
#[derive(Debug, Clone)]
pub enum Time {
    /// The machine's.
    System,
    /// What the test says.
    Manual(Arc<ManualClock>),
    /// Passing by itself, faster than the machine's.
    Flowing(Arc<Flowing>),
}

/// A clock that shows a chosen instant first, and runs so many times as fast as the machine's.
#[derive(Debug)]
pub struct Flowing {
    from: Timestamp,
    since: std::time::Instant,
    times: u32,
}

impl Clock for Flowing {
    fn now(&self) -> Timestamp {
        let passed = jiff::SignedDuration::try_from(self.since.elapsed()).unwrap_or_default();
        self.from.checked_add(passed.saturating_mul(i32::try_from(self.times).unwrap_or(i32::MAX))).unwrap_or(self.from)
    }
}

impl Time {
    /// A clock that the test sets, showing `text` first, for example `2026-10-13T02:00:00Z`.
    ///
    /// # Errors
    /// When the text is no instant.
    pub fn at(text: &str) -> Result<Self> {
        Ok(Self::Manual(Arc::new(ManualClock::new(text.parse()?))))
    }

    /// A clock that shows `text` first and runs `times` times as fast as the machine's.
    ///
    /// # Errors
    /// When the text is no instant.
    pub fn flowing(text: &str, times: u32) -> Result<Self> {
        let since = std::time::Instant::now();
        Ok(Self::Flowing(Arc::new(Flowing { from: text.parse()?, since, times })))
    }

    /// As the library takes it.
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::System => Arc::new(SystemClock),
            Self::Manual(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            Self::Flowing(clock) => Arc::clone(clock) as Arc<dyn Clock>,
        }
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }
}

/// What runs here, before it runs.
#[derive(Debug)]
pub struct Builder {
    plan: Plan,
    time: Time,
    dir: tempfile::TempDir,
    packs: BTreeMap<String, Vec<PathBuf>>,
    sources: BTreeMap<String, Vec<PathBuf>>,
    away: Vec<String>,
    estates: Option<PathBuf>,
    mqtt: Option<String>,
    exercises: Vec<campanile_alert::ExerciseId>,
    directory: DirectoryConfig,
}

impl Builder {
    /// All origins of the plan, without packs.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new(plan: Plan, time: Time) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("campanile-e2e-").tempdir().context("failed to make a folder")?;
        Ok(Self {
            plan,
            time,
            dir,
            packs: BTreeMap::new(),
            sources: BTreeMap::new(),
            away: Vec::new(),
            estates: None,
            mqtt: None,
            exercises: Vec::new(),
            directory: DirectoryConfig::Memory,
        })
    }

    /// The folder of the cluster, for packs and data that the test writes itself.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves an origin to the test: its keys are made, it does not run.
    #[must_use]
    pub fn away(mut self, origin: &str) -> Self {
        self.away.push(origin.into());
        self
    }

    /// Gives an origin a pack.
    #[must_use]
    pub fn pack(mut self, origin: &str, pack: impl Into<PathBuf>) -> Self {
        self.packs.entry(origin.into()).or_default().push(pack.into());
        self
    }

    /// Gives an origin a mapping table for foreign alerts.
    #[must_use]
    pub fn source(mut self, origin: &str, table: impl Into<PathBuf>) -> Self {
        self.sources.entry(origin.into()).or_default().push(table.into());
        self
    }

    /// Gives the gateway estates with screens.
    #[must_use]
    pub fn estates(mut self, estates: impl Into<PathBuf>) -> Self {
        self.estates = Some(estates.into());
        self
    }

    /// Gives the gateway a broker.
    #[must_use]
    pub fn mqtt(mut self, url: impl Into<String>) -> Self {
        self.mqtt = Some(url.into());
        self
    }

    /// Gives the gateway sinks for an exercise.
    #[must_use]
    pub fn exercise(mut self, id: &str) -> Self {
        self.exercises.extend(id.parse());
        self
    }

    /// Uses this directory instead of one in memory.
    #[must_use]
    pub fn directory(mut self, directory: DirectoryConfig) -> Self {
        self.directory = directory;
        self
    }

    /// Makes the keys and starts what runs here.
    ///
    /// # Errors
    /// When any part cannot be started; the message says which.
    pub async fn start(self) -> Result<Cluster> {
        let federation = Federation::create(self.dir.path().join("pki"), &self.plan)?;
        let mut cluster = Cluster {
            federation,
            time: self.time,
            hub: MemoryHub::new(),
            directory: self.directory,
            places: BTreeMap::new(),
            nodes: BTreeMap::new(),
            gateways: BTreeMap::new(),
            dir: self.dir,
        };
        for department in &self.plan.departments {
            for node in &department.nodes {
                let name = format!("{}/{}", department.id, node.name);
                let member = cluster.member(&self.plan.federation, &name)?;
                let channels = match node.kind {
                    OriginKind::Node => None,
                    OriginKind::Gateway => {
                        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                        let mut config = campanile_gateway::Config::new(listen, self.estates.clone());
                        if let Some(url) = &self.mqtt {
                            let mqtt = campanile_gateway::config::MqttConfig {
                                url: url.clone(),
                                owner: "ha".into(),
                                ca: None,
                                username: None,
                                password_file: None,
                            };
                            config.channels.push(campanile_gateway::config::ChannelConfig::Mqtt(mqtt));
                        }
                        if !self.exercises.is_empty() {
                            let ids = self.exercises.clone();
                            config.exercises = Some(campanile_gateway::config::ExercisesConfig { http: listen, ids });
                        }
                        Some(config)
                    }
                };
                let config = Config {
                    member,
                    sender: format!("{}@campanile.test", department.id),
                    packs: self.packs.get(&name).cloned().unwrap_or_default(),
                    sources: self.sources.get(&name).cloned().unwrap_or_default(),
                };
                cluster.places.insert(name, Place { config, channels });
            }
        }
        let running: Vec<String> = cluster.places.keys().filter(|name| !self.away.contains(name)).cloned().collect();
        for name in running {
            cluster.start(&name).await?;
        }
        Ok(cluster)
    }
}

/// How an origin is started, again and again.
#[derive(Debug, Clone)]
struct Place {
    config: Config,
    channels: Option<campanile_gateway::Config>,
}

/// A running federation.
#[derive(Debug)]
pub struct Cluster {
    /// Its certificates and keys.
    pub federation: Federation,
    /// Its time.
    pub time: Time,
    hub: MemoryHub,
    directory: DirectoryConfig,
    places: BTreeMap<String, Place>,
    nodes: BTreeMap<String, campanile_node::Server>,
    gateways: BTreeMap<String, GatewayNode>,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn member(&self, federation: &str, origin: &str) -> Result<Member> {
        let origin: OriginId = origin.parse()?;
        let files = self.federation.node(&origin);
        let root = self.federation.root()?;
        let data = self.dir.path().join("data").join(origin.department().as_str()).join(origin.node());
        std::fs::create_dir_all(&data)?;
        Ok(Member {
            federation: federation.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: Vec::new(),
            data,
            certificate: files.tls.chain,
            certificate_key: files.tls.key,
            signing_key: files.signing,
            exercise_key: files.exercise,
            roster: self.federation.roster_path(),
            root: Root { threshold: root.threshold, keys: root.keys },
            development: true,
            directory: self.directory.clone(),
            peers: Vec::new(),
            metrics_listen: None,
            begin_anew: false,
            origin,
        })
    }

    /// Starts an origin; after a stop with the same data at the same address.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&mut self, origin: &str) -> Result<()> {
        let place = self.places.get_mut(origin).with_context(|| format!("the plan has no {origin}"))?;
        let clock = self.time.clock();
        match &place.channels {
            None => {
                // Tasks of the one that was just stopped may hold the store for a moment.
                let (config, hub) = (&place.config, &self.hub);
                let node = wait_for(&format!("{origin} started"), LIMIT, || {
                    let clock = Arc::clone(&clock);
                    async move {
                        match campanile_node::Server::bind(config.clone(), clock, hub).await {
                            Ok(node) => Ok(Some(node)),
                            Err(campanile_node::server::Error::Config(config::Error::Store(
                                campanile_log::Error::InUse { .. },
                            ))) => Ok(None),
                            Err(error) => Err(anyhow::Error::from(error).context(format!("failed to start {origin}"))),
                        }
                    }
                })
                .await?;
                place.config.member.listen = node.address();
                self.nodes.insert(origin.into(), node);
            }
            Some(channels) => {
                let gateway = GatewayNode::bind(&place.config.member, channels.clone(), clock, &self.hub).await;
                let gateway = gateway.with_context(|| format!("failed to start {origin}"))?;
                place.config.member.listen = gateway.address;
                self.gateways.insert(origin.into(), gateway);
            }
        }
        Ok(())
    }

    /// Stops an origin in order; its data stays.
    pub async fn stop(&mut self, origin: &str) {
        if let Some(node) = self.nodes.remove(origin) {
            node.shutdown().await;
        }
        if let Some(gateway) = self.gateways.remove(origin) {
            gateway.shutdown().await;
        }
    }

    /// Stops an origin and takes its disk from it; [`Cluster::start`] gives it an empty one.
    ///
    /// # Errors
    /// When the plan has no such origin, or the folder cannot be changed.
    pub async fn lose_disk(&mut self, origin: &str) -> Result<()> {
        self.stop(origin).await;
        let place = self.places.get(origin).with_context(|| format!("the plan has no {origin}"))?;
        let data = &place.config.member.data;
        // Under another name, so that a task of the stopped one that still holds a file writes where nobody looks.
        std::fs::rename(data, data.with_extension("lost"))?;
        Ok(std::fs::create_dir(data)?)
    }

    /// Sets the clock.
    ///
    /// # Errors
    /// When the cluster has the machine's time.
    pub fn set(&self, now: Timestamp) -> Result<()> {
        let Time::Manual(clock) = &self.time else { bail!("this cluster has the machine's time") };
        clock.set(now);
        Ok(())
    }

    /// Moves the clock forward.
    ///
    /// # Errors
    /// When the cluster has the machine's time.
    pub fn advance(&self, by: Duration) -> Result<()> {
        let Time::Manual(clock) = &self.time else { bail!("this cluster has the machine's time") };
        clock.advance(by);
        Ok(())
    }

    /// A node that runs here.
    ///
    /// # Errors
    /// When it does not.
    pub fn node(&self, origin: &str) -> Result<&campanile_node::Server> {
        self.nodes.get(origin).with_context(|| format!("{origin} does not run here"))
    }

    /// The gateway that runs here.
    ///
    /// # Errors
    /// When none does.
    pub fn gateway(&self) -> Result<&GatewayNode> {
        self.gateways.values().next().context("no gateway runs here")
    }

    /// The public pages of the gateway.
    ///
    /// # Errors
    /// When none runs here.
    pub fn web(&self) -> Result<web::Web> {
        Ok(web::Web::new(self.gateway()?.server.addresses().http))
    }

    /// The bus of a node or gateway that runs here.
    ///
    /// # Errors
    /// When it does not.
    pub fn bus(&self, origin: &str) -> Result<Bus> {
        let node = self.nodes.get(origin).map(|node| node.bus().clone());
        let bus = node.or_else(|| self.gateways.get(origin).map(|gateway| gateway.bus.clone()));
        bus.with_context(|| format!("{origin} does not run here"))
    }

    /// Connects a client to the first node of its own department.
    ///
    /// # Errors
    /// When the certificate cannot be read or the node refuses the connection.
    pub async fn client(&self, client: &str) -> Result<Client> {
        let id: ClientId = client.parse()?;
        let prefix = format!("{}/", id.department());
        let own = self.nodes.keys().find(|name| name.starts_with(&prefix));
        let own = own.with_context(|| format!("no node of {} runs here", id.department()))?.clone();
        self.client_at(client, &own).await
    }

    /// Connects a client to any node, which may refuse it.
    ///
    /// # Errors
    /// When the certificate cannot be read or the node refuses the connection.
    pub async fn client_at(&self, client: &str, origin: &str) -> Result<Client> {
        let files = self.federation.client(&client.parse()?);
        Ok(self.connect(Identity::load(&files)?, origin).await?)
    }

    /// Connects with any certificate to a node.
    ///
    /// # Errors
    /// [`campanile_client::Error`] when the connection is refused.
    pub async fn connect(&self, identity: Identity, origin: &str) -> Result<Client, campanile_client::Error> {
        let wrong = |error: anyhow::Error| campanile_client::Error {
            code: campanile_client::Code::InvalidArgument,
            message: format!("{error:#}"),
            violations: Vec::new(),
            reason: None,
            retry: campanile_client::Retry::Terminal,
            attempts: 1,
        };
        let node = self.node(origin).map_err(wrong)?;
        let roster = node.bus().roster().clone();
        let credentials = Credentials::roster(identity, roster, self.time.clock())?;
        let expect = Expect::Origin(node.bus().origin().clone());
        Client::connect(Options::new(node.address().to_string(), credentials, expect)).await
    }

    /// Ends everything in order.
    pub async fn shutdown(mut self) {
        let names: Vec<String> = self.places.keys().cloned().collect();
        for name in names {
            self.stop(&name).await;
        }
    }
}

/// Looks until the condition gives something, or fails with what it was about after `limit`.
///
/// # Errors
/// When the time is up, or the condition itself fails.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= end {
            bail!("after {} s still not: {what}", limit.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// All records held, in order of arrival.
///
/// # Errors
/// When the store cannot be read.
pub async fn records(bus: &Bus) -> Result<Vec<Arc<Arrival>>> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = bus.arrivals(after, 512).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.entry.arrival;
        all.extend(page);
    }
}

/// Waits until a record is held that fits.
///
/// # Errors
/// When none came within [`LIMIT`].
pub async fn wait_record(bus: &Bus, what: &str, fits: impl Fn(&Arrival) -> bool) -> Result<Arc<Arrival>> {
    let fits = &fits;
    wait_for(what, LIMIT, || async move { Ok(records(bus).await?.into_iter().find(|arrival| fits(arrival))) }).await
}
