//! A window of logs made into a scenario: it checks, plays to the same decisions, and holds nothing about persons.

use std::collections::BTreeMap;

use campanile_alert::vocabulary::v1;
use campanile_alert::{
    AlertId, DateTime, DepartmentId, ExerciseId, Info, MessageType, Status, Timestamp, classify::classify,
};
use campanile_drill::record::{Error, Kept, Logged, Plan, record};
use campanile_drill::scenario::{Node, Via};
use campanile_drill::transcript::Answered;
use campanile_drill::{Bench, Scenario, What, play_all};
use campanile_rules::short::{Frame, ShortAlert};

use crate::shipped;

/// The logs that a run of a shipped scenario would have left at real nodes, with persons in every text.
fn logs(scenario: &Scenario) -> Vec<Logged> {
    let played = play_all(scenario, &shipped::bench(scenario), &shipped::read, scenario.clock.seed).unwrap();
    let (mut logs, mut words, mut ids) = (Vec::new(), BTreeMap::<String, ShortAlert>::new(), BTreeMap::new());
    let mut rules = BTreeMap::new();
    for event in &played.transcript.events {
        let at = event.at.on(scenario.clock.start.instant());
        let what = match &event.what {
            What::Record(record) => match (&record.rule, &record.inject, record.msg_type) {
                (Some(rule), _, Some(msg_type)) => Kept::Issued {
                    rule: rule.clone(),
                    target: record.target.clone().unwrap_or_default(),
                    event: record.event.clone().unwrap_or_default(),
                    msg_type,
                },
                (None, Some(inject), Some(msg_type)) => {
                    let planned = scenario.injects.iter().find(|one| one.id == *inject).unwrap();
                    let first = planned.updates.as_ref().or(planned.cancels.as_ref()).unwrap_or(inject).clone();
                    let own = planned.alert.clone().unwrap_or_default();
                    let own = words.get(&first).map_or(own.clone(), |old| own.over(old));
                    words.insert(first.clone(), own.clone());
                    let of: Vec<AlertId> = ids.get(&first).cloned().into_iter().collect();
                    let frame = Frame {
                        identifier: record.id.clone().replace([',', ' '], "-"),
                        sender: "duty.telephone@example.test".into(),
                        status: Status::Actual,
                        msg_type,
                        sent: at,
                        of: if msg_type == MessageType::Alert { &[] } else { &of },
                    };
                    let mut alert = own.to_cap(frame).unwrap();
                    for info in &mut alert.infos {
                        secret(info);
                    }
                    ids.insert(first, alert.id());
                    let classification = classify(&alert, v1());
                    Kept::Published(Box::new(alert), classification)
                }
                _ => continue,
            },
            What::Asked(asked) => {
                rules.insert(asked.pending.clone(), asked.rule.clone());
                continue;
            }
            What::Answered { pending, person, answer } => Kept::Answered {
                rule: rules[pending].clone(),
                role: person.clone(),
                approve: *answer == Answered::Approve,
            },
            _ => continue,
        };
        logs.push(Logged { at, from: event.node.clone().unwrap(), what });
    }
    logs
}

fn secret(info: &mut Info) {
    let text = || Some("SECRET call 5555 1234".to_owned());
    (info.headline, info.description, info.instruction) = (text(), text(), text());
    (info.contact, info.sender_name, info.audience) = (text(), text(), text());
    info.areas.iter_mut().for_each(|area| area.description = "SECRET flat 12B".into());
}

fn plan(scenario: &Scenario) -> Plan {
    let packs = scenario.cast.nodes.iter().filter_map(|(node, is)| match is {
        Node::Engine(engine) => Some((node.clone(), engine.engine.clone())),
        Node::Kind(_) => None,
    });
    let start = scenario.clock.start.clone();
    Plan {
        drill: "recorded".into(),
        exercise: ExerciseId::try_new("R1").unwrap(),
        end: scenario.end().on(start.instant()),
        start,
        packs: packs.collect(),
        envelopes: BTreeMap::new(),
    }
}

fn shipped(name: &str) -> Scenario {
    shipped::all().into_iter().find(|(file, _)| file == name).unwrap().1
}

#[test]
fn what_was_recorded_checks_plays_to_the_same_decisions_and_fails_when_its_cause_is_gone() {
    for name in ["black-rain.drill.yaml", "typhoon.drill.yaml"] {
        let (scenario, logs) = (shipped(name), logs(&shipped(name)));
        let recorded = record(&logs, &plan(&scenario)).unwrap();
        let yaml = recorded.scenario.to_yaml().unwrap();
        assert!(!yaml.contains("SECRET") && !yaml.contains("5555") && !yaml.contains('@'), "{yaml}");
        let (again, found) = Scenario::parse(&yaml).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}\n{yaml}"));
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(again.mode.status, Status::Exercise);
        let sent = again.expect.iter().filter(|one| one.sent.is_some()).count();
        assert!(sent > 0, "{name} has effects");
        let bench = Bench::load(&again.cast.nodes, &shipped::read).unwrap();
        let played = play_all(&again, &bench, &shipped::read, 1).unwrap();
        assert!(played.verdict.holds(), "{name}: {:#?}\n{yaml}", played.verdict.items);

        let mut without = again.clone();
        without.injects.retain(|one| one.via == Via::Approval);
        without.variants.clear();
        let played = play_all(&without, &bench, &shipped::read, 1).unwrap();
        assert!(!played.verdict.passed, "{name}: the effects come without their causes");
    }
}

#[test]
fn what_came_before_the_window_or_means_nothing_is_left_out_and_counted() {
    let scenario = shipped("black-rain.drill.yaml");
    let mut all = logs(&scenario);
    let end = plan(&scenario).end;
    let later = |at: Timestamp| DateTime::from_instant(at, 480);
    let first = all.iter().position(|one| matches!(one.what, Kept::Published(..))).unwrap();
    if let Kept::Published(_, classification) = &mut all[first].what {
        classification.event = None;
    }
    let recorded = record(&all, &plan(&scenario)).unwrap();
    assert_eq!(recorded.unclassified, 1);
    let nothing = Plan { start: later(end), end: end + jiff::SignedDuration::from_hours(1), ..plan(&scenario) };
    assert_eq!(record(&all, &nothing).unwrap_err(), Error::Empty);
    let long = Plan { end: end + jiff::SignedDuration::from_hours(24 * 40), ..plan(&scenario) };
    assert_eq!(record(&all, &long).unwrap_err(), Error::TooLong);
    let alone = Plan { packs: BTreeMap::new(), ..plan(&scenario) };
    let error = record(&all, &alone).unwrap_err().to_string();
    assert!(error.contains("edb") && error.ends_with("with --pack"), "{error}");
    let twin = Logged { from: DepartmentId::try_new("fsd").unwrap(), ..all[0].clone() };
    let many = vec![twin; 20_001];
    assert_eq!(record(&many, &plan(&scenario)).unwrap_err(), Error::TooMany);
}
