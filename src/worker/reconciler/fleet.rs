//! The fleet: what is wanted against what runs. A look at one decky and what follows
//! from it is a task of its own, so that a decky, or an engine, that hangs delays nobody
//! else; what they find out is written and published here, one after the other, in the
//! order it is known.
//!
//! The row is written first, then the message goes out with the state the row had
//! before. A row that already says what was found is not written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::bus::Bus;
use crate::config::Config;
use crate::db::Db;
use crate::db::decky::DeckyRow;
use crate::model::{DeckyState, Runtime, Stamp, topic};
use crate::worker::reconciler::backoff::Backoff;
use crate::worker::reconciler::repair::{self, Bounds, Effort, Known, Seen};
use crate::worker::reconciler::{docker, export, runtime, watch};

/// Longest wait for the Docker engine to list its containers.
const ENGINE: Duration = Duration::from_secs(10);
/// Before a decky that did not answer is asked once more.
const DOUBT: Duration = Duration::from_secs(1);

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

impl Summary {
    /// Whether anything is other than before.
    pub(super) fn changes(&self) -> bool {
        self.inserted + self.deleted + self.state_updated > 0
    }
}

/// What is remembered between passes; nothing a restart would miss.
#[derive(Default)]
pub struct Fleet {
    /// Longest time a pass waits for its looks; the rest are finished by the next one.
    budget: Option<Duration>,
    bounds: Arc<Bounds>,
    backoff: Backoff,
    /// Looks under way, and whom they are about.
    work: JoinSet<Done>,
    about: HashMap<Id, String>,
    busy: HashSet<String>,
    /// Each ends with the decky it names.
    watches: JoinSet<String>,
    watched: HashMap<String, i32>,
    /// Those that did not answer, and when they are asked again.
    doubted: BTreeMap<String, Instant>,
    /// Wanted deckies, their runtime and last known state.
    wanted: BTreeMap<String, (Runtime, DeckyState)>,
    engine_error: Option<String>,
}

/// What a task found out.
enum Done {
    Seen(Arc<DeckyRow>, Seen),
    /// Stopped; with its row when that is to be forgotten.
    Removed(String, Option<Arc<DeckyRow>>, anyhow::Result<()>),
    Containers(anyhow::Result<BTreeMap<String, Runtime>>),
}

/// The end of a task.
pub(super) struct Finished(Result<(Id, Done), JoinError>);

