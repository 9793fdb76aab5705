//! Deckies in containers of a real engine on a LAN of our own: a network namespace is
//! the host (its engine, its bridge, its interface), another the attacker, a veth pair
//! the cable. Nothing leaves the machine, and nothing else on it is seen or touched.
//!
//! `make test-docker` runs it. It needs root, dockerd and the client programs; a test
//! that lacks something prints `skipped: <test>: <reason>`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop on the first surprise and says what it skips"
)]

mod answer;
mod custom;
mod egress;
mod lab;
mod network;
mod repair;
