//! One receiver: sends what lies in its outbox, oldest first, one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::circuit::{Circuit, backoff, jitter};
use crate::db::webhook::{Attempt, DeliveryRow, Webhook};
use crate::deploy::webhook::{Sent, Verdict, send};
use crate::export::Envelope;
use crate::model::Stamp;

/// Requests under way at once.
const REQUESTS: usize = 10;
/// Requests to one host at once.
const PER_HOST: usize = 4;
/// Pause before the database is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest sleep without another look.
const NAP: Duration = Duration::from_secs(60);

/// How many requests may be under way, in all and to each host. Nothing is held while a
/// receiver is waited for between two attempts.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    all: Arc<Semaphore>,
    hosts: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(REQUESTS)),
            hosts: Arc::default(),
        }
    }
}

impl Lanes {
    /// The places of one host. One entry per host that an operator ever named.
    fn of(&self, hook: &Webhook) -> Arc<Semaphore> {
        let url = hook
            .hidden
            .as_ref()
            .map(|h| h.url.as_str())
            .unwrap_or_default();
        let host = reqwest::Url::parse(url).ok();
        let host = host.and_then(|url| url.host_str().map(str::to_owned));
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = hosts.entry(host.unwrap_or_default());
        Arc::clone(lane.or_insert_with(|| Arc::new(Semaphore::new(PER_HOST))))
    }
}

/// A place, or `None` when the program is ending.
async fn place<'a>(
    lane: &'a Semaphore,
    all: &'a Semaphore,
) -> Option<(SemaphorePermit<'a>, SemaphorePermit<'a>)> {
    Some((lane.acquire().await.ok()?, all.acquire().await.ok()?))
}

pub(super) async fn run(
    shared: Shared,
    mut hooks: watch::Receiver<Arc<Webhook>>,
    queue: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut hook = Arc::clone(&hooks.borrow_and_update());
    let mut circuit = fresh(&shared, &hook);
    loop {
        let now = Stamp::now();
        let sleep = match shared.db.webhook_next(&hook.id).await {
            Ok(Some(row)) => {
                let due = row.next_at.max(circuit.ready_at());
                if due <= now {
                    let done = one(&shared, &hook, &row, &mut circuit, &stop).await;
                    if done.is_none() {
                        return;
                    }
                    Duration::ZERO
                } else {
                    due.since(now).min(NAP)
                }
            }
            Ok(None) => NAP,
            Err(error) => {
                tracing::warn!("{:#}", anyhow::Error::new(error));
                PAUSE
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = hooks.changed() => {
                if changed.is_err() {
                    return;
                }
                hook = Arc::clone(&hooks.borrow_and_update());
                circuit = fresh(&shared, &hook);
            }
            () = tokio::time::sleep(sleep) => {}
            () = queue.notified(), if !sleep.is_zero() => {}
        }
    }
}

/// The circuit as the row knows it: a restart does not make a dead receiver fresh.
fn fresh(shared: &Shared, hook: &Webhook) -> Circuit {
    Circuit::new(
        shared.config.circuit_threshold,
        hook.failures,
        hook.open_until,
    )
}

/// One attempt and its record. `None` when it was cut off by the stop.
async fn one(
    shared: &Shared,
    hook: &Webhook,
    row: &DeliveryRow,
    circuit: &mut Circuit,
    stop: &CancellationToken,
) -> Option<()> {
    let lane = shared.lanes.of(hook);
    let event = Envelope {
        id: row.event_id.clone(),
        ts: row.event_at,
        topic: row.topic.clone(),
        kind: row.kind.clone(),
        payload: serde_json::from_str(&row.payload).unwrap_or_default(),
    };
    let sent = {
        let held = tokio::select! {
            () = stop.cancelled() => return None,
            held = place(&lane, &shared.lanes.all) => held,
        };
        let _held = held?;
        // Not cut off by the stop: whether it arrived should be known.
        send(&shared.outbound, hook, &event, Stamp::now()).await
    };
    let outcome = judge(shared, row, &sent, circuit, Stamp::now());
    if outcome.status == "dead" {
        tracing::warn!(
            "webhook {}: gave up on event {} of {}: {}",
            hook.name,
            row.event_id,
            row.topic,
            outcome.error.as_deref().unwrap_or("no reason")
        );
    }
    // It was sent: not to record it would send it again.
    while let Err(error) = shared.db.webhook_attempted(row, &outcome).await {
        tracing::warn!("{:#}", anyhow::Error::new(error));
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Some(())
}

/// What follows from an attempt. A receiver that is away costs an event nothing but time; one
/// that stumbles over it is asked a bounded number of times.
fn judge(
    shared: &Shared,
    row: &DeliveryRow,
    sent: &Sent,
    circuit: &mut Circuit,
    now: Stamp,
) -> Attempt {
    let attempts = row.attempts + 1;
    let old = now.since(row.created_at) >= shared.config.max_age;
    let status = match sent.verdict {
        Verdict::Delivered => "delivered",
        Verdict::Never => "dead",
        Verdict::Stumbled if attempts.unsigned_abs() >= shared.config.max_attempts => "dead",
        Verdict::Away | Verdict::Stumbled if old => "dead",
        Verdict::Away | Verdict::Stumbled => "pending",
    };
    if sent.verdict == Verdict::Delivered {
        circuit.succeeded();
    } else {
        circuit.failed(now, jitter());
    }
    let pause = sent.retry_after.unwrap_or_default();
    let pause = pause.max(backoff(attempts, jitter()));
    Attempt {
        status,
        at: now,
        next_at: now.plus(pause),
        reply: sent.status,
        error: sent.error.clone(),
        took_ms: i64::try_from(sent.took.as_millis()).unwrap_or(i64::MAX),
        failures: circuit.failures,
        open_until: circuit.open_until,
    }
}
