//! Files that are either wholly written or not there, and removing them.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Removes a file; none is fine.
///
/// # Errors
/// When the disk refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces `path` with `content`: temporary file beside it, mode set before any byte
/// is written, fsync, rename, fsync of the directory. The directory must exist.
///
/// # Errors
/// Whatever step failed; `path` is then as it was.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_new(path, content, mode, true)
}

/// Like [`write_atomic`] without waiting for the disk: for files below /run.
///
/// # Errors
/// Whatever step failed; `path` is then as it was.
pub fn write_volatile(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_new(path, content, mode, false)
}

fn write_new(path: &Path, content: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let parent = path
        .parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file needs a directory"))?;
    let mut file = tempfile::Builder::new()
        .prefix(".decnet-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent)?;
    // The creation mode passed through the umask; this does not.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|e| e.error)?;
    if durable {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Gives what root just made at `path` to the owner of its directory: one `sudo decnet
/// deploy` must not lock the service out of its own files. Done by anybody else, or in
/// a directory of root's, it changes nothing.
///
/// # Errors
/// When the owner cannot be looked up or changed; a missing `path` is fine.
pub fn inherit_owner(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(parent)?;
    if owner.uid() == 0 {
        return Ok(());
    }
    match lchown(path, Some(owner.uid()), Some(owner.gid())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_directory() {
        use std::os::unix::fs::chown;
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(4711), Some(4712)).unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "").unwrap();
        inherit_owner(&path).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4711, 4712));
    }

    #[test]
    fn the_file_has_the_content_and_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
