//! `/deckies`: the fleet as the rows say, who each decky is, and what it got. What is
//! wanted is changed in [`super::fleet`]; only the reconciler makes it so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Api;
use super::auth::Viewer;
use super::error::{Error, Problem};
use crate::db::decky::DeckyRow;
use crate::db::hit::Hits;
use crate::model::{Decky, DeckyState, Settings, Stamp};
use crate::persona::{Persona, show};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// How long counts are good for.
const FRESH: Duration = Duration::from_secs(3);
/// Personas whose keys are remembered.
const REMEMBER: usize = 64;

/// One socket of a decky.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceState {
    name: String,
    /// The port the real product listens on, or the first of the operator's own.
    port: Option<u16>,
    /// Where it listens.
    address: Option<String>,
    listening: bool,
    /// Why the port is not the usual one, or why there is none.
    note: Option<String>,
}

/// A decky.
#[derive(Serialize, ToSchema)]
pub(super) struct DeckyItem {
    name: String,
    ip: String,
    /// `pending`, `running`, `degraded`, `failed`, `tearing_down`.
    state: &'static str,
    /// `local`, `native`, `docker`.
    runtime: &'static str,
    archetype: Option<String>,
    /// The name it shows.
    hostname: String,
    os: String,
    mac: Option<String>,
    services: Vec<ServiceState>,
    /// Why it is failed or degraded.
    last_error: Option<String>,
    hits_24h: i64,
    /// RFC 3339, to the minute; null when nothing came in 24 hours.
    last_hit: Option<String>,
    /// Null is the fleet's default, 0 never.
    mutate_interval_minutes: Option<u32>,
    /// RFC 3339; its creation before the first change.
    last_mutated: Option<String>,
    /// Counts up with every change of what is wanted.
    version: i64,
    /// RFC 3339; when the state was last written.
    updated_at: String,
    /// It is to go.
    removed: bool,
}

/// The fleet.
#[derive(Serialize, ToSchema)]
pub(super) struct DeckyList {
    items: Vec<DeckyItem>,
}

/// One decky with who it is.
#[derive(Serialize, ToSchema)]
pub(super) struct DeckyDetail {
    #[serde(flatten)]
    item: DeckyItem,
    /// As `decnet persona show` tells it: names, versions, users, certificate, keys'
    /// fingerprints; no secret.
    #[schema(value_type = Object)]
    persona: Arc<Map<String, Value>>,
    /// Settings by service and key.
    #[schema(value_type = Object)]
    settings: Settings,
}

/// What each decky got.
type ByDecky = Arc<HashMap<String, Hits>>;

/// What deckies got, as counted a moment ago.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<(Instant, ByDecky)>>);

/// Personas with their keys, which take long to make. Only one is made at a time.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<String, Arc<Map<String, Value>>>>);

/// Every decky, those being removed included.
#[utoipa::path(
    get, path = "/deckies", tag = "fleet",
    responses((status = 200, body = DeckyList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
) -> Result<axum::Json<DeckyList>, Error> {
    let rows = api.db.decky_list().await?;
    let hits = hits(&api).await?;
    let items = rows
        .iter()
        .map(|row| item(row, hits.get(&row.decky.name)))
        .collect();
    Ok(axum::Json(DeckyList { items }))
}

/// One decky with who it is.
#[utoipa::path(
    get, path = "/deckies/{name}", tag = "fleet",
    params(("name" = String, Path, description = "A decky of GET /deckies")),
    responses(
        (status = 200, body = DeckyDetail),
        (status = 404, description = "No such decky", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(name): Path<String>,
) -> Result<axum::Json<DeckyDetail>, Error> {
    let row = find(&api, &name).await?;
    let hits = hits(&api).await?;
    Ok(axum::Json(DeckyDetail {
        item: item(&row, hits.get(&name)),
        persona: shown(&api, &row.persona).await?,
        settings: row.decky.wish.settings,
    }))
}

/// The row of that name.
pub(super) async fn find(api: &Api, name: &str) -> Result<DeckyRow, Error> {
    let rows = api.db.decky_list().await?;
    rows.into_iter()
        .find(|row| row.decky.name == name)
        .ok_or_else(unknown)
}

pub(super) fn unknown() -> Error {
    Error::not_found("There is no such decky; GET /api/v1/deckies lists them.")
}

async fn hits(api: &Api) -> Result<ByDecky, Error> {
    let mut held = api.hits.0.lock().await;
    if let Some((at, hits)) = held.as_ref()
        && at.elapsed() < FRESH
    {
        return Ok(Arc::clone(hits));
    }
    let since = Stamp(Stamp::now().0.saturating_sub(DAY));
    let hits = Arc::new(api.db.hits(since).await?);
    *held = Some((Instant::now(), Arc::clone(&hits)));
    Ok(hits)
}

async fn shown(api: &Api, persona: &Persona) -> Result<Arc<Map<String, Value>>, Error> {
    let mut held = api.shown.0.lock().await;
    // The whole persona, not the seed alone: an update changes versions and boot time.
    let key = serde_json::to_string(persona).unwrap_or_default();
    if let Some(shown) = held.get(&key) {
        return Ok(Arc::clone(shown));
    }
    let persona = persona.clone();
    let shown = tokio::task::spawn_blocking(move || show::shown(&persona))
        .await
        .map_err(|error| Error::internal(format!("making a persona's keys: {error}")))?;
    let shown = Arc::new(shown);
    if held.len() >= REMEMBER {
        held.clear();
    }
    held.insert(key, Arc::clone(&shown));
    Ok(shown)
}

fn item(row: &DeckyRow, hits: Option<&Hits>) -> DeckyItem {
    let (decky, persona) = (&row.decky, &row.persona);
    DeckyItem {
        name: decky.name.clone(),
        ip: decky.ip.to_string(),
        state: decky.state.as_str(),
        runtime: decky.wish.runtime.as_str(),
        archetype: decky.wish.archetype.clone(),
        hostname: persona.hostname.clone(),
        os: persona.os_pretty.clone(),
        mac: (!persona.mac.is_empty()).then(|| persona.mac.clone()),
        services: services(decky),
        last_error: decky.last_error.clone(),
        hits_24h: hits.map_or(0, |hits| hits.count),
        last_hit: hits.map(|hits| hits.last.to_string()),
        mutate_interval_minutes: decky.wish.mutate_interval,
        last_mutated: (decky.mutated_at.0 > 0).then(|| decky.mutated_at.to_string()),
        version: decky.version,
        updated_at: decky.updated_at.to_string(),
        removed: decky.removed,
    }
}

/// What is wanted, each with what is known of its socket.
fn services(decky: &Decky) -> Vec<ServiceState> {
    let ours = decky.wish.services.iter().map(|service| {
        let listener = decky.listeners.iter().find(|l| l.service == *service);
        let address = listener.and_then(|l| l.addr);
        ServiceState {
            name: service.slug().to_owned(),
            port: Some(service.port()),
            address: address.map(|a| a.to_string()),
            listening: address.is_some(),
            note: listener.and_then(|l| l.note.clone()),
        }
    });
    // The operator's own are not asked.
    let running = decky.state == DeckyState::Running;
    let own = decky.wish.customs.iter().map(|custom| ServiceState {
        name: custom.name.clone(),
        port: custom.ports.first().copied(),
        address: None,
        listening: running,
        note: None,
    });
    ours.chain(own).collect()
}
