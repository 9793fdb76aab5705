//! Files that operators uploaded to put tokens into; the bytes lie below the state
//! directory under their SHA-256.

use crate::db::sql::{self, QueryBuilder};
use crate::db::{Db, Error, Result, attempt};
use crate::model::Stamp;

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct BlobRow {
    /// Lower-case hex.
    pub sha256: String,
    /// As it was called when it was uploaded first.
    pub name: String,
    /// Bytes.
    pub size_bytes: i64,
    /// By whom.
    pub uploaded_by: String,
    /// When.
    pub uploaded_at: Stamp,
    /// How many tokens are in it.
    pub tokens: i64,
}

const SELECT: &str = "select b.sha256, b.name, b.size_bytes, b.uploaded_by, b.uploaded_at,
     (select count(*) from canary_tokens t where t.blob = b.sha256) as tokens
     from canary_blobs b";

impl Db {
    /// Adds an uploaded file; the same bytes again change nothing. Says whether it is new.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn canary_blob_add(
        &self,
        sha256: &str,
        name: &str,
        size_bytes: i64,
        uploaded_by: &str,
        now: Stamp,
    ) -> Result<bool> {
        let done = sql::query(
            "insert into canary_blobs (sha256, name, size_bytes, uploaded_by, uploaded_at)
             values ($1, $2, $3, $4, $5) on conflict (sha256) do nothing",
        )
        .bind(sha256)
        .bind(name)
        .bind(size_bytes)
        .bind(uploaded_by)
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(attempt("adding an uploaded file"))?;
        Ok(done.rows_affected() > 0)
    }

    /// An uploaded file.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_blob_find(&self, sha256: &str) -> Result<Option<BlobRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push(" where b.sha256 = ").push_bind(sha256);
        sql.build_query_as()
            .fetch_optional(&self.pool)
            .await
            .map_err(attempt("reading an uploaded file's record"))
    }

    /// The latest thousand uploaded files, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_blob_list(&self) -> Result<Vec<BlobRow>> {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push(" order by b.uploaded_at desc, b.sha256 limit 1000");
        sql.build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(attempt("listing uploaded files"))
    }

    /// Bytes of all uploaded files.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn canary_blob_bytes(&self) -> Result<i64> {
        sql::query_scalar("select coalesce(cast(sum(size_bytes) as bigint), 0) from canary_blobs")
            .fetch_one(&self.pool)
            .await
            .map_err(attempt("adding up uploaded files"))
    }

    /// Deletes the record of an uploaded file. Says whether it was there.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a token is in it.
    pub async fn canary_blob_delete(&self, sha256: &str) -> Result<bool> {
        let done = sql::query(
            "delete from canary_blobs where sha256 = $1
                 and not exists (select 1 from canary_tokens where blob = $1)",
        )
        .bind(sha256)
        .execute(&self.pool)
        .await
        .map_err(attempt("deleting an uploaded file's record"))?;
        if done.rows_affected() == 0 && self.canary_blob_find(sha256).await?.is_some() {
            return Err(Error::Conflict(
                "the file (a token is in it; delete that first)".to_owned(),
            ));
        }
        Ok(done.rows_affected() > 0)
    }
}
