//! The database on a server: what is said when it cannot be used. Nothing is done here where
//! there is no server (see `scripts/with-postgres.sh`).

use std::time::Duration;

use crate::support::{Server, command, database, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a command says on its standard error, with that database.
fn said(url: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path())
        .args(arguments)
        .env("DECNET_DB_URL", url)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("hunter2"), "{text}");
    text
}

#[test]
fn a_server_that_cannot_be_used_is_named_with_what_to_do() {
    let Some(server) = Server::start() else {
        return;
    };
    let wrong = server.url.replace("throw-away", "hunter2");
    for arguments in [
        &["logs"][..],
        &["deploy", "-n", "1", "--services", "redis"],
        &["user", "list"],
    ] {
        let text = said(&wrong, arguments);
        assert!(
            text.contains("check the password in DECNET_DB_URL"),
            "{text}"
        );
    }
    let text = said(&wrong, &["doctor"]);
    assert!(
        text.contains("check the password in DECNET_DB_URL"),
        "{text}"
    );
    let nowhere = server.url.replace("decnet_test", "nowhere");
    let text = said(&nowhere, &["logs"]);
    assert!(text.contains("make the database first: createdb"), "{text}");
    let text = said(&server.url, &["logs"]);
    assert!(text.contains("has no tables of DECNET yet"), "{text}");
    server.control("stop -m immediate");
    let text = said(&server.url, &["logs"]);
    assert!(text.contains("cannot be reached"), "{text}");
    assert!(text.contains("refused"), "the reason: {text}");
    let text = said(&server.url, &["doctor"]);
    assert!(text.contains("cannot be reached"), "{text}");
    let text = said("postgres://u:hunter2@h/d?sslmode=never", &["status"]);
    assert!(text.contains("DECNET_DB_URL"), "{text}");
    server.control("start");
}

#[test]
fn a_worker_waits_for_a_server_that_starts_later_than_it() {
    let Some(server) = Server::start() else {
        return;
    };
    server.control("stop -m fast");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stderr");
    let mut worker = command(dir.path())
        .arg("ingester")
        .env("DECNET_DB_URL", &server.url)
        .env("DECNET_BUS_ENABLED", "false")
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap();
    wait_for("word of waiting", PATIENCE, || {
        read().contains("waiting: ").then_some(())
    });
    server.control("start");
    wait_for("ready worker", PATIENCE, || {
        read().contains("ingester is ready").then_some(())
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
    let text = read();
    assert!(!text.contains("throw-away"), "{text}");
}

#[test]
fn the_password_may_lie_in_a_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    if database(dir.path()).path().is_some() {
        return;
    }
    let file = dir.path().join("url");
    std::fs::write(&file, "postgres://u:hunter2@127.0.0.1:1/d\n").unwrap();
    let output = command(dir.path())
        .args(["config", "show"])
        .env_remove("DECNET_DB_URL")
        .env("DECNET_DB_URL_FILE", &file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|l| l.contains("DECNET_DB_URL"));
    assert!(line.is_some_and(|l| l.contains("***")), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
