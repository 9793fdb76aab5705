//! Events per minute, decky and service: histograms and rates without counting events.
//! Written by [`crate::db::tally`].

use crate::db::log::LogFilter;
use crate::db::sql::{self, QueryBuilder};
use crate::db::{Db, Result, attempt};
use crate::model::Stamp;

const MINUTE: i64 = 60_000_000;
/// Most events a histogram with conditions beyond decky and service counts one by one.
const COUNTED: i64 = 200_000;

/// Events in one part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Bucket {
    /// Its beginning.
    pub start: Stamp,
    /// Events in it.
    pub count: i64,
}

impl Db {
    /// Events per `width` minutes from `since` to `until`, oldest first, empty parts left
    /// out. Of a filter beyond decky, service and time the newest 200,000 matches count.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_histogram(
        &self,
        filter: &LogFilter,
        since: Stamp,
        until: Stamp,
        width: i64,
    ) -> Result<Vec<Bucket>> {
        let width = width.max(1);
        let plain = filter.kind.is_none()
            && filter.kinds.is_empty()
            && filter.src_ip.is_none()
            && filter.session.is_none()
            && filter.fields.is_empty()
            && filter.words.is_empty();
        let mut sql = if plain {
            rolled(filter, since, until, width)
        } else {
            self.counted(filter, since, until, width)
        };
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("counting events over time"))
    }

    fn counted(&self, filter: &LogFilter, since: Stamp, until: Stamp, width: i64) -> QueryBuilder {
        let narrowed = LogFilter {
            since: Some(since),
            until: Some(until),
            ..filter.clone()
        };
        let step = width * MINUTE;
        let mut sql = QueryBuilder::new("select ts / ");
        sql.push_bind(step).push(" * ").push_bind(step);
        sql.push(" as start, count(*) as count from (");
        crate::db::log::matching_times(&mut sql, self.pool.engine(), &narrowed, COUNTED);
        sql.push(") as times group by 1 order by 1");
        sql
    }

    /// What attackers did since `since`, by service, most first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_by_service(&self, since: Stamp) -> Result<Vec<(String, i64)>> {
        sql::query_as(
            "select service, cast(sum(hits) as bigint) from log_minutes where minute >= $1 and hits > 0
             group by service order by 2 desc, 1 limit 50",
        )
        .bind(since.0.div_euclid(MINUTE))
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("counting events by service"))
    }

    /// What attackers did since `since`, by decky, most first, at most `limit` deckies.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_by_decky(&self, since: Stamp, limit: u32) -> Result<Vec<(String, i64)>> {
        sql::query_as(
            "select decky, cast(sum(hits) as bigint) from log_minutes where minute >= $1 and hits > 0
             group by decky order by 2 desc, 1 limit $2",
        )
        .bind(since.0.div_euclid(MINUTE))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("counting events by decky"))
    }

    /// What attackers did since the beginning of the minute of `since`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_since(&self, since: Stamp) -> Result<i64> {
        let sum: Option<i64> = sql::query_scalar(
            "select cast(sum(hits) as bigint) from log_minutes where minute >= $1",
        )
        .bind(since.0.div_euclid(MINUTE))
        .fetch_one(&self.pool)
        .await
        .map_err(attempt("counting events"))?;
        Ok(sum.unwrap_or(0))
    }
}

fn rolled(filter: &LogFilter, since: Stamp, until: Stamp, width: i64) -> QueryBuilder {
    let mut sql = QueryBuilder::new("select minute / ");
    sql.push_bind(width).push(" * ").push_bind(width * MINUTE);
    sql.push(" as start, cast(sum(count) as bigint) as count from log_minutes where minute >= ");
    sql.push_bind(since.0.div_euclid(MINUTE));
    sql.push(" and minute <= ")
        .push_bind(until.0.div_euclid(MINUTE));
    for (column, value) in [("decky", &filter.decky), ("service", &filter.service)] {
        if let Some(value) = value {
            sql.push(format!(" and {column} = "))
                .push_bind(value.clone());
        }
    }
    sql.push(" group by 1 order by 1");
    sql
}
