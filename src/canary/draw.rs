//! What is drawn: numbers, letters, people, days, and the place's names in a form that
//! fits into every file format. Everything follows from the seed, for ever.

use std::time::Duration;

use super::{Kind, Place};
use crate::model::Stamp;
use crate::persona::name::SURNAMES;
use crate::persona::stream::Stream;

/// One day.
const DAY: u64 = 86_400;
/// Given names.
const GIVEN: &[&str] = &[
    "Anna", "Ben", "Carla", "David", "Elena", "Frank", "Greta", "Henrik", "Ines", "Jonas", "Katja",
    "Lukas", "Marta", "Nils", "Olivia", "Paul", "Rosa", "Stefan", "Tomas", "Vera", "Julia",
    "Martin", "Nadia", "Peter", "Sofia", "Laura", "Erik", "Claire", "Daniel", "Monika",
];
/// Words inside passwords people choose.
const WORDS: &[&str] = &[
    "Sommer", "Winter", "Falcon", "Harbour", "Summit", "Orange", "Castle", "Meadow", "Copper",
    "Granit", "Breeze", "Lantern", "Velvet", "Anchor", "Bridge", "Maple",
];

/// Letters of base64, in its order.
pub(super) const BASE64: &[u8] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Letters and digits.
pub(super) const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// An endless stream of choices for one thing.
#[derive(Debug)]
pub(super) struct Draw(Stream);

impl Draw {
    pub(super) fn new(seed: u64, kind: Kind) -> Self {
        Self(Stream::new(&format!("{seed:016x}"), kind.as_str()))
    }

    /// A stream of its own for `label`, which later choices do not disturb.
    pub(super) fn fork(&mut self, label: &str) -> Stream {
        let seed: [u8; 32] = self.bytes();
        let text: String = seed.iter().map(|b| format!("{b:02x}")).collect();
        Stream::new(&text, label)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.0.bytes()
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// A number from `first` to `last`.
    pub(super) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// One of `list`; the default when there is none.
    pub(super) fn pick<T: Copy + Default>(&mut self, list: &[T]) -> T {
        let at = self.index(list.len());
        list.get(at).copied().unwrap_or_default()
    }

    /// `len` letters of `alphabet`.
    pub(super) fn letters(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| char::from(self.pick(alphabet))).collect()
    }

    /// `len` lower-case hex digits.
    pub(super) fn hex(&mut self, len: usize) -> String {
        self.letters(b"0123456789abcdef", len)
    }

    /// A password as machines make it (`true` half of the time) or as people do.
    pub(super) fn password(&mut self) -> String {
        if self.below(2) == 0 {
            let len = self.index(9) + 14;
            return self.letters(ALNUM, len);
        }
        let (word, other) = (self.pick(WORDS), self.pick(WORDS));
        let mark = self.pick(&['!', '-', '_', '.', '#']);
        format!("{word}{mark}{other}{}", self.between(10, 2030))
    }

    /// A moment between `first` and `last` days before `now`, on a weekday at work hours
    /// where there is one.
    pub(super) fn moment(&mut self, now: Stamp, first: u64, last: u64) -> Stamp {
        let days = self.between(first.max(1), last);
        let second = self.between(8 * 3600, 17 * 3600 + 1800);
        let micros = self.below(1_000_000);
        let day_micros = i64::try_from(DAY * 1_000_000).unwrap_or(i64::MAX);
        let midnight = now.0.saturating_sub(now.0.rem_euclid(day_micros));
        let mut day = ago(Stamp(midnight), days);
        while matches!(
            day.utc().date().weekday(),
            jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday
        ) {
            day = ago(day, 1);
        }
        day.plus(Duration::from_micros(second * 1_000_000 + micros))
    }

    /// An address of a private network.
    pub(super) fn address(&mut self) -> String {
        let (net, host) = (self.between(1, 60), self.between(10, 240));
        match self.below(3) {
            0 => format!("192.168.{net}.{host}"),
            1 => format!("172.{}.{net}.{host}", 16 + net % 16),
            _ => format!("10.{}.{net}.{host}", self.between(0, 40)),
        }
    }

    /// Somebody who is nobody of `others`.
    pub(super) fn person(&mut self, others: &[Person]) -> Person {
        let mut person = Person::default();
        for _ in 0..20 {
            person = Person {
                given: self.pick(GIVEN).to_owned(),
                family: capital(self.pick(SURNAMES)),
            };
            if others.iter().all(|other| other.family != person.family) {
                break;
            }
        }
        person
    }
}

