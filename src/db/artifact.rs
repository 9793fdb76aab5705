//! Files that attackers left, as far as events tell of them; the bytes are in the store
//! ([`crate::net::store`]). Written by [`crate::db::tally`].

use crate::db::sql::{self, QueryBuilder};
use crate::db::{Db, Origin, Page, Result, attempt};
use crate::model::Stamp;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ArtifactRow {
    /// Paging key, in the order they first came.
    pub n: i64,
    /// Lower-case hex.
    pub sha256: String,
    /// Bytes.
    pub size_bytes: i64,
    /// What the attacker called it the first time; may be empty.
    pub name: String,
    /// First time left.
    pub first_seen: Stamp,
    /// Last time left.
    pub last_seen: Stamp,
    /// How often.
    pub count: i64,
    /// Who left it last.
    pub attacker_ip: String,
    /// On which decky.
    pub decky: String,
    /// Through which service.
    pub service: String,
    /// In which session.
    pub session: String,
}

/// One time a file was left.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SightingRow {
    /// When.
    pub ts: Stamp,
    /// By whom.
    pub attacker_ip: String,
    /// On which decky.
    pub decky: String,
    /// Through which service.
    pub service: String,
    /// In which session.
    pub session: String,
    /// Under which name; may be empty.
    pub name: String,
}

const SELECT: &str =
    "select a.n, a.sha256, a.size_bytes, a.name, a.first_seen, a.last_seen, a.count,
     s.attacker_ip, s.decky, s.service, s.session
     from artifacts a join artifact_sightings s
     on s.n = (select max(n) from artifact_sightings t where t.sha256 = a.sha256";

impl Db {
    /// Files, those that came first last; the filter must fit one of the times each was left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn artifact_list(&self, filter: &Origin, page: Page) -> Result<Vec<ArtifactRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        filter.narrow(&mut sql, "t.");
        sql.push(") where a.n < ").push_bind(page.before_id());
        sql.push(" order by a.n desc limit ").push_bind(page.rows());
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing files"))
    }

    /// One file by its hash.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn artifact_get(&self, sha256: &str) -> Result<Option<ArtifactRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push(") where a.sha256 = ").push_bind(sha256);
        sql.build_query_as()
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading a file's record"))
    }

    /// The last hundred times a file was left, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn artifact_sightings(&self, sha256: &str) -> Result<Vec<SightingRow>> {
        sql::query_as(
            "select ts, attacker_ip, decky, service, session, name
             from artifact_sightings where sha256 = $1 order by n desc limit 100",
        )
        .bind(sha256)
        .fetch_all(&self.pool)
        .await
        .map_err(attempt("reading a file's sightings"))
    }

    /// How many files there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn artifact_count(&self) -> Result<i64> {
        sql::query_scalar("select count(*) from artifacts")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("counting files"))
    }
}
