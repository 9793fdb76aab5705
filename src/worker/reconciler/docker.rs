//! The Docker runtime: one container per decky.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::decoy::run::Spec;
use crate::model::Runtime;
use crate::worker::reconciler::runtime::Started;

/// Deckies that have a container on this host's engine; none when there is no engine.
///
/// # Errors
/// When the engine is there and does not answer.
pub(super) async fn present(_config: &Config) -> anyhow::Result<BTreeMap<String, Runtime>> {
    Ok(BTreeMap::new())
}

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn start(_config: &Config, spec: &Spec) -> anyhow::Result<Started> {
    anyhow::bail!("{}: the Docker runtime is not available yet", spec.name)
}

/// Removes the containers of a decky that was told to stop.
///
/// # Errors
/// When the engine refuses.
pub(super) async fn end(_config: &Config, _name: &str) -> anyhow::Result<()> {
    Ok(())
}

/// Whether a container of this decky exists, running or not.
pub(super) async fn exists(_config: &Config, _name: &str) -> bool {
    false
}
