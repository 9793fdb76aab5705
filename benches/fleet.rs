//! What a fleet costs: `cargo bench --bench fleet` as root. Native deckies with three
//! services each on a virtual LAN of its own (a veth pair), deployed the way a user
//! does; Docker deckies when `DECNET_DOCKER_SOCKET` names an engine. One line per figure
//! with its budget beside it.
//!
//! `DECNET_BENCH_DECKIES` changes how many (1000), `DECNET_BENCH_DOCKER` likewise (20).
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops on the first surprise"
)]

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long idle processor time is watched.
const IDLE: Duration = Duration::from_secs(10);
/// The two ends of the virtual LAN.
const LAN: [&str; 2] = ["dnbench0", "dnbench1"];

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the fleet bench makes interfaces and namespaces; run it as root");
        return;
    }
    let _lan = Lan::new();
    let many = count("DECNET_BENCH_DECKIES", 1000);
    let fleet = Fleet::new();
    fleet.measure("native", many, "10.78.0.0/20", "4 MiB each, 1,000 in 4 GiB");
    drop(fleet);
    let fleet = Fleet::new();
    fleet.deploy("native", 50, "10.78.0.0/20");
    let took = fleet.deploy("native", 51, "10.78.0.0/20");
    line("native: +1 beside 50 running", seconds(took), "2 s");
    drop(fleet);
    if std::env::var_os("DECNET_DOCKER_SOCKET").is_none() {
        println!("skipped: docker deckies; DECNET_DOCKER_SOCKET names no engine");
        return;
    }
    let fleet = Fleet::new();
    let some = count("DECNET_BENCH_DOCKER", 20);
    fleet.measure("docker", some, "10.79.0.0/24", "tens on one host before");
    let took = fleet.deploy("docker", some + 1, "10.79.0.0/24");
    line("docker: +1", seconds(took), "2 s");
}

fn count(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn line(what: &str, value: impl Display, budget: &str) {
    println!("{what:<36} {value:>30}   (budget {budget})");
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

/// A veth pair; gone at the end, with everything attached to it.
struct Lan;

impl Lan {
    fn new() -> Self {
        ip(&[
            "link", "add", LAN[0], "type", "veth", "peer", "name", LAN[1],
        ]);
        for end in LAN {
            ip(&["link", "set", end, "up"]);
        }
        Self
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        ip(&["link", "del", LAN[0]]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// A private layout; its deckies are torn down at the end.
struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn decnet(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_decnet"))
            .arg("--state-dir")
            .arg(self.0.path())
            .args(arguments)
            .env("DECNET_BUS_ENABLED", "false")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Deploys `count` deckies; how long until all of them run.
    fn deploy(&self, runtime: &str, count: usize, subnet: &str) -> Duration {
        let count = count.to_string();
        let began = Instant::now();
        self.decnet(&[
            "deploy",
            "--runtime",
            runtime,
            "--interface",
            LAN[0],
            "--subnet",
            subnet,
            "--deckies",
            &count,
            "--services",
            "redis,http,ftp",
            "--timeout",
            "900",
            "--json",
        ]);
        began.elapsed()
    }

    fn measure(&self, runtime: &str, count: usize, subnet: &str, budget: &str) {
        let took = self.deploy(runtime, count, subnet);
        let what = format!("{runtime}: {count} deckies, 3 services");
        let each = took.as_secs_f64() * 1000.0 / count as f64;
        line(&what, format!("{}, {each:.0} ms each", seconds(took)), "-");
        let pids = self.pids();
        assert_eq!(pids.len(), count, "every decky has its process");
        let mut pss: u64 = pids.iter().map(|pid| pss_kib(*pid)).sum();
        if runtime == "docker" {
            let shims: u64 = pids.iter().map(|pid| pss_kib(parent(*pid))).sum();
            let value = format!("{:.2} MiB each", shims as f64 / 1024.0 / count as f64);
            line("  PSS of the engine's shims", value, "-");
            pss += shims;
        }
        let value = format!(
            "{:.2} MiB each, {:.0} MiB in all",
            pss as f64 / 1024.0 / count as f64,
            pss as f64 / 1024.0
        );
        line("  PSS", value, budget);
        line(
            "  deckies per GiB",
            format!("{}", 1024 * 1024 * count as u64 / pss.max(1)),
            "250",
        );
        let before: f64 = pids.iter().map(|pid| cpu_seconds(*pid)).sum();
        thread::sleep(IDLE);
        let after: f64 = pids.iter().map(|pid| cpu_seconds(*pid)).sum();
        let percent = (after - before) / IDLE.as_secs_f64() * 100.0;
        line(
            "  idle processor time, all",
            format!("{percent:.2} %"),
            "1 % of a core",
        );
        let began = Instant::now();
        self.decnet(&["reconciler", "--once"]);
        line("  one converged look", seconds(began.elapsed()), "-");
    }

    /// The deckies' processes as they say themselves.
    fn pids(&self) -> Vec<u32> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let dirs: Vec<PathBuf> = fs::read_dir(self.0.path().join("run/deckies"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        // A container's process does not know its number outside.
        dirs.iter()
            .filter_map(|dir| outside_pid(dir, &runtime))
            .collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.decnet(&["teardown", "--all", "--timeout", "600"]);
        }
    }
}

/// The process that holds the decky's control socket.
fn outside_pid(dir: &Path, runtime: &tokio::runtime::Runtime) -> Option<u32> {
    runtime.block_on(async {
        let socket = decnet::decoy::control::socket_path(dir);
        let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
        let pid = stream.peer_cred().ok()?.pid()?;
        u32::try_from(pid).ok()
    })
}

fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap()
}

fn parent(pid: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = text.rsplit_once(')').unwrap().1;
    after.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = text.rsplit_once(')').unwrap().1;
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|t| t.parse::<u64>().unwrap())
        .sum();
    ticks as f64 / 100.0
}
