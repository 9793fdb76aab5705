//! What the operator chose: who runs the services, where they live, which program.
//! Flag, `DECNET_*` environment, `/etc/decnet/init.env`, recorded answers, default, in
//! this order. Everything is checked before anything is written, and all problems are
//! reported at once.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Mode;
use crate::init::host::Host;

/// Answers from one source; what is absent is asked of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Service account.
    pub user: Option<String>,
    /// Service group.
    pub group: Option<String>,
    /// Home of the service account.
    pub install_dir: Option<String>,
    /// Program rendered into units.
    pub bin_path: Option<String>,
    /// `master` or `agent`.
    pub mode: Option<String>,
    /// Start nothing.
    pub no_start: Option<String>,
}

/// The environment names of the answers, in the order of [`Given`]'s fields.
pub const NAMES: [&str; 6] = [
    "DECNET_USER",
    "DECNET_GROUP",
    "DECNET_INSTALL_DIR",
    "DECNET_BIN_PATH",
    "DECNET_MODE",
    "DECNET_NO_START",
];

impl Given {
    /// Reads the six names through `get`; an empty value is no answer.
    pub fn from_names(mut get: impl FnMut(&str) -> Option<String>) -> Self {
        let mut given = Self::default();
        for name in NAMES {
            given.set(name, get(name));
        }
        given
    }

    fn set(&mut self, name: &str, value: Option<String>) -> bool {
        let field = match name {
            "DECNET_USER" => &mut self.user,
            "DECNET_GROUP" => &mut self.group,
            "DECNET_INSTALL_DIR" => &mut self.install_dir,
            "DECNET_BIN_PATH" => &mut self.bin_path,
            "DECNET_MODE" => &mut self.mode,
            "DECNET_NO_START" => &mut self.no_start,
            _ => return false,
        };
        *field = value.filter(|v| !v.is_empty());
        true
    }

    /// Reads the preseed file: `NAME=value` lines, `#` comments, optional quotes.
    pub(super) fn preseed(path: &str, text: &str) -> (Self, Vec<String>) {
        let mut given = Self::default();
        let mut problems = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let content = raw.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let content = content.strip_prefix("export ").unwrap_or(content);
            let Some((name, value)) = content.split_once('=') else {
                problems.push(format!("{path}: line {}: expected NAME=value", index + 1));
                continue;
            };
            if !given.set(name.trim(), Some(unquote(value).to_owned())) {
                problems.push(format!(
                    "{path}: line {}: {} is no answer of init; use {}",
                    index + 1,
                    name.trim(),
                    NAMES.join(", ")
                ));
            }
        }
        (given, problems)
    }
}

fn unquote(value: &str) -> &str {
    let value = value.trim();
    ['"', '\'']
        .iter()
        .find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q))
        .unwrap_or(value)
}

/// The answers as they are recorded for the next run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answers {
    pub(super) user: String,
    pub(super) group: String,
    pub(super) install_dir: String,
    pub(super) bin_path: String,
    pub(super) mode: String,
}

/// Checked choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choices {
    pub(super) user: String,
    pub(super) group: String,
    pub(super) install_dir: String,
    pub(super) bin_path: String,
    pub(super) mode: Mode,
}

impl Choices {
    pub(super) fn mode_word(&self) -> &'static str {
        match self.mode {
            Mode::Master => "master",
            Mode::Agent => "agent",
        }
    }

    pub(super) fn answers(&self) -> Answers {
        Answers {
            user: self.user.clone(),
            group: self.group.clone(),
            install_dir: self.install_dir.clone(),
            bin_path: self.bin_path.clone(),
            mode: self.mode_word().to_owned(),
        }
    }
}

/// One answer and the name of its source, for complaints.
struct Answer {
    value: String,
    source: &'static str,
}

