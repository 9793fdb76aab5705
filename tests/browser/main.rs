//! The dashboard as a person uses it: headless Chromium against `decnet up`, real
//! attackers against its deckies, real receivers for what it sends.
//!
//! Pictures of every page land in cargo's temporary directory for tests
//! (`target/tmp/screenshots`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop on the first surprise and says why it is skipped"
)]

#[path = "../it/authenticator.rs"]
mod authenticator;
mod axe;
#[path = "../support/browser.rs"]
mod browser;
mod driver;
mod hostile;
mod lab;
mod login;
#[path = "../it/support/receiver.rs"]
mod receiver;
mod told;
mod watch;

/// One test at a time on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
