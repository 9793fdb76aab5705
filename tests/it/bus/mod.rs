//! The bus: one suite of meaning for both transports, then what only a socket can
//! suffer. Nothing sleeps; every wait has a deadline.

mod cli;
mod hostile;
mod memory;
mod reconnect;
mod semantics;

use std::path::{Path, PathBuf};
use std::time::Duration;

use decnet::bus::{Bus, Delivery, Listener, Message, Subscription};
use decnet::config::BusConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine, short enough to notice.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(socket: &Path) -> BusConfig {
    BusConfig {
        enabled: true,
        socket: socket.to_owned(),
        group: None,
    }
}

/// A server in this process, on a directory of its own or a given one.
struct Server {
    bus: Bus,
    socket: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self::start_at(&dir.path().join("bus.sock")).await;
        server._dir = Some(dir);
        server
    }

    async fn start_at(socket: &Path) -> Self {
        let listener = Listener::bind(&config(socket)).await.unwrap();
        let (bus, stop) = (Bus::memory(), CancellationToken::new());
        let task = tokio::spawn({
            let (bus, stop) = (bus.clone(), stop.clone());
            async move { listener.serve(&bus, stop, |_| {}).await.unwrap() }
        });
        Self {
            bus,
            socket: socket.to_owned(),
            stop,
            task,
            _dir: None,
        }
    }

    fn client(&self) -> Bus {
        Bus::socket(&config(&self.socket), "test")
    }

    async fn raw(&self) -> Raw {
        Raw::connect(&self.socket).await
    }

    async fn stop(self) {
        self.stop.cancel();
        within("the server to stop", self.task).await.unwrap();
    }
}

/// `future`, or a failed test.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

async fn next(subscription: &mut Subscription) -> Delivery {
    within("a delivery", subscription.next())
        .await
        .expect("the subscription ended")
}

async fn message(subscription: &mut Subscription) -> Message {
    match next(subscription).await {
        Delivery::Message(message) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

/// Returns once everything this handle asked for before has been done by the bus: what
/// it publishes now comes back to it.
async fn settled(bus: &Bus) {
    let mut echo = bus.subscribe(&["test.settled"]).unwrap();
    let mark = uuid::Uuid::now_v7().to_string();
    bus.publish("test.settled", "", json!(mark));
    while message(&mut echo).await.payload != json!(mark) {}
}

/// A connection that speaks bytes.
struct Raw {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    read: usize,
}

impl Raw {
    async fn connect(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).await.unwrap())
    }

    fn over(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            read: 0,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        within("the bus to read", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    async fn frame(&mut self, header: &str, body: &[u8]) {
        self.send(&framed(header, body)).await;
    }

    /// Subscribes and waits until the bus has done so.
    async fn subscribe(&mut self, pattern: &str) {
        self.frame(&format!("SUB {pattern}"), b"").await;
        self.frame("SUB test.settled", b"").await;
        self.frame("PUB test.settled", b"").await;
        let (header, _) = self.event().await;
        assert_eq!(header, "EVT test.settled");
        self.frame("UNSUB test.settled", b"").await;
    }

    /// The next frame, `(header, body)`.
    async fn event(&mut self) -> (String, serde_json::Value) {
        within("an event", self.try_event())
            .await
            .expect("the bus closed the connection")
    }

    async fn try_event(&mut self) -> Option<(String, serde_json::Value)> {
        loop {
            let unread = &self.buffer[self.read..];
            if let Some(end) = unread.iter().position(|b| *b == b'\n')
                && let Some(length) = unread.get(end + 1..end + 5)
                && let size = u32::from_be_bytes(length.try_into().unwrap()) as usize
                && let Some(body) = unread.get(end + 5..end + 5 + size)
            {
                let header = String::from_utf8(unread[..end].to_vec()).unwrap();
                let body = serde_json::from_slice(body).unwrap_or_default();
                self.read += end + 5 + size;
                return Some((header, body));
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits until the other side has closed the connection.
    async fn closed(&mut self) {
        within("the bus to hang up", async {
            while self.try_event().await.is_some() {}
        })
        .await;
    }
}

/// Lets this process have the descriptors that a thousand connections take.
fn many_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < 4096 {
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    }
}

fn framed(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{header}\n").into_bytes();
    bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}
