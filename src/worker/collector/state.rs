//! What the collector remembers across restarts: how far it read every spool, and how
//! much of the two event files those readings account for. Written after the event
//! files, so that after a kill the files may be ahead of it, never behind.
//!
//! It is a whole state (`collector.json`) and a journal of what changed since, one line
//! per turn: a turn that moved one spool of a thousand writes one cursor. A journal
//! belongs to the state whose generation it has in its name.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::Stamp;
use crate::net::file;

/// Moments remembered.
const MOMENTS: usize = 6;
/// A journal of this size is replaced by a new whole state.
const JOURNAL_BYTES: u64 = 4 * 1024 * 1024;

/// Events of one source that were not passed on, not reported yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shed {
    /// How many.
    pub(super) count: u64,
    /// When the first was met, microseconds.
    pub(super) from: i64,
    /// When the last was met, microseconds.
    pub(super) to: i64,
}

impl Shed {
    /// Counts one more.
    pub(super) fn add(&mut self, now: Stamp) {
        if self.count == 0 {
            self.from = now.0;
        }
        self.count += 1;
        self.to = now.0;
    }

    fn is_none(&self) -> bool {
        self.count == 0
    }
}

/// A place in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Segment number; 0 before the first.
    pub(super) segment: u64,
    /// Bytes read of it.
    pub(super) offset: u64,
    /// The segment's first bytes, see [`mark`]: a decky that was made anew begins its numbers
    /// again.
    #[serde(default)]
    pub(super) mark: String,
    /// The offset lies inside a line that is too long.
    #[serde(default)]
    pub(super) skipping: bool,
    /// Counted but not reported yet.
    #[serde(default, skip_serializing_if = "Shed::is_none")]
    pub(super) shed: Shed,
}

/// How much of an event file is accounted for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    /// Its size then.
    pub(super) bytes: u64,
    /// Its first bytes, see [`mark`].
    pub(super) mark: String,
}

/// First bytes of a file as hex: that of a file which grew since begins with it.
pub(super) fn mark(head: &[u8]) -> String {
    head.iter().map(|b| format!("{b:02x}")).collect()
}

/// Where everything stood at one moment: what was read, and what that put into the
/// files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// The line file.
    pub(super) log: Written,
    /// The JSON file.
    pub(super) json: Written,
    /// By decky directory.
    pub(super) sources: BTreeMap<String, Cursor>,
}

/// The whole memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Ties a journal to this state.
    #[serde(default)]
    generation: u64,
    /// The last moment that is fully accounted for.
    pub(super) now: Moment,
    /// Earlier ones, oldest first: where to go back to when a rotation lost what was
    /// written last.
    pub(super) history: Vec<Moment>,
}

/// What one turn changed: a line of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// The line file now.
    pub(super) log: Written,
    /// The JSON file now.
    pub(super) json: Written,
    /// Cursors that moved.
    pub(super) sources: BTreeMap<String, Cursor>,
    /// This is a moment to go back to.
    #[serde(default)]
    pub(super) keep: bool,
}

impl State {
    /// Applies a change.
    pub(super) fn apply(&mut self, change: Change) {
        self.now.log = change.log;
        self.now.json = change.json;
        self.now.sources.extend(change.sources);
        if change.keep {
            self.keep();
        }
    }

    /// Makes the present moment one to go back to.
    pub(super) fn keep(&mut self) {
        if self.history.last() != Some(&self.now) {
            self.history.push(self.now.clone());
        }
        while self.history.len() > MOMENTS {
            self.history.remove(0);
        }
    }
}

/// The memory on disk. Nothing here waits for the disk: what it says of spools does not
/// outlive the machine either, and after a power cut the event ids decide.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    journal: Option<File>,
    journal_bytes: u64,
}

impl Memory {
    /// The memory at `path`; not read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            journal: None,
            journal_bytes: 0,
        }
    }

    /// What was remembered; empty when there is nothing or it is not readable.
    pub(super) fn load(&self) -> State {
        let mut state = match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(
                    "{} is damaged ({error}); rebuilding it",
                    self.path.display()
                );
                State::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => {
                tracing::warn!("reading {}: {error}; rebuilding it", self.path.display());
                State::default()
            }
        };
        let journal = fs::read(self.journal_path(state.generation)).unwrap_or_default();
        // A line without its end was being written when the collector was killed.
        let whole = journal.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        for line in journal
            .get(..whole)
            .unwrap_or_default()
            .split(|b| *b == b'\n')
        {
            match serde_json::from_slice(line) {
                Ok(change) => state.apply(change),
                Err(_) if line.is_empty() => {}
                Err(error) => {
                    // What was read before it still holds; the files are ahead then.
                    tracing::warn!("the journal of {}: {error}", self.path.display());
                    break;
                }
            }
        }
        state
    }

    fn journal_path(&self, generation: u64) -> PathBuf {
        self.path.with_extension(format!("{generation}.journal"))
    }

    /// Writes the whole state and begins a new journal.
    pub(super) fn save(&mut self, state: &mut State) -> io::Result<()> {
        self.journal = None;
        let old = self.journal_path(state.generation);
        state.generation += 1;
        // One left over from a kill belongs to a state that never was.
        let path = self.journal_path(state.generation);
        file::remove(&path)?;
        let text = serde_json::to_vec(state).map_err(io::Error::other)?;
        file::write_volatile(&self.path, &text, 0o640)?;
        file::remove(&old)?;
        let journal = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        self.journal = Some(journal);
        self.journal_bytes = 0;
        Ok(())
    }

    /// Applies `change` to `state`, on disk first.
    pub(super) fn change(&mut self, state: &mut State, change: Change) -> io::Result<()> {
        let mut line = serde_json::to_vec(&change).map_err(io::Error::other)?;
        line.push(b'\n');
        let journal = match &mut self.journal {
            Some(journal) if self.journal_bytes < JOURNAL_BYTES => journal,
            _ => {
                state.apply(change);
                return self.save(state);
            }
        };
        if let Err(error) = journal.write_all(&line) {
            // Half a line may stand there now: nothing can follow it.
            self.journal = None;
            return Err(error);
        }
        self.journal_bytes += line.len() as u64;
        state.apply(change);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(offset: u64) -> Change {
        let cursor = Cursor {
            segment: 1,
            offset,
            ..Cursor::default()
        };
        Change {
            sources: BTreeMap::from([("a".to_owned(), cursor)]),
            keep: offset.is_multiple_of(2),
            ..Change::default()
        }
    }

    #[test]
    fn a_journal_cut_anywhere_gives_a_state_that_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("collector.json");
        let mut memory = Memory::new(path.clone());
        let mut state = memory.load();
        memory.save(&mut state).unwrap();
        let mut states = vec![state.clone()];
        for offset in 1..20 {
            memory.change(&mut state, change(offset)).unwrap();
            states.push(state.clone());
        }
        let journal = memory.journal_path(state.generation);
        let bytes = fs::read(&journal).unwrap();
        let mut met = 0;
        for cut in 0..=bytes.len() {
            fs::write(&journal, &bytes[..cut]).unwrap();
            let found = Memory::new(path.clone()).load();
            let at = states.iter().position(|s| *s == found);
            met = met.max(at.expect("a state that was"));
        }
        assert_eq!(met, states.len() - 1);
        // A kill between the new state and the removal of the old journal.
        fs::write(&journal, &bytes).unwrap();
        memory.save(&mut state).unwrap();
        fs::write(&journal, &bytes).unwrap();
        assert_eq!(Memory::new(path).load(), state);
    }
}
