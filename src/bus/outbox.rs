//! What waits to be written to one connection, and whether its reader keeps up.
//!
//! Writing is attempted at once by whoever queues; only when the kernel's buffer is
//! full does the connection's own task ([`Outbox::drive`]) wait for room. The queue is
//! bounded in frames and bytes; beyond that the oldest go, and the gap is filled with
//! one `EVT system.bus.dropped` that says how many.
//!
//! A flooding publisher may be slowed for a reader that keeps up ([`Outbox::room`]): as
//! long as it takes something every [`STALL`] and comes down from half full to a quarter
//! within [`PATIENCE`], which is 1 MiB/s, or [`LONG_PATIENCE`] where most readers are
//! behind. A reader that does not is *slow* from then on and nobody waits for it again until
//! it has caught up and [`PENANCE`] is over.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::DROPPED;
use crate::bus::frame::{Seal, encode_event};

/// Most bytes waiting for one connection; the newest chunk always fits.
pub(super) const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Most frames waiting for one connection.
pub(super) const MAX_FRAMES: usize = 16_384;
/// A reader that takes nothing for this long is stalled.
pub(super) const STALL: Duration = Duration::from_millis(300);
/// Time to come down from half full to a quarter while others keep up.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// The same while most of the audience is behind: then the publisher is the fast one.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(5);
/// How long a slow reader is not waited for, at least.
const PENANCE: Duration = Duration::from_secs(30);
/// Chunks handed to the kernel in one call.
const GATHER: usize = 32;

/// Some frames, encoded once and shared by every connection they go to. Its bytes are
/// counted in the hub's meter as long as anybody holds it.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Box<[u8]>,
    frames: usize,
    /// Events this chunk reports as lost, when it is such a report.
    reports: u64,
    meter: Arc<AtomicUsize>,
}

