//! `decnet archetypes`: kinds of machines with what they offer.

use std::process::ExitCode;

use super::output;
use crate::fleet::difference::slugs;
use crate::persona::archetype::ARCHETYPES;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet archetypes\n  decnet archetypes --json\n\nOFFERS is what a new decky of the kind runs, LATER what it may gain in time. Services\nthat this version does not speak are under MISSING; a later version adds them."
)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.json {
        let rows: Vec<_> = ARCHETYPES
            .iter()
            .map(|a| {
                serde_json::json!({
                    "name": a.slug,
                    "summary": a.summary,
                    "family": a.family,
                    "distros": a.distros,
                    "services": a.services,
                    "offers": a.offers(),
                    "pool": a.pool(),
                    "missing": a.missing(),
                })
            })
            .collect();
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = ARCHETYPES
        .iter()
        .map(|a| {
            let offers = a.offers();
            let mut later = a.pool();
            later.retain(|s| !offers.contains(s));
            vec![
                a.slug.to_owned(),
                a.summary.to_owned(),
                a.family.to_string(),
                slugs(&offers),
                slugs(&later),
                a.missing().join(","),
            ]
        })
        .collect();
    output::table(
        &[
            "ARCHETYPE",
            "WHAT IT IS",
            "FAMILY",
            "OFFERS",
            "LATER",
            "MISSING",
        ],
        rows,
    )?;
    Ok(ExitCode::SUCCESS)
}
