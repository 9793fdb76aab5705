//! Changes of deckies over time. A change and the decky row it changes are written in
//! one transaction, so that a mutator killed anywhere finds out what it was doing.

use crate::db::sql::{self, Json, Row};
use crate::db::{Db, Error, Result, attempt};
use crate::model::{Stamp, Wish};
use crate::persona::Persona;

/// A change that was asked for or is being tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Row id.
    pub id: i64,
    /// The decky.
    pub decky: String,
    /// What set it off: `scheduled`, `operator`.
    pub cause: String,
    /// Who asked, when somebody did.
    pub actor: Option<String>,
    /// When it was asked for.
    pub requested_at: Stamp,
    /// What is being tried; `None` while it is only asked for.
    pub trial: Option<Trial>,
}

/// A change being tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// In words: `open ftp`, `close redis`, `update`.
    pub step: String,
    /// What was wanted before.
    pub old_wish: Wish,
    /// What is wanted now.
    pub new_wish: Wish,
    /// Who the host was before.
    pub old_persona: Persona,
    /// Version of the decky row with the new wish.
    pub version: i64,
    /// Since when it is tried.
    pub begun_at: Stamp,
}

/// What to try, for [`Db::mutation_begin`].
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// In words.
    pub step: &'a str,
    /// The row's version this is based on.
    pub version: i64,
    /// What was wanted before.
    pub old_wish: &'a Wish,
    /// What is wanted from now on.
    pub new_wish: &'a Wish,
    /// Who the host was before.
    pub old_persona: &'a Persona,
    /// Who it is from now on.
    pub new_persona: &'a Persona,
}

/// A settled change, for history and lists.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Settled {
    /// The decky.
    pub decky: String,
    /// What set it off.
    pub cause: String,
    /// `applied` or `failed`.
    pub status: String,
    /// What was tried, in words; `None` when nothing could be.
    pub step: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// When.
    pub settled_at: Stamp,
}

fn open_row(row: &Row) -> std::result::Result<Mutation, sqlx::Error> {
    let step: Option<String> = row.try_get("step")?;
    let trial = match step {
        None => None,
        Some(step) => {
            let Json(old_wish) = row.try_get("old_wish")?;
            let Json(new_wish) = row.try_get("new_wish")?;
            let Json(old_persona) = row.try_get("old_persona")?;
            Some(Trial {
                step,
                old_wish,
                new_wish,
                old_persona,
                version: row.try_get("version")?,
                begun_at: Stamp(row.try_get("begun_at")?),
            })
        }
    };
    Ok(Mutation {
        id: row.try_get("id")?,
        decky: row.try_get("decky")?,
        cause: row.try_get("cause")?,
        actor: row.try_get("actor")?,
        requested_at: Stamp(row.try_get("requested_at")?),
        trial,
    })
}

