//! Files that are either wholly written or not there.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

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
