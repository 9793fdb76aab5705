//! A LAN of one cable: this host at one end, an attacker's namespace at the other, and an
//! installation whose deckies hang on the host's end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use decnet::db::Db;
use decnet::db::decky::DeckyRow;
use decnet::decoy::control;
use decnet::model::{Driver, Event, Family, Link, Runtime, Service, Stamp, Wish};
use decnet::persona::{Asked, Persona};
use decnet::syslog;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The program under test.
pub(crate) const DECNET: &str = env!("CARGO_BIN_EXE_decnet");

/// Says that `test` is skipped and whether it is: not root, or a program is missing.
pub(crate) fn skipped(test: &str, programs: &[&str]) -> bool {
    let why = if nix::unistd::geteuid().is_root() {
        let missing: Vec<&str> = ["ip", "nsenter"]
            .iter()
            .chain(programs)
            .copied()
            .filter(|program| !installed(program))
            .collect();
        if missing.is_empty() {
            return false;
        }
        format!("not installed: {}", missing.join(", "))
    } else {
        "needs root".to_owned()
    };
    println!("skipped: {test}: {why}");
    true
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
            .any(|dir| dir.join(program).exists())
    })
}

/// The LAN and the installation; dropping it stops the deckies and takes it apart.
pub(crate) struct Lan {
    /// The host's end of the cable.
    pub(crate) parent: String,
    /// The end of the cable that is a port of `parent`, if that is a bridge.
    cable: String,
    /// The attacker's namespace.
    attacker: String,
    /// Third number of its addresses, so that two never meet.
    net: u8,
    state: tempfile::TempDir,
    /// Capabilities of the service user that the reconciler runs as; root before.
    service: std::cell::RefCell<Option<Vec<String>>>,
}

/// A service account of this suite's own.
const SERVICE: u32 = 61_234;

