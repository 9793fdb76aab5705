//! Getting in and out; what other sites can and cannot do.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};

use super::api::FakeApi;
use super::{BROWSER, Dashboard, Who};

#[tokio::test]
async fn a_login_leaves_a_cookie_that_scripts_and_other_sites_do_not_get() {
    let dashboard = Dashboard::new().await;
    let form = "username=ada&password=right&next=%2Flive%3Fq%3Da";
    let page = dashboard.post_bare(Who::Nobody, "/login", form).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    assert_eq!(page.header("location"), "/live?q=a");
    let cookie = page.cookie("decnet_session").unwrap();
    assert!(
        cookie.starts_with("decnet_session=admin-token;"),
        "{cookie}"
    );
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    for lasting in ["Max-Age", "Expires", "Domain"] {
        assert!(!cookie.contains(lasting), "{cookie}");
    }
    let asked = dashboard.api.changes();
    assert_eq!(asked[0].path, "/auth/login");
    assert!(asked[0].headers.get(header::AUTHORIZATION).is_none());
}

#[tokio::test]
async fn a_wrong_password_is_said_on_the_page_and_the_name_stays() {
    let dashboard = Dashboard::new().await;
    let form = "username=ada&password=wrong&next=%2Flive";
    let page = dashboard.post_bare(Who::Nobody, "/login", form).await;
    assert!(page.cookie("decnet_session").is_none());
    let text = page.text();
    assert!(text.contains("role=\"alert\"") && text.contains("Wrong user name or password"));
    assert!(text.contains("value=\"ada\"") && text.contains("value=\"/live\""));
    assert!(!text.contains("wrong&") && !text.contains("value=\"wrong\""));
}

#[tokio::test]
async fn a_second_factor_is_a_second_page_that_holds_no_password() {
    let dashboard = Dashboard::new().await;
    let form = "username=cody&password=right&next=%2Flive";
    let page = dashboard.post_bare(Who::Nobody, "/login", form).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.cookie("decnet_session").is_none());
    let text = page.text();
    assert!(text.contains("action=\"/login/code\"") && text.contains("one-time-code"));
    assert!(
        !text.contains("right\"") && !text.contains("cody"),
        "{text}"
    );
    let ticket = |text: &str| {
        let rest = text.split("name=\"ticket\" value=\"").nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let first = ticket(&text);
    let form = format!("ticket={first}&code=1");
    let page = dashboard.post_bare(Who::Nobody, "/login/code", &form).await;
    assert!(page.cookie("decnet_session").is_none());
    assert!(page.text().contains("role=\"alert\""), "{}", page.text());
    assert_eq!(super::markup::dangers(&page.text()), [""; 0]);
    assert_eq!(ticket(&page.text()), first, "one may try again");
    let form = format!("ticket={first}&code=123456");
    let page = dashboard.post_bare(Who::Nobody, "/login/code", &form).await;
    assert_eq!(page.header("location"), "/live");
    assert!(page.cookie("decnet_session").is_some());
    for stale in [form, "ticket=guess&code=123456".to_owned()] {
        let page = dashboard
            .post_bare(Who::Nobody, "/login/code", &stale)
            .await;
        assert!(page.cookie("decnet_session").is_none());
        assert!(page.text().contains("log in once more"), "{}", page.text());
    }
}

#[tokio::test]
async fn the_secret_of_a_second_factor_is_shown_once_as_a_picture_and_as_text() {
    let dashboard = Dashboard::new().await;
    let page = dashboard
        .post(Who::Viewer, "/account/totp", "password=x")
        .await;
    let text = page.text();
    assert!(text.contains("ABCD EFGH"), "{text}");
    let picture = super::markup::tags(&text)
        .into_iter()
        .find(|tag| tag.name == "img")
        .unwrap();
    let source = picture.attribute("src").unwrap();
    assert!(source.starts_with("data:image/svg+xml;base64,"), "{source}");
    assert!(
        page.header("content-security-policy")
            .contains("img-src 'self' data:")
    );
    let page = dashboard
        .post(Who::Viewer, "/account/totp/confirm", "code=123456")
        .await;
    assert!(page.text().contains("aaaa-bbbb-cccc-dddd"));
    let page = dashboard
        .post(Who::Viewer, "/account/totp/end", "password=x&code=1")
        .await;
    assert_eq!(page.header("location"), "/account");
}

