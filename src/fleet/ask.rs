//! What the operator asked for, by flags or by file, and how it becomes a whole wish: the
//! runtime, the services nobody named, the link to the network.

use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

use crate::fleet::difference::slugs;
use crate::fleet::plan::Wanted;
use crate::model::{Custom, Driver, Family, Link, Runtime, Service, Settings, Wish};
use crate::persona::{Asked, archetype};

/// Most services a decky gets when nobody names any.
const DRAWN_MAX: usize = 3;
/// Longest interval between two mutations, in minutes: a year.
pub const MUTATE_MAX_MIN: u32 = 525_600;

/// What is known of the network and the runtime before anybody looks at the host: flags
/// first, then `[general]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    /// Runtime of deckies that name none.
    pub runtime: Option<Runtime>,
    /// How they are attached.
    pub driver: Option<Driver>,
    /// The host's interface.
    pub interface: Option<String>,
    /// The network the addresses lie in.
    pub subnet: Option<IpNet>,
    /// The default gateway.
    pub gateway: Option<IpAddr>,
}

impl Ground {
    /// The runtime of deckies that name none: the one given, or what the network means.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        let lan = self.interface.is_some()
            || self.driver.is_some()
            || self.gateway.is_some()
            || self.subnet.is_some_and(|net| !is_loopback(net));
        match self.runtime {
            Some(runtime) => runtime,
            None if lan => Runtime::Native,
            None => Runtime::Local,
        }
    }

    /// Whether its parts go together.
    ///
    /// # Errors
    /// The first that does not, in one line.
    pub fn check(&self) -> Result<(), String> {
        let runtime = self.runtime();
        let Some(subnet) = self.subnet else {
            return Ok(());
        };
        if matches!(subnet, IpNet::V6(_)) {
            return Err(format!(
                "{subnet}: deckies are given IPv4 addresses; their IPv6 address is link-local and their own"
            ));
        }
        match (runtime, is_loopback(subnet)) {
            (Runtime::Local, false) => Err(format!(
                "{subnet}: local deckies live on loopback; use a network inside 127.0.0.0/8, or the runtime native or docker"
            )),
            (Runtime::Native | Runtime::Docker, true) => Err(format!(
                "{subnet}: {runtime} deckies live on a LAN; name its network, or use the runtime local"
            )),
            _ => match self.gateway {
                Some(gateway) if runtime != Runtime::Local && !subnet.contains(&gateway) => Err(
                    format!("the gateway {gateway} is not in {subnet}, so no decky could reach it"),
                ),
                _ => Ok(()),
            },
        }
    }
}

/// Reads a network; host bits may be set.
///
/// # Errors
/// That it is none, with an example.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| format!("'{text}' is not a network such as 192.168.1.0/24"))
}

/// Checks the name of a network interface or bridge.
///
/// # Errors
/// That it cannot be one.
pub fn check_interface(name: &str) -> Result<(), String> {
    // The kernel's own rule (IFNAMSIZ, dev_valid_name).
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    let clean =
        !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if fits && clean {
        return Ok(());
    }
    Err(format!("'{name}' is not the name of a network interface"))
}

/// Whether all of `net` is loopback.
#[must_use]
pub fn is_loopback(net: IpNet) -> bool {
    net.network().is_loopback() && net.broadcast().is_loopback()
}

/// One decky as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its services; `None` is the archetype's, or some drawn by lot.
    pub services: Option<Vec<Service>>,
    /// Settings of those.
    pub settings: Settings,
    /// Services of the operator's own.
    pub customs: Vec<Custom>,
    /// Slug of the archetype.
    pub archetype: Option<String>,
    /// Slug of the distribution.
    pub distro: Option<String>,
    /// OS family.
    pub family: Option<Family>,
    /// Minutes between two mutations.
    pub mutate_interval: Option<u32>,
    /// Its runtime, when not the ground's.
    pub runtime: Option<Runtime>,
}

impl Ask {
    /// What it asks of the host behind it.
    #[must_use]
    pub fn asked(&self) -> Asked<'_> {
        Asked {
            archetype: self.archetype.as_deref(),
            distro: self.distro.as_deref(),
            family: self.family,
        }
    }

    /// Makes the whole wish. `secret` is the installation's; without one (nothing was ever
    /// deployed) services drawn by lot are not known yet and stay empty.
    #[must_use]
    pub fn resolve(self, runtime: Runtime, link: Option<&Link>, secret: Option<&[u8]>) -> Wanted {
        let runtime = self.runtime.unwrap_or(runtime);
        let archetype = self.archetype.as_deref().and_then(archetype::find);
        let services = match (&self.services, archetype) {
            (Some(services), _) => services.clone(),
            (None, Some(archetype)) => archetype.offers(),
            (None, None) => {
                secret.map_or_else(Vec::new, |secret| draw(secret, &self.name, &self.asked()))
            }
        };
        Wanted {
            name: self.name,
            ip: self.ip,
            wish: Wish {
                runtime,
                link: link.filter(|_| runtime != Runtime::Local).cloned(),
                services,
                settings: self.settings,
                customs: self.customs,
                archetype: self.archetype,
                distro: self.distro,
                family: self.family,
                mutate_interval: self.mutate_interval,
                ..Wish::default()
            },
        }
    }
}

