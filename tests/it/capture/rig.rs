//! A private layout with worker processes on it, deckies that write, and the oracle that
//! counts what arrived.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use decnet::config::Database;
use decnet::db::Db;
use decnet::model::{Credential, Event, Flow, Proto, Severity, Stamp};
use decnet::syslog::{self, spool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{command, database, wait_for};

pub(super) struct Rig {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    db: Db,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::on(None)
    }

    /// With that database, which workers must be told of too; `None` is the usual one.
    pub(super) fn on(at: Option<Database>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // logrotate refuses directories others may write.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let db = runtime
            .block_on(Db::open(at.unwrap_or_else(|| database(dir.path()))))
            .unwrap();
        Self { dir, runtime, db }
    }

    pub(super) fn state(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn decky(&self, name: &str) -> PathBuf {
        self.state().join("run/deckies").join(name)
    }

    pub(super) fn spool(&self, decky: &str) -> spool::Writer {
        fs::create_dir_all(self.decky(decky)).unwrap();
        spool::Writer::open(&self.decky(decky), 1 << 30).unwrap()
    }

    /// Appends half a line to the newest segment, as a killed decky may.
    pub(super) fn tear_last_line(&self, decky: &str) {
        let dir = self.decky(decky);
        let last = *spool::segments(&dir).unwrap().last().unwrap();
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(spool::segment_path(&dir, last))
            .unwrap();
        file.write_all(b"<134>1 2026-").unwrap();
    }

    pub(super) fn spawn(&self, name: &'static str) -> Worker {
        self.spawn_with(name, &[])
    }

    pub(super) fn spawn_with(&self, name: &'static str, settings: &[(&str, &str)]) -> Worker {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.state().join("workers.log"))
            .unwrap();
        let child = command(self.state())
            .arg(name)
            .env("DECNET_BUS_ENABLED", "false")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Worker { name, child }
    }

    /// Deckies that append events until told to stop, beginning a new segment now and
    /// then as a restarted decky does.
    pub(super) fn write_continuously(&self, deckies: usize) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicI64::new(0));
        let threads = (1..=deckies)
            .map(|d| {
                let name = format!("decky-{d:02}");
                let dir = self.decky(&name);
                let first = self.spool(&name);
                let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut spool = first;
                    let mut written = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..10 {
                            let n = u32::try_from(written.len()).unwrap();
                            written.push(append(&spool, &name, n));
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        if written.len() % 2000 == 0 {
                            spool = spool::Writer::open(&dir, 1 << 30).unwrap();
                        }
                        std::thread::park_timeout(Duration::from_millis(5));
                    }
                    written
                })
            })
            .collect();
        Writers {
            stop,
            count,
            threads,
        }
    }

    /// Many deckies in few threads, each appending an event every `pause`.
    pub(super) fn write_sparsely(&self, deckies: usize, pause: Duration) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicI64::new(0));
        let names: Vec<String> = (0..deckies).map(|d| format!("decky-{d:04}")).collect();
        let threads = names
            .chunks(deckies.div_ceil(4))
            .map(|names| {
                let spools: Vec<_> = (names.iter().cloned())
                    .map(|name| (self.spool(&name), name))
                    .collect();
                let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut written = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        for (spool, name) in &spools {
                            let n = u32::try_from(written.len()).unwrap();
                            written.push(append(spool, name, n));
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        std::thread::park_timeout(pause);
                    }
                    written
                })
            })
            .collect();
        Writers {
            stop,
            count,
            threads,
        }
    }

    /// Deckies that append as fast as they can, each to a spool of `max_bytes`.
    pub(super) fn flood(&self, names: &[&str], max_bytes: u64) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = names
            .iter()
            .map(|name| {
                fs::create_dir_all(self.decky(name)).unwrap();
                let spool = spool::Writer::open(&self.decky(name), max_bytes).unwrap();
                let stop = Arc::clone(&stop);
                let lines: Vec<String> = (0..64)
                    .map(|n| {
                        syslog::write(&event(name, &decnet::decoy::session::new_id(), n * 5 + 1))
                    })
                    .collect();
                std::thread::spawn(move || {
                    let (mut written, mut bytes) = (0u64, 0u64);
                    while !stop.load(Ordering::Relaxed) {
                        for line in &lines {
                            spool.append(line).unwrap();
                            bytes += line.len() as u64;
                        }
                        written += lines.len() as u64;
                    }
                    (written, bytes)
                })
            })
            .collect();
        Flood { stop, threads }
    }

    /// The last piece of the event log.
    pub(super) fn log_tail(&self) -> String {
        let Ok(file) = fs::File::open(self.state().join("log/decnet.log")) else {
            return String::new();
        };
        let size = file.metadata().unwrap().len();
        let mut tail = vec![0; 4 << 20];
        let from = size.saturating_sub(tail.len() as u64);
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut tail, from).unwrap();
        String::from_utf8_lossy(&tail[..read]).into_owned()
    }

    pub(super) fn json_text(&self) -> String {
        fs::read_to_string(self.state().join("log/decnet.json")).unwrap_or_default()
    }

    /// What a command that must succeed prints.
    pub(super) fn run(&self, args: &[&str]) -> String {
        let out = command(self.state()).args(args).output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// Events in the database.
    pub(super) fn stored(&self) -> i64 {
        self.runtime.block_on(self.db.log_count()).unwrap()
    }

    pub(super) fn log_text(&self) -> String {
        fs::read_to_string(self.state().join("log/decnet.log")).unwrap_or_default()
    }

    pub(super) fn wait_for_all(&self, written: &[String], patience: Duration) {
        let wanted = i64::try_from(written.len()).unwrap();
        let deadline = std::time::Instant::now() + patience;
        while self.stored() < wanted {
            assert!(
                std::time::Instant::now() < deadline,
                "{} of {wanted} events stored within {patience:?}; workers said:\n{}",
                self.stored(),
                self.said()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.state().join("workers.log")).unwrap_or_default()
    }

    /// The oracle: every id once in the line files, once in the JSON files, once in the
    /// database, over all rotated copies.
    pub(super) fn assert_exactly_once(&self, written: &[String]) {
        let mut in_log = HashMap::new();
        for line in self.lines("decnet.log") {
            if let Ok(event) = syslog::parse(&line) {
                *in_log.entry(event.eid).or_insert(0) += 1;
            }
        }
        let mut in_json = HashMap::new();
        for line in self.lines("decnet.json") {
            if let Ok(event) = syslog::from_json(&line) {
                *in_json.entry(event.eid).or_insert(0) += 1;
            }
        }
        let mut in_db = HashMap::new();
        let mut last = 0;
        loop {
            let rows = self
                .runtime
                .block_on(self.db.log_after(last, 1000, &Default::default()))
                .unwrap();
            let Some(row) = rows.last() else { break };
            last = row.id;
            for row in rows {
                *in_db.entry(row.event.eid).or_insert(0) += 1;
            }
        }
        for (place, found) in [("line", in_log), ("JSON", in_json), ("database", in_db)] {
            let missing = written.iter().filter(|e| !found.contains_key(*e)).count();
            let doubled = found.values().filter(|n| **n > 1).count();
            assert_eq!(
                (missing, doubled, found.len()),
                (0, 0, written.len()),
                "(missing, doubled, distinct) in the {place} files; workers said:\n{}",
                self.said()
            );
        }
    }

    /// Every line of `name` and its rotated copies.
    fn lines(&self, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.state().join("log")).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            if !file.starts_with(name) {
                continue;
            }
            let mut bytes = Vec::new();
            if file.ends_with(".gz") {
                let out = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
                assert!(out.status.success());
                bytes = out.stdout;
            } else {
                fs::File::open(&path)
                    .unwrap()
                    .read_to_end(&mut bytes)
                    .unwrap();
            }
            // Without its newline a line is unfinished, whatever it looks like.
            let text = String::from_utf8_lossy(&bytes);
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            lines.extend(whole.lines().map(str::to_owned));
        }
        lines
    }

    /// The real program with the real directives; `None` where it is not installed.
    pub(super) fn logrotate(&self) -> Option<Logrotate> {
        let program = [
            "/usr/sbin/logrotate",
            "/sbin/logrotate",
            "/usr/bin/logrotate",
        ]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists())?;
        let log = self.state().join("log");
        fs::create_dir_all(&log).unwrap();
        let config = self.state().join("logrotate.conf");
        fs::write(
            &config,
            format!(
                "{0}/*.log {0}/*.json {{\n daily\n rotate 99\n maxsize 100M\n copytruncate\n compress\n delaycompress\n missingok\n notifempty\n}}\n",
                log.display()
            ),
        )
        .unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        Some(Logrotate {
            program,
            config,
            state: self.state().join("logrotate.state"),
        })
    }
}

