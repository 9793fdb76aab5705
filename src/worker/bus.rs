//! The `bus` worker: serves the socket of [`crate::bus`]. Its own context holds the hub
//! that it serves, so its heartbeat reaches the clients and its control topic reaches it
//! like any other worker's.

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::bus::Listener;
use crate::worker::Ctx;

/// Descriptors wanted for clients.
const DESCRIPTORS: u64 = 16_384;

/// Runs until stopped.
///
/// # Errors
/// When the socket cannot be bound.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    if !ctx.config.bus.enabled {
        ctx.pulse.ready("switched off (DECNET_BUS_ENABLED=false)");
        ctx.stop.cancelled().await;
        return Ok(());
    }
    if let Err(error) = raise_descriptors() {
        tracing::debug!("raising the descriptor limit: {error}");
    }
    let listener = Listener::bind(&ctx.config.bus).await?;
    let path = listener.path().display().to_string();
    ctx.pulse.ready(&format!("listening on {path}"));
    let pulse = ctx.pulse.clone();
    listener
        .serve(&ctx.bus, ctx.stop.clone(), |clients| {
            pulse.status(&format!("listening on {path}, clients: {clients}"));
        })
        .await
        .context("serving the bus")
}

/// The soft limit of services is 1024 for the sake of `select`, which we do not use.
fn raise_descriptors() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = DESCRIPTORS.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}
