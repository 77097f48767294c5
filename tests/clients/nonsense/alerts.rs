//! AlertService.

use campanile_alert::xml;
use campanile_client::{Publish, wanted};
use campanile_proto::alert::v1 as alert_wire;
use campanile_proto::convert;
use tokio_stream::StreamExt as _;

use super::*;
use crate::setting::now;

fn publish(alert: alert_wire::Alert) -> wire::PublishRequest {
    wire::PublishRequest {
        content: Some(wire::publish_request::Content::Alert(alert)),
        ..wire::PublishRequest::default()
    }
}

fn cap(bytes: impl Into<Vec<u8>>) -> wire::PublishRequest {
    wire::PublishRequest {
        content: Some(wire::publish_request::Content::CapXml(bytes.into().into())),
        ..wire::PublishRequest::default()
    }
}

fn changed(change: impl FnOnce(&mut alert_wire::Alert)) -> wire::PublishRequest {
    let mut alert = convert::alert_to_wire(&suspension("changed"));
    change(&mut alert);
    publish(alert)
}

fn named(sender: &str, identifier: &str, sent: &str) -> Option<wire::AlertRef> {
    Some(wire::AlertRef { sender: sender.into(), identifier: identifier.into(), sent: sent.into() })
}

/// A coded field of an alert.
type Field = fn(&mut alert_wire::Alert) -> &mut i32;
/// What is made wrong in an alert.
type Change = Box<dyn FnOnce(&mut alert_wire::Alert)>;

