//! Starts a role: settings, tracing, single-instance lock, database, bus, signals,
//! heartbeat, watchdog, exit code. What every daemon shares lives here once, so that a
//! role file is nothing but its loop.
//!
//! Exit codes: 0 stopped as asked; 1 failed; 69 another copy is running; 78 bad
//! configuration (units have `RestartPreventExitStatus=78`, so a typo never loops).

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::bus::{self, Bus, Delivery};
use crate::config::{Config, Sources};
use crate::db::{self, Db};
use crate::model::worker::{Need, Worker};
use crate::model::{Stamp, topic};
use crate::net::{file, lock};
use crate::worker::{Ctx, HEARTBEAT, Pulse};
use crate::{api, web, worker};

mod log;

/// Another copy of this worker is running (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_RUNNING: u8 = 69;
/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Longest time a role may take to finish after it was asked to stop; below the
/// units' TimeoutStopSec.
const GRACE: Duration = Duration::from_secs(8);

/// Pause before a database server is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Shortest time between two writings of a worker's own words.
const NEWS: Duration = Duration::from_secs(1);

type Role = fn(Ctx) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// The loop of the worker called `name`.
fn role(name: &str) -> Option<Role> {
    Some(match name {
        "bus" => |ctx| Box::pin(worker::bus::run(ctx)),
        "api" => |ctx| Box::pin(api::run(ctx)),
        "web" => |ctx| Box::pin(web::run(ctx)),
        "canary" => |ctx| Box::pin(worker::canary::run(ctx)),
        "collector" => |ctx| Box::pin(worker::collector::run(ctx)),
        "mutator" => |ctx| Box::pin(worker::mutator::run(ctx)),
        "ingester" => |ctx| Box::pin(worker::ingester::run(ctx)),
        "reconciler" => |ctx| Box::pin(worker::reconciler::run(ctx)),
        "webhook" => |ctx| Box::pin(worker::webhook::run(ctx)),
        _ => return None,
    })
}

