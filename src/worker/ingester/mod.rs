//! The `ingester` worker: loads `decnet.json` into the database, each event once. A
//! batch and the place behind it are stored in one transaction, so a kill anywhere
//! repeats nothing; the event id is unique besides.
//!
//! It wakes when the collector says there are lines and looks on its own several times
//! a second, with or without a bus. When the database cannot be written it says so and
//! tries again; nothing is ever passed over.

mod follow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::db::Db;
use crate::db::checkpoint::Checkpoint;
use crate::db::credential::NewCredential;
use crate::db::tally::NewAttacker;
use crate::model::{Stamp, topic};
use crate::worker::Ctx;
use crate::worker::ingester::follow::Batch;

/// Name of the reader in the checkpoint table.
const SOURCE: &str = "ingester";
/// How often the file is looked at, at least.
const LOOK: Duration = Duration::from_millis(250);
/// Least time between two nudges.
const NUDGE: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// The watchdog's measure; a batch takes milliseconds unless the disk hangs.
const PERIOD: Duration = Duration::from_secs(30);

/// How often something too old is looked for.
const EXPIRE: Duration = Duration::from_secs(600);

/// Runs until stopped.
///
/// # Errors
/// When this worker was started without a database.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let mut ingest = Ingest {
        db: ctx.db()?.clone(),
        ctx: ctx.clone(),
        at: None,
        known: false,
        skipping: false,
        stored: 0,
        damaged: 0,
        unsent: 0,
        unlocated: Some(String::new()),
        sent: Instant::now(),
        expired: Instant::now(),
    };
    let look = ctx.config.batch_max_wait.min(LOOK);
    let mut wake = ctx.wake(&[topic::LOG], look)?;
    ctx.pulse.expect_every(PERIOD);
    ctx.pulse.ready("waiting for events");
    while wake.next().await.is_some() {
        let outcome = ingest.catch_up().await;
        ingest.nudge();
        let outcome = match outcome {
            Ok(()) => ingest.tidy().await,
            failed => failed,
        };
        match &outcome {
            Ok(()) => ctx.pulse.status(&ingest.status()),
            Err(error) => ctx.pulse.status(&format!("waiting: {error:#}")),
        }
        wake.record(&outcome);
        if outcome.is_err() {
            // The database says how far it came: a commit may have gone through unheard.
            ingest.known = false;
            tokio::select! {
                () = ctx.stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
    Ok(())
}

struct Ingest {
    ctx: Ctx,
    db: Db,
    at: Option<Checkpoint>,
    /// Whether `at` was read from the database yet.
    known: bool,
    skipping: bool,
    stored: u64,
    damaged: u64,
    unsent: u64,
    /// The address after which attackers without a country are looked at; `None` once all
    /// were, which is once for each start: the next version may know more addresses.
    unlocated: Option<String>,
    sent: Instant,
    /// When there was last nothing too old.
    expired: Instant,
}

impl Ingest {
    /// Stores everything there is. The next batch is read while one is stored.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        if !self.known {
            let at = self.db.checkpoint_get(SOURCE).await?;
            if at != self.at {
                self.at = at;
                self.skipping = false;
            }
            self.known = true;
        }
        if follow::idle(&self.ctx.config.paths.event_json(), self.at.as_ref()) {
            return Ok(());
        }
        let mut batch = self.read(self.at.clone(), self.skipping).await?;
        while let Some(this) = batch.take() {
            let ahead = async {
                if this.more {
                    self.read(Some(this.at.clone()), this.skipping).await
                } else {
                    Ok(None)
                }
            };
            let store = self
                .db
                .log_insert_batch(&this.events, SOURCE, &this.at, Stamp::now());
            let (stored, next) = tokio::join!(store, ahead);
            let stored = stored?;
            if this.damaged > 0 {
                tracing::warn!("{} lines that are no events were skipped", this.damaged);
                self.damaged += this.damaged;
            }
            self.at = Some(this.at);
            self.skipping = this.skipping;
            self.stored += stored.logs as u64;
            self.unsent += stored.logs as u64;
            self.announce(&stored.credentials);
            self.introduce(&stored.attackers);
            self.ctx.pulse.beat();
            if self.sent.elapsed() >= NUDGE {
                self.nudge();
            }
            if self.ctx.stop.is_cancelled() {
                break;
            }
            batch = next?;
        }
        Ok(())
    }

    /// What waits until there is nothing to store: the index of words, events of a version
    /// that kept fewer tables, and the end of what is too old. New events interrupt it.
    async fn tidy(&mut self) -> anyhow::Result<()> {
        loop {
            let mut done = self.db.log_index_words().await?;
            done += self.db.log_gather_backlog().await?;
            if let Some(after) = &self.unlocated {
                self.unlocated = self.db.attacker_locate(after).await?;
                done += usize::from(self.unlocated.is_some());
            }
            let news = !follow::idle(&self.ctx.config.paths.event_json(), self.at.as_ref());
            if done == 0 || news || self.ctx.stop.is_cancelled() {
                break;
            }
            self.ctx.pulse.beat();
        }
        let days = self.ctx.config.retention_logs_days;
        if days > 0 && self.expired.elapsed() >= EXPIRE {
            let age = Duration::from_secs(u64::from(days) * 86_400);
            let before = Stamp(Stamp::now().0.saturating_sub(Stamp(0).plus(age).0));
            let gone = self.db.log_expire(before).await?;
            if gone == 0 {
                self.expired = Instant::now();
            } else {
                tracing::info!("{gone} events older than {days} days were deleted");
            }
        }
        Ok(())
    }

    /// Reads and parses a batch off the event loop.
    async fn read(&self, at: Option<Checkpoint>, skipping: bool) -> anyhow::Result<Option<Batch>> {
        let config = Arc::clone(&self.ctx.config);
        tokio::task::spawn_blocking(move || {
            let path = config.paths.event_json();
            follow::next(&path, at.as_ref(), skipping, config.batch_size)
                .with_context(|| format!("reading {}", path.display()))
        })
        .await
        .context("reading panicked")?
    }

    fn nudge(&mut self) {
        if self.unsent > 0 {
            let body = serde_json::json!({"component": "ingester", "flushed": self.unsent});
            self.ctx.bus.publish(topic::LOG, "log", body);
            self.unsent = 0;
            self.sent = Instant::now();
        }
    }

    /// Tells of attackers never seen before.
    fn introduce(&self, attackers: &[NewAttacker]) {
        for attacker in attackers {
            let body = serde_json::json!({
                "attacker_ip": attacker.ip,
                "decky": attacker.decky,
                "service": attacker.service,
                "event_type": attacker.kind,
                "first_seen": attacker.first_seen.to_string(),
            });
            self.ctx
                .bus
                .publish(topic::ATTACKER_OBSERVED, "observed", body);
        }
    }

    /// Tells of new credentials without telling them.
    fn announce(&self, credentials: &[NewCredential]) {
        for credential in credentials {
            let body = serde_json::json!({
                "secret_sha256": credential.secret_sha256,
                "secret_kind": credential.secret_kind,
                "attacker_ip": credential.attacker_ip,
                "decky": credential.decky,
                "service": credential.service,
            });
            self.ctx
                .bus
                .publish(topic::CREDENTIAL_CAPTURED, "captured", body);
        }
    }

    /// In words, for the heartbeat.
    fn status(&self) -> String {
        let mut text = format!("{} events stored", self.stored);
        if self.damaged > 0 {
            text.push_str(&format!(", {} damaged lines skipped", self.damaged));
        }
        text
    }
}
