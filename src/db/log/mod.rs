//! Captured events. Ids ascend in commit order, so a reader that remembers the last id
//! it saw misses nothing; lists are newest first and paged by id.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::db::checkpoint::{self, Checkpoint};
use crate::db::counter;
use crate::db::credential::{Gathered, NewCredential};
use crate::db::sql::{self, Connection, Engine, QueryBuilder, Row};
use crate::db::tally::{NewAttacker, Tally};
use crate::db::{Db, Page, Result, attempt, values_sql};
use crate::model::{Event, Flow, Proto, Severity, Stamp};

/// Rows per insert statement.
const ROWS: usize = 64;

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Ascends in commit order.
    pub id: i64,
    /// The event.
    pub event: Event,
}

/// Which events to list; all given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    /// Decky name.
    pub decky: Option<String>,
    /// Service slug.
    pub service: Option<String>,
    /// Event kind.
    pub kind: Option<String>,
    /// Any of these kinds; none given is every kind.
    pub kinds: Vec<String>,
    /// Attacker's address.
    pub src_ip: Option<String>,
    /// Connection id.
    pub session: Option<String>,
    /// Not before this moment.
    pub since: Option<Stamp>,
    /// Before this moment.
    pub until: Option<Stamp>,
    /// Fields and their exact values.
    pub fields: Vec<(String, String)>,
    /// Found at the beginnings of words of the event, letter case of ASCII ignored. In
    /// events of the last seconds, which are not in the index of words yet, also inside.
    pub words: Vec<String>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Events stored.
    pub logs: usize,
    /// Events that were there already.
    pub known: usize,
    /// Credentials never seen before.
    pub credentials: Vec<NewCredential>,
    /// Attackers never seen before, the earliest first.
    pub attackers: Vec<NewAttacker>,
}

impl Db {
    /// Stores a batch and how far its reader came, in one transaction: all of it or
    /// nothing. An event whose `eid` is known is left alone and its credential not
    /// counted again.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn log_insert_batch(
        &self,
        events: &[Event],
        source: &str,
        at: &Checkpoint,
        now: Stamp,
    ) -> Result<Inserted> {
        let engine = self.pool.engine();
        let fitted = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => fit::fitted(events),
        };
        let events = fitted.as_deref().unwrap_or(events);
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt("beginning a batch"))?;
        let mut done = Inserted::default();
        let mut gathered = Gathered::default();
        let mut tally = Tally::default();
        let before = newest(&mut tx).await?;
        let mut chunks = events.chunks(ROWS);
        let mut ready = chunks.next().map(|chunk| (chunk, insertion(engine, chunk)));
        let mut fresh = Vec::new();
        while let Some((chunk, statement)) = ready.take() {
            // While the database is at one chunk, the next is made ready here.
            let ahead = async {
                for event in fresh.drain(..) {
                    gathered.add(event);
                    tally.add(event);
                }
                chunks.next().map(|chunk| (chunk, insertion(engine, chunk)))
            };
            let (stored, next) = tokio::join!(insert_chunk(&mut tx, chunk, statement), ahead);
            fresh = stored?;
            ready = next;
            done.logs += fresh.len();
            done.known += chunk.len() - fresh.len();
        }
        for event in fresh {
            gathered.add(event);
            tally.add(event);
        }
        done.credentials = gathered.upsert(&mut tx).await?;
        done.attackers = tally.store(&mut tx, &done.credentials).await?;
        if done.logs > 0 {
            let ids = (before + 1, newest(&mut tx).await?);
            hour::store(&mut tx, events, ids).await?;
        }
        counter::add(
            &mut tx,
            counter::LOGS,
            i64::try_from(done.logs).unwrap_or(0),
        )
        .await?;
        checkpoint::save(&mut tx, source, at, now).await?;
        tx.commit().await.map_err(attempt("storing a batch"))?;
        Ok(done)
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_list(&self, filter: &LogFilter, page: Page) -> Result<Vec<LogRow>> {
        if let Some(terms) = filter.indexed_words() {
            return self.log_list_words(&terms, filter, page).await;
        }
        self.log_part(filter, 0, page.before_id(), page.rows())
            .await
    }

    /// The newest `limit` events with ids between `above` and `below`.
    async fn log_part(
        &self,
        filter: &LogFilter,
        above: i64,
        below: i64,
        limit: i64,
    ) -> Result<Vec<LogRow>> {
        let mut sql = select(self.pool.engine(), From::Logs, filter);
        sql.push(" and id > ").push_bind(above);
        sql.push(" and id < ").push_bind(below);
        sql.push(" order by id desc limit ").push_bind(limit);
        self.log_read(sql).await
    }

    /// Events stored after the one called `id`, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_after(&self, id: i64, limit: u32, filter: &LogFilter) -> Result<Vec<LogRow>> {
        let page = Page {
            before: None,
            limit,
        };
        let mut sql = select(self.pool.engine(), From::Logs, filter);
        sql.push(" and id > ").push_bind(id);
        sql.push(" order by id limit ").push_bind(page.rows());
        self.log_read(sql).await
    }

    /// The event with that row id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_get(&self, id: i64) -> Result<Option<LogRow>> {
        let mut sql = select(self.pool.engine(), From::Logs, &LogFilter::default());
        sql.push(" and id = ").push_bind(id);
        Ok(self.log_read(sql).await?.pop())
    }

    async fn log_read(&self, mut sql: QueryBuilder) -> Result<Vec<LogRow>> {
        let rows = sql
            .build()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing events"))?;
        rows.iter()
            .map(from_row)
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading an event row"))
    }

    /// Id of the newest event; 0 when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_latest_id(&self) -> Result<i64> {
        sql::query_scalar("select coalesce(max(id), 0) from logs")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("reading the newest event id"))
    }

    /// How many events are stored.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log_count(&self) -> Result<i64> {
        self.counter(counter::LOGS).await
    }
}

