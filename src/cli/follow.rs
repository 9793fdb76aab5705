//! Follows the fleet until it is as wanted: shared by `deploy` and `teardown`. With a
//! reconciler running it watches the rows; with none it converges in this process,
//! under the reconciler's own lock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::output;
use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::model::{Decky, DeckyState, Stamp};
use crate::net::lock;
use crate::worker::reconciler::Fleet;

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// How the deckies asked about ended up.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Those asked about that still have a row.
    pub(super) deckies: Vec<Decky>,
    /// The time ran out.
    timed_out: bool,
}

impl Outcome {
    /// Every one of them runs with every service.
    pub(super) fn all_running(&self) -> bool {
        self.deckies.iter().all(|d| d.state == DeckyState::Running)
    }

    /// Every one of them is gone.
    pub(super) fn all_gone(&self) -> bool {
        self.deckies.is_empty()
    }

    /// One line for the operator.
    pub(super) fn sentence(&self) -> String {
        let running = self
            .deckies
            .iter()
            .filter(|d| d.state == DeckyState::Running)
            .count();
        let total = self.deckies.len();
        if running == total {
            return format!("{total} of {total} deckies running");
        }
        let why = if self.timed_out {
            "; the rest did not settle in time: `decnet deckies`, `decnet doctor`"
        } else {
            "; `decnet deckies` shows why"
        };
        format!("{running} of {total} deckies running{why}")
    }
}

/// Waits until every decky in `names` is settled (running, degraded, failed or gone).
pub(super) async fn until_settled(
    config: &Config,
    db: &Db,
    bus: &Bus,
    names: &[&str],
    patience: Duration,
    progress: bool,
) -> anyhow::Result<Outcome> {
    let deadline = Instant::now() + patience;
    let mut told: BTreeMap<String, DeckyState> = BTreeMap::new();
    let mut own = Fleet::default();
    loop {
        // Held only for one pass: a reconciler that starts meanwhile takes over.
        if let Ok(Some(_held)) = lock::try_take(&config.paths.lock("reconciler")) {
            own.pass(config, db, bus, Stamp::now()).await?;
        }
        let deckies: Vec<Decky> = db
            .decky_list()
            .await?
            .into_iter()
            .map(|r| r.decky)
            .filter(|d| names.contains(&d.name.as_str()))
            .collect();
        if progress {
            for decky in &deckies {
                if told.insert(decky.name.clone(), decky.state) != Some(decky.state) {
                    tell(decky)?;
                }
            }
        }
        let settled = deckies
            .iter()
            .all(|d| !matches!(d.state, DeckyState::Pending | DeckyState::TearingDown));
        let timed_out = !settled && Instant::now() >= deadline;
        if settled || timed_out {
            return Ok(Outcome { deckies, timed_out });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(decky: &Decky) -> std::io::Result<()> {
    let sockets: Vec<String> = decky
        .listeners
        .iter()
        .filter_map(|l| l.addr.map(|a| format!("{} {a}", l.service)))
        .collect();
    let error = decky
        .last_error
        .as_deref()
        .map(|e| format!("  ({e})"))
        .unwrap_or_default();
    output::line(format!(
        "{:<16} {:<12} {}{error}",
        decky.name,
        decky.state,
        sockets.join("  ")
    ))
}
