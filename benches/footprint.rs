//! What the program costs where nothing happens, and how fast it starts and answers:
//! `cargo bench --bench footprint`. Real processes on a private state directory; one
//! line per figure with its budget beside it. Package sizes are printed when packages lie
//! in `dist/`; the seconds from installation to ready are the system suite's to measure.
//!
//! Everything shares the machine's cores: run it on an idle one.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops on the first surprise"
)]

use std::fmt::Display;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use decnet::decoy::control;
use decnet::decoy::run::{Spec, spec_path};
use decnet::model::worker::WORKERS;
use decnet::model::{Service, Stamp, Wish};
use decnet::persona::{Asked, Persona};
use nix::sys::resource::{UsageWho, getrusage};

/// Time for a worker that has just become ready to come to rest.
const REST: Duration = Duration::from_secs(3);
/// How long short connections are made.
const STORM: Duration = Duration::from_secs(3);
/// Client threads making them.
const CLIENTS: usize = 4;
/// Addresses they come from.
const SOURCES: usize = 32;

fn main() {
    // First, while no other child has raised the highest resident set.
    help();
    init();
    // A decky never runs alone: it shares the program's pages with the workers.
    let workers = workers();
    decky();
    drop(workers);
    program();
    packages();
    line(
        "installation to every unit ready",
        "see the line of `make test-system`",
        "15 s",
    );
}

fn line(what: &str, value: impl Display, budget: &str) {
    println!("{what:<36} {value:>30}   (budget {budget})");
}

fn decnet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decnet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DECNET_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command
}

fn milliseconds(mut command: Command) -> f64 {
    let began = Instant::now();
    assert!(command.status().unwrap().success(), "{command:?}");
    began.elapsed().as_secs_f64() * 1000.0
}

