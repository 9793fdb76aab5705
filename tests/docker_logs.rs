//! What the operator's own containers print, followed through a real engine of the
//! test's own: whoever is killed, restarted or rotated, every line the engine kept is in
//! the event log exactly once. Needs root, dockerd and a static busybox.
#![expect(clippy::unwrap_used, reason = "a test may stop on the first surprise")]

#[path = "it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "most of it is for the integration suite"
)]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use decnet::model::Event;
use decnet::syslog;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use support::{command, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Prints numbered lines on both streams, and goes on counting when it is started again.
const SCRIPT: &str = "
[ -f /n ] && read i </n || i=0
while [ $i -lt LAST ]; do
    i=$((i+1)); echo $i >/n
    echo \"out $i\"
    [ $((i%10)) = 0 ] && { echo \"err $i\" >&2; usleep 60000; }
done
echo done";

/// An engine of our own, with nothing of the host's.
struct Engine {
    dir: PathBuf,
    child: Child,
    /// Label of the installation that the containers belong to.
    home: String,
}

/// The label that says whose a container is.
fn home(state: &Path) -> String {
    format!("decnet.fleet.home={}", state.join("run/deckies").display())
}

impl Engine {
    fn start(dir: &Path, home: String) -> Self {
        fs::create_dir_all(dir).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let child = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("-p")
            .arg(dir.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", dir.join("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self {
            dir: dir.to_owned(),
            child,
            home,
        };
        wait_for("the engine", PATIENCE, || {
            engine.try_docker(&["version"]).ok()
        });
        engine
    }

    fn try_docker(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new("docker")
            .env("DOCKER_CONFIG", &self.dir)
            .arg("-H")
            .arg(format!("unix://{}", self.dir.join("docker.sock").display()))
            .args(args)
            .output()
            .unwrap();
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    fn docker(&self, args: &[&str]) -> String {
        self.try_docker(args)
            .unwrap_or_else(|e| panic!("docker {args:?}: {e}"))
    }

    fn import(&self) {
        let root = self.dir.join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "usleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let tar = self.dir.join("root.tar");
        let made = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status();
        assert!(made.unwrap().success());
        self.docker(&["import", tar.to_str().unwrap(), "numbers"]);
    }

    fn run(&self, service: &str, last: u32) -> String {
        let name = format!("decnet.fleet.service_name={service}");
        let script = SCRIPT.replace("LAST", &last.to_string());
        self.docker(&[
            "run",
            "-d",
            "--network",
            "none",
            "--log-driver",
            "json-file",
            "--log-opt",
            "max-size=10k",
            "--log-opt",
            "max-file=20",
            "--label",
            "decnet.fleet.service=true",
            "--label",
            "decnet.fleet.decky=web-01",
            "--label",
            &self.home,
            "--label",
            &name,
            "numbers",
            "/bin/sh",
            "-c",
            &script,
        ])
    }

    fn restart(mut self) -> Self {
        self.stop();
        Self::start(&self.dir.clone(), self.home.clone())
    }

    fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        wait_for("the engine's end", PATIENCE, || {
            self.child.try_wait().unwrap()
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|s| s.is_some()) {
            return;
        }
        if let Ok(ids) = self.try_docker(&["ps", "-aq"]) {
            for id in ids.lines() {
                if let Err(error) = self.try_docker(&["rm", "-f", id]) {
                    eprintln!("{error}");
                }
            }
        }
        self.stop();
    }
}

struct Collector {
    state: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Collector {
    fn start(state: &Path, socket: &Path) -> Self {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(state.join("said"))
            .unwrap();
        let child = command(state)
            .arg("collector")
            .env("DECNET_BUS_ENABLED", "false")
            .env("DECNET_DOCKER_SOCKET", socket)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            state: state.to_owned(),
            socket: socket.to_owned(),
            child,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn kill_and_restart(mut self) -> Self {
        self.kill();
        Self::start(&self.state.clone(), &self.socket.clone())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|s| s.is_none()) {
            self.kill();
        }
    }
}

fn events(state: &Path) -> Vec<Event> {
    let text = fs::read_to_string(state.join("log/decnet.log")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| syslog::parse(line).unwrap())
        .collect()
}

/// How often each line of `service` came.
fn counts(events: &[Event], service: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|e| e.service == service) {
        assert_eq!(
            (event.decky.as_str(), event.kind.as_str()),
            ("web-01", "output")
        );
        *counts
            .entry(event.field("line").unwrap().to_owned())
            .or_insert(0) += 1;
    }
    counts
}

fn expected(last: u32) -> BTreeMap<String, usize> {
    let out = (1..=last).map(|n| (format!("out {n}"), 1));
    let err = (1..=last)
        .filter(|n| n % 10 == 0)
        .map(|n| (format!("err {n}"), 1));
    out.chain(err).chain([("done".to_owned(), 1)]).collect()
}

fn assert_same(found: &BTreeMap<String, usize>, expected: &BTreeMap<String, usize>, state: &Path) {
    let missing: Vec<_> = expected
        .keys()
        .filter(|k| !found.contains_key(*k))
        .collect();
    let wrong: Vec<_> = found
        .iter()
        .filter(|(k, n)| expected.get(*k) != Some(n))
        .collect();
    let said = fs::read_to_string(state.join("said")).unwrap_or_default();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "{} missing: {missing:?}; {} too often or strange: {wrong:?}; the collector said:\n{said}",
        missing.len(),
        wrong.len()
    );
}

fn ready() -> bool {
    let lacking = if !nix::unistd::geteuid().is_root() {
        "needs root"
    } else if Command::new("dockerd").arg("--version").output().is_err() {
        "dockerd is not installed"
    } else if !Path::new("/bin/busybox").exists() {
        "busybox-static is not installed"
    } else {
        return true;
    };
    eprintln!("skipped: docker-logs: {lacking}");
    false
}

#[test]
#[ignore = "needs root and dockerd; `make test-docker`"]
fn every_line_of_a_container_comes_once_whoever_is_killed() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    fs::create_dir(&state).unwrap();
    let engine_dir = dir.path().join("e");
    let socket = engine_dir.join("docker.sock");
    // No engine yet: a silent wait.
    let mut collector = Collector::start(&state, &socket);
    let mut engine = Engine::start(&engine_dir, home(&state));
    engine.import();

    // The collector is killed at random, the engine rotates every hundred lines.
    let first = engine.run("numbers-1", 1500);
    let mut rng = StdRng::seed_from_u64(0xdec3);
    let mut kills = 0;
    while engine.docker(&["inspect", "-f", "{{.State.Running}}", &first]) == "true" {
        std::thread::park_timeout(Duration::from_millis(rng.random_range(50..1200)));
        collector = collector.kill_and_restart();
        kills += 1;
    }
    assert!(kills > 5, "{kills}");
    let so_far = |service: &str| counts(&events(&state), service);
    wait_for("the last line", PATIENCE, || {
        so_far("numbers-1").get("done").copied()
    });
    assert_same(&so_far("numbers-1"), &expected(1500), &state);

    // Made anew: another id, counted from 1 again.
    engine.docker(&["rm", "-f", &first]);
    let second = engine.run("numbers-2", 1000);
    wait_for("lines of the new one", PATIENCE, || {
        so_far("numbers-2").get("out 300").copied()
    });
    // The engine goes and takes its containers along; what it had logged is the truth.
    engine = engine.restart();
    engine.docker(&["start", &second]);
    wait_for("the end of the new one", PATIENCE, || {
        so_far("numbers-2").get("done").copied()
    });
    let found = so_far("numbers-2");
    let kept = engine.docker(&["logs", &second]);
    // It says so again when it is started after its end.
    let dones = kept.lines().filter(|line| *line == "done").count();
    let times = |line: &str| if line == "done" { dones } else { 1 };
    let doubled: Vec<_> = (found.iter())
        .filter(|(line, n)| **n > times(line))
        .collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    let missing: Vec<_> = kept
        .lines()
        .filter(|line| !found.contains_key(*line))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // A line on its way when the engine was stopped is the engine's loss.
    assert!(found.len() + 5 >= expected(1000).len(), "{}", found.len());
    drop(collector);
    drop(engine);
    let said = fs::read_to_string(state.join("said")).unwrap();
    let complaints = said
        .lines()
        .filter(|l| l.contains("WARN") || l.contains("ERROR"))
        .count();
    assert!(complaints <= 3, "{said}");
}

#[test]
#[ignore = "needs root and dockerd; `make test-docker`"]
fn lines_in_our_form_become_events_of_their_decky_and_long_ones_are_cut() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    fs::create_dir(&state).unwrap();
    let engine = Engine::start(&dir.path().join("e"), home(&state));
    engine.import();
    let line = "<134>1 2026-04-17T10:22:56.000000Z other-decky x - login [relay@55555 eid=\"A\" principal=\"root\"]";
    let script = format!(
        "echo '{line}'; echo '{line}'; i=0; while [ $i -lt 3000 ]; do echo -n 0123456789abcdef; i=$((i+1)); done; echo; printf 'a\\033[0mb\\n'; printf end"
    );
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--label",
        "decnet.fleet.service=true",
        "--label",
        "decnet.fleet.decky=web-01",
        "--label",
        &engine.home,
        "--label",
        "decnet.fleet.service_name=form",
        "numbers",
        "/bin/sh",
        "-c",
        &script,
    ]);
    // Of another installation that shares the engine.
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--label",
        "decnet.fleet.service=true",
        "--label",
        "decnet.fleet.decky=web-01",
        "--label",
        "decnet.fleet.home=/elsewhere",
        "--label",
        "decnet.fleet.service_name=stranger",
        "numbers",
        "/bin/sh",
        "-c",
        "echo not for us",
    ]);
    let collector = Collector::start(&state, &dir.path().join("e/docker.sock"));
    wait_for("the last line", PATIENCE, || {
        fs::read_to_string(state.join("log/decnet.log"))
            .ok()
            .filter(|t| t.contains("\"end\""))
    });
    let found = events(&state);
    drop(collector);
    assert_eq!(found.len(), 5, "{found:?}");
    let logins: Vec<_> = found.iter().filter(|e| e.kind == "login").collect();
    assert_eq!(logins.len(), 2);
    // Two lines are two events, and neither speaks for another decky.
    assert_ne!(logins[0].eid, logins[1].eid);
    assert!(
        found
            .iter()
            .all(|e| e.decky == "web-01" && e.service == "form")
    );
    let lines: Vec<_> = found.iter().filter_map(|e| e.field("line")).collect();
    assert_eq!(lines[0].len(), 16 * 1024);
    assert_eq!(&lines[1..], ["a\u{1b}[0mb", "end"]);
    drop(engine);
}
