//! Who a decky pretends to be: one coherent host, derived from the installation's
//! secret and the decky's name, then persisted. Two installations share no secret; the
//! same installation gives the same host after every restart. The decky's name is
//! never part of what it shows.
//!
//! [`release`] holds what runs on which system, [`archetype`] and [`distro`] what can be
//! asked for, [`site`] the company all hosts of an installation belong to, [`name`] and
//! [`vendor`] how they are called and whose network cards they have. Keys,
//! certificates and identifiers ([`key`], [`certificate`], [`identity`]) follow from the
//! host's seed whenever they are wanted and are stored nowhere.

pub mod archetype;
pub mod certificate;
pub(crate) mod der;
mod device;
pub mod distro;
mod draw;
pub mod identity;
pub mod key;
mod linux;
pub(crate) mod name;
mod release;
mod rsa;
pub mod show;
mod site;
pub(crate) mod stream;
mod vendor;
mod windows;

use std::net::Ipv6Addr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use archetype::Archetype;
pub use distro::Distro;

use crate::model::{Family, Service, Stamp};
use release::Release;
use site::Site;
use stream::Stream;

/// One day.
const DAY: u64 = 86_400;
/// Redraws before a taken name is accepted; thousands of hosts stay far below it.
const ATTEMPTS: u32 = 2_000;

/// Which web server the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebServer {
    /// nginx.
    Nginx,
    /// Apache httpd.
    Apache,
    /// Microsoft IIS.
    Iis,
    /// lighttpd, as cameras and routers carry it.
    Lighttpd,
    /// The web server of HP printers.
    Emweb,
    /// The HTTP server of Cisco IOS.
    CiscoIos,
}

impl WebServer {
    /// The product's name, for lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WebServer::Nginx => "nginx",
            WebServer::Apache => "Apache",
            WebServer::Iis => "IIS",
            WebServer::Lighttpd => "lighttpd",
            WebServer::Emweb => "Virata-EmWeb",
            WebServer::CiscoIos => "Cisco IOS HTTP server",
        }
    }
}

/// Which FTP server the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FtpServer {
    /// vsftpd.
    Vsftpd,
    /// ProFTPD.
    Proftpd,
    /// Microsoft FTP Service.
    Microsoft,
    /// The FTP server of HP JetDirect cards.
    Jetdirect,
    /// The FTP server of Cisco IOS.
    CiscoIos,
}

impl FtpServer {
    /// The product's name, for lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FtpServer::Vsftpd => "vsftpd",
            FtpServer::Proftpd => "ProFTPD",
            FtpServer::Microsoft => "Microsoft FTP Service",
            FtpServer::Jetdirect => "JetDirect FTP",
            FtpServer::CiscoIos => "Cisco IOS FTP server",
        }
    }
}

/// What the operator asked of a host; everything else is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Slug of the archetype.
    pub archetype: Option<&'a str>,
    /// Slug of the distribution.
    pub distro: Option<&'a str>,
    /// OS family; goes before the archetype's.
    pub family: Option<Family>,
}

impl Asked<'_> {
    /// Whether a host can be drawn that is all of what was asked.
    ///
    /// # Errors
    /// One line: an unknown slug, or two wishes that exclude each other.
    pub fn check(&self) -> Result<(), String> {
        let archetype = self.archetype.map(archetype::named).transpose()?;
        if let Some(slug) = self.distro {
            distro::named(slug)?;
            if let Some(family) = self.family
                && family != Family::Linux
            {
                return Err(format!(
                    "distro '{slug}' is Linux and OS family '{family}' is not; ask for one of them"
                ));
            }
            if let Some(a) = archetype
                && self.family.is_none()
                && a.family != Family::Linux
            {
                return Err(format!(
                    "distro '{slug}' is Linux and archetype '{}' is {}; ask for one of them",
                    a.slug, a.family
                ));
            }
        }
        Ok(())
    }

    /// The OS family of the host: asked for, or the archetype's, or Linux.
    #[must_use]
    pub fn family(&self) -> Family {
        let archetype = self.archetype.and_then(archetype::find);
        self.family
            .or(archetype.map(|a| a.family))
            .unwrap_or_default()
    }

    /// Whether such a host could run `service`: there is no Redis for Windows
    /// workstations, printers or routers.
    #[must_use]
    pub fn can_offer(&self, service: Service) -> bool {
        match service {
            Service::Redis => matches!(
                self.family(),
                Family::Linux | Family::WindowsServer | Family::Bsd
            ),
            Service::Http | Service::Ftp => true,
        }
    }

    /// Systems it may be drawn from; never none.
    fn releases(&self) -> Vec<&'static Release> {
        let family = self.family();
        let archetype = self.archetype.and_then(archetype::find);
        if family == Family::Linux {
            if let Some(one) = self
                .distro
                .and_then(distro::find)
                .and_then(|d| release::find(d.slug))
            {
                return vec![one];
            }
            let default: &[&str] = &["debian", "debian11", "ubuntu22", "ubuntu20", "ubuntu24"];
            let slugs = match archetype {
                Some(a) if a.family == Family::Linux => a.distros,
                _ => default,
            };
            return slugs.iter().filter_map(|s| release::find(s)).collect();
        }
        let of: Vec<_> = release::all().filter(|r| r.family == family).collect();
        let role = archetype.map(|a| a.role);
        let fitting: Vec<_> = of
            .iter()
            .copied()
            .filter(|r| role.is_some_and(|role| r.roles.contains(&role)))
            .collect();
        if fitting.is_empty() { of } else { fitting }
    }
}

