//! `/jobs`: what was asked and how far it is. A job is a row; how far one of the fleet is
//! follows from the decky rows alone, so a restart loses nothing. One task follows the open
//! ones, woken by new jobs, by deckies that change state, and once a second; while none is
//! open it sleeps. Exports are in this list too; [`super::exports`] carries them out.
//!
//! At the start of the API a job of which nothing was written is failed with the reason;
//! one that was written is followed on.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use utoipa::{IntoParams, ToSchema};

use super::auth::Viewer;
use super::error::{Error, Problem};
use super::extract::{Query, is_id};
use super::{Api, exports, tail};
use crate::db::job::JobRow;
use crate::db::{self, Db};
use crate::fleet::progress::{progress, was_written};
use crate::model::job::{JobItem, JobStatus};
use crate::model::{Decky, Stamp, topic};

/// How often open jobs are looked at unasked.
const PERIOD: Duration = Duration::from_secs(1);
/// A job of which nothing moved for so long is given up. Starting one decky takes the
/// reconciler at most a minute, and it starts several at a time.
const STALLED: Duration = Duration::from_secs(300);
/// Deckies shown of each job in a list.
const SHOWN: usize = 20;

/// Wakes the task.
#[derive(Debug, Default)]
pub(super) struct Followed(Notify);

impl Followed {
    /// There is a new job.
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

/// A job.
#[derive(Serialize, ToSchema)]
pub(super) struct Job {
    id: String,
    /// `deploy`, `teardown`, `redeploy`, `service`, `export`.
    kind: String,
    status: JobStatus,
    /// Deckies that are settled, well or badly; of an export the rows written, stored about
    /// once a second.
    done: i64,
    /// Deckies it is about. Of an export the rows expected: what is stored when it begins, or
    /// 0 where a filter or the format leaves that open; once it succeeded, what was written.
    total: i64,
    /// Every decky; in a list only the first twenty. None for an export.
    items: Vec<JobItem>,
    /// What an export made; null until it is done, and again when the file was removed.
    file: Option<JobFile>,
    /// Why it failed.
    error: Option<String>,
    /// What was asked, in short; of an export its whole order.
    #[schema(value_type = Object)]
    request: Value,
    created_by: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339; null while it is not over.
    finished_at: Option<String>,
}

/// A file to take with GET /jobs/{id}/file.
#[derive(Serialize, ToSchema)]
pub(super) struct JobFile {
    pub(super) name: String,
    pub(super) size_bytes: u64,
}

/// What was accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Follow it with GET /jobs/{id}.
    pub(super) job: Job,
    /// What one should know although nothing is wrong.
    pub(super) notes: Vec<String>,
}

pub(super) type Reply = Result<(StatusCode, axum::Json<Accepted>), Error>;

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        Self {
            status: row.status(),
            id: row.id,
            kind: row.kind,
            done: row.done,
            total: row.total,
            items: row.items.0,
            file: None,
            error: row.error,
            request: serde_json::from_str(&row.request).unwrap_or_default(),
            created_by: row.created_by,
            created_at: row.created_at.to_string(),
            finished_at: row.finished_at.map(|at| at.to_string()),
        }
    }
}

/// A job with what it made, as long as that is there.
async fn shown(api: &Api, row: JobRow) -> Job {
    let file = exports::made(api, &row).await;
    Job {
        file,
        ..Job::from(row)
    }
}

/// Which jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct JobQuery {
    /// `next` of the page before.
    #[param(pattern = "^[0-9a-f-]{36}$")]
    before: Option<String>,
    /// Jobs per page; 50 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// One page of jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct JobPage {
    items: Vec<Job>,
    /// `before` of the next page; null when this is the last.
    next: Option<String>,
}

