#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use campanile_alert::classify::Classification;
use campanile_alert::{
    Alert, AlertId, Area, CapVersion, Category, Certainty, Circle, DateTime, Decimal, ExerciseId, Group, Info,
    MessageType, Point, Polygon, References, Resource, ResponseType, Scope, Severity, Size, Status, Timestamp, Urgency,
    ValuePair, World,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::alert::v1 as wire;
use crate::bus::v1 as bus;

/// Text as XML can carry it, of any script, with the white space that gets lost most easily.
fn text() -> impl Strategy<Value = String> {
    "[ \t\r\na-zA-Z0-9<>&\"'{}\u{e9}\u{6d88}\u{9632}\u{1f525}]{0,12}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9@._-]{1,12}"
}

fn date_time() -> impl Strategy<Value = DateTime> {
    (-60_000_000_000_i64..250_000_000_000, -840..=840_i32).prop_map(|(seconds, offset)| {
        let text = DateTime::from_instant(Timestamp::from_second(seconds).unwrap(), offset).text().to_owned();
        // Years before 1 have no CAP text; those in range must read back.
        DateTime::parse(&text).unwrap()
    })
}

fn one<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

fn pair() -> impl Strategy<Value = ValuePair> {
    (text(), text()).prop_map(|(name, value)| ValuePair::new(name, value))
}

/// A number as senders write it: signs, leading and trailing zeros, a bare full stop, minus nought.
fn number(max: i32) -> impl Strategy<Value = String> {
    prop_oneof![
        (1 - max..max, 0..1_000_000_u32).prop_map(|(whole, part)| format!("{whole}.{part:06}")),
        (-max..=max).prop_map(|whole| format!("{whole}")),
        (0..max).prop_map(|whole| format!("+0{whole}.")),
        Just("-0".to_owned()),
        Just(".50".to_owned()),
    ]
}

fn point() -> impl Strategy<Value = String> {
    (number(90), number(180)).prop_map(|(lat, lon)| format!("{lat},{lon}"))
}

fn polygon() -> impl Strategy<Value = Polygon> {
    (vec(point(), 3..8), proptest::sample::select(&[" ", "\n", "  "][..])).prop_map(|(mut points, between)| {
        points.push(points[0].clone());
        Polygon::parse(&points.join(between)).unwrap()
    })
}

fn circle() -> impl Strategy<Value = Circle> {
    (point(), 0..2_000_u32, 0..1_000_u32)
        .prop_map(|(point, km, m)| Circle::parse(&format!("{point} {km}.{m:03}")).unwrap())
}

fn decimal() -> impl Strategy<Value = Decimal> {
    number(9_000).prop_map(|text| Decimal::parse(&format!(" {text}")).unwrap())
}

fn area() -> impl Strategy<Value = Area> {
    (text(), vec(polygon(), 0..3), vec(circle(), 0..3), vec(pair(), 0..3), of(decimal()), of(decimal())).prop_map(
        |(description, polygons, circles, geocodes, altitude, ceiling)| Area {
            description,
            polygons,
            circles,
            geocodes,
            altitude,
            ceiling,
        },
    )
}

fn resource() -> impl Strategy<Value = Resource> {
    (text(), of(text()), of("[+ ]?0{0,2}[0-9]{1,9}"), of(text()), of(text()), of(text())).prop_map(
        |(description, mime_type, size, uri, deref_uri, digest)| Resource {
            description,
            mime_type,
            size: size.map(|text| Size::parse(&text).unwrap()),
            uri,
            deref_uri,
            digest,
        },
    )
}

fn info() -> impl Strategy<Value = Info> {
    let codes = (
        vec(one(Category::ALL), 0..3),
        vec(one(ResponseType::ALL), 0..3),
        one(Urgency::ALL),
        one(Severity::ALL),
        one(Certainty::ALL),
    );
    let texts =
        (of(text()), text(), of(text()), of(text()), of(text()), of(text()), of(text()), of(text()), of(text()));
    let times = (of(date_time()), of(date_time()), of(date_time()));
    let blocks = (vec(pair(), 0..3), vec(pair(), 0..3), vec(resource(), 0..2), vec(area(), 0..3));
    (codes, texts, times, blocks).prop_map(|(codes, texts, times, blocks)| Info {
        language: texts.0,
        categories: codes.0,
        event: texts.1,
        response_types: codes.1,
        urgency: codes.2,
        severity: codes.3,
        certainty: codes.4,
        audience: texts.2,
        event_codes: blocks.0,
        effective: times.0,
        onset: times.1,
        expires: times.2,
        sender_name: texts.3,
        headline: texts.4,
        description: texts.5,
        instruction: texts.6,
        web: texts.7,
        contact: texts.8,
        parameters: blocks.1,
        resources: blocks.2,
        areas: blocks.3,
    })
}

fn alert() -> impl Strategy<Value = Alert> {
    let head = (one(CapVersion::ALL), name(), name(), date_time(), one(Status::ALL), one(MessageType::ALL));
    let reference = (name(), name(), date_time()).prop_map(|(s, i, sent)| format!("{s},{i},{}", sent.text()));
    let lists = (vec(text(), 0..3), of(vec(reference, 0..3)), of(text()), of(text()), proptest::bool::ANY);
    let texts = (of(text()), of(text()), of(text()), of(text()), of(one(Scope::ALL)));
    (head, lists, texts, vec(info(), 0..3)).prop_map(|(head, lists, texts, infos)| Alert {
        version: head.0,
        identifier: head.1,
        sender: head.2,
        sent: head.3,
        status: head.4,
        msg_type: head.5,
        password: texts.0,
        source: texts.1,
        // Only CAP 1.0 may go without.
        scope: texts.4.or((head.0 != CapVersion::V1_0).then_some(Scope::Restricted)),
        restriction: texts.2,
        addresses: lists.2.map(|text| Group::parse(&text)),
        codes: lists.0,
        note: texts.3,
        references: lists.1.map(|list| References::parse(&list.join("\n ")).unwrap()),
        incidents: lists.3.map(|text| Group::parse(&text)),
        infos,
        signatures: if lists.4 { vec![SIGNATURE.into()] } else { vec![] },
    })
}

const SIGNATURE: &str = r#"<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#"><d:A/></d:Signature>"#;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn every_alert_comes_back_equal(alert in alert()) {
        let sent = alert_to_wire(&alert);
        let received = wire::Alert::decode(sent.encode_to_vec().as_slice()).expect("own bytes");
        prop_assert_eq!(&received, &sent);
        prop_assert_eq!(alert_from_wire(received), Ok(alert));
    }

    #[test]
    fn what_a_stranger_sends_is_refused_or_comes_back_equal(
        alert in alert(), status in 0..7_i32, scope in 0..5_i32, category in 0..14_i32, bare in text(), at in 0..9_usize,
    ) {
        let mut sent = alert_to_wire(&alert);
        (sent.status, sent.scope, sent.version) = (status, scope, 3);
        match at {
            0 => sent.identifier = bare,
            1 => sent.sent = bare,
            2 => sent.references = Some(bare),
            3 => sent.signatures.push(bare),
            _ => {}
        }
        if let Some(info) = sent.infos.first_mut() {
            info.categories.push(category);
        }
        let refused = !(1..=5).contains(&status) || !(1..=3).contains(&scope)
            || (!sent.infos.is_empty() && !(1..=12).contains(&category));
        match alert_from_wire(sent) {
            Ok(alert) => {
                prop_assert!(!refused);
                prop_assert_eq!(alert_from_wire(alert_to_wire(&alert)), Ok(alert));
            }
            Err(faults) => prop_assert!(!faults.is_empty() && (refused || at < 4)),
        }
    }

    #[test]
    fn every_instant_comes_back_equal(seconds in -62_135_596_800..253_402_200_000_i64, nanos in 0..1_000_000_000_i32) {
        let time = Timestamp::new(seconds, nanos).expect("in range");
        let sent = timestamp_to_wire(time);
        prop_assert!((0..1_000_000_000).contains(&sent.nanos));
        prop_assert_eq!(timestamp_from_wire(Some(&sent), "time"), Ok(time));
    }
}

