//! The host's own interface among its deckies. A macvlan child and its parent cannot talk
//! to each other; another child can, so the host gets one, with a route to each decky
//! through it.
//!
//! It carries the host's address a second time (the deckies ask for that one) and answers
//! for it to the deckies alone: to everybody else on the LAN the host stays where it is.
//! Its alias says which installation it belongs to: several may share a host, and none
//! touches what is another's.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::Context;
use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{IpVlanMode, LinkAttribute, LinkMessage, MacVlanMode};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteScope};
use rtnetlink::{LinkIpVlan, LinkMacVlan, LinkUnspec, RouteMessageBuilder};

use crate::model::Driver;
use crate::netns::{Netlink, because, errno, name_of};

/// What the interfaces of a driver are called, before their number.
fn prefix(driver: Driver) -> Option<&'static str> {
    match driver {
        Driver::Macvlan => Some("decnet_macvlan"),
        Driver::Ipvlan => Some("decnet_ipvlan"),
        // The host is on the bridge itself.
        Driver::Bridge => None,
    }
}

/// The deckies of one parent interface that the host is to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Their parent interface.
    pub parent: String,
    /// How they are attached to it.
    pub driver: Driver,
    /// The host's address on it.
    pub host: IpAddr,
    /// Their addresses.
    pub deckies: BTreeSet<IpAddr>,
}

/// Makes the helper interfaces of installation `owner` what `wanted` asks for: one per
/// parent, a route per decky, none that is wanted no more. Doing it again changes nothing.
///
/// # Errors
/// When the caller may not administer the network, or a parent is gone.
pub async fn ensure(owner: &str, wanted: &[Wanted]) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    let mut present = helpers(&netlink).await?;
    present.retain(|(_, link)| owner_of(link) == Some(owner));
    let mut parents = Vec::new();
    for one in wanted {
        let Some(prefix) = prefix(one.driver) else {
            continue;
        };
        parents.push((netlink.expect(&one.parent).await?.header.index, prefix, one));
    }
    // The one of the other driver goes first: a parent carries either kind.
    let mut kept = Vec::new();
    for (name, link) in present {
        let fits = parents
            .iter()
            .any(|(index, prefix, _)| parent_of(&link) == Some(*index) && name.starts_with(prefix));
        if fits {
            kept.push((name, link));
        } else {
            delete(&netlink, &name, link.header.index).await?;
        }
    }
    present = kept;
    for (parent, prefix, one) in parents {
        let found = present
            .iter()
            .find(|(_, link)| parent_of(link) == Some(parent))
            .map(|(name, link)| (name.clone(), link.header.index));
        let (name, index) = match found {
            Some(found) => found,
            None => {
                let taken: BTreeSet<String> = helpers(&netlink)
                    .await?
                    .into_iter()
                    .map(|(name, _)| name)
                    .collect();
                let name = (0..100)
                    .map(|n| format!("{prefix}{n}"))
                    .find(|name| !taken.contains(name))
                    .context("too many helper interfaces")?;
                make(&netlink, &name, parent, owner, one).await?
            }
        };
        routes(&netlink, &name, index, one).await?;
    }
    Ok(())
}

/// Removes every helper interface of installation `owner`.
///
/// # Errors
/// When the caller may not administer the network.
pub async fn remove(owner: &str) -> anyhow::Result<()> {
    ensure(owner, &[]).await
}

/// The helper interfaces of this host.
async fn helpers(netlink: &Netlink) -> anyhow::Result<Vec<(String, LinkMessage)>> {
    let links: Vec<LinkMessage> = netlink
        .handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|e| because(&e))?;
    Ok(links
        .into_iter()
        .filter_map(|link| Some((name_of(&link)?, link)))
        .filter(|(name, _)| {
            [Driver::Macvlan, Driver::Ipvlan]
                .into_iter()
                .filter_map(prefix)
                .any(|prefix| {
                    name.strip_prefix(prefix)
                        .is_some_and(|number| number.parse::<u8>().is_ok())
                })
        })
        .collect())
}

fn parent_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

fn owner_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfAlias(owner) => Some(owner.as_str()),
        _ => None,
    })
}

async fn delete(netlink: &Netlink, name: &str, index: u32) -> anyhow::Result<()> {
    match netlink.handle.link().del(index).execute().await {
        Err(error) if errno(&error) != Some(Errno::ENODEV) => {
            Err(because(&error)).with_context(|| format!("deleting {name}"))
        }
        _ => Ok(()),
    }
}

async fn make(
    netlink: &Netlink,
    name: &str,
    parent: u32,
    owner: &str,
    wanted: &Wanted,
) -> anyhow::Result<(String, u32)> {
    let message = match wanted.driver {
        Driver::Ipvlan => LinkIpVlan::new(name, parent, IpVlanMode::L2).build(),
        _ => LinkMacVlan::new(name, parent, MacVlanMode::Bridge).build(),
    };
    let making = || format!("making {name} on {}", wanted.parent);
    let made = netlink.handle.link().add(message).execute().await;
    made.map_err(|e| because(&e)).with_context(making)?;
    let index = netlink.expect(name).await?.header.index;
    // It answers for the host's address only to whom the host reaches through it, and
    // says nothing of its own on the LAN.
    for (setting, value) in [
        (format!("ipv4/conf/{name}/arp_filter"), "1"),
        (format!("ipv6/conf/{name}/disable_ipv6"), "1"),
    ] {
        if let Err(error) = fs::write(format!("/proc/sys/net/{setting}"), value) {
            tracing::debug!("{setting}: {error}");
        }
    }
    let own = if wanted.host.is_ipv4() { 32 } else { 128 };
    let added = netlink
        .handle
        .address()
        .add(index, wanted.host, own)
        .execute()
        .await;
    added.map_err(|e| because(&e)).with_context(making)?;
    let up = LinkUnspec::new_with_index(index).alias(owner).up().build();
    let up = netlink.handle.link().set(up).execute().await;
    up.map_err(|e| because(&e)).with_context(making)?;
    Ok((name.to_owned(), index))
}

/// Gives interface `index` a route to every wanted decky and to nothing else.
async fn routes(netlink: &Netlink, name: &str, index: u32, wanted: &Wanted) -> anyhow::Result<()> {
    let all = netlink.routes().await?;
    let mut there = BTreeSet::new();
    for route in all {
        let ours = route.header.destination_prefix_length == 32
            && route.header.table == 254
            && route.attributes.contains(&RouteAttribute::Oif(index));
        let to = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            _ => None,
        });
        let Some(to) = to.filter(|_| ours) else {
            continue;
        };
        if wanted.deckies.contains(&to) {
            there.insert(to);
        } else {
            let gone = netlink.handle.route().del(route).execute().await;
            gone.map_err(|e| because(&e))
                .with_context(|| format!("removing the route to {to} by {name}"))?;
        }
    }
    for ip in wanted.deckies.difference(&there) {
        let (IpAddr::V4(to), IpAddr::V4(host)) = (ip, wanted.host) else {
            continue;
        };
        let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(*to, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(host)
            .build();
        match netlink.handle.route().add(route).execute().await {
            Err(error) if errno(&error) != Some(Errno::EEXIST) => {
                return Err(because(&error))
                    .with_context(|| format!("adding the route to {to} by {name}"));
            }
            _ => {}
        }
    }
    Ok(())
}
