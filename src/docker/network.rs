//! The engine's networks for deckies: macvlan, ipvlan (L2) or a bridge. The first is
//! called `decnet_lan`, others get a suffix that follows from what they are. A network
//! that fits is reused, whoever made it; one of ours that no longer fits is replaced
//! only while nothing is attached; a decky that runs is never disturbed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptionsBuilder, ListNetworksOptionsBuilder};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::docker::engine::{Engine, absent, said};
use crate::docker::label;
use crate::model::{Driver, Link};

/// Name of the first network.
const FIRST: &str = "decnet_lan";
/// The engine's name for a macvlan's or ipvlan's interface.
const PARENT: &str = "parent";
/// The engine's name for a bridge's interface.
const BRIDGE: &str = "com.docker.network.bridge.name";

/// Two starts at once must not make the same network twice.
static ENSURE: Mutex<()> = Mutex::const_new(());

/// What a network is, in the terms of a [`Link`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    driver: String,
    /// Empty: a bridge of the engine's own naming.
    parent: String,
    subnets: Vec<IpNet>,
    gateway: Option<IpAddr>,
}

impl Shape {
    fn wanted(link: &Link) -> Self {
        let parent = match link.driver {
            Driver::Macvlan | Driver::Ipvlan => link.parent.clone(),
            // A network card is no bridge: the engine then makes one of its own.
            Driver::Bridge if usable_as_bridge(&link.parent) => link.parent.clone(),
            Driver::Bridge => String::new(),
        };
        Self {
            driver: link.driver.as_str().to_owned(),
            parent,
            subnets: vec![link.subnet.trunc()],
            gateway: link.gateway,
        }
    }

    fn found(network: &Network) -> Self {
        let options = network.options.clone().unwrap_or_default();
        let driver = network.driver.clone().unwrap_or_default();
        let key = if driver == "bridge" { BRIDGE } else { PARENT };
        let configs = network
            .ipam
            .as_ref()
            .and_then(|ipam| ipam.config.clone())
            .unwrap_or_default();
        let addresses = |config: &IpamConfig| {
            let subnet: IpNet = config.subnet.as_deref()?.parse().ok()?;
            // Some engines write the gateway with its prefix.
            let gateway = config
                .gateway
                .as_deref()
                .and_then(|gateway| gateway.split('/').next().and_then(|ip| ip.parse().ok()));
            Some((subnet.trunc(), gateway))
        };
        let pools: Vec<(IpNet, Option<IpAddr>)> = configs.iter().filter_map(addresses).collect();
        Self {
            driver,
            parent: options.get(key).cloned().unwrap_or_default(),
            gateway: pools.iter().find_map(|(_, gateway)| *gateway),
            subnets: pools.into_iter().map(|(subnet, _)| subnet).collect(),
        }
    }

    /// Whether a network like `self` does for a decky that wants `wanted`.
    fn fits(&self, wanted: &Self) -> bool {
        self.driver == wanted.driver
            && (self.parent == wanted.parent
                || (wanted.driver == "bridge" && wanted.parent.is_empty()))
            && wanted.subnets.iter().all(|s| self.subnets.contains(s))
            && (wanted.gateway.is_none() || self.gateway == wanted.gateway)
    }

    /// Whether the engine cannot have both.
    fn excludes(&self, wanted: &Self) -> bool {
        let lan = |driver: &str| driver == "macvlan" || driver == "ipvlan";
        let same_parent = !wanted.parent.is_empty() && self.parent == wanted.parent;
        let overlap = self.subnets.iter().any(|mine| {
            wanted
                .subnets
                .iter()
                .any(|other| mine.contains(other) || other.contains(mine))
        });
        overlap || (same_parent && lan(&self.driver) == lan(&wanted.driver))
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.driver)?;
        if !self.parent.is_empty() {
            write!(f, " on {}", self.parent)?;
        }
        for subnet in &self.subnets {
            write!(f, " {subnet}")?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        Ok(())
    }
}

/// The name of a network for `link`, made when there is none.
///
/// # Errors
/// When the interface does not exist, another network is in the way, or the engine
/// refuses.
pub async fn ensure(engine: &Engine, home: &Path, link: &Link) -> anyhow::Result<String> {
    let wanted = Shape::wanted(link);
    let _held = ENSURE.lock().await;
    let known = list(engine).await?;
    let fitting = known
        .iter()
        .find(|network| Shape::found(network).fits(&wanted));
    if let Some(name) = fitting.and_then(|network| network.name.clone()) {
        return Ok(name);
    }
    if matches!(link.driver, Driver::Macvlan | Driver::Ipvlan) && !interface_exists(&link.parent) {
        bail!(
            "this host has no interface '{}' for the {} network; `ip -br link` lists them",
            link.parent,
            link.driver.as_str()
        );
    }
    let mut taken = Vec::new();
    for network in &known {
        let name = network.name.clone().unwrap_or_default();
        if Shape::found(network).excludes(&wanted) {
            make_way(engine, home, network, &name, &wanted).await?;
        } else {
            taken.push(name);
        }
    }
    let name = if taken.iter().any(|name| name == FIRST) {
        format!("{FIRST}_{}", suffix(&wanted))
    } else {
        FIRST.to_owned()
    };
    create(engine, home, &name, &wanted)
        .await
        .with_context(|| format!("creating network {name} ({wanted})"))?;
    tracing::info!("network {name} created ({wanted})");
    Ok(name)
}

