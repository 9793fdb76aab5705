//! What canary tokens caught. The listener's spool is read into these rows together with how
//! far it was read, so that every use is one row, or counts up one, exactly once.

use std::collections::HashMap;
use std::time::Duration;

use crate::db::canary::TokenRow;
use crate::db::checkpoint::{self, Checkpoint};
use crate::db::sql::{self, Connection, Json};
use crate::db::{Db, Error, Page, Result, attempt};
use crate::model::Stamp;
use crate::model::canary::Hit;

/// New rows per token and minute; beyond it uses count up on the latest row, so that
/// whoever has a token cannot fill the disk by varying what he asks.
const ROWS_PER_MINUTE: i64 = 120;
const MINUTE: i64 = 60_000_000;

/// A request's head: names and values.
type Fields = Vec<(String, String)>;

/// A use of a token.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct TriggerRow {
    /// Paging key.
    pub n: i64,
    /// ULID.
    pub id: String,
    /// The token's id.
    pub token: String,
    /// When first.
    pub first_at: Stamp,
    /// When last.
    pub last_at: Stamp,
    /// How often.
    pub count: i64,
    /// Who; the key of the attacker's row.
    pub address: String,
    /// From which port, the first time.
    pub port: Option<i64>,
    /// `http`, `https`, `dns`.
    pub via: String,
    /// The HTTP method, or the type of the question.
    pub method: String,
    /// The request's target, or the name asked for.
    pub path: String,
    /// What it calls itself; may be empty.
    pub user_agent: String,
    /// The request's head.
    pub headers: Json<Vec<(String, String)>>,
    /// The begin of its body.
    pub body: String,
    /// Who asked for somebody else.
    pub resolver: Option<String>,
    /// What a browser's page found out about it, as JSON.
    pub fingerprint: Option<String>,
}

/// What became of some hits.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Those that are rows of their own, with the token as it was before.
    pub fresh: Vec<(Hit, TokenRow)>,
    /// Those that counted up on another.
    pub repeated: u64,
    /// Those of no token.
    pub strays: u64,
}

/// How far the spool is read with a batch.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a> {
    /// The spool's name among the checkpoints.
    pub source: &'a str,
    /// Where the batch ends.
    pub at: &'a Checkpoint,
}

impl Db {
    /// Stores uses of tokens and how far the spool was read, in one transaction. `tell` is
    /// called with the rows that are new before they are final, and may be called again with
    /// the same ones after a crash; when it fails nothing is stored.
    ///
    /// # Errors
    /// When the database cannot be written, or `tell` fails.
    pub async fn canary_record(
        &self,
        hits: Vec<Hit>,
        until: Until<'_>,
        dedup: Duration,
        now: Stamp,
        tell: impl FnOnce(&[(Hit, TokenRow)]) -> std::io::Result<()>,
    ) -> Result<Recorded> {
        let what = "storing uses of canary tokens";
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        let mut tokens: HashMap<String, Option<TokenRow>> = HashMap::new();
        let mut done = Recorded::default();
        for hit in hits {
            let token = match tokens.get(&hit.slug) {
                Some(known) => known.clone(),
                None => {
                    let found: Option<TokenRow> =
                        sql::query_as("select * from canary_tokens where slug = $1")
                            .bind(&hit.slug)
                            .fetch_optional(&mut *tx)
                            .await
                            .map_err(attempt(what))?;
                    tokens.insert(hit.slug.clone(), found.clone());
                    found
                }
            };
            let Some(token) = token else {
                done.strays += 1;
                continue;
            };
            count(&mut tx, &token.id, &hit).await?;
            if let Some(n) = same(&mut tx, &token.id, &hit, dedup).await? {
                count_up(&mut tx, n, &hit).await?;
                done.repeated += 1;
            } else {
                insert(&mut tx, &token.id, &hit).await?;
                done.fresh.push((hit, token));
            }
        }
        checkpoint::save(&mut tx, until.source, until.at, now).await?;
        tell(&done.fresh).map_err(|source| Error::Prepare {
            path: "the event spool".into(),
            source,
        })?;
        tx.commit().await.map_err(attempt(what))?;
        Ok(done)
    }

    /// Uses of a token, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_triggers(&self, token: &str, page: Page) -> Result<Vec<TriggerRow>> {
        sql::query_as(
            "select * from canary_triggers where token = $1 and n < $2 order by n desc limit $3",
        )
        .bind(token)
        .bind(page.before_id())
        .bind(page.rows())
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing uses of a canary token"))
    }
}

