//! Named keys for scripts. The database knows a token only by its SHA-256; it may do what
//! both the token and its owner may, and ends with its owner.

use uuid::Uuid;

use crate::db::sql;
use crate::db::token::SessionRow;
use crate::db::user::Role;
use crate::db::{Db, Error, Result, attempt};
use crate::model::Stamp;

/// Tokens one account may have.
const PER_USER: i64 = 100;
/// The end of one that has none: later than anything.
const NEVER: Stamp = Stamp(i64::MAX);

/// A key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ApiTokenRow {
    /// UUIDv7.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// `admin` or `viewer`.
    pub role: String,
    /// The owner's name.
    pub owner: String,
    /// When it was made.
    pub created_at: Stamp,
    /// When it ends, if ever.
    pub expires_at: Option<Stamp>,
    /// When it was last used, to the minute.
    pub used_at: Option<Stamp>,
}

impl Db {
    /// Adds a token. Returns its id.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the account has as many as it may have.
    pub async fn api_token_add(
        &self,
        token_sha256: &[u8; 32],
        user_id: &str,
        name: &str,
        role: Role,
        expires_at: Option<Stamp>,
        now: Stamp,
    ) -> Result<String> {
        let id = Uuid::now_v7().to_string();
        let done = sql::query(
            "insert into api_tokens (token_sha256, id, user_id, name, role, created_at, expires_at)
             select $1, $2, $3, $4, $5, $6, $7
             where (select count(*) from api_tokens where user_id = $3) < $8",
        )
        .bind(token_sha256.as_slice())
        .bind(&id)
        .bind(user_id)
        .bind(name)
        .bind(role.as_str())
        .bind(now)
        .bind(expires_at)
        .bind(PER_USER)
        .execute(&self.pool)
        .await
        .map_err(attempt("adding an API token"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict("the number of tokens".to_owned()));
        }
        Ok(id)
    }

    /// Tokens, newest first; of one account, or of all.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn api_token_list(&self, user_id: Option<&str>) -> Result<Vec<ApiTokenRow>> {
        sql::query_as(
            "select t.id, t.name, t.role, u.name as owner, t.created_at, t.expires_at, t.used_at
             from api_tokens t join users u on u.id = t.user_id
             where $1 is null or t.user_id = $1 order by t.id desc limit 1000",
        )
        .bind(user_id)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing API tokens"))
    }

    /// Deletes a token; of one account, or anybody's. Returns its name, if it was there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn api_token_delete(
        &self,
        id: &str,
        user_id: Option<&str>,
    ) -> Result<Option<String>> {
        sql::query_scalar(
            "delete from api_tokens where id = $1 and ($2 is null or user_id = $2) returning name",
        )
        .bind(id)
        .bind(user_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(attempt("deleting an API token"))
    }

    /// What a token may do, as a session would; `None` when it is unknown or over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn api_token_find(
        &self,
        token_sha256: &[u8; 32],
        now: Stamp,
    ) -> Result<Option<SessionRow>> {
        let what = "reading an API token";
        let row = sql::query(
            "select t.name, t.role, t.expires_at, t.used_at, u.id, u.name as owner,
                 u.role as owner_role, u.must_change_password
             from api_tokens t join users u on u.id = t.user_id where t.token_sha256 = $1",
        )
        .bind(token_sha256.as_slice())
        .fetch_optional(&self.pool)
        .await
        .map_err(attempt(what))?;
        let Some(row) = row else { return Ok(None) };
        let read = || {
            let (name, owner): (String, String) = (row.try_get("name")?, row.try_get("owner")?);
            let (own, most): (String, String) = (row.try_get("role")?, row.try_get("owner_role")?);
            let both = [Role::parse(&own), Role::parse(&most)];
            let expires_at: Option<Stamp> = row.try_get("expires_at")?;
            let used_at: Option<Stamp> = row.try_get("used_at")?;
            Ok(SessionRow {
                user_id: row.try_get("id")?,
                user_name: format!("{owner} ({name})"),
                role: if both.contains(&Role::Viewer) {
                    Role::Viewer
                } else {
                    Role::Admin
                },
                must_change_password: row.try_get("must_change_password")?,
                used_at: used_at.unwrap_or(Stamp(0)),
                expires_at: expires_at.unwrap_or(NEVER),
                api_token: true,
            })
        };
        let found: SessionRow = read().map_err(attempt(what))?;
        Ok((now < found.expires_at).then_some(found))
    }

    /// Notes that a token is in use.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn api_token_touch(&self, token_sha256: &[u8; 32], now: Stamp) -> Result<()> {
        sql::query("update api_tokens set used_at = $2 where token_sha256 = $1")
            .bind(token_sha256.as_slice())
            .bind(now)
            .execute(&self.pool)
            .await
            .map_err(attempt("noting a token's use"))?;
        Ok(())
    }
}
