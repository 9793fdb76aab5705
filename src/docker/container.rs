//! The container of one decky: made from our image, bound to the decky's directory and
//! address, with as little power as its entry needs. It is found by its labels; whoever
//! starts it again removes what is left of the last one first, so an interrupted start
//! is finished by the next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigLogConfig, Mount, MountType, NetworkingConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;

use crate::docker::engine::{Engine, absent, conflict, said};
use crate::docker::image::{DIRECTORY, PROGRAM};
use crate::docker::label;

/// Most memory of a decky; it has no swap beside it.
const MEMORY: i64 = 128 * 1024 * 1024;
/// Most processes and threads of a decky.
const PIDS: i64 = 64;
/// Most open files: every service full, and some.
const DESCRIPTORS: i64 = 65_536;
/// What the entry does before it locks itself in: its packet filter, its user.
const ENTRY: &[&str] = &["NET_ADMIN", "SETUID", "SETGID"];
/// Name of a container's interface, fixed by the engine.
const INTERFACE: &str = "eth0";
/// Longest wait for a container that another request is removing.
const REMOVAL: Duration = Duration::from_secs(10);

/// Everything the container of a decky is made of.
#[derive(Clone, Debug)]
pub struct Base<'a> {
    /// Decky.
    pub name: &'a str,
    /// Parent of all decky directories: whose container it is.
    pub home: &'a Path,
    /// The decky's directory on this host.
    pub dir: &'a Path,
    /// Fingerprint of what a running process cannot change.
    pub base_hash: &'a str,
    /// The persona's host name, which its clients may see.
    pub hostname: &'a str,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address, when it has one of its own.
    pub mac: Option<&'a str>,
    /// Kernel settings of its network namespace, `(dotted name, value)`.
    pub settings: &'a [(&'a str, &'a str)],
    /// User and group it ends up as.
    pub owner: (u32, u32),
    /// Whether the entry encloses itself; else it starts as `owner` with no power.
    pub enclose: bool,
    /// The engine's network.
    pub network: &'a str,
    /// The image.
    pub image: &'a str,
}

/// A container that belongs to a decky.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The decky.
    pub decky: String,
    /// The operator's service; `None` for the decky's own container.
    pub service: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// All its labels.
    pub labels: HashMap<String, String>,
}

/// The name of a decky's container.
#[must_use]
pub fn name_of(decky: &str) -> String {
    format!("decnet-{decky}")
}

/// Makes the container of a decky and starts it; gives its id.
///
/// # Errors
/// When the engine or the kernel refuses; nothing is left then.
pub async fn run(engine: &Engine, base: &Base<'_>) -> anyhow::Result<String> {
    // An engine that may not have so many open files itself cannot give them: its
    // containers then have its own limit.
    static LIMITED: AtomicBool = AtomicBool::new(true);
    let limit = LIMITED.load(Ordering::Relaxed);
    match try_run(engine, base, limit).await {
        Err(error) if limit && format!("{error:#}").contains("rlimit") => {
            LIMITED.store(false, Ordering::Relaxed);
            try_run(engine, base, false).await
        }
        outcome => outcome,
    }
}

async fn try_run(engine: &Engine, base: &Base<'_>, limit: bool) -> anyhow::Result<String> {
    let name = name_of(base.name);
    let mut body = body(base);
    if !limit && let Some(host) = &mut body.host_config {
        host.ulimits = None;
    }
    let id = match engine.create(&name, &body, base.mac).await {
        Ok(id) => id,
        Err(error) if conflict(&error) => bail!(
            "the container name {name} is in use by something else; remove it: docker rm -f {name}"
        ),
        Err(error) => bail!("creating container {name}: {}", said(&error)),
    };
    if let Err(error) = start(engine, &id).await {
        if let Err(error) = remove(engine, &id).await {
            tracing::debug!("{name}: {error:#}");
        }
        return Err(error);
    }
    Ok(id)
}

/// Starts a created container.
///
/// # Errors
/// When the engine or the kernel refuses.
pub(super) async fn start(engine: &Engine, id: &str) -> anyhow::Result<()> {
    engine
        .client()
        .start_container(id, None::<StartContainerOptions>)
        .await
        .map_err(|error| anyhow::anyhow!("starting the container: {}", said(&error)))
}

