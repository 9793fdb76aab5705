//! `/workers` on a host without systemd. The real thing, with polkit, is in the system
//! suite.

use axum::http::StatusCode;
use decnet::model::Stamp;
use decnet::model::worker::WORKERS;
use decnet::worker::Pulse;
use serde_json::json;

use super::TestApi;
use super::stream::Client;

/// Whether systemd runs here: these tests are about a host where it does not.
fn booted() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

#[tokio::test]
async fn every_registry_row_is_listed_with_its_pulse() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let dir = api.dir.path().join("run/pulse");
    std::fs::create_dir_all(&dir).unwrap();
    let beat = |name: &str, age: i64| {
        let at = Stamp(Stamp::now().0 - age * 1_000_000);
        serde_json::to_vec(&Pulse::default().read(name, at)).unwrap()
    };
    std::fs::write(dir.join("bus.json"), beat("bus", 3)).unwrap();
    std::fs::write(dir.join("ingester.json"), beat("ingester", 91)).unwrap();
    std::fs::write(dir.join("collector.json"), "{not json").unwrap();
    // A file that claims to be another worker's tells nothing.
    std::fs::write(dir.join("reconciler.json"), beat("bus", 1)).unwrap();
    let list = api.get("/api/v1/workers", &token).await.body;
    let names: Vec<&str> = WORKERS.iter().map(|w| w.name).collect();
    let listed: Vec<&str> = list["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, names);
    let find = |name: &str| {
        let all = list["workers"].as_array().unwrap();
        all.iter().find(|w| w["name"] == name).unwrap().clone()
    };
    assert_eq!(find("bus")["status"], "ok");
    assert!(find("bus")["rss_bytes"].as_u64().unwrap() > 0);
    assert_eq!(find("ingester")["status"], "stale");
    assert_eq!(find("ingester")["seconds_since"], 91);
    for name in ["collector", "reconciler"] {
        assert_eq!(find(name)["status"], "unknown");
        assert!(find(name)["last_heartbeat"].is_null());
    }
    if !booted() {
        assert!(find("bus")["unit"].is_null());
        assert!(
            list["systemd"]
                .as_str()
                .unwrap()
                .contains("does not run systemd")
        );
    }
}

#[tokio::test]
async fn without_systemd_orders_are_refused_with_the_reason_and_recorded() {
    if booted() {
        return;
    }
    let api = TestApi::new().await;
    let admin = api.admin().await;
    for verb in ["start", "stop", "restart"] {
        let path = format!("/api/v1/workers/collector/{verb}");
        let reply = api.post(&path, &admin, &json!({})).await;
        assert_eq!(
            (reply.status, reply.problem()),
            (StatusCode::CONFLICT, "no-systemd")
        );
    }
    let all = api
        .post("/api/v1/workers/start-all", &admin, &json!({}))
        .await;
    assert_eq!(
        (all.status, all.problem()),
        (StatusCode::CONFLICT, "no-systemd")
    );
    let audit = api.db.audit_latest(10).await.unwrap();
    assert_eq!(audit.len(), 4);
    assert_eq!(
        (audit[3].action.as_str(), audit[3].target.as_str()),
        ("worker.start", "collector")
    );
    assert_eq!(audit[3].outcome, "no-systemd");
}

#[tokio::test]
async fn only_names_of_the_registry_reach_systemd() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    for name in ["sshd", "collect", "..%2Fdbus", "bus.service", "%00", "BUS"] {
        let path = format!("/api/v1/workers/{name}/start");
        let reply = api.post(&path, &admin, &json!({})).await;
        assert_eq!(
            (reply.status, reply.problem()),
            (StatusCode::NOT_FOUND, "not-found"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_log_is_shown_from_its_end_to_administrators_only() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    let path = "/api/v1/workers/ingester/log?lines=2";
    let none = api.get(path, &admin).await;
    assert_eq!(
        (none.status, none.problem()),
        (StatusCode::NOT_FOUND, "not-found")
    );
    let dir = api.dir.path().join("log");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("decnet.ingester.log"), "one\ntwo\nthree\n").unwrap();
    assert_eq!(
        api.get(path, &admin).await.body["lines"],
        json!(["two", "three"])
    );
    let viewer = api.viewer().await;
    assert_eq!(api.get(path, &viewer).await.status, StatusCode::FORBIDDEN);
    for bad in ["ingester/log?lines=0", "ingester/log?lines=x", "nobody/log"] {
        let reply = api.get(&format!("/api/v1/workers/{bad}"), &admin).await;
        assert!(reply.status.is_client_error(), "{bad}");
    }
}

#[tokio::test]
async fn a_panel_is_told_when_a_worker_comes_and_goes() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let (address, _server) = api.serve().await;
    let mut client = Client::open_at(address, &token, "/workers/stream", "").await;
    client.until("event: workers\ndata: {").await;
    client.until("\n\n").await;
    client.text.clear();
    let dir = api.dir.path().join("run/pulse");
    std::fs::create_dir_all(&dir).unwrap();
    let beat = serde_json::to_vec(&Pulse::default().read("ingester", Stamp::now())).unwrap();
    std::fs::write(dir.join("ingester.json"), beat).unwrap();
    client.until("\"name\":\"ingester\",").await;
    client.until("\"status\":\"ok\"").await;
    client.until("\n\n").await;
    client.text.clear();
    std::fs::remove_file(dir.join("ingester.json")).unwrap();
    client.until("event: workers").await;
    client.until("\n\n").await;
    assert!(
        !client.text.contains("\"status\":\"ok\""),
        "{}",
        client.text
    );
}
