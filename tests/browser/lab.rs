//! One installation for one test: everything in one process with local deckies, as
//! `decnet up` gives it to somebody who tries it out.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use crate::browser::PATIENCE;

/// What the first administrator's password is changed to.
pub(crate) const PASSWORD: &str = "For-the-Browser-suite-1";

/// A running installation; dropping it stops it.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    child: Child,
    /// Where the dashboard is.
    pub(crate) url: String,
}

impl Lab {
    /// Starts one with `deckies` local deckies; `settings` are added to its environment.
    pub(crate) fn start(deckies: usize, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = fs::File::create(dir.path().join("said")).unwrap();
        // Its own part of the loopback network: suites run side by side.
        let subnet = format!(
            "127.{}.{}.0/24",
            100 + rand::random::<u8>() % 100,
            rand::random::<u8>()
        );
        let mut command = command(dir.path());
        command
            .args(["up", "--deckies", &deckies.to_string()])
            .env("DECNET_API_PORT", "0")
            .env("DECNET_WEB_PORT", "0")
            .env("DECNET_CANARY_HTTP_PORT", "0")
            .env("DECNET_CANARY_DNS_PORT", "0")
            .env("DECNET_LOCAL_SUBNET", subnet)
            .env("DECNET_LOG_LEVEL", "info")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        let mut lab = Self {
            dir,
            child,
            url: String::new(),
        };
        let address = lab.until("the dashboard", |lab| lab.note("web.addr"));
        lab.url = format!("http://{address}");
        if deckies > 0 {
            lab.until("deckies", |lab| {
                (lab.deckies().len() == deckies).then_some(())
            });
        }
        lab
    }

    /// What a worker noted about its address below the run directory.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.dir.path().join("run").join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    }

    /// Looks until `probe` gives something.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it wrote on its terminal.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    /// The first administrator's password.
    pub(crate) fn first_password(&self) -> String {
        let path = self.dir.path().join("admin-password");
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// Runs a command of ours against this installation and returns what it printed.
    #[track_caller]
    pub(crate) fn decnet(&self, args: &[&str]) -> String {
        let ran = command(self.dir.path()).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let complained = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{args:?}: {said}{complained}");
        said
    }

    /// Name and address of every decky that runs, with its services' addresses.
    pub(crate) fn deckies(&self) -> Vec<(String, Vec<(String, SocketAddr)>)> {
        let text = self.decnet(&["deckies", "--json"]);
        let rows: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let running = |row: &&serde_json::Value| row["state"] == "running";
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.iter()
            .filter(running)
            .map(|row| {
                let listeners = row["listeners"].as_array().cloned().unwrap_or_default();
                let services = listeners
                    .iter()
                    .filter_map(|l| {
                        let service = l["service"].as_str()?.to_owned();
                        Some((service, l["addr"].as_str()?.parse().ok()?))
                    })
                    .collect();
                (
                    row["name"].as_str().unwrap_or_default().to_owned(),
                    services,
                )
            })
            .collect()
    }

    /// Where the first decky offers `service`.
    #[track_caller]
    pub(crate) fn service(&self, service: &str) -> SocketAddr {
        let all = self.deckies();
        let mut found = all
            .iter()
            .flat_map(|(_, s)| s)
            .filter(|(s, _)| s == service);
        found
            .next()
            .unwrap_or_else(|| panic!("no {service} in {all:?}"))
            .1
    }

    /// The id of some session that is on record.
    pub(crate) fn a_session(&self) -> String {
        self.until("a session", |lab| {
            let text = lab.decnet(&["logs", "--json", "--kind", "command"]);
            let line = text.lines().last()?;
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(event["fields"]["session"].as_str()?.to_owned())
        })
    }

    /// Adds an account that need not change its password first.
    pub(crate) fn viewer(&self) -> (&'static str, &'static str) {
        let (name, password) = ("vera", "Looks-but-does-not-touch-7");
        let mut adding = command(self.dir.path());
        adding.args(["user", "add", name, "--role", "viewer", "--stdin"]);
        let mut child = adding
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        use std::io::Write;
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{password}").unwrap();
        drop(stdin);
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        (name, password)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _asked = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn command(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decnet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DECNET_") {
            command.env_remove(name);
        }
    }
    command.arg("--state-dir").arg(state);
    command
}

/// Sends `bytes` to `address` from `source` and reads until the peer closes or is silent.
pub(crate) fn talk(source: IpAddr, address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream: std::net::TcpStream = socket.into();
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n]);
    }
    answer
}