const INVALID: (Code, &str) = (Code::InvalidArgument, "INVALID_ALERT");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_makes_no_sense_is_refused_for_its_reason_and_nothing_is_stored() {
    let node = Node::start(&[]).await;
    let (held, mut judge) = (node.held().await, Judge::default());
    let mut alerts = node.alerts(OFFICER);

    judge.field("content", "an empty message", alerts.publish(wire::PublishRequest::default())).await;
    judge.field("identifier", "an empty alert", alerts.publish(publish(alert_wire::Alert::default()))).await;
    for value in [0, 99, -1] {
        let fields: [(&str, Field); 6] = [
            ("status", |alert| &mut alert.status),
            ("msg_type", |alert| &mut alert.msg_type),
            ("scope", |alert| &mut alert.scope),
            ("urgency", |alert| &mut alert.infos[0].urgency),
            ("severity", |alert| &mut alert.infos[0].severity),
            ("certainty", |alert| &mut alert.infos[0].certainty),
        ];
        for (name, of) in fields {
            judge.field(name, format!("{name} {value}"), alerts.publish(changed(|alert| *of(alert) = value))).await;
        }
        let request = changed(|alert| alert.infos[0].categories = vec![value]);
        judge.field("categor", format!("category {value}"), alerts.publish(request)).await;
    }
    let huge = || "x".repeat(1_500_000);
    let wrong: Vec<(&str, Change)> = vec![
        ("no identifier", Box::new(|alert| alert.identifier.clear())),
        ("an identifier with a space", Box::new(|alert| alert.identifier = "a b".into())),
        ("an identifier with < and &", Box::new(|alert| alert.identifier = "a<&,b".into())),
        ("no sender", Box::new(|alert| alert.sender.clear())),
        ("a sender with a comma", Box::new(|alert| alert.sender = "a,b".into())),
        ("no sent", Box::new(|alert| alert.sent.clear())),
        ("a sent that is no time", Box::new(|alert| alert.sent = "yesterday".into())),
        ("a sent in Z", Box::new(|alert| alert.sent = "2026-10-13T02:00:00Z".into())),
        ("a sent on a day that is none", Box::new(|alert| alert.sent = "2026-02-30T02:00:00+08:00".into())),
        ("no expires", Box::new(|alert| alert.infos[0].expires = None)),
        ("an expires of garbage", Box::new(|alert| alert.infos[0].expires = Some("\u{1F525}".repeat(1_000)))),
        ("a control character", Box::new(|alert| alert.infos[0].headline = Some("a\u{0}b".into()))),
        ("no area", Box::new(|alert| alert.infos[0].areas.clear())),
        (
            "a circle nowhere",
            Box::new(|alert| {
                let point = alert_wire::Point { lat: f64::NAN, lon: f64::INFINITY };
                alert.infos[0].areas[0].circles[0] =
                    alert_wire::Circle { centre: Some(point), radius_km: -1.0, text: None };
            }),
        ),
        (
            "a polygon of one point",
            Box::new(|alert| {
                let points = vec![alert_wire::Point { lat: 22.3, lon: 114.1 }];
                alert.infos[0].areas[0].polygons = vec![alert_wire::Polygon { points, text: None }];
            }),
        ),
        ("a thousand faults", Box::new(|alert| alert.infos = vec![alert_wire::Info::default(); 1_000])),
        ("references of garbage", Box::new(|alert| alert.references = Some(", , ,".into()))),
        ("an Update of nothing", Box::new(|alert| alert.msg_type = alert_wire::MessageType::Update.into())),
    ];
    for (case, change) in wrong {
        judge.refused(case, alerts.publish(changed(change)), INVALID.0, INVALID.1).await;
    }
    for (case, request) in [
        ("a huge identifier", changed(|alert| alert.identifier = huge())),
        ("a huge headline", changed(|alert| alert.infos[0].headline = Some(huge()))),
        (
            "a huge parameter",
            changed(|alert| {
                alert.infos[0].parameters = vec![alert_wire::ValuePair { value_name: huge(), value: "1".into() }];
            }),
        ),
    ] {
        judge.refused(case, alerts.publish(request), Code::InvalidArgument, "").await;
    }

    let good = convert::alert_to_wire(&suspension("good"));
    let with = |change: &dyn Fn(&mut wire::PublishRequest)| {
        let mut request = publish(good.clone());
        change(&mut request);
        request
    };
    for (field, case, request) in [
        ("exercise_id", "an exercise for a real alert", with(&|r| r.exercise_id = Some("hv26".into()))),
        ("exercise_id", "an exercise of garbage", with(&|r| r.exercise_id = Some("a b/../c".into()))),
        ("exercise_id", "a huge exercise", with(&|r| r.exercise_id = Some(huge()))),
        (
            "exercise_id",
            "an Exercise without its id",
            changed(|alert| {
                alert.status = alert_wire::Status::Exercise.into();
                alert.note = Some("hv26".into());
            }),
        ),
        ("source", "an unknown source", with(&|r| r.source = "nowhere".into())),
        ("source", "a huge source", with(&|r| r.source = huge())),
        ("audience_departments", "an audience of garbage", with(&|r| r.audience_departments = vec!["!!!".into()])),
        (
            "audience_departments",
            "an audience of 100,000",
            with(&|r| {
                r.audience_departments = vec!["fsd".into(); 100_000];
            }),
        ),
    ] {
        judge.field(field, case, alerts.publish(request)).await;
    }
    let fire = convert::alert_to_wire(&fires::flood("edb", "flood", now()).unwrap());
    judge.refused("another's event", alerts.publish(publish(fire)), Code::PermissionDenied, "NO_RIGHT").await;

    let whole = xml::write(&suspension("whole")).into_bytes();
    for (case, bytes) in documents(&whole) {
        judge.refused(case, alerts.publish(cap(bytes)), INVALID.0, INVALID.1).await;
    }
    for at in (0..whole.len()).step_by(97) {
        judge.field("cap_xml", format!("cut at {at}"), alerts.publish(cap(&whole[..at]))).await;
    }
    // Beyond the bound of a message the transport itself refuses.
    let request = alerts.publish(cap(vec![b' '; 3 << 20]));
    judge.refused("3 MiB", request, Code::OutOfRange, "").await;
    judge.end();
    node.is_unharmed(held).await;
}

