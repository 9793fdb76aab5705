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

/// The table, also part of `decnet status`. Errors, which may be long, stand below it.
pub(super) fn print(deckies: &[Decky]) -> anyhow::Result<()> {
    let now = Stamp::now();
    let rows = deckies
        .iter()
        .map(|decky| {
            vec![
                decky.name.clone(),
                decky.ip.to_string(),
                decky.wish.runtime.to_string(),
                made_from(decky),
                decky.state.to_string(),
                offers(decky),
                output::ago(now.since(decky.updated_at)),
            ]
        })
        .collect();
    output::table(
        &[
            "DECKY", "ADDRESS", "RUNTIME", "KIND", "STATE", "SERVICES", "SINCE",
        ],
        rows,
    )?;
    for decky in deckies {
        if let Some(error) = &decky.last_error {
            output::line(format!(" {}: {}", decky.name, output::safe(error)))?;
        }
    }
    Ok(())
}

/// The archetype, the distribution or the OS family: the first that was asked for.
fn made_from(decky: &Decky) -> String {
    let wish = &decky.wish;
    wish.archetype
        .clone()
        .or_else(|| wish.distro.clone())
        .unwrap_or_else(|| wish.family.unwrap_or_default().slug().to_owned())
}

/// What listens where; what is wanted while nothing is known. Services of the operator's
/// own are not asked, their ports are as wanted.
fn offers(decky: &Decky) -> String {
    let mut words: Vec<String> = decky
        .listeners
        .iter()
        .map(|l| match l.addr {
            Some(addr) => format!("{}:{}", l.service, addr.port()),
            None => format!("{}:-", l.service),
        })
        .collect();
    if words.is_empty() {
        words.extend(decky.wish.services.iter().map(|s| s.slug().to_owned()));
    }
    for custom in &decky.wish.customs {
        let ports: Vec<String> = custom.ports.iter().map(u16::to_string).collect();
        words.push(if ports.is_empty() {
            custom.name.clone()
        } else {
            format!("{}:{}", custom.name, ports.join(","))
        });
    }
    words.join(" ")
}
