//! `/canary/kinds`, `/canary/tokens`: what can be made, and what was.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{around, find};
use crate::api::auth::{Admin, Member, Viewer};
use crate::api::error::{Error, Problem};
use crate::api::extract::{Json, Query, is_id};
use crate::api::{Api, logs};
use crate::canary::Kind;
use crate::db::canary::{TokenFilter, TokenRow};
use crate::deploy::canary::{self as deploy, Wanted};
use crate::model::Stamp;
use crate::model::canary::TokenState;

/// A kind of token.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct KindItem {
    /// For `kind` of a new token.
    name: &'static str,
    summary: &'static str,
    /// How it calls: `http`, `dns` or `passive`.
    callback: &'static str,
    /// Whether this installation can make it.
    available: bool,
    /// The setting that is missing for it.
    needs: Option<&'static str>,
}

/// The kinds of tokens.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct KindList {
    items: Vec<KindItem>,
}

/// What can be made.
#[utoipa::path(
    get, path = "/canary/kinds", tag = "canary",
    responses((status = 200, body = KindList))
)]
pub(in crate::api) async fn kinds(State(api): State<Api>, _viewer: Viewer) -> axum::Json<KindList> {
    let items = Kind::ALL.iter().map(|kind| {
        let needs = deploy::lacks(*kind, &api.config);
        KindItem {
            name: kind.as_str(),
            summary: kind.summary(),
            callback: kind.callback().as_str(),
            available: needs.is_none(),
            needs,
        }
    });
    axum::Json(KindList {
        items: items.collect(),
    })
}

/// A canary token.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Token {
    id: String,
    kind: String,
    /// What the operator calls it.
    memo: Option<String>,
    /// On which decky; null is a machine that is none.
    decky: Option<String>,
    /// Where exactly; null is the kind's own place.
    path: Option<String>,
    /// SHA-256 of the uploaded file it is in.
    blob: Option<String>,
    /// `new`, `planted`, `revoked`, `failed`.
    state: &'static str,
    /// Why it could not be planted or taken back.
    last_error: Option<String>,
    /// Paths on the decky that were written.
    planted: Vec<String>,
    /// What a call of it asks for.
    url: String,
    /// Why nobody elsewhere reaches that; null when they may.
    caution: Option<&'static str>,
    /// The name a call of it asks for; null without a zone.
    host: Option<String>,
    created_by: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339; when it was last planted.
    planted_at: Option<String>,
    /// RFC 3339.
    revoked_at: Option<String>,
    trigger_count: i64,
    /// RFC 3339.
    last_triggered_at: Option<String>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        let state = row.state().as_str();
        let (url, host) = deploy::calls(&row);
        Self {
            caution: url.as_deref().and_then(deploy::caution),
            url: url.unwrap_or_default(),
            host,
            id: row.id,
            kind: row.kind,
            memo: Some(row.memo).filter(|memo| !memo.is_empty()),
            decky: row.decky,
            path: row.path,
            blob: row.blob,
            state,
            last_error: row.last_error,
            planted: row.planted.0,
            created_by: row.created_by,
            created_at: row.created_at.to_string(),
            planted_at: row.planted_at.map(|at| at.to_string()),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
            trigger_count: row.trigger_count,
            last_triggered_at: row.last_triggered_at.map(|at| at.to_string()),
        }
    }
}

/// Which tokens; all given conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct TokenQuery {
    /// `next` of the page before.
    #[param(pattern = "^[0-9a-f-]{36}$")]
    before: Option<String>,
    /// Tokens per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Decky name.
    decky: Option<String>,
    /// A kind of GET /canary/kinds.
    kind: Option<String>,
    /// `new`, `planted`, `revoked` or `failed`.
    state: Option<String>,
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TokenPage {
    items: Vec<Token>,
    /// `before` of the next page; null when this is the last.
    next: Option<String>,
}

