//! Lift screens behind an MQTT 5 broker.
//!
//! ```text
//!  hk/display/<owner>/<estate>/<block>/alert    retained JSON: everything that stands on the block's screens
//!  hk/display/<owner>/status                    retained: {"state":"online"}, and by the broker "offline" when we go
//! ```
//!
//! A block's message holds all its alerts and replaces the one before, so a screen that starts in mid-storm has the
//! whole picture at once. It carries a Message Expiry Interval, the seconds until the last of its alerts is over, so a
//! dead gateway leaves nothing up for ever; each alert in it has its own `expires` besides. An empty retained message
//! clears the block. `seq` only grows: a screen ignores a lower one.
//!
//! After a lost connection every block that this process has touched is published again as it stands then, since the
//! broker may have forgotten, and what was on its way when the connection broke may be stale.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use campanile_alert::{Alert, Timestamp};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{LastWill, Packet, PublishProperties};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, PublishOptions, PublishResult};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::screen::{Blocks, ScreenAlert};
use super::{Channel, Endpoint, FailureReason, Health, Judgement, Outcome, Parts};
use crate::config::MqttConfig;
use crate::delivery::chain;
use crate::estates::Estates;
use crate::notice::{EndNotice, Judge, LiveNotice};

#[cfg(test)]
mod tests;

/// How many messages may be on their way to the broker.
const ON_THE_WAY_MAX: usize = 128;
/// The first wait before connecting again; it doubles.
const RECONNECT: Duration = Duration::from_millis(250);
/// The longest wait before connecting again.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// How long the broker may be silent before it counts as gone, in seconds.
const KEEP_ALIVE_S: u16 = 10;

/// Why a broker's settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("{0:?} is not a broker; write mqtt://host:port, or mqtts://host:port for TLS")]
    Url(String),
    /// The owner cannot stand in a topic.
    #[error("the owner of screens {0:?} is not usable; use lower-case letters, digits and hyphens")]
    Owner(String),
    /// `mqtts` without CA certificates.
    #[error("mqtts needs `ca`, the file with the CA certificates of the broker")]
    NoCa,
    /// A file could not be read.
    #[error("failed to read {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A broker that screens listen to.
#[derive(Debug)]
pub struct Broker {
    link: Arc<Link>,
    estates: Arc<Estates>,
    margin_m: f64,
    connected: watch::Receiver<bool>,
    _stop: DropGuard,
}

/// What the connection's task and the channel share.
struct Link {
    client: AsyncClient,
    owner: String,
    judge: Judge,
    blocks: Blocks,
    seq: AtomicU64,
    /// Held while a message is composed and put in line, so that messages go out in the order of their `seq`.
    order: Mutex<()>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("owner", &self.owner).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Message<'a> {
    version: u32,
    seq: u64,
    owner: &'a str,
    block: &'a str,
    updated: Timestamp,
    expires: Timestamp,
    alerts: &'a [ScreenAlert],
}

impl Broker {
    /// Makes the channel and starts to connect; the broker need not be there yet.
    ///
    /// # Errors
    /// [`Error`] when the settings are not usable.
    pub fn connect(config: &MqttConfig, parts: &Parts) -> Result<Self, Error> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if config.owner.is_empty() || config.owner.len() > 32 || !config.owner.chars().all(is_plain) {
            return Err(Error::Owner(config.owner.clone()));
        }
        let status = format!("hk/display/{}/status", config.owner);
        let options = options(config, &parts.origin.to_string(), &status)?;
        let (client, events) = AsyncClient::builder(options).capacity(ON_THE_WAY_MAX).build();
        let link = Arc::new(Link {
            client,
            owner: config.owner.clone(),
            judge: parts.judge.clone(),
            blocks: Blocks::default(),
            seq: AtomicU64::new(0),
            order: Mutex::new(()),
        });
        let (connected_sender, connected) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = stay_connected(Arc::clone(&link), events, connected_sender, status);
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self {
            link,
            estates: Arc::clone(&parts.estates),
            margin_m: parts.screen_margin_m,
            connected,
            _stop: stop.drop_guard(),
        })
    }

    async fn publish(&self, endpoint: &Endpoint) -> Outcome {
        let away = Outcome::Failed(Judgement::Retryable, FailureReason::Unreachable);
        if !*self.connected.borrow() {
            return away;
        }
        let notice = {
            let _in_order = self.link.order.lock().await;
            let (topic, payload, options) = self.link.compose(endpoint);
            match self.link.client.publish_tracked(topic, payload, options).await {
                Ok(notice) => notice,
                Err(_) => return away,
            }
        };
        match notice.wait_async().await {
            Ok(PublishResult::Qos1(ack)) => {
                debug!(endpoint = %endpoint, reason = ?ack.reason, "Broker took the block's message");
                Outcome::Handed
            }
            Ok(_) => Outcome::Handed,
            Err(rumqttc::PublishNoticeError::V5PubAck(reason)) => {
                warn!(?reason, "The broker refused a block's message");
                Outcome::Failed(Judgement::Terminal, FailureReason::Refused)
            }
            Err(rumqttc::PublishNoticeError::RetainNotSupported) => {
                Outcome::Failed(Judgement::Terminal, FailureReason::Refused)
            }
            // The connection broke between sending and the broker's answer.
            Err(_) => Outcome::Failed(Judgement::Unknown, FailureReason::Unreachable),
        }
    }
}

