//! Clients of the canary listener: dig, curl, openssl, git.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{assert_no_tell, output, wait_for};

const ZONE: &str = "cdn.example.test";

/// A listener with one token that was made before it started.
struct Listener {
    dir: tempfile::TempDir,
    child: Child,
    tls: u16,
    tokens: Vec<Value>,
}

impl Listener {
    fn start(kinds: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = free.local_addr().unwrap().port();
        drop(free);
        let command = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_decnet"));
            command
                .arg("--state-dir")
                .arg(dir.path())
                .env("DECNET_BUS_ENABLED", "false")
                .env("DECNET_CANARY_HTTP_HOST", "127.0.0.1")
                .env("DECNET_CANARY_HTTP_PORT", "0")
                .env("DECNET_CANARY_TLS_PORT", tls.to_string())
                .env("DECNET_CANARY_DNS_HOST", "127.0.0.1")
                .env("DECNET_CANARY_DNS_PORT", "0")
                .env("DECNET_CANARY_DNS_ZONE", ZONE)
                .env("DECNET_CANARY_DNS_ADDRESS", "198.51.100.7")
                .arg("canary");
            command
        };
        // The first start makes the database.
        let addr = dir.path().join("run/canary.addr");
        let ready = || {
            let pulse = fs::read_to_string(dir.path().join("run/pulse/canary.json")).ok()?;
            (addr.exists() && pulse.contains("answering")).then_some(())
        };
        let mut first = command().spawn().unwrap();
        wait_for("first start", ready);
        first.kill().unwrap();
        first.wait().unwrap();
        fs::remove_file(&addr).unwrap();
        let tokens = kinds.iter().map(|kind| {
            let made = output(command().args(["new", kind, "--json"]));
            serde_json::from_str(&made).unwrap()
        });
        let tokens = tokens.collect();
        let child = command().stdin(Stdio::null()).spawn().unwrap();
        wait_for("listener", ready);
        Self {
            dir,
            child,
            tls,
            tokens,
        }
    }

    fn addr(&self, which: &str) -> SocketAddr {
        let text = fs::read_to_string(self.dir.path().join("run/canary.addr")).unwrap();
        let of = |line: &str| line.strip_prefix(which)?.trim().parse().ok();
        text.lines().find_map(of).unwrap()
    }

    fn slug(&self, nth: usize) -> &str {
        self.tokens[nth]["url"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
    }

    fn dig(&self, args: &[&str]) -> String {
        let port = self.addr("dns").port().to_string();
        let mut dig = Command::new("dig");
        dig.args([
            "@127.0.0.1",
            "-p",
            &port,
            "+tries=1",
            "+time=3",
            "+norecurse",
        ]);
        let said = output(dig.args(args));
        for bad in [
            "MALFORMED",
            "WARNING",
            "mismatch",
            "extra bytes",
            "bad packet",
        ] {
            assert!(!said.contains(bad), "{said}");
        }
        assert_no_tell(&said);
        said
    }

    fn uses(&self, nth: usize, count: i64) -> Value {
        let id = self.tokens[nth]["id"].as_str().unwrap();
        wait_for("uses", || {
            let mut show = Command::new(env!("CARGO_BIN_EXE_decnet"));
            show.arg("--state-dir")
                .arg(self.dir.path())
                .args(["canary", "show", id, "--json"]);
            let shown: Value = serde_json::from_str(&output(&mut show)).unwrap();
            (shown["trigger_count"].as_i64().unwrap() >= count).then_some(shown)
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
#[ignore = "needs dig; run by make test-clients"]
fn dig_finds_an_ordinary_zone() {
    let listener = Listener::start(&["dns_name"]);
    let name = format!("Anna.{}.{ZONE}", listener.slug(0).to_uppercase());
    for extra in [
        &["+noedns"][..],
        &["+edns=0"],
        &["+dnssec"],
        &["+tcp"],
        &["+subnet=203.0.113.0/24"],
    ] {
        let mut args = vec![name.as_str(), "A"];
        args.extend(extra);
        let said = listener.dig(&args);
        assert!(said.contains("status: NOERROR"), "{said}");
        assert!(said.contains("flags: qr aa;"), "{said}");
        // The letters are those of the question.
        assert!(said.contains(&format!("{name}.")), "{said}");
        assert!(said.contains("198.51.100.7"), "{said}");
    }
    let soa = listener.dig(&[ZONE, "SOA"]);
    assert!(
        soa.contains(&format!("ns1.{ZONE}. hostmaster.{ZONE}.")),
        "{soa}"
    );
    let ns = listener.dig(&[ZONE, "NS"]);
    assert!(
        ns.contains("ANSWER: 2") && ns.contains(&format!("ns2.{ZONE}.")),
        "{ns}"
    );
    let six = listener.dig(&[&name, "AAAA"]);
    assert!(
        six.contains("status: NOERROR") && six.contains("AUTHORITY: 1"),
        "{six}"
    );
    let missing = listener.dig(&[&format!("www.{ZONE}"), "A"]);
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("AUTHORITY: 1"));
    assert!(
        listener
            .dig(&["example.org", "A"])
            .contains("status: REFUSED")
    );
    assert!(
        listener
            .dig(&["version.bind", "CH", "TXT"])
            .contains("status: REFUSED")
    );
    assert!(
        listener
            .dig(&["+edns=1", "+noednsnegotiation", &name, "A"])
            .contains("BADVERS")
    );
    let shown = listener.uses(0, 6);
    assert_eq!(shown["triggers"][0]["path"], name.to_lowercase());
    assert!(shown.to_string().contains("203.0.113.0/24"), "{shown}");
}

#[test]
#[ignore = "needs curl and openssl; run by make test-clients"]
fn curl_and_openssl_meet_an_ordinary_web_server() {
    let listener = Listener::start(&["web_bug"]);
    let (http, slug) = (listener.addr("http"), listener.slug(0));
    let said = output(
        Command::new("curl")
            .args(["-sS", "-i", &format!("http://{http}/c/{slug}")])
            .arg("--output")
            .arg("-"),
    );
    assert!(
        said.starts_with("HTTP/1.1 200 OK\r\nServer: nginx\r\n"),
        "{said}"
    );
    assert_no_tell(&said);
    // Two requests over one connection, the second with a body in chunks.
    let twice = output(Command::new("curl").args([
        "-sS",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{num_connects}\n",
        "-H",
        "Transfer-Encoding: chunked",
        "-d",
        "user=anna",
        "-H",
        "Expect: 100-continue",
        &format!("http://{http}/c/{slug}/1"),
        &format!("http://{http}/c/{slug}/2"),
    ]));
    assert_eq!(twice, "405 1\n405 0\n");
    let tls = format!("127.0.0.1:{}", listener.tls);
    let shake = output(Command::new("openssl").args(["s_client", "-connect", &tls, "-brief"]));
    assert_no_tell(&shake);
    let secure =
        output(Command::new("curl").args(["-sSk", "-i", &format!("https://{tls}/nothing")]));
    assert!(
        secure.starts_with("HTTP/1.1 404 Not Found\r\nServer: nginx\r\n"),
        "{secure}"
    );
    let wrong = output(Command::new("curl").args(["-sS", &format!("http://{tls}/")]));
    assert!(
        wrong.contains("The plain HTTP request was sent to HTTPS port"),
        "{wrong}"
    );
    let shown = listener.uses(0, 3);
    assert!(
        shown["triggers"].to_string().contains("user=anna"),
        "{shown}"
    );
}

#[test]
#[ignore = "needs git; run by make test-clients"]
fn git_is_asked_for_a_password_and_gives_it() {
    let listener = Listener::start(&["git_config"]);
    let (http, slug) = (listener.addr("http"), listener.slug(0));
    let url = format!("http://ann:s3cret@{http}/c/{slug}/repo.git");
    let ran = Command::new("git")
        .args(["ls-remote", &url])
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    assert!(!ran.status.success());
    assert_no_tell(&String::from_utf8_lossy(&ran.stderr));
    let shown = listener.uses(0, 2);
    // ann:s3cret
    assert!(
        shown.to_string().contains("Basic YW5uOnMzY3JldA=="),
        "{shown}"
    );
}
