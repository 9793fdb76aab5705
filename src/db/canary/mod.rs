//! Canary tokens: the rows that say what was made, for where, and how it stands. What they
//! caught is in [`trigger`], what operators uploaded in [`blob`].

pub mod blob;
pub mod trigger;

use crate::db::sql::{self, Connection, Json, QueryBuilder};
use crate::db::{Db, Error, Result, attempt};
use crate::model::Stamp;
use crate::model::canary::TokenState;

/// Tokens there may be: all of their slugs are kept in the listener's memory.
const MOST: i64 = 200_000;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TokenRow {
    /// UUIDv7.
    pub id: String,
    /// What it calls with; whoever knows it can trigger it.
    pub slug: String,
    /// What it looks like.
    pub kind: String,
    /// What the operator calls it; may be empty.
    pub memo: String,
    /// On which decky; `None` is a real machine.
    pub decky: Option<String>,
    /// Where exactly; `None` is the kind's own place.
    pub path: Option<String>,
    /// 32 bytes as hex, from which its files are drawn.
    pub seed: String,
    /// The host its files are made for, as JSON.
    pub place: String,
    /// Where it calls, as JSON.
    pub base: String,
    /// SHA-256 of the uploaded file it is in.
    pub blob: Option<String>,
    /// See [`TokenRow::state`].
    state: String,
    /// Why it could not be planted or taken back.
    pub last_error: Option<String>,
    /// Paths on the decky that were written.
    pub planted: Json<Vec<String>>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Stamp,
    /// When it was last planted.
    pub planted_at: Option<Stamp>,
    /// When it was taken back.
    pub revoked_at: Option<Stamp>,
    /// How often it was used.
    pub trigger_count: i64,
    /// When last.
    pub last_triggered_at: Option<Stamp>,
}

impl TokenRow {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> TokenState {
        TokenState::parse(&self.state).unwrap_or(TokenState::New)
    }
}

/// A token to be.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// What it calls with.
    pub slug: &'a str,
    /// What it looks like.
    pub kind: &'a str,
    /// What the operator calls it.
    pub memo: &'a str,
    /// On which decky.
    pub decky: Option<&'a str>,
    /// Where exactly.
    pub path: Option<&'a str>,
    /// 32 bytes as hex.
    pub seed: &'a str,
    /// The host its files are made for, as JSON.
    pub place: &'a str,
    /// Where it calls, as JSON.
    pub base: &'a str,
    /// The uploaded file it goes into.
    pub blob: Option<&'a str>,
    /// Who makes it.
    pub created_by: &'a str,
}

/// Which tokens; all given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct TokenFilter {
    /// On this decky.
    pub decky: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Standing so.
    pub state: Option<TokenState>,
}

/// What the listener knows of a token.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KnownToken {
    /// What it calls with.
    pub slug: String,
    /// What it looks like.
    pub kind: String,
    /// From which its files are drawn.
    pub seed: String,
    /// The host its files are made for, as JSON.
    pub place: String,
    /// Where it calls, as JSON.
    pub base: String,
    /// When it was made.
    pub created_at: Stamp,
}

impl Db {
    /// Adds a token.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there are as many as there may be, or its uploaded file was
    /// deleted meanwhile.
    pub async fn canary_add(&self, new: &NewToken<'_>, now: Stamp) -> Result<TokenRow> {
        let added: Option<TokenRow> = sql::query_as(
            "insert into canary_tokens (id, slug, kind, memo, decky, path, seed, place, base, blob,
                 state, planted, created_by, created_at)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'new', '[]', $11, $12
             where (select count(*) from canary_tokens) < $13
                 and ($10 is null or exists (select 1 from canary_blobs where sha256 = $10))
             returning *",
        )
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(new.slug)
        .bind(new.kind)
        .bind(new.memo)
        .bind(new.decky)
        .bind(new.path)
        .bind(new.seed)
        .bind(new.place)
        .bind(new.base)
        .bind(new.blob)
        .bind(new.created_by)
        .bind(now)
        .bind(MOST)
        .fetch_optional(&self.pool)
        .await
        .map_err(attempt("adding a canary token"))?;
        added.ok_or_else(|| Error::Conflict("the list of tokens or of uploaded files".to_owned()))
    }

    /// A token.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_find(&self, id: &str) -> Result<Option<TokenRow>> {
        sql::query_as("select * from canary_tokens where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading a canary token"))
    }

    /// Tokens, newest first: those older than `before`, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_list(
        &self,
        filter: &TokenFilter,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<TokenRow>> {
        let mut sql = QueryBuilder::new("select * from canary_tokens where true");
        // Ids are hex digits, all below a g.
        sql.push(" and id < ").push_bind(before.unwrap_or("g"));
        let columns = [
            (" and decky = ", filter.decky.clone()),
            (" and kind = ", filter.kind.clone()),
            (" and state = ", filter.state.map(|s| s.as_str().to_owned())),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                sql.push(column).push_bind(value);
            }
        }
        sql.push(" order by id desc limit ")
            .push_bind(i64::from(limit.clamp(1, 1000)));
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing canary tokens"))
    }

    /// Every token as the listener needs it. Revoked ones too: they go on telling.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_known(&self) -> Result<Vec<KnownToken>> {
        sql::query_as("select slug, kind, seed, place, base, created_at from canary_tokens")
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("reading all canary tokens"))
    }

    /// Notes that the token's files lie on its decky.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn canary_planted(&self, id: &str, paths: &[String], now: Stamp) -> Result<()> {
        sql::query(
            "update canary_tokens set state = 'planted', last_error = null, planted = $2,
                 planted_at = $3, revoked_at = null where id = $1",
        )
        .bind(id)
        .bind(Json(paths))
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("noting that a canary token is planted"))?;
        Ok(())
    }

    /// Notes why the token could not be planted or taken back, and what of it lies on the
    /// decky nevertheless.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn canary_failed(&self, id: &str, error: &str, paths: &[String]) -> Result<()> {
        sql::query(
            "update canary_tokens set state = 'failed', last_error = $2, planted = $3
             where id = $1",
        )
        .bind(id)
        .bind(error)
        .bind(Json(paths))
        .execute(&self.pool)
        .await
        .map_err(attempt("noting that a canary token failed"))?;
        Ok(())
    }

    /// Notes that the token was taken back; `error` says what could not be removed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn canary_revoked(&self, id: &str, error: Option<&str>, now: Stamp) -> Result<()> {
        sql::query(
            "update canary_tokens set state = 'revoked', last_error = $2, revoked_at = $3
             where id = $1",
        )
        .bind(id)
        .bind(error)
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("noting that a canary token is revoked"))?;
        Ok(())
    }

    /// Forgets a token with all it caught. Says whether it was there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn canary_forget(&self, id: &str) -> Result<bool> {
        let done = sql::query("delete from canary_tokens where id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(attempt("deleting a canary token"))?;
        Ok(done.rows_affected() > 0)
    }
}

/// Notes that the files of tokens went with their decky. Whoever made a copy of them
/// before still gives himself away, as with every token that was taken back.
pub(in crate::db) async fn went_with(
    tx: &mut Connection,
    decky: &str,
    now: Stamp,
) -> std::result::Result<(), sqlx::Error> {
    sql::query(
        "update canary_tokens set state = 'revoked', planted = '[]', last_error = null,
             revoked_at = $2
         where decky = $1 and state in ('planted', 'failed')",
    )
    .bind(decky)
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
