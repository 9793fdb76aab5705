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
use crate::db::Page;
use crate::db::attack_session::{AttackSession, AttackSessionFilter};
use crate::db::log::{LogFilter, LogRow};

/// Most events of a session that its transcript is made of.
const EVENTS: u32 = 5000;

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
    let filter = AttackSessionFilter {
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

/// The session's events, oldest first.
async fn events(api: &Api, id: &str) -> Result<Vec<LogRow>, Error> {
    let filter = LogFilter {
        session: Some(id.to_owned()),
        ..LogFilter::default()
    };
    let mut rows: Vec<LogRow> = Vec::new();
    while rows.len() < EVENTS as usize {
        let page = Page {
            before: rows.last().map(|row| row.id),
            limit: 1000,
        };
        let more = api.db.log_list(&filter, page).await?;
        let last = more.len() < 1000;
        rows.extend(more);
        if last {
            break;
        }
    }
    rows.reverse();
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

/// What was said in a session, for a terminal player: at most its newest 5,000 events.
#[utoipa::path(
    get, path = "/sessions/{id}/transcript", tag = "findings",
    params(("id" = String, Path, description = "The id its events carry")),
    responses(
        (status = 200, body = Transcript),
        (status = 404, description = "There is no such session", body = Problem),
    )
)]
pub(super) async fn transcript(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<Transcript>, Error> {
    let session = find(&api, &id).await?;
    let rows = events(&api, &id).await?;
    Ok(axum::Json(transcript::of(&session, &rows)))
}

/// The transcript as an asciicast (version 2), for any terminal player.
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
    let rows = events(&api, &id).await?;
    let body = transcript::of(&session, &rows).cast();
    let headers = [
        (header::CONTENT_TYPE, "application/x-asciicast"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"session.cast\"",
        ),
    ];
    Ok((headers, body).into_response())
}
