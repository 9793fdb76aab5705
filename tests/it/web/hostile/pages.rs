//! What holds for every page: nothing hostile acts, viewers are offered nothing they may
//! not do, and every link leads somewhere.

use std::collections::{BTreeSet, VecDeque};

use axum::http::StatusCode;

use super::markup::{dangers, tags};
use super::{Dashboard, Who};

/// Pages that anybody logged in may see.
const FOR_ALL: [&str; 31] = [
    "/canary?kind=%3Cscript%3E&decky=%00",
    "/canary/t-1",
    "/canary/t-1/part",
    "/jobs",
    "/jobs/j-1",
    "/jobs/j-1/part",
    "/jobs/j-2",
    "/jobs/j-2/part",
    "/",
    "/overview/part",
    "/live",
    "/live?q=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE&range=1h",
    "/live?q=%22",
    "/logs/42",
    "/attackers",
    "/attackers?search=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(2)%3E&sort=active",
    "/attackers/0199-id",
    "/sessions?src=203.0.113.7&decky=%00%1b",
    "/sessions/01SESSION",
    "/credentials?principal=%22%27%3E",
    "/credentials/reuse",
    "/artifacts?service=%E2%80%AE",
    "/artifacts/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "/fleet?search=&state=",
    "/fleet/-/part",
    "/fleet/part",
    "/fleet/web-01",
    "/workers",
    "/workers/part",
    "/account",
    "/docs",
];

/// Pages of administrators.
const FOR_ADMINS: [&str; 20] = [
    "/canary/t-1/revoke",
    "/canary/t-1/forget",
    "/webhooks",
    "/webhooks/w-1?status=dead",
    "/webhooks/w-1/remove?name=%3Cscript%3E%00",
    "/webhooks/w-1/rotate?name=%E2%80%AE",
    "/deploy",
    "/workers/bus",
    "/users",
    "/users/u-1/delete?name=%3Cscript%3E%00",
    "/users/u-1/reset?name=%E2%80%AE",
    "/users/u-1/end-sessions?name=%22%3E",
    "/users/u-1/reset-totp?name=%22%3E",
    "/audit?actor=%3Cscript%3E&action=%00",
    "/config",
    "/fleet/web-01/teardown",
    "/fleet/web-01/services/http",
    "/fleet/web-01/services/ftp",
    "/fleet/web-01/services/%3Cscript%3E%00/remove",
    "/fleet/%3Cscript%3E%00/redeploy",
];