/// Removes the networks of this installation that nothing is attached to.
pub async fn sweep(engine: &Engine, home: &Path) {
    let _held = ENSURE.lock().await;
    let known = match list(engine).await {
        Ok(known) => known,
        Err(error) => {
            tracing::debug!("{error:#}");
            return;
        }
    };
    for network in known.iter().filter(|network| ours(network, home)) {
        let name = network.name.as_deref().unwrap_or_default();
        if attached(engine, name).await.is_ok_and(|who| who.is_empty()) {
            match engine.client().remove_network(name).await {
                Ok(()) => tracing::info!("network {name} removed: nothing uses it"),
                Err(error) => tracing::debug!("removing network {name}: {}", said(&error)),
            }
        }
    }
}

/// User-made networks; the engine's three own take no fixed addresses.
async fn list(engine: &Engine) -> anyhow::Result<Vec<Network>> {
    let filters = HashMap::from([("type", vec!["custom"])]);
    let options = ListNetworksOptionsBuilder::default()
        .filters(&filters)
        .build();
    engine
        .client()
        .list_networks(Some(options))
        .await
        .map_err(|error| anyhow::anyhow!("listing networks: {}", said(&error)))
}

fn ours(network: &Network, home: &Path) -> bool {
    network
        .labels
        .as_ref()
        .and_then(|labels| labels.get(label::HOME))
        .is_some_and(|label| *label == home.display().to_string())
}

/// Removes a network that excludes the wanted one, when that disturbs nobody.
async fn make_way(
    engine: &Engine,
    home: &Path,
    network: &Network,
    name: &str,
    wanted: &Shape,
) -> anyhow::Result<()> {
    let shape = Shape::found(network);
    if !ours(network, home) {
        bail!(
            "Docker network {name} ({shape}) is in the way of {wanted}; use its driver and addresses, or remove it: docker network rm {name}"
        );
    }
    let who = attached(engine, name).await?;
    if !who.is_empty() {
        bail!(
            "network {name} is {shape} and used by {}; {wanted} cannot exist beside it: tear those deckies down first",
            who.join(", ")
        );
    }
    tracing::info!("network {name} ({shape}) is replaced by {wanted}; nothing used it");
    match engine.client().remove_network(name).await {
        Ok(()) => Ok(()),
        Err(error) if absent(&error) => Ok(()),
        Err(error) => bail!("removing network {name}: {}", said(&error)),
    }
}

/// Names of the containers attached to a network.
async fn attached(engine: &Engine, name: &str) -> anyhow::Result<Vec<String>> {
    let options = InspectNetworkOptionsBuilder::default().build();
    let seen = match engine.client().inspect_network(name, Some(options)).await {
        Ok(seen) => seen,
        Err(error) if absent(&error) => return Ok(Vec::new()),
        Err(error) => bail!("looking at network {name}: {}", said(&error)),
    };
    let mut names: Vec<String> = seen
        .containers
        .unwrap_or_default()
        .into_values()
        .filter_map(|endpoint| endpoint.name)
        .collect();
    names.sort();
    Ok(names)
}

async fn create(engine: &Engine, home: &Path, name: &str, wanted: &Shape) -> anyhow::Result<()> {
    let mut options = HashMap::new();
    match wanted.driver.as_str() {
        "bridge" if wanted.parent.is_empty() => {}
        "bridge" => {
            options.insert(BRIDGE.to_owned(), wanted.parent.clone());
        }
        driver => {
            options.insert(PARENT.to_owned(), wanted.parent.clone());
            let mode = if driver == "ipvlan" {
                ("ipvlan_mode", "l2")
            } else {
                ("macvlan_mode", "bridge")
            };
            options.insert(mode.0.to_owned(), mode.1.to_owned());
        }
    }
    let pools = wanted
        .subnets
        .iter()
        .map(|subnet| IpamConfig {
            subnet: Some(subnet.to_string()),
            // Deckies have fixed addresses, so the pool needs no narrower range: one
            // that follows the deckies would have to be rebuilt for each new one.
            gateway: wanted
                .gateway
                .or_else(|| stand_in(&wanted.driver, *subnet))
                .map(|ip| ip.to_string()),
            ..IpamConfig::default()
        })
        .collect();
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some(wanted.driver.clone()),
        ipam: Some(Ipam {
            config: Some(pools),
            ..Ipam::default()
        }),
        options: Some(options),
        labels: Some(HashMap::from([(
            label::HOME.to_owned(),
            home.display().to_string(),
        )])),
        ..NetworkCreateRequest::default()
    };
    match engine.client().create_network(request).await {
        Ok(_) => Ok(()),
        Err(error) => bail!("{}", said(&error)),
    }
}

