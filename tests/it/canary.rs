//! Canary tokens from being made to being told: the real program, real sockets, a private
//! layout per test.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use decnet::config::Database;
use decnet::db::Db;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fleet::Host;
use crate::support::{command, database, on_server, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);
const ZONE: &str = "cdn.example.test";

/// A private layout with its workers; killed at the end.
struct Lab {
    dir: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
    workers: Vec<Child>,
}

impl Lab {
    fn new(settings: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = [
            ("DECNET_CANARY_HTTP_HOST", "127.0.0.1"),
            ("DECNET_CANARY_HTTP_PORT", "0"),
            ("DECNET_CANARY_DNS_HOST", "127.0.0.1"),
            ("DECNET_CANARY_DNS_PORT", "0"),
            ("DECNET_CANARY_DNS_ZONE", ZONE),
            ("DECNET_CANARY_DNS_ADDRESS", "198.51.100.7"),
        ];
        let settings = own.iter().chain(settings);
        let lab = Self {
            dir,
            settings: settings.map(|(k, v)| (*k, (*v).to_owned())).collect(),
            workers: Vec::new(),
        };
        lab.block_on(async { Db::open(&lab.database()).await.unwrap().close().await });
        lab
    }

    fn database(&self) -> Database {
        database(self.dir.path())
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work)
    }

    fn command(&self) -> Command {
        let mut command = command(self.dir.path());
        command.envs(self.settings.iter().map(|(k, v)| (k, v)));
        command
    }

    fn start(&mut self, worker: &str) -> &mut Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("workers.log"));
        let child = self
            .command()
            .arg(worker)
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.workers.push(child.unwrap());
        self.workers.last_mut().unwrap()
    }

    /// Starts the listener and waits until it serves.
    fn listen(&mut self) {
        let note = self.dir.path().join("run/canary.addr");
        let _gone = fs::remove_file(&note);
        self.start("canary");
        let pulse = self.dir.path().join("run/pulse/canary.json");
        wait_for("listener", PATIENCE, || {
            let told = fs::read_to_string(&note).ok()?;
            let beat = fs::read_to_string(&pulse).ok()?;
            (told.starts_with("http ") && beat.contains("answering")).then_some(())
        });
    }

    fn kill_all(&mut self) {
        for child in &mut self.workers {
            let _killed = child.kill();
            let _reaped = child.wait();
        }
        self.workers.clear();
        let _gone = fs::remove_file(self.dir.path().join("run/pulse/canary.json"));
    }

    fn addr(&self, which: &str) -> SocketAddr {
        let text = fs::read_to_string(self.dir.path().join("run/canary.addr")).unwrap();
        let of = |line: &str| line.strip_prefix(which)?.trim().parse().ok();
        text.lines().find_map(of).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command().args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, Some(0), "{out}{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn make(&self, kind: &str) -> Token {
        Token::of(&self.json(&["canary", "new", kind, "--json"]))
    }

    fn show(&self, token: &Token) -> Value {
        self.json(&["canary", "show", &token.id, "--json"])
    }

    /// The uses of a token once there are so many.
    fn uses(&self, token: &Token, count: i64) -> Vec<Value> {
        wait_for("uses", PATIENCE, || {
            let shown = self.show(token);
            let enough = shown["trigger_count"].as_i64().unwrap() >= count;
            enough.then(|| shown["triggers"].as_array().unwrap().clone())
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill_all();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("workers.log"));
            eprintln!("the workers said:\n{}", log.unwrap_or_default());
        }
    }
}

struct Token {
    id: String,
    slug: String,
    path: String,
}

impl Token {
    fn of(made: &Value) -> Self {
        let url = made["url"].as_str().unwrap();
        let slug = url.rsplit('/').next().unwrap().to_owned();
        Self {
            id: made["id"].as_str().unwrap().to_owned(),
            path: format!("/c/{slug}"),
            slug,
        }
    }
}

/// Sends bytes and reads to the end, or until nothing more comes.
fn exchange(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

fn get(at: SocketAddr, path: &str) -> String {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: files\r\nUser-Agent: reader/1\r\nConnection: close\r\n\r\n"
    );
    exchange(at, head.as_bytes())
}

/// A question for a name's address, with EDNS.
fn question(name: &str) -> Vec<u8> {
    let mut packet = vec![0x5a, 0xa5, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, 1, 0, 1, 0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    packet
}

fn ask_udp(at: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(packet, at).unwrap();
    let mut reply = [0; 1024];
    let (len, _) = socket.recv_from(&mut reply).unwrap();
    reply[..len].to_vec()
}

fn ask_tcp(at: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let len = u16::try_from(packet.len()).unwrap();
    stream.write_all(&len.to_be_bytes()).unwrap();
    stream.write_all(packet).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut reply).unwrap();
    reply
}

