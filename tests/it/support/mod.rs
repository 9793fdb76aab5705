//! What several suites share: the binary under test, a private layout, waiting.

#[path = "../../support/database.rs"]
mod database;
pub(crate) mod receiver;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use decnet::config::Database;

pub(crate) use database::on_server;
pub(crate) use server::Server;

/// The program built from this tree.
pub(crate) fn decnet() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_decnet"))
}

/// A command on a private state directory, with nothing of ours inherited.
pub(crate) fn command(state: &Path) -> Command {
    let mut command = Command::new(decnet());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DECNET_") {
            command.env_remove(name);
        }
    }
    command.arg("--state-dir").arg(state);
    if database::on_server() {
        command.env("DECNET_DB_URL", database::url(state));
    }
    command
}

/// The database of a state directory, on the engine that is being tested.
pub(crate) fn database(state: &Path) -> Database {
    Database::parse(&database::url(state)).unwrap()
}

/// The settings of a state directory with its database.
pub(crate) fn settings(state: &Path) -> Vec<(String, String)> {
    vec![
        ("DECNET_STATE_DIR".to_owned(), state.display().to_string()),
        ("DECNET_DB_URL".to_owned(), database::url(state)),
    ]
}

/// Whether anything may have been stored there.
pub(crate) fn has_database(state: &Path) -> bool {
    database::on_server() || state.join("decnet.db").exists()
}

/// Looks every 20 ms until `probe` gives something, at most `patience` long.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
