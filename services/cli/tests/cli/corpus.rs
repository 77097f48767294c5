//! `alert check` and `alert convert` on messages from the field.

use super::{campanile, shared};

#[test]
fn check_gives_the_corpus_its_verdicts() {
    let Some(corpus) = shared("cap-corpus") else { return };
    for (file, code, messages, invalid) in [
        ("capparselib/bushfire_valid.edxlde", 0, 59, 0),
        ("google-cap-library/bushfire_invalid.edxlde", 1, 7, 2),
        ("capparselib/weather_invalid.atom", 1, 1, 1),
        ("capparselib/weather_index.atom", 0, 0, 0),
        ("capparselib/pelmorex.atom", 1, 0, 0),
    ] {
        let ran = campanile(&corpus, &["alert", "check", "--json", file]).ends(code);
        let report = &ran.json()[0];
        let found = report["messages"].as_array().unwrap();
        assert_eq!(found.len(), messages, "{file}: {report}");
        let bad: Vec<_> = found.iter().filter(|message| message["valid"] == false).collect();
        assert_eq!(bad.len(), invalid, "{file}: {report}");
        for fault in bad.iter().flat_map(|message| message["faults"].as_array().unwrap()) {
            for part in ["path", "code", "reason"] {
                assert!(fault[part].as_str().is_some_and(|text| !text.is_empty()), "{file}: {fault}");
            }
        }
    }
}

#[test]
fn check_tells_what_the_bus_would_say_at_a_time() {
    let Some(corpus) = shared("cap-corpus") else { return };
    let file = "capparselib/bushfire_valid.edxlde";
    let mapping = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/sources/nsw-rfs.mapping.yaml");
    let today = campanile(&corpus, &["alert", "check", "--json", "--bus", file]).ends(1).json();
    let refused = |report: &serde_json::Value| {
        report[0]["messages"].as_array().unwrap().iter().filter(|m| m["admissible"] == false).count()
    };
    assert_eq!(refused(&today), 59, "all have expired by now");
    let then = ["alert", "check", "--json", "--bus", "--now", "2014-11-10T05:30:00Z", "--mapping", mapping, file];
    let then = campanile(&corpus, &then).json();
    assert!(refused(&then) < 59, "{then}");
}

#[test]
fn a_message_comes_back_from_json() {
    let Some(corpus) = shared("cap-corpus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = corpus.join("capparselib/bushfire_valid.edxlde");
    let file = file.to_str().unwrap();
    let ran = campanile(folder.path(), &["alert", "convert", file, "--to", "xml"]).ends(2);
    assert!(ran.stderr.contains("59 messages") && ran.stderr.contains("--index"), "{ran:?}");
    let xml = campanile(folder.path(), &["alert", "convert", file, "--to", "xml", "--index", "59"]).ends(0).stdout;
    let json = campanile(folder.path(), &["alert", "convert", file, "--to", "json", "--index", "59"]).ends(0).stdout;
    std::fs::write(folder.path().join("alert.json"), json).unwrap();
    let again = campanile(folder.path(), &["alert", "convert", "alert.json", "--to", "xml"]).ends(0).stdout;
    assert_eq!(again, xml);
    let beyond = campanile(folder.path(), &["alert", "convert", file, "--to", "json", "--index", "60"]).ends(2);
    assert!(beyond.stderr.contains("from 1 to 59"), "{beyond:?}");
}
