//! The `collector` worker.

use crate::worker::Ctx;

/// Runs until stopped.
///
/// # Errors
/// When the socket cannot be bound.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    ctx.pulse.ready("stub");
    ctx.stop.cancelled().await;
    Ok(())
}
