//! The Docker engine, reached through its socket. So far only the question whether it
//! is there: `decnet doctor` asks.

use bollard::{ClientVersion, Docker};

/// The engine's usual socket.
pub const SOCKET: &str = "/var/run/docker.sock";

/// Longest wait for an answer, in seconds.
const PATIENCE: u64 = 5;

/// API versions to speak, best first: recent engines refuse old clients and old
/// engines (20.10) refuse new ones.
const VERSIONS: [ClientVersion; 2] = [
    ClientVersion {
        major_version: 1,
        minor_version: 44,
    },
    ClientVersion {
        major_version: 1,
        minor_version: 41,
    },
];

/// The version of the engine behind the socket at `path`.
///
/// # Errors
/// One line saying why there is no answer.
pub async fn version(path: &str) -> Result<String, String> {
    let mut refused = String::new();
    for version in &VERSIONS {
        let engine = Docker::connect_with_unix(path, PATIENCE, version)
            .map_err(|e| format!("connecting to {path}: {e}"))?;
        match engine.version().await {
            Ok(told) => return Ok(told.version.unwrap_or_else(|| "unknown".to_owned())),
            // The engine is there and wants another version.
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 400,
                message,
            }) => refused = message,
            Err(error) => return Err(format!("asking {path}: {error}")),
        }
    }
    Err(format!(
        "the engine at {path} speaks no version we know: {refused}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn an_engine_too_old_for_our_first_version_is_asked_in_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let n = peer.read(&mut head).await.unwrap();
                let old = String::from_utf8_lossy(&head[..n]).contains("/v1.41/");
                let (status, body) = if old {
                    ("200 OK", r#"{"Version":"20.10.24"}"#)
                } else {
                    (
                        "400 Bad Request",
                        r#"{"message":"client version 1.44 is too new"}"#,
                    )
                };
                let reply = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                peer.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        let told = version(&path.display().to_string()).await;
        assert_eq!(told.as_deref(), Ok("20.10.24"));
    }

    #[tokio::test]
    async fn no_socket_is_one_line() {
        let why = version("/nonexistent/docker.sock").await.unwrap_err();
        assert!(why.contains("/nonexistent/docker.sock"), "{why}");
        assert_eq!(why.lines().count(), 1);
    }
}
