//! A run of a fire and a rainstorm as it could have been seen, judged by the real judge: for whatever is made of a run.

use std::collections::BTreeMap;

use campanile_alert::{DepartmentId, MessageType, Status};
use campanile_drill::transcript::{Answered, Asked, EffectName, Header, Notice, Record, Run, Subject};
use campanile_drill::verdict::VariantVerdict;
use campanile_drill::{Judge, Offset, Scenario, Transcript, Verdict, What};

pub(crate) const SCENARIO: &str = r#"
drill: harbour-view-2026
title:
  en: Fire and red rainstorm on a school morning, one department cut off for 14 minutes
  zh-Hant: 上課日早上火警兼紅色暴雨，一個部門失聯十四分鐘
objectives:
  O1: {text: {en: Schools near a No. 3 fire are closed within 25 minutes, zh-Hant: 三級火附近的學校在廿五分鐘內停課}, capability: public-warning, weight: 3}
  O2: {text: {en: Nothing leaves the exercise, zh-Hant: 演習訊息不外洩}, capability: safety, weight: 5, must: true}
  O3: {text: A cut-off node catches up without duplicates, capability: continuity, weight: 2}
mode: {status: Exercise, exercise-id: HV26, marker: {en: EXERCISE EXERCISE EXERCISE, zh-Hant: 演習}}
clock: {start: 2026-10-13T10:20+08:00, run: virtual, seed: 20261013, end: T+70m}
cast:
  nodes: {hko: script, fsd: script, edb: {engine: [edb-fire.rules.yaml]}, had: {engine: [had.rules.yaml]}, isd: gateway}
  players:
    edb.duty-officer: {virtual: [{on: pending, after: 2m, do: approve}]}
    edb.regional-officer: {virtual: [{on: pending, after: 4m, do: approve}]}
    had.ecc-duty: {}
  controllers: [ctl.lead]
  observers: {obs.edb: {watches: [edb], rubric: rubric/call-quality.yaml}}
injects:
- {at: T+0m, id: i1, via: alert, from: hko, alert: {event: weather-signal, signal: WRAINR}, title: {en: Red rainstorm, zh-Hant: 紅色暴雨警告}}
- {at: T+4m, id: i2, via: alert, from: fsd, alert: {event: fire, level: 1, certainty: Observed, point: [22.2921, 114.2003]}, title: {en: Fire at the harbour, zh-Hant: 海旁火警}}
- {at: T+9m, id: i3, via: alert, from: fsd, updates: i2, alert: {level: 3}, title: {en: Alarm raised to No. 3, zh-Hant: 升為三級火}}
- {at: T+11m, id: i4, via: person, to: edb.duty-officer, say: "A principal rings: smoke in the playground. What now?"}
- {at: T+16m, id: i5, via: person, to: had.ecc-duty, say: "Residents gather at the hall", only-if: {not: {live: {effect: shelter-open}}}}
- {at: T+60m, id: i6, via: alert, from: fsd, cancels: i2, title: {en: Fire out, zh-Hant: 火警撲滅}}
faults:
- {at: T+8m, for: 14m, partition: {cut: [edb], from: [hko, fsd, had, etcd]}}
- {at: T+25m, repeat: 500, within: 1s, duplicate: i3}
expect:
- {by: T+1m, objective: O1, node: edb, live: {effect: stay-in-school}}
- {by: T+10m, objective: O3, node: edb, stale: {from: fsd, shown-to: edb.duty-officer}}
- {by: T+24m, objective: O3, node: edb, pending: {rule: edb.school-closure.fire, count: 1}}
- {by: T+24m, objective: O1, person: edb.duty-officer, acks: {rule: edb.school-closure.fire}, text: {en: The duty officer answers within two minutes of the link, zh-Hant: 當值主任在連線恢復後兩分鐘內答覆}}
- {by: T+30m, objective: O1, live: {effect: class-suspension, target: harbour-view-primary, chain: [i3]}}
- {by: T+20m, objective: O1, node: had, live: {effect: shelter-open}, text: {en: A shelter is open before the hall is full, zh-Hant: 會堂滿座前開放庇護中心}}
- {by: end, objective: O3, count: {effect: class-suspension, target: harbour-view-primary, is: 1}}
- {always: true, objective: O2, none: {status: Actual}}
- {id: no-leak, always: true, objective: O2, none: {at: gateway, outside: sink}}
- {by: T+20m, objective: O1, judged-by: obs.edb, question: "Did the duty officer say who would re-check?", scale: 0-3}
score: {pass: 80%, late: {half-credit-within: 2x}}
variants:
- {name: level-3-lost, change: {drop-inject: i3}, verdict: {fails: [O1]}}
- {name: nobody-answers, change: {players: {edb.duty-officer: {}}}, verdict: {fails: [O1]}}
"#;

