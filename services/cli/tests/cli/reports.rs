//! What comes of a drill and what a drill is made of: reports, lists of injects.

use std::path::{Path, PathBuf};

use campanile_alert::{Clock as _, DateTime};
use campanile_discovery::SystemClock;

use super::campanile;

fn shipped(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios").join(name).display().to_string()
}

fn has(folder: &Path, file: &str, says: &str) {
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    assert!(text.contains(says), "{file} does not say {says:?}");
}

#[test]
fn a_run_that_was_kept_becomes_a_report_in_every_form_and_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    campanile(here, &["drill", "run", &shipped("black-rain.drill.yaml"), "--keep", "run"]).ends(0);
    let told = campanile(here, &["drill", "report", "run", "--form", "html,md,junit,json"]).ends(0);
    assert_eq!(told.stdout.lines().count(), 4, "{}", told.stdout);
    has(here, "run/report.html", "<!DOCTYPE html>");
    has(here, "run/report.md", "## Expectations 預期");
    has(here, "run/junit.xml", "<testsuites name=\"black-rain");
    has(here, "run/report.json", "\"format\": 1");
    let first = std::fs::read(here.join("run/report.html")).unwrap();
    campanile(here, &["drill", "report", "run", "--form", "html", "--out", "again"]).ends(0);
    assert_eq!(std::fs::read(here.join("again/report.html")).unwrap(), first);
    let shown = campanile(here, &["drill", "report", "run", "--form", "md", "--out", "-"]).ends(0);
    assert!(shown.stdout.starts_with("# "), "{}", shown.stdout);
}

#[test]
fn what_is_no_run_makes_no_report_and_says_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let none = campanile(here, &["drill", "report", "nowhere"]).ends(2);
    assert!(none.stderr.contains("drill run --keep"), "{}", none.stderr);
    campanile(here, &["drill", "run", &shipped("black-rain.drill.yaml"), "--keep", "run"]).ends(0);
    let other = campanile(here, &["drill", "report", "run", "--scenario", &shipped("typhoon.drill.yaml")]).ends(2);
    assert!(other.stderr.contains("are not of the same run"), "{}", other.stderr);
    campanile(here, &["drill", "report", "run", "--form", "pdf"]).ends(2);
    std::fs::write(here.join("hotwash.yaml"), "items: [{owner: A Person, text: x}]").unwrap();
    let person = campanile(here, &["drill", "report", "run", "--hotwash", "hotwash.yaml"]).ends(2);
    assert!(person.stderr.contains("is no role"), "{}", person.stderr);
    assert!(!here.join("run/report.html").exists());
    std::fs::write(here.join("run/verdict.json"), "{}").unwrap();
    let broken = campanile(here, &["drill", "report", "run"]).ends(2);
    assert!(broken.stderr.contains("is not what a run wrote"), "{}", broken.stderr);
}

#[test]
fn a_list_of_injects_becomes_a_scenario_that_is_checked_and_played_and_a_wrong_one_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let list = "編號,時間,注入內容,對象,備註\n1,T+5m,校長來電,edb.duty-officer,用第二線\n2,10:45,Residents gather,had.ecc-duty,\n";
    std::fs::write(here.join("Harbour list.csv"), list).unwrap();
    let start = "2026-10-13T10:20:00+08:00";
    let import = |out: &str| campanile(here, &["drill", "import", "Harbour list.csv", "--out", out, "--start", start]);
    let told = import("made.drill.yaml").ends(0);
    assert!(told.stdout.contains("2 injects, 2 players, 2 expectations, 1 notes"), "{}", told.stdout);
    has(here, "made.drill.yaml", "# i1 備註: 用第二線");
    campanile(here, &["drill", "check", "made.drill.yaml"]).ends(0);
    let played = campanile(here, &["drill", "run", "made.drill.yaml"]).ends(0);
    assert!(played.stdout.contains("passed"), "{}", played.stdout);
    std::fs::write(here.join("Harbour list.csv"), list.replace("10:45", "09:45").replace("2,", "1,")).unwrap();
    let wrong = import("wrong.drill.yaml").ends(1);
    assert!(wrong.stderr.contains("row 3") && wrong.stderr.contains("nothing was written"), "{}", wrong.stderr);
    assert!(!here.join("wrong.drill.yaml").exists());
}

#[test]
fn what_a_real_federation_logged_becomes_a_scenario_that_decides_the_same_and_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    campanile(here, &["up", "--once", "--dir", "town"]).ends(0);
    let packs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules/packs");
    let pack = |name: &str| packs.join(name).display().to_string();
    let now = SystemClock.now();
    let (to, from) = (now + jiff::SignedDuration::from_mins(1), now - jiff::SignedDuration::from_mins(30));
    let from = DateTime::from_instant(from, 480).text().to_owned();
    let store = data_folder(&here.join("town"), "edb").display().to_string();
    let words = ["drill", "record", &store, "--from", &from, "--to", &to.to_string(), "--name", "town"];
    let (edb, had) = (pack("edb-fire.rules.yaml"), pack("had-shelter.rules.yaml"));
    let packed = ["--pack", &edb, "--pack", &had, "--promote", "."];
    let without = campanile(here, &[&words[..], &["--out", "none.drill.yaml"]].concat()).ends(2);
    assert!(without.stderr.contains("--pack") && !here.join("none.drill.yaml").exists(), "{}", without.stderr);
    campanile(here, &[&words[..], &packed[..]].concat()).ends(0);
    let text = std::fs::read_to_string(here.join("town.drill.yaml")).unwrap();
    assert!(text.contains("Exercise") && text.contains("event: fire") && !text.contains('@'), "{text}");
    assert!(!text.contains("officer-1") && !text.contains("headline"), "{text}");
    campanile(here, &["drill", "check", "town.drill.yaml"]).ends(0);
    let played = campanile(here, &["drill", "run", "town.drill.yaml"]);
    assert_eq!(played.code, 0, "{played:?}\n{text}");
    let again = campanile(here, &[&words[..], &packed[..]].concat()).ends(2);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

/// The folder under which a department's node keeps its store.
fn data_folder(town: &Path, department: &str) -> PathBuf {
    let mut open = vec![town.to_path_buf()];
    while let Some(folder) = open.pop() {
        if folder.join("log.db").is_file() && folder.components().any(|part| part.as_os_str() == department) {
            return folder;
        }
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        open.extend(entries.filter(|path| path.is_dir()));
    }
    panic!("no store of {department} under {}", town.display());
}
