//! What the gateway counts. The doc comment of each is its help text.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A channel; the set is closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabel {
    /// The channel's name.
    pub channel: &'static str,
}

/// A channel and a reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabel {
    /// The channel's name.
    pub channel: &'static str,
    /// A name of `FailureReason`.
    pub reason: &'static str,
}

/// Why an alert gave no notice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WorldLabel {
    /// `actual`, `exercise` or `none`.
    pub board: &'static str,
}

/// Makes the histogram of hand-over times.
#[derive(Debug, Clone)]
pub struct HandoverBuckets;

impl MetricConstructor<Histogram> for HandoverBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 18))
    }
}

/// What the gateway counts.
#[derive(Debug)]
pub struct Metrics {
    /// Alerts taken in from the bus, by the board they went to.
    pub alerts: Family<WorldLabel, Counter>,
    /// Alerts in force in the real world.
    pub in_force: Gauge,
    /// Hand-overs that a provider took.
    pub handed: Family<ChannelLabel, Counter>,
    /// Hand-overs that failed, by reason; one that is tried again counts each time.
    pub failed: Family<FailureLabel, Counter>,
    /// Hand-overs made a second time because nobody knows what became of the first.
    pub possibly_repeated: Family<ChannelLabel, Counter>,
    /// Time from the author's seal to the provider's taking it, first attempts and retries alike.
    pub handover: Family<ChannelLabel, Histogram, HandoverBuckets>,
    /// Jobs that wait for a channel.
    pub waiting: Family<ChannelLabel, Gauge>,
    /// 1 while a channel's breaker is open, else 0.
    pub breaker_open: Family<ChannelLabel, Gauge>,
    /// Hand-overs that are held because two records stand at one position of their log.
    pub held: Counter,
    /// Delivery reports published.
    pub reports: Counter,
    /// HTTP requests answered on the public address.
    pub requests: Counter,
    /// Event streams open now.
    pub streams: Gauge,
    /// The time of the last contact with the gateway's own store, in seconds since 1970.
    pub last_intake: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            alerts: Family::default(),
            in_force: Gauge::default(),
            handed: Family::default(),
            failed: Family::default(),
            possibly_repeated: Family::default(),
            handover: Family::new_with_constructor(HandoverBuckets),
            waiting: Family::default(),
            breaker_open: Family::default(),
            held: Counter::default(),
            reports: Counter::default(),
            requests: Counter::default(),
            streams: Gauge::default(),
            last_intake: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under the names it is scraped by.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "campanile_gateway_alerts",
            "Alerts taken in from the bus, by the board they went to",
            self.alerts.clone(),
        );
        registry.register("campanile_alerts_in_force", "Alerts in force in the real world", self.in_force.clone());
        registry.register("campanile_notices_handed", "Hand-overs that a provider took", self.handed.clone());
        registry.register(
            "campanile_notices_failed",
            "Hand-overs that failed, by reason; one that is tried again counts each time",
            self.failed.clone(),
        );
        registry.register(
            "campanile_notices_possibly_repeated",
            "Hand-overs made a second time because nobody knows what became of the first",
            self.possibly_repeated.clone(),
        );
        registry.register_with_unit(
            "campanile_handover",
            "Time from the author's seal to the provider's taking it, first attempts and retries alike",
            Unit::Seconds,
            self.handover.clone(),
        );
        registry.register("campanile_jobs_waiting", "Jobs that wait for a channel", self.waiting.clone());
        registry.register("campanile_breaker_open", "1 while a channel's breaker is open", self.breaker_open.clone());
        registry.register("campanile_notices_held", "Hand-overs held because their log is forked", self.held.clone());
        registry.register("campanile_delivery_reports", "Delivery reports published", self.reports.clone());
        registry.register(
            "campanile_http_requests",
            "HTTP requests answered on the public address",
            self.requests.clone(),
        );
        registry.register("campanile_event_streams", "Event streams open now", self.streams.clone());
        registry.register_with_unit(
            "campanile_intake_last",
            "When the bus was last read with success, since 1970",
            Unit::Seconds,
            self.last_intake.clone(),
        );
    }
}
