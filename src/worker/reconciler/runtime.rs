//! The three runtimes behind one small interface. What a running decky says and is told
//! goes over its control socket, the same for all; a runtime only starts, finds and
//! removes. A decky outlives whoever started it: the next one finds it by its directory
//! (or its container's labels) and adopts it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;

use crate::config::Config;
use crate::db::decky::DeckyRow;
use crate::decoy::control::{self, Status};
use crate::decoy::run::{Spec, spec_path};
use crate::model::{DeckyState, Driver, Runtime};
use crate::net::{file, tail};
use crate::netns::{helper, probe, uplink};
use crate::worker::reconciler::{docker, local, native};

/// Longest wait for a started decky to answer.
pub(super) const START: Duration = Duration::from_secs(10);
/// Longest wait for a stopped decky to go, before it is killed.
pub(super) const STOP: Duration = Duration::from_secs(5);
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

/// Keeps what runs beside a running decky as it is wanted: the operator's own services.
///
/// # Errors
/// One line naming what does not run, and why.
pub(super) async fn tend(config: &Config, spec: &Spec) -> anyhow::Result<()> {
    match spec.wish.runtime {
        Runtime::Local | Runtime::Native => Ok(()),
        Runtime::Docker => docker::tend(config, spec).await,
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
    let text = read_small(&spec_path(dir)).ok()?;
    let spec: Spec = serde_json::from_slice(&text).ok()?;
    Some(spec.wish.runtime)
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

/// Like [`prepare`] for a decky that runs under a user id of its own. The directory is
/// that user's and the service group's, and what is made in it is the group's too: the
/// collector and this worker read, write and delete there, other deckies do not get in.
///
/// # Errors
/// When it cannot be written, or may not be given away.
pub(super) fn prepare_for(config: &Config, spec: &Spec, uid: u32) -> anyhow::Result<PathBuf> {
    let dir = config.paths.decky(&spec.name);
    let parent = config.paths.deckies();
    let service = service_owner(config)?;
    make_dir(&parent, service).with_context(|| format!("creating {}", parent.display()))?;
    let gid = match service {
        Some((_, gid)) => gid,
        None => nix::unistd::getegid().as_raw(),
    };
    shared_dir(&dir, uid, gid).with_context(|| {
        format!(
            "making {} the decky's own (CAP_CHOWN is needed: let the reconciler unit do it, or use sudo)",
            dir.display()
        )
    })?;
    let path = spec_path(&dir);
    file::write_volatile(&path, &serde_json::to_vec_pretty(spec)?, 0o640)
        .with_context(|| format!("writing {}", path.display()))?;
    give(&path, Some((uid, gid)))?;
    Ok(dir)
}

/// Makes `path` a directory of mode 2770, of user `uid` and group `gid`.
fn shared_dir(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    const MODE: u32 = 0o2770;
    // From a file creation mask of its own: a sandbox that forbids setting the bit
    // lets it be inherited from the parent directory.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o007));
    let made = fs::DirBuilder::new().mode(0o770).create(path);
    nix::sys::stat::umask(before);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    if meta.mode() & 0o7777 != MODE {
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    }
    if (meta.uid(), meta.gid()) != (uid, gid) {
        lchown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Makes sure that `spec`'s address is nobody else's. Whoever answers with the decky's own
/// MAC address is the decky.
///
/// # Errors
/// Who has it, or why that could not be found out.
pub(super) async fn claim(config: &Config, spec: &Spec) -> anyhow::Result<()> {
    let Some(link) = &spec.wish.link else {
        return Ok(());
    };
    let other = format!("give {} another address", spec.name);
    if uplink::own_addresses().await?.contains(&spec.ip) {
        anyhow::bail!("address {} is this host's own; {other}", spec.ip);
    }
    if control::look(&config.paths.decky(&spec.name)).await.is_ok() {
        return Ok(());
    }
    let addresses: [IpAddr; 1] = [spec.ip];
    let answered = probe::in_use(&link.parent, &addresses).await?;
    match answered.iter().find(|(_, mac)| *mac != spec.persona.mac) {
        Some((ip, mac)) => anyhow::bail!(
            "address {ip} is already used by {mac} on {}; {other}",
            link.parent
        ),
        None => Ok(()),
    }
}

/// Gives this host its way to the deckies that hang on its own interfaces, once a pass
/// has started and stopped what it had to. Best effort: the deckies serve the LAN
/// without it.
pub(super) async fn network_done(config: &Config, rows: &[DeckyRow]) {
    if let Err(error) = reach(config, rows).await {
        tracing::warn!("this host cannot reach its own deckies: {error:#}");
    }
}

async fn reach(config: &Config, rows: &[DeckyRow]) -> anyhow::Result<()> {
    let mut wanted: Vec<helper::Wanted> = Vec::new();
    for row in rows {
        let runs = matches!(row.decky.state, DeckyState::Running | DeckyState::Degraded);
        let link = row.decky.wish.link.as_ref();
        let link = link.filter(|l| l.driver != Driver::Bridge);
        let Some(link) = link.filter(|_| runs) else {
            continue;
        };
        let known = wanted.iter().position(|w| w.parent == link.parent);
        let place = match known {
            Some(place) => place,
            None => {
                let uplink = match uplink::find(Some(&link.parent)).await {
                    Ok(uplink) => uplink,
                    // The decky's own error says what is wrong with its parent.
                    Err(error) => {
                        tracing::debug!("no way for this host to {}: {error:#}", link.parent);
                        continue;
                    }
                };
                wanted.push(helper::Wanted {
                    parent: link.parent.clone(),
                    driver: link.driver,
                    host: uplink.address,
                    deckies: BTreeSet::new(),
                });
                wanted.len() - 1
            }
        };
        if let Some(helper) = wanted.get_mut(place) {
            helper.deckies.insert(row.decky.ip);
        }
    }
    helper::ensure(&owner(config), &wanted).await
}

/// Takes this host's way to its deckies away again, once they are stopped.
pub(super) async fn network_gone(config: &Config) {
    if let Err(error) = helper::remove(&owner(config)).await {
        tracing::warn!("removing the way to the deckies: {error:#}");
    }
}

/// What the helper interfaces of this installation are marked with.
fn owner(config: &Config) -> String {
    config.paths.state.display().to_string()
}

/// Reads a file that a decky may have put there: a regular one, and not without end.
///
/// # Errors
/// When it is not there or not such a file.
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    let mut content = Vec::new();
    tail::open_plain(path)?
        .take(MOST)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// A new, empty file for what the decky's process says on stderr; whatever lay there,
/// a link included, is replaced.
///
/// # Errors
/// When it cannot be made.
pub(super) fn errors_file(dir: &Path) -> anyhow::Result<fs::File> {
    let file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o640))
        .tempfile_in(dir)
        .context("creating the decky's stderr")?;
    file.persist(errors_path(dir))
        .context("creating the decky's stderr")
}

/// The last thing the decky's process said on stderr.
pub(super) fn said(dir: &Path) -> Option<String> {
    let said = read_small(&errors_path(dir)).ok()?;
    let said = String::from_utf8_lossy(&said);
    // A failed assertion ends with advice on how to see more of it.
    let last = said
        .lines()
        .rfind(|line| !line.is_empty() && !line.starts_with("note: "))?;
    Some(last.strip_prefix("decnet: ").unwrap_or(last).to_owned())
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
                let said = said(dir).unwrap_or_else(|| "it said nothing".to_owned());
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
        // Not what a link of the decky's making points to.
        Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}
