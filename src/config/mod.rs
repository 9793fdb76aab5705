//! Settings of one process. Precedence: flag, environment, `.env.local` in the install
//! directory, `/etc/decnet/decnet.ini`, default; the same answer under systemd and in a
//! shell. Unknown keys in a file are errors naming file and line, and all errors are
//! reported at once. Nothing here depends on the working directory or HOME.

mod canary;
mod database;
pub mod ini;
pub mod key;
mod source;
mod webhook;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use canary::CanaryConfig;
pub use database::Database;
pub use source::{Effective, Origin, Sources};
pub use webhook::WebhookConfig;

/// Role of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Keeps the database, runs every worker.
    Master,
    /// Runs deckies for a master.
    Agent,
}

/// Directories and files.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Database, artifacts, cursors.
    pub state: PathBuf,
    /// Event log and worker logs.
    pub log: PathBuf,
    /// Sockets, locks, decky directories.
    pub run: PathBuf,
    /// Home of the service user.
    pub install: PathBuf,
    /// The event log (lines).
    pub event_log: PathBuf,
    /// Captured files.
    pub artifacts: PathBuf,
}

impl Paths {
    /// The event log in JSON form, beside the line form.
    #[must_use]
    pub fn event_json(&self) -> PathBuf {
        self.event_log.with_extension("json")
    }

    /// Parent of all decky directories.
    #[must_use]
    pub fn deckies(&self) -> PathBuf {
        self.run.join("deckies")
    }

    /// Directory of one decky: control socket, spool, configuration.
    #[must_use]
    pub fn decky(&self, name: &str) -> PathBuf {
        self.deckies().join(name)
    }

    /// Where worker `name` leaves its latest pulse for `decnet status`.
    #[must_use]
    pub fn pulse(&self, name: &str) -> PathBuf {
        self.run.join("pulse").join(format!("{name}.json"))
    }

    /// Lock that keeps a second copy of `name` from running.
    #[must_use]
    pub fn lock(&self, name: &str) -> PathBuf {
        self.run.join("lock").join(format!("{name}.lock"))
    }

    /// What the dashboard shows the api to be believed about its clients' addresses; made
    /// anew whenever the api starts.
    #[must_use]
    pub fn web_key(&self) -> PathBuf {
        self.run.join("web.key")
    }

    /// The key that secrets in the database are sealed with, mode 0600.
    #[must_use]
    pub fn seal_key(&self) -> PathBuf {
        self.state.join("seal.key")
    }

    /// What the listener of canary tokens wrote down and the database does not have yet.
    #[must_use]
    pub fn canary_spool(&self) -> PathBuf {
        self.state.join("canary").join("spool")
    }

    /// Files that operators uploaded to put canary tokens into.
    #[must_use]
    pub fn canary_blobs(&self) -> PathBuf {
        self.state.join("canary").join("blobs")
    }

    /// Files that exports made, each until it is too old.
    #[must_use]
    pub fn exports(&self) -> PathBuf {
        self.state.join("exports")
    }

    /// The log of worker `name` under its unit.
    #[must_use]
    pub fn worker_log(&self, name: &str) -> PathBuf {
        self.log.join(format!("decnet.{name}.log"))
    }

    /// The first administrator's password, mode 0600, until it is changed.
    #[must_use]
    pub fn admin_password(&self) -> PathBuf {
        self.state.join("admin-password")
    }
}

/// The bus.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// false: every publish is dropped, nothing is delivered.
    pub enabled: bool,
    /// Socket path.
    pub socket: PathBuf,
    /// Group given to the socket.
    pub group: Option<String>,
}

/// The dashboard.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Address and port to bind.
    pub bind: SocketAddr,
    /// Where the API is, without a path; `None` finds it on this host.
    pub api_url: Option<String>,
    /// Networks of proxies that are believed about whom they ask for.
    pub trusted_proxies: Vec<IpNet>,
}

