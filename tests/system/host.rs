//! A Debian root of a test's own: copied from the pristine one, booted in a container
//! with its own network, entered with nsenter, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    /// stdout and stderr, in the order they came.
    pub(crate) text: String,
}

impl Said {
    /// The text, or a panic that shows it.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.text);
        self.text
    }
}

/// A container root.
pub(crate) struct Host {
    root: tempfile::TempDir,
    /// The container manager and the container's init, once booted.
    booted: Option<(Child, u32)>,
    failures: Vec<String>,
}

impl Host {
    /// A fresh copy of the pristine root, not booted.
    pub(crate) fn new() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/pristine-root.sh");
        let made = Command::new(script).output().unwrap();
        let told = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "no pristine root: {told}");
        let pristine = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        // Beside the pristine root: on the same file system a copy may share its blocks.
        let root = tempfile::Builder::new()
            .prefix(".copy-")
            .tempdir_in(Path::new(&pristine).parent().unwrap())
            .unwrap();
        let copied = Command::new("cp")
            .args(["-a", "--reflink=auto", &format!("{pristine}/.")])
            .arg(root.path())
            .status()
            .unwrap();
        assert!(copied.success(), "copying {pristine}");
        // A known id: otherwise the first boot would apply presets to everything.
        fs::write(
            root.path().join("etc/machine-id"),
            "0123456789abcdef0123456789abcdef\n",
        )
        .unwrap();
        Self {
            root,
            booted: None,
            failures: Vec::new(),
        }
    }

    /// [`Host::new`] and [`Host::boot`].
    pub(crate) fn booted() -> Self {
        let mut host = Self::new();
        host.boot();
        host
    }

    /// Boots the root; returns when the service manager has settled.
    pub(crate) fn boot(&mut self) {
        let console = fs::File::create(self.root.path().with_extension("console")).unwrap();
        let name = format!("decnet-test-{}", std::process::id());
        let mut manager = Command::new("systemd-nspawn")
            .arg("--directory")
            .arg(self.root.path())
            .args(["--machine", &name, "--boot", "--quiet"])
            .args(["--register=no", "--keep-unit", "--private-network"])
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", manager.id());
        let began = Instant::now();
        loop {
            if let Some(status) = manager.try_wait().unwrap() {
                panic!("the container did not start: {status}\n{}", self.console());
            }
            let mut said = String::new();
            // The manager's first children only prepare the way; ask whoever is there now.
            let found = fs::read_to_string(&children).unwrap_or_default();
            if let Some(init) = found.split_whitespace().next() {
                self.booted = Some((manager, init.parse().unwrap()));
                // Before the service manager has its socket the question fails at once;
                // afterwards it waits. "degraded" is an answer too: what failed is looked
                // at by the tests.
                said = self.sh("systemctl is-system-running --wait").text;
                if ["running", "degraded"].contains(&said.trim()) {
                    return;
                }
                manager = self.booted.take().unwrap().0;
            }
            if began.elapsed() > Duration::from_secs(120) {
                let console = self.console();
                manager.kill().unwrap();
                panic!("not up: {said}\n{console}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.root.path().with_extension("console")).unwrap_or_default()
    }

    /// The root directory as this side sees it.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    /// Lays a file into the root.
    pub(crate) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs a shell line inside, as root: in the container, or chrooted before it boots.
    pub(crate) fn sh(&self, line: &str) -> Said {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "180"]);
        match &self.booted {
            Some((_, init)) => command.args(["nsenter", "--all", "--target", &init.to_string()]),
            None => command.arg("chroot").arg(self.root.path()),
        };
        command.args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args([
            "HOME=/root",
            "LANG=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.args(["SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"]);
        // One stream, so that the order is what a person would have seen.
        command.args(["/bin/sh", "-c", &format!("exec 2>&1\ncd /root\n{line}")]);
        said(&mut command)
    }

    /// Runs a program of this side inside the container's network.
    pub(crate) fn in_network(&self, line: &str) -> Said {
        let (_, init) = self.booted.as_ref().expect("booted");
        let mut command = Command::new("timeout");
        command.args(["20", "nsenter", "--net", "--target", &init.to_string()]);
        command.args(["/bin/sh", "-c", &format!("exec 2>&1\n{line}")]);
        said(&mut command)
    }

    /// Does `work` on a thread inside the container's network; what that starts is there
    /// as well.
    pub(crate) fn within_network(&mut self, work: impl FnOnce(&mut Self) + Send) {
        let (_, init) = self.booted.as_ref().expect("booted");
        let network = fs::File::open(format!("/proc/{init}/ns/net")).unwrap();
        let enter = || {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work(self);
        };
        std::thread::scope(|scope| scope.spawn(enter).join()).unwrap();
    }

    /// Asks until `line` succeeds, at most `patience` long; panics with its last words.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, patience: Duration, line: &str) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let said = self.sh(line);
            if said.code == 0 {
                return said.text;
            }
            assert!(
                Instant::now() < deadline,
                "no {what} within {patience:?}: {}",
                said.text
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One step of a life: a panic inside is kept for the end and the walk goes on.
    /// Returns whether it went well.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce(&Self)) -> bool {
        let started = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self)));
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("  ok    {name} ({seconds:.1} s)"),
            Err(_) => {
                println!("  FAIL  {name} ({seconds:.1} s)");
                self.failures.push(name.to_owned());
                return false;
            }
        }
        true
    }

    /// Ends the walk: the test fails when a step did.
    #[track_caller]
    pub(crate) fn finish(self) {
        assert!(self.failures.is_empty(), "failed: {:?}", self.failures);
    }
}

fn said(command: &mut Command) -> Said {
    let out = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: out.status.code().unwrap_or(-1),
        text: String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr),
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((manager, init)) = &mut self.booted {
            // Killing a container's init takes everything in it along.
            for pid in [*init, manager.id()] {
                match Command::new("kill")
                    .args(["-KILL", &pid.to_string()])
                    .output()
                {
                    Ok(_) => {}
                    Err(error) => println!("killing {pid}: {error}"),
                }
            }
            match manager.wait() {
                Ok(_) => {}
                Err(error) => println!("waiting for the container: {error}"),
            }
        }
        // What lies beside the root: its console, and the container manager's lock.
        let root = self.root.path();
        let lock = format!(".#{}.lck", root.file_name().unwrap_or_default().display());
        for path in [root.with_extension("console"), root.with_file_name(lock)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    println!("removing {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}
