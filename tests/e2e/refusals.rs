//! Publish-side refusals (S1, S2): nothing is stored and the reason is named.

use std::time::Duration;

use campanile_alert::DepartmentId;
use campanile_client::{Client, Code, Credentials, Error, Expect, Identity, Options, Publish, wanted};
use campanile_discovery::keys::SigningKey;
use campanile_discovery::pki::{Validity, renew_client};
use campanile_discovery::roster::{Draft, Revoked, RosterHandle};
use campanile_log::{LogId, Position};
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, LIMIT, wait_for, wait_record};

use crate::setting::{HARBOUR_VIEW, NOW, five, harbour_view, harbour_view_of};
use campanile_tests::cluster::Time;

/// Where the node's own logs end; a refusal must not move it. (What others report comes in all the same.)
fn held(cluster: &Cluster, origin: &str) -> Vec<(LogId, Position)> {
    let mut logs = cluster.bus(origin).unwrap().store().logs();
    logs.retain(|(log, _)| *log.origin == *origin);
    logs.sort_by_key(|(log, _)| log.to_string());
    logs
}

async fn refused(client: &Client, cap: Vec<u8>, code: Code, reason: &str, says: &str) {
    let error = client.publish(&Publish::cap_xml(cap)).await.unwrap_err();
    check(&error, code, reason, says);
}

fn check(error: &Error, code: Code, reason: &str, says: &str) {
    assert_eq!((error.code, error.reason.as_deref()), (code, Some(reason)), "{error}");
    assert!(error.to_string().contains(says), "{error} does not say {says:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inadmissible_fire_is_refused_for_its_reason_and_nothing_is_stored() {
    let cluster = harbour_view().start().await.unwrap();
    let now = cluster.time.now();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let before = held(&cluster, "fsd/node-1");
    let fire = |identifier: &str| Fire::new(identifier, now, HARBOUR_VIEW);

    let bad = Code::InvalidArgument;
    let no_status = Fire { status: None, ..fire("no-status") };
    refused(&dispatch, no_status.xml(), bad, "INVALID_ALERT", "status").await;
    let no_scope = Fire { scope: None, ..fire("no-scope") };
    refused(&dispatch, no_scope.xml(), bad, "INVALID_ALERT", "scope").await;
    let long = Fire { minutes: 60 * 24 * 30, ..fire("long") };
    refused(&dispatch, long.xml(), bad, "INVALID_ALERT", "expires").await;
    let old = Fire { sent: now - jiff::SignedDuration::from_hours(48), ..fire("old") };
    refused(&dispatch, old.xml(), bad, "INVALID_ALERT", "expired").await;
    let early = Fire { sent: now + jiff::SignedDuration::from_hours(1), ..fire("early") };
    refused(&dispatch, early.xml(), bad, "INVALID_ALERT", "sent").await;
    refused(&dispatch, b"<alert>".to_vec(), bad, "INVALID_ALERT", "cap_xml").await;
    refused(&dispatch, vec![b' '; 1_500_000], bad, "INVALID_ALERT", "cap_xml").await;
    let exercise = Fire { status: Some("Exercise"), note: Some("hv26".into()), ..fire("no-exercise") };
    refused(&dispatch, exercise.xml(), bad, "INVALID_ALERT", "exercise").await;

    let foreign = Fire { at: (-33.9, 151.2), ..fire("abroad") };
    refused(&dispatch, foreign.xml(), Code::PermissionDenied, "NO_RIGHT", "outside the area").await;
    let flood = Fire { event: "flood", category: "Met", level: None, ..fire("flood") };
    refused(&dispatch, flood.xml(), Code::PermissionDenied, "NO_RIGHT", "may not originate flood").await;

    // An unspecified status on the wire, where XML has no word for it.
    let mut wire = campanile_proto::convert::alert_to_wire(&fire("unspecified").alert().unwrap());
    wire.status = 0;
    let status = raw(&cluster, "fsd/dispatch", wire).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("status"), "{status}");

    assert_eq!(held(&cluster, "fsd/node-1"), before, "something was stored");
    cluster.shutdown().await;
}

