//! What the operator's own containers print, made into spools: one directory per
//! container, filled from the engine's log API, read by the engine of this worker like
//! the spool of any decky. So exactly-once below here is the spools' business, and here
//! it is this: a line goes into the spool together with its place in the container's
//! output (the engine's stamp, and which frame of that stamp), and after any
//! interruption following goes on behind the last place the spool holds.
//!
//! A container made anew has another id and begins anew. What the engine's own rotation
//! threw away before it was read (only possible while this worker was away) is gone. No
//! engine is a silent wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::capture::lines::Lines;
use crate::config::Config;
use crate::docker::Engine;
use crate::docker::logs::{self, Container, Frame};
use crate::model::{Event, Severity, Stamp};
use crate::net::{file, tail};
use crate::syslog::{self, spool};
use crate::worker::collector::intake::derived_id;
use crate::worker::collector::source::CHUNK;

/// How often the engine is asked for containers.
const LIST: Duration = Duration::from_secs(3);
/// Longest wait for an engine that does not answer.
const BACK_OFF: Duration = Duration::from_secs(30);
/// How often a container that is not running is read to its end again.
const REST: Duration = Duration::from_secs(30);
/// How long the spool of a container that is gone is kept: it was read long before.
const GONE: Duration = Duration::from_secs(600);
/// How often the place is written down; after a kill the spool is read from there.
const SAVE: Duration = Duration::from_secs(1);
/// After how long a silence it is asked for the first time whether there is more: the
/// engine's follower may miss that it rotated the log while following began, and then
/// tells nothing until the next rotation, and never what lay between.
const QUIET: Duration = Duration::from_millis(150);
/// Longest silence after which it is asked again.
const QUIET_MAX: Duration = Duration::from_secs(60);
/// How long the engine may take to answer that; meanwhile nothing else of the container is
/// read.
const QUIET_ANSWER: Duration = Duration::from_secs(2);
/// Longest part of a plain line that is kept; escaped it still fits a reading.
const LINE_MAX: usize = 16 * 1024;
/// Longest line that may be an event of its own.
const EVENT_MAX: usize = 128 * 1024;
/// The two streams of a container are stamped side by side: so much earlier than the
/// latest stamp the other may still speak.
const MARGIN: i64 = 2;

/// Parent of the spools made here. Below the state directory: containers outlive a
/// reboot, and so must their cursors.
pub(super) fn root(config: &Config) -> PathBuf {
    config.paths.state.join("streams")
}

/// A place in one stream: a stamp, and how many frames of that stamp were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct At {
    stamp: i64,
    taken: u32,
}

/// How far a container's output is in its spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    stdout: At,
    stderr: At,
    /// Where in the spool this was true.
    segment: u64,
    offset: u64,
}

impl Place {
    fn of(&mut self, stderr: bool) -> &mut At {
        if stderr {
            &mut self.stderr
        } else {
            &mut self.stdout
        }
    }

    /// From when on the engine is asked, seconds.
    fn since(&self) -> i32 {
        let latest = self.stdout.stamp.max(self.stderr.stamp) / 1_000_000_000;
        i32::try_from((latest - MARGIN).max(0)).unwrap_or(i32::MAX)
    }

