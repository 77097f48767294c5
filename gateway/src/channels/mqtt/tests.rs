//! The broker channel against Debian's mosquitto, started here on a free port and ended by its process id.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use campanile_alert::ManualClock;
use campanile_log::Hash;
use parking_lot::RwLock;
use rumqttc::mqttbytes::v5::Publish;
use tokio::time::timeout;

use super::*;
use crate::board::Boards;
use crate::channels::conformance;
use crate::testing::{at, cancel, fire, parts, wait_for};

struct Mosquitto {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts a broker; `None`, said aloud, when the machine has none.
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let child = Self::spawn(&directory, port);
        if child.is_none() {
            assert_ne!(std::env::var("CAMPANILE_TOOLS").as_deref(), Ok("required"), "mosquitto is missing");
            eprintln!("left out: mosquitto is not installed (apt-get install mosquitto)");
        }
        Some(Self { child: child?, port, directory })
    }

    fn spawn(directory: &tempfile::TempDir, port: u16) -> Option<Child> {
        let config = directory.path().join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).expect("a file");
        ["mosquitto", "/usr/sbin/mosquitto"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().ok()
        })
    }

    fn stop(&mut self) {
        self.child.kill().expect("to end our own broker");
        self.child.wait().expect("its end");
    }

    fn restart(&mut self) {
        self.child = Self::spawn(&self.directory, self.port).expect("a broker");
    }

    fn config(&self) -> MqttConfig {
        MqttConfig {
            url: format!("mqtt://127.0.0.1:{}", self.port),
            owner: "ha".into(),
            ca: None,
            username: None,
            password_file: None,
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What a screen that starts now reads from a topic; absent when nothing is retained there.
async fn retained(port: u16, topic: &str) -> Option<Publish> {
    let name = format!("screen-{:?}", tokio::time::Instant::now());
    let (client, mut events) = AsyncClient::builder(MqttOptions::new(name, ("127.0.0.1", port))).capacity(10).build();
    client.subscribe(topic.to_owned(), QoS::AtLeastOnce).await.expect("a subscription");
    // The broker sends what it retains right after its answer to the subscription.
    let mut quiet = Duration::from_secs(5);
    loop {
        match timeout(quiet, events.poll()).await {
            Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => return Some(publish),
            Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => quiet = Duration::from_millis(300),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(_) => return None,
        }
    }
}

fn seq(publish: &Publish) -> u64 {
    let json: serde_json::Value = serde_json::from_slice(&publish.payload).expect("JSON");
    json["seq"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_conforms() {
    let Some(mosquitto) = Mosquitto::start() else { return };
    let port = mosquitto.port;
    conformance::run(
        |parts| Arc::new(Broker::connect(&mosquitto.config(), parts).expect("a channel")),
        |_, endpoint| async move {
            let Some(publish) = retained(port, &format!("hk/display/ha/{endpoint}/alert")).await else { return vec![] };
            let json: serde_json::Value = serde_json::from_slice(&publish.payload).expect("JSON");
            let alerts = json["alerts"].as_array().expect("alerts");
            alerts
                .iter()
                .map(|alert| alert["record"].as_str().expect("a hash").parse::<Hash>().expect("a hash"))
                .collect()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_retained_expires_by_itself_and_comes_back_after_the_broker_forgot() {
    let Some(mut mosquitto) = Mosquitto::start() else { return };
    let clock = Arc::new(ManualClock::new(at("2026-11-22T08:01:00+08:00")));
    let boards = Arc::new(RwLock::new(Boards::default()));
    let parts = parts(&boards, &clock);
    let broker = Broker::connect(&mosquitto.config(), &parts).expect("a channel");
    wait_for("the connection", || async { broker.probe().await == Health::Up }).await;
    let first = Arc::new(fire("f1"));
    boards.write().of_mut(&first).expect("the live board").take(&first);
    let notice = parts.judge.judge(&first).expect("a notice");
    let endpoint: Endpoint = "tai-po-estate/block-1".into();
    let topic = "hk/display/ha/tai-po-estate/block-1/alert";

    assert_eq!(broker.hand(&notice, &endpoint).await, Outcome::Handed);
    let publish = retained(mosquitto.port, topic).await.expect("a retained message");
    assert!(publish.retain);
    let left = publish.properties.clone().and_then(|p| p.message_expiry_interval).expect("an expiry interval");
    assert!((14_300..=14_340).contains(&left), "3 h 59 min are left, the message says {left} s");
    let json: serde_json::Value = serde_json::from_slice(&publish.payload).expect("JSON");
    assert_eq!(json["alerts"][0]["texts"]["zh-Hant"]["headline"], "大埔三級火警");

    mosquitto.stop();
    wait_for("the loss to be seen", || async { broker.probe().await == Health::Down }).await;
    let away = Outcome::Failed(Judgement::Retryable, FailureReason::Unreachable);
    assert_eq!(broker.hand(&notice, &endpoint).await, away);
    mosquitto.restart();
    wait_for("the message to come back", || async { retained(mosquitto.port, topic).await.is_some() }).await;
    let again = retained(mosquitto.port, topic).await.expect("a retained message");
    assert!(seq(&again) > seq(&publish), "seq only grows");

    // Two seconds before it expires: the broker itself takes it down.
    clock.set(at("2026-11-22T11:59:58+08:00"));
    wait_for("the connection", || async { broker.probe().await == Health::Up }).await;
    assert_eq!(broker.hand(&notice, &endpoint).await, Outcome::Handed);
    assert!(retained(mosquitto.port, topic).await.is_some());
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert!(retained(mosquitto.port, topic).await.is_none(), "shown after it expired, by a broker we do not touch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_alert_is_not_published_again_after_a_lost_connection() {
    let Some(mut mosquitto) = Mosquitto::start() else { return };
    let clock = Arc::new(ManualClock::new(at("2026-11-22T08:01:00+08:00")));
    let boards = Arc::new(RwLock::new(Boards::default()));
    let parts = parts(&boards, &clock);
    let broker = Broker::connect(&mosquitto.config(), &parts).expect("a channel");
    wait_for("the connection", || async { broker.probe().await == Health::Up }).await;
    let first = Arc::new(fire("f1"));
    boards.write().of_mut(&first).expect("the live board").take(&first);
    let notice = parts.judge.judge(&first).expect("a notice");
    assert_eq!(broker.hand(&notice, &"tai-po-estate/block-1".into()).await, Outcome::Handed);
    mosquitto.stop();
    let stop = Arc::new(cancel("c1", &first));
    boards.write().of_mut(&stop).expect("the live board").take(&stop);
    wait_for("the loss to be seen", || async { broker.probe().await == Health::Down }).await;
    mosquitto.restart();
    wait_for("the connection", || async { broker.probe().await == Health::Up }).await;
    wait_for("the status", || async { retained(mosquitto.port, "hk/display/ha/status").await.is_some() }).await;
    assert!(retained(mosquitto.port, "hk/display/ha/tai-po-estate/block-1/alert").await.is_none());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let with = |url: &str, owner: &str| MqttConfig {
        url: url.into(),
        owner: owner.into(),
        ca: None,
        username: None,
        password_file: None,
    };
    for url in ["", "mqtt://", "mqtt://host", "http://host:1", "mqtt://user@host:1", "mqtt://h:99999", "mqtt://[::g]:1"]
    {
        assert!(options(&with(url, "ha"), "isd/gateway-1", "s").is_err(), "{url:?} was accepted");
    }
    assert!(options(&with("mqtt://[::1]:1883", "ha"), "isd/gateway-1", "s").is_ok());
    assert!(matches!(options(&with("mqtts://host:8883", "ha"), "isd/gateway-1", "s"), Err(Error::NoCa)));
}
