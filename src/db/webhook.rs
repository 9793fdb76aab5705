//! Receivers of events and the outbox of what they are to be told.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::sql::{self, Json, Row};
use crate::db::{Db, Error, Page, Result, attempt};
use crate::model::Stamp;
use crate::net::seal::Seal;

/// Longest error that is kept.
const ERROR: usize = 512;

/// The half of a receiver that is sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Where it listens.
    pub url: String,
    /// The operator's own headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// What deliveries are signed with.
    pub secret: String,
    /// What they were signed with before; still signs until the moment beside it.
    #[serde(default)]
    pub previous: Option<(String, Stamp)>,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(***)")
    }
}

impl Hidden {
    /// Every secret that signs at `now`, the current one first.
    #[must_use]
    pub fn secrets(&self, now: Stamp) -> Vec<&str> {
        let previous = self.previous.iter().filter(|(_, until)| *until > now);
        let previous = previous.map(|(secret, _)| secret.as_str());
        std::iter::once(self.secret.as_str())
            .chain(previous)
            .collect()
    }
}

/// What an operator decides of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Unique.
    pub name: String,
    /// See `export::Format`.
    pub format: String,
    /// For the format `template`.
    pub template: Option<String>,
    /// Bus patterns.
    pub patterns: Vec<String>,
    /// Whether events are taken down and delivered.
    pub enabled: bool,
    /// URL, headers, secrets.
    pub hidden: Hidden,
}

/// A receiver.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// UUIDv7.
    pub id: String,
    /// Unique.
    pub name: String,
    /// See `export::Format`.
    pub format: String,
    /// For the format `template`.
    pub template: Option<String>,
    /// Bus patterns.
    pub patterns: Vec<String>,
    /// Whether events are taken down and delivered.
    pub enabled: bool,
    /// `None` when the key file is another one than it was sealed with.
    pub hidden: Option<Hidden>,
    /// Counts changes by operators.
    pub version: i64,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Stamp,
    /// When an operator last changed it.
    pub updated_at: Stamp,
    /// Failed attempts in a row.
    pub failures: i64,
    /// Nothing is sent before this moment, then one delivery tries.
    pub open_until: Option<Stamp>,
    /// When a delivery last succeeded.
    pub last_success_at: Option<Stamp>,
    /// When one last failed.
    pub last_failure_at: Option<Stamp>,
    /// Why.
    pub last_error: Option<String>,
    /// Events refused because the queue was full.
    pub dropped: i64,
    /// Deliveries that wait.
    pub pending: i64,
    /// Deliveries that were given up.
    pub dead: i64,
}

impl Webhook {
    /// What an operator decided of it, to be changed; `None` when it cannot be opened.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        Some(Wanted {
            name: self.name.clone(),
            format: self.format.clone(),
            template: self.template.clone(),
            patterns: self.patterns.clone(),
            enabled: self.enabled,
            hidden: self.hidden.clone()?,
        })
    }
}

/// An event for the outbox.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The bus's id of the message.
    pub event_id: String,
    /// When it was published.
    pub event_at: Stamp,
    /// Where.
    pub topic: String,
    /// Its short kind.
    pub kind: String,
    /// JSON.
    pub payload: String,
}

/// One event on its way to one receiver.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeliveryRow {
    /// Ascends in the order of delivery.
    pub id: i64,
    /// Whose.
    pub webhook_id: String,
    /// The bus's id of the message.
    pub event_id: String,
    /// When it was published.
    pub event_at: Stamp,
    /// Where.
    pub topic: String,
    /// Its short kind.
    pub kind: String,
    /// JSON.
    pub payload: String,
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Requests sent for it.
    pub attempts: i64,
    /// No request before.
    pub next_at: Stamp,
    /// When it was seen, or replayed.
    pub created_at: Stamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Stamp>,
    /// Status of the last reply.
    pub last_status: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// How long the last attempt took.
    pub took_ms: Option<i64>,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// `delivered`, `pending` (again at `next_at`) or `dead`.
    pub status: &'static str,
    /// When it ended.
    pub at: Stamp,
    /// For `pending`: no request before.
    pub next_at: Stamp,
    /// The receiver's status.
    pub reply: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// How long it took, ms.
    pub took_ms: i64,
    /// The receiver's circuit after it: failures in a row, and until when it is open.
    pub failures: i64,
    /// See [`Webhook::open_until`].
    pub open_until: Option<Stamp>,
}

fn context(id: &str) -> String {
    format!("webhooks/{id}")
}

fn sealed(seal: &Seal, id: &str, hidden: &Hidden) -> String {
    // Strings and numbers always serialise.
    let plain = serde_json::to_vec(hidden).unwrap_or_default();
    seal.seal(&context(id), &plain)
}

fn shortened(error: Option<&str>) -> Option<String> {
    error.map(|text| text.chars().take(ERROR).collect())
}

