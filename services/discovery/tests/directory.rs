//! What every directory does, run over each of them: the conformance suite of `Directory`, and `Members` on top.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use campanile_discovery::directory::{Entry, Error, EtcdConfig, EtcdDirectory, FileDirectory, PutOutcome, Update};
use campanile_discovery::testing::{EtcdServer, EtcdVersion};
use campanile_discovery::{Directory, Members, MembersConfig, MemoryHub, RosterCache, RosterHandle};
use support::*;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);

/// Opens one node's end of one and the same directory.
type Open<'o> = &'o dyn Fn() -> Arc<dyn Directory>;

async fn next(updates: &mut Receiver<Update>) -> Update {
    timeout(SOON, updates.recv()).await.expect("no update in time").expect("the watch ended")
}

fn entry(name: &str, envelope: &str) -> Entry {
    Entry { origin: origin(name), envelope: envelope.into() }
}

fn announce(directory: &Arc<dyn Directory>, entry: &Entry) {
    directory.announce(entry.origin.clone(), "i".into(), entry.envelope.clone());
}

async fn conformance(open: Open<'_>) {
    watchers_see_what_stands_and_then_what_changes(open).await;
    the_newest_roster_is_found_and_never_replaced(open).await;
    what_was_judged_over_a_folder_still_holds_when_it_is_written(open).await;
}

async fn watchers_see_what_stands_and_then_what_changes(open: Open<'_>) {
    let (edb, fsd, reader) = (open(), open(), open());
    let first = entry("edb/node-1", "one");
    announce(&edb, &first);
    wait_for("the first registration", SOON, || edb.health().registered).await;
    let mut updates = reader.watch();
    assert_eq!(next(&mut updates).await, Update::Reset(vec![first.clone()]));

    let second = entry("fsd/node-1", "two");
    announce(&fsd, &second);
    assert_eq!(next(&mut updates).await, Update::Put(second.clone()));
    let changed = entry("edb/node-1", "three");
    announce(&edb, &changed);
    assert_eq!(next(&mut updates).await, Update::Put(changed.clone()));
    fsd.withdraw().await;
    assert_eq!(next(&mut updates).await, Update::Gone(origin("fsd/node-1")));

    let mut late = reader.watch();
    assert_eq!(next(&mut late).await, Update::Reset(vec![changed]));
    edb.withdraw().await;
    assert_eq!(next(&mut late).await, Update::Gone(origin("edb/node-1")));
    assert!(!edb.health().registered);
}

async fn the_newest_roster_is_found_and_never_replaced(open: Open<'_>) {
    let (governance, reader) = (open(), open());
    assert_eq!(reader.roster().await.unwrap(), None);
    governance.publish_roster(9, b"nine").await.unwrap();
    governance.publish_roster(9, b"nine").await.unwrap();
    let mut updates = reader.watch();
    assert_eq!(next(&mut updates).await, Update::Reset(vec![]));
    assert_eq!(next(&mut updates).await, Update::Roster(b"nine".to_vec()));
    governance.publish_roster(10, b"ten").await.unwrap();
    assert_eq!(next(&mut updates).await, Update::Roster(b"ten".to_vec()));
    assert!(matches!(governance.publish_roster(10, b"other").await, Err(Error::RosterConflict(10))));
    assert_eq!(reader.roster().await.unwrap(), Some(b"ten".to_vec()));
}

