//! Lays the files planted on the host into the two areas, and takes out of them what was
//! taken away. A change is applied once: what an attacker then does to a planted file
//! stays done until the decky starts anew or somebody plants it again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::decoy::disk::{Disk, Meta, Place, Style};
use crate::decoy::ftp::account::Accounts;
use crate::decoy::ftp::tree::{Content, Kind, Node, Owner, Tree};
use crate::persona::FtpServer;

/// Which changes were applied.
#[derive(Debug, Default)]
pub(super) struct Planted {
    seen: AtomicU64,
    applied: Mutex<BTreeSet<String>>,
}

/// One area and the directories of the host whose files it shows.
struct Area<'a> {
    tree: &'a Mutex<Tree>,
    roots: Vec<Place>,
    owner: Owner,
}

impl Planted {
    /// Brings both areas up to what `disk` says; cheap when nothing changed.
    pub(super) fn follow(
        &self,
        disk: &Disk,
        server: FtpServer,
        accounts: &Accounts,
        home: &Mutex<Tree>,
        public: &Mutex<Tree>,
    ) {
        let now = disk.changes();
        if self.seen.swap(now, Ordering::AcqRel) == now {
            return;
        }
        let (homes, publics) = roots(server, &accounts.user);
        let areas = [
            Area {
                tree: home,
                roots: places(&homes, disk.style()),
                owner: accounts.home,
            },
            Area {
                tree: public,
                roots: places(&publics, disk.style()),
                owner: Owner { uid: 0, gid: 0 },
            },
        ];
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = BTreeSet::new();
        for gone in disk.gone() {
            let mark = format!("-{gone}");
            if !applied.contains(&mark) {
                for area in &areas {
                    area.take_away(&gone);
                }
            }
            current.insert(mark);
        }
        for meta in disk.files() {
            let mark = format!(
                "+{}\n{}\n{}\n{}\n{:?}",
                meta.path, meta.sha256, meta.mtime.0, meta.mode, meta.owner
            );
            if !applied.contains(&mark) {
                for area in &areas {
                    area.lay(&meta, accounts);
                }
            }
            current.insert(mark);
        }
        *applied = current;
    }
}

/// Directories of the host that the server shows as the root of a login.
fn roots(server: FtpServer, user: &str) -> (Vec<String>, Vec<String>) {
    match server {
        FtpServer::Vsftpd | FtpServer::Proftpd => (
            vec![format!("/home/{user}")],
            vec!["/srv/ftp".to_owned(), "/var/ftp".to_owned()],
        ),
        FtpServer::Microsoft => (
            vec![
                format!("C:\\inetpub\\ftproot\\LocalUser\\{user}"),
                format!("C:\\Users\\{user}"),
            ],
            vec!["C:\\inetpub\\ftproot\\LocalUser\\Public".to_owned()],
        ),
        // A queue and a flash chip hold nothing anybody would plant.
        FtpServer::Jetdirect | FtpServer::CiscoIos => (Vec::new(), Vec::new()),
    }
}

fn places(paths: &[String], style: Style) -> Vec<Place> {
    let parsed = paths.iter().map(|path| Place::parse(path, style));
    parsed.filter_map(Result::ok).collect()
}

impl Area<'_> {
    fn take_away(&self, gone: &Place) {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        for root in &self.roots {
            if let Some(parts) = gone.below(root) {
                tree.clear(&format!("/{}", parts.join("/")));
            } else if gone == root || root.below(gone).is_some() {
                tree.clear("/");
            }
        }
    }

    fn lay(&self, meta: &Meta, accounts: &Accounts) {
        let found = self.roots.iter().find_map(|root| meta.path.below(root));
        let Some(parts) = found else { return };
        let owner = match meta.owner.as_deref() {
            Some("root" | "Administrator") => Owner { uid: 0, gid: 0 },
            Some("ftp") => accounts.ftp,
            Some(name) if name == accounts.user => accounts.home,
            _ => self.owner,
        };
        let node = |kind, mode| Node {
            kind,
            mode,
            owner,
            mtime: meta.mtime,
            inode: 0,
        };
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let mut path = String::new();
        for (at, part) in parts.iter().enumerate() {
            path = format!("{path}/{part}");
            let is_last = at.saturating_add(1) == parts.len();
            match tree.get(&path).map(Node::is_dir) {
                Ok(true) if !is_last => {}
                // Somebody left something of the other kind there.
                Ok(is_dir) if is_dir == is_last => return,
                _ if is_last => {
                    let content = Content::Planted(meta.path.clone());
                    let size = meta.size;
                    tree.furnish(&path, node(Kind::File { size, content }, meta.mode & 0o777));
                }
                _ => tree.furnish(&path, node(Kind::Dir, crate::decoy::disk::DIR_MODE)),
            }
        }
    }
}
