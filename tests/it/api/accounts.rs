//! Who may do what: accounts, API tokens, and every route against every role.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use decnet::db::user::Role;
use decnet::model::Stamp;
use serde_json::json;

use super::{TestApi, request};

/// Method and path of every operation, with something in place of each parameter.
fn operations() -> Vec<(Method, String, bool)> {
    let document: serde_json::Value = serde_json::from_str(&decnet::api::document()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut path = path.clone();
            while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
                path.replace_range(from..=to, "x");
            }
            let security = operation["security"].as_array();
            let open = security.is_some_and(|ways| ways.contains(&json!({})));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            found.push((method, path, open));
        }
    }
    found
}

#[tokio::test]
async fn without_a_token_nothing_opens_but_login_and_health() {
    let api = TestApi::new().await;
    let mut open = Vec::new();
    for (method, path, said_open) in operations() {
        let reply = api.send(request(method, &path, "", Body::from("{}"))).await;
        if reply.status != StatusCode::UNAUTHORIZED {
            open.push(path.clone());
        }
        assert_eq!(said_open, open.contains(&path), "{path} is described so");
    }
    assert_eq!(open, ["/api/v1/auth/login", "/api/v1/health"]);
}

#[tokio::test]
async fn a_viewer_changes_nothing_but_what_is_its_own() {
    let api = TestApi::new().await;
    let viewer = api.viewer().await;
    let own = [
        "/api/v1/auth/login",
        "/api/v1/auth/logout",
        "/api/v1/auth/logout-all",
        "/api/v1/auth/sessions/x",
        "/api/v1/auth/change-password",
        "/api/v1/auth/tokens",
        "/api/v1/auth/tokens/x",
        "/api/v1/auth/totp",
        "/api/v1/auth/totp/confirm",
        // Whoever may read a list may have it as a file.
        "/api/v1/exports",
    ];
    for (method, path, _) in operations() {
        if method == Method::GET || own.contains(&path.as_str()) {
            continue;
        }
        let reply = api
            .send(request(method.clone(), &path, &viewer, Body::from("{}")))
            .await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(reply.problem(), "admin-only");
    }
    for path in [
        "/config",
        "/config/users",
        "/audit",
        "/workers/api/log",
        "/auth/tokens?all=true",
    ] {
        let reply = api.get(&format!("/api/v1{path}"), &viewer).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn an_account_is_made_changed_and_deleted_and_each_is_on_record() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    let users = "/api/v1/config/users";
    let new = json!({"username": "bert", "role": "viewer"});
    let made = api.post(users, &admin, &new).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(api.post(users, &admin, &new).await.problem(), "name-taken");
    let bad = json!({"username": "a b", "role": "viewer"});
    assert_eq!(api.post(users, &admin, &bad).await.problem(), "bad-name");
    let password = made.body["password"].as_str().unwrap();
    let id = made.body["id"].as_str().unwrap();
    let login = api.login("bert", password).await.body;
    assert_eq!(login["must_change_password"], true);
    let token = login["token"].as_str().unwrap();
    let put = |path: String, body: &serde_json::Value| {
        request(Method::PUT, &path, &admin, Body::from(body.to_string()))
    };
    let promoted = api
        .send(put(format!("{users}/{id}/role"), &json!({"role": "admin"})))
        .await;
    assert_eq!(promoted.status, StatusCode::NO_CONTENT);
    let ended = api.get("/api/v1/auth/me", token).await;
    assert_eq!(ended.status, StatusCode::UNAUTHORIZED, "its sessions ended");
    let reset = api
        .send(put(format!("{users}/{id}/reset-password"), &json!({})))
        .await;
    assert_ne!(reset.body["password"], made.body["password"]);
    let delete = |path: String| request(Method::DELETE, &path, &admin, Body::empty());
    let gone = api.send(delete(format!("{users}/{id}"))).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let again = api.send(delete(format!("{users}/{id}"))).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let own = api.db.user_by_name("ada").await.unwrap().unwrap().id;
    let suicide = api.send(delete(format!("{users}/{own}"))).await;
    assert_eq!(suicide.problem(), "own-account");
    let audit = api
        .get("/api/v1/audit?actor=ada&action=user.", &admin)
        .await
        .body;
    let actions: Vec<&str> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "user.delete",
            "user.reset-password",
            "user.role.admin",
            "user.add"
        ]
    );
}

