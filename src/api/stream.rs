//! `/stream`: new events as they are stored, as server-sent events.
//!
//! `id:` is the row's id, so a client that reconnects with `Last-Event-ID` misses
//! nothing, up to [`REPLAY`] rows; when more were missed an `event: gap` names the ids
//! to fetch from `/logs`. A client too slow for the shared notes reads the database
//! again from where it is: it costs time, not memory. A comment every 15 s keeps
//! proxies from closing the connection; the session is looked at again then, so a
//! revoked one does not go on watching.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Interval, MissedTickBehavior};
use utoipa::IntoParams;

use super::Api;
use super::auth::{self, Member, TokenHash, Viewer};
use super::error::{Error, Problem};
use super::extract::Query;
use super::logs::LogQuery;
use super::tail::{self, Note};
use crate::db::log::LogFilter;

/// Most ids a client is brought over after a reconnect.
const REPLAY: i64 = 10_000;
/// Time between two comments on a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Which events; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Decky name.
    decky: Option<String>,
    /// Service slug.
    service: Option<String>,
    /// Event kind.
    kind: Option<String>,
    /// Attacker's address.
    src: Option<String>,
    /// Connection id.
    session: Option<String>,
    /// Not before this moment, RFC 3339.
    since: Option<String>,
    /// Before this moment, RFC 3339.
    until: Option<String>,
    /// As for `/logs`.
    #[param(max_length = 512)]
    q: Option<String>,
}

impl StreamQuery {
    /// The conditions; `None` when everything is wanted.
    fn filter(self) -> Result<Option<LogFilter>, Error> {
        let given = [
            &self.decky,
            &self.service,
            &self.kind,
            &self.src,
            &self.session,
            &self.since,
            &self.until,
            &self.q,
        ];
        let any = given
            .iter()
            .any(|c| c.as_ref().is_some_and(|c| !c.is_empty()));
        let filter = LogQuery {
            before: None,
            limit: None,
            decky: self.decky,
            service: self.service,
            kind: self.kind,
            src: self.src,
            session: self.session,
            since: self.since,
            until: self.until,
            q: self.q,
        }
        .filter()?;
        Ok(any.then_some(filter))
    }
}

/// Open streams per account.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<String, usize>>>);

impl Seats {
    fn take(&self, user: &str, most: usize) -> Option<Seat> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(user.to_owned()).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat {
            seats: self.clone(),
            user: user.to_owned(),
        })
    }
}

/// A place among the open streams, given back when the stream ends however it ends.
pub(super) struct Seat {
    seats: Seats,
    user: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

/// New events as they are stored.
#[utoipa::path(
    get, path = "/stream", tag = "findings",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "The last id received: what came since is sent first")
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String,
         description = "`event: log` with a LogItem as data; `event: gap` with {\"after\":id,\"before\":id} where more was missed than is replayed"),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 401, body = Problem),
        (status = 429, description = "Too many open streams for this account", body = Problem),
    )
)]
pub(super) async fn stream(
    State(api): State<Api>,
    Viewer(member): Viewer,
    headers: HeaderMap,
    Query(query): Query<StreamQuery>,
) -> Result<Response, Error> {
    let filter = query.filter()?;
    let seat = seat(&api, &member)?;
    // Listening begins before the position is taken: nothing falls in between.
    let notes = api.tail.subscribe();
    let newest = api.db.log_latest_id().await?;
    let resumed = last_event_id(&headers)?;
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    let watcher = Watcher {
        filter,
        notes,
        // An id from the future (the database was replaced) would hide everything.
        at: resumed.unwrap_or(newest).min(newest),
        seen: newest,
        behind: resumed.is_some(),
        ready: VecDeque::from([Bytes::from_static(b"retry: 2000\n\n")]),
        beat,
        token: member.token,
        api,
        _seat: seat,
    };
    let body = Body::from_stream(stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), watcher))
    }));
    Ok(reply(body))
}

