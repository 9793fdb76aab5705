//! `/workers`: the registry's rows with what systemd and their own pulse say of them,
//! and start, stop, restart through systemd, where polkit decides.

use std::io::Read;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Api;
use super::auth::{Admin, Viewer};
use super::error::{Error, Problem};
use super::polkit;
use crate::config::Paths;
use crate::model::Stamp;
use crate::model::worker::{WORKERS, Worker};
use crate::systemd::{self, UnitState};
use crate::worker::Beat;

/// A pulse file is a few hundred bytes; whatever is larger is not one.
const PULSE_BYTES: u64 = 64 * 1024;
/// How long a look at all workers is good for.
const FRESH: Duration = Duration::from_millis(500);

/// How fresh a worker's sign of life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Liveness {
    /// Younger than 90 s, of a process that is there.
    Ok,
    /// Older, or its process is gone.
    Stale,
    /// None was ever seen.
    Unknown,
}

/// A registry row and its last sign of life.
pub(super) struct Pulse {
    pub(super) row: &'static Worker,
    pub(super) beat: Option<Beat>,
}

impl Pulse {
    pub(super) fn status(&self, now: Stamp) -> Liveness {
        match &self.beat {
            None => Liveness::Unknown,
            Some(beat) if beat.is_fresh(now) => Liveness::Ok,
            Some(_) => Liveness::Stale,
        }
    }
}

/// What every worker of the registry last left in its pulse file (a few small files
/// below /run, so reading them does not block anybody).
pub(super) fn pulses(paths: &Paths) -> Vec<Pulse> {
    WORKERS
        .iter()
        .map(|row| Pulse {
            row,
            beat: read_beat(&paths.pulse(row.name)).filter(|beat| beat.worker == row.name),
        })
        .collect()
}

fn read_beat(path: &std::path::Path) -> Option<Beat> {
    let mut text = String::new();
    std::fs::File::open(path)
        .ok()?
        .take(PULSE_BYTES)
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

/// What systemd says of a unit.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Unit {
    name: String,
    /// `active`, `inactive`, `activating`, `deactivating`, `failed`, `reloading`.
    active: String,
    /// `running`, `dead`, `auto-restart`, …
    sub: String,
    /// `enabled`, `disabled`, `static`, …; null without a unit file.
    enabled: Option<String>,
    installed: bool,
    main_pid: u32,
    status_text: String,
    /// RFC 3339; when the state last changed.
    since: Option<String>,
}

impl From<UnitState> for Unit {
    fn from(state: UnitState) -> Self {
        Self {
            installed: state.is_installed(),
            name: state.name,
            active: state.active,
            sub: state.sub,
            enabled: state.enabled,
            main_pid: state.main_pid,
            status_text: state.status_text,
            since: state.since.map(|s| s.to_string()),
        }
    }
}

/// A worker.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct WorkerItem {
    name: &'static str,
    summary: &'static str,
    /// Started with the target.
    in_target: bool,
    status: Liveness,
    /// RFC 3339.
    last_heartbeat: Option<String>,
    seconds_since: Option<u64>,
    pid: Option<u32>,
    version: Option<String>,
    rss_bytes: Option<u64>,
    /// Passes or turns finished since its start.
    passes: Option<u64>,
    failures: Option<u64>,
    last_error: Option<String>,
    /// What it says it is doing.
    doing: Option<String>,
    /// Null when systemd cannot be asked; `systemd` says why.
    unit: Option<Unit>,
}

/// Every worker.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct WorkerList {
    workers: Vec<WorkerItem>,
    bus_connected: bool,
    /// Why there are no unit states; null when there are.
    systemd: Option<String>,
    /// RFC 3339.
    generated_at: String,
}

/// Every worker with its state.
#[utoipa::path(
    get, path = "/workers", tag = "workers",
    responses((status = 200, body = WorkerList), (status = 401, body = Problem))
)]
pub(super) async fn list(State(api): State<Api>, _viewer: Viewer) -> axum::Json<WorkerList> {
    axum::Json(snapshot(&api).await)
}

/// What was last read of all workers, and when.
#[derive(Default)]
pub(super) struct Seen(tokio::sync::Mutex<Option<(Instant, WorkerList)>>);

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen")
    }
}

/// Every worker as of now, or of a moment ago: however many panels are open, systemd is
/// asked once in that time.
pub(super) async fn snapshot(api: &Api) -> WorkerList {
    let mut seen = api.seen.0.lock().await;
    if let Some((at, list)) = seen.as_ref()
        && at.elapsed() < FRESH
    {
        return list.clone();
    }
    let list = look(api).await;
    *seen = Some((Instant::now(), list.clone()));
    list
}

