//! Real client programs against a real decky process on a loopback address. Each test
//! names the program it needs and is ignored by default; `make test-clients` runs all
//! with `cargo test --test clients -- --ignored`. As root the decky has the real ports.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop on the first surprise"
)]

mod canary;
mod ftp;
mod http;
mod listener;
mod redis;
mod support;
mod webhook;
