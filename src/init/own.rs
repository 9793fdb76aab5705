//! Owners and modes, set through open descriptors that follow no link: most of our
//! directories belong to the service account, which must not be able to point root's
//! hand at somebody else's file.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};

/// Numeric owner; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Deepest tree [`hand_over`] follows.
const MAX_DEPTH: usize = 64;

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | flags)
        .open(path)
}

fn fits(meta: &std::fs::Metadata, ids: Ids, mode: u32) -> bool {
    ids.uid.is_none_or(|u| u == meta.uid())
        && ids.gid.is_none_or(|g| g == meta.gid())
        && meta.mode() & 0o7777 == mode
}

/// Whether `path` has this owner and mode already.
pub(super) fn is_set(path: &Path, ids: Ids, mode: u32) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| fits(&meta, ids, mode))
}

/// Gives the directory or plain file at `path` this owner and mode.
///
/// # Errors
/// When it is a link, a file with several names, or the kernel refuses.
pub(super) fn set(path: &Path, ids: Ids, mode: u32) -> io::Result<()> {
    let file = open(path, 0)?;
    let meta = file.metadata()?;
    let plain = meta.is_file() && meta.nlink() == 1;
    if !(meta.is_dir() || plain) {
        return Err(io::Error::other("is neither a directory nor a plain file"));
    }
    if fits(&meta, ids, mode) {
        return Ok(());
    }
    fchown(&file, ids.uid, ids.gid)?;
    // After the owner: changing it clears the setgid bit.
    file.set_permissions(Permissions::from_mode(mode))
}

/// Gives everything below the directory `path`, and itself, to `ids`.
///
/// # Errors
/// The first thing that could not be read or given away.
pub(super) fn hand_over(path: &Path, ids: Ids) -> io::Result<()> {
    match open(path, O_DIRECTORY) {
        Ok(dir) => descend(&dir, ids, 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn descend(dir: &File, ids: Ids, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the tree is too deep"));
    }
    // Names are looked up below the open directory, wherever it is moved meanwhile.
    let base = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    for entry in std::fs::read_dir(&base)? {
        let child = base.join(entry?.file_name());
        let meta = match std::fs::symlink_metadata(&child) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if meta.uid() == 0 && !meta.is_dir() {
            // The record of init and what an operator put here by hand stay root's.
            continue;
        }
        if meta.is_dir() {
            descend(&open(&child, O_DIRECTORY)?, ids, depth + 1)?;
        } else if meta.nlink() == 1 {
            // The last part is never followed; a name swapped for a link changes hands
            // as a link.
            let mode = meta.mode() & 0o7777;
            lchown(&child, ids.uid, ids.gid)?;
            if meta.is_file() && mode & 0o6000 != 0 {
                set(&child, ids, mode)?;
            }
        }
    }
    let mode = dir.metadata()?.mode() & 0o7777;
    fchown(dir, ids.uid, ids.gid)?;
    dir.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "x").unwrap();
        std::fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(set(&link, Ids::default(), 0o666).is_err());
        assert!(is_set(&target, Ids::default(), 0o600));
        hand_over(dir.path(), Ids::default()).unwrap();
        assert!(is_set(&target, Ids::default(), 0o600));
    }

    #[test]
    fn a_file_with_a_second_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = dir.path().join("one");
        std::fs::write(&one, "x").unwrap();
        std::fs::hard_link(&one, dir.path().join("two")).unwrap();
        assert!(set(&one, Ids::default(), 0o600).is_err());
    }
}
