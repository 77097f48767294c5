//! A department whose node lies (S1, R4): what chains is kept, marked with its reason, counts nowhere and stops nothing.

use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{OriginId, Timestamp};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{self, Audience, Body, Content, Draft};
use campanile_bus::{Arrival, Bus};
use campanile_discovery::keys::SigningKey;
use campanile_discovery::roster::{Draft as RosterDraft, KeyEnd, KeyUse, Lane as KeyLane, OriginKey};
use campanile_log::{Hash, Lane, Standing};
use campanile_proto::bus::v1 as wire;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::hostile::Hostile;
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, records, wait_for, wait_record};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_stream::StreamExt as _;

use crate::setting::{HARBOUR_VIEW, NOW, PUBLIC, five, harbour_view, sign_envelope};

/// What an honest node would write for a fire.
pub(crate) fn draft(fire: &Fire) -> Draft {
    let alert = fire.alert().unwrap();
    let classification = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
    let content = Content::Alert { alert: Arc::new(alert.clone()), original: None, media_type: None };
    let plain = plain_draft(alert.status, None, Audience::public(), content);
    Draft { urgent: true, body: Body { classification, ..plain.body }, ..plain }
}

/// Waits until a record is held, and says why it does not count; `None` when it does.
pub(crate) async fn standing(bus: &Bus, name: &str, hash: Hash) -> Option<String> {
    let held = |arrival: &Arrival| arrival.entry.position.hash == hash;
    let held = wait_record(bus, &format!("{name} held by {}", bus.origin()), held).await.unwrap();
    match &held.entry.standing {
        Standing::Counted => None,
        Standing::NoBody => panic!("{name}: held as a header alone"),
        Standing::NotCounted { reason } => Some(reason.clone()),
    }
}

