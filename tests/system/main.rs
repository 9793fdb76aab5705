//! The system suite: the packages, installed by the real apt, dpkg, rpm and dnf into a
//! Debian root booted under the real systemd. Every test has a root of its own, copied
//! from a pristine one, and walks through one life of an installation; a step that
//! fails is reported and the walk goes on, so one run tells everything.
//!
//! `make test-system` runs it. The packages are built with the dev profile, from the
//! program the other suites test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop on the first surprise and says what it saw"
)]

mod attack;
#[expect(dead_code, reason = "the browser suite does more with a page")]
#[path = "../support/browser.rs"]
mod browser;
mod chroot;
mod dashboard;
mod host;
mod installed;
mod life;
mod logs;
mod package;
mod polkit;
mod rpm;
