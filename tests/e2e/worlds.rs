//! Worlds never mix (T3): what an exercise leads to stays in it, and nothing but Actual reaches a public provider.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use campanile_alert::{Alert, ExerciseId, Status, World};
use campanile_bus::record::{Content, Kind};
use campanile_bus::{Arrival, Bus};
use campanile_client::{Client, Publish};
use campanile_log::Lane;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, LIMIT, records, wait_for, wait_record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::setting::{HARBOUR_VIEW, PUBLIC, harbour_view, sign_envelope};

fn exercise() -> ExerciseId {
    ExerciseId::try_new("hv26").unwrap()
}

/// The fire of a drill; the word is what no public page may show.
fn drill(cluster: &Cluster, identifier: &str) -> Fire {
    let fire = Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW);
    Fire { status: Some("Exercise"), note: Some("Exercise HV26".into()), headline: "Pretended fire".into(), ..fire }
}

async fn play(client: &Client, fire: &Fire) {
    client.publish(&Publish::cap_xml(fire.xml()).exercise(&exercise())).await.unwrap();
}

fn alert(arrival: &Arrival) -> Option<&Alert> {
    match &arrival.body.as_ref()?.content {
        Content::Alert { alert, .. } => Some(alert),
        _ => None,
    }
}

/// The alerts that edb has issued in a world.
async fn issued(bus: &Bus, world: &World) -> Vec<std::sync::Arc<Arrival>> {
    let own = |arrival: &Arrival| {
        arrival.header.kind == Kind::Alert && arrival.header.origin == *bus.origin() && arrival.header.world == *world
    };
    records(bus).await.unwrap().into_iter().filter(|arrival| own(arrival)).collect()
}

