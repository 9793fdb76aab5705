//! What unit tests open.

use super::Db;
use crate::config::Database;

#[path = "../../tests/support/database.rs"]
mod database;

pub(super) use database::on_server;

/// An empty database, on the engine that is being tested.
pub(crate) async fn open() -> (tempfile::TempDir, Db) {
    let (dir, at) = place();
    let db = Db::open(at).await.unwrap();
    (dir, db)
}

/// Where such a one will be.
pub(super) fn place() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let at = Database::parse(&database::url(dir.path())).unwrap();
    (dir, at)
}
