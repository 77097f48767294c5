//! Notices: alerts that have been judged fit to go out, and to whom.
//!
//! [`LiveNotice`] is real and goes to the public. [`DrillNotice`] belongs to one exercise and goes to the sinks of that
//! exercise, with drill marks in every text. They are two types with a constructor each, and nothing turns one into the
//! other, so a public channel cannot be handed a drill however the rest of the gateway errs. Status System, Test and
//! Draft gives neither.
//!
//! ```compile_fail,E0277
//! fn convert(drill: campanile_gateway::notice::DrillNotice) -> campanile_gateway::notice::LiveNotice {
//!     drill.into()
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use campanile_gateway::incoming::Incoming;
//! fn forge(incoming: std::sync::Arc<Incoming>) -> campanile_gateway::notice::LiveNotice {
//!     campanile_gateway::notice::LiveNotice { incoming }
//! }
//! ```
//!
//! ```compile_fail,E0308
//! fn hand(channel: &dyn campanile_gateway::channels::Channel, drill: &campanile_gateway::notice::DrillNotice) {
//!     let _ = channel.hand(drill, &"all".into());
//! }
//! ```

use std::sync::Arc;

use campanile_alert::{Clock, ExerciseId, Scope, Status, Timestamp, World};
use parking_lot::RwLock;

use crate::board::{Boards, End, Standing};
use crate::incoming::Incoming;
use crate::texts::{Language, Texts};

/// Why an alert gives no notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// It is not of the world that was asked for.
    #[error("the alert is not of this world")]
    World,
    /// Its scope is not Public.
    #[error("the alert is not public")]
    Scope,
    /// Its type is not one that can be in force.
    #[error("the message is neither an Alert nor an Update")]
    Type,
    /// It does not say until when it holds.
    #[error("the alert does not say when it expires")]
    NoExpiry,
    /// It has expired.
    #[error("the alert has expired")]
    Expired,
    /// It was cancelled, superseded or followed by an all-clear, or is not known.
    #[error("the alert is no longer in force")]
    Ended,
}

/// A real, public alert that is in force at the moment of its making.
#[derive(Debug, Clone)]
pub struct LiveNotice {
    incoming: Arc<Incoming>,
}

impl LiveNotice {
    /// Judges an alert for the public, at the moment it is to be sent.
    ///
    /// # Errors
    /// [`Withheld`] when it is not Actual in the real world, not public, or not in force at `now`.
    pub fn of(incoming: &Arc<Incoming>, standing: Standing, now: Timestamp) -> Result<Self, Withheld> {
        if !is_actual(incoming) {
            return Err(Withheld::World);
        }
        in_force(incoming, standing, now)?;
        if incoming.alert.scope != Some(Scope::Public) {
            return Err(Withheld::Scope);
        }
        Ok(Self { incoming: Arc::clone(incoming) })
    }

    /// The alert.
    pub fn incoming(&self) -> &Arc<Incoming> {
        &self.incoming
    }

    /// The texts in a language.
    pub fn texts(&self, language: Language) -> Texts {
        Texts::of(&self.incoming, language)
    }
}

/// Judges alerts against what is on the boards at this moment.
#[derive(Debug, Clone)]
pub struct Judge {
    boards: Arc<RwLock<Boards>>,
    clock: Arc<dyn Clock>,
}

impl Judge {
    /// A judge over these boards.
    pub fn new(boards: Arc<RwLock<Boards>>, clock: Arc<dyn Clock>) -> Self {
        Self { boards, clock }
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Judges an alert for the public, now.
    ///
    /// # Errors
    /// [`Withheld`] when it may not go out.
    pub fn judge(&self, incoming: &Arc<Incoming>) -> Result<LiveNotice, Withheld> {
        let now = self.clock.now();
        let standing = self.boards.read().live().standing(&incoming.record, now);
        LiveNotice::of(incoming, standing, now)
    }

    /// Whether a notice made earlier still holds.
    pub fn still_holds(&self, notice: &LiveNotice) -> bool {
        self.judge(&notice.incoming).is_ok()
    }
}

/// The end of a real, public alert: what takes it off a channel again.
#[derive(Debug, Clone)]
pub struct EndNotice {
    incoming: Arc<Incoming>,
    end: End,
}

impl EndNotice {
    /// Judges the end of an alert for the public; `incoming` is the alert that ended.
    ///
    /// # Errors
    /// [`Withheld`] when the alert could never have been public.
    pub fn of(incoming: &Arc<Incoming>, end: &End) -> Result<Self, Withheld> {
        let ender_is_actual = end.by.as_ref().is_none_or(|by| is_actual(by));
        if !is_actual(incoming) || !ender_is_actual {
            return Err(Withheld::World);
        }
        if incoming.alert.scope != Some(Scope::Public) {
            return Err(Withheld::Scope);
        }
        Ok(Self { incoming: Arc::clone(incoming), end: end.clone() })
    }

