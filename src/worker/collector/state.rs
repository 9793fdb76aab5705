//! What the collector remembers across restarts: how far it read every spool, and how
//! much of the two event files those readings account for. Written after the event
//! files, so that after a kill the files may be ahead of it, never behind.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::net::file;

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
    /// The last moment that is fully accounted for.
    pub(super) now: Moment,
    /// Earlier ones, oldest first: where to go back to when a rotation lost what was
    /// written last.
    pub(super) history: Vec<Moment>,
}

impl State {
    /// Reads the memory; `None` when there is none or it is not readable.
    pub(super) fn load(path: &Path) -> Option<Self> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .inspect_err(|error| {
                    tracing::warn!("{} is damaged ({error}); rebuilding it", path.display());
                })
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("reading {}: {error}; rebuilding it", path.display());
                None
            }
        }
    }

    /// Replaces the memory on disk. Does not wait for the disk: the spools it points
    /// into do not outlive the machine either.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        file::write_volatile(path, &text, 0o640)
    }
}
