//! One connection, as a protocol sees it. Owns the socket, a bounded buffer, the
//! limits, and the way events and files get out; a protocol formats no log line and
//! sets no timer.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::decoy::artifact::{Artifact, Keeper};
use crate::decoy::disk::Disk;
use crate::model::{Credential, Event, Flow, Proto, Service, Severity, Stamp};
use crate::persona::Persona;
use crate::syslog::{self, spool};

/// Any two-way byte stream.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Longest value an event field keeps; the rest is cut, with a mark.
const FIELD_MAX: usize = 8 * 1024;
/// Bytes asked of the kernel at a time.
const READ_CHUNK: usize = 4 * 1024;

/// What one connection may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest silence.
    pub idle: Duration,
    /// Longest connection.
    pub total: Duration,
    /// Largest unparsed request, bytes. A protocol with bodies raises it for itself.
    pub buffer: usize,
    /// Most bytes read in all.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(300),
            total: Duration::from_secs(4 * 3600),
            buffer: 64 * 1024,
            bytes: 256 * 1024 * 1024,
        }
    }
}

/// Why a connection ended without the protocol closing it.
#[derive(Debug)]
pub enum End {
    /// The peer closed.
    Eof,
    /// Nothing came for too long.
    Idle,
    /// The connection lasted too long, or the decky stops.
    Stopped,
    /// A request was larger than its limit, or too many bytes came.
    Limit,
    /// The bytes are not this protocol and there is no polite answer.
    Protocol(&'static str),
    /// The socket failed.
    Io(io::Error),
}

impl End {
    /// One word for the `disconnect` event.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            End::Eof => "eof",
            End::Idle => "idle",
            End::Stopped => "stopped",
            End::Limit => "limit",
            End::Protocol(_) => "protocol",
            End::Io(_) => "io",
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Io(error)
    }
}

/// Where events and files of one decky go.
#[derive(Debug)]
pub struct Sink {
    decky: String,
    spool: spool::Writer,
    keeper: Keeper,
}

impl Sink {
    /// Writes below the decky's directory `dir`.
    ///
    /// # Errors
    /// When the spool or the artifact directory cannot be opened.
    pub fn open(dir: &std::path::Path, decky: &str, max_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            decky: decky.to_owned(),
            spool: spool::Writer::open(dir, max_bytes)?,
            keeper: Keeper::open(dir)?,
        })
    }

    /// Records an event that no peer caused.
    pub fn note(&self, service: &str, kind: &str, severity: Severity, msg: &str) {
        self.record(&Event {
            eid: new_id(),
            ts: Stamp::now(),
            severity,
            decky: self.decky.clone(),
            service: service.to_owned(),
            kind: kind.to_owned(),
            flow: None,
            fields: Vec::new(),
            msg: msg.to_owned(),
        });
    }

    fn record(&self, event: &Event) {
        match self.spool.append(&syslog::write(event)) {
            Ok(0) => {}
            Ok(dropped) => self.note(
                "decky",
                "spool_dropped",
                Severity::Error,
                &format!("{dropped} bytes of unread events were dropped"),
            ),
            // The attacker must not notice that the disk is full.
            Err(error) => tracing::error!("spool: {error}"),
        }
    }

    /// Keeps a file.
    pub fn keep(&self, content: &[u8]) -> Artifact {
        self.keeper.keep(content)
    }
}

/// A fresh ULID as text: sortable by time, unique without coordination.
#[must_use]
pub fn new_id() -> String {
    ulid::Ulid::generate().to_string()
}

