//! The `bus` worker: serves the socket of [`crate::bus`]. Its own context holds the hub
//! that it serves, so its heartbeat reaches the clients and its control topic reaches it
//! like any other worker's.

use anyhow::Context;

use crate::bus::Listener;
use crate::net::descriptor;
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
    if let Err(error) = descriptor::raise_limit(DESCRIPTORS) {
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