/// The engine reserves an address as gateway even where there is none, by default the
/// first, which a decky may want; the last host address is wanted least.
fn stand_in(driver: &str, subnet: IpNet) -> Option<IpAddr> {
    match subnet {
        IpNet::V4(net) if driver != "bridge" && net.prefix_len() < 30 => {
            let last = u32::from(net.broadcast()).checked_sub(1)?;
            Some(IpAddr::V4(last.into()))
        }
        _ => None,
    }
}

/// Eight hex digits that follow from what the network is.
fn suffix(wanted: &Shape) -> String {
    let digest = Sha256::digest(wanted.to_string());
    digest.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// Whether this process's network namespace has an interface called `name`.
fn interface_exists(name: &str) -> bool {
    // Not /sys: what is mounted there may show another namespace.
    std::fs::read_to_string("/proc/self/net/dev")
        .is_ok_and(|text| listed(&text).any(|known| known == name))
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim())
}

/// Whether `name` is a bridge, or free to become one.
fn usable_as_bridge(name: &str) -> bool {
    !name.is_empty()
        && (!interface_exists(name)
            || Path::new("/sys/class/net")
                .join(name)
                .join("bridge")
                .exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(driver: Driver, parent: &str, subnet: &str, gateway: Option<&str>) -> Link {
        Link {
            driver,
            parent: parent.to_owned(),
            subnet: subnet.parse().unwrap(),
            gateway: gateway.map(|g| g.parse().unwrap()),
        }
    }

    fn network(driver: &str, parent: &str, subnet: &str, gateway: &str) -> Network {
        Network {
            driver: Some(driver.to_owned()),
            options: Some(HashMap::from([(PARENT.to_owned(), parent.to_owned())])),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.to_owned()),
                    gateway: Some(gateway.to_owned()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            ..Network::default()
        }
    }

    #[test]
    fn a_network_of_the_same_kind_and_pool_is_reused() {
        let found = Shape::found(&network("macvlan", "eth0", "10.0.0.0/24", "10.0.0.1"));
        let same = |l: &Link| found.fits(&Shape::wanted(l));
        assert!(same(&link(
            Driver::Macvlan,
            "eth0",
            "10.0.0.9/24",
            Some("10.0.0.1")
        )));
        assert!(same(&link(Driver::Macvlan, "eth0", "10.0.0.0/24", None)));
        for other in [
            link(Driver::Ipvlan, "eth0", "10.0.0.0/24", None),
            link(Driver::Macvlan, "eth1", "10.0.0.0/24", None),
            link(Driver::Macvlan, "eth0", "10.0.0.0/23", None),
            link(Driver::Macvlan, "eth0", "10.0.0.0/24", Some("10.0.0.2")),
        ] {
            assert!(!same(&other), "{other:?}");
            assert!(found.excludes(&Shape::wanted(&other)), "{other:?}");
        }
        let elsewhere = link(Driver::Macvlan, "eth1", "10.1.0.0/24", None);
        assert!(!found.excludes(&Shape::wanted(&elsewhere)));
    }

    #[test]
    fn other_networks_have_names_that_stay() {
        let one = Shape::wanted(&link(Driver::Macvlan, "eth1", "10.1.0.0/24", None));
        let two = Shape::wanted(&link(Driver::Macvlan, "eth2", "10.2.0.0/24", None));
        assert_eq!(suffix(&one), suffix(&one.clone()));
        assert_ne!(suffix(&one), suffix(&two));
        assert_eq!(suffix(&one).len(), 8);
    }

    #[test]
    fn the_first_address_stays_free_where_there_is_no_gateway() {
        let net = "10.0.0.0/24".parse().unwrap();
        assert_eq!(stand_in("macvlan", net), Some([10, 0, 0, 254].into()));
        assert_eq!(stand_in("bridge", net), None);
        assert_eq!(stand_in("macvlan", "10.0.0.0/30".parse().unwrap()), None);
    }

    #[test]
    fn interfaces_are_read_from_this_namespace() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2\nwlan0:3 4\n";
        assert_eq!(listed(text).collect::<Vec<_>>(), ["lo", "wlan0"]);
        assert!(interface_exists("lo"));
        assert!(!interface_exists("no-such-one"));
    }
}
