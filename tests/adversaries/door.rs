//! The door (S2): who gets in, how long a caller may stand in it, and that an open connection is no way past a revocation.

use std::time::{Duration, Instant};

use campanile_alert::DepartmentId;
use campanile_bus::transport::Channels;
use campanile_client::{Code, Identity, Publish};
use campanile_discovery::TlsMaterial;
use campanile_discovery::keys::SigningKey;
use campanile_discovery::pki::{DepartmentDir, Validity, renew_node};
use campanile_discovery::roster::{Revoked, RootKeys, RosterHandle};
use campanile_proto::bus::v1 as wire;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, LIMIT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::setting::{HARBOUR_VIEW, harbour_view};
use crate::words::{channel, governance, next_record, next_roster, pull};

async fn publish(cluster: &Cluster, identifier: &str) {
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let fire = Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW);
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_another_departments_ca_opens_no_door_in_a_department_that_it_squats() {
    let cluster = harbour_view().start().await.unwrap();
    // had's CA, true and listed, makes a certificate for edb/node-1.
    let had = cluster.federation.department(&DepartmentId::try_new("had").unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let squat = DepartmentDir::new(scratch.path(), &DepartmentId::try_new("edb").unwrap());
    std::fs::create_dir_all(squat.ca_path().parent().unwrap()).unwrap();
    std::fs::create_dir_all(squat.node("node-1").tls.chain.parent().unwrap()).unwrap();
    std::fs::copy(had.ca_path(), squat.ca_path()).unwrap();
    std::fs::copy(had.ca_key_path(), squat.ca_key_path()).unwrap();
    renew_node(&squat, "node-1", &[], Validity::development(cluster.time.now())).unwrap();
    let false_one = Identity::load(&squat.node("node-1").tls).unwrap();
    let true_one = Identity::load(&cluster.federation.node(&"edb/node-1".parse().unwrap()).tls).unwrap();
    assert_eq!(false_one.peer().spiffe(), true_one.peer().spiffe());

    // On its own side the squatter believes what it likes: a roster of its own, in which edb's CA is had's.
    let (edb, had) = (DepartmentId::try_new("edb").unwrap(), DepartmentId::try_new("had").unwrap());
    let node = cluster.node("fsd/node-1").unwrap();
    let current = node.bus().roster().current();
    let cas = |id: &DepartmentId| current.department(id).unwrap().cas.clone();
    let own_root = SigningKey::generate().unwrap();
    let believed = next_roster(&cluster, &current, &own_root, |draft| {
        draft.remove_department(&had).unwrap();
        draft.add_ca(&edb, cas(&had)[0].clone()).unwrap();
    });
    let pinned = RootKeys { threshold: 1, keys: vec![own_root.verifying_key()] };
    let believed = RosterHandle::open(pinned, true, None, Some(&believed)).unwrap();
    let failed = node.bus().metrics().handshakes_failed.get();
    for (identity, let_in) in [(false_one, false), (true_one, true)] {
        let material = TlsMaterial::new(identity, believed.clone(), cluster.time.clock()).unwrap();
        let channel = Channels::new(material).to(node.bus().origin(), &node.address().to_string()).unwrap();
        let mut peer = wire::peer_service_client::PeerServiceClient::new(channel);
        let answer = peer.get_roster(wire::GetRosterRequest { number: None }).await;
        assert_eq!(answer.is_ok(), let_in, "{answer:?}");
        assert!(node.bus().metrics().handshakes_failed.get() > failed, "it was not the node that refused");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_a_certificate_revoked_in_the_midst_of_an_open_stream_gets_nothing_more() {
    let cluster = harbour_view().away("had/node-1").start().await.unwrap();
    let identity = Identity::load(&cluster.federation.node(&"had/node-1".parse().unwrap()).tls).unwrap();
    let serial = identity.peer().serial.clone();
    publish(&cluster, "before").await;
    let (_open, mut stream) = pull(channel(&cluster, identity, "fsd/node-1"), "fsd/node-1").await;
    next_record(&mut stream).await.unwrap();
    let node = cluster.bus("fsd/node-1").unwrap();
    let revoked = Revoked { department: DepartmentId::try_new("had").unwrap(), serial };
    let roster = next_roster(&cluster, &node.roster().current(), &governance(&cluster), |draft| draft.revoke(revoked));
    node.roster().offer(&roster).unwrap();
    publish(&cluster, "after").await;
    let status = next_record(&mut stream).await.expect_err("a revoked node was served on its open stream");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    assert!(status.message().contains("revoked"), "{status}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_a_certificate_that_expires_in_the_midst_of_an_open_stream_gets_nothing_more() {
    let cluster = harbour_view().away("had/node-1").start().await.unwrap();
    let identity = Identity::load(&cluster.federation.node(&"had/node-1".parse().unwrap()).tls).unwrap();
    let rest = identity.peer().not_after.duration_since(cluster.time.now());
    publish(&cluster, "before").await;
    let (_open, mut stream) = pull(channel(&cluster, identity, "fsd/node-1"), "fsd/node-1").await;
    next_record(&mut stream).await.unwrap();
    // No roster says so, and nobody shakes hands again: the stream itself must look at the clock.
    cluster.advance(Duration::try_from(rest).unwrap() + Duration::from_secs(1)).unwrap();
    let status = next_record(&mut stream).await.expect_err("an expired certificate keeps its open stream");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    assert!(status.message().contains("expired"), "{status}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_a_node_that_leaves_the_roster_loses_its_open_stream() {
    let cluster = harbour_view().away("had/node-1").start().await.unwrap();
    let identity = Identity::load(&cluster.federation.node(&"had/node-1".parse().unwrap()).tls).unwrap();
    publish(&cluster, "before").await;
    let (_open, mut stream) = pull(channel(&cluster, identity, "fsd/node-1"), "fsd/node-1").await;
    next_record(&mut stream).await.unwrap();
    let node = cluster.bus("fsd/node-1").unwrap();
    let had = DepartmentId::try_new("had").unwrap();
    let roster = next_roster(&cluster, &node.roster().current(), &governance(&cluster), |draft| {
        draft.remove_department(&had).unwrap();
    });
    node.roster().offer(&roster).unwrap();
    publish(&cluster, "after").await;
    let status = next_record(&mut stream).await.expect_err("a node that is no member was served");
    assert!(matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied), "{status}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_that_never_shake_hands_keep_nobody_out_for_long() {
    let cluster = harbour_view().start().await.unwrap();
    let address = cluster.node("fsd/node-1").unwrap().address();
    let mut silent = Vec::new();
    for n in 0..100 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            // Half of them begin, a byte of a TLS record, and then say no more.
            tcp.write_all(&[0x16]).await.unwrap();
        }
        silent.push(tcp);
    }
    let begun = Instant::now();
    // A new connection is behind them in the line; each has 5 s, 64 at a time.
    publish(&cluster, "through").await;
    let took = begun.elapsed();
    println!("let in after {took:?}");
    assert!(took < Duration::from_secs(18), "{took:?}");
    for mut tcp in silent {
        let mut byte = [0; 64];
        let closed = tokio::time::timeout(LIMIT, tcp.read(&mut byte)).await.expect("a silent caller was kept");
        assert!(matches!(closed, Ok(_) | Err(_)));
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_say_what_it_wants_is_ended_and_the_others_go_on() {
    let cluster = harbour_view().away("had/node-1").start().await.unwrap();
    let identity = Identity::load(&cluster.federation.node(&"had/node-1".parse().unwrap()).tls).unwrap();
    let channel = channel(&cluster, identity, "fsd/node-1");
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut peer = wire::peer_service_client::PeerServiceClient::new(channel.clone());
        waiting.push(tokio::spawn(async move {
            let begun = Instant::now();
            let answer = peer.pull(tokio_stream::pending::<wire::PullRequest>()).await;
            (answer.map(|_| ()), begun.elapsed())
        }));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    publish(&cluster, "meanwhile").await;
    let (_open, mut stream) = pull(channel, "fsd/node-1").await;
    next_record(&mut stream).await.unwrap();
    for one in waiting {
        let (answer, took) = tokio::time::timeout(LIMIT, one).await.expect("it stands open for ever").unwrap();
        assert_eq!(answer.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_gives_no_credit_and_reads_nothing_delays_nobody_and_holds_no_more_than_a_window() {
    let cluster = harbour_view().away("had/node-1").start().await.unwrap();
    let identity = Identity::load(&cluster.federation.node(&"had/node-1".parse().unwrap()).tls).unwrap();
    let mut stuck = Vec::new();
    for _ in 0..20 {
        // Opened, and never read.
        stuck.push(pull(channel(&cluster, identity.clone(), "fsd/node-1"), "fsd/node-1").await);
    }
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let mut slowest = Duration::ZERO;
    for n in 0..100 {
        let headline = "Fire ".repeat(4_000);
        let fire = Fire { headline, ..Fire::new(format!("big-{n}"), cluster.time.now(), HARBOUR_VIEW) };
        let begun = Instant::now();
        dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
        slowest = slowest.max(begun.elapsed());
    }
    println!("the slowest publish took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let hko = cluster.bus("hko/node-1").unwrap();
    let log = campanile_log::LogId::new("fsd/node-1", campanile_log::Lane::Urgent);
    campanile_tests::cluster::wait_for("all at hko", LIMIT, || async {
        Ok((crate::words::log_of(&hko, &log).await.len() == 100).then_some(()))
    })
    .await
    .unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_headers_and_elements_without_measure_are_refused_and_the_node_goes_on() {
    let cluster = harbour_view().start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY c \"&b;&b;&b;&b;\">]><alert>&c;</alert>";
    for (name, cap) in [("deep", deep), ("bomb", bomb.into()), ("5 MiB", " ".repeat(5 << 20))] {
        let error = dispatch.publish(&Publish::cap_xml(cap.into_bytes())).await.unwrap_err();
        println!("{name}: {error}");
        // What is larger than any message is cut off before it is a call.
        assert!(error.code == Code::InvalidArgument || name == "5 MiB", "{name}: {error}");
    }
    let identity = Identity::load(&cluster.federation.client(&"fsd/dispatch".parse().unwrap())).unwrap();
    let mut alerts = wire::alert_service_client::AlertServiceClient::new(channel(&cluster, identity, "fsd/node-1"));
    let mut request = tonic::Request::new(wire::ListRequest::default());
    request.metadata_mut().insert("x-filler", "x".repeat(60_000).parse().unwrap());
    let status = alerts.list(request).await.expect_err("60 kB of headers were taken");
    println!("headers: {status}");
    // Plain text at a TLS port.
    let mut tcp = TcpStream::connect(cluster.node("fsd/node-1").unwrap().address()).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _closed = tokio::time::timeout(LIMIT, tcp.read_to_end(&mut answer)).await.expect("plain text was kept open");
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"));
    publish(&cluster, "goes-on").await;
    cluster.shutdown().await;
}
