//! The shipped scenarios: each passes, and each of its variants fails exactly as written.

use std::path::{Path, PathBuf};

use campanile_drill::verdict::Outcome;
use campanile_drill::{Bench, Played, Scenario, play_all};

/// The folder of the shipped scenarios.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios")
}

pub(crate) fn read(file: &str) -> Option<Vec<u8>> {
    std::fs::read(folder().join(file)).ok()
}

/// The shipped scenarios by file name.
pub(crate) fn all() -> Vec<(String, Scenario)> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".drill.yaml"))
        .collect();
    names.sort();
    let one = |name: String| {
        let text = String::from_utf8(read(&name).unwrap()).unwrap();
        let parsed = Scenario::parse(&text);
        let scenario = parsed.unwrap_or_else(|refusal| {
            panic!("{}", refusal.0.iter().map(|found| found.render(&name, &text)).collect::<String>())
        });
        (name, scenario.0)
    };
    names.into_iter().map(one).collect()
}

pub(crate) fn bench(scenario: &Scenario) -> Bench {
    Bench::load(&scenario.cast.nodes, &read).unwrap()
}

/// What is not as it should be, for a person to read.
fn shown(played: &Played) -> String {
    let mut text = String::new();
    for item in &played.verdict.items {
        text += &format!("  {:?} {} [{}] {:?} {}\n", item.outcome, item.id, item.expected, item.at(), item.why);
    }
    for variant in &played.verdict.variants {
        text += &format!(
            "  variant {} as written: {} {} (missed {:?})\n",
            variant.name, variant.as_written, variant.why, variant.missed
        );
    }
    text
}

#[test]
fn every_shipped_scenario_passes_in_full_and_each_variant_fails_exactly_as_written() {
    let mut wrong = String::new();
    for (name, scenario) in all() {
        let played = play_all(&scenario, &bench(&scenario), &read, scenario.clock.seed).unwrap();
        let short = |outcome: Outcome| !matches!(outcome, Outcome::Met | Outcome::ToBeJudged);
        let whole = played.verdict.holds() && !played.verdict.items.iter().any(|item| short(item.outcome));
        if !whole || scenario.variants.is_empty() {
            wrong += &format!("{name}: score {}\n{}", played.verdict.score, shown(&played));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