    /// The alert that ended.
    pub fn incoming(&self) -> &Arc<Incoming> {
        &self.incoming
    }

    /// How and when it ended, and by which message.
    pub fn end(&self) -> &End {
        &self.end
    }
}

/// An alert of an exercise. Every text of it bears drill marks.
#[derive(Debug, Clone)]
pub struct DrillNotice {
    incoming: Arc<Incoming>,
    exercise: ExerciseId,
}

impl DrillNotice {
    /// Judges an alert for the sinks of its exercise.
    ///
    /// # Errors
    /// [`Withheld`] when it is not of an exercise, or not in force at `now`.
    pub fn of(incoming: &Arc<Incoming>, standing: Standing, now: Timestamp) -> Result<Self, Withheld> {
        let World::Exercise(exercise) = &incoming.world else { return Err(Withheld::World) };
        if incoming.status != Status::Exercise || incoming.alert.status != Status::Exercise {
            return Err(Withheld::World);
        }
        in_force(incoming, standing, now)?;
        Ok(Self { incoming: Arc::clone(incoming), exercise: exercise.clone() })
    }

    /// The alert.
    pub fn incoming(&self) -> &Arc<Incoming> {
        &self.incoming
    }

    /// The exercise.
    pub fn exercise(&self) -> &ExerciseId {
        &self.exercise
    }

    /// The texts in a language, each with the drill mark.
    pub fn texts(&self, language: Language) -> Texts {
        Texts::of(&self.incoming, language).marked(language.drill_mark())
    }
}

fn is_actual(incoming: &Incoming) -> bool {
    incoming.world == World::Actual && incoming.status == Status::Actual && incoming.alert.status == Status::Actual
}

fn in_force(incoming: &Incoming, standing: Standing, now: Timestamp) -> Result<(), Withheld> {
    if !incoming.can_be_in_force() {
        return Err(Withheld::Type);
    }
    let expires = incoming.alert.expires().ok_or(Withheld::NoExpiry)?;
    // A Cancel is the better answer where the alert has expired since as well.
    match standing {
        Standing::Ended | Standing::Unknown => Err(Withheld::Ended),
        Standing::Expired => Err(Withheld::Expired),
        Standing::InForce if expires <= now => Err(Withheld::Expired),
        Standing::InForce => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::testing::{at, exercise_fire, fire};

    #[test]
    fn t3_only_actual_in_the_real_world_gives_a_live_notice() {
        let now = at("2026-11-22T08:01:00+08:00");
        let real = Arc::new(fire("f1"));
        assert!(LiveNotice::of(&real, Standing::InForce, now).is_ok());
        for status in [Status::Exercise, Status::System, Status::Test, Status::Draft] {
            for world in [World::Actual, World::System, World::Test, World::Exercise("hv26".parse().expect("an id"))] {
                let mut alert = (*real.alert).clone();
                alert.status = status;
                let other = Arc::new(Incoming { status, world: world.clone(), alert: Arc::new(alert), ..fire("f1") });
                let judged = LiveNotice::of(&other, Standing::InForce, now).map(drop);
                assert_eq!(judged, Err(Withheld::World), "{status} in {world}");
            }
        }
        let half = Arc::new(Incoming { status: Status::Exercise, ..fire("f1") });
        assert_eq!(LiveNotice::of(&half, Standing::InForce, now).map(drop), Err(Withheld::World));
    }

    #[test]
    fn expiry_end_and_scope_withhold_a_notice() {
        let real = Arc::new(fire("f1"));
        let late = at("2026-11-22T12:00:00+08:00");
        assert_eq!(LiveNotice::of(&real, Standing::InForce, late).map(drop), Err(Withheld::Expired));
        let now = at("2026-11-22T08:01:00+08:00");
        assert_eq!(LiveNotice::of(&real, Standing::Ended, now).map(drop), Err(Withheld::Ended));
        let mut alert = (*real.alert).clone();
        alert.scope = Some(Scope::Restricted);
        let restricted = Arc::new(Incoming { alert: Arc::new(alert), ..fire("f1") });
        assert_eq!(LiveNotice::of(&restricted, Standing::InForce, now).map(drop), Err(Withheld::Scope));
    }

    #[test]
    fn every_text_of_a_drill_is_marked_in_every_language() {
        let now = at("2026-11-22T08:01:00+08:00");
        let drill = DrillNotice::of(&Arc::new(exercise_fire("x1")), Standing::InForce, now).expect("a drill notice");
        for (language, mark) in
            [(Language::En, "EXERCISE EXERCISE EXERCISE"), (Language::ZhHant, "演習"), (Language::ZhHans, "演习")]
        {
            let texts = drill.texts(language);
            let all = [Some(texts.headline), texts.description, texts.instruction, Some(texts.event), Some(texts.area)];
            for text in all.into_iter().flatten() {
                assert!(text.starts_with(mark), "{text}");
            }
        }
    }
}
