//! The webhook worker: the real program, the real bus, a receiver that verifies.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::receiver::Receiver;
use crate::support::{command, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// Processes of one private layout.
struct Host {
    dir: tempfile::TempDir,
    settings: Vec<(&'static str, &'static str)>,
    bus: Child,
    worker: Child,
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.worker, &mut self.bus] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn spawn(dir: &Path, settings: &[(&str, &str)], what: &str) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join(format!("{what}.out")))
        .unwrap();
    command(dir)
        .arg(what)
        .envs(settings.iter().copied())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Host {
    fn new(settings: &[(&'static str, &'static str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The bus's directories are made by whoever installs; here by the first start.
        let bus = spawn(dir.path(), &[], "bus");
        let socket = dir.path().join("run/bus.sock");
        wait_for("bus", PATIENCE, || socket.exists().then_some(()));
        let host = Self {
            worker: spawn(dir.path(), settings, "webhook"),
            dir,
            settings: settings.to_vec(),
            bus,
        };
        host.until_ready();
        host
    }

    fn until_ready(&self) {
        let log = self.dir.path().join("webhook.out");
        wait_for("ready worker", PATIENCE, || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.contains("webhook is ready").then_some(())
        });
    }

    fn run(&self, args: &[&str]) -> (bool, String, String) {
        let out = command(self.dir.path())
            .args(args)
            .envs(self.settings.iter().copied())
            .output()
            .unwrap();
        (
            out.status.success(),
            String::from_utf8(out.stdout).unwrap(),
            String::from_utf8(out.stderr).unwrap(),
        )
    }

    /// Adds a receiver and waits until the worker listens for it. Returns its secret.
    fn add(&self, name: &str, url: &str, patterns: &[&str]) -> String {
        let mut args = vec!["webhook", "add", name, "--url", url];
        for pattern in patterns {
            args.extend(["--pattern", pattern]);
        }
        let (ok, out, err) = self.run(&args);
        assert!(ok, "{err}");
        self.until_status("1 receivers");
        out.trim().to_owned()
    }

    fn until_status(&self, words: &str) {
        let pulse = self.dir.path().join("run/pulse/webhook.json");
        wait_for(words, PATIENCE, || {
            let text = std::fs::read_to_string(&pulse).ok()?;
            text.contains(words).then_some(())
        });
    }

    fn publish(&self, topic: &str, n: usize) {
        let body = format!("{{\"n\":{n},\"decky\":\"web-01\"}}");
        let (ok, _, err) = self.run(&["bus", "publish", topic, &body]);
        assert!(ok, "{err}");
    }

    fn deliveries(&self, name: &str) -> Vec<Value> {
        let (ok, out, err) = self.run(&["webhook", "deliveries", name, "--json"]);
        assert!(ok, "{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn until_seen(&self, name: &str, count: usize) {
        wait_for("deliveries taken down", PATIENCE, || {
            (self.deliveries(name).len() >= count).then_some(())
        });
    }

    fn restart(&mut self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.worker.id()).unwrap());
        kill(pid, signal).unwrap();
        self.worker.wait().unwrap();
        std::fs::remove_file(self.dir.path().join("webhook.out")).unwrap();
        self.worker = spawn(self.dir.path(), &self.settings, "webhook");
        self.until_ready();
    }
}

fn numbers(receiver: &Receiver) -> Vec<u64> {
    let got = receiver.got();
    got.iter()
        .map(|g| g.json()["payload"]["n"].as_u64().unwrap())
        .collect()
}

const PRIVATE: (&str, &str) = ("DECNET_WEBHOOK_ALLOW_PRIVATE", "true");

#[test]
fn every_matching_event_arrives_once_in_order_and_signed() {
    let host = Host::new(&[PRIVATE]);
    let receiver = Receiver::start();
    // Two patterns that both match are one delivery.
    let secret = host.add("soc", &receiver.url(), &["decky.*.state", "decky.>"]);
    for n in 0..5 {
        host.publish("decky.local:web-01.state", n);
        host.publish("attacker.observed", n);
    }
    wait_for("five deliveries", PATIENCE, || {
        (receiver.got().len() >= 5).then_some(())
    });
    assert_eq!(numbers(&receiver), [0, 1, 2, 3, 4]);
    for got in receiver.got() {
        assert!(got.is_signed_with(&secret));
        let body = got.json();
        assert_eq!(body["v"], 1);
        assert_eq!(body["topic"], "decky.local:web-01.state");
        assert_eq!(body["id"], got.headers["webhook-id"].as_str());
        assert_eq!(
            got.headers["x-decnet-event-topic"],
            "decky.local:web-01.state"
        );
    }
    // For a day both secrets sign.
    let (ok, out, err) = host.run(&["webhook", "rotate", "soc"]);
    assert!(ok, "{err}");
    host.publish("decky.local:web-01.state", 5);
    wait_for("a sixth", PATIENCE, || {
        (receiver.got().len() >= 6).then_some(())
    });
    let last = receiver.got().pop().unwrap();
    assert!(last.is_signed_with(&secret) && last.is_signed_with(out.trim()));
}

