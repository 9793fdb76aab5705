//! The interface by which this host reaches its network.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};

use crate::netns::{Netlink, because, name_of};

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
    let netlink = Netlink::open()?;
    let defaults = defaults(&netlink).await?;
    let (interface, index) = match interface {
        Some(name) => (name.to_owned(), netlink.expect(name).await?.header.index),
        None => {
            let Some((index, _)) = defaults.first().copied() else {
                anyhow::bail!("this host has no default route; name the interface to attach to");
            };
            (name(&netlink, index).await?, index)
        }
    };
    let addresses: Vec<AddressMessage> = netlink
        .handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute()
        .try_collect()
        .await
        .map_err(|e| because(&e))?;
    let Some(own) = addresses.iter().find_map(ipv4) else {
        anyhow::bail!("{interface}: no IPv4 address; give the network with its prefix");
    };
    Ok(Uplink {
        interface,
        address: own.addr(),
        subnet: own.trunc(),
        gateway: defaults
            .iter()
            .find(|(by, _)| *by == index)
            .and_then(|(_, gateway)| *gateway),
    })
}

/// Every address of this host, on whatever interface.
///
/// # Errors
/// When the kernel does not answer.
pub async fn own_addresses() -> anyhow::Result<Vec<IpAddr>> {
    let netlink = Netlink::open()?;
    let addresses: Vec<AddressMessage> = netlink
        .handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|e| because(&e))?;
    Ok(addresses
        .iter()
        .flat_map(|message| &message.attributes)
        .filter_map(|attribute| match attribute {
            AddressAttribute::Address(ip) | AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        })
        .collect())
}

/// Interfaces of default routes with their gateways, best first.
async fn defaults(netlink: &Netlink) -> anyhow::Result<Vec<(u32, Option<IpAddr>)>> {
    let routes = netlink.routes().await?;
    let mut found: Vec<(u32, u32, Option<IpAddr>)> = routes
        .iter()
        .filter(|route| route.header.destination_prefix_length == 0)
        .filter_map(|route| {
            let mut by = (0, None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Priority(metric) => by.0 = *metric,
                    RouteAttribute::Oif(index) => by.1 = Some(*index),
                    RouteAttribute::Gateway(RouteAddress::Inet(ip)) => {
                        by.2 = Some(IpAddr::V4(*ip));
                    }
                    _ => {}
                }
            }
            by.1.map(|index| (by.0, index, by.2))
        })
        .collect();
    found.sort_by_key(|(metric, ..)| *metric);
    Ok(found.into_iter().map(|(_, i, g)| (i, g)).collect())
}

async fn name(netlink: &Netlink, index: u32) -> anyhow::Result<String> {
    let link: Option<LinkMessage> = netlink
        .handle
        .link()
        .get()
        .match_index(index)
        .execute()
        .try_next()
        .await
        .map_err(|e| because(&e))?;
    link.as_ref()
        .and_then(name_of)
        .ok_or_else(|| anyhow::anyhow!("the interface of the default route is gone"))
}

fn ipv4(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(IpAddr::V4(*ip)),
        _ => None,
    })?;
    IpNet::new(local, message.header.prefix_len).ok()
}
