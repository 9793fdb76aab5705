//! Connections of attackers, and a player for what was said in each.

use askama::Template;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use reqwest::Method;
use serde_json::Value;

use super::Web;
use super::attackers::parameter;
use super::error::Failure;
use super::page::{Shell, next_link, query, show};
use super::text::{self, When, duration, number, visible, when, word};
use super::visitor::Visitor;

/// A session in a list.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) attacker: String,
    pub(super) attacker_link: String,
    pub(super) decky: String,
    pub(super) service: String,
    pub(super) started: When,
    pub(super) lasted: String,
    pub(super) open: bool,
    pub(super) events: String,
    pub(super) commands: String,
    pub(super) logins: String,
}

/// A session for a page.
pub(super) fn session(row: &Value, visitor: &Visitor) -> Session {
    let attacker = row["attacker_ip"].as_str().unwrap_or_default();
    Session {
        id: text::encode(row["id"].as_str().unwrap_or_default()),
        attacker: visible(attacker),
        attacker_link: text::encode(attacker),
        decky: word(row, "decky"),
        service: word(row, "service"),
        started: when(row, "started_at", visitor.look.tz()),
        lasted: duration(row["duration_ms"].as_i64().unwrap_or(0)),
        open: row["ended_at"].is_null(),
        events: number(row, "events"),
        commands: number(row, "commands"),
        logins: number(row, "credentials"),
    }
}

#[derive(Template)]
#[template(path = "sessions.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<Session>,
    next: String,
    src: String,
    decky: String,
    service: String,
}

/// The list.
pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let given = uri.query().unwrap_or_default();
    let asked = query(given, &["src", "decky", "service", "before"]);
    let found = web
        .get(&visitor.caller, &format!("/sessions?{asked}"))
        .await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    show(&List {
        rows: rows.iter().map(|row| session(row, &visitor)).collect(),
        next: next_link(&visitor.here, &found["next"]),
        src: visible(&parameter(given, "src")),
        decky: visible(&parameter(given, "decky")),
        service: visible(&parameter(given, "service")),
        shell: Shell::new(&visitor, "Sessions", "/sessions"),
    })
}

/// One line of the transcript.
struct Line {
    /// Milliseconds since the beginning, for the player.
    at: u64,
    clock: String,
    typed: bool,
    text: String,
}

#[derive(Template)]
#[template(path = "session.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    session: Session,
    lines: Vec<Line>,
    /// Whether the session goes on behind the last line.
    more: bool,
}

/// The player; without JavaScript it is the whole text.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = text::encode(&id);
    let row = web.get(&visitor.caller, &format!("/sessions/{id}")).await?;
    let path = format!("/sessions/{id}/transcript");
    let said = web.get(&visitor.caller, &path).await?;
    let events = said["events"].as_array().map_or(&[][..], Vec::as_slice);
    // What was typed stands in the output as well, as terminals echo it.
    let lines = events.iter().filter(|event| event[1] == "o").map(|event| {
        let seconds = event[0].as_f64().unwrap_or(0.0).max(0.0);
        let text = event[2].as_str().unwrap_or_default().trim_end();
        Line {
            at: std::time::Duration::try_from_secs_f64(seconds)
                .ok()
                .and_then(|d| u64::try_from(d.as_millis()).ok())
                .unwrap_or(0),
            clock: format!("{seconds:.1}"),
            typed: text.starts_with("> "),
            text: visible(text),
        }
    });
    show(&One {
        lines: lines.collect(),
        more: !said["next"].is_null(),
        session: session(&row, &visitor),
        shell: Shell::new(&visitor, "Session", "/sessions"),
    })
}

/// The transcript as a file for any terminal player.
pub(super) async fn cast(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let path = format!("/sessions/{}/transcript.cast", text::encode(&id));
    download(
        &web,
        &visitor,
        &path,
        "application/x-asciicast",
        "session.cast",
    )
    .await
}

/// Passes a file of the API on, as an attachment and nothing else.
pub(super) async fn download(
    web: &Web,
    visitor: &Visitor,
    path: &str,
    kind: &'static str,
    name: &str,
) -> Result<Response, Failure> {
    let request = web.request(&visitor.caller, Method::GET, path).await;
    let reply = web.reply(request, "/").await?;
    let name = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let name = name.unwrap_or(HeaderValue::from_static("attachment"));
    Ok(pass_on(reply, HeaderValue::from_static(kind), name))
}

/// Passes the body of a reply on as it comes.
pub(super) fn pass_on(reply: reqwest::Response, kind: HeaderValue, name: HeaderValue) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_DISPOSITION, name);
    if let Some(size) = reply.content_length() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    let pieces = futures_util::stream::unfold(reply, |mut reply| async move {
        match reply.chunk().await {
            Ok(Some(piece)) => Some((Ok(piece), reply)),
            Ok(None) => None,
            // Said aloud, so that half a file is not taken for a whole one.
            Err(error) => Some((Err(std::io::Error::other(error)), reply)),
        }
    });
    (headers, Body::from_stream(pieces)).into_response()
}
