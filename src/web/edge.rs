//! What every request and reply passes through: nothing another site makes a browser send
//! changes anything, and nothing a page holds can load, run or frame what is not ours.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Web, error};
use crate::net::forwarded;
use crate::net::http::Peer;

/// Longest time to the head of a reply.
const PATIENCE: Duration = Duration::from_secs(40);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// Wraps every route and the fallback. Behind a trusted proxy the address that pages see is
/// the browser's, and cookies are for TLS alone where the browser used it.
pub(super) async fn edge(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let mut https = false;
    if let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() {
        let trusted = web.trusted_proxies.as_slice();
        https = forwarded::is_https(peer, request.headers(), trusted);
        let browser = forwarded::client(peer, request.headers(), trusted);
        request.extensions_mut().insert(Peer(browser));
    }
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let fragment = request.headers().contains_key("hx-request");
    let mut response = if climbs(request.uri().path()) {
        error::not_found().await
    } else if !safe && !is_ours(request.headers()) {
        error::plain(
            StatusCode::FORBIDDEN,
            "This form was sent from another site, so it was not carried out.",
        )
    } else {
        match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        }
    };
    if fragment
        && response.status().is_redirection()
        && let Some(to) = response.headers_mut().remove(header::LOCATION)
    {
        // The browser would follow in silence, and the login form would become a part of
        // the page. This way the whole page goes there.
        *response.status_mut() = StatusCode::NO_CONTENT;
        let name = HeaderName::from_static("hx-redirect");
        response.headers_mut().insert(name, to);
    }
    let headers = response.headers_mut();
    if https {
        for cookie in cookies_of(headers) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    for (name, value) in HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Takes the cookies of a reply out, to be sent for TLS alone.
fn cookies_of(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    let header::Entry::Occupied(found) = headers.entry(header::SET_COOKIE) else {
        return Vec::new();
    };
    let (_, values) = found.remove_entry_mult();
    values
        .filter_map(|value| HeaderValue::try_from([value.as_bytes(), b"; Secure"].concat()).ok())
        .collect()
}

/// Whether a path has a segment of dots. Browsers resolve these themselves; in a name that is
/// put into a path of the API it would lead to another route, encoded or not.
fn climbs(path: &str) -> bool {
    let mut segments = path
        .split('/')
        .map(|s| s.replace("%2e", ".").replace("%2E", "."));
    segments.any(|segment| segment == "." || segment == "..")
}

/// Whether a page of ours made the browser send this. Every browser of today says so; one
/// that does not must at least name our origin.
fn is_ours(headers: &HeaderMap) -> bool {
    let given = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match given("sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "none"),
        None => {
            let host = given("host").unwrap_or_default();
            given("origin").is_some_and(|origin| {
                origin
                    .split_once("://")
                    .is_some_and(|(_, place)| place == host && !host.is_empty())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_a_step_in_a_path() {
        for bad in ["/fleet/..", "/users/%2e%2E/delete", "/logs/.%2e", "/a/./b"] {
            assert!(climbs(bad), "{bad}");
        }
        for fine in [
            "/",
            "/fleet/a..b",
            "/fleet/...",
            "/live.csv",
            "/logs/..%2Fworkers",
        ] {
            assert!(!climbs(fine), "{fine}");
        }
    }

    #[test]
    fn only_our_own_pages_may_send_forms() {
        let ours = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_ours(&headers)
        };
        assert!(ours(&[("sec-fetch-site", "same-origin")]));
        assert!(!ours(&[
            ("sec-fetch-site", "cross-site"),
            ("host", "h"),
            ("origin", "http://h")
        ]));
        assert!(!ours(&[("sec-fetch-site", "same-site")]));
        assert!(ours(&[("host", "h:8080"), ("origin", "http://h:8080")]));
        assert!(!ours(&[("host", "h:8080"), ("origin", "http://h:8081")]));
        assert!(!ours(&[("host", "h"), ("origin", "null")]));
        assert!(!ours(&[]));
    }
}
