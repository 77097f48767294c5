//! Samples of latencies, and what is said of them.

use std::time::Duration;

/// The latencies of one measurement, and how long it took as a whole.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    sorted_us: Vec<f64>,
    took: Duration,
}

impl Sample {
    /// Takes the latencies of a measurement that took `took`.
    pub(super) fn new(latencies: Vec<Duration>, took: Duration) -> Self {
        let mut sorted_us: Vec<f64> = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6).collect();
        sorted_us.sort_by(f64::total_cmp);
        Self { sorted_us, took }
    }

    fn quantile(&self, q: f64) -> f64 {
        let last = self.sorted_us.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (last as f64 * q).round() as usize;
        self.sorted_us.get(at).copied().unwrap_or(f64::NAN)
    }

    /// The median in microseconds.
    pub(super) fn p50_us(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The 99th percentile in microseconds.
    pub(super) fn p99_us(&self) -> f64 {
        self.quantile(0.99)
    }

    /// How long it took as a whole, in seconds.
    pub(super) fn took_s(&self) -> f64 {
        self.took.as_secs_f64()
    }

    /// How many a second.
    pub(super) fn rate(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let count = self.sorted_us.len() as f64;
        count / self.took.as_secs_f64().max(1e-9)
    }
}

/// The middle of the values; not a number when there is none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let sample = Sample::new((1..=100).rev().map(Duration::from_micros).collect(), Duration::from_millis(10));
        assert!((sample.p50_us() - 51.0).abs() < 1.5);
        assert!((sample.p99_us() - 99.0).abs() < 1.5);
        assert!((sample.rate() - 10_000.0).abs() < 1.0);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    }
}
