//! When a decky that does not stay as it should be is tried again: a jittered
//! exponential wait per decky, at most a minute, kept in memory only. A changed wish
//! is tried at once.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

/// First and longest wait.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A decky that was well for this long (and for its last wait) starts over.
const WELL: Duration = Duration::from_secs(10);

/// What is known of one decky.
#[derive(Debug)]
struct Attempts {
    /// Version of the row they were made for.
    version: i64,
    times: u32,
    last: Instant,
    wait: Duration,
    /// Something is still to be done.
    wanting: bool,
}

impl Attempts {
    fn not_before(&self) -> Instant {
        self.last + self.wait
    }
}

/// The waits of all deckies.
#[derive(Debug, Default)]
pub(super) struct Backoff(HashMap<String, Attempts>);

impl Backoff {
    /// Whether something may be done about `name` now.
    pub(super) fn is_over(&self, name: &str, version: i64, now: Instant) -> bool {
        self.0
            .get(name)
            .is_none_or(|a| a.version != version || a.not_before() <= now)
    }

    /// Something was done about `name`, or tried; `well` says whether that was enough.
    pub(super) fn tried(&mut self, name: &str, version: i64, now: Instant, well: bool) {
        let times = match self.0.get(name) {
            Some(a) if a.version == version => a.times + 1,
            _ => 1,
        };
        let whole = WAIT
            .0
            .saturating_mul(1 << (times - 1).min(6))
            .min(WAIT.1)
            .as_millis();
        let whole = u64::try_from(whole).unwrap_or(u64::MAX);
        // A fleet that failed together must not come back together.
        let wait = Duration::from_millis(rand::rng().random_range(whole / 2..=whole));
        let attempts = Attempts {
            version,
            times,
            last: now,
            wait,
            wanting: !well,
        };
        self.0.insert(name.to_owned(), attempts);
    }

    /// `name` is not as it should be, and its wait is not over.
    pub(super) fn still_wanting(&mut self, name: &str) {
        if let Some(attempts) = self.0.get_mut(name) {
            attempts.wanting = true;
        }
    }

    /// `name` was found as it should be.
    pub(super) fn well(&mut self, name: &str, now: Instant) {
        if let Some(attempts) = self.0.get_mut(name) {
            attempts.wanting = false;
            if now.saturating_duration_since(attempts.last) > attempts.wait.max(WELL) {
                self.0.remove(name);
            }
        }
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    /// When the next wait of a decky that wants something is over; of those that `count`.
    pub(super) fn next(&self, count: impl Fn(&str) -> bool) -> Option<Instant> {
        let wanting = self.0.iter().filter(|(name, a)| a.wanting && count(name));
        wanting.map(|(_, a)| a.not_before()).min()
    }

    /// Whose wait is over.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        self.0
            .iter()
            .filter(|(_, a)| a.wanting && a.not_before() <= now)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_a_new_wish_ends_them() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            backoff.tried("a", 1, now, false);
            assert!(!backoff.is_over("a", 1, now));
            assert!(backoff.is_over("a", 2, now) && backoff.is_over("b", 1, now));
            let next = backoff.next(|_| true).unwrap();
            waits.push(next - now);
            now = next;
            assert_eq!(backoff.due(now), ["a"]);
        }
        assert!(waits[0] <= WAIT.0, "{waits:?}");
        assert!(waits.iter().all(|w| *w <= WAIT.1), "{waits:?}");
        assert!(waits[9] >= WAIT.1 / 2, "{waits:?}");
    }

    #[test]
    fn only_lasting_health_is_forgiven() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        backoff.tried("a", 1, start, true);
        assert_eq!(
            backoff.next(|_| true),
            None,
            "nothing is wanted of a healthy one"
        );
        backoff.well("a", start + Duration::from_secs(5));
        backoff.tried("a", 1, start + Duration::from_secs(6), true);
        assert_eq!(backoff.0["a"].times, 2);
        backoff.well("a", start + Duration::from_secs(60));
        assert!(backoff.0.is_empty());
    }
}
