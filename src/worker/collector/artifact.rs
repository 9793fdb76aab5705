//! Moves a file an attacker left from the decky's directory into the store. Copied,
//! never renamed: the process that wrote it may still hold it open. The directory is
//! opened once and not by following links, so a decky that was taken over can make us
//! read and delete only what is its own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::model::Event;
use crate::net::store::{Name, Outcome, Sighting, Store};

/// Longest original name kept.
const NAME_MAX: usize = 255;

/// The hash of the file that came with `event`, if one was kept.
pub(super) fn named(event: &Event) -> Option<Name> {
    Name::parse(event.stored_file()?)
}

/// Brings the file into the store; nothing to do when it is there or was never kept.
///
/// # Errors
/// When the store cannot be written; the event must wait then.
pub(super) fn stow(decky: &Path, store: &mut Store, name: &Name, event: &Event) -> io::Result<()> {
    let found = open_dir(decky).and_then(|dir| Ok((open_file(&dir, name)?, dir)));
    let (file, dir) = match found {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !store.see_again(name, sighting(event))? {
                tracing::warn!(
                    "the file {} of {} is missing",
                    name.as_str(),
                    decky.display()
                );
            }
            return Ok(());
        }
        Err(error) => {
            tracing::warn!(
                "{}: the file {} is left: {error}",
                decky.display(),
                name.as_str()
            );
            return Ok(());
        }
    };
    match store.take_in(file, name, sighting(event))? {
        Outcome::Kept => {}
        Outcome::TooLarge => {
            tracing::warn!(
                "{}: the file {} is too large; not kept",
                decky.display(),
                name.as_str()
            );
        }
        Outcome::False => tracing::warn!(
            "{}: the file {} is not what its name says; not kept",
            decky.display(),
            name.as_str()
        ),
    }
    match unlinkat(&dir, name.as_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        // The event must not wait for a directory whose owner we are not.
        Err(error) => tracing::warn!("{}: removing {}: {error}", decky.display(), name.as_str()),
    }
    Ok(())
}

fn open_dir(decky: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = open(decky, flags, Mode::empty())?;
    Ok(openat(&dir, "artifacts", flags, Mode::empty())?)
}

fn open_file(dir: &OwnedFd, name: &Name) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(dir, name.as_str(), flags, Mode::empty())?);
    let meta = file.metadata()?;
    // One with a second name elsewhere was not left by an attacker's upload.
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a file of its own",
        ));
    }
    Ok(file)
}

fn sighting(event: &Event) -> Sighting {
    let original = ["filename", "file", "path", "name"]
        .iter()
        .find_map(|key| event.field(key));
    Sighting {
        ts: event.ts.0,
        eid: event.eid.clone(),
        decky: event.decky.clone(),
        service: event.service.clone(),
        session: event.flow.as_ref().map(|f| f.session.clone()),
        src_ip: event.flow.as_ref().map(|f| f.src.ip().to_string()),
        name: original.map(|name| name.chars().take(NAME_MAX).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoy::artifact::Keeper;
    use crate::model::{Severity, Stamp};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn event(sha256: &str) -> Event {
        Event {
            eid: "1".into(),
            ts: Stamp(1),
            severity: Severity::Info,
            decky: "d".into(),
            service: "ftp".into(),
            kind: "upload".into(),
            flow: None,
            fields: vec![
                ("sha256".into(), sha256.into()),
                ("stored".into(), "true".into()),
            ],
            msg: String::new(),
        }
    }

    #[test]
    fn a_file_moves_into_the_store_once_and_a_false_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (decky, root) = (dir.path().join("d"), dir.path().join("a"));
        let mut store = Store::new(root.clone(), 1 << 30);
        fs::create_dir(&decky).unwrap();
        let keeper = Keeper::open(&decky).unwrap();
        let sha256 = keeper.keep(b"malware").sha256;
        let event = event(&sha256);
        let name = named(&event).unwrap();
        stow(&decky, &mut store, &name, &event).unwrap();
        assert!(crate::net::store::open(&root, &name).unwrap().is_some());
        assert!(!decky.join("artifacts").join(&sha256).exists());
        stow(&decky, &mut store, &name, &event).unwrap();
        let false_name = Name::parse(&"0".repeat(64)).unwrap();
        let planted = decky.join("artifacts").join(false_name.as_str());
        fs::write(&planted, b"x").unwrap();
        stow(&decky, &mut store, &false_name, &event).unwrap();
        assert!(!planted.exists());
        assert_eq!(crate::net::store::list(&root).unwrap().len(), 1);
    }

    #[test]
    fn links_lead_neither_into_the_store_nor_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (decky, root) = (dir.path().join("d"), dir.path().join("a"));
        let mut store = Store::new(root.clone(), 1 << 30);
        fs::create_dir(&decky).unwrap();
        let keeper = Keeper::open(&decky).unwrap();
        let event = event(&keeper.keep(b"malware").sha256);
        let name = named(&event).unwrap();
        let waiting = decky.join("artifacts").join(name.as_str());
        // A second name, a link, a pipe: none is read.
        fs::rename(&waiting, dir.path().join("elsewhere")).unwrap();
        fs::hard_link(dir.path().join("elsewhere"), &waiting).unwrap();
        stow(&decky, &mut store, &name, &event).unwrap();
        fs::remove_file(&waiting).unwrap();
        symlink(dir.path().join("elsewhere"), &waiting).unwrap();
        stow(&decky, &mut store, &name, &event).unwrap();
        fs::remove_file(&waiting).unwrap();
        nix::unistd::mkfifo(&waiting, Mode::S_IRUSR).unwrap();
        stow(&decky, &mut store, &name, &event).unwrap();
        assert!(crate::net::store::open(&root, &name).unwrap().is_none());
        // The store itself in place of the directory: nothing is deleted from it.
        fs::remove_file(&waiting).unwrap();
        fs::copy(dir.path().join("elsewhere"), &waiting).unwrap();
        stow(&decky, &mut store, &name, &event).unwrap();
        fs::remove_dir_all(decky.join("artifacts")).unwrap();
        let shelf = root.join(name.as_str().get(..2).unwrap());
        symlink(&shelf, decky.join("artifacts")).unwrap();
        stow(&decky, &mut store, &name, &event).unwrap();
        assert!(crate::net::store::open(&root, &name).unwrap().is_some());
    }
}
