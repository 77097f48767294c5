//! The gateway's server: what is bound, what runs, how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::World;
use campanile_bus::Bus;
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::board::Boards;
use crate::channels::exercise::Exercises;
use crate::channels::{self, Parts, mqtt};
use crate::config::{self, Config};
use crate::delivery::{Reporter, chain};
use crate::dispatch::{Dispatcher, Shared};
use crate::estates::{self, Estates};
use crate::http::{Public, exercise_router};
use crate::member::{self, Member, OnBus};
use crate::metrics::Metrics;
use crate::notice::Judge;

/// How long one hand-over to one endpoint may take before its outcome counts as unknown.
const HANDOVER_MAX: Duration = Duration::from_secs(5);
/// How long connections may take to end after shutdown was asked for.
const CLOSING_MAX: Duration = Duration::from_secs(3);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not usable.
    #[error("the gateway's configuration is not usable")]
    Config(#[from] config::Error),
    /// The estates are not usable.
    #[error("the screens' estates are not usable")]
    Estates(#[from] estates::Error),
    /// A broker's settings are not usable.
    #[error("the screens' broker is not usable")]
    Mqtt(#[from] mqtt::Error),
    /// An address could not be listened on.
    #[error("failed to listen on {address}; is it in use?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state could not be taken up.
    #[error("the gateway's state could not be read back")]
    State(#[from] member::Error),
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The public feeds and screens.
    pub http: SocketAddr,
    /// The sinks of exercises; absent when there are none.
    pub exercises: Option<SocketAddr>,
}

/// A running gateway.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    base: String,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    dispatcher: Dispatcher,
    listeners: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a gateway over an opened bus, which stays the caller's to shut down.
    ///
    /// # Errors
    /// [`Error`] when the configuration is not usable, an address is taken, or the state cannot be read.
    pub async fn bind(config: Config, bus: Bus) -> Result<Self, Error> {
        let sinks = config.exercises.as_ref().map(|exercises| exercises.ids.clone()).unwrap_or_default();
        let server = Self::bind_on(config, Arc::new(OnBus::new(bus.clone()))).await?;
        bus.state_sinks(&sinks);
        Ok(server)
    }

    /// Starts a gateway over any place in a bus.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn bind_on(config: Config, member: Arc<dyn Member>) -> Result<Self, Error> {
        config.check()?;
        let estates = match &config.estates {
            Some(path) => Estates::load(path)?,
            None => Estates::default(),
        };
        let listener = listen(config.http).await?;
        let exercise_listener = match &config.exercises {
            Some(exercises) => Some(listen(exercises.http).await?),
            None => None,
        };
        let local = |listener: &TcpListener, asked: SocketAddr| listener.local_addr().unwrap_or(asked);
        let http = local(&listener, config.http);
        let ids = config.exercises.as_ref().map(|exercises| exercises.ids.clone()).unwrap_or_default();
        let addresses =
            Addresses { http, exercises: exercise_listener.as_ref().map(|listener| local(listener, config.http)) };
        let boards = Arc::new(RwLock::new(Boards::new(ids.iter().cloned().map(World::Exercise))));
        let judge = Judge::new(Arc::clone(&boards), Arc::clone(member.clock()));
        let parts = Parts {
            origin: member.origin().clone(),
            judge: judge.clone(),
            estates: Arc::new(estates),
            screen_margin_m: config.screen_margin_m,
        };
        let channels = channels::build(&config.channels, &parts)?;
        let exercises = Arc::new(Exercises::new(ids, Arc::clone(&boards)));
        let metrics = Arc::new(Metrics::default());
        let stop = CancellationToken::new();
        let shared = Shared {
            reporter: Arc::new(Reporter::new(Arc::clone(&member), Arc::clone(&metrics))),
            member: Arc::clone(&member),
            boards,
            judge,
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
            timeout: HANDOVER_MAX,
        };
        let dispatcher = Dispatcher::start(shared, &channels, Arc::clone(&exercises)).await?;
        let base = config.public_url.clone().unwrap_or_else(|| format!("http://{http}"));
        let clock = Arc::clone(member.clock());
        let public = Public::new(channels.feed, channels.screen, member, Arc::clone(&metrics), &base, stop.clone());
        let mut listeners = vec![serve(listener, public.router(), stop.clone())];
        if let Some(listener) = exercise_listener {
            listeners.push(serve(listener, exercise_router(exercises, clock), stop.clone()));
        }
        info!(%http, "Gateway serves");
        Ok(Self { addresses, base, metrics, stop, dispatcher, listeners })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The address that links in the feeds begin with, without a slash at the end.
    pub fn public_url(&self) -> &str {
        &self.base
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A token that stops the gateway when it is cancelled; then [`Server::join`] returns.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until the gateway has stopped.
    pub async fn join(self) {
        self.stop.cancelled().await;
        self.dispatcher.join().await;
        for mut listener in self.listeners {
            // A reader who does not let go must not hold up the end.
            if tokio::time::timeout(CLOSING_MAX, &mut listener).await.is_err() {
                listener.abort();
            }
        }
    }

    /// Stops it: no more hand-overs begin, event streams end, what is durable stays.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.join().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            error!(error = %chain(&error), "The HTTP server ended");
        }
    })
}
