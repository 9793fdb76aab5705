//! `/workers/stream` and `/workers/{name}/log`: the workers panel, live.
//!
//! A stream sends the body of `/workers` at once, whenever anything in it but an age has
//! changed, and every 15 s anyway, which keeps proxies from closing the connection. What
//! systemd and the pulse files say is read once a second at most, however many people
//! watch, and not at all while nobody does. It works without a bus.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path as FilePath;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior};
use utoipa::{IntoParams, ToSchema};

use super::auth::{self, Admin, TokenHash, Viewer};
use super::error::{Error, Problem};
use super::extract::Query;
use super::stream::Seat;
use super::workers::{self, WorkerList};
use super::{Api, stream as events};

/// How often a stream looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Looks after which something is sent although nothing changed, and after which the
/// session is looked at again.
const QUIET: u32 = 15;
/// Most of a log file that is read, from its end.
const TAIL_BYTES: u64 = 256 * 1024;

/// Every worker with its state, sent again whenever it changes.
#[utoipa::path(
    get, path = "/workers/stream", tag = "workers",
    responses(
        (status = 200, content_type = "text/event-stream", body = String,
         description = "`event: workers` with the body of GET /workers as data"),
        (status = 401, body = Problem),
        (status = 429, description = "Too many open streams for this account", body = Problem),
    )
)]
pub(super) async fn watch(
    State(api): State<Api>,
    Viewer(member): Viewer,
) -> Result<Response, Error> {
    let seat = events::seat(&api, &member)?;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher {
        api,
        ticks,
        shown: None,
        quiet: 0,
        token: member.token,
        _seat: seat,
    };
    Ok(events::reply(Body::from_stream(stream::unfold(
        watcher,
        |mut watcher| async move {
            let chunk = watcher.next().await?;
            Some((Ok::<_, std::convert::Infallible>(chunk), watcher))
        },
    ))))
}

/// One open stream.
struct Watcher {
    api: Api,
    ticks: Interval,
    /// What the client has on its screen.
    shown: Option<WorkerList>,
    /// Looks since something was sent.
    quiet: u32,
    token: TokenHash,
    _seat: Seat,
}

impl Watcher {
    /// The next piece to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                () = self.api.stop.cancelled() => return None,
                _ = self.ticks.tick() => {}
            }
            self.quiet += 1;
            if self.quiet >= QUIET {
                auth::resolve(&self.api, &self.token).await.ok()??;
            }
            let now = workers::snapshot(&self.api).await;
            let changed = self.shown.as_ref().is_none_or(|shown| !shown.says(&now));
            if changed || self.quiet >= QUIET {
                self.quiet = 0;
                // A struct of texts and numbers always serialises.
                let data = serde_json::to_string(&now).unwrap_or_default();
                self.shown = Some(now);
                return Some(format!("event: workers\ndata: {data}\n\n").into());
            }
        }
    }
}

/// How much of the log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct LogTailQuery {
    /// Lines, from the end; 200 unless told.
    #[param(minimum = 1, maximum = 2000)]
    lines: Option<usize>,
}

/// The end of a worker's log.
#[derive(Serialize, ToSchema)]
pub(super) struct LogTail {
    /// Oldest first.
    lines: Vec<String>,
}

/// The newest lines of a worker's log.
#[utoipa::path(
    get, path = "/workers/{name}/log", tag = "workers",
    params(("name" = String, Path, description = "A worker of the registry"), LogTailQuery),
    responses(
        (status = 200, body = LogTail),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "No such worker, or it has written no log here", body = Problem),
    )
)]
pub(super) async fn log(
    State(api): State<Api>,
    _admin: Admin,
    Path(name): Path<String>,
    Query(query): Query<LogTailQuery>,
) -> Result<axum::Json<LogTail>, Error> {
    let row = workers::find(&name)?;
    let most = query.lines.unwrap_or(200);
    if !(1..=2000).contains(&most) {
        return Err(Error::bad_request("lines takes 1 to 2000."));
    }
    let path = api.config.paths.worker_log(row.name);
    match tail(&path, most) {
        Ok(lines) => Ok(axum::Json(LogTail { lines })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::not_found(format!(
                "{} has no log file on this host; under `decnet up` everything goes to the terminal.",
                row.name
            )))
        }
        Err(error) => Err(Error::internal(format!(
            "reading {}: {error}",
            path.display()
        ))),
    }
}

/// The last `most` lines of a file; of a long one only its end is read.
fn tail(path: &FilePath, most: usize) -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line of a part is most likely not a whole one.
    let lines: Vec<&str> = text.lines().skip(usize::from(from > 0)).collect();
    let first = lines.len().saturating_sub(most);
    Ok(lines.into_iter().skip(first).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_newest_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), ["b", "c"]);
        let long = "0123456789\n".repeat(30_000);
        std::fs::write(&path, long).unwrap();
        let lines = tail(&path, 2000).unwrap();
        assert_eq!(lines.len(), 2000);
        assert!(lines.iter().all(|l| l == "0123456789"));
        let all = tail(&path, usize::MAX).unwrap();
        assert!(all.iter().all(|l| l == "0123456789"), "no half line");
    }
}
