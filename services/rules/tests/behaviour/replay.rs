//! T1 to T4 over random runs: the same inputs give the same bytes, every cascade ends, worlds never mix, and nothing
//! stays up without a cause, a person or an end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use campanile_alert::{Alert, AlertId, MessageType, Status, World, classify::classify, vocabulary};
use campanile_rules::{
    Answer, DEPTH_MAX, Engine, Fault, Input, InputKind, Options, Outcome, Pack, Standing, check_federation,
};
use jiff::SignedDuration;
use proptest::prelude::*;

use crate::desk::{Desk, FIRE, Kind, RULE, engine, exercise, fire, id, of, start, update};

/// One thing that may happen.
#[derive(Debug, Clone)]
enum Act {
    Fire { name: u8, level: u32, exercise: bool },
    Update { name: u8, level: u32, exercise: bool },
    Cancel { name: u8, exercise: bool },
    Officer { nth: usize },
    Answer { person: u8, yes: bool },
    Sign,
    Pause,
    Resume,
    Wait { minutes: i64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_u8..4, 1_u32..6, any::<bool>()).prop_map(|(name, level, exercise)| Act::Fire { name, level, exercise }),
        3 => (0_u8..4, 1_u32..6, any::<bool>()).prop_map(|(name, level, exercise)| Act::Update { name, level, exercise }),
        3 => (0_u8..4, any::<bool>()).prop_map(|(name, exercise)| Act::Cancel { name, exercise }),
        1 => (0_usize..4).prop_map(|nth| Act::Officer { nth }),
        3 => (0_u8..3, any::<bool>()).prop_map(|(person, yes)| Act::Answer { person, yes }),
        1 => Just(Act::Sign),
        1 => Just(Act::Pause),
        1 => Just(Act::Resume),
        4 => (1_i64..200).prop_map(|minutes| Act::Wait { minutes }),
    ]
}

