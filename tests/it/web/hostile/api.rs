//! The API in the tests of the dashboard: canned replies, and a note of what was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What an attacker would like to see on the page: markup, a way out of an attribute,
/// reversed writing, NUL, an escape sequence, a line feed.
pub(super) const HOSTILE: &str =
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}\u{200b}\0\u{1b}[31m\r\n=cmd";

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query, below `/api/v1`.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    /// The sending ends of streams that were opened.
    opened: mpsc::UnboundedSender<mpsc::Sender<String>>,
}

/// See the module.
pub(super) struct FakeApi {
    pub(super) address: SocketAddr,
    shared: Shared,
    streams: mpsc::UnboundedReceiver<mpsc::Sender<String>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeApi {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        let shared = Shared {
            asked: Arc::default(),
            opened,
        };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            shared,
            streams,
            server,
        }
    }

    /// What was asked so far, the checks of who looks left out.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let asked = self.shared.asked.lock().unwrap();
        let asked = asked.iter().filter(|one| one.path != "/auth/me");
        asked.cloned().collect()
    }

    /// What changed something.
    pub(super) fn changes(&self) -> Vec<Asked> {
        let asked = self.asked().into_iter();
        asked.filter(|one| one.method != "GET").collect()
    }

    /// The sending end of the next stream that is opened.
    pub(super) async fn stream(&mut self) -> mpsc::Sender<String> {
        self.streams.recv().await.unwrap()
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({
        "type": format!("urn:decnet:problem:{code}"), "title": "T", "status": status.as_u16(),
        "detail": detail, "code": code, "request_id": "01REQUESTID",
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let whole = parts.uri.path_and_query().unwrap().as_str();
    let path = whole.strip_prefix("/api/v1").unwrap_or(whole).to_owned();
    let asked = Asked {
        method: parts.method.to_string(),
        path: path.clone(),
        headers: parts.headers.clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    shared.asked.lock().unwrap().push(asked.clone());
    if path == "/auth/login" {
        return login(&asked.body);
    }
    let bearer = parts.headers.get(header::AUTHORIZATION);
    let bearer = bearer.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (name, role) = match bearer.strip_prefix("Bearer ").unwrap_or_default() {
        "admin-token" => ("ada", "admin"),
        "viewer-token" => ("vera", "viewer"),
        "newcomer-token" => ("newcomer", "admin"),
        _ => return problem(StatusCode::UNAUTHORIZED, "unauthorized", "Log in."),
    };
    let bare = path.split('?').next().unwrap_or_default();
    if name == "newcomer" && !bare.starts_with("/auth/") {
        let code = "password-change-required";
        return problem(StatusCode::FORBIDDEN, code, "Change the password.");
    }
    if parts.method != "GET" {
        return change(&asked, role);
    }
    if bare == "/auth/me" {
        return axum::Json(json!({
            "username": name, "role": role, "must_change_password": name == "newcomer",
            "totp_enabled": false, "expires_at": "2026-11-28T00:00:00Z",
        }))
        .into_response();
    }
    if bare == "/stream" || bare == "/workers/stream" {
        let (sender, mut receiver) = mpsc::channel::<String>(1);
        shared.opened.send(sender).unwrap();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            let piece = receiver.poll_recv(cx);
            piece.map(|p| p.map(|text| Ok::<_, std::convert::Infallible>(Bytes::from(text))))
        });
        let kind = [(header::CONTENT_TYPE, "text/event-stream")];
        return (kind, Body::from_stream(pieces)).into_response();
    }
    if bare.starts_with("/logs/999") {
        return problem(StatusCode::NOT_FOUND, "not-found", HOSTILE);
    }
    if path.contains("q=%22") {
        return problem(StatusCode::BAD_REQUEST, "bad-query", HOSTILE);
    }
    match reply(bare) {
        Some(body) => axum::Json(body).into_response(),
        None => problem(StatusCode::NOT_FOUND, "not-found", "No such route."),
    }
}

fn login(body: &str) -> Response {
    let given: Value = serde_json::from_str(body).unwrap();
    if given["password"] != "right" {
        let detail = "Wrong user name or password.";
        return problem(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    }
    // Whoever has a second factor is asked for it.
    if given["username"] == "cody" && given["totp"] != "123456" {
        return match given["totp"].as_str() {
            None => problem(StatusCode::UNAUTHORIZED, "totp-required", "Send the code."),
            Some(_) => problem(StatusCode::UNAUTHORIZED, "wrong-code", HOSTILE),
        };
    }
    let first = given["username"] == "newcomer";
    axum::Json(json!({
        "token": if first { "newcomer-token" } else { "admin-token" },
        "expires_at": "2026-11-28T00:00:00Z", "must_change_password": first, "role": "admin",
    }))
    .into_response()
}

fn change(asked: &Asked, role: &str) -> Response {
    let path = asked.path.as_str();
    if role != "admin" && !path.starts_with("/auth/") && path != "/exports" {
        return problem(StatusCode::FORBIDDEN, "forbidden", "Administrators only.");
    }
    match path {
        "/auth/logout" | "/auth/logout-all" | "/auth/change-password" => {
            StatusCode::NO_CONTENT.into_response()
        }
        "/auth/totp" if asked.method == "POST" => axum::Json(json!({
            "secret": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            "uri": "otpauth://totp/DECNET:ada?secret=ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
        }))
        .into_response(),
        "/auth/totp" if asked.body.contains("wrong") => {
            problem(StatusCode::FORBIDDEN, "wrong-password", HOSTILE)
        }
        "/auth/totp/confirm" if asked.body.contains("123456") => {
            axum::Json(json!({"recovery_codes": ["aaaa-bbbb-cccc-dddd", HOSTILE]})).into_response()
        }
        "/auth/totp/confirm" => problem(StatusCode::FORBIDDEN, "wrong-code", HOSTILE),
        "/workers/start-all" => {
            let mut all = vec![
                json!({"worker": "bus", "outcome": "already-running", "detail": null}),
                json!({"worker": "api", "outcome": "failed", "detail": HOSTILE}),
                json!({"worker": "collector", "outcome": "started", "detail": null}),
            ];
            // More than fits a cookie.
            all.extend((0..60).map(|n| {
                let why = "why ".repeat(20);
                json!({"worker": format!("worker-{n}"), "outcome": "failed", "detail": why.trim()})
            }));
            axum::Json(json!({"workers": all})).into_response()
        }
        "/workers/api/stop" => problem(
            StatusCode::FORBIDDEN,
            "polkit-refused",
            &"polkit says no. ".repeat(30),
        ),
        "/config/users" | "/config/users/u-1/reset-password" => axum::Json(json!({
            "id": "u-9", "username": HOSTILE, "role": "viewer", "password": "once-only-secret",
        }))
        .into_response(),
        "/exports" if asked.body.contains("hashcat") => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "bad-format", HOSTILE)
        }
        "/exports" => {
            let job = json!({"job": {"id": "j-2"}, "notes": []});
            (StatusCode::ACCEPTED, axum::Json(job)).into_response()
        }
        "/canary/tokens" => problem(StatusCode::UNPROCESSABLE_ENTITY, "bad-token", HOSTILE),
        "/webhooks" | "/webhooks/w-1/rotate" => axum::Json(json!({
            "name": HOSTILE, "secret": "whsec_x", "previous_secret_until": "2026-01-01T00:00:00Z",
        }))
        .into_response(),
        "/deckies/web-01/services/http/config" if asked.body.contains("599") => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "bad-setting", HOSTILE)
        }
        path if path.starts_with("/deckies/web-01/services") => {
            let job = json!({"job": {"id": "j-1"}, "notes": []});
            (StatusCode::ACCEPTED, axum::Json(job)).into_response()
        }
        path if path.starts_with("/config/users/") => StatusCode::NO_CONTENT.into_response(),
        _ => (StatusCode::ACCEPTED, axum::Json(json!({}))).into_response(),
    }
}

