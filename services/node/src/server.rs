//! The assembly of a node: everything is read and judged, then bound, then run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::Clock;
use campanile_bus::{Bus, Derive, Options};
use campanile_discovery::MemoryHub;
use campanile_log::Store;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin_service::Admin;
use crate::alert_service::Alerts;
use crate::auth::Gate;
use crate::config::{self, Config, Member};
use crate::http;
use crate::metrics::Metrics;
use crate::rules::desk::Desk;
use crate::rules::service::Rules;
use crate::rules::{Library, NodeRules, RulesView, Unfit};

/// How long connections may take to close when the node ends.
const CLOSING_MAX: Duration = Duration::from_secs(3);

/// A running node.
#[derive(Debug)]
pub struct Server {
    bus: Bus,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    rules: Arc<Mutex<RulesView>>,
    member: Arc<Member>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Why a node could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] config::Error),
    /// The rules cannot be active.
    #[error("the rules cannot be active")]
    Rules(#[from] Unfit),
    /// An address cannot be bound.
    #[error("failed to listen at {address}; choose a free address")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bus could not be joined.
    #[error("failed to join the bus")]
    Bus(#[from] campanile_bus::OpenError),
    /// The server ended.
    #[error("the server ended")]
    Serve(#[from] tonic::transport::Error),
    /// The disk failed; the process must end and be started again.
    #[error("the store failed, so the node ended; see its log, mend the disk and start again")]
    Store,
    /// Reflection could not be built.
    #[error("the descriptors of the protocol are not readable")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Server {
    /// Starts a node. `hub` is the directory of this process, which only a configuration with the memory directory uses.
    ///
    /// # Errors
    /// [`Error`]; nothing is left running then.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>, hub: &MemoryHub) -> Result<Self, Error> {
        let sources: HashMap<_, _> =
            config.load_sources()?.into_iter().map(|table| (table.source().to_owned(), table)).collect();
        let sources = Arc::new(sources);
        let member = Arc::new(config.member.clone());
        let opened = member.open(&clock, hub)?;
        let department = member.origin.department().clone();
        let folder = member.data.join("data-sets");
        let library = Library::folder(&folder).map_err(|source| config::Error::File { path: folder, source })?;
        let library = Arc::new(library);
        let options = campanile_rules::Options { sender: config.sender.clone() };
        let packs = config.load_packs(&library)?;
        let rules =
            NodeRules::new(department.clone(), packs, Arc::clone(&library), options.clone(), opened.roster.clone())?;
        let view = rules.view();
        let listener = bind(member.listen).await?;
        let address = local(&listener, member.listen);
        let metrics_listener = match member.metrics_listen {
            Some(at) => Some(bind(at).await?),
            None => None,
        };
        let metrics_address = metrics_listener.as_ref().zip(member.metrics_listen).map(|(l, at)| local(l, at));
        let bus = Bus::open(Options {
            federation: member.federation.clone(),
            origin: member.origin.clone(),
            clock,
            store: opened.store as Arc<dyn Store>,
            roster: opened.roster.clone(),
            material: opened.material.clone(),
            keys: opened.keys,
            members: opened.members,
            instance: opened.instance,
            addresses: member.addresses(address),
            peers: member.peers.iter().map(|peer| (peer.origin.clone(), peer.addresses.clone())).collect(),
            derive: Some(Box::new(rules) as Box<dyn Derive>),
            begin_anew: member.begin_anew,
        })
        .await?;

        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::default());
        let mut registry = Registry::default();
        bus.metrics().register(&mut registry);
        metrics.register(&mut registry);
        if let Some(listener) = metrics_listener {
            tokio::spawn(http::serve(listener, Arc::new(registry), stop.clone()));
        }
        let gate = Arc::new(Gate::new(department, opened.roster, Arc::clone(bus.standing())));
        let alerts = Alerts {
            bus: bus.clone(),
            gate: Arc::clone(&gate),
            rules: Arc::clone(&view),
            sources: Arc::clone(&sources),
            sender: config.sender.as_str().into(),
            metrics,
            watches: Alerts::watch_bound(),
        };
        let admin = Admin {
            bus: bus.clone(),
            gate: Arc::clone(&gate),
            rules: Arc::clone(&view),
            member: Arc::clone(&member),
            follows: Admin::follow_bound(),
        };
        let desk = Arc::new(Desk::new(bus.clone(), Arc::clone(&view), library, options));
        tokio::spawn(Arc::clone(&desk).keep_shown(stop.clone()));
        let rules = Rules::new(desk, gate, sources);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<campanile_proto::bus::v1::alert_service_server::AlertServiceServer<Alerts>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(campanile_proto::DESCRIPTORS)
            .build_v1()?;
        let incoming =
            campanile_bus::transport::incoming(listener, &opened.material, Arc::clone(bus.metrics()), stop.clone());
        let serving = campanile_bus::transport::server()
            .add_service(bus.peer_service())
            .add_service(alerts.into_service())
            .add_service(admin.into_service())
            .add_service(rules.into_service())
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let serving = tokio::spawn(serving);
        info!(origin = %bus.origin(), %address, "Node is up");
        Ok(Self { bus, address, metrics_address, rules: view, member, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The bus under it.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<Mutex<RulesView>> {
        &self.rules
    }

    /// Reads certificates, keys and the roster again from the disk; one sentence for each thing that changed.
    ///
    /// # Errors
    /// [`crate::reload::Error`]; what was in use stays in use.
    pub fn reload(&self) -> Result<Vec<String>, crate::reload::Error> {
        crate::reload::reload(&self.member, &self.bus)
    }

    /// Waits until the node ends by itself: the disk or the server failed.
    ///
    /// # Errors
    /// [`Error`] that says which.
    pub async fn join(&mut self) -> Result<(), Error> {
        let mut failed = self.bus.failed();
        tokio::select! {
            ended = &mut self.serving => match ended {
                Ok(result) => Ok(result?),
                Err(error) => {
                    error!(%error, "The server task ended");
                    Ok(())
                }
            },
            result = failed.wait_for(|failed| *failed) => match result {
                Ok(_) => Err(Error::Store),
                Err(_) => Ok(()),
            }
        }
    }

    /// Ends the node in order: no new calls, what waits goes to the disk.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.bus.shutdown().await;
        // The streams have ended with the bus, so connections close by themselves; one that does not is cut.
        if let Ok(ended) = tokio::time::timeout(CLOSING_MAX, &mut self.serving).await {
            if let Err(error) = ended {
                warn!(%error, "The server did not end in order");
            }
            return;
        }
        self.serving.abort();
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
