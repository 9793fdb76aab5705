//! The API under load: `cargo bench --bench api`. A database of 5,000,000 events of
//! 100,000 attackers is made once (several minutes), then the real program is asked over
//! 64 connections for one thing after the other, twice, and its memory looked at before,
//! between and after; a last round asks for pages while 500 events a second are stored.
//! Budgets: 20,000 req/s for `/health`, 4,000 req/s with a p99 below
//! 50 ms for pages of events and attackers, 60 MiB resident and flat.
//!
//! `DECNET_BENCH_ROWS` makes a smaller database, `DECNET_BENCH_SECONDS` asks each thing
//! for longer than 3 s, `DECNET_BENCH_ONLY` asks only what has that text in its name.
//! Client and server share the machine's cores: run it on an idle one. The processor time
//! per request is the server's alone and depends least on what else runs.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops on the first surprise"
)]

mod client;
mod live;
mod seed;

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Ask, Run};
use decnet::db::Db;
use decnet::db::user::Role;
use decnet::model::Stamp;
use live::Live;
use seed::Seeded;
use sha2::{Digest, Sha256};

const TOKEN: &str = "a-token-of-the-bench";
/// Events a second of the last round.
const LIVE: usize = 500;
const MINUTE: i64 = 60_000_000;

fn main() {
    let rows = setting("DECNET_BENCH_ROWS").unwrap_or(5_000_000);
    let time = Duration::from_secs(setting("DECNET_BENCH_SECONDS").unwrap_or(3));
    let only = std::env::var("DECNET_BENCH_ONLY").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seeded = runtime.block_on(async {
        let seeded = Seeded::prepare(rows).await;
        admit(&seeded).await;
        seeded
    });
    let api = Api::start(&seeded);
    api.memory("before");
    let ask = |what: &str, login: bool, ask: &Ask| {
        let before = api.cpu_seconds();
        let token = login.then_some(TOKEN);
        let run = runtime.block_on(client::run(api.address, token, ask, time));
        tell(what, &run, api.cpu_seconds() - before);
    };
    let heading = |round: &str| {
        let (many, seconds) = (client::CONNECTIONS, time.as_secs());
        println!("{round}, {many} connections, {seconds} s each:");
    };
    for round in ["first", "second"] {
        heading(&format!("{round} round"));
        for (what, login, asked) in questions(&seeded) {
            if what.contains(&only) {
                ask(what, login, &asked);
            }
        }
        api.memory(&format!("after the {round} round"));
    }
    let stored = || runtime.block_on(newest(&seeded));
    let (began, before) = (Instant::now(), stored());
    let live = Live::start(seeded.clone(), LIVE);
    heading(&format!("while {LIVE} events a second are written"));
    for (what, login, asked) in questions(&seeded) {
        if what.contains(&only) && !what.starts_with("/logs?q") {
            ask(what, login, &asked);
        }
    }
    let rate = (stored() - before) as f64 / began.elapsed().as_secs_f64();
    println!("stored meanwhile: {rate:.0} events a second");
    drop(live);
    api.memory("after the live round");
}

