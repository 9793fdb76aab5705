//! Who a decky pretends to be: one coherent host, derived from the installation's
//! secret and the decky's name, then persisted. Two installations share nothing; the
//! same installation gives the same host after every restart. The decky's name is
//! never part of what it shows.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Family, Stamp};

/// Versions that belong together on one release, as the distribution shipped them.
#[derive(Debug)]
struct Release {
    distro: &'static str,
    pretty: &'static str,
    kernel: &'static str,
    gcc: &'static str,
    redis: &'static str,
    nginx: &'static str,
    apache: &'static str,
    vsftpd: &'static str,
    proftpd: &'static str,
}

/// Sources: packages of each release with its updates, as of 2025.
const RELEASES: &[Release] = &[
    Release {
        distro: "Debian",
        pretty: "Debian GNU/Linux 12 (bookworm)",
        kernel: "6.1.0-28-amd64",
        gcc: "12.2.0",
        redis: "7.0.15",
        nginx: "1.22.1",
        apache: "2.4.62",
        vsftpd: "3.0.3",
        proftpd: "1.3.8",
    },
    Release {
        distro: "Debian",
        pretty: "Debian GNU/Linux 11 (bullseye)",
        kernel: "5.10.0-33-amd64",
        gcc: "10.2.1",
        redis: "6.0.16",
        nginx: "1.18.0",
        apache: "2.4.62",
        vsftpd: "3.0.3",
        proftpd: "1.3.7a",
    },
    Release {
        distro: "Ubuntu",
        pretty: "Ubuntu 22.04.5 LTS",
        kernel: "5.15.0-126-generic",
        gcc: "11.2.0",
        redis: "6.0.16",
        nginx: "1.18.0",
        apache: "2.4.52",
        vsftpd: "3.0.5",
        proftpd: "1.3.7c",
    },
    Release {
        distro: "Ubuntu",
        pretty: "Ubuntu 20.04.6 LTS",
        kernel: "5.4.0-202-generic",
        gcc: "9.2.1",
        redis: "5.0.7",
        nginx: "1.18.0",
        apache: "2.4.41",
        vsftpd: "3.0.3",
        proftpd: "1.3.6",
    },
    Release {
        distro: "Ubuntu",
        pretty: "Ubuntu 24.04.1 LTS",
        kernel: "6.8.0-49-generic",
        gcc: "13.2.0",
        redis: "7.0.15",
        nginx: "1.24.0",
        apache: "2.4.58",
        vsftpd: "3.0.5",
        proftpd: "1.3.8b",
    },
];

const ROLES: &[&str] = &[
    "web", "app", "files", "cache", "intranet", "portal", "build", "backup", "data", "ops",
];
const SITES: &[&str] = &[
    "ams", "fra", "lon", "par", "mad", "waw", "sto", "dub", "zrh", "vie",
];
const COMPANIES: &[&str] = &[
    "northgate",
    "halvorsen",
    "brightwell",
    "castellan",
    "ostrava",
    "meridian",
    "lindqvist",
    "palisade",
    "kestrel",
    "amberley",
    "torrance",
    "valmont",
    "greystone",
    "hollander",
    "sandbrook",
];
const TLDS: &[&str] = &["internal", "corp", "lan", "intra"];
const PEOPLE: &[&str] = &[
    "mkowalski",
    "jbauer",
    "slarsen",
    "pdubois",
    "anovak",
    "rcole",
    "tmeyer",
    "efischer",
    "lrossi",
    "kjansen",
    "dpetrov",
    "hsmith",
    "ngarcia",
    "wchan",
    "obrien",
];

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

/// One host. Every service of a decky renders from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persona {
    /// 32 bytes as hex from which everything that is not listed here is drawn; secret.
    pub seed: String,
    /// Short host name.
    pub hostname: String,
    /// DNS domain.
    pub domain: String,
    /// Company the host belongs to, for page titles and file names.
    pub company: String,
    /// OS family.
    #[serde(default)]
    pub family: Family,
    /// What the host is for: an archetype's slug, or `server`.
    #[serde(default)]
    pub role: String,
    /// Maker of the machine or its network card.
    #[serde(default)]
    pub vendor: String,
    /// MAC address, lower case with colons; its OUI is the vendor's.
    #[serde(default)]
    pub mac: String,
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

