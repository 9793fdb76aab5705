//! `/auth`: log in, log out, one's sessions, change the password, who am I.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::auth::{self, Client, Member};
use super::error::{Error, Problem};
use super::extract::Json;
use super::{Api, password, totp};
use crate::db::token::Whence;
use crate::db::user::{Role, UserRow};
use crate::model::Stamp;

/// Longest account name.
const MAX_NAME: usize = 64;

/// A name, a password and, where the account has a second factor, a code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    #[schema(max_length = 64)]
    username: String,
    #[schema(max_length = 128)]
    password: String,
    /// What the authenticator shows, or a recovery code; needed after the reply
    /// `totp-required`.
    #[schema(max_length = 64)]
    totp: Option<String>,
}

/// An open session.
#[derive(Serialize, ToSchema)]
pub(super) struct LoginReply {
    /// Send it as `Authorization: Bearer TOKEN`.
    token: String,
    /// RFC 3339; the session ends then at the latest, and after an hour without use.
    expires_at: String,
    /// Every other route answers 403 until the password is changed.
    must_change_password: bool,
    role: Role,
}

/// Logs in.
#[utoipa::path(
    post, path = "/auth/login", tag = "auth", security(()),
    request_body = LoginRequest,
    responses(
        (status = 200, body = LoginReply),
        (status = 401, description = "Wrong name or password; the right ones and no code \
            (`totp-required`), or a wrong one (`wrong-code`)", body = Problem),
        (status = 422, description = "A field is missing, unknown or too long", body = Problem),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem),
        (status = 503, description = "Too many logins at once", body = Problem),
    )
)]
pub(super) async fn login(
    State(api): State<Api>,
    Client { address, agent }: Client,
    Json(request): Json<LoginRequest>,
) -> Result<axum::Json<LoginReply>, Error> {
    let name = request.username;
    let code = request.totp.as_deref();
    if name.is_empty()
        || name.len() > MAX_NAME
        || request.password.len() > password::MAX_BYTES
        || code.is_some_and(|code| code.len() > totp::MAX_CODE)
    {
        return Err(Error::unacceptable(
            "bad-body",
            format!(
                "username takes 1 to {MAX_NAME} bytes, password at most {}, totp {}.",
                password::MAX_BYTES,
                totp::MAX_CODE
            ),
        ));
    }
    attempt(&api, &name, address)?;
    let user = api.db.user_by_name(&name).await?;
    let stored = user.as_ref().map(|u| u.password_hash.clone());
    let fits = api.turnstile.verify(request.password, stored).await?;
    let Some(user) = user.filter(|_| fits) else {
        api.audit(&name, address, "login", "", "refused").await;
        return Err(Error::unauthorized("Wrong user name or password."));
    };
    // Until then the attempt counts: codes are guessed no faster than passwords.
    totp::at_login(&api, &user, code, address).await?;
    api.throttle().succeed(&name, address);
    let (token, hash) = auth::mint();
    let now = Stamp::now();
    let expires_at = now.plus(api.config.api.session);
    let whence = Whence {
        address: address.to_string(),
        agent,
    };
    api.db
        .session_add(&hash, &user.id, &whence, now, expires_at)
        .await?;
    api.audit(&name, address, "login", "", "ok").await;
    Ok(axum::Json(LoginReply {
        token,
        expires_at: expires_at.to_string(),
        must_change_password: user.must_change_password,
        role: user.role,
    }))
}

/// Counts a password guess, or refuses to look at it yet.
pub(super) fn attempt(api: &Api, name: &str, address: std::net::IpAddr) -> Result<(), Error> {
    api.throttle()
        .begin(name, address, Instant::now())
        .map_err(|wait| {
            Error::too_many(
                "too-many-attempts",
                "Too many attempts for this account or from this address; wait and try again.",
                wait,
            )
        })
}

/// Whether whoever is logged in knows the password, asked before what a session left open
/// must not do. The attempt counts until the throttle is told of a success.
pub(super) async fn prove(
    api: &Api,
    member: &Member,
    password: String,
    action: &str,
) -> Result<UserRow, Error> {
    let name = &member.session.user_name;
    let too_long = password.len() > password::MAX_BYTES;
    attempt(api, name, member.address)?;
    let user = api.db.user_by_name(name).await?;
    let stored = user.as_ref().map(|u| u.password_hash.clone());
    let fits = !too_long && api.turnstile.verify(password, stored).await?;
    if let Some(user) = user.filter(|_| fits) {
        return Ok(user);
    }
    api.audit(name, member.address, action, "", "refused").await;
    Err(Error::forbidden("wrong-password", "The password is wrong."))
}

/// Ends this session.
#[utoipa::path(
    post, path = "/auth/logout", tag = "auth",
    responses(
        (status = 204),
        (status = 401, body = Problem),
        (status = 403, description = "Asked with an API token", body = Problem),
    )
)]
pub(super) async fn logout(State(api): State<Api>, member: Member) -> Result<StatusCode, Error> {
    member.must_be_logged_in()?;
    api.db.session_end(&member.token).await?;
    api.recent.clear();
    let name = &member.session.user_name;
    api.audit(name, member.address, "logout", "", "ok").await;
    Ok(StatusCode::NO_CONTENT)
}

