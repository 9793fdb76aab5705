//! Where the server runs: paths, allocator and the words of INFO differ between the
//! Linux packages, the FreeBSD port and the Windows builds (3.0 and 5.0, the only ones
//! there are). Every such difference is here.

use super::table::Version;
use crate::model::Family;
use crate::persona::Persona;

/// The system below the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    Linux,
    Bsd,
    Windows,
    /// Linux on a small processor.
    Embedded,
}

/// Directories every Linux server has.
const LINUX: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/cron.hourly",
    "/etc/cron.monthly",
    "/etc/cron.weekly",
    "/etc/init.d",
    "/etc/pam.d",
    "/etc/profile.d",
    "/etc/redis",
    "/etc/ssh",
    "/etc/ssl",
    "/etc/systemd",
    "/etc/systemd/system",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/root/.ssh",
    "/run",
    "/run/redis",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/lib/redis",
    "/var/log",
    "/var/log/redis",
    "/var/mail",
    "/var/run",
    "/var/run/redis",
    "/var/spool",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/var/tmp",
    "/var/www",
    "/var/www/html",
];

/// Directories of every FreeBSD server.
const BSD: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/cron.d",
    "/etc/periodic/daily",
    "/etc/ssh",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/root",
    "/root/.ssh",
    "/sbin",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/home",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/etc",
    "/usr/local/etc/rc.d",
    "/usr/local/www",
    "/usr/sbin",
    "/var",
    "/var/backups",
    "/var/cron/tabs",
    "/var/db",
    "/var/db/redis",
    "/var/log",
    "/var/log/redis",
    "/var/mail",
    "/var/run",
    "/var/run/redis",
    "/var/spool",
    "/var/tmp",
];

/// Directories of every Windows server.
const WINDOWS: &[&str] = &[
    "C:\\",
    "C:\\inetpub",
    "C:\\inetpub\\wwwroot",
    "C:\\Program Files",
    "C:\\Program Files\\Redis",
    "C:\\Program Files (x86)",
    "C:\\ProgramData",
    "C:\\ProgramData\\Microsoft\\Windows\\Start Menu\\Programs\\StartUp",
    "C:\\Users",
    "C:\\Users\\Administrator",
    "C:\\Users\\Administrator\\Desktop",
    "C:\\Users\\Public",
    "C:\\Windows",
    "C:\\Windows\\System32",
    "C:\\Windows\\System32\\drivers\\etc",
    "C:\\Windows\\Tasks",
    "C:\\Windows\\Temp",
];

impl Platform {
    /// Where the server of `persona` runs.
    pub(super) fn of(persona: &Persona) -> Self {
        match persona.family {
            Family::Linux => Platform::Linux,
            Family::Bsd => Platform::Bsd,
            Family::Windows | Family::WindowsServer => Platform::Windows,
            Family::Embedded | Family::Cisco => Platform::Embedded,
        }
    }

    /// The line `os`.
    pub(super) fn os(self, persona: &Persona) -> String {
        let kernel = persona.kernel.as_str();
        match self {
            Platform::Linux => format!("Linux {kernel} x86_64"),
            Platform::Bsd => {
                let release = kernel.strip_prefix("FreeBSD ").unwrap_or(kernel);
                format!("FreeBSD {release} amd64")
            }
            // Release and machine are empty there, the spaces between are not.
            Platform::Windows => "Windows  ".to_owned(),
            Platform::Embedded => "Linux 4.14.98 armv7l".to_owned(),
        }
    }

