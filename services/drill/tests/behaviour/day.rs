//! A busy day in one process.

use std::collections::BTreeMap;

use campanile_drill::world::day;
use campanile_drill::{Bench, What, play};

use crate::shipped;

#[test]
fn a_day_of_twelve_departments_and_a_thousand_alerts_is_played_whole() {
    let pack = |name: &str| vec![format!("../../services/rules/packs/{name}.rules.yaml")];
    let weather = [pack("edb-fire"), pack("edb-weather")].concat();
    let packs = [("edb", weather), ("had", pack("had-shelter")), ("lcsd", pack("lcsd-venue"))];
    let more = [("swd", pack("swd-centres")), ("ha", pack("ha-clinics")), ("ld", pack("ld-heat"))];
    let packs: BTreeMap<String, Vec<String>> =
        packs.into_iter().chain(more).map(|(name, packs)| (name.to_string(), packs)).collect();
    let scenario = day(&packs).unwrap();
    assert_eq!(scenario.cast.nodes.len(), 12);
    let bench = Bench::load(&scenario.cast.nodes, &shipped::read).unwrap();
    let played = play(&scenario, &bench, 12).unwrap();
    let records = played.transcript.events.iter().filter(|event| matches!(event.what, What::Record(_))).count();
    let digests: Vec<&What> = played
        .transcript
        .events
        .iter()
        .map(|event| &event.what)
        .filter(|what| matches!(what, What::Digest { .. }))
        .collect();
    assert!(played.verdict.passed && records > 1_000, "{records} records");
    assert_eq!(digests.len(), 12);
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "all nodes hold the same");
}
