//! The dashboard: its router in this process, before an API that is a handful of canned
//! replies in which every text an attacker could have chosen is hostile.

mod api;
mod assets;
mod login;
mod markup;
mod pages;
mod stream;

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use decnet::config::{Config, Sources};
use decnet::net::http::Peer;
use decnet::web::{self, Web};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use api::FakeApi;

/// Where the browser is.
const BROWSER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 44));

/// A dashboard and the API it asks.
struct Dashboard {
    dir: tempfile::TempDir,
    api: FakeApi,
    router: Router,
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// A header's value; empty when it is not there.
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |v| v.to_str().unwrap())
    }

    /// The whole Set-Cookie line of a cookie.
    fn cookie(&self, name: &str) -> Option<String> {
        let lines = self.headers.get_all(header::SET_COOKIE).iter();
        let mut lines = lines.map(|line| line.to_str().unwrap().to_owned());
        lines.find(|line| line.starts_with(&format!("{name}=")))
    }
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Nobody,
    Viewer,
    Admin,
    /// Logged in for the first time.
    Newcomer,
    /// With a session the API knows no more.
    Expired,
}

impl Who {
    fn token(self) -> &'static str {
        match self {
            Who::Nobody => "",
            Who::Viewer => "viewer-token",
            Who::Admin => "admin-token",
            Who::Newcomer => "newcomer-token",
            Who::Expired => "expired-token",
        }
    }
}

impl Dashboard {
    async fn new() -> Self {
        Self::before(FakeApi::start().await)
    }

    fn before(api: FakeApi) -> Self {
        Self::trusting(api, "")
    }

    fn trusting(api: FakeApi, proxies: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = [
            ("DECNET_STATE_DIR", dir.path().display().to_string()),
            ("DECNET_WEB_API_URL", format!("http://{}", api.address)),
            ("DECNET_WEB_TRUSTED_PROXIES", proxies.to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let config = Config::load(&Sources::new(settings)).unwrap();
        std::fs::create_dir_all(&config.paths.run).unwrap();
        let web = Web::new(&config, CancellationToken::new()).unwrap();
        Self {
            dir,
            api,
            router: web::router(web),
        }
    }

    /// The API's end of a request that is not taken apart further.
    async fn send(&self, request: Request<Body>) -> Page {
        let mut request = request;
        request.extensions_mut().insert(Peer(BROWSER));
        let reply = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = reply.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Page {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn request(who: Who, method: Method, path: &str) -> axum::http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:8080")
            .header("sec-fetch-site", "same-origin");
        match who.token() {
            "" => request,
            token => request.header(header::COOKIE, format!("decnet_session={token}")),
        }
    }

    async fn get(&self, who: Who, path: &str) -> Page {
        let request = Self::request(who, Method::GET, path).body(Body::empty());
        self.send(request.unwrap()).await
    }

    /// Sends a form without its token.
    async fn post_bare(&self, who: Who, path: &str, form: &str) -> Page {
        let request = Self::request(who, Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }

    /// Sends a form as one of our pages would.
    async fn post(&self, who: Who, path: &str, form: &str) -> Page {
        let token = self.form_token(who).await;
        let form = format!("{form}&csrf={token}");
        self.post_bare(who, path, &form).await
    }

    /// The token in the forms of a page.
    async fn form_token(&self, who: Who) -> String {
        let page = self.get(who, "/workers").await.text();
        let tags = markup::tags(&page);
        let field = tags
            .iter()
            .find(|tag| tag.attribute("name") == Some("csrf"))
            .expect("no form token on the page");
        field.attribute("value").unwrap().to_owned()
    }
}