/// One connection.
pub struct Session {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    /// Who the host is.
    pub persona: Arc<Persona>,
    /// The peer.
    pub peer: SocketAddr,
    /// The decky's end.
    pub local: SocketAddr,
    /// Limits; a protocol may change them for the rest of the connection.
    pub limits: Limits,
    /// State shared by the connections of this service; see [`crate::decoy::shared`].
    pub shared: Arc<dyn Any + Send + Sync>,
    /// Files planted on this host.
    pub disk: Arc<Disk>,
    /// Cancelled when the decky or this service stops.
    pub stop: CancellationToken,
    service: Service,
    sink: Arc<Sink>,
    id: String,
    started: Instant,
    bytes_in: u64,
    bytes_out: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("service", &self.service)
            .field("peer", &self.peer)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a session is made of.
#[derive(Debug)]
pub struct Parts {
    /// Which protocol.
    pub service: Service,
    /// Who the host is.
    pub persona: Arc<Persona>,
    /// The peer.
    pub peer: SocketAddr,
    /// The decky's end.
    pub local: SocketAddr,
    /// Where events go.
    pub sink: Arc<Sink>,
    /// State of the service.
    pub shared: Arc<dyn Any + Send + Sync>,
    /// Files planted on this host.
    pub disk: Arc<Disk>,
    /// Cancelled when the decky or this service stops.
    pub stop: CancellationToken,
}

impl Session {
    /// Wraps `io`.
    #[must_use]
    pub fn new(io: Box<dyn Io>, parts: Parts) -> Self {
        Self {
            io,
            buffer: Vec::new(),
            persona: parts.persona,
            peer: parts.peer,
            local: parts.local,
            limits: Limits::default(),
            shared: parts.shared,
            disk: parts.disk,
            stop: parts.stop,
            service: parts.service,
            sink: parts.sink,
            id: new_id(),
            started: Instant::now(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// What arrived and was not consumed yet.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops the first `n` bytes of the buffer.
    pub fn consume(&mut self, n: usize) {
        self.buffer.drain(..n.min(self.buffer.len()));
        if self.buffer.is_empty() && self.buffer.capacity() > READ_CHUNK {
            // Ten thousand idle connections must not each keep a large buffer.
            self.buffer = Vec::new();
        }
    }

    /// Waits for more bytes and appends them to the buffer; returns how many.
    ///
    /// # Errors
    /// `Eof`, or the limit that was reached.
    pub async fn fill(&mut self) -> Result<usize, End> {
        let room = self.limits.buffer.saturating_sub(self.buffer.len());
        if room == 0 || self.bytes_in >= self.limits.bytes {
            return Err(End::Limit);
        }
        let now = Instant::now();
        let hard = self.started.checked_add(self.limits.total).unwrap_or(now);
        let deadline = now.checked_add(self.limits.idle).unwrap_or(hard).min(hard);
        let (io, buffer) = (&mut self.io, &mut self.buffer);
        // The chunk lives on the stack only while the socket has bytes: ten thousand
        // waiting connections must not hold one each.
        let read = std::future::poll_fn(|cx| {
            let mut chunk = [0u8; READ_CHUNK];
            let window = chunk.get_mut(..room.min(READ_CHUNK)).unwrap_or_default();
            let mut window = ReadBuf::new(window);
            Pin::new(&mut *io).poll_read(cx, &mut window).map_ok(|()| {
                buffer.extend_from_slice(window.filled());
                window.filled().len()
            })
        });
        let read = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(End::Stopped),
            read = timeout_at(deadline, read) => match read {
                Ok(read) => read?,
                Err(_) if deadline >= hard => return Err(End::Stopped),
                Err(_) => return Err(End::Idle),
            },
        };
        if read == 0 {
            return Err(End::Eof);
        }
        self.bytes_in = self
            .bytes_in
            .saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }

    /// Reads until `parse` finds a whole request at the start of the buffer, and
    /// consumes it. `parse` gives `Ok(None)` for "need more".
    ///
    /// # Errors
    /// Why no request came; the outer error is the connection's, the inner `parse`'s.
    pub async fn request<T, B>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, B>,
    ) -> Result<Result<T, B>, End> {
        loop {
            if !self.buffer.is_empty() {
                match parse(&self.buffer) {
                    Ok(Some((request, used))) => {
                        self.consume(used);
                        return Ok(Ok(request));
                    }
                    Ok(None) => {}
                    Err(bad) => return Ok(Err(bad)),
                }
            }
            self.fill().await?;
        }
    }

    /// Sends bytes and flushes. A peer that does not read is given the idle time.
    ///
    /// # Errors
    /// When the peer is gone or does not read.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let send = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        match tokio::time::timeout(self.limits.idle, send).await {
            Ok(sent) => sent?,
            Err(_) => return Err(End::Idle),
        }
        self.bytes_out = self
            .bytes_out
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Closes the sending side; the peer sees an orderly end.
    pub async fn close(&mut self) {
        if let Err(error) = self.io.shutdown().await {
            tracing::trace!("closing: {error}");
        }
    }

