//! Canary tokens over the API: kinds, tokens, files, uses, uploads.

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use decnet::db::canary::trigger::Until;
use decnet::db::checkpoint::Checkpoint;
use decnet::model::Stamp;
use decnet::model::canary::{Hit, Via};
use serde_json::{Value, json};

use super::{Reply, TestApi, request};

const TOKENS: &str = "/api/v1/canary/tokens";
const BLOBS: &str = "/api/v1/canary/blobs";

impl TestApi {
    async fn canary(&self, token: &str, body: &Value) -> Value {
        let made = self.post(TOKENS, token, body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.body
    }

    async fn upload(&self, token: &str, name: &str, bytes: &[u8]) -> Reply {
        let path = format!("{BLOBS}?name={name}");
        let body = Body::from(bytes.to_vec());
        let mut upload = request(Method::POST, &path, token, body);
        let kind = "application/octet-stream".parse().unwrap();
        upload.headers_mut().insert(header::CONTENT_TYPE, kind);
        self.send(upload).await
    }

    async fn delete(&self, path: &str, token: &str) -> Reply {
        self.send(request(Method::DELETE, path, token, Body::empty()))
            .await
    }
}

#[tokio::test]
async fn a_token_is_made_read_downloaded_and_taken_back() {
    let api = TestApi::with(&[("DECNET_CANARY_HTTP_BASE", "http://files.example.test")]).await;
    let (admin, viewer) = (api.admin().await, api.viewer().await);
    let kinds = api.get("/api/v1/canary/kinds", &viewer).await.body;
    let kind = |name: &str| {
        let all = kinds["items"].as_array().unwrap().iter();
        all.clone().find(|k| k["name"] == name).unwrap().clone()
    };
    assert_eq!(kind("web_bug")["available"], true);
    assert_eq!(kind("dns_name")["needs"], "DECNET_CANARY_DNS_ZONE");
    let new = json!({"kind": "web_bug", "memo": "finance share"});
    let made = api.canary(&admin, &new).await;
    assert_eq!(
        (made["state"].as_str(), made["decky"].as_str()),
        (Some("new"), None)
    );
    assert!(
        made["url"]
            .as_str()
            .unwrap()
            .starts_with("http://files.example.test/c/")
    );
    let id = made["id"].as_str().unwrap();
    let one = format!("{TOKENS}/{id}");
    assert_eq!(api.get(&one, &viewer).await.body, made);
    let files = api.get(&format!("{one}/files"), &admin).await.body;
    assert_eq!(files["items"][0]["n"], 0);
    let (headers, bytes) = api.get_bytes(&format!("{one}/files/0"), &admin).await;
    assert!(
        headers[header::CONTENT_DISPOSITION]
            .to_str()
            .unwrap()
            .starts_with("attachment; ")
    );
    assert!(
        String::from_utf8(bytes)
            .unwrap()
            .contains(made["url"].as_str().unwrap())
    );
    assert_eq!(
        api.get(&format!("{one}/files"), &viewer).await.problem(),
        "admin-only"
    );
    for missing in ["files/9", "files/x"] {
        let reply = api.get(&format!("{one}/{missing}"), &admin).await;
        assert!(reply.status.is_client_error(), "{missing}");
    }
    let plant = api.post(&format!("{one}/plant"), &admin, &json!({})).await;
    assert_eq!(plant.problem(), "bad-state");
    let revoked = api.delete(&one, &admin).await;
    assert_eq!(revoked.body["state"], "revoked");
    let listed = api
        .get(&format!("{TOKENS}?state=revoked&kind=web_bug"), &viewer)
        .await
        .body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        api.delete(&format!("{one}?forget=true"), &admin)
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(api.get(&one, &viewer).await.problem(), "not-found");
    let audit = api.db.audit_latest(10).await.unwrap();
    let actions: Vec<&str> = audit.iter().rev().map(|row| row.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "canary.add",
            "canary.download",
            "canary.plant",
            "canary.revoke",
            "canary.revoke",
            "canary.forget"
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_made_says_why() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    for (body, code) in [
        (json!({"kind": "nonsense"}), "bad-token"),
        (json!({"kind": "dns_name"}), "bad-token"),
        (json!({"kind": "upload"}), "bad-token"),
        (json!({"kind": "web_bug", "decky": "nobody"}), "missing"),
        (json!({"kind": "web_bug", "path": "notes.txt"}), "bad-token"),
        (json!({"kind": "web_bug", "memo": "a\nb"}), "bad-token"),
        (json!({"kind": "web_bug", "user": "../x"}), "bad-token"),
        (json!({"kind": "upload", "blob": "5".repeat(64)}), "missing"),
        (json!({"kind": "web_bug", "colour": "red"}), "bad-body"),
    ] {
        let refused = api.post(TOKENS, &admin, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(refused.problem(), code, "{body}");
    }
    for query in ["state=lost", "before=x", "limit=0", "colour=red"] {
        let refused = api.get(&format!("{TOKENS}?{query}"), &admin).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn uses_are_paged_newest_first() {
    let api = TestApi::new().await;
    let (admin, viewer) = (api.admin().await, api.viewer().await);
    let made = api.canary(&admin, &json!({"kind": "web_bug"})).await;
    let (id, url) = (made["id"].as_str().unwrap(), made["url"].as_str().unwrap());
    let slug = url.rsplit('/').next().unwrap();
    let hits: Vec<Hit> = (0..5u32)
        .map(|n| Hit {
            id: format!("hit-{n}"),
            at: Stamp(1_700_000_000_000_000 + i64::from(n)),
            slug: slug.to_owned(),
            via: Via::Https,
            address: [203, 0, 113, 9].into(),
            port: Some(4000),
            local: ([192, 0, 2, 1], 443).into(),
            tcp: true,
            method: "GET".to_owned(),
            path: format!("/c/{slug}/{n}"),
            user_agent: "<b>reader</b>".to_owned(),
            headers: vec![("Host".to_owned(), "files".to_owned())],
            body: String::new(),
            resolver: None,
            fingerprint: Some(json!({"id": "0011"})),
            more: 0,
        })
        .collect();
    let at = Checkpoint::default();
    let until = Until {
        source: "test",
        at: &at,
    };
    let minute = std::time::Duration::from_secs(60);
    api.db
        .canary_record(hits, until, minute, Stamp::now(), |_| Ok(()))
        .await
        .unwrap();
    let triggers = format!("{TOKENS}/{id}/triggers");
    let first = api.get(&format!("{triggers}?limit=2"), &viewer).await.body;
    assert_eq!(first["items"][0]["id"], "hit-4");
    assert_eq!(first["items"][0]["attacker_ip"], "203.0.113.9");
    assert_eq!(first["items"][0]["headers"][0]["name"], "Host");
    assert_eq!(first["items"][0]["fingerprint"]["id"], "0011");
    assert_eq!(first["items"][0]["body"], Value::Null);
    let next = first["next"].as_i64().unwrap();
    let rest = api
        .get(&format!("{triggers}?before={next}"), &viewer)
        .await
        .body;
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
    assert_eq!(rest["next"], Value::Null);
    let token = api.get(&format!("{TOKENS}/{id}"), &viewer).await.body;
    assert_eq!(token["trigger_count"], 5);
    let unknown = api
        .get(&format!("{TOKENS}/{}/triggers", "0".repeat(36)), &viewer)
        .await;
    assert_eq!(unknown.problem(), "not-found");
}

#[tokio::test]
async fn an_upload_is_kept_once_and_stays_while_a_token_is_in_it() {
    let api = TestApi::new().await;
    let (admin, viewer) = (api.admin().await, api.viewer().await);
    let first = api.upload(&admin, "plan.txt", b"see {{URL}}").await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    let again = api.upload(&admin, "other.txt", b"see {{URL}}").await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.body["name"], "plan.txt");
    let sha256 = first.body["sha256"].as_str().unwrap();
    let kept = api
        .dir
        .path()
        .join("canary/blobs")
        .join(sha256.get(..2).unwrap())
        .join(sha256);
    assert_eq!(std::fs::read(&kept).unwrap(), b"see {{URL}}");
    let made = api
        .canary(&admin, &json!({"kind": "upload", "blob": sha256}))
        .await;
    let listed = api.get(BLOBS, &viewer).await.body;
    assert_eq!(listed["items"][0]["tokens"], 1);
    let blob = format!("{BLOBS}/{sha256}");
    assert_eq!(api.delete(&blob, &admin).await.problem(), "in-use");
    let token = format!("{TOKENS}/{}?forget=true", made["id"].as_str().unwrap());
    assert_eq!(api.delete(&token, &admin).await.status, StatusCode::OK);
    assert_eq!(
        api.delete(&blob, &admin).await.status,
        StatusCode::NO_CONTENT
    );
    assert!(!kept.exists());
    assert_eq!(api.delete(&blob, &admin).await.problem(), "not-found");
    assert_eq!(api.upload(&viewer, "x", b"x").await.problem(), "admin-only");
    for (name, bytes, code) in [
        ("a%2Fb", &b"x"[..], "bad-name"),
        ("..%5Cb", &b"x"[..], "bad-name"),
        ("x", &b""[..], "empty"),
    ] {
        assert_eq!(api.upload(&admin, name, bytes).await.problem(), code);
    }
    let large = vec![0; 10 * 1024 * 1024 + 1];
    let refused = api.upload(&admin, "x", &large).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
}
