//! Reading files that grow, are rotated, or lie in a directory we do not trust.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Opens a regular file for reading. Symbolic links, pipes and devices are refused: the
/// directory may belong to a process an attacker has taken over.
///
/// # Errors
/// When there is no such file, or it is not a regular one.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not a regular file", path.display()),
        ));
    }
    Ok(file)
}

/// Fills `buffer` from `offset` as far as the file goes; returns how far that was.
///
/// # Errors
/// When the disk refuses.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done: usize = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The first `most` bytes of a file.
///
/// # Errors
/// When the disk refuses.
pub fn head(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let read = read_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Size of the file up to its last newline.
///
/// # Errors
/// When the disk refuses.
pub fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let read = read_at(file, &mut block, start)?;
        let known = usize::try_from(end - start).unwrap_or(read).min(read);
        let found = block
            .get(..known)
            .and_then(|b| b.iter().rposition(|b| *b == b'\n'));
        if let Some(at) = found {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Where logrotate lays the newest rotated copy (`delaycompress` keeps it plain).
#[must_use]
pub fn copy_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_last_line_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (content, whole) in [
            (b"".to_vec(), 0),
            (b"half".to_vec(), 0),
            (b"a\nb\n".to_vec(), 4),
            ([b"a\n".as_slice(), &[b'x'; 200_000]].concat(), 2),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(whole_lines(&File::open(&path).unwrap()).unwrap(), whole);
        }
    }

    #[test]
    fn a_planted_link_or_pipe_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::write(&real, b"abc").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(head(&open_plain(&real).unwrap(), 2).unwrap(), b"ab");
        assert!(open_plain(&link).is_err());
        assert!(open_plain(&pipe).is_err());
    }
}
