//! The database: the one truth. SQLite in WAL mode; the SQL is written once with `$1`
//! placeholders in the dialect SQLite and PostgreSQL share, one file per noun.
//! Stamps are integer microseconds; lists are keyset-paged, never unbounded.
//!
//! Migrations lie in `migrations/<engine>/NNNN_noun.sql`, are embedded, and run under
//! a file lock, so workers may start side by side.

pub mod api_token;
pub mod artifact;
pub mod attack_session;
pub mod attacker;
pub mod canary;
pub mod checkpoint;
mod counter;
pub mod credential;
pub mod decky;
pub mod hit;
pub mod job;
pub mod log;
pub mod mutation;
pub mod rollup;
pub mod tally;
pub mod token;
pub mod totp;
pub mod user;
pub mod webhook;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlitePool};

use crate::net::{file, lock};

/// A failed database call, saying what was attempted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or created.
    #[error("opening the database {path}: check that this user may write there")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("migrating the database {path}")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Preparing the directory or the lock failed.
    #[error("preparing {path}")]
    Prepare {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A statement failed.
    #[error("{what}")]
    Query {
        /// What was attempted.
        what: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A row changed between read and write.
    #[error("{0} was changed by somebody else meanwhile; look again and repeat")]
    Conflict(String),
}

/// Shorthand of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was attempted to a statement's error.
pub(crate) fn attempt(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Query { what, source }
}

/// Part of a list, newest first: rows whose id is below `before`, at most `limit`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Id of the last row of the page before; `None` begins at the newest.
    pub before: Option<i64>,
    /// 1 to 1000; anything else is brought into that range.
    pub limit: u32,
}

impl Page {
    fn before_id(self) -> i64 {
        self.before.unwrap_or(i64::MAX)
    }

    fn rows(self) -> i64 {
        i64::from(self.limit.clamp(1, 1000))
    }
}

/// Where rows come from: which of them to list; all given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Attacker's address.
    pub attacker_ip: Option<String>,
    /// Decky name.
    pub decky: Option<String>,
    /// Service slug.
    pub service: Option<String>,
}

impl Origin {
    /// Adds ` and column = …` for each condition; `table` goes before the column's name.
    fn narrow(&self, sql: &mut sqlx::QueryBuilder<sqlx::Sqlite>, table: &'static str) {
        let columns = [
            ("attacker_ip", &self.attacker_ip),
            ("decky", &self.decky),
            ("service", &self.service),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                sql.push(format!(" and {table}{column} = "))
                    .push_bind(value.clone());
            }
        }
    }
}

/// `head values (?, …), … tail` for `rows` rows. Nothing but these literals gets into the
/// text, so it is as safe as a literal. Nameless placeholders, because SQLite looks the
/// name of every numbered one up in a list: a thousand of them cost a million steps.
fn values_sql(
    head: &'static str,
    columns: usize,
    rows: usize,
    tail: &'static str,
) -> AssertSqlSafe<String> {
    let row = format!("({})", vec!["?"; columns].join(", "));
    let rows = vec![row.as_str(); rows].join(", ");
    AssertSqlSafe(format!("{head} values {rows} {tail}"))
}

/// Page cache of a connection, KiB: what an idle worker may cost.
const SMALL_CACHE_KIB: u32 = 1024;
/// Page cache of the worker that writes in bulk, KiB; grows only as it is used.
const BULK_CACHE_KIB: u32 = 16 * 1024;

/// An open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    pub(crate) pool: SqlitePool,
}

impl Db {
    /// Opens (creating if needed) and migrates the database at `path`.
    ///
    /// # Errors
    /// When the file or its directory cannot be written, or a migration fails.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, SMALL_CACHE_KIB).await
    }

    /// Like [`Db::open`] with a page cache that holds the ends of every index, for the
    /// one worker that writes thousands of rows at a time.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open_for_bulk(path: &Path) -> Result<Self> {
        Self::open_with(path, BULK_CACHE_KIB).await
    }

    async fn open_with(path: &Path, cache_kib: u32) -> Result<Self> {
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
            .pragma("cache_size", format!("-{cache_kib}"));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .min_connections(0)
            .idle_timeout(Duration::from_secs(60))
            .connect_with(options)
            .await
            .map_err(|source| Error::Open {
                path: path.to_owned(),
                source,
            })?;
        let _held = lock::wait(&path.with_extension("db.lock")).map_err(prepare)?;
        for suffix in ["", "-wal", "-shm"] {
            let mut beside = path.as_os_str().to_owned();
            beside.push(suffix);
            file::inherit_owner(Path::new(&beside)).map_err(prepare)?;
        }
        sqlx::migrate!("src/db/migrations/sqlite")
            .run(&pool)
            .await
            .map_err(|source| Error::Migrate {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { pool })
    }

    /// Opens an existing database to look at it: creates, migrates and locks nothing, so
    /// the right to read the file is enough.
    ///
    /// # Errors
    /// When the file cannot be read as a database.
    pub async fn open_for_reading(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(30));
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        // Without a WAL nobody has it open; a reader who may not make one needs none.
        let still = (!Path::new(&wal).exists()).then(|| options.clone().immutable(true));
        let mut outcome = Self::look(options).await;
        if let (Err(_), Some(still)) = (&outcome, still) {
            outcome = Self::look(still).await;
        }
        let pool = outcome.map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { pool })
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

    /// Closes every connection, so that the WAL is checkpointed.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
