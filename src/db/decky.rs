//! The wanted fleet: rows with versions, changed by compare-and-set. What is running is
//! written into the same row by the reconciler alone.

use std::net::IpAddr;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;

use crate::db::{Db, Error, Result, attempt};
use crate::model::{Decky, DeckyState, Listener, Stamp, Wish};
use crate::persona::Persona;

/// A row: the decky and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeckyRow {
    /// The decky.
    pub decky: Decky,
    /// Its persona; never sent anywhere but to the decky itself.
    pub persona: Persona,
}

fn from_row(row: &SqliteRow) -> std::result::Result<DeckyRow, sqlx::Error> {
    let ip: String = row.try_get("ip")?;
    let ip: IpAddr = ip.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    let Json(wish): Json<Wish> = row.try_get("wish")?;
    let Json(persona): Json<Persona> = row.try_get("persona")?;
    let persona = persona.complete();
    let Json(listeners): Json<Vec<Listener>> = row.try_get("listeners")?;
    let state: String = row.try_get("state")?;
    Ok(DeckyRow {
        decky: Decky {
            name: row.try_get("name")?,
            host: row.try_get("host")?,
            ip,
            wish,
            slot: row.try_get("slot")?,
            version: row.try_get("version")?,
            removed: row.try_get("removed")?,
            state: DeckyState::parse(&state),
            last_error: row.try_get("last_error")?,
            listeners,
            mutated_at: Stamp(row.try_get("mutated_at")?),
            updated_at: Stamp(row.try_get("updated_at")?),
        },
        persona,
    })
}