async fn newest(seeded: &Seeded) -> i64 {
    let db = Db::open(&seeded.database()).await.unwrap();
    let newest = db.log_latest_id().await.unwrap();
    db.close().await;
    newest
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn tell(what: &str, run: &Run, cpu: f64) {
    let count = run.latencies.len();
    let at = |percent: usize| f64::from(run.latencies[(count - 1) * percent / 100]) / 1000.0;
    let good = count as u64 - run.errors;
    println!(
        "{what:<34} {:>7.0} req/s  p50 {:>8.1} p99 {:>8.1} max {:>8.1} ms  {:>8.0} us of processor  {:>6} bytes  errors {}",
        good as f64 / run.wall.as_secs_f64(),
        at(50),
        at(99),
        at(100),
        cpu * 1e6 / count as f64,
        run.bytes / good.max(1),
        run.errors,
    );
}

/// Lets the bench in: an account and a token that may look.
async fn admit(seeded: &Seeded) {
    let db = Db::open(&seeded.database()).await.unwrap();
    if db.user_by_name("bench").await.unwrap().is_none() {
        let now = Stamp::now();
        db.user_add("bench", "!", Role::Viewer, false, now)
            .await
            .unwrap();
        let user = db.user_by_name("bench").await.unwrap().unwrap();
        let hash: [u8; 32] = Sha256::digest(TOKEN).into();
        db.api_token_add(&hash, &user.id, "bench", Role::Viewer, None, now)
            .await
            .unwrap();
    }
    db.close().await;
}

/// Everything asked: its name, whether with the token, and the paths. Paths that vary are
/// spread so widely that no reply kept for a moment answers them.
fn questions(seeded: &Seeded) -> Vec<(&'static str, bool, Ask)> {
    let same = |path: &str| -> Ask {
        let path = path.to_owned();
        Arc::new(move |_| path.clone())
    };
    let (rows, begin, end) = (seeded.rows, seeded.begin.0, seeded.end.0);
    // A number for the n-th request, below `most`.
    let spread = |n: u64, most: u64| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % most.max(1);
    let before = |list: &'static str, most: u64| -> Ask {
        Arc::new(move |n| format!("{list}?limit=50&before={}", 50 + spread(n, most)))
    };
    let moment = move |n| begin + i64::try_from(spread(n, (end - begin).unsigned_abs())).unwrap();
    let place = "00000000-0000-7000-8000-000000000000";
    let by_time = |order: &'static str| -> Ask {
        Arc::new(move |n| {
            format!(
                "/attackers?limit=50&sort={order}&before={}.{place}",
                moment(n)
            )
        })
    };
    // Few counts are much shared, so the rest of the place varies too.
    let by_count: Ask = Arc::new(move |n| {
        let (count, part) = (10 + spread(n, 300), spread(n, 1 << 32));
        format!(
            "/attackers?limit=50&sort=active&before={count}.{part:08x}-0000-7000-8000-000000000000"
        )
    });
    let addresses: Vec<String> = (0..seeded.attackers().min(20_000))
        .map(|n| seeded.address(n).to_string())
        .collect();
    let one: Ask = Arc::new(move |n| {
        let at = usize::try_from(spread(n, addresses.len() as u64)).unwrap();
        format!("/attackers/{}", addresses[at])
    });
    let since = Stamp(end - 60 * MINUTE).to_string();
    let decky = move |n| 1 + spread(n, 40);
    vec![
        ("/health", false, same("/health")),
        ("/logs, kept", true, same("/logs?limit=50")),
        ("/logs, varied", true, before("/logs", rows)),
        ("/attackers, kept", true, same("/attackers?limit=50")),
        ("/attackers, varied", true, by_time("recent")),
        ("/attackers by first, varied", true, by_time("first")),
        ("/attackers by count, varied", true, by_count),
        ("/attackers/{ip}, varied", true, one),
        ("/sessions", true, same("/sessions?limit=50")),
        ("/sessions, varied", true, before("/sessions", rows / 6)),
        ("/credentials", true, same("/credentials?limit=50")),
        (
            "/credentials, varied",
            true,
            before("/credentials", rows / 8),
        ),
        (
            "/credential-reuse",
            true,
            same("/credential-reuse?limit=50"),
        ),
        ("/artifacts", true, same("/artifacts?limit=50")),
        ("/stats", true, same("/stats")),
        ("/stats/overview", true, same("/stats/overview")),
        ("/logs/histogram, a day", true, same("/logs/histogram")),
        (
            "/logs/histogram, one decky",
            true,
            Arc::new(move |n| format!("/logs/histogram?decky=decky-{:02}", decky(n))),
        ),
        (
            "/logs/histogram, words of an hour",
            true,
            same(&format!("/logs/histogram?q=wget&since={since}")),
        ),
        (
            "/logs of a decky",
            true,
            Arc::new(move |n| {
                format!(
                    "/logs?limit=50&decky=decky-{:02}&before={}",
                    decky(n),
                    1 + spread(n, rows)
                )
            }),
        ),
        ("/logs?q= frequent word", true, varied("wget", rows)),
        ("/logs?q= rare word", true, varied("quagga", rows)),
        ("/logs?q= absent word", true, varied("nowhere", rows)),
        ("/logs?q= one letter", true, varied("e", rows)),
        (
            "/logs?q= two frequent words",
            true,
            varied("root%20letmein7", rows),
        ),
        ("/logs?q= field", true, varied("path:/admin", rows)),
        ("/logs?q= absent field", true, varied("path:/nowhere", rows)),
        ("/logs, absent decky", true, varied("decky:decky-99", rows)),
        ("/logs, absent kind", true, varied("event:nothing", rows)),
        (
            "/logs, absent service",
            true,
            varied("service:telnet", rows),
        ),
        (
            "/logs, two that never meet",
            true,
            varied("service:ftp%20event:request", rows),
        ),
    ]
}

/// Events that match, from changing places on.
fn varied(query: &'static str, rows: u64) -> Ask {
    // The newest half, so that there is something to find on the way down.
    Arc::new(move |n| format!("/logs?limit=50&q={query}&before={}", rows - n % (rows / 2)))
}

/// The program as that worker, on the bench's database and without the shell's settings.
fn worker(seeded: &Seeded, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decnet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DECNET_") {
            command.env_remove(name);
        }
    }
    command
        .arg("--state-dir")
        .arg(&seeded.dir)
        .arg(name)
        .env("DECNET_BUS_ENABLED", "false")
        .stderr(Stdio::null());
    command
}

/// The program under measurement; killed when dropped.
struct Api {
    process: Child,
    address: SocketAddr,
}

impl Api {
    fn start(seeded: &Seeded) -> Self {
        let note = seeded.dir.join("run/api.addr");
        let _absent = fs::remove_file(&note);
        let mut command = worker(seeded, "api");
        let process = command.env("DECNET_API_PORT", "0").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let address = loop {
            let said = fs::read_to_string(&note).ok();
            if let Some(address) = said.and_then(|text| text.trim().parse().ok()) {
                break address;
            }
            assert!(Instant::now() < deadline, "the API did not start");
            std::thread::park_timeout(Duration::from_millis(20));
        };
        Self { process, address }
    }

    fn memory(&self, when: &str) {
        let figure = |file: &str, key: &str| -> f64 {
            let path = format!("/proc/{}/{file}", self.process.id());
            let text = fs::read_to_string(path).unwrap();
            let line = text.lines().find(|l| l.starts_with(key)).unwrap();
            let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib / 1024.0
        };
        println!(
            "api {when:<26} resident {:>6.1} MiB, PSS {:>6.1} MiB, at its peak {:>6.1} MiB",
            figure("status", "VmRSS:"),
            figure("smaps_rollup", "Pss:"),
            figure("status", "VmHWM:"),
        );
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let rest = stat.rsplit_once(')').unwrap().1;
        let ticks = rest.split_whitespace().skip(11).take(2);
        ticks.map(|t| t.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
