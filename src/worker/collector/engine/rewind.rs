//! Going back. Notices that logrotate was at work and decides from which moment events are
//! read again; reading them, and skipping those that are there, is the engine's turn.
//!
//! The memory holds a few earlier moments besides the last one. When a rotation lost
//! lines (written between the end of logrotate's copy and its truncation), or a kill left
//! the files ahead, the cursors go back to the latest moment up to which the files are
//! still complete; what the files hold beyond it is skipped while it is read again.

use std::time::Instant;

use anyhow::Context;

use super::Engine;
use crate::capture::rotation::Writer;
use crate::worker::collector::intake::Replay;
use crate::worker::collector::state::Moment;

/// Looks at the event files before giving up. Each one but the last met a step of a
/// rotation, which has a handful.
const LOOKS: u32 = 50;

impl Engine {
    /// Notices a rotation and makes good what it lost.
    pub(in crate::worker::collector) fn check_rotation(&mut self) -> anyhow::Result<()> {
        let torn = self
            .pending
            .as_ref()
            .is_some_and(|p| p.log_done + p.json_done > 0);
        let mut rotated = false;
        for sink in [&mut self.log, &mut self.json] {
            let path = sink.path().display().to_string();
            let found = sink.check().with_context(|| format!("looking at {path}"))?;
            rotated |= found != Writer::Intact;
            match found {
                Writer::Intact => {}
                Writer::Rotated => {
                    tracing::info!("{path} was rotated");
                    self.lost |= torn;
                }
                Writer::Lost(bytes) => {
                    tracing::info!(
                        "{path} was rotated; its copy missed {bytes} bytes, writing them again"
                    );
                    self.lost = true;
                }
                Writer::Emptied => tracing::warn!("{path} was emptied by somebody"),
            }
        }
        if self.lost {
            // What the memory says; the sinks adopted what they found.
            let now = match &self.replay {
                Some(replay) => replay.from.clone(),
                None => self.state.now.clone(),
            };
            self.go_back(&now)?;
            self.lost = false;
            return Ok(());
        }
        if rotated && self.replay.is_none() && self.pending.is_none() {
            self.remember();
            self.save()?;
        }
        Ok(())
    }

    /// Goes on from `now`, or from the latest earlier moment up to which both files are
    /// complete; what they hold beyond it will be skipped.
    pub(super) fn go_back(&mut self, now: &Moment) -> anyhow::Result<()> {
        self.pending = None;
        let mut looks = 0;
        let replay = loop {
            if let Some(replay) = self.look_back(now)? {
                break replay;
            }
            looks += 1;
            anyhow::ensure!(
                looks < LOOKS,
                "the event files were rotated {LOOKS} times while they were read"
            );
            // Takes in the new state; what it tells is known already.
            self.log.check().context("looking at the event log")?;
            self.json.check().context("looking at the event log")?;
        };
        let from = replay.from.clone();
        self.known.extend(from.sources);
        self.sources.clear();
        if let Err(error) = self.discover() {
            tracing::warn!("{error:#}");
        }
        for source in self.sources.values_mut() {
            if let Err(error) = source.hold() {
                tracing::warn!("reading {}: {error}", source.dir().display());
            }
        }
        if replay.log.len() + replay.json.len() > 0 {
            self.replay = Some(replay);
        } else {
            self.replay = None;
            self.remember();
        }
        self.save_all()
    }

    /// Where to go back to, and what the files hold beyond it; `None` when logrotate was
    /// at work meanwhile, so that both may not belong together.
    fn look_back(&self, now: &Moment) -> anyhow::Result<Option<Replay>> {
        let log = self.log.glance().context("reading the event log")?;
        let json = self.json.glance().context("reading the event log")?;
        let complete = |m: &Moment| log.covers(&m.log) && json.covers(&m.json);
        // Right after a rotation a file was empty: then the copy and the file are all
        // there is since. With no such moment either, the readings stand.
        let begun = |m: &Moment| {
            (m.log.bytes == 0 || log.covers(&m.log)) && (m.json.bytes == 0 || json.covers(&m.json))
        };
        let history = &self.state.history;
        let from = std::iter::once(now)
            .chain(history.iter().rev())
            .find(|m| complete(m))
            .or_else(|| history.iter().rev().find(|m| begun(m)))
            .unwrap_or(now);
        let replay = Replay {
            log: log.since(&from.log).context("reading the event log")?,
            json: json.since(&from.json).context("reading the event log")?,
            from: from.clone(),
        };
        let still = log.holds().and_then(|log| Ok(log && json.holds()?));
        Ok(still.context("looking at the event log")?.then_some(replay))
    }

    /// Keeps the present moment as one to go back to, with the next saving.
    pub(super) fn remember(&mut self) {
        self.remembered = Instant::now();
        self.keep = true;
    }
}
