//! What a row keeps of a token so that its files can be made again, the same bytes each
//! time: kind, slug, seed, where it calls, and the host it was made for. The texts in the
//! row are written and read here alone.

use serde::{Deserialize, Serialize};

use super::{Base, Error, File, Kind, Place, Slug, instrument, make};
use crate::model::{Family, Stamp};
use crate::persona::Persona;

/// The host that files are made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Short host name.
    pub hostname: String,
    /// DNS domain of the host.
    pub domain: String,
    /// Login whose home it is.
    pub user: String,
    /// The home.
    pub home: String,
    /// The login's number.
    pub uid: u32,
    /// Company the host belongs to.
    pub company: String,
    /// Whether it is a Windows machine.
    pub windows: bool,
}

impl Home {
    /// The home of `user` on that host, or of the first of its people.
    #[must_use]
    pub fn of(persona: &Persona, user: Option<&str>) -> Self {
        let windows = matches!(persona.family, Family::Windows | Family::WindowsServer);
        let fallback = if windows { "Administrator" } else { "admin" };
        let people = &persona.users;
        let user = user
            .or(people.first().map(String::as_str))
            .unwrap_or(fallback);
        let nth = people.iter().position(|one| one == user).unwrap_or(0);
        let (home, uid) = match (windows, user) {
            (true, _) => (format!("C:/Users/{user}"), 0),
            (false, "root") => ("/root".to_owned(), 0),
            (false, _) => {
                let first = if persona.family == Family::Bsd {
                    1001
                } else {
                    1000
                };
                let nth = u32::try_from(nth).unwrap_or(0);
                (format!("/home/{user}"), first + nth.min(1000))
            }
        };
        Self {
            hostname: persona.hostname.clone(),
            domain: persona.domain.clone(),
            user: user.to_owned(),
            home,
            uid,
            company: persona.company.clone(),
            windows,
        }
    }

    fn place(&self) -> Place<'_> {
        Place {
            hostname: &self.hostname,
            domain: &self.domain,
            user: &self.user,
            home: &self.home,
            uid: self.uid,
            company: &self.company,
            windows: self.windows,
        }
    }
}

/// The base as a row keeps it.
#[derive(Serialize, Deserialize)]
struct BaseText {
    http: String,
    dns_zone: Option<String>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What it looks like.
    pub kind: Kind,
    /// What it calls with.
    pub slug: Slug,
    /// What its files are drawn from.
    pub seed: u64,
    /// Where it calls.
    pub base: Base,
    /// Which host it is for.
    pub home: Home,
    /// When it was made.
    pub made_at: Stamp,
}

/// The columns of a row.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// Name of the kind.
    pub kind: &'a str,
    /// Letters of the slug.
    pub slug: &'a str,
    /// Hex.
    pub seed: &'a str,
    /// JSON.
    pub base: &'a str,
    /// JSON.
    pub place: &'a str,
}

impl Recipe {
    /// Reads a row; `None` when another version wrote what this one does not know.
    #[must_use]
    pub fn read(texts: &Texts<'_>, made_at: Stamp) -> Option<Self> {
        let base: BaseText = serde_json::from_str(texts.base).ok()?;
        Some(Self {
            kind: Kind::parse(texts.kind)?,
            slug: Slug::parse(texts.slug)?,
            seed: u64::from_str_radix(texts.seed, 16).ok()?,
            base: Base {
                http: base.http,
                dns_zone: base.dns_zone,
            },
            home: serde_json::from_str(texts.place).ok()?,
            made_at,
        })
    }

    /// The seed's column.
    #[must_use]
    pub fn seed_text(&self) -> String {
        format!("{:016x}", self.seed)
    }

    /// The base's column.
    #[must_use]
    pub fn base_text(&self) -> String {
        let base = BaseText {
            http: self.base.http.clone(),
            dns_zone: self.base.dns_zone.clone(),
        };
        // Texts alone always serialise.
        serde_json::to_string(&base).unwrap_or_default()
    }

    /// The host's column.
    #[must_use]
    pub fn place_text(&self) -> String {
        serde_json::to_string(&self.home).unwrap_or_default()
    }

    /// Its files. `upload` is the operator's own file with its name, for the kind that goes
    /// into one.
    ///
    /// # Errors
    /// One line that says what is missing or wrong.
    pub fn files(&self, upload: Option<(&str, &[u8])>) -> Result<Vec<File>, Error> {
        match (self.kind, upload) {
            (Kind::Upload, Some((name, bytes))) => {
                Ok(vec![instrument(name, bytes, &self.slug, &self.base)?.0])
            }
            _ => make(
                self.kind,
                &self.slug,
                &self.base,
                &self.home.place(),
                self.seed,
                self.made_at,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persona::Asked;

    fn recipe(kind: Kind, asked: &Asked<'_>) -> Recipe {
        let persona = Persona::derive(b"secret", "decky-01", asked, Stamp(0));
        Recipe {
            kind,
            slug: Slug::new(&mut rand::rng()),
            seed: u64::MAX - 5,
            base: Base {
                http: "http://files.example.org".to_owned(),
                dns_zone: Some("cdn.example.org".to_owned()),
            },
            home: Home::of(&persona, None),
            made_at: Stamp(1_790_000_000_000_000),
        }
    }

    #[test]
    fn a_recipe_comes_back_from_its_row_and_makes_the_same() {
        for kind in Kind::ALL {
            let made = recipe(*kind, &Asked::default());
            let (seed, base, place) = (made.seed_text(), made.base_text(), made.place_text());
            let texts = Texts {
                kind: kind.as_str(),
                slug: made.slug.as_str(),
                seed: &seed,
                base: &base,
                place: &place,
            };
            let read = Recipe::read(&texts, made.made_at).unwrap();
            assert_eq!(read, made);
            let upload = Some(("a.txt", &b"text"[..]));
            assert_eq!(read.files(upload).unwrap(), made.files(upload).unwrap());
        }
    }

    #[test]
    fn a_home_suits_its_host() {
        let unix = recipe(Kind::WebBug, &Asked::default()).home;
        assert!(unix.home.starts_with("/home/") && unix.uid >= 1000 && !unix.windows);
        let windows = Asked {
            family: Some(Family::Windows),
            ..Asked::default()
        };
        let windows = recipe(Kind::WebBug, &windows).home;
        assert!(windows.home.starts_with("C:/Users/") && windows.windows);
        let persona = Persona::derive(b"s", "d", &Asked::default(), Stamp(0));
        assert_eq!(Home::of(&persona, Some("root")).home, "/root");
    }
}