#[tokio::test]
async fn sessions_are_seen_ended_one_by_one_all_at_once_and_by_administrators() {
    let api = TestApi::new().await;
    api.account("vera", Role::Viewer).await;
    let body = json!({"username": "vera", "password": super::PASSWORD}).to_string();
    let mut login = request(Method::POST, "/api/v1/auth/login", "", Body::from(body));
    login
        .headers_mut()
        .insert("user-agent", "Browser/1".parse().unwrap());
    let first = api.send(login).await.body;
    let first = first["token"].as_str().unwrap();
    let second = api.viewer().await;
    let sessions = "/api/v1/auth/sessions";
    let list = api.get(sessions, first).await.body;
    let rows = list["items"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{list}");
    let own = rows.iter().find(|row| row["current"] == true).unwrap();
    assert_eq!(own["agent"], "Browser/1");
    assert_eq!(own["address"], "192.0.2.1");
    let other = rows.iter().find(|row| row["current"] == false).unwrap();
    assert!(other["agent"].is_null(), "{other}");
    let end = |id: &serde_json::Value, token: &str| {
        let path = format!("{sessions}/{}", id.as_str().unwrap());
        request(Method::DELETE, &path, token, Body::empty())
    };
    let stranger = api.admin().await;
    let foreign = api.send(end(&other["id"], &stranger)).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let ended = api.send(end(&other["id"], first)).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    let me = "/api/v1/auth/me";
    assert_eq!(
        api.get(me, &second).await.status,
        StatusCode::UNAUTHORIZED,
        "at once"
    );
    assert_eq!(api.get(me, first).await.status, StatusCode::OK);

    let third = api.viewer().await;
    let out = api.post("/api/v1/auth/logout-all", first, &json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    for token in [first, third.as_str()] {
        assert_eq!(api.get(me, token).await.status, StatusCode::UNAUTHORIZED);
    }

    let fourth = api.viewer().await;
    let tokens = json!({"name": "script", "role": "viewer"});
    let key = api.post("/api/v1/auth/tokens", &fourth, &tokens).await.body;
    let key = key["token"].as_str().unwrap();
    assert_eq!(api.get(sessions, key).await.problem(), "session-needed");
    let vera = api.db.user_by_name("vera").await.unwrap().unwrap().id;
    let path = format!("/api/v1/config/users/{vera}/sessions");
    let all = request(Method::DELETE, &path, &stranger, Body::empty());
    assert_eq!(api.send(all).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(me, &fourth).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get(me, key).await.status, StatusCode::OK, "tokens stay");
    let audit = api.db.audit_latest(4).await.unwrap();
    let actions: Vec<&str> = audit.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "user.end-sessions",
            "token.add",
            "logout-all",
            "session.end"
        ]
    );
}

