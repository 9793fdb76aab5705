//! The table of settings: one row each, from which `config show`, the man page, the
//! example INI and the unknown-key check are made.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Environment name, also the name in `.env.local`.
    pub name: &'static str,
    /// Other environment names that still work (the original's).
    pub aliases: &'static [&'static str],
    /// Place in `decnet.ini`, `(section, key)`; `None` for what may only come from
    /// the environment (secrets) or from `decnet init`.
    pub ini: Option<(&'static str, &'static str)>,
    /// Default as text; `{state}`, `{log}`, `{run}` stand for the directories.
    pub default: &'static str,
    /// Never shown in the clear; also readable from the file that `<name>_FILE` names.
    pub secret: bool,
    /// One sentence.
    pub doc: &'static str,
}

const fn key(
    name: &'static str,
    ini: Option<(&'static str, &'static str)>,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        aliases: &[],
        ini,
        default,
        secret: false,
        doc,
    }
}

/// Every setting, in the order `config show` prints them.
pub const KEYS: &[Key] = &[
    key(
        "DECNET_MODE",
        Some(("decnet", "mode")),
        "master",
        "Role of this host: master or agent.",
    ),
    key(
        "DECNET_STATE_DIR",
        Some(("decnet", "state_dir")),
        "/var/lib/decnet",
        "Database, artifacts and other state. When set, log and run directories default to below it.",
    ),
    key(
        "DECNET_LOG_DIR",
        Some(("decnet", "log_dir")),
        "/var/log/decnet",
        "Event log and worker logs.",
    ),
    key(
        "DECNET_RUN_DIR",
        Some(("decnet", "run_dir")),
        "/run/decnet",
        "Sockets, locks and decky directories.",
    ),
    key(
        "DECNET_INSTALL_DIR",
        Some(("decnet", "install_dir")),
        "/opt/decnet",
        "Home of the service user; `.env.local` is read from here.",
    ),
    key(
        "DECNET_LOG_LEVEL",
        Some(("logging", "level")),
        "info",
        "Application log level: error, warn, info, debug or trace.",
    ),
    key(
        "DECNET_SYSTEM_LOGS",
        Some(("logging", "system_log")),
        "",
        "File for the application log, beside stderr; each line once.",
    ),
    Key {
        name: "DECNET_INGEST_LOG_FILE",
        aliases: &["DECNET_LOG_FILE"],
        ini: Some(("logging", "ingest_log")),
        default: "{log}/decnet.log",
        secret: false,
        doc: "Event log written by the collector; the JSON form lies beside it as `.json`.",
    },
    key(
        "DECNET_BUS_ENABLED",
        Some(("bus", "enabled")),
        "true",
        "false runs every worker without the bus.",
    ),
    key(
        "DECNET_BUS_SOCKET",
        Some(("bus", "socket")),
        "{run}/bus.sock",
        "The bus socket.",
    ),
    key(
        "DECNET_BUS_GROUP",
        Some(("bus", "group")),
        "",
        "Group that may use the bus; empty keeps the group of the bus process.",
    ),
    Key {
        name: "DECNET_DB_URL",
        aliases: &["DECNET_DATABASE_URL"],
        ini: Some(("database", "url")),
        default: "sqlite://{state}/decnet.db",
        secret: true,
        doc: "Database: sqlite://PATH, postgres://USER:PASSWORD@HOST/NAME, or postgres:///NAME?host=/run/postgresql for a server's socket.",
    },
    key(
        "DECNET_API_HOST",
        Some(("api", "host")),
        "127.0.0.1",
        "Address the API binds.",
    ),
    key(
        "DECNET_API_PORT",
        Some(("api", "port")),
        "8000",
        "Port the API binds.",
    ),
    key(
        "DECNET_API_ALLOW_PUBLIC",
        Some(("api", "allow_public")),
        "false",
        "true allows a bind beyond loopback without TLS (put a TLS proxy before it).",
    ),
    key(
        "DECNET_API_TRUSTED_PROXIES",
        Some(("api", "trusted_proxies")),
        "",
        "Networks of proxies, separated by commas, whose X-Forwarded-For the API believes; empty: none.",
    ),
    key(
        "DECNET_WEB_HOST",
        Some(("web", "host")),
        "127.0.0.1",
        "Address the dashboard binds.",
    ),
    key(
        "DECNET_WEB_PORT",
        Some(("web", "port")),
        "8080",
        "Port the dashboard binds.",
    ),
    key(
        "DECNET_WEB_ALLOW_PUBLIC",
        Some(("web", "allow_public")),
        "false",
        "true allows a bind beyond loopback without TLS (put a TLS proxy before it).",
    ),
    key(
        "DECNET_WEB_TRUSTED_PROXIES",
        Some(("web", "trusted_proxies")),
        "",
        "Networks of proxies, separated by commas, whose X-Forwarded-For and X-Forwarded-Proto the dashboard believes; empty: none.",
    ),
    key(
        "DECNET_WEB_API_URL",
        Some(("web", "api_url")),
        "",
        "Where the dashboard finds the API; empty is the API of this host.",
    ),
    key(
        "DECNET_WEBHOOK_ALLOW_PRIVATE",
        Some(("webhook", "allow_private")),
        "false",
        "true allows receivers on private networks and this host.",
    ),
    key(
        "DECNET_WEBHOOK_CIRCUIT_THRESHOLD",
        Some(("webhook", "circuit_threshold")),
        "5",
        "Failed attempts in a row after which a receiver is only probed, every 30 to 300 seconds.",
    ),
    key(
        "DECNET_WEBHOOK_MAX_ATTEMPTS",
        Some(("webhook", "max_attempts")),
        "8",
        "Attempts for one event that a receiver stumbles over; one that is away is waited for.",
    ),
    key(
        "DECNET_WEBHOOK_MAX_AGE_HOURS",
        Some(("webhook", "max_age_hours")),
        "24",
        "Hours after which an event that could not be delivered is given up.",
    ),
    key(
        "DECNET_WEBHOOK_QUEUE_MAX",
        Some(("webhook", "queue_max")),
        "10000",
        "Most events waiting for one receiver; beyond it new ones are not taken down, and counted.",
    ),
    key(
        "DECNET_WEBHOOK_KEEP_DAYS",
        Some(("webhook", "keep_days")),
        "30",
        "Days that deliveries are listed after their end.",
    ),
    Key {
        name: "DECNET_CANARY_HTTP_HOST",
        aliases: &["DECNET_CANARY_HTTP_BIND"],
        ini: Some(("canary", "http_host")),
        default: "0.0.0.0",
        secret: false,
        doc: "Address at which the web calls of canary tokens are answered.",
    },
    key(
        "DECNET_CANARY_HTTP_PORT",
        Some(("canary", "http_port")),
        "8088",
        "Port at which the web calls of canary tokens are answered.",
    ),
    key(
        "DECNET_CANARY_HTTP_BASE",
        Some(("canary", "http_base")),
        "",
        "Begin of the addresses in new canary tokens: how attackers reach the listener; empty is this host's own address.",
    ),
    key(
        "DECNET_CANARY_TLS_PORT",
        Some(("canary", "tls_port")),
        "0",
        "Port for calls over TLS; 0 is none.",
    ),
    key(
        "DECNET_CANARY_TLS_CERT",
        Some(("canary", "tls_cert")),
        "",
        "PEM file of the certificate chain; empty is one of our own, signed by itself.",
    ),
    key(
        "DECNET_CANARY_TLS_KEY",
        Some(("canary", "tls_key")),
        "",
        "PEM file of the certificate's private key.",
    ),
    Key {
        name: "DECNET_CANARY_DNS_HOST",
        aliases: &["DECNET_CANARY_DNS_BIND"],
        ini: Some(("canary", "dns_host")),
        default: "0.0.0.0",
        secret: false,
        doc: "Address at which questions for names of canary tokens are answered.",
    },
    key(
        "DECNET_CANARY_DNS_PORT",
        Some(("canary", "dns_port")),
        "5353",
        "Port of the same, UDP and TCP; delegated zones need 53.",
    ),
    key(
        "DECNET_CANARY_DNS_ZONE",
        Some(("canary", "dns_zone")),
        "",
        "Zone delegated to this host, for tokens that call by DNS; empty is none.",
    ),
    key(
        "DECNET_CANARY_DNS_ADDRESS",
        Some(("canary", "dns_address")),
        "192.0.2.1",
        "IPv4 address that names of the zone have: the listener's, so that the web call follows.",
    ),
    key(
        "DECNET_CANARY_TRUSTED_PROXIES",
        Some(("canary", "trusted_proxies")),
        "",
        "Networks of proxies whose X-Forwarded-For is believed, separated by commas.",
    ),
    key(
        "DECNET_CANARY_DEDUP_SEC",
        Some(("canary", "dedup_sec")),
        "60",
        "Seconds within which the same use of a canary token counts up instead of being another.",
    ),
    key(
        "DECNET_CANARY_ALERTS_PER_MIN",
        Some(("canary", "alerts_per_min")),
        "10",
        "Most alerts per canary token and minute; how many more there were is told afterwards.",
    ),
    Key {
        name: "DECNET_SESSION_MINUTES",
        aliases: &["DECNET_JWT_EXP_MINUTES"],
        ini: Some(("api", "session_minutes")),
        default: "240",
        secret: false,
        doc: "Lifetime of a login session, in minutes.",
    },
    key(
        "DECNET_SSE_MAX_PER_USER",
        Some(("api", "sse_max_per_user")),
        "5",
        "Open event streams per user.",
    ),
    key(
        "DECNET_ADMIN_USER",
        Some(("api", "admin_user")),
        "admin",
        "Name of the first administrator.",
    ),
    Key {
        name: "DECNET_ADMIN_PASSWORD",
        aliases: &[],
        ini: None,
        default: "",
        secret: true,
        doc: "Password of the first administrator; empty takes it from {state}/admin-password, made at the first start.",
    },
    key(
        "DECNET_BATCH_SIZE",
        Some(("ingester", "batch_size")),
        "10000",
        "Most events the ingester stores in one transaction.",
    ),
    key(
        "DECNET_BATCH_MAX_WAIT_MS",
        Some(("ingester", "batch_max_wait_ms")),
        "250",
        "Longest time an event waits for its batch, in milliseconds.",
    ),
    key(
        "DECNET_RETENTION_LOGS_DAYS",
        Some(("ingester", "retention_logs_days")),
        "90",
        "Days events and sessions are kept in the database; 0 keeps them for ever.",
    ),
    key(
        "DECNET_COLLECTOR_MAX_EVENTS_PER_SEC",
        Some(("collector", "max_events_per_sec")),
        "20000",
        "Events per second taken from one decky for long; beyond it events are shed and counted, those with credentials last. 0 is no limit.",
    ),
    key(
        "DECNET_RECONCILE_INTERVAL_SEC",
        Some(("reconciler", "interval_sec")),
        "30",
        "Seconds between two unprompted looks at the fleet.",
    ),
    key(
        "DECNET_LOCAL_SUBNET",
        Some(("fleet", "local_subnet")),
        "127.77.0.0/16",
        "Loopback addresses given to local deckies.",
    ),
    key(
        "DECNET_SPOOL_MAX_MIB",
        Some(("fleet", "spool_max_mib")),
        "256",
        "Most unread events kept per decky, in MiB; beyond it the oldest are dropped and counted.",
    ),
    key(
        "DECNET_ARTIFACTS_ROOT",
        Some(("fleet", "artifacts_root")),
        "{state}/artifacts",
        "Where captured files are kept.",
    ),
    key(
        "DECNET_ARTIFACTS_MAX_MIB",
        Some(("fleet", "artifacts_max_mib")),
        "10240",
        "Most captured files kept, in MiB; beyond it the oldest are removed and counted.",
    ),
    key(
        "DECNET_UID_BASE",
        Some(("fleet", "uid_base")),
        "1879048192",
        "First of the user ids given to native and Docker deckies, one each; above those of containers, below 2^31.",
    ),
    key(
        "DECNET_DOCKER_SOCKET",
        Some(("fleet", "docker_socket")),
        "/var/run/docker.sock",
        "The Docker engine's socket.",
    ),
    key(
        "DECNET_MUTATE_INTERVAL_MIN",
        Some(("fleet", "mutate_interval_min")),
        "30",
        "Minutes between two looks at whether a decky should change; 0 never.",
    ),
    key(
        "DECNET_USER",
        None,
        "decnet",
        "Service account; read by `decnet init`.",
    ),
    key(
        "DECNET_GROUP",
        None,
        "decnet",
        "Service group; read by `decnet init`.",
    ),
    key(
        "DECNET_BIN_PATH",
        None,
        "",
        "Program path rendered into units; read by `decnet init`.",
    ),
    key(
        "DECNET_NO_START",
        None,
        "",
        "Anything but empty, 0, false or no: `decnet init` starts nothing.",
    ),
    key(
        "DECNET_CONFIG",
        None,
        "/etc/decnet/decnet.ini",
        "The INI file.",
    ),
];

/// The row whose name or alias is `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|k| k.name == name || k.aliases.contains(&name))
}

/// The row at `[section] key`.
#[must_use]
pub fn find_ini(section: &str, key: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.ini == Some((section, key)))
}
