//! The connection to the engine, and the one request our client library cannot make.
//!
//! No engine on the host is an answer, not an error. Every request names the API
//! version: the library asks for its own newest below no version, which an engine
//! answers with whatever it likes best. Its create request also lacks the container's
//! MAC address, which engines before API 1.44 read from nowhere else.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, SystemVersion};
use hyper::body::{Body, Incoming};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Longest wait for the head of an answer, in seconds; an import counts whole.
const PATIENCE: u64 = 120;
/// Longest wait for the first answer of all.
const FIRST: Duration = Duration::from_secs(5);
/// The API version spoken where the engine still speaks it: Docker 20.10's.
const API: (u32, u32) = (1, 41);
/// Most bytes of an answer to a create request.
const ANSWER_MAX: usize = 64 * 1024;

/// An engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    client: Docker,
    socket: PathBuf,
    version: String,
    api: String,
}

impl Engine {
    /// Connects to the engine behind `socket`; `None` when there is none.
    ///
    /// # Errors
    /// When there is one and it may not be used, does not answer or is too old.
    pub async fn connect(socket: &Path) -> anyhow::Result<Option<Self>> {
        let shown = socket.display().to_string();
        match UnixStream::connect(socket).await {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "this account may not use the Docker engine at {shown}: add it to the group that owns the socket (sudo usermod -aG docker USER)"
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("connecting to Docker at {shown}"));
            }
        }
        let plain = Docker::connect_with_unix(&shown, PATIENCE, bollard::API_DEFAULT_VERSION)
            .with_context(|| format!("connecting to Docker at {shown}"))?;
        let told = tokio::time::timeout(FIRST, plain.version())
            .await
            .map_err(|_| anyhow::anyhow!("the Docker engine at {shown} does not answer"))?
            .with_context(|| format!("asking the Docker engine at {shown} for its version"))?;
        let api = agree(&told).map_err(|why| anyhow::anyhow!("the engine at {shown} {why}"))?;
        let prefix = format!("/v{api}");
        let client = plain.with_request_modifier(move |mut request| {
            if let Some(uri) = versioned(request.uri(), &prefix) {
                *request.uri_mut() = uri;
            }
            request
        });
        Ok(Some(Self {
            client,
            socket: socket.to_owned(),
            version: told.version.unwrap_or_else(|| "unknown".to_owned()),
            api,
        }))
    }

    /// The client; every request through it names the agreed API version.
    #[must_use]
    pub fn client(&self) -> &Docker {
        &self.client
    }

    /// Where the engine listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The engine's own version, such as `20.10.24`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The agreed API version, such as `1.41`.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Creates a container and gives its id.
    ///
    /// # Errors
    /// What the engine answered.
    pub(super) async fn create(
        &self,
        name: &str,
        body: &ContainerCreateBody,
        mac: Option<&str>,
    ) -> Result<String, Error> {
        let mut body = serde_json::to_value(body)?;
        if let (Some(mac), Some(body)) = (mac, body.as_object_mut()) {
            body.insert("MacAddress".to_owned(), mac.into());
        }
        let path = format!("/v{}/containers/create?name={name}", self.api);
        let (status, answer) = tokio::time::timeout(
            Duration::from_secs(PATIENCE),
            post(&self.socket, &path, body.to_string()),
        )
        .await
        .map_err(|_| Error::RequestTimeoutError)??;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let text = |key: &str| answer.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        match (status, text("Id")) {
            (201, Some(id)) => Ok(id),
            (status_code, _) => Err(Error::DockerResponseServerError {
                status_code,
                message: text("message").unwrap_or_else(|| "an answer without an id".to_owned()),
            }),
        }
    }
}

/// Whether the engine said that something is not there.
pub(super) fn absent(error: &Error) -> bool {
    status(error) == Some(404)
}

/// Whether the engine said that something stands in the way (a name in use, an image
/// with containers, a removal under way).
pub(super) fn conflict(error: &Error) -> bool {
    status(error) == Some(409)
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, without the client's wording around it.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other => other.to_string(),
    }
}

/// The API version both ends speak: ours, or the oldest of an engine that dropped it.
fn agree(told: &SystemVersion) -> Result<String, String> {
    let newest = told.api_version.as_deref().and_then(parse);
    let oldest = told.min_api_version.as_deref().and_then(parse);
    let Some(newest) = newest else {
        return Err("does not name its API version".to_owned());
    };
    if newest < API {
        return Err(format!(
            "speaks API {}.{}; Docker 20.10 (API {}.{}) or newer is needed",
            newest.0, newest.1, API.0, API.1
        ));
    }
    let (major, minor) = oldest.map_or(API, |oldest| oldest.max(API));
    Ok(format!("{major}.{minor}"))
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `uri` below `prefix`; `None` when it is below some version already.
fn versioned(uri: &Uri, prefix: &str) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str();
    if path.starts_with("/v1.") {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{prefix}{path}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

async fn post(socket: &Path, path: &str, body: String) -> Result<(u16, Vec<u8>), Error> {
    let other = |error: hyper::Error| Error::from(io::Error::other(error));
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(other)?;
    let request = Request::post(path)
        .header("Host", "docker")
        .header("Content-Type", "application/json")
        .body(body)
        .map_err(|e| Error::from(io::Error::other(e)))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(other)?;
        let status = answer.status().as_u16();
        Ok((status, read(answer.into_body()).await?))
    };
    // The connection ends by itself once the exchange has dropped its sender.
    let driver = async {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to the engine: {error}");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = exchange => outcome,
        () = driver => Err(Error::RequestTimeoutError),
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            None => return Ok(whole),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let room = ANSWER_MAX.saturating_sub(whole.len());
                    whole.extend(data.iter().take(room));
                }
            }
            Some(Err(error)) => return Err(io::Error::other(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(newest: &str, oldest: &str) -> SystemVersion {
        SystemVersion {
            api_version: Some(newest.to_owned()),
            min_api_version: Some(oldest.to_owned()),
            ..SystemVersion::default()
        }
    }

    #[test]
    fn an_old_and_a_new_engine_are_both_spoken_to_in_a_version_they_know() {
        assert_eq!(agree(&told("1.41", "1.12")).as_deref(), Ok("1.41"));
        assert_eq!(agree(&told("1.48", "1.24")).as_deref(), Ok("1.41"));
        assert_eq!(agree(&told("1.52", "1.44")).as_deref(), Ok("1.44"));
        let why = agree(&told("1.40", "1.12")).unwrap_err();
        assert!(why.contains("20.10"), "{why}");
        assert!(agree(&SystemVersion::default()).is_err());
    }

    #[test]
    fn a_request_is_put_below_the_version_once() {
        let uri: Uri = "unix://2f78/images/create?fromSrc=-".parse().unwrap();
        let uri = versioned(&uri, "/v1.41").unwrap();
        assert_eq!(uri.to_string(), "unix://2f78/v1.41/images/create?fromSrc=-");
        assert_eq!(versioned(&uri, "/v1.41"), None);
    }

    #[tokio::test]
    async fn no_engine_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        assert!(Engine::connect(&path).await.unwrap().is_none());
        // Left behind by an engine that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Engine::connect(&path).await.unwrap().is_none());
    }
}
