//! Where values come from, and the check that files name only keys we know.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::{ini, key};

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Command line.
    Flag,
    /// Process environment.
    Environment,
    /// A file, with the line.
    File(PathBuf, usize),
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment => f.write_str("environment"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One setting as it applies.
#[derive(Clone)]
pub struct Effective {
    /// The setting.
    pub name: &'static str,
    /// Its value in the clear; print [`Effective::shown`] instead.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Effective {
    /// The value for a person: secrets are masked.
    #[must_use]
    pub fn shown(&self) -> &str {
        let secret = key::find(self.name).is_some_and(|k| k.secret);
        let holds_secret = secret && self.origin != Origin::Default && !self.value.is_empty();
        if holds_secret { "***" } else { &self.value }
    }
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.name, self.shown(), self.origin)
    }
}

/// All places a value may come from, read once.
#[derive(Debug, Default)]
pub struct Sources {
    flags: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    files: Vec<BTreeMap<&'static str, (String, PathBuf, usize)>>,
    problems: Vec<String>,
}

impl Sources {
    /// Only an environment: for tests and for building up.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            environment: environment.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The real host: this process's environment, `.env.local` in the install
    /// directory, and the INI file.
    #[must_use]
    pub fn from_host() -> Self {
        let mut sources = Self::new(std::env::vars_os().filter_map(|(k, v)| {
            let name = k.into_string().ok().filter(|k| k.starts_with("DECNET_"))?;
            Some((name, v.to_string_lossy().into_owned()))
        }));
        let ini_path = PathBuf::from(sources.get("DECNET_CONFIG").value);
        let explicit = sources.origin("DECNET_CONFIG") != Origin::Default;
        // The INI may name the install directory that holds `.env.local`, so it is read
        // first, although `.env.local` wins.
        sources.read_ini(&ini_path, explicit);
        let install = PathBuf::from(sources.get("DECNET_INSTALL_DIR").value);
        sources.read_dotenv(&install.join(".env.local"));
        sources.resolve_secret_files();
        sources
    }

    /// What the files of a host say to every daemon alike, whoever asks. `place` tells where
    /// a path of that host is here.
    pub(crate) fn from_files(place: impl Fn(&str) -> PathBuf) -> Self {
        let mut sources = Self::default();
        let ini_path = sources.get("DECNET_CONFIG").value;
        sources.read_ini(&place(&ini_path), false);
        let install = PathBuf::from(sources.get("DECNET_INSTALL_DIR").value);
        let dotenv = install.join(".env.local");
        sources.read_dotenv(&place(&dotenv.to_string_lossy()));
        sources
    }

    /// Sets a value as the command line does.
    pub fn set_flag(&mut self, name: &str, value: impl Into<String>) {
        self.flags.insert(name.to_owned(), value.into());
    }

