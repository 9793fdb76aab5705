//! The reconnecting client of `decnet bus`.
//!
//! One task owns the connection and tries for ever, with growing, jittered pauses of at
//! most [`MAX_PAUSE`]. After a reconnect it asks again for every pattern and tells every
//! subscription. What is published before the first attempt has ended is kept for it;
//! later, without a connection, it is dropped: one warning, then debug lines.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::DROPPED;
use crate::bus::frame::{self, Bad, Frame, Step, Verb};
use crate::bus::inbox::Inbox;
use crate::bus::pattern::{Pattern, check_topic, shown};

/// First pause between two attempts.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a good one: pauses start over.
const GOOD: Duration = Duration::from_secs(5);
/// Time for writing out what was published before [`Client::close`].
const FAREWELL: Duration = Duration::from_millis(500);
/// Most bytes waiting to be written.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// Bytes asked from the kernel at a time.
const READ: usize = 64 * 1024;

/// What the client task and the handles share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    name: String,
    state: Mutex<State>,
    /// Something waits to be written.
    written: Notify,
    closing: CancellationToken,
    /// Follows [`Phase`]; its sender goes with the task.
    phase: watch::Sender<Phase>,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first attempt is under way: publishing waits for it.
    First,
    Up,
    Down,
    Closed,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    waiting: Vec<u8>,
    next: u64,
    subscriptions: BTreeMap<u64, (Vec<Pattern>, Arc<Inbox>)>,
    /// How many subscriptions want a pattern; it is asked for once.
    wanted: HashMap<String, usize>,
    /// The warning about dropped messages was given.
    warned: bool,
}

/// A handle; the connection ends with the last one.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

impl Client {
    pub(super) fn open(path: PathBuf, name: &str) -> Self {
        let shared = Arc::new(Shared {
            path,
            name: name.to_owned(),
            state: Mutex::new(State {
                phase: Phase::First,
                waiting: Vec::new(),
                next: 0,
                subscriptions: BTreeMap::new(),
                wanted: HashMap::new(),
                warned: false,
            }),
            written: Notify::new(),
            closing: CancellationToken::new(),
            phase: watch::Sender::new(Phase::First),
        });
        tokio::spawn(Arc::clone(&shared).run());
        Self { shared }
    }

    pub(super) fn publish(&self, topic: &str, kind: &str, payload: &serde_json::Value) {
        if let Err(why) = check_topic(topic) {
            tracing::warn!("not published on '{}': {why}", shown(topic));
            return;
        }
        let payload = payload.to_string();
        let mut state = self.shared.state();
        let reason = match state.phase {
            Phase::First | Phase::Up if state.waiting.len() < MAX_WAITING => {
                if frame::encode_published(&mut state.waiting, topic, kind, &payload) {
                    drop(state);
                    self.shared.written.notify_one();
                } else {
                    tracing::warn!(
                        "not published on '{topic}': the message is over the limit of 1 MiB"
                    );
                }
                return;
            }
            Phase::First | Phase::Up => "the bus takes nothing",
            Phase::Down => "there is no connection to the bus",
            Phase::Closed => "the bus was closed",
        };
        if std::mem::replace(&mut state.warned, true) {
            tracing::debug!("not published on '{topic}': {reason}");
        } else {
            tracing::warn!("not published on '{topic}' and until further notice: {reason}");
        }
    }

    pub(super) fn subscribe(&self, patterns: Vec<Pattern>, inbox: Arc<Inbox>) -> u64 {
        let mut state = self.shared.state();
        state.next += 1;
        let number = state.next;
        if state.phase == Phase::Closed {
            inbox.close();
            return number;
        }
        for pattern in &patterns {
            let count = state.wanted.entry(pattern.as_str().to_owned()).or_insert(0);
            *count += 1;
            if *count == 1 && state.phase == Phase::Up {
                frame::encode(&mut state.waiting, Verb::Sub, pattern.as_str(), b"");
            }
        }
        state.subscriptions.insert(number, (patterns, inbox));
        drop(state);
        self.shared.written.notify_one();
        number
    }

