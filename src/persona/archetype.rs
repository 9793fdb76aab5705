//! Kinds of machines: what each offers, which systems it runs, how it is called. The
//! slugs and default services are the established ones; services that this build does
//! not speak are listed and marked, so that a later version offers them by itself.

use crate::model::{Family, Service};

/// A kind of machine.
#[derive(Debug)]
pub struct Archetype {
    /// Name in flags, INI files and rows.
    pub slug: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// What it offers by default, whether this build speaks it or not.
    pub services: &'static [&'static str],
    /// What such a host could grow in time.
    pub extra: &'static [Service],
    /// Linux distributions it runs in turn; none where the family is not Linux.
    pub distros: &'static [&'static str],
    /// OS family.
    pub family: Family,
    /// What the host is for, in its own words; see [`crate::persona::Persona::role`].
    pub role: &'static str,
    /// Words its host names are made of.
    pub(super) names: &'static [&'static str],
}

use Service::{Ftp, Http, Redis};

/// Every archetype.
pub const ARCHETYPES: &[Archetype] = &[
    Archetype {
        slug: "windows-workstation",
        summary: "Office computer with Windows 10 or 11",
        services: &["smb", "rdp"],
        extra: &[Http],
        distros: &[],
        family: Family::Windows,
        role: "windows-workstation",
        names: &["pc"],
    },
    Archetype {
        slug: "windows-server",
        summary: "Windows Server in the company's domain",
        services: &["smb", "rdp", "ldap"],
        extra: &[Http, Ftp],
        distros: &[],
        family: Family::WindowsServer,
        role: "windows-server",
        names: &["app", "fs", "sql", "web", "print", "file"],
    },
    Archetype {
        slug: "domain-controller",
        summary: "Active Directory domain controller",
        services: &["ldap", "smb", "rdp", "llmnr"],
        extra: &[Http],
        distros: &[],
        family: Family::WindowsServer,
        role: "domain-controller",
        names: &["dc"],
    },
    Archetype {
        slug: "linux-server",
        summary: "General Linux server",
        services: &["ssh", "http"],
        extra: &[Http, Ftp, Redis],
        distros: &["debian", "ubuntu22", "rocky9", "fedora"],
        family: Family::Linux,
        role: "linux-server",
        names: &["app", "srv", "web", "intranet", "portal"],
    },
    Archetype {
        slug: "web-server",
        summary: "Web server with uploads over FTP",
        services: &["http", "ftp"],
        extra: &[Redis],
        distros: &["debian", "ubuntu22", "ubuntu20"],
        family: Family::Linux,
        role: "web-server",
        names: &["web", "www", "site", "portal"],
    },
    Archetype {
        slug: "database-server",
        summary: "Database server",
        services: &["mysql", "postgres", "redis"],
        extra: &[Redis, Http],
        distros: &["debian", "ubuntu22"],
        family: Family::Linux,
        role: "database-server",
        names: &["db", "sql", "data", "cache"],
    },
    Archetype {
        slug: "mail-server",
        summary: "Mail server",
        services: &["smtp", "pop3", "imap"],
        extra: &[Http],
        distros: &["debian", "ubuntu22"],
        family: Family::Linux,
        role: "mail-server",
        names: &["mail", "mx", "smtp", "webmail"],
    },
    Archetype {
        slug: "file-server",
        summary: "File server",
        services: &["smb", "ftp", "ssh"],
        extra: &[Http],
        distros: &["debian", "ubuntu22", "rocky9"],
        family: Family::Linux,
        role: "file-server",
        names: &["files", "nas", "fs", "backup"],
    },
    Archetype {
        slug: "printer",
        summary: "Network printer",
        services: &["snmp", "ftp"],
        extra: &[Ftp, Http],
        distros: &[],
        family: Family::Embedded,
        role: "printer",
        names: &["prn"],
    },
    Archetype {
        slug: "iot-device",
        summary: "Camera, sensor or gateway",
        services: &["mqtt", "snmp", "telnet"],
        extra: &[Http, Ftp],
        distros: &[],
        family: Family::Embedded,
        role: "iot-device",
        names: &["cam", "sensor", "gw", "node"],
    },
    Archetype {
        slug: "industrial-control",
        summary: "Gateway of a programmable controller",
        services: &["conpot", "snmp"],
        extra: &[Http, Ftp],
        distros: &[],
        family: Family::Embedded,
        role: "industrial-control",
        names: &["plc", "hmi", "scada", "rtu"],
    },
    Archetype {
        slug: "voip-server",
        summary: "Telephone exchange",
        services: &["sip"],
        extra: &[Http],
        distros: &["debian", "ubuntu22"],
        family: Family::Linux,
        role: "voip-server",
        names: &["pbx", "voip", "sip", "tel"],
    },
    Archetype {
        slug: "monitoring-node",
        summary: "Monitoring server",
        services: &["snmp", "ssh"],
        extra: &[Http, Redis],
        distros: &["debian", "rocky9"],
        family: Family::Linux,
        role: "monitoring-node",
        names: &["mon", "metrics", "zbx", "log"],
    },
    Archetype {
        slug: "devops-host",
        summary: "Build and container host",
        services: &["docker_api", "ssh", "k8s"],
        extra: &[Http, Redis],
        distros: &["ubuntu22", "debian"],
        family: Family::Linux,
        role: "devops-host",
        names: &["ci", "build", "docker", "runner"],
    },
    Archetype {
        slug: "deaddeck",
        summary: "Entry point that faces the internet",
        services: &["ssh"],
        extra: &[Http, Ftp],
        distros: &["debian", "ubuntu22"],
        family: Family::Linux,
        // Its slug is a word of this product's kind; a host does not know it.
        role: "jump-host",
        names: &["bastion", "jump", "gw", "vpn"],
    },
];

