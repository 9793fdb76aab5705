//! The answering end of the control socket: several callers at once, each bounded in
//! time and size, none able to hold up another. What can be asked and how is said in
//! [`control`](crate::decoy::control).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::decoy::control::{
    CONNECT_MAX, Connected, Deleted, LINE_MAX, PATIENCE, READ_MAX, Refusal, Reply, Request, Status,
    Why, socket_path,
};
use crate::decoy::disk::{self, Disk, Place};
use crate::decoy::offer::Offer;
use crate::decoy::run::{Spec, spec_path};
use crate::model::Stamp;
use crate::net::file;

/// Callers served at the same time; one more is turned away.
const CALLERS: usize = 32;
/// Longest name of a user.
const OWNER_MAX: usize = 32;

/// What can be cared for.
#[derive(Debug)]
pub(super) struct Care {
    /// The decky's directory.
    pub(super) dir: PathBuf,
    /// What it was started with.
    pub(super) spec: Spec,
    /// Its services.
    pub(super) offer: Offer,
    /// Its planted files.
    pub(super) disk: Arc<Disk>,
    /// Cancelled when it should stop.
    pub(super) stop: CancellationToken,
}

impl From<disk::Fault> for Refusal {
    fn from(fault: disk::Fault) -> Self {
        let why = match fault {
            disk::Fault::Missing(_) => Why::Missing,
            disk::Fault::IsDir(_) | disk::Fault::NotDir(_) => Why::BadPath,
            disk::Fault::Full(_) => Why::Full,
            disk::Fault::Io(_) => Why::Failed,
        };
        refuse(why, fault.to_string())
    }
}

fn refuse(why: Why, text: impl Into<String>) -> Refusal {
    let text = text.into();
    Refusal { why, text }
}

