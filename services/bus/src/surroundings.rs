//! What a member takes from outside itself: chance, time that passes, threads, and connections to others.
//!
//! A node takes the machine's ([`Machine`]). The simulation passes its own, so that one seed gives one run: nothing else
//! in this crate asks for a random number, a monotonic instant, a thread or a connection. The wall clock is apart, since
//! it is also part of what records say: [`campanile_alert::Clock`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use campanile_alert::OriginId;
use campanile_discovery::tls::TlsMaterial;
use rand::RngCore as _;
use tonic::body::Body;
use tonic::codegen::http;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _};

use crate::transport::{ChannelError, Channels};

/// A way to call another node. Cheap to clone.
pub type Link = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, LinkError>;

/// Why a call came to nothing: whatever the connection said.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LinkError(#[from] BoxError);

/// What a member takes from outside itself.
pub trait Surroundings: Send + Sync + std::fmt::Debug {
    /// Fills `bytes` with what nobody can foresee.
    fn random(&self, bytes: &mut [u8]);

    /// The present instant on a clock that never goes back.
    fn instant(&self) -> Instant;

    /// How much of their budget the rules have used since `began`.
    fn rules_took(&self, began: Instant) -> Duration {
        self.instant().saturating_duration_since(began)
    }

    /// The way to `origin` at `address`; the connection itself is made by the first call.
    ///
    /// # Errors
    /// [`ChannelError`] when connections cannot be prepared.
    fn reach(&self, origin: &OriginId, address: &str) -> Result<Link, ChannelError>;

    /// Whether there are threads beside the runtime. Without them, everything is a task of the runtime, the committer
    /// too.
    fn has_threads(&self) -> bool {
        true
    }

    /// Waits as long as the disk takes for one half of a commit; asked only where there are no threads.
    fn disk_turn(&self) -> Duration {
        Duration::ZERO
    }
}

/// The machine's own: its entropy, its clock, its threads, and mutual TLS over TCP.
#[derive(Debug)]
pub struct Machine {
    channels: Channels,
}

impl Machine {
    /// Connects with this certificate and trust.
    pub fn new(material: TlsMaterial) -> Self {
        Self { channels: Channels::new(material) }
    }
}

impl Surroundings for Machine {
    fn random(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn reach(&self, origin: &OriginId, address: &str) -> Result<Link, ChannelError> {
        Ok(Link::new(self.channels.to(origin, address)?.map_err(|error| LinkError(error.into()))))
    }
}

/// A random number in `0..below`; zero when `below` is.
pub(crate) fn random_below(surroundings: &dyn Surroundings, below: usize) -> usize {
    let mut bytes = [0; 8];
    surroundings.random(&mut bytes);
    let below = u64::try_from(below).unwrap_or(u64::MAX);
    let at = u64::from_le_bytes(bytes).checked_rem(below).unwrap_or_default();
    usize::try_from(at).unwrap_or_default()
}

/// A random factor from one half to one.
pub(crate) fn jitter(surroundings: &dyn Surroundings) -> f64 {
    let mut bytes = [0; 4];
    surroundings.random(&mut bytes);
    0.5 + f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) / 2.0
}

/// Runs work that waits for the disk beside the runtime, where there are threads.
pub(crate) async fn blocking<T: Send + 'static>(
    surroundings: &Arc<dyn Surroundings>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    if surroundings.has_threads() {
        return tokio::task::spawn_blocking(work).await;
    }
    tokio::task::yield_now().await;
    Ok(work())
}
