//! Connections of attackers to deckies; written by [`crate::db::tally`].

use crate::db::sql::QueryBuilder;
use crate::db::{Db, Origin, Page, Result, attempt, counter};
use crate::model::Stamp;

/// A connection, from its first event to its last.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AttackSession {
    /// Paging key, in the order they began.
    pub n: i64,
    /// The id its events carry.
    pub id: String,
    /// Who.
    pub attacker_ip: String,
    /// On which decky.
    pub decky: String,
    /// On which service.
    pub service: String,
    /// First event.
    pub started_at: Stamp,
    /// Last event.
    pub last_seen: Stamp,
    /// When it was closed, if that is known.
    pub ended_at: Option<Stamp>,
    /// Events.
    pub events: i64,
    /// Commands and requests.
    pub commands: i64,
    /// Logins tried.
    pub logins: i64,
}

const SELECT: &str = "select n, id, attacker_ip, decky, service, started_at, last_seen, ended_at,
     events, commands, logins from attack_sessions where true";

impl Db {
    /// Sessions, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attack_session_list(
        &self,
        filter: &Origin,
        page: Page,
    ) -> Result<Vec<AttackSession>> {
        let mut sql = QueryBuilder::new(SELECT);
        filter.narrow(&mut sql, "");
        sql.push(" and n < ").push_bind(page.before_id());
        sql.push(" order by n desc limit ").push_bind(page.rows());
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing sessions"))
    }

    /// One session by its id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attack_session_get(&self, id: &str) -> Result<Option<AttackSession>> {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push(" and id = ").push_bind(id);
        sql.build_query_as()
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading a session"))
    }

    /// How many sessions there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn attack_session_count(&self) -> Result<i64> {
        self.counter(counter::SESSIONS).await
    }
}
