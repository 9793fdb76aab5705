//! When a page cannot be shown: what the API said, as a page of its own.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

/// Why not.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Nobody is logged in, or no more; `0` is where to go back to.
    LoggedOut(String),
    /// The login was right as far as it went; the account has a second factor.
    CodeNeeded,
    /// The password must be changed first.
    MustChange,
    /// The API refused or failed.
    Api {
        /// HTTP status.
        status: StatusCode,
        /// What happened and what to do, for people.
        detail: String,
        /// Under which the API's log speaks of it.
        request_id: String,
    },
    /// The API could not be asked.
    Unreachable(String),
    /// A template or a reply was not what it should be.
    Broken(String),
}

impl Failure {
    /// What to tell beside the form that caused it.
    pub(super) fn detail(&self) -> String {
        match self {
            Failure::Api { detail, .. } => detail.clone(),
            Failure::LoggedOut(_) => "The session is over; log in again.".to_owned(),
            Failure::CodeNeeded => "The code of the authenticator is missing.".to_owned(),
            Failure::MustChange => "Change the password first.".to_owned(),
            Failure::Unreachable(_) => "The API cannot be reached; try again.".to_owned(),
            Failure::Broken(_) => {
                "Something failed; the log of the web worker tells more.".to_owned()
            }
        }
    }
}

impl From<askama::Error> for Failure {
    fn from(error: askama::Error) -> Self {
        Failure::Broken(format!("rendering: {error}"))
    }
}

#[derive(Template)]
#[template(path = "error.html", config = "src/askama.toml")]
struct Page<'a> {
    css: String,
    title: &'a str,
    detail: &'a str,
    request_id: &'a str,
    retry: bool,
}

fn page(status: StatusCode, title: &str, detail: &str, request_id: &str) -> Response {
    let page = Page {
        css: super::assets::link("app.css"),
        title,
        detail,
        request_id,
        retry: status == StatusCode::SERVICE_UNAVAILABLE,
    };
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(_) => status.into_response(),
    }
}

/// A page with one sentence.
pub(super) fn plain(status: StatusCode, detail: &str) -> Response {
    page(
        status,
        status.canonical_reason().unwrap_or("Error"),
        detail,
        "",
    )
}

/// There is no such page.
pub(super) async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "There is no page at this address.")
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::LoggedOut(back) => {
                let to = format!("/login?next={}", super::text::encode(&back));
                Redirect::to(&to).into_response()
            }
            Failure::CodeNeeded => Redirect::to("/login").into_response(),
            Failure::MustChange => Redirect::to("/password").into_response(),
            Failure::Api {
                status,
                detail,
                request_id,
                ..
            } => {
                let title = status.canonical_reason().unwrap_or("Refused");
                page(status, title, &detail, &request_id)
            }
            Failure::Unreachable(why) => {
                tracing::warn!("the API cannot be reached: {why}");
                let mut response = page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The API does not answer",
                    "This page tries again by itself. If it stays like this, see whether decnet-api.service runs: decnet status.",
                    "",
                );
                let soon = HeaderValue::from_static("5");
                response.headers_mut().insert(header::RETRY_AFTER, soon);
                response
            }
            Failure::Broken(why) => {
                tracing::error!("a page failed: {why}");
                plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The page could not be made; the log of the web worker tells more.",
                )
            }
        }
    }
}
