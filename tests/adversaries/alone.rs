//! One member alone, with rules and a disk that fail: nobody waits in vain, and the machine is left in peace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Classification, Timestamp};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Audience, Content, Tick};
use campanile_bus::{Bus, Derive, Derived, Event, Options, PublishError, SigningKeys, Submission, SubmitError};
use campanile_discovery::members::MembersConfig;
use campanile_discovery::{Identity, Members, RosterHandle, TlsMaterial};
use campanile_log::memory::{Disk, Fault};
use campanile_log::{Lane, LogId, MemoryStore};
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, wait_for};

use crate::setting::{HARBOUR_VIEW, NOW, five};

/// A federation in which nobody runs, and fsd's member over a store and rules of the test's.
async fn member(store: Arc<MemoryStore>, derive: Box<dyn Derive>) -> (Cluster, Bus) {
    let time = Time::at(NOW).unwrap();
    let mut builder = Builder::new(five(&time), time).unwrap();
    for away in ["fsd/node-1", "edb/node-1", "had/node-1", "hko/node-1", "isd/gateway-1"] {
        builder = builder.away(away);
    }
    let cluster = builder.start().await.unwrap();
    let origin: campanile_alert::OriginId = "fsd/node-1".parse().unwrap();
    let files = cluster.federation.node(&origin);
    let first = cluster.federation.roster().unwrap();
    let roster = RosterHandle::open(cluster.federation.root().unwrap(), true, None, Some(&first)).unwrap();
    let clock = cluster.time.clock();
    let material = TlsMaterial::new(Identity::load(&files.tls).unwrap(), roster.clone(), Arc::clone(&clock)).unwrap();
    let hub = campanile_discovery::MemoryHub::new();
    let directory = campanile_discovery::DirectoryConfig::Memory.open(&roster.current().federation, &hub).unwrap();
    let members =
        Members::start(MembersConfig { directory, roster: roster.clone(), cache: None, clock: Arc::clone(&clock) });
    let bus = Bus::open(Options {
        federation: roster.current().federation.clone(),
        origin,
        clock,
        store,
        roster,
        material,
        keys: SigningKeys { live: files.signing_key().unwrap(), exercise: files.exercise_key().unwrap() },
        members,
        instance: "alone".into(),
        addresses: Vec::new(),
        peers: Vec::new(),
        derive: Some(derive),
        begin_anew: false,
    })
    .await
    .unwrap();
    (cluster, bus)
}

fn submission(cluster: &Cluster, identifier: &str) -> Submission {
    let alert = Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW).alert().unwrap();
    let classification: Classification = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
    Submission {
        alert: Arc::new(alert),
        original: None,
        classification,
        exercise: None,
        audience_departments: Vec::new(),
        traceparent: String::new(),
    }
}

/// Rules with a fault in them: they panic at the first alert.
struct Broken;

impl Derive for Broken {
    fn restore(&mut self, _: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _: &Event<'_>) -> Derived {
        panic!("a fault in the rules, put in by the test");
    }

    fn due(&self) -> Option<Timestamp> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_pipelines_thread_ends_every_caller_and_tells_the_owner() {
    let store = Arc::new(MemoryStore::open(&Disk::default()).unwrap());
    let (cluster, bus) = member(store, Box::new(Broken)).await;
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let (bus, submission) = (bus.clone(), submission(&cluster, &format!("call-{n}")));
            tokio::spawn(async move { bus.publish(submission).await })
        })
        .collect();
    for call in calls {
        let answer = tokio::time::timeout(LIMIT, call).await.expect("a caller waits in vain").unwrap();
        // Whoever the panic met in the midst may be told "full"; that may be tried again too.
        assert!(matches!(answer, Err(SubmitError::Publish(PublishError::Failed | PublishError::Full))), "{answer:?}");
    }
    // Who comes later is told at once, and so is the owner of the process.
    let late = tokio::time::timeout(LIMIT, bus.publish(submission(&cluster, "late"))).await;
    assert!(matches!(late.expect("a late caller waits in vain"), Err(SubmitError::Publish(PublishError::Failed))));
    assert!(*bus.failed().borrow());
    cluster.shutdown().await;
}

/// Rules that are over their budget with each record, and make one more of the first.
#[derive(Default)]
struct Slow {
    seen: HashMap<LogId, u64>,
}

impl Derive for Slow {
    fn restore(&mut self, _: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Derived {
        std::thread::sleep(Duration::from_millis(5));
        let seen = self.seen.entry(event.arrival.entry.log.clone()).or_default();
        *seen += 1;
        let mut derived = Derived::default();
        if *seen == 1 && event.arrival.entry.log.lane == Lane::Urgent {
            let content = Content::Tick(Tick { at: event.arrival.header.time, heard: Vec::new() });
            derived.drafts.push(plain_draft(campanile_alert::Status::System, None, Audience::public(), content));
        }
        derived
    }

    fn due(&self) -> Option<Timestamp> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_asked_a_few_times_a_second_and_refuses_without_ending() {
    let store = Arc::new(MemoryStore::open(&Disk::default()).unwrap());
    // The first commit leaves evaluation to go on with; from then on the disk is full.
    for nth in 2..5_000 {
        store.fail_commit(nth, Fault::Full);
    }
    let (cluster, bus) = member(Arc::clone(&store), Box::new(Slow::default())).await;
    bus.publish(submission(&cluster, "first")).await.unwrap();
    let failed = || bus.metrics().commits_failed.get();
    wait_for("a failed commit", LIMIT, || async { Ok((failed() > 0).then_some(())) }).await.unwrap();
    let before = failed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = failed() - before;
    println!("the full disk was asked {asked} times in 2 s");
    assert!(asked <= 20, "the full disk was asked {asked} times in 2 s");
    let refused = bus.publish(submission(&cluster, "refused")).await;
    assert!(matches!(refused, Err(SubmitError::Publish(PublishError::Full))), "{refused:?}");
    // Reads go on, and the member has not ended.
    assert!(!bus.arrivals(0, 100).await.unwrap().is_empty());
    assert!(!*bus.failed().borrow());
    cluster.shutdown().await;
}
