//! The verbs of policy staff that need no node; the guide's own commands are run as they stand there.

use std::path::{Path, PathBuf};

use super::campanile;

fn packs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/packs")
}

/// Every fenced block of the guide, in order: its language and its text.
fn blocks(guide: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in guide.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => open = Some((language.to_string(), String::new())),
            (None, Some((language, text))) => open = Some((language, text + line + "\n")),
            (None, None) => {}
        }
    }
    blocks
}

/// Writes the files of a guide and runs its commands in a folder, in order, each to the code that the guide names.
/// Returns how many there were.
pub(crate) fn follow(guide: &str, folder: &Path) -> usize {
    let mut ran = 0;
    for (language, text) in blocks(guide) {
        let first = text.lines().next().unwrap_or_default();
        if let Some(name) = first.strip_prefix("# file: ") {
            let body = text.split_once('\n').map_or("", |(_, body)| body);
            // A CSV file has no comments, so its name is not part of it.
            let body = if name.ends_with(".csv") || name.ends_with(".jsonl") { body } else { text.as_str() };
            std::fs::write(folder.join(name.trim()), body).unwrap();
        }
        for line in text.lines().filter(|_| language == "sh" && !first.starts_with("# test: ")) {
            let (command, code) = line.split_once("  # exits ").unwrap_or((line, "0"));
            let code: i32 = code.split_whitespace().next().unwrap().parse().unwrap();
            let words: Vec<&str> = command.split_whitespace().collect();
            let Some(("campanile", args)) = words.split_first().map(|(first, rest)| (*first, rest)) else { continue };
            campanile(folder, args).ends(code);
            ran += 1;
        }
    }
    ran
}

#[test]
fn the_guide_leads_from_an_empty_file_to_a_tested_pack_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let ran = follow(include_str!("../../../rules/README.md"), folder.path());
    assert!(ran >= 6, "{ran} commands");
}

#[test]
fn the_shipped_packs_have_no_finding_and_their_tests_pass() {
    let folder = packs();
    let linted = campanile(&folder, &["rules", "lint", "--federation", "."]).ends(0);
    assert!(linted.stdout.ends_with("7 packs, 0 errors, 0 warnings\n"), "{}", linted.stdout);
    let tested = campanile(&folder, &["rules", "test", "--cover", "."]).ends(0);
    assert!(tested.stdout.contains("differs, because"), "{}", tested.stdout);
    let report = tempfile::NamedTempFile::new().unwrap();
    let file = report.path().to_string_lossy().into_owned();
    let json = campanile(&folder, &["--json", "rules", "test", "--junit", &file, "."]).ends(0).json();
    let cases: usize = json.as_array().unwrap().iter().map(|suite| suite["cases"].as_array().unwrap().len()).sum();
    assert!(cases > 45, "{cases}");
    let junit = std::fs::read_to_string(report.path()).unwrap();
    let junit = roxmltree::Document::parse(&junit).unwrap();
    assert_eq!(junit.descendants().filter(|node| node.has_tag_name("testsuite")).count(), 3);
}

#[test]
fn lint_ends_with_1_on_an_error_with_0_on_a_warning_and_with_2_on_what_cannot_be_read() {
    let gallery = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/tests/gallery");
    let bad = campanile(&gallery, &["rules", "lint", "E030-rows-overlap.rules.yaml"]).ends(1);
    assert!(bad.stdout.contains("error[E030]: rows on lines"), "{}", bad.stdout);
    let sarif = campanile(&gallery, &["rules", "lint", "--sarif", "."]).ends(1).json();
    assert!(sarif["runs"][0]["results"].as_array().unwrap().len() >= 20);
    let json = campanile(&gallery, &["--json", "rules", "lint", "E002-not-in-vocabulary.rules.yaml"]).ends(1).json();
    assert_eq!((&json[0]["code"], &json[0]["file"]), (&"E002".into(), &"E002-not-in-vocabulary.rules.yaml".into()));
    campanile(&gallery, &["rules", "lint", "nowhere.rules.yaml"]).ends(2);
    campanile(&gallery, &["rules", "test", "nowhere.tests.yaml"]).ends(2);
}

