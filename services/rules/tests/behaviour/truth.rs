//! An effect lives while a cause lives, and every way in which a cause or an effect can end.

use crate::desk::{A, B, C, Desk, FIRE, Kind, RULE, exercise, fire, id, of, other, says, start, update, verdicts};
use campanile_alert::vocabulary::{EVENT_CODE, SITE};
use campanile_alert::{Certainty, Classification, MessageType, ResponseType, Status, World, judge};
use campanile_rules::{Standing, Verdict};
use jiff::SignedDuration;

use MessageType::{Alert, Cancel, Update};

#[test]
fn a_major_fire_closes_the_schools_near_it_at_once_and_no_other() {
    let mut desk = Desk::signed();
    let outcome = desk.fire("f1", 3);
    assert_eq!(desk.live(), [A, B], "the second row of school A is far away; the first is near, so the site is");
    assert!(!desk.live().contains(&C.to_string()));
    assert_eq!(verdicts(&outcome), [Verdict::Issued]);
    assert!(says(&outcome, "inside the signed envelope"));
    let effect = &outcome.effects[0];
    assert_eq!((effect.depth, &effect.rules[..], effect.cause_count), (1, &[RULE.to_string()][..], 1));
    assert_eq!(effect.causes[0].alert, of("f1", desk.now));
    assert_eq!(effect.trigger, desk.journal.last().unwrap().hash);
}

#[test]
fn an_effect_is_a_cap_message_with_its_languages_area_codes_and_end() {
    let mut desk = Desk::signed();
    let outcome = desk.fire("f1", 3);
    let alert = &outcome.effects[0].alert;
    assert_eq!((alert.status, alert.msg_type), (Status::Actual, Alert));
    assert!(alert.identifier.starts_with("edb-") && alert.identifier.len() == 36, "{}", alert.identifier);
    assert_eq!(alert.sender, "edb@campanile.test");
    assert_eq!(alert.sent.text(), "2026-11-22T08:00:00+08:00");
    assert_eq!(alert.references, None, "a first message refers to nothing, least of all to its cause");
    assert_eq!(alert.incidents.as_ref().unwrap().items(), [of("f1", desk.now).to_string()]);
    let languages: Vec<&str> = alert.infos.iter().map(|info| info.language()).collect();
    assert_eq!(languages, ["zh-Hant", "zh-Hans", "en"]);
    let en = &alert.infos[2];
    assert_eq!(en.headline.as_deref(), Some("School A closed because of a fire nearby"));
    assert_eq!(alert.infos[0].headline.as_deref(), Some("甲校因附近火警停課"));
    assert_eq!(en.event_code(EVENT_CODE), Some("class-suspension"));
    assert_eq!(en.expires.as_ref().unwrap().text(), "2026-11-23T08:00:00+08:00");
    assert_eq!(en.response_types, [ResponseType::Avoid]);
    assert_eq!((en.areas[0].geocodes[0].value_name.as_str(), en.areas[0].geocodes[0].value.as_str()), (SITE, A));
    assert_eq!(en.areas[0].circles.len(), 2, "one circle for each position of the site");
    let words = campanile_alert::classify::classify(alert, campanile_alert::vocabulary::v1());
    assert_eq!(words, outcome.effects[0].classification);
}

#[test]
fn every_message_of_an_effect_is_admissible_on_the_bus() {
    let mut desk = Desk::signed();
    desk.fire("f1", 3);
    let sent = desk.now;
    desk.wait(1);
    desk.fire("f2", 3);
    desk.wait(1);
    desk.cancel("fsd", &[of("f1", sent)]);
    assert!(desk.effects().len() >= 6);
    for effect in desk.effects() {
        let (alert, now) = (&effect.alert, effect.alert.sent.instant());
        assert_eq!(judge::cap_valid(alert), []);
        assert_eq!(judge::bus_admissible(alert, &effect.classification, campanile_alert::vocabulary::v1(), now), []);
    }
}

