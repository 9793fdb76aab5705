//! A PostgreSQL server that belongs to one test, which may do to it what it likes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::database;

/// Dropped, it is gone.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    control: String,
}

impl Server {
    /// `None` where the suite runs without PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        if !database::on_server() {
            eprintln!("skipped: it needs a PostgreSQL server; run by make test-postgres");
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(root.join("scripts/with-postgres.sh"))
            .args(["sh", "-c"])
            .arg(r#"echo "$DECNET_TEST_DB_URL"; echo "$DECNET_TEST_PG_CTL"; cat"#)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (url, control) = (line(), line());
        Some(Self {
            child,
            url,
            control,
        })
    }

    /// `start`, `stop -m immediate`, …
    pub(crate) fn control(&self, what: &str) {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("cd / && {} -w {what} >/dev/null", self.control))
            .status();
        assert!(status.unwrap().success(), "pg_ctl {what}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The script ends with its standard input.
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}
