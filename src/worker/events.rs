//! Events that a worker makes itself: a spool of its own beside those of the deckies, which
//! the collector follows like theirs.

use anyhow::Context;

use crate::config::Config;
use crate::net::file;
use crate::syslog::spool;

/// Largest unread spool of a worker.
const SPOOL_MAX: u64 = 8 * 1024 * 1024;

/// Opens the spool `name`, which begins with `_`, as no decky's name does.
///
/// # Errors
/// When the directory or the spool cannot be made.
pub(crate) fn open(config: &Config, name: &str) -> anyhow::Result<spool::Writer> {
    let dir = config.paths.decky(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    for made in [&config.paths.deckies(), &dir] {
        file::inherit_owner(made).with_context(|| format!("owner of {}", made.display()))?;
    }
    spool::Writer::open(&dir, SPOOL_MAX).with_context(|| format!("opening {}", dir.display()))
}
