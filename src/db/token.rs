//! Login sessions. The database knows a token only by its SHA-256, so a copy of the
//! file opens nothing.

use std::time::Duration;

use uuid::Uuid;

use crate::db::sql;
use crate::db::user::Role;
use crate::db::{Db, Result, attempt};
use crate::model::Stamp;

/// Sessions one account may have at a time; the oldest makes room.
const PER_USER: i64 = 50;

/// An open session and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The account.
    pub user_id: String,
    /// Its name.
    pub user_name: String,
    /// Its role now, not at login.
    pub role: Role,
    /// Whether it may do nothing but change its password.
    pub must_change_password: bool,
    /// When the session was last used, to the minute.
    pub used_at: Stamp,
    /// When it ends at the latest.
    pub expires_at: Stamp,
    /// It is an API token, not a login.
    pub api_token: bool,
}

/// Where a login came from.
#[derive(Clone, Debug, Default)]
pub struct Whence {
    /// The client's address.
    pub address: String,
    /// What it called itself.
    pub agent: String,
}

/// An open session as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct OpenSession {
    /// UUIDv7.
    pub id: String,
    /// Of its token; tells which of them is the one that asks.
    pub token_sha256: Vec<u8>,
    /// Where the login came from.
    pub address: String,
    /// What the client called itself.
    pub agent: String,
    /// When it was opened.
    pub created_at: Stamp,
    /// When it was last used, to the minute.
    pub used_at: Stamp,
    /// When it ends at the latest.
    pub expires_at: Stamp,
}

