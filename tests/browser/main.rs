//! The dashboard as a person uses it: headless Chromium against `decnet up`, real
//! attackers against its deckies, real receivers for what it sends.
//!
//! Pictures of every page land in cargo's temporary directory for tests
//! (`target/tmp/screenshots`).

mod axe;
mod driver;
mod hostile;
mod lab;
mod login;
mod watch;

/// One test at a time on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
