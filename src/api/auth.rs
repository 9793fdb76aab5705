//! Who asks: the extractors whose presence in a handler's signature is the check.
//! [`Member`] is anybody logged in, [`Viewer`] anybody who may look, [`Admin`] who may
//! act. A token is sent as `Authorization: Bearer …`, never in a URL.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::error::Error;
use super::{Api, Peer};
use crate::db::token::SessionRow;
use crate::db::user::Role;
use crate::model::Stamp;
use crate::net::forwarded;

/// A session nobody used for so long is over, however long it might have lasted.
pub(super) const IDLE: Duration = Duration::from_secs(3600);
/// How often a session's use is written down.
const TOUCH: Duration = Duration::from_secs(60);
/// How long a session found in the database is believed. What ends a session here
/// clears it at once; only an end made by another process (`decnet user passwd`)
/// takes this long to be noticed.
const BELIEVE: Duration = Duration::from_secs(1);
/// Sessions remembered.
const REMEMBER: usize = 1024;

/// The SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

/// A fresh token and its hash.
pub(super) fn mint() -> (String, TokenHash) {
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let hash = digest(&token);
    (token, hash)
}

fn digest(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Sessions looked up a moment ago.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<TokenHash, (SessionRow, Instant)>>);

impl Recent {
    fn get(&self, hash: &TokenHash) -> Option<SessionRow> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, at) = map.get(hash)?;
        (at.elapsed() < BELIEVE).then(|| row.clone())
    }

    fn put(&self, hash: TokenHash, row: &SessionRow) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= REMEMBER {
            map.clear();
        }
        map.insert(hash, (row.clone(), Instant::now()));
    }

    /// Forgets everything: some session ended or changed.
    pub(super) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Looks a session up and notes its use.
pub(super) async fn resolve(api: &Api, hash: &TokenHash) -> Result<Option<SessionRow>, Error> {
    let now = Stamp::now();
    if let Some(row) = api.recent.get(hash)
        && now < row.expires_at
    {
        return Ok(Some(row));
    }
    let found = match api.db.session_find(hash, IDLE, now).await? {
        Some(row) => Some(row),
        None => api.db.api_token_find(hash, now).await?,
    };
    let Some(mut row) = found else {
        return Ok(None);
    };
    if now.since(row.used_at) >= TOUCH {
        if row.api_token {
            api.db.api_token_touch(hash, now).await?;
        } else {
            api.db.session_touch(hash, now).await?;
        }
        row.used_at = now;
    }
    api.recent.put(*hash, &row);
    Ok(Some(row))
}

/// Anybody logged in, even one who must change the password first.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) session: SessionRow,
    pub(super) token: TokenHash,
    pub(super) address: IpAddr,
}

impl Member {
    /// Refuses an API token: what it was given for does not include keys to the house.
    pub(super) fn must_be_logged_in(&self) -> Result<(), Error> {
        if !self.session.api_token {
            return Ok(());
        }
        Err(Error::forbidden(
            "session-needed",
            "An API token cannot do this; log in with a password.",
        ))
    }
}

/// Anybody who may look.
#[derive(Clone, Debug)]
pub(super) struct Viewer(pub(super) Member);

/// Anybody who may act.
#[derive(Clone, Debug)]
pub(super) struct Admin(pub(super) Member);

/// Who asks before anybody is logged in.
pub(super) struct Client {
    /// For the throttle and the audit record.
    pub(super) address: IpAddr,
    /// What it calls itself, for its owner to know it by.
    pub(super) agent: String,
}

/// Longest name of a client that is kept.
const MAX_AGENT: usize = 256;

/// Header by which the dashboard of this host is known: the content of `web.key`.
const WEB_KEY: &str = "x-decnet-web";

/// The address a request came from. The dashboard's requests come from its browsers: it
/// says from which, and is believed because it can read a file that only the service's
/// group can. Beside it only the proxies that the settings name are believed.
fn address(parts: &Parts, api: &Api) -> IpAddr {
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let peer = parts
        .extensions
        .get::<Peer>()
        .map_or(unknown, |peer| peer.0);
    let given = |name| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let known =
        given(WEB_KEY).is_some_and(|key| bool::from(key.as_bytes().ct_eq(api.web_key.as_bytes())));
    let said = given("x-forwarded-for").and_then(|text| text.trim().parse().ok());
    said.filter(|_| known)
        .unwrap_or_else(|| forwarded::client(peer, &parts.headers, &api.config.api.trusted_proxies))
}

impl FromRequestParts<Api> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Self::Rejection> {
        let agent = parts.headers.get(USER_AGENT);
        let agent = agent.and_then(|v| v.to_str().ok()).unwrap_or_default();
        Ok(Self {
            address: address(parts, api),
            agent: agent.chars().take(MAX_AGENT).collect(),
        })
    }
}

impl FromRequestParts<Api> for Member {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| digest(token.trim()))
            .ok_or_else(|| {
                Error::unauthorized(
                    "Log in with POST /api/v1/auth/login and send the token as 'Authorization: Bearer TOKEN'.",
                )
            })?;
        let session = resolve(api, &token)
            .await?
            .ok_or_else(|| Error::unauthorized("The session is unknown or over; log in again."))?;
        Ok(Self {
            session,
            token,
            address: address(parts, api),
        })
    }
}

impl FromRequestParts<Api> for Viewer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let member = <Member as FromRequestParts<Api>>::from_request_parts(parts, api).await?;
        if member.session.must_change_password {
            return Err(Error::forbidden(
                "password-change-required",
                "Change the password first: POST /api/v1/auth/change-password.",
            ));
        }
        Ok(Self(member))
    }
}

/// Nobody is fine; somebody with a bad token is not.
impl OptionalFromRequestParts<Api> for Viewer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Option<Self>, Error> {
        if !parts.headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        <Self as FromRequestParts<Api>>::from_request_parts(parts, api)
            .await
            .map(Some)
    }
}

impl FromRequestParts<Api> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let Viewer(member) =
            <Viewer as FromRequestParts<Api>>::from_request_parts(parts, api).await?;
        if member.session.role != Role::Admin {
            return Err(Error::forbidden(
                "admin-only",
                "This account may look but not change anything; ask an administrator.",
            ));
        }
        Ok(Self(member))
    }
}
