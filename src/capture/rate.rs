//! How fast one source may go: a bucket of tokens that fills with time. The clock is an
//! argument.

use crate::model::Stamp;

/// A bucket that gains `rate` tokens a second and holds at most `burst`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    burst: u64,
    /// Millionths of a token: what `rate` gains in a microsecond.
    held: u64,
    at: Stamp,
}

const WHOLE: u64 = 1_000_000;

impl Bucket {
    /// A full bucket. A `rate` of 0 never refuses.
    pub(crate) fn new(rate: u64, burst: u64, now: Stamp) -> Self {
        let burst = burst.max(1).saturating_mul(WHOLE);
        Self {
            rate,
            burst,
            held: burst,
            at: now,
        }
    }

    /// Gains what the time since the last call brought. A clock that steps back brings
    /// nothing.
    pub(crate) fn fill(&mut self, now: Stamp) {
        let micros = u64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(0);
        self.at = now;
        let gained = micros.saturating_mul(self.rate);
        self.held = self.held.saturating_add(gained).min(self.burst);
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        if self.rate == 0 {
            return true;
        }
        let enough = self.held >= WHOLE;
        if enough {
            self.held -= WHOLE;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_time_brought(
            rate in 1u64..100_000, burst in 1u64..100_000, steps in prop::collection::vec((-1_000i64..2_000_000, 0u64..3_000), 1..50),
        ) {
            let mut bucket = Bucket::new(rate, burst, Stamp(0));
            let (mut now, mut forward, mut taken) = (0i64, 0u64, 0u64);
            for (step, wanted) in steps {
                now += step;
                forward += u64::try_from(step).unwrap_or(0);
                bucket.fill(Stamp(now));
                taken += (0..wanted).filter(|_| bucket.take()).count() as u64;
                prop_assert!(taken <= burst + forward * rate / 1_000_000 + 1);
            }
        }
    }

    #[test]
    fn it_fills_again_and_zero_is_no_limit() {
        let mut bucket = Bucket::new(10, 2, Stamp(0));
        assert!(bucket.take() && bucket.take() && !bucket.take());
        bucket.fill(Stamp(100_000));
        assert!(bucket.take() && !bucket.take());
        let mut open = Bucket::new(0, 1, Stamp(0));
        assert!((0..100).all(|_| open.take()));
    }
}
