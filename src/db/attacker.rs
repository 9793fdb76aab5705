//! Attackers, one row per address; written by [`crate::db::tally`].

use std::time::Duration;

use crate::db::sql::{self, QueryBuilder};
use crate::db::{Db, Result, attempt};
use crate::geo;
use crate::model::Stamp;

/// Names of services and deckies told with each attacker of a list.
const NAMES: usize = 20;
/// Events from which on somebody is more than passing by.
const BUSY: i64 = 50;
const PASSIVE: i64 = 5;
const HOUR: Duration = Duration::from_secs(3600);

/// An attacker.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AttackerRow {
    /// UUIDv7.
    pub id: String,
    /// Address.
    pub ip: String,
    /// ISO 3166-1 alpha-2, when known.
    pub country: Option<String>,
    /// First event.
    pub first_seen: Stamp,
    /// Last event.
    pub last_seen: Stamp,
    /// Events.
    pub event_count: i64,
    /// Connections.
    pub session_count: i64,
    /// Distinct credentials.
    pub credential_count: i64,
    /// Commands and requests.
    pub command_count: i64,
    /// Files left.
    pub artifact_count: i64,
    /// Services touched.
    pub service_count: i64,
    /// Deckies touched.
    pub decky_count: i64,
}

/// How alive an attacker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// At least 50 events, the last within the hour.
    Active,
    /// At least 5 events, the last within the day.
    Passive,
    /// The rest.
    Inactive,
}

impl AttackerRow {
    /// How alive it is at `now`.
    #[must_use]
    pub fn activity(&self, now: Stamp) -> Activity {
        let age = now.since(self.last_seen);
        if self.event_count >= BUSY && age <= HOUR {
            Activity::Active
        } else if self.event_count >= PASSIVE && age <= HOUR * 24 {
            Activity::Passive
        } else {
            Activity::Inactive
        }
    }
}

/// What a list is ordered by, the greatest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Last event.
    #[default]
    Recent,
    /// Number of events.
    Active,
    /// First event.
    First,
}

impl Order {
    const fn column(self) -> &'static str {
        match self {
            Order::Recent => "last_seen",
            Order::Active => "event_count",
            Order::First => "first_seen",
        }
    }

    /// Where a list goes on after `row`.
    #[must_use]
    pub fn place(self, row: &AttackerRow) -> (i64, String) {
        let value = match self {
            Order::Recent => row.last_seen.0,
            Order::Active => row.event_count,
            Order::First => row.first_seen.0,
        };
        (value, row.id.clone())
    }
}

/// Which attackers to list; all given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct AttackerFilter {
    /// Beginning of the address.
    pub prefix: Option<String>,
    /// Country; `??` for those of unknown country.
    pub country: Option<String>,
    /// Touched this service.
    pub service: Option<String>,
    /// Touched this decky.
    pub decky: Option<String>,
    /// How alive at the moment given.
    pub activity: Option<(Activity, Stamp)>,
}

/// What somebody did on a service.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ServiceActivity {
    /// Service slug.
    pub service: String,
    /// Events.
    pub events: i64,
    /// Commands and requests.
    pub commands: i64,
    /// Logins tried.
    pub logins: i64,
    /// First event.
    pub first_seen: Stamp,
    /// Last event.
    pub last_seen: Stamp,
}

/// What somebody did on a decky.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeckyActivity {
    /// Decky name.
    pub decky: String,
    /// Events.
    pub events: i64,
    /// First event.
    pub first_seen: Stamp,
    /// Last event.
    pub last_seen: Stamp,
}

/// Services and deckies of several attackers, by address.
pub type Touched = std::collections::HashMap<String, (Vec<String>, Vec<String>)>;

const SELECT: &str =
    "select id, ip, country, first_seen, last_seen, event_count, session_count, credential_count,
         command_count, artifact_count,
         (select count(*) from attacker_services s where s.ip = a.ip) as service_count,
         (select count(*) from attacker_deckies d where d.ip = a.ip) as decky_count
     from attackers a where true";

