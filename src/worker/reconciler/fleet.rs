//! One look at the fleet: what is wanted against what runs, and the repairs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::db::decky::DeckyRow;
use crate::model::{DeckyState, Listener, Stamp, topic};
use crate::worker::reconciler::{AT_ONCE, runtime};

/// First and longest wait before a decky that keeps dying is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rows that are wanted.
    pub wanted: usize,
    /// Of those, running with every service.
    pub running: usize,
    /// Started (or restarted).
    pub inserted: usize,
    /// Stopped and forgotten.
    pub deleted: usize,
    /// Rows whose state changed.
    pub state_updated: usize,
}

/// What the worker remembers between passes; nothing a restart would miss.
#[derive(Debug, Default)]
pub struct Fleet {
    pub(super) died: Arc<Notify>,
    failing: HashMap<String, Failing>,
}

/// A decky that did not stay up.
#[derive(Debug)]
struct Failing {
    times: u32,
    not_before: Instant,
}

/// A decky as one pass found or made it.
struct Seen {
    state: DeckyState,
    listeners: Vec<Listener>,
    error: Option<String>,
    started: bool,
}

impl Fleet {
    /// One look: make the fleet match the rows.
    ///
    /// # Errors
    /// When the database fails; a decky that cannot be started is a state, not an error.
    pub async fn pass(
        &mut self,
        config: &Config,
        db: &Db,
        bus: &Bus,
        now: Stamp,
    ) -> anyhow::Result<Summary> {
        let rows = db.decky_list().await?;
        let mut summary = Summary::default();
        for (name, runtime) in runtime::present(config).await? {
            let wanted = rows
                .iter()
                .any(|r| r.decky.name == name && !r.decky.removed);
            if !wanted {
                runtime::stop(config, &name, runtime).await?;
                self.failing.remove(&name);
                tracing::info!("{name} stopped: no longer wanted");
            }
        }
        for row in rows.iter().filter(|r| r.decky.removed) {
            if db.decky_forget(&row.decky.name, row.decky.version).await? {
                summary.deleted += 1;
                announce(bus, row, "deleted", "removed");
            }
        }
        let wanted: Vec<&DeckyRow> = rows.iter().filter(|r| !r.decky.removed).collect();
        summary.wanted = wanted.len();
        let this = &*self;
        let looks: Vec<_> = wanted
            .into_iter()
            .map(|row| async move { (row, this.converge(config, row).await) })
            .collect();
        let seen = futures_util::stream::iter(looks)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (row, seen) in seen {
            let decky = &row.decky;
            self.remember(&decky.name, &seen);
            summary.running += usize::from(seen.state == DeckyState::Running);
            summary.inserted += usize::from(seen.started);
            let same = decky.state == seen.state
                && decky.listeners == seen.listeners
                && decky.last_error == seen.error;
            if same {
                continue;
            }
            let written = db
                .decky_observe(
                    &decky.name,
                    decky.version,
                    seen.state,
                    &seen.listeners,
                    seen.error.as_deref(),
                    now,
                )
                .await?;
            // Changed meanwhile: the next pass sees the new wish.
            if written && decky.state != seen.state {
                summary.state_updated += 1;
                let transition = if decky.listeners.is_empty() && seen.started {
                    "inserted"
                } else {
                    "state_changed"
                };
                announce(bus, row, transition, seen.state.as_str());
            }
        }
        runtime::network_done(config, db).await;
        Ok(summary)
    }

    /// Finds or makes one decky as its row wants it.
    async fn converge(&self, config: &Config, row: &DeckyRow) -> Seen {
        match self.try_converge(config, row).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!("{}: {error:#}", row.decky.name);
                Seen {
                    state: DeckyState::Failed,
                    listeners: Vec::new(),
                    error: Some(format!("{error:#}")),
                    started: false,
                }
            }
        }
    }

    async fn try_converge(&self, config: &Config, row: &DeckyRow) -> anyhow::Result<Seen> {
        let name = &row.decky.name;
        let runtime = row.decky.wish.runtime;
        let spec = runtime::spec(row, config);
        if let Some(status) = runtime::status(config, name).await {
            let as_wanted = status.config_hash == spec.config_hash
                && status.version == env!("CARGO_PKG_VERSION");
            if as_wanted {
                return Ok(seen(status.listeners, false));
            }
            runtime::stop(config, name, runtime).await?;
        } else if runtime::exists(config, name, runtime).await {
            tracing::warn!("{name} runs but does not answer; it is restarted");
            runtime::stop(config, name, runtime).await?;
        }
        if let Some(failing) = self.failing.get(name)
            && Instant::now() < failing.not_before
        {
            // Keep what the row says until it is time to try again.
            return Ok(Seen {
                state: DeckyState::Failed,
                listeners: Vec::new(),
                error: row.decky.last_error.clone(),
                started: false,
            });
        }
        let started = runtime::start(config, &spec).await?;
        let died = Arc::clone(&self.died);
        let who = name.clone();
        // Also reaps it. Ends with the decky, or with this process.
        tokio::spawn(async move {
            let how = started.ended.await;
            tracing::info!("{who} ended ({how})");
            died.notify_one();
        });
        Ok(seen(started.status.listeners, true))
    }

    /// Counts starts that did not last, so that a dying decky is not started in a loop.
    fn remember(&mut self, name: &str, seen: &Seen) {
        let now = Instant::now();
        if !seen.started && seen.state != DeckyState::Failed {
            // Still up one look later: healthy.
            self.failing.remove(name);
            return;
        }
        let failing = self.failing.entry(name.to_owned()).or_insert(Failing {
            times: 0,
            not_before: now,
        });
        if failing.not_before <= now {
            let wait = BACKOFF
                .0
                .saturating_mul(1 << failing.times.min(6))
                .min(BACKOFF.1);
            // The first start of all is free.
            failing.not_before = if failing.times == 0 { now } else { now + wait };
            failing.times += 1;
        }
    }
}

fn seen(listeners: Vec<Listener>, started: bool) -> Seen {
    let missing: Vec<String> = listeners
        .iter()
        .filter(|l| l.addr.is_none())
        .map(|l| {
            format!(
                "{}: {}",
                l.service,
                l.note.as_deref().unwrap_or("not listening")
            )
        })
        .collect();
    Seen {
        state: if missing.is_empty() {
            DeckyState::Running
        } else {
            DeckyState::Degraded
        },
        error: (!missing.is_empty()).then(|| missing.join("; ")),
        listeners,
        started,
    }
}

fn announce(bus: &Bus, row: &DeckyRow, transition: &str, state: &str) {
    let decky = &row.decky;
    bus.publish(
        &topic::decky_state(&decky.host, &decky.name),
        "state",
        serde_json::json!({
            "host_uuid": decky.host,
            "name": decky.name,
            "state": state,
            "transition": transition,
            "source": "fleet",
            "previous_state": decky.state.as_str(),
        }),
    );
}