    pub(super) fn mux(self) -> &'static str {
        match self {
            Platform::Linux | Platform::Embedded => "epoll",
            Platform::Bsd => "kqueue",
            Platform::Windows => "WinSock_IOCP",
        }
    }

    pub(super) fn atomic(self, version: Version) -> &'static str {
        match self {
            Platform::Windows => "pthread-mutex",
            Platform::Bsd if !version.seven() => "atomic-builtin",
            _ => "c11-builtin",
        }
    }

    pub(super) fn supervised(self) -> &'static str {
        match self {
            Platform::Linux => "systemd",
            _ => "no",
        }
    }

    pub(super) fn executable(self) -> &'static str {
        match self {
            Platform::Linux | Platform::Embedded => "/usr/bin/redis-server",
            Platform::Bsd => "/usr/local/bin/redis-server",
            // The service's command line, quotes and all, behind the directory.
            Platform::Windows => {
                "C:\\Program Files\\Redis\\\"C:\\Program Files\\Redis\\redis-server.exe\""
            }
        }
    }

    pub(super) fn config_file(self) -> &'static str {
        match self {
            Platform::Linux | Platform::Embedded => "/etc/redis/redis.conf",
            Platform::Bsd => "/usr/local/etc/redis.conf",
            Platform::Windows => "C:\\Program Files\\Redis\\redis.windows-service.conf",
        }
    }

    pub(super) fn allocator(self, version: Version) -> &'static str {
        match (self, version) {
            (Platform::Bsd, _) => "libc",
            (Platform::Windows, Version(..5, _)) => "jemalloc-3.6.0",
            (Platform::Windows, _) => "jemalloc-5.2.1-redis",
            (_, version) if version.seven() => "jemalloc-5.3.0",
            _ => "jemalloc-5.2.1",
        }
    }

    /// Bytes copied by the last save: Windows does not fork.
    pub(super) fn cow(self) -> u32 {
        match self {
            Platform::Windows => 0,
            _ => 421_888,
        }
    }

    pub(super) fn gcc(self, persona: &Persona) -> String {
        match self {
            Platform::Windows => "0.0.0".to_owned(),
            // What clang claims to be.
            Platform::Bsd => "4.2.1".to_owned(),
            _ => persona.gcc.clone(),
        }
    }

    /// Commit of the build; the Windows builds are the same binaries everywhere.
    pub(super) fn git_sha1(self, persona: &Persona) -> &'static str {
        match (self, persona.redis_version.as_str()) {
            (Platform::Windows, "5.0.14.1") => "ec77f72d",
            _ => "00000000",
        }
    }

    pub(super) fn build_id(self, persona: &Persona) -> String {
        match (self, persona.redis_version.as_str()) {
            (Platform::Windows, "5.0.14.1") => "5627b8177c9289c".to_owned(),
            (Platform::Windows, "3.0.504") => "a4f7a6e86f2d60b3".to_owned(),
            (_, version) => {
                let seven = Version::of(version).seven();
                persona.hex_id("redis/build", if seven { 15 } else { 16 })
            }
        }
    }

    /// Parameters with another value than in the Linux packages.
    pub(super) fn settings(self, version: Version) -> &'static [(&'static str, &'static str)] {
        match (self, version) {
            (Platform::Linux, _) => &[],
            (Platform::Embedded, _) => &[("supervised", "no")],
            (Platform::Bsd, _) => &[
                ("dir", "/var/db/redis"),
                ("pidfile", "/var/run/redis/redis.pid"),
                ("logfile", "/var/log/redis/redis.log"),
                ("supervised", "no"),
                ("daemonize", "yes"),
            ],
            (Platform::Windows, Version(..5, _)) => &[
                ("dir", "C:\\Program Files\\Redis"),
                ("pidfile", "/var/run/redis.pid"),
                ("logfile", "Logs/redis_log.txt"),
                ("daemonize", "no"),
            ],
            (Platform::Windows, _) => &[
                ("dir", "C:\\Program Files\\Redis"),
                ("pidfile", ""),
                ("logfile", "server_log.txt"),
                ("supervised", "no"),
                ("daemonize", "no"),
            ],
        }
    }

    /// What parts directories.
    pub(super) fn slash(self) -> char {
        match self {
            Platform::Windows => '\\',
            _ => '/',
        }
    }

    /// Directories of the host's people.
    pub(super) fn homes(self, persona: &Persona) -> Vec<String> {
        persona
            .users
            .iter()
            .flat_map(|user| match self {
                Platform::Windows => {
                    let home = format!("C:\\Users\\{user}");
                    let menu = "AppData\\Roaming\\Microsoft\\Windows\\Start Menu";
                    let startup = format!("{home}\\{menu}\\Programs\\Startup");
                    [format!("{home}\\Desktop"), startup, home]
                }
                _ => {
                    let home = format!("/home/{user}");
                    [format!("{home}/.ssh"), format!("/usr{home}"), home]
                }
            })
            .filter(|dir| self == Platform::Bsd || !dir.starts_with("/usr/"))
            .collect()
    }

    /// The directory `value` means, seen from `current`, if the host has it.
    ///
    /// # Errors
    /// `strerror` of the failed change.
    pub(super) fn directory(
        self,
        current: &str,
        value: &str,
        homes: &[String],
    ) -> Result<String, String> {
        let missing = || "No such file or directory".to_owned();
        if self == Platform::Windows {
            return windows(current, value, homes).ok_or_else(missing);
        }
        let from = if value.starts_with('/') { "" } else { current };
        let parts = resolve(from.split('/').chain(value.split('/')));
        let path = format!("/{}", parts.join("/"));
        let known = match self {
            Platform::Bsd => BSD,
            _ => LINUX,
        };
        if known.contains(&path.as_str()) || homes.contains(&path) {
            Ok(path)
        } else if ["/etc/passwd", "/etc/shadow", "/etc/crontab"].contains(&path.as_str()) {
            Err("Not a directory".to_owned())
        } else {
            Err(missing())
        }
    }
}

/// Takes `.` and `..` out.
fn resolve<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out: Vec<&str> = Vec::new();
    for part in parts {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// A known directory in its own spelling; Windows does not care how it was typed.
fn windows(current: &str, value: &str, homes: &[String]) -> Option<String> {
    let value = value.replace('/', "\\");
    let drive = value.get(1..2) == Some(":");
    let rest = match (drive, value.starts_with('\\')) {
        (true, _) => value.clone(),
        (false, true) => format!("C:{value}"),
        (false, false) => format!("{current}\\{value}"),
    };
    let parts = resolve(rest.split('\\'));
    let path = match parts.as_slice() {
        [] | [_] => "C:\\".to_owned(),
        parts => parts.join("\\"),
    };
    let same = |known: &&str| known.eq_ignore_ascii_case(&path);
    let listed = WINDOWS.iter().copied().find(same);
    listed
        .or_else(|| homes.iter().map(String::as_str).find(same))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_as_the_system_finds_it() {
        let homes = ["C:\\Users\\anna".to_owned()];
        let at =
            |value: &str| Platform::Windows.directory("C:\\Program Files\\Redis", value, &homes);
        assert_eq!(at("c:/inetpub/WWWROOT"), Ok("C:\\inetpub\\wwwroot".into()));
        assert_eq!(at(".."), Ok("C:\\Program Files".into()));
        assert_eq!(at("C:\\users\\ANNA\\"), Ok("C:\\Users\\anna".into()));
        assert!(at("/root/.ssh").is_err() && at("/etc").is_err());
        let bsd = |value: &str| Platform::Bsd.directory("/var/db/redis", value, &[]);
        assert_eq!(bsd("../../cron/tabs"), Ok("/var/cron/tabs".into()));
        assert!(bsd("/var/spool/cron/crontabs").is_err());
    }
}
