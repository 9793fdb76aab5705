//! One turn of the collector: read a bounded piece of every spool, append it to both
//! event files, then remember how far that was. In this order a kill leaves the files
//! ahead of the memory; what is ahead is recognised by its event ids and not written
//! again.
//!
//! When a rotation lost lines (written between the end of logrotate's copy and its
//! truncation), or a kill left it unclear what the files account for, every spool is
//! read again from its oldest kept segment, and what the files and their rotated copies
//! hold is skipped.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;

use crate::capture::rotation::Writer;
use crate::capture::seen::Seen;
use crate::config::Config;
use crate::model::Event;
use crate::syslog;
use crate::worker::collector::artifact;
use crate::worker::collector::sink::Sink;
use crate::worker::collector::source::Source;
use crate::worker::collector::state::{State, Written};

/// Most bytes read in one turn, over all sources; bounds memory.
const TURN_BYTES: usize = 1024 * 1024;
/// Longest event id accepted.
const EID_MAX: usize = 64;

/// Events already in the files that will be read once more.
#[derive(Debug, Default)]
struct Replay {
    log: Seen,
    json: Seen,
    /// The cursors went back; otherwise only a tail was not accounted for.
    rewound: bool,
    /// What the memory must go on saying until the replay is over.
    before: (Written, Written),
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
    known: BTreeMap<String, super::state::Cursor>,
    sources: BTreeMap<String, Source>,
    turns: usize,
    pending: Option<Pending>,
    replay: Option<Replay>,
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
        let state = State::load(&memory);
        let mut engine = Self {
            deckies: config.paths.deckies(),
            artifacts: config.paths.artifacts.clone(),
            memory,
            most_kept: config.spool_max_bytes / 4,
            log: open(&config.paths.event_log)?,
            json: open(&config.paths.event_json())?,
            known: state.sources.clone(),
            sources: BTreeMap::new(),
            turns: 0,
            pending: None,
            replay: None,
            damaged: 0,
            buffer: Vec::new(),
        };
        if let Err(error) = engine.scan() {
            tracing::warn!("{error:#}");
        }
        if !state.replaying
            && engine.log.continues(&state.log)
            && engine.json.continues(&state.json)
        {
            engine.resume(state)?;
        } else {
            engine.recover()?;
        }
        Ok(engine)
    }

    /// Goes on from the memory: only what was appended after it may come again.
    fn resume(&mut self, state: State) -> anyhow::Result<()> {
        let mut replay = Replay::default();
        self.log.collect(state.log.bytes, &mut replay.log)?;
        self.json.collect(state.json.bytes, &mut replay.json)?;
        if replay.log.len() + replay.json.len() > 0 {
            for source in self.sources.values_mut() {
                source.hold()?;
            }
            replay.before = (state.log, state.json);
            self.replay = Some(replay);
        }
        Ok(())
    }

    /// Reads every spool from its oldest segment again, skipping what the files hold.
    fn recover(&mut self) -> anyhow::Result<()> {
        let mut replay = Replay {
            rewound: true,
            ..Replay::default()
        };
        for (sink, seen) in [(&self.log, &mut replay.log), (&self.json, &mut replay.json)] {
            sink.collect_copy(seen)?;
            sink.collect(0, seen)?;
        }
        self.pending = None;
        for source in self.sources.values_mut() {
            source.rewind()?;
        }
        self.replay = Some(replay);
        self.save()
    }

    /// Takes up new deckies, lets go of vanished ones, deletes read segments.
    pub(super) fn scan(&mut self) -> anyhow::Result<()> {
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
        self.sweep().and(trouble)
    }

    fn scan_one(&mut self, name: &str) -> io::Result<()> {
        if let Some(source) = self.sources.get_mut(name) {
            return source.look();
        }
        let known = self.known.get(name).cloned();
        let mut source = Source::open(self.deckies.join(name), known)?;
        if self.replay.as_ref().is_some_and(|r| r.rewound) {
            source.rewind()?;
        }
        self.known.remove(name);
        self.sources.insert(name.to_owned(), source);
        Ok(())
    }

    fn sweep(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let kept = self.most_kept;
        // During a replay nothing is surely written yet.
        if self.replay.is_some() || !self.sources.values().any(|s| s.has_litter(now, kept)) {
            return Ok(());
        }
        // Only what the disk holds may go from the spool.
        self.log.sync()?;
        self.json.sync()?;
        let mut trouble = Ok(());
        for source in self.sources.values_mut() {
            if let Err(error) = source.sweep(now, kept) {
                trouble =
                    Err(error).with_context(|| format!("cleaning {}", source.dir().display()));
            }
        }
        trouble
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
        let mut lost = false;
        for sink in [&mut self.log, &mut self.json] {
            let path = sink.path().display().to_string();
            match sink.check().with_context(|| format!("looking at {path}"))? {
                Writer::Intact => {}
                Writer::Rotated => {
                    tracing::info!("{path} was rotated");
                    lost |= torn;
                }
                Writer::Lost(bytes) => {
                    tracing::info!(
                        "{path} was rotated; writing {bytes} bytes its copy missed again"
                    );
                    lost = true;
                }
                Writer::Emptied => tracing::warn!("{path} was emptied by somebody"),
            }
        }
        if lost { self.recover() } else { Ok(()) }
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
        if self.replay.is_some() && self.sources.values_mut().all(Source::caught_up) {
            self.replay = None;
        }
        if moved {
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

    fn save(&self) -> anyhow::Result<()> {
        let (log, json) = match &self.replay {
            Some(replay) => replay.before.clone(),
            None => (self.log.written(), self.json.written()),
        };
        let mut sources = self.known.clone();
        sources.extend(self.sources.iter().map(|(n, s)| (n.clone(), s.at.clone())));
        State {
            replaying: self.replay.as_ref().is_some_and(|r| r.rewound),
            log,
            json,
            sources,
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
