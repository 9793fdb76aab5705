//! One turn of the collector: read a bounded piece of every spool, append it to both
//! event files, then remember how far that was. In this order a kill leaves the files
//! ahead of the memory; what is ahead is recognised by its event ids and not written
//! again.
//!
//! The memory holds a few earlier moments besides the last one. When a rotation lost
//! lines (written between the end of logrotate's copy and its truncation), or a kill left
//! the files ahead, the cursors go back to the latest moment up to which the files are
//! still complete; what the files hold beyond it is skipped while it is read again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::capture::rotation::Writer;
use crate::capture::seen::Seen;
use crate::config::Config;
use crate::model::Event;
use crate::syslog;
use crate::worker::collector::artifact;
use crate::worker::collector::sink::Sink;
use crate::worker::collector::source::Source;
use crate::worker::collector::state::{Cursor, Moment, State};

/// Most bytes read in one turn, over all sources; bounds memory.
const TURN_BYTES: usize = 1024 * 1024;
/// Least time between two remembered moments; logrotate's copy and truncation lie closer
/// together than [`MOMENTS`] of them.
const MOMENT: Duration = Duration::from_secs(2);
/// Moments remembered.
const MOMENTS: usize = 6;
/// Longest event id accepted.
const EID_MAX: usize = 64;

/// Events already in the files that will be read once more.
#[derive(Debug)]
struct Replay {
    log: Seen,
    json: Seen,
    /// What the memory must go on saying until the replay is over.
    from: Moment,
}

/// Lines on their way into the two files.
#[derive(Debug, Default)]
struct Pending {
    log: Vec<u8>,
    log_done: usize,
    json: Vec<u8>,
    json_done: usize,
    events: u64,
    read: usize,
    more: bool,
}

/// What a turn did.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Events written.
    pub(super) events: u64,
    /// Whether there is more to read right away.
    pub(super) more: bool,
    /// What kept one source from being read; the others went on.
    pub(super) trouble: Option<anyhow::Error>,
}

/// The collector without its clock and bus.
#[derive(Debug)]
pub(super) struct Engine {
    deckies: PathBuf,
    artifacts: PathBuf,
    memory: PathBuf,
    most_kept: u64,
    log: Sink,
    json: Sink,
    /// Cursors of deckies not seen since the start.
    known: BTreeMap<String, Cursor>,
    sources: BTreeMap<String, Source>,
    turns: usize,
    pending: Option<Pending>,
    replay: Option<Replay>,
    /// Earlier moments, oldest first.
    history: Vec<Moment>,
    remembered: Instant,
    /// What was saved last.
    saved: Option<Moment>,
    damaged: u64,
    buffer: Vec<u8>,
}

