//! What a batch of events adds up to: attackers, what they did where, sessions, files,
//! events per minute. Gathered in memory, written with few statements in the transaction
//! of the batch, so that an event counts exactly once.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::db::credential::NewCredential;
use crate::db::log::bounded;
use crate::db::sql::{self, Connection};
use crate::db::{Result, attempt, counter, values_sql};
use crate::geo;
use crate::model::{Event, Stamp};

/// Rows per statement.
const ROWS: usize = 64;
/// Kinds of events in which somebody told a decky to do something.
pub const COMMAND_KINDS: [&str; 3] = ["command", "request", "script"];
/// The kind of event that ends a session.
const END: &str = "disconnect";
const MINUTE: i64 = 60_000_000;
/// Longest name of a kept file, which is its hash; a key takes no more.
const HASH_MAX: usize = 128;

/// Counts of some group of events.
#[derive(Clone, Copy, Debug)]
struct Sum {
    events: i64,
    commands: i64,
    logins: i64,
    files: i64,
    first: Stamp,
    last: Stamp,
}

impl Sum {
    fn of(event: &Event) -> Self {
        Self {
            events: 1,
            commands: i64::from(COMMAND_KINDS.contains(&event.kind.as_str())),
            logins: i64::from(event.field("secret_b64").is_some()),
            files: i64::from(event.stored_file().is_some()),
            first: event.ts,
            last: event.ts,
        }
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.commands += other.commands;
        self.logins += other.logins;
        self.files += other.files;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

#[derive(Clone, Debug)]
struct Session<'a> {
    ip: &'a str,
    decky: &'a str,
    service: &'a str,
    sum: Sum,
    ended: Option<Stamp>,
}

/// Somebody who was never seen before, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAttacker {
    /// The address.
    pub ip: String,
    /// Of the first event.
    pub decky: String,
    /// Of the first event.
    pub service: String,
    /// Of the first event.
    pub kind: String,
    /// When it was.
    pub first_seen: Stamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    addresses: Vec<String>,
    events: Vec<&'a Event>,
}

impl<'a> Tally<'a> {
    pub(super) fn add(&mut self, event: &'a Event) {
        self.events.push(event);
        let ip = event.flow.as_ref().map(|f| f.src.ip().to_string());
        self.addresses.push(ip.unwrap_or_default());
    }

    /// Writes everything in the caller's transaction. `fresh` are the credentials never
    /// seen before. Returns the attackers never seen before, the earliest first.
    pub(super) async fn store(
        &self,
        tx: &mut Connection,
        fresh: &[NewCredential],
    ) -> Result<Vec<NewAttacker>> {
        let mut minutes: HashMap<(i64, &str, &str), (i64, i64)> = HashMap::new();
        let mut attackers: HashMap<&str, Sum> = HashMap::new();
        let mut services: HashMap<(&str, &str), Sum> = HashMap::new();
        let mut deckies: HashMap<(&str, &str), Sum> = HashMap::new();
        let mut sessions: HashMap<&str, Session<'_>> = HashMap::new();
        let mut files: Vec<(&str, &Event)> = Vec::new();
        for (event, ip) in self.events.iter().zip(&self.addresses) {
            let minute = event.ts.0.div_euclid(MINUTE);
            let key = (minute, event.decky.as_str(), event.service.as_str());
            let both = minutes.entry(key).or_default();
            both.0 += 1;
            both.1 += i64::from(event.flow.is_some());
            let Some(flow) = &event.flow else { continue };
            let sum = Sum::of(event);
            merge(&mut attackers, ip.as_str(), sum);
            merge(&mut services, (ip.as_str(), event.service.as_str()), sum);
            merge(&mut deckies, (ip.as_str(), event.decky.as_str()), sum);
            let ended = (event.kind == END).then_some(event.ts);
            sessions
                .entry(&flow.session)
                .and_modify(|session| {
                    session.sum.add(sum);
                    session.ended = session.ended.max(ended);
                })
                .or_insert(Session {
                    ip,
                    decky: &event.decky,
                    service: &event.service,
                    sum,
                    ended,
                });
            if event.stored_file().is_some() {
                files.push((ip, event));
            }
        }
        let opened = write_sessions(tx, &sessions).await?;
        counter::add(tx, counter::SESSIONS, opened.values().sum()).await?;
        let new = write_attackers(tx, &attackers, &opened, fresh).await?;
        write_services(tx, &services).await?;
        write_deckies(tx, &deckies).await?;
        write_minutes(tx, &minutes).await?;
        write_files(tx, &files).await?;
        Ok(self.first_events(&new))
    }
}

