//! A path on the host a decky pretends to be: absolute, normalised, of one of two
//! styles. It is a name and nothing else; no part of it ever reaches the file system of
//! the real host.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Family;

/// Longest path, bytes.
const PATH_MAX: usize = 1024;
/// Longest part of one, bytes.
const PART_MAX: usize = 255;

/// How paths look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Style {
    /// `/var/www/html`; case matters.
    Posix,
    /// `C:\inetpub\wwwroot`; case does not matter, `/` is taken for `\`.
    Windows,
}

impl Style {
    /// The style of an operating-system family.
    #[must_use]
    pub const fn of(family: Family) -> Self {
        match family {
            Family::Windows | Family::WindowsServer => Style::Windows,
            Family::Linux | Family::Bsd | Family::Embedded | Family::Cisco => Style::Posix,
        }
    }
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    style: Style,
    /// The drive comes first on Windows.
    parts: Vec<String>,
}

impl Place {
    /// Reads and normalises `text`.
    ///
    /// # Errors
    /// What is wrong with it, ready to print.
    pub fn parse(text: &str, style: Style) -> Result<Self, String> {
        let shown: String = text
            .chars()
            .take(80)
            .flat_map(char::escape_default)
            .collect();
        let bad = |why: &str| Err(format!("'{shown}' is not a path on this decky: {why}"));
        if text.len() > PATH_MAX {
            return bad("it is too long");
        }
        if text.chars().any(char::is_control) {
            return bad("it has control characters");
        }
        let mut parts: Vec<String> = Vec::new();
        let rest: Vec<&str> = match style {
            Style::Posix => match text.strip_prefix('/') {
                Some(rest) => rest.split('/').collect(),
                None => return bad("it must begin with /"),
            },
            Style::Windows => {
                let mut letters = text.chars();
                match (letters.next(), letters.next(), letters.next()) {
                    (Some(drive), Some(':'), Some('\\' | '/') | None)
                        if drive.is_ascii_alphabetic() =>
                    {
                        parts.push(format!("{}:", drive.to_ascii_uppercase()));
                    }
                    // The list of drives.
                    (Some('\\' | '/'), None, None) => {}
                    _ => return bad("it must begin with a drive (C:\\)"),
                }
                letters.as_str().split(['\\', '/']).collect()
            }
        };
        for part in rest {
            match part {
                "" | "." => continue,
                ".." => return bad("'..' is not allowed"),
                _ if part.len() > PART_MAX => return bad("a name in it is too long"),
                _ => {}
            }
            let unfit =
                part.ends_with(['.', ' ']) || part.contains(['<', '>', ':', '"', '|', '?', '*']);
            if style == Style::Windows && unfit {
                return bad("Windows has no such name");
            }
            parts.push(part.to_owned());
        }
        Ok(Self { style, parts })
    }

    /// Its style.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether it is the top of all paths.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.parts.is_empty() || (self.style == Style::Windows && self.parts.len() == 1)
    }

    /// How many parts it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.parts.len()
    }

    /// The part at `index`.
    #[must_use]
    pub fn part(&self, index: usize) -> Option<&str> {
        self.parts.get(index).map(String::as_str)
    }

    /// What `self` is called below `dir`: its parts after `dir`'s; `None` when it does
    /// not lie there.
    #[must_use]
    pub fn below(&self, dir: &Place) -> Option<&[String]> {
        self.key()
            .starts_with(&dir.key_below())
            .then(|| self.parts.get(dir.depth()..))
            .flatten()
    }

    /// Equal for paths that are the same file.
    pub(super) fn key(&self) -> String {
        let joined: String = self.parts.iter().flat_map(|p| ["/", p]).collect();
        match self.style {
            Style::Posix => joined,
            Style::Windows => joined.to_lowercase(),
        }
    }

    /// What the keys of everything below begin with.
    pub(super) fn key_below(&self) -> String {
        format!("{}/", self.key())
    }

    /// Its own key and those of the directories it lies in, upwards.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = String> {
        let key = self.key();
        let ends: Vec<usize> = key
            .match_indices('/')
            .map(|(at, _)| at)
            .skip(1)
            .chain((!key.is_empty()).then_some(key.len()))
            .collect();
        ends.into_iter()
            .rev()
            .filter_map(move |end| key.get(..end).map(str::to_owned))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.style, self.parts.as_slice()) {
            (Style::Posix, parts) => write!(f, "/{}", parts.join("/")),
            (Style::Windows, []) => f.write_str("\\"),
            (Style::Windows, [drive]) => write!(f, "{drive}\\"),
            (Style::Windows, parts) => f.write_str(&parts.join("\\")),
        }
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// The text form says its style itself.
impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let style = if text.starts_with('/') {
            Style::Posix
        } else {
            Style::Windows
        };
        Place::parse(&text, style)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_normalised_and_escapes_refused() {
        let shown = |text: &str, style| Place::parse(text, style).map(|p| p.to_string());
        for (text, wanted) in [
            ("/", "/"),
            ("//home/./ann//x", "/home/ann/x"),
            ("/a/b/", "/a/b"),
            ("/a\\b", "/a\\b"),
        ] {
            assert_eq!(shown(text, Style::Posix).as_deref(), Ok(wanted));
        }
        for (text, wanted) in [
            ("c:/inetpub\\wwwroot", "C:\\inetpub\\wwwroot"),
            ("C:", "C:\\"),
            ("\\", "\\"),
        ] {
            assert_eq!(shown(text, Style::Windows).as_deref(), Ok(wanted));
        }
        let long = format!("/{}", "x".repeat(300));
        for text in [
            "",
            "a",
            "/a/../b",
            "/a\0b",
            "/a\nb",
            "/\u{9b}2J",
            &long,
            "C:\\x",
        ] {
            assert!(shown(text, Style::Posix).is_err(), "{text:?}");
        }
        for text in [
            "/etc",
            "\\\\server\\x",
            "C:\\a:b",
            "C:\\..\\x",
            "C:\\nul.",
            "1:\\x",
            "C:x",
        ] {
            assert!(shown(text, Style::Windows).is_err(), "{text:?}");
        }
    }

    #[test]
    fn case_matters_only_where_it_does_on_the_host() {
        let key = |text: &str, style| Place::parse(text, style).unwrap().key();
        assert_ne!(key("/A", Style::Posix), key("/a", Style::Posix));
        assert_eq!(key("C:\\A", Style::Windows), key("c:\\a", Style::Windows));
    }

    #[test]
    fn ancestors_go_up() {
        let place = Place::parse("/a/b/c", Style::Posix).unwrap();
        assert_eq!(
            place.ancestors().collect::<Vec<_>>(),
            ["/a/b/c", "/a/b", "/a"]
        );
        let root = Place::parse("/", Style::Posix).unwrap();
        assert_eq!(root.ancestors().count(), 0);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_stable_and_never_leads_up(text in ".{0,40}|[/C:\\\\.a]{0,12}") {
            for style in [Style::Posix, Style::Windows] {
                let Ok(place) = Place::parse(&text, style) else { continue };
                let shown = place.to_string();
                prop_assert_eq!(Place::parse(&shown, style).unwrap(), place.clone());
                prop_assert!(!shown.chars().any(char::is_control));
                prop_assert!(place.parts.iter().all(|p| p != ".." && p != "." && !p.is_empty()));
            }
        }
    }
}
