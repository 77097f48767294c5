//! The threat table of `deploy/SECURITY.md`: every threat has a test, and every test it names is a test of the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The rows of the table: threat, control, where, default, tests.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| threat");
    text.lines().filter(is_row).map(cells).collect()
}

/// The names in backquotes of a cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Collects the names of test functions below a folder.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                tests(&path, found);
            }
        } else if name.ends_with(".rs") {
            tests_of(&std::fs::read_to_string(&path).unwrap(), found);
        }
    }
}

/// The functions of a file that stand under `#[test]` or `#[tokio::test]`, and those that the macro of the fuzz targets
/// makes.
fn tests_of(text: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            found.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    if let Some((_, listed)) = text.split_once("\ntargets! {") {
        let listed = listed.split('}').next().unwrap_or_default();
        found.extend(listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    }
}

#[test]
fn every_threat_of_the_table_has_a_test_and_every_test_it_names_exists() {
    let text = std::fs::read_to_string(root().join("deploy/SECURITY.md")).unwrap();
    let mut known = BTreeSet::new();
    for folder in ["proto", "services", "gateway", "tests"] {
        tests(&root().join(folder), &mut known);
    }
    assert!(known.len() > 300, "only {} tests found; the search is wrong", known.len());
    let rows = rows(&text);
    assert!(rows.len() >= 30, "only {} threats", rows.len());
    let mut faults = Vec::new();
    for row in &rows {
        let [threat, control, place, default, tests] = row.as_slice() else {
            faults.push(format!("{row:?}: it has not five cells"));
            continue;
        };
        if [threat, control, default].iter().any(|cell| cell.is_empty()) {
            faults.push(format!("{threat}: a cell is empty"));
        }
        for file in names(place) {
            if !root().join(file).exists() {
                faults.push(format!("{threat}: {file} does not exist"));
            }
        }
        if names(place).is_empty() || names(tests).is_empty() {
            faults.push(format!("{threat}: it names no place or no test"));
        }
        for test in names(tests) {
            if !known.contains(test) {
                faults.push(format!("{threat}: there is no test {test}"));
            }
        }
    }
    assert!(faults.is_empty(), "mend deploy/SECURITY.md, or write the test\n  {}", faults.join("\n  "));
}

#[test]
fn every_promise_of_the_readme_names_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, from) = text.split_once("## What is promised").unwrap();
    let (section, _) = from.split_once("\n## ").unwrap();
    let mut known = BTreeSet::new();
    for folder in ["proto", "services", "gateway", "tests"] {
        tests(&root().join(folder), &mut known);
    }
    let rows: Vec<_> = rows(section).into_iter().filter(|row| row[0] != "promise").collect();
    assert!(rows.len() >= 8, "only {} promises", rows.len());
    for row in rows {
        let [promise, elsewhere, tests] = row.as_slice() else { panic!("{row:?}: it has not three cells") };
        assert!(!promise.is_empty() && !elsewhere.is_empty() && !names(tests).is_empty(), "{promise}: a cell is empty");
        let missing: Vec<_> = names(tests).into_iter().filter(|test| !known.contains(*test)).collect();
        assert!(missing.is_empty(), "{promise}: there is no test {missing:?}");
    }
}

#[test]
fn the_search_finds_tests_and_nothing_else() {
    let mut found = BTreeSet::new();
    tests_of("#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}\n", &mut found);
    tests_of("\ntargets! {\n    three \"cap\" 2,\n}\n#[test] fn five() {}", &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["one", "three", "two"]);
}