/// Runs one worker as this process.
#[must_use]
pub fn start(worker: &'static Worker, sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            eprintln!("decnet {}: {error}", worker.name);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    log::init(&config);
    for name in sources.unknown_environment() {
        tracing::warn!(
            "unknown setting {name} in the environment is ignored; `decnet config keys` lists them"
        );
    }
    let _held = match lock::try_take(&config.paths.lock(worker.name)) {
        Ok(Some(held)) => held,
        Ok(None) => {
            tracing::error!(
                "another {} is already running (lock {})",
                worker.name,
                config.paths.lock(worker.name).display()
            );
            return ExitCode::from(EXIT_RUNNING);
        }
        Err(error) => {
            tracing::error!(
                "taking the lock {}: {error}; run `decnet init`, or use --state-dir for a private layout",
                config.paths.lock(worker.name).display()
            );
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime(worker.threads).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let stop = CancellationToken::new();
            stop_on_signal(&stop)?;
            // The bus worker serves its own hub: what it publishes reaches its clients.
            let bus = if worker.name == "bus" {
                Bus::memory()
            } else {
                Bus::socket(&config.bus, worker.name)
            };
            let db = if worker.needs(Need::Database) {
                tokio::select! {
                    db = database(worker, &config) => Some(db?),
                    () = stop.cancelled() => return Ok(()),
                }
            } else {
                None
            };
            let ctx = Ctx {
                config: Arc::clone(&config),
                bus: bus.clone(),
                stop,
                pulse: Pulse::default(),
                embedded: false,
                db: db.clone(),
            };
            let outcome = supervise(worker, ctx).await;
            if let Some(db) = db {
                db.close().await;
            }
            bus.close().await;
            outcome
        });
        // A blocking call that outlives the grace time must not hold the process.
        runtime.shutdown_timeout(Duration::from_millis(500));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{} failed: {error:#}", worker.name);
            if error.is::<crate::config::Error>() {
                return ExitCode::from(EXIT_CONFIG);
            }
            match error.downcast_ref() {
                Some(bus::Error::Live { .. }) => ExitCode::from(EXIT_RUNNING),
                Some(bus::Error::Group { .. } | bus::Error::NotASocket { .. }) => {
                    ExitCode::from(EXIT_CONFIG)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The worker's database. A server that does not answer may be starting: it is waited for.
async fn database(worker: &'static Worker, config: &Config) -> db::Result<Db> {
    let at = config.database.named(worker.name);
    let mut told = false;
    loop {
        let opened = if worker.needs(Need::BulkWrites) {
            Db::open_for_bulk(&at).await
        } else {
            Db::open(&at).await
        };
        let error = match opened {
            Err(error @ db::Error::Unreachable { .. }) => anyhow::Error::from(error),
            opened => return opened,
        };
        if !told {
            tracing::warn!("waiting: {error:#}");
            told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Runs every worker of the target in this process until `stop`. `bus` is an in-memory
/// one; the bus worker lets `decnet bus tail` in. Used by `decnet up`.
///
/// # Errors
/// The first role that fails; the others are stopped then.
pub async fn run_all(
    config: &Arc<Config>,
    db: &Db,
    bus: &Bus,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut roles = tokio::task::JoinSet::new();
    for worker in crate::model::worker::WORKERS {
        if !worker.in_target {
            continue;
        }
        let ctx = Ctx {
            config: Arc::clone(config),
            bus: bus.clone(),
            stop: stop.child_token(),
            pulse: Pulse::default(),
            embedded: true,
            db: Some(db.clone()),
        };
        roles.spawn(async move {
            supervise(worker, ctx)
                .await
                .with_context(|| format!("worker {}", worker.name))
        });
    }
    let mut outcome = Ok(());
    while let Some(joined) = roles.join_next().await {
        let ended = joined.context("a worker panicked").and_then(|ended| ended);
        if ended.is_err() {
            stop.cancel();
        }
        outcome = outcome.and(ended);
    }
    outcome
}

/// One role with its heartbeat and control channel, from start to clean end.
async fn supervise(worker: &'static Worker, ctx: Ctx) -> anyhow::Result<()> {
    let run = role(worker.name)
        .with_context(|| format!("no role is wired to the registry row {}", worker.name))?;
    let beats = tokio::spawn(heartbeat(worker, ctx.clone()));
    let control = tokio::spawn(obey(worker, ctx.clone()));
    let stop = ctx.stop.clone();
    let mut role = tokio::spawn(run(ctx.clone()));
    let outcome = tokio::select! {
        joined = &mut role => joined.context("the role panicked").and_then(|r| r),
        () = stop.cancelled() => {
            notify(&ctx, &[NotifyState::Stopping]);
            match tokio::time::timeout(GRACE, &mut role).await {
                Ok(joined) => joined.context("the role panicked").and_then(|r| r),
                Err(_) => {
                    role.abort();
                    Err(anyhow::anyhow!("{} did not stop within {} s", worker.name, GRACE.as_secs()))
                }
            }
        }
    };
    beats.abort();
    control.abort();
    outcome
}

/// Publishes the pulse, leaves it in a file for `decnet status`, feeds the watchdog.
async fn heartbeat(worker: &'static Worker, ctx: Ctx) {
    let path = ctx.config.paths.pulse(worker.name);
    if let Some(parent) = path.parent()
        && let Err(error) = std::fs::create_dir_all(parent)
    {
        tracing::warn!("creating {}: {error}", parent.display());
    }
    let mut ticks = tokio::time::interval(HEARTBEAT);
    let mut announced = false;
    loop {
        let due = tokio::select! {
            _ = ticks.tick() => true,
            () = ctx.pulse.until_ready(), if !announced => {
                announced = true;
                notify(&ctx, &[NotifyState::Ready]);
                tracing::info!("{} is ready", worker.name);
                true
            }
            () = ctx.pulse.until_news() => {
                // A busy worker has news all the time; once a second is enough to read.
                tokio::time::sleep(NEWS).await;
                false
            }
        };
        let beat = ctx.pulse.read(worker.name, Stamp::now());
        notify(&ctx, &[NotifyState::Status(&beat.status)]);
        if ctx.pulse.is_alive() {
            notify(&ctx, &[NotifyState::Watchdog]);
        } else {
            tracing::error!("{} has finished no turn for three periods", worker.name);
        }
        match serde_json::to_value(&beat) {
            Ok(body) => {
                if let Err(error) = file::write_volatile(&path, body.to_string().as_bytes(), 0o644)
                {
                    tracing::debug!("writing {}: {error}", path.display());
                }
                if due {
                    ctx.bus.publish(&topic::health(worker.name), "health", body);
                }
            }
            Err(error) => tracing::warn!("heartbeat: {error}"),
        }
    }
}

/// Tells systemd, outside `decnet up`; without systemd this does nothing.
fn notify(ctx: &Ctx, states: &[NotifyState<'_>]) {
    if ctx.embedded {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("telling the service manager: {error}");
    }
}

/// Listens for `{"action":"stop"}` on the worker's control topic.
async fn obey(worker: &'static Worker, ctx: Ctx) {
    let pattern = topic::control(worker.name);
    let mut inbox = match ctx.bus.subscribe(&[&pattern]) {
        Ok(inbox) => inbox,
        Err(error) => {
            tracing::warn!("control channel: {error}");
            return;
        }
    };
    while let Some(delivery) = inbox.next().await {
        let Delivery::Message(message) = delivery else {
            continue;
        };
        if message.payload.get("action").and_then(|a| a.as_str()) == Some("stop") {
            tracing::info!(
                "stop requested over the bus by {}",
                message
                    .payload
                    .get("requested_by")
                    .map_or_else(String::new, ToString::to_string)
            );
            ctx.stop.cancel();
            return;
        }
    }
}

/// A runtime as small as the worker's row allows.
///
/// # Errors
/// When the kernel refuses threads or descriptors.
pub fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = if threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder
        .enable_all()
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .context("starting the async runtime")
}

/// SIGTERM and SIGINT cancel `stop`; a second SIGINT ends the process at once.
///
/// # Errors
/// When signal handlers cannot be installed.
pub fn stop_on_signal(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stop.cancel();
        int.recv().await;
        std::process::exit(130);
    });
    Ok(())
}

/// Sets up the application log for a process that is not a worker (`decnet up`).
pub fn init_log(config: &Config) {
    log::init(config);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::worker::WORKERS;

    #[test]
    fn every_registry_row_has_a_role() {
        for worker in WORKERS {
            assert!(role(worker.name).is_some(), "{}", worker.name);
        }
        assert!(role("nonsense").is_none());
    }
}
