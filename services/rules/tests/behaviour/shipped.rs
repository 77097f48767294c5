//! The tests beside the shipped packs pass, reach every rule and row, and are quick.

use std::path::{Path, PathBuf};

use campanile_rules::trial;

fn packs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packs")
}

fn run(file: &str) -> trial::Report {
    let folder = packs();
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    trial::run(&text, &read).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_shipped_pack_has_tests_that_pass_and_reach_every_rule_and_row() {
    let mut wrong = Vec::new();
    for file in ["edb-fire.tests.yaml", "edb-weather.tests.yaml", "bad-weather.tests.yaml"] {
        let report = run(file);
        for case in report.cases.iter().filter(|case| !case.failures.is_empty()) {
            wrong.push(format!("{file}:{}: {}\n    {}", case.line, case.name, case.failures.join("\n    ")));
        }
        wrong.extend(report.shortfalls.iter().map(|short| format!("{file}: {short}")));
        assert!(report.cases.len() > 10, "{file}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_dated_announcement_is_a_case_that_agrees_or_says_why_not() {
    let files = ["edb-fire.tests.yaml", "edb-weather.tests.yaml", "bad-weather.tests.yaml"];
    let cases: Vec<_> = files.iter().flat_map(|file| run(file).cases).filter(|case| case.source.is_some()).collect();
    assert!(cases.len() >= 20, "{}", cases.len());
    assert!(cases.iter().filter(|case| case.differs.is_some()).count() >= 6);
}

/// A column written again and again would multiply the inputs to try without an end.
#[test]
fn a_truth_table_names_each_column_once() {
    let given = ["phase"; 40].join(", ");
    let row = ["any"; 40].join(", ");
    let text = format!(
        "uses: [edb-weather.rules.yaml]\nclock: {{start: \"2026-09-14T06:00+08:00\"}}\ncases:\n\
         - table: edb.class-suspension.weather\n  given: [{given}]\n  rows:\n  - [{row}, none, []]\n"
    );
    let read = |name: &str| std::fs::read(packs().join(name)).ok();
    let report = trial::run(&text, &read).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.cases[0].failures, ["the column phase is given twice"]);
}