pub(super) struct Logrotate {
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
}

impl Logrotate {
    pub(super) fn run(&self) {
        let out = Command::new(&self.program)
            .args(["-f", "-s"])
            .arg(&self.state)
            .arg(&self.config)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicI64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Writers {
    pub(super) fn written(&self) -> i64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends the deckies; returns the ids of everything they wrote.
    pub(super) fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    }
}

pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(u64, u64)>>,
}

impl Flood {
    /// Events and bytes written.
    pub(super) fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(|t| t.join().unwrap());
        ended.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

pub(super) struct Worker {
    name: &'static str,
    child: Child,
}

impl Worker {
    pub(super) fn kill_and_restart(mut self, rig: &Rig) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        rig.spawn(self.name)
    }

    pub(super) fn stop_and_restart(self, rig: &Rig) -> Self {
        let name = self.name;
        self.stop();
        rig.spawn(name)
    }

    /// Processor time used so far.
    pub(super) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
        Duration::from_millis((ticks() + ticks()) * 10)
    }

    /// Asks it to stop and waits for a clean end.
    pub(super) fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let status = wait_for("end of the worker", Duration::from_secs(9), || {
            self.child.try_wait().unwrap()
        });
        // A signal before the handlers stand ends it too.
        assert!(status.success() || status.code().is_none(), "{status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A failed test must not leave processes behind.
        if self.child.try_wait().is_ok_and(|s| s.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// Appends event number `n` of `decky`; returns its id.
pub(super) fn append(spool: &spool::Writer, decky: &str, n: u32) -> String {
    let eid = decnet::decoy::session::new_id();
    spool
        .append(&syslog::write(&event(decky, &eid, n)))
        .unwrap();
    eid
}

fn event(decky: &str, eid: &str, n: u32) -> Event {
    let mut fields = vec![("command".to_owned(), format!("echo \"{n}\" ]\n\u{1b}[0m"))];
    if n.is_multiple_of(5) {
        fields.extend(
            Credential::plaintext(Some("root"), format!("pw{}", n % 50).as_bytes()).fields(),
        );
    }
    Event {
        eid: eid.to_owned(),
        ts: Stamp::now(),
        severity: Severity::Info,
        decky: decky.to_owned(),
        service: "redis".into(),
        kind: "command".into(),
        flow: Some(Flow {
            src: "198.51.100.9:5555".parse().unwrap(),
            dst: "127.77.0.1:6379".parse().unwrap(),
            proto: Proto::Tcp,
            session: decky.to_owned(),
        }),
        fields,
        msg: String::new(),
    }
}
