//! Who looks: the session's cookie, checked with the API on every page, and the form token
//! that goes with it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Web;
use super::client::Caller;
use super::error::Failure;
use crate::net::http::Peer;

/// The cookie with the session's token.
pub(super) const SESSION: &str = "decnet_session";
/// The cookie with how pages look: `<theme>.<zone>`.
pub(super) const LOOK: &str = "decnet_look";
/// The cookie with what the last action came to.
pub(super) const SAID: &str = "decnet_said";

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Where a request comes from, before anybody is logged in.
pub(super) fn caller(parts: &Parts) -> Caller {
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let agent = parts.headers.get(header::USER_AGENT);
    Caller {
        token: cookie(&parts.headers, SESSION)
            .unwrap_or_default()
            .to_owned(),
        address: parts
            .extensions
            .get::<Peer>()
            .map_or(unknown, |peer| peer.0),
        agent: agent
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .chars()
            .take(256)
            .collect(),
    }
}

/// Somebody logged in.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// For the API.
    pub(super) caller: Caller,
    /// Account name.
    pub(super) name: String,
    /// May act.
    pub(super) admin: bool,
    /// Goes into every form.
    pub(super) csrf: String,
    /// Theme and time zone.
    pub(super) look: super::page::Look,
    /// What the last action came to.
    pub(super) said: Option<String>,
    /// Path and query of this page.
    pub(super) here: String,
}

impl Web {
    fn form_token(&self, session: &str) -> String {
        // Any key length is a key for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            return String::new();
        };
        mac.update(session.as_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The page to come back to after a login: what was asked for, unless that is a form's
/// target or a part of a page, which are no places of their own.
fn page_of(parts: &Parts, here: &str) -> String {
    let from = if parts.headers.contains_key("hx-request") {
        parts.headers.get("hx-current-url")
    } else if parts.method == Method::GET {
        return here.to_owned();
    } else {
        parts.headers.get(header::REFERER)
    };
    let from = from.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let place = from.split_once("://").map_or(from, |(_, rest)| rest);
    let path = place.find('/').and_then(|at| place.get(at..));
    super::page::local(path.unwrap_or("/")).to_owned()
}

impl FromRequestParts<Web> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Failure> {
        let caller = caller(parts);
        let here = parts
            .uri
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .to_owned();
        if caller.token.is_empty() {
            return Err(Failure::LoggedOut(page_of(parts, &here)));
        }
        let me = web.get(&caller, "/auth/me").await.map_err(|f| match f {
            Failure::LoggedOut(_) => Failure::LoggedOut(page_of(parts, &here)),
            other => other,
        })?;
        if me["must_change_password"] == Value::Bool(true) {
            return Err(Failure::MustChange);
        }
        Ok(Self {
            name: me["username"].as_str().unwrap_or_default().to_owned(),
            admin: me["role"] == "admin",
            csrf: web.form_token(&caller.token),
            look: super::page::Look::of(&parts.headers),
            said: cookie(&parts.headers, SAID).map(super::text::decode),
            caller,
            here,
        })
    }
}

impl Visitor {
    /// Whether a form carries the token of this visitor's session.
    pub(super) fn must_have_sent(&self, token: &str) -> Result<(), Failure> {
        if bool::from(token.as_bytes().ct_eq(self.csrf.as_bytes())) {
            return Ok(());
        }
        Err(Failure::Api {
            status: StatusCode::FORBIDDEN,
            detail: "This form is from an earlier session; go back, reload the page and try again."
                .to_owned(),
            request_id: String::new(),
        })
    }

    /// For pages only administrators see.
    pub(super) fn must_act(&self) -> Result<(), Failure> {
        if self.admin {
            return Ok(());
        }
        Err(Failure::Api {
            status: StatusCode::FORBIDDEN,
            detail: "This account may look but not change anything; ask an administrator."
                .to_owned(),
            request_id: String::new(),
        })
    }
}

/// A form somebody logged in sent from a page of ours.
pub(super) struct Posted {
    /// Who.
    pub(super) visitor: Visitor,
    fields: HashMap<String, String>,
}

impl Posted {
    /// A field's value; empty when it was not sent.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The fields of a form.
pub(super) async fn fields(request: Request) -> Result<HashMap<String, String>, Failure> {
    let bad = |detail: &str| Failure::Api {
        status: StatusCode::BAD_REQUEST,
        detail: detail.to_owned(),
        request_id: String::new(),
    };
    let body = Bytes::from_request(request, &()).await;
    let body = body.map_err(|_| bad("The form is too large or was cut off."))?;
    Ok(super::text::pairs(&String::from_utf8_lossy(&body)).collect())
}

impl FromRequest<Web> for Posted {
    type Rejection = Failure;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, web).await?;
        let fields = fields(Request::from_parts(parts, body)).await?;
        visitor.must_have_sent(fields.get("csrf").map_or("", String::as_str))?;
        Ok(Self { visitor, fields })
    }
}
