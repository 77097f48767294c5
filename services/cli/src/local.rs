//! A whole federation in one process: the nodes of hko, fsd, edb and had, and isd's gateway, over mutual TLS on loopback.
//!
//! The parts are the same as in earnest: the same servers, a development federation with CAs and keys of its own, real
//! connections. Only the directory may be the process's memory. `campanile up` is built on it, and so are the tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use campanile_alert::{Area, Clock, DepartmentId, OriginId, Polygon, Status, Timestamp, ValuePair};
use campanile_bus::{Bus, Options as BusOptions};
use campanile_client::{Client, Credentials, Options as ClientOptions};
use campanile_discovery::identity::Role;
use campanile_discovery::pki::{ClientPlan, DepartmentPlan, Federation, NodePlan, Plan, Validity};
use campanile_discovery::roster::{ClientId, OriginKind, Right, RightArea};
use campanile_discovery::tls::Identity;
use campanile_discovery::{DirectoryConfig, Expect, MemoryHub};
use campanile_node::config::{Config, Member, Root};
use tokio_util::sync::CancellationToken;

/// The name of the federation.
pub const FEDERATION: &str = "hk-dev";
/// A box around Hong Kong: where the departments of the development federation may originate.
const HONG_KONG: &str = "22.1,113.8 22.6,113.8 22.6,114.5 22.1,114.5 22.1,113.8";

const EDB_FIRE: &str = include_str!("../../rules/packs/edb-fire.rules.yaml");
const HAD_SHELTER: &str = include_str!("../../rules/packs/had-shelter.rules.yaml");
const SITES: &str = include_str!("../../rules/packs/harbour-view-sites.json");
const SHELTERS: &str = include_str!("../../rules/packs/harbour-view-shelters.json");
const ESTATES: &str = include_str!("../../../gateway/data/harbour-view-estates.json");

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept; made where it is missing, and it must not hold a federation yet.
    pub dir: PathBuf,
    /// The directory that the nodes use.
    pub directory: DirectoryConfig,
    /// Packs to leave out, by name.
    pub without: Vec<String>,
    /// A broker for lift screens.
    pub mqtt: Option<String>,
    /// Where the gateway serves the public; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where the metrics of the nodes are served: one free port each, or nowhere.
    pub metrics: bool,
}

/// A running federation.
#[derive(Debug)]
pub struct Local {
    /// Its certificates and keys.
    pub federation: Federation,
    /// The nodes by name.
    pub nodes: BTreeMap<String, campanile_node::Server>,
    /// The gateway.
    pub gateway: GatewayNode,
    clock: Arc<dyn Clock>,
}

/// A gateway: a member of the bus that serves its log to peers and its channels to the public.
#[derive(Debug)]
pub struct GatewayNode {
    /// Its membership.
    pub bus: Bus,
    /// Where peers reach it.
    pub address: SocketAddr,
    /// Where the metrics of its membership are served.
    pub metrics: Option<SocketAddr>,
    /// Its channels.
    pub server: campanile_gateway::Server,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl GatewayNode {
    /// Starts a gateway from its member configuration and its channels' configuration.
    ///
    /// # Errors
    /// When any part cannot be started; the message says which.
    pub async fn bind(
        member: &Member,
        channels: campanile_gateway::Config,
        clock: Arc<dyn Clock>,
        hub: &MemoryHub,
    ) -> Result<Self> {
        let opened = member.open(&clock, hub)?;
        let listener = tokio::net::TcpListener::bind(member.listen)
            .await
            .with_context(|| format!("failed to listen at {}; choose a free address", member.listen))?;
        let address = listener.local_addr()?;
        let material = opened.material.clone();
        let bus = Bus::open(BusOptions {
            federation: member.federation.clone(),
            origin: member.origin.clone(),
            clock,
            store: opened.store,
            roster: opened.roster,
            material: opened.material,
            keys: opened.keys,
            members: opened.members,
            instance: opened.instance,
            addresses: member.addresses(address),
            peers: member.peers.iter().map(|peer| (peer.origin.clone(), peer.addresses.clone())).collect(),
            derive: None,
            begin_anew: member.begin_anew,
        })
        .await?;
        let stop = CancellationToken::new();
        let incoming = campanile_bus::transport::incoming(listener, &material, Arc::clone(bus.metrics()), stop.clone());
        let serving = campanile_bus::transport::server()
            .add_service(bus.peer_service())
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let serving = tokio::spawn(serving);
        let server = campanile_gateway::Server::bind(channels, bus.clone()).await?;
        let mut metrics = None;
        if let Some(at) = member.metrics_listen {
            let listener = tokio::net::TcpListener::bind(at)
                .await
                .with_context(|| format!("failed to listen at {at}; choose a free address"))?;
            metrics = Some(listener.local_addr()?);
            let mut registry = prometheus_client::registry::Registry::default();
            bus.metrics().register(&mut registry);
            tokio::spawn(campanile_node::http::serve(listener, Arc::new(registry), stop.clone()));
        }
        Ok(Self { bus, address, metrics, server, stop, serving })
    }

    /// Waits until the gateway ends by itself: its disk or its server failed.
    ///
    /// # Errors
    /// A sentence that says which.
    pub async fn join(&mut self) -> Result<()> {
        let mut failed = self.bus.failed();
        tokio::select! {
            ended = &mut self.serving => ended?.context("the server for peers ended"),
            result = failed.wait_for(|failed| *failed) => match result {
                Ok(_) => anyhow::bail!("the store failed, so the gateway ended; mend the disk and start again"),
                Err(_) => Ok(()),
            }
        }
    }

    /// Ends it in order.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
        self.stop.cancel();
        self.bus.shutdown().await;
        self.serving.abort();
    }
}