/// What the operator should know when the services of archetype `slug` stand in for named
/// ones: those this build does not speak yet.
#[must_use]
pub fn archetype_note(slug: &str) -> Option<String> {
    let archetype = archetype::find(slug)?;
    let missing = archetype.missing();
    (!missing.is_empty()).then(|| {
        format!(
            "archetype {slug}: {} not available in this version; it offers {}",
            missing.join(", "),
            slugs(&archetype.offers())
        )
    })
}

/// Services that were named although no such host would run them.
#[must_use]
pub fn odd_services(ask: &Ask) -> Vec<String> {
    let asked = ask.asked();
    let kind = [ask.archetype.as_deref(), ask.family.map(Family::slug)];
    let kind: Vec<&str> = kind.into_iter().flatten().collect();
    ask.services
        .iter()
        .flatten()
        .filter(|service| !asked.can_offer(**service))
        .map(|service| format!("{service} is not believable on {}", kind.join(", ")))
        .collect()
}

/// What a wish asks of the host behind it.
#[must_use]
pub fn asked(wish: &Wish) -> Asked<'_> {
    Asked {
        archetype: wish.archetype.as_deref(),
        distro: wish.distro.as_deref(),
        family: wish.family,
    }
}

/// One to three services that such a host may offer. The same for the same installation
/// and name, so that a repeated deploy changes nothing; different between installations.
#[must_use]
pub fn draw(secret: &[u8], name: &str, asked: &Asked<'_>) -> Vec<Service> {
    let mut hash = Sha256::new();
    hash.update(b"decky services v1\0");
    hash.update(Sha256::digest(secret));
    hash.update(name.as_bytes());
    let mut rng = StdRng::from_seed(hash.finalize().into());
    let mut services: Vec<Service> = Service::ALL
        .iter()
        .copied()
        .filter(|service| asked.can_offer(*service))
        .collect();
    services.shuffle(&mut rng);
    let most = DRAWN_MAX.min(services.len()).max(1);
    services.truncate(rng.random_range(1..=most));
    services
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_network_decides_the_runtime_unless_it_is_given() {
        let ground = |interface: Option<&str>, subnet: Option<&str>| Ground {
            interface: interface.map(str::to_owned),
            subnet: subnet.map(|s| s.parse().unwrap()),
            ..Ground::default()
        };
        assert_eq!(ground(None, None).runtime(), Runtime::Local);
        assert_eq!(ground(None, Some("127.9.0.0/24")).runtime(), Runtime::Local);
        assert_eq!(ground(None, Some("10.0.0.0/24")).runtime(), Runtime::Native);
        assert_eq!(ground(Some("eth0"), None).runtime(), Runtime::Native);
        assert!(!is_loopback("126.0.0.0/7".parse().unwrap()));
        let docker = Ground {
            runtime: Some(Runtime::Docker),
            ..ground(Some("eth0"), None)
        };
        assert_eq!(docker.runtime(), Runtime::Docker);
    }

    #[test]
    fn drawn_services_are_stable_differ_and_suit_the_family() {
        let linux = Asked::default();
        let cisco = Asked {
            family: Some(Family::Cisco),
            ..linux
        };
        let sets: Vec<Vec<Service>> = (0..40)
            .map(|n| draw(b"one", &format!("d{n}"), &linux))
            .collect();
        let again: Vec<Vec<Service>> = (0..40)
            .map(|n| draw(b"one", &format!("d{n}"), &linux))
            .collect();
        assert_eq!(sets, again);
        let elsewhere: Vec<Vec<Service>> = (0..40)
            .map(|n| draw(b"two", &format!("d{n}"), &linux))
            .collect();
        assert_ne!(sets, elsewhere);
        for services in &sets {
            let distinct: BTreeSet<Service> = services.iter().copied().collect();
            assert!((1..=3).contains(&services.len()));
            assert_eq!(distinct.len(), services.len());
        }
        assert!(sets.iter().collect::<BTreeSet<_>>().len() > 3);
        for n in 0..40 {
            let services = draw(b"one", &format!("d{n}"), &cisco);
            assert!(!services.contains(&Service::Redis), "{services:?}");
        }
    }

    #[test]
    fn an_archetype_stands_in_for_services() {
        let ask = Ask {
            name: "web".into(),
            archetype: Some("web-server".into()),
            ..Ask::default()
        };
        let wanted = ask.clone().resolve(Runtime::Local, None, None);
        assert_eq!(wanted.wish.services, [Service::Http, Service::Ftp]);
        let named = Ask {
            services: Some(vec![Service::Redis]),
            ..ask
        };
        let wanted = named.resolve(Runtime::Local, None, None);
        assert_eq!(wanted.wish.services, [Service::Redis]);
    }
}
