//! Where addresses are: the country a network is used in, from the IPFire Location
//! database (<https://location.ipfire.org>, CC BY-SA 4.0), which the `tor-geoip-db` crate
//! carries as sorted arrays. They lie in the program and are paged in where they are
//! looked at: nothing is downloaded or parsed, and no third party hears of an attacker.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use tor_geoip::GeoipDb;

static COUNTRIES: LazyLock<Arc<GeoipDb>> = LazyLock::new(GeoipDb::new_embedded);

/// The two letters of the country (ISO 3166-1) that `address` is used in. `None` for
/// addresses that are not of the public Internet and for those of no known country.
#[must_use]
pub fn country(address: IpAddr) -> Option<&'static str> {
    COUNTRIES
        .lookup_country_code(address.to_canonical())
        .map(tor_geoip::CountryCode::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_have_a_country_and_others_none() {
        let of = |text: &str| country(text.parse().unwrap());
        // Long held by RIPE NCC, the DNS operations of DENIC and APNIC.
        assert_eq!(of("193.0.6.139"), Some("NL"));
        assert_eq!(of("81.91.164.5"), Some("DE"));
        assert_eq!(of("2001:67c:2e8:22::c100:68b"), Some("NL"));
        assert_eq!(of("::ffff:193.0.6.139"), Some("NL"));
        for none in [
            "10.0.0.1",
            "192.168.3.4",
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        for edge in [
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert_eq!(of(edge), None, "{edge}");
        }
    }
}
