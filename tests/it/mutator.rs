//! Hosts that change over time: the real program, real deckies, a private layout per
//! test.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use decnet::config::Database;
use serde_json::Value;
use sqlx::{ConnectOptions, Executor};

use crate::fleet::{Host, address};
use crate::support::{database, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

fn services(decky: &Value) -> BTreeSet<String> {
    decky["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap().to_owned())
        .collect()
}

fn spool(state: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(state.join("run/deckies/_mutator")).unwrap() {
        text.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    text
}

/// The identity of the event in a line of the spool.
fn eid(line: &str) -> &str {
    let (_, rest) = line.split_once("eid=\"").unwrap();
    rest.split('"').next().unwrap()
}

#[test]
fn a_requested_change_moves_one_port_and_leaves_a_marker() {
    let host = Host::new("127.77.71.0/24");
    host.deploy("2", "http");
    let before = host.deckies();
    let held = TcpStream::connect(address(&before[1], "http")).unwrap();
    let pid = host.pid("decky-01");
    let (code, out, err) = host.run(&["mutator", "--once", "--decky", "decky-01", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let changes: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(changes[0]["status"], "applied", "{changes}");
    let after = host.deckies();
    assert_eq!(services(&after[0]).len(), 2, "one port more");
    assert!(services(&after[0]).contains("http"), "its purpose stays");
    assert_eq!(services(&after[1]), services(&before[1]));
    assert_eq!(host.pid("decky-01"), pid, "a port needs no restart");
    // The same deploy once more undoes nothing.
    host.deploy("2", "http");
    assert_eq!(services(&host.deckies()[0]), services(&after[0]));
    let marker = spool(host.dir.path());
    assert_eq!(marker.lines().count(), 1, "{marker}");
    assert!(
        marker.contains(" decky-01 mutator - decky_mutated ")
            && marker.contains(r#"old_services="http""#)
            && marker.contains(r#"trigger="operator""#),
        "{marker}"
    );
    // Nobody else noticed.
    held.set_nonblocking(true).unwrap();
    let peeked = held.peek(&mut [0]).map_err(|e| e.kind());
    assert_eq!(peeked, Err(std::io::ErrorKind::WouldBlock), "still open");
}

#[test]
fn what_the_runtime_refuses_is_taken_back() {
    let host = Host::new("127.77.72.0/24");
    host.deploy("1", "http");
    // Every port that another service could take, real and shifted.
    let _taken: Vec<_> = [21, 6379, 10_021, 16_379]
        .into_iter()
        .filter_map(|port| TcpListener::bind(("127.77.72.1", port)).ok())
        .collect();
    let (code, out, err) = host.run(&["mutator", "--once", "--decky", "decky-01"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("failed"), "{out}");
    let deckies = wait_for("the old wish", PATIENCE, || {
        let (code, _, err) = host.run(&["reconciler", "--once"]);
        assert_eq!(code, Some(0), "{err}");
        let deckies = host.deckies();
        (deckies[0]["state"] == "running").then_some(deckies)
    });
    assert_eq!(services(&deckies[0]), BTreeSet::from(["http".to_owned()]));
    assert!(
        !host.dir.path().join("run/deckies/_mutator").exists(),
        "what did not happen leaves no marker"
    );
}

#[test]
fn the_worker_does_what_is_due_and_nothing_twice() {
    let host = Host::new("127.77.73.0/24");
    host.deploy("1", "http");
    let _reconciler = host.reconciler();
    // The row says when it changed last; the default would be tomorrow.
    let mut worker = host
        .command()
        .arg("mutator")
        .env("DECNET_MUTATE_INTERVAL_MIN", "1")
        .spawn()
        .unwrap();
    age(database(host.dir.path()));
    wait_for("a scheduled change", PATIENCE, || {
        fs::exists(host.dir.path().join("run/deckies/_mutator"))
            .unwrap()
            .then(|| spool(host.dir.path()))
            .filter(|text| text.contains(r#"trigger="scheduled""#))
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(spool(host.dir.path()).lines().count(), 1);
    // The kill may fall between the marker and its settling, which the next look catches
    // up with; the marker it writes again is the same event.
    host.run(&["mutator", "--once"]);
    let text = spool(host.dir.path());
    let events: BTreeSet<_> = text.lines().map(eid).collect();
    assert_eq!(events.len(), 1, "{text}");
    let (code, out, err) = host.run(&["mutator", "--once"]);
    assert_eq!((code, out.trim()), (Some(0), "nothing was due"), "{err}");
}

/// Makes the last change of every decky an old one.
fn age(database: Database) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sql = "update deckies set mutated_at = mutated_at - 300000000";
        match database {
            Database::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new()
                    .filename(path)
                    .busy_timeout(Duration::from_secs(5));
                let mut connection = options.connect().await.unwrap();
                connection.execute(sql).await.unwrap();
            }
            Database::Postgres(server) => {
                let mut connection = server.connect().await.unwrap();
                connection.execute(sql).await.unwrap();
            }
        }
    });
}

#[test]
fn an_unknown_decky_is_named() {
    let host = Host::new("127.77.74.0/24");
    host.deploy("1", "http");
    let (code, out, err) = host.run(&["mutator", "--once", "--decky", "nobody"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("no decky called 'nobody'"), "{err}");
}
