//! The drill's own time against the clock of the federation: a start, a speed, and the pauses in between.

use std::sync::Arc;

use campanile_alert::{Clock, Timestamp};

use super::SPEED_MAX;
use crate::time::Offset;

/// The most pauses of a drill.
const PAUSES_MAX: usize = 1_000;

/// The drill's clock.
#[derive(Debug, Clone)]
pub struct DrillClock {
    clock: Arc<dyn Clock>,
    start: Timestamp,
    speed: i64,
    /// Since when, and until when; the last may go on.
    pauses: Vec<(Timestamp, Option<Timestamp>)>,
}

impl DrillClock {
    /// T+0 is now. The speed is brought into 1 to 1000.
    pub fn start(clock: Arc<dyn Clock>, speed: u32) -> Self {
        let start = clock.now();
        Self { clock, start, speed: speed.clamp(1, SPEED_MAX).into(), pauses: Vec::new() }
    }

    /// T+0 on the clock of the federation.
    pub fn beginning(&self) -> Timestamp {
        self.start
    }

    /// The instant on the clock of the federation.
    pub fn instant(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the drill's clock shows now.
    pub fn now(&self) -> Offset {
        self.at(self.instant())
    }

    /// What the drill's clock showed at an instant; nought before the start.
    pub fn at(&self, instant: Timestamp) -> Offset {
        Offset::from_ms(self.ms(instant))
    }

    /// The same in milliseconds, negative before the start and unbounded after it.
    pub fn ms(&self, instant: Timestamp) -> i64 {
        let ms = |at: Timestamp| at.as_millisecond();
        let stood: i64 = self
            .pauses
            .iter()
            .map(|(from, to)| (to.map_or(ms(instant), |to| ms(to).min(ms(instant))) - ms(*from)).max(0))
            .sum();
        (ms(instant) - ms(self.start) - stood).saturating_mul(self.speed)
    }

    /// A length of the drill's time as one of the federation's clock, in milliseconds.
    pub fn real_ms(&self, drill_ms: i64) -> i64 {
        drill_ms / self.speed
    }

    /// Stops; false when it stands already, or has been stopped too often.
    pub fn pause(&mut self) -> bool {
        if self.is_paused() || self.pauses.len() >= PAUSES_MAX {
            return false;
        }
        self.pauses.push((self.instant(), None));
        true
    }

    /// Goes on; false when it does not stand.
    pub fn resume(&mut self) -> bool {
        let now = self.instant();
        match self.pauses.last_mut() {
            Some((_, to @ None)) => {
                *to = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Whether it stands or has stood.
    pub fn has_stood(&self) -> bool {
        !self.pauses.is_empty()
    }

    /// Whether it stands.
    pub fn is_paused(&self) -> bool {
        matches!(self.pauses.last(), Some((_, None)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::time::Duration;

    use campanile_alert::ManualClock;

    use super::*;

    #[test]
    fn the_drills_clock_runs_at_its_speed_and_stands_in_pauses() {
        let wall = Arc::new(ManualClock::new("2026-10-13T02:00:00Z".parse().unwrap()));
        let mut clock = DrillClock::start(Arc::clone(&wall) as Arc<dyn Clock>, 10);
        wall.advance(Duration::from_secs(60));
        assert_eq!(clock.now().to_string(), "T+10m");
        assert!(clock.pause() && !clock.pause());
        let in_pause = wall.now();
        wall.advance(Duration::from_secs(60));
        assert_eq!(clock.now().to_string(), "T+10m");
        assert!(clock.resume() && !clock.resume());
        wall.advance(Duration::from_secs(6));
        assert_eq!(clock.now().to_string(), "T+11m");
        assert_eq!(clock.at(in_pause).to_string(), "T+10m");
        assert_eq!(clock.at("2026-10-13T01:00:00Z".parse().unwrap()), Offset::START);
    }
}
