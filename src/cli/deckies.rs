//! `decnet deckies`.

use std::process::ExitCode;

use crate::config::Sources;

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, _sources: &Sources) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
