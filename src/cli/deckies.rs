//! `decnet deckies`: the fleet as the rows say.

use std::process::ExitCode;

use super::output;
use crate::config::Sources;
use crate::model::{Decky, Stamp};

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = super::load(sources)?;
    let deckies: Vec<Decky> = super::block_on(async {
        let db = super::logs::open(&config).await?;
        let rows = db.decky_list().await?;
        db.close().await;
        Ok(rows.into_iter().map(|r| r.decky).collect())
    })?;
    if args.json {
        output::json(&deckies)?;
    } else {
        print(&deckies)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table, also part of `decnet status`.
pub(super) fn print(deckies: &[Decky]) -> anyhow::Result<()> {
    let now = Stamp::now();
    let rows = deckies
        .iter()
        .map(|decky| {
            let sockets: Vec<String> = decky
                .listeners
                .iter()
                .map(|l| match l.addr {
                    Some(addr) => format!("{}:{}", l.service, addr.port()),
                    None => format!("{}:-", l.service),
                })
                .collect();
            let services = if sockets.is_empty() {
                super::deploy::slugs(&decky.wish.services)
            } else {
                sockets.join(" ")
            };
            vec![
                decky.name.clone(),
                decky.ip.to_string(),
                decky.state.to_string(),
                services,
                output::ago(now.since(decky.updated_at)),
                decky.last_error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(
        &["DECKY", "ADDRESS", "STATE", "SERVICES", "SINCE", "ERROR"],
        rows,
    )?;
    Ok(())
}