#[test]
fn whoever_asks_by_whatever_method_and_path_is_recorded() {
    let mut lab = Lab::new(&[]);
    let token = lab.make("web_bug");
    lab.listen();
    let http = lab.addr("http");
    let path = &token.path;
    let picture = get(http, path);
    assert!(picture.starts_with("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: "));
    assert!(picture.contains("GIF89a"), "{picture}");
    let head = format!("HEAD {path}/a/b?c=d HTTP/1.0\r\n\r\n");
    let head = exchange(http, head.as_bytes());
    assert!(
        head.contains("Content-Length: 43\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let post = format!(
        "POST {path}/form HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nX-Forwarded-For: 203.0.113.1\r\nConnection: close\r\n\r\nuser=anna"
    );
    let post = exchange(http, post.as_bytes());
    assert!(post.starts_with("HTTP/1.1 405 Not Allowed\r\n"), "{post}");
    get(http, &path.to_uppercase().replace("/C/", "/c/"));
    let uses = lab.uses(&token, 4);
    let of = |method: &str| uses.iter().find(|u| u["method"] == method).unwrap();
    assert_eq!(of("HEAD")["path"], format!("{path}/a/b?c=d"));
    assert_eq!(of("POST")["body"], "user=anna");
    assert_eq!(of("POST")["attacker_ip"], "127.0.0.1", "nobody is trusted");
    assert_eq!(of("GET")["user_agent"], "reader/1");
    assert_eq!(uses.len(), 4);
}

#[test]
fn whoever_has_no_token_meets_an_ordinary_server_and_leaves_no_trace() {
    let mut lab = Lab::new(&[]);
    let token = lab.make("web_bug");
    lab.listen();
    let http = lab.addr("http");
    let other = token.slug.replace(|c: char| c.is_ascii_digit(), "a");
    for (path, status) in [
        ("/", "403 Forbidden"),
        ("/index.php", "404 Not Found"),
        (&format!("/c/{}a", token.slug), "404 Not Found"),
        (&format!("/x/{other}"), "404 Not Found"),
    ] {
        let reply = get(http, path);
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{reply}"
        );
        let page = format!("<center><h1>{status}</h1></center>\r\n<hr><center>nginx</center>");
        assert!(reply.contains(&page), "{reply}");
        let lower = reply.to_ascii_lowercase();
        assert!(!lower.contains("decnet") && !lower.contains("canary"));
    }
    for bad in [
        "\r\n\r\nget / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        let reply = exchange(http, bad.as_bytes());
        assert!(
            reply.starts_with("HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n"),
            "{reply}"
        );
    }
    let put = exchange(
        http,
        b"PUT /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(put.starts_with("HTTP/1.1 405 Not Allowed\r\n"), "{put}");
    get(http, &token.path);
    assert_eq!(lab.uses(&token, 1).len(), 1);
}

#[test]
fn questions_for_a_tokens_name_are_recorded_over_udp_and_tcp() {
    let mut lab = Lab::new(&[]);
    let token = lab.make("dns_name");
    lab.listen();
    let dns = lab.addr("dns");
    let mixed = format!("AnnA.{}.CdN.eXample.TEST", token.slug.to_uppercase());
    let packet = question(&mixed);
    for reply in [ask_udp(dns, &packet), ask_tcp(dns, &packet)] {
        assert_eq!(reply[..2], packet[..2]);
        assert_eq!(reply[3] & 0xf, 0, "no error");
        // The question comes back letter by letter.
        let asked = packet.len() - 11;
        assert_eq!(reply[12..asked], packet[12..asked]);
        assert!(reply.windows(4).any(|part| part == [198, 51, 100, 7]));
    }
    let missing = ask_udp(dns, &question(&format!("www.{ZONE}")));
    assert_eq!(missing[3] & 0xf, 3, "no such name");
    let elsewhere = ask_udp(dns, &question("www.example.org"));
    assert_eq!(elsewhere[3] & 0xf, 5, "refused");
    let uses = lab.uses(&token, 2);
    assert_eq!(uses.len(), 1, "the same within a while");
    assert_eq!(uses[0]["path"], format!("anna.{}.{ZONE}", token.slug));
    assert_eq!(uses[0]["resolver"], "127.0.0.1");
    assert_eq!(uses[0]["via"], "dns");
}

#[test]
fn the_same_use_counts_up_and_a_proxy_is_believed_when_trusted() {
    let mut lab = Lab::new(&[("DECNET_CANARY_TRUSTED_PROXIES", "127.0.0.0/8")]);
    let token = lab.make("web_bug");
    lab.listen();
    let http = lab.addr("http");
    for _ in 0..5 {
        get(http, &token.path);
    }
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, 203.0.113.77\r\nConnection: close\r\n\r\n",
        token.path
    );
    exchange(http, head.as_bytes());
    let uses = lab.uses(&token, 6);
    assert_eq!(uses.len(), 2);
    assert_eq!(uses[0]["attacker_ip"], "203.0.113.77");
    assert_eq!(uses[0]["resolver"], "127.0.0.1");
    assert_eq!(uses[1]["count"], 5);
}

