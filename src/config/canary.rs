//! Settings of canary tokens and of the worker that answers their calls.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::Reader;

/// Longest name of a zone that leaves room for a token's label and one before it.
const ZONE_MAX: usize = 150;

/// Canary tokens.
#[derive(Clone, Debug)]
pub struct CanaryConfig {
    /// Where web calls are answered.
    pub http: SocketAddr,
    /// Begin of the addresses in new tokens, without a slash at the end; `None` is the
    /// listener at this host's own address.
    pub http_base: Option<String>,
    /// Where web calls over TLS are answered.
    pub tls: Option<SocketAddr>,
    /// PEM files of the certificate and its key; `None` is one of our own.
    pub tls_files: Option<(PathBuf, PathBuf)>,
    /// Where questions for names are answered.
    pub dns: SocketAddr,
    /// The zone, in lower case and without a dot at its end; `None` turns DNS off.
    pub dns_zone: Option<String>,
    /// Address that names of the zone have.
    pub dns_address: Ipv4Addr,
    /// Proxies that are believed about whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// How long the same use counts up instead of being another.
    pub dedup: Duration,
    /// Most alerts per token and minute.
    pub alerts_per_min: u32,
}

/// Reads them.
pub(super) fn read(read: &mut Reader<'_>) -> CanaryConfig {
    let any = IpAddr::from([0, 0, 0, 0]);
    let host: IpAddr = read.parsed("DECNET_CANARY_HTTP_HOST", "an IP address", any);
    let port: u16 = read.parsed("DECNET_CANARY_HTTP_PORT", "a port, 0 to 65535", 8088);
    let http_base = base(read);
    let tls_port: u16 = read.parsed("DECNET_CANARY_TLS_PORT", "a port, 0 to 65535", 0);
    let cert = read.optional("DECNET_CANARY_TLS_CERT").map(PathBuf::from);
    let key = read.optional("DECNET_CANARY_TLS_KEY").map(PathBuf::from);
    let tls_files = match (cert, key) {
        (Some(cert), Some(key)) => {
            let cert = read.checked_path("DECNET_CANARY_TLS_CERT", cert);
            Some((cert, read.checked_path("DECNET_CANARY_TLS_KEY", key)))
        }
        (None, None) => None,
        (Some(_), None) => {
            read.complain("DECNET_CANARY_TLS_CERT", "needs DECNET_CANARY_TLS_KEY");
            None
        }
        (None, Some(_)) => {
            read.complain("DECNET_CANARY_TLS_KEY", "needs DECNET_CANARY_TLS_CERT");
            None
        }
    };
    let dns_host: IpAddr = read.parsed("DECNET_CANARY_DNS_HOST", "an IP address", any);
    let dns_port: u16 = read.parsed("DECNET_CANARY_DNS_PORT", "a port, 0 to 65535", 5353);
    let dns_zone = zone(read);
    let dns_address = read.parsed(
        "DECNET_CANARY_DNS_ADDRESS",
        "an IPv4 address",
        Ipv4Addr::new(192, 0, 2, 1),
    );
    let trusted_proxies = read.networks("DECNET_CANARY_TRUSTED_PROXIES");
    let dedup = read.bounded("DECNET_CANARY_DEDUP_SEC", 0, 86_400, 60);
    let alerts = read.bounded("DECNET_CANARY_ALERTS_PER_MIN", 1, 10_000, 10);
    CanaryConfig {
        http: SocketAddr::new(host, port),
        http_base,
        tls: (tls_port != 0).then(|| SocketAddr::new(host, tls_port)),
        tls_files,
        dns: SocketAddr::new(dns_host, dns_port),
        dns_zone,
        dns_address,
        trusted_proxies,
        dedup: Duration::from_secs(dedup),
        alerts_per_min: u32::try_from(alerts).unwrap_or(10),
    }
}

fn base(read: &mut Reader<'_>) -> Option<String> {
    let text = read.optional("DECNET_CANARY_HTTP_BASE")?;
    let base = text.trim_end_matches('/');
    let rest = base
        .strip_prefix("http://")
        .or_else(|| base.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]".contains(c);
    if base.len() > 200 || !rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(plain)) {
        read.complain(
            "DECNET_CANARY_HTTP_BASE",
            "takes a URL such as http://files.example.org:8088",
        );
    }
    Some(base.to_owned())
}

fn zone(read: &mut Reader<'_>) -> Option<String> {
    let text = read.optional("DECNET_CANARY_DNS_ZONE")?;
    let zone = text.trim_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        let fits = (1..=63).contains(&label.len());
        fits && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if zone.len() > ZONE_MAX || !zone.split('.').all(label) {
        read.complain(
            "DECNET_CANARY_DNS_ZONE",
            "takes the name of a zone such as cdn.example.org",
        );
        return None;
    }
    Some(zone)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    fn load(env: &[(&str, &str)]) -> Result<Config, String> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(&Sources::new(env)).map_err(|e| e.to_string())
    }

    #[test]
    fn without_a_zone_and_a_tls_port_there_is_the_web_alone() {
        let canary = load(&[]).unwrap().canary;
        assert_eq!(canary.http.to_string(), "0.0.0.0:8088");
        assert_eq!(canary.http_base, None);
        assert_eq!((canary.tls, canary.dns_zone), (None, None));
    }

    #[test]
    fn the_original_names_work_and_values_are_normalised() {
        let canary = load(&[
            ("DECNET_CANARY_HTTP_BIND", "127.0.0.1"),
            ("DECNET_CANARY_HTTP_BASE", "https://files.example.org/"),
            ("DECNET_CANARY_DNS_ZONE", "CDN.Example.org."),
            ("DECNET_CANARY_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7"),
        ])
        .unwrap()
        .canary;
        assert!(canary.http.ip().is_loopback());
        assert_eq!(
            canary.http_base.as_deref(),
            Some("https://files.example.org")
        );
        assert_eq!(canary.dns_zone.as_deref(), Some("cdn.example.org"));
        assert_eq!(canary.trusted_proxies.len(), 2);
    }

    #[test]
    fn everything_wrong_is_said() {
        let error = load(&[
            ("DECNET_CANARY_HTTP_BASE", "files.example.org"),
            ("DECNET_CANARY_DNS_ZONE", "a b"),
            ("DECNET_CANARY_TLS_CERT", "/x.pem"),
            ("DECNET_CANARY_TRUSTED_PROXIES", "proxy"),
        ])
        .unwrap_err();
        assert_eq!(error.lines().count(), 4, "{error}");
    }
}
