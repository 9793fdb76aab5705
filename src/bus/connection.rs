//! One client of the server, from accept to end: read frames, do what they ask, hand
//! out what they publish. A client that breaks the protocol loses this connection and
//! nothing else happens.
//!
//! Reading goes through one buffer shared by all connections; a connection keeps only
//! the beginning of an unfinished frame. A frame over [`SMALL`] needs a permit, so that
//! a thousand clients with half a megabyte each cannot fill the memory, and an
//! unfinished frame has [`FINISH`] to arrive.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::bus::frame::{self, Bad, Frame, Step, Verb};
use crate::bus::hub::{Batch, Behind, Hub, Sink};
use crate::bus::outbox::Outbox;
use crate::bus::pattern::{Pattern, check_topic, shown};

/// A frame up to this length is read through the shared buffer.
const SMALL: usize = 64 * 1024;
/// Larger frames being received at the same time.
const LARGE_FRAMES: usize = 16;
/// Time for an unfinished frame to arrive.
const FINISH: Duration = Duration::from_secs(10);

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    desk: Mutex<Desk>,
    large: Arc<Semaphore>,
}

/// Buffers of whoever is working right now.
struct Desk {
    read: Vec<u8>,
    batch: Batch,
}

impl Shared {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            desk: Mutex::new(Desk {
                read: vec![0; 2 * SMALL],
                batch: Batch::default(),
            }),
            large: Arc::new(Semaphore::new(LARGE_FRAMES)),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the client")]
    Closed,
    #[error("closed by the client within a frame")]
    ClosedWithin,
    #[error(transparent)]
    Bad(#[from] Bad),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves `stream` until it ends.
pub(super) async fn serve(shared: Arc<Shared>, stream: UnixStream) {
    let peer = stream.peer_cred().map_or_else(
        |error| format!("unknown peer ({error})"),
        |peer| {
            let pid = peer.pid().map_or_else(|| "?".to_owned(), |p| p.to_string());
            format!("pid {pid} uid {} gid {}", peer.uid(), peer.gid())
        },
    );
    tracing::debug!("bus client connected: {peer}");
    let stream = Arc::new(stream);
    let outbox = Arc::new(Outbox::new(Arc::clone(&stream), shared.hub.meter()));
    let number = shared
        .hub
        .attach(Sink::Socket(Arc::clone(&outbox)), Vec::new());
    let mut connection = Connection {
        shared: &shared,
        stream: &stream,
        number,
        name: String::new(),
        kept: Vec::new(),
        wanted: 0,
        deadline: None,
        permit: None,
    };
    let end = tokio::select! {
        end = connection.read() => Some(end),
        () = outbox.drive() => None,
    };
    let name = connection.name;
    shared.hub.detach(number);
    outbox.close();
    match end {
        Some(End::Bad(bad)) => {
            tracing::warn!("bus client '{name}' ({peer}) disconnected: {bad}");
        }
        Some(end) => tracing::debug!("bus client '{name}' ({peer}) ended: {end}"),
        None => tracing::debug!("bus client '{name}' ({peer}) ended: writing failed or gave up"),
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    stream: &'a UnixStream,
    number: u64,
    name: String,
    /// The beginning of an unfinished frame.
    kept: Vec<u8>,
    /// How long that frame is at least.
    wanted: usize,
    deadline: Option<Instant>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection<'_> {
    async fn read(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    /// Waits for bytes and handles every whole frame among them.
    async fn turn(&mut self) -> Result<(), End> {
        self.stamp_unfinished();
        let ready = async {
            if self.wanted > SMALL && self.permit.is_none() {
                let large = Arc::clone(&self.shared.large);
                // The semaphore is never closed.
                self.permit = large.acquire_owned().await.ok();
            }
            self.stream.readable().await
        };
        match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, ready)
                .await
                .map_err(|_| Bad::Unfinished)??,
            None => ready.await?,
        }
        let behind = match self.receive() {
            Ok(behind) => behind,
            Err(End::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(end) => return Err(end),
        };
        behind.wait().await;
        // A flood from one client leaves the others their turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn stamp_unfinished(&mut self) {
        if self.kept.is_empty() {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(Instant::now() + FINISH);
        }
    }

    /// Reads once; returns the readers that fell behind what was published.
    fn receive(&mut self) -> Result<Behind, End> {
        let mut desk = self
            .shared
            .desk
            .lock()
            // What a panicking turn left there is cleared before it is used.
            .unwrap_or_else(PoisonError::into_inner);
        let Desk { read, batch } = &mut *desk;
        let mut kept = std::mem::take(&mut self.kept);
        let outcome = if self.wanted > SMALL {
            self.receive_large(&mut kept)
                .and_then(|()| self.handle(&kept, batch))
                .map(|used| {
                    kept.drain(..used);
                    if kept.len() <= SMALL {
                        kept.shrink_to(SMALL);
                    }
                })
        } else {
            self.receive_small(&mut kept, read)
                .and_then(|count| {
                    let bytes = read.get(..count).unwrap_or_default();
                    let used = self.handle(bytes, batch)?;
                    Ok(bytes.get(used..).unwrap_or_default())
                })
                .map(|rest| kept = rest.to_vec())
        };
        // What came before a broken frame is delivered.
        let behind = batch.flush(&self.shared.hub);
        if let Err(End::Io(_)) = outcome {
            // Nothing was read.
            self.kept = kept;
            return outcome.map(|()| behind);
        }
        self.kept = kept;
        if self.wanted <= SMALL {
            self.permit = None;
        }
        outcome.map(|()| behind)
    }

    /// Reads behind what was kept in the shared buffer; how much is there then.
    fn receive_small(&mut self, kept: &mut Vec<u8>, read: &mut [u8]) -> Result<usize, End> {
        let held = kept.len();
        let (front, room) = read
            .split_at_mut_checked(held)
            .ok_or_else(|| io::Error::other("the kept part outgrew the buffer"))?;
        let count = self.stream.try_read(room)?;
        if count == 0 {
            return Err(ended(held));
        }
        front.copy_from_slice(kept);
        kept.clear();
        Ok(held + count)
    }

    /// Reads what is still missing of a large frame, behind its beginning.
    fn receive_large(&mut self, kept: &mut Vec<u8>) -> Result<(), End> {
        // Memory follows what arrives, not what was announced.
        let missing = self.wanted.saturating_sub(kept.len());
        kept.reserve_exact(missing.min(4 * SMALL));
        if self.stream.try_read_buf(kept)? == 0 {
            return Err(ended(kept.len()));
        }
        Ok(())
    }

    /// Handles every whole frame in `bytes`; how many bytes they were.
    fn handle(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<usize, End> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            match frame::decode(rest)? {
                Step::Frame(frame, size) => {
                    used += size;
                    // The deadline is for one frame, not for a stream of them.
                    self.deadline = None;
                    self.obey(&frame, batch)?;
                }
                Step::More(wanted) => {
                    self.wanted = wanted;
                    return Ok(used);
                }
            }
        }
    }

    fn obey(&mut self, frame: &Frame<'_>, batch: &mut Batch) -> Result<(), End> {
        let hub = &self.shared.hub;
        match frame.verb {
            Verb::Pub => {
                if !batch.continues(frame.args) {
                    check_topic(frame.args).map_err(|why| Bad::Topic(shown(frame.args), why))?;
                }
                let (kind, payload) = frame::published(frame.body)?;
                batch.add(hub, frame.args, &kind, payload);
            }
            Verb::Sub => {
                // Earlier events of this turn were published before the wish.
                batch.cut(hub);
                hub.want(self.number, pattern(frame.args)?)?;
            }
            Verb::Unsub => {
                batch.cut(hub);
                hub.unwant(self.number, &pattern(frame.args)?);
            }
            Verb::Hello => {
                self.name = shown(frame.args);
                tracing::debug!("bus client says it is '{}'", self.name);
            }
            Verb::Bye => return Err(End::Closed),
            Verb::Evt => return Err(Bad::WrongSide("EVT").into()),
        }
        Ok(())
    }
}

fn pattern(text: &str) -> Result<Pattern, Bad> {
    Pattern::parse(text).map_err(|error| Bad::Pattern(error.to_string()))
}

fn ended(held: usize) -> End {
    if held == 0 {
        End::Closed
    } else {
        End::ClosedWithin
    }
}