#[test]
fn a_use_survives_a_database_that_is_away_and_a_kill() {
    if on_server() {
        eprintln!("skipped: it is the database's file that is held, and a server has none");
        return;
    }
    let mut lab = Lab::new(&[]);
    let token = lab.make("web_bug");
    lab.listen();
    let http = lab.addr("http");
    let listener = Pid::from_raw(i32::try_from(lab.workers[0].id()).unwrap());
    lab.block_on(async {
        let options =
            sqlx::sqlite::SqliteConnectOptions::new().filename(lab.database().path().unwrap());
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let mut held = pool.acquire().await.unwrap();
        let begun = sqlx::query("begin immediate").execute(&mut *held).await;
        begun.unwrap();
        let path = token.path.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let one = |n| get(http, &format!("{path}/{n}"));
            (0..3).map(one).collect::<Vec<_>>()
        });
        for reply in asking.await.unwrap() {
            assert!(reply.contains("GIF89a"), "answered at once: {reply}");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        // It still waits for the database.
        kill(listener, Signal::SIGKILL).unwrap();
        let ended = sqlx::query("rollback").execute(&mut *held).await;
        ended.unwrap();
        drop(held);
        pool.close().await;
    });
    assert_eq!(lab.show(&token)["trigger_count"], 0);
    lab.kill_all();
    lab.listen();
    let uses = lab.uses(&token, 3);
    assert_eq!(uses.len(), 3, "each once");
}

#[test]
fn whoever_used_a_token_is_an_attacker_with_an_event() {
    let mut lab = Lab::new(&[]);
    let token = lab.make("web_bug");
    for worker in ["collector", "ingester"] {
        lab.start(worker);
    }
    lab.listen();
    get(lab.addr("http"), &token.path);
    let uses = lab.uses(&token, 1);
    let (code, out, err) = wait_for("event", PATIENCE, || {
        let ran = lab.run(&["logs", "--service", "canary", "--json"]);
        ran.1.contains("canary_triggered").then_some(ran)
    });
    assert_eq!(code, Some(0), "{err}");
    let event: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(event["eid"], uses[0]["id"], "{event}");
    assert_eq!(event["fields"]["token"], token.id, "{event}");
    lab.block_on(async {
        let db = Db::open(&lab.database()).await.unwrap();
        let known = db.attacker_get("127.0.0.1").await.unwrap();
        assert!(known.is_some(), "the attacker has a row");
        db.close().await;
    });
}

#[test]
fn a_token_made_while_the_listener_runs_is_known_at_once() {
    let mut lab = Lab::new(&[]);
    lab.start("bus");
    wait_for("bus", PATIENCE, || {
        lab.dir.path().join("run/bus.sock").exists().then_some(())
    });
    lab.listen();
    // The subscription is of the worker's first moments.
    std::thread::sleep(Duration::from_millis(300));
    let token = lab.make("web_bug");
    wait_for("a picture", Duration::from_secs(10), || {
        get(lab.addr("http"), &token.path)
            .contains("GIF89a")
            .then_some(())
    });
    assert!(!lab.uses(&token, 1).is_empty());
}

