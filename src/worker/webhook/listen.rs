//! One (receiver, pattern): takes down what the bus delivers. The bus's own matcher is the
//! filter; an event that two patterns of a receiver match is one row.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::bus::{Delivery, Message, Subscription};
use crate::db::webhook::Seen;
use crate::model::Stamp;

/// Events taken down in one transaction.
const BURST: usize = 256;
/// Pause before the database is tried again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(
    shared: Shared,
    webhook_id: String,
    mut inbox: Subscription,
    queue: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => return,
            delivery = inbox.next() => delivery,
        };
        let Some(first) = first else {
            // A bus that goes nowhere, for good.
            stop.cancelled().await;
            return;
        };
        let mut events = Vec::new();
        take(first, &mut events);
        while events.len() < BURST
            && let Some(Some(more)) = inbox.next().now_or_never()
        {
            take(more, &mut events);
        }
        if events.is_empty() {
            continue;
        }
        loop {
            let most = shared.config.queue_max;
            let outcome = shared
                .db
                .webhook_enqueue(&webhook_id, &events, most, Stamp::now())
                .await;
            match outcome {
                Ok(0) => break,
                Ok(over) => {
                    tracing::warn!(
                        "the queue of a webhook is full: {over} events were not taken down (DECNET_WEBHOOK_QUEUE_MAX)"
                    );
                    break;
                }
                Err(error) => tracing::warn!("{:#}", anyhow::Error::new(error)),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        queue.notify_one();
    }
}

fn take(delivery: Delivery, events: &mut Vec<Seen>) {
    match delivery {
        Delivery::Message(message) => events.push(seen(message)),
        Delivery::Dropped(n) => {
            tracing::warn!("{n} events came faster than they could be taken down and were lost");
        }
        Delivery::Reconnected => {}
    }
}

fn seen(message: Message) -> Seen {
    Seen {
        event_id: message.id,
        event_at: moment(message.ts),
        topic: message.topic,
        kind: message.kind,
        payload: message.payload.to_string(),
    }
}

/// Seconds since the epoch; nonsense is now.
fn moment(seconds: f64) -> Stamp {
    match Duration::try_from_secs_f64(seconds) {
        Ok(since) if since.as_secs() < 1 << 40 => Stamp(0).plus(since),
        _ => Stamp::now(),
    }
}
