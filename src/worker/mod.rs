//! What every background daemon shares: the context it is given, the ways it wakes,
//! and the pulse that says it is alive. No trait, no framework: a role is one
//! `async fn run(ctx: Ctx) -> anyhow::Result<()>` in a file of its own.
//!
//! Three shapes:
//! - **pass**: `while let Some(why) = wake.next().await { wake.record(pass(…).await) }`.
//!   A pass is idempotent and bounded, takes no input but the database and the clock,
//!   writes in one transaction and publishes after the commit. It does not retry: the
//!   next period is the retry.
//! - **stream**: `select!` over input, flush tick and `ctx.stop`; the offset is stored
//!   with the batch it belongs to. Calls [`Pulse::beat`] once a turn.
//! - **server**: accepts until `ctx.stop`, connections in a `TaskTracker`.
//!
//! The bus carries no data anybody depends on: a hint says "look", the database says
//! what there is. Without a bus everything still happens, one period later.

pub mod bus;
pub mod canary;
pub mod collector;
mod events;
pub mod ingester;
pub mod mutator;
pub mod reconciler;
pub mod webhook;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::model::Stamp;

/// How often a worker says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// A heartbeat older than this is stale: three were missed.
const STALE: Duration = Duration::from_secs(90);

/// Everything a role is given.
#[derive(Clone)]
pub struct Ctx {
    /// Settings.
    pub config: Arc<Config>,
    /// The bus; possibly one that goes nowhere.
    pub bus: Bus,
    /// Cancelled when the role should finish.
    pub stop: CancellationToken,
    /// Sign of life.
    pub pulse: Pulse,
    /// True inside `decnet up`, where all roles share one process.
    pub embedded: bool,
    pub(crate) db: Option<Db>,
}

impl Ctx {
    /// The database.
    ///
    /// # Errors
    /// When the worker's row does not say [`Need::Database`](crate::model::worker::Need).
    pub fn db(&self) -> anyhow::Result<&Db> {
        self.db.as_ref().ok_or_else(|| {
            anyhow::anyhow!("this worker's registry row does not ask for the database")
        })
    }

    /// Wakes at once, then whenever a message matches one of `patterns` and every
    /// `period`.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn wake(&self, patterns: &[&str], period: Duration) -> anyhow::Result<Wake> {
        // Room for one hint: ten messages during a pass become one more pass.
        let (hint, hints) = mpsc::channel(1);
        let mut inbox = self.bus.subscribe(patterns)?;
        let stop = self.stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    delivery = inbox.next() => {
                        if delivery.is_none() {
                            return;
                        }
                        // Full means a hint is already waiting.
                        if let Err(mpsc::error::TrySendError::Closed(())) = hint.try_send(()) {
                            return;
                        }
                    }
                }
            }
        });
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pulse.expect_every(period);
        Ok(Wake {
            hints,
            hints_open: true,
            ticks,
            stop: self.stop.clone(),
            pulse: self.pulse.clone(),
            started: false,
        })
    }
}

/// Why a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The first pass: catches up with whatever happened while nobody looked.
    Start,
    /// Something was published, or the bus came back.
    Bus,
    /// The period is over.
    Tick,
}

/// The alarm clock of a pass worker.
pub struct Wake {
    hints: mpsc::Receiver<()>,
    hints_open: bool,
    ticks: Interval,
    stop: CancellationToken,
    pulse: Pulse,
    started: bool,
}

impl Wake {
    /// The next reason to run, or `None` when it is time to stop.
    pub async fn next(&mut self) -> Option<Why> {
        if self.stop.is_cancelled() {
            return None;
        }
        if !self.started {
            self.started = true;
            // The interval's first tick is immediate; it is this start.
            self.ticks.tick().await;
            return Some(Why::Start);
        }
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                hint = self.hints.recv(), if self.hints_open => match hint {
                    Some(()) => return Some(Why::Bus),
                    // A bus that goes nowhere ends its subscriptions at once.
                    None => self.hints_open = false,
                },
                _ = self.ticks.tick() => return Some(Why::Tick),
            }
        }
    }

    /// Counts a finished pass and logs its failure, once.
    pub fn record<T>(&self, outcome: &anyhow::Result<T>) {
        self.pulse.record(outcome);
    }
}

/// What a worker last said of itself; the body of its heartbeat and of its pulse file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beat {
    /// Registry name.
    pub worker: String,
    /// When this was said.
    pub ts: Stamp,
    /// Program version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Resident set, bytes.
    pub rss_bytes: u64,
    /// Passes (or turns) finished.
    pub passes: u64,
    /// Passes that failed.
    pub failures: u64,
    /// Last failure, as one line.
    pub last_error: Option<String>,
    /// Last pass that went well.
    pub last_success: Option<Stamp>,
    /// What it is doing, in words.
    pub status: String,
}

impl Beat {
    /// Whether this is a sign of life: younger than [`STALE`], and of a process that is
    /// there. What a worker last said outlives it.
    #[must_use]
    pub fn is_fresh(&self, now: Stamp) -> bool {
        now.since(self.ts) < STALE && exists(self.pid)
    }
}

/// Whether there is such a process, whoever it belongs to. Not looked up below /proc:
/// there, one worker does not see another that has more privileges.
fn exists(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| {
        pid > 0 && nix::sys::signal::kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
    })
}