async fn what_was_judged_over_a_folder_still_holds_when_it_is_written(open: Open<'_>) {
    let (a, b) = (open(), open());
    let folder = "manifests";
    let empty = a.list(folder).await.unwrap();
    assert!(empty.values.is_empty());
    assert_eq!(a.put_unless_changed(folder, empty.revision, "edb", b"1").await.unwrap(), PutOutcome::Done);
    // Another name in the same folder is a change all the same; another folder is not.
    assert_eq!(b.put_unless_changed(folder, empty.revision, "had", b"2").await.unwrap(), PutOutcome::Changed);
    let other = b.list("other").await.unwrap();
    let one = b.list(folder).await.unwrap();
    assert_eq!(one.values, BTreeMap::from([("edb".into(), b"1".to_vec())]));
    assert_eq!(b.put_unless_changed("other", other.revision, "had", b"0").await.unwrap(), PutOutcome::Done);
    assert_eq!(b.put_unless_changed(folder, one.revision, "had", b"2").await.unwrap(), PutOutcome::Done);
    assert_eq!(a.put_unless_changed(folder, one.revision, "edb", b"3").await.unwrap(), PutOutcome::Changed);
    let two = a.list(folder).await.unwrap();
    assert_eq!(two.values, BTreeMap::from([("edb".into(), b"1".to_vec()), ("had".into(), b"2".to_vec())]));
    for bad in ["", "/", "a/b", "../x", "A", "a.b"] {
        assert!(matches!(a.list(bad).await, Err(Error::Invalid(_))), "{bad:?}");
        assert!(
            matches!(a.put_unless_changed(folder, two.revision, bad, b"").await, Err(Error::Invalid(_))),
            "{bad:?}"
        );
    }
    let long = vec![0; 2 << 20];
    assert!(matches!(a.put_unless_changed(folder, two.revision, "edb", &long).await, Err(Error::Invalid(_))));

    // Many writers, each adding one: none is lost.
    let tasks: Vec<_> = (0..4_u8)
        .map(|_| {
            let directory = open();
            tokio::spawn(async move {
                for _ in 0..5 {
                    loop {
                        let held = directory.list("counters").await.unwrap();
                        let count = [held.values.get("counter").map_or(0, |v| v[0]) + 1];
                        let put = directory.put_unless_changed("counters", held.revision, "counter", &count);
                        if put.await.unwrap() == PutOutcome::Done {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(a.list("counters").await.unwrap().values["counter"], [20]);
}

#[tokio::test]
async fn memory_is_a_directory() {
    let hub = MemoryHub::new();
    conformance(&|| Arc::new(hub.join())).await;
}

#[tokio::test]
async fn a_folder_is_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    conformance(&|| Arc::new(FileDirectory::open(dir.path(), Duration::from_millis(20)).unwrap())).await;
}

async fn etcd_is_a_directory(version: EtcdVersion) {
    let Some(server) = EtcdServer::start(version).unwrap() else { return };
    let config = EtcdConfig { ttl_s: 3, ..EtcdConfig::new(vec![server.url()]) };
    conformance(&|| Arc::new(EtcdDirectory::open(config.clone(), "test").unwrap())).await;
}

#[tokio::test]
async fn etcd_3_4_is_a_directory() {
    etcd_is_a_directory(EtcdVersion::V34).await;
}

#[tokio::test]
async fn etcd_3_5_is_a_directory() {
    etcd_is_a_directory(EtcdVersion::V35).await;
}

#[tokio::test]
async fn two_federations_in_one_etcd_do_not_meet() {
    let Some(server) = EtcdServer::start(EtcdVersion::V34).unwrap() else { return };
    let config = EtcdConfig { ttl_s: 3, ..EtcdConfig::new(vec![server.url()]) };
    let one: Arc<dyn Directory> = Arc::new(EtcdDirectory::open(config.clone(), "test").unwrap());
    let other = EtcdDirectory::open(config, "test-2").unwrap();
    announce(&one, &entry("edb/node-1", "one"));
    one.publish_roster(1, b"roster").await.unwrap();
    wait_for("registration", SOON, || one.health().registered).await;
    assert_eq!(next(&mut other.watch()).await, Update::Reset(vec![]));
    assert_eq!(other.roster().await.unwrap(), None);
}

#[tokio::test]
async fn a_lost_file_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let directory: Arc<dyn Directory> = Arc::new(FileDirectory::open(dir.path(), Duration::from_millis(20)).unwrap());
    announce(&directory, &entry("edb/node-1", "one"));
    let path = dir.path().join("nodes/edb/node-1.json");
    wait_for("the file", SOON, || path.exists()).await;
    std::fs::remove_file(&path).unwrap();
    wait_for("the file again", SOON, || path.exists()).await;
}

#[tokio::test]
async fn only_hints_signed_by_a_listed_key_count_and_a_bad_one_displaces_no_good_one() {
    let fed = federation();
    let hub = MemoryHub::new();
    let members = members(&fed, Arc::new(hub.join()), None);
    let (good, other) = (fed.fed.node(&origin("edb/node-1")), fed.fed.node(&origin("fsd/node-1")));
    let edb = hub.join();
    let signed = hint("edb/node-1", 1).sign(&good.signing_key().unwrap());
    edb.announce(origin("edb/node-1"), "i".into(), signed.clone());
    wait_for("the good hint", SOON, || members.get(&origin("edb/node-1")).is_some()).await;

    let bad = [
        b"no envelope".to_vec(),
        hint("edb/node-1", 2).sign(&other.signing_key().unwrap()),
        hint("edb/node-1", 3).sign(&good.exercise_key().unwrap()),
        hint("edb/node-2", 4).sign(&good.signing_key().unwrap()),
    ];
    for (n, envelope) in bad.into_iter().enumerate() {
        hub.put_raw(origin("edb/node-1"), envelope);
        wait_for("the count", SOON, || members.health().hints_ignored > n as u64).await;
        assert_eq!(members.get(&origin("edb/node-1")).unwrap().hint, hint("edb/node-1", 1), "bad hint {n} counted");
    }
    hub.put_raw(origin("hko/node-1"), hint("hko/node-1", 1).sign(&other.signing_key().unwrap()));
    wait_for("the count", SOON, || members.health().hints_ignored == 5).await;
    assert_eq!(members.get(&origin("hko/node-1")), None);
}

#[tokio::test]
async fn an_unregistered_node_keeps_its_address_and_so_it_does_over_a_restart_without_directory() {
    let fed = federation();
    let (hub, cache) = (MemoryHub::new(), tempfile::tempdir().unwrap());
    let name = origin("edb/node-1");
    let key = fed.fed.node(&name).signing_key().unwrap();
    let first = members(&fed, Arc::new(hub.join()), Some(cache.path()));
    let edb = hub.join();
    edb.announce(name.clone(), "i".into(), hint("edb/node-1", 1).sign(&key));
    wait_for("the hint", SOON, || first.get(&name).is_some_and(|m| m.unregistered_since.is_none())).await;
    drop(edb);
    wait_for("the end", SOON, || first.get(&name).is_some_and(|m| m.unregistered_since == Some(now()))).await;
    wait_for("the cache", SOON, || cache.path().join("hints.json").exists()).await;
    first.shutdown().await;

    // Nothing answers at this etcd; the cache serves without limit.
    let nowhere = EtcdDirectory::open(EtcdConfig::new(vec!["http://127.0.0.1:9".into()]), "test").unwrap();
    let again = members(&fed, Arc::new(nowhere), Some(cache.path()));
    let member = again.get(&name).expect("the cached hint");
    assert_eq!((member.hint, member.unregistered_since), (hint("edb/node-1", 1), Some(now())));
    let health = again.health();
    assert_eq!((health.directory.contact_age, health.directory.registered), (None, false));

    // A cache that was tampered with gives nothing.
    let path = cache.path().join("hints.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("edb/node-1", "edb/node-2")).unwrap();
    let hub = MemoryHub::new();
    assert!(members(&fed, Arc::new(hub.join()), Some(cache.path())).view().is_empty());
}

#[tokio::test]
async fn a_hint_under_a_new_key_counts_as_soon_as_a_roster_lists_that_key() {
    use campanile_discovery::keys::SigningKey;
    use campanile_discovery::roster::{Draft, KeyUse, OriginKey};
    let fed = federation();
    let (hub, roster, name) = (MemoryHub::new(), fed.handle(), origin("edb/node-1"));
    let members = Members::start(MembersConfig {
        directory: Arc::new(hub.join()),
        roster: roster.clone(),
        cache: None,
        clock: clock(),
    });
    let key = SigningKey::generate().unwrap();
    let edb = hub.join();
    edb.announce(name.clone(), "i".into(), hint("edb/node-1", 2).sign(&key));
    wait_for("the count", SOON, || members.health().hints_ignored == 1).await;
    assert_eq!(members.get(&name), None);

    let mut draft = Draft::after(&roster.current());
    let (public, usage) = (key.verifying_key(), KeyUse::Live);
    draft.add_key(&name, OriginKey { id: key.id(), public, usage, from: None, until: vec![] }).unwrap();
    let mut envelope = draft.finish(now()).unwrap();
    [1, 2].into_iter().for_each(|n| envelope.sign(&fed.fed.governance_key(n).unwrap()));
    roster.offer(&envelope.to_bytes()).unwrap();
    let hint = hint("edb/node-1", 2);
    wait_for("the hint", SOON, || members.get(&name).is_some_and(|member| member.hint == hint)).await;
}

#[tokio::test]
async fn a_roster_in_the_directory_comes_into_force_and_its_new_node_is_believed() {
    use campanile_discovery::pki::{Request, Validity};
    use campanile_discovery::roster::Draft;
    let fed = federation();
    let hub = MemoryHub::new();
    let cache = tempfile::tempdir().unwrap();
    let roster = RosterHandle::open(
        fed.fed.root().unwrap(),
        true,
        Some(RosterCache::open(cache.path()).unwrap()),
        Some(&fed.fed.roster().unwrap()),
    )
    .unwrap();
    let members = Members::start(MembersConfig {
        directory: Arc::new(hub.join()),
        roster: roster.clone(),
        cache: None,
        clock: clock(),
    });
    // The newcomer registers before governance has listed it.
    let own = tempfile::tempdir().unwrap();
    let request = Request::create(own.path(), &department("hko"), Validity::development(now())).unwrap();
    let key = campanile_discovery::pki::load_signing_key(&own.path().join("hko/nodes/node-1/signing.key")).unwrap();
    let hko = hub.join();
    hko.announce(origin("hko/node-1"), "i".into(), hint("hko/node-1", 1).sign(&key));
    wait_for("the count", SOON, || members.health().hints_ignored == 1).await;
    assert_eq!(members.get(&origin("hko/node-1")), None);

    let mut draft = Draft::after(&roster.current());
    Request::verify(&request).unwrap().add_to(&mut draft, vec![]).unwrap();
    let mut envelope = draft.finish(now()).unwrap();
    envelope.sign(&fed.fed.governance_key(1).unwrap());
    // One signature is too few, and the directory may hold it for all we care.
    hub.join().publish_roster(2, &envelope.to_bytes()).await.unwrap();
    wait_for("the refusal", SOON, || members.health().rosters_refused == 1).await;
    assert_eq!(roster.current().number, 1);
    envelope.sign(&fed.fed.governance_key(2).unwrap());
    roster.offer(&envelope.to_bytes()).unwrap();
    wait_for("the newcomer", SOON, || members.get(&origin("hko/node-1")).is_some()).await;

    let again = RosterHandle::open(
        fed.fed.root().unwrap(),
        true,
        Some(RosterCache::open(cache.path()).unwrap()),
        Some(&fed.fed.roster().unwrap()),
    )
    .unwrap();
    assert_eq!(again.current().number, 2, "the cache is newer than the file in the configuration");
    assert_eq!(again.at(1).unwrap().number, 1);
}

#[tokio::test]
async fn a_slow_watcher_loses_nothing() {
    let hub = MemoryHub::new();
    let node = hub.join();
    let mut updates = hub.join().watch();
    let begun = Instant::now();
    for n in 0..2000 {
        node.announce(origin("edb/node-1"), "i".into(), format!("{n}").into_bytes());
    }
    let mut last = None;
    while last != Some(b"1999".to_vec()) {
        last = match next(&mut updates).await {
            Update::Put(entry) => Some(entry.envelope),
            Update::Reset(entries) => entries.into_iter().next().map(|e| e.envelope),
            other => panic!("{other:?}"),
        };
    }
    assert!(begun.elapsed() < SOON);
}
