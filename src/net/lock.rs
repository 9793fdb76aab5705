//! Advisory file locks (`flock`): released by the kernel when the holder dies, so a
//! killed worker never leaves one behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::net::file;

/// A held lock; dropping it releases it. The file stays.
#[derive(Debug)]
pub struct Held {
    _file: Flock<File>,
}

/// Takes the lock, waiting for whoever holds it.
///
/// # Errors
/// When the file or its directory cannot be created.
pub fn wait(path: &Path) -> io::Result<Held> {
    take(path, FlockArg::LockExclusive)
}

/// Takes the lock if nobody holds it; `None` when somebody does.
///
/// # Errors
/// When the file or its directory cannot be created.
pub fn try_take(path: &Path) -> io::Result<Option<Held>> {
    match take(path, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(held)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn take(path: &Path, how: FlockArg) -> io::Result<Held> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        std::fs::create_dir_all(parent)?;
        file::inherit_owner(parent)?;
    }
    let made = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o660)
        .open(path);
    let file = match made {
        Ok(file) => {
            file::inherit_owner(path)?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path)?
        }
        Err(error) => return Err(error),
    };
    match Flock::lock(file, how) {
        Ok(file) => Ok(Held { _file: file }),
        Err((_, errno)) => Err(io::Error::from(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x.lock");
        let first = try_take(&path).unwrap();
        assert!(first.is_some());
        assert!(try_take(&path).unwrap().is_none());
        drop(first);
        assert!(try_take(&path).unwrap().is_some());
    }
}
