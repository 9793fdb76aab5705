//! Lists as files: ordered, carried out, taken, and what becomes of them when something is
//! in the way.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use axum::http::{StatusCode, header};
use decnet::db::job::JobRow;
use decnet::model::job::{JobKind, JobStatus};
use decnet::model::{Credential, Event, SecretKind, Stamp};
use serde_json::{Value, json};

use super::{TestApi, event};
use crate::support;

const EXPORTS: &str = "/api/v1/exports";

impl TestApi {
    /// Orders an export and waits until it is over.
    async fn export(&self, token: &str, order: &Value) -> Value {
        let reply = self.post(EXPORTS, token, order).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
        let job = &reply.body["job"];
        assert_eq!(job["kind"], "export");
        self.job(&job["id"], token).await
    }

    /// What an export of that order writes.
    async fn exported(&self, token: &str, order: &Value) -> String {
        let job = self.export(token, order).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["done"], job["total"], "{job}");
        let path = file_of(&job);
        let (headers, bytes) = self.get_bytes(&path, token).await;
        let head = |name| headers[name].to_str().unwrap();
        assert_eq!(head(header::CONTENT_LENGTH), bytes.len().to_string());
        assert_eq!(job["file"]["size_bytes"], bytes.len());
        assert_eq!(head(header::CACHE_CONTROL), "no-store");
        let name = job["file"]["name"].as_str().unwrap();
        let day = job["created_at"].as_str().unwrap().get(..10).unwrap();
        let (what, format) = (&order["what"], &order["format"]);
        let expected = format!(
            "{}-{day}.{}",
            what.as_str().unwrap(),
            format.as_str().unwrap()
        );
        assert_eq!(name, expected);
        let sent = head(header::CONTENT_DISPOSITION);
        assert_eq!(sent, format!("attachment; filename=\"{name}\""));
        String::from_utf8(bytes).unwrap()
    }

    fn exports(&self) -> PathBuf {
        self.dir.path().join("exports")
    }
}

fn file_of(job: &Value) -> String {
    format!("/api/v1/jobs/{}/file", job["id"].as_str().unwrap())
}

/// The cells of a file as a spreadsheet reads them.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(!quoted && row.is_empty() && cell.is_empty(), "cut off");
    rows
}

#[tokio::test]
async fn every_list_in_every_format_is_a_file_of_all_its_rows() {
    let api = TestApi::new().await;
    let (_address, _server) = api.serve().await;
    let token = api.viewer().await;
    api.store(0..2100).await;
    api.store_from(0..3, |n| format!("203.0.113.{n}")).await;
    let order = |what: &str, format: &str| json!({"what": what, "format": format});

    let text = api.exported(&token, &order("events", "jsonl")).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2103);
    let listed = api.get("/api/v1/logs?limit=1000", &token).await.body;
    let listed = listed["items"].as_array().unwrap();
    for (line, item) in lines.iter().zip(listed) {
        assert_eq!(*line, item.to_string());
    }
    let ids = lines.iter().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["id"].as_i64().unwrap()
    });
    let ids: Vec<i64> = ids.collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "each once, newest first");

    let text = api.exported(&token, &order("events", "csv")).await;
    let rows = cells(&text);
    assert_eq!(rows.len(), 2104);
    assert_eq!(rows[0][..3], ["id", "eid", "timestamp"]);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    assert_eq!(rows[1][1], listed[0]["eid"]);
    let fields: Value = serde_json::from_str(&rows[1][8]).unwrap();
    assert_eq!(fields, listed[0]["fields"]);

    let text = api.exported(&token, &order("attackers", "jsonl")).await;
    let mut exported: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let listed = api.get("/api/v1/attackers", &token).await.body;
    let mut listed = listed["items"].as_array().unwrap().clone();
    exported.sort_by_key(|one| one["ip"].to_string());
    listed.sort_by_key(|one| one["ip"].to_string());
    assert_eq!(exported, listed);
    let text = api.exported(&token, &order("attackers", "csv")).await;
    assert_eq!(cells(&text).len(), 5, "{text}");

    let text = api.exported(&token, &order("credentials", "jsonl")).await;
    let exported: Vec<&str> = text.lines().collect();
    assert_eq!(exported.len(), 1052);
    let listed = api.get("/api/v1/credentials?limit=9", &token).await.body;
    for (line, item) in exported.iter().zip(listed["items"].as_array().unwrap()) {
        assert_eq!(*line, item.to_string());
    }
    let text = api.exported(&token, &order("credentials", "csv")).await;
    assert_eq!(cells(&text).len(), 1053);
    let audit = api.db.audit_latest(2).await.unwrap();
    let told = audit
        .iter()
        .map(|row| (row.action.as_str(), row.actor.as_str()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("export.download", "vera"), ("export.order", "vera")]
    );
    assert_eq!(audit[1].target, "credentials as csv");
}