impl Chunk {
    pub(super) fn new(bytes: &[u8], frames: usize, meter: &Arc<AtomicUsize>) -> Arc<Self> {
        meter.fetch_add(bytes.len(), Ordering::Relaxed);
        Arc::new(Self {
            bytes: bytes.into(),
            frames,
            reports: 0,
            meter: Arc::clone(meter),
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.meter.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Arc<Chunk>>,
    bytes: usize,
    frames: usize,
    /// Bytes of the first chunk that are already out.
    written: usize,
    lost: u64,
    blocked: bool,
    dead: bool,
    /// When the reader last took something, or the queue began to fill.
    progress: Instant,
    /// Since when the queue is too full, see [`State::press`].
    pressed: Option<Instant>,
    slow_until: Option<Instant>,
}

/// The writing side of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    stream: Arc<UnixStream>,
    meter: Arc<AtomicUsize>,
    state: Mutex<State>,
    touched: AtomicBool,
    /// The kernel's buffer is full, or the connection is dead: wakes [`Self::drive`].
    attention: Notify,
    /// The queue is a quarter full again: wakes waiting publishers.
    drained: Notify,
}

impl Outbox {
    pub(super) fn new(stream: Arc<UnixStream>, meter: &Arc<AtomicUsize>) -> Self {
        Self {
            stream,
            meter: Arc::clone(meter),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                frames: 0,
                written: 0,
                lost: 0,
                blocked: false,
                dead: false,
                progress: Instant::now(),
                pressed: None,
                slow_until: None,
            }),
            touched: AtomicBool::new(false),
            attention: Notify::new(),
            drained: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the queue whole, so a poisoned lock is as good as new.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `chunk`, making room by losing the oldest.
    pub(super) fn push(&self, chunk: &Arc<Chunk>) {
        let mut state = self.state();
        if state.dead {
            return;
        }
        if state.queue.is_empty() {
            state.progress = Instant::now();
        }
        state.bytes += chunk.bytes.len();
        state.frames += chunk.frames;
        state.queue.push_back(Arc::clone(chunk));
        while state.bytes > MAX_BYTES || state.frames > MAX_FRAMES {
            // A frame that is partly out has to be finished.
            let oldest = usize::from(state.written > 0);
            if oldest + 1 >= state.queue.len() {
                break;
            }
            let Some(gone) = state.queue.remove(oldest) else {
                break;
            };
            state.bytes -= gone.bytes.len();
            state.frames -= gone.frames;
            state.lost += if gone.reports > 0 {
                gone.reports
            } else {
                gone.frames as u64
            };
        }
        state.press();
    }

    /// Counts `frames` as lost without queueing them.
    pub(super) fn refuse(&self, frames: usize) {
        self.state().lost += frames as u64;
    }

    /// Whether this is the first touch since the last flush.
    pub(super) fn touch(&self) -> bool {
        !self.touched.swap(true, Ordering::Relaxed)
    }

    /// Writes what the kernel takes, unless it is known to take nothing right now.
    pub(super) fn flush(&self) {
        self.touched.store(false, Ordering::Relaxed);
        let mut state = self.state();
        if !state.blocked {
            self.write(&mut state);
        }
    }

    /// Writes until the queue is empty or the kernel's buffer full.
    fn write(&self, state: &mut State) {
        while !state.dead {
            if state.written == 0 && state.lost > 0 {
                let report = self.report(std::mem::take(&mut state.lost));
                state.bytes += report.bytes.len();
                state.frames += 1;
                state.queue.push_front(report);
            }
            if state.queue.is_empty() {
                state.blocked = false;
                break;
            }
            let outcome = {
                let mut slices = [IoSlice::new(&[]); GATHER];
                let mut used = 0;
                for (place, chunk) in slices.iter_mut().zip(&state.queue) {
                    let skip = if used == 0 { state.written } else { 0 };
                    *place = IoSlice::new(chunk.bytes.get(skip..).unwrap_or_default());
                    used += 1;
                }
                self.stream
                    .try_write_vectored(slices.get(..used).unwrap_or_default())
            };
            match outcome {
                Ok(count) => state.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !state.blocked {
                        state.blocked = true;
                        self.attention.notify_one();
                    }
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    state.die();
                    self.attention.notify_one();
                }
            }
        }
        if state.pressed.is_none() {
            self.drained.notify_waiters();
        }
    }

    fn report(&self, lost: u64) -> Arc<Chunk> {
        let mut bytes = Vec::with_capacity(160);
        let now = super::hub::seconds(crate::model::Stamp::now());
        let seal = Seal {
            id: rand::random(),
            ts: &now,
        };
        encode_event(
            &mut bytes,
            seal,
            DROPPED,
            "dropped",
            &format!("{{\"dropped\":{lost}}}"),
        );
        self.meter.fetch_add(bytes.len(), Ordering::Relaxed);
        Arc::new(Chunk {
            bytes: bytes.into(),
            frames: 1,
            reports: lost,
            meter: Arc::clone(&self.meter),
        })
    }

    /// Writes whenever the kernel has room again; returns when the connection is dead.
    pub(super) async fn drive(&self) {
        loop {
            self.attention.notified().await;
            loop {
                {
                    let mut state = self.state();
                    if !state.dead && state.blocked {
                        self.write(&mut state);
                    }
                    if state.dead {
                        return;
                    }
                    if !state.blocked {
                        break;
                    }
                }
                if self.stream.writable().await.is_err() {
                    self.close();
                    return;
                }
            }
        }
    }

    /// Gives the connection up and forgets what was queued.
    pub(super) fn close(&self) {
        self.state().die();
        self.attention.notify_one();
        self.drained.notify_waiters();
    }

    /// Whether the queue is too full, and its reader worth waiting for.
    pub(super) fn is_pressed(&self) -> bool {
        let state = self.state();
        !state.dead && state.pressed.is_some() && state.slow_until.is_none()
    }

    /// Bytes queued, when nothing was taken for [`STALL`].
    pub(super) fn stalled_bytes(&self) -> Option<usize> {
        let state = self.state();
        (state.blocked && !state.dead && state.progress.elapsed() >= STALL).then_some(state.bytes)
    }

    /// Waits until the queue is down to a quarter, or the reader turns out slow.
    pub(super) async fn room(&self, patience: Duration) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // Registers now, so that room made after this look is not missed.
            drained.as_mut().enable();
            let Some(deadline) = self.verdict(patience) else {
                return;
            };
            let _either = tokio::time::timeout_at(deadline, drained).await;
        }
    }

    /// Until when to wait for the reader; `None`: go on.
    fn verdict(&self, patience: Duration) -> Option<Instant> {
        let mut state = self.state();
        // This process may have been the one that did not run: look before judging.
        self.write(&mut state);
        let since = state.pressed?;
        if state.dead || state.slow_until.is_some() {
            return None;
        }
        let deadline = (state.progress + STALL).min(since + patience);
        if deadline > Instant::now() {
            return Some(deadline);
        }
        state.slow_until = Some(Instant::now() + PENANCE);
        None
    }
}

impl State {
    /// Pressed from half full until a quarter: with one threshold a slow reader would
    /// hover around it and start a new term of patience with every step.
    fn press(&mut self) {
        if self.bytes > MAX_BYTES / 2 || self.frames > MAX_FRAMES / 2 {
            self.pressed.get_or_insert_with(Instant::now);
        } else if self.bytes <= MAX_BYTES / 4 && self.frames <= MAX_FRAMES / 4 {
            self.pressed = None;
        }
    }

    fn advance(&mut self, count: usize) {
        self.progress = Instant::now();
        self.blocked = false;
        self.written += count;
        while let Some(first) = self.queue.front() {
            let size = first.bytes.len();
            if self.written < size {
                break;
            }
            self.written -= size;
            self.bytes -= size;
            self.frames -= first.frames;
            self.queue.pop_front();
        }
        self.press();
        if self.queue.is_empty() {
            self.slow_until = self.slow_until.filter(|until| *until > self.progress);
        }
    }

    fn die(&mut self) {
        self.dead = true;
        self.queue = VecDeque::new();
        (self.bytes, self.frames, self.written) = (0, 0, 0);
        self.pressed = None;
    }
}