#[test]
fn the_first_condition_that_stops_a_rule_is_said_in_a_sentence() {
    let mut desk = Desk::signed();
    let now = desk.now;
    let said = desk.alert("lcsd", &fire("x", 5, now));
    assert!(says(&said, "lcsd is not one of the trusted issuers (fsd)"), "{:?}", said.notes);
    assert!(says(&desk.fire("f1", 2), "the level is 2, the rule needs 3 or above"));
    let mut likely = fire("f2", 4, desk.now);
    likely.infos[0].certainty = Certainty::VeryLikely;
    assert!(says(&desk.alert("fsd", &likely), "the certainty is Likely, the rule needs Observed"));
    let mut far = fire("f3", 4, desk.now);
    far.infos[0].areas[0].circles = vec![campanile_alert::Circle::parse("22.5,114.0 0.1").unwrap()];
    assert!(says(&desk.alert("fsd", &far), "no target of edb.schools lies within 500 m"));
    assert!(desk.effects().is_empty());
    // The same alert from a trusted issuer, only asked about: nothing changes.
    let stored = desk.stored(&id("fsd"), World::Actual, desk.journal[1].kind.clone());
    let explained = desk.engine.explain(&stored.input());
    assert!(explained[0].why.en.contains("the conditions hold for 2 targets"), "{explained:?}");
    assert_eq!(desk.live(), [""; 0]);
}

#[test]
fn a_second_fire_joins_and_one_of_two_ending_is_an_update_not_a_cancel() {
    let mut desk = Desk::signed();
    let first = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.wait(1);
    let second = of("f2", desk.now);
    let joined = desk.fire("f2", 3);
    assert_eq!(joined.effects[0].cause_count, 2);
    desk.wait(29);
    let left = desk.cancel("fsd", &[first]);
    assert_eq!(left.effects[0].causes.iter().map(|cause| &cause.alert).collect::<Vec<_>>(), [&second]);
    assert_eq!(left.effects[0].alert.referenced().len(), 2, "it supersedes both of its own earlier messages");
    assert_eq!(desk.sent(A), [Alert, Update, Update]);
    desk.wait(60);
    desk.cancel("fsd", &[second]);
    assert!(matches!(desk.engine.live()[0].standing, Standing::Lingering(_)));
    desk.wait(119);
    assert!(desk.engine.reviews().is_empty());
    desk.wait(1);
    assert_eq!(desk.engine.reviews().len(), 2, "two hours after the last fire a person reviews");
    assert_eq!(desk.live(), [A, B], "and until then the schools stay closed");
    assert_eq!(desk.sent(A), [Alert, Update, Update]);
}

#[test]
fn with_then_cancel_the_rule_cancels_after_it_has_lingered() {
    let mut desk = Desk::asking(&FIRE.replace("then: review", "then: cancel"));
    desk.sign(&["p-1", "p-2"]);
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.wait(10);
    desk.cancel("fsd", &[cause]);
    desk.wait(120);
    assert_eq!(desk.sent(A), [Alert, Cancel]);
    assert_eq!(desk.live(), [""; 0]);
    let cancel = desk.effects().into_iter().find(|effect| effect.alert.msg_type == Cancel).unwrap();
    assert_eq!(cancel.alert.infos[2].headline.as_deref(), Some("School A is open again."));
    assert_eq!(cancel.alert.referenced().len(), 1);
    assert_eq!(desk.engine.due(), None, "nothing is left behind");
}

#[test]
fn lowering_and_all_clear_end_a_cause_as_a_cancel_does() {
    for all_clear in [false, true] {
        let mut desk = Desk::signed();
        let cause = of("f1", desk.now);
        desk.fire("f1", 3);
        desk.wait(10);
        let mut lowered = update(fire("f1b", if all_clear { 3 } else { 2 }, desk.now), &[cause]);
        if all_clear {
            lowered.infos[0].response_types = vec![ResponseType::AllClear];
        }
        desk.alert("fsd", &lowered);
        assert!(matches!(desk.engine.live()[0].standing, Standing::Lingering(_)));
    }
}