impl Local {
    /// Makes a development federation in `options.dir` and starts all of it.
    ///
    /// # Errors
    /// When any part cannot be started; the message says which and what to do.
    pub async fn start(options: &Options, clock: Arc<dyn Clock>) -> Result<Self> {
        std::fs::create_dir_all(&options.dir)
            .with_context(|| format!("failed to make {}; choose another folder", options.dir.display()))?;
        let plan = plan(clock.now())?;
        let federation = Federation::create(options.dir.join("pki"), &plan)?;
        write_data(&options.dir)?;
        let hub = MemoryHub::new();
        let mut nodes = BTreeMap::new();
        for department in ["hko", "fsd", "edb", "had"] {
            let config = node_config(options, &federation, department)?;
            let server = campanile_node::Server::bind(config, Arc::clone(&clock), &hub)
                .await
                .with_context(|| format!("failed to start the node of {department}"))?;
            nodes.insert(department.to_owned(), server);
        }
        let member = member(options, &federation, "isd/gateway-1")?;
        let mut channels =
            campanile_gateway::Config::new(options.http, Some(options.dir.join("harbour-view-estates.json")));
        if let Some(url) = &options.mqtt {
            let mqtt = campanile_gateway::config::MqttConfig {
                url: url.clone(),
                owner: "ha".into(),
                ca: None,
                username: None,
                password_file: None,
            };
            channels.channels.push(campanile_gateway::config::ChannelConfig::Mqtt(mqtt));
        }
        let gateway = GatewayNode::bind(&member, channels, Arc::clone(&clock), &hub)
            .await
            .context("failed to start isd's gateway")?;
        Ok(Self { federation, nodes, gateway, clock })
    }

    /// The node of a department.
    ///
    /// # Errors
    /// When it has none here.
    pub fn node(&self, department: &str) -> Result<&campanile_node::Server> {
        self.nodes.get(department).with_context(|| format!("{department} has no node here"))
    }

    /// Connects a client of the development federation to its department's node.
    ///
    /// # Errors
    /// When the certificate cannot be read or the node refuses the connection.
    pub async fn client(&self, client: &str) -> Result<Client> {
        let id: ClientId = client.parse()?;
        let node = self.node(id.department().as_str())?;
        let files = self.federation.client(&id);
        let identity = Identity::load(&files)?;
        let credentials = Credentials::roster(identity, node.bus().roster().clone(), Arc::clone(&self.clock))?;
        let expect = Expect::Origin(node.bus().origin().clone());
        Ok(Client::connect(ClientOptions::new(node.address().to_string(), credentials, expect)).await?)
    }

    /// Ends everything in order.
    pub async fn shutdown(self) {
        self.gateway.shutdown().await;
        for (_, node) in self.nodes {
            node.shutdown().await;
        }
    }
}

