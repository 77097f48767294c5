//! Alerts, a place in the bus and providers for this crate's own tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use campanile_alert::{
    Alert, Area, CapVersion, Category, Certainty, Circle, Classification, DateTime, Info, MessageType, References,
    ResponseType, Scope, Severity, Status, Timestamp, Urgency, ValuePair, World,
};
use campanile_alert::{Clock, ExerciseId, ManualClock, OriginId};
use campanile_bus::Haste;
use campanile_log::Hash;
use campanile_proto::gateway::v1::DeliveryReport;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::board::Boards;
use crate::channels::Parts;
use crate::estates::Estates;
use crate::incoming::{CauseRef, Incoming, Place};
use crate::member::{Error, Member, Row, Rows, Stored};
use crate::notice::Judge;

/// The instant of a CAP time.
pub(crate) fn at(text: &str) -> Timestamp {
    DateTime::parse(text).expect("a CAP time").instant()
}

fn info(language: &str, headline: &str) -> Info {
    Info {
        language: Some(language.into()),
        categories: vec![Category::Fire],
        event: if language.starts_with("zh") { "火警".into() } else { "Fire".into() },
        response_types: vec![],
        urgency: Urgency::Immediate,
        severity: Severity::Severe,
        certainty: Certainty::Observed,
        audience: None,
        event_codes: vec![ValuePair::new("campanile:event", "fire")],
        effective: None,
        onset: None,
        expires: Some(DateTime::parse("2026-11-22T12:00:00+08:00").expect("a time")),
        sender_name: Some("Fire Services <Control> & Co".into()),
        headline: Some(headline.into()),
        description: Some(format!("{headline} <b>now</b>")),
        instruction: Some("Keep windows shut & stay away".into()),
        web: None,
        contact: None,
        parameters: vec![ValuePair::new("campanile:alarm-level", "3")],
        resources: vec![],
        areas: vec![Area {
            description: "Tai Po".into(),
            circles: vec![Circle::parse("22.4501,114.1702 0.1").expect("a circle")],
            ..Area::default()
        }],
    }
}

/// A No. 3 fire in Tai Po in English and traditional Chinese, sent at 08:00 and expiring at 12:00.
pub(crate) fn fire(identifier: &str) -> Incoming {
    let alert = Alert {
        version: CapVersion::V1_2,
        identifier: identifier.into(),
        sender: "control@fsd.example".into(),
        sent: DateTime::parse("2026-11-22T08:00:00+08:00").expect("a time"),
        status: Status::Actual,
        msg_type: MessageType::Alert,
        password: None,
        source: None,
        scope: Some(Scope::Public),
        restriction: None,
        addresses: None,
        codes: vec![],
        note: None,
        references: None,
        incidents: None,
        infos: vec![info("en-HK", "No. 3 alarm fire in Tai Po"), info("zh-HK", "大埔三級火警")],
        signatures: vec![],
    };
    incoming(alert, 1)
}

/// A record around an alert.
pub(crate) fn incoming(alert: Alert, arrival: u64) -> Incoming {
    Incoming {
        arrival,
        record: Hash::of(alert.identifier.as_bytes()),
        place: Place {
            origin: "fsd/node-1".parse().expect("an origin"),
            lane: "urgent".into(),
            epoch: 7,
            seq: arrival,
        },
        department: "fsd".parse().expect("an id"),
        world: World::Actual,
        status: Status::Actual,
        urgent: true,
        classification: Classification { event: Some("fire".into()), level: Some(3), ..Classification::default() },
        causes: vec![CauseRef {
            record: Hash::of(b"cause"),
            origin: "fsd/node-1".into(),
            sender: "control@fsd.example".into(),
            identifier: "cause".into(),
            sent: "2026-11-22T08:00:00+08:00".into(),
        }],
        rule: None,
        traceparent: String::new(),
        time: at("2026-11-22T08:00:01+08:00"),
        received: at("2026-11-22T08:00:02+08:00"),
        original: None,
        alert: Arc::new(alert),
    }
}

/// The same fire in exercise hv26.
pub(crate) fn exercise_fire(identifier: &str) -> Incoming {
    let mut real = fire(identifier);
    let mut alert = (*real.alert).clone();
    alert.status = Status::Exercise;
    real.alert = Arc::new(alert);
    real.status = Status::Exercise;
    real.world = World::Exercise("hv26".parse().expect("an id"));
    real.place.lane = "exercise".into();
    real
}

/// A Cancel of an alert, without infos.
pub(crate) fn cancel(identifier: &str, of: &Incoming) -> Incoming {
    let mut alert = (*of.alert).clone();
    alert.identifier = identifier.into();
    alert.msg_type = MessageType::Cancel;
    alert.references = Some(References::from_ids(&[of.id()]));
    alert.infos.clear();
    let made = incoming(alert, of.arrival + 1);
    Incoming { received: at("2026-11-22T08:04:00+08:00"), world: of.world.clone(), status: of.status, ..made }
}