/// The API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Address and port to bind.
    pub bind: SocketAddr,
    /// Lifetime of a login session.
    pub session: Duration,
    /// Open streams per user.
    pub sse_max_per_user: usize,
    /// First administrator's name.
    pub admin_user: String,
    /// First administrator's password, when given by environment.
    pub admin_password: Option<Secret>,
    /// Networks of proxies that are believed about whom they ask for.
    pub trusted_proxies: Vec<IpNet>,
}

/// A value that must not appear in logs: its `Debug` is masked.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value itself; the call site is where it may leak.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Everything a process of ours is configured by.
#[derive(Clone, Debug)]
pub struct Config {
    /// Role of this host.
    pub mode: Mode,
    /// Directories and files.
    pub paths: Paths,
    /// Application log level, a `tracing` filter word.
    pub log_level: String,
    /// Application log file beside stderr.
    pub system_log: Option<PathBuf>,
    /// The bus.
    pub bus: BusConfig,
    /// Where the rows are.
    pub database: Database,
    /// The API.
    pub api: ApiConfig,
    /// The dashboard.
    pub web: WebConfig,
    /// The webhook worker.
    pub webhook: WebhookConfig,
    /// Canary tokens.
    pub canary: CanaryConfig,
    /// Ingester: most events per transaction.
    pub batch_size: usize,
    /// Ingester: longest wait for a batch to fill.
    pub batch_max_wait: Duration,
    /// Days events are kept; 0 keeps them for ever.
    pub retention_logs_days: u32,
    /// Collector: events per second taken from one decky for long; 0 is no limit.
    pub collector_max_events: u64,
    /// Reconciler: period of unprompted passes.
    pub reconcile_interval: Duration,
    /// Addresses for local deckies.
    pub local_subnet: IpNet,
    /// Most unread spool bytes per decky.
    pub spool_max_bytes: u64,
    /// Most bytes of captured files kept.
    pub artifacts_max_bytes: u64,
    /// First user id of deckies that have one of their own.
    pub uid_base: u32,
    /// The Docker engine's socket.
    pub docker_socket: PathBuf,
    /// Minutes between two mutations of a decky that names no interval; 0 never.
    pub mutate_interval_min: u32,
    /// Somebody set that interval; it is not the default.
    pub mutate_interval_set: bool,
    /// Every setting with its value and where it came from, for `config show`.
    pub effective: Vec<Effective>,
}

/// Everything wrong with the configuration, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Error(pub Vec<String>);

