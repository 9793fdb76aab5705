//! The API against its own description: schemathesis sends valid and invalid requests to
//! a running server and compares every answer with `/api/v1/openapi.json`. No answer may
//! be a server error or break what is written.
//!
//! Needs schemathesis (`scripts/install-test-tools.sh` installs it). How long it looks is
//! bounded by a number of examples per operation: `DECNET_TEST_EXAMPLES`, 15 unless told.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop on the first surprise and says why it is skipped"
)]

#[path = "../support/database.rs"]
mod database;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API of its own on a port the kernel chose; dropping it stops it.
struct Server {
    dir: tempfile::TempDir,
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = fs::File::create(dir.path().join("stderr")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_decnet"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DECNET_") {
                command.env_remove(name);
            }
        }
        let child = command
            .arg("--state-dir")
            .arg(dir.path())
            .arg("api")
            .env("DECNET_API_PORT", "0")
            .env("DECNET_DB_URL", database::url(dir.path()))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self {
            dir,
            child,
            url: String::new(),
        };
        let note = server.dir.path().join("run/api.addr");
        let deadline = Instant::now() + PATIENCE;
        while server.url.is_empty() {
            let said = || fs::read_to_string(server.dir.path().join("stderr")).unwrap();
            assert!(server.child.try_wait().unwrap().is_none(), "{}", said());
            assert!(Instant::now() < deadline, "not serving: {}", said());
            if let Ok(address) = fs::read_to_string(&note) {
                server.url = format!("http://{}/api/v1", address.trim());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Sends a request with a JSON body and returns the JSON of a success.
    fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        token: &str,
        body: &str,
    ) -> serde_json::Value {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let reply = runtime.block_on(async {
            let reply = reqwest::Client::new()
                .request(method, format!("{}{path}", self.url))
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {token}"))
                .body(body.to_owned())
                .send()
                .await
                .unwrap();
            assert!(reply.status().is_success(), "{path}: {}", reply.status());
            reply.text().await.unwrap()
        });
        serde_json::from_str(&reply).unwrap_or_default()
    }

    /// An API token of the first administrator, whose password is changed on the way. A
    /// token cannot log itself out or change passwords, so the run does not saw off the
    /// branch it sits on.
    fn token(&self) -> String {
        let post = reqwest::Method::POST;
        let first = fs::read_to_string(self.dir.path().join("admin-password")).unwrap();
        let login = |password: &str| {
            let body = serde_json::json!({"username": "admin", "password": password});
            let reply = self.call(post.clone(), "/auth/login", "", &body.to_string());
            reply["token"].as_str().unwrap().to_owned()
        };
        let chosen = "For-the-Contract-suite-1";
        let session = login(first.trim());
        let body = serde_json::json!({"old_password": first.trim(), "new_password": chosen});
        self.call(
            post.clone(),
            "/auth/change-password",
            &session,
            &body.to_string(),
        );
        let session = login(chosen);
        let body = serde_json::json!({"name": "contract", "role": "admin"});
        let made = self.call(post, "/auth/tokens", &session, &body.to_string());
        made["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has no state worth a clean stop.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The newest one that `scripts/install-test-tools.sh` installed.
fn schemathesis() -> Option<PathBuf> {
    let cache = fs::read_dir("/var/cache/decnet-test").ok()?;
    let mut all: Vec<PathBuf> = cache
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/schemathesis")))
        .filter(|path| path.exists())
        .collect();
    all.sort();
    if all.is_empty() {
        println!("skipped: schemathesis is not installed; run scripts/install-test-tools.sh");
    }
    all.pop()
}

fn run(program: &Path, server: &Server) {
    let settings = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/contract/schemathesis.toml"
    );
    let examples = std::env::var("DECNET_TEST_EXAMPLES").unwrap_or_else(|_| "15".to_owned());
    let ran = Command::new(program)
        .args(["--config-file", settings, "run"])
        .arg(format!("{}/openapi.json", server.url))
        .args(["--checks", "all", "--phases", "examples,coverage,fuzzing"])
        .args(["--seed", "1", "--no-color", "--continue-on-failure"])
        .args(["--max-examples", &examples, "--request-timeout", "30"])
        // Streams do not end; they are tested as a client sees them elsewhere.
        .args(["--exclude-path-regex", "stream$"])
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", server.token()))
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let log = fs::read_to_string(server.dir.path().join("stderr")).unwrap();
    assert!(
        ran.status.success(),
        "{said}\n{}\nthe server said:\n{log}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(!log.contains("panicked"), "{log}");
    let closing = said.lines().rev().find(|l| !l.trim().is_empty());
    println!("{}", closing.unwrap_or_default());
}

#[test]
#[ignore = "needs schemathesis; run by make test-contract"]
fn every_answer_is_as_described() {
    if let Some(program) = schemathesis() {
        run(&program, &Server::start());
    }
}
