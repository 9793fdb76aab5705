//! Deploy, adopt, repair, change, tear down: the real program, real processes on
//! loopback addresses, a private layout per test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;

use crate::support::{command, has_database, wait_for};

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

    /// A deployment file; its path.
    fn file(&self, text: &str) -> String {
        let path = self.dir.path().join("fleet.ini");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
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

/// What is said of a server's database in which nothing was ever stored.
const EMPTY: &str = "has no tables of DECNET yet";

impl Drop for Host {
    fn drop(&mut self) {
        if !has_database(self.dir.path()) {
            return;
        }
        let (code, out, err) = self.run(&["teardown", "--all", "--json", "--timeout", "10"]);
        // A decky left behind would hold its port against the next run. On a server there is
        // a database before anything was deployed.
        assert!(
            code == Some(0) || std::thread::panicking() || err.contains(EMPTY),
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

/// That this connection to a redis decky still is one.
fn ping(held: &mut TcpStream) {
    held.write_all(b"PING\r\n").unwrap();
    let mut reply = [0u8; 7];
    held.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
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
fn whatever_happens_to_one_decky_twenty_others_keep_their_connections() {
    let host = Host::new("127.91.3.0/24");
    let deployed = host.deploy("21", "redis");
    let mut held: Vec<TcpStream> = deployed["deckies"].as_array().unwrap()[..20]
        .iter()
        .map(|decky| {
            let held = TcpStream::connect(address(decky, "redis")).unwrap();
            held.set_read_timeout(Some(PATIENCE)).unwrap();
            held
        })
        .collect();
    let ini = host.file("[decky-21]\nservices = ftp\n[other]\nservices = http\n");
    let steps: [(&str, &[&str]); 4] = [
        ("one changed, one added", &["deploy", "--config", &ini]),
        ("one restarted", &["redeploy", "--id", "decky-21"]),
        ("one removed", &["teardown", "--id", "other"]),
        ("one mutated", &["mutator", "--once", "--decky", "decky-21"]),
    ];
    for (what, arguments) in steps {
        let (code, out, err) = host.run(arguments);
        assert_eq!(code, Some(0), "{what}: {out}{err}");
        for held in &mut held {
            ping(held);
        }
    }
    let deckies = host.deckies();
    assert_eq!(deckies.len(), 21);
    TcpStream::connect(address(&deckies[20], "ftp")).unwrap();
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
        "+ decky-01 127.91.4.1 local http\n+ decky-02 127.91.4.2 local http\n2 to add\n"
    );
    assert!(!host.dir.path().join("decnet.db").exists());
    host.deploy("2", "http");
    let before = host.deckies();
    let ini = host.file(
        "[decky-01]\nip = 127.91.4.9\nservices = ftp\nmutate_interval = 5\n\
         [decky-01.ftp]\nanonymous = no\n[new]\narchetype = web-server\n",
    );
    let (code, out, err) = host.run(&["deploy", "--config", &ini, "--replace", "--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        "~ decky-01 127.91.4.9\n    ip: 127.91.4.1 -> 127.91.4.9\n    services: http -> ftp\n    \
         ftp.anonymous: (none) -> false\n    mutate_interval: (none) -> 5\n\
         + new 127.91.4.3 local web-server http,ftp\n- decky-02 127.91.4.2 local http\n\
         1 to add, 1 to change, 1 to remove\n"
    );
    let (_, out, _) = host.run(&["deploy", "--config", &ini, "--dry-run", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["dry_run"], true);
    assert_eq!(plan["changes"][0]["action"], "replace");
    assert_eq!(plan["changes"][0]["new_persona"], false);
    assert_eq!(plan["changes"][0]["fields"][0]["before"], "127.91.4.1");
    assert_eq!(plan["changes"][1]["wish"]["archetype"], "web-server");
    assert_eq!(host.deckies(), before);
}

#[test]
fn what_cannot_be_deployed_is_said_by_line_and_nothing_is_written() {
    let host = Host::new("127.91.5.0/24");
    let ini =
        host.file("[web]\nservices = http, ssh\narchetype = castle\n[db]\nservices = redis\n");
    let (code, _, err) = host.run(&["deploy", "--config", &ini]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("line 2: service 'ssh' is not available in this version"),
        "{err}"
    );
    assert!(
        err.contains("line 3: archetype = 'castle' is not an archetype; use one of"),
        "{err}"
    );
    let taken =
        host.file("[web]\nservices = http\nip = 127.91.6.1\n[general]\nnet = 127.91.5.0/24\n");
    let (code, _, err) = host.run(&["deploy", "--config", &taken]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("line 3: 127.91.6.1 is not in 127.91.5.0/24"),
        "{err}"
    );
    fs::write(&ini, b"[web]\nservices = \xff\n").unwrap();
    let (code, _, err) = host.run(&["deploy", "--config", &ini]);
    assert_eq!(code, Some(1));
    assert!(err.contains("line 2: not UTF-8"), "{err}");
    let (code, _, err) = host.run(&["deploy", "--config", "/dev/zero"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("larger than 512 KiB"), "{err}");
    assert!(!host.dir.path().join("decnet.db").exists());
    for command in ["teardown", "redeploy"] {
        let (code, _, err) = host.run(&[command, "--id", "nobody"]);
        assert_eq!(code, Some(1));
        assert!(
            err.contains("there is no database") || err.contains(EMPTY),
            "{err}"
        );
    }
}

#[test]
fn flags_of_the_original_say_what_takes_their_place() {
    let host = Host::new("127.91.7.0/24");
    for (flag, word) in [
        (&["--daemon"][..], "reconciler"),
        (&["--no-cache"], "leave it out"),
        (&["--parallel"], "leave it out"),
        (&["--log-file", "x"], "DECNET_INGEST_LOG_FILE"),
        (&["--api-port", "8000"], "DECNET_API_PORT"),
        (&["--mode", "swarm"], "this host only"),
    ] {
        let mut arguments = vec!["deploy", "--services", "http"];
        arguments.extend(flag);
        let (code, _, err) = host.run(&arguments);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(flag[0]) && err.contains(word), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let asked = [
        "deploy",
        "--services",
        "http",
        "--mode",
        "unihost",
        "--dry-run",
    ];
    let (code, out, _) = host.run(&asked);
    assert_eq!((code, out.lines().count()), (Some(0), 2));
    let (code, _, err) = host.run(&["deploy", "-n", "2"]);
    assert_eq!(code, Some(2), "{err}");
    let (code, _, err) = host.run(&["deploy", "--services", "http", "--runtime", "vm"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("use local, native or docker"), "{err}");
}

#[test]
fn an_interface_or_a_network_of_a_lan_means_native_and_reserved_addresses_are_left_alone() {
    let host = Host::new("127.91.14.0/24");
    let lan = [
        "deploy",
        "--services",
        "http",
        "--dry-run",
        "--interface",
        "lo",
        "--subnet",
        "10.99.0.252/30",
        "--gateway",
        "10.99.0.253",
    ];
    let (code, out, err) = host.run(&lan);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "+ decky-01 10.99.0.254 native http\n1 to add\n");
    let (code, _, err) = host.run(&[&lan[..], &["-n", "2"]].concat());
    assert_eq!(code, Some(1));
    assert!(
        err.contains("10.99.0.252/30 has no free address for decky-02"),
        "{err}"
    );
    let (code, _, err) = host.run(&[&lan[..], &["--runtime", "local"]].concat());
    assert_eq!(code, Some(1));
    assert!(err.contains("runtime native or docker"), "{err}");
    let missing = [
        "deploy",
        "--services",
        "http",
        "--interface",
        "nothere0",
        "--subnet",
        "10.99.0.0/24",
    ];
    let (code, _, err) = host.run(&missing);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("nothere0"), "{err}");
    let own = host.file(
        "[general]\nruntime = docker\ndriver = bridge\nnet = 10.99.0.0/24\n\
         [a]\nservices = mine, redis\n[b]\nservices = http\nruntime = local\n\
         [custom-mine]\nbinary = example/mine:1\nports = 8080\n",
    );
    let (code, out, err) = host.run(&["deploy", "--config", &own, "--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        "+ a 10.99.0.2 docker redis,mine\n+ b 127.91.14.1 local http\n2 to add\n"
    );
    assert!(!host.dir.path().join("decnet.db").exists());
}

#[test]
fn a_replacing_deploy_removes_what_is_not_named_and_spares_the_rest() {
    let host = Host::new("127.91.8.0/24");
    let deployed = host.deploy("3", "redis");
    let mut held = TcpStream::connect(address(&deployed["deckies"][1], "redis")).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    let pid = host.pid("decky-02");
    // Its address goes to a new decky, the third gets another one.
    let ini = host.file(
        "[decky-02]\nservices = redis\n[other]\nip = 127.91.8.1\nservices = ftp\n\
         [decky-03]\nip = 127.91.8.77\nservices = redis\n",
    );
    let (code, out, err) = host.run(&["deploy", "--config", &ini, "--replace"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let deckies = host.deckies();
    let names: Vec<&str> = deckies
        .iter()
        .map(|d| d["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["decky-02", "decky-03", "other"]);
    assert_eq!(host.pid("decky-01"), None);
    assert_eq!(host.pid("decky-02"), pid);
    ping(&mut held);
    TcpStream::connect(address(&deckies[2], "ftp")).unwrap();
    assert!(address(&deckies[1], "redis").starts_with("127.91.8.77:"));
    TcpStream::connect(address(&deckies[1], "redis")).unwrap();
}

#[test]
fn a_redeploy_starts_one_decky_anew_and_no_other() {
    let host = Host::new("127.91.9.0/24");
    host.deploy("2", "redis");
    let before = (host.pid("decky-01"), host.pid("decky-02"));
    let (code, out, err) = host.run(&["redeploy", "--id", "decky-02", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["restarted"], serde_json::json!(["decky-02"]));
    assert_eq!(report["deckies"][0]["state"], "running");
    assert_eq!(host.pid("decky-01"), before.0);
    let after = host.pid("decky-02");
    assert!(after.is_some() && after != before.1);
    // What was restarted is still as wanted.
    let again = host.deploy("2", "redis");
    assert_eq!(again["changes"][1]["action"], "keep");
    assert_eq!(host.pid("decky-02"), after);
    let (code, out, _) = host.run(&["redeploy", "--failed"]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(host.pid("decky-02"), after);
    let (code, _, err) = host.run(&["redeploy", "--id", "decky-02", "--id", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no decky called 'nobody'"), "{err}");
    assert_eq!(host.pid("decky-02"), after);
}

#[test]
fn services_drawn_by_lot_stay_and_those_of_another_installation_differ() {
    let drawn = |host: &Host| -> Vec<Value> {
        let deploy = ["deploy", "-n", "6", "--randomize-services", "--json"];
        let (code, out, err) = host.run(&deploy);
        assert_eq!(code, Some(0), "{out}{err}");
        let report: Value = serde_json::from_str(&out).unwrap();
        let deckies = report["deckies"].as_array().unwrap();
        deckies.iter().map(|d| d["services"].clone()).collect()
    };
    let host = Host::new("127.91.10.0/24");
    let first = drawn(&host);
    let pids: Vec<_> = (1..=6).map(|n| host.pid(&format!("decky-0{n}"))).collect();
    assert_eq!(drawn(&host), first);
    let after: Vec<_> = (1..=6).map(|n| host.pid(&format!("decky-0{n}"))).collect();
    assert_eq!(after, pids);
    for services in &first {
        assert!((1..=3).contains(&services.as_array().unwrap().len()));
    }
    // Fifteen ordered sets for each of six deckies: the same by chance once in millions.
    assert_ne!(drawn(&Host::new("127.91.11.0/24")), first);
}

#[test]
fn the_list_of_deckies_fits_a_terminal() {
    let host = Host::new("127.91.12.0/24");
    let ini = host
        .file("[web]\narchetype = web-server\n[box]\nnmap_os = bsd\nservices = redis,http,ftp\n");
    let (code, out, err) = host.run(&["deploy", "--config", &ini]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (_, out, _) = host.run(&["deckies"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.iter().all(|l| l.chars().count() <= 100), "{out}");
    for word in ["RUNTIME", "KIND", "web-server", "bsd", "local"] {
        assert!(out.contains(word), "{word}:\n{out}");
    }
}

#[test]
fn an_interrupted_deploy_says_who_goes_on_and_the_next_one_converges() {
    let host = Host::new("127.91.13.0/24");
    // Nobody converges while the lock is held, so the deploy waits.
    let held = decnet::net::lock::try_take(&host.dir.path().join("run/lock/reconciler.lock"))
        .unwrap()
        .unwrap();
    let deploy = host
        .command()
        .args(["deploy", "-n", "2", "--services", "redis"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It listens for Ctrl-C once the rows are written; before that it would just die.
    let status = format!("/proc/{}/status", deploy.id());
    wait_for("the deploy to listen", PATIENCE, || {
        let text = fs::read_to_string(&status).ok()?;
        let caught = text.lines().find_map(|l| l.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 2 != 0).then_some(())
    });
    Command::new("kill")
        .args(["-INT", &deploy.id().to_string()])
        .status()
        .unwrap();
    let output = deploy.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("the reconciler goes on"), "{err}");
    let waiting = ["deploy", "-n", "2", "--services", "redis", "--timeout", "1"];
    let (code, out, _) = host.run(&waiting);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("0 of 2 deckies running; the rest did not settle in time"),
        "{out}"
    );
    drop(held);
    let report = host.deploy("2", "redis");
    assert_eq!(report["changes"][0]["action"], "keep");
    assert_eq!(report["deckies"][1]["state"], "running");
}
