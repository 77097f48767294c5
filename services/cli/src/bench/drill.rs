//! A drill in virtual time: a day of twelve departments and a thousand alerts, signatures left out.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use campanile_drill::world::day;
use campanile_drill::{Bench, play};
use serde_json::json;

macro_rules! packs {
    ($($name:literal),+ $(,)?) => {
        /// The shipped packs, with the data beside them.
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../rules/packs/", $name)))),+];
    };
}

packs!(
    "edb-fire.rules.yaml",
    "edb-weather.rules.yaml",
    "had-shelter.rules.yaml",
    "lcsd-venue.rules.yaml",
    "swd-centres.rules.yaml",
    "ha-clinics.rules.yaml",
    "ld-heat.rules.yaml",
    "harbour-view-sites.json",
    "harbour-view-shelters.json",
    "harbour-view-venues.json",
    "hk-free-days-2026.csv",
);

/// Who evaluates which packs.
const ENGINES: [(&str, &[&str]); 6] = [
    ("edb", &["edb-fire.rules.yaml", "edb-weather.rules.yaml"]),
    ("had", &["had-shelter.rules.yaml"]),
    ("lcsd", &["lcsd-venue.rules.yaml"]),
    ("swd", &["swd-centres.rules.yaml"]),
    ("ha", &["ha-clinics.rules.yaml"]),
    ("ld", &["ld-heat.rules.yaml"]),
];

/// Plays the day once; the figures go under `drill`.
///
/// # Errors
/// When a shipped pack is refused, or the day is not played whole.
pub(super) fn measure() -> Result<serde_json::Value> {
    let own = |packs: &[&str]| packs.iter().map(|pack| (*pack).to_owned()).collect::<Vec<_>>();
    let engines: BTreeMap<String, Vec<String>> =
        ENGINES.iter().map(|(department, packs)| ((*department).to_owned(), own(packs))).collect();
    let scenario = day(&engines).context("failed to make the day")?;
    let read = |name: &str| FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| text.as_bytes().to_vec());
    let bench = Bench::load(&scenario.cast.nodes, &read).map_err(|wrong| anyhow!(wrong.join("; ")))?;
    let began = Instant::now();
    let played = play(&scenario, &bench, scenario.clock.seed).context("failed to play the day")?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(played.verdict.passed, "the day was not played whole");
    let (departments, alerts) = (scenario.cast.nodes.len(), scenario.injects.len());
    Ok(json!({
        "hours": 24,
        "departments": departments,
        "alerts": alerts,
        "events": played.transcript.events.len(),
        "seconds": seconds,
    }))
}
