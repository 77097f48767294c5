//! Tables and sessions keep what the engine promises: order does not matter, rows taken back go on the same, and no
//! exercise becomes real.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{AlertId, MessageType, Status, World};
use campanile_rules::{DataSet, Engine, Format, Options, Pack};
use proptest::prelude::*;

use crate::desk::{Desk, exercise, id, other, update};

const WEATHER: &str = include_str!("../../packs/edb-weather.rules.yaml");
const FREE: &[u8] = include_bytes!("../../packs/hk-free-days-2026.csv");
const SIGNALS: [&str; 7] = ["TC1", "TC3", "TC8NE", "TC10", "WRAINA", "WRAINR", "WRAINB"];

fn engine() -> Engine {
    let (pack, _) = Pack::parse(WEATHER).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let set = DataSet::parse("hk.free-days", Format::Csv, FREE, &pack.data["hk.free-days"].rows).unwrap();
    let options = Options { sender: "edb@campanile.test".into() };
    Engine::new(id("edb"), vec![pack], [("hk.free-days".to_string(), set)].into(), options).unwrap()
}

/// A desk at an hour of Monday, 14 September 2026, in Hong Kong.
fn desk(minute: i64) -> Desk {
    let midnight: jiff::Timestamp = "2026-09-14T00:00:00+08:00".parse().unwrap();
    Desk {
        engine: engine(),
        rows: BTreeMap::new(),
        journal: Vec::new(),
        outcomes: Vec::new(),
        now: midnight + jiff::SignedDuration::from_mins(minute),
        own: id("edb"),
    }
}

/// Hands an alert to the engine, and what follows from it back, as a node does.
fn hand(desk: &mut Desk, department: &str, world: World, alert: &campanile_alert::Alert) {
    let mut waiting = vec![(department.to_string(), world, alert.clone(), 0_u32, Vec::new())];
    while let Some((from, world, alert, depth, rules)) = waiting.pop() {
        let words = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
        let mut stored = desk.stored(&id(&from), world, crate::desk::Kind::Alert(Box::new(alert), words));
        (stored.depth, stored.rules) = (depth, rules);
        for effect in desk.push(stored).effects {
            waiting.push(("edb".into(), effect.key.world, effect.alert, effect.depth, effect.rules));
        }
    }
}

/// What stands at the end: what is in force for which session, for whom, and why.
fn standing(desk: &Desk) -> BTreeSet<(String, String, Vec<String>, Vec<String>)> {
    let live = desk.engine.live().into_iter();
    live.map(|live| {
        let kinds = desk.engine.kinds(&live.effect).unwrap_or_default().into_iter().collect();
        let causes = live.causes.iter().map(|cause| cause.alert.identifier().to_string()).collect();
        (live.effect.effect, live.effect.target, kinds, causes)
    })
    .collect()
}

/// One thing that may happen with one of four warnings.
#[derive(Debug, Clone)]
enum Act {
    Say { name: usize, signal: usize, drill: bool },
    Cancel { name: usize, drill: bool },
    Wait { minutes: i64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0_usize..4, 0..SIGNALS.len(), any::<bool>()).prop_map(|(name, signal, drill)| Act::Say { name, signal, drill }),
        2 => (0_usize..4, any::<bool>()).prop_map(|(name, drill)| Act::Cancel { name, drill }),
        3 => (1_i64..300).prop_map(|minutes| Act::Wait { minutes }),
    ]
}

