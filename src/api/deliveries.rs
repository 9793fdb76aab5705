//! `/webhooks/{id}/deliveries`: what receivers were sent, and sending it again.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::auth::Admin;
use super::error::{Error, Problem};
use super::extract::Query;
use super::{Api, logs, webhooks};
use crate::db::webhook::DeliveryRow;
use crate::model::Stamp;

/// Which deliveries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// Only rows with a smaller id: `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    #[param(inline)]
    status: Option<Status>,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It waits.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Dead,
}

/// One event on its way to one receiver.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryItem {
    id: i64,
    /// The same in every attempt; the receiver sees it as `webhook-id`.
    event_id: String,
    topic: String,
    r#type: String,
    /// Any JSON.
    #[schema(value_type = Object)]
    payload: Value,
    /// `pending`, `delivered` or `dead`.
    status: String,
    attempts: i64,
    /// Of the receiver's last reply.
    status_code: Option<i64>,
    error: Option<String>,
    took_ms: Option<i64>,
    /// RFC 3339: when the event was published.
    event_at: String,
    /// RFC 3339: when it was taken down, or put back in line.
    created_at: String,
    /// RFC 3339: no attempt before; null when it is over.
    next_attempt_at: Option<String>,
    /// RFC 3339; null while it waits.
    finished_at: Option<String>,
}

impl From<DeliveryRow> for DeliveryItem {
    fn from(row: DeliveryRow) -> Self {
        let waits = row.status == "pending";
        Self {
            id: row.id,
            event_id: row.event_id,
            topic: row.topic,
            r#type: row.kind,
            payload: serde_json::from_str(&row.payload).unwrap_or_default(),
            status: row.status,
            attempts: row.attempts,
            status_code: row.last_status,
            error: row.last_error,
            took_ms: row.took_ms,
            event_at: row.event_at.to_string(),
            created_at: row.created_at.to_string(),
            next_attempt_at: waits.then(|| row.next_at.to_string()),
            finished_at: row.finished_at.map(|at| at.to_string()),
        }
    }
}

/// One page.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryPage {
    items: Vec<DeliveryItem>,
    /// `before` of the next page; null when this is the last.
    next: Option<i64>,
}

/// What a receiver was sent, newest first.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook"), DeliveryQuery),
    responses(
        (status = 200, body = DeliveryPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _admin: Admin,
    Path(id): Path<String>,
    Query(query): Query<DeliveryQuery>,
) -> Result<axum::Json<DeliveryPage>, Error> {
    let page = logs::page(query.before, query.limit)?;
    let hook = webhooks::find(&api, &id).await?;
    let status = query.status.map(|status| match status {
        Status::Pending => "pending",
        Status::Delivered => "delivered",
        Status::Dead => "dead",
    });
    let rows = api.db.webhook_deliveries(&hook.id, status, page).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == page.limit);
    let next = rows.last().map(|row| row.id).filter(|_| full);
    let items = rows.into_iter().map(DeliveryItem::from).collect();
    Ok(axum::Json(DeliveryPage { items, next }))
}

/// How many are back in line.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: u64,
}

/// Puts every delivery that was given up back in line.
#[utoipa::path(
    post, path = "/webhooks/{id}/replay", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name of a webhook")),
    responses(
        (status = 200, body = Replayed),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook", body = Problem),
    )
)]
pub(super) async fn replay(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<Replayed>, Error> {
    let hook = webhooks::find(&api, &id).await?;
    let replayed = api.db.webhook_replay(&hook.id, None, Stamp::now()).await?;
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "webhook.replay", &hook.name, "ok")
        .await;
    webhooks::changed(&api);
    Ok(axum::Json(Replayed { replayed }))
}

/// Puts one delivery that is over back in line.
#[utoipa::path(
    post, path = "/webhooks/{id}/deliveries/{delivery}/replay", tag = "webhooks",
    params(
        ("id" = String, Path, description = "Id or name of a webhook"),
        ("delivery" = i64, Path, description = "Id of a delivery", minimum = 1),
    ),
    responses(
        (status = 200, body = Replayed),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such webhook or delivery", body = Problem),
        (status = 409, description = "It is in line already", body = Problem),
    )
)]
pub(super) async fn replay_one(
    State(api): State<Api>,
    Admin(member): Admin,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<axum::Json<Replayed>, Error> {
    let hook = webhooks::find(&api, &id).await?;
    let missing = || Error::not_found("There is no such delivery of this webhook.");
    let delivery: i64 = delivery.parse().map_err(|_| missing())?;
    if delivery < 1 {
        return Err(missing());
    }
    let page = crate::db::Page {
        before: delivery.checked_add(1),
        limit: 1,
    };
    let rows = api.db.webhook_deliveries(&hook.id, None, page).await?;
    if rows.first().is_none_or(|row| row.id != delivery) {
        return Err(missing());
    }
    let now = Stamp::now();
    let replayed = api.db.webhook_replay(&hook.id, Some(delivery), now).await?;
    if replayed == 0 {
        return Err(Error::conflict(
            "in-line",
            "This delivery is in line already.",
        ));
    }
    let actor = &member.session.user_name;
    api.audit(actor, member.address, "webhook.replay", &hook.name, "ok")
        .await;
    webhooks::changed(&api);
    Ok(axum::Json(Replayed { replayed }))
}
