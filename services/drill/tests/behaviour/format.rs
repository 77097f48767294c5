//! The format: what is read, what is written, and what is judged of it.

use campanile_drill::transcript::{Header, Record, Run};
use campanile_drill::verdict::Outcome;
use campanile_drill::{Judge, Offset, Scenario, Transcript, What};

const SMALL: &str = r#"
drill: small
title: {en: A fire, zh-Hant: 火警}
objectives:
  O1: {text: The school closes, weight: 3}
  O2: {text: Nothing leaves, must: true}
mode: {status: Exercise, exercise-id: S1, marker: {en: EXERCISE, zh-Hant: 演習}}
clock: {start: 2026-10-13T10:20+08:00, run: {speed: 10}, seed: 7}
cast:
  nodes: {fsd: script, edb: {engine: [edb.rules.yaml]}, isd: gateway}
  players: {edb.duty-officer: {virtual: [{on: pending, after: 2m, do: approve}]}}
  observers: {obs.edb: {watches: [edb]}}
injects:
- {at: T+0m, id: i1, via: alert, from: fsd, alert: {event: fire, level: 3, point: [22.45, 114.17]}}
expect:
- {by: T+1m, objective: O1, live: {effect: class-suspension, chain: [i1]}}
- {by: end, objective: O1, count: {effect: class-suspension, is: 1}}
- {always: true, objective: O2, none: {status: Actual}}
- {by: T+3m, objective: O1, judged-by: obs.edb, question: "Was it calm?", scale: 0-3}
score: {pass: 80%, late: {half-credit-within: 2x}}
variants:
- {name: lost, change: {drop-inject: i1}, verdict: {fails: [O1]}}
"#;

fn small() -> Scenario {
    Scenario::parse(SMALL).unwrap().0
}

fn header() -> Header {
    Header {
        drill: "small".into(),
        scenario: String::new(),
        packs: Default::default(),
        seed: 7,
        run: Run::Virtual,
        start: small().clock.start.instant(),
        variant: None,
    }
}

fn record(id: &str, from: &str, event: &str, inject: Option<&str>, causes: &[&str]) -> What {
    What::Record(Box::new(Record {
        id: id.into(),
        from: from.into(),
        msg_type: Some(campanile_alert::MessageType::Alert),
        status: Some(campanile_alert::Status::Exercise),
        event: Some(event.into()),
        inject: inject.map(String::from),
        causes: causes.iter().map(|cause| (*cause).into()).collect(),
        ..Record::default()
    }))
}

/// The outcomes when the closure comes so many seconds after the fire.
fn closed_after(seconds: i64) -> (Vec<Outcome>, u32, bool) {
    let scenario = small();
    let mut transcript = Transcript::new(header());
    let node = |name: &str| Some(campanile_alert::DepartmentId::try_new(name).unwrap());
    transcript.add(Offset::START, node("fsd"), record("f", "fsd", "fire", Some("i1"), &[]));
    transcript.add(Offset::from_ms(50), node("edb"), What::Seen { id: "f".into() });
    transcript.add(Offset::from_ms(seconds * 1000), node("edb"), record("c", "edb", "class-suspension", None, &["f"]));
    let mut judge = Judge::new(&scenario);
    transcript.events.iter().for_each(|event| judge.observe(event));
    let verdict = judge.finish(&transcript.header, transcript.digest());
    (verdict.items.iter().map(|item| item.outcome).collect(), verdict.score, verdict.passed)
}

#[test]
fn a_scenario_is_written_back_as_it_was_read() {
    let scenario = small();
    let again = Scenario::parse(&scenario.to_yaml().unwrap()).unwrap().0;
    assert_eq!(scenario, again);
    assert_eq!(scenario.digest(), again.digest());
}

#[test]
fn a_transcript_is_read_back_as_it_was_written() {
    let mut transcript = Transcript::new(header());
    transcript.add(Offset::START, None, What::Inject { id: "i1".into() });
    transcript.add(Offset::from_ms(5), None, record("f", "fsd", "fire", Some("i1"), &[]));
    transcript.add(Offset::from_ms(1), None, What::Ended);
    let text = String::from_utf8(transcript.bytes()).unwrap();
    let again = Transcript::parse(&text).unwrap();
    assert_eq!(again, transcript);
    assert_eq!(again.events[2].at, Offset::from_ms(5), "time is not set back");
    assert!(Transcript::parse("{}").unwrap_err().to_string().contains("line 1"));
}

#[test]
fn what_comes_in_time_is_met_what_comes_late_earns_half_and_what_comes_later_nothing() {
    use Outcome::{Late, Met, Missed, ToBeJudged};
    assert_eq!(closed_after(60), (vec![Met, Met, Met, ToBeJudged], 1000, true));
    assert_eq!(closed_after(61), (vec![Late, Met, Met, ToBeJudged], 812, true), "(750 × 3 + 1000 × 1) / 4");
    assert_eq!(closed_after(120).0[0], Late);
    assert_eq!(closed_after(121), (vec![Missed, Met, Met, ToBeJudged], 625, false));
}