impl Config {
    /// Resolves and checks every setting.
    ///
    /// # Errors
    /// All problems at once, each naming the setting, its source and the fix.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut problems = sources.problems();
        let mut read = Reader {
            sources,
            problems: &mut problems,
            effective: Vec::new(),
        };
        let mode = match read.text("DECNET_MODE").as_str() {
            "master" => Mode::Master,
            "agent" => Mode::Agent,
            other => {
                read.complain("DECNET_MODE", &format!("is '{other}'; use master or agent"));
                Mode::Master
            }
        };
        let state = read.path("DECNET_STATE_DIR");
        // A state directory of one's own moves the whole layout below it.
        let moved = sources.origin("DECNET_STATE_DIR") != Origin::Default;
        let (log_default, run_default) = if moved {
            (state.join("log"), state.join("run"))
        } else {
            (
                PathBuf::from("/var/log/decnet"),
                PathBuf::from("/run/decnet"),
            )
        };
        let log = read.path_or("DECNET_LOG_DIR", &log_default);
        let run = read.path_or("DECNET_RUN_DIR", &run_default);
        let install = read.path("DECNET_INSTALL_DIR");
        let event_log = read.path_or("DECNET_INGEST_LOG_FILE", &log.join("decnet.log"));
        let artifacts = read.path_or("DECNET_ARTIFACTS_ROOT", &state.join("artifacts"));
        let log_level = read.text("DECNET_LOG_LEVEL");
        if !["error", "warn", "info", "debug", "trace"].contains(&log_level.as_str()) {
            read.complain(
                "DECNET_LOG_LEVEL",
                "must be error, warn, info, debug or trace",
            );
        }
        let system_log = read.optional("DECNET_SYSTEM_LOGS").map(PathBuf::from);
        let bus = BusConfig {
            enabled: read.flag("DECNET_BUS_ENABLED"),
            socket: read.path_or("DECNET_BUS_SOCKET", &run.join("bus.sock")),
            group: read.optional("DECNET_BUS_GROUP"),
        };
        let database = read.database(&state);
        let host: IpAddr = read.parsed("DECNET_API_HOST", "an IP address", [127, 0, 0, 1].into());
        let port: u16 = read.parsed("DECNET_API_PORT", "a port, 0 to 65535", 8000);
        if !host.is_loopback() && !read.flag("DECNET_API_ALLOW_PUBLIC") {
            read.complain(
                "DECNET_API_HOST",
                "is not loopback; bind 127.0.0.1 behind a TLS proxy, or set DECNET_API_ALLOW_PUBLIC=true",
            );
        } else {
            read.note("DECNET_API_ALLOW_PUBLIC");
        }
        let session_minutes: u64 = read.bounded("DECNET_SESSION_MINUTES", 1, 43_200, 240);
        let api = ApiConfig {
            bind: SocketAddr::new(host, port),
            session: Duration::from_secs(session_minutes * 60),
            sse_max_per_user: usize::try_from(read.bounded("DECNET_SSE_MAX_PER_USER", 1, 1000, 5))
                .unwrap_or(5),
            admin_user: read.text("DECNET_ADMIN_USER"),
            admin_password: read.optional("DECNET_ADMIN_PASSWORD").map(Secret),
            trusted_proxies: read.networks("DECNET_API_TRUSTED_PROXIES"),
        };
        let web_host: IpAddr =
            read.parsed("DECNET_WEB_HOST", "an IP address", [127, 0, 0, 1].into());
        let web_port: u16 = read.parsed("DECNET_WEB_PORT", "a port, 0 to 65535", 8080);
        if !web_host.is_loopback() && !read.flag("DECNET_WEB_ALLOW_PUBLIC") {
            read.complain(
                "DECNET_WEB_HOST",
                "is not loopback; bind 127.0.0.1 behind a TLS proxy, or set DECNET_WEB_ALLOW_PUBLIC=true",
            );
        } else {
            read.note("DECNET_WEB_ALLOW_PUBLIC");
        }
        let api_url = read.optional("DECNET_WEB_API_URL");
        let fits = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if api_url.as_ref().is_some_and(|url| !fits(url)) {
            read.complain(
                "DECNET_WEB_API_URL",
                "takes a URL such as http://127.0.0.1:8000",
            );
        }
        let web = WebConfig {
            bind: SocketAddr::new(web_host, web_port),
            api_url: api_url.map(|url| url.trim_end_matches('/').to_owned()),
            trusted_proxies: read.networks("DECNET_WEB_TRUSTED_PROXIES"),
        };
        let webhook = webhook::read(&mut read);
        let canary = canary::read(&mut read);
        let batch_size = read.bounded("DECNET_BATCH_SIZE", 1, 100_000, 10_000);
        let batch_wait = read.bounded("DECNET_BATCH_MAX_WAIT_MS", 1, 60_000, 250);
        let retention_logs = read.bounded("DECNET_RETENTION_LOGS_DAYS", 0, 36_500, 90);
        let reconcile = read.bounded("DECNET_RECONCILE_INTERVAL_SEC", 1, 86_400, 30);
        let local_subnet: IpNet = read.parsed(
            "DECNET_LOCAL_SUBNET",
            "a network such as 127.77.0.0/16",
            IpNet::from(ipnet::Ipv4Net::new_assert([127, 77, 0, 0].into(), 16)),
        );
        if !local_subnet.network().is_loopback() {
            read.complain("DECNET_LOCAL_SUBNET", "must lie in 127.0.0.0/8");
        }
        let spool = read.bounded("DECNET_SPOOL_MAX_MIB", 1, 1_048_576, 256);
        let collector_max_events =
            read.bounded("DECNET_COLLECTOR_MAX_EVENTS_PER_SEC", 0, 10_000_000, 20_000);
        let artifacts_max = read.bounded("DECNET_ARTIFACTS_MAX_MIB", 1, 1 << 30, 10_240);
        let uid_base = read.bounded("DECNET_UID_BASE", 65_536, 0x7fff_0000, 0x7000_0000);
        let docker_socket = read.path("DECNET_DOCKER_SOCKET");
        let mutate_interval = read.bounded("DECNET_MUTATE_INTERVAL_MIN", 0, 525_600, 30);
        for init_only in [
            "DECNET_USER",
            "DECNET_GROUP",
            "DECNET_BIN_PATH",
            "DECNET_NO_START",
            "DECNET_CONFIG",
        ] {
            read.note(init_only);
        }
        let mut effective = read.effective;
        effective.sort_by_key(|e| key::KEYS.iter().position(|k| k.name == e.name));
        if !problems.is_empty() {
            return Err(Error(problems));
        }
        Ok(Self {
            mode,
            paths: Paths {
                state,
                log,
                run,
                install,
                event_log,
                artifacts,
            },
            log_level,
            system_log,
            bus,
            database,
            api,
            web,
            webhook,
            canary,
            batch_size: usize::try_from(batch_size).unwrap_or(10_000),
            batch_max_wait: Duration::from_millis(batch_wait),
            retention_logs_days: u32::try_from(retention_logs).unwrap_or(90),
            collector_max_events,
            reconcile_interval: Duration::from_secs(reconcile),
            local_subnet,
            spool_max_bytes: spool * 1024 * 1024,
            artifacts_max_bytes: artifacts_max * 1024 * 1024,
            uid_base: u32::try_from(uid_base).unwrap_or(0x7000_0000),
            docker_socket,
            mutate_interval_set: sources.origin("DECNET_MUTATE_INTERVAL_MIN") != Origin::Default,
            mutate_interval_min: u32::try_from(mutate_interval).unwrap_or(30),
            effective,
        })
    }
}