#[tokio::test]
async fn challenge_responses_are_lines_for_crackers() {
    let api = TestApi::new().await;
    let (_address, _server) = api.serve().await;
    let token = api.viewer().await;
    api.store(0..10).await;
    let digest = Event {
        eid: "digest".into(),
        fields: Credential {
            kind: SecretKind::HttpDigestMd5,
            principal: Some("an:na".into()),
            crack: Some("$sip$*hostile".into()),
            ..Credential::plaintext(None, b"response")
        }
        .fields(),
        ..event(0)
    };
    api.store_all(vec![digest]).await;
    for (format, expected) in [
        ("hashcat", "$sip$*hostile\n"),
        ("john", "an_na:$sip$*hostile\n"),
    ] {
        let order = json!({"what": "credentials", "format": format});
        assert_eq!(api.exported(&token, &order).await, expected);
    }
}

#[tokio::test]
async fn a_filter_lets_through_what_the_list_would_show() {
    let api = TestApi::new().await;
    let (_address, _server) = api.serve().await;
    let token = api.viewer().await;
    api.store(0..60).await;
    api.store_from(0..4, |n| format!("203.0.113.{n}")).await;
    for (what, filter) in [
        ("events", json!({"service": "ftp", "decky": "decky-1"})),
        (
            "events",
            json!({"q": "service:redis k7", "src": "198.51.100.7"}),
        ),
        (
            "events",
            json!({"since": "2023-11-14T22:13:30Z", "until": "2023-11-14T22:13:40+00:00"}),
        ),
        ("events", json!({"kind": "auth", "session": "s4"})),
        ("attackers", json!({"search": "203.0", "service": "ftp"})),
        ("attackers", json!({"activity": "active"})),
        ("credentials", json!({"src": "203.0.113.2"})),
        (
            "credentials",
            json!({"principal": "root", "decky": "decky-2", "service": "ftp"}),
        ),
    ] {
        let order = json!({"what": what, "format": "jsonl", "filter": filter});
        let text = api.exported(&token, &order).await;
        let mut exported: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut query = String::from("limit=1000");
        for (name, value) in filter.as_object().unwrap() {
            let value = value.as_str().unwrap().replace('+', "%2B");
            query.push_str(&format!("&{name}={}", value.replace(' ', "+")));
        }
        let path = if what == "events" { "logs" } else { what };
        let listed = api.get(&format!("/api/v1/{path}?{query}"), &token).await;
        let listed = listed.body["items"].as_array().unwrap().clone();
        let mut listed: Vec<String> = listed.iter().map(Value::to_string).collect();
        exported.sort();
        listed.sort();
        assert_eq!(exported, listed, "{order}");
        assert!(listed.len() < 40, "{order}");
        assert_eq!(listed.is_empty(), filter["activity"] == "active", "{order}");
    }
}

#[tokio::test]
async fn no_cell_of_a_file_is_a_formula() {
    let api = TestApi::new().await;
    let (_address, _server) = api.serve().await;
    let token = api.viewer().await;
    let evil = Event {
        decky: "=1+1".into(),
        service: "@sum".into(),
        kind: "+1".into(),
        msg: "-1\",=cmd|' /C calc'!A0\r\n=2".into(),
        fields: Credential::plaintext(Some("\t=x"), b"=HYPERLINK(\"x\")").fields(),
        ..event(0)
    };
    api.store_all(vec![evil]).await;
    for what in ["events", "attackers", "credentials"] {
        let order = json!({"what": what, "format": "csv"});
        let rows = cells(&api.exported(&token, &order).await);
        assert_eq!(rows.len(), 2, "{rows:?}");
        for cell in rows.iter().flatten() {
            let acts = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
            assert!(!acts, "{what}: {cell}");
        }
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_meant_is_refused_with_what_would_do() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    for (order, code, said) in [
        (json!({}), "bad-body", "what"),
        (
            json!({"what": "files", "format": "csv"}),
            "bad-body",
            "attackers",
        ),
        (
            json!({"what": "events", "format": "xml"}),
            "bad-body",
            "jsonl",
        ),
        (
            json!({"what": "attackers", "format": "john"}),
            "bad-format",
            "csv or jsonl",
        ),
        (
            json!({"what": "events", "format": "csv", "filter": {"before": 3}}),
            "bad-body",
            "expected one of `decky`",
        ),
        (
            json!({"what": "events", "format": "csv", "filter": {"since": "then"}}),
            "bad-request",
            "since takes a time",
        ),
        (
            json!({"what": "credentials", "format": "csv", "filter": {"src": "here"}}),
            "bad-request",
            "src takes an IP address",
        ),
    ] {
        let reply = api.post(EXPORTS, &token, &order).await;
        assert_eq!(reply.problem(), code, "{order}");
        let detail = reply.body["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{detail}");
    }
    let jobs = api.get("/api/v1/jobs", &token).await.body;
    assert_eq!(jobs["items"], json!([]));
    let audit = api.db.audit_latest(1).await.unwrap();
    assert_eq!(audit[0].outcome, "bad-request");
}

#[tokio::test]
async fn ten_wait_their_turn_and_more_are_told_to_come_again() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let order = json!({"what": "events", "format": "csv"});
    let mut jobs = Vec::new();
    // Nobody carries them out yet.
    for _ in 0..10 {
        let reply = api.post(EXPORTS, &token, &order).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
        assert_eq!(reply.body["job"]["status"], "queued");
        jobs.push(reply.body["job"].clone());
    }
    let full = api.post(EXPORTS, &token, &order).await;
    assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(full.problem(), "queue-full");
    assert_eq!(full.headers[header::RETRY_AFTER], "60");
    let early = api.get(&file_of(&jobs[0]), &token).await;
    assert_eq!(
        (early.status, early.problem()),
        (StatusCode::NOT_FOUND, "not-done")
    );
    let (_address, _server) = api.serve().await;
    for job in &jobs {
        let job = api.job(&job["id"], &token).await;
        assert_eq!(job["status"], "succeeded");
        assert_eq!(api.get_bytes(&file_of(&job), &token).await.1.len(), 95);
    }
    assert_eq!(api.export(&token, &order).await["status"], "succeeded");
}