async fn look(api: &Api) -> WorkerList {
    let names: Vec<String> = WORKERS.iter().map(Worker::unit).collect();
    let (mut units, absent) = match api.units.states(&names).await {
        Ok(states) => (states.into_iter().map(Some).collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    units.resize_with(WORKERS.len(), || None);
    let now = Stamp::now();
    let workers = pulses(&api.config.paths)
        .into_iter()
        .zip(units)
        .map(|(pulse, unit)| item(&pulse, unit.map(Unit::from), now))
        .collect();
    WorkerList {
        workers,
        bus_connected: api.bus.is_connected(),
        systemd: absent,
        generated_at: now.to_string(),
    }
}

impl WorkerList {
    /// Whether `other` says the same, ages and counters aside.
    pub(super) fn says(&self, other: &Self) -> bool {
        let same = |(a, b): (&WorkerItem, &WorkerItem)| {
            a.status == b.status
                && a.pid == b.pid
                && a.version == b.version
                && a.failures == b.failures
                && a.last_error == b.last_error
                && a.doing == b.doing
                && a.last_heartbeat == b.last_heartbeat
                && a.unit == b.unit
        };
        self.bus_connected == other.bus_connected
            && self.systemd == other.systemd
            && self.workers.iter().zip(&other.workers).all(same)
    }
}

/// The registry's row of that name; aliases are for the command line.
pub(super) fn find(name: &str) -> Result<&'static Worker, Error> {
    WORKERS
        .iter()
        .find(|row| row.name == name)
        .ok_or_else(|| Error::not_found("There is no such worker; GET /api/v1/workers lists them."))
}

fn item(pulse: &Pulse, unit: Option<Unit>, now: Stamp) -> WorkerItem {
    let beat = pulse.beat.as_ref();
    WorkerItem {
        name: pulse.row.name,
        summary: pulse.row.summary,
        in_target: pulse.row.in_target,
        status: pulse.status(now),
        last_heartbeat: beat.map(|b| b.ts.to_string()),
        seconds_since: beat.map(|b| now.since(b.ts).as_secs()),
        pid: beat.map(|b| b.pid),
        version: beat.map(|b| b.version.clone()),
        rss_bytes: beat.map(|b| b.rss_bytes),
        passes: beat.map(|b| b.passes),
        failures: beat.map(|b| b.failures),
        last_error: beat.and_then(|b| b.last_error.clone()),
        doing: beat.map(|b| b.status.clone()),
        unit,
    }
}

/// What to do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }
}

/// What was accepted. systemd works on it; `/workers` shows how it goes.
#[derive(Serialize, ToSchema)]
pub(super) struct Ordered {
    worker: String,
    action: &'static str,
    unit: String,
}

/// Starts a worker.
#[utoipa::path(
    post, path = "/workers/{name}/start", tag = "workers",
    params(("name" = String, Path, description = "A worker of the registry")),
    responses(
        (status = 202, body = Ordered),
        (status = 403, description = "Not an administrator, or polkit refused", body = Problem),
        (status = 404, description = "No such worker", body = Problem),
        (status = 409, description = "It is running, there is no systemd here, or the unit is not installed", body = Problem),
        (status = 502, description = "systemd failed", body = Problem),
    )
)]
pub(super) async fn start(
    state: State<Api>,
    admin: Admin,
    name: Path<String>,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    act(state, admin, name, Verb::Start).await
}

/// Stops a worker.
#[utoipa::path(
    post, path = "/workers/{name}/stop", tag = "workers",
    params(("name" = String, Path, description = "A worker of the registry")),
    responses(
        (status = 202, body = Ordered),
        (status = 403, description = "Not an administrator, or polkit refused", body = Problem),
        (status = 404, description = "No such worker", body = Problem),
        (status = 409, description = "It is not running, there is no systemd here, or the unit is not installed", body = Problem),
        (status = 502, description = "systemd failed", body = Problem),
    )
)]
pub(super) async fn stop(
    state: State<Api>,
    admin: Admin,
    name: Path<String>,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    act(state, admin, name, Verb::Stop).await
}

/// Restarts a worker, or starts it.
#[utoipa::path(
    post, path = "/workers/{name}/restart", tag = "workers",
    params(("name" = String, Path, description = "A worker of the registry")),
    responses(
        (status = 202, body = Ordered),
        (status = 403, description = "Not an administrator, or polkit refused", body = Problem),
        (status = 404, description = "No such worker", body = Problem),
        (status = 409, description = "There is no systemd here, or the unit is not installed", body = Problem),
        (status = 502, description = "systemd failed", body = Problem),
    )
)]
pub(super) async fn restart(
    state: State<Api>,
    admin: Admin,
    name: Path<String>,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    act(state, admin, name, Verb::Restart).await
}

