//! The `webhook` worker: tells other systems what happens here. One task listens per
//! (receiver, pattern) and takes each event down in the outbox before anything else; one task
//! per receiver delivers from there, in order, so an outage or a restart loses nothing that
//! was seen. The rows are read again when somebody changed them and every minute; what did not
//! change goes on undisturbed, so no event falls into the gap.
//!
//! An event may arrive twice when the worker is killed between a reply and its record; its id
//! is the same then (`webhook-id`).

mod circuit;
mod deliver;
mod listen;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::WebhookConfig;
use crate::db::Db;
use crate::db::webhook::Webhook;
use crate::model::{Stamp, topic};
use crate::net::outbound::Outbound;
use crate::net::seal::Seal;
use crate::worker::Ctx;

/// How often the rows are read unasked.
const RELOAD: Duration = Duration::from_secs(60);
/// Old deliveries forgotten in one statement.
const TIDY: i64 = 500;
/// Statements of one pass.
const TIDY_TURNS: usize = 20;
/// How long a request that is under way may take once we are to stop.
const FAREWELL: Duration = Duration::from_secs(6);

/// What every task is given.
#[derive(Clone)]
struct Shared {
    ctx: Ctx,
    db: Db,
    config: WebhookConfig,
    outbound: Outbound,
    lanes: deliver::Lanes,
}

/// The tasks of one receiver.
struct Running {
    hook: watch::Sender<Arc<Webhook>>,
    /// By pattern.
    listeners: HashMap<String, CancellationToken>,
    /// There is something new in its outbox.
    queue: Arc<Notify>,
    stop: CancellationToken,
    deliverer: JoinHandle<()>,
}

/// The receivers that are served, and what is left of those that were.
#[derive(Default)]
struct Served {
    running: HashMap<String, Running>,
    /// Deliverers that were told to stop and may have a request under way.
    leaving: HashMap<String, JoinHandle<()>>,
}

/// Runs until stopped.
///
/// # Errors
/// When the key file or TLS cannot be set up.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let key = ctx.config.paths.seal_key();
    let seal =
        Seal::open_or_make(&key).with_context(|| format!("the key file {}", key.display()))?;
    let config = ctx.config.webhook.clone();
    let shared = Shared {
        db: ctx.db()?.clone(),
        outbound: Outbound::new(config.allow_private).context("setting up TLS")?,
        lanes: deliver::Lanes::default(),
        config,
        ctx: ctx.clone(),
    };
    let mut wake = ctx.wake(&[topic::WEBHOOKS_CHANGED], RELOAD)?;
    let tasks = TaskTracker::new();
    let mut served = Served::default();
    let mut warned = false;
    ctx.pulse.ready("no receivers");
    while wake.next().await.is_some() {
        let outcome = pass(&shared, &seal, &tasks, &mut served).await;
        wake.record(&outcome);
        if !ctx.bus.is_connected() && !warned {
            tracing::warn!(
                "there is no bus: new events are not seen until it is back; what waits is delivered"
            );
        }
        warned = !ctx.bus.is_connected();
    }
    tasks.close();
    // Requests under way end with the stop; their records are worth a moment.
    if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
        tracing::warn!("a delivery was cut off; it is repeated at the next start");
    }
    Ok(())
}

/// Brings the tasks in line with the rows.
async fn pass(
    shared: &Shared,
    seal: &Seal,
    tasks: &TaskTracker,
    served: &mut Served,
) -> anyhow::Result<()> {
    let rows = shared.db.webhook_list(seal).await?;
    let wanted: HashSet<&str> = rows
        .iter()
        .filter(|w| w.enabled)
        .map(|w| w.id.as_str())
        .collect();
    let gone = |id: &String, _: &mut Running| !wanted.contains(id.as_str());
    for (id, one) in served.running.extract_if(gone) {
        one.stop.cancel();
        served.leaving.insert(id, one.deliverer);
    }
    served
        .leaving
        .retain(|_, deliverer| !deliverer.is_finished());
    shared.ctx.pulse.status(&status(&rows));
    for row in rows.into_iter().filter(|w| w.enabled) {
        let row = Arc::new(row);
        let one = match served.running.get_mut(&row.id) {
            Some(one) => {
                // Counters change all the time; only an operator's change is news.
                one.hook.send_if_modified(|known| {
                    let changed = known.version != row.version;
                    if changed {
                        *known = Arc::clone(&row);
                    }
                    changed
                });
                // Somebody may have put deliveries back in line.
                one.queue.notify_one();
                one
            }
            None => {
                let (hook, watched) = watch::channel(Arc::clone(&row));
                let queue: Arc<Notify> = Arc::default();
                let stop = shared.ctx.stop.child_token();
                let task = deliver::run(shared.clone(), watched, Arc::clone(&queue), stop.clone());
                // Switched off and on again: what the one before has under way is recorded
                // before anything is sent, or it would be sent twice.
                let before = served.leaving.remove(&row.id);
                let deliverer = tasks.spawn(async move {
                    if let Some(before) = before {
                        let _ended = before.await;
                    }
                    task.await;
                });
                let one = Running {
                    hook,
                    listeners: HashMap::new(),
                    queue,
                    stop,
                    deliverer,
                };
                served.running.entry(row.id.clone()).or_insert(one)
            }
        };
        listen_to(shared, tasks, one, &row);
    }
    tidy(shared, Stamp::now()).await
}

/// Starts and ends the listeners of one receiver; new ones first.
fn listen_to(shared: &Shared, tasks: &TaskTracker, one: &mut Running, row: &Webhook) {
    for pattern in &row.patterns {
        if one.listeners.contains_key(pattern) {
            continue;
        }
        // Subscribed here, so nothing published after this pass is missed.
        match shared.ctx.bus.subscribe(&[pattern]) {
            Ok(inbox) => {
                let stop = one.stop.child_token();
                one.listeners.insert(pattern.clone(), stop.clone());
                let task = listen::run(
                    shared.clone(),
                    row.id.clone(),
                    inbox,
                    Arc::clone(&one.queue),
                    stop,
                );
                tasks.spawn(task);
            }
            Err(error) => tracing::error!("webhook {}: {error}", row.name),
        }
    }
    one.listeners.retain(|pattern, stop| {
        let stays = row.patterns.contains(pattern);
        if !stays {
            stop.cancel();
        }
        stays
    });
}

/// Forgets what ended long ago.
async fn tidy(shared: &Shared, now: Stamp) -> anyhow::Result<()> {
    let age = Duration::from_secs(shared.config.keep_days * 86_400);
    let before = Stamp(now.0.saturating_sub(Stamp(0).plus(age).0));
    for _ in 0..TIDY_TURNS {
        let gone = shared.db.webhook_tidy(before, before, TIDY).await?;
        if gone < TIDY.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

/// In words, for the heartbeat.
fn status(rows: &[Webhook]) -> String {
    let on = rows.iter().filter(|w| w.enabled).count();
    if on == 0 {
        return "no receivers".to_owned();
    }
    let waiting: i64 = rows.iter().map(|w| w.pending).sum();
    let dead: i64 = rows.iter().map(|w| w.dead).sum();
    let open = rows
        .iter()
        .filter(|w| w.enabled && w.open_until.is_some())
        .count();
    let mut text = format!("{on} receivers, {waiting} deliveries waiting");
    if open > 0 {
        text.push_str(&format!(", {open} receivers failing"));
    }
    if dead > 0 {
        text.push_str(&format!(", {dead} given up"));
    }
    text
}
