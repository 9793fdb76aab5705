//! `decnet distros`: Linux distributions with what they run.

use std::process::ExitCode;

use super::output;
use crate::persona::distro::DISTROS;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet distros\n  decnet distros --json\n\nA distribution is asked for with `decnet deploy --distro`; archetypes of Windows,\ndevices and routers have systems of their own."
)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.json {
        let rows: Vec<_> = DISTROS
            .iter()
            .map(|d| {
                serde_json::json!({
                    "name": d.slug,
                    "display": d.display,
                    "hostname_style": d.style,
                    "kernels": d.kernels(),
                    "software": d.software(),
                })
            })
            .collect();
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = DISTROS
        .iter()
        .map(|d| {
            vec![
                d.slug.to_owned(),
                d.display.to_owned(),
                d.style.to_owned(),
                d.kernels().last().copied().unwrap_or_default().to_owned(),
                d.software().join(", "),
            ]
        })
        .collect();
    output::table(
        &["DISTRO", "NAME", "HOST NAMES", "NEWEST KERNEL", "SOFTWARE"],
        rows,
    )?;
    Ok(ExitCode::SUCCESS)
}
