//! Who wants what, and handing it to them: the one place where a message becomes
//! deliveries. The in-memory bus is a hub; the server is a hub with connections
//! attached, so both mean the same by construction.
//!
//! An event is encoded once however many connections want it, and consecutive events on
//! one topic travel as one chunk. Who wants a topic is looked up once and remembered
//! until a subscription changes.
//!
//! Memory: besides the bounds of each queue, all chunks alive together stay below
//! [`MAX_HELD`]. Beyond that, connections that take nothing are closed first; while that
//! does not help, connections with a full kernel buffer lose what is published.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::Message;
use crate::bus::frame::{self, Bad, Seal};
use crate::bus::inbox::Inbox;
use crate::bus::outbox::{Chunk, LONG_PATIENCE, Outbox, PATIENCE, STALL};
use crate::bus::pattern::{Pattern, check_topic, shown};
use crate::model::Stamp;

/// Most bytes of undelivered events in this process.
const MAX_HELD: usize = 32 * 1024 * 1024;
/// Most patterns of one subscriber, and most bytes they may take.
const MAX_PATTERNS: usize = 1024;
const MAX_PATTERN_BYTES: usize = 64 * 1024;
/// Topics whose subscribers are remembered; longer topics are looked up every time.
const MAX_ROUTES: usize = 1024;
const MAX_ROUTE_TOPIC: usize = 256;
/// A chunk is closed once it is this long.
const CHUNK: usize = 32 * 1024;

/// Where deliveries go.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    /// A subscription in this process.
    Local(Arc<Inbox>),
    /// A connection.
    Socket(Arc<Outbox>),
}

#[derive(Debug)]
struct Subscriber {
    patterns: Vec<Pattern>,
    sink: Sink,
}

