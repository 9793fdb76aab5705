//! What several suites share: the binary under test, a private layout, waiting.

pub(crate) mod receiver;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

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
    command
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