impl Tally<'_> {
    /// The first event of each of these addresses.
    fn first_events(&self, ips: &HashSet<String>) -> Vec<NewAttacker> {
        if ips.is_empty() {
            return Vec::new();
        }
        let mut first: HashMap<&str, &Event> = HashMap::new();
        for (event, ip) in self.events.iter().zip(&self.addresses) {
            if ips.contains(ip) {
                let known = first.entry(ip).or_insert(event);
                if event.ts < known.ts {
                    *known = event;
                }
            }
        }
        let mut new: Vec<NewAttacker> = first
            .into_iter()
            .map(|(ip, event)| NewAttacker {
                ip: ip.to_owned(),
                decky: event.decky.clone(),
                service: event.service.clone(),
                kind: event.kind.clone(),
                first_seen: event.ts,
            })
            .collect();
        new.sort_by(|a, b| (a.first_seen, &a.ip).cmp(&(b.first_seen, &b.ip)));
        new
    }
}

fn merge<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Sum>, key: K, sum: Sum) {
    map.entry(key).and_modify(|s| s.add(sum)).or_insert(sum);
}

/// Returns how many sessions each address has opened in this batch.
async fn write_sessions<'a>(
    tx: &mut Connection,
    sessions: &HashMap<&'a str, Session<'a>>,
) -> Result<HashMap<&'a str, i64>> {
    let mut opened = HashMap::new();
    let mut rows: Vec<(&&str, &Session<'_>)> = sessions.iter().collect();
    // Numbers run in the order of time, whatever the map's order is.
    rows.sort_unstable_by_key(|(id, session)| (session.sum.first, **id));
    for chunk in rows.chunks(ROWS) {
        let sql = values_sql(
            "insert into attack_sessions (id, attacker_ip, decky, service, started_at, last_seen,
                 ended_at, events, commands, logins)",
            10,
            chunk.len(),
            "on conflict (id) do update set
                 started_at = case when excluded.started_at < attack_sessions.started_at
                     then excluded.started_at else attack_sessions.started_at end,
                 last_seen = case when excluded.last_seen > attack_sessions.last_seen
                     then excluded.last_seen else attack_sessions.last_seen end,
                 ended_at = coalesce(excluded.ended_at, attack_sessions.ended_at),
                 events = attack_sessions.events + excluded.events,
                 commands = attack_sessions.commands + excluded.commands,
                 logins = attack_sessions.logins + excluded.logins
             returning id, events",
        );
        let mut query = sql::query_as::<(String, i64)>(sql);
        for (id, session) in chunk {
            query = query
                .bind(**id)
                .bind(session.ip)
                .bind(session.decky)
                .bind(session.service)
                .bind(session.sum.first)
                .bind(session.sum.last)
                .bind(session.ended)
                .bind(session.sum.events)
                .bind(session.sum.commands)
                .bind(session.sum.logins);
        }
        let written = query.fetch_all(&mut *tx).await;
        for (id, events) in written.map_err(attempt("storing sessions"))? {
            // A row that counts no more than this batch brought did not exist before.
            if let Some(session) = sessions.get(id.as_str())
                && session.sum.events == events
            {
                *opened.entry(session.ip).or_insert(0) += 1;
            }
        }
    }
    Ok(opened)
}