#[test]
fn lint_reads_the_roster_and_names_who_is_asked_in_vain() {
    let folder = tempfile::tempdir().unwrap();
    campanile(folder.path(), &["pki", "init", "--departments", "fsd,edb", "town"]).ends(0);
    let pack = packs().join("edb-fire.rules.yaml").display().to_string();
    let lint = |pack: &str| campanile(folder.path(), &["rules", "lint", "--roster", "town/roster.json", pack]);
    lint(&pack).ends(0);
    let text = std::fs::read_to_string(&pack).unwrap().replace("by: [edb.directorate]", "by: [edb.nobody]");
    std::fs::write(folder.path().join("vain.rules.yaml"), text).unwrap();
    let vain = lint("vain.rules.yaml").ends(1);
    let want =
        "[E071]: edb.school-closure.fire has an envelope that wants 2 persons who are edb.nobody; the roster has 0";
    assert!(vain.stdout.contains(want), "{}", vain.stdout);
    campanile(folder.path(), &["rules", "lint", "--roster", "town/root.json", &pack]).ends(2);
}

#[test]
fn a_test_file_without_cases_fails() {
    let folder = tempfile::tempdir().unwrap();
    let pack = packs().join("ha-clinics.rules.yaml");
    std::fs::copy(pack, folder.path().join("ha-clinics.rules.yaml")).unwrap();
    std::fs::write(folder.path().join("empty.tests.yaml"), "uses: [ha-clinics.rules.yaml]\ncases: []\n").unwrap();
    let ran = campanile(folder.path(), &["rules", "test", "."]).ends(1);
    assert!(ran.stdout.contains("no cases"), "{}", ran.stdout);
    let wrong =
        "uses: [ha-clinics.rules.yaml]\ncases:\n- name: it says nothing\n  expect: {0s: {live: clinic-closed}}\n";
    std::fs::write(folder.path().join("empty.tests.yaml"), wrong).unwrap();
    let ran = campanile(folder.path(), &["rules", "test", "."]).ends(1);
    assert!(ran.stdout.contains("clinic-closed is not in force; in force are nothing"), "{}", ran.stdout);
}

#[test]
fn a_history_is_played_and_a_change_of_a_pack_is_said_in_words() {
    let folder = packs();
    let base = ["rules", "backtest", "--pack", "edb-weather.rules.yaml", "--history", "hko-history.sample.jsonl"];
    let all = campanile(&folder, &base).ends(0);
    assert!(all.stdout.contains("class-suspension 2015-05-26/pm [all]"), "{}", all.stdout);
    let some = campanile(&folder, &[&base[..], &["--from", "2025-01-01T00:00:00+08:00"]].concat()).ends(0);
    assert!(some.stdout.lines().count() < all.stdout.lines().count());
    let own = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(folder.join("edb-weather.rules.yaml")).unwrap();
    let changed = text.replace(
        "[WRAINA,                    any,          none,             []]",
        "[WRAINA, before, class-suspension, [kindergarten]]",
    );
    assert_ne!(text, changed);
    std::fs::write(own.path().join("new.rules.yaml"), changed).unwrap();
    std::fs::copy(folder.join("hk-free-days-2026.csv"), own.path().join("hk-free-days-2026.csv")).unwrap();
    let new = own.path().join("new.rules.yaml").to_string_lossy().into_owned();
    let said = campanile(&folder, &["rules", "diff", "edb-weather.rules.yaml", &new]).ends(0);
    assert!(said.stdout.contains("now issues class-suspension (kindergarten)"), "{}", said.stdout);
    let against = campanile(&folder, &[&base[..], &["--against", &new]].concat()).ends(0);
    assert_eq!(against.stdout, "", "no amber rain is in the sample");
}

#[test]
fn the_schema_is_json_schema_with_the_words_of_the_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let schema = campanile(folder.path(), &["rules", "schema"]).ends(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema.to_string().contains("WRAINB"));
}