fn fire() -> Alert {
    Alert {
        version: CapVersion::V1_2,
        identifier: "fire-1".into(),
        sender: "control@fsd.example".into(),
        sent: DateTime::parse("2026-11-22T08:00:00+08:00").unwrap(),
        status: Status::Actual,
        msg_type: MessageType::Alert,
        password: None,
        source: None,
        scope: Some(Scope::Public),
        restriction: None,
        addresses: None,
        codes: vec![],
        note: None,
        references: None,
        incidents: None,
        infos: vec![Info {
            language: None,
            categories: vec![Category::Fire],
            event: "Fire".into(),
            response_types: vec![],
            urgency: Urgency::Immediate,
            severity: Severity::Severe,
            certainty: Certainty::Observed,
            audience: None,
            event_codes: vec![ValuePair::new("campanile:event", "fire")],
            effective: None,
            onset: None,
            expires: None,
            sender_name: None,
            headline: None,
            description: None,
            instruction: None,
            web: None,
            contact: None,
            parameters: vec![],
            resources: vec![],
            areas: vec![Area {
                description: "Tai Po".into(),
                polygons: vec![Polygon::parse("22.4,114.1 22.4,114.2 22.5,114.2 22.4,114.1").unwrap()],
                circles: vec![Circle::parse("22.4501,114.1702 0.5").unwrap()],
                ..Area::default()
            }],
        }],
        signatures: vec![],
    }
}

