//! The decky's control socket: one JSON object per line each way, at
//! `<decky directory>/control.sock`, mode 0660. The reconciler asks who runs here and
//! tells it to stop. Who may speak follows from modes: the directory and the socket are
//! the decky's and the service group's. (In a user namespace SO_PEERCRED says nobody.)

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::model::Listener;

/// Longest request or reply line.
const LINE_MAX: u64 = 256 * 1024;
/// Longest wait for the other end.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Who are you?
    Status,
    /// Finish your connections and go.
    Stop,
}

/// What a decky says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Fingerprint of the configuration it was started with.
    pub config_hash: String,
    /// Program version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Its sockets.
    pub listeners: Vec<Listener>,
}

/// Where the socket of a decky lies.
#[must_use]
pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Answers until `stop`; a stop request cancels it.
///
/// # Errors
/// When the socket cannot be bound.
pub async fn serve(dir: &Path, status: Status, stop: CancellationToken) -> io::Result<()> {
    let path = socket_path(dir);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        // One at a time: the reconciler is the only caller, and a caller that does not
        // finish is cut off.
        let answered = tokio::time::timeout(PATIENCE, answer(stream, &status, &stop)).await;
        match answered {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("control: {error}"),
            Err(_) => tracing::debug!("control: the caller did not finish"),
        }
    }
    std::fs::remove_file(&path)
}

async fn answer(stream: UnixStream, status: &Status, stop: &CancellationToken) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_MAX))
        .read_line(&mut line)
        .await?;
    let mut reply = match serde_json::from_str(&line)? {
        Request::Status => serde_json::to_string(status)?,
        Request::Stop => {
            stop.cancel();
            "{}".to_owned()
        }
    };
    reply.push('\n');
    write.write_all(reply.as_bytes()).await
}

/// Asks the decky in `dir` who it is; `None` when nobody answers there.
pub async fn status(dir: &Path) -> Option<Status> {
    let reply = ask(dir, Request::Status).await.ok()?;
    serde_json::from_str(&reply).ok()
}

/// Tells the decky in `dir` to stop.
///
/// # Errors
/// When nobody answers there.
pub async fn stop(dir: &Path) -> io::Result<()> {
    ask(dir, Request::Stop).await.map(|_| ())
}

async fn ask(dir: &Path, request: Request) -> io::Result<String> {
    let ask = async {
        let mut stream = UnixStream::connect(socket_path(dir)).await?;
        let mut line = serde_json::to_string(&request)?;
        line.push('\n');
        stream.write_all(line.as_bytes()).await?;
        let mut reply = String::new();
        // A hostile decky can at worst send this much.
        BufReader::new(stream.take(LINE_MAX))
            .read_line(&mut reply)
            .await?;
        Ok(reply)
    };
    tokio::time::timeout(PATIENCE, ask)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}
