//! `/canary/tokens/{id}/triggers`: who used a token.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::find;
use crate::api::auth::Viewer;
use crate::api::error::{Error, Problem};
use crate::api::extract::Query;
use crate::api::{Api, logs};
use crate::db::canary::trigger::TriggerRow;
use crate::geo;

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct TriggerQuery {
    /// `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A field of a request's head.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct HeaderField {
    name: String,
    value: String,
}

/// A use of a token. The same again within a while counts up.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Trigger {
    /// Also the id of the event in the log.
    id: String,
    /// RFC 3339.
    first_at: String,
    /// RFC 3339.
    last_at: String,
    count: i64,
    /// Who; as in GET /attackers/{ip}.
    attacker_ip: String,
    /// Two letters, ISO 3166-1; null for an address of no known country.
    country: Option<&'static str>,
    /// Null when a proxy stands between.
    port: Option<i64>,
    /// `http`, `https`, `dns`.
    via: String,
    /// The HTTP method, or the type of the question.
    method: String,
    /// The request's target, or the name asked for.
    path: String,
    user_agent: Option<String>,
    headers: Vec<HeaderField>,
    /// The begin of the request's body.
    body: Option<String>,
    /// Who asked for somebody else: a resolver, a proxy.
    resolver: Option<String>,
    /// What a browser's page found out about it: `id` and `sections`.
    #[schema(value_type = Option<Object>)]
    fingerprint: Option<Value>,
}

impl From<TriggerRow> for Trigger {
    fn from(row: TriggerRow) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let fields = row.headers.0.into_iter();
        Self {
            id: row.id,
            first_at: row.first_at.to_string(),
            last_at: row.last_at.to_string(),
            count: row.count,
            country: row.address.parse().ok().and_then(geo::country),
            attacker_ip: row.address,
            port: row.port,
            via: row.via,
            method: row.method,
            path: row.path,
            user_agent: some(row.user_agent),
            headers: fields
                .map(|(name, value)| HeaderField { name, value })
                .collect(),
            body: some(row.body),
            resolver: row.resolver,
            fingerprint: row
                .fingerprint
                .and_then(|text| serde_json::from_str(&text).ok()),
        }
    }
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TriggerPage {
    items: Vec<Trigger>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// Uses of a token, newest first.
#[utoipa::path(
    get, path = "/canary/tokens/{id}/triggers", tag = "canary",
    operation_id = "canary_triggers",
    params(("id" = String, Path, description = "A token of GET /canary/tokens"), TriggerQuery),
    responses(
        (status = 200, body = TriggerPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 404, description = "There is no such token", body = Problem),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
    Query(query): Query<TriggerQuery>,
) -> Result<axum::Json<TriggerPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let token = find(&api, &id).await?;
    let rows = api.db.canary_triggers(&token.id, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.n).filter(|_| full);
    let items = rows.into_iter().map(Trigger::from).collect();
    Ok(axum::Json(TriggerPage { items, next }))
}