/// What [`Fleet::next`] waited for.
pub(super) enum News {
    /// A task has ended; [`Fleet::settle`] takes it.
    Finished(Box<Finished>),
    /// These deckies want a look.
    Look(BTreeSet<String>),
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("wanted", &self.wanted.len())
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// A fleet whose passes do not wait longer than `budget` for a decky that hangs.
    pub(super) fn with_budget(budget: Duration) -> Self {
        Self {
            budget: Some(budget),
            ..Self::default()
        }
    }

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
        let mut summary = Summary::default();
        self.begin(config, db, None).await?;
        let deadline = self.budget.map(|budget| Instant::now() + budget);
        loop {
            let finished = match deadline {
                None => self.finished().await,
                Some(deadline) => timeout_at(deadline, self.finished()).await.unwrap_or(None),
            };
            let Some(finished) = finished else { break };
            self.settle(finished, config, db, bus, now, &mut summary)
                .await?;
        }
        self.count(&mut summary);
        aftermath(config, db).await?;
        Ok(summary)
    }

    /// Begins a look at the deckies called `names` only.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn look(
        &mut self,
        config: &Config,
        db: &Db,
        names: &BTreeSet<String>,
    ) -> anyhow::Result<()> {
        self.begin(config, db, Some(names)).await
    }

    /// Waits for something to do: a task that ended, a decky that died, a wait that is
    /// over. Dropping it loses nothing.
    pub(super) async fn next(&mut self) -> News {
        let due = self.due();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.work.join_next_with_id() => News::Finished(Box::new(Finished(ended))),
            Some(died) = self.watches.join_next() => {
                let mut names: BTreeSet<String> = died.into_iter().collect();
                while let Some(died) = self.watches.try_join_next() {
                    names.extend(died);
                }
                for name in &names {
                    self.watched.remove(name);
                }
                News::Look(names)
            }
            () = wait => {
                let now = Instant::now();
                let doubted = self.doubted.iter().filter(|(_, at)| **at <= now);
                let doubted = doubted.map(|(name, _)| name.clone());
                News::Look(doubted.chain(self.backoff.due(now)).filter(|n| !self.busy.contains(n)).collect())
            }
        }
    }

    /// How many are wanted, and how many of those run, as last seen.
    pub(super) fn count(&self, summary: &mut Summary) {
        summary.wanted = self.wanted.len();
        let states = self.wanted.values().map(|(_, state)| *state);
        summary.running = states.filter(|s| *s == DeckyState::Running).count();
    }

    fn due(&self) -> Option<Instant> {
        // One that is being looked at is not due: its look is what was due.
        let doubted = self.doubted.iter().filter(|(n, _)| !self.busy.contains(*n));
        let doubted = doubted.map(|(_, at)| *at).min();
        let wanting = self.backoff.next(|name| !self.busy.contains(name));
        doubted.into_iter().chain(wanting).min()
    }

    async fn finished(&mut self) -> Option<Finished> {
        self.work.join_next_with_id().await.map(Finished)
    }

    /// Begins the tasks of a pass over everything, or over `only` these.
    async fn begin(
        &mut self,
        config: &Config,
        db: &Db,
        only: Option<&BTreeSet<String>>,
    ) -> anyhow::Result<()> {
        let rows = db.decky_list().await?;
        let config = Arc::new(config.clone());
        self.wanted = rows
            .iter()
            .map(|r| &r.decky)
            .filter(|d| !d.removed)
            .map(|d| (d.name.clone(), (d.wish.runtime, d.state)))
            .collect();
        let mut present: BTreeMap<String, Option<Runtime>> = BTreeMap::new();
        for name in runtime::directories(&config)? {
            if only.is_none_or(|only| only.contains(&name)) {
                let recorded = runtime::recorded(&config.paths.decky(&name));
                present.insert(name, recorded);
            }
        }
        for row in rows {
            let name = row.decky.name.clone();
            let recorded = present.remove(&name).flatten();
            if self.busy.contains(&name) || only.is_some_and(|only| !only.contains(&name)) {
                continue;
            }
            if row.decky.removed {
                let runtime = recorded.unwrap_or(row.decky.wish.runtime);
                self.remove(&config, name, runtime, Some(Arc::new(row)));
            } else {
                self.converge(&config, row, recorded);
            }
        }
        for (name, recorded) in present {
            if !self.busy.contains(&name) {
                tracing::info!("{name} runs, but nobody wants it; it is stopped");
                // What ends a native decky ends a local one too.
                let runtime = recorded.unwrap_or(Runtime::Native);
                self.remove(&config, name, runtime, None);
            }
        }
        if only.is_none() {
            self.list_containers(&config);
        }
        self.backoff.keep(|name| self.wanted.contains_key(name));
        self.doubted
            .retain(|name, _| self.wanted.contains_key(name));
        Ok(())
    }

    fn spawn(&mut self, name: String, task: impl Future<Output = Done> + Send + 'static) {
        let handle = self.work.spawn(task);
        self.about.insert(handle.id(), name.clone());
        self.busy.insert(name);
    }

    fn converge(&mut self, config: &Arc<Config>, row: DeckyRow, recorded: Option<Runtime>) {
        let name = row.decky.name.clone();
        let known = Known {
            recorded,
            may_act: self
                .backoff
                .is_over(&name, row.decky.version, Instant::now()),
            doubted: self.doubted.contains_key(&name),
        };
        let (config, bounds) = (Arc::clone(config), Arc::clone(&self.bounds));
        self.spawn(name, async move {
            let seen = repair::converge(&config, &row, known, &bounds).await;
            Done::Seen(Arc::new(row), seen)
        });
    }

    fn remove(
        &mut self,
        config: &Arc<Config>,
        name: String,
        runtime: Runtime,
        row: Option<Arc<DeckyRow>>,
    ) {
        let (config, bounds) = (Arc::clone(config), Arc::clone(&self.bounds));
        self.spawn(name.clone(), async move {
            let outcome = repair::remove(&config, &name, runtime, &bounds).await;
            Done::Removed(name, row, outcome)
        });
    }

    fn list_containers(&mut self, config: &Arc<Config>) {
        // No decky is called so.
        let name = "(engine)".to_owned();
        if self.busy.contains(&name) {
            return;
        }
        let config = Arc::clone(config);
        self.spawn(name, async move {
            let listed = timeout(ENGINE, docker::present(&config)).await;
            Done::Containers(listed.unwrap_or_else(|_| {
                Err(anyhow::anyhow!(
                    "the Docker engine did not answer within {} s",
                    ENGINE.as_secs()
                ))
            }))
        });
    }

    /// Writes and publishes what a task found out.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn settle(
        &mut self,
        finished: Finished,
        config: &Config,
        db: &Db,
        bus: &Bus,
        now: Stamp,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let (id, done) = match finished.0 {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => (error.id(), None),
        };
        let name = self.about.remove(&id).unwrap_or_default();
        self.busy.remove(&name);
        match done {
            None => anyhow::bail!("the look at {name} panicked"),
            Some(Done::Seen(row, seen)) => self.seen(&row, seen, db, bus, now, summary).await,
            Some(Done::Removed(name, row, outcome)) => {
                self.removed(&name, row.as_deref(), outcome, db, bus, now, summary)
                    .await
            }
            Some(Done::Containers(listed)) => {
                self.containers(&Arc::new(config.clone()), listed);
                Ok(())
            }
        }
    }

    async fn seen(
        &mut self,
        row: &DeckyRow,
        mut seen: Seen,
        db: &Db,
        bus: &Bus,
        now: Stamp,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let decky = &row.decky;
        self.remember(row, &mut seen);
        if seen.effort == Effort::Doubt {
            return Ok(());
        }
        summary.inserted += usize::from(seen.started);
        if let Some((_, state)) = self.wanted.get_mut(&decky.name) {
            *state = seen.state;
        }
        let same = decky.state == seen.state
            && decky.listeners == seen.listeners
            && decky.last_error == seen.error;
        if same {
            return Ok(());
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
            let new = decky.state == DeckyState::Pending && decky.listeners.is_empty();
            let transition = if new { "inserted" } else { "state_changed" };
            announce(bus, row, transition, seen.state.as_str());
        }
        Ok(())
    }

    /// Keeps in mind what the next look has to know, and watches what runs.
    fn remember(&mut self, row: &DeckyRow, seen: &mut Seen) {
        let (name, version) = (&row.decky.name, row.decky.version);
        let now = Instant::now();
        if seen.effort == Effort::Doubt {
            self.doubted.insert(name.clone(), now + DOUBT);
            return;
        }
        self.doubted.remove(name);
        match seen.effort {
            Effort::Tried => {
                let well = seen.state == DeckyState::Running;
                self.backoff.tried(name, version, now, well);
            }
            Effort::Waiting => self.backoff.still_wanting(name),
            Effort::None | Effort::Doubt => self.backoff.well(name, now),
        }
        if let Some(ended) = seen.ended.take() {
            let name = name.clone();
            self.watches.spawn(async move {
                let how = ended.await;
                tracing::info!("{name} ended ({how})");
                name
            });
        }
        if let Some(pid) = seen.pid
            && self.watched.insert(name.clone(), pid) != Some(pid)
        {
            let name = name.clone();
            self.watches.spawn(async move {
                watch::until_gone(pid).await;
                name
            });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the ends of a pass, passed on")]
    async fn removed(
        &mut self,
        name: &str,
        row: Option<&DeckyRow>,
        outcome: anyhow::Result<()>,
        db: &Db,
        bus: &Bus,
        now: Stamp,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        if let Err(error) = outcome {
            tracing::error!("removing {name}: {error:#}");
            let Some(row) = row else { return Ok(()) };
            let error = format!("{error:#}");
            if row.decky.last_error.as_ref() != Some(&error) {
                let decky = &row.decky;
                db.decky_observe(name, decky.version, decky.state, &[], Some(&error), now)
                    .await?;
            }
            return Ok(());
        }
        self.watched.remove(name);
        if let Some(row) = row
            && db.decky_forget(name, row.decky.version, now).await?
        {
            summary.deleted += 1;
            announce(bus, row, "deleted", "removed");
        }
        Ok(())
    }

    /// Removes containers nobody wants. One whose decky wants another runtime by now is
    /// moved by the look at that decky, unless its directory is lost.
    fn containers(
        &mut self,
        config: &Arc<Config>,
        listed: anyhow::Result<BTreeMap<String, Runtime>>,
    ) {
        let listed = match listed {
            Ok(listed) => {
                self.engine_error = None;
                listed
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.engine_error.as_ref() != Some(&error) {
                    tracing::warn!("looking for containers nobody wants: {error}");
                    self.engine_error = Some(error);
                }
                return;
            }
        };
        for name in listed.into_keys() {
            let wanted = self.wanted.get(&name).map(|(runtime, _)| *runtime);
            if wanted == Some(Runtime::Docker) || self.busy.contains(&name) {
                continue;
            }
            tracing::info!("a container of {name} is removed: nobody wants it");
            let (config, bounds) = (Arc::clone(config), Arc::clone(&self.bounds));
            self.spawn(name.clone(), async move {
                let _place = bounds.repair(Runtime::Docker).await;
                let outcome = docker::end(&config, &name).await;
                Done::Removed(name, None, outcome)
            });
        }
    }
}

/// What follows from how the fleet is now: this host's way to it, and the file other
/// tools read. Best effort: deckies serve without either.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn aftermath(config: &Config, db: &Db) -> anyhow::Result<()> {
    let rows = db.decky_list().await?;
    runtime::network_done(config, &rows).await;
    if let Err(error) = export::write(config, &rows) {
        tracing::warn!("{error:#}");
    }
    Ok(())
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