    /// Whether anything but the built-in default gives `name` its value.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.origin(name) != Origin::Default
    }

    /// Reads an INI file. A missing one is fine unless `required`.
    pub fn read_ini(&mut self, path: &Path, required: bool) {
        let Some(text) = self.read_file(path, required) else {
            return;
        };
        let sections = match ini::parse(&text) {
            Ok(sections) => sections,
            Err(problems) => {
                self.problems
                    .extend(problems.iter().map(|p| format!("{}: {p}", path.display())));
                return;
            }
        };
        let mut values = BTreeMap::new();
        for section in sections {
            for entry in section.entries {
                let Some(found) = key::find_ini(&section.name, &entry.key) else {
                    self.problems.push(format!(
                        "{}: line {}: unknown key '{}' in [{}]; `decnet config keys` lists them",
                        path.display(),
                        entry.line,
                        entry.key,
                        section.name
                    ));
                    continue;
                };
                values.insert(found.name, (entry.value, path.to_owned(), entry.line));
            }
        }
        self.files.push(values);
    }

    /// Reads a `.env.local`: `NAME=value` lines, optional `export `, `#` comments,
    /// optional matching quotes; the subset systemd and a shell read alike.
    pub fn read_dotenv(&mut self, path: &Path) {
        let Some(text) = self.read_file(path, false) else {
            return;
        };
        let mut values = BTreeMap::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let content = raw.trim();
            if content.is_empty() || content.starts_with('#') || content.starts_with(';') {
                continue;
            }
            let content = content.strip_prefix("export ").unwrap_or(content);
            let Some((name, value)) = content.split_once('=') else {
                self.problems.push(format!(
                    "{}: line {line}: expected NAME=value",
                    path.display()
                ));
                continue;
            };
            let name = name.trim();
            if !name.starts_with("DECNET_") {
                continue;
            }
            let secret_file = name
                .strip_suffix("_FILE")
                .and_then(key::find)
                .filter(|k| k.secret);
            if let Some(found) = secret_file {
                match std::fs::read_to_string(ini::unquote(value)) {
                    Ok(secret) => {
                        let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
                        values.insert(found.name, (secret, path.to_owned(), line));
                    }
                    Err(error) => self.problems.push(format!(
                        "{}: line {line}: reading {}: {error}",
                        path.display(),
                        ini::unquote(value)
                    )),
                }
                continue;
            }
            let Some(found) = key::find(name) else {
                self.problems.push(format!(
                    "{}: line {line}: unknown setting {name}; `decnet config keys` lists them",
                    path.display()
                ));
                continue;
            };
            values.insert(
                found.name,
                (ini::unquote(value).to_owned(), path.to_owned(), line),
            );
        }
        self.files.insert(0, values);
    }

    /// Turns `<NAME>_FILE` of a secret in the environment into its value.
    fn resolve_secret_files(&mut self) {
        for row in key::KEYS.iter().filter(|k| k.secret) {
            let Some(path) = self.environment.get(&format!("{}_FILE", row.name)).cloned() else {
                continue;
            };
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let value = text.trim_end_matches(['\r', '\n']).to_owned();
                    self.environment.entry(row.name.to_owned()).or_insert(value);
                }
                Err(error) => self
                    .problems
                    .push(format!("{}_FILE: reading {path}: {error}", row.name)),
            }
        }
    }

    fn read_file(&mut self, path: &Path, required: bool) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => None,
            // `decnet status` runs as anybody; what it may not read it does without.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !required => None,
            Err(error) => {
                self.problems
                    .push(format!("reading {}: {error}", path.display()));
                None
            }
        }
    }

    /// What was wrong with the files.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    /// Names in the environment that look like ours and are not.
    #[must_use]
    pub fn unknown_environment(&self) -> Vec<&str> {
        self.environment
            .keys()
            .map(String::as_str)
            .filter(|name| {
                let plain = name.strip_suffix("_FILE").unwrap_or(name);
                key::find(name).is_none() && key::find(plain).is_none_or(|k| !k.secret)
            })
            .collect()
    }

    /// The winning value of `name`.
    pub(crate) fn get(&self, name: &'static str) -> Effective {
        let row = key::find(name);
        let names =
            || std::iter::once(name).chain(row.into_iter().flat_map(|r| r.aliases.iter().copied()));
        for (values, origin) in [
            (&self.flags, Origin::Flag),
            (&self.environment, Origin::Environment),
        ] {
            if let Some(value) = names().find_map(|n| values.get(n)) {
                return Effective {
                    name,
                    value: value.clone(),
                    origin,
                };
            }
        }
        for file in &self.files {
            if let Some((value, path, line)) = file.get(name) {
                return Effective {
                    name,
                    value: value.clone(),
                    origin: Origin::File(path.clone(), *line),
                };
            }
        }
        Effective {
            name,
            value: row.map_or("", |r| r.default).to_owned(),
            origin: Origin::Default,
        }
    }

    /// Where the winning value of `name` came from.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        key::find(name).map_or(Origin::Default, |row| self.get(row.name).origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_beats_environment_beats_dotenv_beats_ini_beats_default() {
        let dir = tempfile::tempdir().unwrap();
        let ini = dir.path().join("decnet.ini");
        let dotenv = dir.path().join(".env.local");
        std::fs::write(&ini, "[api]\nport = 1\nhost = 127.0.0.9\n").unwrap();
        std::fs::write(&dotenv, "export DECNET_API_PORT=\"2\"\n").unwrap();
        let mut sources = Sources::default();
        sources.read_ini(&ini, true);
        assert_eq!(sources.get("DECNET_API_PORT").value, "1");
        sources.read_dotenv(&dotenv);
        assert_eq!(sources.get("DECNET_API_PORT").value, "2");
        assert_eq!(sources.get("DECNET_API_HOST").value, "127.0.0.9");
        sources
            .environment
            .insert("DECNET_API_PORT".into(), "3".into());
        assert_eq!(sources.get("DECNET_API_PORT").value, "3");
        sources.set_flag("DECNET_API_PORT", "4");
        assert_eq!(sources.get("DECNET_API_PORT").value, "4");
        assert_eq!(sources.get("DECNET_MODE").origin, Origin::Default);
    }

    #[test]
    fn unknown_keys_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let ini = dir.path().join("decnet.ini");
        std::fs::write(&ini, "[api]\n\nprot = 1\n[nope]\nx = 1\n").unwrap();
        let mut sources = Sources::default();
        sources.read_ini(&ini, true);
        let problems = sources.problems();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("decnet.ini: line 3: unknown key 'prot' in [api]"));
    }

    #[test]
    fn a_secret_comes_from_the_file_its_name_points_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pw");
        std::fs::write(&file, "hunter22222\n").unwrap();
        let mut sources = Sources::new([(
            "DECNET_ADMIN_PASSWORD_FILE".to_owned(),
            file.display().to_string(),
        )]);
        sources.resolve_secret_files();
        let found = sources.get("DECNET_ADMIN_PASSWORD");
        assert_eq!(found.value, "hunter22222");
        assert_eq!(found.shown(), "***");
        assert!(sources.unknown_environment().is_empty());
    }
}