#[tokio::test]
async fn after_the_login_nobody_is_sent_to_another_site() {
    let dashboard = Dashboard::new().await;
    for next in [
        "//evil.example",
        "https://evil.example",
        "/%5Cevil.example",
        "%2F%0D%0Ax",
    ] {
        let form = format!("username=ada&password=right&next={next}");
        let page = dashboard.post_bare(Who::Nobody, "/login", &form).await;
        assert_eq!(page.header("location"), "/", "{next}");
    }
}

#[tokio::test]
async fn whoever_is_not_logged_in_gets_the_login_and_then_the_page_asked_for() {
    let dashboard = Dashboard::new().await;
    for who in [Who::Nobody, Who::Expired] {
        let page = dashboard.get(who, "/attackers?sort=active").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER);
        let to = page.header("location");
        assert_eq!(to, "/login?next=%2Fattackers%3Fsort%3Dactive");
    }
    let page = dashboard.get(Who::Nobody, "/login?next=%2Fattackers").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("value=\"/attackers\""));
}

#[tokio::test]
async fn a_session_that_ended_under_a_form_leads_to_a_page_and_not_to_the_order() {
    let dashboard = Dashboard::new().await;
    for (referer, to) in [
        ("http://127.0.0.1:8080/workers", "/login?next=%2Fworkers"),
        ("http://127.0.0.1:8080//evil.example", "/login?next=%2F"),
        ("http://127.0.0.1:8080", "/login?next=%2F"),
    ] {
        let request = Dashboard::request(Who::Expired, Method::POST, "/workers/bus/stop")
            .header(header::REFERER, referer)
            .body(Body::from("csrf=x"));
        let page = dashboard.send(request.unwrap()).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER);
        assert_eq!(page.header("location"), to);
    }
    assert!(dashboard.api.changes().is_empty());
}

#[tokio::test]
async fn what_a_page_fetches_by_itself_never_becomes_a_login_inside_that_page() {
    let dashboard = Dashboard::new().await;
    for (who, to) in [
        (Who::Expired, "/login?next=%2Ffleet%3Fstate%3Drunning"),
        (Who::Newcomer, "/password"),
    ] {
        for path in ["/workers/part", "/overview/part", "/fleet/-/part"] {
            let request = Dashboard::request(who, Method::GET, path)
                .header("hx-request", "true")
                .header(
                    "hx-current-url",
                    "http://127.0.0.1:8080/fleet?state=running",
                )
                .body(Body::empty());
            let page = dashboard.send(request.unwrap()).await;
            // A redirect would be followed in silence and the form put into the page.
            assert!(!page.status.is_redirection(), "{path}: {}", page.status);
            assert_eq!(page.header("hx-redirect"), to, "{path}");
            assert!(page.body.is_empty(), "{path}");
        }
    }
}

#[tokio::test]
async fn the_first_password_must_be_changed_before_anything_else() {
    let dashboard = Dashboard::new().await;
    for path in ["/", "/workers", "/account"] {
        let page = dashboard.get(Who::Newcomer, path).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{path}");
        assert_eq!(page.header("location"), "/password");
    }
    let page = dashboard.get(Who::Newcomer, "/password").await;
    assert_eq!(page.status, StatusCode::OK);
    let form = "old_password=a&new_password=One-long-pass-1&repeat_password=Another-pass-22";
    let page = dashboard.post_bare(Who::Newcomer, "/password", form).await;
    assert!(
        page.text().contains("two different ways"),
        "{}",
        page.text()
    );
    assert!(dashboard.api.changes().is_empty());
    let form = "old_password=a&new_password=One-long-pass-1&repeat_password=One-long-pass-1";
    let page = dashboard.post_bare(Who::Newcomer, "/password", form).await;
    assert_eq!(page.header("location"), "/");
    let asked = dashboard.api.changes();
    assert_eq!(asked[0].path, "/auth/change-password");
    assert!(asked[0].body.contains("One-long-pass-1"));
}

#[tokio::test]
async fn logging_out_ends_the_session_in_the_api_too() {
    let dashboard = Dashboard::new().await;
    let page = dashboard.post(Who::Viewer, "/logout", "").await;
    assert_eq!(page.header("location"), "/login");
    let cookie = page.cookie("decnet_session").unwrap();
    assert!(
        cookie.starts_with("decnet_session=;") && cookie.contains("Max-Age=0"),
        "{cookie}"
    );
    let asked = dashboard.api.changes();
    assert_eq!(asked[0].path, "/auth/logout");
    assert_eq!(
        asked[0].headers[header::AUTHORIZATION],
        "Bearer viewer-token"
    );
}

