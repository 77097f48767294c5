//! Silence beside an end: one cause expires unrenewed, the last other one ends.

use campanile_rules::Standing;

use crate::desk::{Desk, of};

#[test]
fn t4_an_effect_whose_causes_fell_silent_and_ended_goes_to_review() {
    // It once stayed as supported: one cause was expired and the other gone, so neither rule for an end applied.
    let mut desk = Desk::signed();
    desk.fire("f1", 3);
    desk.wait(60);
    let second = of("f2", desk.now);
    desk.fire("f2", 3);
    desk.wait(5 * 60 + 1);
    assert!(desk.engine.reviews().is_empty(), "the second fire supports what the first fell silent about");
    assert!(desk.engine.live().iter().all(|live| matches!(live.standing, Standing::Supported)));
    desk.cancel("fsd", &[second]);
    assert_eq!(desk.engine.reviews().len(), 2, "nobody has said that the first fire is over");
    assert_eq!(desk.live().len(), 2, "and until somebody does, the schools stay closed");
}
