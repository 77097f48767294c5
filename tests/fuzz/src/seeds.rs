//! Seeds: bytes that lead deep into each decoder, made from the project's own samples and, where it is there, from the
//! shared corpus of real CAP messages.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campanile_discovery::hint::{Hint, Protocol};
use campanile_log::Hash;
use campanile_proto::{bus::v1 as wire, convert};
use prost::Message as _;
use serde_json::json;

use crate::federation::{self, CA, FIRE};

/// Larger files of the corpus teach a fuzzer nothing more and slow it down.
const CORPUS_BYTES_MAX: u64 = 24 << 10;

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(tree(path)).expect("a sample of the project")
}

/// The files of the shared corpus that hold one of the marks; none when it is not here.
fn corpus(marks: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![tree("../shared/cap-corpus")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.metadata() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.len() <= CORPUS_BYTES_MAX {
                let bytes = std::fs::read(entry.path()).expect("a listed file");
                let text = String::from_utf8_lossy(&bytes);
                if marks.iter().any(|mark| text.contains(mark)) {
                    found.push(bytes);
                }
            }
        }
    }
    found.sort();
    found
}

fn bare_fire() -> &'static str {
    FIRE.split_once("?>").map_or(FIRE, |(_, rest)| rest.trim_start())
}

/// Messages alone.
pub fn cap() -> Vec<Vec<u8>> {
    let mut seeds = vec![FIRE.into(), campanile_alert::xml::write(&federation::fire()).into_bytes()];
    seeds.push(FIRE.replace("cap:1.2", "cap:1.1").into_bytes());
    // UTF-16 with its mark, as some warning centres send it.
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(FIRE.replace("UTF-8", "UTF-16").encode_utf16().flat_map(u16::to_le_bytes));
    seeds.push(utf16);
    seeds.extend(corpus(&["<alert", "<cap:alert"]));
    seeds
}

/// Feeds.
pub fn atom() -> Vec<Vec<u8>> {
    let fire = bare_fire();
    let entry = format!("<entry><id>urn:x</id><content type=\"text/xml\">{fire}</content></entry>");
    let feed = format!(
        "<?xml version=\"1.0\"?><feed xmlns=\"http://www.w3.org/2005/Atom\"><title>t</title>{entry}{entry}</feed>"
    );
    let index = "<feed xmlns=\"http://www.w3.org/2005/Atom\" xmlns:cap=\"urn:oasis:names:tc:emergency:cap:1.2\"><entry>\
         <link href=\"https://x.example/1\"/><cap:event>Fire</cap:event></entry></feed>";
    let rss = format!("<rss version=\"2.0\"><channel><item><guid>1</guid>{fire}</item></channel></rss>");
    let mut seeds = vec![feed.into_bytes(), index.into(), rss.into_bytes()];
    seeds.extend(corpus(&["http://www.w3.org/2005/Atom", "<rss"]));
    seeds
}

/// Distributions.
pub fn edxl() -> Vec<Vec<u8>> {
    let fire = bare_fire();
    let edxl = format!(
        "<EDXLDistribution xmlns=\"urn:oasis:names:tc:emergency:EDXL:DE:1.0\"><distributionID>1</distributionID>\
         <contentObject><xmlContent><embeddedXMLContent>{fire}</embeddedXMLContent></xmlContent></contentObject>\
         </EDXLDistribution>"
    );
    let plain = format!("<alerts>{fire}{fire}</alerts>");
    let mut seeds = vec![edxl.into_bytes(), plain.into_bytes()];
    seeds.extend(corpus(&["EDXLDistribution"]));
    seeds
}

/// Alerts on the wire.
pub fn alert() -> Vec<Vec<u8>> {
    let mut seeds = vec![convert::alert_to_wire(&federation::fire()).encode_to_vec()];
    for bytes in cap() {
        let Ok(document) = campanile_alert::xml::read(&bytes, &Default::default()) else { continue };
        let good = document.messages.iter().filter_map(|message| message.result.as_ref().ok());
        seeds.extend(good.map(|alert| convert::alert_to_wire(alert).encode_to_vec()));
    }
    seeds
}