/// Finds the winning answers and checks them against the host.
///
/// # Errors
/// Everything that is wrong, one line each.
pub(super) fn resolve(
    flags: &Given,
    environment: &Given,
    preseed: &Given,
    recorded: Option<&Answers>,
    host: &Host,
) -> Result<Choices, Vec<String>> {
    let mut problems = Vec::new();
    let pick = |read: fn(&Given) -> &Option<String>| {
        [
            (flags, "command line"),
            (environment, "environment"),
            (preseed, "/etc/decnet/init.env"),
        ]
        .into_iter()
        .find_map(|(given, source)| read(given).clone().map(|value| Answer { value, source }))
    };
    let or = |answer: Option<Answer>, recorded: Option<&String>, default: &str| {
        answer.unwrap_or_else(|| match recorded {
            Some(value) => Answer {
                value: value.clone(),
                source: "recorded answers",
            },
            None => Answer {
                value: default.to_owned(),
                source: "default",
            },
        })
    };
    let user = or(pick(|g| &g.user), recorded.map(|r| &r.user), "decnet");
    check_name("user", &user, &mut problems);
    if host.user(&user.value).is_some_and(|u| u.uid == 0) {
        problems.push(format!(
            "user '{}' ({}) is root; choose an account without privileges",
            user.value, user.source
        ));
    }
    let group = or(pick(|g| &g.group), recorded.map(|r| &r.group), "decnet");
    check_name("group", &group, &mut problems);
    if host.group(&group.value) == Some(0) {
        problems.push(format!(
            "group '{}' ({}) is root's; choose another",
            group.value, group.source
        ));
    }
    let install = or(
        pick(|g| &g.install_dir),
        recorded.map(|r| &r.install_dir),
        "/opt/decnet",
    );
    let install_dir = check_install_dir(&install, host, &mut problems);
    let mode = or(pick(|g| &g.mode), recorded.map(|r| &r.mode), "master");
    let mode = match mode.value.as_str() {
        "master" => Mode::Master,
        "agent" => Mode::Agent,
        other => {
            problems.push(format!(
                "mode '{other}' ({}) is neither master nor agent",
                mode.source
            ));
            Mode::Master
        }
    };
    let bin_path = program(
        pick(|g| &g.bin_path),
        recorded.map(|r| &r.bin_path),
        host,
        &mut problems,
    );
    if problems.is_empty() {
        Ok(Choices {
            user: user.value,
            group: group.value,
            install_dir,
            bin_path,
            mode,
        })
    } else {
        Err(problems)
    }
}

/// The portable subset of what useradd, systemd, polkit and logrotate all accept.
fn check_name(what: &str, answer: &Answer, problems: &mut Vec<String>) {
    let name = &answer.value;
    let sound = name.len() <= 31
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if !sound {
        problems.push(format!(
            "{what} name '{}' ({}) is not usable: a lower-case letter or '_', then at most 30 lower-case letters, digits, '_' or '-'",
            name.escape_debug(),
            answer.source
        ));
    }
    if name == "root" {
        problems.push(format!(
            "{what} name 'root' ({}) would give the services every privilege; choose another",
            answer.source
        ));
    }
}

/// A path that means the same in a unit, a shell, tmpfiles and logrotate.
fn check_path(what: &str, answer: &Answer, problems: &mut Vec<String>) -> Option<PathBuf> {
    let text = answer.value.trim_end_matches('/');
    let path = Path::new(text);
    let mut complain = |why: &str| {
        problems.push(format!(
            "{what} '{}' ({}) {why}",
            answer.value.escape_debug(),
            answer.source
        ));
        None
    };
    if !answer.value.starts_with('/') {
        return complain("must be absolute");
    }
    if text.len() > 200 {
        return complain("is longer than 200 bytes");
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c))
    {
        return complain("may hold only letters, digits and / . _ + -");
    }
    let plain = text.is_empty()
        || text
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain {
        return complain("must not hold '.', '..' or empty parts");
    }
    Some(path.to_owned())
}

/// Directories that belong to the system, and could not be given to a service.
const SYSTEM_DIRS: &[&str] = &[
    "",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
    "/var/cache",
    "/var/spool",
];

/// Trees in which nothing that services need may lie: hidden from them, private to each
/// of them, gone after a boot, or the kernel's.
const UNFIT_TREES: &[&str] = &[
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/run",
    "/boot",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
];

