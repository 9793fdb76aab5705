//! The native runtime: a process in a network namespace of its own, on the LAN, under a
//! user id of its own. No container engine is involved: the process makes its namespaces,
//! this side puts the interface into them, and whatever a decky becomes it stays a
//! process without capabilities, files or a way to call out. Namespace and interface go
//! when the process goes, so a restart is a start.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::config::Config;
use crate::decoy::run::Spec;
use crate::net::file;
use crate::netns::{cgroup, link, parse_mac};
use crate::worker::reconciler::local;
use crate::worker::reconciler::runtime::{
    LOOK, STOP, Started, claim, errors_file, pid_path, prepare_for, said, until_answering,
};

/// Longest wait for the new process to have its namespaces.
const READY: Duration = Duration::from_secs(5);

/// Starts the decky and waits until it answers.
///
/// # Errors
/// When its address is taken, its parent interface does not fit, or it ends at once.
pub(super) async fn start(config: &Config, spec: &Spec) -> anyhow::Result<Started> {
    let uid = config
        .uid_base
        .checked_add(spec.slot)
        .context("DECNET_UID_BASE is too high for this many deckies")?;
    let network = spec
        .wish
        .link
        .as_ref()
        .context("a native decky needs a network to attach to")?;
    let mac = parse_mac(&spec.persona.mac);
    let dir = prepare_for(config, spec, uid)?;
    let program = std::env::current_exe().context("finding the decnet program")?;
    let mut command = std::process::Command::new(&program);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .arg("decky")
        .arg("--dir")
        .arg(&dir)
        .args(["--enclose", "native", "--uid"])
        .arg(uid.to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors_file(&dir)?);
    let mut child = Command::from(command)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let pid = child.id().context("the decky process ended at once")?;
    file::write_volatile(&pid_path(&dir), pid.to_string().as_bytes(), 0o640)?;
    let made = async {
        cgroup::place(&spec.name, pid);
        // The probe takes its time, the namespaces take theirs.
        let (claimed, ready) = tokio::join!(claim(config, spec), ready(&mut child));
        claimed?;
        ready?;
        link::attach(network, mac, pid).await?;
        go(&mut child).await?;
        until_answering(&dir, spec, || Ok(child.try_wait()?.map(how))).await
    };
    match made.await {
        Ok(status) => Ok(Started {
            status,
            ended: async move {
                match child.wait().await {
                    Ok(exit) => how(exit),
                    Err(error) => error.to_string(),
                }
            }
            .boxed(),
        }),
        Err(error) => {
            // It is of another user: this takes CAP_KILL.
            match child.kill().await {
                Ok(()) => {}
                Err(error) => tracing::debug!("killing {}: {error}", spec.name),
            }
            ungroup(&spec.name).await;
            // What it said goes before that a pipe broke.
            match said(&dir).filter(|_| error.is::<Ended>()) {
                Some(said) => Err(anyhow::anyhow!("{said}")),
                None => Err(error),
            }
        }
    }
}

fn how(exit: ExitStatus) -> String {
    exit.to_string()
}

/// The process closed its end before it was ready; why lies in its stderr.
#[derive(Debug, thiserror::Error)]
#[error("the decky process ended before it had its network")]
struct Ended;

/// Waits until the process has its namespaces.
async fn ready(child: &mut Child) -> anyhow::Result<()> {
    let mut said = [0; 6];
    let out = child.stdout.as_mut().ok_or(Ended)?;
    match tokio::time::timeout(READY, out.read_exact(&mut said)).await {
        Ok(Ok(_)) if &said == b"ready\n" => Ok(()),
        Ok(_) => Err(Ended.into()),
        Err(_) => anyhow::bail!(
            "the decky process had no namespaces after {} s",
            READY.as_secs()
        ),
    }
}

/// Tells the process that its interface is there.
async fn go(child: &mut Child) -> anyhow::Result<()> {
    let mut input = child.stdin.take().ok_or(Ended)?;
    input.write_all(b"go\n").await.map_err(|_| Ended)?;
    Ok(())
}

/// Waits for a decky that was told to stop; kills it when it does not go. Its namespace
/// and interface go with it.
///
/// # Errors
/// Never, so far.
pub(super) async fn end(config: &Config, name: &str) -> anyhow::Result<()> {
    local::end(config, name).await?;
    ungroup(name).await;
    Ok(())
}

/// Removes the decky's control group: a process leaves it a moment after it is gone.
async fn ungroup(name: &str) {
    let gone = tokio::time::timeout(STOP, async {
        while !cgroup::remove(name) {
            tokio::time::sleep(LOOK).await;
        }
    });
    if gone.await.is_err() {
        tracing::warn!("{name}: its control group is still in use");
    }
}

/// Whether a process of this decky exists, answering or not.
pub(super) fn exists(config: &Config, name: &str) -> bool {
    local::exists(config, name)
}
