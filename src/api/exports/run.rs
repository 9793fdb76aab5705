//! The task that carries exports out, one after the other, the longest waiting first. Only
//! this task moves their rows on, so a row that says it is running when the task looks for
//! the next one was left behind by an API that stopped: it is started over.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::order::ExportOrder;
use super::pages::{Pages, Read};
use super::{FILES, KEPT, files};
use crate::api::Api;
use crate::api::error::Error;
use crate::db::job::JobRow;
use crate::db::{self, Db};
use crate::model::Stamp;
use crate::model::job::JobStatus;

/// How often what is too old is looked for unasked.
const CLEARED: Duration = Duration::from_secs(3600);
/// How often progress is stored.
const PROGRESS: Duration = Duration::from_secs(1);
/// Pause after a database that could not be asked.
const AGAIN: Duration = Duration::from_secs(1);
/// Tries of one read before an export is given up: a restart of the database's server takes
/// less than so many seconds.
const TRIES: u32 = 60;

/// Why there is no file. What is said goes into the job's row.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the order cannot be read ({0}); ask again")]
    Order(String),
    #[error("the database could not be read; the log of the API tells more")]
    Read(#[source] db::Error),
    #[error("the file could not be written: {0}")]
    Write(#[from] io::Error),
    #[error("less than {} MiB are free on the disk; make room and ask again", files::RESERVE >> 20)]
    Full,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Order(error.detail)
    }
}

