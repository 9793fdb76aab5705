//! The `collector` worker: moves event lines from the deckies' spools into the two event
//! files, `decnet.log` (lines) and `decnet.json` (parsed), each event once, whoever is
//! killed when. The kernel tells which spools grew: an idle fleet of a thousand
//! costs nothing, a line is passed on within a few hundredths of a second. What the
//! operator's own containers print becomes spools too (see `streams`). Files attackers left go to the store before the line that names
//! them.
//!
//! It needs no database, no bus and no Docker, and waits when there are no deckies. When
//! the disk is full it stops reading, says so, and goes on where it stopped.

mod artifact;
mod engine;
mod intake;
mod sink;
mod source;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bus::Bus;
use crate::model::topic;
use crate::worker::collector::engine::Engine;
use crate::worker::collector::watch::{Changes, Watch};
use crate::worker::{Ctx, Why};

/// How often rotations, litter and what was shed are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often all spools are looked at where the kernel does not tell.
const POLL: Duration = Duration::from_millis(150);
/// How often they are looked at where it does, should a hint have been lost.
const FULL: Duration = Duration::from_secs(60);
/// Least time between two rounds of turns: what comes meanwhile is moved together.
const PACE: Duration = Duration::from_millis(10);
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
    let watch = Watch::open()
        .inspect_err(|error| tracing::warn!("spools are looked at in turn: {error}"))
        .ok();
    if let Some(watch) = &watch {
        engine.watch_with(watch.clone())?;
    }
    let period = if watch.is_some() { TICK } else { POLL };
    let mut wake = ctx.wake(&[topic::FLEET_CHANGED], period)?;
    ctx.pulse.expect_every(PERIOD);
    ctx.pulse.ready(&engine.status(0));
    let streams = tokio::spawn(streams::run(
        std::sync::Arc::clone(&ctx.config),
        ctx.stop.clone(),
    ));
    let mut nudge = Nudge::new(ctx.bus.clone());
    let (mut ticked, mut looked) = (Instant::now(), Instant::now());
    loop {
        let mut outcome = tokio::select! {
            why = wake.next() => match why {
                None => break,
                Some(why) => {
                    let full = if watch.is_some() { FULL } else { TICK };
                    if why != Why::Tick || looked.elapsed() >= full {
                        looked = Instant::now();
                        engine.discover()
                    } else {
                        engine.roots()
                    }
                }
            },
            changes = changed(watch.as_ref()) => engine.note(changes),
            () = tokio::time::sleep(NUDGE), if nudge.unsent > 0 => Ok(()),
        };
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            // In this order: what a rotation lost is still in the spools.
            outcome = outcome
                .and_then(|()| engine.check_rotation())
                .and_then(|()| engine.sweep());
        }
        let mut held = outcome.is_err();
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
                    held = true;
                    break;
                }
            };
            ctx.pulse.beat();
            nudge.add(turn.events);
            nudge.send(engine.shed());
            // Trouble with one spool is reported, and the others are read.
            held = turn.trouble.is_some() && turn.events == 0;
            if let Some(trouble) = turn.trouble {
                outcome = Err(trouble);
            }
            if !turn.more || held {
                break;
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                // New deckies are not to wait for the end of a flood.
                let found = match watch {
                    Some(_) => engine.roots(),
                    None => engine.discover(),
                };
                outcome = outcome.and(found).and(engine.sweep());
            }
        }
        nudge.send(engine.shed());
        match &outcome {
            Ok(()) => ctx.pulse.status(&engine.status(nudge.total)),
            Err(error) => ctx.pulse.status(&format!("holding back: {error:#}")),
        }
        wake.record(&outcome);
        let pause = if held { PAUSE } else { PACE };
        tokio::select! {
            () = ctx.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    nudge.last(engine.shed());
    streams.await.context("following containers panicked")?;
    Ok(())
}

async fn changed(watch: Option<&Watch>) -> Changes {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Opens the engine; a full disk is waited for, a forbidden one is not. `None` when the
/// worker was stopped meanwhile.
async fn open(ctx: &Ctx) -> anyhow::Result<Option<Engine>> {
    loop {
        let config = std::sync::Arc::clone(&ctx.config);
        let opened = tokio::task::spawn_blocking(move || {
            streams::recover(&streams::root(&config))?;
            Engine::open(&config)
        })
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
    }

    fn send(&mut self, shed: &BTreeMap<String, u64>) {
        if self.unsent > 0 && self.sent.elapsed() >= NUDGE {
            self.last(shed);
        }
    }

    fn last(&mut self, shed: &BTreeMap<String, u64>) {
        if self.unsent > 0 {
            let mut body = serde_json::json!({"component": "collector", "written": self.unsent});
            if !shed.is_empty() {
                body["shed"] = serde_json::json!(shed);
            }
            self.bus.publish(topic::LOG, "log", body);
            self.unsent = 0;
            self.sent = Instant::now();
        }
    }
}