#[test]
fn an_update_that_still_matches_keeps_the_effect_without_a_word() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.wait(10);
    let outcome = desk.alert("fsd", &update(fire("f1b", 5, desk.now), &[cause]));
    assert_eq!(outcome.effects, []);
    assert_eq!(desk.engine.live()[0].causes[0].alert.identifier(), "f1b");
    desk.wait(10);
    let alone = desk.cancel("fsd", &[of("f1b", start() + SignedDuration::from_mins(10))]);
    assert_eq!(verdicts(&alone), [Verdict::Lingering, Verdict::Lingering]);
}

#[test]
fn a_cause_that_expires_unrenewed_reopens_nothing_and_goes_to_review() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.wait(6 * 60);
    assert_eq!(desk.engine.reviews().len(), 2);
    assert_eq!(desk.live(), [A, B]);
    assert_eq!(desk.sent(A), [Alert]);
    desk.wait(60);
    desk.alert("fsd", &update(fire("f1b", 3, desk.now), std::slice::from_ref(&cause)));
    assert!(desk.engine.reviews().is_empty(), "a renewal supports it again");
    assert_eq!(desk.sent(A), [Alert]);
    desk.wait(1);
    desk.cancel("fsd", &[cause]);
    assert!(matches!(desk.engine.live()[0].standing, Standing::Lingering(_)), "and its Cancel ends it");
}

#[test]
fn an_effect_ends_at_its_longest_time_and_an_old_cause_does_not_bring_it_back() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.wait(5 * 60);
    let mut renewed = update(fire("f1b", 3, desk.now), &[cause]);
    let late = desk.now + SignedDuration::from_hours(24);
    renewed.infos[0].expires = Some(campanile_alert::DateTime::from_instant(late, 480));
    desk.alert("fsd", &renewed);
    desk.wait(19 * 60);
    assert_eq!(desk.live(), [""; 0]);
    let again = desk.alert("fsd", &update(fire("f1c", 3, desk.now), &[renewed.id()]));
    assert_eq!(again.effects, []);
    assert!(says(&again, "only a new cause"));
    assert!(!desk.fire("f2", 3).effects.is_empty());
}

#[test]
fn an_officers_cancel_wins_until_a_new_cause_comes() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    let issued = desk.fire("f1", 3);
    let message = issued.effects[0].alert.id();
    desk.wait(5);
    desk.cancel("edb", &[message]);
    assert_eq!(desk.live(), [B]);
    desk.wait(5);
    let updated = desk.alert("fsd", &update(fire("f1b", 5, desk.now), &[cause]));
    assert_eq!(updated.effects, [], "an update of the same fire is not a new cause");
    assert_eq!(desk.live(), [B]);
    desk.wait(5);
    desk.fire("f2", 3);
    assert_eq!(desk.live(), [A, B]);
    assert_eq!(desk.sent(A), [Alert, Alert]);
}

#[test]
fn what_was_said_beyond_the_message_that_an_officer_cancels_is_cancelled_too() {
    let mut desk = Desk::signed();
    let known = desk.fire("f1", 3).effects[0].alert.id();
    desk.wait(5);
    // Decided before the officer's word is weighed, whichever of the two is stored first.
    let joined = desk.fire("f2", 3).effects.into_iter().find(|effect| effect.key.target == A).unwrap();
    let ended = desk.cancel("edb", &[known]);
    assert_eq!(desk.sent(A), [Alert, Update, Cancel]);
    assert!(ended.effects[0].alert.referenced().contains(&joined.alert.id()));
    assert_eq!(desk.live(), [B]);
    desk.alert("edb", &ended.effects[0].alert);
    assert_eq!((desk.live(), desk.sent(A).len()), (vec![B.to_owned()], 3), "its own word changes nothing");
}

