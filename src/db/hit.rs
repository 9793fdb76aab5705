//! How often deckies were touched, from the events per minute: the cost follows the time
//! looked at, never the number of events.

use std::collections::HashMap;

use crate::db::sql;
use crate::db::{Db, Result, attempt};
use crate::model::Stamp;

const MINUTE: i64 = 60_000_000;

/// What one decky got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Events.
    pub count: i64,
    /// The minute of the last one.
    pub last: Stamp,
}

impl Db {
    /// What every decky got since the beginning of the minute of `since`, by name; those
    /// that got nothing are left out.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn hits(&self, since: Stamp) -> Result<HashMap<String, Hits>> {
        let rows: Vec<(String, i64, i64)> = sql::query_as(
            "select decky, cast(sum(count) as bigint), max(minute) from log_minutes where minute >= $1
             group by decky",
        )
        .bind(since.0.div_euclid(MINUTE))
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("counting what deckies got"))?;
        let hits = rows.into_iter().map(|(decky, count, minute)| {
            let last = Stamp(minute.saturating_mul(MINUTE));
            (decky, Hits { count, last })
        });
        Ok(hits.collect())
    }
}
