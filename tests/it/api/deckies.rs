//! The fleet over the API: the rows are real, the reconciler is played.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use decnet::model::{DeckyState, Listener, Service, Stamp};
use serde_json::{Value, json};

use super::{Reply, TestApi, event, request};

const DEPLOY: &str = "/api/v1/deckies/deploy";

impl TestApi {
    async fn call(&self, method: Method, path: &str, token: &str, body: &Value) -> Reply {
        let body = Body::from(body.to_string());
        self.send(request(method, path, token, body)).await
    }

    async fn deploy(&self, token: &str, ini: &str) -> Reply {
        let body = json!({"ini_content": ini, "replace_fleet": false});
        self.post(DEPLOY, token, &body).await
    }

    /// What a reconciler would have seen.
    async fn observe(&self, state: DeckyState, error: Option<&str>) {
        for row in self.db.decky_list().await.unwrap() {
            let decky = row.decky;
            if decky.removed {
                self.db
                    .decky_forget(&decky.name, decky.version, Stamp::now())
                    .await
                    .unwrap();
                continue;
            }
            let listeners: Vec<Listener> = decky
                .wish
                .services
                .iter()
                .map(|service| Listener {
                    service: *service,
                    addr: Some((decky.ip, service.port() + 10_000).into()),
                    note: Some("port 80 is not permitted".into()),
                })
                .collect();
            self.db
                .decky_observe(
                    &decky.name,
                    decky.version,
                    state,
                    &listeners,
                    error,
                    Stamp::now(),
                )
                .await
                .unwrap();
        }
    }

    /// Waits until a job is over.
    pub(super) async fn job(&self, id: &Value, token: &str) -> Value {
        let path = format!("/api/v1/jobs/{}", id.as_str().unwrap());
        for _ in 0..500 {
            let job = self.get(&path, token).await.body;
            if !job["finished_at"].is_null() {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the job is not over");
    }
}

fn refusal(reply: &Reply) -> (u16, &str) {
    (reply.status.as_u16(), reply.problem())
}

#[tokio::test]
async fn a_deploy_is_a_job_that_follows_the_rows_to_their_end() {
    let api = TestApi::new().await;
    let (_address, _server) = api.serve().await;
    let (admin, viewer) = (api.admin().await, api.viewer().await);
    let ini =
        "[web-01]\nservices = http\n[web-01.http]\nresponse_code = 503\n[db]\nservices = redis\n";
    let reply = api.deploy(&admin, ini).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
    let job = &reply.body["job"];
    assert_eq!(
        (&job["kind"], &job["status"], &job["total"], &job["done"]),
        (&json!("deploy"), &json!("running"), &json!(2), &json!(0))
    );
    assert_eq!(job["created_by"], "ada");
    api.observe(DeckyState::Running, None).await;
    let job = api.job(&job["id"], &viewer).await;
    assert_eq!(
        (&job["status"], &job["done"]),
        (&json!("succeeded"), &json!(2))
    );
    // The same again changes nothing and is over at once.
    let again = api.deploy(&admin, ini).await;
    assert_eq!(again.body["job"]["status"], "succeeded");
    assert_eq!(again.body["job"]["total"], 0);
    let jobs = api.get("/api/v1/jobs?limit=1", &viewer).await.body;
    assert_eq!(jobs["items"][0]["id"], again.body["job"]["id"]);
    let path = format!("/api/v1/jobs?before={}", jobs["next"].as_str().unwrap());
    let older = api.get(&path, &viewer).await.body;
    assert_eq!(older["items"].as_array().unwrap().len(), 1);
    assert_eq!(older["next"], Value::Null);
    let audit = api.db.audit_latest(1).await.unwrap();
    assert_eq!(
        (audit[0].action.as_str(), audit[0].outcome.as_str()),
        ("decky.deploy", "ok")
    );
    let failing = api.deploy(&admin, "[web-02]\nservices = http\n").await;
    api.observe(DeckyState::Failed, Some("port 80 is taken"))
        .await;
    let job = api.job(&failing.body["job"]["id"], &viewer).await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error"], "web-02: port 80 is taken");
    assert_eq!(job["items"][0]["detail"], "port 80 is taken");
}

#[tokio::test]
async fn two_deploys_at_once_follow_one_another() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    let (a, b) = tokio::join!(
        api.deploy(&admin, "[a]\nservices = http\n"),
        api.deploy(&admin, "[b]\nservices = http\n"),
    );
    assert_eq!(
        (a.status, b.status),
        (StatusCode::ACCEPTED, StatusCode::ACCEPTED)
    );
    let list = api.get("/api/v1/deckies", &admin).await.body;
    let ips: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["ip"])
        .collect();
    assert_eq!(ips.len(), 2);
    assert_ne!(ips[0], ips[1]);
}

