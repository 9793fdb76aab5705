//! The decky's control socket, `<decky directory>/control.sock`, mode 0660: what can be
//! asked of a running decky, and the asking end. One JSON object per line each way, one
//! request per connection, several at once. The answering end is `care`.
//!
//! Who may ask follows from modes: the directory and the socket are the decky's and the
//! service group's. What comes back is a stranger's word (somebody may have taken the
//! decky over): it is bounded in size and time, cleaned of control characters, and
//! never used as a path or a process to act on. Fields nobody knows are ignored.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::decoy::disk::{Child, FILE_MAX, Meta};
use crate::decoy::run::Spec;
use crate::model::{Listener, Service, Stamp};

/// Longest request or reply line: a file of [`FILE_MAX`] in base64, and some.
pub(super) const LINE_MAX: u64 = 2 * 1024 * 1024;
/// Longest status line that is read.
const STATUS_MAX: u64 = 128 * 1024;
/// Longest wait for the other end to take or give a line.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Longest wait for a changed configuration to be taken up.
const CONFIGURE: Duration = Duration::from_secs(8);
/// Longest a decky may be made to wait for somebody it connects to.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Most bytes a decky reads for a `connect`.
pub const READ_MAX: usize = 64 * 1024;
/// Longest word of a decky that is passed on.
const WORD_MAX: usize = 300;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Who are you?
    Status,
    /// Finish your connections and go.
    Stop,
    /// Offer what this says. Everything a process cannot change about itself
    /// ([`Spec::base_hash`]) must be as it is.
    Configure {
        /// The new specification.
        spec: Box<Spec>,
    },
    /// Plant a file.
    Write {
        /// Where, on the host the decky pretends to be.
        path: String,
        /// Content, base64.
        content_b64: String,
        /// Permission bits.
        #[serde(default = "default_mode")]
        mode: u32,
        /// Last change; now when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtime: Option<Stamp>,
        /// Name of the user it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// Take away a file or directory, planted or not.
    Delete {
        /// Which.
        path: String,
    },
    /// What is planted in this directory?
    List {
        /// Which.
        path: String,
    },
    /// What is planted here?
    Stat {
        /// Where.
        path: String,
    },
    /// Connect to one of your peers and say what comes back.
    Connect {
        /// Whom.
        addr: SocketAddr,
        /// What to send first, base64.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        send_b64: String,
        /// Most bytes to read.
        read_max: usize,
        /// Longest time for all of it.
        timeout_ms: u64,
    },
}

const fn default_mode() -> u32 {
    0o644
}

/// What a decky says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Fingerprint of what it cannot change without a restart.
    #[serde(default)]
    pub base_hash: String,
    /// Fingerprint of the configuration it follows.
    pub config_hash: String,
    /// Program version.
    pub version: String,
    /// Process id, as the decky sees it.
    pub pid: u32,
    /// Its sockets.
    pub listeners: Vec<Listener>,
}

/// What became of a `delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Planted files that went with it.
    pub removed: usize,
}

/// What came of a `connect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// What was received, base64.
    pub received_b64: String,
    /// The other end closed.
    pub closed: bool,
}

impl Connected {
    /// What was received; nothing when it cannot be decoded.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        STANDARD.decode(&self.received_b64).unwrap_or_default()
    }
}

/// Why a decky did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The request was not understood.
    BadRequest,
    /// The path is not one of this host.
    BadPath,
    /// There is no such thing.
    Missing,
    /// It may not be done.
    Forbidden,
    /// A limit is reached.
    Full,
    /// Only a restart can do it.
    Restart,
    /// It was tried and failed.
    Failed,
    /// Something a later version says.
    #[serde(other)]
    Unknown,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Kind.
    pub why: Why,
    /// One line.
    pub text: String,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Ok(serde_json::Value),
    Refused(Refusal),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("it is not running")]
    Absent,
    /// Somebody listens and says nothing.
    #[error("it does not answer")]
    Silent,
    /// What came back is not an answer.
    #[error("it answers nonsense: {0}")]
    Garbled(String),
    /// It was understood and not done.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The socket failed.
    #[error("its control socket: {0}")]
    Io(#[source] io::Error),
}

/// Where the socket of a decky lies.
#[must_use]
pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Asks the decky in `dir` who it is; `None` when nobody sensible answers there.
pub async fn status(dir: &Path) -> Option<Status> {
    look(dir).await.ok().map(|(status, _)| status)
}

