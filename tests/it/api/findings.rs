//! `/logs` and `/credentials`.

use axum::http::StatusCode;

use super::TestApi;

#[tokio::test]
async fn pages_by_key_show_every_event_once_while_new_ones_arrive() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..25).await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/logs?limit=10".to_owned();
    loop {
        let page = api.get(&path, &token).await.body;
        for item in page["items"].as_array().unwrap() {
            seen.push(item["eid"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_i64() else {
            break;
        };
        path = format!("/api/v1/logs?limit=10&before={next}");
        api.store(100..101).await;
    }
    let expected: Vec<String> = (0..25).rev().map(|n| format!("e{n}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn an_item_tells_everything_and_each_filter_selects() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..30).await;
    let page = api.get("/api/v1/logs?q=set+k7+%3Cv", &token).await.body;
    let item = &page["items"][0];
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(item["eid"], "e7");
    assert_eq!(item["service"], "redis");
    assert_eq!(item["event_type"], "command");
    assert_eq!(item["attacker_ip"], "198.51.100.7");
    assert_eq!(item["fields"]["cmd"], "SET k7 <v>");
    assert_eq!(item["timestamp"], "2023-11-14T22:13:27.000000+00:00");
    assert!(
        item["raw_line"]
            .as_str()
            .unwrap()
            .contains(" decky-1 redis - command ")
    );
    let count = async |query: &str| {
        let page = api.get(&format!("/api/v1/logs?{query}"), &token).await;
        assert_eq!(page.status, StatusCode::OK, "{query}: {}", page.body);
        page.body["items"].as_array().unwrap().len()
    };
    assert_eq!(count("decky=decky-0").await, 10);
    assert_eq!(count("service=ftp&decky=decky-0").await, 5);
    assert_eq!(count("kind=command").await, 15);
    assert_eq!(count("src=198.51.100.7").await, 30);
    assert_eq!(count("src=198.51.100.8").await, 0);
    assert_eq!(count("session=s3").await, 1);
    assert_eq!(count("since=2023-11-14T22:13:40Z").await, 10);
    assert_eq!(count("until=2023-11-14T22:13:40%2B00:00").await, 20);
    assert_eq!(count("decky=").await, 30, "an empty condition is none");
}

#[tokio::test]
async fn unusable_parameters_are_refused_not_ignored() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "before=0",
        "deky=x",
        "src=elsewhere",
        "since=yesterday",
        "offset=10",
    ] {
        let reply = api.get(&format!("/api/v1/logs?{query}"), &token).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(reply.problem(), "bad-request");
    }
}

#[tokio::test]
async fn credentials_are_listed_and_found_by_secret() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..10).await;
    let page = api.get("/api/v1/credentials?limit=3", &token).await.body;
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!(items[0]["principal"], "root");
    assert_eq!(items[0]["secret_kind"], "plaintext");
    let next = page["next"].as_i64().unwrap();
    let rest = api
        .get(&format!("/api/v1/credentials?before={next}"), &token)
        .await
        .body;
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    assert!(rest["next"].is_null());
    let hash = items[0]["secret_sha256"].as_str().unwrap();
    let same = api
        .get(&format!("/api/v1/credentials?sha256={hash}"), &token)
        .await
        .body;
    assert_eq!(
        same["items"][0]["secret_printable"],
        items[0]["secret_printable"]
    );
    assert_eq!(same["items"].as_array().unwrap().len(), 1);
}
