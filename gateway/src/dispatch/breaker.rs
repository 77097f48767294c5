//! The breaker of one channel: after a few rounds in which a provider took nothing, it is left alone for a while and
//! then asked, with a probe that costs no notice, whether it is back.

use std::time::Duration;

use tokio::time::Instant;

/// How many rounds in a row without any success open it.
const FAILURES_MAX: u32 = 3;
/// The first wait.
const WAIT: Duration = Duration::from_secs(1);
/// The longest wait. A provider that comes back is seen within this time.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Whether a provider is worth trying.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<(Instant, Duration)>,
}

impl Breaker {
    /// The provider took something, or answered a probe.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The provider took nothing in a whole round.
    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX && self.open.is_none() {
            self.open = Some((now + WAIT, WAIT));
        }
    }

    /// A probe found it still away.
    pub fn still_away(&mut self, now: Instant) {
        let wait = self.open.map_or(WAIT, |(_, wait)| (wait * 2).min(WAIT_MAX));
        self.open = Some((now + wait, wait));
    }

    /// When to probe; absent while it is closed.
    pub fn probe_at(&self) -> Option<Instant> {
        self.open.map(|(at, _)| at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_three_failures_and_waits_longer_up_to_a_cap() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed(now);
        breaker.failed(now);
        assert_eq!(breaker.probe_at(), None);
        breaker.failed(now);
        assert_eq!(breaker.probe_at(), Some(now + WAIT));
        for _ in 0..10 {
            breaker.still_away(now);
        }
        assert_eq!(breaker.probe_at(), Some(now + WAIT_MAX));
        breaker.succeeded();
        assert_eq!(breaker.probe_at(), None);
    }
}
