//! A drill without guards (T3): whoever leaves them out, and forges what he likes with keys that are his own, reaches no
//! public provider with it.

use std::time::Duration;

use campanile_alert::{ExerciseId, Status};
use campanile_bus::record::{Content, Draft, Kind};
use campanile_client::Publish;
use campanile_log::{Lane, Standing};
use campanile_proto::bus::v1 as wire;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::hostile::Hostile;
use campanile_tests::cluster::{LIMIT, wait_for, wait_record};
use tokio::io::AsyncReadExt as _;

use crate::adversary::{draft, standing};
use crate::setting::{HARBOUR_VIEW, harbour_view};
use crate::worlds::{Broker, heard_until, nothing_public};

fn exercise() -> ExerciseId {
    ExerciseId::try_new("HV26").unwrap()
}

/// A fire whose every word says that it is real, or of an exercise.
fn pretended(identifier: &str, status: &'static str, now: campanile_alert::Timestamp) -> Fire {
    let fire = Fire::new(identifier, now, HARBOUR_VIEW);
    Fire { status: Some(status), note: Some("HV26".into()), headline: "Pretended fire".into(), ..fire }
}

/// The header says the exercise, whatever the message says.
fn of_exercise(fire: &Fire, status: Status) -> Draft {
    Draft { status, exercise: Some(exercise()), urgent: false, ..draft(fire) }
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_a_drill_without_guards_and_records_forged_for_real_providers_are_refused_by_the_gateway() {
    let Some(broker) = Broker::start() else { return };
    let mut screens = broker.listen().await;
    // The gateway has public providers, and no sinks: no guard of any drill would let one begin.
    let cluster = harbour_view().away("fsd/node-1").mqtt(format!("mqtt://127.0.0.1:{}", broker.port));
    let cluster = cluster.start().await.unwrap();
    let isd = cluster.bus("isd/gateway-1").unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "isd/gateway-1").await.unwrap();
    fsd.lure(&cluster, "isd/gateway-1").unwrap();
    let now = cluster.time.now();
    let reword =
        |record: wire::Record, key, change: fn(&mut wire::RecordHeader)| fsd.reword(record, key, change).unwrap();
    let to_exercise: fn(&mut wire::RecordHeader) = |header| header.exercise_id = Some("HV26".into());
    let to_actual: fn(&mut wire::RecordHeader) = |header| header.status = 1;

    let mut hidden = Vec::new();
    let mut push = |lane, record| hidden.push(fsd.push(lane, record));
    // An honest record of an exercise that nobody has announced.
    let honest = of_exercise(&pretended("forged-1", "Exercise", now), Status::Exercise);
    push(Lane::Exercise, fsd.seal(&honest, Lane::Exercise, now, &fsd.exercise));
    // The header says Exercise and the message says Actual.
    let inside = of_exercise(&pretended("forged-2", "Actual", now), Status::Exercise);
    push(Lane::Exercise, fsd.seal(&inside, Lane::Exercise, now, &fsd.exercise));
    // The header says Actual and the message says Exercise, with the live key in the urgent lane.
    let outside = Draft { status: Status::Actual, exercise: None, ..draft(&pretended("forged-3", "Exercise", now)) };
    push(Lane::Urgent, fsd.seal(&outside, Lane::Urgent, now, &fsd.live));
    // A real header that names the exercise, and a record of the exercise in the urgent lane.
    let real = draft(&pretended("forged-4", "Actual", now));
    push(Lane::Urgent, reword(fsd.seal(&real, Lane::Urgent, now, &fsd.live), &fsd.live, to_exercise));
    push(Lane::Urgent, fsd.seal(&honest, Lane::Urgent, now, &fsd.live));
    // All says Actual, in the exercise lane.
    push(Lane::Exercise, reword(fsd.seal(&honest, Lane::Exercise, now, &fsd.exercise), &fsd.exercise, to_actual));

    // Then a real one, sealed as it should be: when that is on a screen, the gateway has come past all of them.
    let genuine = Fire { headline: "Genuine fire".into(), ..Fire::new("genuine", now, HARBOUR_VIEW) };
    let last = fsd.push(Lane::Urgent, fsd.seal(&draft(&genuine), Lane::Urgent, now, &fsd.live));
    assert_eq!(standing(&isd, "the real fire", last).await, None, "the real fire does not count");
    let mut heard = heard_until(&mut screens, "Genuine fire").await;
    // Each key in the other's lane at last, for its log goes no further: it is not even taken in.
    let real = draft(&pretended("forged-5", "Actual", now));
    for (lane, record) in [
        (Lane::Urgent, fsd.seal(&real, Lane::Urgent, now, &fsd.exercise)),
        (Lane::Exercise, fsd.seal(&honest, Lane::Exercise, now, &fsd.live)),
    ] {
        hidden.push(fsd.push(lane, record));
    }
    // They are on no screen within the time that the real one took, and much more.
    let mut buffer = vec![0; 64 << 10];
    let more = async {
        while let Ok(n @ 1..) = screens.read(&mut buffer).await {
            heard.extend_from_slice(&buffer[..n]);
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(3), more).await);
    let heard = String::from_utf8_lossy(&heard).into_owned();
    for word in ["Pretended", "forged-", "HV26"] {
        assert!(!heard.contains(word), "a screen got {word:?}");
    }
    nothing_public(&cluster, &["Pretended", "forged-", "HV26"]).await;
    let held = campanile_tests::cluster::records(&isd).await.unwrap();
    let kept: Vec<_> = held.iter().filter(|arrival| hidden.contains(&arrival.entry.position.hash)).collect();
    assert!(kept.len() + 2 >= hidden.len(), "the gateway did not take in what it had to judge");
    let counted = kept.iter().filter(|arrival| arrival.entry.standing == Standing::Counted);
    assert!(counted.clone().all(|arrival| arrival.header.world.exercise().is_some()), "a forged record counts as real");
    // No channel reports a hand-over of any of it.
    for arrival in held.iter().filter(|arrival| arrival.header.kind == Kind::DeliveryReport) {
        let Some(Content::DeliveryReport(report)) = arrival.body.as_ref().map(|body| &body.content) else { continue };
        let of_hidden = hidden.iter().any(|hash| hash.0 == *report.record_hash);
        assert!(!of_hidden, "{} reports a hand-over of {}", report.channel, report.identifier);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_an_exercise_that_is_not_announced_reaches_nobody_at_a_gateway_without_sinks() {
    let cluster = harbour_view().start().await.unwrap();
    let isd = cluster.bus("isd/gateway-1").unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    // No guard is asked: the driver is left out altogether.
    let fire = pretended("unguarded", "Exercise", cluster.time.now());
    dispatch.publish(&Publish::cap_xml(fire.xml()).exercise(&exercise())).await.unwrap();
    let held = |arrival: &campanile_bus::Arrival| {
        arrival.header.kind == Kind::Alert && arrival.header.world.exercise() == Some(&exercise())
    };
    wait_record(&isd, "the exercise at the gateway", held).await.unwrap();
    let genuine = Fire::new("genuine", cluster.time.now(), (22.5, 114.3));
    dispatch.publish(&Publish::cap_xml(genuine.xml())).await.unwrap();
    let web = cluster.web().unwrap();
    wait_for("the real fire on the feed", LIMIT, || async {
        Ok(web.text("/alerts.json").await?.contains("genuine").then_some(()))
    })
    .await
    .unwrap();
    nothing_public(&cluster, &["Pretended", "unguarded", "HV26"]).await;
    cluster.shutdown().await;
}