/// The archetype called `slug`.
#[must_use]
pub fn find(slug: &str) -> Option<&'static Archetype> {
    ARCHETYPES.iter().find(|a| a.slug == slug)
}

/// [`find`] for operators.
///
/// # Errors
/// One line that names the known ones.
pub fn named(slug: &str) -> Result<&'static Archetype, String> {
    find(slug).ok_or_else(|| {
        let known: Vec<&str> = ARCHETYPES.iter().map(|a| a.slug).collect();
        format!(
            "'{slug}' is not an archetype; use one of {}",
            known.join(", ")
        )
    })
}

impl Archetype {
    /// What a new host of this kind offers: its default services that this build
    /// speaks or, where it speaks none of them, what such a host could have grown.
    /// Never empty.
    #[must_use]
    pub fn offers(&self) -> Vec<Service> {
        let spoken = self.spoken();
        if spoken.is_empty() {
            self.extra.to_vec()
        } else {
            spoken
        }
    }

    /// All it could ever offer in this build.
    #[must_use]
    pub fn pool(&self) -> Vec<Service> {
        let mut pool = self.spoken();
        for service in self.extra {
            if !pool.contains(service) {
                pool.push(*service);
            }
        }
        pool
    }

    /// Default services that this build does not speak.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.services
            .iter()
            .copied()
            .filter(|slug| slug.parse::<Service>().is_err())
            .collect()
    }

    fn spoken(&self) -> Vec<Service> {
        self.services
            .iter()
            .filter_map(|slug| slug.parse().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::UnknownService;
    use crate::persona::distro;

    #[test]
    fn every_archetype_offers_something_and_names_only_known_things() {
        assert_eq!(ARCHETYPES.len(), 15);
        for a in ARCHETYPES {
            assert!(!a.offers().is_empty(), "{}", a.slug);
            assert!(!a.names.is_empty(), "{}", a.slug);
            for service in a.offers() {
                assert!(a.pool().contains(&service), "{}", a.slug);
            }
            for slug in a.missing() {
                let error = slug.parse::<Service>().unwrap_err();
                assert!(matches!(error, UnknownService::Planned(_)), "{slug}");
            }
            assert_eq!(a.distros.is_empty(), a.family != Family::Linux);
            for slug in a.distros {
                assert!(distro::find(slug).is_some(), "{slug}");
            }
            assert_eq!(find(a.slug).map(|a| a.slug), Some(a.slug));
        }
        assert!(named("toaster").unwrap_err().contains("printer"));
    }
}
