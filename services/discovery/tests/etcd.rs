//! etcd as a hostile neighbour: killed, wiped, frozen, compacted, absent. Addresses are never lost, registration heals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use campanile_alert::Clock as _;
use campanile_discovery::directory::{EtcdConfig, EtcdDirectory, EtcdTls};
use campanile_discovery::pki::{Federation, Plan, Validity};
use campanile_discovery::testing::{EtcdServer, EtcdVersion, ServerTls};
use campanile_discovery::{Directory, Members};
use support::*;

const TTL_S: u32 = 2;
/// Within this the registration must be back once etcd is: twice the lease.
const HEAL: Duration = Duration::from_secs(2 * TTL_S as u64);

/// One node that registers at an etcd, and one that watches it.
struct Pair {
    fed: Fed,
    node: Arc<EtcdDirectory>,
    watcher: Members,
}

fn open(url: &str) -> Arc<EtcdDirectory> {
    let config = EtcdConfig { ttl_s: TTL_S, timeout_ms: 1000, ..EtcdConfig::new(vec![url.to_owned()]) };
    Arc::new(EtcdDirectory::open(config, "test").unwrap())
}

fn pair(url: &str) -> Pair {
    let fed = federation();
    let node = open(url);
    let watcher = members(&fed, open(url), None);
    let pair = Pair { fed, node, watcher };
    pair.announce(1);
    pair
}

impl Pair {
    fn announce(&self, epoch: u64) {
        let key = self.fed.fed.node(&origin("edb/node-1")).signing_key().unwrap();
        self.node.announce(origin("edb/node-1"), "i".into(), hint("edb/node-1", epoch).sign(&key));
    }

    fn sees(&self, epoch: u64) -> bool {
        let member = self.watcher.get(&origin("edb/node-1"));
        member.is_some_and(|m| m.hint.epoch == Some(epoch) && m.unregistered_since.is_none())
    }

    fn knows_address(&self) -> bool {
        self.watcher.get(&origin("edb/node-1")).is_some()
    }

    async fn healed(&self, epoch: u64) {
        // The new epoch shows that what is seen comes from after the trouble.
        self.announce(epoch);
        let begun = Instant::now();
        wait_for("registration", HEAL, || self.node.health().registered && self.sees(epoch)).await;
        eprintln!("healed {:?} after etcd was back", begun.elapsed());
        assert!(self.knows_address());
    }
}

async fn settled(url: &str) -> Pair {
    let pair = pair(url);
    wait_for("the first registration", HEAL, || pair.sees(1)).await;
    pair
}

