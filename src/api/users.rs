//! `/config/users` and `/audit`: who may get in, and what they did.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::{Admin, Member};
use super::error::{Error, Problem};
use super::extract::{Json, Query};
use super::{Api, logs, password};
use crate::db::user::{Role, UserRow};
use crate::model::Stamp;

/// An account.
#[derive(Serialize, ToSchema)]
pub(super) struct UserItem {
    id: String,
    username: String,
    role: Role,
    must_change_password: bool,
    /// Whether the login asks for a code beside the password.
    totp_enabled: bool,
    /// RFC 3339.
    created_at: String,
}

impl From<UserRow> for UserItem {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            username: row.name,
            role: row.role,
            must_change_password: row.must_change_password,
            totp_enabled: row.totp,
            created_at: row.created_at.to_string(),
        }
    }
}

/// Every account.
#[derive(Serialize, ToSchema)]
pub(super) struct UserList {
    items: Vec<UserItem>,
}

/// Every account, by name.
#[utoipa::path(
    get, path = "/config/users", tag = "accounts",
    responses(
        (status = 200, body = UserList),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _admin: Admin,
) -> Result<axum::Json<UserList>, Error> {
    let rows = api.db.user_list().await?;
    let items = rows.into_iter().map(UserItem::from).collect();
    Ok(axum::Json(UserList { items }))
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// Letters, digits and `. _ - @`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._@-]+$")]
    username: String,
    role: Role,
}

/// A password that was made up: shown once, to be changed at the first login.
#[derive(Serialize, ToSchema)]
pub(super) struct Made {
    id: String,
    username: String,
    password: String,
}

/// Adds an account with a made-up password.
#[utoipa::path(
    post, path = "/config/users", tag = "accounts",
    request_body = NewUser,
    responses(
        (status = 201, body = Made),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 409, description = "The name is taken", body = Problem),
        (status = 422, description = "The name is not acceptable", body = Problem),
    )
)]
pub(super) async fn add(
    State(api): State<Api>,
    Admin(member): Admin,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<Made>), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if !(1..=64).contains(&new.username.len()) || !new.username.chars().all(fine) {
        return Err(Error::unacceptable(
            "bad-name",
            "username takes 1 to 64 letters, digits and . _ - @.",
        ));
    }
    let made = password::generate();
    let hash = api.turnstile.hash(made.clone()).await?;
    let added = api
        .db
        .user_add(&new.username, &hash, new.role, true, Stamp::now())
        .await;
    if let Err(crate::db::Error::Conflict(_)) = &added {
        return Err(Error::conflict(
            "name-taken",
            "There is an account of that name.",
        ));
    }
    added?;
    note(&api, &member, "user.add", &new.username).await;
    let row = api.db.user_by_name(&new.username).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(Made {
            id: row.map(|row| row.id).unwrap_or_default(),
            username: new.username,
            password: made,
        }),
    ))
}

pub(super) async fn note(api: &Api, member: &Member, action: &str, target: &str) {
    let user = &member.session.user_name;
    api.audit(user, member.address, action, target, "ok").await;
}

/// The account, unless it is one's own: nobody locks themselves out by accident, and so
/// there is always an administrator left.
pub(super) async fn other(api: &Api, member: &Member, id: &str) -> Result<UserRow, Error> {
    let rows = api.db.user_list().await?;
    let row = rows.into_iter().find(|row| row.id == id);
    let row = row.ok_or_else(|| {
        Error::not_found("There is no such account; GET /api/v1/config/users lists them.")
    })?;
    if row.id == member.session.user_id {
        return Err(Error::forbidden(
            "own-account",
            "This is your own account; another administrator may do that.",
        ));
    }
    Ok(row)
}

/// What an account may do from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRole {
    role: Role,
}