    pub(super) fn unsubscribe(&self, number: u64) {
        let mut state = self.shared.state();
        let Some((patterns, _)) = state.subscriptions.remove(&number) else {
            return;
        };
        for pattern in patterns {
            let Some(count) = state.wanted.get_mut(pattern.as_str()) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                state.wanted.remove(pattern.as_str());
                if state.phase == Phase::Up {
                    frame::encode(&mut state.waiting, Verb::Unsub, pattern.as_str(), b"");
                }
            }
        }
        drop(state);
        self.shared.written.notify_one();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.shared.state().phase == Phase::Up
    }

    pub(super) async fn until_connected(&self) -> bool {
        let mut phase = self.shared.phase.subscribe();
        let seen = phase.wait_for(|p| matches!(p, Phase::Up | Phase::Closed));
        seen.await.is_ok_and(|p| *p == Phase::Up)
    }

    pub(super) async fn close(&self) {
        self.shared.closing.cancel();
        let mut phase = self.shared.phase.subscribe();
        let ended = phase.wait_for(|p| *p == Phase::Closed);
        // Twice: connecting and writing may both be under way.
        let _late = tokio::time::timeout(2 * FAREWELL, ended).await;
    }
}

/// Bytes on their way out.
#[derive(Default)]
struct Going {
    bytes: Vec<u8>,
    done: usize,
}

impl Going {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }
}