impl Db {
    /// Attackers in `order`, from `after` on (a value of [`Order::place`]), at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_list(
        &self,
        filter: &AttackerFilter,
        order: Order,
        after: Option<(i64, String)>,
        limit: u32,
    ) -> Result<Vec<AttackerRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        conditions(&mut sql, filter);
        let column = order.column();
        if let Some((value, id)) = after {
            sql.push(format!(" and ({column}, id) < ("));
            sql.push_bind(value).push(", ").push_bind(id).push(")");
        }
        sql.push(format!(" order by {column} desc, id desc limit "))
            .push_bind(i64::from(limit.clamp(1, 1000)));
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing attackers"))
    }

    /// Attackers whose ids are below `before`, those that came last first, at most `limit`.
    /// Ids never change, so going on from the last one meets everybody once, whatever they
    /// do meanwhile.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_list_by_id(
        &self,
        filter: &AttackerFilter,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AttackerRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        conditions(&mut sql, filter);
        if let Some(before) = before {
            sql.push(" and id < ").push_bind(before);
        }
        sql.push(" order by id desc limit ")
            .push_bind(i64::from(limit.clamp(1, 1000)));
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing attackers"))
    }

    /// The attacker with that id or address.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_get(&self, id_or_ip: &str) -> Result<Option<AttackerRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push(" and (id = ").push_bind(id_or_ip);
        sql.push(" or ip = ").push_bind(id_or_ip).push(")");
        sql.build_query_as()
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading an attacker"))
    }

    /// How many attackers there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_count(&self) -> Result<i64> {
        sql::query_scalar("select count(*) from attackers")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("counting attackers"))
    }

    /// The services and deckies that these addresses touched, the first of each by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_touched(&self, rows: &[AttackerRow]) -> Result<Touched> {
        let mut touched = Touched::new();
        if rows.is_empty() {
            return Ok(touched);
        }
        for (table, column) in [
            ("attacker_services", "service"),
            ("attacker_deckies", "decky"),
        ] {
            // One row an address and nothing but the key's index: a page of fifty who were
            // everywhere has thousands of places. Names hold no white space.
            let mut sql = QueryBuilder::new(format!(
                "select ip, string_agg({column}, ' ' order by {column}) from {table} where ip in ("
            ));
            let mut list = sql.separated(", ");
            for row in rows {
                list.push_bind(&row.ip);
            }
            sql.push(") group by ip");
            let found: Vec<(String, String)> = sql
                .build_query_as()
                .fetch_all(&self.pool)
                .await
                .map_err(attempt("reading what attackers touched"))?;
            for (ip, names) in found {
                let names = names.split(' ').take(NAMES).map(str::to_owned).collect();
                let (services, deckies) = touched.entry(ip).or_default();
                if column == "service" {
                    *services = names;
                } else {
                    *deckies = names;
                }
            }
        }
        Ok(touched)
    }

    /// What an address did, by service, busiest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_services(&self, ip: &str) -> Result<Vec<ServiceActivity>> {
        sql::query_as(
            "select service, events, commands, logins, first_seen, last_seen
             from attacker_services where ip = $1 order by events desc, service limit 200",
        )
        .bind(ip)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("reading an attacker's services"))
    }

    /// Where an address was, in the order it came there.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_deckies(&self, ip: &str) -> Result<Vec<DeckyActivity>> {
        sql::query_as(
            "select decky, events, first_seen, last_seen
             from attacker_deckies where ip = $1 order by first_seen, decky limit 1000",
        )
        .bind(ip)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("reading an attacker's path"))
    }

    /// Looks up where those attackers are that came before their country was known, from
    /// the address after `after` on, a thousand at a time. Returns the last address looked
    /// at; `None` when none is left.
    ///
    /// # Errors
    /// When the database cannot be written; the step is then to be repeated.
    pub async fn attacker_locate(&self, after: &str) -> Result<Option<String>> {
        let what = "looking up where attackers are";
        let rows: Vec<(String,)> = sql::query_as(
            "select ip from attackers where ip > $1 and country is null order by ip limit 1000",
        )
        .bind(after)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt(what))?;
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        for (ip,) in &rows {
            if let Some(country) = ip.parse().ok().and_then(geo::country) {
                sql::query("update attackers set country = $2 where ip = $1")
                    .bind(ip)
                    .bind(country)
                    .execute(&mut *tx)
                    .await
                    .map_err(attempt(what))?;
            }
        }
        tx.commit().await.map_err(attempt(what))?;
        Ok(rows.into_iter().next_back().map(|(ip,)| ip))
    }

    /// Attackers and their events by country; `??` where none is known. Most first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attacker_countries(&self) -> Result<Vec<(String, i64, i64)>> {
        sql::query_as(
            "select coalesce(country, '??'), count(*), cast(sum(event_count) as bigint)
             from attackers
             group by 1 order by 2 desc, 1 limit 300",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("counting countries"))
    }
}

fn conditions(sql: &mut QueryBuilder, filter: &AttackerFilter) {
    if let Some(prefix) = &filter.prefix {
        // Addresses hold only characters below '~', so this is the range of the prefix.
        sql.push(" and ip >= ").push_bind(prefix.clone());
        sql.push(" and ip < ").push_bind(format!("{prefix}~"));
    }
    match filter.country.as_deref() {
        Some("??") => {
            sql.push(" and country is null");
        }
        Some(country) => {
            sql.push(" and country = ").push_bind(country.to_owned());
        }
        None => {}
    }
    if let Some(service) = &filter.service {
        sql.push(
            " and exists (select 1 from attacker_services s where s.ip = a.ip and s.service = ",
        )
        .push_bind(service.clone())
        .push(")");
    }
    if let Some(decky) = &filter.decky {
        sql.push(" and exists (select 1 from attacker_deckies d where d.ip = a.ip and d.decky = ")
            .push_bind(decky.clone())
            .push(")");
    }
    let Some((activity, now)) = filter.activity else {
        return;
    };
    let back = |by: Duration| Stamp(now.0.saturating_sub(Stamp(0).plus(by).0));
    let (hour, day) = (back(HOUR), back(HOUR * 24));
    let active = |sql: &mut QueryBuilder| {
        sql.push("(event_count >= ").push_bind(BUSY);
        sql.push(" and last_seen >= ").push_bind(hour).push(")");
    };
    let passive = |sql: &mut QueryBuilder| {
        sql.push("(event_count >= ").push_bind(PASSIVE);
        sql.push(" and last_seen >= ").push_bind(day).push(")");
    };
    sql.push(" and ");
    match activity {
        Activity::Active => active(sql),
        Activity::Passive => {
            passive(sql);
            sql.push(" and not ");
            active(sql);
        }
        Activity::Inactive => {
            sql.push("not ");
            passive(sql);
            sql.push(" and not ");
            active(sql);
        }
    }
}
