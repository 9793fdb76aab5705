//! Streams of the API, passed on to the browser piece by piece as they come.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use reqwest::Method;

use super::Web;
use super::error::Failure;
use super::page::query;
use super::visitor::Visitor;

/// New events.
pub(super) async fn logs(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let known = ["q", "decky", "service", "kind", "src", "session"];
    let asked = query(uri.query().unwrap_or_default(), &known);
    pass(web, &visitor, &format!("/stream?{asked}"), &headers).await
}

/// States of workers.
pub(super) async fn workers(
    State(web): State<Web>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    pass(web, &visitor, "/workers/stream", &headers).await
}

async fn pass(
    web: Web,
    visitor: &Visitor,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let mut request = web.request(&visitor.caller, Method::GET, path).await;
    if let Some(id) = headers.get("last-event-id").and_then(|v| v.to_str().ok()) {
        request = request.header("last-event-id", id);
    }
    let reply = web.reply(request, "/live").await?;
    let stop = web.stop.clone();
    // The next piece is read when the browser has taken the last one: a slow browser
    // holds up nothing but its own stream, and one that left ends it.
    let pieces = stream::unfold((reply, stop), |(mut reply, stop)| async move {
        let piece = tokio::select! {
            () = stop.cancelled() => return None,
            piece = reply.chunk() => piece,
        };
        let piece: Bytes = piece.ok()??;
        Some((Ok::<_, std::convert::Infallible>(piece), (reply, stop)))
    });
    Ok((
        [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-cache, no-store"),
        ],
        Body::from_stream(pieces),
    )
        .into_response())
}