#[test]
fn the_engines_own_messages_coming_back_change_nothing() {
    let mut desk = Desk::signed();
    let issued = desk.fire("f1", 3);
    let alert = issued.effects[0].alert.clone();
    let back = desk.alert("edb", &alert);
    assert_eq!(back.effects, []);
    assert_eq!(desk.live(), [A, B]);
}

#[test]
fn a_persons_cancel_ends_what_was_under_review() {
    let mut desk = Desk::signed();
    desk.fire("f1", 3);
    desk.wait(6 * 60);
    let messages: Vec<_> = desk.engine.reviews().into_iter().map(|review| review.message).collect();
    desk.cancel("edb", &messages);
    assert_eq!(desk.live(), [""; 0]);
    assert!(desk.engine.reviews().is_empty());
}

#[test]
fn another_departments_cancel_of_a_cause_counts_for_nothing() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.cancel("lcsd", std::slice::from_ref(&cause));
    assert!(matches!(desk.engine.live()[0].standing, Standing::Supported));
    let cancel = update(fire("c", 3, desk.now), &[cause]);
    let cancel = campanile_alert::Alert { msg_type: Cancel, infos: vec![], ..cancel };
    desk.alert_in("fsd", exercise(), &cancel);
    assert!(matches!(desk.engine.live()[0].standing, Standing::Supported), "nor does one of an exercise");
}

#[test]
fn a_cancel_that_comes_before_its_alert_still_ends_it() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.cancel("fsd", &[cause]);
    let late = desk.fire("f1", 3);
    assert_eq!(late.effects, []);
    assert!(says(&late, "already cancelled or superseded"));
}

#[test]
fn an_unclassified_update_is_no_all_clear() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    let unknown = update(fire("f1b", 3, desk.now), &[cause]);
    desk.put(&id("fsd"), World::Actual, Kind::Alert(Box::new(unknown), Classification::default()));
    assert_eq!(desk.engine.reviews().len(), 2);
}

#[test]
fn hold_runs_from_the_records_own_time_within_what_can_be_believed() {
    let text = FIRE.replace("hold: 0s", "hold: 5m");
    let mut desk = Desk::asking(&text);
    desk.sign(&["p-1", "p-2"]);
    let said = desk.fire("f1", 3);
    assert_eq!(verdicts(&said), [Verdict::Holding]);
    desk.wait(4);
    assert_eq!(desk.live(), [""; 0]);
    desk.wait(1);
    assert_eq!(desk.live(), [A, B]);

    // A record that says it is an hour old is believed back to the record before it in its log.
    let mut desk = Desk::asking(&text);
    desk.sign(&["p-1", "p-2"]);
    let mut stored = desk.journal[0].clone();
    let alert = fire("f1", 3, desk.now);
    let words = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
    stored.department = id("fsd");
    stored.kind = Kind::Alert(Box::new(alert), words);
    stored.hash = [7; 32];
    stored.time = desk.now - SignedDuration::from_hours(1);
    stored.previous = Some(desk.now - SignedDuration::from_mins(2));
    desk.push(stored);
    assert_eq!(desk.engine.due(), Some(desk.now + SignedDuration::from_mins(3)));
}

#[test]
fn a_draft_a_test_and_a_system_message_support_nothing() {
    let mut desk = Desk::signed();
    for (status, world) in
        [(Status::Draft, World::Actual), (Status::Test, World::Test), (Status::System, World::System)]
    {
        let alert = campanile_alert::Alert { status, ..fire("f1", 5, desk.now) };
        let words = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
        let mut stored = desk.stored(&id("fsd"), world, Kind::Alert(Box::new(alert), words));
        stored.status = status;
        assert_eq!(desk.push(stored).effects, [], "{status}");
    }
}