impl Persona {
    /// Draws the host for decky `name` of the installation holding `secret`.
    /// `now` only places the boot time: 3 to 90 days before.
    #[must_use]
    pub fn derive(secret: &[u8], name: &str, asked: &Asked<'_>, now: Stamp) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"decky persona v1\0");
        hash.update(
            u64::try_from(secret.len())
                .unwrap_or(u64::MAX)
                .to_be_bytes(),
        );
        hash.update(secret);
        hash.update(name.as_bytes());
        let seed: [u8; 32] = hash.finalize().into();
        let mut rng = StdRng::from_seed(seed);
        let release = pick(&mut rng, RELEASES);
        let company = (*pick(&mut rng, COMPANIES)).to_owned();
        let hostname = format!(
            "{}{}{:02}",
            pick(&mut rng, ROLES),
            if rng.random_bool(0.5) {
                format!("-{}", pick(&mut rng, SITES))
            } else {
                String::new()
            },
            rng.random_range(1..20)
        );
        let domain = format!("{company}.{}", pick(&mut rng, TLDS));
        let mut users = Vec::new();
        for _ in 0..rng.random_range(2..5) {
            let user = (*pick(&mut rng, PEOPLE)).to_owned();
            if !users.contains(&user) {
                users.push(user);
            }
        }
        users.push((*pick(&mut rng, &["deploy", "backup", "svc-web", "ansible"])).to_owned());
        let uptime = Duration::from_secs(rng.random_range(3 * 86_400..90 * 86_400));
        let booted_at = Stamp(
            now.0
                .saturating_sub(i64::try_from(uptime.as_micros()).unwrap_or(0)),
        );
        let (web_server, web_version) = if rng.random_bool(0.5) {
            (WebServer::Nginx, release.nginx)
        } else {
            (WebServer::Apache, release.apache)
        };
        let (ftp_server, ftp_version) = if rng.random_bool(0.5) {
            (FtpServer::Vsftpd, release.vsftpd)
        } else {
            (FtpServer::Proftpd, release.proftpd)
        };
        Self {
            seed: hex(&seed),
            hostname,
            domain,
            company,
            family: asked.family.unwrap_or_default(),
            role: asked.archetype.unwrap_or("server").to_owned(),
            vendor: String::new(),
            mac: String::new(),
            patch_level: String::new(),
            installed_at: booted_at,
            distro: release.distro.to_owned(),
            os_pretty: release.pretty.to_owned(),
            kernel: release.kernel.to_owned(),
            gcc: release.gcc.to_owned(),
            booted_at,
            users,
            redis_version: release.redis.to_owned(),
            web_server,
            web_version: web_version.to_owned(),
            ftp_server,
            ftp_version: ftp_version.to_owned(),
        }
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
}

/// One element; `list` is never empty here.
fn pick<'a, T>(rng: &mut StdRng, list: &'a [T]) -> &'a T {
    &list[rng.random_range(0..list.len())]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_installation_gives_the_same_host() {
        let one = Persona::derive(
            b"secret",
            "decky-01",
            &Asked::default(),
            Stamp(1_700_000_000_000_000),
        );
        let two = Persona::derive(
            b"secret",
            "decky-01",
            &Asked::default(),
            Stamp(1_700_000_000_000_000),
        );
        assert_eq!(one, two);
        assert_eq!(
            one.hex_id("redis/run_id", 40),
            two.hex_id("redis/run_id", 40)
        );
    }

    #[test]
    fn two_installations_share_no_secret() {
        let one = Persona::derive(b"a", "decky-01", &Asked::default(), Stamp(0));
        let two = Persona::derive(b"b", "decky-01", &Asked::default(), Stamp(0));
        assert_ne!(one.seed, two.seed);
        assert_ne!(one.hex_id("x", 40), two.hex_id("x", 40));
    }

    #[test]
    fn the_decky_name_shows_nowhere() {
        for n in 0..50 {
            let name = format!("decky-{n:02}");
            let persona = Persona::derive(b"s", &name, &Asked::default(), Stamp(0));
            let text = serde_json::to_string(&persona).unwrap();
            assert!(
                !text.contains("decky") && !text.contains("decnet"),
                "{text}"
            );
        }
    }
}