fn body(base: &Base<'_>) -> ContainerCreateBody {
    let (uid, gid) = base.owner;
    let becomes = uid.to_string();
    let mut command = vec![PROGRAM, "decky", "--dir", DIRECTORY];
    if base.enclose {
        command.extend(["--enclose", "docker", "--uid", &becomes]);
    }
    // The group is what lets a root without any right over files read its own.
    let user = if base.enclose { 0 } else { uid };
    ContainerCreateBody {
        hostname: Some(base.hostname.to_owned()),
        user: Some(format!("{user}:{gid}")),
        env: Some(Vec::new()),
        cmd: Some(command.into_iter().map(str::to_owned).collect()),
        image: Some(base.image.to_owned()),
        labels: Some(HashMap::from([
            (label::DECKY.to_owned(), base.name.to_owned()),
            (label::BASE.to_owned(), "true".to_owned()),
            (label::HOME.to_owned(), base.home.display().to_string()),
            (label::HASH.to_owned(), base.base_hash.to_owned()),
        ])),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(
                base.network.to_owned(),
                EndpointSettings {
                    ipam_config: Some(match base.ip {
                        IpAddr::V4(ip) => EndpointIpamConfig {
                            ipv4_address: Some(ip.to_string()),
                            ..EndpointIpamConfig::default()
                        },
                        IpAddr::V6(ip) => EndpointIpamConfig {
                            ipv6_address: Some(ip.to_string()),
                            ..EndpointIpamConfig::default()
                        },
                    }),
                    mac_address: base.mac.map(str::to_owned),
                    ..EndpointSettings::default()
                },
            )])),
        }),
        host_config: Some(host_config(base)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(base: &Base<'_>) -> HostConfig {
    let power = if base.enclose { ENTRY } else { &[] };
    HostConfig {
        network_mode: Some(base.network.to_owned()),
        // Not `binds`: where the directory is missing that would make one of root's.
        mounts: Some(vec![Mount {
            target: Some(DIRECTORY.to_owned()),
            source: Some(base.dir.display().to_string()),
            typ: Some(MountType::BIND),
            ..Mount::default()
        }]),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(power.iter().map(|c| (*c).to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // The directory's owner is a user id of the host.
        userns_mode: Some("host".to_owned()),
        ipc_mode: Some("none".to_owned()),
        init: Some(false),
        sysctls: Some(sysctls(base.settings)),
        memory: Some(MEMORY),
        memory_swap: Some(MEMORY),
        pids_limit: Some(PIDS),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(DESCRIPTORS),
            hard: Some(DESCRIPTORS),
        }]),
        log_config: Some(logs("1m", "1")),
        restart_policy: Some(never()),
        ..HostConfig::default()
    }
}

/// The engine restarts nothing of ours. The reconciler does, with the wish, the address
/// and a back-off in view; two repairers would race, and the engine alone would bring a
/// decky up at boot before its directory exists and its address was probed.
pub(super) fn never() -> RestartPolicy {
    RestartPolicy {
        name: Some(RestartPolicyNameEnum::NO),
        maximum_retry_count: None,
    }
}

/// The engine's own rotation.
pub(super) fn logs(size: &str, files: &str) -> HostConfigLogConfig {
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([
            ("max-size".to_owned(), size.to_owned()),
            ("max-file".to_owned(), files.to_owned()),
        ])),
    }
}

/// Kernel settings of the namespace. One this kernel does not have would stop the
/// container from starting, so it is left out.
fn sysctls(settings: &[(&str, &str)]) -> HashMap<String, String> {
    let six = [
        // The engine switches IPv6 off where a network has no IPv6 pool.
        ("net.ipv6.conf.all.disable_ipv6", "0"),
        ("net.ipv6.conf.default.disable_ipv6", "0"),
    ];
    settings
        .iter()
        .chain(&six)
        .filter(|(name, _)| known(name))
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn known(name: &str) -> bool {
    // A container's interface does not exist here; what one has, `default` has.
    let name = name.replace(&format!(".{INTERFACE}."), ".default.");
    PathBuf::from("/proc/sys")
        .join(name.replace('.', "/"))
        .exists()
}

/// Every container of this installation, or of one of its deckies.
///
/// # Errors
/// When the engine does not answer.
pub async fn list(engine: &Engine, home: &Path, decky: Option<&str>) -> anyhow::Result<Vec<Found>> {
    let mut labels = vec![format!("{}={}", label::HOME, home.display())];
    labels.extend(decky.map(|decky| format!("{}={decky}", label::DECKY)));
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&HashMap::from([("label", labels)]))
        .build();
    let found = engine
        .client()
        .list_containers(Some(options))
        .await
        .map_err(|error| anyhow::anyhow!("listing containers: {}", said(&error)))?;
    Ok(found.into_iter().filter_map(found_from).collect())
}

