//! The `api` worker: HTTP API below `/api/v1`.

use crate::worker::Ctx;

/// Runs until stopped.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    ctx.pulse.ready("stub");
    ctx.stop.cancelled().await;
    Ok(())
}
