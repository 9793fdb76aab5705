//! The database a test gets: a file in its directory or, with `DECNET_TEST_DB=postgres`, a
//! schema of its own on the server that `scripts/with-postgres.sh` names. Part of the
//! unit tests and of the suites alike.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;

use sqlx::{ConnectOptions, Connection, Executor};

/// Whether databases are on a server.
pub(crate) fn on_server() -> bool {
    match std::env::var("DECNET_TEST_DB").as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("DECNET_TEST_DB is '{other}'; use sqlite or postgres"),
    }
}

/// `DECNET_DB_URL` for the test whose directory this is: always the same one.
pub(crate) fn url(dir: &Path) -> String {
    if !on_server() {
        return format!("sqlite://{}", dir.join("decnet.db").display());
    }
    let Ok(server) = std::env::var("DECNET_TEST_DB_URL") else {
        panic!("no DECNET_TEST_DB_URL: run the tests with scripts/with-postgres.sh");
    };
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let schema = format!("t{:016x}", hasher.finish());
    run(&server, format!("create schema if not exists {schema}"));
    format!("{server}?options[search_path]={schema}")
}

/// Runs a statement on the server, from wherever: the caller may be on a runtime already.
fn run(server: &str, sql: String) {
    let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
    let work = async move {
        let mut connection = options.connect().await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    };
    let thread = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work);
    });
    thread.join().unwrap();
}