/// Returns the addresses never seen before.
async fn write_attackers(
    tx: &mut Connection,
    attackers: &HashMap<&str, Sum>,
    opened: &HashMap<&str, i64>,
    fresh: &[NewCredential],
) -> Result<HashSet<String>> {
    let mut new = HashSet::new();
    let mut credentials: HashMap<&str, i64> = HashMap::new();
    for credential in fresh {
        *credentials.entry(&credential.attacker_ip).or_default() += 1;
    }
    let mut rows: Vec<(&&str, &Sum)> = attackers.iter().collect();
    rows.sort_unstable_by_key(|(ip, sum)| (sum.first, **ip));
    for chunk in rows.chunks(ROWS) {
        let sql = values_sql(
            "insert into attackers (id, ip, country, first_seen, last_seen, event_count,
                 session_count, credential_count, command_count, artifact_count)",
            10,
            chunk.len(),
            "on conflict (ip) do update set
                 country = coalesce(attackers.country, excluded.country),
                 first_seen = case when excluded.first_seen < attackers.first_seen
                     then excluded.first_seen else attackers.first_seen end,
                 last_seen = case when excluded.last_seen > attackers.last_seen
                     then excluded.last_seen else attackers.last_seen end,
                 event_count = attackers.event_count + excluded.event_count,
                 session_count = attackers.session_count + excluded.session_count,
                 credential_count = attackers.credential_count + excluded.credential_count,
                 command_count = attackers.command_count + excluded.command_count,
                 artifact_count = attackers.artifact_count + excluded.artifact_count
             returning ip, event_count",
        );
        let mut query = sql::query_as::<(String, i64)>(sql);
        for (ip, sum) in chunk {
            query = query
                .bind(Uuid::now_v7().to_string())
                .bind(**ip)
                .bind(ip.parse().ok().and_then(geo::country))
                .bind(sum.first)
                .bind(sum.last)
                .bind(sum.events)
                .bind(opened.get(**ip).copied().unwrap_or(0))
                .bind(credentials.get(**ip).copied().unwrap_or(0))
                .bind(sum.commands)
                .bind(sum.files);
        }
        let written = query.fetch_all(&mut *tx).await;
        for (ip, events) in written.map_err(attempt("storing attackers"))? {
            // A row that counts no more than this batch brought did not exist before.
            if attackers
                .get(ip.as_str())
                .is_some_and(|sum| sum.events == events)
            {
                new.insert(ip);
            }
        }
    }
    Ok(new)
}

async fn write_services(tx: &mut Connection, services: &HashMap<(&str, &str), Sum>) -> Result<()> {
    let mut rows: Vec<_> = services.iter().collect();
    // In the order of their key.
    rows.sort_unstable_by_key(|(key, _)| **key);
    for chunk in rows.chunks(ROWS) {
        let sql = values_sql(
            "insert into attacker_services (ip, service, events, commands, logins, first_seen,
                 last_seen)",
            7,
            chunk.len(),
            "on conflict (ip, service) do update set
                 events = attacker_services.events + excluded.events,
                 commands = attacker_services.commands + excluded.commands,
                 logins = attacker_services.logins + excluded.logins,
                 first_seen = case when excluded.first_seen < attacker_services.first_seen
                     then excluded.first_seen else attacker_services.first_seen end,
                 last_seen = case when excluded.last_seen > attacker_services.last_seen
                     then excluded.last_seen else attacker_services.last_seen end",
        );
        let mut query = sql::query(sql);
        for ((ip, service), sum) in chunk {
            query = query
                .bind(*ip)
                .bind(*service)
                .bind(sum.events)
                .bind(sum.commands)
                .bind(sum.logins)
                .bind(sum.first)
                .bind(sum.last);
        }
        let done = query.execute(&mut *tx).await;
        done.map_err(attempt("storing what attackers did"))?;
    }
    Ok(())
}

