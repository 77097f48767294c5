//! Drills against running nodes: real servers, real mutual TLS, a clock that runs fast, players with certificates of
//! their own.

use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{DepartmentId, ExerciseId};
use campanile_discovery::roster::RightArea;
use campanile_drill::live::{self, Crew, Line, Options, Played, Request};
use campanile_drill::verdict::Outcome;
use campanile_drill::{Scenario, What};
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, wait_for};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::setting::{NOW, five, harbour_view_of, repository};

/// How many times as fast as the machine's the clock of these federations runs.
const TIMES: u32 = 10;

const SHORT: &str = r#"
drill: short-fire
title: {en: "A fire and red rain, in two minutes", zh-Hant: 兩分鐘內的火警及紅雨}
objectives:
  O1: {text: Schools near the fire are closed and shelters open, weight: 3}
  O2: {text: Nothing leaves the exercise, weight: 5, must: true}
mode: {status: Exercise, exercise-id: HV26, marker: {en: "EXERCISE EXERCISE EXERCISE", zh-Hant: 演習}}
clock: {start: 2026-10-13T10:00+08:00, seed: 7, end: T+2m}
cast:
  nodes: {hko: script, fsd: script, edb: {engine: [edb.yaml]}, had: {engine: [had.yaml]}, isd: gateway}
  players:
    edb.duty-officer: {virtual: [{on: pending, after: 5s, do: approve}, {on: message, after: 5s, do: acknowledge}]}
    edb.regional-officer: {virtual: [{on: pending, after: 10s, do: approve}]}
    had.ecc-duty: {virtual: [{on: pending, after: 5s, do: approve}]}
  controllers: [ctl.lead]
guards:
- gateways: {bound-to: sink, real-endpoints: forbidden}
- trust: {exercise-key: HV26, live-key: absent}
- directory: exercise HV26
- abort: {word: ABANDON, by: [ctl.lead], within: 5s, effect: cancel-all-and-freeze}
injects:
- {at: T+5s, id: i1, via: alert, from: hko, alert: {event: weather-signal, signal: WRAINR}}
- {at: T+10s, id: i2, via: alert, from: fsd, alert: {event: fire, level: 1, point: [22.3, 114.1]}}
- {at: T+15s, id: i3, via: alert, from: fsd, updates: i2, alert: {level: 3}}
- {at: T+20s, id: i4, via: person, to: edb.duty-officer, say: "A principal rings. What now?"}
- {at: T+25s, id: i5, via: person, to: had.ecc-duty, say: "Never said", only-if: {not: {live: {effect: fire, level: 3}}}}
- {id: reserve, via: alert, from: fsd, alert: {event: fire, level: 2, point: [22.5, 114.3]}}
expect:
- {id: asked, by: T+40s, objective: O1, node: edb, pending: {rule: edb.school-closure.fire, to: edb.duty-officer, count: 1}}
- {id: answered, by: T+60s, objective: O1, person: edb.duty-officer, acks: {rule: edb.school-closure.fire, within: 40s}}
- {id: told, by: T+60s, objective: O1, person: edb.duty-officer, acks: {inject: i4}}
- {id: closed, by: T+80s, objective: O1, live: {effect: class-suspension, target: "9900000100", chain: [i3]}}
- {id: shelter, by: T+60s, objective: O1, live: {effect: shelter-open, chain: [i1]}}
- {id: once, by: end, objective: O1, count: {effect: class-suspension, target: "9900000100", is: 1}}
- {id: shown, by: T+90s, objective: O1, notice: {effect: class-suspension}}
- {id: nothing-real, objective: O2, never: {status: Actual}}
- {id: sinks-only, always: true, objective: O2, none: {at: gateway, outside: sink}}
- {id: same, by: end, objective: O1, same: {log-digest: across-nodes}}
"#;

fn scenario(text: &str) -> Scenario {
    match Scenario::parse(text) {
        Ok((scenario, _)) => scenario,
        Err(refusal) => panic!("{refusal}"),
    }
}

