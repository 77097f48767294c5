//! `campanile node run` and `campanile gateway run`: one member of the bus as a process of its own.
//!
//! Once it listens it says so in one line of JSON on stdout, with its addresses; everything else goes to the log on
//! stderr. SIGHUP reads certificates, keys and the roster again; SIGTERM and Ctrl-C end it in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use campanile_alert::Clock;
use campanile_discovery::{MemoryHub, SystemClock};
use campanile_node::config::{Member, read_yaml};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::local::GatewayNode;

/// Runs a department's node.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Begin with an empty store although other nodes cannot be asked what they hold of this one's past.
    #[arg(long)]
    pub begin_anew: bool,
}

/// Runs a gateway.
#[derive(Debug, clap::Args)]
pub struct GatewayArgs {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Begin with an empty store although other nodes cannot be asked what they hold of this one's past.
    #[arg(long)]
    pub begin_anew: bool,
}

/// A gateway's configuration file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GatewayConfig {
    /// What every member of the bus has.
    pub member: Member,
    /// Its channels.
    pub gateway: campanile_gateway::Config,
}

impl GatewayConfig {
    /// Reads and checks a file; its paths become relative to the working folder.
    ///
    /// # Errors
    /// With the place in the file.
    pub fn load(path: &Path) -> Result<Self> {
        let mut config: Self = read_yaml(path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.member.rebase(base);
        for channel in &mut config.gateway.channels {
            let campanile_gateway::config::ChannelConfig::Mqtt(mqtt) = channel;
            for file in [&mut mqtt.ca, &mut mqtt.password_file].into_iter().flatten() {
                *file = base.join(&*file);
            }
        }
        config.gateway.estates = config.gateway.estates.map(|estates| base.join(estates));
        config.gateway.check()?;
        Ok(config)
    }
}

/// What a process says once it listens.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// The member.
    pub origin: String,
    /// Where peers, and a node's clients, reach it.
    pub address: SocketAddr,
    /// Where its metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Where a gateway serves the public.
    pub http: Option<SocketAddr>,
}

/// Runs a node until it is told to end.
///
/// # Errors
/// When it cannot start, or its disk fails.
pub async fn node(args: NodeArgs) -> Result<()> {
    let mut config = campanile_node::Config::load(&args.config)?;
    config.member.begin_anew = args.begin_anew;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut signals = Signals::new()?;
    let mut server = campanile_node::Server::bind(config, clock, &MemoryHub::new()).await?;
    say(&Ready {
        origin: server.bus().origin().to_string(),
        address: server.address(),
        metrics: server.metrics_address(),
        http: None,
    })?;
    let ended = loop {
        tokio::select! {
            ended = server.join() => break ended.map_err(Into::into),
            told = signals.next() => match told {
                Told::End => break Ok(()),
                Told::Reload => match server.reload() {
                    Ok(changes) => info!(?changes, "Read again"),
                    Err(error) => warn!(%error, "Not read again"),
                },
            },
        }
    };
    server.shutdown().await;
    ended
}

/// Runs a gateway until it is told to end.
///
/// # Errors
/// When it cannot start, or its disk fails.
pub async fn gateway(args: GatewayArgs) -> Result<()> {
    let mut config = GatewayConfig::load(&args.config)?;
    config.member.begin_anew = args.begin_anew;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut signals = Signals::new()?;
    let hub = MemoryHub::new();
    let mut gateway = GatewayNode::bind(&config.member, config.gateway, clock, &hub).await?;
    say(&Ready {
        origin: gateway.bus.origin().to_string(),
        address: gateway.address,
        metrics: gateway.metrics,
        http: Some(gateway.server.addresses().http),
    })?;
    let ended = loop {
        tokio::select! {
            ended = gateway.join() => break ended,
            told = signals.next() => match told {
                Told::End => break Ok(()),
                Told::Reload => match campanile_node::reload::reload(&config.member, &gateway.bus) {
                    Ok(changes) => info!(?changes, "Read again"),
                    Err(error) => warn!(%error, "Not read again"),
                },
            },
        }
    };
    gateway.shutdown().await;
    ended
}

#[allow(clippy::print_stdout, reason = "the line that tells a supervisor that the member listens")]
fn say(ready: &Ready) -> Result<()> {
    println!("{}", serde_json::to_string(ready)?);
    Ok(())
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self { hangup: listen(SignalKind::hangup())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::End,
            _ = tokio::signal::ctrl_c() => Told::End,
        }
    }
}

/// What an operator told the process.
enum Told {
    Reload,
    End,
}
