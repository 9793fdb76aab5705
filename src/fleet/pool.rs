//! Where addresses come from: one pool for loopback, one for the LAN. Addresses are taken
//! one after the other; nothing here knows whether somebody else answers on one, that is
//! asked before and told as a reservation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// Addresses of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The network.
    pub subnet: IpNet,
    /// The operator named the network: deckies outside it move into it. A network that
    /// is only the default moves nobody.
    pub named: bool,
    /// First address to give out.
    pub start: Option<IpAddr>,
    /// Addresses nobody gets, with what is there ("is the gateway").
    pub reserved: BTreeMap<IpAddr, String>,
}

impl Pool {
    /// Every address of `subnet`.
    #[must_use]
    pub fn new(subnet: IpNet) -> Self {
        Self {
            subnet,
            named: false,
            start: None,
            reserved: BTreeMap::new(),
        }
    }

    /// Whether a decky may have `ip`.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn check(&self, ip: IpAddr) -> Result<(), String> {
        if !self.subnet.contains(&ip) {
            return Err(format!("{ip} is not in {}", self.subnet));
        }
        if let Some(what) = self.reserved.get(&ip) {
            return Err(format!("{ip} {what}"));
        }
        let IpNet::V4(net) = self.subnet else {
            return Err(format!("{ip} is not an IPv4 address"));
        };
        if net.prefix_len() < 31 && (ip == net.network() || ip == net.broadcast()) {
            return Err(format!(
                "{ip} is the network or broadcast address of {net}; use one between them"
            ));
        }
        Ok(())
    }

    /// Gives out addresses that are not in `taken`, lowest first.
    pub fn free<'a>(&'a self, taken: &'a BTreeSet<IpAddr>) -> impl Iterator<Item = IpAddr> + 'a {
        let (first, last) = match self.subnet {
            IpNet::V4(net) => hosts(net),
            // An empty range.
            IpNet::V6(_) => (1, 0),
        };
        let first = match self.start {
            Some(IpAddr::V4(start)) => first.max(u32::from(start)),
            _ => first,
        };
        (first..=last)
            .map(|n| IpAddr::V4(Ipv4Addr::from(n)))
            // The first loopback address is the host's own, used by half its programs.
            .filter(|ip| *ip != IpAddr::V4(Ipv4Addr::LOCALHOST))
            .filter(|ip| !taken.contains(ip) && !self.reserved.contains_key(ip))
    }
}

/// First and last address for hosts.
fn hosts(net: Ipv4Net) -> (u32, u32) {
    let (network, broadcast) = (u32::from(net.network()), u32::from(net.broadcast()));
    if net.prefix_len() >= 31 {
        (network, broadcast)
    } else {
        (network.saturating_add(1), broadcast.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn network_broadcast_and_reserved_addresses_are_skipped() {
        let mut pool = Pool::new("10.0.0.0/29".parse().unwrap());
        pool.reserved
            .insert(ip("10.0.0.1"), "is the gateway".into());
        let taken = BTreeSet::from([ip("10.0.0.3")]);
        let free: Vec<IpAddr> = pool.free(&taken).collect();
        assert_eq!(
            free,
            ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(ip)
        );
        assert_eq!(
            pool.check(ip("10.0.0.1")),
            Err("10.0.0.1 is the gateway".to_owned())
        );
        for bad in ["10.0.0.0", "10.0.0.7", "10.0.0.8", "::1"] {
            assert!(pool.check(ip(bad)).is_err(), "{bad}");
        }
        assert_eq!(pool.check(ip("10.0.0.3")), Ok(()));
    }

    #[test]
    fn a_start_leaves_the_addresses_below_it_alone() {
        let mut pool = Pool::new("10.0.0.0/24".parse().unwrap());
        pool.start = Some(ip("10.0.0.100"));
        assert_eq!(pool.free(&BTreeSet::new()).next(), Some(ip("10.0.0.100")));
        pool.start = Some(ip("10.0.1.1"));
        assert_eq!(pool.free(&BTreeSet::new()).next(), None);
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_trouble() {
        for net in [
            "255.255.255.255/32",
            "0.0.0.0/0",
            "255.0.0.0/8",
            "10.0.0.0/31",
        ] {
            let pool = Pool::new(net.parse().unwrap());
            assert!(pool.free(&BTreeSet::new()).next().is_some(), "{net}");
        }
        let six = Pool::new("fe80::/64".parse().unwrap());
        assert!(six.free(&BTreeSet::new()).next().is_none());
    }

    #[test]
    fn nobody_gets_127_0_0_1_without_asking() {
        let pool = Pool::new("127.0.0.0/24".parse().unwrap());
        assert_eq!(pool.free(&BTreeSet::new()).next(), Some(ip("127.0.0.2")));
        assert_eq!(pool.check(ip("127.0.0.1")), Ok(()));
    }
}
