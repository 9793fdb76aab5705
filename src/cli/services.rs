//! `decnet services`: what a decky can offer, with the settings of each.

use std::process::ExitCode;

use super::output;
use crate::model::Service;
use crate::model::service::PLANNED;
use crate::model::setting::{Kind, SETTINGS, Setting};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet services\n  decnet services --json | jq -r '.[] | select(.available) | .name'\n\nSettings are given in a deployment file, in a section [DECKY.SERVICE]."
)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.json {
        print_json()?;
    } else {
        print_tables()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(service: Service) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |s| s.service == service)
}

fn kind(setting: &Setting) -> String {
    match setting.kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Int(low, high) => format!("{low} to {high}"),
        Kind::Choice(words) => words.join(", "),
        // Every other kind is written as text; its sentence says what of.
        _ => "text".to_owned(),
    }
}

fn print_json() -> anyhow::Result<()> {
    let spoken = Service::ALL.iter().map(|service| {
        let settings: Vec<_> = settings(*service)
            .map(|s| serde_json::json!({"key": s.key, "type": kind(s), "doc": s.doc}))
            .collect();
        serde_json::json!({
            "name": service.slug(),
            "port": service.port(),
            "summary": service.summary(),
            "available": true,
            "settings": settings,
        })
    });
    let planned = PLANNED
        .iter()
        .map(|slug| serde_json::json!({"name": slug, "available": false}));
    output::json(&spoken.chain(planned).collect::<Vec<_>>())
}

fn print_tables() -> anyhow::Result<()> {
    let rows = Service::ALL
        .iter()
        .map(|s| {
            let keys: Vec<&str> = settings(*s).map(|s| s.key).collect();
            vec![
                s.slug().to_owned(),
                s.port().to_string(),
                s.summary().to_owned(),
                keys.join(", "),
            ]
        })
        .collect();
    output::table(&["SERVICE", "PORT", "WHAT IT IS", "SETTINGS"], rows)?;
    output::line("")?;
    let rows = SETTINGS
        .iter()
        .map(|s| {
            vec![
                format!("{}.{}", s.service, s.key),
                kind(s),
                s.doc.to_owned(),
            ]
        })
        .collect();
    output::table(&["SETTING", "VALUE", "WHAT IT DOES"], rows)?;
    output::line("")?;
    output::line(format!(
        "Not available in this version: {}",
        PLANNED.join(", ")
    ))?;
    Ok(())
}
