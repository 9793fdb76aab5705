//! Follows the fleet until it is as wanted: shared by `deploy`, `redeploy` and `teardown`.
//! With a reconciler running it watches the rows; with none it converges in this process,
//! under the reconciler's own lock. Interrupted, it says what goes on without it: the
//! wishes are written, and only the watching ends.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
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
/// A larger fleet is shown as one line that counts.
const LINES_MAX: usize = 20;
/// Exit code after Ctrl-C, as shells have it: 128 and the signal's number.
const EXIT_INTERRUPTED: u8 = 130;

/// How the deckies asked about ended up.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Those asked about that still have a row.
    pub(super) deckies: Vec<Decky>,
    /// The time ran out.
    timed_out: bool,
    /// Ctrl-C.
    interrupted: bool,
}

impl Outcome {
    /// What is known when the time has run out.
    fn late(deckies: Vec<Decky>) -> Self {
        Self {
            deckies,
            timed_out: true,
            interrupted: false,
        }
    }

    /// Every one of them runs with every service.
    pub(super) fn all_running(&self) -> bool {
        self.deckies.iter().all(|d| d.state == DeckyState::Running)
    }

    /// Every one of them is gone.
    pub(super) fn all_gone(&self) -> bool {
        self.deckies.is_empty()
    }

    /// The exit code of a command that is `done` when everything is as wanted.
    pub(super) fn exit_code(&self, done: bool) -> ExitCode {
        match (self.interrupted, done) {
            (true, _) => ExitCode::from(EXIT_INTERRUPTED),
            (false, true) => ExitCode::SUCCESS,
            (false, false) => ExitCode::FAILURE,
        }
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
        let why = if self.interrupted {
            " so far"
        } else if self.timed_out {
            "; the rest did not settle in time: `decnet deckies`, `decnet doctor`"
        } else {
            "; `decnet deckies` shows why"
        };
        format!("{running} of {total} deckies running{why}")
    }
}

/// Waits until every decky in `names` is settled (running, degraded, failed or gone).
/// `progress` shows them settling, on a terminal.
///
/// # Errors
/// When the database fails, or a pass in this process does.
pub(super) async fn until_settled(
    config: &Config,
    db: &Db,
    bus: &Bus,
    names: &[&str],
    patience: Duration,
    progress: bool,
) -> anyhow::Result<Outcome> {
    let watch = watch(config, db, bus, names, patience, progress);
    tokio::select! {
        outcome = watch => outcome,
        signal = tokio::signal::ctrl_c() => {
            signal?;
            interrupted(config, db, names).await
        }
    }
}

async fn watch(
    config: &Config,
    db: &Db,
    bus: &Bus,
    names: &[&str],
    patience: Duration,
    progress: bool,
) -> anyhow::Result<Outcome> {
    let deadline = Instant::now() + patience;
    let mut told = Told::new(names.len(), progress);
    let mut own = Fleet::default();
    loop {
        {
            let pass = pass(&mut own, config, db, bus);
            tokio::pin!(pass);
            // Rows change while a pass in this process works; they are shown meanwhile.
            loop {
                tokio::select! {
                    outcome = &mut pass => {
                        outcome?;
                        break;
                    }
                    () = tokio::time::sleep(LOOK) => {}
                }
                let deckies = named(db, names).await?;
                told.look(&deckies)?;
                if Instant::now() >= deadline {
                    told.end()?;
                    return Ok(Outcome::late(deckies));
                }
            }
        }
        let deckies = named(db, names).await?;
        told.look(&deckies)?;
        let settled = deckies.iter().all(is_settled);
        if settled || Instant::now() >= deadline {
            told.end()?;
            return Ok(Outcome {
                timed_out: !settled,
                ..Outcome::late(deckies)
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One pass in this process, unless a reconciler is there to do it.
async fn pass(own: &mut Fleet, config: &Config, db: &Db, bus: &Bus) -> anyhow::Result<()> {
    // Held only for one pass: a reconciler that starts meanwhile takes over.
    if let Ok(Some(_held)) = lock::try_take(&config.paths.lock("reconciler")) {
        own.pass(config, db, bus, Stamp::now()).await?;
    }
    Ok(())
}

async fn named(db: &Db, names: &[&str]) -> anyhow::Result<Vec<Decky>> {
    let rows = db.decky_list().await?;
    let mut deckies: Vec<Decky> = rows.into_iter().map(|r| r.decky).collect();
    deckies.retain(|d| names.contains(&d.name.as_str()));
    Ok(deckies)
}

fn is_settled(decky: &Decky) -> bool {
    !matches!(decky.state, DeckyState::Pending | DeckyState::TearingDown)
}

/// Says who goes on, and how things stand.
async fn interrupted(config: &Config, db: &Db, names: &[&str]) -> anyhow::Result<Outcome> {
    let nobody = matches!(
        lock::try_take(&config.paths.lock("reconciler")),
        Ok(Some(_))
    );
    let who = if nobody {
        "no reconciler is running: start it, or run `decnet reconciler --once`"
    } else {
        "the reconciler goes on"
    };
    eprintln!("\nInterrupted. What is wanted is written; {who}. `decnet deckies` shows the fleet.");
    Ok(Outcome {
        interrupted: true,
        ..Outcome::late(named(db, names).await?)
    })
}

/// What was shown so far.
#[derive(Debug)]
struct Told {
    total: usize,
    shown: bool,
    settled: BTreeMap<String, DeckyState>,
    counted: Option<usize>,
}

impl Told {
    fn new(total: usize, progress: bool) -> Self {
        Self {
            total,
            shown: progress && io::stdout().is_terminal(),
            settled: BTreeMap::new(),
            counted: None,
        }
    }

    fn look(&mut self, deckies: &[Decky]) -> io::Result<()> {
        if !self.shown {
            return Ok(());
        }
        if self.total > LINES_MAX {
            let waiting = deckies.iter().filter(|d| !is_settled(d)).count();
            let settled = self.total.saturating_sub(waiting);
            if self.counted.replace(settled) != Some(settled) {
                let mut out = io::stdout().lock();
                write!(out, "\r{settled} of {} deckies settled", self.total)?;
                out.flush()?;
            }
            return Ok(());
        }
        for decky in deckies.iter().filter(|d| is_settled(d)) {
            if self.settled.insert(decky.name.clone(), decky.state) != Some(decky.state) {
                tell(decky)?;
            }
        }
        Ok(())
    }

    /// Ends the line that counts.
    fn end(&self) -> io::Result<()> {
        if self.counted.is_some() {
            output::line("")?;
        }
        Ok(())
    }
}

fn tell(decky: &Decky) -> io::Result<()> {
    let sockets: Vec<String> = decky
        .listeners
        .iter()
        .filter_map(|l| l.addr.map(|a| format!("{} {a}", l.service)))
        .collect();
    let error = decky
        .last_error
        .as_deref()
        .map(|e| format!("  ({})", output::safe(e)))
        .unwrap_or_default();
    output::line(format!(
        "{:<16} {:<12} {}{error}",
        decky.name,
        decky.state,
        sockets.join("  ")
    ))
}