impl Db {
    /// Every decky, by name; those being removed included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn decky_list(&self) -> Result<Vec<DeckyRow>> {
        let rows = sqlx::query(
            "select name, host, ip, wish, persona, slot, version, removed, state, last_error,
                 listeners, mutated_at, updated_at
             from deckies order by name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("listing deckies"))?;
        rows.iter()
            .map(from_row)
            .collect::<std::result::Result<_, _>>()
            .map_err(attempt("reading a decky row"))
    }

    /// Adds a decky to the wanted fleet.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name or address is taken.
    pub async fn decky_add(
        &self,
        name: &str,
        ip: IpAddr,
        wish: &Wish,
        persona: &Persona,
        now: Stamp,
    ) -> Result<()> {
        // Above every slot in use: a decky that is still stopping keeps its own.
        let done = sqlx::query(
            "insert into deckies (name, ip, wish, persona, slot, created_at, updated_at, mutated_at)
             values ($1, $2, $3, $4, (select coalesce(max(slot), 0) + 1 from deckies), $5, $5, $5)
             on conflict do nothing",
        )
        .bind(name)
        .bind(ip.to_string())
        .bind(Json(wish))
        .bind(Json(persona))
        .bind(now.0)
        .execute(&self.pool)
        .await
        .map_err(attempt("adding a decky"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict(format!("decky {name} at {ip}")));
        }
        Ok(())
    }

    /// Changes what is wanted of a decky (and who it is, when `persona` is given), if its
    /// row is still at `version`. Also takes back a removal.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the row moved on.
    pub async fn decky_set_wish(
        &self,
        name: &str,
        version: i64,
        wish: &Wish,
        persona: Option<&Persona>,
        now: Stamp,
    ) -> Result<()> {
        let done = sqlx::query(
            "update deckies set wish = $3, removed = 0, version = version + 1,
                 persona = coalesce($5, persona),
                 state = 'pending', last_error = null, updated_at = $4
             where name = $1 and version = $2",
        )
        .bind(name)
        .bind(version)
        .bind(Json(wish))
        .bind(now.0)
        .bind(persona.map(Json))
        .execute(&self.pool)
        .await
        .map_err(attempt("changing a decky"))?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict(format!("decky {name}")));
        }
        Ok(())
    }

    /// Marks deckies for removal; all of them when `name` is `None`. Returns how many.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn decky_remove(&self, name: Option<&str>, now: Stamp) -> Result<u64> {
        let done = sqlx::query(
            "update deckies set removed = 1, version = version + 1, state = 'tearing_down', updated_at = $2
             where ($1 is null or name = $1) and removed = 0",
        )
        .bind(name)
        .bind(now.0)
        .execute(&self.pool)
        .await
        .map_err(attempt("removing deckies"))?;
        Ok(done.rows_affected())
    }

    /// Deletes the row of a removed decky once it has stopped, if still at `version`.
    /// Returns whether it was there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn decky_forget(&self, name: &str, version: i64) -> Result<bool> {
        let done =
            sqlx::query("delete from deckies where name = $1 and version = $2 and removed = 1")
                .bind(name)
                .bind(version)
                .execute(&self.pool)
                .await
                .map_err(attempt("deleting a decky row"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Writes what the reconciler saw, if the row is still at `version`. Returns whether
    /// it was.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn decky_observe(
        &self,
        name: &str,
        version: i64,
        state: DeckyState,
        listeners: &[Listener],
        last_error: Option<&str>,
        now: Stamp,
    ) -> Result<bool> {
        let done = sqlx::query(
            "update deckies set state = $3, listeners = $4, last_error = $5, updated_at = $6
             where name = $1 and version = $2",
        )
        .bind(name)
        .bind(version)
        .bind(state.as_str())
        .bind(Json(listeners))
        .bind(last_error)
        .bind(now.0)
        .execute(&self.pool)
        .await
        .map_err(attempt("writing a decky's state"))?;
        Ok(done.rows_affected() > 0)
    }

    /// The installation's secret; `fresh` becomes it on the first call ever.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn installation_secret(&self, fresh: [u8; 32], now: Stamp) -> Result<Vec<u8>> {
        sqlx::query("insert into installation (id, secret, created_at) values (1, $1, $2) on conflict do nothing")
            .bind(fresh.as_slice())
            .bind(now.0)
            .execute(&self.pool)
            .await
            .map_err(attempt("writing the installation secret"))?;
        sqlx::query_scalar("select secret from installation where id = 1")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("reading the installation secret"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Service;

    async fn open() -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("x.db")).await.unwrap();
        (dir, db)
    }

    #[tokio::test]
    async fn a_decky_lives_from_wanted_to_forgotten() {
        let (_dir, db) = open().await;
        let ip: IpAddr = "127.77.0.1".parse().unwrap();
        let persona = Persona::derive(b"s", "d1", &crate::persona::Asked::default(), Stamp(0));
        let offers = |service| Wish {
            services: vec![service],
            ..Wish::default()
        };
        db.decky_add("d1", ip, &offers(Service::Redis), &persona, Stamp(1))
            .await
            .unwrap();
        let again = db
            .decky_add("d2", ip, &offers(Service::Http), &persona, Stamp(1))
            .await;
        assert!(
            matches!(again, Err(Error::Conflict(_))),
            "one address, one decky"
        );
        let row = db.decky_list().await.unwrap().remove(0);
        assert_eq!(row.decky.state, DeckyState::Pending);
        assert_eq!(row.persona, persona);
        assert!(
            db.decky_observe("d1", 1, DeckyState::Running, &[], None, Stamp(2))
                .await
                .unwrap()
        );
        db.decky_set_wish("d1", 1, &offers(Service::Ftp), None, Stamp(3))
            .await
            .unwrap();
        let stale = db
            .decky_set_wish("d1", 1, &offers(Service::Http), None, Stamp(3))
            .await;
        assert!(matches!(stale, Err(Error::Conflict(_))));
        assert!(
            !db.decky_observe("d1", 1, DeckyState::Failed, &[], None, Stamp(2))
                .await
                .unwrap()
        );
        assert_eq!(db.decky_remove(None, Stamp(4)).await.unwrap(), 1);
        assert!(db.decky_forget("d1", 3).await.unwrap());
        assert!(db.decky_list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_installation_secret_is_made_once() {
        let (_dir, db) = open().await;
        let first = db.installation_secret([1; 32], Stamp(0)).await.unwrap();
        let second = db.installation_secret([2; 32], Stamp(0)).await.unwrap();
        assert_eq!(first, second);
    }
}