/// An Update of an alert, or its all-clear.
pub(crate) fn update(identifier: &str, of: &Incoming, all_clear: bool) -> Incoming {
    let mut alert = (*of.alert).clone();
    alert.identifier = identifier.into();
    alert.msg_type = MessageType::Update;
    alert.references = Some(References::from_ids(&[of.id()]));
    if all_clear {
        alert.infos.iter_mut().for_each(|info| info.response_types = vec![ResponseType::AllClear]);
    }
    Incoming { received: at("2026-11-22T08:04:00+08:00"), ..incoming(alert, of.arrival + 1) }
}

/// Two blocks of an estate beside the fire.
pub(crate) fn estates() -> Estates {
    Estates::parse(ESTATES).expect("a data set")
}

/// The data set of [`estates`].
pub(crate) const ESTATES: &str = r#"[{"name":{"en":"Tai Po Estate","zh-Hant":"大埔邨"},"lat":22.4501,"lon":114.1702,
    "blocks":{"en":["Block 1","Block 2"],"zh-Hant":["一座","二座"]}},
    {"name":{"en":"Far Estate"},"lat":22.3,"lon":114.0,"blocks":{"en":["Block 1"]}}]"#;

/// A place in a bus that lives in memory. What it holds survives a gateway that is dropped.
#[derive(Debug)]
pub(crate) struct InMemory {
    origin: OriginId,
    pub(crate) clock: Arc<ManualClock>,
    dyn_clock: Arc<dyn Clock>,
    log: Mutex<Vec<Arc<Incoming>>>,
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    changed: watch::Sender<u64>,
    pub(crate) forks: Mutex<Vec<Place>>,
    pub(crate) reports: Mutex<Vec<(DeliveryReport, Option<ExerciseId>)>>,
}

impl InMemory {
    pub(crate) fn new() -> Arc<Self> {
        let clock = Arc::new(ManualClock::new(at("2026-11-22T08:01:00+08:00")));
        Arc::new(Self {
            origin: "isd/gateway-1".parse().expect("an origin"),
            dyn_clock: clock.clone(),
            clock,
            log: Mutex::default(),
            rows: Mutex::default(),
            changed: watch::channel(0).0,
            forks: Mutex::default(),
            reports: Mutex::default(),
        })
    }

    /// Stores a record and says so; gives it back with its arrival number.
    pub(crate) fn arrive(&self, incoming: Incoming) -> Arc<Incoming> {
        let mut log = self.log.lock();
        let arrival = log.len() as u64 + 1;
        let incoming = Arc::new(Incoming { arrival, ..incoming });
        log.push(Arc::clone(&incoming));
        drop(log);
        self.changed.send_replace(arrival);
        incoming
    }

    /// The values of rows below a prefix, as text.
    pub(crate) fn values(&self, prefix: &str) -> Vec<String> {
        let rows = self.rows(prefix).expect("rows");
        rows.into_iter().map(|(_, value)| String::from_utf8(value).expect("text")).collect()
    }
}

#[async_trait]
impl Member for InMemory {
    fn origin(&self) -> &OriginId {
        &self.origin
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.dyn_clock
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn stored(&self, after: u64, max: usize) -> Result<Vec<Stored>, Error> {
        let log = self.log.lock();
        let one = |incoming: &Arc<Incoming>| Stored { arrival: incoming.arrival, incoming: Some(Arc::clone(incoming)) };
        Ok(log.iter().filter(|incoming| incoming.arrival > after).take(max).map(one).collect())
    }

    fn record(&self, hash: &Hash) -> Result<Option<Bytes>, Error> {
        let held = self.log.lock().iter().any(|incoming| incoming.record == *hash);
        Ok(held.then(|| Bytes::from_static(b"a record")))
    }

    fn forks(&self) -> Result<Vec<Place>, Error> {
        Ok(self.forks.lock().clone())
    }

    fn rows(&self, prefix: &str) -> Result<Rows, Error> {
        let rows = self.rows.lock();
        let below = rows.range(prefix.as_bytes().to_vec()..).take_while(|(key, _)| key.starts_with(prefix.as_bytes()));
        Ok(below.map(|(key, value)| (key[prefix.len()..].to_vec(), value.clone())).collect())
    }

    async fn put(&self, new: Vec<Row>, _haste: Haste) -> Result<(), Error> {
        let mut rows = self.rows.lock();
        for (key, value) in new {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        Ok(())
    }

    async fn report(&self, report: DeliveryReport, exercise: Option<ExerciseId>) -> Result<(), Error> {
        self.reports.lock().push((report, exercise));
        Ok(())
    }
}

/// Boards with one fire in force, and parts for a channel over them.
pub(crate) fn parts(boards: &Arc<RwLock<Boards>>, clock: &Arc<ManualClock>) -> Parts {
    Parts {
        origin: "isd/gateway-1".parse().expect("an origin"),
        judge: Judge::new(Arc::clone(boards), clock.clone()),
        estates: Arc::new(estates()),
        screen_margin_m: 300.0,
    }
}

/// Waits until `condition` holds, at most ten seconds.
pub(crate) async fn wait_for<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come about in ten seconds");
}