fn at(minutes: f64) -> Offset {
    Offset::from_ms((minutes * 60_000.0) as i64)
}

fn node(name: &str) -> Option<DepartmentId> {
    Some(DepartmentId::try_new(name).unwrap())
}

pub(crate) fn scenario() -> Scenario {
    Scenario::parse(SCENARIO).unwrap().0
}

struct Stage(Transcript);

impl Stage {
    fn see(&mut self, minutes: f64, at_node: &str, what: What) {
        let node = if at_node.is_empty() { None } else { node(at_node) };
        self.0.add(at(minutes), node, what);
    }

    fn record(&mut self, minutes: f64, record: Record, reached: &[(&str, f64)]) {
        let (from, id) = (record.from.clone(), record.id.clone());
        self.see(minutes, &from, What::Record(Box::new(record)));
        for (node, minutes) in reached {
            self.see(*minutes, node, What::Seen { id: id.clone() });
        }
    }
}

fn alert(id: &str, from: &str, sent: MessageType, event: &str) -> Record {
    Record {
        id: format!("{from}@example.test,{id},2026-10-13T10:20:00+08:00"),
        position: format!("{from}/node-1:exercise:1:1"),
        from: from.into(),
        msg_type: Some(sent),
        status: Some(Status::Exercise),
        exercise: Some("HV26".into()),
        event: Some(event.into()),
        ..Record::default()
    }
}

/// The run and its verdict.
pub(crate) fn run() -> (Scenario, Transcript, Verdict) {
    let scenario = scenario();
    let header = Header {
        drill: scenario.drill.clone(),
        scenario: hex::encode(scenario.digest()),
        packs: BTreeMap::from([("edb-fire".into(), "5b".repeat(32)), ("edb-weather".into(), "0c".repeat(32))]),
        seed: 20_261_013,
        run: Run::Virtual,
        start: scenario.clock.start.instant(),
        variant: None,
    };
    let mut stage = Stage(Transcript::new(header));
    play(&mut stage);
    let transcript = stage.0;
    let mut judge = Judge::new(&scenario);
    transcript.events.iter().for_each(|event| judge.observe(event));
    let mut verdict = judge.finish(&transcript.header, transcript.digest());
    let variant = |name: &str, as_written, failed: &[&str], missed: &[&str], why: &str| VariantVerdict {
        name: name.into(),
        as_written,
        wanted: vec!["O1".into()],
        failed: failed.iter().map(ToString::to_string).collect(),
        missed: missed.iter().map(ToString::to_string).collect(),
        why: why.into(),
        transcript: "7e".repeat(32),
    };
    verdict.variants = vec![
        variant("level-3-lost", true, &["O1"], &["e3", "e4", "e5"], ""),
        variant("nobody-answers", false, &[], &["e6"], "O1 should fail and did not"),
    ];
    (scenario, transcript, verdict)
}

