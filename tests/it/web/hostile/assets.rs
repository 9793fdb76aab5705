//! What pages load beside themselves.

use axum::body::Body;
use axum::http::{Method, StatusCode};

use super::markup::tags;
use super::{Dashboard, Page, Who};

async fn packed(dashboard: &Dashboard, path: &str) -> Page {
    let request = Dashboard::request(Who::Viewer, Method::GET, path)
        .header("accept-encoding", "gzip, br")
        .body(Body::empty());
    dashboard.send(request.unwrap()).await
}

/// Addresses of what a page loads.
fn loaded(page: &str) -> Vec<String> {
    let wanted = tags(page).into_iter().filter_map(|tag| {
        let address = match tag.name.as_str() {
            "script" | "img" => tag.attribute("src"),
            "link" if tag.attribute("rel") == Some("stylesheet") => tag.attribute("href"),
            _ => None,
        };
        address.map(str::to_owned)
    });
    wanted.collect()
}

#[tokio::test]
async fn the_first_visit_loads_at_most_300_kib() {
    let dashboard = Dashboard::new().await;
    let page = packed(&dashboard, "/").await;
    let mut bytes = page.body.len();
    let assets = loaded(&page.text());
    assert!(assets.len() >= 3, "{assets:?}");
    for address in &assets {
        bytes += packed(&dashboard, address).await.body.len();
    }
    assert!(bytes <= 300 * 1024, "{bytes} bytes: {assets:?}");
    // The login is seen first over a slow line.
    let page = packed(&dashboard, "/login").await;
    let mut bytes = page.body.len();
    for address in loaded(&page.text()) {
        bytes += packed(&dashboard, &address).await.body.len();
    }
    assert!(bytes <= 60 * 1024, "{bytes} bytes");
}

#[tokio::test]
async fn an_asset_is_kept_for_ever_because_its_address_changes_with_it() {
    let dashboard = Dashboard::new().await;
    let page = dashboard.get(Who::Viewer, "/").await;
    for address in loaded(&page.text())
        .iter()
        .filter(|a| a.starts_with("/assets/"))
    {
        let plain = dashboard.get(Who::Nobody, address).await;
        assert_eq!(plain.status, StatusCode::OK, "{address}");
        assert!(plain.header("cache-control").contains("immutable"));
        assert!(!plain.header("cache-control").contains("no-store"));
        assert_eq!(plain.header("content-encoding"), "");
        let packed = packed(&dashboard, address).await;
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(packed.header("vary"), "accept-encoding");
        assert!(packed.body.len() < plain.body.len());
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(packed.body.as_slice());
        std::io::Read::read_to_end(&mut decoder, &mut unpacked).unwrap();
        assert_eq!(unpacked, plain.body, "{address}");
        let other = address.replacen("/assets/", "/assets/0", 1);
        let other = dashboard.get(Who::Nobody, &other).await;
        assert_eq!(other.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn only_pages_with_charts_load_the_charts() {
    let dashboard = Dashboard::new().await;
    for (path, charts) in [("/", true), ("/workers", false), ("/attackers", false)] {
        let page = dashboard.get(Who::Viewer, path).await.text();
        assert_eq!(page.contains("echarts"), charts, "{path}");
        for tag in tags(&page).iter().filter(|tag| tag.name == "script") {
            assert!(tag.attribute("defer").is_some(), "{path}: {tag:?}");
        }
    }
}