/// Id of the newest event, seen from the caller's transaction.
async fn newest(tx: &mut Connection) -> Result<i64> {
    let newest = sql::query_scalar("select coalesce(max(id), 0) from logs");
    let newest = newest.fetch_one(tx).await;
    newest.map_err(attempt("reading the newest event id"))
}

/// The statement that inserts up to [`ROWS`] events.
fn insertion(engine: Engine, chunk: &[Event]) -> sql::Query<'_> {
    macro_rules! into_logs {
        ($insert:literal) => {
            concat!(
                $insert,
                " into logs (eid, ts, severity, decky, service, kind, src_ip, src_port, dst_ip,
                     dst_port, proto, session, fields, msg)"
            )
        };
    }
    let (head, tail) = match engine {
        // The same as below, as no column that must have a value can be without one; but
        // a statement that may fail half-way keeps a copy of every page it changes.
        Engine::Sqlite => (into_logs!("insert or ignore"), ""),
        Engine::Postgres => (into_logs!("insert"), "on conflict (eid) do nothing"),
    };
    let sql = values_sql(head, 14, chunk.len(), tail);
    let mut query = sql::query(sql);
    for event in chunk {
        let flow = event.flow.as_ref();
        query = query
            .bind(&event.eid)
            .bind(event.ts.0)
            .bind(i64::from(event.severity.number()))
            .bind(&event.decky)
            .bind(&event.service)
            .bind(&event.kind)
            .bind(flow.map(|f| f.src.ip().to_string()))
            .bind(flow.map(|f| i64::from(f.src.port())))
            .bind(flow.map(|f| f.dst.ip().to_string()))
            .bind(flow.map(|f| i64::from(f.dst.port())))
            .bind(flow.map(|f| f.proto.as_str()))
            .bind(flow.map(|f| f.session.as_str()))
            .bind(fields_json(event))
            .bind(&event.msg);
    }
    query
}

/// Runs that statement; returns the events that were not there before.
async fn insert_chunk<'a>(
    tx: &mut Connection,
    chunk: &'a [Event],
    statement: sql::Query<'_>,
) -> Result<Vec<&'a Event>> {
    let done = statement
        .execute(&mut *tx)
        .await
        .map_err(attempt("storing events"))?;
    let stored = usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
    if stored == chunk.len() {
        return Ok(chunk.iter().collect());
    }
    if stored == 0 {
        return Ok(Vec::new());
    }
    // The rows this statement added are the newest ones; nobody else writes meanwhile.
    let eids: Vec<String> = sql::query_scalar("select eid from logs order by id desc limit $1")
        .bind(i64::try_from(stored).unwrap_or(i64::MAX))
        .fetch_all(tx)
        .await
        .map_err(attempt("storing events"))?;
    let mut eids: HashSet<String> = eids.into_iter().collect();
    Ok(chunk.iter().filter(|e| eids.remove(&e.eid)).collect())
}

/// The event's own fields; of two equal keys the first, as in [`Event::field`].
fn fields_json(event: &Event) -> String {
    struct Fields<'a>(&'a Event);
    impl Serialize for Fields<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.distinct_fields())
        }
    }
    // An object of texts always serialises.
    serde_json::to_string(&Fields(event)).unwrap_or_else(|_| "{}".to_owned())
}

fn from_row(row: &Row) -> std::result::Result<LogRow, sqlx::Error> {
    let fields: String = row.try_get("fields")?;
    let fields: Map<String, Value> =
        serde_json::from_str(&fields).map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    let severity: i64 = row.try_get("severity")?;
    Ok(LogRow {
        id: row.try_get("id")?,
        event: Event {
            eid: row.try_get("eid")?,
            ts: Stamp(row.try_get("ts")?),
            severity: Severity::from_number(u8::try_from(severity).unwrap_or(6)),
            decky: row.try_get("decky")?,
            service: row.try_get("service")?,
            kind: row.try_get("kind")?,
            flow: flow(row)?,
            fields: fields
                .into_iter()
                .map(|(k, v)| match v {
                    Value::String(text) => (k, text),
                    other => (k, other.to_string()),
                })
                .collect(),
            msg: row.try_get("msg")?,
        },
    })
}

fn flow(row: &Row) -> std::result::Result<Option<Flow>, sqlx::Error> {
    let addr = |ip: &str, port: &str| -> std::result::Result<Option<SocketAddr>, sqlx::Error> {
        let ip: Option<String> = row.try_get(ip)?;
        let port: Option<i64> = row.try_get(port)?;
        Ok(ip
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .zip(port.and_then(|p| u16::try_from(p).ok()))
            .map(SocketAddr::from))
    };
    let proto: Option<String> = row.try_get("proto")?;
    let session: Option<String> = row.try_get("session")?;
    let (Some(src), Some(dst), Some(proto), Some(session)) = (
        addr("src_ip", "src_port")?,
        addr("dst_ip", "dst_port")?,
        proto.as_deref().and_then(Proto::parse),
        session,
    ) else {
        return Ok(None);
    };
    Ok(Some(Flow {
        src,
        dst,
        proto,
        session,
    }))
}

mod condition;
mod fit;
mod hour;
mod word;

pub(crate) use condition::matching_times;
use condition::{From, select};
pub(super) use fit::bounded;

#[cfg(test)]
mod tests;
