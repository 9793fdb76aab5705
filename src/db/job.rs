//! Jobs of the API, newest first. A finished one is history: of those the newest are kept.

use uuid::Uuid;

use crate::db::sql::{self, Json};
use crate::db::{Db, Result, attempt};
use crate::model::Stamp;
use crate::model::job::{JobItem, JobKind, JobStatus, Target};

/// Jobs kept.
const KEPT: i64 = 500;

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct JobRow {
    /// UUIDv7.
    pub id: String,
    /// What was asked.
    pub kind: String,
    /// How it stands; see [`JobRow::status`].
    status: String,
    /// What was asked, in short, as JSON.
    pub request: String,
    /// What is wanted of each decky.
    pub targets: Json<Vec<Target>>,
    /// How each stands.
    pub items: Json<Vec<JobItem>>,
    /// Deckies that are settled; rows written of an export.
    pub done: i64,
    /// Deckies it is about; rows that an export expects, 0 while nobody knows.
    pub total: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// Who asked.
    pub created_by: String,
    /// When.
    pub created_at: Stamp,
    /// When it last moved.
    pub updated_at: Stamp,
    /// When it was over.
    pub finished_at: Option<Stamp>,
}

impl JobRow {
    /// A job that nothing is written of yet.
    #[must_use]
    pub fn new(kind: JobKind, request: String, created_by: &str, now: Stamp) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            kind: kind.as_str().to_owned(),
            status: JobStatus::Queued.as_str().to_owned(),
            request,
            targets: Json(Vec::new()),
            items: Json(Vec::new()),
            done: 0,
            total: 0,
            error: None,
            created_by: created_by.to_owned(),
            created_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        JobStatus::parse(&self.status)
    }

    /// Notes that it moved on.
    pub fn set_status(&mut self, status: JobStatus, error: Option<String>, now: Stamp) {
        status.as_str().clone_into(&mut self.status);
        self.error = error;
        self.updated_at = now;
        self.finished_at = status.is_over().then_some(now);
    }
}

const PUT: &str = "insert into jobs (id, kind, status, request, targets, items, done, total, error,
         created_by, created_at, updated_at, finished_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
     on conflict (id) do update set status = excluded.status, targets = excluded.targets,
         items = excluded.items, done = excluded.done, total = excluded.total,
         error = excluded.error, updated_at = excluded.updated_at,
         finished_at = excluded.finished_at";

impl Db {
    /// Writes a job as it stands.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn job_put(&self, job: &JobRow) -> Result<()> {
        sql::query(PUT)
            .bind(&job.id)
            .bind(&job.kind)
            .bind(&job.status)
            .bind(&job.request)
            .bind(&job.targets)
            .bind(&job.items)
            .bind(job.done)
            .bind(job.total)
            .bind(&job.error)
            .bind(&job.created_by)
            .bind(job.created_at)
            .bind(job.updated_at)
            .bind(job.finished_at)
            .execute(&self.pool)
            .await
            .map_err(attempt("writing a job"))?;
        Ok(())
    }

    /// Forgets the oldest finished jobs beyond those kept.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn job_trim(&self) -> Result<()> {
        sql::query(
            "delete from jobs where status in ('succeeded', 'failed')
                 and id <= (select id from jobs order by id desc limit 1 offset $1)",
        )
        .bind(KEPT)
        .execute(&self.pool)
        .await
        .map_err(attempt("forgetting old jobs"))?;
        Ok(())
    }

    /// Jobs of the fleet that are not over, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn job_open(&self) -> Result<Vec<JobRow>> {
        sql::query_as(
            "select * from jobs where status in ('queued', 'running') and kind <> 'export'
             order by id limit 500",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing open jobs"))
    }

    /// Exports that are not over, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn job_open_exports(&self) -> Result<Vec<JobRow>> {
        sql::query_as(
            "select * from jobs where status in ('queued', 'running') and kind = 'export'
             order by id limit 500",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing open exports"))
    }

    /// The newest `limit` exports that succeeded after `since`, by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn job_made_exports(&self, since: Stamp, limit: u32) -> Result<Vec<String>> {
        sql::query_scalar(
            "select id from jobs where status = 'succeeded' and kind = 'export'
                 and finished_at > $1
             order by id desc limit $2",
        )
        .bind(since)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing exports"))
    }

    /// A job.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn job_find(&self, id: &str) -> Result<Option<JobRow>> {
        sql::query_as("select * from jobs where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading a job"))
    }

    /// Jobs, newest first: those older than `before`, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn job_list(&self, before: Option<&str>, limit: u32) -> Result<Vec<JobRow>> {
        sql::query_as("select * from jobs where id < coalesce($1, 'g') order by id desc limit $2")
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing jobs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_are_kept_in_order_and_not_for_ever() {
        let (_dir, db) = crate::db::testing::open().await;
        let mut ids = Vec::new();
        for n in 0..KEPT + 3 {
            let mut job = JobRow::new(JobKind::Deploy, "{}".into(), "ada", Stamp(n));
            // The oldest is still open.
            if n > 0 {
                job.set_status(JobStatus::Succeeded, None, Stamp(n));
            }
            db.job_put(&job).await.unwrap();
            ids.push(job.id);
        }
        db.job_trim().await.unwrap();
        assert_eq!(db.job_open().await.unwrap().len(), 1);
        assert!(db.job_find(&ids[0]).await.unwrap().is_some());
        assert!(db.job_find(&ids[1]).await.unwrap().is_none());
        let page = db.job_list(None, 2).await.unwrap();
        let newest: Vec<&str> = page.iter().map(|j| j.id.as_str()).collect();
        let last = ids.len() - 1;
        assert_eq!(newest, [ids[last].as_str(), ids[last - 1].as_str()]);
        let next = db.job_list(Some(newest[1]), 1).await.unwrap();
        assert_eq!(next[0].id, ids[last - 2]);
    }

    #[tokio::test]
    async fn exports_are_told_from_what_is_asked_of_the_fleet() {
        let (_dir, db) = crate::db::testing::open().await;
        let mut made = Vec::new();
        for (n, kind) in [
            JobKind::Export,
            JobKind::Deploy,
            JobKind::Export,
            JobKind::Export,
        ]
        .into_iter()
        .enumerate()
        {
            let job = JobRow::new(kind, "{}".into(), "ada", Stamp(1));
            db.job_put(&job).await.unwrap();
            made.push(job);
            assert_eq!(made[n].status(), JobStatus::Queued);
        }
        let ids = |rows: Vec<JobRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(db.job_open().await.unwrap()), [made[1].id.as_str()]);
        let open = ids(db.job_open_exports().await.unwrap());
        assert_eq!(open, [&made[0], &made[2], &made[3]].map(|job| &*job.id));
        for (n, at) in [(0, 5), (2, 6), (3, 7)] {
            made[n].set_status(JobStatus::Succeeded, None, Stamp(at));
            db.job_put(&made[n]).await.unwrap();
        }
        assert!(db.job_open_exports().await.unwrap().is_empty());
        let recent = db.job_made_exports(Stamp(5), 9).await.unwrap();
        assert_eq!(recent, [made[3].id.as_str(), made[2].id.as_str()]);
        let newest = db.job_made_exports(Stamp(0), 1).await.unwrap();
        assert_eq!(newest, [made[3].id.as_str()]);
    }
}