/// Canary tokens, newest first.
#[utoipa::path(
    get, path = "/canary/tokens", tag = "canary", params(TokenQuery),
    operation_id = "canary_list",
    responses(
        (status = 200, body = TokenPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<TokenQuery>,
) -> Result<axum::Json<TokenPage>, Error> {
    let limit = logs::page(None, query.limit)?.limit;
    if query.before.as_ref().is_some_and(|id| !is_id(id)) {
        return Err(Error::bad_request("before takes what next was."));
    }
    let state = logs::text("state", query.state)?
        .map(|text| {
            TokenState::parse(&text)
                .ok_or_else(|| Error::bad_request("state takes new, planted, revoked or failed."))
        })
        .transpose()?;
    let filter = TokenFilter {
        decky: logs::text("decky", query.decky)?,
        kind: logs::text("kind", query.kind)?,
        state,
    };
    let before = query.before.as_deref();
    let rows = api.db.canary_list(&filter, before, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == limit);
    let next = rows.last().filter(|_| full).map(|row| row.id.clone());
    let items = rows.into_iter().map(Token::from).collect();
    Ok(axum::Json(TokenPage { items, next }))
}

/// One canary token.
#[utoipa::path(
    get, path = "/canary/tokens/{id}", tag = "canary", operation_id = "canary_one",
    params(("id" = String, Path, description = "A token of GET /canary/tokens")),
    responses(
        (status = 200, body = Token),
        (status = 404, description = "There is no such token", body = Problem),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<Token>, Error> {
    Ok(axum::Json(find(&api, &id).await?.into()))
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewCanary {
    /// A kind of GET /canary/kinds.
    kind: String,
    /// What to call it.
    #[schema(max_length = 256)]
    #[serde(default)]
    memo: Option<String>,
    /// For which decky; without one it is for a machine that is none.
    #[serde(default)]
    decky: Option<String>,
    /// Absolute path of its first file; the kind's own place unless told.
    #[schema(max_length = 256)]
    #[serde(default)]
    path: Option<String>,
    /// Whose home; one of the host's people unless told.
    #[schema(max_length = 256)]
    #[serde(default)]
    user: Option<String>,
    /// Whether the machine that is no decky runs Windows.
    #[serde(default)]
    windows: bool,
    /// SHA-256 of the uploaded file that the kind `upload` goes into.
    #[serde(default)]
    blob: Option<String>,
    /// Whether to write its files to the decky at once; true unless told.
    #[serde(default)]
    plant: Option<bool>,
}

/// Makes a canary token and plants it when it is for a decky; when that fails the token is
/// there in state `failed`.
#[utoipa::path(
    post, path = "/canary/tokens", tag = "canary", request_body = NewCanary,
    operation_id = "canary_add",
    responses(
        (status = 201, body = Token),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 409, description = "There are as many tokens as there may be", body = Problem),
        (status = 422, description = "It cannot be made as asked", body = Problem),
    )
)]
pub(in crate::api) async fn add(
    State(api): State<Api>,
    Admin(member): Admin,
    Json(new): Json<NewCanary>,
) -> Result<(StatusCode, axum::Json<Token>), Error> {
    let kind = Kind::parse(&new.kind).ok_or_else(|| {
        Error::unacceptable(
            "bad-token",
            "kind takes a name of GET /api/v1/canary/kinds.",
        )
    })?;
    let wanted = Wanted {
        kind,
        memo: new.memo.unwrap_or_default(),
        decky: new.decky,
        path: new.path,
        user: new.user,
        windows: new.windows,
        blob: new.blob,
    };
    let (around, now) = (around(&api), Stamp::now());
    let made = around.make(&wanted, &member.session.user_name, now).await;
    let code = made.as_ref().err().map(|_| "refused");
    let target = made.as_ref().map_or(kind.as_str(), |token| &token.id);
    audit(&api, &member, "canary.add", target, code.unwrap_or("ok")).await;
    let mut token = made?;
    if token.decky.is_some() && new.plant.unwrap_or(true) {
        let planted = around.plant(&token, now).await;
        let outcome = if planted.is_ok() { "ok" } else { "failed" };
        audit(&api, &member, "canary.plant", &token.id, outcome).await;
        token = match planted {
            Ok(token) => token,
            // The row says why.
            Err(deploy::Error::Decky { .. }) => find(&api, &token.id).await?,
            Err(error) => return Err(error.into()),
        };
    }
    Ok((StatusCode::CREATED, axum::Json(token.into())))
}

/// Writes a token's files to its decky, again when they are there.
#[utoipa::path(
    post, path = "/canary/tokens/{id}/plant", tag = "canary",
    operation_id = "canary_plant",
    params(("id" = String, Path, description = "A token of GET /canary/tokens")),
    responses(
        (status = 200, body = Token),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such token", body = Problem),
        (status = 409, description = "It is for no decky, or the decky did not take it; `detail` says why", body = Problem),
        (status = 422, description = "Its files cannot be made any more", body = Problem),
    )
)]
pub(in crate::api) async fn plant(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<Token>, Error> {
    let token = find(&api, &id).await?;
    let planted = around(&api).plant(&token, Stamp::now()).await;
    let outcome = if planted.is_ok() { "ok" } else { "failed" };
    audit(&api, &member, "canary.plant", &id, outcome).await;
    Ok(axum::Json(planted?.into()))
}

/// What becomes of the token.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct RevokeQuery {
    /// Also delete the token and everything it caught. Calls of it are no longer noticed.
    forget: bool,
}

/// Takes a token back: its files leave the decky. It goes on telling when somebody who
/// made a copy uses it, unless it is forgotten.
#[utoipa::path(
    delete, path = "/canary/tokens/{id}", tag = "canary",
    operation_id = "canary_revoke",
    params(("id" = String, Path, description = "A token of GET /canary/tokens"), RevokeQuery),
    responses(
        (status = 200, body = Token),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such token", body = Problem),
    )
)]
pub(in crate::api) async fn revoke(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
    Query(query): Query<RevokeQuery>,
) -> Result<axum::Json<Token>, Error> {
    let token = find(&api, &id).await?;
    let around = around(&api);
    let revoked = around.revoke(&token, Stamp::now()).await?;
    audit(&api, &member, "canary.revoke", &id, "ok").await;
    if query.forget {
        api.db.canary_forget(&id).await?;
        around.changed(&token);
        audit(&api, &member, "canary.forget", &id, "ok").await;
    }
    Ok(axum::Json(revoked.into()))
}

async fn audit(api: &Api, member: &Member, action: &str, target: &str, outcome: &str) {
    let actor = &member.session.user_name;
    api.audit(actor, member.address, action, target, outcome)
        .await;
}
