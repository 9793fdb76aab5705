//! `decnet redeploy`: starts deckies anew as their rows want them. Nothing about them
//! changes but their process or container; their connections end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::{follow, logs, output};
use crate::bus::Bus;
use crate::config::Sources;
use crate::db::decky::{DeckyRow, DeckyWrite};
use crate::db::{self, Db};
use crate::model::{DeckyState, Stamp, topic};

/// How often it is tried again when somebody else changed a row meanwhile.
const TRIES: usize = 3;

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

/// Counts the generation of the chosen rows up. Returns their names.
async fn restart(args: &Args, db: &Db) -> anyhow::Result<Vec<String>> {
    let mut tries = 1;
    loop {
        let rows = db.decky_list().await?;
        for id in &args.id {
            if !rows.iter().any(|r| r.decky.name == *id && !r.decky.removed) {
                bail!("there is no decky called '{id}'; `decnet deckies` lists them");
            }
        }
        let chosen: Vec<DeckyRow> = rows.into_iter().filter(|r| chosen(args, r)).collect();
        let writes: Vec<DeckyWrite> = chosen
            .iter()
            .map(|row| {
                let mut wish = row.decky.wish.clone();
                wish.generation = wish.generation.wrapping_add(1);
                DeckyWrite::Set {
                    name: row.decky.name.clone(),
                    version: row.decky.version,
                    ip: row.decky.ip,
                    wish,
                    persona: None,
                }
            })
            .collect();
        match db.decky_apply(&writes, Stamp::now()).await {
            Err(db::Error::Conflict(_)) if tries < TRIES => tries += 1,
            outcome => {
                outcome?;
                return Ok(chosen.into_iter().map(|r| r.decky.name).collect());
            }
        }
    }
}

fn chosen(args: &Args, row: &DeckyRow) -> bool {
    let sick = matches!(row.decky.state, DeckyState::Failed | DeckyState::Degraded);
    !row.decky.removed && (args.all || args.id.contains(&row.decky.name) || args.failed && sick)
}