#[tokio::test]
async fn a_file_that_cannot_be_deployed_is_explained_line_by_line_and_nothing_is_written() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    let ini = "[web]\nservices = http, ssh\narchetype = castle\n[db]\nservices = redis\nnonsense\n";
    for path in [DEPLOY, "/api/v1/deckies/preview"] {
        let body = json!({"ini_content": ini, "replace_fleet": false});
        let reply = api.post(path, &admin, &body).await;
        assert_eq!(refusal(&reply), (422, "bad-ini"));
        let errors = reply.body["errors"].as_array().unwrap();
        let lines: Vec<u64> = errors.iter().map(|e| e["line"].as_u64().unwrap()).collect();
        assert_eq!(lines, [2, 3, 6], "{}", reply.body);
        assert!(errors[0]["message"].as_str().unwrap().contains("'ssh'"));
    }
    let outside = "[web]\nservices = http\nip = 10.0.0.1\n";
    let outside = api.deploy(&admin, outside).await;
    assert_eq!(refusal(&outside), (422, "bad-ini"));
    assert_eq!(outside.body["errors"][0]["line"], 3);
    let bad_name = api.deploy(&admin, "[../etc]\nservices = http\n").await;
    assert_eq!(refusal(&bad_name), (422, "bad-ini"));
    assert_eq!(refusal(&api.deploy(&admin, "").await), (422, "bad-ini"));
    let unknown = json!({"ini_content": "", "replace": true});
    let unknown = api.post(DEPLOY, &admin, &unknown).await;
    assert_eq!(refusal(&unknown), (422, "bad-body"));
    assert!(api.db.decky_list().await.unwrap().is_empty());
    let jobs = api.get("/api/v1/jobs", &admin).await.body;
    assert_eq!(jobs["items"], json!([]));
    // A file may be larger than any other body, and not much larger.
    let long = format!("[web]\nservices = http\n# {}\n", "x".repeat(200 * 1024));
    assert_eq!(api.deploy(&admin, &long).await.status, StatusCode::ACCEPTED);
    let long = "#".repeat(300 * 1024);
    assert_eq!(
        refusal(&api.deploy(&admin, &long).await),
        (413, "too-large")
    );
    let body = json!({"name": "ftp", "config": {"banner": "x".repeat(100 * 1024)}});
    let large = api
        .post("/api/v1/deckies/web/services", &admin, &body)
        .await;
    assert_eq!(refusal(&large), (413, "too-large"));
    // What only the fleet as it is speaks against has no line.
    let ip = api.db.decky_list().await.unwrap().remove(0).decky.ip;
    let taken = format!("[other]\nservices = http\nip = {ip}\n");
    let taken = api.deploy(&admin, &taken).await;
    assert_eq!(refusal(&taken), (422, "bad-ini"));
    assert!(taken.body["errors"][0]["line"].is_null());
    let message = taken.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("already belongs to web"), "{message}");
}

