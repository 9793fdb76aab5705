//! Secrets across credentials: how many attackers tried each of them, and where. Kept in
//! the transaction of the credentials, because counting different places anew each time
//! somebody looks would go through all of them.

use std::collections::{BTreeSet, HashMap};

use crate::db::sql::{self, Connection};
use crate::db::{Db, Page, Result, attempt, values_sql};
use crate::model::Stamp;

/// Rows per statement.
const ROWS: usize = 64;

/// A secret that was tried in more than one place.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ReuseRow {
    /// Key of the secret.
    pub id: i64,
    /// Lower-case hex SHA-256 of the exact bytes.
    pub secret_sha256: String,
    /// What it is.
    pub secret_kind: String,
    /// With unprintable bytes shown as `?`.
    pub secret_printable: String,
    /// Different attackers.
    pub attackers: i64,
    /// Different deckies.
    pub deckies: i64,
    /// Different services.
    pub services: i64,
    /// How often in all.
    pub attempts: i64,
    /// First time.
    pub first_seen: Stamp,
    /// Last time.
    pub last_seen: Stamp,
    /// Newest credential; the paging key.
    pub n: i64,
}

impl Db {
    /// Secrets that were tried by more than one attacker, on more than one decky or on more
    /// than one service; those last seen anew first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn secret_reuse(&self, page: Page) -> Result<Vec<ReuseRow>> {
        sql::query_as(
            "select id, secret_sha256, secret_kind, secret_printable, attackers, deckies, services,
                 attempts, first_seen, last_seen, n
             from secrets where (attackers > 1 or deckies > 1 or services > 1) and n < $1
             order by n desc limit $2",
        )
        .bind(page.before_id())
        .bind(page.rows())
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("looking for secrets tried again"))
    }

    /// Names that a secret was tried with, at most twenty.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn secret_principals(&self, id: i64) -> Result<Vec<String>> {
        sql::query_scalar(
            "select substr(place, 2) from secret_places
             where secret = $1 and place >= 'p' and place < 'q' order by place limit 20",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("reading whom a secret was tried for"))
    }
}

/// A secret's hash and kind.
pub(super) type Secret<'a> = (&'a str, &'a str);

/// What a batch says of a secret.
#[derive(Debug)]
struct Sum<'a> {
    printable: &'a str,
    attempts: i64,
    first: Stamp,
    last: Stamp,
    newest: i64,
    /// Attackers, deckies and services, different ones.
    more: [i64; 3],
    places: BTreeSet<String>,
}

/// The secrets of one batch, each once.
#[derive(Debug, Default)]
pub(super) struct Secrets<'a>(HashMap<Secret<'a>, Sum<'a>>);

impl<'a> Secrets<'a> {
    /// Adds what a batch did to the credential numbered `id`.
    pub(super) fn add(
        &mut self,
        secret: Secret<'a>,
        printable: &'a str,
        id: i64,
        attempts: i64,
        (first, last): (Stamp, Stamp),
    ) {
        let sum = self.0.entry(secret).or_insert(Sum {
            printable,
            attempts: 0,
            first,
            last,
            newest: id,
            more: [0; 3],
            places: BTreeSet::new(),
        });
        sum.attempts += attempts;
        sum.first = sum.first.min(first);
        sum.last = sum.last.max(last);
        sum.newest = sum.newest.max(id);
    }

    /// Adds where it was tried, for a credential never seen before.
    pub(super) fn place(&mut self, secret: Secret<'a>, [ip, decky, service, name]: [&str; 4]) {
        if let Some(sum) = self.0.get_mut(&secret) {
            let places = [('a', ip), ('d', decky), ('s', service)];
            let name = Some(('p', name)).filter(|(_, name)| !name.is_empty());
            let places = places.into_iter().chain(name);
            sum.places
                .extend(places.map(|(what, place)| format!("{what}{place}")));
        }
    }

