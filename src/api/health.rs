//! `/health`: one word for load balancers, the parts for people who may look.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Viewer;
use super::error::Problem;
use super::workers::{self, Pulse};
use crate::model::Stamp;

/// The database is asked at most this often, however often we are.
const ASK_EVERY_MICROS: i64 = 1_000_000;

/// What was last known of the database.
#[derive(Debug, Default)]
pub(super) struct Checked {
    at: AtomicI64,
    failing: AtomicBool,
}

/// How the system is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`: everything. `degraded`: something that others do without. `failing`: the
    /// database (status 503).
    #[schema(example = "ok")]
    status: &'static str,
    /// Only for those logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Vec<Component>>,
}

/// One part.
#[derive(Serialize, ToSchema)]
pub(super) struct Component {
    /// `database`, `bus-connection` or a worker's name.
    name: String,
    /// `ok`, `degraded` or `failing`.
    status: &'static str,
    /// In words.
    detail: String,
}

/// Whether the system works; open to anybody, with details for those logged in.
#[utoipa::path(
    get, path = "/health", tag = "system", security((), ("token" = [])),
    responses(
        (status = 200, body = Health),
        (status = 401, description = "A token was sent and is not valid", body = Problem),
        (status = 503, description = "The database does not answer", body = Health),
    )
)]
pub(super) async fn health(State(api): State<Api>, viewer: Option<Viewer>) -> Response {
    let database = database(&api).await;
    if viewer.is_some() {
        return detailed(&api, database);
    }
    if database {
        (
            [(header::CONTENT_TYPE, "application/json")],
            r#"{"status":"ok"}"#,
        )
            .into_response()
    } else {
        failing(None)
    }
}

/// Asks the database, or remembers what it said within the last second.
async fn database(api: &Api) -> bool {
    let now = Stamp::now().0;
    let at = api.checked.at.load(Ordering::Relaxed);
    let due = now.saturating_sub(at) >= ASK_EVERY_MICROS;
    // Whoever moves the time asks; the others go on with the last answer.
    if due
        && api
            .checked
            .at
            .compare_exchange(at, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    {
        let failing = match api.db.log_latest_id().await {
            Ok(_) => false,
            Err(error) => {
                tracing::error!("health: {:#}", anyhow::Error::new(error));
                true
            }
        };
        api.checked.failing.store(failing, Ordering::Relaxed);
    }
    !api.checked.failing.load(Ordering::Relaxed)
}

fn failing(components: Option<Vec<Component>>) -> Response {
    let body = axum::Json(Health {
        status: "failing",
        components,
    });
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    // Not a problem document: a health checker reads the same shape either way.
    response.extensions_mut().insert(super::edge::AsIs);
    response
}

fn detailed(api: &Api, database: bool) -> Response {
    let mut components = vec![
        Component {
            name: "database".to_owned(),
            status: if database { "ok" } else { "failing" },
            detail: if database {
                "answers"
            } else {
                "does not answer; see the log of the api worker"
            }
            .to_owned(),
        },
        bus(api),
    ];
    let now = Stamp::now();
    for pulse in workers::pulses(&api.config.paths) {
        if api.embedded && pulse.row.name == "bus" {
            // In one process the bus is memory, not a worker.
            continue;
        }
        components.push(worker(&pulse, now));
    }
    if !database {
        return failing(Some(components));
    }
    let all = components.iter().all(|c| c.status == "ok");
    axum::Json(Health {
        status: if all { "ok" } else { "degraded" },
        components: Some(components),
    })
    .into_response()
}

fn bus(api: &Api) -> Component {
    let (status, detail) = if !api.config.bus.enabled && !api.embedded {
        ("ok", "switched off; workers look at their own pace")
    } else if api.bus.is_connected() {
        ("ok", "connected")
    } else {
        ("degraded", "not connected; workers look at their own pace")
    };
    Component {
        name: "bus-connection".to_owned(),
        status,
        detail: detail.to_owned(),
    }
}

fn worker(pulse: &Pulse, now: Stamp) -> Component {
    let status = match pulse.status(now) {
        workers::Liveness::Ok => "ok",
        _ => "degraded",
    };
    let detail = match &pulse.beat {
        Some(beat) => format!("{} ({} s ago)", beat.status, now.since(beat.ts).as_secs()),
        None => "has given no sign of life yet".to_owned(),
    };
    Component {
        name: pulse.row.name.to_owned(),
        status,
        detail,
    }
}
