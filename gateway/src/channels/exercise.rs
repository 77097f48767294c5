//! Sinks bound to exercises: where the participants of a drill read what the public would have read.
//!
//! They take [`DrillNotice`]s only, keep each exercise apart, and are served on an address of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::ExerciseId;
use parking_lot::RwLock;

use crate::board::{Boards, Standing};
use crate::notice::DrillNotice;

/// The most notices kept for one exercise; the oldest go first.
const NOTICES_MAX: usize = 1_000;

/// The sinks of the exercises that this gateway serves.
#[derive(Debug)]
pub struct Exercises {
    boards: Arc<RwLock<Boards>>,
    notices: RwLock<BTreeMap<ExerciseId, Vec<DrillNotice>>>,
}

impl Exercises {
    /// Sinks for these exercises and no others.
    pub fn new(ids: impl IntoIterator<Item = ExerciseId>, boards: Arc<RwLock<Boards>>) -> Self {
        Self { boards, notices: RwLock::new(ids.into_iter().map(|id| (id, Vec::new())).collect()) }
    }

    /// The channel's name in delivery reports.
    pub fn name(&self) -> &'static str {
        "exercise"
    }

    /// Takes a notice; false when its exercise has no sink here, or has the notice already.
    pub fn hand(&self, notice: DrillNotice) -> bool {
        let mut sinks = self.notices.write();
        let Some(sink) = sinks.get_mut(notice.exercise()) else { return false };
        if sink.iter().any(|held| held.incoming().record == notice.incoming().record) {
            return false;
        }
        if sink.len() >= NOTICES_MAX {
            sink.remove(0);
        }
        sink.push(notice);
        true
    }

    /// What is in force in an exercise at `now`, the newest first; absent when the exercise has no sink here.
    pub fn in_force(&self, id: &ExerciseId, now: campanile_alert::Timestamp) -> Option<Vec<DrillNotice>> {
        let sinks = self.notices.read();
        let boards = self.boards.read();
        let holds = |notice: &&DrillNotice| {
            let incoming = notice.incoming();
            boards.of(incoming).is_some_and(|board| board.standing(&incoming.record, now) == Standing::InForce)
        };
        Some(sinks.get(id)?.iter().rev().filter(holds).cloned().collect())
    }
}
