//! The table of decoy services: slug, ports, transport. The CLI list, the deploy
//! check, the README table and the tests all read this one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A decoy protocol this build can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Redis, RESP over TCP.
    Redis,
    /// Plain HTTP.
    Http,
    /// FTP with passive data connections.
    Ftp,
}

/// Slugs of the original system that this build does not speak yet. Known so that
/// the error can say "not yet" instead of "what is that".
pub const PLANNED: &[&str] = &[
    "ssh",
    "telnet",
    "https",
    "tftp",
    "smb",
    "rdp",
    "vnc",
    "smtp",
    "smtp_relay",
    "imap",
    "pop3",
    "ldap",
    "llmnr",
    "mysql",
    "postgres",
    "mssql",
    "mongodb",
    "elasticsearch",
    "mqtt",
    "snmp",
    "sip",
    "dns",
    "k8s",
    "docker_api",
    "conpot",
];

impl Service {
    /// Every service, in the order lists show them.
    pub const ALL: &'static [Service] = &[Service::Redis, Service::Http, Service::Ftp];

    /// The name used in INI files, flags, log lines (APP-NAME) and the database.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Service::Redis => "redis",
            Service::Http => "http",
            Service::Ftp => "ftp",
        }
    }

    /// The TCP port the real product listens on.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Service::Redis => 6379,
            Service::Http => 80,
            Service::Ftp => 21,
        }
    }

    /// One line for lists.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Service::Redis => "Redis server with a sandboxed store; records exploitation chains",
            Service::Http => {
                "Web server of the host's system, from nginx to IIS and printers; keeps bodies and uploads"
            }
            Service::Ftp => "FTP server of the host's system with a small tree; keeps uploads",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Why a slug names no service: the text is ready for the operator.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownService {
    /// A slug the original had; this build does not speak it yet.
    #[error("service '{0}' is not available in this version (available: {list})", list = available())]
    Planned(String),
    /// No such service.
    #[error("unknown service '{0}' (available: {list})", list = available())]
    Unknown(String),
}

fn available() -> String {
    let slugs: Vec<&str> = Service::ALL.iter().map(|s| s.slug()).collect();
    slugs.join(", ")
}

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(found) = Service::ALL.iter().find(|s| s.slug() == text) {
            return Ok(*found);
        }
        if PLANNED.contains(&text) {
            return Err(UnknownService::Planned(text.to_owned()));
        }
        Err(UnknownService::Unknown(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_parses_to_its_service() {
        for service in Service::ALL {
            assert_eq!(service.slug().parse(), Ok(*service));
        }
    }

    #[test]
    fn a_planned_slug_says_so() {
        let error = "ssh".parse::<Service>().unwrap_err().to_string();
        assert!(error.contains("not available in this version"), "{error}");
        assert!(error.contains("redis, http, ftp"), "{error}");
    }
}