const AT: &str = "2026-11-27T20:00:00.123456Z";
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn list(items: &Value) -> Value {
    json!({"items": items, "next": 77, "total": 1})
}

fn attacker() -> Value {
    json!({
        "id": "0199-id", "ip": "203.0.113.7", "country": "DE", "activity": "active",
        "first_seen": AT, "last_seen": AT, "event_count": 1_234_567, "session_count": 2,
        "credential_count": 3, "command_count": 4, "artifact_count": 5, "service_count": 1,
        "decky_count": 1, "services": [HOSTILE], "deckies": [HOSTILE],
    })
}

fn event() -> Value {
    json!({
        "id": 42, "eid": "01EID", "timestamp": AT, "severity": "info", "decky": HOSTILE,
        "service": HOSTILE, "event_type": HOSTILE, "attacker_ip": "2001:db8::7",
        "fields": {HOSTILE: HOSTILE, "session": HOSTILE, "stored": "true", "sha256": HASH},
        "msg": HOSTILE, "raw_line": HOSTILE,
    })
}

fn session() -> Value {
    json!({
        "id": "01SESSION", "attacker_ip": "203.0.113.7", "attacker_id": null, "decky": HOSTILE,
        "service": HOSTILE, "started_at": AT, "ended_at": null, "duration_ms": 1500,
        "events": 9, "commands": 2, "credentials": 1,
    })
}