#[tokio::test]
async fn an_api_token_does_what_it_may_until_it_is_revoked_or_over() {
    let api = TestApi::new().await;
    let admin = api.admin().await;
    let tokens = "/api/v1/auth/tokens";
    let new = json!({"name": "export job", "role": "viewer", "expires_in_days": 30});
    let made = api.post(tokens, &admin, &new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let key = made.body["token"].as_str().unwrap();
    assert_eq!(api.get("/api/v1/logs", key).await.status, StatusCode::OK);
    let refused = api.get("/api/v1/config/users", key).await;
    assert_eq!(
        refused.problem(),
        "admin-only",
        "a viewer's, whoever made it"
    );
    assert_eq!(
        api.post(tokens, key, &new).await.problem(),
        "session-needed"
    );
    let logout = api.post("/api/v1/auth/logout", key, &json!({})).await;
    assert_eq!(logout.problem(), "session-needed");
    let list = api.get(tokens, &admin).await.body;
    assert_eq!(list["items"][0]["name"], "export job");
    assert!(list["items"][0]["last_used_at"].is_string());
    assert!(!list.to_string().contains(key), "shown once");
    let viewer = api.viewer().await;
    let greedy = json!({"name": "x", "role": "admin"});
    assert_eq!(
        api.post(tokens, &viewer, &greedy).await.problem(),
        "admin-only"
    );
    // One that may all its owner may, whose owner then may less.
    let all = json!({"name": "all", "role": "admin"});
    let strong = api.post(tokens, &admin, &all).await.body;
    let strong = strong["token"].as_str().unwrap();
    assert_eq!(
        api.get("/api/v1/audit", strong).await.status,
        StatusCode::OK
    );
    let id = list["items"][0]["id"].as_str().unwrap();
    let revoke = request(
        Method::DELETE,
        &format!("{tokens}/{id}"),
        &admin,
        Body::empty(),
    );
    assert_eq!(api.send(revoke).await.status, StatusCode::NO_CONTENT);
    let after = api.get("/api/v1/logs", key).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED);
    let ada = api.db.user_by_name("ada").await.unwrap().unwrap();
    api.db
        .user_set_role(&ada.id, Role::Viewer, Stamp::now())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(
        api.get("/api/v1/audit", strong).await.problem(),
        "admin-only"
    );
}

/// The address that a login with these headers is recorded under.
async fn recorded(api: &TestApi, headers: &[(&'static str, &str)]) -> String {
    let body = json!({"username": "nobody", "password": "x"}).to_string();
    let mut login = request(Method::POST, "/api/v1/auth/login", "", Body::from(body));
    for (name, value) in headers {
        login.headers_mut().insert(*name, value.parse().unwrap());
    }
    api.send(login).await;
    api.db.audit_latest(1).await.unwrap()[0].address.clone()
}

#[tokio::test]
async fn only_the_dashboard_of_this_host_may_say_where_a_browser_is() {
    let api = TestApi::new().await;
    api.api.write_web_key().unwrap();
    let key = std::fs::read_to_string(api.dir.path().join("run/web.key")).unwrap();
    for (key, expected) in [
        ("", "192.0.2.1"),
        ("guess", "192.0.2.1"),
        (key.as_str(), "203.0.113.9"),
    ] {
        let headers = [("x-forwarded-for", "203.0.113.9"), ("x-decnet-web", key)];
        assert_eq!(recorded(&api, &headers).await, expected, "{key}");
    }
}

#[tokio::test]
async fn proxies_that_the_settings_name_may_say_it_too() {
    let forwarded = [("x-forwarded-for", "6.6.6.6, 203.0.113.9, 192.0.2.77")];
    for (proxies, expected) in [
        ("192.0.2.0/24", "203.0.113.9"),
        ("192.0.2.1", "192.0.2.77"),
        ("10.0.0.0/8", "192.0.2.1"),
    ] {
        let api = TestApi::with(&[("DECNET_API_TRUSTED_PROXIES", proxies)]).await;
        assert_eq!(recorded(&api, &forwarded).await, expected, "{proxies}");
    }
}

#[tokio::test]
async fn administrators_see_every_setting_and_no_secret() {
    let api = TestApi::with(&[
        ("DECNET_ADMIN_PASSWORD", "correct horse battery"),
        ("DECNET_API_PORT", "8123"),
    ])
    .await;
    let admin = api.admin().await;
    let found = api.get("/api/v1/config", &admin).await.body;
    assert!(!found.to_string().contains("correct horse"), "{found}");
    let rows = found["items"].as_array().unwrap();
    assert_eq!(rows.len(), decnet::config::key::KEYS.len());
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    let port = row("DECNET_API_PORT");
    assert_eq!(port["value"], "8123");
    assert_eq!(port["source"], "environment");
    assert_eq!(port["ini"], "api.port");
    assert_eq!(row("DECNET_ADMIN_PASSWORD")["value"], "***");
    assert_eq!(row("DECNET_WEB_PORT")["source"], "default");
}
