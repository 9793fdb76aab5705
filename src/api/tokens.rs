//! `/auth/tokens`: named keys for scripts, made by somebody logged in.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{self, Viewer};
use super::error::{Error, Problem};
use super::extract::{Json, Query};
use crate::db::user::Role;
use crate::model::Stamp;

/// Longest name.
const MAX_NAME: usize = 64;

/// Whose tokens.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct TokenQuery {
    /// Everybody's; administrators only.
    all: bool,
}

/// A key as its owner sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenItem {
    id: String,
    name: String,
    role: String,
    owner: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339; null when it does not end by itself.
    expires_at: Option<String>,
    /// RFC 3339, to the minute.
    last_used_at: Option<String>,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    items: Vec<TokenItem>,
}

/// One's own API tokens, newest first.
#[utoipa::path(
    get, path = "/auth/tokens", tag = "auth", params(TokenQuery),
    responses(
        (status = 200, body = TokenList),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Query(query): Query<TokenQuery>,
) -> Result<axum::Json<TokenList>, Error> {
    if query.all && member.session.role != Role::Admin {
        return Err(Error::forbidden(
            "admin-only",
            "Only administrators see everybody's tokens.",
        ));
    }
    let own = (!query.all).then_some(member.session.user_id.as_str());
    let rows = api.db.api_token_list(own).await?;
    let items = rows.into_iter().map(|row| TokenItem {
        id: row.id,
        name: row.name,
        role: row.role,
        owner: row.owner,
        created_at: row.created_at.to_string(),
        expires_at: row.expires_at.map(|at| at.to_string()),
        last_used_at: row.used_at.map(|at| at.to_string()),
    });
    Ok(axum::Json(TokenList {
        items: items.collect(),
    }))
}

/// A new key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it is for.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// At most one's own.
    role: Role,
    /// Days until it ends; never when absent.
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

/// A key, shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    id: String,
    name: String,
    role: Role,
    /// RFC 3339.
    expires_at: Option<String>,
    /// Send it as `Authorization: Bearer TOKEN`. It cannot be shown again.
    token: String,
}

/// Makes an API token. It cannot change passwords or make tokens itself.
#[utoipa::path(
    post, path = "/auth/tokens", tag = "auth",
    request_body = NewToken,
    responses(
        (status = 201, body = MadeToken),
        (status = 403, description = "More than one may do oneself, or asked with an API token", body = Problem),
        (status = 409, description = "The account has as many tokens as it may have", body = Problem),
        (status = 422, description = "A field is not acceptable", body = Problem),
    )
)]
pub(super) async fn add(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<MadeToken>), Error> {
    member.must_be_logged_in()?;
    let name = new.name.trim();
    if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
        return Err(Error::unacceptable(
            "bad-name",
            format!("name takes 1 to {MAX_NAME} bytes of text."),
        ));
    }
    if new
        .expires_in_days
        .is_some_and(|days| !(1..=3650).contains(&days))
    {
        return Err(Error::unacceptable(
            "bad-expiry",
            "expires_in_days takes 1 to 3650.",
        ));
    }
    if new.role == Role::Admin && member.session.role != Role::Admin {
        return Err(Error::forbidden(
            "admin-only",
            "A viewer's token may only look, too.",
        ));
    }
    let now = Stamp::now();
    let day = |days| Duration::from_secs(u64::from(days) * 86_400);
    let expires_at = new.expires_in_days.map(|days| now.plus(day(days)));
    let (token, hash) = auth::mint();
    let user = &member.session.user_id;
    let id = api
        .db
        .api_token_add(&hash, user, name, new.role, expires_at, now)
        .await?;
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "token.add", name, "ok")
        .await;
    Ok((
        StatusCode::CREATED,
        axum::Json(MadeToken {
            id,
            name: name.to_owned(),
            role: new.role,
            expires_at: expires_at.map(|at| at.to_string()),
            token,
        }),
    ))
}

/// Revokes an API token at once; administrators anybody's.
#[utoipa::path(
    delete, path = "/auth/tokens/{id}", tag = "auth",
    params(("id" = String, Path, description = "A token's id")),
    responses(
        (status = 204),
        (status = 403, description = "Asked with an API token", body = Problem),
        (status = 404, description = "There is no such token", body = Problem),
    )
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    member.must_be_logged_in()?;
    let own = (member.session.role != Role::Admin).then_some(member.session.user_id.as_str());
    let name = api.db.api_token_delete(&id, own).await?;
    let name = name.ok_or_else(|| {
        Error::not_found("There is no such token; GET /api/v1/auth/tokens lists yours.")
    })?;
    api.recent.clear();
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "token.revoke", &name, "ok")
        .await;
    Ok(StatusCode::NO_CONTENT)
}
