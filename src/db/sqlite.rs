//! Opening the database in a file.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Error, Purpose, Result, attempt};
use crate::config::Database;
use crate::net::{file, lock};

/// Most connections of a process.
const CONNECTIONS: u32 = 4;
/// Page cache of a connection, KiB: what an idle worker may cost.
const SMALL_CACHE_KIB: u32 = 1024;
/// Page cache of the worker that writes in bulk, KiB; grows only as it is used.
const BULK_CACHE_KIB: u32 = 16 * 1024;
/// Pages of the WAL after which it is copied into the file, as SQLite would have it.
const WAL_PAGES: u32 = 1000;
/// Likewise for the worker that writes in bulk, 96 MiB: each of its batches writes the same
/// ends of indexes, and all of them would be copied every time.
const BULK_WAL_PAGES: u32 = 24_000;

pub(super) async fn open(path: &Path, purpose: Purpose) -> Result<SqlitePool> {
    match purpose {
        Purpose::Work => open_for_writing(path, false).await,
        Purpose::Bulk => open_for_writing(path, true).await,
        Purpose::Reading => open_for_reading(path).await,
    }
}

async fn open_for_writing(path: &Path, bulk: bool) -> Result<SqlitePool> {
    // A second connection would get every other batch, and a connection forgets its page
    // cache when another has written.
    let (cache_kib, wal_pages, connections) = if bulk {
        (BULK_CACHE_KIB, BULK_WAL_PAGES, 1)
    } else {
        (SMALL_CACHE_KIB, WAL_PAGES, CONNECTIONS)
    };
    let prepare = |source| Error::Prepare {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(prepare)?;
    }
    if !path.exists() {
        // What attackers typed lies in it, so others may not read it whatever the
        // umask says; SQLite gives its side files the same mode.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(path)
            .map_err(prepare)?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(30))
        // Captured secrets live in this file: a worker's page cache is kept small and
        // freed pages are overwritten.
        .pragma("secure_delete", "fast")
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("wal_autocheckpoint", wal_pages.to_string())
        // The file shrinks again when it is begun anew.
        .pragma(
            "journal_size_limit",
            (i64::from(WAL_PAGES) * 4096).to_string(),
        );
    // Before the first connection: of two that make a new file one with a log ahead of it,
    // SQLite refuses one at once.
    let _held = lock::wait(&path.with_extension("db.lock")).map_err(prepare)?;
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .idle_timeout(Duration::from_secs(60))
        .connect_with(options.clone())
        .await
        .map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
    for suffix in ["", "-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        file::inherit_owner(Path::new(&beside)).map_err(prepare)?;
    }
    sqlx::migrate!("src/db/migrations/sqlite")
        .run(&pool)
        .await
        .map_err(|source| Error::Migrate {
            database: Database::Sqlite(path.to_owned()),
            source,
        })?;
    if bulk {
        // What a statement changed is noted until it ends, in case it fails; in a file
        // that would be a copy of every page for each 64 rows. Not before the migrations:
        // what they sort may not fit into memory.
        let done = sqlx::query("pragma temp_store = memory")
            .execute(&pool)
            .await;
        done.map_err(attempt("preparing the connection"))?;
        pool.set_connect_options(options.pragma("temp_store", "memory"));
    }
    Ok(pool)
}

async fn open_for_reading(path: &Path) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(30));
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    // Without a WAL nobody has it open; a reader who may not make one needs none.
    let still = (!Path::new(&wal).exists()).then(|| options.clone().immutable(true));
    let mut outcome = look(options).await;
    if let (Err(_), Some(still)) = (&outcome, still) {
        outcome = look(still).await;
    }
    outcome.map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

/// Connects and reads something: only then is it known whether reading works.
async fn look(options: SqliteConnectOptions) -> std::result::Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await?;
    sqlx::query("select count(*) from sqlite_master")
        .fetch_one(&pool)
        .await?;
    Ok(pool)
}
