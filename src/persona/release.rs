//! One row per system release a host can run, with the versions that belong together on
//! it. Every row is a snapshot: all of its updates are of the months in which the
//! package versions beside them were the current ones.

use super::vendor::Maker;
use super::{FtpServer, WebServer};
use crate::model::{Family, Stamp};

/// How the host names of a system usually look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `web-ams01`, `web01`.
    Generic,
    /// `web17`.
    Rhel,
    /// `web-17`.
    Minimal,
    /// `nova-kilo`.
    Rolling,
    /// `DESKTOP-4K2VQ0L`, `NGT-PC0142`.
    Desktop,
    /// `SRV-DC01`.
    Server,
    /// `NPI3A4B5C`.
    Printer,
    /// `cam-lobby02`, `plc-line3`.
    Device,
    /// `rtr-ams01`.
    Router,
}

/// A kernel, build or firmware, from the day it came out.
#[derive(Debug)]
pub(super) struct Update {
    /// `2024-11-22`.
    pub(super) day: &'static str,
    /// `uname -r`, build or firmware.
    pub(super) kernel: &'static str,
    /// Point release, cumulative update, firmware date.
    pub(super) patch: &'static str,
}

impl Update {
    pub(super) fn at(&self) -> Stamp {
        day(self.day)
    }
}

/// Noon of `YYYY-MM-DD`; a test reads every row's.
pub(super) fn day(text: &str) -> Stamp {
    Stamp::parse(&format!("{text}T12:00:00Z")).unwrap_or_default()
}

/// A system with the software that is packaged for it.
#[derive(Debug)]
pub(super) struct Release {
    /// Name in rows.
    pub(super) slug: &'static str,
    pub(super) family: Family,
    /// Archetypes' roles it is for; none means any.
    pub(super) roles: &'static [&'static str],
    /// What packages and pages call the system.
    pub(super) distro: &'static str,
    /// Long name; `{}` is the patch level.
    pub(super) pretty: &'static str,
    /// When it came out.
    pub(super) released: &'static str,
    /// Compiler of its Redis package.
    pub(super) gcc: &'static str,
    /// Redis of the release; empty where there is none.
    pub(super) redis: &'static str,
    pub(super) web: &'static [(WebServer, &'static str)],
    pub(super) ftp: &'static [(FtpServer, &'static str)],
    pub(super) style: Style,
    pub(super) maker: Maker,
    /// Whether the link-local address is random (RFC 7217) rather than from the MAC.
    pub(super) private_ipv6: bool,
    pub(super) updates: &'static [Update],
}

impl Release {
    /// Its long name at `update`.
    pub(super) fn pretty(&self, update: &Update) -> String {
        self.pretty.replace("{}", update.patch)
    }
}

/// The release called `slug`.
pub(super) fn find(slug: &str) -> Option<&'static Release> {
    all().find(|r| r.slug == slug)
}

/// The release whose long name is `pretty`.
pub(super) fn named(pretty: &str) -> Option<&'static Release> {
    all().find(|r| r.updates.iter().any(|u| r.pretty(u) == pretty))
}

/// Every release.
pub(super) fn all() -> impl Iterator<Item = &'static Release> {
    super::linux::RELEASES
        .iter()
        .chain(super::windows::RELEASES)
        .chain(super::device::RELEASES)
}

/// Rows are shorter with it.
pub(super) const fn update(day: &'static str, kernel: &'static str, patch: &'static str) -> Update {
    Update { day, kernel, patch }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_order_and_complete() {
        for release in all() {
            let slug = release.slug;
            let mut before = day(release.released);
            assert_ne!(before, Stamp::default(), "{slug}");
            assert!(!release.updates.is_empty(), "{slug}");
            for update in release.updates {
                assert!(update.at() >= before, "{slug}: {}", update.day);
                before = update.at();
                assert_eq!(named(&release.pretty(update)).map(|r| r.slug), Some(slug));
            }
            assert!(!release.web.is_empty() && !release.ftp.is_empty(), "{slug}");
            assert_eq!(release.redis.is_empty(), release.gcc.is_empty(), "{slug}");
            assert_eq!(all().filter(|r| r.slug == slug).count(), 1, "{slug}");
        }
        for family in Family::ALL {
            assert!(all().any(|r| r.family == *family), "{family}");
        }
    }
}