/// Everybody who wants one topic.
#[derive(Debug, Default)]
struct Route {
    inboxes: Vec<Arc<Inbox>>,
    outboxes: Vec<Arc<Outbox>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    subscribers: BTreeMap<u64, Subscriber>,
    routes: HashMap<Box<str>, Arc<Route>>,
    closed: bool,
    relieved: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Hub {
    table: Mutex<Table>,
    meter: Arc<AtomicUsize>,
    /// Upper half of every id: differs between two runs.
    run: u64,
    events: AtomicU64,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            table: Mutex::default(),
            meter: Arc::default(),
            run: rand::random(),
            events: AtomicU64::new(0),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No step between lock and unlock can leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn meter(&self) -> &Arc<AtomicUsize> {
        &self.meter
    }

    /// Adds a subscriber; its number is needed to change or remove it.
    pub(super) fn attach(&self, sink: Sink, patterns: Vec<Pattern>) -> u64 {
        let mut table = self.table();
        table.next += 1;
        let number = table.next;
        if !patterns.is_empty() {
            table.routes.clear();
        }
        if table.closed
            && let Sink::Local(inbox) = &sink
        {
            inbox.close();
            return number;
        }
        table
            .subscribers
            .insert(number, Subscriber { patterns, sink });
        number
    }

    pub(super) fn detach(&self, number: u64) {
        let mut table = self.table();
        if let Some(gone) = table.subscribers.remove(&number)
            && !gone.patterns.is_empty()
        {
            table.routes.clear();
        }
    }

    /// Adds a pattern to a subscriber; having it already is fine.
    pub(super) fn want(&self, number: u64, pattern: Pattern) -> Result<(), Bad> {
        let mut table = self.table();
        let Some(subscriber) = table.subscribers.get_mut(&number) else {
            return Ok(());
        };
        if subscriber.patterns.contains(&pattern) {
            return Ok(());
        }
        let taken: usize = subscriber.patterns.iter().map(|p| p.as_str().len()).sum();
        if subscriber.patterns.len() >= MAX_PATTERNS
            || taken + pattern.as_str().len() > MAX_PATTERN_BYTES
        {
            return Err(Bad::ManyPatterns);
        }
        subscriber.patterns.push(pattern);
        table.routes.clear();
        Ok(())
    }

    /// Removes a pattern from a subscriber; not having it is fine.
    pub(super) fn unwant(&self, number: u64, pattern: &Pattern) {
        let mut table = self.table();
        if let Some(subscriber) = table.subscribers.get_mut(&number) {
            subscriber.patterns.retain(|p| p != pattern);
            table.routes.clear();
        }
    }

    fn route(&self, topic: &str) -> Arc<Route> {
        let mut table = self.table();
        if let Some(known) = table.routes.get(topic) {
            return Arc::clone(known);
        }
        let mut route = Route::default();
        for subscriber in table.subscribers.values() {
            if subscriber.patterns.iter().any(|p| p.matches(topic)) {
                match &subscriber.sink {
                    Sink::Local(inbox) => route.inboxes.push(Arc::clone(inbox)),
                    Sink::Socket(outbox) => route.outboxes.push(Arc::clone(outbox)),
                }
            }
        }
        let route = Arc::new(route);
        if topic.len() <= MAX_ROUTE_TOPIC {
            if table.routes.len() >= MAX_ROUTES {
                table.routes.clear();
            }
            table.routes.insert(topic.into(), Arc::clone(&route));
        }
        route
    }

    /// Publishes one message from this process.
    pub(super) fn publish(&self, topic: &str, kind: &str, payload: &serde_json::Value) {
        if let Err(why) = check_topic(topic) {
            tracing::warn!("not published on '{}': {why}", shown(topic));
            return;
        }
        let mut batch = Batch::default();
        batch.add(self, topic, kind, &payload.to_string());
        // A publisher in this process never waits.
        let _behind = batch.flush(self);
    }

    /// Ends every local subscription and takes no more.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.routes.clear();
        for (_, subscriber) in std::mem::take(&mut table.subscribers) {
            match subscriber.sink {
                Sink::Local(inbox) => inbox.close(),
                Sink::Socket(outbox) => outbox.close(),
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.table().closed
    }

    /// Events published so far.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Closes connections that take nothing, the fullest first, until half of the
    /// memory is free again.
    fn relieve(&self) {
        let mut table = self.table();
        if table.relieved.is_some_and(|at| at.elapsed() < STALL) {
            return;
        }
        table.relieved = Some(Instant::now());
        let mut stalled: Vec<_> = table
            .subscribers
            .values()
            .filter_map(|subscriber| match &subscriber.sink {
                Sink::Socket(outbox) => Some((outbox.stalled_bytes()?, Arc::clone(outbox))),
                Sink::Local(_) => None,
            })
            .collect();
        drop(table);
        stalled.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut closed = 0;
        for (_, outbox) in stalled {
            if self.meter.load(Ordering::Relaxed) <= MAX_HELD / 2 {
                break;
            }
            outbox.close();
            closed += 1;
        }
        tracing::warn!(
            "over {} MiB of events wait to be read; closed {closed} connections that read nothing",
            MAX_HELD / 1024 / 1024
        );
    }
}

/// Seconds since the epoch as JSON text.
pub(super) fn seconds(now: Stamp) -> String {
    let micros = now.0.max(0);
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Events on their way: filled by one publisher, handed out as chunks. Its buffers are
/// kept between uses.
#[derive(Debug, Default)]
pub(super) struct Batch {
    topic: String,
    route: Option<Arc<Route>>,
    buffer: Vec<u8>,
    frames: usize,
    ts: String,
    touched: Vec<Arc<Outbox>>,
}

impl Batch {
    /// Whether `topic` is the one of the event before, and so already checked.
    pub(super) fn continues(&self, topic: &str) -> bool {
        self.route.is_some() && self.topic == topic
    }

    /// Adds one event on a checked topic.
    pub(super) fn add(&mut self, hub: &Hub, topic: &str, kind: &str, payload: &str) {
        if !self.continues(topic) || self.buffer.len() >= CHUNK {
            self.cut(hub);
            self.route = Some(hub.route(topic));
            topic.clone_into(&mut self.topic);
        }
        let Some(route) = &self.route else { return };
        if self.ts.is_empty() {
            self.ts = seconds(Stamp::now());
        }
        let number = hub.events.fetch_add(1, Ordering::Relaxed);
        let seal = Seal {
            id: (u128::from(hub.run) << 64) | u128::from(number),
            ts: &self.ts,
        };
        let start = self.buffer.len();
        if !frame::encode_event(&mut self.buffer, seal, topic, kind, payload) {
            tracing::warn!("not published on '{topic}': the message is over the limit of 1 MiB");
            return;
        }
        self.frames += 1;
        if route.inboxes.is_empty() {
            return;
        }
        let bytes = self.buffer.get(start..).unwrap_or_default();
        match frame::decode(bytes) {
            Ok(frame::Step::Frame(read, _)) => match frame::message(&read) {
                Ok(message) => {
                    let message: Arc<Message> = Arc::new(message);
                    for inbox in &route.inboxes {
                        inbox.push(Arc::clone(&message), bytes.len());
                    }
                }
                Err(error) => tracing::warn!("not delivered on '{topic}': {error}"),
            },
            Ok(frame::Step::More(_)) | Err(_) => {
                tracing::warn!("not delivered on '{topic}': the event does not read back");
            }
        }
    }

    /// Hands out what was added so far. Comes before any change of subscriptions.
    pub(super) fn cut(&mut self, hub: &Hub) {
        if let Some(route) = self.route.take()
            && self.frames > 0
            && !route.outboxes.is_empty()
        {
            let mut over = hub.meter.load(Ordering::Relaxed) + self.buffer.len() > MAX_HELD;
            if over {
                hub.relieve();
                over = hub.meter.load(Ordering::Relaxed) + self.buffer.len() > MAX_HELD;
            }
            let chunk = Chunk::new(&self.buffer, self.frames, &hub.meter);
            for outbox in &route.outboxes {
                if over {
                    outbox.refuse(self.frames);
                } else {
                    outbox.push(&chunk);
                }
                if outbox.touch() {
                    self.touched.push(Arc::clone(outbox));
                }
            }
        }
        self.buffer.clear();
        self.frames = 0;
    }

    /// Hands out the rest and writes it; returns the readers that fell behind.
    pub(super) fn flush(&mut self, hub: &Hub) -> Behind {
        self.cut(hub);
        self.ts.clear();
        // One large event must not keep its buffer for ever.
        self.buffer.shrink_to(4 * CHUNK);
        let audience = self.touched.len();
        let mut behind = Vec::new();
        for outbox in self.touched.drain(..) {
            outbox.flush();
            if outbox.is_pressed() {
                behind.push(outbox);
            }
        }
        let patience = if behind.len() * 2 > audience {
            LONG_PATIENCE
        } else {
            PATIENCE
        };
        Behind {
            outboxes: behind,
            patience,
        }
    }
}

/// The readers a publisher should wait for before it goes on.
#[derive(Debug)]
pub(super) struct Behind {
    outboxes: Vec<Arc<Outbox>>,
    patience: Duration,
}

impl Behind {
    /// Waits until every one has caught up or turned out slow.
    pub(super) async fn wait(self) {
        for outbox in self.outboxes {
            outbox.room(self.patience).await;
        }
    }
}
