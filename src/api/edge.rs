//! What every request and reply passes through: request id, deadline, problem
//! documents, security headers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::error::Error;

/// Longest time from the request's head to the reply's head. Streams answer at once
/// and go on for as long as they like.
const PATIENCE: Duration = Duration::from_secs(30);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Nothing this API sends is a page: whatever a browser makes of it, it may load,
/// run and frame nothing.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Marks a reply whose body stays although its status is not a success.
#[derive(Clone, Debug)]
pub(super) struct AsIs;

/// Wraps every route and every fallback.
pub(super) async fn edge(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => error_reply(Error::unavailable(
            "timeout",
            "The server did not finish in time.",
        )),
    };
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if failed && response.extensions_mut().remove::<AsIs>().is_none() {
        let error = response
            .extensions_mut()
            .remove::<Error>()
            .unwrap_or_else(|| Error::of_status(status));
        if let Some(cause) = &error.cause {
            tracing::error!(request.id = id, %method, path, "request failed: {cause}");
        }
        response = explain(response, &error, &id);
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// The problem document in place of whatever body there was; other headers (Allow)
/// stay.
fn explain(response: Response, error: &Error, id: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if error.status == StatusCode::UNAUTHORIZED {
        parts
            .headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = error.retry_after {
        // Rounded up: a client that obeys must not come too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        parts
            .headers
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    // A struct of strings always serialises.
    let body = serde_json::to_vec(&error.problem(id)).unwrap_or_default();
    Response::from_parts(parts, Body::from(body))
}

fn error_reply(error: Error) -> Response {
    axum::response::IntoResponse::into_response(error)
}

/// The id a proxy gave the request, if it is a harmless word, or one of our own.
fn request_id(request: &Request) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let given = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    match given {
        Some(id) => id.to_owned(),
        None => {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            format!("{:08x}-{count:x}", std::process::id())
        }
    }
}
