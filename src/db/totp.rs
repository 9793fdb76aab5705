//! Second factors. A secret arrives here sealed and a recovery code hashed, so nothing in
//! this file can make a code.

use crate::db::sql;
use crate::db::{Db, Result, attempt};
use crate::model::Stamp;

/// What an account's authenticator shares with us.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TotpRow {
    /// Sealed.
    pub secret: String,
    /// When a first code was right; until then the login does not ask for one.
    pub confirmed_at: Option<Stamp>,
}

impl Db {
    /// Keeps a secret that is yet to be confirmed, in place of an earlier one that was not.
    /// Returns false when the account has a second factor already.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn totp_begin(&self, user_id: &str, sealed: &str, now: Stamp) -> Result<bool> {
        let done = sql::query(
            "insert into totp (user_id, secret, last_step, created_at) values ($1, $2, 0, $3)
             on conflict (user_id) do update set secret = $2, created_at = $3
                 where totp.confirmed_at is null",
        )
        .bind(user_id)
        .bind(sealed)
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("beginning a second factor"))?;
        Ok(done.rows_affected() > 0)
    }

    /// An account's second factor, confirmed or not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn totp_find(&self, user_id: &str) -> Result<Option<TotpRow>> {
        sql::query_as("select secret, confirmed_at from totp where user_id = $1")
            .bind(user_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading a second factor"))
    }

    /// Uses up the code of a time step and all before it. Returns false when it was used.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn totp_take(&self, user_id: &str, step: i64) -> Result<bool> {
        let done =
            sql::query("update totp set last_step = $2 where user_id = $1 and last_step < $2")
                .bind(user_id)
                .bind(step)
                .execute(&self.pool)
                .await
                .map_err(attempt("using up a code"))?;
        Ok(done.rows_affected() > 0)
    }

    /// From now on the login asks for a code: the one of `step` was right. In the same
    /// transaction recovery codes are laid down and every session but `keep` ends, since
    /// it was opened without one. Returns false when there was nothing to confirm.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn totp_confirm(
        &self,
        user_id: &str,
        step: i64,
        codes_sha256: &[[u8; 32]],
        keep: &[u8; 32],
        now: Stamp,
    ) -> Result<bool> {
        let what = "confirming a second factor";
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt(what))?;
        let done = sql::query(
            "update totp set confirmed_at = $2, last_step = $3
             where user_id = $1 and confirmed_at is null",
        )
        .bind(user_id)
        .bind(now)
        .bind(step)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sql::query("delete from recovery_codes where user_id = $1")
            .bind(user_id)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        for code in codes_sha256 {
            sql::query("insert into recovery_codes (user_id, code_sha256) values ($1, $2)")
                .bind(user_id)
                .bind(code.as_slice())
                .execute(&mut *tx)
                .await
                .map_err(attempt(what))?;
        }
        sql::query("delete from sessions where user_id = $1 and token_sha256 <> $2")
            .bind(user_id)
            .bind(keep.as_slice())
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        tx.commit().await.map_err(attempt(what))?;
        Ok(true)
    }

    /// Takes an account's second factor and its recovery codes away. Returns whether it
    /// had one.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn totp_end(&self, user_id: &str) -> Result<bool> {
        let what = "ending a second factor";
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt(what))?;
        let done = sql::query("delete from totp where user_id = $1")
            .bind(user_id)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        sql::query("delete from recovery_codes where user_id = $1")
            .bind(user_id)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        tx.commit().await.map_err(attempt(what))?;
        Ok(done.rows_affected() > 0)
    }

    /// Uses up a recovery code. Returns whether it was one.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn recovery_code_take(&self, user_id: &str, code_sha256: &[u8; 32]) -> Result<bool> {
        let done = sql::query("delete from recovery_codes where user_id = $1 and code_sha256 = $2")
            .bind(user_id)
            .bind(code_sha256.as_slice())
            .execute(&self.pool)
            .await
            .map_err(attempt("using up a recovery code"))?;
        Ok(done.rows_affected() > 0)
    }

    /// How many recovery codes an account has left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn recovery_code_count(&self, user_id: &str) -> Result<i64> {
        sql::query_scalar("select count(*) from recovery_codes where user_id = $1")
            .bind(user_id)
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("counting recovery codes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::token::Whence;
    use crate::db::user::Role;
    use std::time::Duration;

    #[tokio::test]
    async fn a_second_factor_counts_once_confirmed_and_each_code_once() {
        let (_dir, db) = crate::db::testing::open().await;
        let now = Stamp(1);
        db.user_add("ada", "hash", Role::Admin, false, now)
            .await
            .unwrap();
        let id = db.user_by_name("ada").await.unwrap().unwrap().id;
        let later = now.plus(Duration::from_secs(9));
        for n in [1, 2] {
            db.session_add(&[n; 32], &id, &Whence::default(), now, later)
                .await
                .unwrap();
        }
        assert!(db.totp_begin(&id, "one", now).await.unwrap());
        assert!(db.totp_begin(&id, "two", now).await.unwrap());
        assert!(!db.user_by_name("ada").await.unwrap().unwrap().totp);
        let codes = [[7; 32], [8; 32]];
        let confirmed = db.totp_confirm(&id, 10, &codes, &[2; 32], now).await;
        assert!(confirmed.unwrap());
        assert!(db.user_by_name("ada").await.unwrap().unwrap().totp);
        let again = db.totp_confirm(&id, 11, &[], &[2; 32], now).await;
        assert!(!again.unwrap(), "only once");
        assert!(!db.totp_begin(&id, "three", now).await.unwrap());
        let row = db.totp_find(&id).await.unwrap().unwrap();
        assert_eq!((row.secret.as_str(), row.confirmed_at), ("two", Some(now)));
        let left = db.session_list(&id, Duration::from_secs(9), now).await;
        assert_eq!(left.unwrap().len(), 1, "the session that confirmed it");
        assert!(!db.totp_take(&id, 10).await.unwrap(), "it confirmed");
        assert!(db.totp_take(&id, 11).await.unwrap());
        assert!(!db.totp_take(&id, 11).await.unwrap());
        assert!(db.recovery_code_take(&id, &[7; 32]).await.unwrap());
        assert!(!db.recovery_code_take(&id, &[7; 32]).await.unwrap());
        assert_eq!(db.recovery_code_count(&id).await.unwrap(), 1);
        assert!(db.totp_end(&id).await.unwrap());
        assert!(!db.totp_end(&id).await.unwrap());
        assert!(!db.recovery_code_take(&id, &[8; 32]).await.unwrap());
    }
}
