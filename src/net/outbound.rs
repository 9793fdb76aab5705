//! Requests to addresses an operator typed. Names are resolved once and the connection goes to
//! the address that was looked at, so a name that changes between the two cannot lead inside
//! (OWASP "Server Side Request Forgery Prevention": DNS pinning). No proxy, no redirect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::model::Stamp;

/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a reply that are read.
const REPLY: usize = 16 * 1024;
/// Longest pause a receiver can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Longest URL.
const URL: usize = 2048;

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// From the first byte out to the last one in.
    pub took: Duration,
}

/// Why nothing came back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The address may not be asked.
    #[error("{0}")]
    Refused(String),
    /// It did not answer.
    #[error("{0}")]
    Unreachable(String),
}

/// The client.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: reqwest::Client,
    allow_private: bool,
}

impl Outbound {
    /// A client that asks addresses of the Internet, and private ones when told so.
    ///
    /// # Errors
    /// When TLS cannot be set up (no certificates of authorities on this host, say).
    pub fn new(allow_private: bool) -> Result<Self, Fault> {
        // A second call finds the provider in place.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            .dns_resolver(Guard { allow_private })
            .build()
            .map_err(|e| Fault::Unreachable(chain(&e)))?;
        Ok(Self {
            client,
            allow_private,
        })
    }

    /// Sends `body` to `url`.
    ///
    /// # Errors
    /// When the address may not be asked, or does not answer in ten seconds.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<Reply, Fault> {
        let url = check_url(url, self.allow_private).map_err(Fault::Refused)?;
        let mut request = self.client.post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let began = Instant::now();
        let mut reply = request.send().await.map_err(|e| fault(&e))?;
        let status = reply.status().as_u16();
        let retry_after = reply
            .headers()
            .get("retry-after")
            .and_then(|value| pause(value.to_str().ok()?, Stamp::now()));
        let mut body = Vec::new();
        while body.len() < REPLY {
            match reply.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                // The status was said; the rest is for the record.
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(REPLY);
        Ok(Reply {
            status,
            retry_after,
            body,
            took: began.elapsed(),
        })
    }
}

/// Whether `text` is a URL we would send to; what it resolves to is looked at when it is used.
///
/// # Errors
/// One line saying what is wrong.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, String> {
    if text.len() > URL {
        return Err(format!("a URL takes at most {URL} bytes"));
    }
    let url = Url::parse(text).map_err(|e| format!("that is no URL ({e})"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("a URL begins with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL holds no password; use an Authorization header".to_owned());
    }
    let Some(host) = url.host_str() else {
        return Err("a URL names a host".to_owned());
    };
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        admit(address, allow_private).map_err(|e| e.to_string())?;
    }
    Ok(url)
}

/// The address may not be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is not an address of the Internet; DECNET_WEBHOOK_ALLOW_PRIVATE=true allows receivers on private networks"
)]
struct Private(IpAddr);

fn admit(address: IpAddr, allow_private: bool) -> Result<(), Private> {
    if allow_private || is_public(address) {
        Ok(())
    } else {
        Err(Private(address))
    }
}

/// Resolves names to addresses that may be asked.
#[derive(Clone, Copy, Debug)]
struct Guard {
    allow_private: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            // One address inside is enough to refuse the name: which one a connection would
            // take is not for the name's owner to choose.
            for address in &found {
                admit(address.ip(), allow_private)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the Internet: neither of this host, nor of a private or
/// special network (the IANA registries of special-purpose addresses, RFC 6890 and after),
/// nor such an address wrapped in IPv6.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // Shared by carriers, protocol assignments, 6to4 relays, benchmarks, reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if s[..5] == [0; 5] && (s[5] == 0xffff || s[5] == 0) {
        // Mapped, compatible; also :: and ::1.
        return s[5] == 0xffff && embedded(s[6], s[7]);
    }
    if s[0] == 0x64 && s[1] == 0xff9b {
        // NAT64; the local-use prefix 64:ff9b:1::/48 leads anywhere.
        return s[2..6] == [0; 4] && embedded(s[6], s[7]);
    }
    if s[0] == 0x2002 {
        return embedded(s[1], s[2]);
    }
    // Global unicast, without protocol assignments (Teredo among them) and documentation.
    (s[0] & 0xe000) == 0x2000
        && !(s[0] == 0x2001 && s[1] < 0x200)
        && !(s[0] == 0x2001 && s[1] == 0xdb8)
        && !(s[0] == 0x3fff && s[1] < 0x1000)
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn pause(text: &str, now: Stamp) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?;
            Stamp(date.timestamp().as_microsecond()).since(now)
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

fn fault(error: &reqwest::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(private) = inner.downcast_ref::<Private>() {
            return Fault::Refused(private.to_string());
        }
        cause = inner.source();
    }
    Fault::Unreachable(chain(error))
}

/// An error with its causes, without the URL: it may be a secret.
fn chain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} seconds", PATIENCE.as_secs());
    }
    let mut words = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    if words.is_empty() {
        "the request failed".to_owned()
    } else {
        words.join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_told_from_the_internet_s() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fec0::1",
            "192.0.2.1",
            "3fff::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "100.63.255.255",
            "172.32.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::",
            "2a00::1",
        ] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        for bad in [
            "",
            "x",
            "ftp://a/",
            "file:///etc/passwd",
            "http://u:p@h/",
            "http://127.0.0.1/",
            "http://[::1]:80/",
            "http://0x7f.1/",
            "http://2130706433/",
            "https://169.254.169.254/x",
        ] {
            assert!(check_url(bad, false).is_err(), "{bad}");
        }
        assert!(check_url("https://hooks.example.com/x?y", false).is_ok());
        assert!(check_url("http://127.0.0.1:9/", true).is_ok());
    }

    #[test]
    fn a_receiver_s_pause_is_seconds_or_a_date_and_bounded() {
        let now = Stamp::parse("2026-01-01T00:00:00Z").unwrap();
        assert_eq!(pause("7", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("99999999", now), Some(LONGEST_PAUSE));
        let date = "Thu, 01 Jan 2026 00:01:00 GMT";
        assert_eq!(pause(date, now), Some(Duration::from_secs(60)));
        assert_eq!(
            pause("Wed, 31 Dec 2025 00:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(pause("soon", now), None);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_it_is_used() {
        let strict = Outbound::new(false).unwrap();
        let outcome = strict.post("http://localhost:9/", &[], Vec::new()).await;
        assert!(matches!(outcome, Err(Fault::Refused(_))), "{outcome:?}");
    }
}
