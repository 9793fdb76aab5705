//! `decnet reconciler`: the worker, or one pass of it.

use std::process::ExitCode;

use super::output;
use crate::app;
use crate::bus::Bus;
use crate::config::Sources;
use crate::db::Db;
use crate::model::{Stamp, worker};
use crate::net::lock;
use crate::worker::reconciler::Fleet;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet reconciler --once     repair the fleet now, say what changed\n\nExit codes with --once: 0 done, 1 failed, 69 the worker is running and does it by itself."
)]
pub(super) struct Args {
    /// Look once, make it so, say what changed, end.
    #[arg(long)]
    once: bool,
    /// With --once: print JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    if !args.once {
        let row = worker::find("reconciler").ok_or_else(|| anyhow::anyhow!("no such worker"))?;
        return Ok(app::start(row, sources));
    }
    let config = super::load(sources)?;
    let Some(_held) = lock::try_take(&config.paths.lock("reconciler"))? else {
        eprintln!(
            "decnet: the reconciler is running and looks by itself; `decnet deckies` shows the fleet"
        );
        return Ok(ExitCode::from(app::EXIT_RUNNING));
    };
    let summary = super::block_on(async {
        let db = Db::open(&config.database).await?;
        let bus = Bus::socket(&config.bus, "cli");
        let summary = Fleet::default()
            .pass(&config, &db, &bus, Stamp::now())
            .await?;
        db.close().await;
        bus.close().await;
        Ok(summary)
    })?;
    if args.json {
        output::json(&summary)?;
    } else {
        output::line(format!(
            "inserted={} deleted={} state_updated={}",
            summary.inserted, summary.deleted, summary.state_updated
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