    /// Writes them in the caller's transaction.
    pub(super) async fn store(mut self, tx: &mut Connection) -> Result<()> {
        let ids = self.upsert(tx).await?;
        let places = self.0.iter().flat_map(|(secret, sum)| {
            let id = ids.get(&(secret.0.to_owned(), secret.1.to_owned()));
            sum.places
                .iter()
                .filter_map(move |place| Some((*id?, place)))
        });
        let mut places: Vec<(i64, &String)> = places.collect();
        // In the order of their key.
        places.sort_unstable();
        let mut more: HashMap<i64, [i64; 3]> = HashMap::new();
        for (id, place) in insert_places(tx, &places).await? {
            let at = match place.chars().next() {
                Some('a') => 0,
                Some('d') => 1,
                Some('s') => 2,
                _ => continue,
            };
            more.entry(id).or_default()[at] += 1;
        }
        self.0.retain(|secret, sum| {
            let id = ids.get(&(secret.0.to_owned(), secret.1.to_owned()));
            let more = id.and_then(|id| more.get(id));
            (sum.attempts, sum.more) = (0, more.copied().unwrap_or_default());
            more.is_some()
        });
        self.upsert(tx).await?;
        Ok(())
    }

    async fn upsert(&self, tx: &mut Connection) -> Result<HashMap<(String, String), i64>> {
        let mut ids = HashMap::new();
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_unstable_by_key(|(secret, _)| **secret);
        for chunk in rows.chunks(ROWS) {
            let sql = values_sql(
                "insert into secrets (secret_sha256, secret_kind, secret_printable, attackers,
                     deckies, services, attempts, first_seen, last_seen, n)",
                10,
                chunk.len(),
                "on conflict (secret_sha256, secret_kind) do update set
                     attackers = secrets.attackers + excluded.attackers,
                     deckies = secrets.deckies + excluded.deckies,
                     services = secrets.services + excluded.services,
                     attempts = secrets.attempts + excluded.attempts,
                     first_seen = case when excluded.first_seen < secrets.first_seen
                         then excluded.first_seen else secrets.first_seen end,
                     last_seen = case when excluded.last_seen > secrets.last_seen
                         then excluded.last_seen else secrets.last_seen end,
                     n = case when excluded.n > secrets.n then excluded.n else secrets.n end
                 returning id, secret_sha256, secret_kind",
            );
            let mut query = sql::query_as::<(i64, String, String)>(sql);
            for ((hash, kind), sum) in chunk {
                let [attackers, deckies, services] = sum.more;
                query = query
                    .bind(*hash)
                    .bind(*kind)
                    .bind(sum.printable)
                    .bind(attackers)
                    .bind(deckies)
                    .bind(services)
                    .bind(sum.attempts)
                    .bind(sum.first)
                    .bind(sum.last)
                    .bind(sum.newest);
            }
            let written = query.fetch_all(&mut *tx).await;
            let written = written.map_err(attempt("storing secrets"))?;
            ids.extend(
                written
                    .into_iter()
                    .map(|(id, hash, kind)| ((hash, kind), id)),
            );
        }
        Ok(ids)
    }
}

/// Returns those that were not there before.
async fn insert_places(
    tx: &mut Connection,
    places: &[(i64, &String)],
) -> Result<Vec<(i64, String)>> {
    let mut fresh = Vec::new();
    for chunk in places.chunks(ROWS) {
        let sql = values_sql(
            "insert into secret_places (secret, place)",
            2,
            chunk.len(),
            "on conflict do nothing returning secret, place",
        );
        let mut query = sql::query_as::<(i64, String)>(sql);
        for (id, place) in chunk {
            query = query.bind(*id).bind(place.as_str());
        }
        let written = query.fetch_all(&mut *tx).await;
        fresh.extend(written.map_err(attempt("storing where secrets were tried"))?);
    }
    Ok(fresh)
}
