//! When a receiver that fails is tried again. After a few failures in a row its circuit opens:
//! nothing is sent until a pause is over, then one delivery tries; the pause doubles while it
//! fails, and one success closes the circuit.

use std::time::Duration;

use rand::RngExt;

use crate::model::Stamp;

/// Longest pause between two attempts of a closed circuit.
const BACKOFF: Duration = Duration::from_secs(60);
/// First pause of an open one.
const PROBE: Duration = Duration::from_secs(30);
/// Its longest.
const PROBE_MAX: Duration = Duration::from_secs(300);

/// Failures in a row and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circuit {
    threshold: i64,
    /// Failed attempts in a row.
    pub(super) failures: i64,
    /// Open until then.
    pub(super) open_until: Option<Stamp>,
}

impl Circuit {
    pub(super) fn new(threshold: u64, failures: i64, open_until: Option<Stamp>) -> Self {
        Self {
            threshold: i64::try_from(threshold).unwrap_or(i64::MAX).max(1),
            failures,
            open_until,
        }
    }

    /// The earliest moment at which something may be sent.
    pub(super) fn ready_at(&self) -> Stamp {
        self.open_until.unwrap_or(Stamp(i64::MIN))
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.open_until = None;
    }

    /// Counts a failure; `jitter` is 0.8 to 1.2.
    pub(super) fn failed(&mut self, now: Stamp, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let over = self.failures - self.threshold;
        if over >= 0 {
            let pause = doubled(PROBE, over, PROBE_MAX);
            self.open_until = Some(now.plus(pause.mul_f64(jitter)));
        }
    }
}

/// The pause before attempt number `attempts + 1` of one delivery: 1, 2, 4 … 60 seconds.
pub(super) fn backoff(attempts: i64, jitter: f64) -> Duration {
    doubled(Duration::from_secs(1), attempts - 1, BACKOFF).mul_f64(jitter)
}

fn doubled(first: Duration, times: i64, most: Duration) -> Duration {
    let times = u32::try_from(times.clamp(0, 16)).unwrap_or(0);
    first.saturating_mul(1 << times).min(most)
}

/// A factor around 1, so that receivers are not asked in step.
pub(super) fn jitter() -> f64 {
    rand::rng().random_range(0.8..1.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_opens_at_the_threshold_and_closes_with_a_success() {
        let mut circuit = Circuit::new(3, 0, None);
        let now = Stamp(1_000_000);
        circuit.failed(now, 1.0);
        circuit.failed(now, 1.0);
        assert_eq!(circuit.open_until, None);
        circuit.failed(now, 1.0);
        assert_eq!(circuit.open_until, Some(now.plus(PROBE)));
        circuit.failed(now, 1.0);
        assert_eq!(circuit.open_until, Some(now.plus(PROBE * 2)));
        for _ in 0..100 {
            circuit.failed(now, 1.0);
        }
        assert_eq!(circuit.ready_at(), now.plus(PROBE_MAX));
        circuit.succeeded();
        assert_eq!(circuit, Circuit::new(3, 0, None));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds = |attempts| backoff(attempts, 1.0).as_secs();
        assert_eq!([1, 2, 3, 7, 8, 1000].map(seconds), [1, 2, 4, 60, 60, 60]);
        assert_eq!(seconds(0), 1);
        assert!((0.8..1.2).contains(&jitter()));
    }
}