fn targets(cluster: &Cluster, world: &World) -> Vec<String> {
    let view = cluster.node("edb/node-1").unwrap().rules().lock();
    let live = view.engine.live().into_iter().filter(|live| live.effect.world == *world);
    let mut targets: Vec<String> = live.map(|live| live.effect.target).collect();
    targets.sort();
    targets
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exercise_fire_closes_schools_for_the_exercise_only_and_moves_no_live_closure() {
    let cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let (edb, isd) = (cluster.bus("edb/node-1").unwrap(), cluster.bus("isd/gateway-1").unwrap());
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let pretended = World::Exercise(exercise());

    // A real fire first: its closures are in force.
    let fire = Fire::new("real-1", cluster.time.now(), HARBOUR_VIEW);
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    wait_for("live closures", LIMIT, || async { Ok((!targets(&cluster, &World::Actual).is_empty()).then_some(())) })
        .await
        .unwrap();
    let live = targets(&cluster, &World::Actual);
    let before = issued(&edb, &World::Actual).await.len();

    // The drill at the same place closes the same schools, for itself.
    let first = drill(&cluster, "drill-1");
    play(&dispatch, &first).await;
    wait_for("closures of the drill", LIMIT, || async { Ok((targets(&cluster, &pretended) == live).then_some(())) })
        .await
        .unwrap();
    for effect in issued(&edb, &pretended).await {
        let alert = alert(&effect).unwrap();
        assert_eq!(alert.status, Status::Exercise);
        assert_eq!(effect.header.status, Status::Exercise);
        assert_eq!(effect.entry.log.lane, Lane::Exercise);
        assert!(alert.note.is_some(), "an exercise message names its exercise in its note");
        let causes = &effect.body.as_ref().unwrap().causes;
        assert!(!causes.is_empty() && causes.iter().all(|cause| cause.identifier == "drill-1"));
    }
    let (live_key, drill_key) = {
        let roster = edb.roster().current();
        let keys = roster.origin(edb.origin()).unwrap().keys.clone();
        let of = |usage| keys.iter().find(|key| key.usage == usage).unwrap().id.to_string();
        (of(campanile_discovery::roster::KeyUse::Live), of(campanile_discovery::roster::KeyUse::Exercise))
    };
    assert!(issued(&edb, &pretended).await.iter().all(|effect| effect.header.key_id == drill_key));
    assert!(issued(&edb, &World::Actual).await.iter().all(|effect| effect.header.key_id == live_key));

    // Update and Cancel of the drill move nothing that is real either.
    cluster.advance(Duration::from_secs(60)).unwrap();
    let update =
        Fire { msg_type: "Update", references: vec![first.id()], level: Some(5), ..drill(&cluster, "drill-2") };
    play(&dispatch, &update).await;
    let cancel = Fire { msg_type: "Cancel", references: vec![update.id(), first.id()], ..drill(&cluster, "drill-3") };
    play(&dispatch, &cancel).await;
    wait_record(&edb, "the Cancel of the drill", |a| alert(a).is_some_and(|a| a.identifier == "drill-3"))
        .await
        .unwrap();
    // An end in the other world, that the rules have come past it: the next tick would be far away.
    let last = Fire::new("real-2", cluster.time.now(), HARBOUR_VIEW);
    dispatch.publish(&Publish::cap_xml(last.xml())).await.unwrap();
    let joined = |arrival: &Arrival| {
        let causes = arrival.body.as_ref().map(|body| body.causes.as_slice()).unwrap_or_default();
        arrival.header.origin == *edb.origin() && causes.iter().any(|cause| cause.identifier == "real-2")
    };
    wait_record(&edb, "the second cause in the closures", joined).await.unwrap();
    assert_eq!(targets(&cluster, &World::Actual), live);
    for effect in issued(&edb, &World::Actual).await.iter().skip(before) {
        let causes = &effect.body.as_ref().unwrap().causes;
        assert!(causes.iter().all(|cause| cause.identifier.starts_with("real-")), "a live closure rests on a drill");
        assert_ne!(alert(effect).unwrap().msg_type, campanile_alert::MessageType::Cancel);
    }

    // The gateway holds the drill's records and shows none of it.
    wait_record(&isd, "the drill at the gateway", |a| a.header.world == pretended && a.header.kind == Kind::Alert)
        .await
        .unwrap();
    let web = cluster.web().unwrap();
    wait_for("the real closures on the feed", LIMIT, || async {
        Ok(web.text("/alerts.json").await?.contains("class-suspension").then_some(()))
    })
    .await
    .unwrap();
    nothing_public(&cluster, &["drill-1", "drill-2", "drill-3", "Pretended", "hv26", "HV26"]).await;
    cluster.shutdown().await;
}

/// Asserts that no page shows any of the words, nor any record that is not Actual.
pub(crate) async fn nothing_public(cluster: &Cluster, words: &[&str]) {
    let web = cluster.web().unwrap();
    for path in PUBLIC {
        let text = web.text(path).await.unwrap();
        for word in words {
            assert!(!text.contains(word), "{path} shows {word:?}");
        }
    }
    let isd = cluster.bus("isd/gateway-1").unwrap();
    let all = records(&isd).await.unwrap();
    let hidden: Vec<_> =
        all.iter().filter(|a| a.header.kind == Kind::Alert && a.header.status != Status::Actual).collect();
    assert!(!hidden.is_empty(), "the gateway holds nothing that it could have shown");
    for arrival in hidden {
        let hash = arrival.entry.position.hash;
        for path in [format!("/cap/{hash}.xml"), format!("/alerts/{hash}.json"), format!("/records/{hash}")] {
            assert_eq!(web.get(&path).await.unwrap().status, 404, "{path} of {:?}", arrival.header.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_of_a_test_of_the_system_or_a_draft_supports_nothing_and_is_shown_to_nobody() {
    let cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let edb = cluster.bus("edb/node-1").unwrap();
    let isd = cluster.bus("isd/gateway-1").unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    for status in ["Test", "System", "Draft"] {
        let fire = Fire::new(format!("only-a-{status}"), cluster.time.now(), HARBOUR_VIEW);
        let fire =
            Fire { status: Some(status), note: Some("not real".into()), headline: "Pretended fire".into(), ..fire };
        dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        for bus in [&edb, &isd] {
            let is = |arrival: &Arrival| arrival.header.status.as_cap() == status && arrival.header.kind == Kind::Alert;
            wait_record(bus, status, is).await.unwrap();
        }
    }
    // A real fire far from any school after them: when the gateway shows it, it has come past the others.
    let far = Fire::new("far", cluster.time.now(), (22.5, 114.3));
    dispatch.publish(&Publish::cap_xml(far.xml())).await.unwrap();
    let web = cluster.web().unwrap();
    wait_for("the real fire on the feed", LIMIT, || async {
        Ok(web.text("/alerts.json").await?.contains("\"far\"").then_some(()))
    })
    .await
    .unwrap();
    let worlds = [World::Actual, World::Test, World::System, World::Exercise(exercise())];
    for world in worlds {
        assert!(issued(&edb, &world).await.is_empty(), "an effect in {world}");
        assert!(targets(&cluster, &world).is_empty());
    }
    let pending = cluster.node("edb/node-1").unwrap().rules().lock().engine.pending();
    assert!(pending.is_empty(), "{pending:?}");
    nothing_public(&cluster, &["only-a-", "Pretended"]).await;
    cluster.shutdown().await;
}

/// Debian's broker on a free port, ended with this value.
pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
    _dir: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
        for program in ["mosquitto", "/usr/sbin/mosquitto"] {
            let child =
                Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            if let Ok(child) = child {
                return Some(Self { child, port, _dir: dir });
            }
        }
        assert_ne!(std::env::var("CAMPANILE_TOOLS").as_deref(), Ok("required"), "mosquitto is missing");
        eprintln!("LEFT OUT: mosquitto is not installed (apt-get install mosquitto)");
        None
    }

    /// Listens to every topic from now on: MQTT 3.1.1, CONNECT and SUBSCRIBE to `#` by hand.
    pub(crate) async fn listen(&self) -> TcpStream {
        let address = ("127.0.0.1", self.port);
        let connect = || async move { Ok(TcpStream::connect(address).await.ok()) };
        let mut stream = wait_for("the broker", LIMIT, connect).await.unwrap();
        stream.write_all(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02me").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
        stream.write_all(b"\x82\x06\x00\x01\x00\x01#\x00").await.unwrap();
        stream
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Everything that any topic gets until some message has this text.
pub(crate) async fn heard_until(screens: &mut TcpStream, text: &str) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let listen = async {
        while !String::from_utf8_lossy(&heard).contains(text) {
            let n = screens.read(&mut buffer).await.unwrap();
            assert!(n > 0, "the broker has gone");
            heard.extend_from_slice(&buffer[..n]);
        }
    };
    tokio::time::timeout(LIMIT, listen).await.unwrap_or_else(|_| panic!("{text:?} came to no screen"));
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_exercise_reaches_a_lift_screen_and_the_real_fire_does() {
    let Some(broker) = Broker::start() else { return };
    let mut screens = broker.listen().await;
    let cluster = harbour_view().mqtt(format!("mqtt://127.0.0.1:{}", broker.port)).start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    play(&dispatch, &drill(&cluster, "drill-1")).await;
    let isd = cluster.bus("isd/gateway-1").unwrap();
    let closure = |a: &Arrival| a.header.origin.department().as_str() == "edb" && a.header.kind == Kind::Alert;
    wait_record(&isd, "the drill's closure at the gateway", closure).await.unwrap();
    let fire = Fire { headline: "Genuine fire".into(), ..Fire::new("real-1", cluster.time.now(), HARBOUR_VIEW) };
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();

    // Everything that any topic got, from before the drill until the real fire is on a screen.
    let heard = heard_until(&mut screens, "Genuine fire").await;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    for word in ["Pretended", "drill-1", "hv26", "HV26"] {
        assert!(!heard.contains(word), "a screen got {word:?}");
    }
    nothing_public(&cluster, &["Pretended", "drill-1", "hv26"]).await;
    cluster.shutdown().await;
}