fn federation() -> Builder {
    let time = Time::flowing(NOW, TIMES).unwrap();
    let mut plan = five(&time);
    for right in plan.departments.iter_mut().flat_map(|department| &mut department.rights) {
        right.area = RightArea::Everywhere;
    }
    harbour_view_of(plan, time).pack("had/node-1", repository("services/rules/packs/had-shelter.rules.yaml"))
}

/// Everybody of the cast, with their own certificates.
async fn crew(cluster: &Cluster) -> Crew {
    let mut crew = Crew::default();
    for client in ["hko/forecaster", "fsd/dispatch", "edb/directorate-1", "had/duty"] {
        let department = DepartmentId::try_new(client.split('/').next().unwrap()).unwrap();
        crew.nodes.insert(department, cluster.client(client).await.unwrap());
    }
    for (role, client, person) in [
        ("edb.duty-officer", "edb/duty-officer-1", "edb-officer-1"),
        ("edb.regional-officer", "edb/regional-officer-1", "edb-officer-2"),
        ("had.ecc-duty", "had/duty", "had-officer-1"),
    ] {
        crew.players.insert(role.into(), cluster.client(client).await.unwrap());
        crew.persons.insert(person.into(), vec![role.into()]);
    }
    crew
}

fn exercise() -> ExerciseId {
    ExerciseId::try_new("HV26").unwrap()
}

async fn announce(cluster: &Cluster) {
    let until = cluster.time.now() + jiff::SignedDuration::from_hours(2);
    let administrator = cluster.client("fsd/dispatch").await.unwrap();
    administrator.announce_exercise(&exercise(), until).await.unwrap();
}

fn options(cluster: &Cluster) -> Options {
    Options {
        speed: 1,
        scripted: true,
        faults_by_hand: false,
        clock: cluster.time.clock(),
        frozen_wait: Duration::ZERO,
    }
}

/// A drill that runs, and what its console said.
struct Running {
    said: Arc<Mutex<Vec<Line>>>,
    control: mpsc::Sender<Request>,
    task: JoinHandle<Result<Played, live::Error>>,
}

impl Running {
    async fn begin(cluster: &Cluster, text: &str, options: Options) -> Self {
        let (scenario, crew) = (scenario(text), crew(cluster).await);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (control, requests) = mpsc::channel(16);
        let lines = Arc::clone(&said);
        let task = tokio::spawn(async move {
            let mut console = move |line| lines.lock().push(line);
            live::play(&scenario, &crew, &options, requests, &mut console).await
        });
        Self { said, control, task }
    }

    async fn ask(&self, command: live::Command) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        self.control.send(Request { command, answer }).await.unwrap();
        answered.await.unwrap()
    }

    async fn wait_said(&self, part: &str) {
        wait_for(&format!("the console says {part:?}"), LIMIT, || async {
            let said = self.said.lock();
            let has = |line: &Line| matches!(line, Line::Said(text) | Line::Frozen(text) if text.contains(part));
            Ok(said.iter().any(has).then_some(()))
        })
        .await
        .unwrap();
    }

    async fn end(self) -> Result<Played, live::Error> {
        drop(self.control);
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect("the drill ends").unwrap()
    }
}

/// The expectations that are not met, with why.
fn unmet(played: &Played) -> Vec<String> {
    let unmet = played.verdict.items.iter().filter(|item| item.outcome != Outcome::Met);
    unmet.map(|item| format!("{}: {:?} {}", item.id, item.outcome, item.why)).collect()
}

fn shown(played: &Played) -> String {
    String::from_utf8_lossy(&played.transcript.bytes()).into_owned()
}