#[tokio::test]
async fn a_preview_is_the_difference_and_changes_nothing() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    api.deploy(
        &admin,
        "[a]\nservices = http\n[b]\nservices = http\n[c]\nservices = ftp\n",
    )
    .await;
    let before = api.db.decky_list().await.unwrap();
    let body = json!({
        "ini_content": "[a]\nservices = ftp\nmutate_interval = 5\n[c]\nservices = ftp\n[d]\narchetype = web-server\n",
        "replace_fleet": true,
    });
    let shown = api
        .post("/api/v1/deckies/preview", &admin, &body)
        .await
        .body;
    let outline: Vec<(&str, &str)> = shown["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["action"].as_str().unwrap()))
        .collect();
    assert_eq!(
        outline,
        [
            ("a", "change"),
            ("c", "unchanged"),
            ("d", "add"),
            ("b", "remove")
        ]
    );
    assert_eq!(shown["changes"][0]["lines"][1], "    services: http -> ftp");
    assert_eq!(shown["changes"][0]["fields"][1]["after"], "5");
    assert_eq!(shown["changes"][1]["lines"], json!([]));
    assert_eq!(
        shown["summary"],
        "1 to add, 1 to change, 1 to remove, 1 as wanted"
    );
    assert_eq!(api.db.decky_list().await.unwrap(), before);
}

#[tokio::test]
async fn a_decky_is_shown_with_its_sockets_its_hits_and_no_secret() {
    let api = TestApi::new().await;
    let (admin, viewer) = (api.admin().await, api.viewer().await);
    let ini = "[decky-0]\narchetype = web-server\n[decky-0.ftp]\nanonymous = no\n";
    api.deploy(&admin, ini).await;
    api.observe(DeckyState::Running, None).await;
    let now = Stamp::now();
    let events = (0..6).map(|n| {
        let mut event = event(n * 3);
        event.ts = now;
        event
    });
    api.store_all(events.collect()).await;
    let item = &api.get("/api/v1/deckies", &viewer).await.body["items"][0];
    assert_eq!(item["name"], "decky-0");
    assert_eq!(
        (&item["state"], &item["runtime"], &item["archetype"]),
        (&json!("running"), &json!("local"), &json!("web-server"))
    );
    assert_eq!(item["hits_24h"], 6);
    assert!(item["last_hit"].as_str().unwrap().contains('T'));
    assert_eq!(item["mutate_interval_minutes"], Value::Null);
    let ftp = &item["services"][1];
    assert_eq!((&ftp["name"], &ftp["port"]), (&json!("ftp"), &json!(21)));
    assert_eq!(ftp["listening"], true);
    assert!(ftp["address"].as_str().unwrap().ends_with(":10021"));
    let one = api.get("/api/v1/deckies/decky-0", &viewer).await.body;
    assert_eq!(one["settings"], json!({"ftp": {"anonymous": false}}));
    assert_eq!(one["persona"]["seed"], "***");
    assert_eq!(one["persona"]["hostname"], item["hostname"]);
    assert!(one["persona"]["certificate"]["sha256"].is_string());
    let row = api.db.decky_list().await.unwrap().remove(0);
    let text = one.to_string();
    assert!(!text.contains(&row.persona.seed) && !text.contains("PRIVATE"));
    let missing = api.get("/api/v1/deckies/nobody", &viewer).await;
    assert_eq!(refusal(&missing), (404, "not-found"));
}

