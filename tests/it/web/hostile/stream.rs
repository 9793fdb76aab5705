//! Streams of the API, passed on as they come.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::{Dashboard, Who};

#[tokio::test]
async fn events_pass_through_as_they_come_and_the_stream_ends_when_the_browser_leaves() {
    let mut dashboard = Dashboard::new().await;
    let request = Dashboard::request(Who::Viewer, Method::GET, "/live/stream?q=a%20b&evil=1")
        .header("last-event-id", "41")
        .body(Body::empty())
        .unwrap();
    let reply = dashboard.router.clone().oneshot(request).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let asked = dashboard.api.asked();
    assert_eq!(asked[0].path, "/stream?q=a%20b");
    assert_eq!(asked[0].headers["last-event-id"], "41");
    let upstream = dashboard.api.stream().await;
    let mut body = reply.into_body();
    for piece in ["event: log\nid: 42\ndata: {}\n\n", ": still here\n\n"] {
        upstream.send(piece.to_owned()).await.unwrap();
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame());
        let frame = frame.await.expect("nothing came through").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece.as_bytes());
    }
    drop(body);
    let left = async {
        // The connection is noticed to be gone at the latest with the next pieces.
        while upstream.send(": beat\n\n".to_owned()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(10), left).await;
    assert!(left.is_ok(), "the API still streams to a browser that left");
}

#[tokio::test]
async fn a_stream_needs_a_session() {
    let dashboard = Dashboard::new().await;
    for path in ["/live/stream", "/workers/stream"] {
        let page = dashboard.get(Who::Expired, path).await;
        assert!(!page.status.is_success(), "{path}");
    }
}
