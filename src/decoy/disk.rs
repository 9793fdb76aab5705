//! The files somebody planted on a decky (canary tokens, notes, documents), and the
//! names that were taken away from it: an overlay over whatever the services draw
//! themselves. Kept in `<decky directory>/disk`, content under its SHA-256 beside one
//! index that is replaced as a whole, so that they survive a restart of the decky.
//!
//! Paths are those of the host the decky pretends to be ([`Place`]): they are names in
//! the index and never reach the file system of the real host. Services only read;
//! the control socket writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::decoy::place::{Place, Style};
use crate::model::Stamp;
use crate::net::file;

/// Largest file.
pub const FILE_MAX: usize = 1024 * 1024;
/// Most bytes of all files.
pub const TOTAL_MAX: u64 = 64 * 1024 * 1024;
/// Most names: files and names taken away.
pub const NAMES_MAX: usize = 4096;
/// Largest index read back.
const INDEX_MAX: u64 = 16 * 1024 * 1024;
/// Mode of a directory that only planted files imply.
pub(super) const DIR_MODE: u32 = 0o755;

/// What is known of a planted file without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its path.
    pub path: Place,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change, as the decky shows it.
    pub mtime: Stamp,
    /// Name of the user it belongs to, when somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Lower-case hex SHA-256 of the content.
    pub sha256: String,
}

/// A planted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub content: Vec<u8>,
    /// The rest.
    pub meta: Meta,
}

/// One name in a directory of planted files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The name.
    pub name: String,
    /// The file; `None` for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Meta>,
}

/// Why the overlay did not change.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is no planted file or directory of that name.
    #[error("nothing is planted at {0}")]
    Missing(Place),
    /// A directory lies there.
    #[error("{0} is a directory")]
    IsDir(Place),
    /// A file lies where a directory would have to be.
    #[error("{0} is a file, not a directory")]
    NotDir(Place),
    /// A limit is reached.
    #[error("{0}")]
    Full(String),
    /// The host's disk failed.
    #[error("keeping the file: {0}")]
    Io(#[from] io::Error),
}

/// What the index file holds, and the overlay in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    files: Vec<Meta>,
    gone: Vec<Place>,
}

#[derive(Debug, Default)]
struct Names {
    files: BTreeMap<String, Meta>,
    gone: BTreeMap<String, Place>,
}

/// The overlay of one decky.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    style: Style,
    names: Mutex<Names>,
    changes: AtomicU64,
}

