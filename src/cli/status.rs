//! `decnet status`: workers (systemd, heartbeat, memory) and deckies, without needing
//! systemd, the bus or privileges; what could not be seen is said.

use std::process::ExitCode;

use serde::Serialize;

use super::{deckies, output};
use crate::config::{Config, Sources};
use crate::model::worker::WORKERS;
use crate::model::{Decky, Stamp};
use crate::systemd::{Manager, UnitState};
use crate::worker::Beat;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every started worker is alive, 1 some worker failed or is stale, 78 bad configuration."
)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One worker as this command could see it.
#[derive(Debug, Serialize)]
struct Row {
    worker: &'static str,
    /// systemd's view, `active (running)`; absent without systemd.
    systemd: Option<String>,
    /// `ok`, `stale` or `unknown`.
    heartbeat: &'static str,
    heartbeat_age_sec: Option<u64>,
    rss_bytes: Option<u64>,
    passes: Option<u64>,
    failures: Option<u64>,
    version: Option<String>,
    status: Option<String>,
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    workers: Vec<Row>,
    deckies: Option<Vec<Decky>>,
    unseen: Vec<String>,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = super::load(sources)?;
    let report = super::block_on(async { Ok(look(&config).await) })?;
    let sick = report.workers.iter().any(|w| {
        w.heartbeat == "stale" && w.systemd.as_deref().is_none_or(|s| s.starts_with("active"))
            || w.systemd
                .as_deref()
                .is_some_and(|s| s.starts_with("failed"))
    });
    if args.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(if sick {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn look(config: &Config) -> Report {
    let mut unseen = Vec::new();
    let units = units(&mut unseen).await;
    let now = Stamp::now();
    let workers = WORKERS
        .iter()
        .enumerate()
        .map(|(index, worker)| {
            let beat = beat(config, worker.name, &mut unseen);
            let age = beat.as_ref().map(|b| now.since(b.ts));
            Row {
                worker: worker.name,
                systemd: units.get(index).map(|u| {
                    if u.is_installed() {
                        format!("{} ({})", u.active, u.sub)
                    } else {
                        "not installed".to_owned()
                    }
                }),
                heartbeat: match &beat {
                    Some(beat) if beat.is_fresh(now) => "ok",
                    Some(_) => "stale",
                    None => "unknown",
                },
                heartbeat_age_sec: age.map(|a| a.as_secs()),
                rss_bytes: beat.as_ref().map(|b| b.rss_bytes),
                passes: beat.as_ref().map(|b| b.passes),
                failures: beat.as_ref().map(|b| b.failures),
                version: beat.as_ref().map(|b| b.version.clone()),
                status: beat.as_ref().map(|b| b.status.clone()),
                last_error: beat.and_then(|b| b.last_error),
            }
        })
        .collect();
    let deckies = match fleet(config).await {
        Ok(deckies) => Some(deckies),
        Err(error) => {
            unseen.push(format!("the fleet: {error:#}"));
            None
        }
    };
    unseen.dedup();
    Report {
        workers,
        deckies,
        unseen,
    }
}

async fn units(unseen: &mut Vec<String>) -> Vec<UnitState> {
    let names: Vec<String> = WORKERS.iter().map(crate::model::Worker::unit).collect();
    let states = async { Manager::connect().await?.unit_states(&names).await };
    match states.await {
        Ok(states) => states,
        Err(error) => {
            unseen.push(format!("unit states: {error}"));
            Vec::new()
        }
    }
}

fn beat(config: &Config, name: &str, unseen: &mut Vec<String>) -> Option<Beat> {
    let path = config.paths.pulse(name);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            unseen.push(format!(
                "heartbeats in {}: {error}; run as root or as a member of the service group",
                config.paths.run.join("pulse").display()
            ));
            None
        }
    }
}

async fn fleet(config: &Config) -> anyhow::Result<Vec<Decky>> {
    let missing = config.database.path().is_some_and(|path| {
        std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    });
    if missing {
        return Ok(Vec::new());
    }
    let db = super::logs::open(config).await?;
    let rows = db.decky_list().await?;
    db.close().await;
    Ok(rows.into_iter().map(|r| r.decky).collect())
}

fn print(report: &Report) -> anyhow::Result<()> {
    let rows = report
        .workers
        .iter()
        .map(|w| {
            vec![
                w.worker.to_owned(),
                w.systemd.clone().unwrap_or_else(|| "-".to_owned()),
                paint(w.heartbeat),
                w.heartbeat_age_sec.map_or_else(
                    || "-".to_owned(),
                    |s| output::ago(std::time::Duration::from_secs(s)),
                ),
                w.rss_bytes
                    .map_or_else(|| "-".to_owned(), |b| format!("{:.1} MiB", mib(b))),
                w.last_error
                    .clone()
                    .or_else(|| w.status.clone())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    output::table(
        &["WORKER", "SYSTEMD", "HEARTBEAT", "AGE", "MEMORY", "DOING"],
        rows,
    )?;
    if let Some(fleet) = &report.deckies
        && !fleet.is_empty()
    {
        output::line("")?;
        deckies::print(fleet)?;
    }
    for what in &report.unseen {
        output::line(format!("not seen: {what}"))?;
    }
    Ok(())
}

fn paint(word: &'static str) -> String {
    let code = match word {
        "ok" => "32",
        "stale" => "31",
        _ => "33",
    };
    if output::colour() {
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    } else {
        word.to_owned()
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal of a memory size")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
