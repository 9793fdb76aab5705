//! Where the rows are kept: a file of this host, or a server.

use std::fmt;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

/// What a server's URL may say behind the question mark.
const PARAMETERS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "statement-cache-capacity",
];

/// The database of `DECNET_DB_URL`. Neither `Debug` nor `Display` shows a password.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

impl Database {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead, without repeating it: there may be
    /// a password in it.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                return Err(format!("is '{url}'; use an absolute path"));
            }
            return Ok(Self::Sqlite(path));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(
                "names no engine there is; use sqlite:///absolute/path.db or postgres://USER:PASSWORD@HOST/NAME"
                    .to_owned(),
            );
        }
        if let Some((_, parameters)) = url.split_once('?') {
            for parameter in parameters.split('&') {
                let (key, _) = parameter.split_once('=').unwrap_or((parameter, ""));
                if !PARAMETERS.contains(&key) && !key.starts_with("options[") {
                    return Err(format!(
                        "has an unknown parameter '{}'; known are {}",
                        key.escape_debug(),
                        PARAMETERS.join(", ")
                    ));
                }
            }
        }
        let server: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            let reason = match error {
                sqlx::Error::Configuration(reason) => reason.to_string(),
                other => other.to_string(),
            };
            format!(
                "cannot be read ({reason}); use postgres://USER:PASSWORD@HOST/NAME with %XX for special characters of the password, or postgres:///NAME?host=/run/postgresql"
            )
        })?;
        if server.get_database().is_none() {
            return Err("names no database; use postgres://USER:PASSWORD@HOST/NAME".to_owned());
        }
        let named = |key: &str| {
            url.split_once('?')
                .is_some_and(|(_, p)| p.split('&').any(|p| p.starts_with(key)))
        };
        let (_, rest) = url.split_once("//").unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let at = authority.rsplit('@').next().unwrap_or_default();
        if at.is_empty() && !named("host=") && !named("hostaddr=") {
            return Err(
                "names no server; use postgres://USER:PASSWORD@HOST/NAME, or postgres:///NAME?host=/run/postgresql for its socket"
                    .to_owned(),
            );
        }
        let server = match server.get_application_name() {
            Some(_) => server,
            None => server.application_name("decnet"),
        };
        Ok(Self::Postgres(Box::new(server)))
    }

    /// The file, when it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Whether it is known, without asking anybody, that nothing was stored yet.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.path().is_some_and(|path| !path.exists())
    }

    /// Whether it is reached over a network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(server) => {
                server.get_socket().is_none() && !server.get_host().starts_with('/')
            }
        }
    }

    /// The same, with a name that the server's administrator sees.
    #[must_use]
    pub fn named(&self, worker: &str) -> Self {
        match self {
            Self::Sqlite(_) => self.clone(),
            Self::Postgres(server) => {
                let name = format!("decnet-{worker}");
                Self::Postgres(Box::new(server.as_ref().clone().application_name(&name)))
            }
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(server) => {
                let name = server.get_database().unwrap_or_default();
                write!(f, "database {name} of {} at ", server.get_username())?;
                match server.get_socket() {
                    Some(socket) => socket.display().fmt(f),
                    None => write!(f, "{}:{}", server.get_host(), server.get_port()),
                }
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

impl From<PathBuf> for Database {
    fn from(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }
}

impl From<&PathBuf> for Database {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&Database> for Database {
    fn from(database: &Database) -> Self {
        database.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_address_or_socket() {
        for (url, shown) in [
            (
                "postgres://u:hunter2@h.example/d",
                "database d of u at h.example:5432",
            ),
            (
                "postgresql://u:hunter2@[::1]:5433/d?sslmode=require",
                "database d of u at [::1]:5433",
            ),
            (
                "postgres:///d?host=/run/postgresql&user=u",
                "database d of u at /run/postgresql",
            ),
            ("sqlite:///x/y.db", "/x/y.db"),
        ] {
            let database = Database::parse(url).unwrap();
            assert_eq!(database.to_string(), shown);
            let debug = format!("{:?}", database.named("api"));
            assert!(!debug.contains("hunter2"), "{debug}");
        }
    }

    #[test]
    fn a_wrong_url_says_what_to_write_and_never_itself() {
        for (url, part) in [
            ("mysql://u:hunter2@h/d", "names no engine"),
            ("sqlite://relative.db", "absolute path"),
            ("postgres://u:hunter2@h", "names no database"),
            ("postgres://u:hunter2@/d", "cannot be read"),
            ("postgres:///d", "names no server"),
            ("postgres://u:hunter2@h:port/d", "cannot be read"),
            (
                "postgres://u:hunter2@h/d?ssl=hunter2",
                "unknown parameter 'ssl'",
            ),
            ("postgres://u:hunter2@h/d?sslmode=maybe", "cannot be read"),
        ] {
            let problem = Database::parse(url).unwrap_err();
            assert!(problem.contains(part), "{url}: {problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