/// One host. Every service of a decky renders from it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persona {
    /// 32 bytes as hex from which everything that is not listed here is drawn; secret.
    pub seed: String,
    /// 32 bytes as hex from which the company's certificate authority is drawn, the
    /// same for all hosts of an installation; secret. Empty on hosts older than it.
    #[serde(default)]
    pub site: String,
    /// Short host name.
    pub hostname: String,
    /// DNS domain.
    pub domain: String,
    /// Company the host belongs to, for page titles and file names.
    pub company: String,
    /// OS family.
    #[serde(default)]
    pub family: Family,
    /// What the host is for: an archetype's role, or `server`.
    #[serde(default)]
    pub role: String,
    /// Maker of the machine or its network card.
    #[serde(default)]
    pub vendor: String,
    /// MAC address, lower case with colons; its OUI is the vendor's.
    #[serde(default)]
    pub mac: String,
    /// Name of the system's row among the releases.
    #[serde(default)]
    pub release: String,
    /// The system's name as its packages and pages call it: `Debian`, `Windows`, …
    pub distro: String,
    /// PRETTY_NAME of os-release, or the system's own long name.
    pub os_pretty: String,
    /// `uname -r`, a build number, a firmware version.
    pub kernel: String,
    /// Patch level: point release, cumulative update, firmware date.
    #[serde(default)]
    pub patch_level: String,
    /// When the system was installed; certificates and keys are of that day.
    #[serde(default)]
    pub installed_at: Stamp,
    /// Compiler the distribution's packages were built with.
    pub gcc: String,
    /// When the host booted.
    pub booted_at: Stamp,
    /// Login names of people and roles.
    pub users: Vec<String>,
    /// Redis version of the release.
    pub redis_version: String,
    /// Which web server.
    pub web_server: WebServer,
    /// Its version.
    pub web_version: String,
    /// Which FTP server.
    pub ftp_server: FtpServer,
    /// Its version.
    pub ftp_version: String,
}

/// Neither seed: this ends up in logs.
impl std::fmt::Debug for Persona {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Persona")
            .field("hostname", &self.hostname)
            .field("os_pretty", &self.os_pretty)
            .field("kernel", &self.kernel)
            .field("mac", &self.mac)
            .field("installed_at", &self.installed_at)
            .field("booted_at", &self.booted_at)
            .finish_non_exhaustive()
    }
}

impl Persona {
    /// Draws the host for decky `name` of the installation holding `secret`.
    /// `now` only places days: boot 3 to 90 days before, installation before that.
    /// What excludes each other in `asked` (see [`Asked::check`]) is settled: the family
    /// goes before the distribution, and an unknown slug is as none.
    #[must_use]
    pub fn derive(secret: &[u8], name: &str, asked: &Asked<'_>, now: Stamp) -> Self {
        draw::host(secret, name, asked, now, 0)
    }

    /// [`Persona::derive`], drawn again until neither the host name nor the MAC address
    /// is one of `taken`.
    #[must_use]
    pub fn derive_unique(
        secret: &[u8],
        name: &str,
        asked: &Asked<'_>,
        now: Stamp,
        taken: &[&Persona],
    ) -> Self {
        let free = |one: &Self| {
            !taken
                .iter()
                .any(|t| t.mac == one.mac || t.hostname.eq_ignore_ascii_case(&one.hostname))
        };
        let mut one = draw::host(secret, name, asked, now, 0);
        for attempt in 1..ATTEMPTS {
            if free(&one) {
                break;
            }
            one = draw::host(secret, name, asked, now, attempt);
        }
        one
    }

