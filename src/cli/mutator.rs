//! `decnet mutator`: the worker, or one change made now and followed to its end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::output;
use crate::app;
use crate::bus::Bus;
use crate::config::{Config, Sources};
use crate::db::Db;
use crate::model::{Stamp, topic, worker};
use crate::net::lock;
use crate::worker::mutator::Mutator;
use crate::worker::reconciler::Fleet;

/// How often to look how a change goes.
const LOOK: Duration = Duration::from_millis(200);
/// Longest wait for a change.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet mutator --once --decky decky-02     change one host now\n  decnet mutator --once --all                change every host now\n  decnet mutator --once                      do what is due, as the worker would\n\nA host changes one step at a time: a port opens or closes, or it updates and restarts.\nWhat the runtime refuses is taken back.\n\nExit codes with --once: 0 done, 1 a change was refused or failed."
)]
pub(super) struct Args {
    /// Look once instead of serving, say what changed, end.
    #[arg(long)]
    once: bool,
    /// With --once: change this decky, due or not.
    #[arg(long, value_name = "NAME", requires = "once")]
    decky: Option<String>,
    /// With --once: change every decky, due or not.
    #[arg(long, requires = "once", conflicts_with = "decky")]
    all: bool,
    /// With --once: print JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    if !args.once {
        let row = worker::find("mutator").ok_or_else(|| anyhow::anyhow!("no such worker"))?;
        return Ok(app::start(row, sources));
    }
    let config = super::load(sources)?;
    super::block_on(async {
        // Says what is wrong when there is nothing to open, before anything is created.
        super::logs::open(&config).await?.close().await;
        let db = Db::open(&config.database).await?;
        let bus = Bus::socket(&config.bus, "cli");
        let began = Stamp::now();
        request(args, &db).await?;
        bus.publish(topic::FLEET_CHANGED, "mutation", serde_json::json!({}));
        follow(&config, &db, &bus).await?;
        let mut changes = db.mutations_settled(args.decky.as_deref(), 1000).await?;
        changes.retain(|change| change.settled_at >= began);
        changes.reverse();
        if args.json {
            output::json(&changes)?;
        } else if changes.is_empty() {
            output::line("nothing was due")?;
        }
        let mut refused = false;
        for change in &changes {
            refused |= change.status != "applied";
            if !args.json {
                let step = change.step.as_deref().unwrap_or("no change");
                let reason = change.reason.as_deref().map(|r| format!(": {r}"));
                output::line(format!(
                    "{}  {step}  {}{}",
                    change.decky,
                    change.status,
                    reason.unwrap_or_default()
                ))?;
            }
        }
        db.close().await;
        bus.close().await;
        Ok(if refused {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    })
}

/// Writes the requests down.
async fn request(args: &Args, db: &Db) -> anyhow::Result<()> {
    let rows = db.decky_list().await?;
    let mut names: Vec<&str> = rows
        .iter()
        .filter(|r| !r.decky.removed)
        .map(|r| r.decky.name.as_str())
        .collect();
    match &args.decky {
        Some(name) if !names.contains(&name.as_str()) => {
            bail!("there is no decky called '{name}'; `decnet deckies` lists them")
        }
        Some(name) => names.retain(|n| n == name),
        None if args.all => {}
        None => names.clear(),
    }
    for name in names {
        db.mutation_request(name, "operator", None, Stamp::now())
            .await?;
    }
    Ok(())
}

/// Waits until every open change is settled, doing the workers' parts where they do not
/// run.
async fn follow(config: &Config, db: &Db, bus: &Bus) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut mutator = Mutator::default();
    let mut fleet = Fleet::default();
    loop {
        if let Ok(Some(_held)) = lock::try_take(&config.paths.lock("mutator")) {
            mutator.pass(config, db, bus, Stamp::now()).await?;
        }
        if let Ok(Some(_held)) = lock::try_take(&config.paths.lock("reconciler")) {
            fleet.pass(config, db, bus, Stamp::now()).await?;
        }
        if db.mutations_open().await?.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("a change is still being tried; `decnet deckies` and `decnet doctor` show why");
        }
        tokio::time::sleep(LOOK).await;
    }
}
