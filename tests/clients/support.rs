//! One decky process for one test, and what it recorded.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use decnet::decoy::control::{self, Status};
use decnet::decoy::run::{Spec, spec_path};
use decnet::model::{Event, Service, Stamp, Wish};
use decnet::persona::Persona;
use decnet::syslog;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running decky; dropping it stops the process and removes its directory.
pub(crate) struct Decky {
    pub(crate) persona: Persona,
    dir: tempfile::TempDir,
    child: Child,
    status: Status,
}

impl Decky {
    /// Starts one that offers `services`, with a persona that `shape` may change.
    pub(crate) fn start(services: &[Service], shape: impl FnOnce(&mut Persona)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ip = free_address(services);
        let secret = format!("{}{ip}", std::process::id());
        let mut persona = Persona::derive(
            secret.as_bytes(),
            "decky-01",
            &decnet::persona::Asked::default(),
            Stamp::now(),
        );
        shape(&mut persona);
        let wish = Wish {
            services: services.to_vec(),
            ..Wish::default()
        };
        let spec = Spec::new("decky-01", ip.into(), 1, wish, persona.clone(), 256 << 20);
        fs::write(spec_path(dir.path()), serde_json::to_vec(&spec).unwrap()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_decnet"))
            .arg("decky")
            .arg("--dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let status = wait_for("status of the decky", || {
            assert!(child.try_wait().unwrap().is_none(), "the decky ended");
            block_on(control::status(dir.path()))
        });
        Self {
            persona,
            dir,
            child,
            status,
        }
    }

    /// Where `service` listens.
    pub(crate) fn addr(&self, service: Service) -> SocketAddr {
        self.status
            .listeners
            .iter()
            .find(|l| l.service == service)
            .and_then(|l| l.addr)
            .expect("the service listens")
    }

    /// Its process, for memory and descriptors.
    pub(crate) fn pid(&self) -> u32 {
        self.status.pid
    }

    /// Its directory (spool, artifacts, control socket).
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything recorded so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut found = Vec::new();
        for number in syslog::spool::segments(self.dir()).unwrap() {
            let text = fs::read_to_string(syslog::spool::segment_path(self.dir(), number)).unwrap();
            // A line may be half written; it is whole at the next look.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            found.extend(whole.lines().map(|line| syslog::parse(line).unwrap()));
        }
        found
    }

    /// Waits for an event of `kind` in which every given field has the given value.
    pub(crate) fn event(&self, kind: &str, fields: &[(&str, &str)]) -> Event {
        wait_for(&format!("event {kind} {fields:?}"), || {
            self.events().into_iter().find(|event| {
                event.kind == kind && fields.iter().all(|(k, v)| event.field(k) == Some(*v))
            })
        })
    }

    /// The kept file with this SHA-256.
    pub(crate) fn artifact(&self, sha256: &str) -> Vec<u8> {
        fs::read(self.dir().join("artifacts").join(sha256)).unwrap()
    }
}

impl Drop for Decky {
    fn drop(&mut self) {
        if block_on(control::stop(self.dir.path())).is_ok() {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Looks every 20 ms until `probe` gives something.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a client to its end; gives standard output. Its failure fails the test.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Fails when `text`, what a scanner said, gives the decoy away.
pub(crate) fn assert_no_tell(text: &str) {
    let lower = text.to_lowercase();
    for word in [
        "honeypot",
        "honey",
        "decnet",
        "decky",
        "decoy",
        "dionaea",
        "cowrie",
        "kippo",
        "opencanary",
    ] {
        assert!(!lower.contains(word), "{word} in\n{text}");
    }
}

/// An address of 127.78.0.0/16 on which no port of `services` is taken.
fn free_address(services: &[Service]) -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 60_000).unwrap();
    for _ in 0..500 {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [third, fourth] = number.to_be_bytes();
        let ip = Ipv4Addr::new(127, 78, third, fourth.clamp(1, 254));
        let free = services.iter().all(|service| {
            match TcpListener::bind((ip, service.port())) {
                Ok(_) => true,
                // Without the right to the real port the decky takes the shifted one.
                Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
            }
        });
        if free {
            return ip;
        }
    }
    panic!("no free loopback address");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
