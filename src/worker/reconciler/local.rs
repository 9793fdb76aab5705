//! The local runtime: one process per decky on a loopback address of its own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use futures_util::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::config::Config;
use crate::decoy::run::Spec;
use crate::net::file;
use crate::worker::reconciler::runtime::{
    LOOK, STOP, Started, errors_file, errors_path, give, pid_path, prepare, read_small,
    service_owner, until_answering,
};

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When its directory cannot be made, the program does not start, or it ends at once.
pub(super) async fn start(config: &Config, spec: &Spec) -> anyhow::Result<Started> {
    let owner = service_owner(config)?;
    let dir = prepare(config, spec, owner)?;
    // Not our own stderr: whoever waits for the end of `decnet deploy` waits for the
    // end of its pipes, and the decky would hold one open.
    let errors = errors_file(&dir)?;
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
    let answered = until_answering(&dir, spec, || {
        Ok(child.try_wait()?.map(|exit| exit.to_string()))
    });
    let answered = answered.await;
    match answered {
        Ok(status) => Ok(Started {
            status,
            ended: async move {
                match child.wait().await {
                    Ok(exit) => exit.to_string(),
                    Err(error) => error.to_string(),
                }
            }
            .boxed(),
        }),
        Err(error) => {
            if let Err(error) = child.start_kill() {
                tracing::debug!("killing {}: {error}", spec.name);
            }
            Err(error)
        }
    }
}

/// Waits for a decky that was told to stop; kills it when it does not go.
///
/// # Errors
/// Never, so far.
pub(super) async fn end(config: &Config, name: &str) -> anyhow::Result<()> {
    let dir = config.paths.decky(name);
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
    Ok(())
}

/// Whether a process of this decky exists, answering or not.
pub(super) fn exists(config: &Config, name: &str) -> bool {
    running_pid(&config.paths.decky(name)).is_some()
}

/// The recorded process, if it still is this decky: the number may have been reused.
pub(super) fn running_pid(dir: &Path) -> Option<Pid> {
    let pid = read_small(&pid_path(dir)).ok()?;
    let pid: i32 = std::str::from_utf8(&pid).ok()?.trim().parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = dir.as_os_str().as_encoded_bytes();
    arguments
        .split(|b| *b == 0)
        .any(|argument| argument == wanted)
        .then(|| Pid::from_raw(pid))
}
