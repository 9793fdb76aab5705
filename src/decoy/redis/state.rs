//! What one server holds besides its keys: who is connected, what was counted, what
//! CONFIG says, whom it replicates. One lock guards it all, as one thread does in the
//! real server; nothing waits while holding it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::config::Settings;
use super::platform::Platform;
use super::reply::Reply;
use super::seed;
use super::store::Store;
use super::table::Version;
use crate::persona::Persona;

/// Longest message given to a subscriber; a larger one costs it its connection, as
/// the output buffer limit would.
const MESSAGE_MAX: usize = 64 * 1024;

/// A connected client as others see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) born: i64,
    pub(super) last: i64,
    pub(super) name: String,
    pub(super) command: &'static str,
    pub(super) db: usize,
    pub(super) proto: u8,
    pub(super) flags: &'static str,
    pub(super) channels: BTreeSet<Vec<u8>>,
    pub(super) patterns: BTreeSet<Vec<u8>>,
    /// Commands queued by MULTI, -1 outside.
    pub(super) queued: i64,
    pub(super) outbox: Option<mpsc::Sender<Arc<[u8]>>>,
    pub(super) kill: CancellationToken,
}

/// Counters of INFO. They only grow, until CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) connections: u64,
    pub(super) commands: u64,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) errors: u64,
}

/// What the operator set.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// The line `os` of INFO.
    pub(super) os: Option<String>,
    /// `requirepass`.
    pub(super) password: String,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) version: Version,
    pub(super) platform: Platform,
    /// What INFO calls the system.
    pub(super) os: String,
    /// `requirepass` at the start.
    password: String,
    pub(super) persona: Arc<Persona>,
    pub(super) store: Store,
    pub(super) settings: Settings,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) stats: Stats,
    /// Counters at the last CONFIG RESETSTAT, of the host's own traffic.
    pub(super) reset_at: i64,
    pub(super) scripts: BTreeMap<String, Vec<u8>>,
    /// The master it was told to follow.
    pub(super) master: Option<(String, u16, i64)>,
    pub(super) run_id: String,
    pub(super) replid: String,
    /// When the server started, milliseconds since the epoch.
    pub(super) started: i64,
    pub(super) saved: i64,
    pub(super) saves: u64,
    pub(super) peak: usize,
    pub(super) pid: u32,
    /// Seconds between two of the host's own short connections (a health check).
    own_period: i64,
    last_id: u64,
}

impl State {
    pub(super) fn new(persona: Arc<Persona>, given: Given, now: i64) -> Self {
        let mut rng = persona.rng("redis/server");
        let booted = persona.booted_at.0.wrapping_div(1000);
        let started = booted
            .saturating_add(rng.random_range(9_000..40_000))
            .min(now);
        let mut store = Store::new(rng.random());
        seed::fill(&mut store, &persona, now);
        store.settle();
        let version = Version::of(&persona.redis_version);
        let platform = Platform::of(&persona);
        Self {
            version,
            platform,
            os: given.os.unwrap_or_else(|| platform.os(&persona)),
            store,
            settings: Settings::new(version, &persona, &given.password),
            password: given.password,
            clients: BTreeMap::new(),
            stats: Stats::default(),
            reset_at: started,
            scripts: BTreeMap::new(),
            master: None,
            run_id: persona.hex_id("redis/run_id", 40),
            replid: persona.hex_id("redis/replid", 40),
            started,
            saved: now
                .saturating_sub(rng.random_range(60_000..3_000_000))
                .max(started),
            saves: rng.random_range(40..900),
            peak: 0,
            pid: rng.random_range(480..1400),
            own_period: rng.random_range(20_000..90_000),
            last_id: 0,
            persona,
        }
    }

    /// How often the host's own checks connected since `since`.
    pub(super) fn own_visits(&self, since: i64, now: i64) -> u64 {
        let visits = now.saturating_sub(since).checked_div(self.own_period);
        u64::try_from(visits.unwrap_or(0)).unwrap_or(0)
    }

    /// Registers a connection; ids grow with the connections INFO counts.
    pub(super) fn join(&mut self, client: Client, now: i64) -> u64 {
        self.stats.connections = self.stats.connections.saturating_add(1);
        let counted = self
            .own_visits(self.started, now)
            .saturating_add(self.stats.connections);
        self.last_id = self
            .last_id
            .saturating_add(1)
            .max(counted.saturating_add(2));
        self.clients.insert(self.last_id, client);
        self.last_id
    }

    /// Sends `message` to a client; one that cannot take it loses its connection.
    pub(super) fn deliver(&self, id: u64, message: &Reply) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let Some(outbox) = &client.outbox else {
            return;
        };
        let mut bytes = Vec::new();
        message.write(&mut bytes, client.proto);
        if bytes.len() > MESSAGE_MAX || outbox.try_send(bytes.into()).is_err() {
            client.kill.cancel();
        }
    }

    /// Bytes the server claims to use.
    pub(super) fn used_memory(&mut self) -> usize {
        let base = match self.version {
            Version(7.., _) => 872_000,
            Version(6, _) => 866_000,
            _ => 854_000,
        };
        let clients =
            self.clients
                .len()
                .saturating_mul(if self.version.seven() { 22_272 } else { 20_512 });
        let used = self
            .store
            .used()
            .saturating_add(base)
            .saturating_add(clients);
        // The allocator rounds; the last digits are always multiples of eight.
        let used = used.wrapping_div(8).saturating_mul(8);
        self.peak = self.peak.max(used);
        used
    }

    /// The server goes down and the service manager starts it again.
    pub(super) fn restart(&mut self, now: i64) {
        for client in self.clients.values() {
            client.kill.cancel();
        }
        let mut rng = rand::rng();
        let mut hex = || -> String {
            (0..40)
                .map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0'))
                .collect()
        };
        self.run_id = hex();
        self.replid = hex();
        self.stats = Stats::default();
        self.started = now;
        self.reset_at = now;
        self.saved = now;
        self.saves = 0;
        self.peak = 0;
        self.last_id = 0;
        self.master = None;
        self.scripts.clear();
        self.pid = self.pid.saturating_add(rng.random_range(200..4000));
        self.settings = Settings::new(self.version, &self.persona, &self.password);
    }
}