async fn write_deckies(tx: &mut Connection, deckies: &HashMap<(&str, &str), Sum>) -> Result<()> {
    let mut rows: Vec<_> = deckies.iter().collect();
    // In the order of their key.
    rows.sort_unstable_by_key(|(key, _)| **key);
    for chunk in rows.chunks(ROWS) {
        let sql = values_sql(
            "insert into attacker_deckies (ip, decky, events, first_seen, last_seen)",
            5,
            chunk.len(),
            "on conflict (ip, decky) do update set
                 events = attacker_deckies.events + excluded.events,
                 first_seen = case when excluded.first_seen < attacker_deckies.first_seen
                     then excluded.first_seen else attacker_deckies.first_seen end,
                 last_seen = case when excluded.last_seen > attacker_deckies.last_seen
                     then excluded.last_seen else attacker_deckies.last_seen end",
        );
        let mut query = sql::query(sql);
        for ((ip, decky), sum) in chunk {
            query = query
                .bind(*ip)
                .bind(*decky)
                .bind(sum.events)
                .bind(sum.first)
                .bind(sum.last);
        }
        let done = query.execute(&mut *tx).await;
        done.map_err(attempt("storing where attackers were"))?;
    }
    Ok(())
}

async fn write_minutes(
    tx: &mut Connection,
    minutes: &HashMap<(i64, &str, &str), (i64, i64)>,
) -> Result<()> {
    let mut rows: Vec<_> = minutes.iter().collect();
    // In the order of their key.
    rows.sort_unstable_by_key(|(key, _)| **key);
    for chunk in rows.chunks(ROWS) {
        let sql = values_sql(
            "insert into log_minutes (minute, decky, service, count, hits)",
            5,
            chunk.len(),
            "on conflict (minute, decky, service) do update set
                 count = log_minutes.count + excluded.count,
                 hits = log_minutes.hits + excluded.hits",
        );
        let mut query = sql::query(sql);
        for ((minute, decky, service), (count, hits)) in chunk {
            query = query
                .bind(*minute)
                .bind(*decky)
                .bind(*service)
                .bind(*count)
                .bind(*hits);
        }
        let done = query.execute(&mut *tx).await;
        done.map_err(attempt("counting events"))?;
    }
    Ok(())
}

async fn write_files(tx: &mut Connection, files: &[(&str, &Event)]) -> Result<()> {
    for (ip, event) in files {
        let (Some(sha256), Some(flow)) = (event.stored_file(), &event.flow) else {
            continue;
        };
        let sha256 = &bounded(sha256.to_owned(), HASH_MAX);
        let named = ["filename", "name", "path"];
        let name = named.iter().find_map(|key| event.field(key)).unwrap_or("");
        let size = ["size", "size_bytes", "bytes", "body_size"];
        let size = size.iter().find_map(|key| event.field(key)?.parse().ok());
        let done = sql::query(
            "insert into artifacts (sha256, size_bytes, name, first_seen, last_seen, count)
             values ($1, $2, $3, $4, $4, 1)
             on conflict (sha256) do update set count = artifacts.count + 1,
                 first_seen = case when excluded.first_seen < artifacts.first_seen
                     then excluded.first_seen else artifacts.first_seen end,
                 last_seen = case when excluded.last_seen > artifacts.last_seen
                     then excluded.last_seen else artifacts.last_seen end",
        )
        .bind(sha256)
        .bind(size.unwrap_or(0_i64))
        .bind(name)
        .bind(event.ts)
        .execute(&mut *tx)
        .await;
        done.map_err(attempt("storing a file's record"))?;
        let done = sql::query(
            "insert into artifact_sightings (sha256, ts, attacker_ip, decky, service, session, name)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(sha256)
        .bind(event.ts)
        .bind(*ip)
        .bind(&event.decky)
        .bind(&event.service)
        .bind(&flow.session)
        .bind(name)
        .execute(&mut *tx)
        .await;
        done.map_err(attempt("storing a file's sighting"))?;
    }
    Ok(())
}