#[tokio::test]
async fn logging_out_everywhere_and_elsewhere_is_asked_of_the_api() {
    let dashboard = Dashboard::new().await;
    let text = dashboard.get(Who::Viewer, "/account").await.text();
    assert!(text.contains("/account/sessions/s-1/end"), "{text}");
    assert!(!text.contains("/account/sessions/s-2/end"), "this one");
    let page = dashboard
        .post(Who::Viewer, "/account/sessions/s-1/end", "")
        .await;
    assert_eq!(page.header("location"), "/account");
    let page = dashboard.post(Who::Viewer, "/account/logout-all", "").await;
    assert_eq!(page.header("location"), "/login");
    assert!(page.cookie("decnet_session").unwrap().contains("Max-Age=0"));
    dashboard
        .post(Who::Admin, "/users/u-1/end-sessions", "")
        .await;
    let asked = dashboard.api.changes();
    let asked: Vec<String> = asked
        .iter()
        .map(|a| format!("{} {}", a.method, a.path))
        .collect();
    assert_eq!(
        asked,
        [
            "DELETE /auth/sessions/s-1",
            "POST /auth/logout-all",
            "DELETE /config/users/u-1/sessions",
        ]
    );
}

#[tokio::test]
async fn another_sites_form_changes_nothing() {
    let dashboard = Dashboard::new().await;
    let token = dashboard.form_token(Who::Admin).await;
    let cases: [&[(&str, &str)]; 4] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[],
    ];
    for sent in cases {
        let mut request = axum::http::Request::post("/workers/bus/stop")
            .header(header::HOST, "127.0.0.1:8080")
            .header(header::COOKIE, "decnet_session=admin-token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in sent {
            request = request.header(*name, *value);
        }
        let body = Body::from(format!("csrf={token}"));
        let page = dashboard.send(request.body(body).unwrap()).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{sent:?}");
    }
    assert!(dashboard.api.changes().is_empty());
}

#[tokio::test]
async fn a_form_needs_the_token_of_its_own_session() {
    let dashboard = Dashboard::new().await;
    let foreign = dashboard.form_token(Who::Viewer).await;
    let own = dashboard.form_token(Who::Admin).await;
    assert_ne!(foreign, own);
    for form in ["".to_owned(), "csrf=".to_owned(), format!("csrf={foreign}")] {
        let page = dashboard
            .post_bare(Who::Admin, "/workers/bus/stop", &form)
            .await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{form}");
    }
    assert!(dashboard.api.changes().is_empty());
    let form = format!("csrf={own}");
    let page = dashboard
        .post_bare(Who::Admin, "/workers/bus/stop", &form)
        .await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    assert_eq!(dashboard.api.changes()[0].path, "/workers/bus/stop");
}

#[tokio::test]
async fn orders_are_sent_with_post_alone() {
    let dashboard = Dashboard::new().await;
    for path in [
        "/logout",
        "/workers/start-all",
        "/workers/bus/stop",
        "/users/u-1/role",
    ] {
        let page = dashboard.get(Who::Admin, path).await;
        assert!(!page.status.is_success(), "{path}: {}", page.status);
    }
    assert!(dashboard.api.changes().is_empty());
}