/// An open session.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionItem {
    id: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339, to the minute.
    last_used_at: String,
    /// RFC 3339; the session ends then at the latest, and after an hour without use.
    expires_at: String,
    /// Where the login came from.
    address: String,
    /// What the client called itself; null when it said nothing.
    agent: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

/// Open sessions.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionList {
    items: Vec<SessionItem>,
}

/// One's own open sessions, the one used last first.
#[utoipa::path(
    get, path = "/auth/sessions", tag = "auth",
    responses(
        (status = 200, body = SessionList),
        (status = 403, description = "Asked with an API token", body = Problem),
    )
)]
pub(super) async fn sessions(
    State(api): State<Api>,
    member: Member,
) -> Result<axum::Json<SessionList>, Error> {
    member.must_be_logged_in()?;
    let user = &member.session.user_id;
    let rows = api.db.session_list(user, auth::IDLE, Stamp::now()).await?;
    let items = rows.into_iter().map(|row| SessionItem {
        current: row.token_sha256 == member.token,
        id: row.id,
        created_at: row.created_at.to_string(),
        last_used_at: row.used_at.to_string(),
        expires_at: row.expires_at.to_string(),
        address: row.address,
        agent: Some(row.agent).filter(|agent| !agent.is_empty()),
    });
    Ok(axum::Json(SessionList {
        items: items.collect(),
    }))
}

/// Ends one of one's own sessions.
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", tag = "auth",
    params(("id" = String, Path, description = "A session's id")),
    responses(
        (status = 204),
        (status = 403, description = "Asked with an API token", body = Problem),
        (status = 404, description = "There is no such session", body = Problem),
    )
)]
pub(super) async fn end(
    State(api): State<Api>,
    member: Member,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    member.must_be_logged_in()?;
    let user = &member.session.user_id;
    if !api.db.session_end_one(&id, user).await? {
        return Err(Error::not_found(
            "There is no such session; GET /api/v1/auth/sessions lists yours.",
        ));
    }
    api.recent.clear();
    let name = &member.session.user_name;
    api.audit(name, member.address, "session.end", &id, "ok")
        .await;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends every session of the account, this one too. API tokens stay.
#[utoipa::path(
    post, path = "/auth/logout-all", tag = "auth",
    responses(
        (status = 204),
        (status = 403, description = "Asked with an API token", body = Problem),
    )
)]
pub(super) async fn logout_all(
    State(api): State<Api>,
    member: Member,
) -> Result<StatusCode, Error> {
    member.must_be_logged_in()?;
    let user = &member.session.user_id;
    api.db.session_end_all(user, None).await?;
    api.recent.clear();
    let name = &member.session.user_name;
    api.audit(name, member.address, "logout-all", "", "ok")
        .await;
    Ok(StatusCode::NO_CONTENT)
}

/// The old password and the one to take its place.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePassword {
    old_password: String,
    /// At least 12 characters, at most 128 bytes, five different characters, without
    /// the account's name, and none of the account's last five.
    #[schema(min_length = 12, max_length = 128)]
    new_password: String,
}

/// Changes one's own password and ends every other session of the account.
#[utoipa::path(
    post, path = "/auth/change-password", tag = "auth",
    request_body = ChangePassword,
    responses(
        (status = 204),
        (status = 401, body = Problem),
        (status = 403, description = "The old password is wrong", body = Problem),
        (status = 422, description = "The new password is not acceptable", body = Problem),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem),
    )
)]
pub(super) async fn change_password(
    State(api): State<Api>,
    member: Member,
    Json(request): Json<ChangePassword>,
) -> Result<StatusCode, Error> {
    member.must_be_logged_in()?;
    let name = member.session.user_name.clone();
    password::check(&request.new_password, &name)
        .map_err(|why| Error::unacceptable("bad-password", format!("{why}.")))?;
    if request.new_password == request.old_password {
        return Err(Error::unacceptable(
            "bad-password",
            "the new password is the old one.",
        ));
    }
    prove(&api, &member, request.old_password, "change-password").await?;
    let had = api.db.user_last_passwords(&member.session.user_id).await?;
    let new = request.new_password.clone();
    if api.turnstile.verify_any(new, had).await? {
        let why = format!("{}.", password::HAD_BEFORE);
        return Err(Error::unacceptable("bad-password", why));
    }
    let hash = api.turnstile.hash(request.new_password).await?;
    let id = &member.session.user_id;
    api.db
        .user_set_password(id, &hash, false, Some(&member.token), Stamp::now())
        .await?;
    api.recent.clear();
    api.throttle().succeed(&name, member.address);
    api.forget_first_password(&name);
    api.audit(&name, member.address, "change-password", "", "ok")
        .await;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose session this is.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    id: String,
    username: String,
    role: Role,
    must_change_password: bool,
    /// RFC 3339.
    expires_at: String,
}

/// Whose session this is.
#[utoipa::path(
    get, path = "/auth/me", tag = "auth",
    responses((status = 200, body = Me), (status = 401, body = Problem))
)]
pub(super) async fn me(member: Member) -> axum::Json<Me> {
    let session = member.session;
    axum::Json(Me {
        id: session.user_id,
        username: session.user_name,
        role: session.role,
        must_change_password: session.must_change_password,
        expires_at: session.expires_at.to_string(),
    })
}
