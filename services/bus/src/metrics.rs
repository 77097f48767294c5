//! Counters of the bus. The doc comment of each is its help text.

use std::sync::atomic::AtomicU64;

use campanile_log::Standing;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::derive::Arrival;

/// An origin of the roster; the set is closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OriginLabel {
    /// `department/node`.
    pub origin: String,
    /// The lane.
    pub lane: String,
}

/// What the bus counts.
#[derive(Debug)]
pub struct Metrics {
    /// Records stored here, by origin and lane.
    pub records: Family<OriginLabel, Counter>,
    /// Records stored here that do not count, by origin and lane.
    pub not_counted: Family<OriginLabel, Counter>,
    /// Records issued by the rules of this node.
    pub effects: Counter,
    /// Records of others refused at the door: bad signature, wrong chain.
    pub refused: Counter,
    /// Logs in which two records stand at one position.
    pub forks: Counter,
    /// Records lost with a disk that have come back below their log's tail.
    pub healed: Counter,
    /// Commits that failed.
    pub commits_failed: Counter,
    /// Time of a commit, from the first record taken to the disk's answer.
    pub commit_seconds: Histogram,
    /// Time between an author sealing a record and its being durable here.
    pub arrival_seconds: Histogram,
    /// Streams to peers that are open now.
    pub streams: Gauge,
    /// Handshakes that failed, by anyone.
    pub handshakes_failed: Counter,
    /// Time since the oldest record that a peer's log has and this node has not; 0 when none is known, by log.
    pub lag_seconds: Family<OriginLabel, Gauge<f64, AtomicU64>>,
    not_counted_sum: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        Self {
            records: Family::default(),
            not_counted: Family::default(),
            effects: Counter::default(),
            refused: Counter::default(),
            forks: Counter::default(),
            healed: Counter::default(),
            commits_failed: Counter::default(),
            commit_seconds: seconds(),
            arrival_seconds: seconds(),
            streams: Gauge::default(),
            handshakes_failed: Counter::default(),
            lag_seconds: Family::default(),
            not_counted_sum: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Registers every metric under the prefix `campanile`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("campanile");
        registry.register("records_stored", "Records stored here, by origin and lane", self.records.clone());
        registry.register("records_not_counted", "Records stored here that do not count", self.not_counted.clone());
        registry.register("effects_issued", "Records issued by the rules of this node", self.effects.clone());
        registry.register("records_refused", "Records of others refused at the door", self.refused.clone());
        registry.register("forks_found", "Logs with two records at one position", self.forks.clone());
        registry.register("records_healed", "Lost records that came back below a log's tail", self.healed.clone());
        registry.register("commits_failed", "Commits that failed", self.commits_failed.clone());
        registry.register("commit_seconds", "Time of a commit", self.commit_seconds.clone());
        registry.register(
            "arrival_seconds",
            "Time between an author sealing a record and its being durable here",
            self.arrival_seconds.clone(),
        );
        registry.register("pull_streams", "Streams to peers that are open now", self.streams.clone());
        registry.register("handshakes_failed", "Handshakes that failed", self.handshakes_failed.clone());
        registry.register("lag_seconds", "Age of what a log has elsewhere and not here", self.lag_seconds.clone());
    }

    /// How many records stored since the start do not count.
    pub fn not_counted_total(&self) -> u64 {
        self.not_counted_sum.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn record_stored(&self, arrival: &Arrival) {
        let log = &arrival.entry.log;
        let label = OriginLabel { origin: log.origin.to_string(), lane: log.lane.as_str().into() };
        if arrival.entry.standing != Standing::Counted {
            self.not_counted.get_or_create(&label).inc();
            self.not_counted_sum.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.records.get_or_create(&label).inc();
        let age = arrival.received.duration_since(arrival.header.time).as_secs_f64();
        self.arrival_seconds.observe(age.max(0.0));
    }
}