fn check_install_dir(answer: &Answer, host: &Host, problems: &mut Vec<String>) -> String {
    let fallback = answer.value.clone();
    let Some(path) = check_path("install directory", answer, problems) else {
        return fallback;
    };
    let mut complain = |why: &str| {
        problems.push(format!(
            "install directory '{}' ({}) {why}",
            path.display(),
            answer.source
        ));
    };
    if SYSTEM_DIRS.iter().any(|d| path == Path::new(d)) {
        complain("belongs to the system; name a directory of its own, such as /opt/decnet");
    } else if ["/var/lib/decnet", "/var/log/decnet"]
        .iter()
        .any(|d| path.starts_with(d))
    {
        complain("lies in the state or log directory; name another, such as /opt/decnet");
    } else if UNFIT_TREES.iter().any(|t| path.starts_with(t)) {
        complain("lies where services cannot keep anything; use a place such as /opt or /srv");
    } else if let Some(home) = ["/home", "/root"].iter().find(|h| path.starts_with(h)) {
        complain(&format!(
            "lies in {home}, which the services cannot see; use a place such as /opt or /srv"
        ));
    } else {
        let real = host.path(&path.to_string_lossy());
        match std::fs::symlink_metadata(&real) {
            Ok(found) if found.is_symlink() => {
                complain("is a symbolic link; name the directory it points at");
            }
            Ok(found) if !found.is_dir() => complain("exists and is not a directory"),
            _ => {}
        }
    }
    path.display().to_string()
}

/// The program rendered into units: resolved, executable, and nobody else's to change.
fn program(
    asked: Option<Answer>,
    recorded: Option<&String>,
    host: &Host,
    problems: &mut Vec<String>,
) -> String {
    if asked.is_none()
        && let Some(value) = recorded
    {
        let answer = Answer {
            value: value.clone(),
            source: "recorded answers",
        };
        // The program may have moved since; then the one that runs now counts.
        if let Ok(path) = check_program(&answer, host) {
            return path;
        }
    }
    let answer = asked.unwrap_or_else(|| {
        let own = std::env::current_exe().ok().filter(|_| !host.prefixed());
        Answer {
            // In an image the program lies where the package puts it.
            value: own.map_or_else(|| "/usr/bin/decnet".to_owned(), |p| p.display().to_string()),
            source: "this program",
        }
    });
    match check_program(&answer, host) {
        Ok(path) => path,
        Err(found) => {
            problems.extend(found);
            answer.value
        }
    }
}

fn check_program(answer: &Answer, host: &Host) -> Result<String, Vec<String>> {
    let mut problems = Vec::new();
    let fix = "install it, for example as /usr/local/bin/decnet, and give --bin-path";
    let Some(path) = check_path("program path", answer, &mut problems) else {
        return Err(problems);
    };
    let complain = |path: &Path, why: String| {
        Err(vec![format!(
            "program path '{}' ({}) {why}; {fix}",
            path.display(),
            answer.source
        )])
    };
    if let Some(home) = host.home_above(&path) {
        return complain(
            &path,
            format!("lies in the home directory {}", home.display()),
        );
    }
    if host.prefixed() {
        return Ok(path.display().to_string());
    }
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) => return complain(&path, format!("cannot be used: {error}")),
    };
    let shown = Answer {
        value: real.display().to_string(),
        source: answer.source,
    };
    if check_path("program path", &shown, &mut problems).is_none() {
        return Err(problems);
    }
    if let Some(home) = host.home_above(&real) {
        return complain(
            &real,
            format!("lies in the home directory {}", home.display()),
        );
    }
    match std::fs::metadata(&real) {
        Ok(meta) if !meta.is_file() => return complain(&real, "is not a file".to_owned()),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            return complain(&real, "is not executable".to_owned());
        }
        Ok(_) => {}
        Err(error) => return complain(&real, format!("cannot be used: {error}")),
    }
    for part in real.ancestors() {
        let open = std::fs::metadata(part).is_ok_and(|m| m.mode() & 0o002 != 0);
        if open {
            return complain(
                &real,
                format!(
                    "may be replaced by anybody, as {} is world-writable",
                    part.display()
                ),
            );
        }
    }
    Ok(real.display().to_string())
}

/// `no_start` of the first source that says anything; anything but empty, 0, false or
/// no means yes.
pub(super) fn no_start(sources: [&Given; 3]) -> bool {
    sources
        .iter()
        .find_map(|g| g.no_start.as_deref())
        .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no"))
}

/// Whether `path` is made of plain parts only.
pub(super) fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}