fn help() {
    let mut took: Vec<f64> = (0..21)
        .map(|_| {
            let mut command = decnet();
            command.arg("--help");
            milliseconds(command)
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    line("decnet --help, median of 21", ms(took[10]), "10 ms");
    line("decnet --help, peak resident", mib(peak as u64), "8 MiB");
}

fn init() {
    let root = tempfile::tempdir().unwrap();
    for run in ["first", "second"] {
        let mut command = decnet();
        command.args(["init", "--prefix"]).arg(root.path());
        let what = format!("decnet init --prefix, {run} run");
        line(&what, ms(milliseconds(command)), "50 ms");
    }
}

/// Starts and measures them; they run on.
fn workers() -> (tempfile::TempDir, Vec<(&'static str, Process)>) {
    let state = tempfile::tempdir().unwrap();
    let running: Vec<(&'static str, Process)> = WORKERS
        .iter()
        .filter(|worker| worker.in_target)
        .map(|worker| {
            let mut command = decnet();
            command.arg("--state-dir").arg(state.path());
            command.arg(worker.name).env("DECNET_API_PORT", "0");
            let process = Process::start(command);
            let pulse = state
                .path()
                .join("run/pulse")
                .join(format!("{}.json", worker.name));
            wait_for(worker.name, || is_ready(&pulse).then_some(()));
            (worker.name, process)
        })
        .collect();
    thread::sleep(REST);
    let mut total = 0;
    for (name, process) in &running {
        let memory = process.memory();
        total += memory.pss;
        let what = format!("worker {name}, idle: PSS, private");
        let value = format!("{}, {}", mib(memory.pss), mib(memory.private));
        line(&what, value, "2 MiB, 1 MiB");
    }
    line("all workers, idle: PSS", mib(total), "40 MiB");
    (state, running)
}

/// A worker that says something else than that it starts is ready.
fn is_ready(pulse: &Path) -> bool {
    fs::read(pulse)
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
        .is_some_and(|beat| beat["status"] != "starting")
}

fn decky() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path();
    // An address of our own in 127.0.0.0/8: nobody else listens there.
    let [low, high, ..] = std::process::id().to_le_bytes();
    let wish = Wish {
        services: Service::ALL.to_vec(),
        ..Wish::default()
    };
    let persona = Persona::derive(b"bench", "decky-01", &Asked::default(), Stamp::now());
    let ip = [127, 99, high, low.clamp(1, 254)].into();
    let spec = Spec::new("decky-01", ip, 1, wish, persona, 1 << 30);
    fs::write(spec_path(dir), serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut command = decnet();
    command.arg("decky").arg("--dir").arg(dir);
    let process = Process::start(command);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let status = wait_for("decky", || runtime.block_on(control::status(dir)));
    thread::sleep(REST);
    let memory = process.memory();
    let what = format!("decky, {} services, idle: PSS, private", Service::ALL.len());
    let value = format!("{}, {}", mib(memory.pss), mib(memory.private));
    line(&what, value, "4 MiB");
    let redis = status
        .listeners
        .iter()
        .find(|l| l.service == Service::Redis)
        .and_then(|l| l.addr)
        .unwrap();
    storm(redis, &process);
}

/// Connect, PING, read the answer, close; over and over.
fn storm(redis: SocketAddr, process: &Process) {
    let before = process.cpu_seconds();
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| thread::spawn(move || pings(redis, client, began)))
        .collect();
    let made: u64 = clients.into_iter().map(|c| c.join().unwrap()).sum();
    let took = began.elapsed().as_secs_f64();
    let value = format!("{:.0}/s", made as f64 / took);
    line(
        "redis: connect, PING, close",
        value,
        "40,000/s or client-bound",
    );
    let cpu = process.cpu_seconds() - before;
    let value = format!("{:.1} us", cpu / made as f64 * 1e6);
    line(
        "  the decky's processor time each",
        value,
        "25 us of a core",
    );
    line("  PSS afterwards", mib(process.memory().pss), "flat");
}

fn pings(redis: SocketAddr, client: usize, began: Instant) -> u64 {
    let mut made = 0;
    let mut answer = [0; 7];
    while began.elapsed() < STORM {
        // A closed connection holds its port for a minute; one source would run out.
        let source = 1 + (client + usize::try_from(made).unwrap() * CLIENTS) % SOURCES;
        let mut stream = dial(redis, u8::try_from(source).unwrap());
        stream.write_all(b"PING\r\n").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
        made += 1;
    }
    made
}

/// Connects from 127.0.1.`source`.
fn dial(to: SocketAddr, source: u8) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 1, source], 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn program() {
    let size = fs::metadata(env!("CARGO_BIN_EXE_decnet")).unwrap().len();
    line(
        "the program, stripped",
        mib(size / 1024),
        "40 MiB installed",
    );
}

fn packages() {
    for (kind, budget) in [("deb", "15 MiB, 40 MiB"), ("rpm", "15 MiB, 40 MiB")] {
        let what = format!("{kind} package, installed");
        let value = match newest(kind) {
            None => "not built: run make deb rpm".to_owned(),
            Some(path) => {
                let size = mib(fs::metadata(&path).unwrap().len() / 1024);
                match installed_kib(kind, &path) {
                    Some(kib) => format!("{size}, {}", mib(kib)),
                    None => format!("{size}, no tool here to ask"),
                }
            }
        };
        line(&what, value, budget);
    }
}

fn newest(kind: &str) -> Option<PathBuf> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    let packages = fs::read_dir(dist).ok()?.filter_map(Result::ok);
    packages
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == kind))
        .max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn installed_kib(kind: &str, path: &Path) -> Option<u64> {
    let (mut command, unit) = if kind == "deb" {
        let mut command = Command::new("dpkg-deb");
        command.arg("--field").arg(path).arg("Installed-Size");
        (command, 1)
    } else {
        let mut command = Command::new("rpm");
        command.args(["-qp", "--qf", "%{SIZE}"]).arg(path);
        (command, 1024)
    };
    let said = command.stderr(Stdio::null()).output().ok()?.stdout;
    let number: u64 = String::from_utf8(said).ok()?.trim().parse().ok()?;
    Some(number / unit)
}

fn ms(value: f64) -> String {
    format!("{value:.1} ms")
}

fn mib(kib: u64) -> String {
    format!("{:.2} MiB", kib as f64 / 1024.0)
}

fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within 20 s");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// KiB.
struct Memory {
    pss: u64,
    private: u64,
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn memory(&self) -> Memory {
        let path = format!("/proc/{}/smaps_rollup", self.0.id());
        let text = fs::read_to_string(path).unwrap();
        let figure = |key: &str| -> u64 {
            let line = text.lines().find(|l| l.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Memory {
            pss: figure("Pss:"),
            private: figure("Private_Clean:") + figure("Private_Dirty:"),
        }
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let rest = stat.rsplit_once(')').unwrap().1;
        let ticks = rest.split_whitespace().skip(11).take(2);
        ticks.map(|t| t.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