/// How many times one line of the spool stands for.
fn times(hit: &Hit) -> i64 {
    i64::from(hit.more).saturating_add(1)
}

async fn count(tx: &mut Connection, token: &str, hit: &Hit) -> Result<()> {
    sql::query(
        "update canary_tokens set trigger_count = trigger_count + $2,
             last_triggered_at = case when last_triggered_at > $3 then last_triggered_at
                 else $3 end
         where id = $1",
    )
    .bind(token)
    .bind(times(hit))
    .bind(hit.at)
    .execute(tx)
    .await
    .map_err(attempt("counting uses of a canary token"))?;
    Ok(())
}

/// The row on which this use counts up: the same a while ago, or any when there are too
/// many.
async fn same(tx: &mut Connection, token: &str, hit: &Hit, dedup: Duration) -> Result<Option<i64>> {
    let what = "looking for the same use of a canary token";
    let window = i64::try_from(dedup.as_micros()).unwrap_or(i64::MAX);
    let fingerprint = hit.fingerprint.as_ref().map(ToString::to_string);
    let alike: Vec<(i64, Json<Fields>)> = sql::query_as(
        "select n, headers from canary_triggers where token = $1 and address = $2 and via = $3
             and path = $4 and user_agent = $5 and body = $6 and last_at >= $7
             and coalesce(fingerprint, '') = coalesce($8, '')
         order by n desc limit 8",
    )
    .bind(token)
    .bind(hit.address.to_string())
    .bind(hit.via.as_str())
    .bind(&hit.path)
    .bind(&hit.user_agent)
    .bind(&hit.body)
    .bind(hit.at.0.saturating_sub(window))
    .bind(fingerprint)
    .fetch_all(&mut *tx)
    .await
    .map_err(attempt(what))?;
    // A password is worth a row (clients ask without one first), and so is another client
    // behind the same resolver.
    let shown = telling(&hit.headers);
    let same = alike
        .iter()
        .find(|(_, Json(headers))| telling(headers) == shown);
    let found = same.map(|(n, _)| *n);
    if found.is_some() {
        return Ok(found);
    }
    sql::query_scalar(
        "select max(n) from canary_triggers where token = $1 and first_at > $2
         having count(*) >= $3",
    )
    .bind(token)
    .bind(hit.at.0.saturating_sub(MINUTE))
    .bind(ROWS_PER_MINUTE)
    .fetch_optional(&mut *tx)
    .await
    .map_err(attempt(what))
}

/// What somebody logged in with, and for whom a resolver asked.
fn telling(headers: &[(String, String)]) -> [Option<&str>; 2] {
    ["authorization", "client-subnet"].map(|wanted| {
        let is_it = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
        headers.iter().find(is_it).map(|(_, value)| value.as_str())
    })
}

async fn count_up(tx: &mut Connection, n: i64, hit: &Hit) -> Result<()> {
    sql::query(
        "update canary_triggers set count = count + $2,
             last_at = case when last_at > $3 then last_at else $3 end
         where n = $1",
    )
    .bind(n)
    .bind(times(hit))
    .bind(hit.at)
    .execute(tx)
    .await
    .map_err(attempt("counting up a use of a canary token"))?;
    Ok(())
}

async fn insert(tx: &mut Connection, token: &str, hit: &Hit) -> Result<()> {
    sql::query(
        "insert into canary_triggers (id, token, first_at, last_at, count, address, port, via,
             method, path, user_agent, headers, body, resolver, fingerprint)
         values ($1, $2, $3, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         on conflict (id) do nothing",
    )
    .bind(&hit.id)
    .bind(token)
    .bind(hit.at)
    .bind(times(hit))
    .bind(hit.address.to_string())
    .bind(hit.port.map(i64::from))
    .bind(hit.via.as_str())
    .bind(&hit.method)
    .bind(&hit.path)
    .bind(&hit.user_agent)
    .bind(Json(&hit.headers))
    .bind(&hit.body)
    .bind(&hit.resolver)
    .bind(hit.fingerprint.as_ref().map(ToString::to_string))
    .execute(tx)
    .await
    .map_err(attempt("storing a use of a canary token"))?;
    Ok(())
}
