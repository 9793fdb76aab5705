//! The draw of one host: a system, its state on the day, a network card, names. Everything
//! comes from one seed; `now` only places days. No clock stops it: where a day is not
//! possible, the nearest that is possible is taken.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::release::{self, Release, Update};
use super::site::Site;
use super::stream::Stream;
use super::{
    Asked, DAY, FtpServer, Persona, WebServer, archetype, hex, linux, mac_text, name as names,
    vendor,
};
use crate::model::Stamp;

/// The `attempt`th host for `name`.
pub(super) fn host(
    secret: &[u8],
    name: &str,
    asked: &Asked<'_>,
    now: Stamp,
    attempt: u32,
) -> Persona {
    let mut hash = Sha256::new();
    hash.update(b"decky persona v1\0");
    hash.update(
        u64::try_from(secret.len())
            .unwrap_or(u64::MAX)
            .to_be_bytes(),
    );
    hash.update(secret);
    hash.update(name.as_bytes());
    if attempt > 0 {
        hash.update(b"\0again");
        hash.update(attempt.to_be_bytes());
    }
    let seed = hex(&hash.finalize());
    let site = Site::draw(secret);
    let archetype = asked.archetype.and_then(archetype::find);
    let mut s = Stream::new(&seed, "host");
    let releases = asked.releases();
    let release = one(&mut s, &releases).unwrap_or(&linux::RELEASES[0]);
    let booted_at = before(now, Duration::from_secs(3 * DAY + s.below(87 * DAY)));
    let update = choose_update(release, booted_at, &mut s);
    let installed_at = choose_install(release, update, booted_at, &mut s);
    let mut cards = Stream::new(&seed, "mac");
    let vendor = vendor::choose(release.maker, &site, &mut cards);
    let mac = vendor::address(vendor, &mut cards);
    let (web_server, web_version) = one(&mut s, release.web).unwrap_or((WebServer::Nginx, ""));
    let (ftp_server, ftp_version) = one(&mut s, release.ftp).unwrap_or((FtpServer::Vsftpd, ""));
    let ftp_version = if ftp_server == FtpServer::CiscoIos {
        update.patch
    } else {
        ftp_version
    };
    let hostname = names::host(release, archetype, &site, mac, attempt, &mut s);
    let users = names::users(release, &site, &mut s);
    Persona {
        hostname,
        family: release.family,
        role: archetype.map_or("server", |a| a.role).to_owned(),
        vendor: vendor.name.to_owned(),
        mac: mac_text(mac),
        patch_level: update.patch.to_owned(),
        installed_at,
        release: release.slug.to_owned(),
        distro: release.distro.to_owned(),
        os_pretty: release.pretty(update),
        kernel: update.kernel.to_owned(),
        gcc: release.gcc.to_owned(),
        booted_at,
        users,
        redis_version: release.redis.to_owned(),
        web_server,
        web_version: web_version.to_owned(),
        ftp_server,
        ftp_version: ftp_version.to_owned(),
        domain: site.domain,
        company: site.company,
        site: site.seed,
        seed,
    }
}

/// The system's state: mostly one of the three newest updates before it booted.
fn choose_update(release: &'static Release, booted_at: Stamp, s: &mut Stream) -> &'static Update {
    let known: Vec<&Update> = release
        .updates
        .iter()
        .filter(|u| u.at() < booted_at)
        .collect();
    let recent = if s.below(10) < 7 { 3 } else { known.len() };
    let from = known.len().saturating_sub(recent);
    // A clock before the first update still gives a host.
    one(s, known.get(from..).unwrap_or_default()).unwrap_or(&release.updates[0])
}

/// Months to years before its last update, and after the system came out.
fn choose_install(release: &Release, update: &Update, booted_at: Stamp, s: &mut Stream) -> Stamp {
    let last = before(
        update.at().min(booted_at),
        Duration::from_secs(s.below(60 * DAY)),
    );
    let first = release::day(release.released).max(before(last, Duration::from_secs(1_500 * DAY)));
    let span = last.since(first).as_secs();
    let at = if span == 0 {
        // The clock or the row leaves no room: a fortnight before boot.
        before(booted_at, Duration::from_secs(14 * DAY))
    } else {
        first.plus(Duration::from_secs(s.below(span)))
    };
    // Machines are set up at work hours, and no clock starts at a whole second.
    let hour = Duration::from_secs((8 + s.below(9)) * 3600 + s.below(3600));
    let micros = Duration::from_micros(s.below(1_000_000));
    let day_micros = i64::try_from(DAY * 1_000_000).unwrap_or(i64::MAX);
    let midnight = Stamp(at.0.saturating_sub(at.0.rem_euclid(day_micros)));
    midnight
        .plus(hour)
        .plus(micros)
        .min(before(booted_at, Duration::from_secs(DAY)))
}

/// `by` earlier than `at`.
pub(super) fn before(at: Stamp, by: Duration) -> Stamp {
    Stamp(at.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

fn one<T: Copy>(s: &mut Stream, list: &[T]) -> Option<T> {
    let at = usize::try_from(s.below(list.len() as u64)).ok()?;
    list.get(at).copied()
}
