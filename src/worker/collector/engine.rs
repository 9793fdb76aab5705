//! One turn of the collector: read a bounded piece of every spool, append it to both
//! event files, then remember how far that was. In this order a kill leaves the files
//! ahead of the memory; what is ahead is recognised by its event ids and not written
//! again.
//!
//! What is done when the files are not what the memory says is in [`rewind`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::capture::rate::Bucket;
use crate::config::Config;
use crate::model::Stamp;
use crate::net::store::Store;
use crate::worker::collector::intake::{Intake, Pending, Replay};
use crate::worker::collector::sink::Sink;
use crate::worker::collector::source::{Pace, Piece, Source};
use crate::worker::collector::state::{Change, Cursor, Memory, Moment, State};
use crate::worker::collector::streams;
use crate::worker::collector::watch::{Changes, Watch};

mod rewind;

/// Bytes read in one turn, shared by all sources that have something.
const TURN_BYTES: usize = 1024 * 1024;
/// Smallest share; with very many busy sources a turn is longer.
const SHARE_MIN: usize = 16 * 1024;
/// Largest share: how long the others wait while one source is flooded.
const SHARE_MAX: usize = 128 * 1024;
/// Most bytes read in one turn; bounds memory.
const TURN_MAX: usize = 8 * 1024 * 1024;
/// Least time between two remembered moments; logrotate's copy and truncation lie closer
/// together than those that are remembered.
const MOMENT: Duration = Duration::from_secs(2);
/// How often what was shed from one source is reported, microseconds.
const SHED_EVERY: i64 = 1_000_000;
/// Shortest event line: a spool holds at most so many of its bytes' worth.
const LINE_MIN: u64 = 128;
/// Before the name of a stream among the sources; no decky's name begins with it.
pub(super) const STREAM: char = '~';

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
    streams: PathBuf,
    store: Store,
    memory: Memory,
    most_kept: u64,
    rate: u64,
    burst: u64,
    log: Sink,
    json: Sink,
    /// Cursors of spools not seen since the start.
    known: BTreeMap<String, Cursor>,
    sources: BTreeMap<String, Source>,
    /// Tells which spools grew; without it all are looked at.
    watch: Option<Watch>,
    /// Sources the kernel would not watch.
    unwatched: BTreeSet<String>,
    /// Sources that may have something to read.
    hot: BTreeSet<String>,
    /// Sources read since the memory was written.
    moved: BTreeSet<String>,
    /// Sources with events shed and not reported.
    shedding: BTreeSet<String>,
    /// The source the next turn begins with.
    resume: String,
    pending: Option<Pending>,
    replay: Option<Replay>,
    /// A rotation lost lines, and they are not being read again yet.
    lost: bool,
    /// What was saved last.
    state: State,
    remembered: Instant,
    /// The present moment is one to go back to.
    keep: bool,
    damaged: u64,
    /// Events shed, by decky.
    shed: BTreeMap<String, u64>,
    /// Spools that cannot be read, and why.
    refused: BTreeMap<String, String>,
    buffer: Vec<u8>,
}