async fn act(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(name): Path<String>,
    verb: Verb,
) -> Result<(StatusCode, axum::Json<Ordered>), Error> {
    // Only the registry's own names reach systemd.
    let row = find(&name)?;
    let outcome = order(&api, row, verb).await;
    *api.seen.0.lock().await = None;
    let said = match &outcome {
        Ok(()) => "ok",
        Err(error) => error.code,
    };
    let action = format!("worker.{}", verb.as_str());
    api.audit(
        &member.session.user_name,
        member.address,
        &action,
        row.name,
        said,
    )
    .await;
    outcome?;
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(Ordered {
            worker: name,
            action: verb.as_str(),
            unit: row.unit(),
        }),
    ))
}

async fn order(api: &Api, row: &Worker, verb: Verb) -> Result<(), Error> {
    let unit = row.unit();
    let refused = |error| explain(error, &unit, verb);
    let states = api
        .units
        .states(std::slice::from_ref(&unit))
        .await
        .map_err(refused)?;
    let state = states
        .first()
        .filter(|state| state.is_installed())
        .ok_or_else(|| refused(systemd::Error::NoSuchUnit(unit.clone())))?;
    match verb {
        Verb::Start if state.is_up() => {
            return Err(Error::conflict(
                "already-running",
                format!("{unit} is {} already.", state.active),
            ));
        }
        Verb::Stop if matches!(state.active.as_str(), "inactive" | "failed") => {
            return Err(Error::conflict(
                "not-running",
                format!("{unit} is {} already.", state.active),
            ));
        }
        _ => {}
    }
    match verb {
        Verb::Start => api.units.start(&unit).await,
        Verb::Stop => api.units.stop(&unit).await,
        Verb::Restart => api.units.restart(&unit).await,
    }
    .map_err(refused)
}

fn explain(error: systemd::Error, unit: &str, verb: Verb) -> Error {
    match error {
        systemd::Error::Absent(why) => Error::conflict("no-systemd", format!("{why}.")),
        systemd::Error::NoSuchUnit(unit) => Error::conflict(
            "not-installed",
            format!("{unit} is not installed on this host; run `sudo decnet init`."),
        ),
        systemd::Error::Denied(said) => Error::forbidden(
            "polkit-refused",
            format!(
                "polkit does not let decnet-api.service {} {unit} ({said}). {}",
                verb.as_str(),
                polkit::missing(),
            ),
        ),
        systemd::Error::Failed(said) => Error::new(
            StatusCode::BAD_GATEWAY,
            "systemd-failed",
            format!("systemd answered: {said}."),
        ),
    }
}

/// What became of one worker.
#[derive(Serialize, ToSchema)]
pub(super) struct Started {
    worker: &'static str,
    /// `started`, `already-running`, `skipped` (not installed) or `failed`.
    outcome: &'static str,
    /// Why it failed.
    detail: Option<String>,
}

/// Every worker of the target, in start order.
#[derive(Serialize, ToSchema)]
pub(super) struct StartedAll {
    workers: Vec<Started>,
}

/// Starts every worker of the target that is not running, in start order.
#[utoipa::path(
    post, path = "/workers/start-all", tag = "workers",
    responses(
        (status = 200, body = StartedAll),
        (status = 403, description = "Not an administrator", body = Problem),
        (status = 409, description = "There is no systemd here", body = Problem),
    )
)]
pub(super) async fn start_all(
    State(api): State<Api>,
    Admin(member): Admin,
) -> Result<axum::Json<StartedAll>, Error> {
    let outcome = order_all(&api).await;
    *api.seen.0.lock().await = None;
    let said = outcome.as_ref().map_or_else(|error| error.code, |_| "ok");
    let user = &member.session.user_name;
    api.audit(user, member.address, "worker.start-all", "", said)
        .await;
    Ok(axum::Json(StartedAll { workers: outcome? }))
}

async fn order_all(api: &Api) -> Result<Vec<Started>, Error> {
    let mut workers = Vec::new();
    for row in WORKERS.iter().filter(|row| row.in_target) {
        let (outcome, detail) = match order(api, row, Verb::Start).await {
            Ok(()) => ("started", None),
            Err(error) if error.code == "no-systemd" => return Err(error),
            Err(error) if error.code == "already-running" => ("already-running", None),
            Err(error) if error.code == "not-installed" => ("skipped", Some(error.detail)),
            Err(error) => ("failed", Some(error.detail)),
        };
        workers.push(Started {
            worker: row.name,
            outcome,
            detail,
        });
    }
    Ok(workers)
}
