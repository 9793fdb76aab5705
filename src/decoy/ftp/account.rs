//! Who may log in on this host: drawn from the persona, the same for ever. One person
//! has a guessable password; anonymous access is off, read-only or with an upload
//! directory. Everything else is refused, as on a real host.

use rand::RngExt;

use crate::decoy::ftp::tree::Owner;
use crate::persona::{FtpServer, Persona};

/// What anonymous users may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// No anonymous login (the default of both packages).
    Off,
    /// Look and fetch.
    ReadOnly,
    /// Also leave files in `/incoming`.
    Upload,
}

/// Which files a login sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// The user's home directory, as the root.
    Home,
    /// `/srv/ftp`, as the root.
    Public,
}

/// A login that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// As the server shows it.
    pub(super) name: String,
    /// As the client typed it.
    pub(super) typed: String,
    /// Its files.
    pub(super) area: Area,
    /// Its ids.
    pub(super) owner: Owner,
}

/// The accounts of one host.
#[derive(Clone, Debug)]
pub(super) struct Accounts {
    /// What anonymous users may do.
    pub(super) anonymous: Anonymous,
    /// The user whose password can be guessed.
    pub(super) user: String,
    /// That password.
    pub(super) password: String,
    /// Ids of that user.
    pub(super) home: Owner,
    /// Ids of the system user `ftp`.
    pub(super) ftp: Owner,
    /// Whether every name and password will do (print servers).
    open: bool,
    /// Whether names have no case and may carry a domain (Windows).
    windows: bool,
}

impl Accounts {
    /// Those of `persona`; `wanted` says whether anonymous users get in, `None` leaves it
    /// to the host.
    pub(super) fn new(persona: &Persona, wanted: Option<bool>) -> Self {
        let mut rng = persona.rng("ftp/accounts");
        let anonymous = match rng.random_range(0..10) {
            0..4 => Anonymous::Off,
            4..7 => Anonymous::ReadOnly,
            _ => Anonymous::Upload,
        };
        let anonymous = match (wanted, anonymous) {
            (Some(false), _) => Anonymous::Off,
            (Some(true), Anonymous::Off) => Anonymous::ReadOnly,
            (_, drawn) => drawn,
        };
        let index = rng.random_range(0..persona.users.len().max(1));
        let user = persona
            .users
            .get(index)
            .map_or("ftpuser", String::as_str)
            .to_owned();
        let year = persona.booted_at.utc().year();
        let season = ["Spring", "Summer", "Autumn", "Winter"]
            .get(rng.random_range(0..4usize))
            .copied()
            .unwrap_or("Winter");
        let mut company = persona.company.clone();
        if let Some(first) = company.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let password = match rng.random_range(0..5) {
            0 => format!("{season}{year}"),
            1 => format!("{season}{year}!"),
            2 => format!("{company}{year}"),
            3 => format!("{company}123"),
            _ => format!("{user}123"),
        };
        let uid = 1000u32.saturating_add(u32::try_from(index).unwrap_or(0));
        let system = rng.random_range(105..125);
        Self {
            anonymous,
            user,
            password,
            home: Owner { uid, gid: uid },
            ftp: Owner {
                uid: system,
                gid: system.saturating_add(rng.random_range(3..12)),
            },
            open: persona.ftp_server == FtpServer::Jetdirect && wanted != Some(false),
            windows: persona.ftp_server == FtpServer::Microsoft,
        }
    }

    /// Whether `name` logs in without a password here.
    pub(super) fn is_anonymous(&self, name: &str) -> bool {
        self.anonymous != Anonymous::Off
            && (name.eq_ignore_ascii_case("anonymous") || name.eq_ignore_ascii_case("ftp"))
    }

    /// The login of `name` with `password`, if there is one.
    pub(super) fn check(&self, name: &str, password: &[u8]) -> Option<Login> {
        if self.is_anonymous(name) {
            return Some(Login {
                name: "ftp".to_owned(),
                typed: name.to_owned(),
                area: Area::Public,
                owner: self.ftp,
            });
        }
        // A print server looks at neither.
        let known = if self.windows {
            let bare = name.rsplit('\\').next().unwrap_or(name);
            bare.eq_ignore_ascii_case(&self.user)
        } else {
            name == self.user
        };
        (self.open || known && password == self.password.as_bytes()).then(|| Login {
            name: name.to_owned(),
            typed: name.to_owned(),
            area: Area::Home,
            owner: self.home,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stamp;

    #[test]
    fn only_the_planted_pair_and_anonymous_get_in() {
        let mut kinds = Vec::new();
        for n in 0..40u8 {
            let persona = Persona::derive(
                &[n],
                "x",
                &crate::persona::Asked::default(),
                Stamp(1_760_000_000_000_000),
            );
            let accounts = Accounts::new(&persona, None);
            kinds.push(accounts.anonymous);
            assert!(persona.users.contains(&accounts.user));
            assert!(
                accounts
                    .check(&accounts.user, accounts.password.as_bytes())
                    .is_some()
            );
            assert_eq!(accounts.check(&accounts.user, b"x"), None);
            assert_eq!(accounts.check("root", accounts.password.as_bytes()), None);
            assert_eq!(
                accounts.check("anonymous", b"").is_some(),
                accounts.anonymous != Anonymous::Off
            );
        }
        for kind in [Anonymous::Off, Anonymous::ReadOnly, Anonymous::Upload] {
            assert!(kinds.contains(&kind));
        }
    }
}
