//! Which ids the events of an hour have. Ids and times run nearly alike, so a condition on
//! time ends a search by id where the time ends; only a table of the hours finds that place
//! without going through events.

use std::collections::BTreeSet;

use super::LogFilter;
use crate::db::sql::{self, Connection, QueryBuilder};
use crate::db::{Result, attempt};
use crate::model::Event;

pub(super) const HOUR: i64 = 3_600_000_000;

/// Notes, in the caller's transaction, that the events have ids from `first` to `last`.
pub(super) async fn store(
    tx: &mut Connection,
    events: &[Event],
    (first, last): (i64, i64),
) -> Result<()> {
    let hours = events.iter().map(|event| event.ts.0.div_euclid(HOUR));
    for hour in hours.collect::<BTreeSet<i64>>() {
        let done = sql::query(
            "insert into log_hours (hour, first_id, last_id) values ($1, $2, $3)
             on conflict (hour) do update set last_id = excluded.last_id",
        )
        .bind(hour)
        .bind(first)
        .bind(last)
        .execute(&mut *tx)
        .await;
        done.map_err(attempt("storing when events were"))?;
    }
    Ok(())
}

/// Adds that ids lie where the filter's time does.
pub(super) fn bound(sql: &mut QueryBuilder, filter: &LogFilter) {
    if let Some(since) = filter.since {
        sql.push(" and id >= coalesce((select min(first_id) from log_hours where hour >= ")
            .push_bind(since.0.div_euclid(HOUR))
            .push("), 9223372036854775807)");
    }
    if let Some(until) = filter.until {
        sql.push(" and id <= coalesce((select max(last_id) from log_hours where hour <= ")
            .push_bind(until.0.div_euclid(HOUR))
            .push("), 0)");
    }
}
