//! A backtest of ten years, what a change of a pack means, and rules about silence.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use campanile_rules::history::{self, Change};
use campanile_rules::{DataSet, DataSets, Format, Pack, compare::compare, trial};

const WEATHER: &str = include_str!("../../packs/edb-weather.rules.yaml");
const FREE: &[u8] = include_bytes!("../../packs/hk-free-days-2026.csv");

fn weather(text: &str) -> (Vec<Pack>, BTreeMap<campanile_alert::DepartmentId, DataSets>) {
    let (pack, _) = Pack::parse(text).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let set = DataSet::parse("hk.free-days", Format::Csv, FREE, &pack.data["hk.free-days"].rows).unwrap();
    let sets = [("hk.free-days".to_string(), set)].into();
    let data = [(pack.owner.clone(), sets)].into();
    (vec![pack], data)
}

/// A made history: red and amber by turns, one change every four and a half hours.
fn made(count: usize) -> Vec<Change> {
    let start: jiff::Timestamp = "2015-01-01T00:00:00+08:00".parse().unwrap();
    let change = |n: usize| {
        let code = ["WRAINA", "WRAINR", "WRAINB"][n / 2 % 3];
        Change {
            statement: "WRAIN".into(),
            code: n.is_multiple_of(2).then(|| code.to_string()),
            action_code: if n.is_multiple_of(2) { "ISSUE" } else { "CANCEL" }.into(),
            issue_time: start + jiff::SignedDuration::from_mins(263 * i64::try_from(n).unwrap()),
            from: None,
            event: None,
            level: None,
            point: None,
        }
    };
    (0..count).map(change).collect()
}

#[test]
fn the_sample_history_gives_what_the_bureau_announced() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packs/hko-history.sample.jsonl");
    let changes = history::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (packs, data) = weather(WEATHER);
    let backtest = history::backtest(&packs, &data, &changes).unwrap();
    let begins = |target: &str, effect: &str| {
        backtest.sent.iter().any(|sent| sent.begins() && sent.target == target && sent.effect == effect)
    };
    assert!(begins("2015-05-26/pm", "class-suspension"));
    assert!(begins("2015-05-26/am", "stay-in-school"));
    assert!(begins("2020-06-06/am", "class-suspension"));
    assert!(begins("2024-05-04/am", "stay-in-school"));
    assert!(begins("2025-08-14/whole-day", "class-suspension"));
}

#[test]
fn a_year_is_played_and_the_beginning_of_it_gives_the_same() {
    let (packs, data) = weather(WEATHER);
    let changes = made(2_000);
    let begun = Instant::now();
    let backtest = history::backtest(&packs, &data, &changes).unwrap();
    let took = begun.elapsed();
    println!("backtest: 2000 changes, {} messages, {took:?}", backtest.sent.len());
    assert!(backtest.sent.len() > 500);
    // Ten years (20,000) take at most 5 s in a release build; this one is not optimised.
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(history::backtest(&packs, &data, &changes[..200]).unwrap().sent[..50], backtest.sent[..50]);
}

#[test]
fn a_change_of_a_table_is_said_in_words_and_in_past_effects() {
    let changed = WEATHER.replace(
        "- [TC3,                       in,           none,             []]",
        "- [TC3,                       in,           class-suspension, [kindergarten]]",
    );
    let changed = changed.replace("resume-by: \"10:30\"", "resume-by: \"11:00\"");
    let ((old, data), (new, _)) = (weather(WEATHER), weather(&changed));
    let said = compare(&old[0], &new[0]);
    assert!(
        said.contains(&"edb.class-suspension.weather: TC3 in now issues class-suspension (kindergarten)".to_string()),
        "{said:?}"
    );
    assert!(said.iter().any(|line| line.starts_with("session pm was") && line.contains("11:00:00")), "{said:?}");
    assert_eq!(compare(&old[0], &old[0]), [""; 0]);
    let text = r#"{"statement":"WTCSGNL","code":"TC3","actionCode":"ISSUE","issueTime":"2026-09-14T09:00:00+08:00"}"#;
    let changes = history::parse(text).unwrap();
    let play = |packs: &[Pack]| history::backtest(packs, &data, &changes).unwrap();
    let difference = history::difference(&play(&old), &play(&new));
    assert!(difference.added.iter().any(|sent| sent.target == "2026-09-14/am"), "{difference:?}");
    assert_eq!(difference.removed, []);
}

