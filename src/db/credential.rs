//! Captured credentials: one row per distinct (attacker, decky, service, kind, secret,
//! principal), counted. Written by the ingester in the transaction of the events that
//! carry them; see [`crate::db::log`].

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::db::log::bounded;
use crate::db::secret::Secrets;
use crate::db::sql::{self, Connection, Row};
use crate::db::{Db, Page, Result, attempt, values_sql};
use crate::model::{Event, Stamp};

/// Rows per upsert statement.
const ROWS: usize = 32;
/// Longest principal and kind of secret, in bytes; the event has them whole. They are part
/// of a key, whose size a page of an index limits.
const PRINCIPAL_MAX: usize = 1024;
const KIND_MAX: usize = 128;

/// A stored credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRow {
    /// Ascends with the order of first capture.
    pub id: i64,
    /// Who tried it; empty for an event without a peer.
    pub attacker_ip: String,
    /// On which decky.
    pub decky: String,
    /// On which service.
    pub service: String,
    /// What the secret is (`plaintext`, `http_digest_md5`, …).
    pub secret_kind: String,
    /// The claimed identity.
    pub principal: Option<String>,
    /// The secret with unprintable bytes shown as `?`.
    pub secret_printable: String,
    /// The exact bytes.
    pub secret_b64: String,
    /// Lower-case hex SHA-256 of the exact bytes.
    pub secret_sha256: String,
    /// A line for hashcat or john, for a challenge-response.
    pub crack: Option<String>,
    /// First time seen.
    pub first_seen: Stamp,
    /// Last time seen.
    pub last_seen: Stamp,
    /// How often.
    pub count: i64,
}

/// Which credentials to list; all given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct CredentialFilter {
    /// Service slug.
    pub service: Option<String>,
    /// Attacker's address.
    pub attacker_ip: Option<String>,
    /// Claimed identity.
    pub principal: Option<String>,
    /// Hash of the secret.
    pub secret_sha256: Option<String>,
    /// Decky name.
    pub decky: Option<String>,
}

/// A credential that was never seen before, as far as a message may tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCredential {
    /// Lower-case hex SHA-256 of the exact bytes.
    pub secret_sha256: String,
    /// What the secret is.
    pub secret_kind: String,
    /// Who tried it.
    pub attacker_ip: String,
    /// On which decky.
    pub decky: String,
    /// On which service.
    pub service: String,
}

/// The list statement; `$6` and `$7` are the page. Split by the column an index serves,
/// because a nullable condition (`$1 is null or …`) cannot use one.
macro_rules! list_sql {
    ($driver:literal) => {
        concat!(
            "select id, attacker_ip, decky, service, secret_kind, principal, secret_printable,
                 secret_b64, secret_sha256, crack, first_seen, last_seen, count
             from credentials where ",
            $driver,
            " and ($1 is null or service = $1) and ($2 is null or attacker_ip = $2)
              and ($3 is null or principal = $3) and ($4 is null or secret_sha256 = $4)
              and ($5 is null or decky = $5) and id < $6 order by id desc limit $7"
        )
    };
}

impl Db {
    /// Credentials, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_list(
        &self,
        filter: &CredentialFilter,
        page: Page,
    ) -> Result<Vec<CredentialRow>> {
        let sql = if filter.secret_sha256.is_some() {
            list_sql!("secret_sha256 = $4")
        } else if filter.attacker_ip.is_some() {
            list_sql!("attacker_ip = $2")
        } else {
            list_sql!("1 = 1")
        };
        let rows = sql::query(sql)
            .bind(&filter.service)
            .bind(&filter.attacker_ip)
            .bind(&filter.principal)
            .bind(&filter.secret_sha256)
            .bind(&filter.decky)
            .bind(page.before_id())
            .bind(page.rows())
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing credentials"))?;
        rows.iter()
            .map(from_row)
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading a credential row"))
    }
}

impl Db {
    /// How many distinct credentials there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_count(&self) -> Result<i64> {
        let sql = match self.pool.engine() {
            // Rows are never deleted one by one, so the last id is the number of rows.
            sql::Engine::Sqlite => "select coalesce(max(id), 0) from credentials",
            // There a row that is counted up uses up an id too.
            sql::Engine::Postgres => "select count(*) from credentials",
        };
        sql::query_scalar(sql)
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("counting credentials"))
    }
}

fn from_row(row: &Row) -> std::result::Result<CredentialRow, sqlx::Error> {
    let principal: String = row.try_get("principal")?;
    Ok(CredentialRow {
        id: row.try_get("id")?,
        attacker_ip: row.try_get("attacker_ip")?,
        decky: row.try_get("decky")?,
        service: row.try_get("service")?,
        secret_kind: row.try_get("secret_kind")?,
        principal: Some(principal).filter(|p| !p.is_empty()),
        secret_printable: row.try_get("secret_printable")?,
        secret_b64: row.try_get("secret_b64")?,
        secret_sha256: row.try_get("secret_sha256")?,
        crack: row.try_get("crack")?,
        first_seen: Stamp(row.try_get("first_seen")?),
        last_seen: Stamp(row.try_get("last_seen")?),
        count: row.try_get("count")?,
    })
}

