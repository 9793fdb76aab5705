//! The wanted fleet: rows with versions, changed by compare-and-set. What is running is
//! written into the same row by the reconciler alone.

use std::net::IpAddr;

use crate::db::sql::{self, Json, Row};
use crate::db::{Db, Error, Result, attempt, canary};
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

fn from_row(row: &Row) -> std::result::Result<DeckyRow, sqlx::Error> {
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
            slot: u32::try_from(row.try_get::<i64, _>("slot")?)
                .map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
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

/// One change of the wanted fleet; several are applied together by [`Db::decky_apply`].
#[derive(Clone, Debug)]
pub enum DeckyWrite {
    /// A new decky.
    Add {
        /// Its name.
        name: String,
        /// Its address.
        ip: IpAddr,
        /// What is wanted.
        wish: Wish,
        /// Who it is.
        persona: Box<Persona>,
    },
    /// Other wishes for a decky whose row is at `version`; takes back a removal.
    Set {
        /// Its name.
        name: String,
        /// Version of the row this is based on.
        version: i64,
        /// Its address from now on.
        ip: IpAddr,
        /// What is wanted from now on.
        wish: Wish,
        /// Who it is from now on; `None` stays who it is.
        persona: Option<Box<Persona>>,
    },
    /// Wanted no more, if its row is at `version`.
    Remove {
        /// Its name.
        name: String,
        /// Version of the row this is based on.
        version: i64,
    },
}

/// The slot is above every slot in use: a decky that is still stopping keeps its own.
const ADD: &str =
    "insert into deckies (name, ip, wish, persona, slot, created_at, updated_at, mutated_at)
     values ($1, $2, $3, $4, (select coalesce(max(slot), 0) + 1 from deckies), $5, $5, $5)
     on conflict do nothing";

/// That a write found the row it was about.
fn one_row(done: sql::Done, what: &str) -> Result<()> {
    if done.rows_affected() == 1 {
        return Ok(());
    }
    Err(Error::Conflict(format!("decky {what}")))
}

impl Db {
    /// Every decky, by name; those being removed included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn decky_list(&self) -> Result<Vec<DeckyRow>> {
        let rows = sql::query(
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
        let done = sql::query(ADD)
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

    /// Applies changes of the wanted fleet, all or none. Addresses may be swapped; one that
    /// a decky wanted no more still holds is taken from it, its row goes at once then.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a row moved on or a name or address is taken; nothing is
    /// changed then.
    pub async fn decky_apply(&self, writes: &[DeckyWrite], now: Stamp) -> Result<()> {
        let mut transaction = self
            .pool
            .begin()
            .await
            .map_err(attempt("beginning a deploy"))?;
        for write in writes {
            if let DeckyWrite::Remove { name, version } = write {
                let done = sql::query(
                    "update deckies set removed = true, version = version + 1,
                         state = 'tearing_down', updated_at = $3
                     where name = $1 and version = $2 and removed = false",
                )
                .bind(name)
                .bind(version)
                .bind(now.0)
                .execute(&mut *transaction)
                .await
                .map_err(attempt("removing a decky"))?;
                one_row(done, name)?;
            }
        }
        // Two steps, so that no address is held twice while they change hands.
        for write in writes {
            if let DeckyWrite::Set {
                name, version, ip, ..
            } = write
            {
                let done = sql::query(
                    "update deckies set ip = case ip when $3 then ip else 'leaving ' || name end
                     where name = $1 and version = $2",
                )
                .bind(name)
                .bind(version)
                .bind(ip.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(attempt("moving a decky"))?;
                one_row(done, name)?;
            }
        }
        for write in writes {
            let (DeckyWrite::Add { name, ip, .. } | DeckyWrite::Set { name, ip, .. }) = write
            else {
                continue;
            };
            let freed: Vec<String> = sql::query_scalar(
                "delete from deckies where ip = $1 and removed = true and name <> $2
                 returning name",
            )
            .bind(ip.to_string())
            .bind(name)
            .fetch_all(&mut *transaction)
            .await
            .map_err(attempt("freeing an address"))?;
            for gone in &freed {
                let noted = canary::went_with(&mut transaction, gone, now).await;
                noted.map_err(attempt("revoking canary tokens"))?;
            }
            let done = match write {
                DeckyWrite::Add { wish, persona, .. } => {
                    sql::query(ADD)
                        .bind(name)
                        .bind(ip.to_string())
                        .bind(Json(wish))
                        .bind(Json(persona))
                        .bind(now.0)
                        .execute(&mut *transaction)
                        .await
                }
                DeckyWrite::Set { wish, persona, .. } => {
                    sql::query(
                        "update deckies set ip = $2, wish = $3, removed = false,
                             version = version + 1, persona = coalesce($4, persona),
                             state = 'pending', last_error = null, updated_at = $5
                         where name = $1 and not exists
                             (select 1 from deckies d where d.ip = $2 and d.name <> $1)",
                    )
                    .bind(name)
                    .bind(ip.to_string())
                    .bind(Json(wish))
                    .bind(persona.as_ref().map(Json))
                    .bind(now.0)
                    .execute(&mut *transaction)
                    .await
                }
                DeckyWrite::Remove { .. } => continue,
            };
            let done = done.map_err(attempt("writing a decky"))?;
            one_row(done, &format!("{name} at {ip}"))?;
        }
        transaction
            .commit()
            .await
            .map_err(attempt("committing a deploy"))
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
        let done = sql::query(
            "update deckies set wish = $3, removed = false, version = version + 1,
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
        let done = sql::query(
            "update deckies set removed = true, version = version + 1, state = 'tearing_down', updated_at = $2
             where ($1 is null or name = $1) and removed = false",
        )
        .bind(name)
        .bind(now.0)
        .execute(&self.pool)
        .await
        .map_err(attempt("removing deckies"))?;
        Ok(done.rows_affected())
    }

    /// Deletes the row of a removed decky once it has stopped, if still at `version`; the
    /// canary tokens on it are revoked. Returns whether it was there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn decky_forget(&self, name: &str, version: i64, now: Stamp) -> Result<bool> {
        let what = "deleting a decky row";
        let mut tx = self.pool.begin().await.map_err(attempt(what))?;
        let done =
            sql::query("delete from deckies where name = $1 and version = $2 and removed = true")
                .bind(name)
                .bind(version)
                .execute(&mut *tx)
                .await
                .map_err(attempt(what))?;
        let gone = done.rows_affected() > 0;
        if gone {
            let noted = canary::went_with(&mut tx, name, now).await;
            noted.map_err(attempt(what))?;
        }
        tx.commit().await.map_err(attempt(what))?;
        Ok(gone)
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
        let done = sql::query(
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

    /// The installation's secret, once there is one; makes none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn installation_secret_present(&self) -> Result<Option<Vec<u8>>> {
        sql::query_scalar("select secret from installation where id = 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading the installation secret"))
    }

    /// The installation's secret; `fresh` becomes it on the first call ever.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn installation_secret(&self, fresh: [u8; 32], now: Stamp) -> Result<Vec<u8>> {
        sql::query("insert into installation (id, secret, created_at) values (1, $1, $2) on conflict do nothing")
            .bind(fresh.as_slice())
            .bind(now.0)
            .execute(&self.pool)
            .await
            .map_err(attempt("writing the installation secret"))?;
        sql::query_scalar("select secret from installation where id = 1")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("reading the installation secret"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::open;
    use crate::model::Service;

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
        assert!(db.decky_forget("d1", 3, Stamp(5)).await.unwrap());
        assert!(db.decky_list().await.unwrap().is_empty());
    }

    fn add(name: &str, ip: &str) -> DeckyWrite {
        let asked = crate::persona::Asked::default();
        DeckyWrite::Add {
            name: name.into(),
            ip: ip.parse().unwrap(),
            wish: Wish::default(),
            persona: Box::new(Persona::derive(b"s", name, &asked, Stamp(0))),
        }
    }

    fn set(name: &str, version: i64, ip: &str) -> DeckyWrite {
        DeckyWrite::Set {
            name: name.into(),
            version,
            ip: ip.parse().unwrap(),
            wish: Wish {
                generation: 1,
                ..Wish::default()
            },
            persona: None,
        }
    }

    async fn addresses(db: &Db) -> Vec<(String, String, bool)> {
        let rows = db.decky_list().await.unwrap().into_iter();
        rows.map(|r| (r.decky.name, r.decky.ip.to_string(), r.decky.removed))
            .collect()
    }

    #[tokio::test]
    async fn a_deploy_is_written_wholly_or_not_at_all() {
        let (_dir, db) = open().await;
        let first = [add("a", "127.0.0.2"), add("b", "127.0.0.3")];
        db.decky_apply(&first, Stamp(1)).await.unwrap();
        let before = db.decky_list().await.unwrap();
        for late in [
            set("b", 7, "127.0.0.9"),
            set("nobody", 1, "127.0.0.9"),
            add("b", "127.0.0.9"),
            add("d", "127.0.0.3"),
            set("b", 1, "127.0.0.2"),
            DeckyWrite::Remove {
                name: "b".into(),
                version: 2,
            },
        ] {
            let writes = [add("c", "127.0.0.4"), set("a", 1, "127.0.0.2"), late];
            let refused = db.decky_apply(&writes, Stamp(2)).await;
            assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
            assert_eq!(db.decky_list().await.unwrap(), before);
        }
    }

    #[tokio::test]
    async fn addresses_are_swapped_and_taken_over_in_one_go() {
        let (_dir, db) = open().await;
        let first = [
            add("a", "127.0.0.2"),
            add("b", "127.0.0.3"),
            add("c", "127.0.0.4"),
        ];
        db.decky_apply(&first, Stamp(1)).await.unwrap();
        let slot = db.decky_list().await.unwrap()[0].decky.slot;
        let writes = [
            set("a", 1, "127.0.0.3"),
            set("b", 1, "127.0.0.2"),
            add("d", "127.0.0.4"),
            DeckyWrite::Remove {
                name: "c".into(),
                version: 1,
            },
        ];
        db.decky_apply(&writes, Stamp(2)).await.unwrap();
        let expected = [
            ("a", "127.0.0.3", false),
            ("b", "127.0.0.2", false),
            ("d", "127.0.0.4", false),
        ];
        let expected = expected.map(|(n, ip, gone)| (n.to_owned(), ip.to_owned(), gone));
        assert_eq!(addresses(&db).await, expected);
        let a = db.decky_list().await.unwrap().remove(0).decky;
        assert_eq!((a.version, a.state, a.slot), (2, DeckyState::Pending, slot));
        assert_eq!(a.wish.generation, 1);
    }

    #[tokio::test]
    async fn a_removed_decky_keeps_its_row_until_somebody_needs_its_address() {
        let (_dir, db) = open().await;
        db.decky_apply(&[add("a", "127.0.0.2")], Stamp(1))
            .await
            .unwrap();
        let remove = DeckyWrite::Remove {
            name: "a".into(),
            version: 1,
        };
        db.decky_apply(&[remove], Stamp(2)).await.unwrap();
        let kept = [("a".to_owned(), "127.0.0.2".to_owned(), true)];
        assert_eq!(addresses(&db).await, kept);
        db.decky_apply(&[set("a", 2, "127.0.0.2")], Stamp(3))
            .await
            .unwrap();
        assert!(!addresses(&db).await[0].2, "wanted again");
    }

    #[tokio::test]
    async fn the_installation_secret_is_made_once() {
        let (_dir, db) = open().await;
        let first = db.installation_secret([1; 32], Stamp(0)).await.unwrap();
        let second = db.installation_secret([2; 32], Stamp(0)).await.unwrap();
        assert_eq!(first, second);
    }
}
