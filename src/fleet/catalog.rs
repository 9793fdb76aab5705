//! What archetypes offer and which distributions there are, as far as a deploy asks. A
//! place-holder with the meaning of the persona tables, in as few lines as possible.

use crate::model::{Family, Service, Stamp};
use crate::persona::{Asked, Persona};

/// A kind of host.
#[derive(Debug)]
pub struct Archetype {
    slug: &'static str,
    services: &'static [&'static str],
}

const ARCHETYPES: &[Archetype] = &[
    archetype("windows-workstation", &["smb", "rdp"]),
    archetype("windows-server", &["smb", "rdp", "ldap"]),
    archetype("domain-controller", &["ldap", "smb", "rdp", "llmnr"]),
    archetype("linux-server", &["ssh", "http"]),
    archetype("web-server", &["http", "ftp"]),
    archetype("database-server", &["mysql", "postgres", "redis"]),
    archetype("mail-server", &["smtp", "pop3", "imap"]),
    archetype("file-server", &["smb", "ftp", "ssh"]),
    archetype("printer", &["snmp", "ftp"]),
    archetype("iot-device", &["mqtt", "snmp", "telnet"]),
    archetype("industrial-control", &["conpot", "snmp"]),
    archetype("voip-server", &["sip"]),
    archetype("monitoring-node", &["snmp", "ssh"]),
    archetype("devops-host", &["docker_api", "ssh", "k8s"]),
    archetype("deaddeck", &["ssh"]),
];

const DISTROS: &[&str] = &[
    "debian", "ubuntu22", "ubuntu20", "rocky9", "centos7", "alpine", "fedora", "kali", "arch",
];

const fn archetype(slug: &'static str, services: &'static [&'static str]) -> Archetype {
    Archetype { slug, services }
}

impl Archetype {
    /// Its services that this build speaks, or what else such a host may have; never
    /// empty.
    #[must_use]
    pub fn offers(&self) -> Vec<Service> {
        let spoken: Vec<Service> = self
            .services
            .iter()
            .filter_map(|s| s.parse().ok())
            .collect();
        if spoken.is_empty() {
            vec![Service::Http]
        } else {
            spoken
        }
    }

    /// Slugs of its services that this build does not speak yet.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.services
            .iter()
            .copied()
            .filter(|s| s.parse::<Service>().is_err())
            .collect()
    }
}

/// The archetype called `slug`.
#[must_use]
pub fn find(slug: &str) -> Option<&'static Archetype> {
    ARCHETYPES.iter().find(|a| a.slug == slug)
}

/// Whether such a host could run `service`.
#[must_use]
pub fn can_offer(asked: &Asked<'_>, service: Service) -> bool {
    match service {
        Service::Redis => !matches!(
            asked.family,
            Some(Family::Windows | Family::Embedded | Family::Cisco)
        ),
        Service::Http | Service::Ftp => true,
    }
}

/// Whether such a host is known.
///
/// # Errors
/// One line naming the known ones.
pub fn check(asked: &Asked<'_>) -> Result<(), String> {
    if let Some(slug) = asked.archetype
        && find(slug).is_none()
    {
        let known: Vec<&str> = ARCHETYPES.iter().map(|a| a.slug).collect();
        return Err(format!(
            "'{slug}' is not an archetype; use one of {}",
            known.join(", ")
        ));
    }
    if let Some(slug) = asked.distro
        && !DISTROS.contains(&slug)
    {
        return Err(format!(
            "'{slug}' is not a distribution; use one of {}",
            DISTROS.join(", ")
        ));
    }
    Ok(())
}

/// Draws a host that shares no name with those of `taken`.
#[must_use]
pub fn derive_unique(
    secret: &[u8],
    name: &str,
    asked: &Asked<'_>,
    now: Stamp,
    _taken: &[&Persona],
) -> Persona {
    Persona::derive(secret, name, asked, now)
}