impl Link {
    /// The message of a block as it stands now: empty when nothing is in force.
    fn compose(&self, endpoint: &str) -> (String, Vec<u8>, PublishOptions) {
        let now = self.judge.now();
        let topic = format!("hk/display/{}/{endpoint}/alert", self.owner);
        let options = PublishOptions::at_least_once().retained();
        let alerts = self.blocks.alerts(endpoint, &self.judge);
        let Some(expires) = alerts.iter().map(|alert| alert.expires).max() else {
            return (topic, Vec::new(), options);
        };
        let message = Message {
            version: 1,
            seq: self.next_seq(now),
            owner: &self.owner,
            block: endpoint,
            updated: now,
            expires,
            alerts: &alerts,
        };
        let seconds = expires.duration_since(now).as_secs().max(1);
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            content_type: Some("application/json".into()),
            ..PublishProperties::default()
        };
        // A message is made of texts, numbers and times: it always has a JSON form.
        (topic, serde_json::to_vec(&message).unwrap_or_default(), options.properties(properties))
    }

    /// Grows with every message, over restarts too: milliseconds since 1970, or one more than the last.
    fn next_seq(&self, now: Timestamp) -> u64 {
        let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let step = |last: u64| now.max(last + 1);
        let before = self.seq.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(step(last)));
        step(before.unwrap_or_default())
    }

    /// Says that we are here, and what stands on every block that this process has touched.
    async fn refresh(&self, status: &str, blocks_too: bool) {
        let retained = PublishOptions::at_least_once().retained();
        let mut refused = self.client.publish(status, r#"{"state":"online"}"#, retained.clone()).await.is_err();
        if blocks_too {
            for endpoint in self.blocks.touched() {
                let _in_order = self.order.lock().await;
                let (topic, payload, options) = self.compose(&endpoint);
                refused |= self.client.publish(topic, payload, options).await.is_err();
            }
        }
        if refused {
            warn!("The screens' broker could not be refreshed; the next connection tries again");
        }
    }
}

/// Keeps the connection, and connects again for as long as the channel lives.
async fn stay_connected(link: Arc<Link>, mut events: EventLoop, connected: watch::Sender<bool>, status: String) {
    let mut wait = RECONNECT;
    let mut was_lost = false;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                info!("Connected to the screens' broker");
                wait = RECONNECT;
                connected.send_replace(true);
                let (link, status, blocks_too) = (Arc::clone(&link), status.clone(), was_lost);
                // A task of its own, since publishing waits for room that only this loop makes.
                tokio::spawn(async move { link.refresh(&status, blocks_too).await });
            }
            Ok(_) => {}
            Err(error) => {
                if connected.send_replace(false) {
                    warn!(error = %chain(&error), "Lost the screens' broker");
                }
                was_lost = true;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RECONNECT_MAX);
            }
        }
    }
}

fn options(config: &MqttConfig, origin: &str, status: &str) -> Result<MqttOptions, Error> {
    let bad = || Error::Url(config.url.clone());
    let (is_tls, rest) = match config.url.split_once("://") {
        Some(("mqtt", rest)) => (false, rest),
        Some(("mqtts", rest)) => (true, rest),
        _ => return Err(bad()),
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| bad())?.to_string(),
        None if host.is_empty() || host.contains(['/', '@', ':', '?']) => return Err(bad()),
        None => host.to_owned(),
    };
    let mut options = MqttOptions::new(format!("campanile-{}", origin.replace('/', "-")), (host, port));
    options.set_keep_alive(KEEP_ALIVE_S);
    let will = LastWill::new(status, r#"{"state":"offline"}"#, QoS::AtLeastOnce, true, None);
    options.set_last_will(will);
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|source| Error::File { path: path.display().to_string(), source })
    };
    if is_tls {
        let ca = read(config.ca.as_ref().ok_or(Error::NoCa)?)?;
        options.set_transport(rumqttc::Transport::tls(ca, None, None));
    }
    if let Some(username) = &config.username {
        let password = config.password_file.as_ref().map(read).transpose()?.unwrap_or_default();
        let password = password.trim_ascii_end().to_vec();
        options.set_credentials(username.clone(), password);
    }
    Ok(options)
}

#[async_trait]
impl Channel for Broker {
    fn name(&self) -> &'static str {
        "screen-mqtt"
    }

    fn endpoints(&self, alert: &Alert) -> Vec<Endpoint> {
        self.estates.concerned(alert, self.margin_m).into_iter().map(|block| block.address().into()).collect()
    }

    async fn hand(&self, notice: &LiveNotice, endpoint: &Endpoint) -> Outcome {
        self.link.blocks.add(endpoint, notice);
        self.publish(endpoint).await
    }

    async fn clear(&self, end: &EndNotice, endpoint: &Endpoint) -> Outcome {
        self.link.blocks.remove(endpoint, &end.incoming().record);
        self.publish(endpoint).await
    }

    fn restore(&self, notice: &LiveNotice, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            self.link.blocks.add(endpoint, notice);
        }
    }

    async fn probe(&self) -> Health {
        if *self.connected.borrow() { Health::Up } else { Health::Down }
    }
}
