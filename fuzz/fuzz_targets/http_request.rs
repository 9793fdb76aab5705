//! HTTP request heads, as nginx and as Apache read them.
#![no_main]

use decnet::decoy::http::request::parse;
use decnet::persona::WebServer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for server in [WebServer::Nginx, WebServer::Apache] {
        let mut rest = data;
        while let Ok(Some((_, used))) = parse(server, rest) {
            assert!(used > 0 && used <= rest.len());
            rest = &rest[used..];
        }
    }
});
