//! The host, the cable, the attacker, the engine; all of it is gone at the end.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::ListContainersOptionsBuilder;
use decnet::db::Db;
use decnet::docker::{Engine, container};
use decnet::model::{Driver, Event, Family, Link, Runtime, Service, Stamp, Wish};
use decnet::persona::{Asked, Persona};
use decnet::syslog;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The attacker's address.
pub(crate) const ATTACKER: &str = "10.66.0.2";
/// The LAN.
pub(crate) const SUBNET: &str = "10.66.0.0/24";
/// The host's interface on it.
pub(crate) const CARD: &str = "lan0";

/// A host with an engine, a LAN and an attacker on it.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) host: String,
    attacker: String,
    engine: Option<Child>,
    options: &'static [&'static str],
}

impl Lab {
    /// Sets everything up, or says why not.
    pub(crate) fn new(test: &str, options: &'static [&'static str]) -> Option<Self> {
        if let Some(reason) = lacking() {
            println!("skipped: {test}: {reason}");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("dk{}-{number}", std::process::id());
        let mut lab = Self {
            dir: tempfile::tempdir().unwrap(),
            host: format!("{id}h"),
            attacker: format!("{id}a"),
            engine: None,
            options,
        };
        // Bind mounts of the decky directories start here.
        fs::create_dir(lab.state()).unwrap();
        let (host, attacker) = (lab.host.clone(), lab.attacker.clone());
        ip(&["netns", "add", &host]);
        ip(&["netns", "add", &attacker]);
        ip(&[
            "-n", &host, "link", "add", CARD, "type", "veth", "peer", "name", "eth0", "netns",
            &attacker,
        ]);
        ip(&["-n", &host, "link", "set", CARD, "up"]);
        ip(&["-n", &host, "link", "set", "lo", "up"]);
        ip(&["-n", &attacker, "link", "set", "lo", "up"]);
        ip(&["-n", &attacker, "link", "set", "eth0", "up"]);
        let with_prefix = format!("{ATTACKER}/24");
        ip(&["-n", &attacker, "addr", "add", &with_prefix, "dev", "eth0"]);
        lab.start_engine();
        Some(lab)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Starts the engine and waits until it answers.
    pub(crate) fn start_engine(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(path("engine.log"))
            .unwrap();
        let child = enter(&self.host, "dockerd")
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--pidfile")
            .arg(path("engine.pid"))
            .args(["--bridge", "none"])
            .args(self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.engine = Some(child);
        wait_for("answering engine", || {
            let child = self.engine.as_mut().unwrap();
            if let Some(exit) = child.try_wait().unwrap() {
                let log = fs::read_to_string(self.dir.path().join("engine.log")).unwrap();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                panic!("dockerd ended ({exit}): {tail:#?}");
            }
            // A killed engine leaves its socket: connecting is not enough.
            block_on(Engine::connect(&self.socket())).ok().flatten()
        });
    }

    /// The next engine ends the containers it finds, as engines usually do.
    pub(crate) fn without_live_restore(&mut self) {
        self.options = &[];
    }

    /// Kills the engine as a crash would.
    pub(crate) fn kill_engine(&mut self) {
        let mut child = self.engine.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // Its containerd ends with it. Where nobody reaps that, its number stays taken,
        // and the next engine would wait for it.
        for pidfile in ["engine.pid", "exec/containerd/containerd.pid"] {
            let pidfile = self.dir.path().join(pidfile);
            if pidfile.exists() {
                fs::remove_file(pidfile).unwrap();
            }
        }
    }

    pub(crate) fn client(&self) -> Engine {
        block_on(Engine::connect(&self.socket())).unwrap().unwrap()
    }

    /// Our program on the host, with a private layout.
    pub(crate) fn decnet(&self, arguments: &[&str]) -> Output {
        let mut command = enter(&self.host, env!("CARGO_BIN_EXE_decnet"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DECNET_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--state-dir")
            .arg(self.state())
            .args(arguments)
            .env("DECNET_DOCKER_SOCKET", self.socket())
            .env("DECNET_BUS_ENABLED", "false")
            .env("DOCKER_CONFIG", self.dir.path().join("client"))
            .env_remove("BUILDX_CONFIG")
            .output()
            .unwrap()
    }

    /// One look of the reconciler; what it did.
    pub(crate) fn reconcile(&self) -> Value {
        let output = self.decnet(&["reconciler", "--once", "--json"]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{err}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The decky as `decnet deckies` shows it.
    pub(crate) fn decky(&self, name: &str) -> Value {
        let output = self.decnet(&["deckies", "--json"]);
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        rows.into_iter().find(|row| row["name"] == name).unwrap()
    }

    fn db(&self) -> Db {
        block_on(Db::open(&self.state().join("decnet.db"))).unwrap()
    }

    /// Writes the wish for a decky; the next look makes it.
    pub(crate) fn want(&self, name: &str, ip: &str, shape: impl FnOnce(&mut Wish, &mut Persona)) {
        let mut wish = Wish {
            runtime: Runtime::Docker,
            link: Some(Link {
                driver: Driver::Macvlan,
                parent: CARD.to_owned(),
                subnet: SUBNET.parse().unwrap(),
                gateway: None,
            }),
            services: vec![Service::Http, Service::Redis, Service::Ftp],
            ..Wish::default()
        };
        let mut persona = Persona::derive(b"lab", name, &Asked::default(), Stamp::now());
        persona.family = Family::Linux;
        let ip: IpAddr = ip.parse().unwrap();
        if let IpAddr::V4(ip) = ip {
            let [.., last] = ip.octets();
            persona.mac = format!("00:50:56:0a:0b:{last:02x}");
        }
        shape(&mut wish, &mut persona);
        let db = self.db();
        block_on(async {
            db.decky_add(name, ip, &wish, &persona, Stamp::now())
                .await
                .unwrap();
            db.close().await;
        });
    }

    /// Marks a decky for removal.
    pub(crate) fn unwant(&self, name: &str) {
        let db = self.db();
        block_on(async {
            db.decky_remove(Some(name), Stamp::now()).await.unwrap();
            db.close().await;
        });
    }

    /// A container as the engine describes it; `None` when there is none.
    pub(crate) fn inspect(&self, name: &str) -> Option<ContainerInspectResponse> {
        let engine = self.client();
        block_on(engine.client().inspect_container(name, None)).ok()
    }

    /// Which container it is and since when it runs: the same means untouched.
    pub(crate) fn life(&self, decky: &str) -> (String, String) {
        let seen = self.inspect(&format!("decnet-{decky}")).expect(decky);
        (seen.id.unwrap(), seen.state.unwrap().started_at.unwrap())
    }

    /// A command in the attacker's place.
    pub(crate) fn attacker(&self, program: &str) -> Command {
        enter(&self.attacker, program)
    }

    /// `work` in the attacker's network; sockets it returns stay there.
    pub(crate) fn as_attacker<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&format!("/run/netns/{}", self.attacker), work)
    }

    /// `work` in the host's network.
    pub(crate) fn as_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&format!("/run/netns/{}", self.host), work)
    }

    /// Connects from the attacker.
    pub(crate) fn connect(&self, addr: &str) -> io::Result<TcpStream> {
        let addr: SocketAddr = addr.parse().unwrap();
        self.as_attacker(|| {
            let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            Ok(stream)
        })
    }

    /// What a decky recorded so far.
    pub(crate) fn events(&self, decky: &str) -> Vec<Event> {
        let dir = self.state().join("run/deckies").join(decky);
        let mut found = Vec::new();
        for number in syslog::spool::segments(&dir).unwrap() {
            let text = fs::read_to_string(syslog::spool::segment_path(&dir, number)).unwrap();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            found.extend(whole.lines().map(|line| syslog::parse(line).unwrap()));
        }
        found
    }

    /// Waits for an event of `service` from the attacker.
    pub(crate) fn event(&self, decky: &str, service: &str, kind: &str) -> Event {
        wait_for(&format!("{service} {kind} of {decky}"), || {
            self.events(decky).into_iter().find(|event| {
                event.service == service
                    && event.kind == kind
                    && event
                        .flow
                        .as_ref()
                        .is_some_and(|flow| flow.src.ip().to_string() == ATTACKER)
            })
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // An orderly end leaves nothing of a container behind; the rest is for a test that
        // stopped half way.
        block_on(empty(&self.socket()));
        if let Some(child) = &mut self.engine {
            drop(child.kill());
            drop(child.wait());
        }
        let mark = self.dir.path().display().to_string();
        for _ in 0..3 {
            for pid in family_of(&mark) {
                // It may have ended meanwhile.
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for _ in 0..3 {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
            for path in ours.filter(|path| path.starts_with(&mark)).rev_sorted() {
                umount2(path.as_str(), MntFlags::MNT_DETACH).unwrap_or_default();
            }
        }
        for name in [&self.host, &self.attacker] {
            ip(&["netns", "del", name]);
        }
    }
}

/// Removes every container, as far as the engine answers.
async fn empty(socket: &Path) {
    let Ok(Some(engine)) = Engine::connect(socket).await else {
        return;
    };
    let all = ListContainersOptionsBuilder::default().all(true).build();
    let found = engine.client().list_containers(Some(all)).await;
    for id in found.unwrap_or_default().into_iter().filter_map(|c| c.id) {
        drop(container::remove(&engine, &id).await);
    }
}

/// The longest paths first: what is mounted inside goes before what it is mounted in.
trait RevSorted {
    fn rev_sorted(self) -> Vec<String>;
}

impl<'a, I: Iterator<Item = &'a str>> RevSorted for I {
    fn rev_sorted(self) -> Vec<String> {
        let mut all: Vec<String> = self.map(str::to_owned).collect();
        all.sort_by_key(|path| std::cmp::Reverse(path.len()));
        all
    }
}

/// Processes whose arguments name `mark`, and everything below them, but this one.
fn family_of(mark: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let mut parents = Vec::new();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent: Option<i32> = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1))
            .and_then(|n| n.parse().ok());
        parents.push((pid, parent.unwrap_or(0)));
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains(mark) && pid != own {
            found.push(pid);
        }
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for (pid, of) in &parents {
            if *of == parent && !found.contains(pid) && *pid != own {
                found.push(*pid);
            }
        }
    }
    found
}

fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    for (program, package) in [
        ("dockerd", "docker.io"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("curl", "curl"),
        ("redis-cli", "redis-tools"),
        ("ftp", "ftp"),
    ] {
        let there = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists());
        if !there {
            return Some(format!("{program} is not installed (package {package})"));
        }
    }
    None
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {err}");
}

/// `program` in the network namespace `name`; everything else stays this process's.
fn enter(name: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{name}")).arg(program);
    command
}

/// `work` in the network namespace that the file at `path` stands for.
pub(crate) fn inside<T: Send>(path: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(path).unwrap();
    // A thread of its own: only it changes sides.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
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

/// The owner of a path.
pub(crate) fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}
