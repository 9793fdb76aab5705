//! Whom a request comes from when proxies stand in between. `X-Forwarded-For` is a list to
//! which every proxy appends the address it was asked from, so only its right end, as far
//! as trusted proxies wrote it, is worth anything: what stands left of that the client
//! wrote itself.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Longest list that is read: more proxies than that stand nowhere in a row.
const MOST: usize = 32;

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// The client behind `peer`: read from the right, the first address that is no trusted
/// proxy. Something unreadable ends the reading; then it is the last proxy that was read.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let lines = headers.get_all("x-forwarded-for").iter();
    behind(
        peer,
        lines.map(|line| line.to_str().unwrap_or("?")),
        trusted,
    )
}

/// Likewise, from the values of all `X-Forwarded-For` fields as they came: several are one
/// list (RFC 9110, 5.3).
pub fn behind<'a>(
    peer: IpAddr,
    lines: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let hops = lines.rev().flat_map(|line| line.rsplit(','));
    let mut found = peer;
    for hop in hops.take(MOST) {
        let Some(address) = address(hop.trim()) else {
            break;
        };
        found = address;
        if !is_trusted(found, trusted) {
            break;
        }
    }
    found.to_canonical()
}

/// An address, as some proxies write it with the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let plain = bare.parse().ok();
    plain.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// Whether a trusted proxy says that the client came over TLS.
#[must_use]
pub fn is_https(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> bool {
    let said = headers.get_all("x-forwarded-proto").iter().next_back();
    // The proxy next to us wrote the last word.
    let last = said
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.rsplit(',').next())
        .map(str::trim);
    is_trusted(peer, trusted) && last.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        headers
    }

    fn seen(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].map(|n| n.parse().unwrap());
        client(peer.parse().unwrap(), &headers(lines), &trusted).to_string()
    }

    #[test]
    fn the_list_is_read_from_the_right_as_far_as_trusted_proxies_wrote_it() {
        for (peer, lines, expected) in [
            ("203.0.113.5", &["198.51.100.1"][..], "203.0.113.5"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.1, 10.2.3.4"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["198.51.100.1", "10.0.0.9"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::7]:80"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(seen(peer, lines), expected, "{peer} {lines:?}");
        }
        let nobody = client("10.0.0.1".parse().unwrap(), &headers(&["1.1.1.1"]), &[]);
        assert_eq!(nobody.to_string(), "10.0.0.1");
    }

    #[test]
    fn only_a_trusted_proxy_says_that_it_was_https() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (peer, said, expected) in [
            ("10.0.0.1", "https", true),
            ("10.0.0.1", "http, HTTPS", true),
            ("10.0.0.1", "https, http", false),
            ("10.0.0.1", "", false),
            ("203.0.113.5", "https", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-proto", said.parse().unwrap());
            let peer = peer.parse().unwrap();
            assert_eq!(is_https(peer, &headers, &trusted), expected, "{said}");
        }
    }

    proptest! {
        #[test]
        fn nothing_in_the_header_panics(text in "[ -~]{0,200}") {
            let value = text.parse::<axum::http::HeaderValue>();
            prop_assume!(value.is_ok());
            seen("10.0.0.1", &[&text]);
        }
    }
}
