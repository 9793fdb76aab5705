//! Receivers over the API: made, changed, tested, their deliveries listed and replayed.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use decnet::db::webhook::Seen;
use decnet::model::Stamp;
use serde_json::{Value, json};

use super::{TestApi, request};
use crate::support::receiver::Receiver;

const HOOKS: &str = "/api/v1/webhooks";

fn body(url: &str) -> Value {
    json!({"name": "soc", "url": url, "simple_events": ["DeckyStatus"], "topic_patterns": ["x.>"],
        "headers": {"Authorization": "Splunk of-nobody-s-business"}})
}

async fn patch(api: &TestApi, path: &str, token: &str, body: &Value) -> super::Reply {
    api.send(request(
        Method::PATCH,
        path,
        token,
        Body::from(body.to_string()),
    ))
    .await
}

#[tokio::test]
async fn a_receiver_is_made_changed_and_removed_and_its_secrets_are_told_once() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    let url = "https://hooks.example.com/services/T0/B0/verysecret";
    let mut inbox = api
        .bus
        .subscribe(&["system.webhook.subscriptions_changed"])
        .unwrap();
    let made = api.post(HOOKS, &admin, &body(url)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert!(inbox.next().await.is_some(), "the worker is told");
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    assert_eq!(
        made.body["topic_patterns"],
        json!([
            "decky.*.state",
            "decky.*.traffic",
            "decky.*.mutation",
            "x.>"
        ])
    );
    assert_eq!(
        api.post(HOOKS, &admin, &body(url)).await.problem(),
        "name-taken"
    );
    let id = made.body["id"].as_str().unwrap();
    let one = format!("{HOOKS}/{id}");
    let shown = api.get(HOOKS, &admin).await.body.to_string();
    assert!(
        !shown.contains(&secret) && !shown.contains("business"),
        "{shown}"
    );
    assert!(shown.contains("Authorization"), "{shown}");
    for file in std::fs::read_dir(api.dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let clear = |what: &str| bytes.windows(what.len()).any(|w| w == what.as_bytes());
            assert!(
                !clear("verysecret") && !clear(&secret),
                "{}",
                path.display()
            );
        }
    }
    let changed = patch(
        &api,
        &one,
        &admin,
        &json!({"format": "ecs_bulk", "enabled": false}),
    )
    .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    assert_eq!(changed.body["url"], url);
    assert_eq!(changed.body["header_names"], json!(["Authorization"]));
    assert_eq!(changed.body["enabled"], false);
    let rotated = api.post(&format!("{one}/rotate"), &admin, &json!({})).await;
    assert_ne!(rotated.body["secret"], secret.as_str());
    let after = api.get(&one, &admin).await.body;
    assert_eq!(
        after["previous_secret_until"],
        rotated.body["previous_secret_until"]
    );
    let gone = api
        .send(request(Method::DELETE, &one, &admin, Body::empty()))
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&one, &admin).await.status, StatusCode::NOT_FOUND);
    let audit = api.get("/api/v1/audit?action=webhook.", &admin).await.body;
    assert_eq!(audit["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_wrong_is_named_by_its_field() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    for (field, change) in [
        ("url", json!({"url": "http://127.0.0.1/"})),
        ("url", json!({"url": "gopher://x/"})),
        ("name", json!({"name": ""})),
        ("format", json!({"format": "xml"})),
        ("secret", json!({"secret": "short"})),
        ("headers", json!({"headers": {"Host": "x"}})),
        ("topic_patterns", json!({"topic_patterns": ["a.>.b"]})),
        (
            "topic_patterns",
            json!({"simple_events": [], "topic_patterns": []}),
        ),
        ("template", json!({"format": "template", "template": "{{"})),
    ] {
        let mut asked = body("https://hooks.example.com/");
        for (key, value) in change.as_object().unwrap() {
            asked[key] = value.clone();
        }
        let refused = api.post(HOOKS, &admin, &asked).await;
        assert_eq!(refused.problem(), "bad-webhook", "{change}");
        assert_eq!(
            refused.body["errors"][0]["field"], field,
            "{}",
            refused.body
        );
    }
    assert_eq!(api.get(HOOKS, &admin).await.body["items"], json!([]));
}

#[tokio::test]
async fn a_test_is_sent_and_deliveries_are_listed_and_put_back_in_line() {
    let api = TestApi::with(&[("DECNET_WEBHOOK_ALLOW_PRIVATE", "true")]).await;
    let admin = api.admin().await;
    let receiver = Receiver::start();
    let made = api.post(HOOKS, &admin, &body(&receiver.url())).await.body;
    assert_eq!(made["warnings"], json!(["insecure_url"]));
    let one = format!("{HOOKS}/soc");
    let sent = api.post(&format!("{one}/test"), &admin, &json!({})).await;
    assert_eq!(sent.body["delivered"], true, "{}", sent.body);
    let got = receiver.got().pop().unwrap();
    assert!(got.is_signed_with(made["secret"].as_str().unwrap()));
    assert_eq!(got.headers["authorization"], "Splunk of-nobody-s-business");
    receiver.will_answer(&[(503, "")]);
    let sent = api.post(&format!("{one}/test"), &admin, &json!({})).await;
    assert_eq!(sent.body["status_code"], 503);
    assert_eq!(sent.body["delivered"], false);
    let id = made["id"].as_str().unwrap();
    let seen = |n: usize| Seen {
        event_id: format!("e{n}"),
        event_at: Stamp(1),
        topic: "x.y".to_owned(),
        kind: "y".to_owned(),
        payload: "{}".to_owned(),
    };
    let events: Vec<Seen> = (0..5).map(seen).collect();
    let over = api
        .db
        .webhook_enqueue(id, &events, 3, Stamp(2))
        .await
        .unwrap();
    assert_eq!(over, 2, "no room");
    api.db
        .webhook_enqueue(id, &events, 3, Stamp(2))
        .await
        .unwrap();
    let list = api
        .get(&format!("{one}/deliveries?limit=2"), &admin)
        .await
        .body;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let older = format!("{one}/deliveries?before={}", list["next"]);
    let older = api.get(&older, &admin).await.body;
    assert_eq!(older["items"][0]["event_id"], "e0", "each event once");
    let n = older["items"][0]["id"].as_i64().unwrap();
    let again = format!("{one}/deliveries/{n}/replay");
    assert_eq!(
        api.post(&again, &admin, &json!({})).await.problem(),
        "in-line"
    );
    let missing = format!("{one}/deliveries/999/replay");
    assert_eq!(
        api.post(&missing, &admin, &json!({})).await.status,
        StatusCode::NOT_FOUND
    );
    let none = api.post(&format!("{one}/replay"), &admin, &json!({})).await;
    assert_eq!(none.body["replayed"], 0);
}