#[test]
fn a_cause_too_deep_or_made_by_the_rule_itself_is_refused_and_said() {
    let mut desk = Desk::signed();
    let mut publish = |alert: campanile_alert::Alert, depth, rules: &[&str]| {
        let words = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
        let mut stored = desk.stored(&id("fsd"), World::Actual, Kind::Alert(Box::new(alert), words));
        (stored.depth, stored.rules) = (depth, rules.iter().map(ToString::to_string).collect());
        desk.push(stored)
    };
    let fire = |name| fire(name, 5, start());
    let outcome = publish(fire("f1"), 4, &[]);
    assert_eq!((outcome.effects.len(), verdicts(&outcome)), (0, vec![Verdict::Refused]));
    assert_eq!(verdicts(&publish(fire("f2"), 1, &[RULE])), [Verdict::Refused]);
    let outcome = publish(fire("f3"), 1, &["fsd.other"]);
    assert_eq!((outcome.effects[0].depth, outcome.effects[0].rules.len()), (2, 2));
    // What once stood behind a cause stands behind it for good, whatever its updates say.
    let outcome = publish(update(fire("f2u"), &[fire("f2").id()]), 0, &[]);
    assert_eq!(verdicts(&outcome), [Verdict::Refused]);
}

#[test]
fn the_order_in_which_two_causes_come_does_not_change_what_is_in_force() {
    let mut wide = fire("f2", 4, start());
    wide.infos[0].areas[0].circles = vec![campanile_alert::Circle::parse("22.31,114.1 0.8").unwrap()];
    let near = fire("f1", 3, start());
    let mut sets = Vec::new();
    for order in [[&near, &wide], [&wide, &near]] {
        let mut desk = Desk::signed();
        for alert in order {
            desk.alert("fsd", alert);
        }
        let live = desk.engine.live().into_iter();
        let live: Vec<_> = live
            .map(|live| (live.effect, live.causes.into_iter().map(|cause| cause.alert).collect::<Vec<_>>()))
            .collect();
        sets.push(live);
    }
    assert_eq!(sets[0], sets[1]);
    assert!(sets[0].len() >= 2);
}

#[test]
fn a_pause_takes_effect_at_once_keeps_what_is_in_force_and_forgets_no_cause() {
    let mut desk = Desk::signed();
    let cause = of("f1", desk.now);
    desk.fire("f1", 3);
    desk.put(&id("edb"), World::Actual, Kind::Pause(RULE.into(), None));
    desk.wait(1);
    let mut wide = fire("f2", 4, desk.now);
    wide.infos[0].areas[0].circles = vec![campanile_alert::Circle::parse("22.32,114.1 0.1").unwrap()];
    let said = desk.alert("fsd", &wide);
    assert_eq!((said.effects.len(), verdicts(&said)), (0, vec![Verdict::Paused]));
    assert_eq!(desk.live(), [A, B]);
    desk.cancel("fsd", &[cause]);
    assert_eq!(desk.engine.reviews().len(), 2, "an end while it is paused is put to a person");
    let resumed = desk.put(&id("edb"), World::Actual, Kind::Resume(RULE.into()));
    assert_eq!(resumed.effects.len(), 1);
    assert_eq!(desk.live(), [A, B, C]);
}

#[test]
fn a_pause_with_an_end_ends_by_itself() {
    let mut desk = Desk::signed();
    let until = desk.now + SignedDuration::from_mins(30);
    desk.put(&id("edb"), World::Actual, Kind::Pause(RULE.into(), Some(until)));
    desk.fire("f1", 3);
    desk.wait(29);
    assert_eq!(desk.live(), [""; 0]);
    desk.wait(1);
    assert_eq!(desk.live(), [A, B]);
}

#[test]
fn events_that_no_rule_waits_for_leave_no_trace() {
    let mut desk = Desk::signed();
    let before = desk.rows.len();
    let now = desk.now;
    desk.alert("hko", &other("w1", "weather-signal", Some("WRAINR"), now));
    assert_eq!(desk.rows.len(), before);
}
