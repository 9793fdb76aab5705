//! `/logs`, `/credentials`, `/attackers`, `/sessions`, `/stats`.

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
    let page = api
        .get("/api/v1/logs?q=command:%22SET+k7+%3Cv%3E%22", &token)
        .await
        .body;
    let item = &page["items"][0];
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(item["eid"], "e7");
    assert_eq!(item["service"], "redis");
    assert_eq!(item["event_type"], "command");
    assert_eq!(item["attacker_ip"], "198.51.100.7");
    assert_eq!(item["fields"]["command"], "SET k7 <v>");
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
    assert_eq!(count("q=service:ftp+decky:decky-0").await, 5);
    assert_eq!(count("q=k7+event:command").await, 1);
    assert_eq!(count("service=ftp&q=root").await, 15);
    for bad in ["q=%22open", "q=attacker:me", "service=ftp&q=service:redis"] {
        let reply = api.get(&format!("/api/v1/logs?{bad}"), &token).await;
        assert_eq!(reply.problem(), "bad-query", "{bad}");
    }
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

#[tokio::test]
async fn an_attacker_is_found_by_address_and_by_id_with_all_it_did() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..30).await;
    let page = api.get("/api/v1/attackers", &token).await.body;
    let item = &page["items"][0];
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(item["ip"], "198.51.100.7");
    assert_eq!(item["event_count"], 30);
    assert_eq!(item["session_count"], 30);
    assert_eq!(item["activity"], "inactive");
    assert_eq!(item["services"].as_array().unwrap().len(), 2);
    let id = item["id"].as_str().unwrap();
    for path in [id, "198.51.100.7", "::ffff:198.51.100.7"] {
        let one = api.get(&format!("/api/v1/attackers/{path}"), &token).await;
        if path.starts_with("::") {
            assert_eq!(one.status, StatusCode::NOT_FOUND, "another address");
            continue;
        }
        assert_eq!(one.body["decky_activity"][0]["decky"], "decky-0");
        assert_eq!(one.body["service_activity"].as_array().unwrap().len(), 2);
    }
    let commands = format!("/api/v1/attackers/{id}/commands?limit=10");
    let commands = api.get(&commands, &token).await.body;
    assert_eq!(commands["items"].as_array().unwrap().len(), 10);
    assert!(commands["next"].is_i64());
    let over_time = api
        .get(&format!("/api/v1/attackers/{id}/histogram"), &token)
        .await
        .body;
    let bars = over_time["items"].as_array().unwrap().iter();
    assert_eq!(bars.map(|b| b["count"].as_i64().unwrap()).sum::<i64>(), 30);
    for filter in [
        "search=198.51",
        "service=ftp",
        "decky=decky-1",
        "country=%3F%3F",
        "activity=inactive",
        "sort=active",
    ] {
        let page = api
            .get(&format!("/api/v1/attackers?{filter}"), &token)
            .await
            .body;
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{filter}");
    }
    for filter in [
        "search=198.52",
        "service=ssh",
        "country=DE",
        "activity=active",
    ] {
        let page = api
            .get(&format!("/api/v1/attackers?{filter}"), &token)
            .await
            .body;
        assert_eq!(page["items"].as_array().unwrap().len(), 0, "{filter}");
    }
    for bad in ["before=x", "sort=name", "activity=gone", "offset=1"] {
        let reply = api.get(&format!("/api/v1/attackers?{bad}"), &token).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn attackers_are_paged_in_every_order_each_once() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store_from(0..57, |n| format!("203.0.113.{}", n % 19))
        .await;
    for sort in ["recent", "active", "first"] {
        let mut seen = std::collections::BTreeSet::new();
        let mut path = format!("/api/v1/attackers?limit=5&sort={sort}");
        loop {
            let page = api.get(&path, &token).await.body;
            for item in page["items"].as_array().unwrap() {
                assert!(
                    seen.insert(item["ip"].as_str().unwrap().to_owned()),
                    "{sort}"
                );
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = format!("/api/v1/attackers?limit=5&sort={sort}&before={next}");
        }
        assert_eq!(seen.len(), 19, "{sort}");
    }
}

#[tokio::test]
async fn a_session_has_a_transcript_that_any_player_plays() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..4).await;
    let page = api.get("/api/v1/sessions?service=redis", &token).await.body;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let one = api.get("/api/v1/sessions/s3", &token).await.body;
    assert_eq!(one["commands"], 1);
    let said = api.get("/api/v1/sessions/s3/transcript", &token).await.body;
    assert_eq!(said["header"]["version"], 2);
    assert_eq!(said["events"][0][1], "i");
    assert_eq!(said["events"][0][2], "> SET k3 <v>\r\n");
    assert!(said["next"].is_null());
    let cast = api.get("/api/v1/sessions/s3/transcript.cast", &token).await;
    assert_eq!(cast.status, StatusCode::OK);
    let none = api.get("/api/v1/sessions/nope", &token).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_long_transcript_comes_in_parts_from_its_beginning() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store_in_session(0..23, "long").await;
    let mut path = "/api/v1/sessions/long/transcript?limit=10".to_owned();
    let mut heard = Vec::new();
    loop {
        let part = api.get(&path, &token).await.body;
        assert_eq!(part["total"], 23);
        for event in part["events"].as_array().unwrap() {
            if event[1] == "i" {
                heard.push(event[2].as_str().unwrap().to_owned());
            }
        }
        let Some(next) = part["next"].as_i64() else {
            break;
        };
        path = format!("/api/v1/sessions/long/transcript?limit=10&offset={next}");
    }
    let typed: Vec<String> = (0..23)
        .filter(|n| n % 2 == 1)
        .map(|n| format!("> SET k{n} <v>\r\n"))
        .collect();
    assert_eq!(heard, typed);
    for bad in ["limit=0", "limit=5001", "offset=-1", "before=1"] {
        let path = format!("/api/v1/sessions/long/transcript?{bad}");
        assert_eq!(api.get(&path, &token).await.problem(), "bad-request");
    }
}