#[test]
fn a_history_that_cannot_be_read_says_the_line() {
    let line = |time: &str| format!(r#"{{"statement":"WL","code":"WL","actionCode":"ISSUE","issueTime":"{time}"}}"#);
    let backward = [line("2026-01-02T00:00:00Z"), line("2026-01-01T00:00:00Z")].join("\n");
    assert!(history::parse(&backward).unwrap_err().starts_with("line 2: it is earlier"));
    assert!(history::parse("{\"statement\":1}").unwrap_err().starts_with("line 1: "));
}

#[test]
fn silence_counts_only_while_the_department_is_heard() {
    let pack = r#"
pack: edb-silence
owner: edb
vocabulary: alert-v1
texts:
  t:
    zh-Hant: {headline: "紅雨半小時仍未通知市民", instruction: "請向新聞處查詢。", retract: "已通知市民。"}
    en: {headline: "Red rain and no public notice for half an hour", instruction: "Ask the information service.", retract: "The public has been told."}
rules:
- rule: edb.silence.red-rain
  title: {en: No public notice half an hour after a red rainstorm, zh-Hant: 紅雨半小時仍未發出公眾通知}
  source: [{text: "Lesson of Valencia, 29 October 2024"}]
  cause: {event: weather-signal, from: [hko], signal: [WRAINR, WRAINB]}
  absent: {record: delivery-report, from: [isd], area: overlaps-cause, reached: handed, within: 30m}
  then: {issue: draft-notice, status: Draft, to: [edb.duty-officer], next: {after: 10m, to: [edb.directorate]}, severity: Severe, area: cause.area, text: t}
  approve: {need: 0, reason: a draft goes to officers only}
  until: {cause: ends, then: cancel, max: 12h}
"#;
    let tests = r#"
uses: [silence.rules.yaml]
clock: {start: "2026-09-14T06:00+08:00"}
cases:
- name: nobody told the public, and the service is heard
  at:
    0s: {alert: {id: r1, event: weather-signal, from: hko, signal: WRAINR}}
    25m: {heard: isd}
  expect: {29m: {none: draft-notice}, 31m: {live: draft-notice}}
- name: the public was told
  at:
    0s: {alert: {id: r1, event: weather-signal, from: hko, signal: WRAINR}}
    20m: {notice: {from: isd}}
  expect: {1h: {none: draft-notice}}
  why: {rule: edb.silence.red-rain, says: "isd told the public of the area at 06:20"}
- name: the public was told somewhere else
  at:
    0s: {alert: {id: r1, event: weather-signal, from: hko, signal: WRAINR, point: [22.30, 114.10], place: Here}}
    25m: {notice: {from: isd, point: [22.45, 114.20], place: There}}
  expect: {31m: {live: draft-notice}}
- name: the service is not heard, so nobody can tell, until it is
  at:
    0s: {alert: {id: r1, event: weather-signal, from: hko, signal: WRAINR}}
    5m: {heard: isd}
    50m: {heard: isd}
  expect: {45m: {none: draft-notice}, 56m: {live: draft-notice}}
  why: {rule: edb.silence.red-rain, says: "cannot tell: isd not heard for 25 min"}
- name: told late, the draft is taken back
  at:
    0s: {alert: {id: r1, event: weather-signal, from: hko, signal: WRAINR}}
    25m: {heard: isd}
    40m: {notice: {from: isd}}
  expect: {31m: {live: draft-notice}, 41m: {none: draft-notice}}
  sent: {draft-notice/: [Alert, Cancel]}
coverage: {rules: 100%, must-have-negative-test: true}
"#;
    let report = trial::run(tests, &|name| (name == "silence.rules.yaml").then(|| pack.into())).unwrap();
    let failed: Vec<_> = report.cases.iter().filter(|case| !case.failures.is_empty()).collect();
    assert!(report.passed(), "{failed:?} {:?}", report.shortfalls);
}