#[tokio::test]
async fn names_in_paths_cannot_reach_another_route_of_the_api() {
    let dashboard = Dashboard::new().await;
    for path in [
        "/workers/x%2F..%2F..%2Fconfig%2Fusers%2Fu-1%3Fx/stop",
        "/workers/%2e%2E/stop",
        "/users/%2e%2e/delete",
    ] {
        dashboard.post(Who::Admin, path, "").await;
    }
    for path in [
        "/logs/x%2F..%2Fworkers",
        "/fleet/a%3Fb%23c",
        "/fleet/..",
        "/attackers/%2E",
    ] {
        dashboard.get(Who::Admin, path).await;
    }
    let asked: Vec<String> = dashboard.api.asked().into_iter().map(|a| a.path).collect();
    let asked: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    let expected = BTreeSet::from([
        // The page that the form's token is read from.
        "/workers",
        "/workers/x%2F..%2F..%2Fconfig%2Fusers%2Fu-1%3Fx/stop",
        "/logs/x%2F..%2Fworkers",
        "/deckies/a%3Fb%23c",
        // What could be added to that decky.
        "/services",
    ]);
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn the_api_hears_where_the_browser_is_only_from_who_can_read_the_key() {
    let dashboard = Dashboard::new().await;
    dashboard.get(Who::Viewer, "/workers").await;
    let run = dashboard.dir.path().join("run");
    std::fs::write(run.join("web.key"), "the-key\n").unwrap();
    dashboard.get(Who::Viewer, "/workers").await;
    let asked = dashboard.api.asked();
    assert!(!asked[0].headers.contains_key("x-decnet-web"));
    assert!(!asked[0].headers.contains_key("x-forwarded-for"));
    assert_eq!(asked[1].headers["x-decnet-web"], "the-key");
    assert_eq!(asked[1].headers["x-forwarded-for"], BROWSER.to_string());
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_about_the_browser_and_about_tls_and_no_other_is() {
    for (proxies, browser, secure) in [
        ("192.0.2.0/24", "203.0.113.9", true),
        ("198.51.100.0/24", "192.0.2.44", false),
    ] {
        let dashboard = Dashboard::trusting(FakeApi::start().await, proxies);
        let run = dashboard.dir.path().join("run");
        std::fs::write(run.join("web.key"), "the-key\n").unwrap();
        let form = "username=ada&password=right&next=%2F";
        let request = Dashboard::request(Who::Nobody, Method::POST, "/login")
            .header("x-forwarded-for", "6.6.6.6, 203.0.113.9")
            .header("x-forwarded-proto", "https")
            .body(Body::from(form));
        let page = dashboard.send(request.unwrap()).await;
        let cookie = page.cookie("decnet_session").unwrap();
        assert_eq!(cookie.ends_with("; Secure"), secure, "{cookie}");
        let asked = dashboard.api.changes();
        assert_eq!(asked[0].headers["x-forwarded-for"], browser);
    }
}

#[tokio::test]
async fn an_api_that_is_not_there_is_said_so_and_the_page_tries_again() {
    let gone = FakeApi::start().await;
    let nowhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut gone = gone;
    gone.address = nowhere.local_addr().unwrap();
    drop(nowhere);
    let dashboard = Dashboard::before(gone);
    let page = dashboard.get(Who::Viewer, "/workers").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(page.header("retry-after"), "5");
    assert!(page.text().contains("http-equiv=\"refresh\""));
    let form = "username=ada&password=right";
    let page = dashboard.post_bare(Who::Nobody, "/login", form).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn every_reply_forbids_what_is_not_ours() {
    let dashboard = Dashboard::new().await;
    for (who, path) in [
        (Who::Nobody, "/login"),
        (Who::Nobody, "/"),
        (Who::Nobody, "/nowhere"),
        (Who::Admin, "/"),
        (Who::Admin, "/logs/999"),
        (Who::Viewer, "/users"),
        (Who::Admin, "/overview/map.svg"),
        (Who::Admin, "/jobs/j-2/file"),
        (Who::Admin, "/logout"),
        (Who::Nobody, "/assets/0/app.css"),
        (Who::Admin, "/fleet/%ff"),
    ] {
        let page = dashboard.get(who, path).await;
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        for part in [
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(page.header("cross-origin-resource-policy"), "same-origin");
        assert!(page.header("cache-control").contains("no-store"), "{path}");
    }
}

#[tokio::test]
async fn a_form_that_is_too_large_is_refused() {
    let dashboard = Dashboard::new().await;
    let form = format!("username={}", "a".repeat(2 << 20));
    let page = dashboard.post_bare(Who::Nobody, "/login", &form).await;
    assert!(page.status.is_client_error(), "{}", page.status);
    assert!(dashboard.api.changes().is_empty());
}

#[tokio::test]
async fn theme_and_time_zone_are_remembered_and_used() {
    let dashboard = Dashboard::new().await;
    let form = "theme=dark&zone=America%2FSantiago&here=%2Fworkers";
    let page = dashboard.post(Who::Viewer, "/look", form).await;
    assert_eq!(page.header("location"), "/workers");
    let cookie = page.cookie("decnet_look").unwrap();
    let look = cookie.split(';').next().unwrap();
    let request = Dashboard::request(Who::Nobody, Method::GET, "/attackers")
        .header(
            header::COOKIE,
            format!("decnet_session=viewer-token; {look}"),
        )
        .body(Body::empty());
    let text = dashboard.send(request.unwrap()).await.text();
    assert!(text.contains("data-theme=\"dark\""));
    assert!(text.contains("datetime=\"2026-11-27T20:00:00.123456Z\">2026-11-27 17:00:00"));
    for evil in ["..%2F..%2Fetc%2Fpasswd", "%22%3E%3Cscript%3E", "No%2FWhere"] {
        let form = format!("theme=%22x&zone={evil}&here=%2F%2Fevil.example");
        let page = dashboard.post(Who::Viewer, "/look", &form).await;
        assert_eq!(page.header("location"), "/");
        let cookie = page.cookie("decnet_look").unwrap();
        assert!(cookie.starts_with("decnet_look=auto.UTC;"), "{cookie}");
    }
}
