//! Accounts of the API and the record of what was done with them. Passwords arrive
//! here hashed; nothing in this file can verify or produce one.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::sql::{self, Row};
use crate::db::{Db, Error, Page, Result, attempt};
use crate::model::Stamp;

/// Passwords remembered beside the present one: the last five may not be taken again.
const FORMER_PASSWORDS: i64 = 4;
/// Audit rows kept; the oldest go first.
const AUDIT_ROWS: i64 = 100_000;

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Looking.
    Viewer,
}

impl Role {
    /// `admin` or `viewer`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Viewer => "viewer",
        }
    }

    /// Anything unknown may only look.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "admin" => Role::Admin,
            _ => Role::Viewer,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An account. Its `Debug` shows no hash.
#[derive(Clone)]
pub struct UserRow {
    /// UUIDv7.
    pub id: String,
    /// Login name.
    pub name: String,
    /// PHC string.
    pub password_hash: String,
    /// What it may do.
    pub role: Role,
    /// Everything but changing the password is refused until it is changed.
    pub must_change_password: bool,
    /// Whether the login asks for a code beside the password.
    pub totp: bool,
    /// When the account was made.
    pub created_at: Stamp,
}

impl fmt::Debug for UserRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserRow({} {} {})", self.id, self.name, self.role)
    }
}

/// One thing somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When.
    pub created_at: Stamp,
    /// User name, as given.
    pub actor: String,
    /// Where the request came from.
    pub address: String,
    /// `login`, `worker.start`, …
    pub action: String,
    /// What it was done to.
    pub target: String,
    /// `ok`, or why not.
    pub outcome: String,
}

fn from_row(row: &Row) -> std::result::Result<UserRow, sqlx::Error> {
    let role: String = row.try_get("role")?;
    Ok(UserRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        password_hash: row.try_get("password_hash")?,
        role: Role::parse(&role),
        must_change_password: row.try_get("must_change_password")?,
        totp: row.try_get("totp")?,
        created_at: Stamp(row.try_get("created_at")?),
    })
}

