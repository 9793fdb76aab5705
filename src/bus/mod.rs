//! The bus: "something happened, go and look". At most once, no acknowledgements, no
//! data anybody depends on.
//!
//! One semantic for every transport: each matching *subscriber* gets a message once,
//! the publisher included; `*` is exactly one token, `>` one or more tokens and legal
//! only as the last; a bad pattern is refused. A slow subscriber loses its oldest
//! messages and is told how many; nobody else notices.
//!
//! Transports: [`Bus::socket`] (reconnecting client of `decnet bus`), [`Bus::memory`]
//! (inside one process) and [`Bus::null`] (switched off). The server is an in-memory bus
//! whose subscribers are connections as well: [`Listener::serve`] attaches them.
//!
//! On the wire a subscriber is a connection; a client hands an event to each of its
//! subscriptions that matches, once. The wire itself is described in `frame.rs`, its
//! limits are: header 4096 bytes, body 1 MiB, 1024 patterns per connection.
//!
//! Reading order: `pattern`, `frame`, `hub`, `outbox`, `connection`, `server`, `client`.

mod client;
mod connection;
mod frame;
mod hub;
mod inbox;
mod outbox;
mod pattern;
mod server;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use client::Client;
use hub::{Hub, Sink};
use inbox::Inbox;
use pattern::Pattern;

pub(crate) use pattern::check_topic;
pub use server::Listener;

/// Where a connection is told how many events it lost.
const DROPPED: &str = "system.bus.dropped";

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

/// Why a pattern or a socket was refused.
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
    /// A server lives on the socket.
    #[error("another bus is serving {}; stop it first, or set DECNET_BUS_SOCKET", path.display())]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the socket's name.
    #[error("{} exists and is not a socket; move it away, or set DECNET_BUS_SOCKET", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The socket's group is not known here.
    #[error("the bus group '{name}' does not exist; create it, or correct DECNET_BUS_GROUP")]
    Group {
        /// As configured.
        name: String,
    },
    /// A step of binding the socket failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Only an in-memory bus can be served.
    #[error("only a bus inside this process can be served")]
    NotServable,
}

/// Whether `text` can be subscribed to.
///
/// # Errors
/// What is wrong with it.
pub fn check_pattern(text: &str) -> Result<(), Error> {
    Pattern::parse(text).map(drop)
}

/// A handle on some bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Null,
    Hub(Arc<Hub>),
    Client(Arc<Client>),
}

impl Bus {
    /// The bus that goes nowhere.
    #[must_use]
    pub fn null() -> Self {
        Self { inner: Inner::Null }
    }

    /// A bus inside this process; [`Listener::serve`] lets others in.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            inner: Inner::Hub(Arc::new(Hub::new())),
        }
    }

    /// A client of `decnet bus` that connects in the background and reconnects for
    /// ever; null when the bus is switched off. Must be called inside a tokio runtime.
    #[must_use]
    pub fn socket(config: &crate::config::BusConfig, client: &str) -> Self {
        if !config.enabled {
            return Self::null();
        }
        Self {
            inner: Inner::Client(Arc::new(Client::open(config.socket.clone(), client))),
        }
    }

    /// Sends a message; never blocks, never fails. Without a connection it is dropped.
    pub fn publish(&self, topic: &str, kind: &str, payload: Value) {
        match &self.inner {
            Inner::Null => drop(payload),
            Inner::Hub(hub) => hub.publish(topic, kind, &payload),
            Inner::Client(client) => client.publish(topic, kind, &payload),
        }
    }

    /// Starts listening for messages that match any of `patterns`. Over a socket the bus
    /// hears of it a moment later; what a process publishes itself after this call is
    /// certain to match.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn subscribe(&self, patterns: &[&str]) -> Result<Subscription, Error> {
        let mut checked: Vec<Pattern> = Vec::with_capacity(patterns.len());
        for text in patterns {
            let pattern = Pattern::parse(text)?;
            if !checked.contains(&pattern) {
                checked.push(pattern);
            }
        }
        let inbox = Arc::new(Inbox::default());
        let number = match &self.inner {
            Inner::Null => {
                inbox.close();
                0
            }
            Inner::Hub(hub) => hub.attach(Sink::Local(Arc::clone(&inbox)), checked),
            Inner::Client(client) => client.subscribe(checked, Arc::clone(&inbox)),
        };
        Ok(Subscription {
            inbox,
            number,
            bus: self.clone(),
        })
    }

    /// Whether messages can go out right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.inner {
            Inner::Null => false,
            Inner::Hub(hub) => hub.is_open(),
            Inner::Client(client) => client.is_connected(),
        }
    }

    /// Waits until messages can go out; false when that will never be.
    pub async fn until_connected(&self) -> bool {
        match &self.inner {
            Inner::Null => false,
            Inner::Hub(hub) => hub.is_open(),
            Inner::Client(client) => client.until_connected().await,
        }
    }

    /// Flushes what was published (briefly) and says goodbye.
    pub async fn close(&self) {
        match &self.inner {
            Inner::Null => {}
            Inner::Hub(hub) => hub.close(),
            Inner::Client(client) => client.close().await,
        }
    }
}

/// An open subscription; dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
    number: u64,
    bus: Bus,
}

impl Subscription {
    /// The next delivery; `None` once the bus is gone for good (closed or null).
    /// Dropping the future before it is ready loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.inbox.next().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        match &self.bus.inner {
            Inner::Null => {}
            Inner::Hub(hub) => hub.detach(self.number),
            Inner::Client(client) => client.unsubscribe(self.number),
        }
    }
}