#[derive(Debug)]
struct State {
    passes: u64,
    failures: u64,
    last_error: Option<String>,
    last_success: Option<Stamp>,
    status: String,
    /// A worker without a period is alive as long as its event loop turns.
    period: Option<Duration>,
    last_finished: Instant,
}

/// A worker's sign of life, shared between the role and the heartbeat.
#[derive(Clone, Debug)]
pub struct Pulse {
    state: Arc<Mutex<State>>,
    ready: CancellationToken,
    news: Arc<Notify>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                passes: 0,
                failures: 0,
                last_error: None,
                last_success: None,
                status: "starting".to_owned(),
                period: None,
                last_finished: Instant::now(),
            })),
            ready: CancellationToken::new(),
            news: Arc::new(Notify::new()),
        }
    }
}

impl Pulse {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned pulse is still a pulse: the numbers stay readable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the role can do its work from now on; systemd hears READY=1.
    pub fn ready(&self, status: &str) {
        self.status(status);
        self.ready.cancel();
    }

    /// Resolves once the role is ready.
    pub async fn until_ready(&self) {
        self.ready.cancelled().await;
    }

    /// Whether the role said it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.is_cancelled()
    }

    /// Says in words what the worker is doing.
    pub fn status(&self, status: &str) {
        let mut state = self.state();
        if state.status != status {
            status.clone_into(&mut state.status);
            self.news.notify_one();
        }
    }

    /// Resolves when the words have changed since the last call.
    pub async fn until_news(&self) {
        self.news.notified().await;
    }

    /// Turns on the watchdog: some turn must finish every three `period`s.
    pub fn expect_every(&self, period: Duration) {
        let mut state = self.state();
        state.period = Some(period);
        state.last_finished = Instant::now();
    }

    /// One turn finished well.
    pub fn beat(&self) {
        let mut state = self.state();
        state.passes += 1;
        state.last_finished = Instant::now();
        state.last_success = Some(Stamp::now());
    }

    /// One turn finished; a failure is logged here and nowhere else.
    pub fn record<T>(&self, outcome: &anyhow::Result<T>) {
        match outcome {
            Ok(_) => self.beat(),
            Err(error) => {
                tracing::error!("pass failed: {error:#}");
                let mut state = self.state();
                state.passes += 1;
                state.failures += 1;
                state.last_finished = Instant::now();
                state.last_error = Some(format!("{error:#}"));
            }
        }
    }

    /// False when a worker with a period has finished nothing for three of them: the
    /// loop hangs. Failing passes count as alive; restarts do not mend a database.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let state = self.state();
        state
            .period
            .is_none_or(|period| state.last_finished.elapsed() < period * 3)
    }

    /// The heartbeat's body.
    #[must_use]
    pub fn read(&self, worker: &str, now: Stamp) -> Beat {
        let state = self.state();
        Beat {
            worker: worker.to_owned(),
            ts: now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            rss_bytes: resident_bytes(),
            passes: state.passes,
            failures: state.failures,
            last_error: state.last_error.clone(),
            last_success: state.last_success,
            status: state.status.clone(),
        }
    }
}

/// Resident set of this process; 0 where /proc does not tell.
fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn ctx(bus: Bus) -> Ctx {
        Ctx {
            config: Arc::new(Config::load(&Sources::default()).unwrap()),
            bus,
            stop: CancellationToken::new(),
            pulse: Pulse::default(),
            embedded: true,
            db: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn start_comes_first_then_ticks_and_stop_ends_it() {
        let ctx = ctx(Bus::null());
        let mut wake = ctx.wake(&["a.>"], Duration::from_secs(30)).unwrap();
        assert_eq!(wake.next().await, Some(Why::Start));
        assert_eq!(wake.next().await, Some(Why::Tick));
        ctx.stop.cancel();
        assert_eq!(wake.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_messages_during_a_pass_become_one_more_pass() {
        let bus = Bus::memory();
        let ctx = ctx(bus.clone());
        let mut wake = ctx.wake(&["a.>"], Duration::from_secs(3600)).unwrap();
        assert_eq!(wake.next().await, Some(Why::Start));
        for _ in 0..10 {
            bus.publish("a.b", "x", serde_json::json!({}));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(wake.next().await, Some(Why::Bus));
        let more = tokio::time::timeout(Duration::from_secs(1), wake.next()).await;
        assert!(more.is_err(), "one hint was enough, got {more:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_passes_are_alive_and_counted() {
        let pulse = Pulse::default();
        pulse.record::<()>(&Err(anyhow::anyhow!("inner").context("outer")));
        let beat = pulse.read("x", Stamp(1));
        assert_eq!((beat.passes, beat.failures), (1, 1));
        assert_eq!(beat.last_error.as_deref(), Some("outer: inner"));
        assert!(pulse.is_alive());
    }

    #[test]
    fn what_a_process_said_that_is_gone_is_no_sign_of_life() {
        let now = Stamp::now();
        let beat = Pulse::default().read("x", now);
        assert!(beat.is_fresh(now));
        let late = Stamp(now.0 + i64::try_from(STALE.as_micros()).unwrap());
        assert!(!beat.is_fresh(late));
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let pid = gone.id();
        gone.wait().unwrap();
        for pid in [pid, 0, u32::MAX] {
            let beat = Beat {
                pid,
                ..beat.clone()
            };
            assert!(!beat.is_fresh(now), "{pid}");
        }
    }
}
