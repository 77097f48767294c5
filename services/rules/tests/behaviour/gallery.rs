//! Every code of the checker, with a bad pack and the exact words; and what needs more than a pack.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use campanile_rules::lint::{Around, CODES, around, between, sarif, strictly};
use campanile_rules::trial::Coverage;
use campanile_rules::{DataSet, Diagnostic, Format, Gravity, Pack, Refusal, check_federation};

use crate::desk::FIRE;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gallery")
}

fn findings(text: &str) -> Vec<Diagnostic> {
    strictly(match Pack::parse(text) {
        Ok((_, warnings)) => warnings,
        Err(Refusal(found)) => found,
    })
}

#[test]
fn each_bad_pack_gets_its_code_and_exactly_these_words() {
    let mut packs: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    packs.retain(|path| path.to_string_lossy().ends_with(".rules.yaml"));
    packs.sort();
    assert!(packs.len() >= 20, "{}", packs.len());
    for path in packs {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let found = findings(&text);
        let code = name.split('-').next().unwrap();
        assert!(found.iter().any(|one| one.code == code), "{name}: {found:?}");
        assert!(found.iter().all(|one| one.line > 0), "{name}: {found:?}");
        let said: Vec<String> = found.iter().map(|one| one.render(&name, &text)).collect();
        let said = said.join("\n");
        let want = path.with_extension("").with_extension("txt");
        if std::env::var("GALLERY").is_ok_and(|how| how == "write") {
            std::fs::write(&want, &said).unwrap();
        }
        assert_eq!(said, std::fs::read_to_string(&want).unwrap_or_default(), "{name}");
    }
}

#[test]
fn every_code_has_a_bad_pack_or_a_test_here() {
    let names: Vec<String> =
        std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let in_gallery: BTreeSet<&str> = names.iter().filter_map(|name| name.split('-').next()).collect();
    let here = ["E020", "E021", "E022", "E050", "W051", "W061", "W062"];
    let known: Vec<&str> = CODES.iter().map(|(code, _)| *code).filter(|code| !here.contains(code)).collect();
    let missing: Vec<&&str> = known.iter().filter(|code| !in_gallery.contains(**code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_circle_and_a_long_chain_between_packs_are_findings_with_a_place() {
    let circle = FIRE.replacen("event: fire, from: [fsd]", "event: class-suspension, from: [edb]", 1);
    let circle = circle.replacen(", level: {scale: fire-alarm, at-least: params.min_alarm}", "", 1);
    let circle = circle.replacen(", level: {at-least: 3}", "", 1);
    let (pack, _) = Pack::parse(&circle).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let faults = check_federation(&[pack.manifest()]);
    let found = between(&faults[0], &circle);
    assert_eq!((found.code, found.gravity), ("E020", Gravity::Error));
    assert!(found.line > 1, "{found:?}");
    assert_eq!(
        found.message,
        "rules trigger each other in a circle: edb.school-closure.fire -> edb.school-closure.fire"
    );
    let chain = campanile_rules::Fault::TooDeep(vec![
        "a.one".into(),
        "b.two".into(),
        "c.three".into(),
        "d.four".into(),
        "edb.school-closure.fire".into(),
    ]);
    let found = between(&chain, FIRE);
    assert_eq!(
        (found.code, found.message.as_str()),
        ("E021", "a chain of 5 rules is longer than 4: a.one -> b.two -> c.three -> d.four -> edb.school-closure.fire")
    );
}

#[test]
fn what_lies_around_a_pack_is_looked_at_too() {
    let wide = FIRE.replacen("within: 500m", "where: {level: PRIMARY}", 1).replacen("sites: {at-most: 20}, ", "", 1);
    let wide = wide.replacen("effective: {from: 2026-09-01}", "effective: {from: 2026-09-01, to: 2026-09-30}", 1);
    let wide = wide.replacen("source: [{", "source: [{file: circular.txt, sha256: abcd, ", 1);
    let (pack, _) = Pack::parse(&wide).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let rows: Vec<String> = (0..600)
        .map(|n| format!(r#"{{"no":"{n:010}23","en":"S","zh":"校","lat":22.3,"lon":114.1,"level":"PRIMARY"}}"#))
        .collect();
    let json = format!("[{}]", rows.join(","));
    let set = DataSet::parse("edb.schools", Format::Json, json.as_bytes(), &pack.data["edb.schools"].rows).unwrap();
    let id = "edb.school-closure.fire".to_string();
    let coverage = Coverage {
        rules_without_positive: vec![id.clone()],
        rules_without_negative: vec![id.clone()],
        rows_without_case: vec![format!("{id} line 9")],
        ..Coverage::default()
    };
    let holders = [("edb.duty-officer".to_string(), ["edb-officer-1".to_string()].into())].into();
    let looked = Around {
        data: [("edb.schools".to_string(), set)].into(),
        copies: [("circular.txt".to_string(), b"changed".to_vec())].into(),
        coverage: Some(&coverage),
        holders: Some(&holders),
        now: "2026-11-22T00:00:00Z".parse().unwrap(),
    };
    let found = around(&pack, &wide, &looked);
    let said: Vec<String> = found.iter().map(|one| format!("{} {}", one.code, one.message)).collect();
    let want = [
        "E022 edb.school-closure.fire may touch 600 sites for one cause",
        "E050 no test expects edb.school-closure.fire to be silent",
        "E050 no test makes edb.school-closure.fire issue",
        "E071 edb.school-closure.fire asks for 2 persons who are edb.duty-officer or edb.regional-officer; the roster has 1",
        "E071 edb.school-closure.fire asks, once it is escalated, for 2 persons who are edb.directorate or \
         edb.duty-officer or edb.regional-officer; the roster has 1",
        "E071 edb.school-closure.fire has an envelope that wants 2 persons who are edb.directorate; the roster has 0",
        "W051 no test reaches edb.school-closure.fire line 9",
        "W061 edb.school-closure.fire no longer counts; its effective date has lapsed",
        "W062 the cited text “Schools near the Tai Po fire stayed closed; schools decide and inform the bureau” \
         (circular.txt) has changed",
    ];
    assert_eq!(said, want);
    assert!(found.iter().all(|one| one.line > 0 && one.help.is_some()), "{found:?}");
}

#[test]
fn findings_are_written_as_sarif() {
    let text = FIRE.replacen("event: fire,", "event: fyre,", 1);
    let found: Vec<(String, Diagnostic)> =
        findings(&text).into_iter().map(|one| ("p.rules.yaml".to_string(), one)).collect();
    let sarif = sarif(&found);
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "E002");
    assert_eq!(result["level"], "error");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "p.rules.yaml");
    assert!(place["region"]["startLine"].as_u64().unwrap() > 1);
    assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), CODES.len());
}