/// Like [`status`], with the reason why not, and the process that listens there: its
/// number here, as the kernel says, whatever the decky claims.
///
/// # Errors
/// When nobody, or nobody sensible, answers.
pub async fn look(dir: &Path) -> Result<(Status, Option<i32>), Error> {
    let (status, pid): (Status, _) = ask(dir, &Request::Status, PATIENCE, STATUS_MAX).await?;
    Ok((clean(status), pid))
}

/// Tells the decky in `dir` to stop.
///
/// # Errors
/// When nobody answers there.
pub async fn stop(dir: &Path) -> Result<(), Error> {
    let _empty: (serde_json::Value, _) = ask(dir, &Request::Stop, PATIENCE, STATUS_MAX).await?;
    Ok(())
}

/// Has the decky in `dir` follow `spec`.
///
/// # Errors
/// When it does not, or only a restart could.
pub async fn configure(dir: &Path, spec: &Spec) -> Result<Status, Error> {
    let spec = Box::new(spec.clone());
    let request = Request::Configure { spec };
    let (status, _): (Status, _) = ask(dir, &request, CONFIGURE, STATUS_MAX).await?;
    Ok(clean(status))
}

/// Plants a file.
///
/// # Errors
/// When it is not planted; see [`Why`].
pub async fn write(
    dir: &Path,
    path: &str,
    content: &[u8],
    mode: u32,
    mtime: Option<Stamp>,
    owner: Option<&str>,
) -> Result<Meta, Error> {
    if content.len() > FILE_MAX {
        return Err(Error::Refused(Refusal {
            why: Why::Full,
            text: format!("a planted file may have {FILE_MAX} bytes"),
        }));
    }
    let request = Request::Write {
        path: path.to_owned(),
        content_b64: STANDARD.encode(content),
        mode,
        mtime,
        owner: owner.map(str::to_owned),
    };
    Ok(ask(dir, &request, PATIENCE, STATUS_MAX).await?.0)
}

/// Takes away a file or directory.
///
/// # Errors
/// When it stays; see [`Why`].
pub async fn delete(dir: &Path, path: &str) -> Result<Deleted, Error> {
    let path = path.to_owned();
    let request = Request::Delete { path };
    Ok(ask(dir, &request, PATIENCE, STATUS_MAX).await?.0)
}

/// What is planted in a directory.
///
/// # Errors
/// When it cannot be told; see [`Why`].
pub async fn list(dir: &Path, path: &str) -> Result<Vec<Child>, Error> {
    let path = path.to_owned();
    let request = Request::List { path };
    let (mut found, _): (Vec<Child>, _) = ask(dir, &request, PATIENCE, LINE_MAX).await?;
    found.truncate(crate::decoy::disk::NAMES_MAX);
    for child in &mut found {
        child.name = word(&child.name);
        child.file = child.file.take().map(|file| Meta {
            owner: file.owner.as_deref().map(word),
            sha256: word(&file.sha256),
            ..file
        });
    }
    Ok(found)
}

/// What is planted at a path.
///
/// # Errors
/// When nothing is; see [`Why`].
pub async fn stat(dir: &Path, path: &str) -> Result<Meta, Error> {
    let path = path.to_owned();
    let request = Request::Stat { path };
    let (meta, _): (Meta, _) = ask(dir, &request, PATIENCE, STATUS_MAX).await?;
    Ok(Meta {
        owner: meta.owner.as_deref().map(word),
        sha256: word(&meta.sha256),
        ..meta
    })
}

/// Has the decky connect to one of its peers, send `send`, and read at most `read_max`
/// bytes until the other end closes or `timeout` is over.
///
/// # Errors
/// When it may not or cannot; see [`Why`].
pub async fn connect(
    dir: &Path,
    addr: SocketAddr,
    send: &[u8],
    read_max: usize,
    timeout: Duration,
) -> Result<Connected, Error> {
    let timeout = timeout.min(CONNECT_MAX);
    let request = Request::Connect {
        addr,
        send_b64: STANDARD.encode(send),
        read_max: read_max.min(READ_MAX),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let patience = timeout.saturating_add(PATIENCE);
    Ok(ask(dir, &request, patience, STATUS_MAX).await?.0)
}

/// One request and its reply of at most `limit` bytes, and who answered.
async fn ask<T: DeserializeOwned>(
    dir: &Path,
    request: &Request,
    patience: Duration,
    limit: u64,
) -> Result<(T, Option<i32>), Error> {
    let mut line = serde_json::to_vec(request).map_err(|e| Error::Io(e.into()))?;
    line.push(b'\n');
    let exchange = async {
        let socket = own_socket(dir)?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
        // The process that called listen, in our numbering; 0 when it has none here.
        let pid = stream.peer_cred().ok().and_then(|c| c.pid());
        let pid = pid.filter(|pid| *pid > 0);
        let (read, mut write) = stream.into_split();
        let send = write.write_all(&line).await;
        let mut reply = Vec::new();
        BufReader::new(read.take(limit))
            .read_until(b'\n', &mut reply)
            .await?;
        if reply.is_empty() {
            send?;
        }
        Ok::<_, io::Error>((reply, pid))
    };
    let (reply, pid) = match tokio::time::timeout(patience, exchange).await {
        Err(_) => return Err(Error::Silent),
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Absent,
                _ => Error::Io(error),
            });
        }
    };
    read_reply(&reply).map(|value| (value, pid))
}