impl Engine {
    /// Opens the event files and finds out what they hold beyond the memory.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let open = |path: &std::path::Path| {
            Sink::open(path).with_context(|| format!("opening {}", path.display()))
        };
        let memory = config.paths.state.join("collector.json");
        fs::create_dir_all(&config.paths.state)
            .with_context(|| format!("creating {}", config.paths.state.display()))?;
        let mut engine = Self {
            deckies: config.paths.deckies(),
            artifacts: config.paths.artifacts.clone(),
            memory,
            most_kept: config.spool_max_bytes / 4,
            log: open(&config.paths.event_log)?,
            json: open(&config.paths.event_json())?,
            known: BTreeMap::new(),
            sources: BTreeMap::new(),
            turns: 0,
            pending: None,
            replay: None,
            history: Vec::new(),
            remembered: Instant::now(),
            saved: None,
            damaged: 0,
            buffer: Vec::new(),
        };
        let state = State::load(&engine.memory).unwrap_or_default();
        engine.history = state.history;
        engine.go_back(state.now)?;
        Ok(engine)
    }

    /// Goes on from `now`, or from the latest earlier moment up to which both files are
    /// complete; what they hold beyond it will be skipped.
    fn go_back(&mut self, now: Moment) -> anyhow::Result<()> {
        let complete = |m: &Moment| self.log.covers(&m.log) && self.json.covers(&m.json);
        let from = if complete(&now) {
            now
        } else {
            // Right after a rotation a file was empty: then the copy and the file are all
            // there is since. With no such moment either, the readings stand.
            let begun = |m: &Moment| {
                (m.log.bytes == 0 || self.log.covers(&m.log))
                    && (m.json.bytes == 0 || self.json.covers(&m.json))
            };
            let found = (self.history.iter().rposition(complete))
                .or_else(|| self.history.iter().rposition(begun));
            found
                .and_then(|at| self.history.get(at).cloned())
                .unwrap_or(now)
        };
        self.pending = None;
        let replay = Replay {
            log: self.log.since(&from.log).context("reading the event log")?,
            json: self
                .json
                .since(&from.json)
                .context("reading the event log")?,
            from: from.clone(),
        };
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
        self.save()
    }

    /// Keeps the present moment as one to go back to.
    fn remember(&mut self) {
        self.remembered = Instant::now();
        let now = self.now();
        if self.history.last() != Some(&now) {
            self.history.push(now);
        }
        while self.history.len() > MOMENTS {
            self.history.remove(0);
        }
    }

    fn now(&self) -> Moment {
        let mut sources = self.known.clone();
        sources.extend(self.sources.iter().map(|(n, s)| (n.clone(), s.at.clone())));
        Moment {
            log: self.log.written(),
            json: self.json.written(),
            sources,
        }
    }

    /// Takes up new deckies, lets go of vanished ones, deletes segments nobody needs.
    pub(super) fn scan(&mut self) -> anyhow::Result<()> {
        let found = self.discover();
        self.sweep().and(found)
    }

    fn discover(&mut self) -> anyhow::Result<()> {
        let mut present = Vec::new();
        let mut trouble = Ok(());
        match fs::read_dir(&self.deckies) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        present.push(entry.file_name());
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", self.deckies.display()));
            }
        }
        self.sources
            .retain(|name, _| present.contains(&OsString::from(name)));
        for name in present.iter().filter_map(|n| n.to_str()) {
            // One decky's trouble is its own: the others are looked at all the same.
            if let Err(error) = self.scan_one(name) {
                trouble = Err(error).with_context(|| format!("reading the spool of {name}"));
            }
        }
        trouble
    }

    fn scan_one(&mut self, name: &str) -> io::Result<()> {
        if let Some(source) = self.sources.get_mut(name) {
            return source.look();
        }
        let known = self.known.get(name).cloned();
        let source = Source::open(self.deckies.join(name), known)?;
        self.known.remove(name);
        self.sources.insert(name.to_owned(), source);
        Ok(())
    }

    fn sweep(&mut self) -> anyhow::Result<()> {
        // Until these are written, the memory does not tell what is needed.
        if self.replay.is_some() || self.pending.is_some() {
            return Ok(());
        }
        if self.history.len() > 1 && self.remembered.elapsed() > MOMENT * 8 {
            // Long quiet: nothing before this moment can get lost any more.
            self.history.clear();
            self.remember();
            self.save()?;
        }
        let floors: BTreeMap<String, u64> = self
            .sources
            .keys()
            .map(|name| (name.clone(), self.floor(name)))
            .collect();
        let floor = |name: &String| floors.get(name).copied().unwrap_or(0);
        let kept = self.most_kept;
        if !(self.sources.iter()).any(|(n, s)| s.has_litter(floor(n), kept)) {
            return Ok(());
        }
        // Only what the disk holds may go from the spool.
        self.log.sync()?;
        self.json.sync()?;
        let mut trouble = Ok(());
        for (name, source) in &mut self.sources {
            if let Err(error) = source.sweep(floor(name), kept) {
                trouble =
                    Err(error).with_context(|| format!("cleaning {}", source.dir().display()));
            }
        }
        trouble
    }

    /// As after a long quiet.
    #[cfg(test)]
    pub(super) fn forget_moments(&mut self) {
        self.history.clear();
        self.remember();
    }

    /// First segment of a spool that a moment to go back to needs.
    fn floor(&self, name: &str) -> u64 {
        self.history
            .iter()
            .map(|m| m.sources.get(name).map_or(0, |c| c.segment))
            .min()
            .unwrap_or(0)
    }

    /// Whether a turn would find something: a few cheap looks.
    pub(super) fn waiting(&self) -> bool {
        self.pending.is_some() || self.sources.values().any(Source::waiting)
    }

    /// Notices a rotation and makes good what it lost.
    pub(super) fn check_rotation(&mut self) -> anyhow::Result<()> {
        let torn = self
            .pending
            .as_ref()
            .is_some_and(|p| p.log_done + p.json_done > 0);
        let (mut lost, mut rotated) = (false, false);
        // What the memory says; the sinks forget it when they adopt what they find.
        let now = self.accounted();
        for sink in [&mut self.log, &mut self.json] {
            let path = sink.path().display().to_string();
            let found = sink.check().with_context(|| format!("looking at {path}"))?;
            rotated |= found != Writer::Intact;
            match found {
                Writer::Intact => {}
                Writer::Rotated => {
                    tracing::info!("{path} was rotated");
                    lost |= torn;
                }
                Writer::Lost(bytes) => {
                    tracing::info!(
                        "{path} was rotated; its copy missed {bytes} bytes, writing them again"
                    );
                    lost = true;
                }
                Writer::Emptied => tracing::warn!("{path} was emptied by somebody"),
            }
        }
        if lost {
            return self.go_back(now);
        }
        if rotated && self.replay.is_none() && self.pending.is_none() {
            self.remember();
            self.save()?;
        }
        Ok(())
    }

    /// Moves one bounded piece.
    ///
    /// # Errors
    /// When a file cannot be written; nothing is lost and the next turn goes on there.
    pub(super) fn turn(&mut self) -> anyhow::Result<Turn> {
        self.check_rotation()?;
        let mut trouble = None;
        if self.pending.is_none() {
            let mut pending = Pending::default();
            trouble = self.gather(&mut pending).err();
            self.pending = Some(pending);
        }
        let Some(pending) = &mut self.pending else {
            return Ok(Turn::default());
        };
        self.log
            .append(&pending.log, &mut pending.log_done)
            .with_context(|| format!("writing {}", self.log.path().display()))?;
        self.json
            .append(&pending.json, &mut pending.json_done)
            .with_context(|| format!("writing {}", self.json.path().display()))?;
        let turn = Turn {
            events: pending.events,
            more: pending.more,
            trouble,
        };
        let moved = pending.read > 0 || pending.more;
        self.pending = None;
        let over = self.replay.is_some() && self.sources.values_mut().all(Source::caught_up);
        if over {
            self.replay = None;
        }
        if moved {
            if self.replay.is_none() && (over || self.remembered.elapsed() >= MOMENT) {
                self.remember();
            }
            self.save()?;
        }
        Ok(turn)
    }

    /// Reads from the sources in turn, beginning with another one each time, so that a
    /// flooded decky never starves the others. A source that fails does not stop the
    /// others either; its error is reported at the end.
    fn gather(&mut self, pending: &mut Pending) -> anyhow::Result<()> {
        self.turns = self.turns.wrapping_add(1);
        let count = self.sources.len().max(1);
        let names: Vec<String> = self.sources.keys().cloned().collect();
        let mut outcome = Ok(());
        for name in names
            .iter()
            .cycle()
            .skip(self.turns % count)
            .take(names.len())
        {
            let Some(source) = self.sources.get_mut(name) else {
                continue;
            };
            if !source.waiting() {
                continue;
            }
            if pending.read >= TURN_BYTES {
                pending.more = true;
                break;
            }
            let dir = source.dir().to_owned();
            let mut intake = Intake {
                decky: name,
                dir: &dir,
                artifacts: &self.artifacts,
                replay: &mut self.replay,
                pending,
                damaged: 0,
            };
            let piece = source.read(&mut self.buffer, |line| intake.take(line));
            let mut damaged = intake.damaged;
            match piece {
                Ok(piece) => {
                    pending.read += piece.read;
                    pending.more |= piece.more;
                    damaged += piece.damaged;
                }
                Err(error) => {
                    pending.read += 1;
                    outcome = Err(error.context(format!("reading the spool of {name}")));
                }
            }
            if damaged > 0 {
                tracing::warn!("{damaged} damaged lines in the spool of {name} were skipped");
                self.damaged += damaged;
            }
        }
        // A flood leaves nothing allocated behind.
        if !pending.more {
            self.buffer = Vec::new();
        }
        outcome
    }

    /// The last moment the files and the memory agree on.
    fn accounted(&self) -> Moment {
        match (&self.replay, &self.saved) {
            (Some(replay), _) => replay.from.clone(),
            (None, Some(saved)) => saved.clone(),
            (None, None) => self.now(),
        }
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let now = match &self.replay {
            Some(replay) => replay.from.clone(),
            None => self.now(),
        };
        self.saved = Some(now.clone());
        State {
            now,
            history: self.history.clone(),
        }
        .save(&self.memory)
        .with_context(|| format!("writing {}", self.memory.display()))
    }

    /// In words, for the heartbeat.
    pub(super) fn status(&self, written: u64) -> String {
        let mut text = format!(
            "following {} deckies, {written} events written",
            self.sources.len()
        );
        if self.damaged > 0 {
            text.push_str(&format!(", {} damaged lines skipped", self.damaged));
        }
        text
    }
}

