//! The shape of replies: problems, headers, the API's description.

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use serde_json::json;

use super::{TestApi, request};

#[tokio::test]
async fn whatever_is_refused_is_a_problem_document() {
    let api = TestApi::new().await;
    let viewer = api.viewer().await;
    let missing = api.get("/nowhere", "").await;
    assert_eq!(
        (missing.status, missing.problem()),
        (StatusCode::NOT_FOUND, "not-found")
    );
    let method = api
        .send(request(
            Method::DELETE,
            "/api/v1/logs",
            &viewer,
            Body::empty(),
        ))
        .await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(method.problem(), "method-not-allowed");
    assert!(method.headers.contains_key(header::ALLOW));
    let login = "/api/v1/auth/login";
    let mut text = request(Method::POST, login, "", Body::from("{}"));
    text.headers_mut().remove(header::CONTENT_TYPE);
    let text = api.send(text).await;
    assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(text.problem(), "unsupported-media-type");
    let broken = api
        .send(request(Method::POST, login, "", Body::from("{\"us")))
        .await;
    assert_eq!(
        (broken.status, broken.problem()),
        (StatusCode::BAD_REQUEST, "bad-request")
    );
    let fields = api
        .post(login, "", &json!({"username": "a", "pass": "b"}))
        .await;
    assert_eq!(
        (fields.status, fields.problem()),
        (StatusCode::UNPROCESSABLE_ENTITY, "bad-body")
    );
    let large = Body::from(vec![b' '; 100_000]);
    let large = api.send(request(Method::POST, login, "", large)).await;
    assert_eq!(
        (large.status, large.problem()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too-large")
    );
    let nobody = api.get("/api/v1/logs", "").await;
    assert_eq!(
        (nobody.status, nobody.problem()),
        (StatusCode::UNAUTHORIZED, "unauthorized")
    );
    assert_eq!(nobody.headers[header::WWW_AUTHENTICATE], "Bearer");
}

#[tokio::test]
async fn an_internal_cause_is_never_sent() {
    let api = TestApi::new().await;
    let viewer = api.viewer().await;
    api.db.close().await;
    let reply = api.get("/api/v1/logs", &viewer).await;
    assert_eq!(
        (reply.status, reply.problem()),
        (StatusCode::INTERNAL_SERVER_ERROR, "internal")
    );
    let text = reply.body.to_string().to_lowercase();
    for word in ["sql", "pool", "decnet.db", "session"] {
        assert!(!text.contains(word), "{text}");
    }
    let health = api.get("/api/v1/health", "").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.body, json!({"status": "failing"}));
}

#[tokio::test]
async fn every_reply_carries_security_headers_and_a_request_id() {
    let api = TestApi::new().await;
    for path in ["/api/v1/health", "/api/v1/logs", "/nowhere"] {
        let reply = api.get(path, "").await;
        let header = |name: &str| reply.headers[name].to_str().unwrap().to_owned();
        assert!(header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("cache-control"), "no-store");
        assert!(!header("x-request-id").is_empty());
    }
    let mut named = request(Method::GET, "/nowhere", "", Body::empty());
    named
        .headers_mut()
        .insert("x-request-id", "abc-1".parse().unwrap());
    assert_eq!(api.send(named).await.headers["x-request-id"], "abc-1");
    let mut bad = request(Method::GET, "/nowhere", "", Body::empty());
    bad.headers_mut()
        .insert("x-request-id", "a\"b <x>".parse().unwrap());
    assert_ne!(api.send(bad).await.headers["x-request-id"], "a\"b <x>");
}

#[tokio::test]
async fn health_is_open_and_tells_its_parts_only_to_those_logged_in() {
    let api = TestApi::new().await;
    let anybody = api.get("/api/v1/health", "").await;
    assert_eq!(
        (anybody.status, anybody.body),
        (StatusCode::OK, json!({"status": "ok"}))
    );
    assert_eq!(
        api.get("/api/v1/health", "wrong").await.status,
        StatusCode::UNAUTHORIZED
    );
    let viewer = api.viewer().await;
    let parts = api.get("/api/v1/health", &viewer).await.body;
    // No worker runs here, so everything but the database is missing.
    assert_eq!(parts["status"], "degraded");
    let names: Vec<&str> = parts["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..3], ["database", "bus-connection", "bus"]);
    assert!(names.contains(&"collector"));
}

#[tokio::test]
async fn the_description_is_served_and_is_what_it_was() {
    let api = TestApi::new().await;
    let served = api.get("/api/v1/openapi.json", "").await;
    assert_eq!(served.status, StatusCode::OK);
    let text = serde_json::to_string_pretty(&served.body).unwrap();
    insta::assert_snapshot!("openapi", text);
}
