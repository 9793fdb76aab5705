//! Names of machines and people, in the style of the system and of the company.

use super::archetype::Archetype;
use super::release::{Release, Style};
use super::site::{Logins, Site, pick};
use super::stream::Stream;
use crate::model::Family;

/// What servers without an archetype are called.
const ROLES: &[&str] = &[
    "web", "app", "files", "cache", "intranet", "portal", "build", "backup", "data", "ops",
];
const WORDS: &[&str] = &[
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet",
    "kilo", "lima", "mike", "nova", "oscar", "prod", "dev", "stage", "monitor", "proxy",
];
const SPOTS: &[&str] = &[
    "lobby", "gate", "dock", "yard", "hall", "line1", "line2", "line3", "roof", "cellar", "north",
    "south", "east", "west", "store",
];
/// Surnames, lower case.
pub(crate) const SURNAMES: &[&str] = &[
    "kowalski", "bauer", "larsen", "dubois", "novak", "cole", "meyer", "fischer", "rossi",
    "jansen", "petrov", "smith", "garcia", "chan", "brien", "weber", "moreau", "lindgren",
    "nielsen", "horvat", "silva", "costa", "murphy", "taylor", "keller", "vogel", "martin",
    "bakker", "dahl", "koch", "romano", "sato", "singh", "ward", "young", "zeman",
];
const INITIALS: &[&str] = &[
    "a", "b", "c", "d", "e", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v",
];
const CAPITALS: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The short host name. `attempt` counts redraws: numbers grow with it, so that a large
/// fleet finds free ones.
pub(super) fn host(
    release: &Release,
    archetype: Option<&Archetype>,
    site: &Site,
    mac: [u8; 6],
    attempt: u32,
    stream: &mut Stream,
) -> String {
    let words = match (archetype, release.style) {
        (Some(a), _) if fits(a.family, release.family) => a.names,
        (_, Style::Device) => &["cam", "sensor", "gw", "node"],
        (_, Style::Server) => &["app", "fs", "sql", "web"],
        _ => ROLES,
    };
    let word = pick(stream, words);
    let number = stream.below(20 + 20 * u64::from(attempt)) + 1;
    let place = if site.placed {
        let at = stream.below(site.places.len() as u64);
        usize::try_from(at)
            .ok()
            .and_then(|at| site.places.get(at))
            .copied()
            .unwrap_or_default()
    } else {
        ""
    };
    match release.style {
        Style::Generic if place.is_empty() => format!("{word}{number:02}"),
        Style::Generic => format!("{word}-{place}{number:02}"),
        Style::Rhel => format!("{word}{:02}", number + 9),
        Style::Minimal => format!("{word}-{number:02}"),
        // Few of these are free in a large fleet; then they get numbers.
        Style::Rolling if attempt > 8 => {
            format!("{}-{}{number}", pick(stream, WORDS), pick(stream, WORDS))
        }
        Style::Rolling => format!("{}-{}", pick(stream, WORDS), pick(stream, WORDS)),
        Style::Desktop if site.default_names => format!("DESKTOP-{}", capitals(stream, 7)),
        Style::Desktop => {
            let kind = pick(stream, &["PC", "LT", "WS"]);
            format!("{}-{kind}{:04}", site.prefix, number * 7 + stream.below(7))
        }
        Style::Server => {
            let code = word.to_ascii_uppercase();
            let full = match site.server_style {
                0 => format!("SRV-{code}{number:02}"),
                1 => format!("{}-{code}{number:02}", site.prefix),
                _ => format!("{code}{number:02}"),
            };
            // NetBIOS cuts names here, so nobody gives longer ones.
            full.chars().take(15).collect()
        }
        Style::Printer => {
            let [_, _, _, d, e, f] = mac;
            format!("NPI{d:02X}{e:02X}{f:02X}")
        }
        Style::Device => format!("{word}-{}{number:02}", pick(stream, SPOTS)),
        Style::Router => {
            let kind = pick(stream, &["rtr", "sw", "gw", "core", "edge"]);
            let place = pick(stream, &site.places);
            format!("{kind}-{place}{number:02}")
        }
    }
}

/// Whether hosts of family `of` are called what an archetype of `asked` is called.
fn fits(asked: Family, of: Family) -> bool {
    asked == of || (asked == Family::Linux && of == Family::Bsd)
}

fn capitals(stream: &mut Stream, len: usize) -> String {
    (0..len)
        .map(|_| {
            let at = usize::try_from(stream.below(36)).unwrap_or(0);
            char::from(CAPITALS.get(at).copied().unwrap_or(b'0'))
        })
        .collect()
}

/// Login names of people and of what runs by itself.
pub(super) fn users(release: &Release, site: &Site, stream: &mut Stream) -> Vec<String> {
    let service: &[&str] = match (release.family, release.style) {
        (Family::Embedded, Style::Printer) => return vec!["admin".to_owned()],
        (Family::Embedded, _) if release.distro == "Raspbian" => return vec!["pi".to_owned()],
        (Family::Embedded, _) if release.distro == "Debian" => return vec!["moxa".to_owned()],
        (Family::Embedded, _) => return vec!["admin".to_owned()],
        (Family::Cisco, _) => &["admin", "netadmin", "netops", "backup"],
        (Family::Windows | Family::WindowsServer, _) => {
            &["svc_backup", "svc_sql", "svc_web", "svc_deploy"]
        }
        (Family::Linux | Family::Bsd, _) => &["deploy", "backup", "svc-web", "ansible"],
    };
    let mut users = Vec::new();
    for _ in 0..stream.below(3) + 2 {
        let (initial, name) = (pick(stream, INITIALS), pick(stream, SURNAMES));
        let user = match site.logins {
            Logins::Joined => format!("{initial}{name}"),
            Logins::Dotted => format!("{initial}.{name}"),
            Logins::Reversed => format!("{name}{initial}"),
        };
        if !users.contains(&user) {
            users.push(user);
        }
    }
    users.push(pick(stream, service).to_owned());
    users
}
