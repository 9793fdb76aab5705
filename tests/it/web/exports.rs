//! A list as a file, from the form on its page to the download.

use std::time::Duration;

use axum::http::{StatusCode, header};
use decnet::db::user::Role;

use super::Site;

/// The value of a field in the form that orders an export.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let form = page.split("action=\"/exports\"").nth(1).unwrap();
    let mark = format!("name=\"{name}\" value=\"");
    let rest = form.split(mark.as_str()).nth(1).unwrap();
    rest.split('"').next().unwrap()
}

#[tokio::test]
async fn a_viewer_orders_an_export_follows_it_and_takes_the_file() {
    let site = Site::new().await;
    let viewer = site.session("vera", Role::Viewer).await;
    let page = site.get("/live?q=service%3Aredis", &viewer).await.text;
    let form = format!(
        "csrf={}&what={}&query={}&here=%2Flive&format=csv",
        field(&page, "csrf"),
        field(&page, "what"),
        field(&page, "query").replace('%', "%25"),
    );
    let ordered = site.post("/exports", &viewer, &form, "same-origin").await;
    assert_eq!(ordered.status, StatusCode::SEE_OTHER, "{}", ordered.text);
    let job = ordered.headers[header::LOCATION].to_str().unwrap();
    let file = format!("{job}/file");
    let done = async {
        loop {
            let page = site.get(job, &viewer).await.text;
            if page.contains("succeeded") {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let page = tokio::time::timeout(Duration::from_secs(20), done).await;
    let page = page.unwrap();
    let narrow = '\u{202f}';
    assert!(page.contains("60 of 60 rows written"), "{page}");
    assert!(page.contains("<dd>service:redis</dd>"), "{page}");
    assert!(page.contains(&format!("href=\"{file}\"")), "{page}");
    assert!(page.contains(&format!("{narrow}KiB")), "{page}");
    let taken = site.get(&file, &viewer).await;
    assert_eq!(taken.status, StatusCode::OK);
    let head = |name| taken.headers[name].to_str().unwrap();
    assert_eq!(head(header::CONTENT_TYPE), "text/csv; charset=utf-8");
    let name = head(header::CONTENT_DISPOSITION);
    assert!(
        name.starts_with("attachment; filename=\"events-2"),
        "{name}"
    );
    assert_eq!(head(header::CONTENT_LENGTH), taken.text.len().to_string());
    assert_eq!(head(header::CACHE_CONTROL), "no-store");
    assert!(taken.text.starts_with("\"id\",\"eid\""));
    // What cannot be meant is said on the page that asked; what is not there, on one of its own.
    let wrong = form.replace("format=csv", "format=john");
    let wrong = site.post("/exports", &viewer, &wrong, "same-origin").await;
    assert_eq!(wrong.headers[header::LOCATION], "/live");
    let said = wrong.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(said.contains("csv%20or%20jsonl"), "{said}");
    let missing = site.get("/jobs/x/file", &viewer).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}
