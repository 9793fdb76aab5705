//! The three runtimes behind one small interface. What a running decky says and is told
//! goes over its control socket, the same for all; a runtime only starts, finds and
//! removes. A decky outlives whoever started it: the next one finds it by its directory
//! (or its container's labels) and adopts it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use nix::fcntl::OFlag;

use crate::config::Config;
use crate::db::decky::DeckyRow;
use crate::decoy::control::{self, Status};
use crate::decoy::run::{Spec, spec_path};
use crate::model::Runtime;
use crate::net::file;
use crate::worker::reconciler::{docker, local, native};

/// Longest wait for a started decky to answer.
pub(super) const START: Duration = Duration::from_secs(10);
/// Longest wait for a stopped decky to go, before it is killed.
pub(super) const STOP: Duration = Duration::from_secs(5);
/// Largest specification that is read back.
const SPEC_MAX: u64 = 1024 * 1024;
/// Most that is read of what it said on stderr.
const SAID_MAX: u64 = 64 * 1024;
/// How often to look while waiting.
pub(super) const LOOK: Duration = Duration::from_millis(15);

/// A decky that was just started.
pub(super) struct Started {
    /// What it says of itself.
    pub(super) status: Status,
    /// Resolves, with a word on how, when it ends; reaps it.
    pub(super) ended: BoxFuture<'static, String>,
}

/// What a decky of this row is told.
pub(super) fn spec(row: &DeckyRow, config: &Config) -> Spec {
    let decky = &row.decky;
    Spec::new(
        &decky.name,
        decky.ip,
        decky.slot,
        decky.wish.clone(),
        row.persona.clone(),
        config.spool_max_bytes,
    )
}

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When its directory cannot be made, it cannot be started, or it ends at once.
pub(super) async fn start(config: &Config, spec: &Spec) -> anyhow::Result<Started> {
    match spec.wish.runtime {
        Runtime::Local => local::start(config, spec).await,
        Runtime::Native => native::start(config, spec).await,
        Runtime::Docker => docker::start(config, spec).await,
    }
}

/// Stops the decky called `name` and removes what only a running one needs. The spool
/// stays until the collector has read it.
///
/// # Errors
/// When it cannot be stopped or its files cannot be removed.
pub(super) async fn stop(config: &Config, name: &str, runtime: Runtime) -> anyhow::Result<()> {
    let dir = config.paths.decky(name);
    if let Err(error) = control::stop(&dir).await {
        tracing::debug!("{name} does not answer: {error}");
    }
    match runtime {
        Runtime::Local => local::end(config, name).await?,
        Runtime::Native => native::end(config, name).await?,
        Runtime::Docker => docker::end(config, name).await?,
    }
    for path in [
        spec_path(&dir),
        pid_path(&dir),
        errors_path(&dir),
        control::socket_path(&dir),
    ] {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
        }
    }
    Ok(())
}

/// Whether a process or container of this decky exists, answering or not.
pub(super) async fn exists(config: &Config, name: &str, runtime: Runtime) -> bool {
    match runtime {
        Runtime::Local => local::exists(config, name),
        Runtime::Native => native::exists(config, name),
        Runtime::Docker => docker::exists(config, name).await,
    }
}

/// Names of the deckies that have a directory with a specification on this host.
///
/// # Errors
/// When the directories cannot be read.
pub(super) fn directories(config: &Config) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(config.paths.deckies()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A directory without a specification only waits for the collector.
        if spec_path(&entry.path()).exists()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The runtime the decky of `dir` was started under, as its directory says; `None` when
/// that cannot be read.
pub(super) fn recorded(dir: &Path) -> Option<Runtime> {
    let text = read_theirs(&spec_path(dir), SPEC_MAX).ok()?;
    let spec: Spec = serde_json::from_slice(&text).ok()?;
    Some(spec.wish.runtime)
}

/// Reads at most `limit` bytes of a file in a directory that a decky may own: no link
/// leads out of it, and nothing in it blocks.
///
/// # Errors
/// When there is no such plain file, or it cannot be read.
pub(super) fn read_theirs(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut text = Vec::new();
    file.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

/// Makes the decky's directory, owned by `owner` (user, group), and writes its
/// specification into it.
///
/// # Errors
/// When either cannot be written.
pub(super) fn prepare(
    config: &Config,
    spec: &Spec,
    owner: Option<(u32, u32)>,
) -> anyhow::Result<PathBuf> {
    let dir = config.paths.decky(&spec.name);
    let parent = config.paths.deckies();
    make_dir(&parent, service_owner(config)?)
        .with_context(|| format!("creating {}", parent.display()))?;
    make_dir(&dir, owner).with_context(|| format!("creating {}", dir.display()))?;
    let path = spec_path(&dir);
    // The persona's seed is a secret of the installation.
    file::write_volatile(&path, &serde_json::to_vec_pretty(spec)?, 0o600)
        .with_context(|| format!("writing {}", path.display()))?;
    give(&path, owner)?;
    Ok(dir)
}

/// Waits until the decky of `dir` answers with the fingerprint of `spec`; `ended` says
/// how it ended when it does so instead.
///
/// # Errors
/// When it ends, or does not answer within [`START`].
pub(super) async fn until_answering(
    dir: &Path,
    spec: &Spec,
    mut ended: impl FnMut() -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Status> {
    let answered = tokio::time::timeout(START, async {
        loop {
            if let Some(status) = control::status(dir).await
                && status.config_hash == spec.config_hash
            {
                return Ok(status);
            }
            if let Some(how) = ended()? {
                let said = read_theirs(&errors_path(dir), SAID_MAX).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                let said = said.lines().last().unwrap_or("it said nothing");
                anyhow::bail!("the decky process ended at once ({how}): {said}");
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    answered.unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "the decky process did not answer within {} s",
            START.as_secs()
        ))
    })
}

/// Where a decky's process id is recorded (local and native).
pub(super) fn pid_path(dir: &Path) -> PathBuf {
    dir.join("pid")
}

/// Where what a decky's process says on stderr goes (local and native).
pub(super) fn errors_path(dir: &Path) -> PathBuf {
    dir.join("stderr")
}

/// Whom files of ours belong to: when root acts on an installed host, the service
/// account that owns the state directory.
///
/// # Errors
/// When the state directory cannot be looked at.
pub(super) fn service_owner(config: &Config) -> anyhow::Result<Option<(u32, u32)>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let meta = fs::metadata(&config.paths.state)
        .with_context(|| format!("looking at {}", config.paths.state.display()))?;
    Ok((meta.uid() != 0).then(|| (meta.uid(), meta.gid())))
}

fn make_dir(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o750).create(path) {
        Ok(()) => give(path, owner),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives `path` to `owner`, when there is one.
///
/// # Errors
/// When that is not permitted.
pub(super) fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}
