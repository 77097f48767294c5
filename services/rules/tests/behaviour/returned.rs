//! What comes back of our own after a disk was lost: it is in force again under its causes, and issued no second time.

use campanile_alert::{Alert, Classification, MessageType, References, World};
use campanile_rules::{AT_ONCE, Issued, Outcome, Standing};

use crate::desk::{A, B, Desk, FIRE, Kind, RULE, engine, fire, id, of};

/// A desk whose disk was lost, and the messages that it had published and gets back.
fn lost(before: &Desk) -> Desk {
    let mut desk = Desk::asking(FIRE);
    desk.now = before.now + jiff::SignedDuration::from_mins(1);
    give_back(&mut desk, before);
    desk
}

fn give_back(desk: &mut Desk, before: &Desk) {
    let effects: Vec<_> = before.effects().into_iter().cloned().collect();
    for effect in effects {
        let issued = Issued { rule: RULE.into(), causes: effect.causes.clone() };
        let back = take_back(desk, effect.key.world, &effect.alert, effect.classification, Some(&issued));
        assert!(back.effects.is_empty());
    }
}

fn take_back(desk: &mut Desk, world: World, alert: &Alert, words: Classification, issued: Option<&Issued>) -> Outcome {
    let stored = desk.stored(&id("edb"), world, Kind::Alert(Box::new(alert.clone()), words));
    let outcome = desk.engine.take_back(&stored.input(), issued);
    for (key, value) in outcome.state.clone() {
        match value {
            Some(value) => desk.rows.insert(key, value),
            None => desk.rows.remove(&key),
        };
    }
    desk.journal.push(stored);
    outcome
}

fn tick(desk: &mut Desk) -> Outcome {
    assert_eq!(desk.engine.due(), Some(AT_ONCE), "it waits for the word that all is here");
    desk.put(&id("edb"), World::Actual, Kind::Tick(desk.now))
}

#[test]
fn what_comes_back_is_in_force_again_and_nothing_is_issued_or_asked_a_second_time() {
    let mut before = Desk::signed();
    before.fire("f1", 3);
    let sent = before.now;
    let mut desk = lost(&before);
    assert_eq!(desk.live(), Vec::<String>::new());
    let again = desk.alert("fsd", &fire("f1", 3, sent));
    assert!(again.effects.is_empty() && desk.engine.pending().is_empty(), "nothing is decided before all is here");
    tick(&mut desk);
    assert_eq!(desk.live(), [A, B]);
    assert_eq!(desk.effects(), Vec::<&campanile_rules::Effect>::new());
    assert!(desk.engine.pending().is_empty());
    assert!(desk.engine.live().iter().all(|live| live.standing == Standing::Supported && live.causes.len() == 1));
    // It is managed on: another fire joins, and the message refers to the one that came back.
    let joined = desk.fire("f2", 3);
    let update = &joined.effects[0].alert;
    assert_eq!(update.msg_type, MessageType::Update);
    assert_eq!(update.referenced(), [before.effects()[0].alert.id()]);
}

#[test]
fn what_persons_agree_to_before_all_is_here_is_not_issued_a_second_time() {
    let mut before = Desk::asking(FIRE);
    before.fire("f1", 3);
    let sent = before.now;
    assert!(before.agree("p-1").effects.is_empty());
    assert_eq!(before.agree("p-2").effects.len(), 2);
    // The cause comes before what was issued for it, so persons are asked anew.
    let mut desk = Desk::asking(FIRE);
    desk.now = before.now + jiff::SignedDuration::from_mins(1);
    desk.alert("fsd", &fire("f1", 3, sent));
    assert_eq!(desk.engine.pending().len(), 1);
    give_back(&mut desk, &before);
    for person in ["p-1", "p-2"] {
        assert!(desk.agree(person).effects.is_empty(), "the answer of {person} is not taken yet");
    }
    tick(&mut desk);
    assert_eq!(desk.live(), [A, B]);
    assert!(desk.effects().is_empty() && desk.engine.pending().is_empty());
}

#[test]
fn a_restart_between_what_comes_back_and_the_tick_changes_nothing() {
    let mut before = Desk::signed();
    before.fire("f1", 3);
    let mut desk = lost(&before);
    desk.engine = engine(FIRE);
    desk.engine.restore(desk.rows.clone()).unwrap();
    desk.alert("fsd", &fire("f1", 3, before.now));
    tick(&mut desk);
    assert_eq!(desk.live(), [A, B]);
    assert!(desk.effects().is_empty());
}

#[test]
fn t4_a_cause_that_ended_while_the_disk_was_gone_ends_what_comes_back() {
    let mut before = Desk::signed();
    before.fire("f1", 3);
    let mut desk = lost(&before);
    desk.alert("fsd", &fire("f1", 3, before.now));
    desk.cancel("fsd", &[of("f1", before.now)]);
    tick(&mut desk);
    let standings: Vec<Standing> = desk.engine.live().into_iter().map(|live| live.standing).collect();
    assert!(matches!(standings[..], [Standing::Lingering(_), Standing::Lingering(_)]), "{standings:?}");
    desk.wait(2 * 60 + 1);
    assert_eq!(desk.engine.reviews().len(), 2, "as the rule has it after two hours");
}

#[test]
fn a_cause_that_nobody_holds_any_more_puts_what_comes_back_to_a_person() {
    let mut before = Desk::signed();
    before.fire("f1", 3);
    let mut desk = lost(&before);
    let outcome = tick(&mut desk);
    assert_eq!(desk.live(), [A, B], "silence is not an all-clear");
    assert_eq!(desk.engine.reviews().len(), 2);
    assert!(outcome.effects.is_empty());
}

#[test]
fn what_was_over_stays_over_and_an_officers_cancel_still_wins() {
    let mut before = Desk::signed();
    before.fire("f1", 3);
    let message = before.effects()[0].alert.id();
    let mut desk = lost(&before);
    let cancel = Alert {
        identifier: "officer-1".into(),
        msg_type: MessageType::Cancel,
        references: Some(References::from_ids(&[message])),
        infos: Vec::new(),
        ..fire("f1", 3, desk.now)
    };
    take_back(&mut desk, World::Actual, &cancel, Classification::default(), None);
    desk.alert("fsd", &fire("f1", 3, before.now));
    tick(&mut desk);
    assert_eq!(desk.live(), [B], "an officer ended the first");
    assert!(desk.effects().is_empty() && desk.engine.pending().is_empty());
}

#[test]
fn t1_an_engine_that_waits_takes_note_and_decides_all_of_it_at_the_tick_whatever_is_restarted_meanwhile() {
    for restarted in [false, true] {
        let mut desk = Desk::signed();
        desk.engine.wait_for_tick();
        assert!(desk.fire("out", 3).effects.is_empty());
        desk.cancel("fsd", &[of("out", desk.now)]);
        assert!(
            desk.fire("burns", 3).effects.is_empty() && desk.live().is_empty(),
            "nothing is decided while it waits"
        );
        if restarted {
            desk.engine = engine(FIRE);
            desk.engine.restore(desk.rows.clone()).unwrap();
        }
        let decided = tick(&mut desk);
        assert_eq!(decided.effects.len(), 2, "restarted: {restarted}");
        assert_eq!(desk.live(), [A, B]);
        let causes = desk.engine.live().into_iter().flat_map(|live| live.causes);
        assert!(causes.into_iter().all(|cause| cause.alert.identifier() == "burns"));
        assert!(desk.engine.due().is_none_or(|due| due != AT_ONCE), "it waits no longer");
        assert_eq!(desk.fire("later", 3).effects.len(), 2);
    }
}
