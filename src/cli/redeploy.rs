//! `decnet redeploy`: starts deckies anew as their rows want them. Nothing about them
//! changes but their process or container; their connections end.

use std::process::ExitCode;
use std::time::Duration;

use super::{follow, logs, output};
use crate::bus::Bus;
use crate::config::Sources;
use crate::db::Db;
use crate::db::decky::DeckyRow;
use crate::deploy;
use crate::fleet::edit;
use crate::model::{DeckyState, Wish, topic};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet redeploy --id decky-02\n  decnet redeploy --failed        those that do not run with every service\n\nDeckies that are not named are not touched.\n\nExit codes: 0 every one of them runs, 1 some do not, 2 wrong usage, 78 bad configuration,\n130 interrupted (the reconciler goes on)."
)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(false)))]
pub(super) struct Args {
    /// Every decky.
    #[arg(long, group = "which")]
    all: bool,
    /// One decky, by name; may be repeated.
    #[arg(long, value_name = "NAME", group = "which")]
    id: Vec<String>,
    /// Those that are failed or degraded.
    #[arg(long, group = "which")]
    failed: bool,
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
        let names = restart(args, &db).await?;
        let bus = Bus::socket(&config.bus, "cli");
        bus.publish(topic::FLEET_CHANGED, "redeploy", serde_json::json!({}));
        let watched: Vec<&str> = names.iter().map(String::as_str).collect();
        let patience = Duration::from_secs(args.timeout);
        let outcome =
            follow::until_settled(&config, &db, &bus, &watched, patience, !args.json).await?;
        if args.json {
            output::json(&serde_json::json!({"restarted": names, "deckies": outcome.deckies}))?;
        } else {
            output::line(outcome.sentence())?;
        }
        db.close().await;
        bus.close().await;
        Ok(outcome.exit_code(outcome.all_running()))
    })
}

/// Has the chosen deckies started anew. Returns their names.
async fn restart(args: &Args, db: &Db) -> anyhow::Result<Vec<String>> {
    let rows = db.decky_list().await?;
    for id in &args.id {
        if !rows.iter().any(|r| r.decky.name == *id && !r.decky.removed) {
            return Err(deploy::Error::Unknown(id.clone()).into());
        }
    }
    let again = |wish: &Wish| Ok(edit::anew(wish));
    Ok(deploy::amend(db, |row| chosen(args, row), again, None).await?)
}

fn chosen(args: &Args, row: &DeckyRow) -> bool {
    let sick = matches!(row.decky.state, DeckyState::Failed | DeckyState::Degraded);
    args.all || args.id.contains(&row.decky.name) || args.failed && sick
}