/// Plays the acts; gives the desk and, by world, the causes that stand.
fn play(acts: &[Act]) -> Desk {
    let mut desk = Desk::asking(FIRE);
    let mut last: BTreeMap<(u8, bool), Vec<AlertId>> = BTreeMap::new();
    for (index, act) in acts.iter().enumerate() {
        let world = |drill: bool| if drill { exercise() } else { World::Actual };
        let stamp = |mut alert: Alert, drill: bool| {
            alert.status = world(drill).status();
            alert
        };
        match act {
            Act::Fire { name, level, exercise } => {
                let alert = stamp(fire(&format!("f{name}-{index}"), *level, desk.now), *exercise);
                last.insert((*name, *exercise), vec![alert.id()]);
                desk.alert_in("fsd", world(*exercise), &alert);
            }
            Act::Update { name, level, exercise } => {
                let Some(ids) = last.get_mut(&(*name, *exercise)) else { continue };
                let alert = fire(&format!("u{name}-{index}"), *level, desk.now);
                let alert = stamp(update(alert, ids), *exercise);
                ids.push(alert.id());
                desk.alert_in("fsd", world(*exercise), &alert);
            }
            Act::Cancel { name, exercise } => {
                let Some(ids) = last.remove(&(*name, *exercise)) else { continue };
                let mut alert = stamp(update(fire(&format!("c{name}-{index}"), 3, desk.now), &ids), *exercise);
                alert.msg_type = MessageType::Cancel;
                alert.infos.clear();
                desk.alert_in("fsd", world(*exercise), &alert);
            }
            Act::Officer { nth } => {
                let Some(live) = desk.engine.live().get(*nth).cloned() else { continue };
                let mut alert = update(fire(&format!("o-{index}"), 3, desk.now), &[live.message]);
                alert.msg_type = MessageType::Cancel;
                alert.status = live.effect.world.status();
                alert.infos.clear();
                desk.alert_in("edb", live.effect.world, &alert);
            }
            Act::Answer { person, yes } => {
                if !desk.engine.pending().is_empty() {
                    let answer = if *yes { Answer::Approve } else { Answer::Reject };
                    desk.answer(&format!("p-{person}"), "edb.duty-officer", answer);
                }
            }
            Act::Sign => {
                desk.sign(&["p-1", "p-2"]);
            }
            Act::Pause => {
                desk.put(&id("edb"), World::Actual, Kind::Pause(RULE.into(), None));
            }
            Act::Resume => {
                desk.put(&id("edb"), World::Actual, Kind::Resume(RULE.into()));
            }
            Act::Wait { minutes } => desk.wait(*minutes),
        }
    }
    desk
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// T1.
    #[test]
    fn the_same_inputs_give_the_same_bytes_also_from_rows_taken_back_midway(
        acts in proptest::collection::vec(act(), 1..40), cut in 0_usize..40,
    ) {
        let desk = play(&acts);
        let cut = cut.min(desk.journal.len());
        let mut again = engine(FIRE);
        let mut rows = BTreeMap::new();
        let keep = |rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, outcome: &Outcome| {
            for (key, value) in &outcome.state {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        };
        for (stored, outcome) in desk.journal.iter().zip(&desk.outcomes).take(cut) {
            prop_assert_eq!(&again.apply(&stored.input()), outcome);
            keep(&mut rows, outcome);
        }
        let mut restored = engine(FIRE);
        restored.restore(rows.clone()).unwrap();
        let (stored, copy) = (rows.clone().into_iter().collect::<Vec<_>>(), restored.clone());
        prop_assert_eq!(&again.rows(), &stored, "what it remembers is what it asked to store");
        prop_assert_eq!(&restored.rows(), &stored);
        prop_assert_eq!(restored.is_blank(), stored.is_empty());
        prop_assert_eq!(restored.due(), again.due());
        prop_assert_eq!(restored.pending(), again.pending());
        prop_assert_eq!(restored.live(), again.live());
        for (stored, outcome) in desk.journal.iter().zip(&desk.outcomes).skip(cut) {
            prop_assert_eq!(&restored.apply(&stored.input()), outcome);
            keep(&mut rows, outcome);
        }
        prop_assert_eq!(copy.rows(), stored, "a copy is a moment: what came after changed nothing in it");
        prop_assert_eq!(&rows, &desk.rows);
    }

    /// T3.
    #[test]
    fn no_effect_rests_on_a_cause_of_another_world(acts in proptest::collection::vec(act(), 1..40)) {
        let desk = play(&acts);
        let worlds: BTreeMap<[u8; 32], World> = desk.journal.iter().map(|s| (s.hash, s.world.clone())).collect();
        for effect in desk.effects() {
            for cause in &effect.causes {
                prop_assert_eq!(&worlds[&cause.hash], &effect.key.world);
            }
            prop_assert_eq!(effect.alert.status, effect.key.world.status());
            let drill = effect.causes.iter().any(|cause| worlds[&cause.hash] != World::Actual);
            prop_assert!(!drill || effect.alert.status == Status::Exercise);
            prop_assert_eq!(effect.alert.note.is_some(), drill);
        }
    }

    /// T4, and no two messages of one identity.
    #[test]
    fn when_every_cause_is_over_every_effect_is_cancelled_lingers_or_waits_for_a_person(
        acts in proptest::collection::vec(act(), 1..40),
    ) {
        let mut desk = play(&acts);
        let ids: Vec<AlertId> = desk.effects().iter().map(|effect| effect.alert.id()).collect();
        prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        for drill in [false, true] {
            let mut alert = fire("last", 3, desk.now);
            let world = if drill { exercise() } else { World::Actual };
            let all = desk.journal.iter().filter(|s| s.world == world && s.department == id("fsd"));
            let all: Vec<AlertId> = all
                .filter_map(|s| if let Kind::Alert(alert, _) = &s.kind { Some(alert.id()) } else { None })
                .collect();
            alert = update(alert, &all);
            alert.msg_type = MessageType::Cancel;
            alert.status = world.status();
            alert.infos.clear();
            desk.alert_in("fsd", world, &alert);
        }
        for live in desk.engine.live() {
            prop_assert_ne!(live.standing, Standing::Supported);
        }
        prop_assert!(desk.engine.pending().is_empty());
        desk.wait(25 * 60);
        prop_assert!(desk.engine.live().is_empty(), "at `max` nothing is left");
    }

    /// T2: a random graph of rules over four departments, circles included, goes quiet. A chain names each rule once, so
    /// a circle of n rules may send n! messages before it does: six rules are enough to see that, and ten take minutes.
    #[test]
    fn every_cascade_ends_even_where_the_rules_make_a_circle(
        edges in proptest::collection::vec((0_usize..4, 0_usize..5, 0_usize..4), 1..7),
    ) {
        cascade(&edges)?;
    }
}

const DEPARTMENTS: [(&str, &[&str]); 4] = [
    ("edb", &["class-suspension", "stay-in-school", "draft-notice"]),
    ("had", &["shelter-open", "draft-notice"]),
    ("lcsd", &["venue-closed", "venue-open", "draft-notice"]),
    ("sb", &["evacuation"]),
];
const CAUSES: [&str; 5] = ["fire", "class-suspension", "shelter-open", "venue-closed", "draft-notice"];

fn rule_text(owner: &str, number: usize, cause: &str, effect: &str) -> String {
    format!(
        "pack: {owner}-{number}\nowner: {owner}\nvocabulary: alert-v1\ntexts:\n  t:\n    zh-Hant: {{headline: 一, \
         instruction: 二, retract: 三}}\n    en: {{headline: a, instruction: b, retract: c}}\nrules:\n- rule: \
         {owner}.r{number}\n  title: {{en: t, zh-Hant: 題}}\n  source: [{{text: s}}]\n  cause: {{event: {cause}, from: \
         [fsd, edb, had, lcsd, sb]}}\n  then: {{issue: {effect}, severity: Severe, area: cause.area, text: t}}\n  \
         approve: {{need: 0, reason: a test}}\n  until: {{cause: ends, then: cancel, max: 12h}}\n"
    )
}

fn cascade(edges: &[(usize, usize, usize)]) -> Result<(), TestCaseError> {
    let mut engines: Vec<(&str, Engine)> = Vec::new();
    let mut manifests = Vec::new();
    for (number, (department, cause, effect)) in edges.iter().enumerate() {
        let (owner, effects) = DEPARTMENTS[*department];
        let text = rule_text(owner, number, CAUSES[*cause], effects[effect % effects.len()]);
        let (pack, _) = Pack::parse(&text).unwrap_or_else(|refusal| panic!("{refusal}\n{text}"));
        manifests.push(pack.manifest());
        let options = Options { sender: format!("{owner}@campanile.test") };
        // One engine a rule, so that only the run-time guard stands between a circle and an endless cascade.
        if let Ok(engine) = Engine::new(id(owner), vec![pack], BTreeMap::new(), options) {
            engines.push((owner, engine));
        }
    }
    let circle = check_federation(&manifests).iter().any(|fault| matches!(fault, Fault::Cycle(_)));
    let first = fire("f1", 3, start());
    let mut cancel = update(fire("f1c", 3, start()), &[first.id()]);
    cancel.msg_type = MessageType::Cancel;
    let words = classify(&first, vocabulary::v1());
    let mut queue: VecDeque<(String, Alert, campanile_alert::Classification, u32, Vec<String>)> = VecDeque::new();
    let mut messages = 0_u64;
    for alert in [first, cancel] {
        queue.push_back(("fsd".into(), alert, words.clone(), 0, Vec::new()));
        while let Some((department, alert, words, depth, rules)) = queue.pop_front() {
            messages += 1;
            prop_assert!(messages < 2_000, "the cascade does not end (circle: {})", circle);
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&messages.to_be_bytes());
            let input = Input {
                hash,
                origin: format!("{department}/node-1").parse().unwrap(),
                department: id(&department),
                world: World::Actual,
                status: Status::Actual,
                time: start() + SignedDuration::from_secs(1),
                received: start() + SignedDuration::from_secs(1),
                previous_time: None,
                depth,
                rules,
                author: None,
                kind: InputKind::Alert { alert: &alert, classification: &words },
            };
            for (owner, engine) in &mut engines {
                for effect in engine.apply(&input).effects {
                    prop_assert!((1..=DEPTH_MAX).contains(&effect.depth));
                    let distinct: BTreeSet<&String> = effect.rules.iter().collect();
                    prop_assert_eq!(distinct.len(), effect.rules.len(), "a rule stands twice in a chain");
                    let item = (owner.to_string(), effect.alert, effect.classification, effect.depth, effect.rules);
                    queue.push_back(item);
                }
            }
        }
    }
    for (_, engine) in &engines {
        prop_assert!(engine.live().is_empty(), "the root cause is cancelled, and so is everything behind it");
    }
    Ok(())
}