/// Records as their author has sealed them.
pub fn record() -> Vec<Vec<u8>> {
    federation::records().iter().map(prost::Message::encode_to_vec).collect()
}

fn position() -> wire::Position {
    wire::Position {
        origin: "fsd/node-1".into(),
        lane: wire::Lane::Urgent.into(),
        epoch: 1 << 20,
        seq: 1,
        hash: vec![9; 32].into(),
    }
}

/// Frames of streams and calls.
pub fn frame() -> Vec<Vec<u8>> {
    use wire::pull_request::Kind as Ask;
    use wire::pull_response::Kind as Say;
    let records = federation::records();
    let time = Some(convert::timestamp_to_wire(federation::now()));
    let say = |kind| wire::PullResponse { kind: Some(kind) }.encode_to_vec();
    let ask = |kind| wire::PullRequest { kind: Some(kind) }.encode_to_vec();
    let mut seeds: Vec<Vec<u8>> = records.iter().map(|record| say(Say::Record(record.clone()))).collect();
    seeds.push(say(Say::Diverged(wire::Diverged { record: records.first().cloned() })));
    let body = wire::CheckpointBody {
        federation: federation::NAME.into(),
        tail: Some(position()),
        time,
        origin: String::new(),
        lane: 0,
    };
    let signatures = records.first().map(|record| record.signatures.clone()).unwrap_or_default();
    let checkpoint = Some(wire::Checkpoint { body: body.encode_to_vec().into(), signatures });
    seeds.push(say(Say::Bookmark(wire::Bookmark {
        tail: Some(position()),
        checkpoint,
        roster: 1,
        time,
        complete: true,
    })));
    let start = wire::PullStart {
        origin: "fsd/node-1".into(),
        lane: wire::Lane::Urgent.into(),
        after: Some(position()),
        credit_bytes: 4 << 20,
        older: vec![position()],
    };
    seeds.push(ask(Ask::Start(start)));
    seeds.push(ask(Ask::Credit(wire::PullCredit { credit_bytes: 1, durable: Some(position()) })));
    let content = Some(wire::publish_request::Content::Alert(convert::alert_to_wire(&federation::fire())));
    seeds.push(wire::PublishRequest { content, ..Default::default() }.encode_to_vec());
    seeds.push(convert::alert_id_to_wire(&federation::fire().id()).encode_to_vec());
    seeds
}

/// Payloads of rosters.
pub fn roster() -> Vec<Vec<u8>> {
    let first = federation::roster();
    let mut next: serde_json::Value = serde_json::from_slice(first.payload()).expect("a roster is JSON");
    let held = federation::VERIFIER.roster.current();
    next["number"] = json!(2);
    next["previous"] = json!(Hash(*held.digest()).to_string());
    next["revoked"] = json!([{"department": "fsd", "serial": "1a"}]);
    vec![first.payload().to_vec(), next.to_string().into_bytes()]
}

fn hint() -> Hint {
    Hint {
        origin: federation::origin(),
        instance: "abc".into(),
        addresses: vec!["node.fsd.example:7443".into()],
        epoch: Some(1 << 20),
        protocol: Protocol { min: 1, max: 1 },
        sinks: Some(vec!["hv26".parse().expect("an exercise")]),
        started: federation::now(),
    }
}

/// Envelopes, and payloads of hints.
pub fn envelope() -> Vec<Vec<u8>> {
    let hint = hint();
    vec![
        federation::roster().to_bytes(),
        hint.sign(&federation::key()),
        serde_json::to_vec(&hint).expect("a hint is JSON"),
    ]
}

/// Certificates and keys. The key is one of the tests, and made here so that no key lies in a file.
pub fn certificate() -> Vec<Vec<u8>> {
    let der: String = CA.lines().filter(|line| !line.starts_with('-')).collect();
    let pem = federation::key().to_pem();
    vec![
        CA.into(),
        STANDARD.decode(der).expect("a certificate in PEM"),
        [CA.as_bytes(), pem.as_bytes()].concat(),
        pem.into_bytes(),
        b"spiffe://fsd/node/node-1".to_vec(),
    ]
}

