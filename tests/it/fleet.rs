//! Deploy, adopt, repair, change, tear down: the real program, real processes on
//! loopback addresses, a private layout per test.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;

use crate::support::{command, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A layout with its own loopback network; everything in it is stopped at the end.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    subnet: &'static str,
}

impl Host {
    pub(crate) fn new(subnet: &'static str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            subnet,
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = command(self.dir.path());
        command
            .env("DECNET_LOCAL_SUBNET", self.subnet)
            .env("DECNET_RECONCILE_INTERVAL_SEC", "1")
            .env("DECNET_BUS_ENABLED", "false");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command().args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    pub(crate) fn deploy(&self, count: &str, services: &str) -> Value {
        let (code, out, err) = self.run(&["deploy", "-n", count, "--services", services, "--json"]);
        assert_eq!(code, Some(0), "{out}{err}");
        serde_json::from_str(&out).unwrap()
    }

    pub(crate) fn deckies(&self) -> Vec<Value> {
        let (code, out, err) = self.run(&["deckies", "--json"]);
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).unwrap()
    }

    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let path = self.dir.path().join("run/deckies").join(name).join("pid");
        let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        Path::new("/proc")
            .join(pid.to_string())
            .exists()
            .then_some(pid)
    }

    pub(crate) fn reconciler(&self) -> Reconciler {
        let child = self.command().arg("reconciler").spawn().unwrap();
        Reconciler(child)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.dir.path().join("decnet.db").exists() {
            return;
        }
        let (code, out, err) = self.run(&["teardown", "--all", "--json", "--timeout", "10"]);
        // A decky left behind would hold its port against the next run.
        assert!(
            code == Some(0) || std::thread::panicking(),
            "teardown: {out}{err}"
        );
    }
}

pub(crate) struct Reconciler(Child);

impl Drop for Reconciler {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(crate) fn address(decky: &Value, service: &str) -> String {
    decky["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["service"] == service)
        .and_then(|l| l["addr"].as_str())
        .unwrap()
        .to_owned()
}

#[test]
fn a_deploy_without_a_reconciler_converges_by_itself_and_twice_is_once() {
    let host = Host::new("127.91.1.0/24");
    let first = host.deploy("2", "redis,ftp");
    let deckies = first["deckies"].as_array().unwrap();
    assert_eq!(deckies.len(), 2);
    assert_ne!(deckies[0]["ip"], deckies[1]["ip"]);
    for decky in deckies {
        TcpStream::connect(address(decky, "redis")).unwrap();
        TcpStream::connect(address(decky, "ftp")).unwrap();
    }
    let pids = (host.pid("decky-01"), host.pid("decky-02"));
    let second = host.deploy("2", "redis,ftp");
    assert!(
        second["changes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["action"] == "keep")
    );
    assert_eq!(pids, (host.pid("decky-01"), host.pid("decky-02")));
    let (code, _, err) = host.run(&["teardown", "--all"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(host.deckies().is_empty());
    assert_eq!(host.pid("decky-01"), None);
}

#[test]
fn a_reconciler_adopts_what_runs_and_replaces_what_dies() {
    let host = Host::new("127.91.2.0/24");
    host.deploy("1", "redis");
    let pid = host.pid("decky-01").unwrap();
    let first = host.reconciler();
    wait_for("pulse of the reconciler", PATIENCE, || {
        let text = fs::read_to_string(host.dir.path().join("run/pulse/reconciler.json")).ok()?;
        text.contains("1 running").then_some(())
    });
    assert_eq!(host.pid("decky-01"), Some(pid), "adopted, not restarted");
    drop(first);
    assert_eq!(
        host.pid("decky-01"),
        Some(pid),
        "a decky outlives its reconciler"
    );
    let _second = host.reconciler();
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    let next = wait_for("a new process", PATIENCE, || {
        host.pid("decky-01").filter(|p| *p != pid)
    });
    assert_ne!(next, pid);
    wait_for("the decky to answer again", PATIENCE, || {
        let decky = host.deckies().into_iter().next()?;
        TcpStream::connect(address(&decky, "redis")).ok()
    });
}

#[test]
fn changing_one_decky_leaves_the_others_connections_open() {
    use std::io::{Read, Write};
    let host = Host::new("127.91.3.0/24");
    let deployed = host.deploy("2", "redis");
    let mut held = TcpStream::connect(address(&deployed["deckies"][0], "redis")).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    let ini = host.dir.path().join("fleet.ini");
    fs::write(&ini, "[decky-02]\nservices = ftp\n").unwrap();
    let (code, out, err) = host.run(&["deploy", "--config", ini.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{err}");
    let deckies = host.deckies();
    assert_eq!(deckies[1]["services"], serde_json::json!(["ftp"]));
    TcpStream::connect(address(&deckies[1], "ftp")).unwrap();
    held.write_all(b"PING\r\n").unwrap();
    let mut reply = [0u8; 5];
    held.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG");
}

#[test]
fn one_pass_by_hand_says_what_it_did_and_steps_back_for_the_worker() {
    let host = Host::new("127.91.6.0/24");
    host.deploy("1", "redis");
    let pid = host.pid("decky-01").unwrap();
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    let (code, out, err) = host.run(&["reconciler", "--once"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "inserted=1 deleted=0 state_updated=0\n");
    let _worker = host.reconciler();
    wait_for("the worker's pulse", PATIENCE, || {
        host.dir
            .path()
            .join("run/pulse/reconciler.json")
            .exists()
            .then_some(())
    });
    let (code, _, err) = host.run(&["reconciler", "--once"]);
    assert_eq!(code, Some(69), "{err}");
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let host = Host::new("127.91.4.0/24");
    let (code, out, _) = host.run(&["deploy", "-n", "2", "--services", "http", "--dry-run"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "+ decky-01 127.91.4.1 http\n+ decky-02 127.91.4.2 http\n"
    );
    assert!(!host.dir.path().join("decnet.db").exists());
}

#[test]
fn what_cannot_be_deployed_is_said_by_line_and_nothing_is_written() {
    let host = Host::new("127.91.5.0/24");
    let ini = host.dir.path().join("fleet.ini");
    fs::write(
        &ini,
        "[web]\nservices = http, ssh\narchetype = printer\n[db]\nservices = redis\n",
    )
    .unwrap();
    let (code, _, err) = host.run(&["deploy", "--config", ini.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("line 2: service 'ssh' is not available in this version"),
        "{err}"
    );
    assert!(
        err.contains("line 3: 'archetype' is not available"),
        "{err}"
    );
    assert!(!host.dir.path().join("decnet.db").exists());
    let (code, _, err) = host.run(&["teardown", "--id", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no database"), "{err}");
}
