//! What the bus carries: `cargo bench --bench bus`. The real program serves; one
//! publisher and the subscribers are threads here with blocking sockets that only count
//! and look at one time stamp, so that they cost little beside it. Prints one line per
//! figure. Budgets: 500,000 deliveries/s to one reader, 1,000,000 to twenty, nothing
//! lost, p99 below 1 ms at 20,000 messages/s.
//!
//! Everything shares the machine's cores: run it on an idle one.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops on the first surprise"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of text in every payload.
const BODY: usize = 200;
/// Frames per write when flooding.
const BURST: u64 = 32;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::start(dir.path());
    println!(
        "bus idle                 {:>9} KiB resident",
        bus.status("VmRSS:")
    );
    flood(&bus, 1, 1_000_000);
    flood(&bus, 20, 150_000);
    paced(&bus, 20, 2_000, 10_000);
    paced(&bus, 1, 20_000, 60_000);
    paced(&bus, 20, 20_000, 60_000);
    println!(
        "bus after the load       {:>9} KiB resident",
        bus.status("VmRSS:")
    );
    println!(
        "bus at its peak          {:>9} KiB resident",
        bus.status("VmHWM:")
    );
}

fn flood(bus: &Bus, readers: usize, count: u64) {
    let run = bus.run(readers, count, None);
    println!(
        "flood 1 -> {readers:<2}            {:>9.0} msg/s {:>10.0} deliveries/s, lost {}",
        count as f64 / run.wall.as_secs_f64(),
        run.latencies.len() as f64 / run.wall.as_secs_f64(),
        count * readers as u64 - run.latencies.len() as u64,
    );
}

fn paced(bus: &Bus, readers: usize, rate: u32, count: u64) {
    let run = bus.run(readers, count, Some(rate));
    let at = |percent: usize| run.latencies[(run.latencies.len() - 1) * percent / 100];
    println!(
        "paced 1 -> {readers:<2} {rate:>6} msg/s p50 {:>6} us, p99 {:>6} us, lost {} (publisher late by {} us at most)",
        at(50),
        at(99),
        count * readers as u64 - run.latencies.len() as u64,
        run.late.as_micros(),
    );
}

/// The program under measurement.
struct Bus {
    process: Child,
    socket: std::path::PathBuf,
}

/// What one run saw.
struct Run {
    wall: Duration,
    /// Microseconds from publishing to reading, sorted.
    latencies: Vec<u64>,
    /// How far the publisher fell behind its own plan.
    late: Duration,
}

impl Bus {
    fn start(state: &Path) -> Self {
        let process = Command::new(env!("CARGO_BIN_EXE_decnet"))
            .arg("--state-dir")
            .arg(state)
            .arg("bus")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bus = Self {
            process,
            socket: state.join("run/bus.sock"),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&bus.socket).is_err() {
            assert!(Instant::now() < deadline, "the bus did not start");
            thread::yield_now();
        }
        bus
    }

    /// A figure of the process in KiB.
    fn status(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn run(&self, readers: usize, count: u64, rate: Option<u32>) -> Run {
        let origin = Instant::now();
        let ready = Arc::new(Barrier::new(readers + 1));
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                let (socket, ready) = (self.socket.clone(), Arc::clone(&ready));
                thread::spawn(move || read_all(&socket, &ready, origin, count))
            })
            .collect();
        ready.wait();
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let begun = Instant::now();
        let mut late = Duration::ZERO;
        let mut out = Vec::new();
        for n in 0..count {
            if let Some(rate) = rate {
                let due = begun + Duration::from_secs_f64(n as f64 / f64::from(rate));
                while Instant::now() < due {
                    thread::park_timeout(due - Instant::now());
                }
                late = late.max(due.elapsed());
            }
            publish(&mut out, origin.elapsed());
            if rate.is_some() || (n + 1) % BURST == 0 || n + 1 == count {
                stream.write_all(&out).unwrap();
                out.clear();
            }
        }
        let mut latencies = Vec::new();
        let mut end = begun;
        for thread in threads {
            let (seen, last) = thread.join().unwrap();
            latencies.extend(seen);
            end = end.max(last);
        }
        latencies.sort_unstable();
        Run {
            wall: end - begun,
            latencies,
            late,
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn frame(out: &mut Vec<u8>, header: &str, body: &[u8]) {
    out.extend_from_slice(header.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
}

/// Added to every stamp, so that all have twenty digits and none a leading zero.
const OFFSET: u128 = 10_000_000_000_000_000_000;

/// The stamp comes first in the payload, where readers look for it.
fn publish(out: &mut Vec<u8>, now: Duration) {
    let stamp = now.as_micros() + OFFSET;
    let mut body =
        format!("{{\"type\":\"bench\",\"payload\":{{\"at\":{stamp},\"pad\":\"").into_bytes();
    body.resize(body.len() + BODY, b'x');
    body.extend_from_slice(b"\"}}");
    frame(out, "PUB bench.load", &body);
}

/// Reads `count` events; gives up after three silent seconds.
fn read_all(socket: &Path, ready: &Barrier, origin: Instant, count: u64) -> (Vec<u64>, Instant) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut hello = Vec::new();
    frame(&mut hello, "SUB bench.load", b"");
    // An event of its own tells that the pattern is in force.
    frame(&mut hello, "SUB bench.mine", b"");
    frame(&mut hello, "PUB bench.mine", b"");
    frame(&mut hello, "UNSUB bench.mine", b"");
    stream.write_all(&hello).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut held = 0;
    let mut latencies = Vec::with_capacity(usize::try_from(count).unwrap());
    let mut last = Instant::now();
    let mut waiting = true;
    while (latencies.len() as u64) < count {
        let Ok(size @ 1..) = stream.read(&mut buffer[held..]) else {
            break;
        };
        held += size;
        last = Instant::now();
        let now = origin.elapsed().as_micros();
        let mut at = 0;
        while let Some(end) = buffer[at..held].iter().position(|b| *b == b'\n') {
            let body = at + end + 5;
            if body > held {
                break;
            }
            let size = u32::from_be_bytes(buffer[body - 4..body].try_into().unwrap()) as usize;
            if body + size > held {
                break;
            }
            match &buffer[at..at + end] {
                b"EVT bench.load" => latencies.push(age(&buffer[body..body + size], now)),
                b"EVT bench.mine" if waiting => {
                    waiting = false;
                    ready.wait();
                }
                _ => {}
            }
            at = body + size;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
    (latencies, last)
}

/// Microseconds since the stamp in `body`.
fn age(body: &[u8], now: u128) -> u64 {
    const KEY: &[u8] = b"{\"at\":";
    // The envelope before it has nearly the same length every time.
    let from = 60.min(body.len());
    let place = body[from..]
        .windows(KEY.len())
        .position(|w| w == KEY)
        .unwrap();
    let digits = &body[from + place + KEY.len()..][..20];
    let then = digits
        .iter()
        .fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    u64::try_from((now + OFFSET).saturating_sub(then)).unwrap_or(u64::MAX)
}
