//! `decnet deploy`.

use std::process::ExitCode;

use crate::config::Sources;

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, _sources: &Sources) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

/// Options of `decnet services`.
#[derive(Debug, clap::Args)]
pub(super) struct ServicesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `decnet services`.
pub(super) fn services(args: &ServicesArgs) -> anyhow::Result<ExitCode> {
    use super::output;
    use crate::model::Service;
    if args.json {
        let rows: Vec<_> = Service::ALL
            .iter()
            .map(
                |s| serde_json::json!({"name": s.slug(), "port": s.port(), "summary": s.summary()}),
            )
            .collect();
        output::json(&rows)?;
    } else {
        let rows = Service::ALL
            .iter()
            .map(|s| {
                vec![
                    s.slug().to_owned(),
                    s.port().to_string(),
                    s.summary().to_owned(),
                ]
            })
            .collect();
        output::table(&["SERVICE", "PORT", "WHAT IT IS"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
