//! `decnet config`: effective settings with their source, and the list of all keys.

use std::process::ExitCode;

use super::output;
use crate::config::{Config, Sources, key};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A flag wins over the environment, then .env.local in the install directory, then\n/etc/decnet/decnet.ini, then the default. Secrets are shown as ***."
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Effective values and where each comes from.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every setting there is, with its default and its place in decnet.ini.
    Keys,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Show { json } => show(&super::load(sources)?, json)?,
        What::Keys => keys()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    if json {
        let rows: Vec<_> = config
            .effective
            .iter()
            .map(|e| serde_json::json!({"name": e.name, "value": e.shown(), "source": e.origin.to_string()}))
            .collect();
        return output::json(&rows);
    }
    let rows = config
        .effective
        .iter()
        .map(|e| {
            vec![
                e.name.to_owned(),
                e.shown().to_owned(),
                e.origin.to_string(),
            ]
        })
        .collect();
    output::table(&["SETTING", "VALUE", "SOURCE"], rows)?;
    Ok(())
}

fn keys() -> anyhow::Result<()> {
    let rows = key::KEYS
        .iter()
        .map(|k| {
            vec![
                k.name.to_owned(),
                k.ini
                    .map_or_else(String::new, |(section, key)| format!("[{section}] {key}")),
                k.default.to_owned(),
                k.doc.to_owned(),
            ]
        })
        .collect();
    output::table(&["SETTING", "DECNET.INI", "DEFAULT", "MEANING"], rows)?;
    Ok(())
}
