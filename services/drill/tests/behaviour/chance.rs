//! Chance: one seed gives one run, and whatever comes, nothing leaves a drill.

use std::collections::BTreeMap;

use campanile_alert::Status;
use campanile_drill::scenario::{
    Act, Delay, Fault, Inject, Node, NodeKind, Occasion, Partition, Percent, Player, Reaction, Share, Skew, Via,
};
use campanile_drill::{Bench, Length, Offset, Scenario, What, play, play_all};
use campanile_rules::short::ShortAlert;
use proptest::prelude::*;

use crate::shipped;

/// The seeds of a test: fifty, or those that `CAMPANILE_SEEDS=FROM..TO` names.
fn seeds() -> std::ops::Range<u64> {
    let named = std::env::var("CAMPANILE_SEEDS").ok();
    let named = named.and_then(|seeds| seeds.split_once("..").map(|(from, to)| (from.parse(), to.parse())));
    match named {
        Some((Ok(from), Ok(to))) => from..to,
        _ => 0..50,
    }
}

#[test]
fn fifty_seeds_played_twice_give_the_same_bytes_and_the_same_verdict() {
    let (_, scenario) = shipped::all().into_iter().find(|(name, _)| name.starts_with("harbour-view")).unwrap();
    let bench = shipped::bench(&scenario);
    let mut different = std::collections::BTreeSet::new();
    for seed in seeds() {
        let runs = [(); 2].map(|()| play(&scenario, &bench, seed).unwrap());
        let [one, two] = runs.map(|played| (played.transcript.bytes(), played.verdict.bytes()));
        assert!(one == two, "seed {seed} gives two runs");
        different.insert(one.0);
    }
    assert_eq!(different.len(), seeds().count(), "each seed is a run of its own");
}

#[test]
fn every_shipped_scenario_holds_under_other_seeds_and_is_the_same_each_time() {
    for (name, scenario) in shipped::all() {
        let bench = shipped::bench(&scenario);
        for seed in [1, 7, 1_000_003] {
            let runs = [(); 2].map(|()| play_all(&scenario, &bench, &shipped::read, seed).unwrap());
            let [one, two] = runs.map(|played| (played.transcript.bytes(), played.verdict.bytes()));
            assert!(one == two, "{name}: seed {seed} gives two runs");
            let played = play_all(&scenario, &bench, &shipped::read, seed).unwrap();
            assert!(played.verdict.holds(), "{name} does not hold with seed {seed}");
        }
    }
}