/// What makes two credentials the same, in the order of the table's unique key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    secret_sha256: String,
    attacker_ip: String,
    decky: String,
    service: String,
    secret_kind: String,
    principal: String,
}

/// The credentials of one batch, each once.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    rows: HashMap<Key, Tally>,
}

#[derive(Debug)]
struct Tally {
    printable: String,
    b64: String,
    crack: Option<String>,
    first_seen: Stamp,
    last_seen: Stamp,
    count: i64,
}

impl Gathered {
    /// Adds the event's credential, if it carries one.
    pub(super) fn add(&mut self, event: &Event) {
        let Some(credential) = event.credential() else {
            return;
        };
        let key = Key {
            secret_sha256: Sha256::digest(&credential.secret)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect(),
            attacker_ip: event
                .flow
                .as_ref()
                .map_or_else(String::new, |f| f.src.ip().to_string()),
            decky: event.decky.clone(),
            service: event.service.clone(),
            secret_kind: bounded(credential.kind.to_string(), KIND_MAX),
            principal: bounded(
                credential.principal.clone().unwrap_or_default(),
                PRINCIPAL_MAX,
            ),
        };
        let tally = self.rows.entry(key).or_insert_with(|| Tally {
            printable: credential.printable(),
            b64: STANDARD.encode(&credential.secret),
            crack: None,
            first_seen: event.ts,
            last_seen: event.ts,
            count: 0,
        });
        tally.crack = credential.crack.or(tally.crack.take());
        tally.first_seen = tally.first_seen.min(event.ts);
        tally.last_seen = tally.last_seen.max(event.ts);
        tally.count += 1;
    }

    /// Writes them in the caller's transaction; returns those never seen before.
    pub(super) async fn upsert(self, tx: &mut Connection) -> Result<Vec<NewCredential>> {
        let rows: Vec<(Key, Tally)> = self.rows.into_iter().collect();
        let tallies: HashMap<&Key, &Tally> = rows.iter().map(|(k, t)| (k, t)).collect();
        let mut fresh = Vec::new();
        let mut secrets = Secrets::default();
        for chunk in rows.chunks(ROWS) {
            for (key, id, count) in upsert_chunk(tx, chunk).await? {
                let Some((key, tally)) = tallies.get_key_value(&key) else {
                    continue;
                };
                let secret = (key.secret_sha256.as_str(), key.secret_kind.as_str());
                let seen = (tally.first_seen, tally.last_seen);
                secrets.add(secret, &tally.printable, id, tally.count, seen);
                // A row that counts no more than this batch brought did not exist before.
                if tally.count == count {
                    let place = [&key.attacker_ip, &key.decky, &key.service, &key.principal];
                    secrets.place(secret, place.map(String::as_str));
                    fresh.push(NewCredential {
                        secret_sha256: key.secret_sha256.clone(),
                        secret_kind: key.secret_kind.clone(),
                        attacker_ip: key.attacker_ip.clone(),
                        decky: key.decky.clone(),
                        service: key.service.clone(),
                    });
                }
            }
        }
        secrets.store(tx).await?;
        Ok(fresh)
    }
}

/// Returns each with its id and how often it was seen by now.
async fn upsert_chunk(tx: &mut Connection, chunk: &[(Key, Tally)]) -> Result<Vec<(Key, i64, i64)>> {
    let sql = values_sql(
        "insert into credentials (secret_sha256, attacker_ip, decky, service, secret_kind,
             principal, secret_printable, secret_b64, crack, first_seen, last_seen, count)",
        12,
        chunk.len(),
        "on conflict (secret_sha256, attacker_ip, decky, service, secret_kind, principal)
         do update set count = credentials.count + excluded.count,
             crack = coalesce(excluded.crack, credentials.crack),
             first_seen = case when excluded.first_seen < credentials.first_seen
                 then excluded.first_seen else credentials.first_seen end,
             last_seen = case when excluded.last_seen > credentials.last_seen
                 then excluded.last_seen else credentials.last_seen end
         returning secret_sha256, attacker_ip, decky, service, secret_kind, principal, id,
             count",
    );
    let mut query = sql::query(sql);
    for (key, tally) in chunk {
        query = query
            .bind(&key.secret_sha256)
            .bind(&key.attacker_ip)
            .bind(&key.decky)
            .bind(&key.service)
            .bind(&key.secret_kind)
            .bind(&key.principal)
            .bind(&tally.printable)
            .bind(&tally.b64)
            .bind(&tally.crack)
            .bind(tally.first_seen.0)
            .bind(tally.last_seen.0)
            .bind(tally.count);
    }
    let rows = query
        .fetch_all(tx)
        .await
        .map_err(attempt("storing credentials"))?;
    rows.iter()
        .map(key_of)
        .collect::<std::result::Result<_, _>>()
        .map_err(attempt("storing credentials"))
}

fn key_of(row: &Row) -> std::result::Result<(Key, i64, i64), sqlx::Error> {
    let key = Key {
        secret_sha256: row.try_get(0)?,
        attacker_ip: row.try_get(1)?,
        decky: row.try_get(2)?,
        service: row.try_get(3)?,
        secret_kind: row.try_get(4)?,
        principal: row.try_get(5)?,
    };
    Ok((key, row.try_get(6)?, row.try_get(7)?))
}
