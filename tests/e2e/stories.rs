//! What officers and departments live through, end to end.

use std::time::Duration;

use campanile_alert::MessageType;
use campanile_bus::Arrival;
use campanile_bus::record::{Content, Kind};
use campanile_client::admin::{Pause, Pending};
use campanile_client::{AlertState, Client, Code, Decision, Event, Filter, Publish, Start, wanted};
use campanile_log::Standing;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, LIMIT, records, wait_for, wait_record};

use crate::setting::{FIRE_RULE, HARBOUR_VIEW, harbour_view, sign_envelope, wait_rules};

async fn fire(cluster: &Cluster, client: &Client, identifier: &str) -> Fire {
    let fire = Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW);
    client.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    fire
}

/// Waits until edb holds the alert of an identifier.
async fn heard(cluster: &Cluster, identifier: &str) -> std::sync::Arc<Arrival> {
    let is = |arrival: &Arrival| match arrival.body.as_ref().map(|body| &body.content) {
        Some(Content::Alert { alert, .. }) => alert.identifier == identifier,
        _ => false,
    };
    wait_record(&cluster.bus("edb/node-1").unwrap(), identifier, is).await.unwrap()
}

/// A fire without effect (No. 1 alarm): when edb has it, edb has come past all that fsd said before.
async fn come_past(cluster: &Cluster, client: &Client, identifier: &str) {
    let fire = Fire { level: Some(1), ..Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW) };
    client.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    heard(cluster, identifier).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_fire_leaves_its_closures_lingering_then_in_review_until_an_officer_ends_them() {
    let cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let first = fire(&cluster, &dispatch, "fire-1").await;
    let closed =
        wait_rules(&officer, "closures", |rules| (!rules.effects.is_empty()).then(|| rules.effects.clone())).await;
    cluster.advance(Duration::from_secs(600)).unwrap();
    dispatch.cancel(&wanted(&first.id()), "out").await.unwrap();
    come_past(&cluster, &dispatch, "fire-2").await;
    // Nothing ends at once, and nothing is asked yet.
    let rules = officer.rules().await.unwrap();
    assert_eq!(rules.effects.len(), closed.len());
    assert!(rules.effects.iter().all(|effect| !effect.in_review));
    // After two hours a person is asked; the closures stand all the same.
    cluster.advance(Duration::from_secs(2 * 3_600 + 60)).unwrap();
    wait_rules(&officer, "reviews", |rules| rules.effects.iter().all(|effect| effect.in_review).then_some(())).await;
    assert_eq!(officer.rules().await.unwrap().effects.len(), closed.len());
    let edb = cluster.bus("edb/node-1").unwrap();
    // The view of the rules is made in the commit that writes the timer down; the record shows when it is durable.
    wait_for("the timer, written down", LIMIT, || async {
        let held = records(&edb).await?;
        Ok(held.iter().any(|arrival| arrival.header.kind == Kind::Tick).then_some(()))
    })
    .await
    .unwrap();

    let web = cluster.web().unwrap();
    let target = closed[0].clone();
    let listed = officer.list(&Default::default()).await.unwrap();
    let closure = listed.alerts.iter().find(|alert| alert.alert.identifier == target.identifier).unwrap();
    officer.cancel(&wanted(&closure.alert.id()), "the school is safe").await.unwrap();
    wait_rules(&officer, "one closure fewer", |rules| (rules.effects.len() == closed.len() - 1).then_some(())).await;
    wait_for("the end on the feed", LIMIT, || async {
        let list: serde_json::Value = serde_json::from_str(&web.text("/alerts.json").await?)?;
        let alerts = list["alerts"].as_array().unwrap().clone();
        let state = alerts.iter().find(|alert| alert["identifier"] == target.identifier.as_str());
        Ok(state.is_some_and(|alert| alert["state"] == "cancelled").then_some(()))
    })
    .await
    .unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officers_cancel_wins_until_a_new_cause_comes_and_an_update_is_none() {
    let cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let first = fire(&cluster, &dispatch, "fire-1").await;
    let closed =
        wait_rules(&officer, "closures", |rules| (!rules.effects.is_empty()).then(|| rules.effects.clone())).await;
    // The view of the rules is made in the commit that writes the closure down; the record shows when it is durable.
    heard(&cluster, &closed[0].identifier).await;
    let listed = officer.list(&Default::default()).await.unwrap();
    let closure = listed.alerts.iter().find(|alert| alert.alert.identifier == closed[0].identifier).unwrap();
    officer.cancel(&wanted(&closure.alert.id()), "the smoke goes the other way").await.unwrap();
    let gone = |rules: &campanile_client::admin::Rules| !rules.effects.iter().any(|e| e.target == closed[0].target);
    wait_rules(&officer, "the closure gone", |rules| gone(rules).then_some(())).await;
    let detail = officer.get(&wanted(&closure.alert.id())).await.unwrap();
    assert_eq!(detail.alert.state, AlertState::Cancelled);

    cluster.advance(Duration::from_secs(60)).unwrap();
    let update = Fire {
        msg_type: "Update",
        references: vec![first.id()],
        level: Some(4),
        ..Fire::new("fire-1b", cluster.time.now(), HARBOUR_VIEW)
    };
    dispatch.publish(&Publish::cap_xml(update.xml())).await.unwrap();
    come_past(&cluster, &dispatch, "small").await;
    assert!(gone(&officer.rules().await.unwrap()), "an Update brought the closure back");
    fire(&cluster, &dispatch, "fire-2").await;
    wait_rules(&officer, "the closure again", |rules| (!gone(rules)).then_some(())).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_before_the_next_evaluation_and_its_end_forgets_nothing() {
    let cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let pause =
        |paused: bool| Pause { rule: FIRE_RULE.into(), paused, reason: "a drill went wrong".into(), until: None };
    officer.pause(&pause(true)).await.unwrap();
    fire(&cluster, &dispatch, "fire-1").await;
    come_past(&cluster, &dispatch, "small").await;
    let rules = officer.rules().await.unwrap();
    assert!(rules.rules.iter().any(|rule| rule.paused && rule.pause_reason == "a drill went wrong"));
    assert!(rules.effects.is_empty() && rules.pending.is_empty(), "the rule acted while paused");
    officer.pause(&pause(false)).await.unwrap();
    wait_rules(&officer, "closures", |rules| (!rules.effects.is_empty()).then_some(())).await;
    cluster.shutdown().await;
}

fn decision(pending: &Pending, shown: Option<Vec<u8>>) -> Decision {
    let shown_hash = shown.unwrap_or_else(|| hex::decode(&pending.shown_hash).unwrap());
    Decision { pending_id: pending.id.clone(), shown_hash, approve: true, reason: "seen".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_envelope_two_persons_are_asked_and_two_certificates_of_one_are_one() {
    let cluster = harbour_view().start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    fire(&cluster, &dispatch, "fire-1").await;
    let asked = |rules: &campanile_client::admin::Rules| rules.pending.first().cloned();
    let pending = wait_rules(&officer, "a question", asked).await;
    assert_eq!(pending.need, 2);
    assert!(officer.rules().await.unwrap().effects.is_empty(), "it acted without being allowed");

    // Who has no role in it is refused by name, and so is who saw something else.
    let other = cluster.client("edb/directorate-1").await.unwrap();
    let error = other.approve(&decision(&pending, None)).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_deref()), (Code::PermissionDenied, Some("NO_ROLE")), "{error}");
    let error = officer.approve(&decision(&pending, Some(vec![0; 32]))).await.unwrap_err();
    assert_eq!(error.reason.as_deref(), Some("SHOWN_CHANGED"), "{error}");

    let first = officer.approve(&decision(&pending, None)).await.unwrap();
    assert_eq!((first.approved, first.need), (1, 2));
    let same = cluster.client("edb/duty-officer-1b").await.unwrap();
    let again = same.approve(&decision(&pending, None)).await.unwrap();
    assert_eq!((again.approved, again.need), (1, 2));
    come_past(&cluster, &dispatch, "small").await;
    let rules = officer.rules().await.unwrap();
    assert!(rules.effects.is_empty(), "one person with two certificates was enough");
    assert_eq!(rules.pending[0].approved_by.len(), 1);

    let second = cluster.client("edb/regional-officer-1").await.unwrap();
    let pending = asked(&rules).unwrap();
    second.approve(&decision(&pending, None)).await.unwrap();
    let closed = wait_rules(&officer, "closures", |rules| {
        (!rules.effects.is_empty() && rules.pending.is_empty()).then(|| rules.effects.clone())
    })
    .await;
    assert_eq!(closed.len(), pending.targets.len());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_from_its_cursor_over_a_restart_and_sees_each_alert_once_in_order() {
    let mut cluster = harbour_view().start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let filter = Filter { departments: vec!["fsd".parse().unwrap()], ..Filter::default() };
    for n in 0..5 {
        fire(&cluster, &dispatch, &format!("fire-{n}")).await;
    }
    let mut seen = Vec::new();
    let cursor = {
        let officer = cluster.client("edb/duty-officer-1").await.unwrap();
        let mut watch = officer.watch(Start::Beginning, &filter);
        next(&mut watch, &mut seen, 3).await;
        watch.cursor().unwrap().clone()
    };
    cluster.stop("edb/node-1").await;
    for n in 5..8 {
        fire(&cluster, &dispatch, &format!("fire-{n}")).await;
    }
    cluster.start("edb/node-1").await.unwrap();
    let cursor: campanile_client::Cursor = cursor.to_string().parse().unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let mut watch = officer.watch(Start::After(cursor.clone()), &filter);
    next(&mut watch, &mut seen, 8).await;
    let expected: Vec<String> = (0..8).map(|n| format!("fire-{n}")).collect();
    assert_eq!(seen, expected);
    // Any node can resume it: the gateway's department has no clients, so had's node does.
    let duty = cluster.client("had/duty").await.unwrap();
    let mut elsewhere = expected[..3].to_vec();
    let mut watch = duty.watch(Start::After(cursor), &filter);
    next(&mut watch, &mut elsewhere, 8).await;
    assert_eq!(elsewhere, expected);
    cluster.shutdown().await;
}

/// Takes events until `count` alerts have been seen.
async fn next(watch: &mut campanile_client::Watch, seen: &mut Vec<String>, count: usize) {
    let take = async {
        while seen.len() < count {
            match watch.next().await.expect("the watch ended").unwrap() {
                Event::Alert(record) => seen.push(record.alert.identifier),
                Event::Unreadable { faults, .. } => panic!("{faults:?}"),
                Event::Heartbeat(_) | Event::Resumed { .. } => {}
            }
        }
    };
    // A restarted node may first ask a relay for 15 s.
    tokio::time::timeout(LIMIT * 2, take).await.expect("the watch is silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_down_is_read_from_another_holder() {
    let mut cluster = harbour_view().away("had/node-1").start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let first = fire(&cluster, &dispatch, "fire-1").await;
    cluster.advance(Duration::from_secs(60)).unwrap();
    let cancel = dispatch.cancel(&wanted(&first.id()), "out").await.unwrap();
    heard(&cluster, cancel.id.identifier()).await;
    let before = records(&cluster.bus("fsd/node-1").unwrap()).await.unwrap();
    drop(dispatch);
    cluster.stop("fsd/node-1").await;
    // had has never seen fsd; it comes up when fsd is gone.
    cluster.start("had/node-1").await.unwrap();
    let had = cluster.bus("had/node-1").unwrap();
    for own in before.iter().filter(|arrival| arrival.header.origin.department().as_str() == "fsd") {
        let hash = own.entry.position.hash;
        let copy =
            wait_record(&had, "fsd's record at had", |arrival| arrival.entry.position.hash == hash).await.unwrap();
        assert_eq!(copy.entry.standing, Standing::Counted);
        assert_eq!((&copy.entry.header, &copy.entry.body), (&own.entry.header, &own.entry.body));
        assert_eq!(copy.entry.signatures, own.entry.signatures);
    }
    let ended =
        records(&had).await.unwrap().into_iter().any(|arrival| match arrival.body.as_ref().map(|b| &b.content) {
            Some(Content::Alert { alert, .. }) => alert.msg_type == MessageType::Cancel,
            _ => false,
        });
    assert!(ended);
    cluster.shutdown().await;
}