fn play(stage: &mut Stage) {
    let rain = Record {
        inject: Some("i1".into()),
        signal: Some("WRAINR".into()),
        headlines: vec!["EXERCISE Red rainstorm warning".into(), "演習 紅色暴雨警告".into()],
        ..alert("rain", "hko", MessageType::Alert, "weather-signal")
    };
    let rain_id = rain.id.clone();
    stage.see(0.0, "", What::Inject { id: "i1".into() });
    stage.record(0.0, rain, &[("edb", 0.001), ("had", 0.0013), ("isd", 0.002)]);
    let stay = Record {
        rule: Some("edb.stay-in-school.rain".into()),
        target: Some(String::new()),
        causes: vec![rain_id],
        headlines: vec!["EXERCISE Pupils stay at school".into(), "演習 學生留校".into()],
        depth: 1,
        ..alert("stay", "edb", MessageType::Alert, "stay-in-school")
    };
    stage.record(0.002, stay, &[("had", 0.003), ("isd", 0.003)]);
    let notice = Notice {
        record: "edb@example.test,stay,2026-10-13T10:20:00+08:00".into(),
        channel: "lift-screens".into(),
        sink: true,
        status: Some(Status::Exercise),
        marked: true,
        headlines: vec!["EXERCISE Pupils stay at school".into()],
    };
    stage.see(0.01, "isd", What::Notice(Box::new(notice)));
    let fire = Record { inject: Some("i2".into()), level: Some(1), ..alert("f1", "fsd", MessageType::Alert, "fire") };
    let fire_id = fire.id.clone();
    stage.see(4.0, "", What::Inject { id: "i2".into() });
    stage.record(4.0, fire, &[("edb", 4.001), ("had", 4.001), ("isd", 4.002)]);
    let cut = "edb is cut off from hko, fsd, had, etcd".into();
    stage.see(8.0, "", What::FaultBegan { fault: 1, what: cut });
    let third = Record {
        inject: Some("i3".into()),
        level: Some(3),
        references: vec![fire_id.clone()],
        headlines: vec!["EXERCISE No. 3 alarm fire".into(), "演習 三級火警".into()],
        ..alert("f3", "fsd", MessageType::Update, "fire")
    };
    let third_id = third.id.clone();
    stage.see(9.0, "", What::Inject { id: "i3".into() });
    stage.record(9.0, third, &[("had", 9.001), ("isd", 9.002)]);
    let told = vec!["edb.duty-officer".into()];
    stage.see(9.5, "edb", What::Stale { from: node("fsd").unwrap(), shown_to: told });
    stage.see(11.0, "", What::Inject { id: "i4".into() });
    stage.see(11.0, "", What::Told { person: "edb.duty-officer".into(), inject: "i4".into() });
    let about = Subject::Inject("i4".into());
    stage.see(12.25, "", What::Acked { person: "edb.duty-officer".into(), about });
    stage.see(16.0, "", What::Inject { id: "i5".into() });
    stage.see(16.0, "", What::Told { person: "had.ecc-duty".into(), inject: "i5".into() });
    stage.see(22.0, "", What::FaultEnded { fault: 1 });
    stage.see(22.01, "edb", What::Seen { id: third_id.clone() });
    stage.see(22.01, "edb", What::Heard { from: node("fsd").unwrap() });
    let question = Asked {
        pending: "q1".into(),
        rule: "edb.school-closure.fire".into(),
        effect: "class-suspension".into(),
        targets: ["harbour-view-primary", "harbour-view-secondary", "quay-kindergarten"].map(String::from).to_vec(),
        to: vec!["edb.duty-officer".into(), "edb.regional-officer".into()],
        need: 2,
        deadline: Some(32 * 60_000),
        against: Some("stay-in-school".into()),
        why: "stay-in-school is in force for the same schools".into(),
    };
    stage.see(22.02, "edb", What::Asked(Box::new(question)));
    let answered =
        |person: &str| What::Answered { pending: "q1".into(), person: person.into(), answer: Answered::Approve };
    stage.see(24.5, "edb", answered("edb.duty-officer"));
    for _ in 0..500 {
        let why = "a message with this identifier is there already".to_owned();
        stage.see(25.0, "fsd", What::Refused { inject: Some("i3".into()), why });
    }
    stage.see(26.02, "edb", answered("edb.regional-officer"));
    stage.see(26.02, "edb", What::Closed { pending: "q1".into() });
    for target in ["harbour-view-primary", "harbour-view-secondary", "quay-kindergarten"] {
        let closure = Record {
            rule: Some("edb.school-closure.fire".into()),
            target: Some(target.into()),
            causes: vec![third_id.clone()],
            headlines: vec!["EXERCISE Classes suspended <at once>".into(), "演習 即時停課".into()],
            depth: 1,
            ..alert(target, "edb", MessageType::Alert, "class-suspension")
        };
        stage.record(26.03, closure, &[("fsd", 26.031), ("had", 26.031), ("isd", 26.032)]);
    }
    let shelter = Record {
        rule: Some("had.shelter.closure".into()),
        target: Some("quay-hall".into()),
        causes: vec!["edb@example.test,harbour-view-primary,2026-10-13T10:20:00+08:00".into()],
        headlines: vec!["EXERCISE Shelter open".into(), "演習 庇護中心開放".into()],
        depth: 2,
        ..alert("shelter", "had", MessageType::Alert, "shelter-open")
    };
    stage.record(26.1, shelter, &[("edb", 26.101), ("isd", 26.101)]);
    let out = Record {
        inject: Some("i6".into()),
        references: vec![fire_id, third_id],
        ..alert("f6", "fsd", MessageType::Cancel, "fire")
    };
    stage.see(60.0, "", What::Inject { id: "i6".into() });
    stage.record(60.0, out, &[("edb", 60.001), ("had", 60.001), ("isd", 60.001)]);
    let effect = EffectName {
        rule: "edb.school-closure.fire".into(),
        effect: "class-suspension".into(),
        target: "harbour-view-primary".into(),
    };
    stage.see(60.01, "edb", What::Review { effect });
    for name in ["edb", "fsd", "had", "hko", "isd"] {
        stage.see(70.0, name, What::Digest { records: 9, digest: "ab".repeat(32) });
    }
    stage.see(70.0, "", What::Ended);
}
