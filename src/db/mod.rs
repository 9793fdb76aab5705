//! The database: the one truth. SQLite in WAL mode, or PostgreSQL; the SQL is written once
//! in the dialect both share (see [`sql`]), one file per noun. Stamps are integer
//! microseconds; lists are keyset-paged, never unbounded.
//!
//! Migrations lie in `migrations/<engine>/NNNN_noun.sql`, are embedded, and run under a
//! lock, so workers may start side by side.

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
mod postgres;
pub mod rollup;
pub mod secret;
mod sql;
mod sqlite;
pub mod tally;
pub mod token;
pub mod totp;
pub mod user;
pub mod webhook;

use std::path::PathBuf;

pub use sql::Json;

use sqlx::AssertSqlSafe;

use crate::config::Database;
use sql::{Pool, QueryBuilder};

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
    /// Nobody answers where the server should be, or not in our language.
    #[error(
        "{database} cannot be reached: check that the server runs, DECNET_DB_URL, and that `sudo decnet init` was run since that was set"
    )]
    Unreachable {
        /// Which one, without its password.
        database: Database,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The server answers, and refuses.
    #[error("the server refuses {database}: {advice}")]
    Refused {
        /// Which one, without its password.
        database: Database,
        /// What to do.
        advice: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The database is there, and none of our tables.
    #[error("{database} has no tables of DECNET yet: start DECNET first")]
    Empty {
        /// Which one.
        database: Database,
    },
    /// The server's database cannot be used.
    #[error("{database} {problem}")]
    Unfit {
        /// Which one, without its password.
        database: Database,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("migrating the database {database}")]
    Migrate {
        /// Which one.
        database: Database,
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
    fn narrow(&self, sql: &mut QueryBuilder, table: &'static str) {
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

/// `head values (?, …), … tail` for `rows` rows; see [`rows_sql`].
fn values_sql(
    head: &'static str,
    columns: usize,
    rows: usize,
    tail: &'static str,
) -> AssertSqlSafe<String> {
    let row = format!("({})", vec!["?"; columns].join(", "));
    rows_sql(head, &row, rows, tail)
}

/// `head values row, … tail`. Nothing but literals gets into the text, so it is as safe as
/// a literal. Nameless placeholders, because SQLite looks the name of every numbered one up
/// in a list: a thousand of them cost a million steps.
fn rows_sql(
    head: &'static str,
    row: &str,
    rows: usize,
    tail: &'static str,
) -> AssertSqlSafe<String> {
    let rows = vec![row; rows].join(", ");
    AssertSqlSafe(format!("{head} values {rows} {tail}"))
}

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Reading and writing now and then.
    Work,
    /// Writing thousands of rows at a time.
    Bulk,
    /// Looking.
    Reading,
}

/// An open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    pool: Pool,
}

impl Db {
    /// Opens the database and brings its tables up to date; a file is made if needed.
    ///
    /// # Errors
    /// When the file or its directory cannot be written, the server cannot be reached or
    /// refuses, or a migration fails.
    pub async fn open(at: impl Into<Database>) -> Result<Self> {
        Self::open_for(at.into(), Purpose::Work).await
    }

    /// Like [`Db::open`] with room for the ends of every index, for the one worker that
    /// writes thousands of rows at a time.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open_for_bulk(at: impl Into<Database>) -> Result<Self> {
        Self::open_for(at.into(), Purpose::Bulk).await
    }

    /// Opens an existing database to look at it: creates, migrates and locks nothing, so
    /// the right to read is enough.
    ///
    /// # Errors
    /// When it cannot be read as a database of ours.
    pub async fn open_for_reading(at: impl Into<Database>) -> Result<Self> {
        Self::open_for(at.into(), Purpose::Reading).await
    }

    async fn open_for(at: Database, purpose: Purpose) -> Result<Self> {
        let pool = match &at {
            Database::Sqlite(path) => Pool::Sqlite(sqlite::open(path, purpose).await?),
            Database::Postgres(server) => {
                Pool::Postgres(postgres::open(&at, server, purpose).await?)
            }
        };
        Ok(Self { pool })
    }

    /// Closes every connection, so that nothing is left to be written.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