/// Documents that are no CAP alert, or an attack.
fn documents(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8(whole.to_vec()).unwrap();
    let (_, rest) = text.split_once("<alert").unwrap();
    let alert = format!("<alert{rest}");
    let headed = |head: &str| format!("{head}{alert}").into_bytes();
    let mut bomb = String::from("<!DOCTYPE a [<!ENTITY a0 \"ha\">");
    for n in 1..30 {
        bomb += &format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10));
    }
    bomb += "]><alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>&a29;</identifier></alert>";
    let two = format!("<feed xmlns=\"http://www.w3.org/2005/Atom\"><entry><content>{alert}</content></entry></feed>");
    let info = "<info/>".repeat(5_000);
    vec![
        ("no bytes", Vec::new()),
        ("no XML", b"hello".to_vec()),
        ("a NUL", b"<alert>\0</alert>".to_vec()),
        ("not UTF-8", [b"<alert>", &[0xff, 0xfe, 0xfa][..], b"</alert>"].concat()),
        ("another root", b"<html xmlns=\"http://www.w3.org/1999/xhtml\"/>".to_vec()),
        ("no namespace", b"<alert/>".to_vec()),
        ("an empty alert", b"<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"/>".to_vec()),
        ("5,000 empty infos", {
            format!("<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\">{info}</alert>").into_bytes()
        }),
        ("trailing garbage", [whole, b"<more/>"].concat()),
        ("depth 100,000", "<a>".repeat(100_000).into_bytes()),
        ("an XML bomb", bomb.into_bytes()),
        ("a document type", headed("<!DOCTYPE alert>")),
        ("an external entity", headed("<!DOCTYPE alert [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>")),
        ("a feed", two.into_bytes()),
        ("white space", vec![b' '; 1_900_000]),
        ("1.9 MB of attributes", format!("<alert {}/>", "a='b' ".repeat(300_000)).into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_make_no_sense_are_refused_for_their_reason_and_absurd_cursors_do_no_harm() {
    let node = Node::start(&[]).await;
    let (held, mut judge) = (node.held().await, Judge::default());
    let mut alerts = node.alerts(OFFICER);
    let huge = "x".repeat(1_500_000);

    for (case, id, code, reason) in [
        ("no name", None, INVALID.0, INVALID.1),
        ("an empty name", named("", "", ""), INVALID.0, INVALID.1),
        ("a sender alone", named("edb@campanile.hk-dev", "", ""), INVALID.0, INVALID.1),
        ("an unknown name", named("", "nothing", ""), Code::NotFound, "NOT_FOUND"),
        ("an unknown whole name", named("a", "b", "c"), Code::NotFound, "NOT_FOUND"),
        ("a name of garbage", named(", ,", "\u{1F525}\u{7}", "yesterday"), Code::NotFound, "NOT_FOUND"),
        ("a huge name", named(&huge, "b", "c"), Code::NotFound, "NOT_FOUND"),
        ("a huge identifier", named("", &huge, ""), Code::NotFound, "NOT_FOUND"),
    ] {
        let call = alerts.get(wire::GetRequest { id: id.clone() });
        judge.refused(format!("get, {case}"), call, code, reason).await;
        let call = alerts.acknowledge(wire::AcknowledgeRequest { id: id.clone(), note: String::new() });
        judge.refused(format!("acknowledge, {case}"), call, code, reason).await;
        let call = alerts.cancel(wire::CancelRequest { id, reason: "a slip".into() });
        judge.refused(format!("cancel, {case}"), call, code, reason).await;
    }
    let before = named("", "before", "");
    for reason in ["", " \n\t", &huge] {
        let call = alerts.cancel(wire::CancelRequest { id: before.clone(), reason: reason.into() });
        judge.field("reason", format!("cancel for {} bytes", reason.len()), call).await;
    }
    let call = alerts.acknowledge(wire::AcknowledgeRequest { id: before.clone(), note: huge.clone() });
    judge.field("note", "a huge note", call).await;
    let call = alerts.acknowledge(wire::AcknowledgeRequest { id: before, note: "a\u{0}b".into() });
    judge.refused("a note with a control character", call, INVALID.0, INVALID.1).await;

    for page_size in [1_001, u32::MAX, i32::MIN as u32] {
        let call = alerts.list(wire::ListRequest { page_size, ..Default::default() });
        judge.field("page_size", format!("a page of {page_size}"), call).await;
    }
    for token in ["x", "-1", "1.5", " 1", "99999999999999999999999999", &huge] {
        let call = alerts.list(wire::ListRequest { page_token: token.into(), ..Default::default() });
        judge.field("page_token", format!("token {token:.20}"), call).await;
    }
    for (field, filter) in filters(&huge) {
        let request = wire::ListRequest { filter: Some(filter.clone()), ..Default::default() };
        judge.field(field, format!("list, {field}"), alerts.list(request)).await;
        let request = wire::WatchRequest { filter: Some(filter), ..Default::default() };
        judge.field(field, format!("watch, {field}"), alerts.watch(request)).await;
    }
    for (case, position) in bad_positions() {
        let after = Some(wire::Cursor { positions: vec![position] });
        judge.field("after", case, alerts.watch(wire::WatchRequest { after, ..Default::default() })).await;
    }
    let status = node.admin(OFFICER).get_status(wire::GetStatusRequest {}).await.unwrap().into_inner();
    let tail = status.tails.into_iter().find(|tail| tail.origin == EDB && tail.lane() == wire::Lane::Urgent).unwrap();
    let twice = Some(wire::Cursor { positions: vec![tail.clone(), tail.clone()] });
    judge
        .field("after", "one log twice", alerts.watch(wire::WatchRequest { after: twice, ..Default::default() }))
        .await;
    let many = Some(wire::Cursor { positions: vec![tail.clone(); 5_000] });
    judge.field("after", "5,000 logs", alerts.watch(wire::WatchRequest { after: many, ..Default::default() })).await;
    let both = wire::WatchRequest { after: Some(wire::Cursor::default()), from_start: true, filter: None };
    judge.field("from_start", "a cursor and from_start", alerts.watch(both)).await;
    let call = alerts.get(wire::GetRequest { id: named(&"x".repeat(3 << 20), "b", "c") });
    judge.refused("3 MiB", call, Code::OutOfRange, "").await;
    judge.end();

    // Cursors that are well formed and lie all the same: what the log has is shown, or is covered; nothing breaks.
    let unknown = wire::Position { origin: "nobody/node-9".into(), ..tail.clone() };
    let older = wire::Position { epoch: 1, seq: u64::MAX, ..tail.clone() };
    let beyond = wire::Position { epoch: u64::MAX, seq: u64::MAX, ..tail.clone() };
    for (case, positions, shows) in [
        ("empty", vec![], true),
        ("unknown", vec![unknown], true),
        ("older", vec![older], true),
        ("beyond", vec![beyond], false),
    ] {
        let after = Some(wire::Cursor { positions });
        let mut watch = alerts.watch(wire::WatchRequest { after, ..Default::default() }).await.unwrap().into_inner();
        let first = tokio::time::timeout(ANSWER_WITHIN, watch.next()).await.unwrap().unwrap().unwrap();
        let is_alert = matches!(first.kind, Some(wire::watch_response::Kind::Alert(_)));
        assert_eq!(is_alert, shows, "{case}: {first:?}");
    }
    node.is_unharmed(held).await;
}

/// Filters that could never match.
fn filters(huge: &str) -> Vec<(&'static str, wire::Filter)> {
    let none = wire::Filter::default;
    vec![
        ("filter.departments", wire::Filter { departments: vec!["!!!".into()], ..none() }),
        ("filter.departments", wire::Filter { departments: vec![huge.into()], ..none() }),
        ("filter.statuses", wire::Filter { statuses: vec![1, 0], ..none() }),
        ("filter.statuses", wire::Filter { statuses: vec![99], ..none() }),
        ("filter.severities", wire::Filter { severities: vec![0], ..none() }),
        ("filter.severities", wire::Filter { severities: vec![-7], ..none() }),
        ("filter.exercise_id", wire::Filter { exercise_id: "a b".into(), ..none() }),
        ("filter.exercise_id", wire::Filter { exercise_id: huge.into(), ..none() }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_does_not_fit_and_a_caller_who_may_not_are_refused_for_their_reason() {
    let node = Node::start(&[FSD]).await;
    // Nobody has signed an envelope, so the closure waits for two officers.
    let fire = fires::fire(1, now()).unwrap();
    node.processes.client("fsd/dispatch").await.unwrap().publish(&Publish::alert(&fire)).await.unwrap();
    let pending = campanile_tests::process::eventually("the proposal", ANSWER_WITHIN, async || {
        let rules = node.admin(OFFICER).list_rules(wire::ListRulesRequest {}).await?.into_inner();
        anyhow::Context::context(rules.pending.into_iter().next(), "nothing waits")
    })
    .await
    .unwrap();
    let (held, mut judge) = (node.held().await, Judge::default());
    let mut officer = node.alerts("edb/duty-officer-1");

    let good = wire::ApproveRequest {
        pending_id: pending.id.clone(),
        shown_hash: pending.shown_hash.clone().into(),
        decision: campanile_proto::rules::v1::Decision::Approve.into(),
        reason: String::new(),
    };
    for (case, id) in
        [("nothing", String::new()), ("garbage", "\u{1F525} ../".into()), ("a lot", "x".repeat(1_500_000))]
    {
        let call = officer.approve(wire::ApproveRequest { pending_id: id, ..good.clone() });
        judge.refused(format!("approve {case}"), call, Code::NotFound, "NOT_PENDING").await;
    }
    for hash in [vec![], vec![0; 32], vec![7; 1_000_000], pending.shown_hash[..31].to_vec()] {
        let call = officer.approve(wire::ApproveRequest { shown_hash: hash.into(), ..good.clone() });
        judge.refused("another hash", call, Code::Aborted, "SHOWN_CHANGED").await;
    }
    for decision in [0, 99, -1] {
        let call = officer.approve(wire::ApproveRequest { decision, ..good.clone() });
        judge.field("decision", format!("decision {decision}"), call).await;
    }
    let call = officer.approve(wire::ApproveRequest { reason: "x".repeat(500_000), ..good.clone() });
    judge.field("reason", "a huge reason", call).await;
    let call = node.alerts(OFFICER).approve(good.clone()).await;
    judge.refused("a role of the roster that is not asked", async { call }, Code::PermissionDenied, "NO_ROLE").await;

    // fsd's fire is fsd's: edb can neither cancel it nor is it asked to.
    let call = officer.cancel(wire::CancelRequest { id: named("", &fire.identifier, ""), reason: "over".into() });
    judge.refused("cancel another's", call, Code::PermissionDenied, "NOT_OWNER").await;

    // Who may not call gets the same answer from every call.
    let dispatch = node.channel("fsd/dispatch");
    everywhere(&mut judge, dispatch, Code::PermissionDenied, "OTHER_DEPARTMENT").await;
    everywhere(&mut judge, node.channel_of_node(), Code::PermissionDenied, "NOT_A_CLIENT").await;
    let fsd = AlertServiceClient::new(channel(&node.processes, &client_files(&node.processes, "fsd/reader"), FSD));
    let mut reader = fsd;
    let call = reader.publish(wire::PublishRequest::default());
    judge.refused("publish without the role", call, Code::PermissionDenied, "NO_ROLE").await;
    let call = reader.approve(good.clone());
    judge.refused("approve without the role", call, Code::PermissionDenied, "NO_ROLE").await;
    let call = reader.cancel(wire::CancelRequest::default());
    judge.refused("cancel without the role", call, Code::PermissionDenied, "NO_ROLE").await;
    judge.end();
    assert_eq!(node.held().await, held, "a refusal was stored");

    // The proposal still stands, and a decision that fits is taken.
    let taken = officer.approve(good).await.unwrap().into_inner();
    assert_eq!((taken.approved, taken.need), (1, 2));
    node.publishes("after").await;
    let client = node.processes.client(OFFICER).await.unwrap();
    assert!(client.get(&wanted(&fire.id())).await.unwrap().effects.is_empty(), "one officer of two was enough");
    assert_calm(&node.processes, EDB);
}

/// Every call of AlertService and AdminService is refused for who calls.
async fn everywhere(judge: &mut Judge, channel: Channel, code: Code, reason: &str) {
    let (mut alerts, mut admin) = (AlertServiceClient::new(channel.clone()), AdminServiceClient::new(channel));
    judge.refused("Publish", alerts.publish(wire::PublishRequest::default()), code, reason).await;
    judge.refused("Watch", alerts.watch(wire::WatchRequest::default()), code, reason).await;
    judge.refused("Get", alerts.get(wire::GetRequest::default()), code, reason).await;
    judge.refused("List", alerts.list(wire::ListRequest::default()), code, reason).await;
    judge.refused("Acknowledge", alerts.acknowledge(wire::AcknowledgeRequest::default()), code, reason).await;
    judge.refused("Approve", alerts.approve(wire::ApproveRequest::default()), code, reason).await;
    judge.refused("Cancel", alerts.cancel(wire::CancelRequest::default()), code, reason).await;
    judge.refused("GetStatus", admin.get_status(wire::GetStatusRequest {}), code, reason).await;
    judge.refused("ListPeers", admin.list_peers(wire::ListPeersRequest {}), code, reason).await;
    judge.refused("ListRules", admin.list_rules(wire::ListRulesRequest {}), code, reason).await;
    judge.refused("PauseRule", admin.pause_rule(wire::PauseRuleRequest::default()), code, reason).await;
    judge.refused("SignEnvelope", admin.sign_envelope(wire::SignEnvelopeRequest::default()), code, reason).await;
    judge.refused("Reload", admin.reload(wire::ReloadRequest {}), code, reason).await;
    judge.refused("ReadLog", admin.read_log(wire::ReadLogRequest::default()), code, reason).await;
}
