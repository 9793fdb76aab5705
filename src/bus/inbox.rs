//! The bounded queue behind one local subscription. The pushing side never waits: when
//! the queue is full the oldest messages go, and the reader is told how many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::bus::{Delivery, Message};

/// Most messages waiting for one subscription.
const MAX_MESSAGES: usize = 4096;
/// Most bytes of bodies waiting for one subscription (at least one message fits).
const MAX_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Arc<Message>, usize)>,
    bytes: usize,
    lost: u64,
    reconnected: bool,
    closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the queue whole, so a poisoned lock is as good as new.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message whose body had `bytes` bytes on the wire.
    pub(super) fn push(&self, message: Arc<Message>, bytes: usize) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.bytes += bytes;
        state.queue.push_back((message, bytes));
        while state.queue.len() > 1 && (state.queue.len() > MAX_MESSAGES || state.bytes > MAX_BYTES)
        {
            if let Some((_, gone)) = state.queue.pop_front() {
                state.bytes -= gone;
                state.lost += 1;
            }
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Says that `count` messages were lost before they came here.
    pub(super) fn lost(&self, count: u64) {
        self.state().lost += count;
        self.filled.notify_one();
    }

    /// Says that the connection came back.
    pub(super) fn reconnected(&self) {
        self.state().reconnected = true;
        self.filled.notify_one();
    }

    /// Ends the subscription after what is already queued.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    /// The next delivery, `None` at the end. Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Option<Delivery> {
        loop {
            {
                let mut state = self.state();
                if std::mem::take(&mut state.reconnected) {
                    return Some(Delivery::Reconnected);
                }
                let lost = std::mem::take(&mut state.lost);
                if lost > 0 {
                    return Some(Delivery::Dropped(lost));
                }
                if let Some((message, bytes)) = state.queue.pop_front() {
                    state.bytes -= bytes;
                    return Some(Delivery::Message(Arc::unwrap_or_clone(message)));
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: usize) -> Arc<Message> {
        Arc::new(Message {
            v: 1,
            id: n.to_string(),
            topic: "a".to_owned(),
            kind: String::new(),
            ts: 0.0,
            payload: serde_json::Value::Null,
        })
    }

    #[tokio::test]
    async fn a_full_queue_loses_its_oldest_and_says_how_many() {
        let inbox = Inbox::default();
        for n in 0..MAX_MESSAGES + 3 {
            inbox.push(message(n), 10);
        }
        assert_eq!(inbox.next().await, Some(Delivery::Dropped(3)));
        let Some(Delivery::Message(first)) = inbox.next().await else {
            panic!("no message");
        };
        assert_eq!(first.id, "3");
    }

    #[tokio::test]
    async fn large_bodies_fill_the_queue_by_weight() {
        let inbox = Inbox::default();
        for n in 0..6 {
            inbox.push(message(n), MAX_BYTES / 4);
        }
        assert_eq!(inbox.next().await, Some(Delivery::Dropped(2)));
    }

    #[tokio::test]
    async fn what_was_queued_is_delivered_before_the_end() {
        let inbox = Inbox::default();
        inbox.push(message(1), 1);
        inbox.close();
        inbox.push(message(2), 1);
        assert!(matches!(inbox.next().await, Some(Delivery::Message(_))));
        assert_eq!(inbox.next().await, None);
        assert_eq!(inbox.next().await, None);
    }
}
