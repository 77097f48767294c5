//! When a person decides instead of the rule: silence of a cause, an expired envelope, two effects that contradict.

use std::time::Duration;

use campanile_client::admin::Envelope;
use campanile_client::{Client, Publish};
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, Time};

use crate::setting::{FIRE_RULE, HARBOUR_VIEW, NOW, five, harbour_view, harbour_view_of, sign_envelope, wait_rules};

async fn publish(client: &Client, fire: &Fire) {
    client.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
}

fn fire(cluster: &Cluster, identifier: &str) -> Fire {
    Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW)
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_cause_that_expires_unrenewed_is_no_all_clear_and_puts_its_closures_to_review() {
    let cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    publish(&dispatch, &Fire { minutes: 30, ..fire(&cluster, "short") }).await;
    let closed =
        wait_rules(&officer, "closures", |rules| (!rules.effects.is_empty()).then(|| rules.effects.clone())).await;
    assert!(closed.iter().all(|effect| !effect.in_review), "{closed:?}");
    cluster.advance(Duration::from_secs(31 * 60)).unwrap();
    let reviewed = wait_rules(&officer, "reviews", |rules| {
        rules.effects.iter().all(|effect| effect.in_review).then(|| rules.effects.clone())
    })
    .await;
    assert_eq!(reviewed.len(), closed.len(), "silence ended a closure");
    let same = |effects: &[campanile_client::admin::LiveEffect]| -> Vec<String> {
        effects.iter().map(|effect| effect.identifier.clone()).collect()
    };
    assert_eq!(same(&reviewed), same(&closed), "a message went out because of silence");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_has_expired_allows_nothing_and_persons_are_asked() {
    let cluster = harbour_view().start().await.unwrap();
    let valid_to = cluster.time.now() + jiff::SignedDuration::from_hours(1);
    for name in ["edb/directorate-1", "edb/directorate-2"] {
        let envelope = Envelope { rule: FIRE_RULE.into(), valid_from: None, valid_to };
        cluster.client(name).await.unwrap().sign_envelope(&envelope).await.unwrap();
    }
    cluster.advance(Duration::from_secs(61 * 60)).unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    publish(&dispatch, &fire(&cluster, "late")).await;
    let pending = wait_rules(&officer, "a question", |rules| rules.pending.first().cloned()).await;
    assert_eq!(pending.need, 2);
    assert!(officer.rules().await.unwrap().effects.is_empty(), "an expired envelope was enough");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stay_in_and_get_out_are_put_to_the_officer_and_neither_wins_by_itself() {
    let time = Time::at(NOW).unwrap();
    let mut plan = five(&time);
    let edb = plan.departments.iter_mut().find(|department| department.id.as_str() == "edb").unwrap();
    edb.rights.iter_mut().for_each(|right| right.events.push("stay-in-school".into()));
    let cluster = harbour_view_of(plan, time).start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let stay = Fire {
        event: "stay-in-school",
        category: "Safety",
        sender: "edb@campanile.test".into(),
        level: None,
        radius_km: 1.0,
        ..fire(&cluster, "stay-in")
    };
    publish(&officer, &stay).await;
    publish(&dispatch, &fire(&cluster, "get-out")).await;
    let pending = wait_rules(&officer, "a question", |rules| rules.pending.first().cloned()).await;
    assert!(pending.why_en.contains("stay-in-school"), "{pending:?}");
    assert!(!pending.why_zh_hant.is_empty() && pending.by.contains(&"edb.duty-officer".to_owned()), "{pending:?}");
    assert!(officer.rules().await.unwrap().effects.is_empty(), "one of two that contradict was issued");
    cluster.shutdown().await;
}