impl Db {
    /// Opens a session, and clears away what has expired.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn session_add(
        &self,
        token_sha256: &[u8; 32],
        user_id: &str,
        whence: &Whence,
        now: Stamp,
        expires_at: Stamp,
    ) -> Result<()> {
        let what = "opening a session";
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        sql::query(
            "insert into sessions
                 (token_sha256, id, user_id, address, agent, created_at, used_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $6, $7)",
        )
        .bind(token_sha256.as_slice())
        .bind(Uuid::now_v7().to_string())
        .bind(user_id)
        .bind(&whence.address)
        .bind(&whence.agent)
        .bind(now.0)
        .bind(expires_at.0)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        sql::query("delete from sessions where expires_at <= $1")
            .bind(now.0)
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        sql::query(
            "delete from sessions where user_id = $1 and token_sha256 not in
                 (select token_sha256 from sessions where user_id = $1
                  order by created_at desc, token_sha256 limit $2)",
        )
        .bind(user_id)
        .bind(PER_USER)
        .execute(&mut *tx)
        .await
        .map_err(attempt(what))?;
        tx.commit().await.map_err(attempt(what))
    }

    /// The session behind a token, if it has neither expired nor lain idle for `idle`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session_find(
        &self,
        token_sha256: &[u8; 32],
        idle: Duration,
        now: Stamp,
    ) -> Result<Option<SessionRow>> {
        let row = sql::query(
            "select s.used_at, s.expires_at, u.id, u.name, u.role, u.must_change_password
             from sessions s join users u on u.id = s.user_id where s.token_sha256 = $1",
        )
        .bind(token_sha256.as_slice())
        .fetch_optional(&self.pool)
        .await
        .map_err(attempt("reading a session"))?;
        let Some(row) = row else { return Ok(None) };
        let read = || {
            let role: String = row.try_get("role")?;
            Ok(SessionRow {
                user_id: row.try_get("id")?,
                user_name: row.try_get("name")?,
                role: Role::parse(&role),
                must_change_password: row.try_get("must_change_password")?,
                used_at: Stamp(row.try_get("used_at")?),
                expires_at: Stamp(row.try_get("expires_at")?),
                api_token: false,
            })
        };
        let session: SessionRow = read().map_err(attempt("reading a session"))?;
        let open = now < session.expires_at && now.since(session.used_at) < idle;
        Ok(open.then_some(session))
    }

    /// Notes that a session is in use.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn session_touch(&self, token_sha256: &[u8; 32], now: Stamp) -> Result<()> {
        sql::query("update sessions set used_at = $2 where token_sha256 = $1")
            .bind(token_sha256.as_slice())
            .bind(now.0)
            .execute(&self.pool)
            .await
            .map_err(attempt("noting a session's use"))?;
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn session_end(&self, token_sha256: &[u8; 32]) -> Result<()> {
        sql::query("delete from sessions where token_sha256 = $1")
            .bind(token_sha256.as_slice())
            .execute(&self.pool)
            .await
            .map_err(attempt("ending a session"))?;
        Ok(())
    }

    /// An account's sessions that are not over, the one used last first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session_list(
        &self,
        user_id: &str,
        idle: Duration,
        now: Stamp,
    ) -> Result<Vec<OpenSession>> {
        let idle = i64::try_from(idle.as_micros()).unwrap_or(i64::MAX);
        sql::query_as(
            "select id, token_sha256, address, agent, created_at, used_at, expires_at
             from sessions where user_id = $1 and expires_at > $2 and used_at > $3
             order by used_at desc, id desc limit $4",
        )
        .bind(user_id)
        .bind(now)
        .bind(now.0.saturating_sub(idle))
        .bind(PER_USER)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing sessions"))
    }

    /// Ends the session of that name, if it is the account's. Returns whether it was.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn session_end_one(&self, id: &str, user_id: &str) -> Result<bool> {
        let done = sql::query("delete from sessions where id = $1 and user_id = $2")
            .bind(id)
            .bind(user_id)
            .execute(&self.pool)
            .await
            .map_err(attempt("ending a session"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends every session of an account but `keep`. Returns how many.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn session_end_all(&self, user_id: &str, keep: Option<&[u8; 32]>) -> Result<u64> {
        let done = sql::query(
            "delete from sessions where user_id = $1 and ($2 is null or token_sha256 <> $2)",
        )
        .bind(user_id)
        .bind(keep.map(<[u8; 32]>::as_slice))
        .execute(&self.pool)
        .await
        .map_err(attempt("ending an account's sessions"))?;
        Ok(done.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn open() -> (tempfile::TempDir, Db, String) {
        let (dir, db) = crate::db::testing::open().await;
        db.user_add("ada", "hash", Role::Admin, true, Stamp(0))
            .await
            .unwrap();
        let id = db.user_by_name("ada").await.unwrap().unwrap().id;
        (dir, db, id)
    }

    #[tokio::test]
    async fn a_session_ends_by_age_by_idleness_and_by_hand() {
        let (_dir, db, id) = open().await;
        let start = Stamp(1);
        db.session_add(
            &[1; 32],
            &id,
            &Whence::default(),
            start,
            start.plus(HOUR * 10),
        )
        .await
        .unwrap();
        let found = db.session_find(&[1; 32], HOUR, start).await.unwrap();
        assert_eq!(found.map(|s| s.user_name), Some("ada".to_owned()));
        let later = start.plus(HOUR);
        assert_eq!(db.session_find(&[1; 32], HOUR, later).await.unwrap(), None);
        db.session_touch(&[1; 32], later).await.unwrap();
        assert!(
            db.session_find(&[1; 32], HOUR, later)
                .await
                .unwrap()
                .is_some()
        );
        let end = start.plus(HOUR * 10);
        db.session_touch(&[1; 32], end).await.unwrap();
        assert_eq!(db.session_find(&[1; 32], HOUR, end).await.unwrap(), None);
        db.session_end(&[1; 32]).await.unwrap();
        assert_eq!(db.session_find(&[1; 32], HOUR, later).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_new_password_ends_every_session_but_the_one_that_set_it() {
        let (_dir, db, id) = open().await;
        for n in 1..=3 {
            db.session_add(
                &[n; 32],
                &id,
                &Whence::default(),
                Stamp(1),
                Stamp(1).plus(HOUR),
            )
            .await
            .unwrap();
        }
        assert!(
            db.user_set_password(&id, "new", false, Some(&[2; 32]), Stamp(2))
                .await
                .unwrap()
        );
        for n in 1..=3 {
            let left = db.session_find(&[n; 32], HOUR, Stamp(3)).await.unwrap();
            assert_eq!(left.is_some(), n == 2, "{n}");
        }
        let user = db.user_by_name("ada").await.unwrap().unwrap();
        assert_eq!(
            (user.password_hash.as_str(), user.must_change_password),
            ("new", false)
        );
    }

    #[tokio::test]
    async fn an_account_has_a_bounded_number_of_sessions() {
        let (_dir, db, id) = open().await;
        for n in 0..60 {
            let at = Stamp(i64::from(n));
            db.session_add(&[n; 32], &id, &Whence::default(), at, at.plus(HOUR))
                .await
                .unwrap();
        }
        let first = db.session_find(&[0; 32], HOUR, Stamp(60)).await.unwrap();
        let last = db.session_find(&[59; 32], HOUR, Stamp(60)).await.unwrap();
        assert!(first.is_none() && last.is_some());
    }

    #[tokio::test]
    async fn only_open_sessions_are_listed_and_nobody_ends_anothers() {
        let (_dir, db, id) = open().await;
        let start = Stamp(1);
        let whence = Whence {
            address: "192.0.2.7".to_owned(),
            agent: "curl/8".to_owned(),
        };
        for (n, lasts) in [(1, HOUR * 9), (2, HOUR * 9), (3, HOUR)] {
            db.session_add(&[n; 32], &id, &whence, start, start.plus(lasts))
                .await
                .unwrap();
        }
        let later = start.plus(HOUR);
        db.session_touch(&[1; 32], later).await.unwrap();
        let list = db.session_list(&id, HOUR * 2, later).await.unwrap();
        assert_eq!(list.len(), 2, "one has expired: {list:?}");
        assert_eq!(list[0].token_sha256, [1; 32], "the one used last");
        assert_eq!((list[0].used_at, &*list[0].agent), (later, "curl/8"));
        let fresh = db.session_list(&id, HOUR, later).await.unwrap();
        assert_eq!(fresh.len(), 1, "one lay idle: {fresh:?}");
        let other = list[1].id.as_str();
        assert!(!db.session_end_one(other, "somebody").await.unwrap());
        assert!(db.session_end_one(other, &id).await.unwrap());
        assert_eq!(db.session_end_all(&id, Some(&[1; 32])).await.unwrap(), 1);
        assert_eq!(db.session_end_all(&id, None).await.unwrap(), 1);
    }
}
