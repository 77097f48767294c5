//! A relay that alters, leaves out, reorders or makes up another department's records (R1, S1): it is passed by, and
//! what the next holder serves is bit for bit what the author wrote.

use std::time::Duration;

use bytes::Bytes;
use campanile_bus::record;
use campanile_client::Publish;
use campanile_discovery::keys::SigningKey;
use campanile_log::{Hash, Lane, LogId, Standing};
use campanile_proto::bus::v1 as wire;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::hostile::Hostile;
use campanile_tests::cluster::{LIMIT, wait_for};
use prost::Message as _;

use crate::liar::{Liar, Line};
use crate::setting::{HARBOUR_VIEW, harbour_view};
use crate::words::{governance, log_of, next_roster, on_wire};

/// How a relay spoils the records of a log.
type Spoil<'a> = (&'static str, Box<dyn Fn(&[Line]) -> Vec<Line> + 'a>);

fn each(change: impl Fn(&wire::Record) -> wire::Record) -> impl Fn(&[Line]) -> Vec<Line> {
    move |lines| lines.iter().map(|(place, record)| (*place, change(record))).collect()
}

/// The same header, encoded again by somebody whose schema knows a field more.
fn again(header: &Bytes) -> Bytes {
    let decoded = wire::RecordHeader::decode(header.clone()).unwrap();
    let mut bytes = decoded.encode_to_vec();
    assert_eq!(*header, bytes, "an honest header is what this encoder writes");
    // Field 1000, a varint of 1.
    bytes.extend_from_slice(&[0xc0, 0x3e, 0x01]);
    bytes.into()
}

/// The record with its header changed and signed by `key`.
fn forged(record: &wire::Record, key: &SigningKey, change: impl Fn(&mut wire::RecordHeader)) -> wire::Record {
    let mut header = wire::RecordHeader::decode(record.header.clone()).unwrap();
    change(&mut header);
    let header: Bytes = header.encode_to_vec().into();
    let signatures = record::signatures_to_wire(&[key.sign(record::PAYLOAD_TYPE, &header)]);
    wire::Record { header, signatures, ..record.clone() }
}

