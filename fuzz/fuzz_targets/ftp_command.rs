//! Control lines of ftp: framing, Telnet, verbs, addresses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    decnet::decoy::ftp::request::exercise(data);
});