impl Lan {
    /// Host at `.1`, attacker at `.66`.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id() % 100_000;
        let state = tempfile::tempdir().unwrap();
        let lan = Self {
            parent: format!("lan{id}x{number}"),
            cable: String::new(),
            attacker: format!("netns-lan-{id}-{number}"),
            net: u8::try_from((id + number) % 250).unwrap(),
            state,
            service: std::cell::RefCell::default(),
        };
        let (parent, attacker, net) = (&lan.parent, &lan.attacker, lan.net);
        ip(&format!("netns add {attacker}"));
        ip(&format!(
            "link add {parent} type veth peer name eth0 netns {attacker}"
        ));
        ip(&format!("addr add 10.77.{net}.1/24 dev {parent}"));
        ip(&format!("link set {parent} up"));
        ip(&format!("-n {attacker} link set lo up"));
        ip(&format!(
            "-n {attacker} addr add 10.77.{net}.66/24 dev eth0"
        ));
        ip(&format!("-n {attacker} link set eth0 up"));
        lan
    }

    /// The address with this last number.
    pub(crate) fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.net, last)
    }

    /// Makes a bridge with the host's end of the cable as a port, and the host's address;
    /// `parent` is the bridge from now on.
    pub(crate) fn bridged(mut self) -> Self {
        let bridge = self.parent.replace("lan", "lbr");
        let host = self.address(1);
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr del {host}/24 dev {}", self.parent));
        ip(&format!("link set {} master {bridge}", self.parent));
        ip(&format!("addr add {host}/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        self.cable = std::mem::replace(&mut self.parent, bridge);
        self
    }

    /// Adds a decky to the wanted fleet.
    pub(crate) fn want(&self, name: &str, last: u8, family: Family, driver: Driver) -> Persona {
        let persona = persona(&self.state.path().display().to_string(), name, family);
        let wish = Wish {
            runtime: Runtime::Native,
            link: Some(Link {
                driver,
                parent: self.parent.clone(),
                subnet: format!("10.77.{}.0/24", self.net).parse().unwrap(),
                gateway: Some(self.address(66).into()),
            }),
            services: vec![Service::Redis, Service::Http, Service::Ftp],
            ..Wish::default()
        };
        self.want_exactly(name, last, &wish, &persona);
        persona
    }

    pub(crate) fn want_exactly(&self, name: &str, last: u8, wish: &Wish, persona: &Persona) {
        block_on(async {
            let db = self.db().await;
            db.decky_add(name, self.address(last).into(), wish, persona, Stamp::now())
                .await
                .unwrap();
            db.close().await;
        });
    }

    /// Marks it for removal.
    pub(crate) fn unwant(&self, name: &str) {
        block_on(async {
            let db = self.db().await;
            db.decky_remove(Some(name), Stamp::now()).await.unwrap();
            db.close().await;
        });
    }

    async fn db(&self) -> Db {
        Db::open(&self.state.path().join("decnet.db"))
            .await
            .unwrap()
    }

    /// Its row.
    pub(crate) fn row(&self, name: &str) -> DeckyRow {
        block_on(async {
            let db = self.db().await;
            let rows = db.decky_list().await.unwrap();
            db.close().await;
            rows.into_iter().find(|r| r.decky.name == name).unwrap()
        })
    }

    /// One look of the reconciler; what it said.
    pub(crate) fn reconcile(&self) -> String {
        let ran = self
            .decnet()
            .args(["reconciler", "--once"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            ran.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        // Shown when the test fails: why a decky does not run.
        for row in block_on(async { self.db().await.decky_list().await.unwrap() }) {
            if let Some(error) = row.decky.last_error {
                println!("{}: {error}", row.decky.name);
                let said = fs::read_to_string(self.dir(&row.decky.name).join("stderr"));
                println!("{}", said.unwrap_or_default());
            }
        }
        said
    }

    /// The reconciler as a daemon.
    pub(crate) fn reconciler(&self) -> Child {
        self.decnet()
            .arg("reconciler")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// From now on the reconciler is a user with these capabilities alone, and the
    /// installation is that user's.
    pub(crate) fn become_service(&self, capabilities: &[&str]) {
        let owner = format!("{SERVICE}:{SERVICE}");
        let ran = Command::new("chown")
            .args(["-R", &owner])
            .arg(self.state.path())
            .status();
        assert!(ran.unwrap().success());
        let capabilities = capabilities.iter().map(ToString::to_string).collect();
        *self.service.borrow_mut() = Some(capabilities);
    }

    fn decnet(&self) -> Command {
        let mut command = match &*self.service.borrow() {
            None => Command::new(DECNET),
            Some(capabilities) => {
                let id = SERVICE.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &id, "--regid", &id, "--groups", &id]);
                for set in capabilities {
                    command.arg(format!("--inh-caps={set}"));
                    command.arg(format!("--ambient-caps={set}"));
                }
                command.args(["--no-new-privs", DECNET]);
                command
            }
        };
        command
            .env("DECNET_STATE_DIR", self.state.path())
            .env("DECNET_BUS_ENABLED", "false")
            .env("DECNET_RECONCILE_INTERVAL_SEC", "1");
        command
    }

    /// The decky's directory.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.state.path().join("run/deckies").join(name)
    }

    /// The decky's process.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        wait_for(&format!("answer of {name}"), || {
            block_on(control::status(&self.dir(name)))
        })
        .pid
    }

    /// Runs a program as the attacker.
    pub(crate) fn attack(&self, line: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.attacker])
            .args(["sh", "-c", line])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What the attacker's program prints.
    pub(crate) fn seen(&self, line: &str) -> String {
        let ran = self.attack(line);
        format!(
            "{}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        )
    }

    /// Something that listens or watches in the attacker's namespace, until dropped.
    pub(crate) fn attacker_runs(&self, line: &str) -> Running {
        Running(
            Command::new("ip")
                .args(["netns", "exec", &self.attacker])
                .args(["sh", "-c", &format!("exec {line}")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Everything the decky recorded so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Event> {
        let dir = self.dir(name);
        let mut found = Vec::new();
        for number in syslog::spool::segments(&dir).unwrap() {
            let text = fs::read_to_string(syslog::spool::segment_path(&dir, number)).unwrap();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            found.extend(whole.lines().map(|line| syslog::parse(line).unwrap()));
        }
        found
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        *self.service.borrow_mut() = None;
        block_on(async {
            let db = self.db().await;
            db.decky_remove(None, Stamp::now()).await.unwrap();
            db.close().await;
        });
        let stopped = self.decnet().args(["reconciler", "--once"]).output();
        if !std::thread::panicking() {
            assert!(stopped.unwrap().status.success());
        }
        for line in [
            format!("link del {}", self.parent),
            format!("link del {}", self.cable),
            format!("netns del {}", self.attacker),
        ] {
            Command::new("ip").args(line.split(' ')).output().ok();
        }
    }
}

/// A process of a test's own; dropping it ends it.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A host of `family`.
pub(crate) fn persona(secret: &str, name: &str, family: Family) -> Persona {
    let asked = Asked {
        family: Some(family),
        ..Asked::default()
    };
    let mut persona = Persona::derive(secret.as_bytes(), name, &asked, Stamp::now());
    if persona.mac.is_empty() {
        persona.mac = "00:1b:21".to_owned();
        for part in ["mac/1", "mac/2", "mac/3"] {
            persona.mac = format!("{}:{}", persona.mac, persona.hex_id(part, 2));
        }
    }
    persona
}

/// Runs iproute2, which must succeed.
pub(crate) fn ip(line: &str) {
    let ran = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(
        ran.status.success(),
        "ip {line}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// Runs a shell line in the network namespace of `pid`, as root of the host.
pub(crate) fn inside(pid: u32, line: &str) -> Output {
    Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n", "bash", "-c", line])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A value of `/proc/PID/status`.
pub(crate) fn process_status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .unwrap()
        .trim()
        .to_owned()
}

/// Looks every 20 ms until `probe` gives something.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Whether the process has ended; its new parent may not have looked yet.
pub(crate) fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists() || process_status(pid, "State").starts_with('Z')
}

/// An address as text.
pub(crate) fn text(ip: impl Into<IpAddr>) -> String {
    ip.into().to_string()
}