/// An alert of the kinds that the shipped packs wait for.
fn alert() -> impl Strategy<Value = (String, ShortAlert)> {
    let signal = prop::sample::select(vec!["TC3", "TC8NE", "TC10", "WRAINR", "WRAINB", "WL"]);
    let weather = signal.prop_map(|signal| {
        let words =
            ShortAlert { event: Some("weather-signal".into()), signal: Some(signal.into()), ..ShortAlert::default() };
        ("hko".to_string(), words)
    });
    let fire = (1_u32..=5, 0..40_i32, 0..40_i32).prop_map(|(level, north, east)| {
        let words = ShortAlert {
            event: Some("fire".into()),
            level: Some(level),
            point: Some([22.28 + f64::from(north) / 1000.0, 114.08 + f64::from(east) / 1000.0]),
            ..ShortAlert::default()
        };
        ("fsd".to_string(), words)
    });
    let test = prop::bool::weighted(0.2);
    (prop_oneof![weather, fire], test).prop_map(|((from, mut words), test)| {
        words.status = test.then(|| "Test".into());
        (from, words)
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    let node = || prop::sample::select(vec!["hko", "fsd", "edb", "had", "lcsd", "isd"]).prop_map(String::from);
    let nodes = || prop::collection::vec(node(), 1..3);
    let kind = prop_oneof![
        nodes()
            .prop_map(|cut| Fault { partition: Some(Partition { cut, ..Partition::default() }), ..Fault::default() }),
        (nodes(), 0..60_000_i64).prop_map(|(nodes, by)| Fault {
            delay: Some(Delay { nodes, by: Length::from_ms(by), jitter: Some(Length::from_ms(by)) }),
            ..Fault::default()
        }),
        (nodes(), 0..90_u32).prop_map(|(nodes, share)| Fault {
            loss: Some(Share { nodes, share: Percent(share) }),
            ..Fault::default()
        }),
        (nodes(), 0..100_u32).prop_map(|(nodes, share)| Fault {
            reorder: Some(Share { nodes, share: Percent(share) }),
            ..Fault::default()
        }),
        (node(), -120_000..120_000_i64).prop_map(|(node, by)| Fault {
            clock_skew: Some(Skew { node, by: Length::from_ms(by) }),
            ..Fault::default()
        }),
        node().prop_map(|node| Fault { crash: Some(node), ..Fault::default() }),
        node().prop_map(|node| Fault { disk_full: Some(node), ..Fault::default() }),
    ];
    (kind, 0..7_200_i64, 1..3_600_i64).prop_map(|(fault, at, lasts)| Fault {
        at: Offset::from_ms(at * 1000),
        lasts: Some(Length::from_ms(lasts * 1000)),
        ..fault
    })
}

/// A drill of random alerts, updates, cancels, answers and faults over the shipped packs.
fn drill() -> impl Strategy<Value = (Scenario, u64)> {
    let inject = (alert(), 0..7_200_i64, 0..3_u8, any::<prop::sample::Index>());
    let answers = prop::collection::vec((0..900_i64, any::<bool>()), 4);
    (prop::collection::vec(inject, 1..12), prop::collection::vec(fault(), 0..4), answers, any::<u64>()).prop_map(
        |(alerts, faults, answers, seed)| {
            let (_, mut scenario) =
                shipped::all().into_iter().find(|(name, _)| name.starts_with("harbour-view")).unwrap();
            let mut injects: Vec<Inject> = Vec::new();
            for (number, ((from, words), at, kind, before)) in alerts.into_iter().enumerate() {
                let own: Vec<String> = injects
                    .iter()
                    .filter(|i| i.from.as_ref() == Some(&from) && i.cancels.is_none())
                    .map(|i| i.id.clone())
                    .collect();
                let follows = (kind > 0 && !own.is_empty()).then(|| own[before.index(own.len())].clone());
                injects.push(Inject {
                    at: Some(Offset::from_ms(at * 1000)),
                    id: format!("r{number}"),
                    via: Via::Alert,
                    from: Some(from),
                    alert: (kind < 2 || follows.is_none()).then_some(words),
                    updates: follows.clone().filter(|_| kind == 1),
                    cancels: follows.filter(|_| kind == 2),
                    ..Inject::default()
                });
            }
            scenario.injects = injects;
            scenario.faults = faults;
            scenario.variants.clear();
            scenario.clock.end = Some(Offset::from_ms(4 * 3600 * 1000));
            scenario.cast.nodes.insert("isd".into(), Node::Kind(NodeKind::Gateway));
            let roles = ["edb.duty-officer", "edb.regional-officer", "edb.directorate", "had.ecc-duty"];
            scenario.cast.players = roles
                .into_iter()
                .zip(answers)
                .map(|(role, (after, yes))| {
                    let act = if yes { Act::Approve } else { Act::Reject };
                    let after = Length::from_ms(after * 1000);
                    let one = |on, act| Reaction {
                        on,
                        rule: None,
                        effect: None,
                        inject: None,
                        after,
                        jitter: None,
                        act,
                        play: None,
                    };
                    let script = vec![one(Occasion::Pending, act), one(Occasion::Review, Act::End)];
                    (role.to_string(), Player { script, person: None })
                })
                .collect::<BTreeMap<_, _>>();
            (scenario, seed)
        },
    )
}

/// Half of the envelopes are signed, so that effects come with and without persons.
fn bench(scenario: &Scenario, signed: bool) -> Bench {
    let mut nodes = scenario.cast.nodes.clone();
    if let (Some(Node::Engine(edb)), true) = (nodes.get_mut("edb"), signed) {
        edb.envelopes = vec!["edb.school-closure.fire".into()];
    }
    Bench::load(&nodes, &shipped::read).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn t3_nothing_leaves_a_drill_whatever_is_played((scenario, seed) in drill(), signed in any::<bool>()) {
        let played = play(&scenario, &bench(&scenario, signed), seed).unwrap();
        let mut status: BTreeMap<&str, Status> = BTreeMap::new();
        for event in &played.transcript.events {
            match &event.what {
                What::Record(record) => {
                    let own = record.status.unwrap();
                    prop_assert!(own != Status::Actual, "{record:?} became real");
                    prop_assert!(own != Status::Exercise || record.exercise.is_some());
                    for cause in &record.causes {
                        prop_assert_eq!(status.get(cause.as_str()), Some(&Status::Exercise), "a cause of another world");
                    }
                    status.insert(&record.id, own);
                }
                What::Notice(notice) => {
                    prop_assert!(notice.sink && notice.marked, "{notice:?} reached a real provider, or unmarked");
                    prop_assert_eq!(status.get(notice.record.as_str()), Some(&Status::Exercise));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn faults_of_one_kind_that_overlap_last_until_the_last_of_them_ends() {
    let (_, mut scenario) = shipped::all().into_iter().find(|(name, _)| name.starts_with("harbour-view")).unwrap();
    let fault = |at: i64, lasts: i64| Fault {
        at: Offset::from_ms(at * 60_000),
        lasts: Some(Length::from_ms(lasts * 60_000)),
        ..Fault::default()
    };
    let crash = |at, lasts| Fault { crash: Some("edb".into()), ..fault(at, lasts) };
    let full = |at, lasts| Fault { disk_full: Some("had".into()), ..fault(at, lasts) };
    scenario.faults = vec![crash(1, 5), crash(2, 8), crash(3, 1), full(1, 5), full(2, 8)];
    let played = play(&scenario, &shipped::bench(&scenario), 1).unwrap();
    let seen = |node: &str, wanted: fn(&What) -> bool| -> Vec<i64> {
        let events = played.transcript.events.iter();
        let own = events.filter(|event| event.node.as_ref().is_some_and(|own| own.as_str() == node));
        own.filter(|event| wanted(&event.what)).map(|event| event.at.ms() / 1_000).collect()
    };
    assert_eq!(seen("edb", |what| *what == What::Down), [60]);
    assert_eq!(seen("edb", |what| *what == What::Up), [600]);
    let stored = seen("had", |what| matches!(what, What::Seen { .. }));
    assert!(stored.iter().all(|at| !(60..600).contains(at)), "a full disk took something: {stored:?}");
    assert!(stored.iter().any(|at| *at >= 600), "it never came back: {stored:?}");
}