/// Reads settings one by one, keeping what is wrong with each.
struct Reader<'a> {
    sources: &'a Sources,
    problems: &'a mut Vec<String>,
    effective: Vec<Effective>,
}

impl Reader<'_> {
    fn complain(&mut self, name: &str, what: &str) {
        let origin = self.sources.origin(name);
        self.problems.push(format!("{name} ({origin}) {what}"));
    }

    /// The raw value, recorded for `config show`.
    fn text(&mut self, name: &'static str) -> String {
        self.text_or(name, None)
    }

    fn text_or(&mut self, name: &'static str, default: Option<String>) -> String {
        let mut found = self.sources.get(name);
        if found.origin == Origin::Default
            && let Some(default) = default
        {
            found.value = default;
        }
        let value = found.value.clone();
        self.effective.push(found);
        value
    }

    /// Records a setting that this process does not use itself.
    fn note(&mut self, name: &'static str) {
        let _unused = self.text(name);
    }

    fn optional(&mut self, name: &'static str) -> Option<String> {
        Some(self.text(name)).filter(|v| !v.is_empty())
    }

    fn path(&mut self, name: &'static str) -> PathBuf {
        let text = self.text(name);
        self.checked_path(name, PathBuf::from(text))
    }

    fn path_or(&mut self, name: &'static str, default: &Path) -> PathBuf {
        let text = self.text_or(name, Some(default.display().to_string()));
        self.checked_path(name, PathBuf::from(text))
    }

    fn checked_path(&mut self, name: &str, path: PathBuf) -> PathBuf {
        // A default below a relative directory is that directory's fault.
        let derived = self.sources.origin(name) == Origin::Default;
        if !path.is_absolute() && !derived {
            self.complain(
                name,
                &format!("is '{}'; use an absolute path", path.display()),
            );
        }
        path
    }

    fn flag(&mut self, name: &'static str) -> bool {
        let text = self.text(name);
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" | "" => false,
            _ => {
                self.complain(name, &format!("is '{text}'; use true or false"));
                false
            }
        }
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &'static str, what: &str, fallback: T) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.complain(name, &format!("is '{text}'; expected {what}"));
            fallback
        })
    }

    fn bounded(&mut self, name: &'static str, min: u64, max: u64, fallback: u64) -> u64 {
        let value: u64 = self.parsed(name, "a number", fallback);
        if !(min..=max).contains(&value) {
            self.complain(name, &format!("is {value}; use {min} to {max}"));
            return fallback;
        }
        value
    }

    /// A list of networks; an address is the network of itself alone.
    fn networks(&mut self, name: &'static str) -> Vec<IpNet> {
        let text = self.text(name);
        let mut found = Vec::new();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let net = word.parse::<IpNet>().ok();
            match net.or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from)) {
                Some(net) => found.push(net),
                None => self.complain(
                    name,
                    &format!("holds '{word}'; use networks such as 10.0.0.0/8, 2001:db8::/64"),
                ),
            }
        }
        found
    }

    fn database(&mut self, state: &Path) -> Database {
        let usual = state.join("decnet.db");
        let default = format!("sqlite://{}", usual.display());
        let url = self.text_or("DECNET_DB_URL", Some(default));
        if self.sources.origin("DECNET_DB_URL") == Origin::Default {
            // A relative state directory is that setting's fault.
            return Database::Sqlite(usual);
        }
        Database::parse(&url).unwrap_or_else(|problem| {
            self.complain("DECNET_DB_URL", &problem);
            Database::Sqlite(usual)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(env: &[(&str, &str)]) -> Sources {
        Sources::new(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn defaults_are_the_packaged_layout() {
        let config = Config::load(&sources(&[])).unwrap();
        assert_eq!(config.paths.run, Path::new("/run/decnet"));
        assert_eq!(config.bus.socket, Path::new("/run/decnet/bus.sock"));
        let database = config.database.path();
        assert_eq!(database, Some(Path::new("/var/lib/decnet/decnet.db")));
        assert!(config.api.bind.ip().is_loopback());
    }

    #[test]
    fn a_state_directory_of_ones_own_moves_the_whole_layout() {
        let config = Config::load(&sources(&[("DECNET_STATE_DIR", "/tmp/x")])).unwrap();
        assert_eq!(config.paths.log, Path::new("/tmp/x/log"));
        assert_eq!(config.bus.socket, Path::new("/tmp/x/run/bus.sock"));
        assert_eq!(
            config.paths.event_json(),
            Path::new("/tmp/x/log/decnet.json")
        );
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let error = Config::load(&sources(&[
            ("DECNET_API_PORT", "99999"),
            ("DECNET_MODE", "boss"),
            ("DECNET_STATE_DIR", "relative"),
            ("DECNET_DB_URL", "postgres://u:hunter2@h"),
        ]))
        .unwrap_err()
        .to_string();
        assert_eq!(error.lines().count(), 4, "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_public_bind_needs_a_word() {
        let open = [("DECNET_API_HOST", "0.0.0.0")];
        assert!(Config::load(&sources(&open)).is_err());
        let said = [
            ("DECNET_API_HOST", "0.0.0.0"),
            ("DECNET_API_ALLOW_PUBLIC", "yes"),
        ];
        assert!(Config::load(&sources(&said)).is_ok());
    }

    #[test]
    fn proxies_are_trusted_by_network_or_address_and_none_by_default() {
        let config = Config::load(&sources(&[(
            "DECNET_WEB_TRUSTED_PROXIES",
            "10.0.0.0/8, ::1,127.0.0.1",
        )]))
        .unwrap();
        let shown: Vec<String> = config
            .web
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["10.0.0.0/8", "::1/128", "127.0.0.1/32"]);
        assert!(config.api.trusted_proxies.is_empty());
        let error = Config::load(&sources(&[(
            "DECNET_API_TRUSTED_PROXIES",
            "10.0.0.0/8, proxy",
        )]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("holds 'proxy'"), "{error}");
    }

    #[test]
    fn a_secret_never_prints() {
        let config = Config::load(&sources(&[("DECNET_ADMIN_PASSWORD", "correct horse")])).unwrap();
        assert!(!format!("{config:?}").contains("correct horse"));
    }
}
