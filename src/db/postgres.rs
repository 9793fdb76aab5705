//! Opening the database on a server.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::{Error, Purpose, Result};
use crate::config::Database;

/// Longest wait for a connection, a restart of the server included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Oldest server whose answers are known: 13.
const OLDEST: i32 = 130_000;

pub(super) async fn open(
    database: &Database,
    server: &PgConnectOptions,
    purpose: Purpose,
) -> Result<PgPool> {
    let mut options = server.clone().disable_statement_logging();
    if purpose == Purpose::Reading {
        options = options.options([("default_transaction_read_only", "on")]);
    }
    // The pool would try again for as long as its patience, and keep the reason to itself.
    let reach = look(&options);
    let known = tokio::time::timeout(PATIENCE, reach).await;
    let known = known.unwrap_or_else(|_| {
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(sqlx::Error::Io(late))
    });
    let found = known.map_err(|source| explained(database, source))?;
    let unfit = |problem| Error::Unfit {
        database: database.clone(),
        problem,
    };
    if found.version < OLDEST {
        return Err(unfit("is on a server older than PostgreSQL 13"));
    }
    if found.encoding != "UTF8" {
        return Err(unfit(
            "does not keep UTF-8; make one with: createdb --encoding UTF8 --template template0 NAME",
        ));
    }
    if purpose == Purpose::Reading && !found.ours {
        let database = database.clone();
        return Err(Error::Empty { database });
    }
    let pool = PgPoolOptions::new()
        .max_connections(if purpose == Purpose::Reading { 1 } else { 4 })
        .min_connections(0)
        .idle_timeout(Duration::from_secs(60))
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(options);
    if purpose != Purpose::Reading {
        sqlx::migrate!("src/db/migrations/postgres")
            .run(&pool)
            .await
            .map_err(|source| Error::Migrate {
                database: database.clone(),
                source,
            })?;
    }
    Ok(pool)
}

/// What is there.
struct Found {
    version: i32,
    encoding: String,
    /// Whether our tables are.
    ours: bool,
}

async fn look(options: &PgConnectOptions) -> std::result::Result<Found, sqlx::Error> {
    let mut connection = options.connect().await?;
    let (version, encoding, ours) = sqlx::query_as(
        "select current_setting('server_version_num')::int, current_setting('server_encoding'),
             to_regclass('counters') is not null",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(Found {
        version,
        encoding,
        ours,
    })
}

/// Why there is no connection, in the terms of whoever wrote the URL.
fn explained(database: &Database, source: sqlx::Error) -> Error {
    let code = source
        .as_database_error()
        .and_then(|e| e.code())
        .unwrap_or_default()
        .into_owned();
    let advice = match code.as_str() {
        "28P01" => "check the password in DECNET_DB_URL",
        "28000" => "check the user in DECNET_DB_URL and the server's pg_hba.conf",
        "3D000" => "make the database first: createdb --encoding UTF8 --owner USER NAME",
        "42501" => "the user may not use it; make it the owner of the database",
        "53300" => {
            "it has no connection left; raise its max_connections (each worker uses up to 4)"
        }
        // Starting, stopping, or not a server at all.
        "" | "57P01" | "57P02" | "57P03" => {
            let database = database.clone();
            return Error::Unreachable { database, source };
        }
        _ => "see its reason",
    };
    Error::Refused {
        database: database.clone(),
        advice,
        source,
    }
}
