//! The API: in-process through its router, and as a server on a port of its own.

mod accounts;
mod canary;
mod deckies;
mod exports;
mod findings;
mod fleet_live;
mod login;
mod shape;
mod stream;
mod totp;
mod webhooks;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Version};
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use decnet::api::{self, Api, Peer};
use decnet::bus::Bus;
use decnet::config::{Config, Sources};
use decnet::db::Db;
use decnet::db::checkpoint::Checkpoint;
use decnet::db::token::Whence;
use decnet::db::user::Role;
use decnet::model::{Event, Flow, Proto, Severity, Stamp};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support;

/// The password of every account that logs in for real.
const PASSWORD: &str = "Quite-A-long-pass-9";

/// An API over a database of its own.
struct TestApi {
    dir: tempfile::TempDir,
    db: Db,
    bus: Bus,
    stop: CancellationToken,
    api: Api,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    /// Asserts that this is a problem document and returns its code.
    fn problem(&self) -> &str {
        let kind = self.headers.get(header::CONTENT_TYPE);
        assert_eq!(kind.unwrap(), "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], self.status.as_u16());
        assert_eq!(
            self.body["request_id"],
            self.headers["x-request-id"].to_str().unwrap()
        );
        for field in ["title", "detail", "type"] {
            assert!(
                self.body[field].as_str().is_some_and(|t| !t.is_empty()),
                "{field}"
            );
        }
        self.body["code"].as_str().unwrap()
    }
}

impl TestApi {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut all = support::settings(dir.path());
        all.extend(
            settings
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let config = Arc::new(Config::load(&Sources::new(all)).unwrap());
        std::fs::create_dir_all(&config.paths.run).unwrap();
        let db = Db::open(&config.database).await.unwrap();
        let bus = Bus::memory();
        let stop = CancellationToken::new();
        let api = Api::new(config, db.clone(), bus.clone(), stop.clone(), false);
        Self {
            dir,
            db,
            bus,
            stop,
            api,
        }
    }

    /// An account that logs in with [`PASSWORD`], hashed as cheaply as it goes.
    async fn account(&self, name: &str, role: Role) {
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(PASSWORD.as_bytes())
            .unwrap();
        self.db
            .user_add(name, &hash.to_string(), role, false, Stamp::now())
            .await
            .unwrap();
    }

    /// A token of an account made for it, without any password.
    async fn token(&self, name: &str, role: Role) -> String {
        let now = Stamp::now();
        let known = self.db.user_by_name(name).await.unwrap();
        if known.is_none() {
            self.db
                .user_add(name, "none", role, false, now)
                .await
                .unwrap();
        }
        let user = self.db.user_by_name(name).await.unwrap().unwrap();
        let token = format!("{name}-{}", rand::random::<u64>());
        let hour = std::time::Duration::from_secs(3600);
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.db
            .session_add(&hash, &user.id, &Whence::default(), now, now.plus(hour))
            .await
            .unwrap();
        token
    }

    async fn viewer(&self) -> String {
        self.token("vera", Role::Viewer).await
    }