/// How an attempt or a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the bus closed the connection")]
    Closed,
    #[error("the bus sent nonsense: {0}")]
    Bad(#[from] Bad),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a poisoned lock is as good as new.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.phase.send_replace(phase);
    }

    /// The client task: connects, serves, pauses, for ever.
    async fn run(self: Arc<Self>) {
        let mut pause = MIN_PAUSE;
        let mut complained = None;
        let mut first = true;
        loop {
            let attempt = tokio::select! {
                biased;
                attempt = UnixStream::connect(&self.path) => attempt,
                // The first attempt on a UNIX socket is over at once, so that what a
                // short-lived process published gets its chance.
                () = self.closing.cancelled(), if !first => break,
            };
            match attempt {
                Ok(stream) => {
                    complained = None;
                    let since = Instant::now();
                    self.connected(first);
                    let end = self.serve(stream).await;
                    if self.closing.is_cancelled() {
                        break;
                    }
                    self.disconnected();
                    tracing::warn!("bus connection lost: {end}; reconnecting");
                    if since.elapsed() >= GOOD {
                        pause = MIN_PAUSE;
                    }
                }
                Err(error) => {
                    self.disconnected();
                    if complained != Some(error.kind()) {
                        complained = Some(error.kind());
                        self.complain(&error);
                    }
                }
            }
            first = false;
            let jittered = pause.mul_f64(rand::random_range(0.5..=1.0));
            pause = (pause * 2).min(MAX_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.closing.cancelled() => break,
            }
        }
        let mut state = self.state();
        state.waiting = Vec::new();
        for (_, (_, inbox)) in std::mem::take(&mut state.subscriptions) {
            inbox.close();
        }
        self.enter(&mut state, Phase::Closed);
    }

    fn complain(&self, error: &io::Error) {
        let path = self.path.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => tracing::error!(
                "not permitted to use the bus at {path}: add this user to the socket's group (see `ls -l {path}`); trying on, working without"
            ),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => tracing::warn!(
                "no bus at {path}; is `decnet bus` (decnet-bus.service) running? Trying on, working without"
            ),
            _ => tracing::warn!("connecting to the bus at {path}: {error}; trying on"),
        }
    }

    /// Says hello and asks for every pattern, before anything that waits.
    fn connected(&self, first: bool) {
        let mut state = self.state();
        let mut opening = Vec::new();
        frame::encode(&mut opening, Verb::Hello, &self.name, b"");
        for pattern in state.wanted.keys() {
            frame::encode(&mut opening, Verb::Sub, pattern, b"");
        }
        opening.append(&mut state.waiting);
        state.waiting = opening;
        state.warned = false;
        self.enter(&mut state, Phase::Up);
        if !first {
            for (_, inbox) in state.subscriptions.values() {
                inbox.reconnected();
            }
        }
        drop(state);
        tracing::info!("connected to the bus at {}", self.path.display());
        self.written.notify_one();
    }

    fn disconnected(&self) {
        let mut state = self.state();
        state.waiting = Vec::new();
        self.enter(&mut state, Phase::Down);
    }

    /// Reads and writes until the connection ends or the client closes.
    async fn serve(&self, stream: UnixStream) -> End {
        let (reader, mut writer) = stream.into_split();
        // Outside the writing future: what is partly out must be finished, not repeated.
        let mut going = Going::default();
        let end = tokio::select! {
            end = self.read(reader) => Some(end),
            end = self.write(&mut writer, &mut going) => Some(end),
            () = self.closing.cancelled() => None,
        };
        if let Some(end) = end {
            return end;
        }
        let mut last = going.rest().to_vec();
        last.append(&mut self.state().waiting);
        frame::encode(&mut last, Verb::Bye, "", b"");
        match tokio::time::timeout(FAREWELL, writer.write_all(&last)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("saying goodbye to the bus: {error}"),
            Err(_) => tracing::debug!("saying goodbye to the bus: it takes nothing"),
        }
        End::Closed
    }

    async fn write(&self, writer: &mut OwnedWriteHalf, going: &mut Going) -> End {
        loop {
            if going.rest().is_empty() {
                going.done = 0;
                going.bytes = std::mem::take(&mut self.state().waiting);
            }
            if going.rest().is_empty() {
                self.written.notified().await;
                continue;
            }
            match writer.write(going.rest()).await {
                Ok(count) => going.done += count,
                Err(error) => return error.into(),
            }
        }
    }

    async fn read(&self, reader: OwnedReadHalf) -> End {
        let mut buffer = Vec::new();
        loop {
            if let Err(error) = reader.readable().await {
                return error.into();
            }
            buffer.reserve(READ);
            match reader.try_read_buf(&mut buffer) {
                Ok(0) => return End::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return error.into(),
            }
            match self.handle(&buffer) {
                Ok(used) => {
                    buffer.drain(..used);
                    if buffer.is_empty() {
                        // An idle client keeps no buffer.
                        buffer = Vec::new();
                    }
                }
                Err(bad) => return bad.into(),
            }
            // The readers of the subscriptions get their turn within a flood.
            tokio::task::yield_now().await;
        }
    }

    /// Handles every whole frame; how many bytes they were.
    fn handle(&self, bytes: &[u8]) -> Result<usize, Bad> {
        let mut used = 0;
        loop {
            match frame::decode(bytes.get(used..).unwrap_or_default())? {
                Step::Frame(frame, size) => {
                    used += size;
                    match frame.verb {
                        Verb::Evt => self.deliver(&frame),
                        Verb::Bye => {}
                        Verb::Hello | Verb::Pub | Verb::Sub | Verb::Unsub => {
                            return Err(Bad::WrongSide("a client's verb"));
                        }
                    }
                }
                Step::More(_) => return Ok(used),
            }
        }
    }

    fn deliver(&self, frame: &Frame<'_>) {
        let state = self.state();
        let everyone = state.subscriptions.values();
        if frame.args == DROPPED {
            // Which subscription would have wanted them, nobody knows.
            let count = dropped(frame);
            everyone.for_each(|(_, inbox)| inbox.lost(count));
            return;
        }
        let inboxes: Vec<_> = everyone
            .filter(|(patterns, _)| patterns.iter().any(|p| p.matches(frame.args)))
            .map(|(_, inbox)| Arc::clone(inbox))
            .collect();
        drop(state);
        if inboxes.is_empty() {
            return;
        }
        match frame::message(frame) {
            Ok(message) => {
                let message = Arc::new(message);
                for inbox in inboxes {
                    inbox.push(Arc::clone(&message), frame.body.len());
                }
            }
            Err(error) => tracing::warn!("not delivered on '{}': {error}", frame.args),
        }
    }
}

/// The number in a report of lost events; at least one was lost.
fn dropped(frame: &Frame<'_>) -> u64 {
    frame::message(frame)
        .ok()
        .and_then(|m| m.payload.get("dropped")?.as_u64())
        .unwrap_or(1)
}