/// A place for one more stream of this account, refused before the first byte, so that
/// the client sees the status.
pub(super) fn seat(api: &Api, member: &Member) -> Result<Seat, Error> {
    let most = api.config.api.sse_max_per_user;
    let user = &member.session.user_id;
    api.seats.take(user, most).ok_or_else(|| {
        Error::too_many(
            "too-many-streams",
            format!("This account has {most} open streams; close one (DECNET_SSE_MAX_PER_USER)."),
            Duration::from_secs(5),
        )
    })
}

/// The head of every stream.
pub(super) fn reply(body: Body) -> Response {
    (
        [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-cache, no-store"),
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ],
        body,
    )
        .into_response()
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Error> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = value
        .to_str()
        .ok()
        .and_then(|v| v.trim().parse::<i64>().ok());
    id.filter(|id| *id >= 0)
        .map(Some)
        .ok_or_else(|| Error::bad_request("Last-Event-ID takes an id of this stream."))
}

/// One open stream.
struct Watcher {
    api: Api,
    /// `None`: everything, straight from the notes.
    filter: Option<LogFilter>,
    notes: broadcast::Receiver<Note>,
    /// Everything up to this id was sent, or did not match.
    at: i64,
    /// The newest id known to be stored.
    seen: i64,
    /// The database may hold something after `at`.
    behind: bool,
    ready: VecDeque<Bytes>,
    beat: Interval,
    token: TokenHash,
    _seat: Seat,
}

impl Watcher {
    /// The next piece to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.api.stop.is_cancelled() {
                return None;
            }
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            tokio::select! {
                biased;
                () = self.api.stop.cancelled() => return None,
                _ = self.beat.tick() => {
                    auth::resolve(&self.api, &self.token).await.ok()??;
                    return Some(Bytes::from_static(b": \n\n"));
                }
                note = self.notes.recv() => match note {
                    Ok(Note::Row(id, _)) if id <= self.at => {}
                    Ok(Note::Row(id, frame)) if self.filter.is_none() => {
                        self.at = id;
                        return Some(Bytes::copy_from_slice(frame.as_bytes()));
                    }
                    // The database knows best what matches a filter.
                    Ok(Note::Row(id, _)) => {
                        self.seen = self.seen.max(id);
                        self.skim();
                        self.behind = true;
                    }
                    Ok(Note::Look) | Err(RecvError::Lagged(_)) => self.behind = true,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    /// Takes the notes that already wait: one look answers them all.
    fn skim(&mut self) {
        loop {
            match self.notes.try_recv() {
                Ok(Note::Row(id, _)) => self.seen = self.seen.max(id),
                Ok(Note::Look) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads on from `at`. `None` when the database does not answer: the client comes
    /// back by itself.
    async fn catch_up(&mut self) -> Option<()> {
        match self.read_on().await {
            Ok(()) => Some(()),
            Err(error) => {
                tracing::error!("stream: {:#}", anyhow::Error::new(error));
                None
            }
        }
    }

    async fn read_on(&mut self) -> crate::db::Result<()> {
        let newest = self.api.db.log_latest_id().await?.max(self.seen);
        self.seen = newest;
        if newest - self.at > REPLAY {
            let from = newest - REPLAY;
            let gap = format!(
                "event: gap\ndata: {{\"after\":{},\"before\":{}}}\n\n",
                self.at,
                from + 1
            );
            self.ready.push_back(gap.into());
            self.at = from;
        }
        let everything = LogFilter::default();
        let filter = self.filter.as_ref().unwrap_or(&everything);
        let rows = self.api.db.log_after(self.at, tail::BATCH, filter).await?;
        for row in &rows {
            self.at = row.id;
            self.ready.push_back(tail::frame(row).into());
        }
        if u32::try_from(rows.len()).is_ok_and(|n| n < tail::BATCH) {
            // Everything up to `newest` was stored before this look.
            self.at = self.at.max(newest);
            self.behind = false;
        }
        Ok(())
    }
}
