//! The `reconciler` worker: compares the wanted fleet with what runs and makes it so.
//! It alone starts and stops deckies. A pass adopts what already runs as wanted, starts
//! what is missing, tells what offers other services than wanted to change, restarts
//! what a change cannot reach (another address, persona or program version), stops what
//! is wanted no more. Between passes it acts on a decky's end within a moment. The row is written first, the
//! `decky.<host:name>.state` message goes out after; converged means silence.
//!
//! A decky outlives a restart of this worker. When the whole target stops (or `decnet
//! up` ends), deckies are stopped with it. A file that is missing never counts as a
//! wish to remove: only rows decide.

mod backoff;
mod docker;
pub mod export;
mod fleet;
mod local;
mod native;
mod repair;
mod runtime;
mod watch;

pub use fleet::{Fleet, Summary};

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;

use crate::config::Config;
use crate::model::{Runtime, Stamp, topic};
use crate::net::descriptor;
use crate::systemd;
use crate::worker::Ctx;
use crate::worker::reconciler::fleet::News;

/// Deckies started or stopped at the same time under the local, native and Docker
/// runtime. A native one spends most of its start waiting for whoever has its address.
const AT_ONCE: [usize; Runtime::ALL.len()] = [8, 32, 8];
/// Deckies stopped at the same time when all of them go.
const STOPS: usize = 32;
/// Longest time a pass waits for a look; what hangs is settled when it ends.
const BUDGET: Duration = Duration::from_secs(3);
/// Rest after a failure.
const CALM: Duration = Duration::from_secs(1);
/// Descriptors wanted: one watches each adopted decky.
const DESCRIPTORS: u64 = 16_384;

/// Runs until stopped.
///
/// # Errors
/// When the bus pattern or the database handle is refused at start.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let db = ctx.db()?.clone();
    let mut wake = ctx.wake(&[topic::FLEET_CHANGED], ctx.config.reconcile_interval)?;
    if let Err(error) = descriptor::raise_limit(DESCRIPTORS) {
        tracing::warn!("raising the descriptor limit: {error}");
    }
    let mut fleet = Fleet::with_budget(BUDGET);
    ctx.pulse.ready("waiting for the first look");
    loop {
        let news = tokio::select! {
            why = wake.next() => match why {
                Some(_) => None,
                None => break,
            },
            // Between two passes: what a slow look found, what died, what is tried again.
            news = fleet.next() => Some(news),
        };
        let (config, bus, now) = (&ctx.config, &ctx.bus, Stamp::now());
        let mut summary = Summary::default();
        let outcome = match news {
            None => fleet.pass(config, &db, bus, now).await.map(|done| {
                summary = done;
            }),
            Some(News::Look(names)) => fleet.look(config, &db, &names).await,
            Some(News::Finished(finished)) => {
                let settled = fleet.settle(*finished, config, &db, bus, now, &mut summary);
                match settled.await {
                    Ok(()) if summary.changes() => fleet::aftermath(config, &db).await,
                    settled => settled,
                }
            }
        };
        fleet.count(&mut summary);
        ctx.pulse.status(&format!(
            "{} deckies wanted, {} running",
            summary.wanted, summary.running
        ));
        wake.record(&outcome);
        if outcome.is_err() {
            // What was due still is: without a database that would be a busy loop.
            let calm = tokio::time::sleep(CALM);
            tokio::select! { () = calm => {}, () = ctx.stop.cancelled() => {} }
        }
    }
    drop(fleet);
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

/// Stops every decky that runs here.
///
/// # Errors
/// When the directories cannot be read.
pub async fn stop_all(config: &Config) -> anyhow::Result<()> {
    // An engine that hangs must not keep the others running.
    let listed = tokio::time::timeout(Duration::from_secs(2), docker::present(config)).await;
    let mut present: BTreeMap<String, Runtime> = match listed {
        Ok(Ok(present)) => present,
        Ok(Err(error)) => {
            tracing::error!("listing containers: {error:#}");
            BTreeMap::new()
        }
        Err(_) => {
            tracing::error!("listing containers: the Docker engine does not answer");
            BTreeMap::new()
        }
    };
    for name in runtime::directories(config)? {
        let recorded = runtime::recorded(&config.paths.decky(&name));
        present.insert(name, recorded.unwrap_or(Runtime::Native));
    }
    let stops: Vec<_> = present
        .into_iter()
        .map(|(name, runtime)| async move { (runtime::stop(config, &name, runtime).await, name) })
        .collect();
    let stopped = futures_util::stream::iter(stops)
        .buffer_unordered(STOPS)
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
