//! The store of captured files: each under its SHA-256 (`<aa>/<sha256>`), what is known
//! of it as JSON beside it. Bounded in bytes and in files, in total and per decky; the
//! longest unseen go first. What an attacker chose (a file's name) is data in the JSON
//! and never part of a path.
//!
//! One process writes (the collector); anybody in the group reads.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::net::{file, tail};

/// Largest file kept; larger than anything a decky of ours keeps.
const FILE_MAX: u64 = 64 * 1024 * 1024;
/// Most files kept; bounds the index.
const FILES_MAX: usize = 100_000;
/// A decky may hold this part of the store.
const DECKY_PART: u64 = 4;
/// Sightings described; later ones are only counted, so nobody can push out the first.
const SIGHTINGS_MAX: usize = 32;
/// Longest description read back.
const META_MAX: u64 = 256 * 1024;
const TEMPORARY: &str = ".decnet-";

/// A SHA-256 in lower-case hex; nothing else becomes a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// Reads exactly 64 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn dir(&self, root: &Path) -> PathBuf {
        root.join(self.0.get(..2).unwrap_or("00"))
    }

    fn file(&self, root: &Path) -> PathBuf {
        self.dir(root).join(&self.0)
    }

    fn meta(&self, root: &Path) -> PathBuf {
        self.dir(root).join(format!("{}.json", self.0))
    }
}

/// One time the file came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When.
    pub ts: i64,
    /// The event that said so.
    pub eid: String,
    /// To which decky.
    pub decky: String,
    /// Through which service.
    pub service: String,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// From whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<String>,
    /// What the attacker called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is known of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its name in the store.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// First sighting, microseconds.
    pub first_seen: i64,
    /// Last sighting, microseconds.
    pub last_seen: i64,
    /// Sightings.
    pub count: u64,
    /// The first sightings.
    pub sightings: Vec<Sighting>,
}

impl Meta {
    fn see(&mut self, sighting: Sighting) {
        // Events are read again after a kill.
        if self.sightings.iter().any(|s| s.eid == sighting.eid) {
            return;
        }
        if self.count == 0 {
            self.first_seen = sighting.ts;
        }
        self.first_seen = self.first_seen.min(sighting.ts);
        self.last_seen = self.last_seen.max(sighting.ts);
        self.count += 1;
        if self.sightings.len() < SIGHTINGS_MAX {
            self.sightings.push(sighting);
        }
    }

    fn owner(&self) -> &str {
        self.sightings.first().map_or("", |s| s.decky.as_str())
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the store.
    Kept,
    /// Larger than what is kept.
    TooLarge,
    /// Its content is not what its name says.
    False,
}

/// What had to go for new files: by decky, files and bytes.
pub type Evicted = HashMap<Arc<str>, (u64, u64)>;

#[derive(Debug)]
struct Entry {
    size: u64,
    last_seen: i64,
    owner: Arc<str>,
}

/// The writer's end.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    max_bytes: u64,
    /// Read when the first file comes.
    index: Option<HashMap<Name, Entry>>,
    totals: HashMap<Arc<str>, (u64, usize)>,
    evicted: Evicted,
}

impl Store {
    /// The store at `root`, of at most `max_bytes`; nothing is read or made yet.
    #[must_use]
    pub fn new(root: PathBuf, max_bytes: u64) -> Self {
        Self {
            root,
            max_bytes,
            index: None,
            totals: HashMap::new(),
            evicted: Evicted::new(),
        }
    }

