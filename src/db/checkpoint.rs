//! How far a reader of a file came. Written in the same transaction as what was read,
//! so that a reader killed anywhere goes on exactly where its rows end.

use crate::db::sql::{self, Connection};
use crate::db::{Db, Result, attempt};
use crate::model::Stamp;

/// A place in a file, and enough of the file to know it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Device of the file.
    pub dev: i64,
    /// Inode of the file.
    pub ino: i64,
    /// Bytes read.
    pub offset: u64,
    /// The file's first bytes; another file (or the same one, truncated and grown
    /// again) begins differently, because lines begin with their event id.
    pub mark: Vec<u8>,
}

impl Db {
    /// Where the reader called `source` stands; `None` before its first batch.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn checkpoint_get(&self, source: &str) -> Result<Option<Checkpoint>> {
        let row =
            sql::query("select dev, ino, read_bytes, mark from checkpoints where source = $1")
                .bind(source)
                .fetch_optional(&self.pool)
                .await
                .map_err(attempt("reading a checkpoint"))?;
        row.map(|row| {
            Ok(Checkpoint {
                dev: row.try_get("dev")?,
                ino: row.try_get("ino")?,
                offset: u64::try_from(row.try_get::<i64, _>("read_bytes")?).unwrap_or(0),
                mark: row.try_get("mark")?,
            })
        })
        .transpose()
        .map_err(attempt("reading a checkpoint"))
    }
}

/// Stores where `source` stands, in the caller's transaction.
pub(super) async fn save(
    tx: &mut Connection,
    source: &str,
    at: &Checkpoint,
    now: Stamp,
) -> Result<()> {
    sql::query(
        "insert into checkpoints (source, dev, ino, read_bytes, mark, updated_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (source) do update set dev = excluded.dev, ino = excluded.ino,
             read_bytes = excluded.read_bytes, mark = excluded.mark,
             updated_at = excluded.updated_at",
    )
    .bind(source)
    .bind(at.dev)
    .bind(at.ino)
    .bind(i64::try_from(at.offset).unwrap_or(i64::MAX))
    .bind(at.mark.as_slice())
    .bind(now.0)
    .execute(tx)
    .await
    .map_err(attempt("storing a checkpoint"))?;
    Ok(())
}
