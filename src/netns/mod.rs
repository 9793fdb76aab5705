//! Network namespaces and links: what the kernel is told, over netlink, so that a decky
//! is a machine of its own on the LAN and cannot call out.
//!
//! On the host's side: [`uplink`] (where to attach), [`probe`] (is the address free),
//! [`link`] (the decky's interface), [`helper`] (so that the host reaches its own
//! deckies). On the decky's side, in this order: [`cage::enter`] (user and namespaces of
//! its own), [`inside`] (address and routes), [`stack`] (how its packets look),
//! [`egress`] (it answers and never calls), [`cage::lock`] (no way back).

pub mod cage;
mod calls;
pub mod cgroup;
pub mod egress;
pub mod helper;
pub mod inside;
pub mod link;
pub mod probe;
pub mod stack;
pub mod uplink;

use std::net::Ipv4Addr;

use anyhow::Context;
use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Error, Handle, RouteMessageBuilder};
use tokio::task::JoinHandle;

/// A connection to the kernel's routing tables, in the namespace of the thread that
/// opened it; closed when dropped.
struct Netlink {
    handle: Handle,
    driver: JoinHandle<()>,
}

impl Netlink {
    fn open() -> anyhow::Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("opening a netlink socket")?;
        Ok(Self {
            handle,
            driver: tokio::spawn(connection),
        })
    }

    /// Every IPv4 route of this namespace.
    async fn routes(&self) -> anyhow::Result<Vec<RouteMessage>> {
        let request = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes = self.handle.route().get(request).execute();
        routes.try_collect().await.map_err(|e| because(&e))
    }

    /// The interface called `name`.
    async fn find(&self, name: &str) -> anyhow::Result<Option<LinkMessage>> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match links.try_next().await {
            Ok(link) => Ok(link),
            Err(error)
                if matches!(
                    errno(&error),
                    Some(Errno::ENODEV | Errno::EINVAL | Errno::ERANGE)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(because(&error)).with_context(|| format!("looking for {name}")),
        }
    }

    /// The interface called `name`; an error that names those there are when it is none.
    async fn expect(&self, name: &str) -> anyhow::Result<LinkMessage> {
        if let Some(link) = self.find(name).await? {
            return Ok(link);
        }
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| because(&e))?;
        let names: Vec<String> = links
            .iter()
            .filter_map(name_of)
            .filter(|n| n != "lo")
            .collect();
        anyhow::bail!(
            "{name}: no such interface; this host has {}",
            if names.is_empty() {
                "none but the loopback".to_owned()
            } else {
                names.join(", ")
            }
        )
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The kernel's reason in one line: the library's text names numbers.
fn because(error: &Error) -> anyhow::Error {
    match errno(error) {
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => anyhow::anyhow!(
            "{}; this needs CAP_NET_ADMIN: let the reconciler unit do it, or use sudo",
            errno.desc()
        ),
        Some(errno) => anyhow::anyhow!("{}", errno.desc()),
        None => anyhow::anyhow!("{error}"),
    }
}

fn errno(error: &Error) -> Option<Errno> {
    match error {
        Error::NetlinkError(message) => message
            .code
            .map(|code| Errno::from_raw(code.get().saturating_neg())),
        _ => None,
    }
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// The MAC address of an Ethernet interface.
fn mac_of(link: &LinkMessage) -> Option<[u8; 6]> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

/// Reads `aa:bb:cc:dd:ee:ff`.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Writes a MAC address in lower case with colons.
fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read_and_written() {
        let mac = parse_mac("00:1b:21:0a:ff:07").unwrap();
        assert_eq!(show_mac(mac), "00:1b:21:0a:ff:07");
        for bad in [
            "",
            "00:1b:21:0a:ff",
            "00:1b:21:0a:ff:07:08",
            "0:1:2:3:4:5",
            "zz:1b:21:0a:ff:07",
            "+1:1b:21:0a:ff:07",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let netlink = Netlink::open().unwrap();
        assert!(netlink.find("lo").await.unwrap().is_some());
        let error = netlink.expect("nosuch0").await.unwrap_err().to_string();
        assert!(
            error.starts_with("nosuch0: no such interface; this host has "),
            "{error}"
        );
    }
}
