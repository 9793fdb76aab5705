//! Clients of the redis decoy: redis-cli, nmap, and the real server as the oracle.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use decnet::model::{Family, Service};

use crate::support::{Decky, assert_no_tell, output, wait_for};

fn cli(addr: SocketAddr) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-h", &addr.ip().to_string(), "-p", &addr.port().to_string()]);
    command
}

#[test]
#[ignore = "needs redis-cli; run by make test-clients"]
fn redis_cli_session_is_answered_and_recorded() {
    let decky = Decky::start(&[Service::Redis], |_| {});
    let addr = decky.addr(Service::Redis);
    let say = |args: &[&str]| output(cli(addr).args(args)).trim_end().to_owned();
    assert_eq!(say(&["ping"]), "PONG");
    assert_eq!(say(&["set", "a", "b"]), "OK");
    assert_eq!(say(&["get", "a"]), "b");
    assert_eq!(say(&["config", "set", "dir", "/root/.ssh"]), "OK");
    assert_eq!(
        say(&["config", "set", "dbfilename", "authorized_keys"]),
        "OK"
    );
    assert_eq!(say(&["set", "k", "\n\nssh-ed25519 AAAA me\n\n"]), "OK");
    assert_eq!(say(&["save"]), "OK");
    assert_eq!(say(&["eval", "return redis.call('get','a')", "0"]), "b");
    assert_eq!(say(&["slaveof", "198.51.100.9", "6380"]), "OK");
    assert!(say(&["info", "replication"]).contains("role:slave"));
    let info = say(&["info"]);
    assert!(info.contains(&format!("redis_version:{}\r", decky.persona.redis_version)));
    assert!(info.contains("connected_clients:1\r"));
    assert_no_tell(&info);
    say(&["auth", "hunter2"]);
    let written = decky.event("file_write", &[("path", "/root/.ssh/authorized_keys")]);
    let dump = decky.artifact(written.field("sha256").unwrap());
    assert!(dump.starts_with(b"REDIS00"));
    assert!(dump.windows(12).any(|part| part == b"ssh-ed25519 "));
    decky.event(
        "rogue_master",
        &[("host", "198.51.100.9"), ("port", "6380")],
    );
    decky.event("script", &[("op", "eval")]);
    let auth = decky.event("auth", &[("secret_printable", "hunter2")]);
    assert_eq!(auth.credential().unwrap().secret, b"hunter2");
}

#[test]
#[ignore = "needs redis-cli; run by make test-clients"]
fn redis_cli_scans_every_key_once() {
    let decky = Decky::start(&[Service::Redis], |_| {});
    let addr = decky.addr(Service::Redis);
    let count: usize = output(cli(addr).arg("dbsize")).trim().parse().unwrap();
    let mut keys: Vec<String> = output(cli(addr).arg("--scan"))
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(keys.len(), count);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
    let big = output(cli(addr).arg("--bigkeys"));
    assert!(big.contains(&format!("Sampled {count} keys")), "{big}");
}

#[test]
#[ignore = "needs nmap; run by make test-clients"]
fn nmap_names_the_claimed_version_and_system() {
    for (version, family, kernel, os) in [
        (
            "7.0.15",
            Family::Linux,
            "6.1.0-28-amd64",
            "Linux 6.1.0-28-amd64",
        ),
        (
            "7.0.15",
            Family::Bsd,
            "13.2-RELEASE",
            "FreeBSD 13.2-RELEASE amd64",
        ),
        ("5.0.14.1", Family::WindowsServer, "10.0.17763", "Windows"),
        ("3.0.504", Family::Windows, "10.0.19045", "Windows"),
    ] {
        let decky = Decky::start(&[Service::Redis], |persona| {
            version.clone_into(&mut persona.redis_version);
            persona.family = family;
            kernel.clone_into(&mut persona.kernel);
        });
        let addr = decky.addr(Service::Redis);
        let report = output(
            Command::new("nmap")
                .args(["-Pn", "-n", "-sV", "--script", "redis-info"])
                .args(["-p", &addr.port().to_string(), &addr.ip().to_string()]),
        );
        assert!(report.contains("Redis key-value store"), "{report}");
        assert!(report.contains(version), "{report}");
        assert!(report.contains(os), "no {os} in {report}");
        let all = output(cli(addr).arg("info"));
        let all = format!("{all}{}", output(cli(addr).args(["config", "get", "*"])));
        for word in ["Linux", ":/etc/redis", "/usr/bin", "epoll"] {
            assert!(
                family == Family::Linux || !all.contains(word),
                "{word} in {all}"
            );
        }
        assert_no_tell(&report);
    }
}

/// A real server of the release on the same machine.
struct Real {
    child: Child,
    addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Real {
    fn start() -> Option<Self> {
        let known = Command::new("redis-server").arg("--version").output();
        if !known.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("v=7.0.15")) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let addr = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"])
            .args([
                "--enable-protected-configs",
                "yes",
                "--enable-module-command",
                "yes",
            ])
            .args(["--save", "", "--daemonize", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the real server", || {
            std::net::TcpStream::connect(addr).ok()
        });
        Some(Self {
            child,
            addr,
            _dir: dir,
        })
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
#[ignore = "needs redis-cli and redis-server 7.0.15; run by make test-clients"]
fn answers_are_those_of_the_real_server() {
    let Some(real) = Real::start() else {
        eprintln!("SKIPPED: no redis-server 7.0.15 here to compare with");
        return;
    };
    let decky = Decky::start(&[Service::Redis], |persona| {
        persona.redis_version = "7.0.15".into();
    });
    let script = include_str!("redis.script");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let run = |addr: SocketAddr| {
        let answers = cli(addr)
            .arg("--no-raw")
            .stdin(fs::File::open(file.path()).unwrap())
            .output()
            .unwrap();
        String::from_utf8_lossy(&answers.stdout).into_owned()
    };
    let (ours, theirs) = (run(decky.addr(Service::Redis)), run(real.addr));
    let different: Vec<String> = ours
        .lines()
        .zip(theirs.lines())
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(n, (a, b))| format!("{}: ours {a}\n   real {b}", n + 1))
        .collect();
    assert!(different.is_empty(), "\n{}", different.join("\n"));
    assert_eq!(ours.lines().count(), theirs.lines().count());
}