    async fn admin(&self) -> String {
        self.token("ada", Role::Admin).await
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = api::router(self.api.clone())
            .oneshot(request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn get(&self, path: &str, token: &str) -> Reply {
        self.send(request(Method::GET, path, token, Body::empty()))
            .await
    }

    /// Asks only for what is newer than `tag`.
    async fn get_unless(&self, path: &str, token: &str, tag: &str) -> Reply {
        let mut request = request(Method::GET, path, token, Body::empty());
        let tag = tag.parse().unwrap();
        request.headers_mut().insert(header::IF_NONE_MATCH, tag);
        self.send(request).await
    }

    /// A reply that is no JSON.
    async fn get_bytes(&self, path: &str, token: &str) -> (HeaderMap, Vec<u8>) {
        let request = request(Method::GET, path, token, Body::empty());
        let response = api::router(self.api.clone()).oneshot(request).await;
        let (parts, body) = response.unwrap().into_parts();
        assert_eq!(parts.status, StatusCode::OK, "{path}");
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.headers, bytes.to_vec())
    }

    async fn post(&self, path: &str, token: &str, body: &Value) -> Reply {
        let body = Body::from(body.to_string());
        self.send(request(Method::POST, path, token, body)).await
    }

    async fn login(&self, name: &str, password: &str) -> Reply {
        let body = json!({"username": name, "password": password});
        self.post("/api/v1/auth/login", "", &body).await
    }

    /// Stores events numbered `range`; even ones are logins on ftp, odd ones redis commands.
    async fn store(&self, range: std::ops::Range<u32>) {
        self.store_all(range.map(event).collect()).await;
    }

    /// Likewise, from the addresses that `source` says, as events of their own.
    async fn store_from(&self, range: std::ops::Range<u32>, source: impl Fn(u32) -> String) {
        let from = |n| {
            let mut event = event(n);
            let ip = source(n);
            event.eid = format!("{}-{ip}", event.eid);
            event.flow = event.flow.map(|flow| Flow {
                src: SocketAddr::new(ip.parse().unwrap(), 4000),
                session: format!("{}-{ip}", flow.session),
                ..flow
            });
            event
        };
        self.store_all(range.map(from).collect()).await;
    }

    /// Likewise, as events of one session.
    async fn store_in_session(&self, range: std::ops::Range<u32>, session: &str) {
        let events = range.map(|n| {
            let mut event = event(n);
            event.eid = format!("{session}-{n}");
            event.flow = event.flow.map(|flow| Flow {
                session: session.to_owned(),
                ..flow
            });
            event
        });
        self.store_all(events.collect()).await;
    }

    /// Stores an upload as the collector and the ingester do; its bytes and their name.
    async fn store_file(&self, bytes: &[u8]) -> (Vec<u8>, String) {
        let digest = Sha256::digest(bytes);
        let sha256: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        let dir = self
            .dir
            .path()
            .join("artifacts")
            .join(sha256.get(..2).unwrap());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(&sha256), bytes).unwrap();
        let mut upload = event(0);
        upload.eid = format!("upload-{sha256}");
        upload.kind = "upload".to_owned();
        upload.fields = [
            ("path", "/tmp/x"),
            ("sha256", sha256.as_str()),
            ("size", &bytes.len().to_string()),
            ("stored", "true"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .to_vec();
        self.store_all(vec![upload]).await;
        (bytes.to_vec(), sha256)
    }

    async fn store_all(&self, events: Vec<Event>) {
        for chunk in events.chunks(1000) {
            let at = Checkpoint {
                dev: 1,
                ino: 1,
                offset: 0,
                mark: Vec::new(),
            };
            self.db
                .log_insert_batch(chunk, "test", &at, Stamp::now())
                .await
                .unwrap();
        }
    }

    async fn serve(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (
            address,
            tokio::spawn(api::serve(listener, self.api.clone())),
        )
    }
}

fn request(method: Method, path: &str, token: &str, body: Body) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .extension(Peer("192.0.2.1".parse().unwrap()));
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(body).unwrap()
}

fn event(n: u32) -> Event {
    let ftp = n.is_multiple_of(2);
    let fields = if ftp {
        decnet::model::Credential::plaintext(Some("root"), format!("pw{n}").as_bytes()).fields()
    } else {
        // As the decoy tells it.
        vec![
            ("command".to_owned(), format!("SET k{n} <v>")),
            ("args".to_owned(), format!("[\"k{n}\",\"<v>\"]")),
        ]
    };
    Event {
        eid: format!("e{n}"),
        ts: Stamp(1_700_000_000_000_000 + i64::from(n) * 1_000_000),
        severity: Severity::Info,
        decky: format!("decky-{}", n % 3),
        service: if ftp { "ftp" } else { "redis" }.to_owned(),
        kind: if ftp { "auth" } else { "command" }.to_owned(),
        flow: Some(Flow {
            src: SocketAddr::new([198, 51, 100, 7].into(), 4000),
            dst: SocketAddr::new([127, 77, 0, 1].into(), 21),
            proto: Proto::Tcp,
            session: format!("s{n}"),
        }),
        fields,
        msg: String::new(),
    }
}
