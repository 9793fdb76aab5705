//! The listening socket: one per path, never taken from a living server, never open to
//! more than the configured group, not even for an instant.
//!
//! A lock file beside the socket keeps two of ours apart; a connection attempt tells a
//! living foreign server from a stale file. The socket is created 0600 (on Linux the file
//! inherits the mode of the unbound socket, less the umask), given to its group, and only
//! then opened to 0660.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Gid;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::bus::Error;
use crate::config::BusConfig;
use crate::net::lock::{self, Held};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// A bound socket; dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    inode: (u64, u64),
    // Last: released after the file is gone.
    _lock: Held,
}

impl Bound {
    pub(super) async fn open(config: &BusConfig) -> Result<Self, Error> {
        let path = config.socket.clone();
        let gid = config.group.as_deref().map(find_group).transpose()?;
        let mut lock_name = path.clone().into_os_string();
        lock_name.push(".lock");
        let lock_path = PathBuf::from(lock_name);
        let lock = lock::try_take(&lock_path)
            .map_err(failed(
                "taking the lock (`decnet init` makes its directory)",
                &lock_path,
            ))?
            .ok_or_else(|| Error::Live { path: path.clone() })?;
        clear_stale(&path).await?;
        let listener = bind(&path, gid)?;
        let held = fs::metadata(&path).map_err(failed("looking at", &path))?;
        Ok(Self {
            listener,
            path,
            inode: (held.dev(), held.ino()),
            _lock: lock,
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("removing {}: {error}", self.path.display());
        }
    }
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Removes a socket nobody listens on; refuses to touch anything else.
async fn clear_stale(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("looking at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!("replacing the stale socket {}", path.display());
            fs::remove_file(path).map_err(failed("removing the stale socket", path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Answered, full, or not ours to ask: somebody may live there.
        Ok(_) | Err(_) => Err(Error::Live {
            path: path.to_owned(),
        }),
    }
}

fn bind(path: &Path, gid: Option<Gid>) -> Result<UnixListener, Error> {
    let wrong = failed("listening on", path);
    let socket = UnixSocket::new_stream().map_err(&wrong)?;
    // The file inherits this, less the umask; the group cannot connect yet.
    fchmod(socket.as_fd(), Mode::from_bits_truncate(0o600)).map_err(|e| wrong(e.into()))?;
    socket.bind(path).map_err(&wrong)?;
    let finish = || {
        if let Some(gid) = gid {
            nix::unistd::chown(path, None, Some(gid)).map_err(|e| {
                failed(
                    "giving to its group, of which the bus's user must be a member,",
                    path,
                )(e.into())
            })?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(&wrong)
    };
    // Nobody can connect before this: refusals until then are retried by clients.
    let outcome = finish().and_then(|()| socket.listen(BACKLOG).map_err(&wrong));
    if outcome.is_err() {
        let _removed = fs::remove_file(path);
    }
    outcome
}

/// The number of a group: from /etc/group, else from the system's own resolver as a
/// program, because a static binary must not load resolver modules; digits are a number.
fn find_group(name: &str) -> Result<Gid, Error> {
    let unknown = || Error::Group {
        name: name.to_owned(),
    };
    let sane = !name.is_empty()
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'$'));
    if !sane {
        return Err(unknown());
    }
    let file = fs::read("/etc/group").unwrap_or_default();
    if let Some(gid) = listed(&String::from_utf8_lossy(&file), name) {
        return Ok(gid);
    }
    match Command::new("getent").arg("group").arg(name).output() {
        Ok(answer) => {
            if let Some(gid) = listed(&String::from_utf8_lossy(&answer.stdout), name) {
                return Ok(gid);
            }
        }
        Err(error) => tracing::debug!("asking getent for the group {name}: {error}"),
    }
    name.parse().map(Gid::from_raw).map_err(|_| unknown())
}

/// The number of `name` in lines of `name:password:gid:members`.
fn listed(lines: &str, name: &str) -> Option<Gid> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        fields.nth(1)?.parse().ok().map(Gid::from_raw)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path) -> BusConfig {
        BusConfig {
            enabled: true,
            socket: path.to_owned(),
            group: None,
        }
    }

    #[test]
    fn groups_are_found_by_name_or_number() {
        let file = "root:x:0:\nadm:x:4:syslog\nbroken\nadmin:x:nope:\n";
        assert_eq!(listed(file, "adm"), Some(Gid::from_raw(4)));
        assert_eq!(listed(file, "admin"), None);
        assert_eq!(find_group("root").unwrap(), Gid::from_raw(0));
        assert_eq!(find_group("4242").unwrap(), Gid::from_raw(4242));
        for bad in ["no-such-group-here", "", "-s", "a b", "a:b"] {
            let error = find_group(bad).unwrap_err().to_string();
            assert!(error.contains("does not exist"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_socket_is_0660_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.sock");
        let bound = Bound::open(&config(&path)).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_second_server_is_refused_and_the_first_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.sock");
        let _first = Bound::open(&config(&path)).await.unwrap();
        let error = Bound::open(&config(&path)).await.unwrap_err();
        assert!(matches!(error, Error::Live { .. }), "{error}");
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_foreign_living_socket_is_never_unlinked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.sock");
        let foreign = UnixListener::bind(&path).unwrap();
        let error = Bound::open(&config(&path)).await.unwrap_err();
        assert!(matches!(error, Error::Live { .. }), "{error}");
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(foreign);
        // What it left behind is stale and replaced.
        let _bound = Bound::open(&config(&path)).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.sock");
        fs::write(&path, "precious").unwrap();
        let error = Bound::open(&config(&path)).await.unwrap_err();
        assert!(matches!(error, Error::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_replaced_socket_is_not_removed_by_its_former_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.sock");
        let bound = Bound::open(&config(&path)).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn an_unknown_group_stops_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.sock");
        let config = BusConfig {
            group: Some("no-such-group-here".to_owned()),
            ..config(&path)
        };
        let error = Bound::open(&config).await.unwrap_err();
        assert!(matches!(error, Error::Group { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