#[tokio::test]
async fn nothing_an_attacker_wrote_acts_on_any_page() {
    let dashboard = Dashboard::new().await;
    let mut wrong = Vec::new();
    let mut shown = 0;
    for path in FOR_ALL.iter().chain(&FOR_ADMINS) {
        let page = dashboard.get(Who::Admin, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text());
        let text = page.text();
        shown += usize::from(text.contains("alert(1)"));
        let found = dangers(&text);
        wrong.extend(found.into_iter().map(|danger| format!("{path}: {danger}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(shown > 15, "what attackers write is shown at all: {shown}");
}

#[tokio::test]
async fn what_forms_and_failures_say_is_escaped_too() {
    let dashboard = Dashboard::new().await;
    for (path, form) in [
        ("/users", "username=x&role=viewer"),
        ("/users/u-1/reset", ""),
        ("/account/totp", "password=x"),
        ("/account/totp/confirm", "code=1"),
        ("/account/totp/confirm", "code=123456"),
        ("/account/totp/end", "password=wrong&code=1"),
        (
            "/webhooks",
            "name=%3Cscript%3E&url=%22%3E&format=json&headers=x",
        ),
        (
            "/webhooks",
            "name=x&url=https%3A%2F%2Fx&format=json&preset.Credentials=yes",
        ),
        ("/webhooks/w-1/rotate", ""),
        ("/canary", "kind=%3Cscript%3E&memo=%22%3E&decky=refuse"),
        (
            "/login",
            "username=%3Cscript%3E&password=wrong&next=%22%3E%3Cscript%3E",
        ),
    ] {
        let page = dashboard.post(Who::Admin, path, form).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(dangers(&page.text()), [""; 0], "{path}");
    }
    let page = dashboard.get(Who::Admin, "/logs/999").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert_eq!(dangers(&page.text()), [""; 0]);
    assert!(page.text().contains("01REQUESTID"), "{}", page.text());
}

#[tokio::test]
async fn what_an_order_came_to_is_said_on_the_next_page_and_only_there() {
    let dashboard = Dashboard::new().await;
    let done = dashboard.post(Who::Admin, "/workers/api/stop", "").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let cookie = done.cookie("decnet_said").expect("nothing was said");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    // Browsers drop cookies above 4 KiB in silence.
    assert!(cookie.len() < 4096, "{}", cookie.len());
    let said = cookie.split(';').next().unwrap();
    let request = Dashboard::request(Who::Nobody, axum::http::Method::GET, "/workers")
        .header("cookie", format!("decnet_session=admin-token; {said}"))
        .body(axum::body::Body::empty());
    let page = dashboard.send(request.unwrap()).await;
    let spent = page.cookie("decnet_said").unwrap();
    assert!(spent.contains("Max-Age=0"), "{spent}");
    assert_eq!(dangers(&page.text()), [""; 0]);
    assert!(page.text().contains("polkit says no."), "{}", page.text());
}

#[tokio::test]
async fn what_became_of_every_worker_is_said_however_many_there_are() {
    let dashboard = Dashboard::new().await;
    let page = dashboard.post(Who::Admin, "/workers/start-all", "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(dangers(&page.text()), [""; 0]);
    let last = format!("worker-59: failed ({})", "why ".repeat(20).trim());
    for part in ["collector: started", "already-running", &last] {
        assert!(page.text().contains(part), "{part} is not said");
    }
}

#[tokio::test]
async fn a_viewer_is_offered_nothing_that_only_administrators_may_do() {
    let dashboard = Dashboard::new().await;
    let mut wrong = Vec::new();
    for path in FOR_ALL {
        let page = dashboard.get(Who::Viewer, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for tag in tags(&page.text()) {
            let action = tag.attribute("action").unwrap_or_default();
            let posts = tag.attribute("method").is_some_and(|m| m == "post");
            if tag.name == "form"
                && posts
                && !["/look", "/logout", "/exports"].contains(&action)
                && !action.starts_with("/account/")
            {
                wrong.push(format!("{path}: a form to {action}"));
            }
            let href = tag.attribute("href").unwrap_or_default();
            let admin = ["/users", "/audit", "/config", "/webhooks"]
                .iter()
                .any(|p| href.starts_with(p))
                || href.starts_with("/canary/") && href.matches('/').count() > 2
                || href.starts_with("/fleet/") && href.matches('/').count() > 2
                || href.starts_with("/artifacts/") && href.matches('/').count() > 2
                || href.starts_with("/workers/");
            if admin {
                wrong.push(format!("{path}: a link to {href}"));
            }
        }
    }
    for path in FOR_ADMINS {
        let page = dashboard.get(Who::Viewer, path).await;
        if page.status != StatusCode::FORBIDDEN {
            wrong.push(format!("{path}: {}", page.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(dashboard.api.changes().is_empty());
}

#[tokio::test]
async fn every_link_and_every_form_leads_somewhere() {
    let dashboard = Dashboard::new().await;
    let mut queue: VecDeque<(String, String)> = FOR_ALL
        .iter()
        .chain(&FOR_ADMINS)
        .map(|path| ((*path).to_owned(), "the list".to_owned()))
        .collect();
    let mut seen: BTreeSet<String> = queue.iter().map(|(path, _)| path.clone()).collect();
    let mut wrong = BTreeSet::new();
    while let Some((path, from)) = queue.pop_front() {
        if path.contains("/stream") {
            continue;
        }
        let page = dashboard.get(Who::Admin, &path).await;
        if page.status == StatusCode::NOT_FOUND || page.status.is_server_error() {
            wrong.insert(format!("{from} leads to {path}: {}", page.status));
        }
        if !page.header("content-type").starts_with("text/html") || seen.len() > 400 {
            continue;
        }
        for tag in tags(&page.text()) {
            if tag.attribute("method") == Some("post") {
                // Without its token a form that exists is refused, and nothing happens.
                let action = tag.attribute("action").unwrap_or_default();
                let tried = dashboard.post_bare(Who::Admin, action, "").await;
                if !["/login", "/password"].contains(&action)
                    && tried.status != StatusCode::FORBIDDEN
                {
                    wrong.insert(format!("{path}: a form to {action}: {}", tried.status));
                }
                continue;
            }
            for name in [
                "href",
                "src",
                "action",
                "data-fresh",
                "data-stream",
                "data-on",
            ] {
                let Some(target) = tag.attribute(name) else {
                    continue;
                };
                let target = target.split('#').next().unwrap_or_default();
                if target.is_empty() || target == "data:," {
                    continue;
                }
                if !target.starts_with('/') || target.starts_with("//") {
                    wrong.insert(format!("{path}: {name}={target} leaves the site"));
                } else if seen.insert(target.to_owned()) {
                    queue.push_back((target.to_owned(), path.clone()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}",
        wrong.into_iter().collect::<Vec<_>>().join("\n")
    );
    assert!(seen.len() > 60, "{seen:?}");
}

#[tokio::test]
async fn every_page_has_landmarks_a_title_one_main_heading_and_labels() {
    let dashboard = Dashboard::new().await;
    let mut wrong = Vec::new();
    for path in FOR_ALL.iter().chain(&FOR_ADMINS) {
        if path.ends_with("/part") && *path != "/fleet/part" {
            continue;
        }
        let text = dashboard.get(Who::Admin, path).await.text();
        let tags = tags(&text);
        for once in ["header", "main", "title", "h1"] {
            let count = tags.iter().filter(|tag| tag.name == once).count();
            if count != 1 {
                wrong.push(format!("{path}: {count} × <{once}>"));
            }
        }
        if tags
            .iter()
            .all(|t| t.name != "html" || t.attribute("lang").is_none())
        {
            wrong.push(format!("{path}: no language"));
        }
        let mut level = 1;
        for tag in &tags {
            if let Some(next) = tag
                .name
                .strip_prefix('h')
                .and_then(|n| n.parse::<u32>().ok())
            {
                if next > level + 1 {
                    wrong.push(format!("{path}: h{next} after h{level}"));
                }
                level = next;
            }
            if tag.name == "th" && tag.attribute("scope").is_none() {
                wrong.push(format!("{path}: a th without scope"));
            }
            if tag.name == "img" && tag.attribute("alt").is_none() {
                wrong.push(format!("{path}: an img without alt"));
            }
        }
        let tables = text.matches("<table").count();
        if text.matches("<caption").count() != tables {
            wrong.push(format!("{path}: a table without caption"));
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_service_is_added_set_and_taken_away_with_a_form_made_from_its_settings() {
    let dashboard = Dashboard::new().await;
    let text = dashboard.get(Who::Admin, "/fleet/web-01").await.text();
    assert!(
        text.contains("/fleet/web-01/services/http/remove"),
        "{text}"
    );
    let page = dashboard
        .get(Who::Admin, "/fleet/web-01/services?service=ftp")
        .await;
    assert_eq!(page.header("location"), "/fleet/web-01/services/ftp");
    let http = "/fleet/web-01/services/http";
    let tags = tags(&dashboard.get(Who::Admin, http).await.text());
    let kinds = ["set.custom_body", "set.response_code", "set.fake_app"].map(|name| {
        let tag = tags.iter().find(|t| t.attribute("name") == Some(name));
        tag.unwrap().name.clone()
    });
    assert_eq!(kinds, ["textarea", "input", "select"]);
    let done = dashboard
        .post(
            Who::Admin,
            http,
            "set.custom_body=a%0D%0Ab&set.response_code=404&set.fake_app=",
        )
        .await;
    assert_eq!(done.header("location"), "/jobs/j-1");
    let refused = dashboard
        .post(
            Who::Admin,
            http,
            "set.response_code=599&set.custom_body=kept",
        )
        .await;
    assert_eq!(refused.status, StatusCode::OK);
    assert_eq!(dangers(&refused.text()), [""; 0]);
    assert!(
        refused.text().contains("kept</textarea>"),
        "{}",
        refused.text()
    );
    let ftp = "/fleet/web-01/services/ftp";
    dashboard.post(Who::Admin, ftp, "set.fake_app=login").await;
    let gone = dashboard
        .post(Who::Admin, &format!("{http}/remove"), "")
        .await;
    assert_eq!(gone.header("location"), "/jobs/j-1");
    let asked = dashboard.api.changes();
    let asked: Vec<String> = asked
        .iter()
        .map(|a| format!("{} {} {}", a.method, a.path, a.body))
        .collect();
    assert_eq!(
        asked,
        [
            r#"PUT /deckies/web-01/services/http/config {"custom_body":"a\nb","response_code":404}"#,
            r#"PUT /deckies/web-01/services/http/config {"custom_body":"kept","response_code":599}"#,
            r#"POST /deckies/web-01/services {"name":"ftp","config":{"fake_app":"login"}}"#,
            "DELETE /deckies/web-01/services/http {}",
        ]
    );
}

#[tokio::test]
async fn whoever_went_back_in_a_list_finds_the_newest_again() {
    let dashboard = Dashboard::new().await;
    let newest = |text: &str| {
        let tags = tags(text).into_iter();
        let mut first = tags.filter(|tag| tag.attribute("rel") == Some("first"));
        first
            .next()
            .map(|tag| tag.attribute("href").unwrap().to_owned())
    };
    let path = "/attackers?search=203.0&before=77&sort=active";
    let text = dashboard.get(Who::Viewer, path).await.text();
    assert_eq!(
        newest(&text).unwrap(),
        "/attackers?search=203.0&sort=active"
    );
    let text = dashboard.get(Who::Viewer, "/jobs?before=5").await.text();
    assert_eq!(newest(&text).unwrap(), "/jobs");
    let text = dashboard.get(Who::Viewer, "/attackers").await.text();
    assert_eq!(newest(&text), None);
}

#[tokio::test]
async fn an_export_is_of_what_the_page_shows_and_is_passed_on_as_a_file() {
    let dashboard = Dashboard::new().await;
    // What the page's own form would send.
    let ordered = async |path: &str, format: &str| {
        let text = dashboard.get(Who::Viewer, path).await.text();
        let tags = tags(&text);
        let field = |name: &str| {
            let mut found = tags.iter().filter(|t| t.attribute("name") == Some(name));
            found.next_back().unwrap().attribute("value").unwrap()
        };
        let encoded = |text: &str| text.replace('%', "%25").replace('&', "%26");
        let form = format!(
            "what={}&query={}&here={}&format={format}",
            field("what"),
            encoded(field("query")),
            encoded(field("here")),
        );
        dashboard.post(Who::Viewer, "/exports", &form).await
    };
    for path in [
        "/attackers?search=203.0&activity=&sort=active&before=77&evil=1",
        "/credentials?principal=%22%27%3E%26what%3Dx&before=9",
        "/live?q=%3Cscript%3E%E2%80%AE&service=ftp&before=3",
    ] {
        let done = ordered(path, "csv").await;
        assert_eq!(done.header("location"), "/jobs/j-2", "{path}");
    }
    let asked = dashboard.api.changes();
    let asked: Vec<&str> = asked.iter().map(|a| a.body.as_str()).collect();
    assert_eq!(
        asked,
        [
            r#"{"what":"attackers","format":"csv","filter":{"search":"203.0"}}"#,
            r#"{"what":"credentials","format":"csv","filter":{"principal":"\"'>&what=x"}}"#,
            "{\"what\":\"events\",\"format\":\"csv\",\"filter\":{\"q\":\"<script>\u{202e}\",\"service\":\"ftp\"}}",
        ]
    );
    ordered("/live?range=1h", "jsonl").await;
    let last = dashboard.api.changes().pop().unwrap().body;
    assert!(last.contains(r#""filter":{"since":"20"#), "{last}");
    // What is wrong is said on the page that asked.
    let refused = ordered("/attackers?search=203.0", "hashcat").await;
    assert_eq!(refused.header("location"), "/attackers?search=203.0");
    assert!(refused.cookie("decnet_said").is_some());
    let file = dashboard.get(Who::Viewer, "/jobs/j-2/file").await;
    assert_eq!(file.header("content-disposition"), "attachment");
    assert_eq!(file.header("content-length"), "4");
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    let missing = dashboard.get(Who::Viewer, "/jobs/j-3/file").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_typed_into_a_filter_reaches_the_api_and_the_next_page() {
    let dashboard = Dashboard::new().await;
    let path = "/attackers?search=203.0&country=DE&activity=&sort=active&evil=1";
    let page = dashboard.get(Who::Viewer, path).await;
    let asked = dashboard.api.asked();
    let asked = asked
        .iter()
        .find(|a| a.path.starts_with("/attackers"))
        .unwrap();
    // The API refuses parameters it does not know and values that are empty.
    assert_eq!(asked.path, "/attackers?search=203.0&country=DE&sort=active");
    let text = page.text();
    let older = tags(&text)
        .into_iter()
        .find(|tag| tag.attribute("rel") == Some("next"))
        .expect("no link to older ones");
    let href = older.attribute("href").unwrap();
    for part in ["search=203.0", "country=DE", "sort=active", "before=77"] {
        assert!(href.contains(part), "{href}");
    }
}