/// The socket in `dir` itself: a decky that was taken over could leave a link to another
/// decky's, or to any other daemon's, in its place.
fn own_socket(dir: &Path) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(socket_path(dir))?;
    if socket.metadata()?.file_type().is_socket() {
        Ok(socket)
    } else {
        Err(io::Error::other("it is not a socket"))
    }
}

/// Understands one reply line.
fn read_reply<T: DeserializeOwned>(line: &[u8]) -> Result<T, Error> {
    let garbled = |error: &dyn std::fmt::Display| Error::Garbled(word(&error.to_string()));
    if !line.ends_with(b"\n") {
        return Err(garbled(&"the reply is cut off"));
    }
    match serde_json::from_slice(line).map_err(|e| garbled(&e))? {
        Reply::Ok(value) => serde_json::from_value(value).map_err(|e| garbled(&e)),
        Reply::Refused(refusal) => Err(Error::Refused(Refusal {
            text: word(&refusal.text),
            ..refusal
        })),
    }
}

/// A stranger's word, short and without anything a terminal would obey.
fn word(text: &str) -> String {
    let shown = |c: char| {
        let hidden =
            c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden { '\u{fffd}' } else { c }
    };
    text.chars().take(WORD_MAX).map(shown).collect()
}

fn clean(status: Status) -> Status {
    let mut listeners: Vec<Listener> = Vec::new();
    for listener in status.listeners.into_iter().take(Service::ALL.len()) {
        if !listeners.iter().any(|l| l.service == listener.service) {
            listeners.push(Listener {
                note: listener.note.as_deref().map(word),
                ..listener
            });
        }
    }
    Status {
        base_hash: word(&status.base_hash),
        config_hash: word(&status.config_hash),
        version: word(&status.version),
        pid: status.pid,
        listeners,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_unknown_refusals_understood() {
        let line = b"{\"ok\":{\"config_hash\":\"c\",\"version\":\"v\",\"pid\":1,\"listeners\":[],\"mood\":2}}\n";
        let status: Status = read_reply(line).unwrap();
        assert_eq!(status.config_hash, "c");
        let line = b"{\"refused\":{\"why\":\"tired\",\"text\":\"a\\u001b[2Jb\"}}\n";
        let refused: Error = read_reply::<Status>(line).unwrap_err();
        assert_eq!(refused.to_string(), "a\u{fffd}[2Jb");
    }

    #[test]
    fn a_status_is_cut_to_what_there_can_be() {
        let listener = Listener {
            service: Service::Redis,
            addr: None,
            note: Some("x\n".repeat(100_000)),
        };
        let cleaned = clean(Status {
            version: "\u{1b}]0;".to_owned(),
            listeners: vec![listener; 1000],
            ..Status::default()
        });
        assert_eq!(cleaned.listeners.len(), 1);
        let note = cleaned.listeners[0].note.clone().unwrap();
        assert!(note.chars().count() <= WORD_MAX && !note.contains('\n'));
        assert!(!cleaned.version.contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_value(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _status: Result<Status, _> = read_reply(&bytes);
            let _list: Result<Vec<Child>, _> = read_reply(&bytes);
            let _request: Result<Request, _> = serde_json::from_slice(&bytes);
        }

        #[test]
        fn every_request_survives_the_wire(
            path in "\\PC{0,30}", content in ".{0,20}", mode: u32, time: i64, secs: u64,
        ) {
            for request in [
                Request::Write {
                    path: path.clone(), content_b64: content.clone(), mode,
                    mtime: Some(Stamp(time)), owner: None,
                },
                Request::List { path: path.clone() },
                Request::Connect {
                    addr: "127.0.0.1:1".parse().unwrap(), send_b64: content, read_max: 1,
                    timeout_ms: secs,
                },
            ] {
                let line = serde_json::to_string(&request).unwrap();
                prop_assert!(!line.contains('\n'));
                prop_assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
            }
        }
    }
}
