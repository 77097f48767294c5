//! A busy day, for measuring: twelve departments, a thousand alerts, twenty-four hours.

use std::collections::BTreeMap;

use campanile_alert::{DateTime, ExerciseId, Status, ids};
use campanile_rules::short::ShortAlert;

use crate::scenario::{
    Cast, ClockPlan, CountClaim, Deadline, EngineNode, Expect, Inject, Mode, Node, NodeKind, Objective, Pace, Scenario,
    Score, TextOrWords, Via, Words,
};
use crate::time::{Length, Offset};

/// How many alerts the day has.
const ALERTS: u32 = 1_000;

/// The length of the day.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The departments that only speak, and what they say.
const SPEAKERS: [(&str, &str); 5] =
    [("hko", "weather-signal"), ("fsd", "fire"), ("dsd", "flood"), ("cedd", "landslip"), ("emsd", "gas-leak")];

/// A drill of twelve departments and a thousand alerts over a day: five departments speak, six evaluate the packs given
/// (by department, with the paths of their packs), one is a gateway.
///
/// # Errors
/// When a name is not well formed, which is a mistake in this function.
pub fn day(packs: &BTreeMap<String, Vec<String>>) -> Result<Scenario, ids::Error> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    nodes.extend(SPEAKERS.map(|(department, _)| (department.to_string(), Node::Kind(NodeKind::Script))));
    nodes.extend(packs.iter().map(|(department, engine)| {
        let engine = EngineNode { engine: engine.clone(), ..EngineNode::default() };
        (department.clone(), Node::Engine(engine))
    }));
    nodes.insert("isd".into(), Node::Kind(NodeKind::Gateway));
    let spare = ["td", "hkpf", "rfs", "sb", "hyd", "ld", "wsd"];
    for department in spare {
        if nodes.len() < 12 {
            nodes.entry(department.into()).or_insert(Node::Kind(NodeKind::Script));
        }
    }
    let signals = ["TC3", "TC8NE", "WRAINA", "WRAINR", "WRAINB", "WL"];
    let injects = (0..ALERTS).map(|number| {
        let index = number as usize;
        let (from, event) = SPEAKERS[index % SPEAKERS.len()];
        let round = index / SPEAKERS.len();
        let north = f64::from(number % 40) / 1000.0;
        let east = f64::from(number / 40 % 40) / 1000.0;
        let words = ShortAlert {
            event: Some(event.into()),
            signal: (event == "weather-signal").then(|| signals[round % signals.len()].into()),
            level: (event == "fire").then_some(1 + number % 5),
            severity: Some(if number % 4 == 0 { "Severe" } else { "Minor" }.into()),
            point: (event != "weather-signal").then_some([22.28 + north, 114.08 + east]),
            expires: Some("1h".into()),
            ..ShortAlert::default()
        };
        Inject {
            at: Some(Offset::from_ms(DAY_MS * i64::from(number) / i64::from(ALERTS))),
            id: format!("a{number}"),
            via: Via::Alert,
            from: Some(from.into()),
            alert: Some(words),
            ..Inject::default()
        }
    });
    let words = |text: &str| Words { en: text.into(), zh_hant: text.into() };
    let count = CountClaim { at_least: Some(u64::from(ALERTS)), ..CountClaim::default() };
    let objective =
        Objective { text: TextOrWords::Text("all is said".into()), capability: None, weight: 1, must: true };
    Ok(Scenario {
        drill: "a-day".into(),
        title: words("A day"),
        objectives: BTreeMap::from([("all".to_string(), objective)]),
        mode: Mode {
            status: Status::Exercise,
            exercise_id: ExerciseId::try_new("DAY")?,
            marker: Words { en: "EXERCISE".into(), zh_hant: "演習".into() },
        },
        clock: ClockPlan {
            start: DateTime::from_instant(
                campanile_alert::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(496_800),
                480,
            ),
            run: Pace::Virtual,
            end: Some(Offset::from_ms(DAY_MS) + Length::from_ms(60_000)),
            pause_on: Vec::new(),
            seed: 12,
        },
        cast: Cast { nodes, ..Cast::default() },
        guards: Vec::new(),
        injects: injects.collect(),
        faults: Vec::new(),
        expect: vec![Expect {
            by: Some(Deadline::End),
            objective: Some("all".into()),
            count: Some(count),
            ..Expect::default()
        }],
        score: Score::default(),
        variants: Vec::new(),
        after: None,
    })
}