/// Jobs, newest first; the last 500 are kept.
#[utoipa::path(
    get, path = "/jobs", tag = "fleet", params(JobQuery),
    responses(
        (status = 200, body = JobPage),
        (status = 400, description = "A parameter is unknown or unusable", body = Problem),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<JobQuery>,
) -> Result<axum::Json<JobPage>, Error> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=1000).contains(&limit) {
        return Err(Error::bad_request("limit takes 1 to 1000."));
    }
    if query.before.as_deref().is_some_and(|id| !is_id(id)) {
        return Err(Error::bad_request("before takes what next was."));
    }
    let rows = api.db.job_list(query.before.as_deref(), limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == limit);
    let next = rows.last().filter(|_| full).map(|row| row.id.clone());
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let mut job = shown(&api, row).await;
        job.items.truncate(SHOWN);
        items.push(job);
    }
    Ok(axum::Json(JobPage { items, next }))
}

/// One job with every decky of it.
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "fleet",
    params(("id" = String, Path, description = "A job of GET /jobs")),
    responses(
        (status = 200, body = Job),
        (status = 404, description = "No such job, or it is forgotten", body = Problem),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<axum::Json<Job>, Error> {
    let row = find(&api, &id).await?;
    Ok(axum::Json(shown(&api, row).await))
}

pub(super) async fn find(api: &Api, id: &str) -> Result<JobRow, Error> {
    let row = api.db.job_find(id).await?;
    row.ok_or_else(|| Error::not_found("There is no such job; GET /api/v1/jobs lists them."))
}

/// Looks through what an API before this one left behind. Called before requests are
/// taken, so that no job of ours is among them.
pub(super) async fn resume(db: &Db, now: Stamp) -> db::Result<()> {
    let deckies = deckies(db).await?;
    for mut job in db.job_open().await? {
        if job.status() != JobStatus::Queued {
            continue;
        }
        if was_written(&job.targets.0, &deckies) {
            job.set_status(JobStatus::Running, None, now);
        } else {
            let why = "the API was stopped before anything of it was written; ask again";
            job.set_status(JobStatus::Failed, Some(why.to_owned()), now);
        }
        db.job_put(&job).await?;
    }
    Ok(())
}

/// Follows open jobs until the API stops.
pub(super) async fn run(api: Api) {
    let mut hints = tail::hints(&api, &[topic::DECKY_STATES], "jobs");
    loop {
        let open = match pass(&api.db, Stamp::now()).await {
            Ok(open) => open,
            Err(error) => {
                tracing::error!("jobs: {:#}", anyhow::Error::new(error));
                1
            }
        };
        tokio::select! {
            () = api.stop.cancelled() => return,
            () = api.jobs.0.notified() => {}
            Some(()) = hints.recv(), if open > 0 => {}
            () = tokio::time::sleep(PERIOD), if open > 0 => {}
        }
    }
}

/// Brings every running job up to date. Returns how many are open.
async fn pass(db: &Db, now: Stamp) -> db::Result<usize> {
    let jobs = db.job_open().await?;
    if jobs.is_empty() {
        return Ok(0);
    }
    let deckies = deckies(db).await?;
    let mut open = 0;
    for mut job in jobs {
        // One that is queued is in the hands of the request that made it.
        if job.status() == JobStatus::Running && advance(&mut job, &deckies, now) {
            db.job_put(&job).await?;
        }
        open += usize::from(!job.status().is_over());
    }
    if open == 0 {
        db.job_trim().await?;
    }
    Ok(open)
}

async fn deckies(db: &Db) -> db::Result<Vec<Decky>> {
    let rows = db.decky_list().await?;
    Ok(rows.into_iter().map(|row| row.decky).collect())
}

/// Compares a job with the rows. Returns whether it moved.
fn advance(job: &mut JobRow, deckies: &[Decky], now: Stamp) -> bool {
    let seen = progress(&job.targets.0, deckies);
    let moved = seen.items != job.items.0;
    job.items.0 = seen.items;
    job.done = i64::try_from(seen.done).unwrap_or(i64::MAX);
    if seen.status != JobStatus::Running {
        job.set_status(seen.status, seen.error, now);
        return true;
    }
    if moved {
        job.updated_at = now;
    } else if now.since(job.updated_at) >= STALLED {
        let why = format!(
            "{} of {} deckies did not settle within {} minutes; is the reconciler running? What was asked stays wanted",
            job.total.saturating_sub(job.done),
            job.total,
            STALLED.as_secs() / 60
        );
        job.set_status(JobStatus::Failed, Some(why), now);
        return true;
    }
    moved
}

/// A job as it stands right after it was written: nothing to do is done.
pub(super) async fn begun(db: &Db, job: &mut JobRow) -> db::Result<()> {
    let deckies = deckies(db).await?;
    if advance(job, &deckies, Stamp::now()) {
        db.job_put(job).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::{JobKind, Target};
    use crate::model::{DeckyState, Wish};
    use crate::persona::{Asked, Persona};

    const SECOND: i64 = 1_000_000;

    async fn open() -> (tempfile::TempDir, Db) {
        let (dir, db) = crate::db::testing::open().await;
        let persona = Persona::derive(b"s", "a", &Asked::default(), Stamp(0));
        let ip = "127.77.0.1".parse().unwrap();
        db.decky_add("a", ip, &Wish::default(), &persona, Stamp(1))
            .await
            .unwrap();
        (dir, db)
    }

    async fn job(db: &Db, name: &str, status: JobStatus) -> String {
        let mut job = JobRow::new(JobKind::Deploy, "{}".into(), "ada", Stamp(SECOND));
        job.targets.0 = vec![Target {
            name: name.into(),
            version: 1,
            gone: false,
        }];
        job.total = 1;
        job.set_status(status, None, Stamp(SECOND));
        db.job_put(&job).await.unwrap();
        job.id
    }

    #[tokio::test]
    async fn after_a_restart_what_was_written_is_followed_and_the_rest_failed_with_the_reason() {
        let (_dir, db) = open().await;
        let written = job(&db, "a", JobStatus::Queued).await;
        let not = job(&db, "b", JobStatus::Queued).await;
        resume(&db, Stamp(2 * SECOND)).await.unwrap();
        let find = async |id: &str| db.job_find(id).await.unwrap().unwrap();
        assert_eq!(find(&written).await.status(), JobStatus::Running);
        let failed = find(&not).await;
        assert_eq!(failed.status(), JobStatus::Failed);
        assert!(failed.error.unwrap().contains("before anything"));
        assert_eq!(pass(&db, Stamp(3 * SECOND)).await.unwrap(), 1);
        db.decky_observe("a", 1, DeckyState::Running, &[], None, Stamp(4))
            .await
            .unwrap();
        assert_eq!(pass(&db, Stamp(4 * SECOND)).await.unwrap(), 0);
        let done = find(&written).await;
        assert_eq!((done.status(), done.done), (JobStatus::Succeeded, 1));
        assert_eq!(done.finished_at, Some(Stamp(4 * SECOND)));
    }

    #[tokio::test]
    async fn exports_are_neither_failed_at_a_start_nor_given_up() {
        let (_dir, db) = open().await;
        let mut ids = Vec::new();
        for status in [JobStatus::Queued, JobStatus::Running] {
            let mut job = JobRow::new(JobKind::Export, "{}".into(), "ada", Stamp(SECOND));
            job.set_status(status, None, Stamp(SECOND));
            db.job_put(&job).await.unwrap();
            ids.push((job.id, status));
        }
        resume(&db, Stamp(2 * SECOND)).await.unwrap();
        assert_eq!(pass(&db, Stamp(9000 * SECOND)).await.unwrap(), 0);
        for (id, status) in ids {
            let job = db.job_find(&id).await.unwrap().unwrap();
            assert_eq!(job.status(), status);
        }
    }

    #[tokio::test]
    async fn a_job_that_does_not_move_is_given_up() {
        let (_dir, db) = open().await;
        let id = job(&db, "a", JobStatus::Running).await;
        let at = |seconds: i64| Stamp(seconds * SECOND);
        assert_eq!(pass(&db, at(2)).await.unwrap(), 1);
        assert_eq!(pass(&db, at(301)).await.unwrap(), 1);
        assert_eq!(pass(&db, at(302)).await.unwrap(), 0);
        let job = db.job_find(&id).await.unwrap().unwrap();
        assert_eq!(job.status(), JobStatus::Failed);
        assert!(job.error.unwrap().contains("reconciler"));
    }
}
