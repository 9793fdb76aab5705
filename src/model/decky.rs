//! A decky as rows and messages describe it: what is wanted, what is running.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Family, Service, Stamp};

/// Where a decky runs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A plain process on a loopback address.
    #[default]
    Local,
    /// A process in a network namespace of its own, on the LAN.
    Native,
    /// A container on the LAN.
    Docker,
}

impl Runtime {
    /// Every runtime.
    pub const ALL: &'static [Runtime] = &[Runtime::Local, Runtime::Native, Runtime::Docker];

    /// The name used in flags, INI files and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Runtime::Local => "local",
            Runtime::Native => "native",
            Runtime::Docker => "docker",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Runtime::ALL
            .iter()
            .copied()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a runtime; use local, native or docker"))
    }
}

/// How a decky's interface is attached to the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A MAC address of its own on the parent interface (mode bridge).
    #[default]
    Macvlan,
    /// The parent's MAC address, an IP address of its own (mode L2).
    Ipvlan,
    /// A port of a bridge: the Docker network's, or the bridge named as parent.
    Bridge,
}

impl Driver {
    /// The name used in flags, INI files and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Bridge => "bridge",
        }
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Driver::Macvlan, Driver::Ipvlan, Driver::Bridge]
            .into_iter()
            .find(|d| d.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a driver; use macvlan, ipvlan or bridge"))
    }
}

/// How a decky is attached to a network; every runtime but local has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Kind of attachment.
    pub driver: Driver,
    /// The host's interface (macvlan, ipvlan) or bridge.
    pub parent: String,
    /// The network the address lies in.
    pub subnet: IpNet,
    /// Default gateway, so that attackers from other networks get answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A service of the operator's own, run from their image beside the decky (Docker only).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// Name, also the service column of its events.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Command; empty runs the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// TCP ports it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// Values of service settings, by service and key; see [`crate::model::setting`].
pub type Settings = BTreeMap<Service, BTreeMap<String, serde_json::Value>>;

/// Everything that is wanted of one decky besides its name and address. Changing it
/// counts the row's version up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Where it runs.
    #[serde(default)]
    pub runtime: Runtime,
    /// How it is attached; `None` for the local runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// What it offers, in order, without repeats.
    pub services: Vec<Service>,
    /// Settings of those services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: Settings,
    /// Services of the operator's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub customs: Vec<Custom>,
    /// Slug of the archetype it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archetype: Option<String>,
    /// Slug of the distribution asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distro: Option<String>,
    /// OS family asked for (`nmap_os`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Minutes between two mutations; `None` is the fleet's default, 0 never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutate_interval: Option<u32>,
    /// Addresses this decky may connect to; none unless the fleet plays traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<IpAddr>,
    /// The services that were deployed, once a mutation has changed `services`: a repeated
    /// deploy of the same wish is compared with these and undoes no mutation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Vec<Service>>,
    /// Counts up to restart a decky of which nothing else is to change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde calls"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What the reconciler last saw of a decky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeckyState {
    /// Wanted, not started yet.
    Pending,
    /// Every wanted service listens.
    Running,
    /// Running, but some service does not listen.
    Degraded,
    /// Could not be started.
    Failed,
    /// Marked for removal; gone once it has stopped.
    TearingDown,
}

impl DeckyState {
    /// The slug used in rows and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DeckyState::Pending => "pending",
            DeckyState::Running => "running",
            DeckyState::Degraded => "degraded",
            DeckyState::Failed => "failed",
            DeckyState::TearingDown => "tearing_down",
        }
    }

    /// From the slug; an unknown one reads as pending, so that a newer row never
    /// stops an older reader.
    #[must_use]
    pub fn parse(slug: &str) -> Self {
        match slug {
            "running" => DeckyState::Running,
            "degraded" => DeckyState::Degraded,
            "failed" => DeckyState::Failed,
            "tearing_down" => DeckyState::TearingDown,
            _ => DeckyState::Pending,
        }
    }
}

impl fmt::Display for DeckyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One service's socket as the decky process reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Which service.
    pub service: Service,
    /// Where it listens; `None` when it could not bind.
    pub addr: Option<SocketAddr>,
    /// Why the port is not the usual one, or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One wanted decky with what is known of its running self.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decky {
    /// Name of the operator's choosing (`decky-01`); never on the wire.
    pub name: String,
    /// Host that runs it (`local` until there are agents).
    pub host: String,
    /// Its own address.
    pub ip: IpAddr,
    /// What is wanted of it.
    #[serde(flatten)]
    pub wish: Wish,
    /// Small number of its own on this host; its user id follows from it.
    pub slot: u32,
    /// Counts up with every change of what is wanted.
    pub version: i64,
    /// Set when the decky is to be removed.
    pub removed: bool,
    /// Last seen state.
    pub state: DeckyState,
    /// Last error, for `failed` and `degraded`.
    pub last_error: Option<String>,
    /// Sockets as last reported.
    pub listeners: Vec<Listener>,
    /// When its services were last changed by the mutator; creation before that.
    pub mutated_at: Stamp,
    /// When the state was last written.
    pub updated_at: Stamp,
}