#[tokio::test]
async fn services_are_added_configured_and_removed_but_never_the_last() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    api.deploy(&admin, "[web]\nservices = http\n").await;
    let services = "/api/v1/deckies/web/services";
    let bad = json!({"name": "ftp", "config": {"anonymous": "nein", "nla": false}});
    let bad = api.post(services, &admin, &bad).await;
    assert_eq!(refusal(&bad), (422, "bad-setting"));
    assert_eq!(bad.body["errors"][0]["field"], "anonymous");
    assert_eq!(bad.body["errors"][1]["field"], "nla");
    let none = api.post(services, &admin, &json!({"name": "gopher"})).await;
    assert_eq!(refusal(&none), (422, "no-such-service"));
    let twice = api.post(services, &admin, &json!({"name": "http"})).await;
    assert_eq!(refusal(&twice), (409, "already-offered"));
    let last = format!("{services}/http");
    let last = api.call(Method::DELETE, &last, &admin, &json!(null)).await;
    assert_eq!(refusal(&last), (422, "last-service"));
    let added = json!({"name": "ftp", "config": {"anonymous": false}});
    let added = api.post(services, &admin, &added).await;
    assert_eq!(added.status, StatusCode::ACCEPTED, "{}", added.body);
    assert_eq!(added.body["job"]["kind"], "service");
    assert_eq!(added.body["job"]["total"], 1);
    let config = format!("{services}/ftp/config");
    let set = json!({"anonymous": true, "banner": null});
    let set = api.call(Method::PUT, &config, &admin, &set).await;
    assert_eq!(set.status, StatusCode::ACCEPTED, "{}", set.body);
    let wish = api.db.decky_list().await.unwrap().remove(0).decky.wish;
    assert_eq!(wish.services, [Service::Http, Service::Ftp]);
    assert_eq!(wish.settings[&Service::Ftp]["anonymous"], true);
    let wrong = api
        .call(Method::PUT, &config, &admin, &json!({"banner": 7}))
        .await;
    assert_eq!(refusal(&wrong), (422, "bad-setting"));
    let absent = format!("{services}/redis/config");
    let absent = api.call(Method::PUT, &absent, &admin, &json!({})).await;
    assert_eq!(refusal(&absent), (404, "not-found"));
    let gone = format!("{services}/http");
    let gone = api.call(Method::DELETE, &gone, &admin, &json!(null)).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED);
    let wish = api.db.decky_list().await.unwrap().remove(0).decky.wish;
    assert_eq!(wish.services, [Service::Ftp]);
}

#[tokio::test]
async fn an_interval_is_a_number_or_null_and_a_mutation_is_asked_for_once() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    api.deploy(&admin, "[web]\nservices = http\n").await;
    let path = "/api/v1/deckies/web/mutate-interval";
    for (minutes, expected) in [
        (json!(30), Some(30)),
        (json!(0), Some(0)),
        (json!(null), None),
    ] {
        let body = json!({"minutes": minutes});
        let reply = api.call(Method::PUT, path, &admin, &body).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.body);
        let wish = api.db.decky_list().await.unwrap().remove(0).decky.wish;
        assert_eq!(wish.mutate_interval, expected);
    }
    for body in [
        json!({}),
        json!({"minutes": -1}),
        json!({"minutes": "30m"}),
        json!({"minutes": 999_999}),
    ] {
        let reply = api.call(Method::PUT, path, &admin, &body).await;
        assert_eq!(refusal(&reply), (422, "bad-body"), "{body}");
    }
    for _ in 0..2 {
        let reply = api
            .post("/api/v1/deckies/web/mutate", &admin, &json!({}))
            .await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
    }
    let open = api.db.mutations_open().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].actor.as_deref(), Some("ada"));
}

