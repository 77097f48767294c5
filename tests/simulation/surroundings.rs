//! What a simulated node lives in: a clock that the run moves, chance from the seed, turmoil's network, and no threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use campanile_alert::{Clock, OriginId, Timestamp};
use campanile_bus::Surroundings;
use campanile_bus::surroundings::{Link, LinkError};
use campanile_bus::transport::ChannelError;
use campanile_discovery::directory;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use tower::util::BoxCloneSyncService;

use crate::federation::start;
use crate::wire;

/// The wall clock of one node: the run's time and how far this one is off.
#[derive(Debug)]
pub(crate) struct SimClock {
    /// Microseconds since the start of the run; one for all nodes.
    elapsed: Arc<AtomicI64>,
    /// How far this clock is off, in microseconds.
    off: AtomicI64,
}

impl SimClock {
    pub(crate) fn new(elapsed: Arc<AtomicI64>) -> Self {
        Self { elapsed, off: AtomicI64::new(0) }
    }

    /// Sets it off against the others' by so many seconds.
    pub(crate) fn set_off(&self, seconds: i64) {
        self.off.store(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let micros = self.elapsed.load(Ordering::SeqCst) + self.off.load(Ordering::SeqCst);
        Timestamp::from_microsecond(start().as_microsecond() + micros).unwrap()
    }
}

/// What one life of a node lives in, from its start to its crash.
#[derive(Debug)]
pub(crate) struct Simulated {
    department: String,
    chance: Mutex<StdRng>,
}

impl Simulated {
    pub(crate) fn new(department: &str, chance: StdRng) -> Self {
        Self { department: department.into(), chance: Mutex::new(chance) }
    }
}

impl Surroundings for Simulated {
    fn random(&self, bytes: &mut [u8]) {
        self.chance.lock().fill_bytes(bytes);
    }

    fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Mostly no time at all; now and then the whole budget, so that effects follow in a later commit.
    fn rules_took(&self, _: Instant) -> Duration {
        if self.chance.lock().random_ratio(1, 6) { Duration::from_millis(3) } else { Duration::ZERO }
    }

    fn reach(&self, origin: &OriginId, _: &str) -> Result<Link, ChannelError> {
        let (from, to) = (self.department.clone(), origin.department().to_string());
        Ok(Link::new(tower::service_fn(move |request| {
            let calling = wire::call(from.clone(), to.clone(), request);
            async move { calling.await.map_err(LinkError::from) }
        })))
    }

    fn has_threads(&self) -> bool {
        false
    }

    /// Some milliseconds; one commit in sixteen finds the disk busy.
    fn disk_turn(&self) -> Duration {
        let mut chance = self.chance.lock();
        let most = if chance.random_ratio(1, 16) { 120 } else { 4 };
        Duration::from_millis(chance.random_range(0..=most))
    }
}

/// How a node reaches the model etcd in one life.
#[derive(Debug)]
pub(crate) struct ToEtcd {
    chance: Mutex<StdRng>,
}

impl ToEtcd {
    pub(crate) fn new(chance: StdRng) -> Self {
        Self { chance: Mutex::new(chance) }
    }
}

impl directory::etcd::Surroundings for ToEtcd {
    fn channel(&self) -> Option<etcd_client::Channel> {
        let way = tower::service_fn(wire::call_etcd);
        Some(etcd_client::Channel::Custom(BoxCloneSyncService::new(way)))
    }

    fn jitter(&self) -> f64 {
        self.chance.lock().random_range(0.5..=1.0)
    }
}