/// Changes what an account may do, and ends its sessions.
#[utoipa::path(
    put, path = "/config/users/{id}/role", tag = "accounts",
    params(("id" = String, Path, description = "An account's id")),
    request_body = NewRole,
    responses(
        (status = 204),
        (status = 403, description = "Not an administrator, or one's own account", body = Problem),
        (status = 404, description = "There is no such account", body = Problem),
        (status = 422, description = "There is no such role", body = Problem),
    )
)]
pub(super) async fn role(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
    Json(new): Json<NewRole>,
) -> Result<StatusCode, Error> {
    let row = other(&api, &member, &id).await?;
    api.db
        .user_set_role(&row.id, new.role, Stamp::now())
        .await?;
    api.recent.clear();
    let action = format!("user.role.{}", new.role);
    note(&api, &member, &action, &row.name).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an account a made-up password, and ends its sessions.
#[utoipa::path(
    put, path = "/config/users/{id}/reset-password", tag = "accounts",
    params(("id" = String, Path, description = "An account's id")),
    responses(
        (status = 200, body = Made),
        (status = 403, description = "Not an administrator, or one's own account", body = Problem),
        (status = 404, description = "There is no such account", body = Problem),
    )
)]
pub(super) async fn reset(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<Made>, Error> {
    let row = other(&api, &member, &id).await?;
    let made = password::generate();
    let hash = api.turnstile.hash(made.clone()).await?;
    api.db
        .user_set_password(&row.id, &hash, true, None, Stamp::now())
        .await?;
    api.recent.clear();
    note(&api, &member, "user.reset-password", &row.name).await;
    Ok(axum::Json(Made {
        id: row.id,
        username: row.name,
        password: made,
    }))
}

/// Ends every session of an account. Its API tokens stay.
#[utoipa::path(
    delete, path = "/config/users/{id}/sessions", tag = "accounts",
    params(("id" = String, Path, description = "An account's id")),
    responses(
        (status = 204),
        (status = 403, description = "Not an administrator, or one's own account", body = Problem),
        (status = 404, description = "There is no such account", body = Problem),
    )
)]
pub(super) async fn end_sessions(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let row = other(&api, &member, &id).await?;
    api.db.session_end_all(&row.id, None).await?;
    api.recent.clear();
    note(&api, &member, "user.end-sessions", &row.name).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes an account and ends its sessions.
#[utoipa::path(
    delete, path = "/config/users/{id}", tag = "accounts",
    params(("id" = String, Path, description = "An account's id")),
    responses(
        (status = 204),
        (status = 403, description = "Not an administrator, or one's own account", body = Problem),
        (status = 404, description = "There is no such account", body = Problem),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let row = other(&api, &member, &id).await?;
    api.db.user_delete(&row.id).await?;
    api.recent.clear();
    note(&api, &member, "user.delete", &row.name).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Which entries; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Who.
    actor: Option<String>,
    /// What, or how it begins: `worker.`.
    action: Option<String>,
}

/// One thing somebody did or tried.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditItem {
    id: i64,
    /// RFC 3339.
    at: String,
    /// As given; anybody may try any name at the login.
    actor: String,
    address: String,
    action: String,
    target: String,
    /// `ok`, or why not.
    outcome: String,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    items: Vec<AuditItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// What was done through the API, newest first.
#[utoipa::path(
    get, path = "/audit", tag = "accounts", params(AuditQuery),
    responses(
        (status = 200, body = AuditPage),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
pub(super) async fn audit(
    State(api): State<Api>,
    _admin: Admin,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<AuditPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let actor = logs::text("actor", query.actor)?;
    let action = logs::text("action", query.action)?;
    let rows = api
        .db
        .audit_list(actor.as_deref(), action.as_deref(), page)
        .await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|(id, _)| *id).filter(|_| full);
    let items = rows.into_iter().map(|(id, row)| AuditItem {
        id,
        at: row.created_at.to_string(),
        actor: row.actor,
        address: row.address,
        action: row.action,
        target: row.target,
        outcome: row.outcome,
    });
    Ok(axum::Json(AuditPage {
        items: items.collect(),
        next,
    }))
}