    /// Reads what was written down, then what the spool holds beyond it.
    fn recover(dir: &Path) -> io::Result<Self> {
        let mut place: Self = match fs::read(dir.join("cursor.json")) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error),
        };
        for number in spool::segments(dir)? {
            if number < place.segment {
                continue;
            }
            let mut from = if number == place.segment {
                place.offset
            } else {
                0
            };
            let segment = tail::open_plain(&spool::segment_path(dir, number))?;
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = tail::read_at(&segment, &mut chunk, from)?;
                let mut lines = Lines::new(chunk.get(..read).unwrap_or_default(), false, false);
                for line in lines.by_ref() {
                    place.pass(line);
                }
                if lines.used() == 0 {
                    break;
                }
                from += lines.used() as u64;
            }
            place.segment = number;
            place.offset = from;
        }
        Ok(place)
    }

    fn pass(&mut self, line: &[u8]) {
        let event = std::str::from_utf8(line)
            .ok()
            .and_then(|t| syslog::parse(t).ok());
        let Some(event) = event else { return };
        // Ours are the last: the image's own fields come before.
        let mut own = event.fields.iter().rev();
        let mut last = |key: &str| {
            own.next()
                .filter(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        let taken = last("nth").and_then(|n| n.parse().ok());
        let stamp = last("stamp").and_then(|n| n.parse().ok());
        let stderr = last("stream").map(|s| s == "stderr");
        if let (Some(taken), Some(stamp), Some(stderr)) = (taken, stamp, stderr) {
            let at = self.of(stderr);
            *at = (*at).max(At { stamp, taken });
        }
    }

    fn save(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        file::write_volatile(&dir.join("cursor.json"), &text, 0o640)
    }
}

/// Writes down the places of all spools, before anybody deletes what they hold.
///
/// # Errors
/// The last trouble; the other spools are done all the same.
pub(super) fn recover(root: &Path) -> io::Result<()> {
    let mut outcome = Ok(());
    for dir in directories(root)? {
        if let Err(error) = Place::recover(&dir).and_then(|place| place.save(&dir)) {
            outcome = Err(error);
        }
    }
    outcome
}

fn directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(root) {
        Ok(entries) => Ok(entries.flatten().map(|e| e.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Frames of one stream on their way to lines.
#[derive(Debug, Default)]
struct Assembly {
    /// Stamp of the last frame, and how many had it.
    at: At,
    line: Vec<u8>,
    /// Where the line began.
    began: At,
    /// The frame that ended the last line.
    last: Vec<u8>,
}

/// A line, where it began, and where its last frame was.
type Line = (At, Vec<u8>, At);

impl Assembly {
    /// Takes a frame in; the lines that are whole now.
    fn take(&mut self, frame: &Frame) -> Vec<Line> {
        let same = frame.stamp == self.at.stamp;
        // An engine that turns to its next file tells the last line of the old one again:
        // the same bytes at the same nanosecond, right behind each other.
        if self.line.is_empty() && same && frame.text == self.last {
            return Vec::new();
        }
        // The parts of a long line share a stamp; what a program left unfinished when it
        // ended is a line too.
        let mut whole = Vec::new();
        if !same {
            whole.extend(self.finish());
        }
        self.at = At {
            stamp: frame.stamp,
            taken: if same {
                self.at.taken.saturating_add(1)
            } else {
                1
            },
        };
        if self.line.is_empty() {
            self.began = self.at;
        }
        let room = EVENT_MAX.saturating_sub(self.line.len());
        let part = frame.text.get(..frame.text.len().min(room));
        self.line.extend_from_slice(part.unwrap_or_default());
        if frame.text.last() == Some(&b'\n') {
            self.last.clone_from(&frame.text);
            whole.extend(self.finish());
        }
        whole
    }

    /// What there is of a line.
    fn finish(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then_some((self.began, line, self.at))
    }
}

/// One container's spool, being filled.
struct Follower {
    container: Container,
    dir: PathBuf,
    writer: spool::Writer,
    place: Place,
    parts: [Assembly; 2],
    saved: Instant,
}

impl Follower {
    fn open(root: &Path, container: Container, max_bytes: u64) -> io::Result<Self> {
        let dir = root.join(&container.id);
        fs::create_dir_all(&dir)?;
        let place = Place::recover(&dir)?;
        place.save(&dir)?;
        let writer = spool::Writer::open(&dir, max_bytes)?;
        Ok(Self {
            container,
            dir,
            writer,
            place,
            parts: Default::default(),
            saved: Instant::now(),
        })
    }

    /// Puts a frame into the spool, unless it is there.
    fn take(&mut self, frame: &Frame) -> io::Result<()> {
        let [stdout, stderr] = &mut self.parts;
        let parts = if frame.stderr { stderr } else { stdout };
        for line in parts.take(frame) {
            self.put(frame.stderr, line)?;
        }
        Ok(())
    }

    /// The program ended: what it left unfinished will not be continued.
    fn finish(&mut self) -> io::Result<()> {
        for (stderr, at) in [(false, 0), (true, 1)] {
            let line = self.parts.get_mut(at).and_then(Assembly::finish);
            line.map_or(Ok(()), |line| self.put(stderr, line))?;
        }
        Ok(())
    }

    fn put(&mut self, stderr: bool, (began, line, end): Line) -> io::Result<()> {
        let done = self.place.of(stderr);
        if end <= *done {
            return Ok(());
        }
        let event = self.event(stderr, began, end, &line);
        let dropped = self.writer.append(&syslog::write(&event))?;
        if dropped > 0 {
            self.writer.append(&syslog::write(&self.dropped(dropped)))?;
        }
        *self.place.of(stderr) = end;
        let (segment, offset) = self.writer.position();
        let rolled = segment != self.place.segment;
        (self.place.segment, self.place.offset) = (segment, offset);
        if rolled || self.saved.elapsed() >= SAVE {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> io::Result<()> {
        self.saved = Instant::now();
        self.place.save(&self.dir)
    }

    fn event(&self, stderr: bool, began: At, end: At, line: &[u8]) -> Event {
        let stream = if stderr { "stderr" } else { "stdout" };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        let ts = Stamp(began.stamp / 1000);
        let own = syslog::parse(&text).ok().filter(|_| text.len() < EVENT_MAX);
        let mut event = own.unwrap_or_else(|| Event {
            eid: String::new(),
            ts,
            severity: if stderr {
                Severity::Warning
            } else {
                Severity::Info
            },
            decky: String::new(),
            service: String::new(),
            kind: "output".to_owned(),
            flow: None,
            fields: vec![("line".to_owned(), text.chars().take(LINE_MAX).collect())],
            msg: String::new(),
        });
        // Whatever the image says of itself: the same line is the same event, and an
        // event of this decky and service.
        event.eid = derived_id(
            &[
                self.container.id.as_bytes(),
                stream.as_bytes(),
                &began.stamp.to_be_bytes(),
                &began.taken.to_be_bytes(),
            ],
            ts,
        );
        event.decky.clone_from(&self.container.decky);
        event.service.clone_from(&self.container.service);
        for (key, value) in [
            ("container", self.container.id.chars().take(12).collect()),
            ("stream", stream.to_owned()),
            ("stamp", end.stamp.to_string()),
            ("nth", end.taken.to_string()),
        ] {
            event.fields.push((key.to_owned(), value));
        }
        event
    }

    fn dropped(&self, bytes: u64) -> Event {
        Event {
            eid: ulid::Ulid::generate().to_string(),
            ts: Stamp::now(),
            severity: Severity::Error,
            decky: self.container.decky.clone(),
            service: self.container.service.clone(),
            kind: "spool_dropped".to_owned(),
            flow: None,
            fields: Vec::new(),
            msg: format!("{bytes} bytes of unread events were dropped"),
        }
    }
}

/// Follows one container until it or the engine stops.
async fn follow(
    engine: Engine,
    root: PathBuf,
    container: Container,
    max_bytes: u64,
    stop: CancellationToken,
) -> Result<(), String> {
    let (id, ended) = (container.id.clone(), !container.running);
    let spool = |e: io::Error| format!("the spool: {e}");
    let mut follower = Follower::open(&root, container, max_bytes).map_err(spool)?;
    let mut frames = std::pin::pin!(logs::follow(&engine, &id, follower.place.since()));
    let mut save = tokio::time::interval(SAVE);
    let mut dirty = false;
    let mut seen = follower.place.stdout.stamp.max(follower.place.stderr.stamp);
    let (mut quiet, mut suspect) = (QUIET, false);
    let look = tokio::time::sleep(quiet);
    tokio::pin!(look);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            frame = frames.next() => match frame {
                None if ended => {
                    follower.finish().map_err(spool)?;
                    break;
                }
                None => break,
                Some(frame) => {
                    let frame = frame?;
                    seen = seen.max(frame.stamp);
                    follower.take(&frame).map_err(spool)?;
                    (dirty, suspect) = (true, false);
                    look.as_mut().reset(tokio::time::Instant::now() + quiet);
                }
            },
            () = &mut look, if !ended => {
                let last = tokio::time::timeout(QUIET_ANSWER, logs::last(&engine, &id)).await;
                let more = matches!(last, Ok(Ok(last)) if last > Some(seen));
                // What was printed just now may be on its way.
                if more && suspect {
                    tracing::debug!("container {id} printed more than its follower tells");
                    break;
                }
                suspect = more;
                if !more {
                    quiet = (quiet * 2).min(QUIET_MAX);
                }
                look.as_mut().reset(tokio::time::Instant::now() + quiet);
            }
            _ = save.tick(), if dirty => {
                follower.save().map_err(spool)?;
                dirty = false;
            }
        }
    }
    follower.save().map_err(spool)
}

/// Keeps a follower on every service container until told to stop.
pub(super) async fn run(config: Arc<Config>, stop: CancellationToken) {
    let mut fleet = Streams {
        root: root(&config),
        max_bytes: config.spool_max_bytes,
        socket: config.docker_socket.clone(),
        home: config.paths.deckies(),
        stop: stop.clone(),
        tasks: JoinSet::new(),
        followed: BTreeSet::new(),
        rested: HashMap::new(),
        gone: BTreeMap::new(),
    };
    let mut pause = LIST;
    let mut silent = true;
    while !stop.is_cancelled() {
        if fleet.socket.exists() {
            match fleet.look().await {
                Ok(()) => (pause, silent) = (LIST, false),
                Err(error) => {
                    // Said once, not for as long as the engine is away.
                    if !silent {
                        tracing::warn!("containers cannot be followed for now: {error}");
                    }
                    (pause, silent) = ((pause * 2).min(BACK_OFF), true);
                }
            }
        } else {
            (pause, silent) = (LIST, true);
        }
        let wake = tokio::time::sleep(pause);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = &mut wake => break,
                Some(ended) = fleet.tasks.join_next() => fleet.ended(ended),
            }
        }
    }
    while let Some(ended) = fleet.tasks.join_next().await {
        fleet.ended(ended);
    }
}

/// The container, whether it was running when following began, and what came of it.
type Ended = (String, bool, Result<(), String>);

struct Streams {
    root: PathBuf,
    max_bytes: u64,
    socket: PathBuf,
    /// Directory of this installation's deckies.
    home: PathBuf,
    stop: CancellationToken,
    tasks: JoinSet<Ended>,
    followed: BTreeSet<String>,
    /// When a container that is not running was read to its end.
    rested: HashMap<String, Instant>,
    /// Since when a container is not there any more.
    gone: BTreeMap<PathBuf, Instant>,
}

impl Streams {
    async fn look(&mut self) -> Result<(), String> {
        let engine = Engine::connect(&self.socket).await;
        let Some(engine) = engine.map_err(|e| format!("{e:#}"))? else {
            return Ok(());
        };
        let found = logs::containers(&engine, &self.home).await?;
        self.clear(&found);
        for container in found {
            let (id, running) = (container.id.clone(), container.running);
            let hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
            let resting =
                !container.running && self.rested.get(&id).is_some_and(|at| at.elapsed() < REST);
            if !hex || resting || !self.followed.insert(id.clone()) {
                continue;
            }
            let task = follow(
                engine.clone(),
                self.root.clone(),
                container,
                self.max_bytes,
                self.stop.clone(),
            );
            self.tasks.spawn(async move { (id, running, task.await) });
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ok((id, was_running, outcome)) = ended else {
            tracing::error!("following a container panicked");
            self.followed.clear();
            return;
        };
        self.followed.remove(&id);
        match outcome {
            // It has just ended: once more, to the end.
            Ok(()) if was_running => {}
            Ok(()) => {
                self.rested.insert(id, Instant::now());
            }
            Err(error) => tracing::debug!("following container {id}: {error}"),
        }
    }

    /// Forgets containers that do not exist any more.
    fn clear(&mut self, found: &[Container]) {
        let ids: BTreeSet<&str> = found.iter().map(|c| c.id.as_str()).collect();
        self.rested.retain(|id, _| ids.contains(id.as_str()));
        for dir in directories(&self.root).unwrap_or_default() {
            let present =
                (dir.file_name().and_then(|n| n.to_str())).is_some_and(|n| ids.contains(n));
            if present {
                self.gone.remove(&dir);
                continue;
            }
            let since = self.gone.entry(dir.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= GONE {
                self.gone.remove(&dir);
                if let Err(error) = fs::remove_dir_all(&dir) {
                    tracing::warn!("removing {}: {error}", dir.display());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stamp: i64, text: &str) -> Frame {
        Frame {
            stderr: false,
            stamp,
            text: text.into(),
        }
    }

    fn container() -> Container {
        Container {
            id: "c".repeat(64),
            decky: "d".into(),
            service: "s".into(),
            running: true,
        }
    }

    fn lines(root: &Path) -> Vec<(String, String)> {
        let dir = root.join("c".repeat(64));
        let mut found = Vec::new();
        for number in spool::segments(&dir).unwrap() {
            let text = fs::read_to_string(spool::segment_path(&dir, number)).unwrap();
            for line in text.lines() {
                let event = syslog::parse(line).unwrap();
                found.push((event.eid.clone(), event.field("line").unwrap().to_owned()));
            }
        }
        found
    }

    /// The engine's log: lines that share a stamp, long ones in parts, one told twice,
    /// one without its end, and a program that began again.
    fn output() -> Vec<Frame> {
        vec![
            frame(1, "one\n"),
            frame(2, "two\n"),
            frame(2, "three\n"),
            frame(2, "three\n"),
            frame(3, "lo"),
            frame(3, "ng\n"),
            frame(4, "cut"),
            frame(5, "again\n"),
            frame(5, "\n"),
        ]
    }

    const LINES: [&str; 7] = ["one", "two", "three", "long", "cut", "again", ""];

    #[test]
    fn interrupted_after_any_frame_every_line_comes_once_under_the_same_id() {
        let reference = tempfile::tempdir().unwrap();
        let mut follower = Follower::open(reference.path(), container(), 1 << 20).unwrap();
        output().iter().for_each(|f| follower.take(f).unwrap());
        let expected = lines(reference.path());
        let texts: Vec<_> = expected.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, LINES);
        for (cut, saved) in (0..=output().len()).flat_map(|n| [(n, false), (n, true)]) {
            let dir = tempfile::tempdir().unwrap();
            let mut follower = Follower::open(dir.path(), container(), 1 << 20).unwrap();
            output()
                .iter()
                .take(cut)
                .for_each(|f| follower.take(f).unwrap());
            if saved {
                follower.save().unwrap();
            }
            drop(follower);
            recover(dir.path()).unwrap();
            let mut follower = Follower::open(dir.path(), container(), 1 << 20).unwrap();
            output().iter().for_each(|f| follower.take(f).unwrap());
            assert_eq!(lines(dir.path()), expected, "cut after {cut} frames");
        }
    }

    #[test]
    fn an_unfinished_line_is_kept_when_the_program_ended_and_not_told_again() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut follower = Follower::open(dir.path(), container(), 1 << 20).unwrap();
            follower.take(&frame(1, "cut")).unwrap();
            follower.finish().unwrap();
        }
        let mut follower = Follower::open(dir.path(), container(), 1 << 20).unwrap();
        follower.take(&frame(1, "cut")).unwrap();
        follower.take(&frame(2, "again\n")).unwrap();
        let found = lines(dir.path());
        let texts: Vec<_> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["cut", "again"]);
    }
}
