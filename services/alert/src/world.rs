//! Worlds: what is real, and which exercise is which. Evaluation never crosses from one into another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::ExerciseId;
use crate::message::Status;

/// The world of a record, from its status and exercise id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// The real one.
    Actual,
    /// One exercise.
    Exercise(ExerciseId),
    /// Messages between systems; they support no effect.
    System,
    /// Technical tests, which all recipients disregard; they support no effect.
    Test,
}

/// Why a status and an exercise id do not make a world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Status Exercise without the name of the exercise.
    #[error("status Exercise needs an exercise id; give the id of the drill it belongs to")]
    ExerciseUnnamed,
    /// An exercise id beside a status that no drill has.
    #[error("an exercise id stands beside status {0:?}; only Exercise and Draft may name a drill")]
    ExerciseMisplaced(Status),
}

impl World {
    /// Finds the world of a message.
    ///
    /// A Draft belongs to the world of its cause: to `exercise` when that is named, otherwise to the real one.
    ///
    /// # Errors
    /// [`Error`] when Exercise comes without an id, or an id comes with Actual, System or Test.
    pub fn of(status: Status, exercise: Option<&ExerciseId>) -> Result<Self, Error> {
        match (status, exercise) {
            (Status::Exercise | Status::Draft, Some(id)) => Ok(Self::Exercise(id.clone())),
            (Status::Exercise, None) => Err(Error::ExerciseUnnamed),
            (Status::Actual | Status::Draft, None) => Ok(Self::Actual),
            (Status::System, None) => Ok(Self::System),
            (Status::Test, None) => Ok(Self::Test),
            (status, Some(_)) => Err(Error::ExerciseMisplaced(status)),
        }
    }

    /// The exercise, when the world is one.
    pub fn exercise(&self) -> Option<&ExerciseId> {
        match self {
            Self::Exercise(id) => Some(id),
            _ => None,
        }
    }

    /// The status that an effect issued in this world carries.
    pub fn status(&self) -> Status {
        match self {
            Self::Actual => Status::Actual,
            Self::Exercise(_) => Status::Exercise,
            Self::System => Status::System,
            Self::Test => Status::Test,
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actual => f.write_str("actual"),
            Self::Exercise(id) => write!(f, "exercise:{id}"),
            Self::System => f.write_str("system"),
            Self::Test => f.write_str("test"),
        }
    }
}