impl Disk {
    /// The overlay kept below the decky's directory `dir`. An index that cannot be
    /// understood is put aside: the decky starts without it.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, style: Style) -> io::Result<Self> {
        let dir = dir.join("disk");
        fs::create_dir_all(&dir)?;
        let names = load(&dir, style)?;
        Ok(Self {
            dir,
            style,
            names: Mutex::new(names),
            changes: AtomicU64::new(1),
        })
    }

    /// How paths look on this host.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// Counts up with every change; services that keep a copy compare it.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The file at `path`. One whose bytes were lost reads as absent.
    #[must_use]
    pub fn read(&self, path: &Place) -> Option<File> {
        let meta = self.names().files.get(&path.key()).cloned()?;
        let content = match read_bounded(&self.dir.join(&meta.sha256), FILE_MAX) {
            Ok(content) => content,
            Err(error) => {
                tracing::warn!("a planted file: {error}");
                return None;
            }
        };
        Some(File { content, meta })
    }

    /// What is known of the file at `path`.
    #[must_use]
    pub fn stat(&self, path: &Place) -> Option<Meta> {
        self.names().files.get(&path.key()).cloned()
    }

    /// Every planted file, by path.
    #[must_use]
    pub fn files(&self) -> Vec<Meta> {
        self.names().files.values().cloned().collect()
    }

    /// Every name that was taken away.
    #[must_use]
    pub fn gone(&self) -> Vec<Place> {
        self.names().gone.values().cloned().collect()
    }

    /// What planted files put into the directory `path`, by name; empty when nothing.
    #[must_use]
    pub fn children(&self, path: &Place) -> Vec<Child> {
        let prefix = path.key_below();
        let depth = path.depth();
        let names = self.names();
        let mut found: BTreeMap<String, Child> = BTreeMap::new();
        let below = names
            .files
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix));
        for (_, meta) in below {
            let Some(name) = meta.path.part(depth) else {
                continue;
            };
            let leaf = meta.path.depth() == depth.saturating_add(1);
            found.entry(name.to_lowercase()).or_insert_with(|| Child {
                name: name.to_owned(),
                file: leaf.then(|| meta.clone()),
            });
        }
        found.into_values().collect()
    }

    /// Whether `path`, or a directory it lies in, was taken away (a file planted there
    /// afterwards is found all the same).
    #[must_use]
    pub fn is_deleted(&self, path: &Place) -> bool {
        let names = self.names();
        if names.files.contains_key(&path.key()) {
            return false;
        }
        path.ancestors().any(|key| names.gone.contains_key(&key))
    }

    /// Plants a file, in place of the one that may be there.
    ///
    /// # Errors
    /// When a limit is reached, a directory is in the way, or the disk fails.
    pub fn write(
        &self,
        path: Place,
        content: &[u8],
        mode: u32,
        mtime: Stamp,
        owner: Option<String>,
    ) -> Result<Meta, Fault> {
        if content.len() > FILE_MAX {
            return Err(Fault::Full(format!(
                "a planted file may have {FILE_MAX} bytes, this one has {}",
                content.len()
            )));
        }
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let key = path.key();
        let mut names = self.names();
        if path.is_root() || names.holds_below(&path) {
            return Err(Fault::IsDir(path));
        }
        if let Some(meta) = path
            .ancestors()
            .skip(1)
            .find_map(|key| names.files.get(&key))
        {
            return Err(Fault::NotDir(meta.path.clone()));
        }
        let old = names.files.get(&key).cloned();
        if old.is_none() && names.count() >= NAMES_MAX {
            return Err(Fault::Full(format!(
                "this decky already has {NAMES_MAX} planted or removed names"
            )));
        }
        let held = names
            .bytes()
            .saturating_sub(old.as_ref().map_or(0, |m| m.size));
        if held.saturating_add(size) > TOTAL_MAX {
            return Err(Fault::Full(format!(
                "this decky already has {held} bytes planted; {TOTAL_MAX} are allowed"
            )));
        }
        let sha256: String = Sha256::digest(content)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let object = self.dir.join(&sha256);
        if !object.exists() {
            file::write_volatile(&object, content, 0o640)?;
        }
        let meta = Meta {
            path,
            size,
            mode: mode & 0o7777,
            mtime,
            owner,
            sha256,
        };
        let was_gone = names.gone.remove(&key);
        names.files.insert(key.clone(), meta.clone());
        if let Err(error) = self.save(&names) {
            // As it was: what is not on the disk would be gone after a restart.
            match old {
                Some(old) => names.files.insert(key.clone(), old),
                None => names.files.remove(&key),
            };
            if let Some(gone) = was_gone {
                names.gone.insert(key, gone);
            }
            return Err(error.into());
        }
        if let Some(old) = old {
            self.release(&names, &[old]);
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(meta)
    }

    /// Takes away the file or directory at `path`, planted or drawn by a service.
    /// Returns how many planted files went with it.
    ///
    /// # Errors
    /// When there are too many names, or the disk fails.
    pub fn delete(&self, path: &Place) -> Result<usize, Fault> {
        if path.is_root() {
            return Err(Fault::IsDir(path.clone()));
        }
        let (key, below) = (path.key(), path.key_below());
        let mut names = self.names();
        let inside = |candidate: &String| *candidate == key || candidate.starts_with(&below);
        let doomed: Vec<(String, Meta)> = names
            .files
            .range(key.clone()..)
            .take_while(|(k, _)| k.starts_with(&key))
            .filter(|(k, _)| inside(k))
            .map(|(k, m)| (k.clone(), m.clone()))
            .collect();
        let covered: Vec<(String, Place)> = names
            .gone
            .range(key.clone()..)
            .take_while(|(k, _)| k.starts_with(&key))
            .filter(|(k, _)| inside(k))
            .map(|(k, p)| (k.clone(), p.clone()))
            .collect();
        if doomed.is_empty() && covered.is_empty() && names.count() >= NAMES_MAX {
            return Err(Fault::Full(format!(
                "this decky already has {NAMES_MAX} planted or removed names"
            )));
        }
        for (k, _) in &doomed {
            names.files.remove(k);
        }
        for (k, _) in &covered {
            names.gone.remove(k);
        }
        names.gone.insert(key.clone(), path.clone());
        if let Err(error) = self.save(&names) {
            names.gone.remove(&key);
            names.files.extend(doomed);
            names.gone.extend(covered);
            return Err(error.into());
        }
        let count = doomed.len();
        let doomed: Vec<Meta> = doomed.into_iter().map(|(_, meta)| meta).collect();
        self.release(&names, &doomed);
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(count)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, names: &Names) -> io::Result<()> {
        let index = Index {
            files: names.files.values().cloned().collect(),
            gone: names.gone.values().cloned().collect(),
        };
        let text = serde_json::to_vec(&index)?;
        file::write_volatile(&self.dir.join("index.json"), &text, 0o640)
    }

    /// Removes the bytes of files that no name stands for any more.
    fn release(&self, names: &Names, old: &[Meta]) {
        let used: BTreeSet<&str> = names.files.values().map(|m| m.sha256.as_str()).collect();
        for meta in old.iter().filter(|m| !used.contains(m.sha256.as_str())) {
            if let Err(error) = fs::remove_file(self.dir.join(&meta.sha256)) {
                tracing::debug!("removing the bytes of a planted file: {error}");
            }
        }
    }
}

