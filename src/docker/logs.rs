//! What the operator's own service containers print, through the engine's log API: which
//! containers there are, and the lines of one from a moment on. Who reads keeps the
//! cursor; here is none.

use std::collections::HashMap;
use std::path::Path;

use bollard::container::LogOutput;
use bollard::query_parameters::{ListContainersOptions, LogsOptions};
use futures_util::{Stream, StreamExt};

use crate::docker::{Engine, label};

/// A service container of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id, 64 hex digits.
    pub id: String,
    /// The decky it belongs to.
    pub decky: String,
    /// The service it offers there.
    pub service: String,
    /// It is running now.
    pub running: bool,
}

/// A piece of output: a line with its newline, or a part of a long one without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Printed to the standard error.
    pub stderr: bool,
    /// The engine's stamp, nanoseconds since 1970.
    pub stamp: i64,
    /// The bytes.
    pub text: Vec<u8>,
}

/// The service containers of the installation whose deckies live in `home`, running or
/// not: others may share the engine.
///
/// # Errors
/// One line saying why there is no answer.
pub async fn containers(engine: &Engine, home: &Path) -> Result<Vec<Container>, String> {
    let labels = vec![
        format!("{}=true", label::SERVICE),
        format!("{}={}", label::HOME, home.display()),
    ];
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), labels)])),
        ..ListContainersOptions::default()
    };
    let found = engine.client().list_containers(Some(options)).await;
    let found = found.map_err(|e| format!("listing containers: {e}"))?;
    let read = |summary: bollard::models::ContainerSummary| {
        let labels = summary.labels?;
        Some(Container {
            id: summary.id?,
            decky: labels.get(label::DECKY)?.clone(),
            service: labels.get(label::SERVICE_NAME)?.clone(),
            running: summary.state.is_some_and(|s| s.to_string() == "running"),
        })
    };
    Ok(found.into_iter().filter_map(read).collect())
}

/// The output of container `id` since `seconds` (since 1970): what there is, then what
/// comes, until the container or the engine stops.
pub fn follow(
    engine: &Engine,
    id: &str,
    seconds: i32,
) -> impl Stream<Item = Result<Frame, String>> + use<> {
    let options = LogsOptions {
        follow: true,
        stdout: true,
        stderr: true,
        since: seconds,
        timestamps: true,
        ..LogsOptions::default()
    };
    let pieces = engine.client().logs(id, Some(options));
    pieces.map(|piece| match piece {
        Ok(piece) => frame(piece),
        Err(error) => Err(error.to_string()),
    })
}

/// The stamp of the last line that container `id` printed; `None` before the first.
///
/// # Errors
/// One line saying why there is no answer.
pub async fn last(engine: &Engine, id: &str) -> Result<Option<i64>, String> {
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        timestamps: true,
        tail: "1".to_owned(),
        ..LogsOptions::default()
    };
    let mut pieces = std::pin::pin!(engine.client().logs(id, Some(options)));
    let mut last = None;
    while let Some(piece) = pieces.next().await {
        last = last.max(Some(frame(piece.map_err(|e| e.to_string())?)?.stamp));
    }
    Ok(last)
}

fn frame(piece: LogOutput) -> Result<Frame, String> {
    let stderr = matches!(piece, LogOutput::StdErr { .. });
    let bytes = piece.into_bytes();
    let space = bytes.iter().position(|b| *b == b' ');
    let (stamp, text) = space
        .and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?)))
        .ok_or("a line without a time")?;
    let stamp = std::str::from_utf8(stamp)
        .ok()
        .and_then(|s| s.parse::<jiff::Timestamp>().ok())
        .and_then(|t| i64::try_from(t.as_nanosecond()).ok())
        .ok_or("a line without a time")?;
    Ok(Frame {
        stderr,
        stamp,
        text: text.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_its_stamp_to_the_nanosecond_and_the_rest() {
        let piece = |text: &str| LogOutput::StdErr {
            message: text.to_owned().into(),
        };
        let found = frame(piece("2026-04-17T10:22:56.123456789Z two words\n")).unwrap();
        assert_eq!(found.stamp % 1_000_000_000, 123_456_789);
        assert_eq!(
            (found.stderr, found.text.as_slice()),
            (true, &b"two words\n"[..])
        );
        assert!(frame(piece("yesterday x")).is_err());
        assert!(frame(piece("nospace")).is_err());
    }
}