/// A record and one with a bit turned in its header: still a header of that place, but not the signed one.
fn turned(good: &wire::Record) -> wire::Record {
    let before = record::open_header(&good.header).unwrap();
    for at in (0..good.header.len() * 8).rev() {
        let mut bytes = good.header.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        if let Ok(after) = record::open_header(&bytes)
            && (after.seq, after.epoch, after.previous, &after.log)
                == (before.seq, before.epoch, before.previous, &before.log)
            && after.key_id == before.key_id
            && after.roster == before.roster
            && after.federation == before.federation
        {
            return wire::Record { header: bytes.into(), ..good.clone() };
        }
    }
    panic!("no bit of the header can be turned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_origin_is_kept_marked_and_ignored_and_its_next_true_record_counts() {
    let cluster = harbour_view().away("fsd/node-1").away("had/node-1").away("hko/node-1").start().await.unwrap();
    sign_envelope(&cluster).await;
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let (edb, isd) = (cluster.bus("edb/node-1").unwrap(), cluster.bus("isd/gateway-1").unwrap());
    fsd.lure(&cluster, "edb/node-1").unwrap();
    fsd.lure(&cluster, "isd/gateway-1").unwrap();
    let now = cluster.time.now();
    let stranger = SigningKey::generate().unwrap();
    let of_edb = cluster.federation.node(&"edb/node-1".parse().unwrap()).signing_key().unwrap();
    let fire = |name: &str| Fire::new(format!("lie-{}", name.replace(' ', "-")), now, HARBOUR_VIEW);
    let seal = |fire: &Fire, key: &SigningKey| fsd.seal(&draft(fire), Lane::Urgent, now, key);
    let reword = |name: &str, change: &dyn Fn(&mut wire::RecordHeader)| {
        fsd.reword(seal(&fire(name), &fsd.live), &fsd.live, |header| change(header)).unwrap()
    };

    type Lie<'a> = (&'static str, &'static str, Box<dyn Fn(&'static str) -> wire::Record + 'a>);
    let lies: Vec<Lie<'_>> = vec![
        ("flipped bit in the header", "does not verify", Box::new(|name| turned(&seal(&fire(name), &fsd.live)))),
        (
            "flipped bit in the body",
            "does not match the hash",
            Box::new(|name| {
                let good = seal(&fire(name), &fsd.live);
                let mut body = good.body.clone().unwrap().to_vec();
                let middle = body.len() / 2;
                body[middle] ^= 1;
                wire::Record { body: Some(body.into()), ..good }
            }),
        ),
        (
            "header of another record",
            "does not match the hash",
            Box::new(|name| {
                let other = seal(&fire("other"), &fsd.live);
                wire::Record { body: other.body, ..seal(&fire(name), &fsd.live) }
            }),
        ),
        (
            "signature of another record",
            "does not verify",
            Box::new(|name| {
                let other = seal(&fire("other"), &fsd.live);
                wire::Record { signatures: other.signatures, ..seal(&fire(name), &fsd.live) }
            }),
        ),
        (
            "no signature",
            "signature",
            Box::new(|name| wire::Record { signatures: Vec::new(), ..seal(&fire(name), &fsd.live) }),
        ),
        ("key of nobody", "lists no key", Box::new(|name| seal(&fire(name), &stranger))),
        ("key of another department", "lists no key", Box::new(|name| seal(&fire(name), &of_edb))),
        ("key of exercises", "Exercise key", Box::new(|name| seal(&fire(name), &fsd.exercise))),
        (
            "event outside the rights",
            "may not originate flood",
            Box::new(|name| seal(&Fire { event: "flood", category: "Met", level: None, ..fire(name) }, &fsd.live)),
        ),
        (
            "area outside the rights",
            "outside the area",
            Box::new(|name| seal(&Fire { at: (-33.9, 151.2), ..fire(name) }, &fsd.live)),
        ),
        (
            "expired when it was sealed",
            "expired",
            Box::new(|name| {
                let old = Fire { sent: now - jiff::SignedDuration::from_hours(48), ..fire(name) };
                seal(&old, &fsd.live)
            }),
        ),
        (
            "expires beyond the ceiling",
            "expires",
            Box::new(|name| seal(&Fire { minutes: 60 * 24 * 365, ..fire(name) }, &fsd.live)),
        ),
        (
            "classification that contradicts the codes",
            "classification",
            Box::new(|name| {
                let mut draft = draft(&fire(name));
                draft.body.classification.level = Some(5);
                fsd.seal(&draft, Lane::Urgent, now, &fsd.live)
            }),
        ),
        (
            "exercise in the live lane",
            "lane",
            Box::new(|name| {
                reword(name, &|header| {
                    header.status = campanile_proto::alert::v1::Status::Exercise.into();
                    header.exercise_id = Some("hv26".into());
                })
            }),
        ),
        ("no status", "status", Box::new(|name| reword(name, &|header| header.status = 0))),
        ("no kind", "kind", Box::new(|name| reword(name, &|header| header.kind = 0))),
        ("no audience", "audience", Box::new(|name| reword(name, &|header| header.audience = None))),
        ("no time", "time", Box::new(|name| reword(name, &|header| header.time = None))),
        (
            "another federation",
            "elsewhere",
            Box::new(|name| reword(name, &|header| header.federation = "elsewhere".into())),
        ),
        ("a newer reader", "version 9", Box::new(|name| reword(name, &|header| header.reader_version_min = 9))),
        ("a roster that is not", "roster 999", Box::new(|name| reword(name, &|header| header.roster = 999))),
        (
            "a status that its alert has not",
            "status",
            Box::new(|name| {
                let mut draft = draft(&Fire { status: Some("Test"), ..fire(name) });
                draft.status = campanile_alert::Status::Actual;
                fsd.seal(&draft, Lane::Urgent, now, &fsd.live)
            }),
        ),
        (
            "a body that is none",
            "body",
            Box::new(|name| {
                let body = bytes::Bytes::from_static(b"\xff\xff\xff\xff garbage");
                let record = wire::Record { body: Some(body.clone()), ..seal(&fire(name), &fsd.live) };
                fsd.reword(record, &fsd.live, |header| {
                    header.body_hash = Hash::of(&body).0.to_vec().into();
                    header.body_length = body.len() as u64;
                })
                .unwrap()
            }),
        ),
        (
            "more than a record may have",
            "1 MiB",
            Box::new(|name| {
                let body = bytes::Bytes::from(vec![b'x'; 1_200_000]);
                let record = wire::Record { body: Some(body.clone()), ..seal(&fire(name), &fsd.live) };
                fsd.reword(record, &fsd.live, |header| {
                    header.body_hash = Hash::of(&body).0.to_vec().into();
                    header.body_length = body.len() as u64;
                })
                .unwrap()
            }),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, says, lie) in &lies {
        let hash = fsd.push(Lane::Urgent, lie(name));
        for bus in [&edb, &isd] {
            let held = wait_for(name, LIMIT / 2, || async {
                let all = records(bus).await?;
                Ok(all.into_iter().find(|arrival| arrival.entry.position.hash == hash))
            });
            match held.await.map(|arrival| arrival.entry.standing.clone()) {
                Ok(Standing::NotCounted { reason }) if reason.contains(says) => println!("{name}: {reason}"),
                Ok(other) => wrong.push(format!("{name} at {}: {other:?}, not {says:?}", bus.origin())),
                Err(error) => {
                    let log = campanile_log::LogId::new("fsd/node-1", Lane::Urgent);
                    let view = bus.pullers().views().get(&log).cloned().unwrap_or_default();
                    wrong.push(format!("{name} stops the log at {}: {error}; {}", bus.origin(), view.last_error));
                    fsd.pop(Lane::Urgent).ok();
                    bus.pullers().poke(&fsd.origin);
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Nothing of it has led to anything, or is shown to anyone.
    let closures = |arrival: &Arrival| {
        arrival.header.origin.department().as_str() == "edb" && arrival.header.kind == record::Kind::Alert
    };
    assert!(!records(&edb).await.unwrap().iter().any(|arrival| closures(arrival)), "a lie closed a school");
    let web = cluster.web().unwrap();
    for path in PUBLIC {
        let text = web.text(path).await.unwrap();
        assert!(!text.contains("lie-"), "{path} shows a lie");
    }
    // An operator sees each with its reason.
    let officer = cluster.client("edb/directorate-1").await.unwrap();
    let origin: OriginId = "fsd/node-1".parse().unwrap();
    let log: Vec<_> = officer.read_log(Some(&origin), Some("urgent")).await.unwrap().collect().await;
    assert_eq!(log.len(), lies.len());
    assert!(log.into_iter().all(|entry| entry.unwrap().not_counted.is_some()));

    // The log goes on: the next true record counts, closes the schools and is shown.
    let hash = fsd.push(Lane::Urgent, seal(&fire("no-lie"), &fsd.live));
    assert_eq!(standing(&edb, "the true fire", hash).await, None);
    assert_eq!(standing(&isd, "the true fire", hash).await, None);
    let closure = wait_record(&edb, "a closure", closures).await.unwrap();
    let causes = &closure.body.as_ref().unwrap().causes;
    assert!(causes.iter().all(|cause| cause.record_hash == hash.0.as_slice()) && causes.len() == 1);
    wait_for("the true fire on the feed", LIMIT, || async {
        Ok(web.text("/feed/en/atom.xml").await?.contains(&hash.to_string()).then_some(()))
    })
    .await
    .unwrap();

    // Another department's alert is not ended by a replicated Cancel either.
    let Content::Alert { alert, .. } = &closure.body.as_ref().unwrap().content else { panic!("no alert") };
    let cancel = Fire { msg_type: "Cancel", references: vec![alert.id()], ..fire("cancel") };
    let hash = fsd.push(Lane::Urgent, seal(&cancel, &fsd.live));
    let reason = standing(&edb, "the foreign Cancel", hash).await;
    assert!(reason.is_some_and(|reason| reason.contains("belongs to edb")));
    let world = campanile_alert::World::Actual;
    let edb_id = edb.origin().department().clone();
    let state = edb.current().lock().state(&edb_id, &world, &alert.id(), now);
    assert_eq!(state, Some(campanile_alert::live::State::InForce));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_roster_has_ended_signs_nothing_that_counts_and_the_new_one_does() {
    let cluster = harbour_view().away("fsd/node-1").away("had/node-1").away("hko/node-1").start().await.unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    fsd.lure(&cluster, "edb/node-1").unwrap();
    let now = cluster.time.now();
    let seal =
        |name: &str, key: &SigningKey| fsd.seal(&draft(&Fire::new(name, now, HARBOUR_VIEW)), Lane::Urgent, now, key);
    let hash = fsd.push(Lane::Urgent, seal("before", &fsd.live));
    assert_eq!(standing(&edb, "before the roster", hash).await, None);

    let next = SigningKey::generate().unwrap();
    let epoch = fsd.slot(Lane::Urgent).epoch;
    let mut draft = RosterDraft::after(&edb.roster().current());
    let end = |lane| KeyEnd { lane, epoch, seq: 1 };
    draft.end_key(&fsd.origin, fsd.live.id(), vec![end(KeyLane::Urgent), end(KeyLane::Routine)]).unwrap();
    let key =
        OriginKey { id: next.id(), public: next.verifying_key(), usage: KeyUse::Live, from: None, until: Vec::new() };
    draft.add_key(&fsd.origin, key).unwrap();
    let mut envelope = draft.finish(now).unwrap();
    envelope.sign(&cluster.federation.governance_key(1).unwrap());
    edb.roster().offer(&envelope.to_bytes()).unwrap();

    let hash = fsd.push(Lane::Urgent, seal("stolen", &fsd.live));
    let reason = standing(&edb, "by the ended key", hash).await.expect("an ended key counted");
    println!("{reason}");
    let hash = fsd.push(Lane::Urgent, seal("renewed", &next));
    assert_eq!(standing(&edb, "by the new key", hash).await, None);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_of_the_log_is_refused_and_the_log_goes_on_when_its_origin_does() {
    let seed: u64 = std::env::var("CAMPANILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("CAMPANILE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let time = Time::at(NOW).unwrap();
    let mut plan = five(&time);
    plan.departments.retain(|department| ["fsd", "edb"].contains(&department.id.as_str()));
    let cluster: Cluster = Builder::new(plan, time).unwrap().away("fsd/node-1").start().await.unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    fsd.lure(&cluster, "edb/node-1").unwrap();
    let now: Timestamp = cluster.time.now();
    let good = &|n: usize| {
        let fire = Fire::new(format!("good-{n}"), now, HARBOUR_VIEW);
        fsd.seal(&draft(&fire), Lane::Urgent, now, &fsd.live)
    };
    let mut counted = vec![fsd.push(Lane::Urgent, good(0))];
    assert_eq!(standing(&edb, "the first", counted[0]).await, None);

    // Each made when its turn has come, so that it stands where the next record of the log does.
    type Bad<'a> = (String, Box<dyn Fn() -> wire::Record + 'a>);
    let reword =
        |change: &dyn Fn(&mut wire::RecordHeader)| fsd.reword(good(1_000), &fsd.live, |header| change(header)).unwrap();
    let reword = &reword;
    let mut bad: Vec<Bad<'_>> = vec![
        ("an empty record".into(), Box::new(wire::Record::default)),
        (
            "garbage".into(),
            Box::new(|| wire::Record { header: bytes::Bytes::from_static(b"\xff\xfe garbage"), ..good(1_000) }),
        ),
        (
            "a record of another lane".into(),
            Box::new(|| fsd.seal(&draft(&Fire::new("r", now, HARBOUR_VIEW)), Lane::Routine, now, &fsd.live)),
        ),
        ("a wrong previous hash".into(), Box::new(|| reword(&|header| header.previous_hash = vec![9; 32].into()))),
        ("a gap".into(), Box::new(|| reword(&|header| header.seq += 5))),
        ("another origin".into(), Box::new(|| reword(&|header| header.origin = "edb/node-1".into()))),
        ("the largest epoch".into(), Box::new(|| reword(&|header| header.epoch = u64::MAX))),
    ];
    for _ in 0..24 {
        let at: usize = rng.random_range(0..200 * 8);
        let turn = move |record: wire::Record| {
            let mut header = record.header.to_vec();
            let at = at % (header.len() * 8);
            header[at / 8] ^= 1 << (at % 8);
            wire::Record { header: header.into(), ..record }
        };
        bad.push((format!("bit {at} of the header"), Box::new(move || turn(good(1_000)))));
    }
    let log = campanile_log::LogId::new("fsd/node-1", Lane::Urgent);
    let (mut kept, mut refused) = (0, 0);
    for (name, record) in bad {
        let record = record();
        let before = edb.store().tail(&log);
        let hash = fsd.push(Lane::Urgent, record);
        let met = wait_for(&name, LIMIT, || async {
            if edb.store().tail(&log) != before {
                return Ok(Some(true));
            }
            let view = edb.pullers().views().get(&log).cloned().unwrap_or_default();
            if !view.last_error.is_empty() {
                println!("{name}: {}", view.last_error);
                return Ok(Some(false));
            }
            Ok(None)
        });
        if met.await.unwrap() {
            // It took a place in the chain, so the next links to it.
            assert!(standing(&edb, &name, hash).await.is_some(), "{name} counted");
            kept += 1;
        } else {
            fsd.pop(Lane::Urgent).unwrap();
            refused += 1;
        }
        let next = fsd.push(Lane::Urgent, good(counted.len()));
        let after = format!("a good record after {name}");
        let held = wait_for(&after, LIMIT, || async {
            edb.pullers().poke(&fsd.origin);
            let all = records(&edb).await?;
            Ok(all.into_iter().find(|arrival| arrival.entry.position.hash == next))
        });
        assert_eq!(held.await.unwrap().entry.standing, Standing::Counted, "after {name}");
        counted.push(next);
    }
    println!("{kept} kept and not counted, {refused} refused, {} good records counted", counted.len());
    assert!(kept > 0 && refused >= 7);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let count = records(&edb).await.unwrap().iter().filter(|a| a.entry.standing == Standing::Counted).count();
    assert!(count >= counted.len());
    cluster.shutdown().await;
}