/// Binds the socket in `dir`, for its owner and group only.
///
/// # Errors
/// When it cannot be bound.
pub(super) fn bind(dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(dir);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Answers until the decky stops; a stop request makes it.
///
/// # Errors
/// When the socket cannot be removed at the end.
pub(super) async fn serve(listener: UnixListener, care: Arc<Care>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CALLERS));
    loop {
        let stream = tokio::select! {
            () = care.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let care = Arc::clone(&care);
        // Ends by itself: every step of it has a time limit.
        tokio::spawn(async move {
            if let Err(error) = exchange(stream, &care).await {
                tracing::debug!("control: {error}");
            }
            drop(place);
        });
    }
    match std::fs::remove_file(socket_path(&care.dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn exchange(stream: UnixStream, care: &Care) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut read = BufReader::new(read.take(LINE_MAX));
    let taken = timeout(PATIENCE, read.read_until(b'\n', &mut line)).await;
    match taken {
        Ok(taken) => taken?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let request = if line.ends_with(b"\n") {
        serde_json::from_slice(&line).map_err(|e| e.to_string())
    } else {
        Err("the request is too long or cut off".to_owned())
    };
    drop(line);
    let reply = match request {
        Ok(request) => care.answer(request).await,
        Err(why) => Err(refuse(Why::BadRequest, why)),
    };
    let reply = match reply {
        Ok(value) => Reply::Ok(value),
        Err(refusal) => Reply::Refused(refusal),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    timeout(PATIENCE, write.write_all(&line)).await?
}

impl Care {
    async fn answer(&self, request: Request) -> Result<serde_json::Value, Refusal> {
        match request {
            Request::Status => value(&self.status()),
            Request::Stop => {
                self.stop.cancel();
                Ok(serde_json::json!({}))
            }
            Request::Configure { spec } => value(&self.configure(*spec).await?),
            Request::Write {
                path,
                content_b64,
                mode,
                mtime,
                owner,
            } => {
                let path = self.place(&path)?;
                let content = STANDARD
                    .decode(content_b64)
                    .map_err(|e| refuse(Why::BadRequest, format!("content_b64: {e}")))?;
                if let Some(owner) = &owner {
                    check_owner(owner)?;
                }
                let mtime = mtime.unwrap_or_else(Stamp::now);
                value(&self.disk.write(path, &content, mode, mtime, owner)?)
            }
            Request::Delete { path } => {
                let removed = self.disk.delete(&self.place(&path)?)?;
                value(&Deleted { removed })
            }
            Request::List { path } => {
                let path = self.place(&path)?;
                let found = self.disk.children(&path);
                if found.is_empty() && !path.is_root() {
                    return Err(disk::Fault::Missing(path).into());
                }
                value(&found)
            }
            Request::Stat { path } => {
                let path = self.place(&path)?;
                value(&self.disk.stat(&path).ok_or(disk::Fault::Missing(path))?)
            }
            Request::Connect {
                addr,
                send_b64,
                read_max,
                timeout_ms,
            } => {
                let send = STANDARD
                    .decode(send_b64)
                    .map_err(|e| refuse(Why::BadRequest, format!("send_b64: {e}")))?;
                if !self.spec.wish.peers.contains(&addr.ip()) {
                    let text = format!("{} is not one of this decky's peers", addr.ip());
                    return Err(refuse(Why::Forbidden, text));
                }
                let limit = Duration::from_millis(timeout_ms).min(CONNECT_MAX);
                value(&connect(self.spec.ip, addr, &send, read_max.min(READ_MAX), limit).await?)
            }
        }
    }

    fn place(&self, path: &str) -> Result<Place, Refusal> {
        Place::parse(path, self.disk.style()).map_err(|e| refuse(Why::BadPath, e))
    }

    fn status(&self) -> Status {
        let (config_hash, listeners) = self.offer.shown();
        Status {
            base_hash: self.spec.base_hash.clone(),
            config_hash,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            listeners,
        }
    }

    async fn configure(&self, spec: Spec) -> Result<Status, Refusal> {
        // What it says of itself does not count: the fingerprints are made again.
        let spec = Spec::new(
            &spec.name,
            spec.ip,
            spec.slot,
            spec.wish,
            spec.persona,
            spec.spool_max_bytes,
        );
        if spec.base_hash != self.spec.base_hash {
            let text = "more than services and settings differs: this needs a restart";
            return Err(refuse(Why::Restart, text));
        }
        self.offer.follow(&spec).await;
        // For whoever starts this decky again without asking (a container engine).
        let path = spec_path(&self.dir);
        let mode = std::fs::metadata(&path).map_or(0o600, |m| m.permissions().mode() & 0o777);
        let text = serde_json::to_vec_pretty(&spec).unwrap_or_default();
        if let Err(error) = file::write_volatile(&path, &text, mode) {
            tracing::warn!("writing {}: {error}", path.display());
        }
        Ok(self.status())
    }
}

fn value(reply: &impl Serialize) -> Result<serde_json::Value, Refusal> {
    serde_json::to_value(reply).map_err(|e| refuse(Why::Failed, e.to_string()))
}

fn check_owner(owner: &str) -> Result<(), Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if owner.len() <= OWNER_MAX && owner.starts_with(first) && owner.chars().all(fits) {
        return Ok(());
    }
    let text = format!(
        "'{}' is not a user name",
        owner
            .chars()
            .take(OWNER_MAX)
            .flat_map(char::escape_default)
            .collect::<String>()
    );
    Err(refuse(Why::BadRequest, text))
}

/// Connects from `own` to `addr`, says `send`, reads until the other end closes,
/// `read_max` bytes came or `limit` is over.
async fn connect(
    own: IpAddr,
    addr: SocketAddr,
    send: &[u8],
    read_max: usize,
    limit: Duration,
) -> Result<Connected, Refusal> {
    let failed = |error: io::Error| refuse(Why::Failed, format!("connecting to {addr}: {error}"));
    let now = Instant::now();
    let deadline = now.checked_add(limit).unwrap_or(now);
    let late = || refuse(Why::Failed, format!("{addr} did not answer in time"));
    let open = async {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if own.is_ipv4() == addr.is_ipv4() {
            socket.bind(SocketAddr::new(own, 0))?;
        }
        let mut stream = socket.connect(addr).await?;
        stream.write_all(send).await?;
        Ok(stream)
    };
    let stream = match timeout_at(deadline, open).await {
        Ok(opened) => opened.map_err(failed)?,
        Err(_) => return Err(late()),
    };
    let mut received = Vec::new();
    let most = u64::try_from(read_max).unwrap_or(u64::MAX);
    let mut stream = stream.take(most);
    // What came until then counts.
    let closed = match timeout_at(deadline, stream.read_to_end(&mut received)).await {
        Ok(Ok(_)) => received.len() < read_max,
        Ok(Err(error)) if received.is_empty() => return Err(failed(error)),
        Ok(Err(_)) => true,
        Err(_) => false,
    };
    Ok(Connected {
        received_b64: STANDARD.encode(&received),
        closed,
    })
}