/// Packs.
pub fn pack() -> Vec<Vec<u8>> {
    ["edb-fire", "had-shelter", "lcsd-venue"]
        .map(|name| file(&format!("services/rules/packs/{name}.rules.yaml")))
        .to_vec()
}

/// Data sets.
pub fn data() -> Vec<Vec<u8>> {
    let geo = json!({"type": "FeatureCollection", "features": [{"type": "Feature",
        "geometry": {"type": "Point", "coordinates": [114.1, 22.3]}, "properties": {"id": "1", "name_en": "A"}}]});
    vec![
        json!([{"id": "1", "name_en": "A", "lat": 22.3, "lon": "114.1"}]).to_string().into_bytes(),
        b"id,name_en,lat,lon\n1,\"A, \"\"B\"\"\",22.3,114.1\r\n2,C,-22,180\n".to_vec(),
        geo.to_string().into_bytes(),
        file("services/rules/packs/harbour-view-sites.json"),
    ]
}

/// Mapping tables.
pub fn mapping() -> Vec<Vec<u8>> {
    vec![file("deploy/sources/nsw-rfs.mapping.yaml"), file("deploy/sources/hko.yaml")]
}

/// Snapshots of the Observatory: summary, details, in three languages, twice.
pub fn hko() -> Vec<Vec<u8>> {
    let time = "2026-10-13T09:55:00+08:00";
    let summary = json!({
        "WRAIN": {"name": "Red Rainstorm Warning Signal", "code": "WRAINR", "type": "Red", "actionCode": "ISSUE",
            "issueTime": time, "updateTime": time},
        "WTCSGNL": {"name": "No. 8 Northeast Gale or Storm Signal", "code": "TC8NE", "actionCode": "EXTEND",
            "issueTime": time, "expireTime": "2026-10-13T16:00:00+08:00", "updateTime": time},
        "WFIRE": {"name": "Fire Danger Warning", "code": "WFIREY", "actionCode": "CANCEL", "issueTime": time,
            "updateTime": time},
    });
    let details = json!({"details": [
        {"warningStatementCode": "WRAIN", "subtype": "WRAINR", "contents": ["Heavy rain.", "大雨"], "updateTime": time},
        {"warningStatementCode": "WL", "contents": "x", "updateTime": time},
    ]});
    let (summary, details) = (summary.to_string(), details.to_string());
    let cut = |parts: &[&str]| {
        // The byte between two files is one that no UTF-8 has.
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(part.as_bytes());
            bytes.push(0xff);
        }
        bytes
    };
    vec![
        cut(&[&summary, &details]),
        cut(&[&summary, &details, &summary, &details, &summary, &details, "{}", "{\"details\":[]}"]),
        cut(&["{}", "{}", "[]", "[]"]),
        summary.clone().into_bytes(),
    ]
}

/// Bundles.
pub fn bundle() -> Vec<Vec<u8>> {
    let mut lines = vec![
        json!({"bundle": "campanile-log", "format": 1}),
        json!({"attachment": {"name": "roster-1.json", "data": STANDARD.encode(federation::roster().to_bytes())}}),
    ];
    let records = federation::records();
    let mut previous = Hash::ZERO;
    for (at, record) in records.iter().enumerate() {
        let hash = Hash::of(&record.header);
        let signatures = campanile_bus::record::signatures_as_stored(&record.signatures);
        lines.push(json!({"entry": {
            "arrival": at + 1,
            "log": {"origin": "fsd/node-1", "lane": "urgent"},
            "position": {"epoch": 1 << 20, "seq": at + 1, "hash": hash.to_string()},
            "previous": previous.to_string(),
            "link": null,
            "header": STANDARD.encode(&record.header),
            "body": STANDARD.encode(record.body.as_deref().unwrap_or_default()),
            "signatures": STANDARD.encode(&signatures),
            "standing": "counted",
        }}));
        previous = hash;
    }
    lines.push(json!({"end": {"entries": records.len()}}));
    let text = |lines: &[serde_json::Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let short: Vec<_> = lines.iter().take(3).cloned().collect();
    vec![text(&lines).into_bytes(), text(&short).into_bytes()]
}
