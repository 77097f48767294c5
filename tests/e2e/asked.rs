//! When a person decides instead of the rule: silence of a cause, an expired envelope, two effects that contradict, a
//! department that should have spoken and has not.

use std::time::Duration;

use anyhow::Context;
use campanile_bus::record::Content;
use campanile_client::admin::Envelope;
use campanile_client::{Client, Publish};
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, wait_for, wait_record};

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
async fn t4_an_effect_says_that_its_cause_is_not_heard_though_others_pass_its_records_on() {
    let mut cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let effects = async |what: &str, heard: bool| {
        wait_rules(&officer, what, |rules| {
            let fits =
                !rules.effects.is_empty() && rules.effects.iter().all(|effect| effect.unheard.is_empty() == heard);
            fits.then(|| rules.effects.clone())
        })
        .await
    };
    publish(&dispatch, &fire(&cluster, "cut-off")).await;
    let closed = effects("closures, and their cause heard", true).await;
    cluster.stop("fsd/node-1").await;
    // Its logs come from others from now on: that they answer says nothing of what it would say.
    wait_for("others to pass fsd's records on", LIMIT, || async {
        let peers = officer.peers().await?;
        let fsd = peers.iter().find(|peer| peer.origin == "fsd/node-1").context("fsd is no peer")?;
        let passed_on = fsd.logs.iter().all(|log| log.served_by.as_ref().is_some_and(|by| *by != fsd.origin));
        Ok(passed_on.then_some(()))
    })
    .await
    .unwrap();
    cluster.advance(Duration::from_secs(90)).unwrap();
    effects("fsd to be missed", false).await;
    // Bookmarks come every five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let unheard = effects("fsd to be missed still", false).await;
    assert_eq!(unheard.len(), closed.len(), "silence ended a closure");
    assert!(unheard.iter().all(|effect| effect.unheard[0].department == "fsd" && effect.unheard[0].since.is_some()));
    cluster.start("fsd/node-1").await.unwrap();
    effects("fsd to be heard again", true).await;
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

/// A rule that waits half an hour for a department to tell the public of a fire.
fn silence_of(department: &str) -> String {
    format!(
        "- rule: edb.silence.{department}\n  title: {{en: Nobody told the public, zh-Hant: 無人通知公眾}}\n  \
         source:\n  - {{text: a made-up circular}}\n  cause: {{event: fire, from: [fsd]}}\n  \
         absent: {{record: delivery-report, from: [{department}], area: overlaps-cause, reached: handed, within: 30m}}\n  \
         then: {{issue: class-suspension, severity: Minor, area: cause.area, text: t}}\n  \
         approve: {{need: 1, by: [edb.duty-officer]}}\n  until: {{cause: ends, linger: 1h, then: review, max: 24h}}\n  \
         merge: {{key: [rule, effect, target], end: all-causes-ended}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_counts_only_of_a_department_that_is_heard_and_has_not_spoken() {
    let time = Time::at(NOW).unwrap();
    let builder = Builder::new(five(&time), time).unwrap();
    let path = builder.dir().join("edb-silence.rules.yaml");
    let rules: String = ["isd", "had", "lcsd"].map(silence_of).concat();
    let text = format!(
        "pack: edb-silence\nowner: edb\nvocabulary: alert-v1\ntexts:\n  t:\n    \
         zh-Hant: {{headline: 停課, instruction: 請留意公布。, retract: 復課}}\n    \
         en: {{headline: Classes are suspended, instruction: Look out for announcements., retract: Classes resume}}\n\
         rules:\n{rules}"
    );
    std::fs::write(&path, text).unwrap();
    // lcsd's node does not run: nobody can tell what it has said.
    let cluster = builder.pack("edb/node-1", path).away("lcsd/node-1").start().await.unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    publish(&dispatch, &fire(&cluster, "unannounced")).await;
    let edb = cluster.bus("edb/node-1").unwrap();
    let reported = |arrival: &campanile_bus::Arrival| {
        arrival.body.as_ref().is_some_and(|body| matches!(body.content, Content::DeliveryReport(_)))
    };
    wait_record(&edb, "isd's report", reported).await.unwrap();
    cluster.advance(Duration::from_secs(29 * 60 + 30)).unwrap();
    let heard = || async {
        let peers = officer.peers().await?;
        let had = peers.iter().find(|peer| peer.origin == "had/node-1");
        let fresh = |age: Option<u64>| age.is_some_and(|age| age < 10_000);
        let logs = had.iter().flat_map(|peer| &peer.logs).filter(|log| log.lane != "exercise");
        Ok(logs.into_iter().all(|log| fresh(log.heard_age_ms)).then_some(()))
    };
    wait_for("a bookmark of had", LIMIT, heard).await.unwrap();
    cluster.advance(Duration::from_secs(40)).unwrap();
    let decided = wait_rules(&officer, "decisions about all three", |rules| {
        let cannot = rules.rules.iter().any(|rule| rule.last_decision_en.contains("cannot tell: lcsd"));
        (cannot && !rules.pending.is_empty()).then(|| rules.clone())
    })
    .await;
    let asked: Vec<&str> = decided.pending.iter().map(|pending| pending.rule.as_str()).collect();
    assert_eq!(asked, ["edb.silence.had"], "{:?}", decided.rules);
    let said = |rule: &str| {
        let state = decided.rules.iter().find(|state| state.rule.as_ref().is_some_and(|known| known.id == rule));
        state.unwrap().last_decision_en.clone()
    };
    assert!(said("edb.silence.isd").contains("told the public"), "{}", said("edb.silence.isd"));
    cluster.shutdown().await;
}
