//! `/exports`: a list as a file, however long it is. An order becomes a job that waits for
//! its turn; one task ([`mod@run`]) carries the orders out, and `/jobs/{id}/file` gives away
//! what it made. Nobody waits for a reply, no more than a page of rows is in memory, and
//! every page is a short read of its own.
//!
//! A job whose API stopped is started over by the next one from the order in its row; half
//! a file is removed then, and when writing fails. Files are kept for a week and until
//! twenty newer ones exist, and as long as their job is known.

mod files;
mod order;
mod pages;
mod run;

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, Notify};

use order::ExportOrder;
pub(super) use run::run;

use super::Api;
use super::auth::{Member, Viewer};
use super::error::{Error, Problem};
use super::extract::Json;
use super::jobs::{self, Accepted, JobFile, Reply};
use crate::db::job::JobRow;
use crate::model::Stamp;
use crate::model::job::{JobKind, JobStatus};

/// How long a file is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Files kept.
const FILES: u32 = 20;
/// Orders that may wait.
const WAITING: usize = 10;
/// When to ask again while too many wait.
const LATER: Duration = Duration::from_secs(60);
/// Bytes of a file that are in memory while it is sent.
const PIECE: usize = 64 * 1024;

/// What the handlers share with the task.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// There is a new order.
    wake: Notify,
    /// Held while it is decided whether one more may wait.
    turn: Mutex<()>,
}

/// Orders an export; it is a job, followed with GET /jobs/{id}, whose file is taken with
/// GET /jobs/{id}/file. One runs at a time and ten may wait.
#[utoipa::path(
    post, path = "/exports", tag = "findings", operation_id = "export",
    request_body = ExportOrder,
    responses(
        (status = 202, body = Accepted),
        (status = 422, description = "There is no such list, format or condition, or they do not go together", body = Problem),
        (status = 429, description = "Ten exports wait already", body = Problem),
    )
)]
pub(super) async fn order(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Json(order): Json<ExportOrder>,
) -> Reply {
    // By a task of its own: a client that hangs up leaves nothing half recorded.
    let work = tokio::spawn(take(api, member, order)).await;
    let accepted = work.map_err(|error| Error::internal(format!("taking an order: {error}")))??;
    Ok((StatusCode::ACCEPTED, axum::Json(accepted)))
}

async fn take(api: Api, member: Member, order: ExportOrder) -> Result<Accepted, Error> {
    let user = &member.session.user_name;
    let target = format!("{} as {}", order.what(), order.format().as_str());
    let outcome = queue(&api, user, order).await;
    let said = outcome.as_ref().map_or_else(|error| error.code, |_| "ok");
    api.audit(user, member.address, "export.order", &target, said)
        .await;
    let accepted = outcome?;
    api.exports.wake.notify_one();
    Ok(accepted)
}

async fn queue(api: &Api, user: &str, order: ExportOrder) -> Result<Accepted, Error> {
    let now = Stamp::now();
    let request = order.stored();
    // What is wrong with it is better said now than by the job.
    order.pages(now)?;
    let turn = api.exports.turn.lock().await;
    let open = api.db.job_open_exports().await?;
    let waiting = open.iter().filter(|job| job.status() == JobStatus::Queued);
    if waiting.count() >= WAITING {
        return Err(Error::too_many(
            "queue-full",
            format!("{WAITING} exports wait already; ask again when some of them are done."),
            LATER,
        ));
    }
    let job = JobRow::new(JobKind::Export, request, user, now);
    api.db.job_put(&job).await?;
    drop(turn);
    let notes = match open.len() {
        0 => Vec::new(),
        1 => vec!["One export comes before it.".to_owned()],
        n => vec![format!("{n} exports come before it.")],
    };
    Ok(Accepted {
        job: job.into(),
        notes,
    })
}

/// The file of an export, while it is there.
pub(super) async fn made(api: &Api, job: &JobRow) -> Option<JobFile> {
    if job.kind != JobKind::Export.as_str() || job.status() != JobStatus::Succeeded {
        return None;
    }
    let order = ExportOrder::read(&job.request).ok()?;
    let path = files::whole(&api.config.paths.exports(), &job.id);
    let meta = tokio::fs::metadata(path).await.ok()?;
    Some(JobFile {
        name: order.file_name(job.created_at),
        size_bytes: meta.len(),
    })
}

/// The file that an export made. Files are kept for seven days, and until twenty newer ones
/// exist.
#[utoipa::path(
    get, path = "/jobs/{id}/file", tag = "findings",
    params(("id" = String, Path, description = "A job of GET /jobs")),
    responses(
        (status = 200, content((String = "text/csv"), (String = "application/x-ndjson"), (String = "text/plain"))),
        (status = 404, description = "No such job, or it has no file: not an export, not done, failed, or the file was removed", body = Problem),
    )
)]
pub(super) async fn file(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let job = jobs::find(&api, &id).await?;
    let order = ExportOrder::read(&job.request).ok();
    let order = order.filter(|_| job.kind == JobKind::Export.as_str());
    let Some(order) = order else {
        let why = "This job makes no file; only exports do.";
        return Err(Error::new(StatusCode::NOT_FOUND, "no-file", why));
    };
    must_be_made(&job)?;
    let path = files::whole(&api.config.paths.exports(), &job.id);
    let file = match File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(removed()),
        Err(error) => return Err(unreadable(&error)),
    };
    let size = file.metadata().await.map_err(|e| unreadable(&e))?.len();
    let name = order.file_name(job.created_at);
    let user = &member.session.user_name;
    api.audit(user, member.address, "export.download", &name, "ok")
        .await;
    let disposition = format!("attachment; filename=\"{name}\"");
    // A word, a date and an ending are fit for a header.
    let disposition =
        HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment"));
    let kind = HeaderValue::from_static(order.format().media_type());
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, sent(file)).into_response())
}

fn must_be_made(job: &JobRow) -> Result<(), Error> {
    let (code, why) = match job.status() {
        JobStatus::Succeeded => return Ok(()),
        JobStatus::Queued => (
            "not-done",
            "The export waits for its turn; GET /api/v1/jobs/{id} tells when it is done."
                .to_owned(),
        ),
        JobStatus::Running => (
            "not-done",
            format!(
                "The export is not done yet ({} rows so far); GET /api/v1/jobs/{{id}} tells when it is.",
                job.done
            ),
        ),
        JobStatus::Failed => (
            "no-file",
            format!(
                "The export failed: {}.",
                job.error.as_deref().unwrap_or("nobody knows why")
            ),
        ),
    };
    Err(Error::new(StatusCode::NOT_FOUND, code, why))
}

fn removed() -> Error {
    let days = KEPT.as_secs() / (24 * 3600);
    Error::new(
        StatusCode::NOT_FOUND,
        "removed",
        format!(
            "The file was removed: files are kept for {days} days, and until {FILES} newer ones exist. Order the export again."
        ),
    )
}

fn unreadable(error: &io::Error) -> Error {
    Error::internal(format!("reading an export: {error}"))
}

/// The bytes of a file, a piece at a time.
fn sent(file: File) -> Body {
    let pieces = futures_util::stream::unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(Bytes::from(piece)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    Body::from_stream(pieces)
}
