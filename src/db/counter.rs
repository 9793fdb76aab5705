//! Named sums that would be slow to count, changed in the transaction of what they count.

use crate::db::sql::{self, Connection};
use crate::db::{Db, Result, attempt};

/// Events stored.
pub(super) const LOGS: &str = "logs";
/// Sessions of attackers stored.
pub(super) const SESSIONS: &str = "sessions";
/// Newest event that was there before the tables of findings were.
pub(super) const BACKLOG: &str = "backlog";
/// How far those were gone through.
pub(super) const GATHERED: &str = "gathered";
/// Newest event in the index of words.
pub(super) const WORDS: &str = "words";

impl Db {
    /// The value of a counter; 0 when there is none.
    pub(super) async fn counter(&self, name: &'static str) -> Result<i64> {
        let value = sql::query_scalar("select value from counters where name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await;
        Ok(value.map_err(attempt("reading a counter"))?.unwrap_or(0))
    }
}

pub(super) async fn get(tx: &mut Connection, name: &'static str) -> Result<i64> {
    let value = sql::query_scalar("select value from counters where name = $1")
        .bind(name)
        .fetch_optional(tx)
        .await;
    Ok(value.map_err(attempt("reading a counter"))?.unwrap_or(0))
}

pub(super) async fn set(tx: &mut Connection, name: &'static str, value: i64) -> Result<()> {
    let done = sql::query("update counters set value = $2 where name = $1")
        .bind(name)
        .bind(value)
        .execute(tx)
        .await;
    done.map_err(attempt("writing a counter"))?;
    Ok(())
}

pub(super) async fn add(tx: &mut Connection, name: &'static str, by: i64) -> Result<()> {
    let done = sql::query("update counters set value = value + $2 where name = $1")
        .bind(name)
        .bind(by)
        .execute(tx)
        .await;
    done.map_err(attempt("writing a counter"))?;
    Ok(())
}