#[tokio::test]
async fn a_page_that_the_client_has_is_not_sent_again() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..3).await;
    let mut fresh = 10..;
    for path in ["/api/v1/logs?limit=2", "/api/v1/attackers"] {
        // A minute may end in between; then the page is simply sent.
        let mut saved = false;
        for _ in 0..2 {
            let first = api.get(path, &token).await;
            let tag = first.headers["etag"].to_str().unwrap().to_owned();
            let again = api.get_unless(path, &token, &tag).await;
            saved |= again.status == StatusCode::NOT_MODIFIED && again.body.is_null();
            let n = fresh.next().unwrap();
            api.store(n..n + 1).await;
            let changed = api.get_unless(path, &token, &tag).await;
            assert_eq!(changed.status, StatusCode::OK);
        }
        assert!(saved, "{path}");
    }
}

#[tokio::test]
async fn a_file_is_listed_and_only_administrators_have_its_bytes() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let (content, sha256) = api.store_file(b"#!/bin/sh\nevil\n").await;
    let page = api
        .get("/api/v1/artifacts?src=198.51.100.7&service=ftp", &token)
        .await
        .body;
    assert_eq!(page["items"][0]["sha256"], sha256, "{page}");
    assert_eq!(page["items"][0]["name"], "/tmp/x");
    let none = api.get("/api/v1/artifacts?decky=other", &token).await.body;
    assert_eq!(none["items"].as_array().unwrap().len(), 0);
    let one = format!("/api/v1/artifacts/{sha256}");
    let detail = api.get(&one, &token).await.body;
    assert_eq!(detail["available"], true, "{detail}");
    assert_eq!(detail["observations"].as_array().unwrap().len(), 1);
    let raw = format!("{one}/download?format=raw");
    assert_eq!(api.get(&raw, &token).await.problem(), "admin-only");
    let admin = api.admin().await;
    let (headers, bytes) = api.get_bytes(&raw, &admin).await;
    assert_eq!(bytes, content);
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let named = headers["content-disposition"].to_str().unwrap();
    assert_eq!(named, format!("attachment; filename=\"{sha256}.bin\""));
    let (_, packed) = api
        .get_bytes(&format!("{one}/download?format=zip"), &admin)
        .await;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(packed)).unwrap();
    assert!(archive.by_index(0).is_err(), "it is locked");
    let mut file = archive.by_index_decrypt(0, b"infected").unwrap();
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut unpacked).unwrap();
    assert_eq!(unpacked, content);
    for other in ["0".repeat(64), "../../etc/passwd".into(), "A".repeat(64)] {
        let path = format!("/api/v1/artifacts/{}", other.replace('/', "%2F"));
        for path in [path.clone(), format!("{path}/download")] {
            assert_eq!(api.get(&path, &admin).await.problem(), "not-found");
        }
    }
}

#[tokio::test]
async fn the_first_page_counts_what_is_stored() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..30).await;
    let page = api.get("/api/v1/stats/overview", &token).await.body;
    assert_eq!(page["stats"]["total_logs"], 30);
    assert_eq!(page["stats"]["unique_attackers"], 1);
    assert_eq!(page["stats"]["credentials"], 15);
    assert_eq!(page["stats"]["sessions"], 30);
    assert_eq!(page["per_minute"]["items"].as_array().unwrap().len(), 60);
    assert_eq!(page["countries"][0]["country"], "??");
    assert_eq!(page["top_attackers"][0]["ip"], "198.51.100.7");
    let over_time = "/api/v1/logs/histogram?since=2023-11-14T22:13:00Z&until=2023-11-14T22:14:00Z&interval_minutes=1";
    let over_time = api.get(over_time, &token).await.body;
    assert_eq!(over_time["items"][0]["count"], 30, "{over_time}");
    let few =
        "/api/v1/logs/histogram?since=2023-11-13T22:13:00Z&until=2023-11-14T22:14:00Z&buckets=24";
    let few = api.get(few, &token).await.body;
    let bars = few["items"].as_array().unwrap();
    assert!((20..=24).contains(&bars.len()), "{few}");
    assert_eq!(
        bars.iter()
            .map(|b| b["count"].as_i64().unwrap())
            .sum::<i64>(),
        30
    );
    for bad in ["buckets=23", "buckets=241", "buckets=60&interval_minutes=1"] {
        let path = format!("/api/v1/logs/histogram?{bad}");
        assert_eq!(api.get(&path, &token).await.problem(), "bad-request");
    }
    let fine = "/api/v1/logs/histogram?since=2020-11-14T22:13:00Z&interval_minutes=1";
    assert_eq!(api.get(fine, &token).await.problem(), "too-fine");
}

#[tokio::test]
async fn a_secret_tried_from_two_places_is_reused() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..10).await;
    let reuse = api.get("/api/v1/credential-reuse", &token).await.body;
    assert!(reuse["items"].as_array().unwrap().is_empty(), "{reuse}");
    api.store_from(0..1, |_| "203.0.113.9".to_owned()).await;
    let reuse = api.get("/api/v1/credential-reuse", &token).await.body;
    assert_eq!(reuse["items"][0]["attackers"], 2);
    assert_eq!(reuse["items"][0]["principals"][0], "root");
}
