//! Any message, built from arbitrary text, comes out of the codec as it went in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use campanile_alert::area::{Area, Circle, Polygon};
use campanile_alert::message::{
    Alert, CapVersion, Category, Certainty, Decimal, Group, Info, MessageType, References, Resource, ResponseType,
    Scope, Severity, Size, Status, Urgency, ValuePair,
};
use campanile_alert::xml::{self, Limits};
use campanile_alert::{AlertId, DateTime, Point, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Text of every character that XML can hold, the awkward ones often.
fn text() -> impl Strategy<Value = String> {
    let awkward =
        select(vec!['&', '<', '>', '"', '\'', '\r', '\n', '\t', ' ', ']', '\u{85}', '\u{2028}', '火', '🔥', '=']);
    let any = any::<char>().prop_filter("XML cannot hold it", |&c| {
        matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && !matches!(c, '\u{FFFE}' | '\u{FFFF}'))
    });
    vec(prop_oneof![awkward, any], 0..12).prop_map(String::from_iter)
}

fn time() -> impl Strategy<Value = DateTime> {
    (0_i64..4_000_000_000, -840_i32..=840)
        .prop_map(|(second, offset)| DateTime::from_instant(Timestamp::from_second(second).unwrap(), offset))
}

fn point() -> impl Strategy<Value = Point> {
    (-90.0..=90.0_f64, -180.0..=180.0_f64).prop_map(|(lat, lon)| Point { lat, lon })
}

fn pairs() -> impl Strategy<Value = Vec<ValuePair>> {
    // CAP 1.0 joins them with =, which its names therefore cannot hold.
    let pair = (text(), text()).prop_map(|(name, value)| ValuePair::new(name.replace('=', "-"), value));
    vec(pair, 0..4)
}

fn area() -> impl Strategy<Value = Area> {
    let polygon = vec(point(), 3..8).prop_map(|mut ring| {
        ring.push(ring[0]);
        Polygon::from_points(&ring).unwrap()
    });
    let circle = (point(), 0.0..1e4_f64).prop_map(|(centre, km)| Circle::new(centre, km).unwrap());
    let number = || option::of((-1e5..1e5_f64).prop_map(|feet| Decimal::parse(&format!(" {feet:.2}\n")).unwrap()));
    (text(), vec(polygon, 0..3), vec(circle, 0..3), pairs(), number(), number()).prop_map(
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
    let size = option::of(any::<u64>().prop_map(|bytes| Size::parse(&bytes.to_string()).unwrap()));
    (text(), text(), size, option::of(text()), option::of(text()), option::of(text())).prop_map(
        |(description, mime_type, size, uri, deref_uri, digest)| Resource {
            description,
            mime_type: Some(mime_type),
            size,
            uri,
            deref_uri,
            digest,
        },
    )
}

fn info() -> impl Strategy<Value = Info> {
    let codes = (
        vec(select(Category::ALL), 1..4),
        vec(select(ResponseType::ALL), 0..4),
        select(Urgency::ALL),
        select(Severity::ALL),
        select(Certainty::ALL),
    );
    let times = (option::of(time()), option::of(time()), option::of(time()));
    let texts = vec(option::of(text()), 8);
    let lists = (pairs(), pairs(), vec(resource(), 0..3), vec(area(), 0..3));
    (codes, times, text(), texts, lists).prop_map(|(codes, times, event, texts, lists)| {
        let (categories, response_types, urgency, severity, certainty) = codes;
        let (effective, onset, expires) = times;
        let (event_codes, parameters, resources, areas) = lists;
        let mut texts = texts.into_iter();
        let mut next = || texts.next().flatten();
        Info {
            language: next(),
            categories,
            event,
            response_types,
            urgency,
            severity,
            certainty,
            audience: next(),
            event_codes,
            effective,
            onset,
            expires,
            sender_name: next(),
            headline: next(),
            description: next(),
            instruction: next(),
            web: next(),
            contact: next(),
            parameters,
            resources,
            areas,
        }
    })
}

fn alert() -> impl Strategy<Value = Alert> {
    let codes = (
        select(CapVersion::ALL),
        select(Status::ALL),
        select(MessageType::ALL),
        select(Scope::ALL),
        option::of(text()),
    );
    let word = "[!-+\\--~]{1,8}";
    let reference =
        (word, word, time()).prop_map(|(sender, identifier, sent)| AlertId::new(sender, identifier, sent.text()));
    let references = option::of(vec(reference, 0..4).prop_map(|ids| References::from_ids(&ids)));
    let groups = (option::of(text()), option::of(text()));
    let signature =
        "<s:Signature xmlns:s=\"http://www.w3.org/2000/09/xmldsig#\" xmlns=\"\">\r\n <a b='&amp;'/>é</s:Signature>";
    let lists = (vec(text(), 0..3), vec(info(), 0..3), vec(Just(signature.to_owned()), 0..2));
    (codes, text(), text(), time(), vec(option::of(text()), 3), references, groups, lists).prop_map(
        |(codes, identifier, sender, sent, texts, references, groups, lists)| {
            let (version, status, msg_type, scope, password) = codes;
            let (code_texts, mut infos, signatures) = lists;
            let mut texts = texts.into_iter();
            let mut next = || texts.next().flatten();
            if version == CapVersion::V1_0 {
                infos.iter_mut().for_each(|info| info.response_types.clear());
            }
            Alert {
                version,
                identifier,
                sender,
                sent,
                status,
                msg_type,
                password: password.filter(|_| version == CapVersion::V1_0),
                source: next(),
                scope: Some(scope),
                restriction: next(),
                addresses: groups.0.map(|text| Group::parse(&text)),
                codes: code_texts,
                note: next(),
                references,
                incidents: groups.1.map(|text| Group::parse(&text)),
                infos,
                signatures,
            }
        },
    )
}

proptest! {
    #[test]
    fn any_message_is_read_as_it_was_written(alert in alert()) {
        let written = xml::write(&alert);
        let document = xml::read(written.as_bytes(), &Limits::default()).expect("what we write can be read");
        prop_assert_eq!(document.messages.len(), 1);
        let result = document.messages[0].result.as_ref();
        prop_assert_eq!(result.map_err(|faults| format!("{faults:#?}\n{written}")), Ok(&alert));
        prop_assert_eq!(xml::write(result.unwrap()), written, "writing is stable");
    }

    #[test]
    fn any_message_goes_through_json(alert in alert()) {
        let json = serde_json::to_string(&alert).unwrap();
        prop_assert_eq!(serde_json::from_str::<Alert>(&json).unwrap(), alert);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(xml::read(&bytes, &Limits::default()).is_err());
    }

    #[test]
    fn any_damage_to_a_message_is_read_without_a_panic(alert in alert(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = xml::write(&alert).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(document) = xml::read(&bytes, &Limits::default()) {
            prop_assert_eq!(&document.messages[0].original, &bytes);
        }
    }
}
