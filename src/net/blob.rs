//! Files of operators, each under its SHA-256 (`<aa>/<sha256>`): written whole or not at
//! all, the same bytes once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::net::file;
use crate::net::store::Name;

/// The name of some bytes.
#[must_use]
pub fn name(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn path(root: &Path, name: &Name) -> PathBuf {
    let name = name.as_str();
    root.join(name.get(..2).unwrap_or("00")).join(name)
}

/// Keeps bytes below `root`.
///
/// # Errors
/// When the disk refuses.
pub fn keep(root: &Path, name: &Name, bytes: &[u8]) -> io::Result<()> {
    let path = path(root, name);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes.len() as u64) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(root);
    fs::create_dir_all(dir)?;
    // Made by root for the service, now and then.
    for made in dir.ancestors().take(3).collect::<Vec<_>>().iter().rev() {
        file::inherit_owner(made)?;
    }
    file::write_atomic(&path, bytes, 0o640)?;
    file::inherit_owner(&path)
}

/// The bytes of that name; `None` when there are none.
///
/// # Errors
/// When the disk refuses, or they are not what their name says.
pub fn read(root: &Path, name: &Name) -> io::Result<Option<Vec<u8>>> {
    let bytes = match fs::read(path(root, name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if self::name(&bytes) != name.as_str() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the file {} was changed on disk", name.as_str()),
        ));
    }
    Ok(Some(bytes))
}

/// Deletes the bytes of that name; none is fine.
///
/// # Errors
/// When the disk refuses.
pub fn delete(root: &Path, name: &Name) -> io::Result<()> {
    file::remove(&path(root, name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn bytes_are_kept_under_their_hash_and_checked_when_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("canary/blobs");
        let name = Name::parse(&name(b"abc")).unwrap();
        keep(&root, &name, b"abc").unwrap();
        keep(&root, &name, b"abc").unwrap();
        assert_eq!(read(&root, &name).unwrap().unwrap(), b"abc");
        let path = path(&root, &name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        fs::write(&path, "abd").unwrap();
        assert!(read(&root, &name).is_err());
        delete(&root, &name).unwrap();
        delete(&root, &name).unwrap();
        assert!(read(&root, &name).unwrap().is_none());
    }
}
