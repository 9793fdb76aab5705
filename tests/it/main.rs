//! The integration suite: one target, so it links once. `layers` is the map of the
//! crate; the others are named after the part they test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop on the first surprise"
)]

mod api;
mod authenticator;
mod bus;
mod canary;
mod capture;
mod cli;
mod decoy;
mod fleet;
mod init;
mod io;
mod layers;
mod mutator;
mod persona;
mod postgres;
mod reconciler;
mod support;
mod transcript;
mod web;
mod webhook;
mod wire;