/// The faults of the fire alert after a change on the wire.
fn faults_of(change: impl FnOnce(&mut wire::Alert)) -> Vec<(String, String)> {
    let mut alert = alert_to_wire(&fire());
    change(&mut alert);
    let faults = alert_from_wire(alert).expect_err("the change was accepted");
    faults.into_iter().map(|fault| (fault.path, fault.reason)).collect()
}

#[test]
fn an_omitted_status_never_reads_as_actual() {
    let faults = faults_of(|alert| alert.status = 0);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].0, "alert.status");
    assert!(faults[0].1.contains("an omitted status never reads as Actual"), "{}", faults[0].1);
}

#[test]
fn every_fault_is_named_with_its_path() {
    let faults = faults_of(|alert| {
        alert.status = 0;
        alert.msg_type = 77;
        alert.sender.clear();
        alert.sent = "2026-11-22T08:00:00Z".into();
        alert.references = Some("nonsense".into());
        let info = &mut alert.infos[0];
        info.severity = 0;
        info.categories.push(0);
        info.expires = Some("soon".into());
        info.areas[0].circles[0].centre = None;
        info.areas[0].altitude = Some("high".into());
        info.resources.push(wire::Resource { size: Some("1e3".into()), ..wire::Resource::default() });
    });
    let mut paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "alert.infos[0].areas[0].altitude",
            "alert.infos[0].areas[0].circles[0].centre",
            "alert.infos[0].categories[1]",
            "alert.infos[0].expires",
            "alert.infos[0].resources[0].size",
            "alert.infos[0].severity",
            "alert.msg_type",
            "alert.references",
            "alert.sender",
            "alert.sent",
            "alert.status",
        ]
    );
}

#[test]
fn every_unspecified_code_is_refused() {
    let empty = wire::Alert { infos: vec![wire::Info::default()], ..wire::Alert::default() };
    let faults = alert_from_wire(empty).expect_err("an empty message");
    for path in ["status", "msg_type", "scope", "infos[0].urgency", "infos[0].severity", "infos[0].certainty"] {
        let path = format!("alert.{path}");
        assert!(faults.iter().any(|fault| fault.path == path), "{path} was accepted");
    }
}

#[test]
fn an_omitted_version_reads_as_1_2() {
    let mut alert = alert_to_wire(&fire());
    alert.version = 0;
    assert_eq!(alert_from_wire(alert), Ok(fire()));
}

#[test]
fn only_cap_1_0_goes_without_scope() {
    assert_eq!(faults_of(|alert| alert.scope = 0)[0].0, "alert.scope");
    let mut old = alert_to_wire(&fire());
    (old.version, old.scope) = (wire::CapVersion::CapVersion10.into(), 0);
    assert_eq!(alert_from_wire(old).map(|alert| alert.scope), Ok(None));
}