/// `days` before `at`.
pub(super) fn ago(at: Stamp, days: u64) -> Stamp {
    let micros = i64::try_from(days.saturating_mul(DAY * 1_000_000)).unwrap_or(i64::MAX);
    Stamp(at.0.saturating_sub(micros))
}

/// Somebody of the company.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) given: String,
    pub(super) family: String,
}

impl Person {
    /// Given and family name.
    pub(super) fn full(&self) -> String {
        format!("{} {}", self.given, self.family)
    }

    /// `a.bauer`.
    pub(super) fn login(&self) -> String {
        let initial: String = self.given.chars().take(1).collect();
        format!("{initial}.{}", self.family).to_lowercase()
    }
}

/// The place, with what no format could hold taken out of its names.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) hostname: String,
    pub(super) domain: String,
    pub(super) user: String,
    pub(super) home: String,
    pub(super) uid: u32,
    /// As the company writes itself.
    pub(super) company: String,
    /// The company as part of a file or database name.
    pub(super) short: String,
    pub(super) windows: bool,
}

impl Setting {
    pub(super) fn new(place: &Place<'_>) -> Self {
        let user = word(place.user, "admin");
        let company = sentence(place.company);
        let short = word(&place.company.to_lowercase().replace(' ', ""), "office");
        let good = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
        let parts: Vec<String> = place
            .home
            .split(['/', '\\'])
            .filter(good)
            .map(path_part)
            .collect();
        let home = match (place.windows, parts.is_empty()) {
            (true, true) => format!("C:/Users/{user}"),
            (true, false) => parts.join("/"),
            (false, true) => "/root".to_owned(),
            (false, false) => format!("/{}", parts.join("/")),
        };
        Self {
            hostname: word(place.hostname, "srv01"),
            domain: word(place.domain, "internal"),
            user,
            home,
            uid: place.uid,
            company: capital(&company),
            short,
            windows: place.windows,
        }
    }

    /// Whose home it is, as far as the login tells; else somebody.
    pub(super) fn owner(&self, draw: &mut Draw) -> Person {
        let mut person = draw.person(&[]);
        let login = self.user.to_lowercase();
        if let Some(name) = SURNAMES.iter().find(|name| login.contains(*name)) {
            let initial = login.replacen(name, "", 1);
            let initial = initial.trim_matches('.').chars().next();
            person.family = capital(name);
            let fits = |given: &&&str| given.to_lowercase().chars().next() == initial;
            if let Some(given) = GIVEN.iter().find(fits) {
                (*given).clone_into(&mut person.given);
            }
        }
        person
    }

    /// The owner's mail address.
    pub(super) fn mail(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }

    /// `name` in the folder for documents.
    pub(super) fn document(&self, name: &str) -> String {
        format!("{}/Documents/{name}", self.home)
    }
}

/// Letters, digits, dots, dashes and underscores of `text`.
fn word(text: &str, otherwise: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        .take(64)
        .collect();
    if kept.trim_matches('.').is_empty() {
        otherwise.to_owned()
    } else {
        kept
    }
}

/// What a company's name may hold.
fn sentence(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-'))
        .take(64)
        .collect();
    if kept.trim().is_empty() {
        "Office".to_owned()
    } else {
        kept.trim().to_owned()
    }
}

fn path_part(part: &str) -> String {
    part.chars()
        .filter(|c| !c.is_control() && !"\"'`$<>|*?;&".contains(*c))
        .take(128)
        .collect()
}

/// `text` with its first letter large.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_called_as_the_login_says() {
        let mut place = crate::canary::tests::place();
        place.user = "k.bauer";
        let owner = Setting::new(&place).owner(&mut Draw::new(1, Kind::Docx));
        assert_eq!(owner.full(), "Katja Bauer");
    }

    #[test]
    fn moments_are_on_workdays_and_before_now() {
        let now = Stamp::parse("2026-11-30T09:00:00Z").unwrap();
        let mut draw = Draw::new(7, Kind::Html);
        for _ in 0..200 {
            let at = draw.moment(now, 1, 40);
            assert!(at < now && (8..=17).contains(&at.utc().hour()));
            assert!(at.utc().date().weekday().to_monday_one_offset() <= 5);
        }
        for odd in [i64::MIN, 0, i64::MAX] {
            draw.moment(Stamp(odd), 1, 40);
        }
    }

    #[test]
    fn a_home_leads_nowhere_else() {
        let mut place = crate::canary::tests::place();
        place.home = "/home/../../etc//x\"\n";
        assert_eq!(Setting::new(&place).home, "/home/etc/x");
        place.home = "C:\\Users\\jdoe";
        place.windows = true;
        assert_eq!(Setting::new(&place).home, "C:/Users/jdoe");
    }
}
