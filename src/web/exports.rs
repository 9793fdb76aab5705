//! Exports: the form on the pages of lists, which orders one under the page's filter, and
//! the file that came of it. The job's page tells how far it is.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Web;
use super::deploy::to_job;
use super::error::Failure;
use super::page::{back, local, query};
use super::sessions::pass_on;
use super::text;
use super::visitor::{Posted, Visitor};

/// What the form of a page orders.
pub(super) struct Export {
    /// Which list.
    pub(super) what: &'static str,
    /// The page's filter, in which nothing but what [`text::encode`] lets through stands.
    pub(super) query: String,
    /// There are lines to crack.
    pub(super) cracks: bool,
}

/// The conditions that a list knows.
fn conditions(what: &str) -> &'static [&'static str] {
    match what {
        "events" => &[
            "q", "decky", "service", "kind", "src", "session", "since", "until",
        ],
        "attackers" => &["search", "country", "service", "decky", "activity"],
        "credentials" => &["src", "decky", "service", "principal", "sha256"],
        _ => &[],
    }
}

impl Export {
    /// Of a list under the conditions of a page.
    pub(super) fn new(what: &'static str, given: &str) -> Self {
        Self {
            what,
            query: query(given, conditions(what)),
            cracks: what == "credentials",
        }
    }
}

/// Orders one; what is wrong is said on the page that asked.
pub(super) async fn order(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let what = posted.field("what");
    let filter: Map<String, Value> = text::pairs(posted.field("query"))
        .filter(|(name, value)| conditions(what).contains(&name.as_str()) && !value.is_empty())
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let body = json!({"what": what, "format": posted.field("format"), "filter": filter});
    let caller = &posted.visitor.caller;
    match web.send(caller, Method::POST, "/exports", &body).await {
        Ok(done) => Ok(to_job(&done)),
        Err(failure @ Failure::Api { .. }) => {
            Ok(back(local(posted.field("here")), &failure.detail()))
        }
        Err(other) => Err(other),
    }
}

/// What came of it.
pub(super) async fn file(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let path = format!("/jobs/{}/file", text::encode(&id));
    let request = web.request(&visitor.caller, Method::GET, &path).await;
    let reply = web.reply(request, "/").await?;
    let given = |name| reply.headers().get(name).cloned();
    let kind = given(header::CONTENT_TYPE);
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    // The API names the file; whatever it says, nothing is shown.
    let named = given(header::CONTENT_DISPOSITION);
    let named = named.filter(|value| value.as_bytes().starts_with(b"attachment"));
    let named = named.unwrap_or(HeaderValue::from_static("attachment"));
    Ok(pass_on(reply, kind, named))
}