fn play(acts: &[Act], minute: i64) -> Desk {
    let mut desk = desk(minute);
    let mut up: BTreeMap<(usize, bool), Vec<AlertId>> = BTreeMap::new();
    for (index, act) in acts.iter().enumerate() {
        let world = |drill: bool| if drill { exercise() } else { World::Actual };
        match act {
            Act::Say { name, signal, drill } => {
                let mut alert = other(&format!("w{name}-{index}"), "weather-signal", Some(SIGNALS[*signal]), desk.now);
                let ids = up.entry((*name, *drill)).or_default();
                if !ids.is_empty() {
                    alert = update(alert, ids);
                }
                alert.status = world(*drill).status();
                ids.push(alert.id());
                hand(&mut desk, "hko", world(*drill), &alert);
            }
            Act::Cancel { name, drill } => {
                let Some(ids) = up.remove(&(*name, *drill)) else { continue };
                let mut alert = update(other(&format!("c{name}-{index}"), "weather-signal", None, desk.now), &ids);
                alert.msg_type = MessageType::Cancel;
                alert.status = world(*drill).status();
                alert.infos.clear();
                hand(&mut desk, "hko", world(*drill), &alert);
            }
            Act::Wait { minutes } => desk.wait(*minutes),
        }
    }
    desk
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Warnings that come at one instant leave the same behind in whatever order they come.
    #[test]
    fn the_order_of_arrival_does_not_change_what_stands(
        signals in proptest::collection::vec(0..SIGNALS.len(), 1..5),
        minute in 330_i64..1300,
        turn in 0_usize..24,
    ) {
        let left_behind = |order: &[usize]| {
            let mut desk = desk(minute);
            for index in order {
                let signal = SIGNALS[signals[*index]];
                let alert = other(&format!("w{index}"), "weather-signal", Some(signal), desk.now);
                hand(&mut desk, "hko", World::Actual, &alert);
            }
            standing(&desk)
        };
        let forward: Vec<usize> = (0..signals.len()).collect();
        let mut turned = forward.clone();
        turned.rotate_left(turn % signals.len());
        let backward: Vec<usize> = turned.iter().rev().copied().collect();
        let want = left_behind(&forward);
        prop_assert_eq!(&left_behind(&turned), &want);
        prop_assert_eq!(&left_behind(&backward), &want);
    }

    /// T3: whatever happens, an exercise's cause makes no Actual effect, and none rests on another world's.
    #[test]
    fn no_exercise_cause_makes_an_actual_effect(
        acts in proptest::collection::vec(act(), 1..30), minute in 300_i64..1200,
    ) {
        let desk = play(&acts, minute);
        let worlds: BTreeMap<[u8; 32], World> = desk.journal.iter().map(|s| (s.hash, s.world.clone())).collect();
        for effect in desk.effects() {
            for cause in &effect.causes {
                prop_assert_eq!(&worlds[&cause.hash], &effect.key.world);
            }
            let drill = effect.key.world != World::Actual;
            prop_assert_eq!(effect.alert.status, if drill { Status::Exercise } else { Status::Actual });
        }
    }

    /// T1: rows taken back at any moment go on with the same bytes.
    #[test]
    fn rows_taken_back_midway_go_on_the_same(
        acts in proptest::collection::vec(act(), 1..30), minute in 300_i64..1200, cut in 0_usize..40,
    ) {
        let desk = play(&acts, minute);
        let cut = cut.min(desk.journal.len());
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for outcome in desk.outcomes.iter().take(cut) {
            for (key, value) in &outcome.state {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        let mut restored = engine();
        restored.restore(rows).unwrap();
        for (stored, outcome) in desk.journal.iter().zip(&desk.outcomes).skip(cut) {
            prop_assert_eq!(&restored.apply(&stored.input()), outcome);
        }
        prop_assert_eq!(restored.live(), desk.engine.live());
    }

    /// Nothing stays beyond the end of its session, and no two contradicting orders stand for one session and all.
    #[test]
    fn what_contradicts_never_stands_together_and_nothing_outlives_its_session(
        acts in proptest::collection::vec(act(), 1..30), minute in 300_i64..1200,
    ) {
        let desk = play(&acts, minute);
        let live = desk.engine.live();
        for one in &live {
            prop_assert!(one.until >= desk.now, "{} until {}", one.effect, one.until);
        }
        let both = contradicting(&desk);
        prop_assert!(both.is_empty(), "{:?}", both);
    }
}

/// The full suspensions beside which pupils are told to stay in school.
fn contradicting(desk: &Desk) -> Vec<String> {
    let live = desk.engine.live();
    let stays = |world: &World, target: &str| {
        live.iter().map(|live| &live.effect).any(|other| {
            (&other.world, other.target.as_str(), other.effect.as_str()) == (world, target, "stay-in-school")
        })
    };
    let full = live.iter().map(|live| &live.effect).filter(|effect| {
        effect.effect == "class-suspension" && desk.engine.kinds(effect).unwrap_or_default().contains("all")
    });
    full.filter(|effect| stays(&effect.world, &effect.target)).map(ToString::to_string).collect()
}

/// From 10:30 the suspension of the afternoon stands to the end of the session, whatever replaces its signal.
#[test]
fn nobody_is_told_to_stay_in_a_school_whose_suspension_is_latched() {
    let acts = [
        Act::Say { name: 3, signal: 2, drill: false },
        Act::Wait { minutes: 170 },
        Act::Say { name: 3, signal: 5, drill: false },
    ];
    let desk = play(&acts, 610);
    let of_the_afternoon = desk.engine.live().into_iter().filter(|live| live.effect.target.ends_with("/pm"));
    let issued: Vec<String> = of_the_afternoon.map(|live| live.effect.effect).collect();
    assert_eq!(issued, ["class-suspension"]);
    assert!(contradicting(&desk).is_empty());
}

#[test]
fn a_correction_is_ready_for_every_effect_and_says_what_retracts_it() {
    let mut desk = desk(7 * 60);
    let alert = other("r1", "weather-signal", Some("WRAINR"), desk.now);
    hand(&mut desk, "hko", World::Actual, &alert);
    let live = desk.engine.live();
    assert_eq!(live.len(), 4);
    for one in live {
        let correction = desk.engine.correction(&one.message, desk.now).unwrap();
        assert_eq!(correction.msg_type, MessageType::Cancel);
        assert_eq!(correction.referenced(), std::slice::from_ref(&one.message));
        let headlines: Vec<&str> = correction.infos.iter().filter_map(|info| info.headline.as_deref()).collect();
        assert!(headlines.iter().any(|text| text.contains("如常上課")), "{headlines:?}");
        assert!(headlines.iter().any(|text| text.starts_with("Classes are held")), "{headlines:?}");
    }
}

/// Whoever receives an effect derives its event and sites from its codes, and counts it only if the record says the same.
#[test]
fn an_effect_is_classified_as_its_codes_say_and_names_its_session() {
    let mut desk = desk(7 * 60);
    let alert = other("r1", "weather-signal", Some("WRAINR"), desk.now);
    hand(&mut desk, "hko", World::Actual, &alert);
    let end = update(other("r2", "weather-signal", None, desk.now), &[alert.id()]);
    hand(
        &mut desk,
        "hko",
        World::Actual,
        &campanile_alert::Alert { msg_type: MessageType::Cancel, infos: vec![], ..end },
    );
    let effects = desk.effects();
    assert!(effects.iter().any(|effect| effect.alert.msg_type == MessageType::Cancel));
    for effect in effects {
        let said = campanile_alert::classify::classify(&effect.alert, campanile_alert::vocabulary::v1());
        assert_eq!(said, effect.classification, "{}", effect.key);
        assert_eq!(effect.alert.infos[0].parameter("campanile:session"), Some(effect.key.target.as_str()));
    }
}

#[test]
fn parts_of_a_message_say_when_a_channel_may_send_them() {
    let mut desk = desk(7 * 60);
    let alert = other("r1", "weather-signal", Some("WRAINR"), desk.now);
    hand(&mut desk, "hko", World::Actual, &alert);
    let effects = desk.effects();
    let parameters = &effects[0].alert.infos[0].parameters;
    let value = |name: &str| parameters.iter().find(|pair| pair.value_name == name).map(|pair| pair.value.as_str());
    assert_eq!(value("campanile:not-after"), Some("2026-09-14T23:00:00+08:00"));
    assert_eq!(value("campanile:valid-while"), Some("cause live"));
    assert_eq!(value("campanile:repeat-every-seconds"), Some("900"));
    assert!(value("campanile:speech:yue").is_some_and(|speech| speech.contains("停課")), "{parameters:?}");
}