fn file() -> Value {
    json!({
        "sha256": HASH, "size_bytes": 20480, "name": HOSTILE, "first_seen": AT,
        "last_seen": AT, "count": 2, "attacker_ip": "203.0.113.7", "decky": HOSTILE,
        "service": HOSTILE, "session": HOSTILE,
    })
}

fn canary() -> Value {
    json!({
        "id": "t-1", "kind": HOSTILE, "memo": HOSTILE, "decky": HOSTILE, "path": HOSTILE,
        "blob": null, "state": "planted", "last_error": HOSTILE, "planted": [HOSTILE],
        "url": HOSTILE, "host": HOSTILE, "created_by": HOSTILE,
        "created_at": "2026-01-01T00:00:00Z", "planted_at": "2026-01-01T00:00:00Z",
        "revoked_at": null, "trigger_count": 3, "last_triggered_at": "2026-01-01T00:00:00Z",
    })
}

fn webhook() -> Value {
    json!({
        "id": "w-1", "name": HOSTILE, "url": HOSTILE, "format": "json", "template": HOSTILE,
        "header_names": [HOSTILE], "topic_patterns": [HOSTILE, "a.>"], "enabled": true,
        "circuit": "open", "consecutive_failures": 5, "retry_at": "2026-01-01T00:00:00Z",
        "last_success_at": null, "last_failure_at": "2026-01-01T00:00:00Z",
        "last_error": HOSTILE, "pending": 3, "dead": 1, "dropped": 0,
        "previous_secret_until": "2026-01-01T00:00:00Z", "warnings": ["insecure_url"],
        "created_by": HOSTILE, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    })
}

fn decky() -> Value {
    json!({
        "name": "web-01", "ip": "127.77.0.5", "state": "running", "runtime": "local",
        "archetype": "web-server", "hostname": HOSTILE, "os": HOSTILE,
        "mac": "00:11:22:33:44:55", "last_error": HOSTILE, "hits_24h": 9000,
        "services": [{"name": "http", "port": 80, "address": "127.77.0.5:80", "note": HOSTILE,
            "listening": true}],
        "mutate_interval_minutes": null, "last_mutated": AT, "last_hit": AT, "version": 3,
        "updated_at": AT, "removed": false,
    })
}