#[test]
fn a_tokens_files_lie_on_the_decky_until_it_is_revoked_and_it_still_tells() {
    let host = Host::new("127.77.81.0/24");
    host.deploy("1", "ftp");
    let say = |arguments: &[&str]| -> Value {
        let (code, out, err) = host.run(arguments);
        assert_eq!(code, Some(0), "{out}{err}");
        serde_json::from_str(&out).unwrap()
    };
    let path = "/srv/backup/env.txt";
    let made = say(&[
        "canary", "new", "env_file", "--decky", "decky-01", "--path", path, "--json",
    ]);
    assert_eq!(made["state"], "planted", "{made}");
    assert_eq!(made["planted"][0], path);
    let stat = say(&["io", "decky-01", "stat", path, "--json"]);
    assert_eq!(stat["owner"], "root");
    let now = decnet::model::Stamp::now();
    let age = now.0 - stat["mtime"].as_i64().unwrap_or_default();
    assert!(age > 3_600_000_000, "it is not of today: {stat}");
    let id = made["id"].as_str().unwrap();
    let revoked = say(&["canary", "revoke", id, "--json"]);
    assert_eq!(revoked["state"], "revoked", "{revoked}");
    assert_eq!(revoked["last_error"], Value::Null);
    let (code, _, err) = host.run(&["io", "decky-01", "stat", path]);
    assert_eq!(code, Some(1), "{err}");
    // Somebody kept a copy.
    let mut listener = Listener::start(&host);
    let token = Token::of(&made);
    get(listener.addr(host.dir.path()), &token.path);
    wait_for("use", PATIENCE, || {
        (say(&["canary", "show", id, "--json"])["trigger_count"] == 1).then_some(())
    });
    listener.0.kill().unwrap();
    listener.0.wait().unwrap();
    // A decky that is away: the row says why.
    let (code, _, err) = host.run(&["canary", "new", "env_file", "--decky", "decky-77"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no decky called 'decky-77'"), "{err}");
}

struct Listener(Child);

impl Listener {
    fn start(host: &Host) -> Self {
        let child = host
            .command()
            .arg("canary")
            .env("DECNET_CANARY_HTTP_HOST", "127.0.0.1")
            .env("DECNET_CANARY_HTTP_PORT", "0")
            .spawn();
        Self(child.unwrap())
    }

    fn addr(&mut self, state: &Path) -> SocketAddr {
        let pulse = state.join("run/pulse/canary.json");
        wait_for("listener", PATIENCE, || {
            let beat = fs::read_to_string(&pulse).ok()?;
            let told = fs::read_to_string(state.join("run/canary.addr")).ok()?;
            let ready = beat.contains("answering");
            let line = told.lines().find_map(|l| l.strip_prefix("http "));
            ready.then(|| line?.parse().ok()).flatten()
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn files_for_a_real_machine_are_written_once_and_call() {
    let lab = Lab::new(&[("DECNET_CANARY_HTTP_BASE", "https://files.example.test")]);
    let made = lab.json(&["canary", "new", "web_bug", "--memo", "share", "--json"]);
    let url = made["url"].as_str().unwrap();
    assert!(url.starts_with("https://files.example.test/c/"), "{url}");
    let out = lab.dir.path().join("bait");
    let out = out.to_str().unwrap();
    let id = made["id"].as_str().unwrap();
    let files = lab.json(&["canary", "download", id, "--out", out, "--json"]);
    let first = files[0]["file"].as_str().unwrap();
    assert!(fs::read_to_string(first).unwrap().contains(url));
    let (code, _, err) = lab.run(&["canary", "download", id, "--out", out]);
    assert_eq!(code, Some(1), "never over a file");
    assert!(err.contains(first), "{err}");
    let own = lab.dir.path().join("plan.txt");
    fs::write(&own, "look at {{URL}}").unwrap();
    let upload = [
        "canary",
        "new",
        "upload",
        "--from",
        own.to_str().unwrap(),
        "--json",
    ];
    let upload = lab.json(&upload);
    assert_eq!(upload["blob"].as_str().unwrap().len(), 64);
    let kinds = lab.json(&["canary", "kinds", "--json"]);
    assert!(kinds.as_array().unwrap().len() > 15);
    let listed = lab.json(&["canary", "list", "--kind", "upload", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let lab = Lab::new(&[]);
    let output = lab
        .command()
        .arg("canary")
        .env("DECNET_CANARY_HTTP_PORT", &port)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&port) && said.contains("DECNET_CANARY_HTTP_PORT"),
        "{said}"
    );
}

#[test]
fn over_tls_it_is_the_same_and_plain_http_is_told_so() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mut lab = Lab::new(&[("DECNET_CANARY_TLS_PORT", &port)]);
    let token = lab.make("web_bug");
    lab.listen();
    let https = lab.addr("https");
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let url = format!("https://{https}{}", token.path);
    let status = lab.block_on(async {
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .unwrap();
        client.get(url).send().await.unwrap().status()
    });
    assert_eq!(status.as_u16(), 200);
    assert_eq!(lab.uses(&token, 1)[0]["via"], "https");
    let told = exchange(https, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        told.contains("The plain HTTP request was sent to HTTPS port"),
        "{told}"
    );
}