impl Db {
    /// Whether there is any account.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn user_any(&self) -> Result<bool> {
        sql::query_scalar("select exists (select 1 from users)")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("looking for accounts"))
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken.
    pub async fn user_add(
        &self,
        name: &str,
        password_hash: &str,
        role: Role,
        must_change_password: bool,
        now: Stamp,
    ) -> Result<()> {
        let done = sql::query(
            "insert into users (id, name, password_hash, role, must_change_password, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $6) on conflict do nothing",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(name)
        .bind(password_hash)
        .bind(role.as_str())
        .bind(must_change_password)
        .bind(now.0)
        .execute(&self.pool)
        .await
        .map_err(attempt("adding an account"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict(format!("account {name}")));
        }
        Ok(())
    }

    /// The account called `name`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>> {
        let row = sql::query(
            "select id, name, password_hash, role, must_change_password, created_at,
                 exists (select 1 from totp t
                     where t.user_id = users.id and t.confirmed_at is not null) as totp
             from users where name = $1",
        )
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .map_err(attempt("reading an account"))?;
        row.as_ref()
            .map(from_row)
            .transpose()
            .map_err(attempt("reading an account"))
    }

    /// Every account, by name; accounts are made by hand, so there are few.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn user_list(&self) -> Result<Vec<UserRow>> {
        let rows = sql::query(
            "select id, name, password_hash, role, must_change_password, created_at,
                 exists (select 1 from totp t
                     where t.user_id = users.id and t.confirmed_at is not null) as totp
             from users order by name limit 1000",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing accounts"))?;
        rows.iter()
            .map(from_row)
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading an account"))
    }

    /// Hashes of the passwords an account had last, the present one first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn user_last_passwords(&self, id: &str) -> Result<Vec<String>> {
        sql::query_scalar(
            "select password_hash from (
                 select password_hash, 1 as present, 0 as replaced_at from users where id = $1
                 union all
                 select password_hash, 0 as present, replaced_at from former_passwords
                 where user_id = $1) as known
             order by present desc, replaced_at desc limit $2",
        )
        .bind(id)
        .bind(FORMER_PASSWORDS + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("reading former passwords"))
    }

    /// Sets a password, remembers the one before, and ends every session of the account
    /// but `keep`, in one transaction. Returns whether the account exists.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn user_set_password(
        &self,
        id: &str,
        password_hash: &str,
        must_change_password: bool,
        keep: Option<&[u8; 32]>,
        now: Stamp,
    ) -> Result<bool> {
        let what = "changing a password";
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        sql::query(
            "insert into former_passwords (user_id, password_hash, replaced_at)
             select id, password_hash, $2 from users where id = $1
             on conflict do nothing",
        )
        .bind(id)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        sql::query(
            "delete from former_passwords where user_id = $1 and password_hash not in
                 (select password_hash from former_passwords where user_id = $1
                  order by replaced_at desc, password_hash limit $2)",
        )
        .bind(id)
        .bind(FORMER_PASSWORDS)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        let done = sql::query(
            "update users set password_hash = $2, must_change_password = $3, updated_at = $4
             where id = $1",
        )
        .bind(id)
        .bind(password_hash)
        .bind(must_change_password)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        sql::query(
            "delete from sessions where user_id = $1 and ($2 is null or token_sha256 <> $2)",
        )
        .bind(id)
        .bind(keep.map(<[u8; 32]>::as_slice))
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        tx.commit().await.map_err(attempt(what))?;
        Ok(done.rows_affected() > 0)
    }

    /// Records what somebody did.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn audit_add(&self, row: &AuditRow) -> Result<()> {
        let id: i64 = sql::query_scalar(
            "insert into audit (created_at, actor, address, action, target, outcome)
             values ($1, $2, $3, $4, $5, $6) returning id",
        )
        .bind(row.created_at.0)
        .bind(&row.actor)
        .bind(&row.address)
        .bind(&row.action)
        .bind(&row.target)
        .bind(&row.outcome)
        .fetch_one(&self.pool)
        .await
        .map_err(attempt("writing the audit record"))?;
        // Somebody guessing passwords writes here too, so the table has an end.
        if id % 1000 == 0 {
            sql::query("delete from audit where id <= (select max(id) from audit) - $1")
                .bind(AUDIT_ROWS)
                .execute(&self.pool)
                .await
                .map_err(attempt("trimming the audit record"))?;
        }
        Ok(())
    }

    /// Changes what an account may do and ends its sessions, in one transaction.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn user_set_role(&self, id: &str, role: Role, now: Stamp) -> Result<()> {
        let what = "changing a role";
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt(what))?;
        sql::query("update users set role = $2, updated_at = $3 where id = $1")
            .bind(id)
            .bind(role.as_str())
            .bind(now.0)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        sql::query("delete from sessions where user_id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        tx.commit().await.map_err(attempt(what))
    }

    /// Deletes an account; its sessions go with it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn user_delete(&self, id: &str) -> Result<()> {
        sql::query("delete from users where id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(attempt("deleting an account"))?;
        Ok(())
    }

    /// The newest audit rows, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn audit_latest(&self, limit: u32) -> Result<Vec<AuditRow>> {
        let page = Page {
            before: None,
            limit,
        };
        let rows = self.audit_list(None, None, page).await?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Audit rows with their ids, newest first; of one actor, or of actions that begin with
    /// `action`, where these are given.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn audit_list(
        &self,
        actor: Option<&str>,
        action: Option<&str>,
        page: Page,
    ) -> Result<Vec<(i64, AuditRow)>> {
        let rows = sql::query(
            "select id, created_at, actor, address, action, target, outcome from audit
             where id < $1 and ($2 is null or actor = $2)
                 and ($3 is null or substr(action, 1, length($3)) = $3)
             order by id desc limit $4",
        )
        .bind(page.before_id())
        .bind(actor)
        .bind(action)
        .bind(page.rows())
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("reading the audit record"))?;
        let read = |row: &Row| {
            let audit = AuditRow {
                created_at: Stamp(row.try_get("created_at")?),
                actor: row.try_get("actor")?,
                address: row.try_get("address")?,
                action: row.try_get("action")?,
                target: row.try_get("target")?,
                outcome: row.try_get("outcome")?,
            };
            Ok((row.try_get("id")?, audit))
        };
        rows.iter()
            .map(read)
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading the audit record"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_five_passwords_are_remembered() {
        let (_dir, db) = crate::db::testing::open().await;
        db.user_add("ada", "h0", Role::Admin, true, Stamp(0))
            .await
            .unwrap();
        let id = db.user_by_name("ada").await.unwrap().unwrap().id;
        assert_eq!(db.user_last_passwords(&id).await.unwrap(), ["h0"]);
        for n in 1..=7 {
            let hash = format!("h{n}");
            db.user_set_password(&id, &hash, false, None, Stamp(n))
                .await
                .unwrap();
        }
        let last = db.user_last_passwords(&id).await.unwrap();
        assert_eq!(last, ["h7", "h6", "h5", "h4", "h3"]);
        db.user_delete(&id).await.unwrap();
        assert!(db.user_last_passwords(&id).await.unwrap().is_empty());
    }
}