impl Names {
    fn count(&self) -> usize {
        self.files.len().saturating_add(self.gone.len())
    }

    fn bytes(&self) -> u64 {
        self.files
            .values()
            .fold(0u64, |sum, m| sum.saturating_add(m.size))
    }

    fn holds_below(&self, path: &Place) -> bool {
        let prefix = path.key_below();
        self.files
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(key, _)| key.starts_with(&prefix))
    }
}

/// Reads the index of `dir` and forgets what has no bytes; bytes without a name (an
/// interrupted write) are removed.
fn load(dir: &Path, style: Style) -> io::Result<Names> {
    let path = dir.join("index.json");
    let limit = usize::try_from(INDEX_MAX).unwrap_or(usize::MAX);
    let index: Index = match read_bounded(&path, limit) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!("{} is put aside: {error}", path.display());
            if let Err(error) = fs::rename(&path, dir.join("index.bad")) {
                tracing::warn!("{}: {error}", path.display());
            }
            Index::default()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
        Err(error) => return Err(error),
    };
    let mut names = Names::default();
    for meta in index.files.into_iter().take(NAMES_MAX) {
        let sound = is_digest(&meta.sha256)
            && meta.path.style() == style
            && fs::symlink_metadata(dir.join(&meta.sha256))
                .is_ok_and(|m| m.is_file() && m.len() == meta.size);
        if sound {
            names.files.insert(meta.path.key(), meta);
        } else {
            tracing::warn!("a planted file was lost");
        }
    }
    let room = NAMES_MAX.saturating_sub(names.files.len());
    for path in index.gone.into_iter().take(room) {
        names.gone.insert(path.key(), path);
    }
    let used: BTreeSet<&str> = names.files.values().map(|m| m.sha256.as_str()).collect();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let unused = name
            .to_str()
            .is_some_and(|n| is_digest(n) && !used.contains(n));
        if unused && let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!("removing unused bytes: {error}");
        }
    }
    Ok(names)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let ceiling = u64::try_from(limit).unwrap_or(u64::MAX);
    fs::File::open(path)?
        .take(ceiling.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} is larger than {limit} bytes", path.display()),
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn posix(text: &str) -> Place {
        Place::parse(text, Style::Posix).unwrap()
    }

    fn plant(disk: &Disk, path: &str, content: &[u8]) -> Result<Meta, Fault> {
        disk.write(posix(path), content, 0o644, Stamp(7), None)
    }

    #[test]
    fn what_is_planted_and_taken_away_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), Style::Posix).unwrap();
        plant(&disk, "/home/ann/plan.txt", b"one").unwrap();
        plant(&disk, "/home/ann/plan.txt", b"two").unwrap();
        plant(&disk, "/home/ann/copy.txt", b"two").unwrap();
        disk.delete(&posix("/home/ann/copy.txt")).unwrap();
        disk.delete(&posix("/etc")).unwrap();
        drop(disk);
        let disk = Disk::open(dir.path(), Style::Posix).unwrap();
        assert_eq!(
            disk.read(&posix("/home/ann/plan.txt")).unwrap().content,
            b"two"
        );
        assert!(disk.read(&posix("/home/ann/copy.txt")).is_none());
        assert!(disk.is_deleted(&posix("/home/ann/copy.txt")));
        assert!(disk.is_deleted(&posix("/etc/passwd")));
        assert!(!disk.is_deleted(&posix("/etcetera")));
        let held = fs::read_dir(dir.path().join("disk")).unwrap().count();
        assert_eq!(held, 2, "one content and the index");
    }

    #[test]
    fn directories_follow_from_the_files_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), Style::Posix).unwrap();
        plant(&disk, "/a/b/c", b"1").unwrap();
        plant(&disk, "/a/b/d", b"2").unwrap();
        plant(&disk, "/a/e", b"3").unwrap();
        plant(&disk, "/ab", b"4").unwrap();
        let names = |path: &str| -> Vec<(String, bool)> {
            let found = disk.children(&posix(path)).into_iter();
            found.map(|c| (c.name, c.file.is_none())).collect()
        };
        assert_eq!(names("/"), vec![("a".into(), true), ("ab".into(), false)]);
        assert_eq!(names("/a"), vec![("b".into(), true), ("e".into(), false)]);
        assert!(matches!(plant(&disk, "/a/b", b""), Err(Fault::IsDir(_))));
        assert!(matches!(plant(&disk, "/a/e/f", b""), Err(Fault::NotDir(_))));
        assert_eq!(disk.delete(&posix("/a")).unwrap(), 3);
        assert_eq!(names("/"), vec![("ab".into(), false)]);
        plant(&disk, "/a/b/c", b"1").unwrap();
        assert!(!disk.is_deleted(&posix("/a/b/c")) && disk.is_deleted(&posix("/a/b/d")));
    }

    #[test]
    fn bytes_and_names_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), Style::Posix).unwrap();
        let large = vec![0u8; FILE_MAX + 1];
        assert!(matches!(plant(&disk, "/x", &large), Err(Fault::Full(_))));
        let mut refused = 0;
        for n in 0..70u8 {
            let mut content = vec![n; FILE_MAX];
            content.truncate(FILE_MAX);
            refused += u32::from(plant(&disk, &format!("/big{n}"), &content).is_err());
        }
        assert_eq!(refused, 6);
        plant(&disk, "/big0", b"small now").unwrap();
        plant(&disk, "/other", b"fits again").unwrap();
    }

    #[test]
    fn a_broken_index_does_not_stop_the_decky() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("disk")).unwrap();
        fs::write(dir.path().join("disk/index.json"), "{nonsense").unwrap();
        let disk = Disk::open(dir.path(), Style::Posix).unwrap();
        assert!(disk.files().is_empty());
        let lying = serde_json::json!({"files": [{
            "path": "/x", "size": 3, "mode": 420, "mtime": 0, "sha256": "../../etc/passwd",
        }], "gone": []});
        fs::write(dir.path().join("disk/index.json"), lying.to_string()).unwrap();
        assert!(
            Disk::open(dir.path(), Style::Posix)
                .unwrap()
                .files()
                .is_empty()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_overlay_agrees_with_a_plain_map(
            steps in proptest::collection::vec((any::<bool>(), "/[ab](/[ab]){0,2}", any::<u8>()), 0..25),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let disk = Disk::open(dir.path(), Style::Posix).unwrap();
            let mut model: BTreeMap<String, u8> = BTreeMap::new();
            for (write, path, byte) in steps {
                if write {
                    if plant(&disk, &path, &[byte]).is_ok() {
                        model.insert(path, byte);
                    }
                } else {
                    disk.delete(&posix(&path)).unwrap();
                    let below = format!("{path}/");
                    model.retain(|p, _| *p != path && !p.starts_with(&below));
                }
            }
            let again = Disk::open(dir.path(), Style::Posix).unwrap();
            let found: BTreeMap<String, u8> = again
                .files()
                .into_iter()
                .map(|m| (m.path.to_string(), again.read(&m.path).unwrap().content[0]))
                .collect();
            prop_assert_eq!(found, model);
        }
    }
}
