//! Moves a file an attacker left from the decky's directory into the store, under its
//! hash. Copied, never renamed: the process that wrote it may still hold it open.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::model::Event;
use crate::net::{file, tail};

/// Larger than anything a decky keeps.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The hash of the file that came with `event`, if one was kept.
pub(super) fn named(event: &Event) -> Option<&str> {
    let sha256 = event.field("sha256")?;
    let kept = event.field("stored") == Some("true");
    let hash = sha256.len() == 64
        && sha256
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (kept && hash).then_some(sha256)
}

/// Brings the file into the store; nothing to do when it is there or was never kept.
///
/// # Errors
/// When the store cannot be written; the event must wait then.
pub(super) fn stow(decky: &Path, store: &Path, sha256: &str) -> io::Result<()> {
    let from = decky.join("artifacts").join(sha256);
    let dir = store.join(sha256.get(..2).unwrap_or("00"));
    let to = dir.join(sha256);
    let mut source = match tail::open_plain(&from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !to.exists() {
                tracing::warn!("the file {sha256} of {} is missing", decky.display());
            }
            return Ok(());
        }
        Err(error) => {
            tracing::warn!("the file {} is left where it is: {error}", from.display());
            return Ok(());
        }
    };
    if !to.exists() {
        let mut content = Vec::new();
        source.by_ref().take(MAX_BYTES).read_to_end(&mut content)?;
        let found: String = Sha256::digest(&content)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if found != sha256 {
            tracing::warn!("{} is not what its name says; not kept", from.display());
            return remove(&from);
        }
        make_dir(store)?;
        make_dir(&dir)?;
        file::write_atomic(&to, &content, 0o640)?;
    }
    remove(&from)
}

/// Group-owned like its parent, closed to everybody else.
fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(false).mode(0o2770).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o2770)),
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // The event must not wait for a directory whose owner we are not.
            tracing::warn!("removing {}: {error}", path.display());
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoy::artifact::Keeper;

    #[test]
    fn a_file_moves_into_the_store_once_and_a_false_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (decky, store) = (dir.path().join("d"), dir.path().join("a/b"));
        fs::create_dir(&decky).unwrap();
        let keeper = Keeper::open(&decky).unwrap();
        let sha256 = keeper.keep(b"malware").sha256;
        stow(&decky, &store, &sha256).unwrap();
        let kept = store.join(sha256.get(..2).unwrap()).join(&sha256);
        assert_eq!(fs::read(&kept).unwrap(), b"malware");
        assert_eq!(
            fs::metadata(&kept).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        let mode = fs::metadata(kept.parent().unwrap())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o2770);
        assert!(!decky.join("artifacts").join(&sha256).exists());
        stow(&decky, &store, &sha256).unwrap();
        let false_name = "0".repeat(64);
        fs::write(decky.join("artifacts").join(&false_name), b"x").unwrap();
        stow(&decky, &store, &false_name).unwrap();
        assert!(!store.join("00").exists());
        assert!(!decky.join("artifacts").join(&false_name).exists());
    }
}