fn found_from(summary: ContainerSummary) -> Option<Found> {
    let labels = summary.labels.unwrap_or_default();
    let name = summary.names.unwrap_or_default().into_iter().next();
    Some(Found {
        id: summary.id?,
        name: name.unwrap_or_default().trim_start_matches('/').to_owned(),
        decky: labels.get(label::DECKY)?.clone(),
        service: labels.get(label::SERVICE_NAME).cloned(),
        running: summary
            .state
            .is_some_and(|state| state.to_string() == "running"),
        labels,
    })
}

/// Removes a container, running or not, and waits until its name is free.
///
/// # Errors
/// When the engine refuses.
pub async fn remove(engine: &Engine, id: &str) -> anyhow::Result<()> {
    let options = || {
        RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build()
    };
    match engine.client().remove_container(id, Some(options())).await {
        Ok(()) => Ok(()),
        Err(error) if absent(&error) => Ok(()),
        Err(error) if conflict(&error) => {
            // Another request removes it already.
            let gone = tokio::time::timeout(REMOVAL, wait(engine, id, "removed")).await;
            match gone {
                Ok(_) => Ok(()),
                Err(_) => bail!("container {id} is being removed and does not go"),
            }
        }
        Err(error) => bail!("removing container {id}: {}", said(&error)),
    }
}

/// Waits until a container has stopped (`not-running`) or is gone (`removed`); says how.
pub async fn wait(engine: &Engine, id: &str, condition: &str) -> String {
    let options = WaitContainerOptionsBuilder::default()
        .condition(condition)
        .build();
    let mut answers = engine.client().wait_container(id, Some(options));
    match answers.next().await {
        Some(Ok(answer)) => format!("exit status {}", answer.status_code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, error })) => {
            if error.is_empty() {
                format!("exit status {code}")
            } else {
                format!("exit status {code}: {error}")
            }
        }
        Some(Err(error)) => said(&error),
        None => "the engine went away".to_owned(),
    }
}

/// The last line a container wrote, but for the hint that follows a panic.
pub async fn last_line(engine: &Engine, id: &str) -> Option<String> {
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .tail("5")
        .build();
    let mut lines = engine.client().logs(id, Some(options));
    let mut last = None;
    while let Some(Ok(line)) = lines.next().await {
        let line = line.to_string();
        let line = line.trim();
        if !line.is_empty() && !line.starts_with("note: ") {
            last = Some(line.trim_start_matches("decnet: ").to_owned());
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(enclose: bool) -> Base<'static> {
        Base {
            name: "decky-01",
            home: Path::new("/run/x/deckies"),
            dir: Path::new("/run/x/deckies/decky-01"),
            base_hash: "0123",
            hostname: "files02",
            ip: [10, 0, 0, 9].into(),
            mac: Some("00:11:22:33:44:55"),
            settings: &[],
            owner: (1_879_048_195, 990),
            enclose,
            network: "decnet_lan",
            image: "decnet-decky:abc",
        }
    }

    #[test]
    fn a_decky_has_no_power_but_what_its_entry_needs_and_no_room_to_grow() {
        let body = body(&base(true));
        let host = body.host_config.unwrap();
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add.unwrap(), ["NET_ADMIN", "SETUID", "SETGID"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.memory, host.memory_swap);
        assert_eq!(host.pids_limit, Some(64));
        assert_eq!(body.user.as_deref(), Some("0:990"));
        let without = super::body(&base(false));
        assert_eq!(without.user.as_deref(), Some("1879048195:990"));
        assert_eq!(without.host_config.unwrap().cap_add, Some(Vec::new()));
    }

    #[test]
    fn the_name_is_the_containers_and_not_the_hosts() {
        let body = body(&base(true));
        assert_eq!(body.hostname.as_deref(), Some("files02"));
        let shown = [&body.env, &body.cmd]
            .map(|part| format!("{part:?}"))
            .join(" ");
        assert!(!shown.contains("decky-01"), "{shown}");
    }

    #[test]
    fn a_setting_this_kernel_lacks_is_left_out() {
        let sysctls = sysctls(&[
            ("net.ipv4.ip_default_ttl", "128"),
            ("net.ipv4.conf.eth0.send_redirects", "0"),
            ("net.ipv4.no_such_setting", "1"),
        ]);
        assert_eq!(sysctls["net.ipv4.ip_default_ttl"], "128");
        assert_eq!(sysctls["net.ipv4.conf.eth0.send_redirects"], "0");
        assert!(!sysctls.contains_key("net.ipv4.no_such_setting"));
    }
}
