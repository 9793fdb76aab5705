//! Back-off for password guesses, per account and per address. An attempt counts when
//! it begins, so guesses made side by side count too. Success takes back what was counted
//! for this account, of its address too, but not what that address failed at others:
//! whoever has one password may not use it to go on guessing the rest. Unknown names count
//! like known ones, so nothing can be learned from being refused.
//!
//! Memory is bounded: each table holds so many keys, and a newcomer displaces the key
//! with the fewest failures. Flooding the table with fresh names therefore never
//! pardons the one that is being guessed.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Keys a table remembers.
const CAPACITY: usize = 4096;
/// A key that made no attempt for so long starts afresh.
const FORGET: Duration = Duration::from_secs(3600);

/// How fast a kind of key is slowed down.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// Attempts before the first wait.
    free: u32,
    /// Longest wait; the waits double from one second up to here.
    cap: Duration,
}

/// Anybody can fail for an account, so its owner must not be locked out for long.
const ACCOUNT: Policy = Policy {
    free: 5,
    cap: Duration::from_secs(60),
};
const ADDRESS: Policy = Policy {
    free: 10,
    cap: Duration::from_secs(900),
};

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    last: Instant,
    free_at: Instant,
}

#[derive(Debug)]
struct Table<K> {
    policy: Policy,
    entries: HashMap<K, Entry>,
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            entries: HashMap::new(),
        }
    }

    fn wait(&self, key: &K, now: Instant) -> Duration {
        self.entries
            .get(key)
            .map_or(Duration::ZERO, |e| e.free_at.saturating_duration_since(now))
    }

    fn count(&mut self, key: K, now: Instant) {
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let policy = self.policy;
        let entry = self.entries.entry(key).or_insert(Entry {
            failures: 0,
            last: now,
            free_at: now,
        });
        if now.saturating_duration_since(entry.last) >= FORGET {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        if let Some(beyond) = entry.failures.checked_sub(policy.free) {
            let wait = Duration::from_secs(1 << beyond.min(20)).min(policy.cap);
            entry.free_at = now + wait;
        }
    }

    fn make_room(&mut self, now: Instant) {
        self.entries
            .retain(|_, e| now.saturating_duration_since(e.last) < FORGET);
        if self.entries.len() < CAPACITY {
            return;
        }
        let least = self
            .entries
            .iter()
            .min_by_key(|(_, e)| (e.failures, e.last))
            .map(|(key, _)| key.clone());
        if let Some(key) = least {
            self.entries.remove(&key);
        }
    }
}

/// What an address failed at one account is only kept to be taken back.
const PAIR: Policy = Policy {
    free: u32::MAX,
    cap: Duration::ZERO,
};

/// All tables.
#[derive(Debug)]
pub(super) struct Throttle {
    accounts: Table<String>,
    addresses: Table<IpAddr>,
    pairs: Table<(String, IpAddr)>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            accounts: Table::new(ACCOUNT),
            addresses: Table::new(ADDRESS),
            pairs: Table::new(PAIR),
        }
    }
}

impl Throttle {
    /// Counts an attempt, or says how long to wait before the next one is looked at.
    pub(super) fn begin(
        &mut self,
        account: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), Duration> {
        let account = account.to_lowercase();
        let address = network(address);
        let wait = self
            .accounts
            .wait(&account, now)
            .max(self.addresses.wait(&address, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.accounts.count(account.clone(), now);
        self.addresses.count(address, now);
        self.pairs.count((account, address), now);
        Ok(())
    }

    /// Forgets the failures of the account, and those at the account of the address.
    pub(super) fn succeed(&mut self, account: &str, address: IpAddr) {
        let account = account.to_lowercase();
        let address = network(address);
        self.accounts.entries.remove(&account);
        // When its place was needed, at least the attempt that succeeded is taken back.
        let own = self.pairs.entries.remove(&(account, address));
        let own = own.map_or(1, |entry| entry.failures);
        if let Some(entry) = self.addresses.entries.get_mut(&address) {
            entry.failures = entry.failures.saturating_sub(own);
            entry.free_at = entry.last;
            if entry.failures == 0 {
                self.addresses.entries.remove(&address);
            }
        }
    }
}

/// An IPv6 host has a whole /64 to choose its address from, so that is what counts.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_one_account_from_many_addresses_is_slowed_down() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let allowed = (0..100)
            .filter(|n| throttle.begin("admin", address(*n), now).is_ok())
            .count();
        assert_eq!(allowed, 5);
        let wait = throttle.begin("ADMIN", address(500), now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        assert!(throttle.begin("admin", address(500), now + wait).is_ok());
        let next = throttle
            .begin("admin", address(501), now + wait)
            .unwrap_err();
        assert_eq!(next, Duration::from_secs(2), "the waits double");
        assert!(throttle.begin("other", address(502), now + wait).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_guessing_many_accounts_is_slowed_down_and_a_network_is_one() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let allowed = (0..100)
            .filter(|n| {
                let from = IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
                throttle.begin(&format!("u{n}"), from, now).is_ok()
            })
            .count();
        assert_eq!(allowed, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn success_and_time_clear_the_slate() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..5 {
            throttle.begin("ada", address(1), now).unwrap();
        }
        throttle.succeed("ada", address(1));
        for _ in 0..5 {
            throttle.begin("ada", address(1), now).unwrap();
        }
        let later = now + FORGET;
        for _ in 0..4 {
            throttle.begin("ada", address(1), later).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_of_ones_own_pardons_no_guesses_at_others() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let mut guesses = 0;
        for n in 0..100 {
            if throttle.begin("mallory", address(1), now).is_ok() {
                throttle.succeed("mallory", address(1));
            }
            guesses += u32::from(throttle.begin(&format!("u{n}"), address(1), now).is_ok());
        }
        assert_eq!(guesses, 10);
        let wait = throttle.begin("mallory", address(1), now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        let later = now + wait;
        throttle.begin("mallory", address(1), later).unwrap();
        throttle.succeed("mallory", address(1));
        throttle.begin("u0", address(1), later).unwrap();
        let wait = throttle.begin("u1", address(1), later).unwrap_err();
        assert_eq!(wait, Duration::from_secs(2), "the waits still double");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_at_ones_own_account_first_costs_the_address_nothing() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..20 {
            for _ in 0..3 {
                throttle.begin("ada", address(1), now).unwrap();
            }
            throttle.succeed("ada", address(1));
        }
        assert!(throttle.addresses.entries.is_empty());
        assert!(throttle.pairs.entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_fresh_names_neither_grows_the_table_nor_pardons_the_guessed_one() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..6 {
            let _refused = throttle.begin("admin", address(n), now);
        }
        for n in 0..20_000 {
            let _any = throttle.begin(&format!("x{n}"), address(1000 + n), now);
        }
        assert!(throttle.accounts.entries.len() <= CAPACITY);
        assert!(throttle.addresses.entries.len() <= CAPACITY);
        assert!(throttle.pairs.entries.len() <= CAPACITY);
        assert!(throttle.begin("admin", address(9), now).is_err());
    }
}
