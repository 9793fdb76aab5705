//! Facts about the host, looked up and never changed: accounts, service manager,
//! polkit, logrotate. Accounts come from `/etc/passwd` and `/etc/group`, then from
//! `getent`: a static binary must not load the C library's name service modules.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::config::{Database, Sources};
use crate::init::render::Surroundings;

/// Longest wait for one call of an outside program. Starting the target waits for every
/// worker to be ready, which is the longest of them.
const PATIENCE: Duration = Duration::from_secs(180);

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Systemd {
    /// It runs this host; `systemctl` lies here.
    Booted(PathBuf),
    /// Nothing can be started, and why.
    Away(&'static str),
}

/// The host, or a directory that will become one.
pub(super) struct Host {
    root: PathBuf,
    prefixed: bool,
    homes: Vec<PathBuf>,
    groups: Mutex<BTreeMap<String, Option<u32>>>,
}

impl Host {
    /// The running host, or the file tree below `prefix`.
    pub(super) fn open(prefix: Option<&Path>) -> Self {
        let root = prefix.unwrap_or(Path::new("/")).to_owned();
        let mut host = Self {
            prefixed: prefix.is_some(),
            root,
            homes: Vec::new(),
            groups: Mutex::default(),
        };
        host.homes = host.people_homes();
        host
    }

    /// Whether this is a file tree, not a running host.
    pub(super) fn prefixed(&self) -> bool {
        self.prefixed
    }

    /// Where the host's absolute `path` lies for this process.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn people_homes(&self) -> Vec<PathBuf> {
        let mut homes: Vec<PathBuf> = ["/home", "/root", "/var/home"].map(PathBuf::from).into();
        let passwd = std::fs::read_to_string(self.path("/etc/passwd")).unwrap_or_default();
        for line in passwd.lines() {
            let mut fields = line.split(':').skip(2);
            let uid = fields.next().and_then(|u| u.parse::<u32>().ok());
            let home = fields.nth(2).unwrap_or_default();
            let person = uid.is_some_and(|u| (1000..60_000).contains(&u));
            // A home directly below / (or / itself) is an administrator's arrangement,
            // not somebody's private place.
            if person && home.matches('/').count() >= 2 {
                homes.push(PathBuf::from(home));
            }
        }
        homes
    }

    /// The home directory that `path` lies in.
    pub(super) fn home_above(&self, path: &Path) -> Option<&Path> {
        self.homes
            .iter()
            .map(PathBuf::as_path)
            .find(|home| path.starts_with(home))
    }

    /// The account called `name`.
    pub(super) fn user(&self, name: &str) -> Option<Account> {
        let fields = self.entry("passwd", name)?;
        let mut fields = fields.split(':').skip(2);
        Some(Account {
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    }

    /// The id of the group called `name`.
    pub(super) fn group(&self, name: &str) -> Option<u32> {
        let cached = self.groups.lock().ok()?.get(name).copied();
        if let Some(found) = cached {
            return found;
        }
        let found = self
            .entry("group", name)
            .and_then(|line| line.split(':').nth(2)?.parse().ok());
        if let Ok(mut groups) = self.groups.lock() {
            groups.insert(name.to_owned(), found);
        }
        found
    }

    /// Forgets what was looked up, after an account was made.
    pub(super) fn forget(&self) {
        if let Ok(mut groups) = self.groups.lock() {
            groups.clear();
        }
    }

    /// The line of `name` in the account database `which`.
    fn entry(&self, which: &str, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(&format!("/etc/{which}"))).unwrap_or_default();
        let start = format!("{name}:");
        if let Some(line) = text.lines().find(|l| l.starts_with(&start)) {
            return Some(line.to_owned());
        }
        if self.prefixed {
            return None;
        }
        let output = run(&self.tool("getent")?, &[which, name]).ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines()
            .find(|l| l.starts_with(&start))
            .map(str::to_owned)
    }

    /// Where the program `name` lies.
    pub(super) fn tool(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    }

    /// The service manager.
    pub(super) fn systemd(&self) -> Systemd {
        if self.prefixed {
            return Systemd::Away("a prefix is not a running host");
        }
        let Some(systemctl) = self.tool("systemctl") else {
            return Systemd::Away("there is no systemctl on this host");
        };
        if !Path::new("/run/systemd/system").is_dir() {
            return Systemd::Away("systemd does not run this host");
        }
        Systemd::Booted(systemctl)
    }

    /// What rendering needs to know.
    pub(super) fn surroundings(&self) -> Surroundings {
        let logrotate = [
            "/usr/sbin/logrotate",
            "/usr/bin/logrotate",
            "/sbin/logrotate",
        ]
        .into_iter()
        .find(|path| self.path(path).is_file())
        .unwrap_or("/usr/sbin/logrotate");
        let settings = Sources::from_files(|path| self.path(path));
        let database = Database::parse(&settings.get("DECNET_DB_URL").value);
        Surroundings {
            docker_group: self.group("docker").is_some(),
            database_server: database.is_ok_and(|database| database.is_remote()),
            logrotate: logrotate.to_owned(),
        }
    }

    /// What is missing on this host and what that means; nothing of it is an error.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.prefixed {
            return remarks;
        }
        match self.tool("pkcheck") {
            None => remarks.push(
                "polkit is not installed: only root may start and stop workers (the rule lies ready)"
                    .to_owned(),
            ),
            Some(pkcheck) => {
                let version = run(&pkcheck, &["--version"])
                    .ok()
                    .and_then(|o| String::from_utf8(o.stdout).ok())
                    .and_then(|t| t.split_whitespace().last().map(str::to_owned));
                if let Some(version) = version.filter(|v| ignores_rules(v)) {
                    remarks.push(format!(
                        "polkit {version} ignores rules files (0.106 reads them): only root may start and stop workers"
                    ));
                }
            }
        }
        if !Path::new(&self.surroundings().logrotate).is_file() {
            remarks.push(
                "logrotate is not installed: logs grow until it is (the configuration lies ready)"
                    .to_owned(),
            );
        }
        remarks
    }

    /// Why a package script must start nothing here.
    pub(super) fn policy(&self) -> Option<String> {
        if self.prefixed || std::env::var_os("DPKG_MAINTSCRIPT_PACKAGE").is_none() {
            return None;
        }
        let policy = Path::new("/usr/sbin/policy-rc.d");
        let answer = run(policy, &["decnet.target", "start"]).ok()?;
        (answer.status.code() == Some(101))
            .then(|| "policy-rc.d forbids starting services".to_owned())
    }
}

