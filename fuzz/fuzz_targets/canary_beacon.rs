//! Beacons of the page that says what a browser is: body and query.
#![no_main]

use decnet::canary::fingerprint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(found) = fingerprint::parse(data) {
        assert!(found.sections.len() >= 3);
        found.id();
    }
    fingerprint::parse_query(&String::from_utf8_lossy(data)).ok();
});
