//! `decnet teardown`: says that deckies are wanted no more and follows them until they
//! are gone. What they captured stays.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::{follow, logs, output};
use crate::bus::Bus;
use crate::config::Sources;
use crate::db::Db;
use crate::model::{Stamp, topic};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet teardown --id decky-02\n  decnet teardown --all\n\nCaptured events, credentials and files are kept.\n\nExit codes: 0 all of them are gone, 1 some are not, 2 wrong usage, 78 bad configuration,\n130 interrupted (the reconciler goes on)."
)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(false)))]
pub(super) struct Args {
    /// Every decky.
    #[arg(long, group = "which")]
    all: bool,
    /// One decky, by name.
    #[arg(long, value_name = "NAME", group = "which")]
    id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Longest time to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = super::load(sources)?;
    super::block_on(async {
        // Says what is wrong when there is nothing to open, before anything is created.
        logs::open(&config).await?.close().await;
        let db = Db::open(&config.database).await?;
        let rows = db.decky_list().await?;
        if let Some(id) = &args.id
            && !rows.iter().any(|r| r.decky.name == *id)
        {
            bail!("there is no decky called '{id}'; `decnet deckies` lists them");
        }
        db.decky_remove(args.id.as_deref(), Stamp::now()).await?;
        let bus = Bus::socket(&config.bus, "cli");
        bus.publish(topic::FLEET_CHANGED, "teardown", serde_json::json!({}));
        let names: Vec<&str> = rows
            .iter()
            .map(|r| r.decky.name.as_str())
            .filter(|name| args.id.as_deref().is_none_or(|id| id == *name))
            .collect();
        let patience = Duration::from_secs(args.timeout);
        let outcome =
            follow::until_settled(&config, &db, &bus, &names, patience, !args.json).await?;
        let gone = names.len() - outcome.deckies.len();
        if args.json {
            output::json(&serde_json::json!({"removed": gone, "left": outcome.deckies}))?;
        } else {
            output::line(format!("{gone} of {} deckies removed", names.len()))?;
        }
        db.close().await;
        bus.close().await;
        Ok(outcome.exit_code(outcome.all_gone()))
    })
}