    /// Copies `source` in under `name`, if that is what it holds.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn take_in(
        &mut self,
        source: File,
        name: &Name,
        sighting: Sighting,
    ) -> io::Result<Outcome> {
        self.load()?;
        if self.holds(name) {
            self.see(name, sighting, None)?;
            return Ok(Outcome::Kept);
        }
        let most = FILE_MAX.min(self.max_bytes / DECKY_PART);
        make_dir(&self.root)?;
        let dir = name.dir(&self.root);
        make_dir(&dir)?;
        let mut copy = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&dir)?;
        let Some((found, size)) = copy_hashed(source, copy.as_file_mut(), most)? else {
            return Ok(Outcome::TooLarge);
        };
        if found != *name {
            return Ok(Outcome::False);
        }
        self.make_room(&sighting.decky, size)?;
        copy.as_file()
            .set_permissions(Permissions::from_mode(0o640))?;
        copy.as_file().sync_all()?;
        copy.persist(name.file(&self.root)).map_err(|e| e.error)?;
        File::open(&dir)?.sync_all()?;
        self.see(name, sighting, Some(size))?;
        Ok(Outcome::Kept)
    }

    /// Notes that a file came again whose bytes are in the store already. Said by a
    /// decky that never brought them, it means nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn see_again(&mut self, name: &Name, sighting: Sighting) -> io::Result<bool> {
        self.load()?;
        let known = self.holds(name)
            && read_meta(&self.root, name)
                .is_some_and(|m| m.sightings.iter().any(|s| s.decky == sighting.decky));
        if known {
            self.see(name, sighting, None)?;
        }
        Ok(known)
    }

    /// What had to go since the last call.
    pub fn take_evicted(&mut self) -> Evicted {
        std::mem::take(&mut self.evicted)
    }

    fn holds(&self, name: &Name) -> bool {
        self.index.as_ref().is_some_and(|i| i.contains_key(name))
    }

    fn see(&mut self, name: &Name, sighting: Sighting, new: Option<u64>) -> io::Result<()> {
        let mut meta = read_meta(&self.root, name).unwrap_or_default();
        let size = match (new, self.index.as_ref().and_then(|i| i.get(name))) {
            (Some(size), _) => size,
            (None, entry) => entry.map_or(0, |e| e.size),
        };
        name.as_str().clone_into(&mut meta.sha256);
        meta.size = size;
        meta.see(sighting);
        let text = serde_json::to_vec(&meta).map_err(io::Error::other)?;
        file::write_atomic(&name.meta(&self.root), &text, 0o640)?;
        self.forget(name);
        self.enter(name.clone(), &meta);
        Ok(())
    }

    fn enter(&mut self, name: Name, meta: &Meta) {
        let owner: Arc<str> = meta.owner().into();
        let total = self.totals.entry(Arc::clone(&owner)).or_default();
        total.0 += meta.size;
        total.1 += 1;
        let entry = Entry {
            size: meta.size,
            last_seen: meta.last_seen,
            owner,
        };
        self.index.get_or_insert_default().insert(name, entry);
    }

    fn forget(&mut self, name: &Name) -> Option<Entry> {
        let entry = self.index.as_mut()?.remove(name)?;
        if let Some(total) = self.totals.get_mut(&entry.owner) {
            total.0 = total.0.saturating_sub(entry.size);
            total.1 = total.1.saturating_sub(1);
        }
        Some(entry)
    }

    /// Removes the longest unseen: of this decky when it holds more than its part, of
    /// all when the store is full.
    fn make_room(&mut self, decky: &str, size: u64) -> io::Result<()> {
        let parts = usize::try_from(DECKY_PART).unwrap_or(1);
        loop {
            let own = self.totals.get(decky).copied().unwrap_or_default();
            let all = self
                .totals
                .values()
                .fold((0, 0), |sum, t| (sum.0 + t.0, sum.1 + t.1));
            let own_full = own.0 + size > self.max_bytes / DECKY_PART || own.1 >= FILES_MAX / parts;
            let full = all.0 + size > self.max_bytes || all.1 >= FILES_MAX;
            if !own_full && !full {
                return Ok(());
            }
            let oldest = self
                .index
                .iter()
                .flatten()
                .filter(|(_, e)| !own_full || *e.owner == *decky)
                .min_by_key(|(_, e)| e.last_seen)
                .map(|(name, _)| name.clone());
            let Some(oldest) = oldest else {
                return Ok(());
            };
            file::remove(&oldest.file(&self.root))?;
            file::remove(&oldest.meta(&self.root))?;
            if let Some(entry) = self.forget(&oldest) {
                let gone = self.evicted.entry(entry.owner).or_default();
                gone.0 += 1;
                gone.1 += entry.size;
            }
        }
    }

    /// Reads what is there and clears away what a kill left half done.
    fn load(&mut self) -> io::Result<()> {
        if self.index.is_some() {
            return Ok(());
        }
        self.index = Some(HashMap::new());
        self.totals.clear();
        for dir in two_digits(&self.root)? {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let text = entry.file_name().to_string_lossy().into_owned();
                if text.starts_with(TEMPORARY) {
                    file::remove(&entry.path())?;
                } else if let Some(name) = Name::parse(&text) {
                    let info = entry.metadata()?;
                    let mut meta = read_meta(&self.root, &name).unwrap_or_default();
                    meta.size = info.len();
                    self.enter(name, &meta);
                } else if let Some(name) = text.strip_suffix(".json").and_then(Name::parse)
                    && !name.file(&self.root).exists()
                {
                    file::remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Everything in the store at `root`, the newest last.
///
/// # Errors
/// When it cannot be read; a store that does not exist is empty.
pub fn list(root: &Path) -> io::Result<Vec<Meta>> {
    let mut found = Vec::new();
    for dir in two_digits(root)? {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(Name::parse) else {
                continue;
            };
            let mut meta = read_meta(root, &name).unwrap_or_default();
            name.as_str().clone_into(&mut meta.sha256);
            meta.size = entry.metadata()?.len();
            found.push(meta);
        }
    }
    found.sort_by(|a, b| (a.last_seen, &a.sha256).cmp(&(b.last_seen, &b.sha256)));
    Ok(found)
}

/// One file and what is known of it; `None` when it is not in the store.
///
/// # Errors
/// When it cannot be read.
pub fn open(root: &Path, name: &Name) -> io::Result<Option<(Meta, File)>> {
    let file = match tail::open_plain(&name.file(root)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut meta = read_meta(root, name).unwrap_or_default();
    name.as_str().clone_into(&mut meta.sha256);
    meta.size = file.metadata()?.len();
    Ok(Some((meta, file)))
}

fn read_meta(root: &Path, name: &Name) -> Option<Meta> {
    let file = tail::open_plain(&name.meta(root)).ok()?;
    let mut text = Vec::new();
    file.take(META_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn two_digits(root: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry?;
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let name = entry.file_name();
        let fits = name.len() == 2 && name.as_encoded_bytes().iter().copied().all(hex);
        if fits && entry.file_type()?.is_dir() {
            dirs.push(entry.path());
        }
    }
    Ok(dirs)
}

/// Copies at most `most` bytes; `None` when there are more. What was hashed is what was
/// written, whoever changes the source meanwhile.
fn copy_hashed(mut from: File, to: &mut File, most: u64) -> io::Result<Option<(Name, u64)>> {
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    let mut block = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size += read as u64;
        if size > most {
            return Ok(None);
        }
        let part = block.get(..read).unwrap_or_default();
        hash.update(part);
        to.write_all(part)?;
    }
    let digits = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Some((Name(digits), size)))
}

/// Group-owned like its parent, closed to everybody else.
fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o2750).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o2750)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = dir.parent() {
                fs::create_dir_all(parent)?;
            }
            make_dir(dir)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(decky: &str, n: i64) -> Sighting {
        Sighting {
            ts: n,
            eid: format!("{decky}{n}"),
            decky: decky.to_owned(),
            service: "ftp".to_owned(),
            name: Some("../../etc/passwd\n".to_owned()),
            ..Sighting::default()
        }
    }

    fn put(store: &mut Store, dir: &Path, content: &[u8], decky: &str, n: i64) -> Name {
        let digits: String = Sha256::digest(content)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let name = Name::parse(&digits).unwrap();
        let path = dir.join("source");
        fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        let outcome = store.take_in(file, &name, sighting(decky, n)).unwrap();
        assert_eq!(outcome, Outcome::Kept);
        name
    }

    #[test]
    fn a_file_is_described_and_readable_by_the_group_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/store");
        let mut store = Store::new(root.clone(), 1 << 20);
        let name = put(&mut store, dir.path(), b"malware", "d1", 5);
        put(&mut store, dir.path(), b"malware", "d2", 9);
        put(&mut store, dir.path(), b"malware", "d2", 9);
        let (meta, mut file) = open(&root, &name).unwrap().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "malware");
        assert_eq!(
            (meta.count, meta.first_seen, meta.last_seen, meta.size),
            (2, 5, 9, 7)
        );
        assert_eq!(meta.owner(), "d1");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&name.file(&root)), 0o640);
        assert_eq!(mode(&name.meta(&root)), 0o640);
        assert_eq!(mode(&name.dir(&root)), 0o2750);
        // Another collector finds it; a decky that never brought it says nothing.
        let mut store = Store::new(root.clone(), 1 << 20);
        assert!(!store.see_again(&name, sighting("d3", 10)).unwrap());
        assert!(store.see_again(&name, sighting("d2", 11)).unwrap());
        assert_eq!(list(&root).unwrap()[0].count, 3);
    }

    #[test]
    fn a_full_store_loses_the_longest_unseen_and_a_greedy_decky_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let mut store = Store::new(root.clone(), 4000);
        let quiet = put(&mut store, dir.path(), &[1; 900], "quiet", 0);
        for n in 0..20 {
            put(
                &mut store,
                dir.path(),
                &[10 + n; 300],
                "greedy",
                1 + i64::from(n),
            );
        }
        assert!(open(&root, &quiet).unwrap().is_some());
        assert_eq!(store.take_evicted().get("greedy"), Some(&(17, 17 * 300)));
        for n in 0..4 {
            put(
                &mut store,
                dir.path(),
                &[100 + n; 900],
                &format!("d{n}"),
                100,
            );
        }
        assert!(open(&root, &quiet).unwrap().is_none());
        let kept: u64 = list(&root).unwrap().iter().map(|m| m.size).sum();
        assert!(kept <= 4000, "{kept}");
    }

    #[test]
    fn false_and_large_files_are_not_kept_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let mut store = Store::new(root.clone(), 4000);
        let path = dir.path().join("source");
        let name = Name::parse(&"0".repeat(64)).unwrap();
        for (len, expected) in [(10, Outcome::False), (1001, Outcome::TooLarge)] {
            fs::write(&path, vec![7; len]).unwrap();
            let file = File::open(&path).unwrap();
            let outcome = store.take_in(file, &name, sighting("d", 1)).unwrap();
            assert_eq!(outcome, expected);
        }
        assert_eq!(fs::read_dir(name.dir(&root)).unwrap().count(), 0);
        assert!(list(&root).unwrap().is_empty());
    }

    #[test]
    fn what_a_kill_left_half_done_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let mut store = Store::new(root.clone(), 4000);
        let name = put(&mut store, dir.path(), b"x", "d", 1);
        fs::write(name.dir(&root).join(".decnet-half"), b"half").unwrap();
        let orphan = Name::parse(&format!("{}{}", name.0.get(..2).unwrap(), "0".repeat(62)));
        fs::write(orphan.unwrap().meta(&root), b"{}").unwrap();
        fs::remove_file(name.meta(&root)).unwrap();
        let mut store = Store::new(root.clone(), 4000);
        put(&mut store, dir.path(), b"x", "d", 2);
        assert_eq!(fs::read_dir(name.dir(&root)).unwrap().count(), 2);
        assert_eq!(list(&root).unwrap()[0].last_seen, 2);
    }

    #[test]
    fn nothing_but_a_hash_is_a_name() {
        for bad in [
            "",
            "../../etc/passwd",
            &"A".repeat(64),
            &"a".repeat(63),
            &format!("{}/", "a".repeat(63)),
        ] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }
}
