//! Counters of a node's services. The doc comment of each is its help text.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How a publish ended; the set is closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `stored`, `duplicate` or `refused`.
    pub outcome: String,
}

/// What a node's services count.
#[derive(Debug)]
pub struct Metrics {
    /// Publish calls, by outcome.
    pub publishes: Family<OutcomeLabel, Counter>,
    /// Time of a publish call, from its arrival to its answer.
    pub publish_seconds: Histogram,
    /// Decisions of officers written down.
    pub approvals: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            publishes: Family::default(),
            publish_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            approvals: Counter::default(),
        }
    }
}

impl Metrics {
    /// Registers every metric under the prefix `campanile`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("campanile");
        registry.register("publish_calls", "Publish calls, by outcome", self.publishes.clone());
        registry.register("publish_seconds", "Time of a publish call", self.publish_seconds.clone());
        registry.register("approvals_recorded", "Decisions of officers written down", self.approvals.clone());
    }

    /// Counts one publish.
    pub fn published(&self, outcome: &str) {
        self.publishes.get_or_create(&OutcomeLabel { outcome: outcome.into() }).inc();
    }
}
