//! The `collector` worker: moves event lines from the deckies' spools into the two event
//! files, `decnet.log` (lines) and `decnet.json` (parsed), each event once, whoever is
//! killed when. New deckies are found within a second; a line is passed on within a
//! fraction of one. Files attackers left go to the store before the line that names
//! them.
//!
//! It needs no database, no bus and no Docker, and waits when there are no deckies. When
//! the disk is full it stops reading, says so, and goes on where it stopped.

mod artifact;
mod engine;
mod sink;
mod source;
mod state;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bus::Bus;
use crate::model::topic;
use crate::worker::collector::engine::Engine;
use crate::worker::{Ctx, Why};

/// How often the spools are looked at.
const LOOK: Duration = Duration::from_millis(150);
/// How often new deckies, new segments and rotations are looked for.
const SCAN: Duration = Duration::from_secs(1);
/// Least time between two nudges.
const NUDGE: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// The watchdog's measure; a turn takes milliseconds unless the disk hangs.
const PERIOD: Duration = Duration::from_secs(30);

/// Runs until stopped.
///
/// # Errors
/// When the event files may not be opened.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let Some(mut engine) = open(&ctx).await? else {
        return Ok(());
    };
    let mut wake = ctx.wake(&[topic::FLEET_CHANGED], LOOK)?;
    ctx.pulse.expect_every(PERIOD);
    ctx.pulse.ready(&engine.status(0));
    let mut nudge = Nudge::new(ctx.bus.clone());
    let mut scanned = Instant::now();
    while let Some(why) = wake.next().await {
        // Trouble with one spool is reported, and the others are read.
        let mut outcome = Ok(());
        if why != Why::Tick || scanned.elapsed() >= SCAN {
            scanned = Instant::now();
            // In this order: what a rotation lost is still in the spools.
            outcome = engine.check_rotation().and_then(|()| engine.scan());
        }
        while engine.waiting() && !ctx.stop.is_cancelled() {
            // Reading and writing may block; the heartbeat must not.
            let (back, turn) = tokio::task::spawn_blocking(move || {
                let turn = engine.turn();
                (engine, turn)
            })
            .await
            .context("a turn panicked")?;
            engine = back;
            let turn = match turn {
                Ok(turn) => turn,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            ctx.pulse.beat();
            nudge.add(turn.events);
            let stuck = turn.trouble.is_some() && turn.events == 0;
            if let Some(trouble) = turn.trouble {
                outcome = Err(trouble);
            }
            if !turn.more || stuck {
                break;
            }
            if scanned.elapsed() >= SCAN {
                scanned = Instant::now();
                outcome = outcome.and(engine.scan());
            }
        }
        nudge.send();
        match &outcome {
            Ok(()) => ctx.pulse.status(&engine.status(nudge.total)),
            Err(error) => ctx.pulse.status(&format!("holding back: {error:#}")),
        }
        let failed = outcome.is_err();
        wake.record(&outcome);
        if failed {
            tokio::select! {
                () = ctx.stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
    nudge.last();
    Ok(())
}

/// Opens the engine; a full disk is waited for, a forbidden one is not. `None` when the
/// worker was stopped meanwhile.
async fn open(ctx: &Ctx) -> anyhow::Result<Option<Engine>> {
    loop {
        let config = std::sync::Arc::clone(&ctx.config);
        let opened = tokio::task::spawn_blocking(move || Engine::open(&config))
            .await
            .context("opening the event files panicked")?;
        let error = match opened {
            Ok(engine) => return Ok(Some(engine)),
            Err(error) => error,
        };
        let forbidden = error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        });
        if forbidden {
            return Err(error.context(
                "the collector may not write its files; `decnet init` sets their owner, --state-dir gives private ones",
            ));
        }
        ctx.pulse.record::<()>(&Err(error));
        tokio::select! {
            () = ctx.stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Tells listeners that there are new lines, not too often.
struct Nudge {
    bus: Bus,
    total: u64,
    unsent: u64,
    sent: Instant,
}

impl Nudge {
    fn new(bus: Bus) -> Self {
        Self {
            bus,
            total: 0,
            unsent: 0,
            sent: Instant::now(),
        }
    }

    fn add(&mut self, events: u64) {
        self.total += events;
        self.unsent += events;
        self.send();
    }

    fn send(&mut self) {
        if self.unsent > 0 && self.sent.elapsed() >= NUDGE {
            self.last();
        }
    }

    fn last(&mut self) {
        if self.unsent > 0 {
            let body = serde_json::json!({"component": "collector", "written": self.unsent});
            self.bus.publish(topic::LOG, "log", body);
            self.unsent = 0;
            self.sent = Instant::now();
        }
    }
}
