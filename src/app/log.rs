//! The application log: one line per record on stderr and, where `DECNET_SYSTEM_LOGS`
//! names another file than the one stderr already goes to, in that file. A file that
//! cannot be opened is a warning, never a reason not to start.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};

use crate::config::Config;

/// Installs the subscriber; a second call does nothing.
pub(super) fn init(config: &Config) {
    let filter = EnvFilter::new(format!(
        "{},sqlx=warn,zbus=warn,hyper=warn",
        config.log_level
    ));
    let opened = config.system_log.as_deref().map(|path| (path, open(path)));
    let (writer, warning) = match opened {
        Some((_, Ok(file))) if same_as_stderr(&file) => (BoxMakeWriter::new(io::stderr), None),
        Some((_, Ok(file))) => (
            BoxMakeWriter::new(io::stderr.and(std::sync::Mutex::new(file))),
            None,
        ),
        Some((path, Err(error))) => (
            BoxMakeWriter::new(io::stderr),
            Some(format!("opening the log file {}: {error}", path.display())),
        ),
        None => (BoxMakeWriter::new(io::stderr), None),
    };
    let colour = config.system_log.is_none()
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none();
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
    if installed.is_ok()
        && let Some(warning) = warning
    {
        tracing::warn!("{warning}; logging to stderr only");
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    file.flush()?;
    Ok(file)
}

/// Under systemd `StandardError=append:` already points stderr at the log file; writing
/// to both would double every line.
fn same_as_stderr(file: &File) -> bool {
    let Ok(log) = nix::sys::stat::fstat(file.as_fd()) else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr().as_fd())
        .is_ok_and(|err| err.st_dev == log.st_dev && err.st_ino == log.st_ino)
}