#[tokio::test]
async fn what_has_no_file_says_why() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let order = json!({"what": "events", "format": "csv"});
    let exports = api.exports();
    // Something is in the way of the directory.
    std::fs::write(&exports, "").unwrap();
    let (_address, _server) = api.serve().await;
    let failed = api.export(&token, &order).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["file"], Value::Null);
    let why = failed["error"].as_str().unwrap();
    assert!(why.contains("could not be written"), "{why}");
    let reply = api.get(&file_of(&failed), &token).await;
    assert_eq!(reply.problem(), "no-file");
    assert!(reply.body["detail"].as_str().unwrap().contains(why));
    std::fs::remove_file(&exports).unwrap();

    let made = api.export(&token, &order).await;
    assert_eq!(made["status"], "succeeded", "{made}");
    let id = made["id"].as_str().unwrap();
    std::fs::remove_file(exports.join(id)).unwrap();
    let reply = api.get(&file_of(&made), &token).await;
    assert_eq!(
        (reply.status, reply.problem()),
        (StatusCode::NOT_FOUND, "removed")
    );
    let job = api.get(&format!("/api/v1/jobs/{id}"), &token).await.body;
    assert_eq!(job["file"], Value::Null);

    let deploy = JobRow::new(JobKind::Deploy, "{}".into(), "ada", Stamp::now());
    api.db.job_put(&deploy).await.unwrap();
    let path = format!("/api/v1/jobs/{}/file", deploy.id);
    assert_eq!(api.get(&path, &token).await.problem(), "no-file");
    for path in ["x/file", "..%2Fdecnet.db/file"] {
        let reply = api.get(&format!("/api/v1/jobs/{path}"), &token).await;
        assert_eq!(reply.problem(), "not-found");
    }
}

/// An API in a process of its own, killed when it is dropped.
struct Process(Child);

impl Process {
    fn start(api: &TestApi) -> Self {
        let mut command = support::command(api.dir.path());
        let child = command
            .arg("api")
            .env("DECNET_API_PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing is put in order.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn an_export_whose_api_was_killed_is_made_by_the_next_with_every_row_once() {
    const EVENTS: u32 = 10_000;
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..EVENTS).await;
    let order = json!({"what": "events", "format": "jsonl", "filter": {}}).to_string();
    let job = JobRow::new(JobKind::Export, order, "vera", Stamp::now());
    api.db.job_put(&job).await.unwrap();
    let part = api.exports().join(format!("{}.part", job.id));
    let patience = Duration::from_secs(60);
    let process = Process::start(&api);
    let begun = || std::fs::metadata(&part).is_ok_and(|meta| meta.len() > 0);
    for _ in 0..60_000 {
        if begun() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(process);
    assert!(begun(), "it was killed in the middle");
    let found = async || api.db.job_find(&job.id).await.unwrap().unwrap();
    assert_eq!(found().await.status(), JobStatus::Running);
    std::fs::write(api.exports().join("stranger"), "").unwrap();

    let _process = Process::start(&api);
    let over = tokio::time::timeout(patience, async {
        loop {
            let job = found().await;
            if job.status().is_over() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let over = over.await.unwrap();
    assert_eq!(over.status(), JobStatus::Succeeded, "{:?}", over.error);
    assert_eq!((over.done, over.total), (10_000, 10_000));
    let path = format!("/api/v1/jobs/{}/file", job.id);
    let (_, bytes) = api.get_bytes(&path, &token).await;
    let text = String::from_utf8(bytes).unwrap();
    let ids: HashSet<String> = text
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["eid"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(text.lines().count(), ids.len());
    assert_eq!(ids, (0..EVENTS).map(|n| format!("e{n}")).collect());
    let left = std::fs::read_dir(api.exports()).unwrap().count();
    assert_eq!(left, 1, "half files and strangers are gone");
}