#[test]
fn canonical_shapes_carry_no_text_and_others_keep_theirs() {
    let mut alert = fire();
    let wired = alert_to_wire(&alert);
    assert_eq!(wired.infos[0].areas[0].polygons[0].text, None);
    assert_eq!(wired.infos[0].areas[0].circles[0].text, None);
    let (ring, circle) = ("22.40,114.1\n22.4,114.2 22.5,114.2 22.40,114.1", "22.4501,114.1702 0.50");
    alert.infos[0].areas[0].polygons[0] = Polygon::parse(ring).unwrap();
    alert.infos[0].areas[0].circles[0] = Circle::parse(circle).unwrap();
    let wired = alert_to_wire(&alert);
    assert_eq!(wired.infos[0].areas[0].polygons[0].text.as_deref(), Some(ring));
    assert_eq!(wired.infos[0].areas[0].circles[0].text.as_deref(), Some(circle));
    assert_eq!(alert_from_wire(wired), Ok(alert));
}

#[test]
fn a_shape_whose_text_and_numbers_differ_is_refused() {
    let faults = faults_of(|alert| {
        let area = &mut alert.infos[0].areas[0];
        area.polygons[0].text = Some("22.4,114.1 22.4,114.2 22.6,114.2 22.4,114.1".into());
        area.circles[0].text = Some("22.4501,114.1702 0.6".into());
    });
    let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["alert.infos[0].areas[0].polygons[0].text", "alert.infos[0].areas[0].circles[0].text"]);
}

#[test]
fn numbers_that_are_no_place_are_refused() {
    for bad in [f64::NAN, f64::INFINITY, 90.5, -91.0] {
        let faults = faults_of(|alert| {
            alert.infos[0].areas[0].polygons[0].points[1].lat = bad;
            alert.infos[0].areas[0].circles[0].centre = Some(wire::Point { lat: bad, lon: 0.0 });
        });
        assert_eq!(faults.len(), 2, "{bad}");
    }
    assert_eq!(faults_of(|alert| alert.infos[0].areas[0].circles[0].radius_km = -1.0).len(), 1);
    assert!(faults_of(|alert| alert.infos[0].areas[0].polygons[0].points[3].lon = 1.0)[0].1.contains("open"));
}

#[test]
fn too_many_shapes_are_refused_before_they_are_read() {
    let faults = faults_of(|alert| {
        let area = &mut alert.infos[0].areas[0];
        area.polygons = vec![area.polygons[0].clone(); POLYGONS_MAX + 1];
    });
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].0, format!("alert.infos[0].areas[0].polygons[{POLYGONS_MAX}]"));
    let faults = faults_of(|alert| {
        let ring = &mut alert.infos[0].areas[0].polygons[0];
        ring.points = vec![ring.points[0]; POINTS_MAX + 1];
    });
    assert!(faults[0].1.contains("50000 points"), "{}", faults[0].1);
}

#[test]
fn faults_are_bounded() {
    let faults = faults_of(|alert| alert.infos[0].categories = vec![0; 10_000]);
    assert_eq!(faults.len(), FAULTS_MAX);
    let faults = faults_of(|alert| alert.infos[0].areas[0].altitude = Some("x".repeat(100_000)));
    assert!(faults[0].1.chars().count() <= 300);
}

#[test]
fn characters_that_xml_cannot_carry_are_refused() {
    for bad in ['\0', '\u{8}', '\u{b}', '\u{1f}', '\u{fffe}', '\u{ffff}'] {
        let faults = faults_of(|alert| alert.infos[0].headline = Some(format!("fire{bad}")));
        assert_eq!(faults[0].0, "alert.infos[0].headline", "{bad:?}");
    }
    assert_eq!(faults_of(|alert| alert.codes.push("\0".into()))[0].0, "alert.codes[0]");
}

#[test]
fn a_signature_cannot_smuggle_other_xml() {
    for bad in [
        "",
        "text",
        "<a/>",
        &format!("{SIGNATURE}</alert><alert>"),
        &format!("{SIGNATURE}{SIGNATURE}"),
        &format!("<!-- x -->{SIGNATURE}"),
        &format!("<!DOCTYPE a [<!ENTITY b 'c'>]>{SIGNATURE}"),
        "<d:Signature xmlns:d='urn:other'/>",
    ] {
        assert_eq!(faults_of(|alert| alert.signatures.push(bad.into()))[0].0, "alert.signatures[0]", "{bad}");
    }
}