fn worker(name: &str, status: &str, active: &str) -> Value {
    json!({
        "name": name, "summary": "does a thing", "in_target": true, "status": status,
        "last_heartbeat": AT, "seconds_since": 5, "pid": 4711, "version": "0.1.0",
        "rss_bytes": 12_000_000, "passes": 10, "failures": 1, "last_error": HOSTILE,
        "doing": HOSTILE,
        "unit": {"name": format!("decnet-{name}.service"), "active": active, "sub": "running",
            "enabled": "enabled", "installed": true, "main_pid": 4711, "status_text": HOSTILE,
            "since": AT},
    })
}

fn histogram() -> Value {
    json!({"items": [{"time": AT, "count": 3}, {"time": AT, "count": 0}], "interval_seconds": 60})
}

/// The reply to a GET; `None` where there is no such route.
fn reply(path: &str) -> Option<Value> {
    Some(match path {
        "/workers" => json!({
            "workers": [worker("bus", "ok", "active"), worker("collector", "stale", "failed")],
            "bus_connected": false, "systemd": HOSTILE, "generated_at": AT,
        }),
        "/stats/overview" => json!({
            "stats": stats(), "per_minute": histogram(), "top_attackers": [attacker()],
            "siege": [{"decky": HOSTILE, "hits": 3}],
            "services": [{"service": HOSTILE, "count": 3}],
            "countries": [{"country": "DE", "attackers": 3, "events": 9},
                {"country": HOSTILE, "attackers": 1, "events": 1}],
        }),
        "/stats" => stats(),
        "/logs" => list(&json!([event()])),
        "/logs/histogram" => histogram(),
        "/attackers" => list(&json!([attacker()])),
        "/sessions" => list(&json!([session()])),
        "/credentials" => list(&json!([{
            "id": 1, "first_seen": AT, "last_seen": AT, "count": 3,
            "attacker_ip": "203.0.113.7", "decky": HOSTILE, "service": HOSTILE,
            "principal": HOSTILE, "secret_kind": HOSTILE, "secret_printable": HOSTILE,
            "secret_b64": "eA==", "secret_sha256": HASH, "crack": HOSTILE,
        }])),
        "/credential-reuse" => list(&json!([{
            "secret_sha256": HASH, "secret_kind": "plain", "secret_printable": HOSTILE,
            "principals": [HOSTILE], "attackers": 2, "deckies": 2, "services": 1,
            "attempts": 9, "first_seen": AT, "last_seen": AT,
        }])),
        "/artifacts" => list(&json!([file()])),
        "/deckies" => json!({"items": [decky()]}),
        "/services" => json!({"items": [{"name": "http"}, {"name": "ftp"}, {"name": HOSTILE}]}),
        "/archetypes" => json!({"items": [
            {"slug": HOSTILE, "display_name": HOSTILE, "description": HOSTILE}
        ]}),
        "/auth/totp" => json!({"enabled": false, "recovery_codes_left": 0}),
        "/auth/sessions" => json!({"items": [
            {"id": "s-1", "created_at": AT, "last_used_at": AT, "expires_at": AT,
                "address": HOSTILE, "agent": HOSTILE, "current": false},
            {"id": "s-2", "created_at": AT, "last_used_at": AT, "expires_at": AT,
                "address": "192.0.2.44", "agent": null, "current": true},
        ]}),
        "/auth/tokens" => json!({"items": [{
            "id": "t-1", "name": HOSTILE, "role": HOSTILE, "owner": HOSTILE,
            "created_at": "2026-01-02T03:04:05Z", "expires_at": null, "last_used_at": null,
        }]}),
        "/jobs" => list(&json!([job(), export()])),
        "/jobs/j-1" => job(),
        "/jobs/j-2" => export(),
        "/jobs/j-2/file" => Value::Null,
        "/canary/kinds" => json!({"items": [
            {"name": "env_file", "summary": HOSTILE, "callback": "http", "available": true, "needs": null},
            {"name": "dns_name", "summary": "x", "callback": "dns", "available": false, "needs": "DECNET_CANARY_DNS_ZONE"},
        ]}),
        "/canary/tokens" => list(&json!([canary()])),
        "/canary/blobs" => json!({"items": [{
            "sha256": "9f86d0", "name": HOSTILE, "size_bytes": 7, "uploaded_by": HOSTILE,
            "uploaded_at": "2026-01-01T00:00:00Z", "tokens": 0,
        }]}),
        "/webhooks" => json!({"items": [webhook()]}),
        "/webhooks/w-1" => webhook(),
        "/webhook-formats" => json!({
            "formats": [{"name": "json"}, {"name": "template"}],
            "presets": [{"name": "Credentials", "about": HOSTILE, "topic_patterns": ["credential.>"]}],
        }),
        "/config/users" => json!({"items": [
            {"id": "u-1", "username": HOSTILE, "role": "viewer", "must_change_password": true,
                "totp_enabled": true, "created_at": AT, "last_login": AT},
            {"id": "u-0", "username": "ada", "role": "admin", "must_change_password": false,
                "totp_enabled": false, "created_at": AT, "last_login": null},
        ]}),
        "/audit" => list(&json!([{
            "id": 1, "at": AT, "actor": HOSTILE, "address": "203.0.113.7", "action": HOSTILE,
            "target": HOSTILE, "outcome": "ok",
        }])),
        "/openapi.json" => json!({
            "info": {"description": HOSTILE},
            "tags": [{"name": HOSTILE, "description": HOSTILE}],
            "paths": {"/api/v1/x": {"post": {
                "tags": [HOSTILE], "summary": HOSTILE, "description": HOSTILE,
                "parameters": [{"name": HOSTILE, "in": HOSTILE, "description": HOSTILE,
                    "schema": {"type": HOSTILE}}],
                "requestBody": {"content": {"application/json": {"schema": {
                    "type": "object", "required": [HOSTILE],
                    "properties": {HOSTILE: {"type": "string", "description": HOSTILE}}}}}},
                "responses": {HOSTILE: {"description": HOSTILE,
                    "content": {"application/json": {"schema": {"enum": [HOSTILE]}}}}},
            }}},
        }),
        "/config" => json!({"items": [
            {"name": "DECNET_MODE", "value": HOSTILE, "source": HOSTILE, "ini": HOSTILE,
                "description": HOSTILE},
            {"name": "DECNET_USER", "value": "", "source": "default", "ini": null,
                "description": "x"},
        ]}),
        _ => return of_one(path),
    })
}

