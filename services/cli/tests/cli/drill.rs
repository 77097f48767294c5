//! The verbs of drill controllers; the guide's own commands are run as they stand there.

use std::path::{Path, PathBuf};

use super::campanile;
use super::rules::follow;

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios")
}

#[test]
fn the_guide_for_controllers_leads_from_an_empty_file_to_a_verdict_as_it_stands() {
    let guide = include_str!("../../../drill/README.md");
    let folder = tempfile::tempdir().unwrap();
    let ran = follow(guide, folder.path());
    assert!(ran >= 7, "{ran} commands");
    let kept = std::fs::read_to_string(folder.path().join("lib26/transcript.jsonl")).unwrap();
    assert!(kept.lines().count() > 20, "{kept}");
    let refused = campanile(folder.path(), &["drill", "check", "slip.drill.yaml"]).ends(1);
    for line in refused.stdout.lines().take(6) {
        assert!(guide.contains(line), "the guide does not show {line:?}");
    }
}

#[test]
fn the_shipped_drills_pass_and_give_the_same_bytes_each_time() {
    let folder = scenarios();
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".drill.yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 9, "{files:?}");
    let checked =
        campanile(&folder, &[&["drill", "check"][..], &files.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let checked = checked.ends(0);
    assert!(checked.stdout.ends_with("0 errors, 0 warnings\n"), "{}", checked.stdout);
    for file in &files {
        let one = campanile(&folder, &["--json", "drill", "run", file]).ends(0);
        let two = campanile(&folder, &["--json", "drill", "run", file]).ends(0);
        assert_eq!(one.stdout, two.stdout, "{file}");
        assert!(!one.json()["variants"].as_array().unwrap().is_empty(), "{file}");
    }
}

#[test]
fn a_drill_that_fails_or_a_variant_that_does_not_ends_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(scenarios().join("test-taken-for-real.drill.yaml")).unwrap();
    let packs = folder.path().join("packs");
    std::fs::create_dir(&packs).unwrap();
    let pack = "packs/swd-follow.rules.yaml";
    std::fs::copy(scenarios().join(pack), folder.path().join(pack)).unwrap();
    let play = |text: &str| {
        std::fs::write(folder.path().join("d.drill.yaml"), text).unwrap();
        campanile(folder.path(), &["drill", "run", "d.drill.yaml"])
    };
    assert!(play(&text).ends(0).stdout.contains("passed: 100 % of the score"));
    let failing = play(&text.replace("chain: [x1]", "chain: [t1]")).ends(1);
    assert!(failing.stdout.contains("MISSED") && failing.stdout.contains("FAILED:"), "{}", failing.stdout);
    let toothless = play(&text.replace("{fails: [test, drill, safe]}", "{fails: [safe]}")).ends(1);
    assert!(toothless.stdout.contains("NOT as written"), "{}", toothless.stdout);
    let refused = play(&text.replace("objective: test, none", "objective: tset, none")).ends(1);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("nothing was started"), "{refused:?}");
}
