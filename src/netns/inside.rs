//! The decky's own side of its network, set up by its process inside its namespace before
//! anything listens: loopback, address, default route, kernel settings.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use crate::model::{Driver, Family, Link};
use crate::netns::link::INSIDE;
use crate::netns::{Netlink, because, errno, mac_of, stack};

/// Longest wait for an interface of the same MAC address, left by a namespace that is
/// just going, to be gone.
const LEFTOVER: Duration = Duration::from_secs(5);

/// Sets up `lo` and `eth0`. `link_local` is the persona's IPv6 address on the link; `None`
/// takes the one that follows from the MAC address.
///
/// # Errors
/// When the interface is not there or the kernel refuses.
pub async fn configure(
    ip: IpAddr,
    link: &Link,
    link_local: Option<Ipv6Addr>,
    family: Family,
) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    up(&netlink, netlink.expect("lo").await?.header.index, "lo").await?;
    let eth0 = netlink.expect(INSIDE).await?;
    let index = eth0.header.index;
    stack::apply(family)?;
    netlink
        .handle
        .address()
        .add(index, ip, link.subnet.prefix_len())
        .execute()
        .await
        .map_err(|e| because(&e))
        .with_context(|| format!("adding {ip}"))?;
    up(&netlink, index, &link.parent).await?;
    routes(&netlink, index, ip, link, family).await?;
    own_address(&netlink, &eth0, link, link_local).await
}

/// The same for a container, whose engine has set up address and routes: the shape of its
/// routes and the persona's IPv6 address on the link.
///
/// # Errors
/// When the interface is not there or the kernel refuses.
pub async fn dress(
    ip: IpAddr,
    link: &Link,
    link_local: Ipv6Addr,
    family: Family,
) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    let eth0 = netlink.expect(INSIDE).await?;
    let index = eth0.header.index;
    if !stack::metrics(family).is_empty() {
        routes(&netlink, index, ip, link, family).await?;
    }
    own_address(&netlink, &eth0, link, Some(link_local)).await
}

/// The routes to the subnet and to everywhere else.
async fn routes(
    netlink: &Netlink,
    index: u32,
    ip: IpAddr,
    link: &Link,
    family: Family,
) -> anyhow::Result<()> {
    let metrics = stack::metrics(family);
    // Metrics shape the answers to neighbours too: the kernel's own route for the subnet
    // gives way to one that has them.
    if !metrics.is_empty() {
        let mut subnet = to(index, Some(link.subnet), ip);
        subnet.header.scope = RouteScope::Link;
        subnet.attributes.extend([
            RouteAttribute::PrefSource(address(ip)),
            RouteAttribute::Metrics(metrics.clone()),
        ]);
        let added = netlink.handle.route().add(subnet).replace().execute().await;
        added
            .map_err(|e| because(&e))
            .with_context(|| format!("adding the route to {}", link.subnet))?;
    }
    if let Some(gateway) = link.gateway {
        let mut default = to(index, None, ip);
        default
            .attributes
            .push(RouteAttribute::Gateway(address(gateway)));
        if !metrics.is_empty() {
            default.attributes.push(RouteAttribute::Metrics(metrics));
        }
        let added = netlink
            .handle
            .route()
            .add(default)
            .replace()
            .execute()
            .await;
        added
            .map_err(|e| because(&e))
            .with_context(|| format!("adding the route by {gateway}"))?;
    }
    Ok(())
}

/// The IPv6 address on the link.
async fn own_address(
    netlink: &Netlink,
    eth0: &LinkMessage,
    link: &Link,
    link_local: Option<Ipv6Addr>,
) -> anyhow::Result<()> {
    let index = eth0.header.index;
    // An ipvlan shares its parent's MAC address, hence its link-local address too.
    if link.driver == Driver::Ipvlan {
        return Ok(());
    }
    let Some(own) = link_local.or_else(|| mac_of(eth0).map(link_local_of)) else {
        return Ok(());
    };
    let add = netlink.handle.address().add(index, own.into(), 64);
    match add.execute().await {
        Ok(()) => {}
        Err(error) if errno(&error) == Some(Errno::EEXIST) => {}
        // Without IPv6 in the kernel the decky is one of IPv4 only.
        Err(error) if matches!(errno(&error), Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => {
            tracing::debug!("no IPv6: {error}");
            return Ok(());
        }
        Err(error) => return Err(because(&error)).with_context(|| format!("adding {own}")),
    }
    // What the kernel gave the interface before anybody could tell it not to.
    let held = netlink.handle.address().get();
    let mut held = held.set_link_index_filter(index).execute();
    while let Some(other) = held.try_next().await.map_err(|e| because(&e))? {
        let given = other.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(IpAddr::V6(ip)) => Some(*ip),
            _ => None,
        });
        if given.is_some_and(|ip| ip.is_unicast_link_local() && ip != own) {
            let deleted = netlink.handle.address().del(other).execute().await;
            deleted
                .map_err(|e| because(&e))
                .context("removing the kernel's own IPv6 address")?;
        }
    }
    Ok(())
}

/// Sets an interface up.
async fn up(netlink: &Netlink, index: u32, parent: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + LEFTOVER;
    loop {
        let message = LinkUnspec::new_with_index(index).up().build();
        let Err(error) = netlink.handle.link().set(message).execute().await else {
            return Ok(());
        };
        match errno(&error) {
            // The kernel takes a namespace apart some time after its last process.
            Some(Errno::EADDRINUSE | Errno::EBUSY) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Some(Errno::EADDRINUSE | Errno::EBUSY) => {
                anyhow::bail!("{parent} already carries an interface of this MAC address")
            }
            Some(Errno::ENETDOWN) => {
                anyhow::bail!("{parent} is down; set it up: ip link set {parent} up")
            }
            _ => return Err(because(&error)).with_context(|| format!("setting up {parent}")),
        }
    }
}

/// A route out of interface `index`; to everywhere without `net`.
fn to(index: u32, net: Option<IpNet>, ip: IpAddr) -> RouteMessage {
    let mut route = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(index)
        .build();
    route.header.address_family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    if let Some(net) = net {
        route.header.destination_prefix_length = net.prefix_len();
        route
            .attributes
            .push(RouteAttribute::Destination(address(net.network())));
    }
    route
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

/// The link-local address that follows from a MAC address (RFC 4291, appendix A).
#[must_use]
pub fn link_local_of(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_follows_from_the_mac_address() {
        let own = link_local_of([0x00, 0x1b, 0x21, 0x0a, 0xff, 0x07]);
        assert_eq!(own.to_string(), "fe80::21b:21ff:fe0a:ff07");
    }
}
