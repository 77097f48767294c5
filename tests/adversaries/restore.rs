//! Mends of replication, each kept from coming undone: credit, a lost or restored disk, what a Restricted Cancel shows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use campanile_client::{Client, Publish, Published};
use campanile_log::{Lane, LogId, Standing};
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, LIMIT, wait_for};

use crate::setting::{HARBOUR_VIEW, PUBLIC, harbour_view};
use crate::words::log_of;

async fn publish(cluster: &Cluster, client: &Client, identifier: &str) -> Published {
    let fire = Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW);
    client.publish(&Publish::cap_xml(fire.xml())).await.unwrap()
}

/// Makes a message Restricted to its own department.
fn restricted(fire: &Fire, why: &str) -> Vec<u8> {
    let text = String::from_utf8(Fire { scope: Some("Restricted"), ..fire.clone() }.xml()).unwrap();
    let scope = "<scope>Restricted</scope>";
    assert!(text.contains(scope));
    text.replace(scope, &format!("{scope}<restriction>{why}</restriction>")).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_more_records_without_bodies_than_the_credit_do_not_stall_the_stream() {
    // The server once took the bodies that it left out from the credit, and the receiver never gave them back.
    let cluster = harbour_view().start().await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let now = cluster.time.now();
    let headline = "Fire ".repeat(40_000);
    for n in 0..48 {
        let fire = Fire { headline: headline.clone(), ..Fire::new(format!("secret-{n}"), now, HARBOUR_VIEW) };
        dispatch.publish(&Publish::cap_xml(restricted(&fire, "fire services"))).await.unwrap();
    }
    publish(&cluster, &dispatch, "after").await;
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let held = wait_for("all records at edb", LIMIT, || async {
        let held = log_of(&edb, &log).await;
        Ok((held.len() == 49).then_some(held))
    })
    .await
    .unwrap();
    let left_out: usize = log_of(&cluster.bus("fsd/node-1").unwrap(), &log)
        .await
        .iter()
        .zip(&held)
        .filter(|(_, held)| held.entry.body.is_none())
        .map(|(own, _)| own.entry.body.as_ref().unwrap().len())
        .sum();
    assert!(left_out > 8 << 20, "only {left_out} bytes were left out, which proves nothing");
    assert_eq!(held[48].entry.standing, Standing::Counted);
    cluster.shutdown().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// fsd and edb, after fsd has published `first` and then `second`, both known to edb; then fsd's store was lost, or put
/// back as it was before the second, and fsd started again. In the second case edb is away at first.
async fn after_a_loss(is_restored: bool) -> (Cluster, [Published; 2]) {
    let builder = harbour_view().away("isd/gateway-1").away("had/node-1").away("hko/node-1");
    let store: PathBuf = builder.dir().join("data/fsd/node-1/store");
    let mut cluster = builder.start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let first = publish(&cluster, &dispatch, "first").await;
    drop(dispatch);
    cluster.stop("fsd/node-1").await;
    let backup = tempfile::tempdir().unwrap();
    copy(&store, backup.path());
    cluster.advance(Duration::from_secs(60)).unwrap();
    cluster.start("fsd/node-1").await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let second = publish(&cluster, &dispatch, "second").await;
    drop(dispatch);
    let edb = cluster.bus("edb/node-1").unwrap();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    wait_for("both at edb", LIMIT * 2, || async { Ok((log_of(&edb, &log).await.len() == 2).then_some(())) })
        .await
        .unwrap();
    cluster.stop("fsd/node-1").await;
    std::fs::remove_dir_all(&store).unwrap();
    if is_restored {
        copy(backup.path(), &store);
        cluster.stop("edb/node-1").await;
    }
    cluster.advance(Duration::from_secs(60)).unwrap();
    cluster.start("fsd/node-1").await.unwrap();
    (cluster, [first, second])
}

/// Asserts that both sides come to hold the same three, counted, with no fork.
async fn is_whole(cluster: &Cluster) {
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let (fsd, edb) = (cluster.bus("fsd/node-1").unwrap(), cluster.bus("edb/node-1").unwrap());
    for bus in [&fsd, &edb] {
        let held = wait_for(&format!("three at {}", bus.origin()), LIMIT * 2, || async {
            let held = log_of(bus, &log).await;
            Ok((held.len() == 3).then_some(held))
        })
        .await
        .unwrap();
        assert!(held.iter().all(|one| one.entry.standing == Standing::Counted), "{held:?}");
        assert!(bus.store().evidence().unwrap().is_empty(), "{} has seen a fork", bus.origin());
    }
    let (own, theirs) = (log_of(&fsd, &log).await, log_of(&edb, &log).await);
    for (own, theirs) in own.iter().zip(&theirs) {
        assert_eq!((own.entry.position, &own.entry.header), (theirs.entry.position, &theirs.entry.header));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_a_node_whose_disk_is_gone_takes_its_past_back_before_it_writes() {
    let (cluster, [first, second]) = after_a_loss(false).await;
    // At once: a log that began anew, without a link to what edb holds, would be refused there for ever.
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    publish(&cluster, &dispatch, "third").await;
    is_whole(&cluster).await;
    // D1: what had been published before the loss gets its first answer again.
    let now = cluster.time.now();
    for (name, published, ago) in [("first", first, 120), ("second", second, 60)] {
        let fire = Fire::new(name, now - jiff::SignedDuration::from_secs(ago), HARBOUR_VIEW);
        let again = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
        assert_eq!((again.duplicate, &again.position), (true, &published.position), "{name}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_a_node_restored_from_a_backup_takes_its_own_later_records_back() {
    let (mut cluster, [_, second]) = after_a_loss(true).await;
    // It writes before anybody is there who knows what it has lost: that lies behind its new tail then.
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    publish(&cluster, &dispatch, "third").await;
    cluster.start("edb/node-1").await.unwrap();
    is_whole(&cluster).await;
    let fire = Fire::new("second", cluster.time.now() - jiff::SignedDuration::from_secs(60), HARBOUR_VIEW);
    let again = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    assert_eq!((again.duplicate, &again.position), (true, &second.position));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_cancel_ends_the_alert_on_the_public_feed_and_shows_nothing_of_itself() {
    let cluster = harbour_view().start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let fire = Fire { headline: "Warehouse fire".into(), ..Fire::new("public", cluster.time.now(), HARBOUR_VIEW) };
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    let web = cluster.web().unwrap();
    wait_for("the fire on the feed", LIMIT, || async {
        Ok(web.text("/alerts.json").await?.contains("Warehouse fire").then_some(()))
    })
    .await
    .unwrap();
    cluster.advance(Duration::from_secs(60)).unwrap();
    let cancel = Fire {
        msg_type: "Cancel",
        references: vec![fire.id()],
        note: Some("witness in room 1204".into()),
        ..Fire::new("hush-hush", cluster.time.now(), HARBOUR_VIEW)
    };
    let xml = String::from_utf8(restricted(&cancel, "police only")).unwrap();
    let request =
        Publish::cap_xml(xml.into_bytes()).audience(&[campanile_alert::DepartmentId::try_new("isd").unwrap()]);
    let published = dispatch.publish(&request).await.unwrap();
    // /alerts.json lists what is in force; the fire leaves it when its end is known.
    wait_for("the end of the fire", LIMIT, || async {
        Ok((!web.text("/alerts.json").await?.contains("\"in-force\"")).then_some(()))
    })
    .await
    .unwrap();
    for path in PUBLIC {
        let text = web.text(path).await.unwrap();
        for word in ["witness", "1204", "police", "hush-hush"] {
            assert!(!text.contains(word), "{path} shows {word:?}");
        }
    }
    let hash = published.position.hash;
    for path in [format!("/cap/{hash}.xml"), format!("/alerts/{hash}.json"), format!("/records/{hash}")] {
        assert_eq!(web.get(&path).await.unwrap().status, 404, "{path}");
    }
    cluster.shutdown().await;
}
