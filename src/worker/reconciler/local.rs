//! The local runtime: one process per decky on a loopback address of its own. A decky
//! outlives whoever started it; the next one finds it by its directory and adopts it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};

use crate::config::Config;
use crate::db::decky::DeckyRow;
use crate::decoy::control::{self, Status};
use crate::decoy::run::{Spec, spec_path};
use crate::net::file;

/// Longest wait for a started decky to answer.
const START: Duration = Duration::from_secs(10);
/// Longest wait for a stopped decky to go, before it is killed.
const STOP: Duration = Duration::from_secs(5);
/// How often to look while waiting.
const LOOK: Duration = Duration::from_millis(15);

/// What a decky of this row is told, with its fingerprint.
pub(super) fn spec(row: &DeckyRow, config: &Config) -> anyhow::Result<Spec> {
    let mut spec = Spec {
        name: row.decky.name.clone(),
        ip: row.decky.ip,
        services: row.decky.services.clone(),
        persona: row.persona.clone(),
        spool_max_bytes: config.spool_max_bytes,
        config_hash: String::new(),
    };
    let digest = Sha256::digest(serde_json::to_vec(&spec)?);
    spec.config_hash = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    Ok(spec)
}

/// Names of the deckies that have a directory on this host, running or not.
pub(super) fn present(config: &Config) -> io::Result<Vec<String>> {
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

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When its directory cannot be made, the program does not start, or it dies at once.
pub(super) async fn start(config: &Config, spec: &Spec) -> anyhow::Result<(Child, Status)> {
    let dir = config.paths.decky(&spec.name);
    let owner = owner(config)?;
    for path in [&config.paths.deckies(), &dir] {
        make_dir(path, owner).with_context(|| format!("creating {}", path.display()))?;
    }
    let path = spec_path(&dir);
    // The persona's seed is a secret of the installation.
    file::write_volatile(&path, &serde_json::to_vec_pretty(spec)?, 0o600)
        .with_context(|| format!("writing {}", path.display()))?;
    give(&path, owner)?;
    // Not our own stderr: whoever waits for the end of `decnet deploy` waits for the
    // end of its pipes, and the decky would hold one open.
    let errors = fs::File::create(errors_path(&dir)).context("creating the decky's stderr")?;
    give(&errors_path(&dir), owner)?;
    let program = std::env::current_exe().context("finding the decnet program")?;
    let mut command = std::process::Command::new(&program);
    command
        .arg("decky")
        .arg("--dir")
        .arg(&dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        // A Ctrl-C meant for `decnet up` must not reach it.
        .process_group(0);
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    let mut child = Command::from(command)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    if let Some(pid) = child.id() {
        file::write_volatile(&pid_path(&dir), pid.to_string().as_bytes(), 0o644)?;
    }
    let answered = tokio::time::timeout(START, async {
        loop {
            if let Some(status) = control::status(&dir).await
                && Some(status.pid) == child.id()
            {
                return Ok(status);
            }
            if let Some(exit) = child.try_wait()? {
                let said = fs::read_to_string(errors_path(&dir)).unwrap_or_default();
                let said = said.lines().last().unwrap_or("it said nothing");
                anyhow::bail!("the decky process ended at once ({exit}): {said}");
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    match answered {
        Ok(Ok(status)) => Ok((child, status)),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            child
                .start_kill()
                .context("killing a decky that does not answer")?;
            anyhow::bail!(
                "the decky process did not answer within {} s",
                START.as_secs()
            )
        }
    }
}

/// Stops the decky called `name` and removes what only a running one needs. The spool
/// stays until the collector has read it.
///
/// # Errors
/// When its files cannot be removed.
pub(super) async fn stop(config: &Config, name: &str) -> anyhow::Result<()> {
    let dir = config.paths.decky(name);
    if let Err(error) = control::stop(&dir).await {
        tracing::debug!("{name} does not answer: {error}");
    }
    let gone = tokio::time::timeout(STOP, async {
        while running_pid(&dir).is_some() {
            tokio::time::sleep(LOOK).await;
        }
    });
    if gone.await.is_err()
        && let Some(pid) = running_pid(&dir)
    {
        tracing::warn!("{name} (pid {pid}) did not stop and is killed");
        if let Err(error) = kill(pid, Signal::SIGKILL) {
            tracing::warn!("killing {name} (pid {pid}): {error}");
        }
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

/// The decky of `dir`, when it answers.
pub(super) async fn status(config: &Config, name: &str) -> Option<Status> {
    control::status(&config.paths.decky(name)).await
}

/// Whether a process of this decky exists, answering or not.
pub(super) fn exists(config: &Config, name: &str) -> bool {
    running_pid(&config.paths.decky(name)).is_some()
}

fn pid_path(dir: &Path) -> PathBuf {
    dir.join("pid")
}

fn errors_path(dir: &Path) -> PathBuf {
    dir.join("stderr")
}

/// The recorded process, if it still is this decky: the number may have been reused.
fn running_pid(dir: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_path(dir))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = dir.as_os_str().as_encoded_bytes();
    arguments
        .split(|b| *b == 0)
        .any(|argument| argument == wanted)
        .then(|| Pid::from_raw(pid))
}

/// Whom decky files and processes belong to: when root acts on an installed host, the
/// service account that owns the state directory.
fn owner(config: &Config) -> anyhow::Result<Option<(u32, u32)>> {
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

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}