impl Db {
    /// Asks for a change of `decky`; one that is already waiting is enough. Returns the
    /// id of the waiting row.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mutation_request(
        &self,
        decky: &str,
        cause: &str,
        actor: Option<&str>,
        now: Stamp,
    ) -> Result<i64> {
        let what = attempt("asking for a mutation");
        let mut tx = self.pool.begin().await.map_err(what)?;
        let waiting: Option<i64> = sql::query_scalar(
            "select id from mutations where decky = $1 and status = 'requested' order by id limit 1",
        )
        .bind(decky)
        .fetch_optional(&mut *tx)
        .await
        .map_err(attempt("asking for a mutation"))?;
        let id = match waiting {
            Some(id) => id,
            None => sql::query_scalar(
                "insert into mutations (decky, cause, actor, status, requested_at)
                 values ($1, $2, $3, 'requested', $4) returning id",
            )
            .bind(decky)
            .bind(cause)
            .bind(actor)
            .bind(now.0)
            .fetch_one(&mut *tx)
            .await
            .map_err(attempt("asking for a mutation"))?,
        };
        tx.commit()
            .await
            .map_err(attempt("asking for a mutation"))?;
        Ok(id)
    }

    /// Changes that are not settled, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn mutations_open(&self) -> Result<Vec<Mutation>> {
        let rows = sql::query(
            "select id, decky, cause, actor, requested_at, step, old_wish, new_wish,
                 old_persona, version, begun_at
             from mutations where status in ('requested', 'applying') order by id",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing open mutations"))?;
        rows.iter()
            .map(open_row)
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading a mutation"))
    }

    /// Writes the new wish into the decky row, if that is still at the attempt's
    /// version, and remembers what it was.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the row moved on; then nothing was written.
    pub async fn mutation_begin(&self, id: i64, what: &Attempt<'_>, now: Stamp) -> Result<()> {
        let begin = attempt("beginning a mutation");
        let mut tx = self.pool.begin().await.map_err(begin)?;
        let done = sql::query(
            "update deckies set wish = $3, persona = $4, version = version + 1, mutated_at = $5,
                 state = 'pending', last_error = null, updated_at = $5
             where name = (select decky from mutations where id = $1) and version = $2
                 and removed = false",
        )
        .bind(id)
        .bind(what.version)
        .bind(Json(what.new_wish))
        .bind(Json(what.new_persona))
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .map_err(attempt("changing a decky"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict("the decky".to_owned()));
        }
        sql::query(
            "update mutations set status = 'applying', step = $2, old_wish = $3, new_wish = $4,
                 old_persona = $5, version = $6, begun_at = $7
             where id = $1",
        )
        .bind(id)
        .bind(what.step)
        .bind(Json(what.old_wish))
        .bind(Json(what.new_wish))
        .bind(Json(what.old_persona))
        .bind(what.version + 1)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .map_err(attempt("writing a mutation"))?;
        tx.commit().await.map_err(attempt("beginning a mutation"))
    }

    /// Marks a change as applied.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mutation_applied(&self, id: i64, now: Stamp) -> Result<()> {
        sql::query("update mutations set status = 'applied', settled_at = $2 where id = $1")
            .bind(id)
            .bind(now.0)
            .execute(&self.pool)
            .await
            .map_err(attempt("settling a mutation"))?;
        Ok(())
    }

    /// Marks a change as failed and, when the decky row is still at the trial's version,
    /// takes the change back. Returns whether it was taken back.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mutation_failed(
        &self,
        mutation: &Mutation,
        reason: &str,
        now: Stamp,
    ) -> Result<bool> {
        let begin = attempt("settling a mutation");
        let mut tx = self.pool.begin().await.map_err(begin)?;
        let mut taken_back = false;
        if let Some(trial) = &mutation.trial {
            let done = sql::query(
                "update deckies set wish = $3, persona = $4, version = version + 1,
                     state = 'pending', last_error = null, updated_at = $5
                 where name = $1 and version = $2 and removed = false",
            )
            .bind(&mutation.decky)
            .bind(trial.version)
            .bind(Json(&trial.old_wish))
            .bind(Json(&trial.old_persona))
            .bind(now.0)
            .execute(&mut *tx)
            .await
            .map_err(attempt("taking a mutation back"))?;
            taken_back = done.rows_affected() > 0;
        }
        sql::query(
            "update mutations set status = 'failed', reason = $2, settled_at = $3 where id = $1",
        )
        .bind(mutation.id)
        .bind(reason)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .map_err(attempt("settling a mutation"))?;
        tx.commit().await.map_err(attempt("settling a mutation"))?;
        Ok(taken_back)
    }

    /// The last settled changes, newest first; of one decky when `decky` is given.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn mutations_settled(&self, decky: Option<&str>, limit: u32) -> Result<Vec<Settled>> {
        let rows = sql::query(
            "select decky, cause, status, step, reason, settled_at from mutations
             where ($1 is null or decky = $1) and settled_at is not null
             order by id desc limit $2",
        )
        .bind(decky)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing mutations"))?;
        rows.iter()
            .map(|row| {
                Ok(Settled {
                    decky: row.try_get("decky")?,
                    cause: row.try_get("cause")?,
                    status: row.try_get("status")?,
                    step: row.try_get("step")?,
                    reason: row.try_get("reason")?,
                    settled_at: Stamp(row.try_get("settled_at")?),
                })
            })
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading a mutation"))
    }

    /// Whether anything was captured from `decky` since `since`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn decky_visited_since(&self, decky: &str, since: Stamp) -> Result<bool> {
        sql::query_scalar(
            "select exists (select 1 from logs where ts > $1 and decky = $2 and src_ip is not null)",
        )
        .bind(since.0)
        .bind(decky)
        .fetch_one(&self.pool)
        .await
        .map_err(attempt("looking for visitors"))
    }
}