/// Publishes what the SDK has no way to say.
async fn raw(cluster: &Cluster, client: &str, alert: campanile_proto::alert::v1::Alert) -> Result<(), tonic::Status> {
    use campanile_proto::bus::v1 as wire;
    let node = cluster.node("fsd/node-1").unwrap();
    let identity = Identity::load(&cluster.federation.client(&client.parse().unwrap())).unwrap();
    let material =
        campanile_discovery::TlsMaterial::new(identity, node.bus().roster().clone(), cluster.time.clock()).unwrap();
    let channels = campanile_bus::transport::Channels::new(material);
    let channel = channels.to(node.bus().origin(), &node.address().to_string()).unwrap();
    let mut alerts = wire::alert_service_client::AlertServiceClient::new(channel);
    let content = Some(wire::publish_request::Content::Alert(alert));
    alerts.publish(wire::PublishRequest { content, ..Default::default() }).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_with_other_content_is_a_conflict_and_with_the_same_content_one_record() {
    let mut cluster = harbour_view().start().await.unwrap();
    let fire = Fire::new("twice", cluster.time.now(), HARBOUR_VIEW);
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let first = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    let before = held(&cluster, "fsd/node-1");
    for _ in 0..3 {
        let again = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
        assert!(again.duplicate);
        assert_eq!(again.position, first.position);
    }
    let other = Fire { headline: "Another text".into(), ..fire.clone() };
    refused(&dispatch, other.xml(), Code::AlreadyExists, "CONFLICT", "other content").await;
    assert_eq!(held(&cluster, "fsd/node-1"), before);

    // The answer is for ever: after a restart, and after the fire has expired.
    cluster.stop("fsd/node-1").await;
    cluster.start("fsd/node-1").await.unwrap();
    cluster.advance(Duration::from_secs(2 * 86_400)).unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let again = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    assert_eq!((again.duplicate, &again.position), (true, &first.position));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_that_another_department_squats_stays_each_departments_own() {
    let cluster = harbour_view().start().await.unwrap();
    let fire = Fire::new("squatted", cluster.time.now(), HARBOUR_VIEW);
    // had says first what fsd will say, under fsd's own sender and identifier.
    let squatter =
        Fire { event: "shelter-open", category: "Rescue", severity: "Moderate", level: None, ..fire.clone() };
    assert_eq!(squatter.id(), fire.id());
    let had = cluster.client("had/duty").await.unwrap();
    had.publish(&Publish::cap_xml(squatter.xml())).await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let of = |department: &'static str| {
        move |arrival: &campanile_bus::Arrival| {
            arrival.header.origin.department().as_str() == department
                && arrival.header.kind == campanile_bus::record::Kind::Alert
        }
    };
    wait_record(&edb, "had's message", of("had")).await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let published = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    assert!(!published.duplicate);
    let seen = wait_record(&edb, "fsd's fire", of("fsd")).await.unwrap();
    assert_eq!(seen.entry.standing, campanile_log::Standing::Counted);
    wait_record(&cluster.bus("fsd/node-1").unwrap(), "had's message at fsd", of("had")).await.unwrap();
    let listed = dispatch.list(&campanile_client::Query::default()).await.unwrap();
    let mut departments: Vec<&str> = listed
        .alerts
        .iter()
        .filter(|alert| alert.alert.id() == fire.id())
        .map(|alert| alert.department.as_str())
        .collect();
    departments.sort_unstable();
    assert_eq!(departments, ["fsd", "had"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_departments_alert_is_not_ones_own_to_cancel_or_update() {
    let cluster = harbour_view().start().await.unwrap();
    let fire = Fire::new("owned", cluster.time.now(), HARBOUR_VIEW);
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    let had = cluster.client("had/duty").await.unwrap();
    let node = cluster.bus("had/node-1").unwrap();
    wait_record(&node, "the fire at had", |arrival| arrival.header.origin.department().as_str() == "fsd")
        .await
        .unwrap();
    let before = held(&cluster, "had/node-1");
    let error = had.cancel(&wanted(&fire.id()), "not mine").await.unwrap_err();
    check(&error, Code::PermissionDenied, "NOT_OWNER", "fsd");
    let shelter = Fire { event: "shelter-open", category: "Rescue", level: None, ..Fire::new("s", fire.sent, fire.at) };
    let update = Fire { msg_type: "Update", references: vec![fire.id()], ..shelter };
    refused(&had, update.xml(), Code::PermissionDenied, "NOT_OWNER", "fsd").await;
    assert_eq!(held(&cluster, "had/node-1"), before);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_role_of_another_department_or_a_node_in_its_place_is_refused() {
    let cluster = harbour_view().start().await.unwrap();
    let fire = Fire::new("roles", cluster.time.now(), HARBOUR_VIEW);
    let before = held(&cluster, "fsd/node-1");
    let denied = Code::PermissionDenied;
    let reader = cluster.client("fsd/reader").await.unwrap();
    refused(&reader, fire.xml(), denied, "NO_ROLE", "publish").await;
    let forecaster = cluster.client_at("hko/forecaster", "fsd/node-1").await.unwrap();
    refused(&forecaster, fire.xml(), denied, "OTHER_DEPARTMENT", "hko").await;
    for origin in ["fsd/node-1", "edb/node-1"] {
        let identity = Identity::load(&cluster.federation.node(&origin.parse().unwrap()).tls).unwrap();
        let node = cluster.connect(identity, "fsd/node-1").await.unwrap();
        refused(&node, fire.xml(), denied, "NOT_A_CLIENT", "node's certificate").await;
    }
    // A client's certificate opens no stream between nodes.
    let identity = Identity::load(&cluster.federation.client(&"fsd/dispatch".parse().unwrap())).unwrap();
    let status = pull(&cluster, identity).await.unwrap_err();
    assert!(matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated), "{status}");
    assert_eq!(held(&cluster, "fsd/node-1"), before);
    cluster.shutdown().await;
}

/// Opens a stream of fsd's log with any certificate.
async fn pull(cluster: &Cluster, identity: Identity) -> Result<(), tonic::Status> {
    use campanile_proto::bus::v1 as wire;
    let node = cluster.node("fsd/node-1").unwrap();
    let material =
        campanile_discovery::TlsMaterial::new(identity, node.bus().roster().clone(), cluster.time.clock()).unwrap();
    let channels = campanile_bus::transport::Channels::new(material);
    let channel = channels.to(node.bus().origin(), &node.address().to_string()).unwrap();
    let start = wire::PullStart {
        origin: "fsd/node-1".into(),
        lane: wire::Lane::Urgent.into(),
        after: None,
        credit_bytes: 1 << 20,
        older: Vec::new(),
    };
    let first = wire::PullRequest { kind: Some(wire::pull_request::Kind::Start(start)) };
    let mut peer = wire::peer_service_client::PeerServiceClient::new(channel);
    let mut stream = peer.pull(tokio_stream::iter([first])).await?.into_inner();
    stream.message().await.map(|_| ())
}

/// Publishes as a client that believes in its own certificate: its clock stands still and its roster is the first one,
/// so that whoever refuses is the node.
async fn stubborn(cluster: &Cluster, identity: Identity, fire: &Fire) -> Result<(), Error> {
    let node = cluster.node("fsd/node-1").unwrap();
    let first = cluster.federation.roster().unwrap();
    let roster = RosterHandle::open(cluster.federation.root().unwrap(), true, None, Some(&first)).unwrap();
    let clock = std::sync::Arc::new(campanile_alert::ManualClock::new(NOW.parse().unwrap()));
    let credentials = Credentials::roster(identity, roster, clock).unwrap();
    let options = Options::new(node.address().to_string(), credentials, Expect::Origin(node.bus().origin().clone()));
    let client = Client::connect(options).await?;
    client.publish(&Publish::cap_xml(fire.xml())).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_at_the_door_and_a_renewed_one_let_in() {
    let cluster = harbour_view().start().await.unwrap();
    let folder = cluster.federation.department(&DepartmentId::try_new("fsd").unwrap());
    let hour = Duration::from_secs(3_600);
    let renew = || {
        let validity = Validity { from: cluster.time.now(), leaf: hour, ca: hour };
        renew_client(&folder, "dispatch", None, validity).unwrap();
        Identity::load(&cluster.federation.client(&"fsd/dispatch".parse().unwrap())).unwrap()
    };
    let short = renew();
    let fire = |identifier: &str| Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW);
    stubborn(&cluster, short.clone(), &fire("in-time")).await.unwrap();
    cluster.advance(hour * 2).unwrap();
    let before = held(&cluster, "fsd/node-1");
    let error = stubborn(&cluster, short.clone(), &fire("late")).await.unwrap_err();
    println!("the node: {error}");
    assert!(error.reason.is_none(), "it came past the door: {error}");
    // One's own side says so too, by name.
    let error = cluster.connect(short, "fsd/node-1").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(held(&cluster, "fsd/node-1"), before, "something was stored");
    let renewed = cluster.connect(renew(), "fsd/node-1").await.unwrap();
    renewed.publish(&Publish::cap_xml(fire("renewed").xml())).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_refused_on_an_open_connection_and_at_the_door() {
    let cluster = harbour_view().start().await.unwrap();
    let now = cluster.time.now();
    let files = cluster.federation.client(&"fsd/dispatch".parse().unwrap());
    let identity = Identity::load(&files).unwrap();
    let serial = identity.peer().serial.clone();
    let dispatch = cluster.connect(identity.clone(), "fsd/node-1").await.unwrap();
    let fire = Fire::new("before", now, HARBOUR_VIEW);
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();

    let node = cluster.bus("fsd/node-1").unwrap();
    let governance = cluster.federation.governance_key(1).unwrap();
    let revoked = Revoked { department: DepartmentId::try_new("fsd").unwrap(), serial };
    revoke(node.roster(), revoked, &governance, now);
    let before = held(&cluster, "fsd/node-1");
    let fire = Fire::new("after", now, HARBOUR_VIEW);
    let error = dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap_err();
    // The node either answers by name or has closed the connection, which then is refused at the door.
    assert!(error.to_string().contains("revoked"), "{error}");
    let error = stubborn(&cluster, identity, &fire).await.unwrap_err();
    println!("the node: {error}");
    assert!(error.reason.as_deref().is_none_or(|reason| reason == "REVOKED"), "{error}");
    assert_eq!(held(&cluster, "fsd/node-1"), before);
    // The next roster reaches the others by itself.
    let edb = cluster.bus("edb/node-1").unwrap();
    wait_for("the new roster at edb", LIMIT, || async { Ok((edb.roster().current().number == 2).then_some(())) })
        .await
        .unwrap();
    cluster.shutdown().await;
}

fn revoke(roster: &RosterHandle, revoked: Revoked, governance: &SigningKey, now: campanile_alert::Timestamp) {
    let mut draft = Draft::after(&roster.current());
    draft.revoke(revoked);
    let mut envelope = draft.finish(now).unwrap();
    envelope.sign(governance);
    roster.offer(&envelope.to_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_the_publisher_refuses_and_names_the_one_that_is() {
    let time = Time::at(NOW).unwrap();
    let mut plan = five(&time);
    let fsd = plan.departments.iter_mut().find(|department| department.id.as_str() == "fsd").unwrap();
    let mut second = fsd.nodes[0].clone();
    second.name = "node-2".into();
    fsd.nodes.push(second);
    let cluster = harbour_view_of(plan, time).start().await.unwrap();
    let fire = Fire::new("second", cluster.time.now(), HARBOUR_VIEW);
    let at_second = cluster.client_at("fsd/dispatch", "fsd/node-2").await.unwrap();
    let before = held(&cluster, "fsd/node-2");
    refused(&at_second, fire.xml(), Code::FailedPrecondition, "NOT_PUBLISHER", "fsd/node-1").await;
    assert_eq!(held(&cluster, "fsd/node-2"), before);
    cluster.shutdown().await;
}
