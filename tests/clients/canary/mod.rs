//! What is planted, used by the programs it is meant for: each must call back. The
//! listener here only records; names are asked of a name server of ours, which programs
//! see in a mount namespace (root).

mod browser;
mod credentials;
mod documents;
mod listener;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use decnet::canary::{self, Base, File, Kind, Place, Slug};
use decnet::model::Stamp;

use self::listener::Listener;

/// The slug of every test; each has a listener of its own.
const SLUG: &str = "mzxw6ytboiydcmrtgq2tmnzyhe";
/// The zone below which names are made.
const ZONE: &str = "cdn.example.org";

/// A thing planted below a temporary directory, which is its root.
struct Planted {
    root: tempfile::TempDir,
    files: Vec<File>,
    listener: Listener,
}

impl Planted {
    fn new(kind: Kind, seed: u64) -> Self {
        let listener = Listener::start();
        let files = canary::make(
            kind,
            &slug(),
            &base(&listener),
            &place(),
            seed,
            Stamp::now(),
        );
        Self::write(files.unwrap(), listener)
    }

    fn write(files: Vec<File>, listener: Listener) -> Self {
        let root = tempfile::tempdir().unwrap();
        for file in &files {
            let path = below(root.path(), &file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).unwrap();
        }
        Self {
            root,
            files,
            listener,
        }
    }

    /// Where the file ended up whose path ends like this.
    fn path(&self, end: &str) -> PathBuf {
        let file = self.files.iter().find(|f| f.path.ends_with(end));
        below(self.root.path(), &file.expect(end).path)
    }

    fn text(&self, end: &str) -> String {
        fs::read_to_string(self.path(end)).unwrap()
    }

    fn home(&self) -> PathBuf {
        below(self.root.path(), place().home)
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn slug() -> Slug {
    Slug::parse(SLUG).unwrap()
}

fn base(listener: &Listener) -> Base {
    Base {
        http: format!("http://{}", listener.addr),
        dns_zone: Some(ZONE.to_owned()),
    }
}

fn place() -> Place<'static> {
    Place {
        hostname: "web01",
        domain: "northgate.internal",
        user: "jbauer",
        home: "/home/jbauer",
        uid: 0,
        company: "northgate",
        windows: false,
    }
}

/// The name that calls back.
fn host() -> String {
    format!("{SLUG}.{ZONE}")
}

/// Whether `program` is there; says so when it is not.
fn available(program: &str) -> bool {
    let found = Command::new("which").arg(program).output();
    let found = found.is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
