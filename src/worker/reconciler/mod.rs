//! The `reconciler` worker: compares the wanted fleet with what runs and makes it so.
//! It alone starts and stops deckies. A pass adopts what already runs as wanted, starts
//! what is missing, restarts what was configured otherwise or belongs to another
//! program version, stops what is wanted no more. The row is written first, the
//! `decky.<host:name>.state` message goes out after; converged means silence.
//!
//! A decky outlives a restart of this worker. When the whole target stops (or `decnet
//! up` ends), deckies are stopped with it. A file that is missing never counts as a
//! wish to remove: only rows decide.

mod docker;
mod fleet;
mod local;
mod native;
mod runtime;

pub use fleet::{Fleet, Summary};

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::config::Config;
use crate::model::{Stamp, topic};
use crate::systemd;
use crate::worker::Ctx;

/// Deckies started at the same time.
const AT_ONCE: usize = 8;
/// Runs until stopped.
///
/// # Errors
/// When the bus pattern or the database handle is refused at start.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let db = ctx.db()?.clone();
    let mut wake = ctx.wake(&[topic::FLEET_CHANGED], ctx.config.reconcile_interval)?;
    let mut fleet = Fleet::default();
    ctx.pulse.ready("waiting for the first look");
    let died = Arc::clone(&fleet.died);
    loop {
        tokio::select! {
            why = wake.next() => if why.is_none() { break },
            // One of ours ended: look now instead of at the next period.
            () = died.notified() => {}
        }
        let outcome = fleet.pass(&ctx.config, &db, &ctx.bus, Stamp::now()).await;
        if let Ok(summary) = &outcome {
            ctx.pulse.status(&format!(
                "{} deckies wanted, {} running",
                summary.wanted, summary.running
            ));
        }
        wake.record(&outcome);
    }
    if ctx.embedded || target_is_stopping().await {
        stop_all(&ctx.config).await?;
    }
    Ok(())
}

/// Whether this stop is part of stopping `decnet.target`: then the deckies go too.
/// Under a plain restart of this worker they stay.
async fn target_is_stopping() -> bool {
    let state = async {
        let manager = systemd::Manager::connect().await.ok()?;
        let states = manager
            .unit_states(&["decnet.target".to_owned()])
            .await
            .ok()?;
        states.into_iter().next()
    };
    match tokio::time::timeout(Duration::from_secs(2), state).await {
        Ok(Some(state)) => state.active != "active",
        _ => false,
    }
}

/// Stops every decky that has a directory here.
///
/// # Errors
/// When the directories cannot be read.
pub async fn stop_all(config: &Config) -> anyhow::Result<()> {
    let stops: Vec<_> = runtime::present(config)
        .await?
        .into_iter()
        .map(|(name, runtime)| async move { (runtime::stop(config, &name, runtime).await, name) })
        .collect();
    let stopped = futures_util::stream::iter(stops)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    for (outcome, name) in stopped {
        if let Err(error) = outcome {
            tracing::error!("stopping {name}: {error:#}");
        }
    }
    runtime::network_gone(config).await;
    Ok(())
}