/// The plan of the development federation: five departments, their clients and persons, and what each may originate.
///
/// # Errors
/// Never for the built-in names; the names are checked like any others.
pub fn plan(now: Timestamp) -> Result<Plan> {
    let mut hko =
        department("hko", "Hong Kong Observatory", "香港天文台", &["weather-signal", "special-announcement"])?;
    let mut fsd = department("fsd", "Fire Services Department", "消防處", &["fire"])?;
    let mut edb = department("edb", "Education Bureau", "教育局", &["class-suspension", "stay-in-school"])?;
    let mut had = department("had", "Home Affairs Department", "民政事務總署", &["shelter-open"])?;
    let mut isd = department("isd", "Information Services Department", "政府新聞處", &[])?;
    hko.clients.push(client("forecaster", &[Role::Publish, Role::Read], None));
    fsd.clients.push(client("dispatch", &[Role::Publish, Role::Read, Role::Administer], None));
    fsd.clients.push(client("reader", &[Role::Read], None));
    had.clients.push(client("duty", &[Role::Publish, Role::Read, Role::Approve], Some("had-officer-1")));
    had.persons.insert("had-officer-1".into(), vec!["had.ecc-duty".into()]);
    for (name, person, role) in [
        ("directorate-1", "edb-director-1", "edb.directorate"),
        ("directorate-2", "edb-director-2", "edb.directorate"),
        ("duty-officer-1", "edb-officer-1", "edb.duty-officer"),
        ("duty-officer-1b", "edb-officer-1", "edb.duty-officer"),
        ("regional-officer-1", "edb-officer-2", "edb.regional-officer"),
    ] {
        edb.clients.push(client(name, &[Role::Approve, Role::Read, Role::Publish, Role::Administer], Some(person)));
        edb.persons.insert(person.into(), vec![role.into()]);
    }
    isd.nodes = vec![NodePlan { name: "gateway-1".into(), kind: OriginKind::Gateway, hosts: Vec::new() }];
    for department in [&mut hko, &mut fsd, &mut edb, &mut had] {
        department.nodes = vec![NodePlan { name: "node-1".into(), kind: OriginKind::Node, hosts: Vec::new() }];
    }
    Ok(Plan {
        federation: FEDERATION.into(),
        departments: vec![hko, fsd, edb, had, isd],
        validity: Validity::development(now),
        governance_keys: 1,
        threshold: 1,
    })
}

fn department(id: &str, en: &str, zh_hant: &str, events: &[&str]) -> Result<DepartmentPlan> {
    let mut plan = DepartmentPlan::new(DepartmentId::try_new(id)?);
    plan.names = BTreeMap::from([("en".into(), en.into()), ("zh-Hant".into(), zh_hant.into())]);
    if !events.is_empty() {
        let code = |name: &str, value: &str| ValuePair::new(name, value);
        let area = Area {
            description: "Hong Kong".into(),
            polygons: vec![Polygon::parse(HONG_KONG)?],
            geocodes: vec![code("campanile:site", "*"), code("ISO3166-2", "CN-HK")],
            ..Area::default()
        };
        plan.rights = vec![Right {
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            statuses: vec![Status::Actual, Status::Exercise, Status::Test, Status::Draft],
            area: RightArea::Within(Box::new(area)),
        }];
    }
    Ok(plan)
}

fn client(name: &str, roles: &[Role], person: Option<&str>) -> ClientPlan {
    ClientPlan { name: name.into(), roles: roles.iter().copied().collect(), person: person.map(Into::into) }
}

/// What a node or gateway of the development federation is configured with.
///
/// # Errors
/// When the federation's root keys cannot be read.
pub fn member(options: &Options, federation: &Federation, origin: &str) -> Result<Member> {
    let origin: OriginId = origin.parse()?;
    let files = federation.node(&origin);
    let root = federation.root()?;
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let data = options.dir.join("data").join(origin.department().as_str());
    std::fs::create_dir_all(&data).with_context(|| format!("failed to make {}", data.display()))?;
    Ok(Member {
        federation: FEDERATION.into(),
        listen: loopback,
        advertise: Vec::new(),
        data,
        certificate: files.tls.chain,
        certificate_key: files.tls.key,
        signing_key: files.signing,
        exercise_key: files.exercise,
        roster: federation.roster_path(),
        root: Root { threshold: root.threshold, keys: root.keys },
        development: true,
        directory: options.directory.clone(),
        peers: Vec::new(),
        metrics_listen: options.metrics.then_some(loopback),
        begin_anew: false,
        origin,
    })
}

fn node_config(options: &Options, federation: &Federation, department: &str) -> Result<Config> {
    let packs = match department {
        "edb" => vec![("edb-fire", options.dir.join("edb-fire.rules.yaml"))],
        "had" => vec![("had-shelter", options.dir.join("had-shelter.rules.yaml"))],
        _ => Vec::new(),
    };
    let kept = packs.into_iter().filter(|(name, _)| !options.without.iter().any(|left_out| left_out == name));
    Ok(Config {
        member: member(options, federation, &format!("{department}/node-1"))?,
        sender: format!("{department}@campanile.{FEDERATION}"),
        packs: kept.map(|(_, path)| path).collect(),
        sources: Vec::new(),
    })
}

/// Writes the shipped packs and fictional places beside the federation.
fn write_data(dir: &Path) -> Result<()> {
    for (name, text) in [
        ("edb-fire.rules.yaml", EDB_FIRE),
        ("had-shelter.rules.yaml", HAD_SHELTER),
        ("harbour-view-sites.json", SITES),
        ("harbour-view-shelters.json", SHELTERS),
        ("harbour-view-estates.json", ESTATES),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