    /// The host after it installed its updates and restarted at `booted_at`: the newest
    /// patch level of its release by then, or its own where that is the newest known.
    #[must_use]
    pub fn updated(mut self, booted_at: Stamp) -> Self {
        self.booted_at = booted_at;
        let newest = release::find(&self.release).and_then(|release| {
            let out = release.updates.iter().filter(|u| u.at() < booted_at);
            out.max_by_key(|u| u.at()).map(|update| (release, update))
        });
        let Some((release, update)) = newest else {
            return self;
        };
        update.kernel.clone_into(&mut self.kernel);
        update.patch.clone_into(&mut self.patch_level);
        self.os_pretty = release.pretty(update);
        if self.ftp_server == FtpServer::CiscoIos {
            // It is part of the system.
            update.patch.clone_into(&mut self.ftp_version);
        }
        self
    }

    /// Fills in what rows of earlier versions lack, from the seed alone, so that the
    /// host stays who it was.
    #[must_use]
    pub fn complete(mut self) -> Self {
        if !self.mac.is_empty() {
            return self;
        }
        let Some(release) = release::named(&self.os_pretty).or_else(|| {
            release::all().find(|r| r.family == self.family && r.distro == self.distro)
        }) else {
            return self;
        };
        // The company of such a row was drawn for it alone; what it buys is, too.
        let site = Site::draw(self.seed.as_bytes());
        let mut stream = Stream::new(&self.seed, "mac");
        let vendor = vendor::choose(release.maker, &site, &mut stream);
        self.vendor = vendor.name.to_owned();
        self.mac = mac_text(vendor::address(vendor, &mut stream));
        release.slug.clone_into(&mut self.release);
        if let Some(update) = release.updates.iter().find(|u| u.kernel == self.kernel) {
            update.patch.clone_into(&mut self.patch_level);
        }
        if self.role.is_empty() {
            "server".clone_into(&mut self.role);
        }
        if self.installed_at == Stamp::default() || self.installed_at == self.booted_at {
            let days = stream.below(700) + 60;
            self.installed_at = draw::before(self.booted_at, Duration::from_secs(days * DAY));
        }
        self
    }

    /// A stream of values that is the same for this host and `label` for ever, and
    /// tells nothing about any other label's stream.
    #[must_use]
    pub fn rng(&self, label: &str) -> StdRng {
        let mut hash = Sha256::new();
        hash.update(self.seed.as_bytes());
        hash.update(b"\0");
        hash.update(label.as_bytes());
        StdRng::from_seed(hash.finalize().into())
    }

    /// `len` lower-case hex digits, stable for this host and `label`.
    #[must_use]
    pub fn hex_id(&self, label: &str, len: usize) -> String {
        let mut rng = self.rng(label);
        (0..len)
            .map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0'))
            .collect()
    }

    /// Host name with domain.
    #[must_use]
    pub fn fqdn(&self) -> String {
        format!("{}.{}", self.hostname, self.domain)
    }

    /// Whether this host could run `service`.
    #[must_use]
    pub fn can_offer(&self, service: Service) -> bool {
        match service {
            Service::Redis => !self.redis_version.is_empty(),
            Service::Http | Service::Ftp => true,
        }
    }

    /// The MAC address as bytes; `None` on a row that was never completed.
    #[must_use]
    pub fn mac_bytes(&self) -> Option<[u8; 6]> {
        let mut out = [0; 6];
        let mut parts = self.mac.split(':');
        for byte in &mut out {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(out)
    }

    /// The link-local address the system gives itself: from the MAC address (RFC 4291)
    /// or a stable random one (RFC 7217), as the system does it.
    #[must_use]
    pub fn ipv6_link_local(&self) -> Ipv6Addr {
        let private = release::find(&self.release).is_some_and(|r| r.private_ipv6);
        let id: [u8; 8] = match self.mac_bytes() {
            Some([a, b, c, d, e, f]) if !private => [a ^ 2, b, c, 0xff, 0xfe, d, e, f],
            _ => Stream::new(&self.seed, "ipv6").bytes(),
        };
        let [a, b, c, d, e, f, g, h] = id;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h])
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
