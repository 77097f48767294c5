//! Who may allow an effect: signed envelopes, two persons, silence, and what does not count.

use crate::desk::{A, B, C, Desk, FIRE, Kind, exercise, fire, id, of, other, says, update, verdicts};
use campanile_alert::World;
use campanile_rules::{Answer, Approval, Verdict};

#[test]
fn without_a_signed_envelope_two_persons_are_asked() {
    let mut desk = Desk::asking(FIRE);
    let asked = desk.fire("f1", 4);
    assert_eq!(verdicts(&asked), [Verdict::Asked]);
    assert!(says(&asked, "no envelope has been signed"));
    let pending = &desk.engine.pending()[0];
    assert_eq!((&pending.targets[..], pending.need), (&[A.to_string(), B.to_string()][..], 2));
    assert_eq!(pending.by, ["edb.duty-officer", "edb.regional-officer"]);
    assert!(pending.headlines.iter().any(|(language, text)| language == "en" && text.starts_with("School A closed")));
    desk.agree("p-1");
    assert_eq!(desk.live(), [""; 0]);
    desk.agree("p-2");
    assert_eq!(desk.live(), [A, B]);
    assert!(desk.engine.pending().is_empty());
}

#[test]
fn the_same_person_twice_is_one() {
    let mut desk = Desk::asking(FIRE);
    desk.fire("f1", 4);
    desk.agree("p-1");
    assert!(says(&desk.agree("p-1"), "1 of 2 persons have agreed"));
    assert_eq!(desk.live(), [""; 0]);
}

#[test]
fn who_published_the_cause_may_not_approve() {
    let mut desk = Desk::asking(FIRE);
    let alert = fire("f1", 4, desk.now);
    let words = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
    let mut stored = desk.stored(&id("fsd"), World::Actual, Kind::Alert(Box::new(alert), words));
    stored.author = Some("p-1".into());
    desk.push(stored);
    assert_eq!(verdicts(&desk.agree("p-1")), [Verdict::Ignored]);
    desk.agree("p-2");
    assert_eq!(desk.live(), [""; 0]);
    desk.agree("p-3");
    assert_eq!(desk.live(), [A, B]);
}

#[test]
fn a_role_that_is_not_asked_does_not_count() {
    let mut desk = Desk::asking(FIRE);
    desk.fire("f1", 4);
    assert_eq!(verdicts(&desk.answer("p-1", "edb.directorate", Answer::Approve)), [Verdict::Ignored]);
}

#[test]
fn one_no_is_enough_and_an_update_does_not_ask_again() {
    let mut desk = Desk::asking(FIRE);
    let cause = of("f1", desk.now);
    desk.fire("f1", 4);
    desk.agree("p-1");
    desk.answer("p-2", "edb.duty-officer", Answer::Reject);
    assert!(desk.engine.pending().is_empty());
    desk.wait(1);
    desk.alert("fsd", &update(fire("f1b", 5, desk.now), &[cause]));
    assert!(desk.engine.pending().is_empty());
    desk.fire("f2", 4);
    assert_eq!(desk.engine.pending().len(), 1, "a new cause asks anew");
}

#[test]
fn an_approval_of_something_else_does_not_count() {
    let mut desk = Desk::asking(FIRE);
    let cause = of("f1", desk.now);
    desk.fire("f1", 4);
    let before = desk.engine.pending()[0].clone();
    desk.agree("p-1");
    desk.wait(1);
    let mut wider = update(fire("f1b", 5, desk.now), &[cause]);
    wider.infos[0].areas[0].circles = vec![campanile_alert::Circle::parse("22.31,114.1 1.5").unwrap()];
    desk.alert("fsd", &wider);
    let after = desk.engine.pending()[0].clone();
    assert_eq!(after.targets, [A, B, C]);
    assert_eq!((&after.id, after.deadline), (&before.id, before.deadline));
    assert_eq!(after.approvals, [""; 0], "what the first person saw has changed");
    let stale = Approval {
        pending: before.id,
        shown: before.shown,
        person: "p-2".into(),
        roles: vec!["edb.duty-officer".into()],
        answer: Answer::Approve,
    };
    let said = desk.put(&id("edb"), World::Actual, Kind::Approval(stale));
    assert!(says(&said, "has changed since"));
}

#[test]
fn an_answer_from_an_exercise_does_not_count_in_the_real_world() {
    let mut desk = Desk::asking(FIRE);
    desk.fire("f1", 4);
    let pending = desk.engine.pending()[0].clone();
    for person in ["p-1", "p-2"] {
        let approval = Approval {
            pending: pending.id.clone(),
            shown: pending.shown,
            person: person.into(),
            roles: vec!["edb.duty-officer".into()],
            answer: Answer::Approve,
        };
        desk.put(&id("edb"), exercise(), Kind::Approval(approval));
    }
    assert_eq!(desk.live(), [""; 0]);
}

#[test]
fn silence_asks_the_directorate_as_well_and_then_goes_on_waiting() {
    let mut desk = Desk::asking(FIRE);
    desk.fire("f1", 4);
    desk.wait(10);
    assert!(desk.engine.pending()[0].by.contains(&"edb.directorate".to_string()));
    assert!(desk.engine.pending()[0].deadline.is_some());
    desk.wait(10);
    let pending = &desk.engine.pending()[0];
    assert_eq!((pending.deadline, desk.live().len()), (None, 0));
    desk.answer("p-1", "edb.directorate", Answer::Approve);
    desk.answer("p-2", "edb.directorate", Answer::Approve);
    assert_eq!(desk.live(), [A, B], "a late answer still counts");
}