    /// Starts an event of this connection; [`Report::emit`] records it.
    #[must_use]
    pub fn report(&self, kind: &'static str) -> Report<'_> {
        Report {
            session: self,
            kind,
            severity: Severity::Info,
            fields: Vec::new(),
        }
    }

    /// Keeps a file the attacker left.
    #[must_use]
    pub fn keep(&self, content: &[u8]) -> Artifact {
        self.sink.keep(content)
    }

    /// The connection's id, on every event of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Time since the connection was accepted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Bytes read and written so far.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }
}

/// An event being put together.
#[derive(Debug)]
pub struct Report<'a> {
    session: &'a Session,
    kind: &'static str,
    severity: Severity,
    fields: Vec<(String, String)>,
}

impl Report<'_> {
    /// Adds a field. Long values are cut to 8 KiB with `…` and the length in
    /// `<key>_len`.
    #[must_use]
    pub fn field(mut self, key: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if value.len() <= FIELD_MAX {
            self.fields.push((key.to_owned(), value.to_owned()));
        } else {
            let end = (0..=FIELD_MAX)
                .rev()
                .find(|i| value.is_char_boundary(*i))
                .unwrap_or(0);
            let cut = value.get(..end).unwrap_or_default();
            self.fields.push((key.to_owned(), format!("{cut}…")));
            self.fields
                .push((format!("{key}_len"), value.len().to_string()));
        }
        self
    }

    /// Adds a field of raw bytes: UTF-8 is kept, anything else becomes U+FFFD.
    #[must_use]
    pub fn bytes(self, key: &str, value: &[u8]) -> Self {
        let shown = value
            .get(..value.len().min(FIELD_MAX.saturating_mul(2)))
            .unwrap_or_default();
        self.field(key, String::from_utf8_lossy(shown))
    }

    /// Adds a field if there is a value; an absent value is an absent field.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// Adds the fields of a credential. The exact secret is kept up to 2 KiB.
    #[must_use]
    pub fn credential(mut self, credential: &Credential) -> Self {
        let mut credential = credential.clone();
        credential.secret.truncate(2048);
        for (key, value) in credential.fields() {
            self = self.field(&key, value);
        }
        self
    }

    /// Adds what became of a file.
    #[must_use]
    pub fn artifact(self, artifact: &Artifact) -> Self {
        self.field("sha256", &artifact.sha256)
            .field("size", artifact.size.to_string())
            .field("stored", if artifact.stored { "true" } else { "false" })
    }

    /// Raises the severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Records the event, before whatever is sent next.
    pub fn emit(self) {
        self.session.sink.record(&Event {
            eid: new_id(),
            ts: Stamp::now(),
            severity: self.severity,
            decky: self.session.sink.decky.clone(),
            service: self.session.service.slug().to_owned(),
            kind: self.kind.to_owned(),
            flow: Some(Flow {
                src: self.session.peer,
                dst: self.session.local,
                proto: Proto::Tcp,
                session: self.session.id.clone(),
            }),
            fields: self.fields,
            msg: String::new(),
        });
    }
}