/// polkit before 0.106 reads only .pkla files; from 121 on versions are whole numbers.
fn ignores_rules(version: &str) -> bool {
    version
        .strip_prefix("0.")
        .and_then(|minor| minor.split(['.', '-']).next()?.parse::<u32>().ok())
        .is_some_and(|minor| minor < 106)
}

/// Runs a program with plain arguments, no shell, nothing on its standard input.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub(super) fn run(program: &Path, args: &[&str]) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    // What these programs print fits a pipe, so that waiting first cannot block them.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "{} did not end within {} s",
                    program.display(),
                    PATIENCE.as_secs()
                ),
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    child.wait_with_output()
}

/// [`run`], where anything but exit 0 is an error with the program's own words.
///
/// # Errors
/// When it cannot be run or fails.
pub(super) fn call(program: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output =
        run(program, args).map_err(|e| anyhow::anyhow!("running {}: {e}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    anyhow::bail!(
        "{} {} ({}): {said}",
        program.display(),
        args.join(" "),
        output.status
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_polkit_is_told_from_new() {
        assert!(ignores_rules("0.105"));
        assert!(!ignores_rules("0.106"));
        assert!(!ignores_rules("0.120"));
        assert!(!ignores_rules("122"));
    }

    #[test]
    fn accounts_of_a_prefix_come_from_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/srv/people/ada:/bin/sh\nanti:x:77:78::/x:/x\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("etc/group"), "anti-grp:x:78:\n").unwrap();
        let host = Host::open(Some(dir.path()));
        assert_eq!(host.user("anti"), Some(Account { uid: 77, gid: 78 }));
        assert_eq!(host.user("ant"), None);
        assert_eq!(host.group("anti-grp"), Some(78));
        assert!(
            host.home_above(Path::new("/srv/people/ada/bin/decnet"))
                .is_some()
        );
        assert!(host.home_above(Path::new("/srv/people/adam")).is_none());
    }
}