#[test]
fn silence_issues_only_where_the_rule_says_why() {
    let silent = "if-silent: issue, because: closing is harmless}";
    let (head, rest) = FIRE.split_once("if-silent: escalate").unwrap();
    let tail = rest.split_once("if-silent: hold}}").unwrap().1;
    let mut desk = Desk::asking(&format!("{head}{silent}{tail}"));
    desk.fire("f1", 4);
    desk.wait(9);
    assert_eq!(desk.live(), [""; 0]);
    desk.wait(1);
    assert_eq!(desk.live(), [A, B]);
    assert!(says(desk.outcomes.last().unwrap(), "closing is harmless"));
}

#[test]
fn a_question_is_taken_back_when_its_cause_ends() {
    let mut desk = Desk::asking(FIRE);
    let cause = of("f1", desk.now);
    desk.fire("f1", 4);
    let said = desk.cancel("fsd", &[cause]);
    assert_eq!(verdicts(&said), [Verdict::Withdrawn]);
    assert!(desk.engine.pending().is_empty());
}

#[test]
fn an_envelope_that_is_short_of_a_person_expired_or_for_another_version_asks() {
    let mut short = Desk::asking(FIRE);
    short.sign(&["p-1", "p-1"]);
    assert!(says(&short.fire("f1", 3), "1 of 2 persons have signed"));

    let mut late = Desk::asking(FIRE);
    late.sign(&["p-1", "p-2"]);
    late.wait(31 * 24 * 60);
    assert!(says(&late.fire("f1", 3), "not valid at this time"));

    let mut changed = Desk::asking(FIRE);
    let other = FIRE.replace("min_alarm: 3", "min_alarm: 2");
    changed.sign(&["p-1", "p-2"]);
    let mut reread = Desk::asking(&other);
    reread.push(changed.journal[0].clone());
    assert!(says(&reread.fire("f1", 3), "another version of the rule"));
}

#[test]
fn more_sites_than_the_envelope_allows_asks() {
    let mut desk = Desk::asking(&FIRE.replace("at-most: 20", "at-most: 1"));
    desk.sign(&["p-1", "p-2"]);
    assert!(says(&desk.fire("f1", 3), "2 sites are concerned, the envelope allows 1"));
    assert_eq!(desk.live(), [""; 0]);
}

/// A conflict that came after the question holds the silence, as one that was there before does.
#[test]
fn silence_does_not_issue_against_what_came_into_force_while_it_was_asked() {
    let silent = "if-silent: issue, because: closing is harmless}";
    let (head, rest) = FIRE.split_once("if-silent: escalate").unwrap();
    let tail = rest.split_once("if-silent: hold}}").unwrap().1;
    let mut desk = Desk::asking(&format!("{head}{silent}{tail}"));
    desk.fire("f1", 4);
    desk.wait(1);
    let now = desk.now;
    desk.alert("edb", &other("stay", "stay-in-school", None, now));
    desk.wait(9);
    assert_eq!(desk.live(), [""; 0], "silence issued what contradicts stay-in-school");
    assert!(desk.outcomes.iter().any(|outcome| says(outcome, "stay-in-school is in force")));
    let pending = &desk.engine.pending()[0];
    assert_eq!((pending.deadline, pending.against.as_deref()), (None, Some("stay-in-school")), "it goes on waiting");
    desk.agree("p-1");
    desk.agree("p-2");
    assert_eq!(desk.live(), [A, B], "persons may decide it all the same");
}

#[test]
fn an_antonym_in_force_on_a_target_asks() {
    let mut desk = Desk::signed();
    let now = desk.now;
    desk.alert("edb", &other("stay", "stay-in-school", None, now));
    let asked = desk.fire("f1", 3);
    assert!(says(&asked, "stay-in-school is in force"), "{:?}", asked.notes);
    assert_eq!(desk.live(), [""; 0]);
    let mut exercise_only = Desk::signed();
    exercise_only.alert_in("edb", exercise(), &{
        let mut alert = other("stay", "stay-in-school", None, now);
        alert.status = campanile_alert::Status::Exercise;
        alert
    });
    assert_eq!(exercise_only.fire("f1", 3).effects.len(), 2, "an antonym of a drill is none in the real world");
}

#[test]
fn over_its_limit_a_rule_asks_and_drops_nothing() {
    let mut desk = Desk::asking(&format!("{FIRE}  limit: {{per: 1h, at-most: 2 batches, over: hold-and-page}}\n"));
    desk.sign(&["p-1", "p-2"]);
    let place = |name: &str, lat: f64, desk: &Desk| {
        let mut alert = fire(name, 3, desk.now);
        let centre = campanile_alert::Point { lat, lon: 114.1 };
        alert.infos[0].areas[0].circles = vec![campanile_alert::Circle::new(centre, 0.0).unwrap()];
        alert
    };
    for (name, lat) in [("f1", 22.3030), ("f2", 22.2960), ("f3", 22.3200)] {
        desk.alert("fsd", &place(name, lat, &desk));
        desk.wait(1);
    }
    assert_eq!(desk.live(), [A, B]);
    assert_eq!(desk.engine.pending()[0].targets, [C]);
    desk.agree("p-1");
    desk.agree("p-2");
    assert_eq!(desk.live(), [A, B, C]);
}

#[test]
fn what_another_cause_brought_into_force_is_no_longer_asked() {
    let mut desk = Desk::asking(FIRE);
    desk.fire("f1", 4);
    desk.sign(&["p-1", "p-2"]);
    desk.wait(1);
    desk.fire("f2", 4);
    assert_eq!(desk.live(), [A, B]);
    assert!(desk.engine.pending().is_empty());
    assert_eq!(desk.engine.live()[0].causes.len(), 2, "the first fire supports them as well");
}