async fn survives_restart_wipe_and_freeze(version: EtcdVersion) {
    let Some(mut server) = EtcdServer::start(version).unwrap() else { return };
    let pair = settled(&server.url()).await;

    server.kill().unwrap();
    wait_for("notice", HEAL, || !pair.node.health().registered && pair.node.health().last_error.is_some()).await;
    assert!(pair.knows_address());
    server.start_again().unwrap();
    pair.healed(2).await;

    server.wipe().unwrap();
    pair.healed(3).await;

    server.pause().unwrap();
    wait_for("notice", HEAL * 2, || !pair.node.health().registered).await;
    assert!(pair.knows_address());
    server.resume().unwrap();
    pair.healed(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_heals_after_restart_wipe_and_freeze_3_4() {
    survives_restart_wipe_and_freeze(EtcdVersion::V34).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_heals_after_restart_wipe_and_freeze_3_5() {
    survives_restart_wipe_and_freeze(EtcdVersion::V35).await;
}

async fn announces_when_etcd_comes(version: EtcdVersion) {
    let Some(mut server) = EtcdServer::prepare(version).unwrap() else { return };
    let pair = pair(&server.url());
    wait_for("notice", HEAL, || pair.node.health().last_error.is_some()).await;
    assert_eq!(pair.node.health().contact_age, None);
    server.start_again().unwrap();
    wait_for("registration", HEAL, || pair.sees(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_older_than_etcd_announces_when_it_comes_3_4() {
    announces_when_etcd_comes(EtcdVersion::V34).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_older_than_etcd_announces_when_it_comes_3_5() {
    announces_when_etcd_comes(EtcdVersion::V35).await;
}

async fn survives_compaction(version: EtcdVersion) {
    let Some(server) = EtcdServer::start(version).unwrap() else { return };
    let pair = settled(&server.url()).await;
    let begun = Instant::now();
    let mut epoch = 1;
    while begun.elapsed() < Duration::from_secs(4) {
        epoch += 1;
        pair.announce(epoch);
        server.compact().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    wait_for("the last epoch", HEAL, || pair.sees(epoch)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_loses_no_update_3_4() {
    survives_compaction(EtcdVersion::V34).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_loses_no_update_3_5() {
    survives_compaction(EtcdVersion::V35).await;
}

async fn survives_rewinding(version: EtcdVersion) {
    let Some(mut server) = EtcdServer::start(version).unwrap() else { return };
    let pair = settled(&server.url()).await;
    server.keep().unwrap();
    // What is announced after the snapshot is gone with it, and the revisions that the watch has seen are no more.
    for epoch in 2..6 {
        pair.announce(epoch);
        wait_for("the change", HEAL, || pair.sees(epoch)).await;
    }
    server.rewind().unwrap();
    let stranger = members(&pair.fed, open(&server.url()), None);
    let again = Pair { watcher: stranger, ..pair };
    wait_for("the newest epoch at a newcomer", HEAL * 2, || again.sees(5)).await;
    again.healed(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rewound_etcd_has_forgotten_is_announced_again_3_4() {
    survives_rewinding(EtcdVersion::V34).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rewound_etcd_has_forgotten_is_announced_again_3_5() {
    survives_rewinding(EtcdVersion::V35).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_compaction_during_an_outage_of_the_watcher_are_caught_up_with() {
    let Some(server) = EtcdServer::start(EtcdVersion::V34).unwrap() else { return };
    // The watcher reaches etcd through a proxy that we can cut.
    let proxy = Proxy::start(&server.url()).await;
    let fed = federation();
    let node = open(&server.url());
    let watcher = members(&fed, open(&proxy.url), None);
    let pair = Pair { fed, node, watcher };
    pair.announce(1);
    wait_for("the first registration", HEAL, || pair.sees(1)).await;
    proxy.cut(true);
    pair.announce(2);
    wait_for("the change", HEAL, || pair.node.health().registered).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.compact().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!pair.sees(2), "the proxy leaks");
    proxy.cut(false);
    wait_for("the change", HEAL * 2, || pair.sees(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_at_a_member_without_a_leader_is_given_up_and_nobody_is_forgotten() {
    let Some(mut servers) = EtcdServer::start_three(EtcdVersion::V34).unwrap() else { return };
    let pair = settled(&servers[0].url()).await;
    assert_eq!(pair.watcher.directory().health().last_error, None);
    // The member that is left goes on answering pings and requests for progress: it says nothing, and nothing is wrong.
    servers[1].kill().unwrap();
    servers[2].kill().unwrap();
    wait_for("notice", HEAL * 2, || pair.watcher.directory().health().last_error.is_some()).await;
    assert!(pair.knows_address());
    servers[1].start_again().unwrap();
    pair.healed(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_revoked_and_a_key_that_is_deleted_come_back() {
    let Some(server) = EtcdServer::start(EtcdVersion::V35).unwrap() else { return };
    let pair = settled(&server.url()).await;
    let key = "/campanile/test/nodes/edb/node-1";
    let mut raw = etcd_client::Client::connect([server.url()], None).await.unwrap();
    let before = raw.get(key, None).await.unwrap().kvs()[0].lease();
    raw.lease_revoke(before).await.unwrap();
    wait_for("the end", HEAL, || !pair.sees(1)).await;
    assert!(pair.knows_address(), "a lost lease took the address away");
    wait_for("a new lease", HEAL, || pair.sees(1)).await;
    let after = raw.get(key, None).await.unwrap().kvs()[0].lease();
    assert_ne!(before, after);

    raw.delete(key, None).await.unwrap();
    wait_for("the end", HEAL, || !pair.sees(1)).await;
    wait_for("the key again", HEAL, || pair.sees(1)).await;
    assert_eq!(raw.get(key, None).await.unwrap().kvs()[0].lease(), after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_instance_is_reported_and_takes_over_only_when_the_first_is_gone() {
    let Some(server) = EtcdServer::start(EtcdVersion::V34).unwrap() else { return };
    let pair = settled(&server.url()).await;
    let key = pair.fed.fed.node(&origin("edb/node-1")).signing_key().unwrap();
    let second = open(&server.url());
    let mut other = hint("edb/node-1", 99);
    other.instance = "second".into();
    second.announce(origin("edb/node-1"), "second".into(), other.sign(&key));
    wait_for("the conflict", HEAL, || second.health().conflict.as_deref() == Some("i")).await;
    assert!(!second.health().registered && pair.sees(1));
    pair.node.withdraw().await;
    wait_for("the takeover", HEAL * 2, || pair.sees(99)).await;
    assert_eq!(second.health().conflict, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsigned_hints_in_etcd_are_ignored_and_counted() {
    let Some(server) = EtcdServer::start(EtcdVersion::V35).unwrap() else { return };
    let pair = settled(&server.url()).await;
    let mut raw = etcd_client::Client::connect([server.url()], None).await.unwrap();
    raw.put("/campanile/test/nodes/fsd/node-1", "knock here", None).await.unwrap();
    raw.put("/campanile/test/nodes/not a name", "x", None).await.unwrap();
    raw.put("/campanile/test/roster/v00000000000000000009", "no roster", None).await.unwrap();
    wait_for("the counts", HEAL, || {
        let health = pair.watcher.health();
        (health.hints_ignored, health.rosters_refused) == (1, 1)
    })
    .await;
    assert!(pair.watcher.get(&origin("fsd/node-1")).is_none() && pair.sees(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_over_mutual_tls_takes_members_and_refuses_strangers() {
    let Some(server) = EtcdServer::prepare(EtcdVersion::V35).unwrap() else { return };
    // etcd checks against the wall clock, so these certificates must be good today.
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        federation: "test".into(),
        departments: vec![department("edb"), department("fsd")],
        validity: Validity::development(campanile_discovery::SystemClock.now()),
        governance_keys: 1,
        threshold: 1,
    };
    let fed = Federation::create(dir.path().join("pki"), &plan).unwrap();
    let ca = fed.department(&dept("edb")).ca_path();
    let own = fed.node(&origin("edb/node-1")).tls;
    let tls = ServerTls { certificate: own.chain, key: own.key, client_ca: ca.clone() };
    let mut server = server.with_tls(tls);
    server.start_again().unwrap();
    let open = |who: Option<&str>| {
        let files = who.map(|who| fed.node(&origin(who)).tls);
        let (certificate, key) = files.map(|f| (f.chain, f.key)).unzip();
        let tls = Some(EtcdTls { ca: ca.clone(), certificate, key, domain: None });
        let config = EtcdConfig { ttl_s: TTL_S, timeout_ms: 1000, tls, ..EtcdConfig::new(vec![server.url()]) };
        EtcdDirectory::open(config, "test").unwrap()
    };
    open(Some("edb/node-2")).publish_roster(1, b"roster").await.unwrap();
    assert_eq!(open(Some("edb/node-1")).roster().await.unwrap(), Some(b"roster".to_vec()));
    assert!(open(Some("fsd/node-1")).roster().await.is_err(), "another CA was let in");
    assert!(open(None).roster().await.is_err(), "nobody was let in");
}

/// A TCP proxy that can be cut: then it drops what is open and refuses what is new.
struct Proxy {
    url: String,
    cut: tokio::sync::watch::Sender<bool>,
}

impl Proxy {
    async fn start(to: &str) -> Self {
        let to = to.trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (cut, seen) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (mut seen, to) = (seen.clone(), to.clone());
                tokio::spawn(async move {
                    if *seen.borrow() {
                        return;
                    }
                    let mut upstream = tokio::net::TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut upstream) => {}
                        _ = seen.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { url, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}
