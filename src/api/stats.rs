//! `/stats` and `/stats/overview`: what the first page shows. Sums come from the counters
//! and the events per minute, so they cost the same with five rows and five million.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Api;
use super::attackers::{self, AttackerItem};
use super::auth::Viewer;
use super::error::Error;
use super::logs::{self, Histogram};
use crate::db::attacker::{AttackerFilter, Order};
use crate::db::log::LogFilter;
use crate::model::{DeckyState, Stamp};

const MINUTE: i64 = 60_000_000;
/// How long sums are good for.
const FRESH: Duration = Duration::from_secs(1);

/// Sums over everything.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    total_logs: i64,
    unique_attackers: i64,
    /// Distinct ones.
    credentials: i64,
    sessions: i64,
    artifacts: i64,
    deployed_deckies: usize,
    /// Running ones.
    active_deckies: usize,
    /// Events of the running and the last minute.
    events_1m: i64,
    events_5m: i64,
    events_24h: i64,
}

/// The sums of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<(Instant, Stats)>>);

/// Sums over everything.
#[utoipa::path(
    get, path = "/stats", tag = "findings",
    responses((status = 200, body = Stats))
)]
pub(super) async fn stats(
    State(api): State<Api>,
    _viewer: Viewer,
) -> Result<axum::Json<Stats>, Error> {
    Ok(axum::Json(sums(&api).await?))
}

async fn sums(api: &Api) -> Result<Stats, Error> {
    let mut held = api.counted.0.lock().await;
    if let Some((at, stats)) = held.as_ref()
        && at.elapsed() < FRESH
    {
        return Ok(stats.clone());
    }
    let now = Stamp::now();
    let back = |minutes: i64| Stamp(now.0.saturating_sub(minutes * MINUTE));
    let deckies = api.db.decky_list().await?;
    let wanted: Vec<_> = deckies.iter().filter(|row| !row.decky.removed).collect();
    let stats = Stats {
        total_logs: api.db.log_count().await?,
        unique_attackers: api.db.attacker_count().await?,
        credentials: api.db.credential_count().await?,
        sessions: api.db.attack_session_count().await?,
        artifacts: api.db.artifact_count().await?,
        deployed_deckies: wanted.len(),
        active_deckies: wanted
            .iter()
            .filter(|row| row.decky.state == DeckyState::Running)
            .count(),
        events_1m: api.db.log_since(back(1)).await?,
        events_5m: api.db.log_since(back(5)).await?,
        events_24h: api.db.log_since(back(24 * 60)).await?,
    };
    *held = Some((Instant::now(), stats.clone()));
    Ok(stats)
}

/// A decky and how much it got.
#[derive(Serialize, ToSchema)]
pub(super) struct Hits {
    decky: String,
    hits: i64,
}

/// A service and how much it got.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceHits {
    service: String,
    count: i64,
}

/// A country and who came from there.
#[derive(Serialize, ToSchema)]
pub(super) struct CountryHits {
    /// ISO 3166-1 alpha-2; `??` where none is known.
    country: String,
    attackers: i64,
    events: i64,
}

/// The first page.
#[derive(Serialize, ToSchema)]
pub(super) struct Overview {
    stats: Stats,
    /// The last hour.
    per_minute: Histogram,
    /// The ten that did most.
    top_attackers: Vec<AttackerItem>,
    /// Deckies with most events in the last five minutes.
    siege: Vec<Hits>,
    /// Events by service in the last 24 hours.
    services: Vec<ServiceHits>,
    countries: Vec<CountryHits>,
}

/// The first page of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Instant, Bytes)>>);

/// Everything the first page shows.
#[utoipa::path(
    get, path = "/stats/overview", tag = "findings",
    responses((status = 200, body = Overview))
)]
pub(super) async fn overview(State(api): State<Api>, _viewer: Viewer) -> Result<Response, Error> {
    // Whoever asks meanwhile waits and is told the same.
    let mut kept = api.overview.0.lock().await;
    let fresh = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
    let body = match fresh {
        Some((_, body)) => body.clone(),
        None => {
            let page = first_page(&api).await?;
            // Texts and numbers always serialise.
            let body = Bytes::from(serde_json::to_vec(&page).unwrap_or_default());
            *kept = Some((Instant::now(), body.clone()));
            body
        }
    };
    Ok(logs::reply(body))
}

async fn first_page(api: &Api) -> Result<Overview, Error> {
    let now = Stamp::now();
    let back = |minutes: i64| Stamp(now.0.saturating_sub(minutes * MINUTE));
    let hour = LogFilter {
        since: Some(back(59)),
        ..LogFilter::default()
    };
    let everybody = AttackerFilter::default();
    let top = api
        .db
        .attacker_list(&everybody, Order::Active, None, 10)
        .await?;
    let siege = api.db.log_by_decky(back(4), 10).await?;
    let services = api.db.log_by_service(back(24 * 60)).await?;
    let countries = api.db.attacker_countries().await?;
    Ok(Overview {
        stats: sums(api).await?,
        per_minute: logs::bars(api, &hour, logs::Width::Minutes(1), now).await?,
        top_attackers: attackers::items(&api.db, top, now).await?,
        siege: siege
            .into_iter()
            .map(|(decky, hits)| Hits { decky, hits })
            .collect(),
        services: services
            .into_iter()
            .map(|(service, count)| ServiceHits { service, count })
            .collect(),
        countries: countries
            .into_iter()
            .map(|(country, attackers, events)| CountryHits {
                country,
                attackers,
                events,
            })
            .collect(),
    })
}
