//! The report: what it says, what it never says, and that it is the same every time.

use campanile_drill::report::{Error, Form, Hotwash, Report};
use campanile_drill::verdict::Outcome;

use crate::story;

const FORMS: [Form; 4] = [Form::Html, Form::Md, Form::Junit, Form::Json];

fn report(hotwash: &str) -> Result<Report, Error> {
    let (scenario, transcript, verdict) = story::run();
    Report::of(&scenario, &transcript, &verdict, Some(&Hotwash::parse(hotwash)?))
}

fn plain() -> Report {
    let (scenario, transcript, verdict) = story::run();
    Report::of(&scenario, &transcript, &verdict, None).unwrap()
}

#[test]
fn the_same_run_gives_the_same_bytes_in_every_form() {
    for form in FORMS {
        let (once, again) = (plain().write(form).unwrap(), plain().write(form).unwrap());
        assert!(once.len() > 500, "{form:?}: {once}");
        assert_eq!(once, again, "{form:?}");
    }
}

#[test]
fn what_was_late_or_missing_stands_first_with_its_proof_and_is_to_be_mended() {
    let report = plain();
    let first = &report.expectations[0];
    assert_eq!((first.item.id.as_str(), first.item.outcome, first.late_ms), ("e4", Outcome::Late, Some(30_000)));
    assert_eq!(report.timeline.rows.iter().find(|row| first.rows == [row.seq]).unwrap().kind, "answered");
    let ids: Vec<_> = report.improvements.iter().map(|one| one.expectation.as_deref().unwrap_or("variant")).collect();
    assert_eq!(ids, ["e4", "e6", "variant"]);
    assert!(report.improvements[0].text.en.contains("30s late"), "{:?}", report.improvements[0]);
    assert!(report.improvements[0].text.zh_hant.contains("遲了 30s"));
    assert!(report.improvements.iter().all(|one| one.owner.is_none() && one.due.is_none() && !one.done));
}

#[test]
fn repetitions_and_arrivals_fold_into_one_row_and_every_proof_has_a_row() {
    let report = plain();
    let refused: Vec<_> = report.timeline.rows.iter().filter(|row| row.kind == "refused").collect();
    assert_eq!(refused.iter().map(|row| row.times).collect::<Vec<_>>(), [500]);
    assert!(report.timeline.rows.iter().all(|row| row.kind != "seen"));
    let fire = report.timeline.rows.iter().find(|row| row.kind == "update").unwrap();
    assert_eq!(fire.reached.last().unwrap().node, "edb", "after the link was there again");
    let rows: Vec<u64> = report.timeline.rows.iter().map(|row| row.seq).collect();
    assert!(report.expectations.iter().flat_map(|one| &one.rows).all(|row| rows.contains(row)));
}

#[test]
fn an_alert_with_its_updates_is_one_cause_and_the_effects_of_a_rule_are_one_effect() {
    let groups = plain().cascade.groups;
    let what: Vec<_> = groups.iter().map(|one| (one.what.as_str(), one.alerts, one.updates, one.cancels)).collect();
    let closure = groups.iter().position(|one| one.what == "class-suspension").unwrap();
    assert!(what.contains(&("fire level 3", 1, 1, 1)), "{what:?}");
    assert_eq!((groups[closure].alerts, groups[closure].targets.len(), groups[closure].column), (3, 3, 1));
    let shelter = groups.iter().find(|one| one.what == "shelter-open").unwrap();
    assert_eq!((shelter.causes.iter().copied().collect::<Vec<_>>(), shelter.column), (vec![closure], 2));
}

#[test]
fn who_was_asked_stands_there_with_how_long_the_answer_took() {
    let requests = plain().requests;
    let approval = requests.iter().find(|one| one.need == 2).unwrap();
    let took: Vec<_> = approval.replies.iter().map(|one| (one.person.as_str(), one.took_ms)).collect();
    assert_eq!(took, [("edb.duty-officer", 148_800), ("edb.regional-officer", 240_000)]);
    let hall = requests.iter().find(|one| one.about.starts_with("i5")).unwrap();
    assert!(hall.replies.is_empty() && hall.closed_ms.is_none(), "nobody answered");
}

#[test]
fn the_page_is_one_file_without_scripts_with_both_languages_and_escapes_everything() {
    let html = plain().write(Form::Html).unwrap();
    for never in ["<script", "http://", "https://", "@import", "url(", "onclick", "<at once>"] {
        let found = html.find(never);
        assert!(found.is_none(), "{never}: {:?}", found.and_then(|at| html.get(at..at + 60)));
    }
    assert!(html.contains("Classes suspended &lt;at once&gt;") && html.contains("三級火附近的學校"));
    let ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|part| part.split('"').next()).collect();
    let links = html.split("href=\"#").skip(1).filter_map(|part| part.split('"').next());
    let dangling: Vec<&str> = links.filter(|link| !ids.contains(link)).collect();
    assert!(dangling.is_empty(), "links that lead nowhere: {dangling:?}");
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "an id stands once");
}

#[test]
fn hostile_texts_stay_texts_in_every_form() {
    let (mut scenario, mut transcript, mut verdict) = story::run();
    scenario.title.en = "</title><script>x()</script> | **b** \u{1}".into();
    let digest = hex::encode(scenario.digest());
    transcript.header.scenario.clone_from(&digest);
    (verdict.scenario, verdict.transcript) = (digest, hex::encode(transcript.digest()));
    verdict.items[0].why = "<img src=x onerror=y> & \u{8} \"quoted\" | cell".into();
    let report = Report::of(&scenario, &transcript, &verdict, None).unwrap();
    let (html, md) = (report.write(Form::Html).unwrap(), report.write(Form::Md).unwrap());
    assert!(!html.contains("<script") && !html.contains("<img"));
    assert!(!md.contains("<script") && !md.contains("<img") && md.contains("\\| cell") && md.contains("\\*\\*b"));
    let junit = report.write(Form::Junit).unwrap();
    let document = roxmltree::Document::parse(&junit).expect("well-formed whatever stands in it");
    assert!(document.root_element().has_tag_name("testsuites"));
}