/// Takes in the lines of one source.
struct Intake<'a> {
    decky: &'a str,
    dir: &'a std::path::Path,
    artifacts: &'a std::path::Path,
    replay: &'a mut Option<Replay>,
    pending: &'a mut Pending,
    damaged: u64,
}

impl Intake<'_> {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let Some((text, event)) = self.judge(line) else {
            self.damaged += 1;
            return Ok(());
        };
        if let Some(sha256) = artifact::named(&event) {
            artifact::stow(self.dir, self.artifacts, sha256)
                .with_context(|| format!("storing the file {sha256}"))?;
        }
        let (in_log, in_json) = match self.replay {
            Some(replay) => (replay.log.take(&event.eid), replay.json.take(&event.eid)),
            None => (false, false),
        };
        if !in_log {
            self.pending.log.extend_from_slice(text.as_bytes());
            self.pending.log.push(b'\n');
        }
        if !in_json {
            let json = syslog::to_json(&event, text);
            self.pending.json.extend_from_slice(json.as_bytes());
            self.pending.json.push(b'\n');
            self.pending.events += 1;
        }
        Ok(())
    }

    /// The line as an event, if it is one and speaks only for its own decky: a decky
    /// that was taken over must not write the others' history.
    fn judge<'l>(&self, line: &'l [u8]) -> Option<(&'l str, Event)> {
        let text = std::str::from_utf8(line).ok()?;
        if text.chars().any(char::is_control) {
            return None;
        }
        let event = syslog::parse(text).ok()?;
        let named = event.decky == self.decky;
        let identified = !event.eid.is_empty() && event.eid.len() <= EID_MAX;
        (named && identified).then_some((text, event))
    }
}
