//! `decnet reconciler`: the worker, or one pass of it.

use std::process::ExitCode;

use crate::app;
use crate::config::Sources;
use crate::model::worker;

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Look once, make it so, say what changed, end.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    if args.once {
        anyhow::bail!("not built yet");
    }
    let row = worker::find("reconciler").ok_or_else(|| anyhow::anyhow!("no such worker"))?;
    Ok(app::start(row, sources))
}
