//! `decnet decky --dir DIR`: one decky; see [`crate::decoy::run`].

use std::path::PathBuf;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::{app, decoy};

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The decky's directory.
    #[arg(long)]
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let stop = CancellationToken::new();
        app::stop_on_signal(&stop)?;
        decoy::run::run(&args.dir, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}
