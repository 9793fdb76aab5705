//! The dashboard over a real API, in process: what a browser would be sent.

mod exports;
mod hostile;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use decnet::api::{self, Api};
use decnet::bus::Bus;
use decnet::config::{Config, Sources};
use decnet::db::Db;
use decnet::db::checkpoint::Checkpoint;
use decnet::db::token::Whence;
use decnet::db::user::Role;
use decnet::model::{Credential, Event, Flow, Proto, Severity, Stamp};
use decnet::web::{self, Web};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::{on_server, settings};

const EVIL: &str = "<script>alert(1)</script>\u{202e}\u{1b}[2J\0'\"";

struct Site {
    _dir: tempfile::TempDir,
    db: Db,
    web: Web,
    stop: CancellationToken,
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    /// An installation where an attacker of bad manners left events.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let config = Arc::new(Config::load(&Sources::new(settings)).unwrap());
        std::fs::create_dir_all(&config.paths.run).unwrap();
        let db = Db::open(&config.database).await.unwrap();
        let stop = CancellationToken::new();
        let api = Api::new(
            Arc::clone(&config),
            db.clone(),
            Bus::memory(),
            stop.clone(),
            false,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(config.paths.run.join("api.addr"), address.to_string()).unwrap();
        tokio::spawn(api::serve(listener, api));
        let events: Vec<Event> = (0..60).map(event).collect();
        let at = Checkpoint::default();
        db.log_insert_batch(&events, "test", &at, Stamp::now())
            .await
            .unwrap();
        let web = Web::new(&config, stop.clone()).unwrap();
        Self {
            _dir: dir,
            db,
            web,
            stop,
        }
    }

    /// The cookie of a session of an account made for it.
    async fn session(&self, name: &str, role: Role) -> String {
        let now = Stamp::now();
        self.db
            .user_add(name, "none", role, false, now)
            .await
            .unwrap();
        let user = self.db.user_by_name(name).await.unwrap().unwrap();
        let token = format!("{name}-{}", rand::random::<u64>());
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let hour = Duration::from_secs(3600);
        self.db
            .session_add(&hash, &user.id, &Whence::default(), now, now.plus(hour))
            .await
            .unwrap();
        format!("decnet_session={token}")
    }

