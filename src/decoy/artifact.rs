//! Files an attacker left: kept under their SHA-256 in the decky's directory, from
//! where the collector moves them into the store. Capped per file and in total; what
//! does not fit is described but not kept.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::stat::{Mode, umask};
use sha2::{Digest, Sha256};

use crate::net::file;

/// Largest file kept. A protocol stops reading an upload here.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most bytes waiting for the collector.
const MAX_WAITING: u64 = 256 * 1024 * 1024;

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Lower-case hex SHA-256 of what was received.
    pub sha256: String,
    /// Bytes received.
    pub size: usize,
    /// Whether the bytes were kept.
    pub stored: bool,
}

/// Where a decky keeps them.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    waiting: AtomicU64,
}

impl Keeper {
    /// Keeps files below `dir/artifacts`.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("artifacts");
        make_dir(&dir)?;
        let mut waiting = 0u64;
        for entry in fs::read_dir(&dir)? {
            waiting = waiting.saturating_add(entry?.metadata()?.len());
        }
        Ok(Self {
            dir,
            waiting: AtomicU64::new(waiting),
        })
    }

    /// Keeps `content`, if it fits. The same content is kept once.
    pub fn keep(&self, content: &[u8]) -> Artifact {
        let sha256: String = Sha256::digest(content)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let stored = self.store(&sha256, content);
        Artifact {
            sha256,
            size: content.len(),
            stored,
        }
    }

    fn store(&self, sha256: &str, content: &[u8]) -> bool {
        let path = self.dir.join(sha256);
        if path.exists() {
            return true;
        }
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if content.len() > MAX_BYTES {
            return false;
        }
        if self.waiting.load(Ordering::Relaxed).saturating_add(size) > MAX_WAITING {
            // The collector moves files away; look again before giving up.
            self.waiting.store(held(&self.dir), Ordering::Relaxed);
            if self.waiting.load(Ordering::Relaxed).saturating_add(size) > MAX_WAITING {
                return false;
            }
        }
        match file::write_volatile(&path, content, 0o640) {
            Ok(()) => {
                self.waiting.fetch_add(size, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::warn!("keeping an artifact: {error}");
                false
            }
        }
    }
}

/// Whoever has the group of the decky's directory empties this one too. Not by changing
/// the mode afterwards: that would take the inherited group away from what is put in by
/// a process that is not in it.
fn make_dir(dir: &Path) -> io::Result<()> {
    let before = umask(Mode::S_IRWXO);
    let made = DirBuilder::new().recursive(true).mode(0o770).create(dir);
    umask(before);
    made
}

fn held(dir: &Path) -> u64 {
    fs::read_dir(dir).map_or(0, |entries| {
        entries
            .flatten()
            .filter_map(|e| e.metadata().ok())
            .fold(0u64, |sum, m| sum.saturating_add(m.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_under_its_hash_once() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path()).unwrap();
        let one = keeper.keep(b"abc");
        assert_eq!(
            one.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(one.stored);
        assert_eq!(keeper.keep(b"abc"), one);
        assert_eq!(
            fs::read_dir(dir.path().join("artifacts")).unwrap().count(),
            1
        );
    }
}
