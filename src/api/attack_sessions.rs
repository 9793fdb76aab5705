//! `/sessions`: connections of attackers, and what was said in each of them.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Viewer;
use super::error::{Error, Problem};
use super::extract::Query;
use super::transcript::{self, Transcript};
use super::{Api, logs};
use crate::db::Origin;
use crate::db::attack_session::AttackSession;
use crate::db::log::{LogFilter, LogRow};

/// Most events of a session that one part of its transcript is made of.
const EVENTS: u32 = 5000;
/// Most events in a downloaded transcript.
const CAST: usize = 50_000;

/// Which sessions; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionQuery {
    /// `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Attacker's address.
    src: Option<String>,
    /// Decky name.
    decky: Option<String>,
    /// Service slug.
    service: Option<String>,
}

/// A connection of an attacker.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionItem {
    id: String,
    attacker_ip: String,
    decky: String,
    service: String,
    /// RFC 3339.
    started_at: String,
    /// RFC 3339; null while it is open, or when its end was not seen.
    ended_at: Option<String>,
    /// From the first event to the last.
    duration_ms: i64,
    events: i64,
    commands: i64,
    /// Logins tried.
    credentials: i64,
}

impl From<AttackSession> for SessionItem {
    fn from(row: AttackSession) -> Self {
        Self {
            duration_ms: row.last_seen.0.saturating_sub(row.started_at.0) / 1000,
            id: row.id,
            attacker_ip: row.attacker_ip,
            decky: row.decky,
            service: row.service,
            started_at: row.started_at.to_string(),
            ended_at: row.ended_at.map(|at| at.to_string()),
            events: row.events,
            commands: row.commands,
            credentials: row.logins,
        }
    }
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionPage {
    items: Vec<SessionItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// Sessions, newest first.
#[utoipa::path(
    get, path = "/sessions", tag = "findings", params(SessionQuery),
    responses(
        (status = 200, body = SessionPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<SessionQuery>,
) -> Result<axum::Json<SessionPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let filter = Origin {
        attacker_ip: logs::address("src", query.src)?,
        decky: logs::text("decky", query.decky)?,
        service: logs::text("service", query.service)?,
    };
    let rows = api.db.attack_session_list(&filter, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.n).filter(|_| full);
    let items = rows.into_iter().map(SessionItem::from).collect();
    Ok(axum::Json(SessionPage { items, next }))
}

async fn find(api: &Api, id: &str) -> Result<AttackSession, Error> {
    let row = api.db.attack_session_get(id).await?;
    row.ok_or_else(|| Error::not_found("There is no such session, or no more."))
}

/// At most `most` of the session's events behind the one called `after`, oldest first.
async fn events(api: &Api, id: &str, after: i64, most: usize) -> Result<Vec<LogRow>, Error> {
    let filter = LogFilter {
        session: Some(id.to_owned()),
        ..LogFilter::default()
    };
    let mut rows: Vec<LogRow> = Vec::new();
    while rows.len() < most {
        let limit = u32::try_from(most - rows.len()).unwrap_or(1000).min(1000);
        let after = rows.last().map_or(after, |row| row.id);
        let more = api.db.log_after(after, limit, &filter).await?;
        let last = u32::try_from(more.len()).is_ok_and(|n| n < limit);
        rows.extend(more);
        if last {
            break;
        }
    }
    Ok(rows)
}

/// One session.
#[utoipa::path(
    get, path = "/sessions/{id}", tag = "findings",
    params(("id" = String, Path, description = "The id its events carry")),
    responses(
        (status = 200, body = SessionItem),
        (status = 404, description = "There is no such session", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<SessionItem>, Error> {
    Ok(axum::Json(find(&api, &id).await?.into()))
}

/// Which part of a transcript.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct TranscriptQuery {
    /// `next` of the part before; nothing or 0 is the beginning.
    #[param(minimum = 0)]
    offset: i64,
    /// Events of the session per part; 5,000 unless told.
    #[param(minimum = 1, maximum = 5000)]
    limit: Option<u32>,
}

/// What was said in a session, for a terminal player, from its beginning on.
#[utoipa::path(
    get, path = "/sessions/{id}/transcript", tag = "findings",
    params(("id" = String, Path, description = "The id its events carry"), TranscriptQuery),
    responses(
        (status = 200, body = Transcript),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 404, description = "There is no such session", body = Problem),
    )
)]
pub(super) async fn transcript(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
    Query(query): Query<TranscriptQuery>,
) -> Result<axum::Json<Transcript>, Error> {
    let limit = query.limit.unwrap_or(EVENTS);
    if !(1..=EVENTS).contains(&limit) {
        return Err(Error::bad_request("limit takes 1 to 5000."));
    }
    if query.offset < 0 {
        return Err(Error::bad_request(
            "offset takes `next` of the part before.",
        ));
    }
    let session = find(&api, &id).await?;
    let rows = events(&api, &id, query.offset, limit as usize).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == limit);
    let next = rows.last().map(|row| row.id).filter(|_| full);
    Ok(axum::Json(transcript::of(&session, &rows, next)))
}

/// The transcript as an asciicast (version 2), for any terminal player; the first 50,000
/// events.
#[utoipa::path(
    get, path = "/sessions/{id}/transcript.cast", tag = "findings",
    params(("id" = String, Path, description = "The id its events carry")),
    responses(
        (status = 200, content_type = "application/x-asciicast", body = String),
        (status = 404, description = "There is no such session", body = Problem),
    )
)]
pub(super) async fn cast(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let session = find(&api, &id).await?;
    let rows = events(&api, &id, 0, CAST).await?;
    let body = transcript::of(&session, &rows, None).cast();
    let headers = [
        (header::CONTENT_TYPE, "application/x-asciicast"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"session.cast\"",
        ),
    ];
    Ok((headers, body).into_response())
}