    async fn send(&self, request: Request<Body>) -> Page {
        let response = web::router(self.web.clone())
            .oneshot(request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Page {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    async fn get(&self, path: &str, cookie: &str) -> Page {
        let request = Request::get(path).header(header::COOKIE, cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, cookie: &str, form: &str, site: &str) -> Page {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", site);
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }
}

fn event(n: u32) -> Event {
    let mut fields = Credential::plaintext(Some(EVIL), EVIL.as_bytes()).fields();
    fields.push(("command".to_owned(), format!("{EVIL} {n}")));
    if n == 7 {
        fields.push(("sha256".to_owned(), "ab".repeat(32)));
        fields.push(("stored".to_owned(), "true".to_owned()));
        fields.push(("size".to_owned(), "12".to_owned()));
        fields.push(("filename".to_owned(), EVIL.to_owned()));
    }
    Event {
        eid: format!("e{n}"),
        ts: Stamp(Stamp::now().0 - i64::from(n) * 1_000_000),
        severity: Severity::Info,
        decky: "decky-01".to_owned(),
        service: "redis".to_owned(),
        kind: "command".to_owned(),
        flow: Some(Flow {
            src: "198.51.100.7:4000".parse().unwrap(),
            dst: "127.77.0.1:6379".parse().unwrap(),
            proto: Proto::Tcp,
            session: "s1".to_owned(),
        }),
        fields,
        msg: EVIL.to_owned(),
    }
}

/// Every page that a viewer may open.
const PAGES: [&str; 15] = [
    "/",
    "/live",
    "/live?q=service%3Aredis",
    "/logs/1",
    "/attackers",
    "/attackers/198.51.100.7",
    "/sessions",
    "/sessions/s1",
    "/credentials",
    "/credentials/reuse",
    "/artifacts",
    "/fleet",
    "/workers",
    "/account",
    "/docs",
];

#[tokio::test]
async fn hostile_bytes_are_shown_and_never_sent_as_markup() {
    let site = Site::new().await;
    let admin = site.session("ada", Role::Admin).await;
    let file = format!("/artifacts/{}", "ab".repeat(32));
    for path in PAGES
        .iter()
        .copied()
        .chain([file.as_str(), "/users", "/audit", "/config"])
    {
        let page = site.get(path, &admin).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
        assert!(!page.text.contains("<script>alert"), "{path}");
        assert!(
            !page.text.contains(['\u{202e}', '\u{1b}', '\0']),
            "{path} sends what acts"
        );
    }
    let shown = site.get("/attackers/198.51.100.7", &admin).await.text;
    // PostgreSQL keeps no NUL; there it was replaced before it was stored.
    let nul = if on_server() { "\u{fffd}" } else { "\\u{0}" };
    let hostile = format!("\\u{{202e}}\\u{{1b}}[2J{nul}");
    assert!(shown.contains(&hostile), "{shown}");
}

#[tokio::test]
async fn every_reply_has_a_policy_without_inline_anything() {
    let site = Site::new().await;
    let admin = site.session("ada", Role::Admin).await;
    for path in ["/", "/login", "/nowhere", "/assets/x/y", "/workers/part"] {
        let page = site.get(path, &admin).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert_eq!(page.headers["x-frame-options"], "DENY");
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/templates");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for banned in [
            "|safe",
            "| safe",
            " style=",
            " onclick=",
            " onload=",
            "<style",
            "javascript:",
        ] {
            assert!(!text.contains(banned), "{banned} in {}", path.display());
        }
        let inline = text.matches("<script").count() - text.matches("<script defer src=").count();
        assert_eq!(inline, 0, "{}", path.display());
    }
}

/// Addresses in a page's links and forms.
fn links(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for attribute in ["href=\"", "action=\"", "src=\""] {
        for rest in text.split(attribute).skip(1) {
            let link = rest.split('"').next().unwrap_or_default();
            found.insert(link.replace("&amp;", "&").replace("&#38;", "&"));
        }
    }
    found
}

#[tokio::test]
async fn every_link_leads_somewhere() {
    let site = Site::new().await;
    let admin = site.session("ada", Role::Admin).await;
    let mut seen = BTreeSet::new();
    let mut ahead = vec!["/".to_owned()];
    while let Some(path) = ahead.pop() {
        if !path.starts_with('/') || !seen.insert(path.clone()) || seen.len() > 400 {
            continue;
        }
        let page = site.get(&path, &admin).await;
        let only_posts = page.status == StatusCode::METHOD_NOT_ALLOWED;
        // There is no decky of that name, and no file in the store.
        let gone =
            path.starts_with("/fleet/decky-01") || path.ends_with("/raw") || path.ends_with("/zip");
        assert!(
            page.status.is_success() || only_posts || gone,
            "{path}: {} {}",
            page.status,
            page.text
        );
        let html = page.headers.get(header::CONTENT_TYPE);
        if html.is_some_and(|kind| kind.to_str().unwrap().starts_with("text/html")) {
            ahead.extend(links(&page.text));
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[tokio::test]
async fn the_page_about_the_api_tells_every_route() {
    let site = Site::new().await;
    let viewer = site.session("vera", Role::Viewer).await;
    let text = site.get("/docs", &viewer).await.text;
    let document: serde_json::Value = serde_json::from_str(&api::document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        for method in item.as_object().unwrap().keys() {
            let head = format!("<strong>{}</strong> {path}</code>", method.to_uppercase());
            assert!(text.contains(&head), "{head}");
        }
    }
    assert!(text.contains("$API/auth/login"), "how to ask it");
    assert!(text.len() < 1_500_000, "{}", text.len());
}

#[tokio::test]
async fn a_viewer_sees_no_orders() {
    let site = Site::new().await;
    let viewer = site.session("vera", Role::Viewer).await;
    for path in PAGES {
        let page = site.get(path, &viewer).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for link in links(&page.text) {
            let order = [
                "/config",
                "/users",
                "/audit",
                "/start",
                "/stop",
                "/restart",
                "/teardown",
                "/raw",
                "/zip",
            ];
            assert!(
                !order.iter().any(|o| link.ends_with(o)),
                "{path} offers {link}"
            );
        }
    }
    for path in [
        "/users",
        "/audit",
        "/config",
        "/fleet/x/teardown",
        "/workers/api",
    ] {
        let page = site.get(path, &viewer).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_form_from_elsewhere_or_of_another_session_does_nothing() {
    let site = Site::new().await;
    let admin = site.session("ada", Role::Admin).await;
    let page = site.get("/users", &admin).await.text;
    let token = page.split("name=\"csrf\" value=\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap().to_owned();
    let good = format!("csrf={token}&username=bob&role=viewer");
    for (form, from) in [
        (good.as_str(), "cross-site"),
        (good.as_str(), "same-site"),
        ("csrf=&username=bob&role=viewer", "same-origin"),
        ("username=bob&role=viewer", "same-origin"),
        ("csrf=0123&username=bob&role=viewer", "same-origin"),
    ] {
        let refused = site.post("/users", &admin, form, from).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{form} {from}");
    }
    assert!(site.db.user_by_name("bob").await.unwrap().is_none());
    let done = site.post("/users", &admin, &good, "same-origin").await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert!(site.db.user_by_name("bob").await.unwrap().is_some());
    let other = site.session("eve", Role::Admin).await;
    let stolen = site.post("/users", &other, &good, "same-origin").await;
    assert_eq!(
        stolen.status,
        StatusCode::FORBIDDEN,
        "another session's token"
    );
}

#[tokio::test]
async fn without_a_session_every_page_leads_to_the_login_and_back() {
    let site = Site::new().await;
    for path in PAGES {
        let page = site.get(path, "").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{path}");
        let to = page.headers[header::LOCATION].to_str().unwrap();
        assert!(to.starts_with("/login?next=%2F"), "{path}: {to}");
    }
    let hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$wrong";
    site.db
        .user_add("ada", hash, Role::Admin, false, Stamp::now())
        .await
        .unwrap();
    let wrong = site
        .post(
            "/login",
            "",
            "username=ada&password=x&next=%2F%2Fevil",
            "same-origin",
        )
        .await;
    assert_eq!(wrong.status, StatusCode::OK);
    assert!(
        wrong.text.contains("Wrong user name or password"),
        "{}",
        wrong.text
    );
    assert!(!wrong.text.contains("evil"), "only paths of this site");
    assert!(wrong.headers.get(header::SET_COOKIE).is_none());
}

#[tokio::test]
async fn an_api_that_is_away_is_said_on_a_page_that_tries_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        (
            "DECNET_STATE_DIR".to_owned(),
            dir.path().display().to_string(),
        ),
        (
            "DECNET_WEB_API_URL".to_owned(),
            "http://127.0.0.1:1".to_owned(),
        ),
    ];
    let config = Config::load(&Sources::new(settings)).unwrap();
    let web = Web::new(&config, CancellationToken::new()).unwrap();
    let request = Request::get("/").header(header::COOKIE, "decnet_session=x");
    let response = web::router(web)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
}