impl Engine {
    /// Opens the event files and finds out what they hold beyond the memory.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let open = |path: &std::path::Path| {
            Sink::open(path).with_context(|| format!("opening {}", path.display()))
        };
        fs::create_dir_all(&config.paths.state)
            .with_context(|| format!("creating {}", config.paths.state.display()))?;
        let rate = config.collector_max_events;
        let memory = Memory::new(config.paths.state.join("collector.json"));
        let state = memory.load();
        let mut engine = Self {
            deckies: config.paths.deckies(),
            streams: streams::root(config),
            store: Store::new(config.paths.artifacts.clone(), config.artifacts_max_bytes),
            memory,
            most_kept: config.spool_max_bytes / 4,
            rate,
            // What a full spool can hold is a backlog, not a flood.
            burst: rate.max(config.spool_max_bytes / LINE_MIN),
            log: open(&config.paths.event_log)?,
            json: open(&config.paths.event_json())?,
            known: BTreeMap::new(),
            sources: BTreeMap::new(),
            watch: None,
            unwatched: BTreeSet::new(),
            hot: BTreeSet::new(),
            moved: BTreeSet::new(),
            shedding: BTreeSet::new(),
            resume: String::new(),
            pending: None,
            replay: None,
            lost: false,
            state,
            remembered: Instant::now(),
            keep: false,
            damaged: 0,
            shed: BTreeMap::new(),
            refused: BTreeMap::new(),
            buffer: Vec::new(),
        };
        let now = engine.state.now.clone();
        engine.go_back(&now)?;
        Ok(engine)
    }

    /// From now on only what `watch` tells is looked at.
    pub(super) fn watch_with(&mut self, watch: Watch) -> anyhow::Result<()> {
        self.watch = Some(watch);
        self.note(Changes {
            all: true,
            ..Changes::default()
        })
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

    /// Looks whether the directories of spools appeared, which cannot be watched before,
    /// and at spools that could not be watched.
    pub(super) fn roots(&mut self) -> anyhow::Result<()> {
        let fresh = self.watch.as_ref().is_some_and(|watch| {
            [&self.deckies, &self.streams]
                .iter()
                .any(|root| watch.root(root))
        });
        if fresh {
            return self.discover();
        }
        for key in &self.unwatched {
            // What keeps it from being looked at was said at the last full look.
            if self.sources.get_mut(key).is_some_and(|s| s.look().is_ok()) {
                self.hot.insert(key.clone());
            }
        }
        Ok(())
    }

    /// Takes up what the watch saw.
    pub(super) fn note(&mut self, changes: Changes) -> anyhow::Result<()> {
        if changes.all {
            return self.discover();
        }
        for key in &changes.entries {
            if let Some(source) = self.sources.get_mut(key)
                && let Err(error) = source.look()
            {
                self.refuse(key, &error);
            }
        }
        self.hot.extend(changes.grown);
        self.hot.extend(changes.entries);
        Ok(())
    }

    /// Looks at everything, watched or not: takes up new spools, lets go of vanished ones.
    pub(super) fn discover(&mut self) -> anyhow::Result<()> {
        let mut present: BTreeMap<String, PathBuf> = BTreeMap::new();
        for (prefix, root) in [(None, &self.deckies), (Some(STREAM), &self.streams)] {
            if let Some(watch) = &self.watch {
                watch.root(root);
            }
            let entries = match fs::read_dir(root) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("reading {}", root.display()));
                }
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if entry.file_type()?.is_dir() {
                    let key = prefix.into_iter().chain(name.chars()).collect();
                    present.insert(key, entry.path());
                }
            }
        }
        self.sources.retain(|key, _| present.contains_key(key));
        self.refused.retain(|key, _| present.contains_key(key));
        self.unwatched.retain(|key| present.contains_key(key));
        for (key, dir) in present {
            // One decky's trouble is its own: the others are looked at all the same.
            if let Err(error) = self.look_at(&key, dir) {
                self.refuse(&key, &error);
            }
        }
        self.hot = self.sources.keys().cloned().collect();
        Ok(())
    }

    fn look_at(&mut self, key: &str, dir: PathBuf) -> io::Result<()> {
        if let Some(watch) = &self.watch {
            // Before looking: what comes later is told.
            match watch.spool(&dir, key) {
                Ok(()) => {
                    self.unwatched.remove(key);
                }
                Err(error) => {
                    if self.unwatched.is_empty() {
                        tracing::warn!(
                            "{} cannot be watched ({error}) and is looked at every second; fs.inotify.max_user_watches says how many can",
                            dir.display()
                        );
                    }
                    self.unwatched.insert(key.to_owned());
                }
            }
        }
        if let Some(source) = self.sources.get_mut(key) {
            return source.look();
        }
        let known = self.known.get(key).cloned();
        let now = Stamp::now();
        let pace = Pace {
            events: Bucket::new(self.rate, self.burst, now),
            credentials: Bucket::new(self.rate, self.burst, now),
        };
        let source = Source::open(dir, key.trim_start_matches(STREAM), known, pace)?;
        if source.at.shed.count > 0 {
            self.shedding.insert(key.to_owned());
        }
        self.known.remove(key);
        self.moved.insert(key.to_owned());
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }

    /// A spool that cannot be read is said once and does not hold up anybody.
    fn refuse(&mut self, key: &str, error: &io::Error) {
        let why = error.to_string();
        if self.refused.get(key) != Some(&why) {
            tracing::warn!("the spool of {key} cannot be read: {why}");
            self.refused.insert(key.to_owned(), why);
        }
    }

    /// Deletes segments nobody needs.
    pub(super) fn sweep(&mut self) -> anyhow::Result<()> {
        // Until these are written, the memory does not tell what is needed.
        if self.replay.is_some() || self.pending.is_some() {
            return Ok(());
        }
        if self.state.history.len() > 1 && self.remembered.elapsed() > MOMENT * 8 {
            // Long quiet: nothing before this moment can get lost any more.
            self.forget_moments()?;
        }
        let kept = self.most_kept;
        let litter: Vec<(String, u64)> = (self.sources.iter())
            .filter(|(_, source)| source.keeps_litter())
            .map(|(key, source)| (key, source, self.floor(key)))
            .filter(|(_, source, floor)| source.has_litter(*floor, kept))
            .map(|(key, _, floor)| (key.clone(), floor))
            .collect();
        if litter.is_empty() {
            return Ok(());
        }
        // Only what the disk holds may go from the spool.
        self.log.sync()?;
        self.json.sync()?;
        for (key, floor) in litter {
            let outcome = (self.sources.get_mut(&key)).map(|s| s.sweep(floor, kept));
            if let Some(Err(error)) = outcome {
                self.refuse(&key, &error);
            }
        }
        Ok(())
    }

    /// As after a long quiet.
    pub(super) fn forget_moments(&mut self) -> anyhow::Result<()> {
        self.state.history.clear();
        self.remember();
        self.save_all()
    }

    /// First segment of a spool that a moment to go back to needs.
    fn floor(&self, key: &str) -> u64 {
        self.state
            .history
            .iter()
            .map(|m| m.sources.get(key).map_or(0, |c| c.segment))
            .min()
            .unwrap_or(0)
    }

    /// Whether a turn would find something: a few cheap looks.
    pub(super) fn waiting(&mut self) -> bool {
        if self.watch.is_none() {
            self.hot.extend(self.sources.keys().cloned());
        }
        let sources = &self.sources;
        self.hot
            .retain(|key| sources.get(key).is_some_and(Source::waiting));
        self.pending.is_some() || !self.hot.is_empty() || self.shed_due(Stamp::now()).is_some()
    }

    /// A source whose shed events should be reported.
    fn shed_due(&self, now: Stamp) -> Option<&String> {
        self.shedding.iter().find(|key| {
            let shed = self.sources.get(*key).map(|s| &s.at.shed);
            shed.is_some_and(|s| now.0 < s.from || now.0 - s.from >= SHED_EVERY)
        })
    }

    /// Moves one bounded piece.
    ///
    /// # Errors
    /// When a file cannot be written; nothing is lost and the next turn goes on there.
    pub(super) fn turn(&mut self) -> anyhow::Result<Turn> {
        self.check_rotation()?;
        let mut trouble = None;
        // Who has something new need not wait for the end of a flood.
        if let Some(changes) = self.watch.as_ref().and_then(Watch::so_far) {
            trouble = self.note(changes).err();
        }
        if self.pending.is_none() {
            let mut pending = Pending::default();
            trouble = self.gather(&mut pending).err().or(trouble);
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
        let moved = pending.read > 0 || pending.more || pending.events > 0;
        self.pending = None;
        let over = self.replay.is_some() && self.sources.values_mut().all(Source::caught_up);
        if over {
            self.replay = None;
            self.remember();
            self.save_all()?;
        } else if moved && self.replay.is_none() {
            if self.remembered.elapsed() >= MOMENT {
                self.remember();
            }
            self.save()?;
        }
        Ok(turn)
    }

    /// Reads from every source that has something, an equal share of the turn each; when
    /// that is too much for one turn, the next begins where this one ended. So a flooded
    /// decky never starves the others. A source that fails does not stop the others
    /// either; its error is reported at the end.
    fn gather(&mut self, pending: &mut Pending) -> anyhow::Result<()> {
        if self.watch.is_none() {
            self.hot.extend(self.sources.keys().cloned());
        }
        let mut keys: Vec<String> = (self.hot.range(self.resume.clone()..))
            .chain(self.hot.range(..self.resume.clone()))
            .cloned()
            .collect();
        keys.retain(|key| self.sources.get(key).is_some_and(Source::waiting));
        let share = (TURN_BYTES / keys.len().max(1)).clamp(SHARE_MIN, SHARE_MAX);
        let now = Stamp::now();
        let mut outcome = Ok(());
        for key in keys {
            if pending.read >= TURN_MAX {
                pending.more = true;
                self.resume = key;
                break;
            }
            match self.read_one(&key, share, now, pending) {
                Ok(piece) => {
                    pending.read += piece.read;
                    pending.more |= piece.more;
                    if let Some(error) = piece.refused {
                        self.refuse(&key, &error);
                    } else if piece.read > 0 {
                        self.refused.remove(&key);
                    }
                    if !piece.more {
                        self.hot.remove(&key);
                    }
                }
                Err(error) => {
                    pending.read += 1;
                    outcome = Err(error.context(format!("reading the spool of {key}")));
                }
            }
        }
        self.report_shed(now, pending);
        self.report_evicted(now, pending);
        // A flood leaves nothing allocated behind.
        if !pending.more {
            self.buffer = Vec::new();
        }
        outcome
    }

    fn read_one(
        &mut self,
        key: &str,
        share: usize,
        now: Stamp,
        pending: &mut Pending,
    ) -> anyhow::Result<Piece> {
        let Some(source) = self.sources.get_mut(key) else {
            return Ok(Piece::default());
        };
        self.moved.insert(key.to_owned());
        source.pace.events.fill(now);
        source.pace.credentials.fill(now);
        let dir = source.dir().to_owned();
        let mut intake = Intake {
            // A worker's own spool speaks for every decky: the directories lie in one that
            // no decky may write to, and no decky's name begins so.
            decky: (!key.starts_with(STREAM) && !key.starts_with('_')).then_some(key),
            dir: &dir,
            store: &mut self.store,
            replay: &mut self.replay,
            pending,
            now,
            damaged: 0,
        };
        let piece = source.read(&mut self.buffer, share, |line, at, pace, decky| {
            intake.take(line, at, pace, decky)
        });
        let damaged = intake.damaged + piece.as_ref().map_or(0, |p| p.damaged);
        if source.at.shed.count > 0 {
            self.shedding.insert(key.to_owned());
        }
        if damaged > 0 {
            tracing::warn!("{damaged} damaged lines in the spool of {key} were skipped");
            self.damaged += damaged;
        }
        piece
    }

    /// One event per source and second stands for all that were shed.
    fn report_shed(&mut self, now: Stamp, pending: &mut Pending) {
        while let Some(key) = self.shed_due(now).cloned() {
            self.shedding.remove(&key);
            let Some(source) = self.sources.get_mut(&key) else {
                continue;
            };
            let shed = std::mem::take(&mut source.at.shed);
            pending.push_shed(&source.decky, &key, &source.at, &shed);
            let total = self.shed.entry(source.decky.clone()).or_default();
            *total += shed.count;
            tracing::warn!(
                "{}: {} events shed, {total} in all",
                source.decky,
                shed.count
            );
            self.moved.insert(key);
        }
        let sources = &self.sources;
        self.shedding.retain(|key| sources.contains_key(key));
    }

    fn report_evicted(&mut self, now: Stamp, pending: &mut Pending) {
        for (decky, (files, bytes)) in self.store.take_evicted() {
            tracing::warn!(
                "{files} captured files of {decky} ({bytes} bytes) made room for others"
            );
            pending.push_evicted(&decky, files, bytes, now);
        }
    }

    /// Writes what changed since the last saving. While events are read a second time,
    /// the memory stays where it is.
    fn save(&mut self) -> anyhow::Result<()> {
        if self.replay.is_some() {
            return Ok(());
        }
        let change = Change {
            log: self.log.written(),
            json: self.json.written(),
            sources: (self.moved.iter())
                .filter_map(|key| Some((key.clone(), self.sources.get(key)?.at.clone())))
                .collect(),
            keep: self.keep,
        };
        self.memory
            .change(&mut self.state, change)
            .context("writing the collector's memory")?;
        self.moved.clear();
        self.keep = false;
        Ok(())
    }

    /// Writes everything.
    fn save_all(&mut self) -> anyhow::Result<()> {
        self.state.now = match &self.replay {
            Some(replay) => replay.from.clone(),
            None => self.now(),
        };
        if self.replay.is_none() {
            self.moved.clear();
            if std::mem::take(&mut self.keep) {
                self.state.keep();
            }
        }
        self.memory
            .save(&mut self.state)
            .context("writing the collector's memory")
    }

    /// In words, for the heartbeat.
    pub(super) fn status(&self, written: u64) -> String {
        let streams = (self.sources.range(STREAM.to_string()..)).count();
        let mut text = format!("following {} deckies", self.sources.len() - streams);
        if streams > 0 {
            text.push_str(&format!(" and {streams} containers"));
        }
        text.push_str(&format!(", {written} events written"));
        if self.damaged > 0 {
            text.push_str(&format!(", {} damaged lines skipped", self.damaged));
        }
        if let Some((decky, most)) = self.shed.iter().max_by_key(|(_, n)| **n) {
            let all: u64 = self.shed.values().sum();
            text.push_str(&format!(", {all} events shed (most, {most}, from {decky})"));
        }
        if let Some((key, why)) = self.refused.first_key_value() {
            let count = self.refused.len();
            text.push_str(&format!(", {count} spools unreadable ({key}: {why})"));
        }
        text
    }

    /// Events shed so far, by decky.
    pub(super) fn shed(&self) -> &BTreeMap<String, u64> {
        &self.shed
    }
}