fn stats() -> Value {
    json!({
        "total_logs": 10, "unique_attackers": 1, "credentials": 1, "sessions": 1,
        "artifacts": 1, "deployed_deckies": 2, "active_deckies": 1, "events_1m": 3,
        "events_5m": 4, "events_24h": 5,
    })
}

/// The routes that end in an id and what follows it.
fn of_one(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Some(match parts.as_slice() {
        ["logs", _] => event(),
        ["attackers", _, "histogram"] => histogram(),
        ["attackers", _, "commands"] => list(&json!([{
            "id": 42, "at": AT, "decky": HOSTILE, "service": HOSTILE, "command": HOSTILE,
            "session": HOSTILE,
        }])),
        ["attackers", _] => {
            let mut one = attacker();
            one["service_activity"] = json!([{
                "service": HOSTILE, "events": 3, "credentials": 1, "commands": 1,
                "first_seen": AT, "last_seen": AT,
            }]);
            one["decky_activity"] = json!([
                {"decky": HOSTILE, "events": 3, "first_seen": AT, "last_seen": AT},
                {"decky": "web-01", "events": 3, "first_seen": AT, "last_seen": AT},
            ]);
            one
        }
        ["sessions", _] => session(),
        ["sessions", _, "transcript"] => json!({
            "header": {"version": 2, "width": 80, "height": 24, "timestamp": 1, "title": HOSTILE},
            "events": [[0.5, "o", format!("> {HOSTILE}")], [1.5, "o", HOSTILE]],
            "total": 2, "next": null,
        }),
        ["sessions", _, "transcript.cast"] => Value::Null,
        ["artifacts", _] => {
            let mut one = file();
            one["available"] = json!(true);
            one["observations"] = json!([{
                "at": AT, "attacker_ip": "203.0.113.7", "decky": HOSTILE, "service": HOSTILE,
                "session": HOSTILE, "name": HOSTILE,
            }]);
            one
        }
        ["artifacts", _, "download"] => Value::Null,
        ["canary", "tokens", _] => canary(),
        ["canary", "tokens", _, "files"] => json!({"items": [{
            "n": 0, "name": HOSTILE, "path": HOSTILE, "content_type": "text/plain",
            "mode": "0600", "size_bytes": 7,
        }]}),
        ["canary", "tokens", _, "files", _] => Value::Null,
        ["canary", "tokens", _, "triggers"] => list(&json!([{
            "id": "01TRIGGER", "first_at": "2026-01-01T00:00:00Z",
            "last_at": "2026-01-01T00:00:00Z", "count": 3, "attacker_ip": HOSTILE, "port": 4,
            "via": "http", "method": HOSTILE, "path": HOSTILE, "user_agent": HOSTILE,
            "headers": [{"name": HOSTILE, "value": HOSTILE}], "body": HOSTILE,
            "resolver": HOSTILE, "country": HOSTILE, "fingerprint": {"id": HOSTILE, "sections": {"nav": {"ua": HOSTILE}}},
        }])),
        ["webhooks", _, "deliveries"] => list(&json!([{
            "id": 7, "event_id": "e", "topic": HOSTILE, "type": HOSTILE,
            "payload": {"attacker": HOSTILE}, "status": "dead", "attempts": 3,
            "status_code": 500, "error": HOSTILE, "took_ms": 3,
            "event_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
            "next_attempt_at": null, "finished_at": "2026-01-01T00:00:00Z",
        }])),
        ["deckies", _] => {
            let mut one = decky();
            one["settings"] = json!({"http": {"custom_body": "<script>alert(1)</script>\n\"'"}});
            one
        }
        ["services", "http" | "ftp", "schema"] => json!({"name": "http", "ports": [80], "fields": [
            {"key": "custom_body", "label": HOSTILE, "type": "text", "help": HOSTILE,
                "secret": false, "multiline": true},
            {"key": "response_code", "label": "Code", "type": "number", "min": 100, "max": 599,
                "help": HOSTILE, "secret": false, "multiline": false},
            {"key": "fake_app", "label": "App", "type": "choice", "enum": ["none", "login"],
                "help": "x", "secret": false, "multiline": false},
        ]}),
        ["workers", _, "log"] => json!({"lines": [HOSTILE]}),
        _ => return None,
    })
}

fn job() -> Value {
    json!({
        "id": "j-1", "kind": HOSTILE, "status": HOSTILE, "done": 1, "total": 2,
        "items": [{"name": HOSTILE, "state": HOSTILE, "detail": HOSTILE}],
        "error": HOSTILE, "created_by": HOSTILE,
        "created_at": "2026-01-02T03:04:05Z", "finished_at": null,
    })
}

fn export() -> Value {
    json!({
        "id": "j-2", "kind": "export", "status": "succeeded", "done": 7, "total": 7, "items": [],
        "file": {"name": HOSTILE, "size_bytes": 7_000_000}, "error": null,
        "request": {"what": HOSTILE, "format": HOSTILE, "filter": {HOSTILE: HOSTILE}},
        "created_by": HOSTILE, "created_at": "2026-01-02T03:04:05Z",
        "finished_at": "2026-01-02T03:04:09Z",
    })
}