#[test]
fn junit_has_a_suite_for_each_objective_and_one_for_the_variants() {
    let junit = plain().write(Form::Junit).unwrap();
    let document = roxmltree::Document::parse(&junit).unwrap();
    let suites: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testsuite")).collect();
    let told: Vec<_> = suites
        .iter()
        .map(|suite| {
            let cases = suite.children().filter(|node| node.has_tag_name("testcase"));
            let failed = cases.clone().filter(|case| case.children().any(|node| node.has_tag_name("failure"))).count();
            assert_eq!(suite.attribute("tests").unwrap(), cases.count().to_string());
            assert_eq!(suite.attribute("failures").unwrap(), failed.to_string());
            (suite.attribute("name").unwrap().rsplit('.').next().unwrap(), failed)
        })
        .collect();
    assert_eq!(told, [("O1", 2), ("O2", 0), ("O3", 0), ("variants", 1)]);
}

#[test]
fn json_is_the_report_field_by_field() {
    let json: serde_json::Value = serde_json::from_str(&plain().write(Form::Json).unwrap()).unwrap();
    assert_eq!((&json["format"], &json["verdict"]["passed"]), (&1.into(), &true.into()));
    assert_eq!(json["expectations"][0]["lateMs"], 30_000);
    assert_eq!(json["objectives"][0]["text"]["zhHant"], "三級火附近的學校在廿五分鐘內停課");
}

#[test]
fn what_is_expected_and_what_goes_wrong_is_said_in_both_languages() {
    let has_han = |text: &str| text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
    let report = plain();
    for row in &report.expectations {
        assert!(!row.text.en.is_empty() && has_han(&row.text.zh_hant), "{}: {:?}", row.item.id, row.text);
    }
    assert!(report.disturbances.iter().filter(|one| one.kind == "fault").all(|one| has_han(&one.zh_hant)));
    for form in [Form::Html, Form::Md] {
        let text = report.write(form).unwrap();
        let missing = report.expectations.iter().find(|row| !text.contains(&row.text.zh_hant));
        assert!(missing.is_none_or(|row| row.text.zh_hant.contains(['<', '|', '*', '_'])), "{form:?}: {missing:?}");
    }
}

#[test]
fn marks_owners_and_dates_that_people_add_are_in_the_report_and_the_score() {
    let report = report(
        "marks: [{expectation: e10, by: obs.edb, mark: 0, remark: Nobody said}]\n\
         items:\n- {expectation: e4, owner: edb.duty-officer, due: 2026-11-30, done: true}\n\
         - {text: {en: Print the call list, zh-Hant: 列印通訊名單}, owner: edb.directorate}\n\
         lessons: [{by: obs.edb, question: What went well?, answer: The second officer was quick}]\n",
    )
    .unwrap();
    assert!(report.to_be_judged.is_empty());
    assert!(report.verdict.score < plain().verdict.score, "a mark of 0 costs");
    assert_eq!(report.verdict.transcript, plain().verdict.transcript);
    assert_eq!(report.verdict.variants, plain().verdict.variants);
    let first = &report.improvements[0];
    assert_eq!((first.owner.as_deref(), first.due.as_deref()), (Some("edb.duty-officer"), Some("2026-11-30")));
    assert_eq!(report.improvements.last().unwrap().text.en, "Print the call list");
    for form in [Form::Html, Form::Md] {
        let text = report.write(form).unwrap();
        assert!(text.contains("Nobody said") && text.contains("2026-11-30") && text.contains("quick"), "{form:?}");
    }
}

#[test]
fn what_people_add_must_fit_the_drill_and_names_no_persons() {
    for (yaml, says) in [
        ("marks: [{expectation: e99, by: obs.edb, mark: 1}]", "e99, which the scenario does not have"),
        ("marks: [{expectation: e1, by: obs.edb, mark: 1}]", "not for an observer"),
        ("marks: [{expectation: e10, by: obs.fsd, mark: 1}]", "is for obs.edb to judge"),
        ("marks: [{expectation: e10, by: obs.edb, mark: 9}]", "from 0 to 3"),
        ("items: [{expectation: e1, owner: edb.duty-officer}]", "did not fail"),
        ("items: [{owner: edb.duty-officer}]", "neither"),
        ("items: [{expectation: e4, owner: The Duty Officer}]", "is no role"),
        ("items: [{expectation: e4, due: tomorrow}]", "line 1"),
        ("itmes: []", "line 1"),
    ] {
        let error = report(yaml).unwrap_err().to_string();
        assert!(error.contains(says), "{yaml}: {error}");
    }
}

#[test]
fn files_of_different_runs_make_no_report() {
    let (scenario, transcript, verdict) = story::run();
    let mut other = scenario.clone();
    other.clock.seed += 1;
    let error = Report::of(&other, &transcript, &verdict, None).unwrap_err().to_string();
    assert!(error.starts_with("the scenario and the verdict are not of the same run"), "{error}");
    let mut shorter = transcript.clone();
    shorter.events.pop();
    let error = Report::of(&scenario, &shorter, &verdict, None).unwrap_err().to_string();
    assert!(error.starts_with("the transcript and the verdict"), "{error}");
}
