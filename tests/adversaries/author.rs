//! A department that misuses its own true keys (S1, R4): what it may not say is kept, marked and never counts.
//!
//! More of it stands in `tests/e2e/adversary.rs`.

use std::sync::Arc;

use bytes::Bytes;
use campanile_alert::live::State;
use campanile_alert::{DepartmentId, Status, Timestamp, World};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Audience, Content, Tick};
use campanile_bus::{Arrival, Bus};
use campanile_discovery::keys::SigningKey;
use campanile_discovery::pki::NodePlan;
use campanile_discovery::roster::{OriginKind, Right, RightArea};
use campanile_log::{Hash, Lane, LogId};
use campanile_proto::bus::v1 as wire;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::hostile::Hostile;
use campanile_tests::cluster::{LIMIT, Time, records, wait_for};

use crate::liar::Liar;
use crate::setting::{HARBOUR_VIEW, NOW, five, harbour_view, harbour_view_of};
use crate::words::{draft, governance, next_roster, standing};

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_gateway_approves_pauses_ticks_and_allows_nothing_in_its_departments_name() {
    let time = Time::at(NOW).unwrap();
    let mut plan = five(&time);
    let fsd = plan.departments.iter_mut().find(|department| department.id.as_str() == "fsd").unwrap();
    fsd.nodes.push(NodePlan { name: "gateway-1".into(), kind: OriginKind::Gateway, hosts: Vec::new() });
    let cluster = harbour_view_of(plan, time).away("fsd/gateway-1").start().await.unwrap();
    let gateway = Hostile::start(&cluster, "fsd/gateway-1", "edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    gateway.lure(&cluster, "edb/node-1").unwrap();
    let now = cluster.time.now();
    let forged: [(&str, Content); 6] = [
        ("an approval", Content::Approval(Default::default())),
        ("a pause", Content::Pause(Default::default())),
        ("a tick", Content::Tick(Tick { at: now, heard: Vec::new() })),
        ("an envelope", Content::Envelope(Default::default())),
        ("a manifest", Content::Manifest(Default::default())),
        ("an activation", Content::Activation(Default::default())),
    ];
    for (name, content) in forged {
        let draft = plain_draft(Status::System, None, Audience::public(), content);
        let hash = gateway.push(Lane::Routine, gateway.seal(&draft, Lane::Routine, now, &gateway.live));
        let reason = standing(&edb, name, hash).await;
        assert!(
            reason.as_deref().is_some_and(|reason| reason.contains("fsd/node-1 publishes for fsd")),
            "{name}: {reason:?}"
        );
    }
    let fire = draft(&Fire::new("of-a-gateway", now, HARBOUR_VIEW));
    let hash = gateway.push(Lane::Urgent, gateway.seal(&fire, Lane::Urgent, now, &gateway.live));
    assert!(standing(&edb, "an alert", hash).await.is_some());
    // What a gateway may say counts.
    let report = plain_draft(Status::System, None, Audience::public(), Content::DeliveryReport(Default::default()));
    let hash = gateway.push(Lane::Routine, gateway.seal(&report, Lane::Routine, now, &gateway.live));
    assert_eq!(standing(&edb, "a report", hash).await, None);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_cancel_with_a_borrowed_sender_ends_nothing_whichever_comes_first() {
    let cluster = harbour_view().away("fsd/node-1").away("had/node-1").start().await.unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let had = Hostile::start(&cluster, "had/node-1", "edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    fsd.lure(&cluster, "edb/node-1").unwrap();
    had.lure(&cluster, "edb/node-1").unwrap();
    let now = cluster.time.now();
    // Both departments say that they are fsd@campanile.test; only one of them is.
    let fire = |name: &str| Fire::new(name, now, HARBOUR_VIEW);
    let cancel =
        |of: &Fire| Fire { msg_type: "Cancel", references: vec![of.id()], ..fire(&format!("end-{}", of.identifier)) };
    let say = |who: &Hostile, fire: &Fire| who.push(Lane::Urgent, who.seal(&draft(fire), Lane::Urgent, now, &who.live));

    let (known, early) = (fire("known"), fire("early"));
    let hash = say(&fsd, &known);
    assert_eq!(standing(&edb, "the fire", hash).await, None);
    let hash = say(&had, &cancel(&known));
    let reason = standing(&edb, "the borrowed Cancel", hash).await;
    assert!(reason.as_deref().is_some_and(|reason| reason.contains("belongs to fsd")), "{reason:?}");
    // Before the fire is known nobody can say whose it is; then the Cancel must find nothing to end.
    let hash = say(&had, &cancel(&early));
    standing(&edb, "the early Cancel", hash).await;
    let hash = say(&fsd, &early);
    assert_eq!(standing(&edb, "the late fire", hash).await, None);
    let department = DepartmentId::try_new("fsd").unwrap();
    for fire in [&known, &early] {
        let state = edb.current().lock().state(&department, &World::Actual, &fire.id(), now);
        assert_eq!(state, Some(State::InForce), "{}", fire.identifier);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_rights_are_widened_by_no_roster_that_governance_has_not_signed() {
    let cluster = harbour_view().away("fsd/node-1").start().await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let liar = Liar::start(&cluster, "fsd/node-1", "edb/node-1").await;
    let now = cluster.time.now();
    let department = DepartmentId::try_new("fsd").unwrap();
    let everything = Right { events: vec!["*".into()], statuses: Status::ALL.to_vec(), area: RightArea::Everywhere };
    let wide = |key: &SigningKey| {
        next_roster(&cluster, &edb.roster().current(), key, |draft| {
            draft.set_rights(&department, vec![everything.clone()]).unwrap();
        })
    };
    // fsd gives itself every right, in a roster that it signs, and seals a flood under it.
    let flood = Fire { event: "flood", category: "Met", level: None, ..Fire::new("flood", now, HARBOUR_VIEW) };
    let record = fsd.seal(&draft(&flood), Lane::Urgent, now, &fsd.live);
    let record = fsd.reword(record, &fsd.live, |header| header.roster = 2).unwrap();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let hash = Hash::of(&record.header);
    liar.say(&log, vec![((1 << 20, 1), record)]);
    liar.roster(2, wide(&fsd.live));
    liar.lure(&cluster, "edb/node-1");
    let own = "fsd/node-1".parse().unwrap();
    wait_for("the false roster fetched", LIMIT, || async {
        edb.pullers().poke(&own);
        Ok((liar.rosters_asked() >= 2).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(edb.roster().current().number, 1, "a roster that only fsd has signed is in force");
    let held = records(&edb).await.unwrap().into_iter().any(|one| one.entry.position.hash == hash);
    assert!(!held, "a record was judged by a roster that is not in force");

    // Signed by governance, the same roster is, and the record counts.
    liar.roster(2, wide(&governance(&cluster)));
    wait_for("the true roster", LIMIT, || async {
        edb.pullers().poke(&own);
        Ok((edb.roster().current().number == 2).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(standing(&edb, "the flood", hash).await, None);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_headers_signatures_messages_and_nesting_without_measure_stop_no_log() {
    let cluster = harbour_view().away("fsd/node-1").away("had/node-1").away("hko/node-1").start().await.unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    fsd.lure(&cluster, "edb/node-1").unwrap();
    let now = cluster.time.now();
    let good = |n: usize| {
        let fire = Fire::new(format!("good-{n}"), now, HARBOUR_VIEW);
        fsd.seal(&draft(&fire), Lane::Urgent, now, &fsd.live)
    };
    let with_body = |body: Bytes| {
        let record = wire::Record { body: Some(body.clone()), ..good(1_000) };
        fsd.reword(record, &fsd.live, |header| {
            header.body_hash = Hash::of(&body).0.to_vec().into();
            header.body_length = body.len() as u64;
        })
        .unwrap()
    };
    // Field 1, begin of a group, within a group, and so on.
    let nested = |bytes: usize| Bytes::from(vec![0x0b_u8; bytes]);
    let signature = |key_id: String| wire::Signature { key_id, value: Bytes::new() };
    type Bad<'a> = (&'static str, Box<dyn Fn() -> wire::Record + 'a>);
    let bad: Vec<Bad<'_>> = vec![
        ("a header of 1.1 MiB", {
            Box::new(|| {
                fsd.reword(good(1_000), &fsd.live, |header| {
                    header.audience = Some(wire::Audience { scope: 1, departments: vec!["x".repeat(1_150_000)] });
                })
                .unwrap()
            })
        }),
        ("100,000 departments", {
            Box::new(|| {
                fsd.reword(good(1_000), &fsd.live, |header| {
                    header.audience = Some(wire::Audience { scope: 1, departments: vec!["x".into(); 100_000] });
                })
                .unwrap()
            })
        }),
        ("a signature of 1.5 MiB", {
            Box::new(|| wire::Record { signatures: vec![signature("f".repeat(1_500_000))], ..good(1_000) })
        }),
        ("20,000 signatures", {
            Box::new(|| {
                let one = good(1_000);
                wire::Record { signatures: vec![one.signatures[0].clone(); 20_000], ..one }
            })
        }),
        ("a message of 5 MiB", Box::new(|| with_body(vec![b'x'; 5 << 20].into()))),
        ("a header of 10,000 nested groups", Box::new(|| wire::Record { header: nested(10_000), ..good(1_000) })),
        ("a body of 900,000 nested groups", Box::new(|| with_body(nested(900_000)))),
        (
            "a signature of garbage",
            Box::new(|| wire::Record { signatures: vec![signature("\u{0}".into())], ..good(1_000) }),
        ),
    ];
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    for (n, (name, record)) in bad.iter().enumerate() {
        let before = edb.store().tail(&log);
        let pushed = fsd.push(Lane::Urgent, record());
        let kept = wait_for(name, LIMIT, || async {
            if edb.store().tail(&log) != before {
                return Ok(Some(true));
            }
            let view = edb.pullers().views().get(&log).cloned().unwrap_or_default();
            edb.pullers().poke(&fsd.origin);
            Ok((!view.last_error.is_empty()).then_some(false))
        });
        if kept.await.unwrap() {
            let reason = standing(&edb, name, pushed).await;
            println!("{name}: kept, {reason:?}");
            assert!(reason.is_some(), "{name} counted");
        } else {
            println!("{name}: refused");
            fsd.pop(Lane::Urgent).unwrap();
        }
        let next = fsd.push(Lane::Urgent, good(n));
        let after = format!("a good record after {name}");
        let held = wait_for(&after, LIMIT, || async {
            edb.pullers().poke(&fsd.origin);
            let all = records(&edb).await?;
            Ok(all.into_iter().find(|arrival| arrival.entry.position.hash == next))
        });
        assert_eq!(held.await.unwrap().entry.standing, campanile_log::Standing::Counted, "after {name}");
    }
    cluster.shutdown().await;
}

/// Who closed what, by the number of records that edb has issued.
async fn closures(edb: &Bus) -> Vec<Arc<Arrival>> {
    let own = |arrival: &Arrival| {
        arrival.header.origin == *edb.origin() && arrival.header.kind == campanile_bus::record::Kind::Alert
    };
    records(edb).await.unwrap().into_iter().filter(|arrival| own(arrival)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t1_an_alert_that_its_author_seals_twice_closes_each_school_once() {
    let cluster = harbour_view().away("fsd/node-1").start().await.unwrap();
    crate::setting::sign_envelope(&cluster).await;
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    fsd.lure(&cluster, "edb/node-1").unwrap();
    let now: Timestamp = cluster.time.now();
    let fire = Fire::new("twice", now, HARBOUR_VIEW);
    let say = |fire: &Fire| fsd.push(Lane::Urgent, fsd.seal(&draft(fire), Lane::Urgent, now, &fsd.live));
    let hash = say(&fire);
    assert_eq!(standing(&edb, "the fire", hash).await, None);
    let first = wait_for("closures", LIMIT, || async {
        let closures = closures(&edb).await;
        Ok((!closures.is_empty()).then_some(closures.len()))
    })
    .await
    .unwrap();
    for _ in 0..3 {
        let hash = say(&fire);
        standing(&edb, "the fire again", hash).await;
    }
    // A fire far from every school, after them: when it is held, the rules have come past the repetitions.
    let hash = say(&Fire::new("far", now, (22.5, 114.3)));
    standing(&edb, "the fire far away", hash).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(closures(&edb).await.len(), first, "a repetition led to more");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_two_contents_for_one_position_are_kept_as_proof_and_no_effect_rests_on_the_log_from_there() {
    let cluster = harbour_view().away("fsd/node-1").start().await.unwrap();
    crate::setting::sign_envelope(&cluster).await;
    let edb = cluster.bus("edb/node-1").unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let now = cluster.time.now();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let seal = |name: &str, at| fsd.seal(&draft(&Fire::new(name, now, at)), Lane::Urgent, now, &fsd.live);
    let far = (22.5, 114.3);
    // Two contents for position 1, and one for position 2; all signed by the author's own good key.
    let (told_here, told_there) = (seal("told-here", far), seal("told-there", far));
    let hash = fsd.push(Lane::Urgent, told_here.clone());
    let next = seal("near-schools", HARBOUR_VIEW);
    let place = |seq| (fsd.slot(Lane::Urgent).epoch, seq);

    let first = Liar::start(&cluster, "fsd/node-1", "edb/node-1").await;
    first.say(&log, vec![(place(1), told_here)]);
    first.lure(&cluster, "edb/node-1");
    assert_eq!(standing(&edb, "the first", hash).await, None);
    assert!(edb.forks().unwrap().is_empty());
    drop(first);
    let second = Liar::start(&cluster, "fsd/node-1", "edb/node-1").await;
    second.say(&log, vec![(place(2), told_there.clone())]);
    second.lure(&cluster, "edb/node-1");
    wait_for("proof of the fork", LIMIT, || async {
        edb.pullers().poke(&fsd.origin);
        Ok((!edb.store().evidence()?.is_empty()).then_some(()))
    })
    .await
    .unwrap();
    let proof = edb.store().evidence().unwrap();
    assert_eq!(proof.len(), 1);
    assert_eq!((&proof[0].log, &proof[0].header), (&log, &told_there.header));
    assert_eq!(edb.forks().unwrap().get(&log), Some(&place(1)));

    // The log goes on, people see it, and nothing happens by itself.
    let hash = Hash::of(&next.header);
    second.say(&log, vec![(place(2), next)]);
    wait_for("the next record", LIMIT, || async {
        edb.pullers().poke(&fsd.origin);
        Ok(records(&edb).await?.into_iter().any(|one| one.entry.position.hash == hash).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(standing(&edb, "the next", hash).await, None);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(closures(&edb).await.is_empty(), "a school was closed on the word of a log that has forked");
    cluster.shutdown().await;
}
