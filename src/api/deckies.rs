//! `/deckies`: the fleet, and orders to change it. An order writes what is wanted into the
//! rows; the reconciler alone starts and stops deckies, and `/deckies` shows how it goes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::auth::{Admin, Member, Viewer};
use super::error::{Error, Problem};
use crate::db::decky::{DeckyRow, DeckyWrite};
use crate::model::{Stamp, topic};

const DAY: i64 = 24 * 3600 * 1_000_000;

/// Where a decky offers a service.
#[derive(Serialize, ToSchema)]
pub(super) struct Offer {
    name: String,
    /// The service's usual port.
    port: u16,
    /// Where it listens; null when it does not.
    address: Option<String>,
    /// Why it does not listen, or not where it should.
    note: Option<String>,
}

/// A decky.
#[derive(Serialize, ToSchema)]
pub(super) struct DeckyItem {
    name: String,
    ip: String,
    /// `pending`, `running`, `degraded`, `failed`, `tearing_down`, …
    state: String,
    /// `local`, `native` or `docker`.
    runtime: String,
    archetype: Option<String>,
    hostname: String,
    os: String,
    mac: Option<String>,
    services: Vec<Offer>,
    last_error: Option<String>,
    /// Events of the last 24 hours.
    hits_24h: i64,
    /// Minutes between two looks at whether it should change; null is the default.
    mutate_interval_minutes: Option<u32>,
    /// RFC 3339.
    last_mutated: String,
    version: i64,
    /// RFC 3339.
    updated_at: String,
    /// Wanted no more, and about to go.
    removed: bool,
}

/// The whole fleet.
#[derive(Serialize, ToSchema)]
pub(super) struct DeckyList {
    items: Vec<DeckyItem>,
}

fn item(row: &DeckyRow, hits: i64) -> DeckyItem {
    let decky = &row.decky;
    let services = decky.wish.services.iter().map(|service| {
        let heard = decky.listeners.iter().find(|l| l.service == *service);
        Offer {
            name: service.slug().to_owned(),
            port: service.port(),
            address: heard.and_then(|l| l.addr).map(|a| a.to_string()),
            note: heard.and_then(|l| l.note.clone()),
        }
    });
    DeckyItem {
        name: decky.name.clone(),
        ip: decky.ip.to_string(),
        state: decky.state.as_str().to_owned(),
        runtime: decky.wish.runtime.as_str().to_owned(),
        archetype: decky.wish.archetype.clone(),
        hostname: row.persona.hostname.clone(),
        os: row.persona.os_pretty.clone(),
        mac: Some(row.persona.mac.clone()).filter(|mac| !mac.is_empty()),
        services: services.collect(),
        last_error: decky.last_error.clone(),
        hits_24h: hits,
        mutate_interval_minutes: decky.wish.mutate_interval,
        last_mutated: decky.mutated_at.to_string(),
        version: decky.version,
        updated_at: decky.updated_at.to_string(),
        removed: decky.removed,
    }
}

async fn hits(api: &Api) -> Result<std::collections::HashMap<String, i64>, Error> {
    let since = Stamp(Stamp::now().0.saturating_sub(DAY));
    // Every decky of the largest fleet, and those that are gone.
    let rows = api.db.log_by_decky(since, 5000).await?;
    Ok(rows.into_iter().collect())
}

/// Every decky, by name.
#[utoipa::path(
    get, path = "/deckies", tag = "fleet",
    responses((status = 200, body = DeckyList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
) -> Result<axum::Json<DeckyList>, Error> {
    let hits = hits(&api).await?;
    let rows = api.db.decky_list().await?;
    let items = rows
        .iter()
        .map(|row| item(row, hits.get(&row.decky.name).copied().unwrap_or(0)));
    Ok(axum::Json(DeckyList {
        items: items.collect(),
    }))
}

async fn find(api: &Api, name: &str) -> Result<DeckyRow, Error> {
    let rows = api.db.decky_list().await?;
    let found = rows.into_iter().find(|row| row.decky.name == name);
    found.ok_or_else(|| Error::not_found("There is no such decky; GET /api/v1/deckies lists them."))
}

/// One decky.
#[utoipa::path(
    get, path = "/deckies/{name}", tag = "fleet",
    params(("name" = String, Path, description = "A decky's name")),
    responses(
        (status = 200, body = DeckyItem),
        (status = 404, description = "There is no such decky", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(name): Path<String>,
) -> Result<axum::Json<DeckyItem>, Error> {
    let row = find(&api, &name).await?;
    let hits = hits(&api).await?;
    Ok(axum::Json(item(
        &row,
        hits.get(&name).copied().unwrap_or(0),
    )))
}

/// What was ordered. `/deckies/{name}` shows how it goes.
#[derive(Serialize, ToSchema)]
pub(super) struct Ordered {
    decky: String,
    action: &'static str,
}

async fn done(
    api: &Api,
    member: &Member,
    action: &'static str,
    decky: String,
) -> (StatusCode, axum::Json<Ordered>) {
    let audited = format!("decky.{action}");
    let user = &member.session.user_name;
    api.audit(user, member.address, &audited, &decky, "ok")
        .await;
    api.bus.publish(topic::FLEET_CHANGED, action, json!({}));
    (StatusCode::ACCEPTED, axum::Json(Ordered { decky, action }))
}

/// Removes a decky.
#[utoipa::path(
    delete, path = "/deckies/{name}", tag = "fleet",
    params(("name" = String, Path, description = "A decky's name")),
    responses(
        (status = 202, body = Ordered),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such decky", body = Problem),
        (status = 409, description = "It was changed meanwhile", body = Problem),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    let row = find(&api, &name).await?;
    if !row.decky.removed {
        let write = DeckyWrite::Remove {
            name: name.clone(),
            version: row.decky.version,
        };
        api.db.decky_apply(&[write], Stamp::now()).await?;
    }
    Ok(done(&api, &member, "teardown", name).await)
}

/// Starts a decky anew, unchanged.
#[utoipa::path(
    post, path = "/deckies/{name}/redeploy", tag = "fleet",
    params(("name" = String, Path, description = "A decky's name")),
    responses(
        (status = 202, body = Ordered),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such decky", body = Problem),
        (status = 409, description = "It was changed meanwhile", body = Problem),
    )
)]
pub(super) async fn redeploy(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    let row = find(&api, &name).await?;
    let mut wish = row.decky.wish.clone();
    wish.generation = wish.generation.wrapping_add(1);
    let version = row.decky.version;
    let now = Stamp::now();
    api.db
        .decky_set_wish(&name, version, &wish, None, now)
        .await?;
    Ok(done(&api, &member, "redeploy", name).await)
}

/// Asks for a change of a decky by one believable step, now.
#[utoipa::path(
    post, path = "/deckies/{name}/mutate", tag = "fleet",
    params(("name" = String, Path, description = "A decky's name")),
    responses(
        (status = 202, body = Ordered),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 404, description = "There is no such decky", body = Problem),
    )
)]
pub(super) async fn mutate(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    find(&api, &name).await?;
    let actor = Some(member.session.user_name.as_str());
    let now = Stamp::now();
    api.db
        .mutation_request(&name, "operator", actor, now)
        .await?;
    api.bus
        .publish(&topic::mutate_request(&name), "mutate", json!({}));
    Ok(done(&api, &member, "mutate", name).await)
}