fn spoils<'a>(own: &'a SigningKey, other: &'a wire::Record) -> Vec<Spoil<'a>> {
    let own_id = own.id().to_string();
    vec![
        ("the body left out", Box::new(each(|record| wire::Record { body: None, ..record.clone() }))),
        (
            "a word of the body altered",
            Box::new(each(|record| {
                let mut body = record.body.clone().unwrap().to_vec();
                let at = body.windows(4).position(|word| word == b"Fire").unwrap();
                body[at] = b'H';
                wire::Record { body: Some(body.into()), ..record.clone() }
            })),
        ),
        (
            "the body encoded again",
            Box::new(each(|record| {
                let mut body = record.body.clone().unwrap().to_vec();
                body.extend_from_slice(&[0xc0, 0x3e, 0x01]);
                wire::Record { body: Some(body.into()), ..record.clone() }
            })),
        ),
        (
            "the body of another record",
            Box::new(each(|record| wire::Record { body: other.body.clone(), ..record.clone() })),
        ),
        (
            "the header encoded again",
            Box::new(each(|record| wire::Record { header: again(&record.header), ..record.clone() })),
        ),
        (
            "the audience narrowed",
            Box::new(each(|record| {
                let mut header = wire::RecordHeader::decode(record.header.clone()).unwrap();
                header.audience = Some(wire::Audience {
                    scope: campanile_proto::alert::v1::Scope::Private.into(),
                    departments: Vec::new(),
                });
                wire::Record { header: header.encode_to_vec().into(), body: None, ..record.clone() }
            })),
        ),
        ("no signature", Box::new(each(|record| wire::Record { signatures: Vec::new(), ..record.clone() }))),
        ("signed by the relay in the author's name", Box::new(each(|record| forged(record, own, |_| {})))),
        (
            "signed by the relay with its own key named",
            Box::new({
                let id = own_id.clone();
                each(move |record| forged(record, own, |header| header.key_id = id.clone()))
            }),
        ),
        (
            "the author's key id over the relay's signature",
            Box::new(each(|record| {
                let mut false_one = forged(record, own, |_| {});
                for signature in &mut false_one.signatures {
                    signature.key_id = record.signatures[0].key_id.clone();
                }
                false_one
            })),
        ),
        ("a record of the relay's own log", Box::new(|lines| vec![(lines[0].0, other.clone())])),
        ("the first left out", Box::new(|lines| lines[1..].to_vec())),
        (
            "a message of 3 MiB",
            Box::new(each(|record| wire::Record { body: Some(vec![b'x'; 3 << 20].into()), ..record.clone() })),
        ),
        (
            "signatures of a megabyte",
            Box::new(each(|record| {
                let filler = wire::Signature { key_id: "f".repeat(1 << 20), value: Bytes::new() };
                wire::Record { signatures: vec![filler], ..record.clone() }
            })),
        ),
        ("ten thousand signatures", {
            Box::new(each(|record| wire::Record {
                signatures: vec![record.signatures[0].clone(); 10_000],
                ..record.clone()
            }))
        }),
        // Last: what comes in its place after all may be kept.
        (
            "in the wrong order",
            Box::new(|lines| {
                let mut turned = lines.to_vec();
                turned.reverse();
                turned
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_relay_that_alters_leaves_out_or_makes_up_is_passed_by_for_another_holder() {
    let builder = harbour_view().away("edb/node-1").away("had/node-1").away("isd/gateway-1");
    let mut cluster = builder.start().await.unwrap();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let hko = cluster.bus("hko/node-1").unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    for n in 0..3 {
        let fire = Fire::new(format!("fire-{n}"), cluster.time.now(), HARBOUR_VIEW);
        dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    }
    wait_for("the fires at hko", LIMIT, || async { Ok((log_of(&hko, &log).await.len() == 3).then_some(())) })
        .await
        .unwrap();
    let truth = log_of(&hko, &log).await;
    let lines: Vec<Line> = truth.iter().map(|one| (one.entry.position.place(), on_wire(one))).collect();
    drop((dispatch, hko));
    cluster.stop("fsd/node-1").await;
    cluster.stop("hko/node-1").await;

    // The author is gone, and the only holder that answers is the liar.
    cluster.start("edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let liar = Liar::start(&cluster, "had/node-1", "edb/node-1").await;
    let own = cluster.federation.node(&liar.origin).signing_key().unwrap();
    let other = {
        let log = LogId::new("had/node-1", Lane::Urgent);
        let origin = liar.origin.clone();
        let seal = record::Seal {
            federation: edb.federation(),
            origin: &origin,
            roster: 1,
            time: cluster.time.now(),
            key: &own,
            salt: [7; 16],
        };
        let slot = campanile_log::Slot { epoch: 1 << 20, seq: 1, previous: Hash::ZERO, link: None };
        let fire = Fire::new("of-had", cluster.time.now(), HARBOUR_VIEW);
        let (sealed, _) = seal.seal(&crate::words::draft(&fire), &log, slot);
        let signatures = record::signatures_to_wire(&record::open_signatures(&sealed.signatures).unwrap());
        wire::Record { header: sealed.header, body: Some(sealed.body), signatures }
    };
    let fsd = "fsd/node-1".parse().unwrap();
    liar.lure(&cluster, "edb/node-1");
    let spoils = spoils(&own, &other);
    for (name, spoil) in &spoils {
        liar.say(&log, spoil(&lines));
        // Asked again after it has served: the stream with the spoilt records has ended.
        let before = liar.pulls(&log);
        wait_for(&format!("asked again after {name}"), LIMIT, || async {
            edb.pullers().poke(&fsd);
            Ok((liar.pulls(&log) >= before + 3).then_some(()))
        })
        .await
        .unwrap();
        let held = log_of(&edb, &log).await;
        assert!(held.is_empty() || *name == "in the wrong order", "{name}: something of it was kept");
        assert!(held.iter().zip(&truth).all(|(held, truth)| held.entry.header == truth.entry.header), "{name}");
        let evidence = edb.store().evidence().unwrap();
        assert!(evidence.is_empty(), "{name}: the relay has accused the author");
    }
    assert!(edb.metrics().refused.get() >= u64::try_from(spoils.len()).unwrap() / 2);

    // The liar goes on lying; an honest holder comes up, and what it serves is what the author wrote.
    cluster.start("hko/node-1").await.unwrap();
    let held = wait_for("the true records", LIMIT * 2, || async {
        edb.pullers().poke(&fsd);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let held = log_of(&edb, &log).await;
        Ok((held.len() == truth.len()).then_some(held))
    })
    .await
    .unwrap();
    for (held, truth) in held.iter().zip(&truth) {
        assert_eq!(held.entry.standing, Standing::Counted);
        assert_eq!(held.entry.position, truth.entry.position);
        assert_eq!((&held.entry.header, &held.entry.body), (&truth.entry.header, &truth.entry.body));
        assert_eq!(held.entry.signatures, truth.entry.signatures);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_record_in_a_newer_schema_goes_through_an_older_relay_bit_for_bit() {
    let builder = harbour_view().away("fsd/node-1").away("had/node-1").away("hko/node-1").away("isd/gateway-1");
    let mut cluster = builder.start().await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let fsd = Hostile::start(&cluster, "fsd/node-1", "edb/node-1").await.unwrap();
    let now = cluster.time.now();
    let fire = Fire::new("newer", now, HARBOUR_VIEW);
    let sealed = fsd.seal(&crate::words::draft(&fire), Lane::Urgent, now, &fsd.live);
    // Its author's schema knows a field that ours does not, and its signature covers it.
    let header = again(&sealed.header);
    let signatures = record::signatures_to_wire(&[fsd.live.sign(record::PAYLOAD_TYPE, &header)]);
    fsd.push(Lane::Urgent, wire::Record { header: header.clone(), signatures, ..sealed });
    fsd.lure(&cluster, "edb/node-1").unwrap();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    wait_for("the fire at edb", LIMIT, || async { Ok((!log_of(&edb, &log).await.is_empty()).then_some(())) })
        .await
        .unwrap();

    // Its author is gone; whoever comes now has it from the relay alone.
    fsd.stop();
    cluster.start("had/node-1").await.unwrap();
    let had = cluster.bus("had/node-1").unwrap();
    let held = wait_for("the fire at had", LIMIT, || async { Ok(log_of(&had, &log).await.into_iter().next()) });
    let held = held.await.unwrap();
    assert_eq!(held.entry.header, header);
    assert_eq!(held.entry.standing, Standing::Counted);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_a_relay_that_keeps_the_named_roster_back_makes_no_record_void() {
    let builder = harbour_view().away("edb/node-1").away("had/node-1").away("isd/gateway-1");
    let mut cluster = builder.start().await.unwrap();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let fsd = cluster.bus("fsd/node-1").unwrap();
    let old = fsd.roster().current();
    let newer = next_roster(&cluster, &old, &governance(&cluster), |_| {});
    fsd.roster().offer(&newer).unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let fire = Fire::new("under-the-second", cluster.time.now(), HARBOUR_VIEW);
    dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    let lines: Vec<Line> =
        log_of(&fsd, &log).await.iter().map(|one| (one.entry.position.place(), on_wire(one))).collect();
    drop((dispatch, fsd));
    cluster.stop("fsd/node-1").await;
    cluster.stop("hko/node-1").await;

    // The relay serves the record as it is, and says that the old roster is the one that it names.
    cluster.start("edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let liar = Liar::start(&cluster, "had/node-1", "edb/node-1").await;
    liar.say(&log, lines);
    liar.roster(2, old.envelope().to_vec());
    liar.lure(&cluster, "edb/node-1");
    let author = "fsd/node-1".parse().unwrap();
    wait_for("the roster asked for, again and again", LIMIT, || async {
        edb.pullers().poke(&author);
        Ok((liar.rosters_asked() >= 6).then_some(()))
    })
    .await
    .unwrap();
    let held = log_of(&edb, &log).await;
    assert!(held.is_empty(), "a good record is void here for ever: {:?}", held[0].entry.standing);

    // Its author is back, and it counts.
    cluster.start("fsd/node-1").await.unwrap();
    let held = wait_for("the fire", LIMIT * 2, || async {
        edb.pullers().poke(&author);
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(log_of(&edb, &log).await.into_iter().next())
    });
    assert_eq!(held.await.unwrap().entry.standing, Standing::Counted);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_relay_that_repeats_and_replays_gives_each_record_once() {
    let builder = harbour_view().away("edb/node-1").away("had/node-1").away("isd/gateway-1");
    let mut cluster = builder.start().await.unwrap();
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let fsd = cluster.bus("fsd/node-1").unwrap();
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    for n in 0..3 {
        let fire = Fire::new(format!("fire-{n}"), cluster.time.now(), HARBOUR_VIEW);
        dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    }
    let truth = log_of(&fsd, &log).await;
    assert_eq!(truth.len(), 3);
    drop((dispatch, fsd));
    cluster.stop("fsd/node-1").await;
    cluster.stop("hko/node-1").await;
    cluster.start("edb/node-1").await.unwrap();
    let edb = cluster.bus("edb/node-1").unwrap();
    let liar = Liar::start(&cluster, "had/node-1", "edb/node-1").await;
    let lines: Vec<Line> = truth.iter().map(|one| (one.entry.position.place(), on_wire(one))).collect();
    let mut twice: Vec<Line> = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    twice.extend(lines);
    liar.say(&log, twice);
    liar.lure(&cluster, "edb/node-1");
    wait_for("the records", LIMIT, || async { Ok((log_of(&edb, &log).await.len() >= 3).then_some(())) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = log_of(&edb, &log).await;
    let positions =
        |log: &[std::sync::Arc<campanile_bus::Arrival>]| log.iter().map(|one| one.entry.position).collect::<Vec<_>>();
    assert_eq!(positions(&held), positions(&truth));
    assert!(held.iter().all(|one| one.entry.standing == Standing::Counted));
    cluster.shutdown().await;
}