#[test]
fn timestamps_out_of_range_are_refused() {
    assert!(timestamp_from_wire(None, "time").is_err());
    for (seconds, nanos) in [
        (-62_135_596_801, 0),
        (253_402_300_800, 0),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (0, -1),
        (0, 1_000_000_000),
        (253_402_300_799, 0),
    ] {
        let time = prost_types::Timestamp { seconds, nanos };
        let fault = timestamp_from_wire(Some(&time), "time").expect_err("out of range");
        assert_eq!(fault.path, "time");
    }
    let before = Timestamp::new(-1, -500_000_000).unwrap();
    assert_eq!(timestamp_to_wire(before), prost_types::Timestamp { seconds: -2, nanos: 500_000_000 });
    assert_eq!(timestamp_from_wire(Some(&timestamp_to_wire(before)), "time"), Ok(before));
}

#[test]
fn an_alert_is_named_whole_or_in_part() {
    let id = fire().id();
    assert_eq!(alert_id_from_wire(Some(alert_id_to_wire(&id))), Ok(id.clone()));
    let part = bus::AlertRef { identifier: "fire-1".into(), ..bus::AlertRef::default() };
    assert_eq!(alert_id_from_wire(Some(part.clone())).expect_err("in part").len(), 2);
    let wanted = wanted_alert_from_wire(Some(part)).unwrap();
    assert!(wanted.matches(&id) && wanted.exact().is_none());
    assert!(!wanted.matches(&AlertId::new(id.sender(), "fire-2", id.sent())));
    let other = WantedAlert { sender: Some("x".into()), ..wanted };
    assert!(!other.matches(&id));
    assert!(wanted_alert_from_wire(None).is_err());
    assert!(wanted_alert_from_wire(Some(bus::AlertRef::default())).is_err());
}

#[test]
fn lanes_are_never_unspecified() {
    for lane in [bus::Lane::Urgent, bus::Lane::Routine, bus::Lane::Exercise] {
        assert_eq!(lane_from_wire(lane.into(), "lane"), Ok(lane));
        assert_eq!(lane_named(lane_name(lane)), Some(lane));
    }
    assert!(lane_from_wire(0, "lane").is_err() && lane_from_wire(9, "lane").is_err());
    assert_eq!(lane_named(""), None);
}

#[test]
fn worlds_come_from_status_and_exercise_together() {
    let hv26 = World::Exercise(ExerciseId::try_new("hv26").unwrap());
    for world in [World::Actual, World::System, World::Test, hv26] {
        let (status, exercise) = world_to_wire(&world);
        assert_eq!(world_from_wire(status.into(), exercise.as_deref()), Ok(world));
    }
    let path = |status, exercise| world_from_wire(status, exercise).expect_err("no world")[0].path.clone();
    assert_eq!(path(0, None), "status");
    assert_eq!(path(wire::Status::Exercise.into(), None), "exercise_id");
    assert_eq!(path(wire::Status::Exercise.into(), Some("a b")), "exercise_id");
    assert_eq!(path(wire::Status::Actual.into(), Some("hv26")), "exercise_id");
    assert_eq!(world_from_wire(0, Some("")).expect_err("two faults").len(), 2);
}

#[test]
fn classification_comes_back_equal() {
    let full = Classification {
        event: Some("fire".into()),
        level: Some(0),
        signal: Some("TC8NE".into()),
        sites: vec!["1".into(), "2".into()],
    };
    for words in [full, Classification::default()] {
        let sent = classification_to_wire(&words);
        let received = wire::Classification::decode(sent.encode_to_vec().as_slice()).expect("own bytes");
        assert_eq!(classification_from_wire(received), words);
    }
}

#[test]
fn point_of_minus_nought_keeps_its_spelling() {
    let mut alert = fire();
    alert.infos[0].areas[0].circles =
        vec![Circle::parse("-0,0 1").unwrap(), Circle::new(Point { lat: -0.0, lon: 0.0 }, 1.0).unwrap()];
    let bytes = alert_to_wire(&alert).encode_to_vec();
    assert_eq!(alert_from_wire(wire::Alert::decode(bytes.as_slice()).unwrap()), Ok(alert));
}
