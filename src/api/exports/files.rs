//! Where exports lie: one directory, a file for each, under the id of its job. While one is
//! written it is called `<id>.part`, so what has its whole name is whole. What attackers
//! typed is in them: nobody but the service reads them.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::net::file;

/// Bytes that an export leaves free on the disk: the events it is about come to the same one.
pub(super) const RESERVE: u64 = 256 * 1024 * 1024;

/// A finished export.
pub(super) fn whole(dir: &Path, id: &str) -> PathBuf {
    dir.join(id)
}

fn part(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.part"))
}

/// Begins a file; one that was begun before is gone then.
///
/// # Errors
/// When the disk refuses.
pub(super) fn begin(dir: &Path, id: &str) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(dir) {
        // Made by root for the service, now and then.
        Ok(()) => file::inherit_owner(dir)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let path = part(dir, id);
    file::remove(&path)?;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file::inherit_owner(&path)?;
    Ok(file)
}

/// Gives a file that is on the disk its whole name.
///
/// # Errors
/// When the disk refuses.
pub(super) fn finish(dir: &Path, id: &str) -> io::Result<()> {
    fs::rename(part(dir, id), whole(dir, id))?;
    File::open(dir)?.sync_all()
}

/// Removes a file that is not to be finished; none is fine.
///
/// # Errors
/// When the disk refuses.
pub(super) fn abandon(dir: &Path, id: &str) -> io::Result<()> {
    file::remove(&part(dir, id))
}

/// Whether the disk has more than the reserve.
///
/// # Errors
/// When it cannot be asked.
pub(super) fn has_room(dir: &Path) -> io::Result<bool> {
    let disk = statvfs(dir).map_err(io::Error::from)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    Ok(free > RESERVE)
}

/// Removes every file but those whose whole name is in `kept`.
///
/// # Errors
/// When the disk refuses.
pub(super) fn clear(dir: &Path, kept: &HashSet<String>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let stays = name.to_str().is_some_and(|name| kept.contains(name));
        if !stays && !entry.file_type()?.is_dir() {
            file::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_the_services_own_and_has_its_name_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("exports");
        begin(&dir, "a").unwrap().write_all(b"half").unwrap();
        let mut file = begin(&dir, "a").unwrap();
        file.write_all(b"all").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert!(!whole(&dir, "a").exists());
        finish(&dir, "a").unwrap();
        assert_eq!(mode(&whole(&dir, "a")), 0o600);
        assert_eq!(fs::read(whole(&dir, "a")).unwrap(), b"all");
        assert!(has_room(&dir).is_ok());
    }

    #[test]
    fn what_is_not_kept_goes_and_half_files_with_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("exports");
        let kept = HashSet::from(["b".to_owned(), "c".to_owned()]);
        clear(&dir, &kept).unwrap();
        for id in ["a", "b"] {
            begin(&dir, id).unwrap();
            finish(&dir, id).unwrap();
        }
        begin(&dir, "b").unwrap();
        begin(&dir, "d").unwrap();
        fs::create_dir(dir.join("lost+found")).unwrap();
        clear(&dir, &kept).unwrap();
        abandon(&dir, "d").unwrap();
        let left = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["b", "lost+found"]);
    }
}
