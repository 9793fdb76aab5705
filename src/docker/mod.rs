//! The Docker engine, reached through its socket. So far only the question whether it
//! is there: `decnet doctor` asks.

pub mod logs;

use bollard::Docker;

/// The engine's usual socket.
pub const SOCKET: &str = "/var/run/docker.sock";

/// Longest wait for an answer, in seconds.
const PATIENCE: u64 = 5;

/// The version of the engine behind the socket at `path`.
///
/// # Errors
/// One line saying why there is no answer.
pub async fn version(path: &str) -> Result<String, String> {
    // This one question is asked below no API version, so engines of any age answer it.
    let engine = Docker::connect_with_unix(path, PATIENCE, bollard::API_DEFAULT_VERSION)
        .map_err(|e| format!("connecting to {path}: {e}"))?;
    let told = engine
        .version()
        .await
        .map_err(|e| format!("asking {path}: {e}"))?;
    Ok(told.version.unwrap_or_else(|| "unknown".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn an_engine_of_any_age_says_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let n = peer.read(&mut head).await.unwrap();
            // An old engine refuses every path below a version it does not know.
            let plain = head[..n].starts_with(b"GET /version ");
            let (status, body) = if plain {
                ("200 OK", r#"{"Version":"20.10.24"}"#)
            } else {
                ("400 Bad Request", r#"{"message":"too new"}"#)
            };
            let reply = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            peer.write_all(reply.as_bytes()).await.unwrap();
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