#[tokio::test]
async fn a_teardown_ends_when_the_decky_is_gone_and_a_redeploy_starts_it_anew() {
    let api = TestApi::new().await;
    let (_address, _server) = api.serve().await;
    let admin = api.admin().await;
    api.deploy(&admin, "[web]\nservices = http\n").await;
    let again = api
        .post("/api/v1/deckies/web/redeploy", &admin, &json!({}))
        .await;
    assert_eq!(again.body["job"]["kind"], "redeploy");
    let row = api.db.decky_list().await.unwrap().remove(0).decky;
    assert_eq!((row.version, row.wish.generation), (2, 1));
    let path = "/api/v1/deckies/web";
    let gone = api.call(Method::DELETE, path, &admin, &json!(null)).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED, "{}", gone.body);
    let twice = api.call(Method::DELETE, path, &admin, &json!(null)).await;
    assert_eq!(refusal(&twice), (404, "not-found"));
    api.observe(DeckyState::Running, None).await;
    let job = api.job(&gone.body["job"]["id"], &admin).await;
    assert_eq!(
        (&job["kind"], &job["status"]),
        (&json!("teardown"), &json!("succeeded"))
    );
    assert_eq!(job["items"][0]["state"], "removed");
    // The restart that the removal overtook says so.
    let job = api.job(&again.body["job"]["id"], &admin).await;
    assert_eq!(job["status"], "failed");
}

#[tokio::test]
async fn a_viewer_looks_and_changes_nothing() {
    let api = TestApi::new().await;
    let (admin, viewer) = (api.admin().await, api.viewer().await);
    api.deploy(&admin, "[web]\nservices = http, ftp\n").await;
    let before = api.db.decky_list().await.unwrap();
    let ini = json!({"ini_content": "[a]\nservices = http\n"});
    for (method, path, body) in [
        (Method::POST, "deckies/preview", &ini),
        (Method::POST, "deckies/deploy", &ini),
        (Method::DELETE, "deckies/web", &json!(null)),
        (Method::POST, "deckies/web/redeploy", &json!(null)),
        (Method::POST, "deckies/web/mutate", &json!(null)),
        (
            Method::PUT,
            "deckies/web/mutate-interval",
            &json!({"minutes": 1}),
        ),
        (
            Method::POST,
            "deckies/web/services",
            &json!({"name": "redis"}),
        ),
        (Method::DELETE, "deckies/web/services/ftp", &json!(null)),
        (Method::PUT, "deckies/web/services/ftp/config", &json!({})),
    ] {
        let path = format!("/api/v1/{path}");
        let reply = api.call(method, &path, &viewer, body).await;
        assert_eq!(refusal(&reply), (403, "admin-only"), "{path}");
        let nobody = api.get(&path, "").await;
        assert!(nobody.status.is_client_error());
    }
    assert_eq!(api.db.decky_list().await.unwrap(), before);
}

#[tokio::test]
async fn the_catalog_has_what_forms_need() {
    let api = TestApi::new().await;
    let viewer = api.viewer().await;
    let services = api.get("/api/v1/services", &viewer).await.body;
    assert_eq!(
        services["items"].as_array().unwrap().len(),
        Service::ALL.len()
    );
    let http = api.get("/api/v1/services/http/schema", &viewer).await.body;
    assert_eq!(
        (&http["name"], &http["ports"]),
        (&json!("http"), &json!([80]))
    );
    let field = |key: &str| {
        let fields = http["fields"].as_array().unwrap();
        fields.iter().find(|f| f["key"] == key).unwrap().clone()
    };
    assert_eq!(field("server_header")["label"], "Server header");
    assert_eq!(field("response_code")["type"], "number");
    assert_eq!(field("response_code")["max"], 599);
    assert_eq!(field("fake_app")["enum"], json!(["none", "login"]));
    let redis = api.get("/api/v1/services/redis/schema", &viewer).await.body;
    assert_eq!(redis["fields"][2]["secret"], true);
    let ssh = api.get("/api/v1/services/ssh/schema", &viewer).await;
    assert_eq!(refusal(&ssh), (404, "not-found"));
    let kinds = api.get("/api/v1/archetypes", &viewer).await.body;
    let web = kinds["items"].as_array().unwrap();
    let web = web.iter().find(|k| k["slug"] == "web-server").unwrap();
    assert_eq!(web["display_name"], "Web server");
    assert_eq!(web["services"], json!(["http", "ftp"]));
    let distros = api.get("/api/v1/distros", &viewer).await.body;
    assert_eq!(distros["items"][0]["slug"], "debian");
}