/// Carries out what waits until the API stops.
pub(in crate::api) async fn run(api: Api) {
    loop {
        let wait = match pass(&api).await {
            Ok(true) => continue,
            Ok(false) => CLEARED,
            Err(error) => {
                tracing::error!("exports: {:#}", anyhow::Error::new(error));
                AGAIN
            }
        };
        tokio::select! {
            () = api.stop.cancelled() => return,
            () = api.exports.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Clears away what is not kept, then carries out one export. Returns whether there was any.
async fn pass(api: &Api) -> db::Result<bool> {
    clear(&api.db, &api.config.paths.exports(), Stamp::now()).await?;
    let open = api.db.job_open_exports().await?;
    let Some(job) = open.into_iter().next() else {
        return Ok(false);
    };
    carry_out(&api.db, &api.config.paths.exports(), job).await;
    api.db.job_trim().await?;
    Ok(true)
}

/// Removes files of exports that are too old, too many, or known no more.
async fn clear(db: &Db, dir: &Path, now: Stamp) -> db::Result<()> {
    let since = Stamp(now.0.saturating_sub(Stamp(0).plus(KEPT).0));
    let kept: HashSet<String> = db
        .job_made_exports(since, FILES)
        .await?
        .into_iter()
        .collect();
    let dir = dir.to_owned();
    let cleared = blocking(move || files::clear(&dir, &kept)).await;
    if let Err(error) = cleared {
        tracing::warn!("exports: removing old files: {error}");
    }
    Ok(())
}

async fn carry_out(db: &Db, dir: &Path, mut job: JobRow) {
    let outcome = write(db, dir, &mut job).await;
    match outcome {
        Ok(()) => {
            job.total = job.done;
            job.set_status(JobStatus::Succeeded, None, Stamp::now());
        }
        Err(why) => {
            let said = why.to_string();
            tracing::warn!(job.id, "an export failed: {:#}", anyhow::Error::new(why));
            let (dir, id) = (dir.to_owned(), job.id.clone());
            if let Err(error) = blocking(move || files::abandon(&dir, &id)).await {
                tracing::warn!("exports: removing half a file: {error}");
            }
            job.set_status(JobStatus::Failed, Some(said), Stamp::now());
        }
    }
    // What is not stored did not happen: the next start would do it over.
    while let Err(error) = db.job_put(&job).await {
        tracing::error!("exports: {:#}", anyhow::Error::new(error));
        tokio::time::sleep(AGAIN).await;
    }
}

async fn write(db: &Db, dir: &Path, job: &mut JobRow) -> Result<(), Failed> {
    let order = ExportOrder::read(&job.request).map_err(|e| Failed::Order(e.to_string()))?;
    job.done = 0;
    job.total = expected(db, &order).await.unwrap_or_else(|error| {
        tracing::warn!("exports: {:#}", anyhow::Error::new(error));
        0
    });
    job.set_status(JobStatus::Running, None, Stamp::now());
    store(db, job).await;
    let pages = order.pages(job.created_at)?;
    let (at, id) = (dir.to_owned(), job.id.clone());
    let file = blocking(move || files::begin(&at, &id)).await?;
    let mut file = File::from_std(file);
    fill(db, dir, pages, &mut file, job).await?;
    file.sync_all().await?;
    let (at, id) = (dir.to_owned(), job.id.clone());
    blocking(move || files::finish(&at, &id)).await?;
    Ok(())
}

/// Rows there will be, where a sum is kept of them.
async fn expected(db: &Db, order: &ExportOrder) -> db::Result<i64> {
    if !order.is_of_all() {
        return Ok(0);
    }
    match order {
        ExportOrder::Events { .. } => db.log_count().await,
        ExportOrder::Attackers { .. } => db.attacker_count().await,
        ExportOrder::Credentials { .. } if order.format().is_of_cracks() => Ok(0),
        ExportOrder::Credentials { .. } => db.credential_count().await,
    }
}

/// Writes every page into `file`; no more than one is in memory.
async fn fill(
    db: &Db,
    dir: &Path,
    mut pages: Pages,
    file: &mut File,
    job: &mut JobRow,
) -> Result<(), Failed> {
    let mut text = String::new();
    pages.head(&mut text);
    let mut stored = Instant::now();
    loop {
        let read = read(db, &mut pages, &mut text).await?;
        if !files::has_room(dir)? {
            return Err(Failed::Full);
        }
        file.write_all(text.as_bytes()).await?;
        text.clear();
        job.done = job.done.saturating_add(read.written);
        if !read.more {
            // Only now is it known whether the last bytes could be written.
            return Ok(file.flush().await?);
        }
        if stored.elapsed() >= PROGRESS {
            job.updated_at = Stamp::now();
            store(db, job).await;
            stored = Instant::now();
        }
    }
}

/// One page, from a database that may be away for a moment.
async fn read(db: &Db, pages: &mut Pages, text: &mut String) -> Result<Read, Failed> {
    let mut tries = 0;
    loop {
        match pages.next(db, text).await {
            Ok(read) => return Ok(read),
            Err(error) if tries < TRIES => {
                tracing::warn!("exports: {:#}", anyhow::Error::new(error));
                tries += 1;
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(Failed::Read(error)),
        }
    }
}

/// Tells how far it is; nothing depends on it.
async fn store(db: &Db, job: &JobRow) {
    if let Err(error) = db.job_put(job).await {
        tracing::warn!("exports: {:#}", anyhow::Error::new(error));
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::JobKind;

    fn order(request: &str) -> JobRow {
        JobRow::new(JobKind::Export, request.to_owned(), "ada", Stamp::now())
    }

    const EVENTS: &str = r#"{"what":"events","format":"csv","filter":{}}"#;

    async fn carried_out(db: &Db, dir: &Path, job: JobRow) -> JobRow {
        let id = job.id.clone();
        carry_out(db, dir, job).await;
        db.job_find(&id).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn an_export_of_nothing_has_its_head() {
        let (root, db) = crate::db::testing::open().await;
        let dir = root.path().join("exports");
        let job = carried_out(&db, &dir, order(EVENTS)).await;
        assert_eq!(job.status(), JobStatus::Succeeded, "{:?}", job.error);
        let text = std::fs::read_to_string(files::whole(&dir, &job.id)).unwrap();
        assert!(
            text.starts_with("\"id\",\"eid\"") && text.lines().count() == 1,
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_told_and_no_half_file_stays() {
        let (root, db) = crate::db::testing::open().await;
        let dir = root.path().join("exports");
        std::fs::write(&dir, "in the way").unwrap();
        let job = carried_out(&db, &dir, order(EVENTS)).await;
        assert_eq!(job.status(), JobStatus::Failed);
        let why = job.error.unwrap();
        assert!(why.starts_with("the file could not be written: "), "{why}");
        // A device that is always full, in place of a disk.
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut job = order(EVENTS);
        let pages = ExportOrder::read(EVENTS).unwrap().pages(Stamp(0)).unwrap();
        let mut full = File::from_std(full.unwrap());
        let outcome = fill(&db, root.path(), pages, &mut full, &mut job).await;
        let why = outcome.unwrap_err().to_string();
        assert!(why.contains("No space left on device"), "{why}");
    }

    #[tokio::test]
    async fn an_order_of_another_version_fails_with_the_reason() {
        let (root, db) = crate::db::testing::open().await;
        let dir = root.path().join("exports");
        let job = order(r#"{"what":"mails","format":"csv","filter":{}}"#);
        let job = carried_out(&db, &dir, job).await;
        let why = job.error.unwrap();
        assert!(why.contains("unknown variant `mails`"), "{why}");
        assert!(!dir.exists());
    }

    #[tokio::test]
    async fn files_go_when_they_are_old_many_or_unknown() {
        let (root, db) = crate::db::testing::open().await;
        let dir = root.path().join("exports");
        let day = Duration::from_secs(24 * 3600);
        let mut ids = Vec::new();
        for n in 0..FILES + 2 {
            let job = carried_out(&db, &dir, order(EVENTS)).await;
            assert_eq!(job.status(), JobStatus::Succeeded, "{n}: {:?}", job.error);
            ids.push(job.id);
        }
        std::fs::write(dir.join("stranger"), "").unwrap();
        std::fs::write(dir.join(format!("{}.part", ids[3])), "").unwrap();
        let left = || {
            let names = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap());
            let names = names.map(|e| e.file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        clear(&db, &dir, Stamp::now().plus(day * 6)).await.unwrap();
        assert_eq!(left(), ids[2..]);
        clear(&db, &dir, Stamp::now().plus(day * 8)).await.unwrap();
        assert!(left().is_empty());
    }
}
