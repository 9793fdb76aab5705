//! The interface by which this host reaches its network.

use std::net::IpAddr;

use ipnet::IpNet;

/// An interface that deckies may be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// The host's own address on it.
    pub address: IpAddr,
    /// The network of that address.
    pub subnet: IpNet,
    /// The default gateway behind it.
    pub gateway: Option<IpAddr>,
}

/// The interface called `interface`, or the one of the default route.
///
/// # Errors
/// When there is no such interface, or it has no IPv4 address.
pub async fn find(interface: Option<&str>) -> anyhow::Result<Uplink> {
    anyhow::bail!(
        "{}: looking is not available yet",
        interface.unwrap_or("default route")
    )
}