/// Two closures that rest on each other, by two rules each: a chain that lost the rules of a cause which went away let
/// them take each other up again, and the updates had no end.
#[test]
fn a_circle_of_two_effects_with_two_rules_each_goes_quiet() {
    cascade(&[(0, 3, 3), (2, 4, 3), (2, 1, 3), (0, 3, 0), (2, 0, 3)]).unwrap();
}

#[test]
fn a_second_hop_goes_from_a_warning_to_a_shelter_to_a_venue_and_an_engine_refuses_a_circle() {
    let own = |text: &str, owner: &str| {
        let (pack, _) = Pack::parse(text).unwrap();
        let data = pack.data.iter().map(|(name, data)| {
            let path = format!("{}/packs/{}", env!("CARGO_MANIFEST_DIR"), data.file);
            let format = campanile_rules::Format::of_file(&path).unwrap();
            let set = campanile_rules::DataSet::parse(name, format, &std::fs::read(path).unwrap(), &data.rows).unwrap();
            (name.clone(), set)
        });
        let data = data.collect();
        Engine::new(id(owner), vec![pack], data, Options { sender: format!("{owner}@campanile.test") }).unwrap()
    };
    let mut had = own(include_str!("../../packs/had-shelter.rules.yaml"), "had");
    let mut lcsd = own(include_str!("../../packs/lcsd-venue.rules.yaml"), "lcsd");
    let mut desk = Desk::asking(FIRE);
    desk.alert("hko", &crate::desk::other("w1", "weather-signal", Some("TC8NE"), start()));
    had.apply(&desk.journal[0].input());
    assert_eq!(had.pending()[0].targets, ["hv-hall-1", "hv-hall-2"], "a group of signals stands for its members");
    let due = had.due().unwrap();
    let tick = desk.stored(&id("had"), World::Actual, Kind::Tick(due));
    let opened = had.apply(&tick.input()).effects;
    assert_eq!(opened.len(), 2);
    let mut closed = Vec::new();
    for effect in opened {
        let kind = Kind::Alert(Box::new(effect.alert), effect.classification);
        let mut stored = desk.stored(&id("had"), World::Actual, kind);
        stored.time = due;
        stored.received = due;
        stored.depth = effect.depth;
        stored.rules = effect.rules;
        closed.extend(lcsd.apply(&stored.input()).effects);
    }
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].key.target.as_str(), closed[0].depth, closed[0].rules.len()), ("hv-venue-1", 2, 2));

    let packs = [("class-suspension", "draft-notice"), ("draft-notice", "class-suspension")];
    let packs =
        packs.iter().enumerate().map(|(n, (a, b))| Pack::parse(&rule_text("edb", n, a, b)).unwrap().0).collect();
    let refused = Engine::new(id("edb"), packs, BTreeMap::new(), Options { sender: "edb@campanile.test".into() });
    assert!(matches!(refused, Err(campanile_rules::Error::Federation(Fault::Cycle(_)))));
}

/// A cause is known by its first message for as long as it is known at all, and by the last 64 of its messages: whoever
/// refers to one that is forgotten refers to nothing, whether the engine has been restarted since or not.
#[test]
fn a_restart_forgets_the_same_updates_as_time_does() {
    for (named, ends) in [("f-1", false), ("f-16", false), ("f-17", true), ("f-80", true), ("f-0", true)] {
        for restarted in [false, true] {
            let mut desk = Desk::signed();
            let first = fire("f-0", 3, desk.now);
            let mut last = first.id();
            desk.alert("fsd", &first);
            for number in 1..=80 {
                let next = update(fire(&format!("f-{number}"), 3, desk.now), &[last]);
                last = next.id();
                desk.alert("fsd", &next);
            }
            if restarted {
                desk.engine = engine(FIRE);
                desk.engine.restore(desk.rows.clone()).unwrap();
            }
            desk.cancel("fsd", &[of(named, start())]);
            let live = desk.engine.live();
            let over = live.iter().all(|live| matches!(live.standing, Standing::Lingering(_)));
            assert_eq!((live.len(), over), (2, ends), "{named}, restarted: {restarted}");
        }
    }
}
