//! The native runtime: a process in a network namespace of its own, on the LAN.

use crate::config::Config;
use crate::decoy::run::Spec;
use crate::worker::reconciler::{local, runtime::Started};

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn start(_config: &Config, spec: &Spec) -> anyhow::Result<Started> {
    anyhow::bail!("{}: the native runtime is not available yet", spec.name)
}

/// Ends a decky that was told to stop, and removes its namespace and interface.
///
/// # Errors
/// When it cannot be ended.
pub(super) async fn end(config: &Config, name: &str) -> anyhow::Result<()> {
    local::end(config, name).await
}

/// Whether a process of this decky exists, answering or not.
pub(super) fn exists(config: &Config, name: &str) -> bool {
    local::exists(config, name)
}