#[test]
fn an_outage_of_the_receiver_and_a_killed_worker_lose_nothing_that_was_seen() {
    let mut host = Host::new(&[PRIVATE]);
    // A port nobody listens on, until later.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    host.add("soc", &format!("http://{address}/hook"), &[">"]);
    for n in 0..20 {
        host.publish("attacker.observed", n);
    }
    let ours = |host: &Host| {
        let all = host.deliveries("soc");
        all.iter()
            .filter(|d| d["topic"] == "attacker.observed")
            .count()
    };
    wait_for("twenty taken down", PATIENCE, || {
        (ours(&host) >= 20).then_some(())
    });
    host.restart(Signal::SIGKILL);
    let receiver = Receiver::on(TcpListener::bind(address).unwrap());
    let sent = |receiver: &Receiver| -> Vec<u64> {
        let got = receiver.got();
        let ours = got
            .iter()
            .filter(|g| g.json()["topic"] == "attacker.observed");
        ours.map(|g| g.json()["payload"]["n"].as_u64().unwrap())
            .collect()
    };
    // The circuit may be open: the first probe comes within its pause.
    wait_for("all twenty", Duration::from_secs(60), || {
        (sent(&receiver).len() >= 20).then_some(())
    });
    assert_eq!(sent(&receiver), (0..20).collect::<Vec<u64>>());
    host.restart(Signal::SIGTERM);
    host.publish("attacker.observed", 20);
    wait_for("one more", PATIENCE, || {
        (sent(&receiver).len() >= 21).then_some(())
    });
    assert_eq!(
        sent(&receiver),
        (0..=20).collect::<Vec<u64>>(),
        "nothing twice"
    );
}

#[test]
fn a_busy_receiver_is_given_its_time_and_a_stumbling_one_up() {
    let host = Host::new(&[PRIVATE, ("DECNET_WEBHOOK_MAX_ATTEMPTS", "2")]);
    let receiver = Receiver::start();
    host.add("soc", &receiver.url(), &["decky.>"]);
    receiver.will_answer(&[(429, "retry-after: 3\r\n")]);
    host.publish("decky.a.state", 0);
    wait_for("a second attempt", PATIENCE, || {
        (receiver.got().len() >= 2).then_some(())
    });
    let got = receiver.got();
    assert!(got[1].at - got[0].at >= Duration::from_millis(2900));
    assert_eq!(got[0].headers["webhook-id"], got[1].headers["webhook-id"]);
    // Refused for good, stumbled twice, sent elsewhere: each is given up with its reason.
    receiver.will_answer(&[(400, ""), (500, ""), (500, ""), (302, "location: /x\r\n")]);
    for n in 1..=3 {
        host.publish("decky.a.state", n);
    }
    let dead = || {
        let (_, out, _) = host.run(&["webhook", "deliveries", "soc", "--status", "dead", "--json"]);
        let dead: Vec<Value> = serde_json::from_str(&out).unwrap();
        (dead.len() == 3).then_some(dead)
    };
    let dead = wait_for("three given up", PATIENCE, dead);
    assert_eq!(receiver.got().len(), 6, "no redirect was followed");
    let codes: Vec<i64> = dead
        .iter()
        .map(|d| d["status_code"].as_i64().unwrap())
        .collect();
    assert_eq!(codes, [302, 500, 400]);
    let (ok, out, _) = host.run(&["webhook", "replay", "soc"]);
    assert!(ok && out.contains("3 deliveries"), "{out}");
    wait_for("the replay", Duration::from_secs(60), || {
        (receiver.got().len() >= 9).then_some(())
    });
    assert_eq!(numbers(&receiver).split_off(6), [1, 2, 3]);
}

#[test]
fn addresses_inside_are_not_asked_unless_allowed() {
    let host = Host::new(&[]);
    let receiver = Receiver::start();
    let (ok, _, err) = host.run(&[
        "webhook",
        "add",
        "x",
        "--url",
        &receiver.url(),
        "--pattern",
        ">",
    ]);
    assert!(!ok && err.contains("DECNET_WEBHOOK_ALLOW_PRIVATE"), "{err}");
    // A name that leads inside is only known when it is resolved.
    let url = format!("http://localhost:{}/", receiver.address.port());
    host.add("x", &url, &["decky.>"]);
    let (ok, _, err) = host.run(&["webhook", "test", "x"]);
    assert!(
        !ok && err.contains("not an address of the Internet"),
        "{err}"
    );
    host.publish("decky.a.state", 1);
    host.until_seen("x", 1);
    wait_for("given up", PATIENCE, || {
        (host.deliveries("x")[0]["status"] == "dead").then_some(())
    });
    assert!(receiver.got().is_empty());
}

#[test]
fn receivers_come_change_and_go_without_a_restart_and_the_bus_may_too() {
    let mut host = Host::new(&[PRIVATE]);
    let receiver = Receiver::start();
    host.add("soc", &receiver.url(), &["decky.>"]);
    let (ok, out, err) = host.run(&["webhook", "test", "soc"]);
    assert!(ok && out.starts_with("delivered"), "{out}{err}");
    let sample = receiver.got().pop().unwrap().json();
    assert_eq!(sample["topic"], "system.webhook.test");
    host.run(&["webhook", "disable", "soc"]);
    host.until_status("no receivers");
    host.publish("decky.a.state", 1);
    host.run(&["webhook", "enable", "soc"]);
    host.until_status("1 receivers");
    host.bus.kill().unwrap();
    host.bus.wait().unwrap();
    host.bus = spawn(host.dir.path(), &[], "bus");
    // The worker is back when its heartbeat can be heard; each try may come too early.
    wait_for("a delivery over the new bus", PATIENCE, || {
        let (ok, ..) = host.run(&["bus", "publish", "decky.a.state", "{\"n\":2}"]);
        std::thread::sleep(Duration::from_millis(200));
        (ok && receiver.got().len() > 1).then_some(())
    });
    let later = receiver.got().split_off(1);
    assert!(
        later.iter().all(|g| g.json()["payload"]["n"] == 2),
        "none while it was off"
    );
    let (ok, _, err) = host.run(&["webhook", "remove", "soc"]);
    assert!(ok, "{err}");
    host.until_status("no receivers");
    let (ok, _, err) = host.run(&["webhook", "test", "soc"]);
    assert!(!ok && err.contains("webhook list"), "{err}");
}