/// Waits until nothing of the exercise is in force anywhere.
async fn nothing_in_force(cluster: &Cluster) {
    for client in ["hko/forecaster", "fsd/dispatch", "edb/directorate-1", "had/duty"] {
        let client = cluster.client(client).await.unwrap();
        let filter = campanile_client::Filter { exercise: Some(exercise()), ..campanile_client::Filter::default() };
        let query = campanile_client::Query { filter, ..campanile_client::Query::default() };
        wait_for("nothing of the exercise is in force", LIMIT, || async {
            Ok(client.list(&query).await?.alerts.is_empty().then_some(()))
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_drill_is_judged_by_what_running_nodes_and_players_do() {
    let cluster = federation().exercise("HV26").start().await.unwrap();
    announce(&cluster).await;
    let played = Running::begin(&cluster, SHORT, options(&cluster)).await.end().await.unwrap();
    assert!(played.verdict.passed && unmet(&played).is_empty(), "{:#?}\n{}", unmet(&played), shown(&played));
    let skipped = |what: &What| matches!(what, What::Skipped { id, .. } if id == "i5");
    assert!(played.transcript.events.iter().any(|event| skipped(&event.what)), "{}", shown(&played));
    assert!(played.cleared.left.is_empty() && played.cleared.cancelled > 0, "{:?}", played.cleared);
    nothing_in_force(&cluster).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_drill_does_not_begin_while_any_guard_does_not_hold() {
    // Not announced, and the gateway has sinks for another exercise only.
    let cluster = federation().exercise("OTHER").start().await.unwrap();
    let refused = Running::begin(&cluster, SHORT, options(&cluster)).await.end().await.unwrap_err().to_string();
    for part in [
        "gateway isd/gateway-1 has sinks for OTHER only",
        "edb's node does not find exercise HV26 in its directory",
        "campanile drill announce HV26",
    ] {
        assert!(refused.contains(part), "{part:?} is not in {refused}");
    }
    // Announced for too short a time.
    let soon = cluster.time.now() + jiff::SignedDuration::from_secs(60);
    cluster.client("fsd/dispatch").await.unwrap().announce_exercise(&exercise(), soon).await.unwrap();
    let refused = Running::begin(&cluster, SHORT, options(&cluster)).await.end().await.unwrap_err().to_string();
    assert!(refused.contains("before the drill ends") && !refused.contains("does not find"), "{refused}");
    // Nothing was published.
    let edb = cluster.bus("edb/node-1").unwrap();
    let all = campanile_tests::cluster::records(&edb).await.unwrap();
    assert!(all.iter().all(|arrival| arrival.header.world.exercise().is_none()), "something was published");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_sinks_or_word_of_them_keeps_a_drill_from_beginning() {
    let mut cluster = federation().start().await.unwrap();
    announce(&cluster).await;
    let refused = Running::begin(&cluster, SHORT, options(&cluster)).await.end().await.unwrap_err().to_string();
    assert!(refused.contains("gateway isd/gateway-1 has no sinks for exercises"), "{refused}");
    // One that does not run says nothing that counts, though its last word is still known.
    cluster.stop("isd/gateway-1").await;
    let refused = wait_for("the gateway's registration is gone", LIMIT, || async {
        let refused = Running::begin(&cluster, SHORT, options(&cluster)).await.end().await.unwrap_err().to_string();
        Ok(refused.contains("does not say what it does with exercises").then_some(refused))
    });
    refused.await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_run_cannot_do_is_refused_before_anybody_is_asked() {
    let cluster = federation().exercise("HV26").start().await.unwrap();
    announce(&cluster).await;
    let mut judged = 0;
    for (from, to, says) in [
        ("expect:\n", "faults:\n- {at: T+1m, for: 10s, crash: edb}\nexpect:\n", "fault 1 (edb's node crashes)"),
        ("{event: fire, level: 1,", "{event: fire, status: Actual, level: 1,", "inject i2 has status Actual"),
        ("within: 5s, effect", "within: 1s, effect", "calling it off takes up to 5s"),
        ("controllers: [ctl.lead]", "controllers: []", "nobody could call it off"),
        ("directory: exercise HV26", "directory: exercise HV27", "guards: directory is HV27"),
        ("exercise-key: HV26", "exercise-key: HV27", "guards: trust: exercise-key is HV27"),
    ] {
        let text = SHORT.replacen(from, to, 1);
        assert_ne!(text, SHORT, "{from}");
        // What the file alone shows to be wrong is found before.
        let Ok((scenario, _)) = Scenario::parse(&text) else { continue };
        judged += 1;
        let (_control, requests) = mpsc::channel(1);
        let crew = crew(&cluster).await;
        let mut silent = |_: Line| {};
        let refused = live::play(&scenario, &crew, &options(&cluster), requests, &mut silent).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(says), "{says:?} is not in {refused}");
    }
    assert!(judged >= 3, "only {judged} came so far");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_pause_resume_inject_and_abort_within_five_seconds() {
    use live::Command;
    let cluster = federation().exercise("HV26").start().await.unwrap();
    announce(&cluster).await;
    let drill = Running::begin(&cluster, SHORT, options(&cluster)).await;
    drill.wait_said("TELL edb.duty-officer (i4)").await;
    let by = || "ctl.lead".to_owned();
    let stranger = drill.ask(Command::Pause { by: "edb.duty-officer".into() }).await.unwrap_err();
    assert!(stranger.contains("is no controller"), "{stranger}");
    drill.ask(Command::Pause { by: by() }).await.unwrap();
    let stands = drill.ask(Command::Inject { by: by(), id: "reserve".into() }).await.unwrap_err();
    assert!(stands.contains("resume it first"), "{stands}");
    let before = drill.ask(Command::Status).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(drill.ask(Command::Status).await.unwrap(), before, "the drill's clock stands still");
    drill.ask(Command::Resume { by: by() }).await.unwrap();
    drill.ask(Command::Inject { by: by(), id: "reserve".into() }).await.unwrap();

    let said = tokio::time::Instant::now();
    drill.ask(Command::Abort { by: by() }).await.unwrap();
    let played = drill.end().await.unwrap();
    nothing_in_force(&cluster).await;
    // Clearing gives up after five seconds and says what is left, so that nothing left is the claim.
    eprintln!("called off in {:.2} s", said.elapsed().as_secs_f64());
    assert!(!played.verdict.passed && played.cleared.left.is_empty(), "{:?}", played.cleared);
    let seen = |wanted: fn(&What) -> bool| played.transcript.events.iter().any(|event| wanted(&event.what));
    assert!(seen(|what| matches!(what, What::Paused { .. })) && seen(|what| matches!(what, What::Resumed { .. })));
    assert!(seen(|what| matches!(what, What::Inject { id } if id == "reserve")));
    assert!(seen(|what| matches!(what, What::Aborted { by } if by == "ctl.lead")), "{}", shown(&played));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_severe_alert_at_any_node_freezes_the_drill_and_says_so() {
    let cluster = federation().exercise("HV26").start().await.unwrap();
    announce(&cluster).await;
    let drill = Running::begin(&cluster, SHORT, options(&cluster)).await;
    drill.wait_said("TELL edb.duty-officer (i4)").await;
    let fire = Fire::new("genuine-1", cluster.time.now(), (22.5, 114.3));
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    dispatch.publish(&campanile_client::Publish::cap_xml(fire.xml())).await.unwrap();
    drill.wait_said("REAL ALERT of fsd").await;
    let played = drill.end().await.unwrap();
    assert_eq!(played.verdict.ended, campanile_drill::verdict::Ended::Frozen);
    let frozen = played.transcript.events.iter().find_map(|event| match &event.what {
        What::Frozen { record, .. } => Some(record.clone()),
        _ => None,
    });
    assert!(frozen.is_some_and(|record| record.contains("genuine-1")), "{}", shown(&played));
    nothing_in_force(&cluster).await;
    // Every player reads why, in the Cancels of what was in force.
    let edb = campanile_tests::cluster::records(&cluster.bus("edb/node-1").unwrap()).await.unwrap();
    let told = edb.iter().filter_map(|arrival| match &arrival.body.as_ref()?.content {
        campanile_bus::record::Content::Alert { alert, .. } => alert.note.clone(),
        _ => None,
    });
    assert!(told.into_iter().any(|note| note.contains("REAL ALERT of fsd")), "no Cancel at edb says why");
    // The real alert is none of the exercise's business.
    let held = dispatch.list(&campanile_client::Query::default()).await.unwrap();
    assert!(held.alerts.iter().any(|record| *record.alert.identifier == *"genuine-1"), "the real alert was cancelled");
    cluster.shutdown().await;
}
