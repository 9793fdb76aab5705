//! One reader of new events for all streams. Each row is read and put into words once,
//! however many people watch; while nobody watches nothing is read.
//!
//! It looks when the bus says that something was stored and twice a second anyway, so
//! streams are live without a bus too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::MissedTickBehavior;

use super::{Api, logs};
use crate::db::log::{LogFilter, LogRow};
use crate::model::topic;

/// How often we look unasked.
const PERIOD: Duration = Duration::from_millis(500);
/// Rows read at a time.
pub(super) const BATCH: u32 = 500;
/// Notes a slow stream may be behind before it has to read the database itself.
const BACKLOG: usize = 1024;

/// What streams are told.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// A new row, ready to send.
    Row(i64, Arc<str>),
    /// Rows may have come that no note was sent for: look in the database.
    Look,
}

/// The streams' side.
#[derive(Debug)]
pub(super) struct Tail {
    notes: broadcast::Sender<Note>,
    wanted: Notify,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            notes: broadcast::channel(BACKLOG).0,
            wanted: Notify::new(),
        }
    }
}

impl Tail {
    /// Starts listening; the reader wakes up if it slept.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Note> {
        let notes = self.notes.subscribe();
        self.wanted.notify_one();
        notes
    }
}

/// One row as a stream's client receives it. The data is JSON, hence one line.
pub(super) fn frame(row: &LogRow) -> String {
    format!("id: {}\nevent: log\ndata: {}\n\n", row.id, logs::item(row))
}

/// Reads until the API stops.
pub(super) async fn run(api: Api) {
    let mut hints = hints(&api, &[topic::LOG], "stream");
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let tail = &api.tail;
    while !api.stop.is_cancelled() {
        if tail.notes.receiver_count() == 0 {
            tokio::select! {
                () = api.stop.cancelled() => return,
                () = tail.wanted.notified() => {}
            }
        }
        // What was stored while nobody read is for each stream to find itself: it may
        // have looked just before this position was taken.
        match api.db.log_latest_id().await {
            Ok(newest) => {
                tell(&api, Note::Look);
                follow(&api, newest, &mut hints, &mut ticks).await;
            }
            Err(error) => {
                tracing::error!("stream: {:#}", anyhow::Error::new(error));
                ticks.tick().await;
            }
        }
    }
}

/// Passes on what comes after `at` while anybody listens.
async fn follow(
    api: &Api,
    mut at: i64,
    hints: &mut mpsc::Receiver<()>,
    ticks: &mut tokio::time::Interval,
) {
    let all = LogFilter::default();
    while api.tail.notes.receiver_count() > 0 {
        let rows = match api.db.log_after(at, BATCH, &all).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!("stream: {:#}", anyhow::Error::new(error));
                ticks.tick().await;
                return;
            }
        };
        for row in &rows {
            at = row.id;
            tell(api, Note::Row(row.id, frame(row).into()));
        }
        if u32::try_from(rows.len()).is_ok_and(|n| n >= BATCH) {
            continue;
        }
        tokio::select! {
            () = api.stop.cancelled() => return,
            Some(()) = hints.recv() => {}
            _ = ticks.tick() => {}
        }
    }
}

fn tell(api: &Api, note: Note) {
    // Nobody listening is no error: the last stream just ended.
    let _listeners = api.tail.notes.send(note);
}

/// One hint at most waits while we read; a bus that goes nowhere gives none.
pub(super) fn hints(api: &Api, patterns: &[&str], who: &str) -> mpsc::Receiver<()> {
    let (hint, hints) = mpsc::channel(1);
    let stop = api.stop.clone();
    match api.bus.subscribe(patterns) {
        Ok(mut inbox) => {
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        delivery = inbox.next() => if delivery.is_none() { return },
                    }
                    if let Err(mpsc::error::TrySendError::Closed(())) = hint.try_send(()) {
                        return;
                    }
                }
            });
        }
        Err(error) => tracing::error!("{who}: {error}"),
    }
    hints
}
