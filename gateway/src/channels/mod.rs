//! Channels: the ways in which an alert reaches people.
//!
//! A [`Channel`] speaks the protocol of one provider. It is given [`LiveNotice`]s only, so a drill cannot reach it. It
//! does not queue, retry, remember or report: [`crate::dispatch`] does that for all of them, behind one bulkhead each.
//! `conformance` is the suite that every channel passes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use campanile_alert::{Alert, OriginId};

use crate::config::ChannelConfig;
use crate::estates::Estates;
use crate::notice::{EndNotice, Judge, LiveNotice};

pub mod exercise;
pub mod feed;
pub mod mqtt;
pub mod screen;

#[cfg(test)]
mod conformance;

/// Where a channel hands a notice to: `all` for a feed, `estate/block` for a screen. Never a person.
pub type Endpoint = Arc<str>;

/// Why a hand-over failed, from a closed list.
pub use campanile_proto::gateway::v1::FailureReason;

/// What to make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The provider did not take it and may take it later.
    Retryable,
    /// The provider will not take it, however often it is tried.
    Terminal,
    /// Nobody knows whether the provider took it.
    Unknown,
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has taken it. This says nothing of a person.
    Handed,
    /// It has not, or it is not known.
    Failed(Judgement, FailureReason),
}

/// Whether a provider would take a notice now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It would.
    Up,
    /// It would not.
    Down,
}

/// One way to people.
#[async_trait]
pub trait Channel: Send + Sync + fmt::Debug + 'static {
    /// Its name, as it stands in delivery reports and metrics; from a closed set.
    fn name(&self) -> &'static str;

    /// The endpoints that an alert concerns, in no order. It depends on the alert and the configuration alone.
    fn endpoints(&self, alert: &Alert) -> Vec<Endpoint>;

    /// True when the provider is this process, and an attempt repeated after a crash has no effect. No attempt is
    /// written down before it is made then.
    fn is_in_process(&self) -> bool {
        false
    }

    /// Hands a notice to one endpoint. A second call for the same notice and endpoint changes nothing there.
    async fn hand(&self, notice: &LiveNotice, endpoint: &Endpoint) -> Outcome;

    /// Takes an alert that has ended off one endpoint. Called for endpoints that may have it; a second call, or one for
    /// an endpoint that never had it, changes nothing.
    async fn clear(&self, end: &EndNotice, endpoint: &Endpoint) -> Outcome;

    /// Takes up, after a start, a notice that was handed before it. Nothing is sent.
    fn restore(&self, notice: &LiveNotice, endpoints: &[Endpoint]);

    /// Takes up, after a start, an end that was made known before it. Nothing is sent.
    fn restore_end(&self, _end: &EndNotice) {}

    /// Asks whether the provider would take a notice now.
    async fn probe(&self) -> Health;
}

/// What channels are built of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// This gateway.
    pub origin: OriginId,
    /// What may be shown now.
    pub judge: Judge,
    /// Where the screens hang.
    pub estates: Arc<Estates>,
    /// How far from an alert's area a block still shows it, in metres.
    pub screen_margin_m: f64,
}

/// The channels of a gateway. The HTTP server reads the first two; the dispatcher hands to all.
#[derive(Debug, Clone)]
pub struct Channels {
    /// The public feeds.
    pub feed: Arc<feed::Feed>,
    /// The pages of the lift screens.
    pub screen: Arc<screen::Screens>,
    /// Every channel.
    pub all: Vec<Arc<dyn Channel>>,
}

/// Builds the feed, the screens, and what the configuration adds.
///
/// # Errors
/// When a channel's settings are not usable.
pub fn build(configs: &[ChannelConfig], parts: &Parts) -> Result<Channels, mqtt::Error> {
    let feed = Arc::new(feed::Feed::new(parts.judge.clone()));
    let screen = Arc::new(screen::Screens::new(parts));
    let mut all: Vec<Arc<dyn Channel>> = vec![feed.clone(), screen.clone()];
    for config in configs {
        all.push(match config {
            ChannelConfig::Mqtt(config) => Arc::new(mqtt::Broker::connect(config, parts)?),
        });
    }
    Ok(Channels { feed, screen, all })
}