impl Db {
    /// Adds a receiver. Returns its id.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there is one of that name.
    pub async fn webhook_add(
        &self,
        seal: &Seal,
        wanted: &Wanted,
        actor: &str,
        now: Stamp,
    ) -> Result<String> {
        let id = Uuid::now_v7().to_string();
        let done = sql::query(
            "insert into webhooks (id, name, format, template, patterns, enabled, sealed, version,
                 created_by, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, $9) on conflict (name) do nothing",
        )
        .bind(&id)
        .bind(&wanted.name)
        .bind(&wanted.format)
        .bind(&wanted.template)
        .bind(Json(&wanted.patterns))
        .bind(i64::from(wanted.enabled))
        .bind(sealed(seal, &id, &wanted.hidden))
        .bind(actor)
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("adding a webhook"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict(format!("the webhook '{}'", wanted.name)));
        }
        Ok(id)
    }

    /// Replaces what an operator decides of a receiver, if it is still the one of `version`.
    /// Its circuit begins anew.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was changed or removed meanwhile, or the name is taken.
    pub async fn webhook_change(
        &self,
        seal: &Seal,
        id: &str,
        version: i64,
        wanted: &Wanted,
        now: Stamp,
    ) -> Result<()> {
        let done = sql::query(
            "update webhooks set name = $3, format = $4, template = $5, patterns = $6,
                 enabled = $7, sealed = $8, version = version + 1, updated_at = $9, failures = 0,
                 open_until = null, last_error = null
             where id = $1 and version = $2
               and not exists (select 1 from webhooks o where o.name = $3 and o.id <> $1)",
        )
        .bind(id)
        .bind(version)
        .bind(&wanted.name)
        .bind(&wanted.format)
        .bind(&wanted.template)
        .bind(Json(&wanted.patterns))
        .bind(i64::from(wanted.enabled))
        .bind(sealed(seal, id, &wanted.hidden))
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("changing a webhook"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict(format!("the webhook '{}'", wanted.name)));
        }
        Ok(())
    }

    /// Removes a receiver with its deliveries. Returns its name, if it was there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn webhook_delete(&self, id: &str) -> Result<Option<String>> {
        sql::query_scalar("delete from webhooks where id = $1 returning name")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("removing a webhook"))
    }

    /// Every receiver, by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn webhook_list(&self, seal: &Seal) -> Result<Vec<Webhook>> {
        self.webhooks(seal, None).await
    }

    /// One receiver, by its id or its name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn webhook_get(&self, seal: &Seal, id_or_name: &str) -> Result<Option<Webhook>> {
        Ok(self.webhooks(seal, Some(id_or_name)).await?.pop())
    }

    async fn webhooks(&self, seal: &Seal, one: Option<&str>) -> Result<Vec<Webhook>> {
        let what = "listing webhooks";
        let rows = sql::query(
            "select w.*,
                 (select count(*) from webhook_deliveries d
                  where d.webhook_id = w.id and d.status = 'pending') as pending,
                 (select count(*) from webhook_deliveries d
                  where d.webhook_id = w.id and d.status = 'dead') as dead
             from webhooks w where $1 = '' or w.id = $1 or w.name = $1 order by w.name",
        )
        .bind(one.unwrap_or_default())
        .fetch_all(&self.pool)
        .await
        .map_err(attempt(what))?;
        let read = |row: &Row| {
            let id: String = row.try_get("id")?;
            let sealed: String = row.try_get("sealed")?;
            let plain = seal.unseal(&context(&id), &sealed).ok();
            let patterns: Json<Vec<String>> = row.try_get("patterns")?;
            Ok(Webhook {
                name: row.try_get("name")?,
                format: row.try_get("format")?,
                template: row.try_get("template")?,
                patterns: patterns.0,
                enabled: row.try_get::<i64, _>("enabled")? != 0,
                hidden: plain.and_then(|plain| serde_json::from_slice(&plain).ok()),
                version: row.try_get("version")?,
                created_by: row.try_get("created_by")?,
                created_at: row.try_get("created_at")?,
                updated_at: row.try_get("updated_at")?,
                failures: row.try_get("failures")?,
                open_until: row.try_get("open_until")?,
                last_success_at: row.try_get("last_success_at")?,
                last_failure_at: row.try_get("last_failure_at")?,
                last_error: row.try_get("last_error")?,
                dropped: row.try_get("dropped")?,
                pending: row.try_get("pending")?,
                dead: row.try_get("dead")?,
                id,
            })
        };
        rows.iter()
            .map(read)
            .collect::<std::result::Result<_, sqlx::Error>>()
            .map_err(attempt(what))
    }

    /// Takes events down for a receiver, each once, as long as fewer than `most` wait.
    /// Returns how many of them there was no room for.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn webhook_enqueue(
        &self,
        webhook_id: &str,
        events: &[Seen],
        most: u64,
        now: Stamp,
    ) -> Result<u64> {
        let what = "taking down an event for a webhook";
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        let waiting: i64 = sql::query_scalar(
            "select count(*) from webhook_deliveries where webhook_id = $1 and status = 'pending'",
        )
        .bind(webhook_id)
        .fetch_one(&mut *tx)
        .await
        .map_err(attempt(what))?;
        let room =
            usize::try_from(most.saturating_sub(waiting.unsigned_abs())).unwrap_or(usize::MAX);
        for event in events.iter().take(room) {
            // The receiver may have been removed a moment ago.
            sql::query(
                "insert into webhook_deliveries (webhook_id, event_id, event_at, topic, kind,
                     payload, status, next_at, created_at)
                 select id, $2, $3, $4, $5, $6, 'pending', $7, $7 from webhooks where id = $1
                 on conflict (webhook_id, event_id) do nothing",
            )
            .bind(webhook_id)
            .bind(&event.event_id)
            .bind(event.event_at)
            .bind(&event.topic)
            .bind(&event.kind)
            .bind(&event.payload)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        }
        let over = i64::try_from(events.len().saturating_sub(room)).unwrap_or(i64::MAX);
        if over > 0 {
            sql::query("update webhooks set dropped = dropped + $2 where id = $1")
                .bind(webhook_id)
                .bind(over)
                .execute(&mut *tx)
                .await
                .map_err(attempt(what))?;
        }
        tx.commit().await.map_err(attempt(what))?;
        Ok(u64::try_from(over).unwrap_or(0))
    }

    /// The delivery that is next in line, due or not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn webhook_next(&self, webhook_id: &str) -> Result<Option<DeliveryRow>> {
        sql::query_as(
            "select * from webhook_deliveries where webhook_id = $1 and status = 'pending'
             order by id limit 1",
        )
        .bind(webhook_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(attempt("reading the outbox"))
    }

    /// Writes down what became of an attempt, of the delivery and of its receiver.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn webhook_attempted(&self, row: &DeliveryRow, outcome: &Attempt) -> Result<()> {
        let what = "recording a delivery";
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        let over = outcome.status != "pending";
        sql::query(
            "update webhook_deliveries set status = $2, attempts = attempts + 1, next_at = $3,
                 finished_at = $4, last_status = $5, last_error = $6, took_ms = $7
             where id = $1",
        )
        .bind(row.id)
        .bind(outcome.status)
        .bind(outcome.next_at)
        .bind(over.then_some(outcome.at))
        .bind(outcome.reply.map(i64::from))
        .bind(shortened(outcome.error.as_deref()))
        .bind(outcome.took_ms)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        let well = outcome.status == "delivered";
        sql::query(
            "update webhooks set failures = $2, open_until = $3,
                 last_success_at = coalesce($4, last_success_at),
                 last_failure_at = coalesce($5, last_failure_at),
                 last_error = $6
             where id = $1",
        )
        .bind(&row.webhook_id)
        .bind(outcome.failures)
        .bind(outcome.open_until)
        .bind(well.then_some(outcome.at))
        .bind((!well).then_some(outcome.at))
        .bind(shortened(outcome.error.as_deref()))
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        tx.commit().await.map_err(attempt(what))
    }

    /// Deliveries of one receiver, newest first; of one status, or of all.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn webhook_deliveries(
        &self,
        webhook_id: &str,
        status: Option<&str>,
        page: Page,
    ) -> Result<Vec<DeliveryRow>> {
        sql::query_as(
            "select * from webhook_deliveries
             where webhook_id = $1 and ($2 = '' or status = $2) and id < $3
             order by id desc limit $4",
        )
        .bind(webhook_id)
        .bind(status.unwrap_or_default())
        .bind(page.before_id())
        .bind(page.rows())
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing deliveries"))
    }

    /// Puts deliveries that were given up (or one that is over, whichever way) back in line.
    /// Returns how many.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn webhook_replay(
        &self,
        webhook_id: &str,
        one: Option<i64>,
        now: Stamp,
    ) -> Result<u64> {
        let done = sql::query(
            "update webhook_deliveries set status = 'pending', attempts = 0, next_at = $3,
                 created_at = $3, finished_at = null
             where webhook_id = $1 and ((id = $2 and status <> 'pending') or ($2 = 0 and status = 'dead'))",
        )
        .bind(webhook_id)
        .bind(one.unwrap_or(0))
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("replaying deliveries"))?;
        Ok(done.rows_affected())
    }

    /// Forgets deliveries that ended before these moments, at most `most` of them. Returns
    /// how many.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn webhook_tidy(&self, delivered: Stamp, dead: Stamp, most: i64) -> Result<u64> {
        let done = sql::query(
            "delete from webhook_deliveries where id in (
                 select id from webhook_deliveries
                 where (status = 'delivered' and finished_at < $1)
                    or (status = 'dead' and finished_at < $2)
                 limit $3)",
        )
        .bind(delivered)
        .bind(dead)
        .bind(most)
        .execute(&self.pool)
        .await
        .map_err(attempt("forgetting old deliveries"))?;
        Ok(done.rows_affected())
    }
}
