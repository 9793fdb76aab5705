//! The decky's interface, made on the host and put straight into the namespace of the
//! decky's process. It goes away with that namespace, so there is nothing to delete.

use anyhow::Context;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, IpVlanMode, MacVlanMode};
use rtnetlink::{LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::model::{Driver, Link};
use crate::netns::{Netlink, errno};

/// What the interface is called inside.
pub const INSIDE: &str = "eth0";

/// Gives the network namespace of process `pid` an interface as `link` describes it, with
/// the MAC address `mac` (an ipvlan keeps its parent's). It is down.
///
/// # Errors
/// When the parent does not exist or does not fit, the kernel has no such driver, or the
/// caller may not administer the network.
pub async fn attach(link: &Link, mac: Option<[u8; 6]>, pid: u32) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    let parent = netlink.expect(&link.parent).await?.header.index;
    let message = match link.driver {
        Driver::Macvlan => {
            let made = LinkMacVlan::new(INSIDE, parent, MacVlanMode::Bridge).setns_by_pid(pid);
            with_mac(made, mac).build()
        }
        Driver::Ipvlan => LinkIpVlan::new(INSIDE, parent, IpVlanMode::L2)
            .setns_by_pid(pid)
            .build(),
        Driver::Bridge => {
            let inside = LinkUnspec::new_with_name(INSIDE).setns_by_pid(pid);
            // The host's end: a port of the bridge, named after the process it serves.
            LinkVeth::new(&format!("dk{pid}"), INSIDE)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(
                    with_mac(inside, mac).build(),
                )))
                .controller(parent)
                .up()
                .build()
        }
    };
    netlink
        .handle
        .link()
        .add(message)
        .execute()
        .await
        .map_err(|error| refused(link, &error))
}

fn with_mac<T>(link: LinkMessageBuilder<T>, mac: Option<[u8; 6]>) -> LinkMessageBuilder<T> {
    match mac {
        Some(mac) => link.address(mac.to_vec()),
        None => link,
    }
}

/// Why the kernel did not make the interface, and what helps.
fn refused(link: &Link, error: &rtnetlink::Error) -> anyhow::Error {
    let (driver, parent) = (link.driver.as_str(), &link.parent);
    match errno(error) {
        Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) if link.driver != Driver::Bridge => {
            let others = match link.driver {
                Driver::Ipvlan => "macvlan or bridge",
                _ => "bridge",
            };
            anyhow::anyhow!("this kernel has no {driver}; use {others}")
        }
        Some(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ELOOP) if link.driver == Driver::Bridge => {
            anyhow::anyhow!("{parent}: not a bridge; name one, or use macvlan")
        }
        Some(Errno::EBUSY) => anyhow::anyhow!(
            "{parent}: in use by another driver (a bridge port, or macvlan beside ipvlan)"
        ),
        Some(Errno::EINVAL) => anyhow::anyhow!("{parent}: cannot carry {driver} interfaces"),
        _ => crate::netns::because(error),
    }
    .context(format!("attaching to {parent}"))
}

/// Deletes the interface called `name` in the caller's namespace; one that is not there
/// is fine.
///
/// # Errors
/// When the caller may not administer the network.
pub async fn delete(name: &str) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.find(name).await? else {
        return Ok(());
    };
    match netlink.handle.link().del(link.header.index).execute().await {
        Err(error) if errno(&error) != Some(Errno::ENODEV) => {
            Err(crate::netns::because(&error)).with_context(|| format!("deleting {name}"))
        }
        _ => Ok(()),
    }
}
