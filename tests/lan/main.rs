//! The LAN suite: deckies in network namespaces on a LAN that exists only here, looked at
//! from the namespace of an attacker. Every test has a LAN and an installation of its
//! own; deckies are started by the real reconciler. Needs root, iproute2 and a kernel
//! with network namespaces; a test whose program is not installed says that it is
//! skipped.
//!
//! `make test-lan` runs it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop on the first surprise and says what it saw"
)]

mod cage;
mod egress;
mod face;
mod life;
mod support;
