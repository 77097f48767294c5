//! How long to wait before the next attempt: doubling, capped, with jitter, so that clients do not return as one.

use std::time::Duration;

use rand::Rng as _;

/// How often and how fast a call or a stream is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    /// How many attempts in all, the first included; 1 means never again. A stream counts from its last message.
    pub attempts_max: u32,
    /// The wait after the first attempt, in milliseconds, before jitter.
    pub backoff_ms_first: u64,
    /// The longest wait, in milliseconds.
    pub backoff_ms_max: u64,
}

impl Attempts {
    /// The wait after `failed` failed attempts in a row: half of it fixed, half random. `None` when there are no more.
    pub(crate) fn wait(&self, failed: u32) -> Option<Duration> {
        let full = self.full(failed)?;
        let half = full / 2;
        Some(Duration::from_millis(half + rand::rng().random_range(0..=full - half)))
    }

    fn full(&self, failed: u32) -> Option<u64> {
        let doubled = 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX);
        let full = self.backoff_ms_first.saturating_mul(doubled).min(self.backoff_ms_max);
        (failed < self.attempts_max).then_some(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_end() {
        let attempts = Attempts { attempts_max: 100, backoff_ms_first: 100, backoff_ms_max: 1_000 };
        let full: Vec<_> = [1, 2, 3, 4, 5, 70, 99].map(|failed| attempts.full(failed)).into();
        assert_eq!(full, [100, 200, 400, 800, 1_000, 1_000, 1_000].map(Some));
        assert_eq!(attempts.full(100), None);
        assert_eq!(Attempts { attempts_max: 1, ..attempts }.wait(1), None);
    }

    #[test]
    fn jitter_stays_between_half_and_full() {
        let attempts = Attempts { attempts_max: 9, backoff_ms_first: 100, backoff_ms_max: 10_000 };
        for _ in 0..200 {
            let wait = attempts.wait(3).unwrap_or_default().as_millis();
            assert!((200..=400).contains(&wait), "{wait}");
        }
    }
}
