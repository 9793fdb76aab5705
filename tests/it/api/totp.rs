//! The second factor: beginning, confirming, logging in with it, losing it.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use decnet::db::user::Role;
use serde_json::{Value, json};

use super::{PASSWORD, Reply, TestApi, request};
use crate::authenticator::code;

const TOTP: &str = "/api/v1/auth/totp";

async fn login(api: &TestApi, password: &str, totp: &str) -> Reply {
    let body = json!({"username": "vera", "password": password, "totp": totp});
    api.post("/api/v1/auth/login", "", &body).await
}

async fn end(api: &TestApi, token: &str, body: &Value) -> Reply {
    let body = Body::from(body.to_string());
    api.send(request(Method::DELETE, TOTP, token, body)).await
}

/// A session, the secret and the recovery codes of an account that has a second factor.
async fn with_totp(api: &TestApi) -> (String, String, Vec<String>) {
    api.account("vera", Role::Viewer).await;
    let token = api.login("vera", PASSWORD).await.body["token"].clone();
    let token = token.as_str().unwrap().to_owned();
    let begun = api.post(TOTP, &token, &json!({"password": PASSWORD})).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.body);
    let secret = begun.body["secret"].as_str().unwrap().to_owned();
    let body = json!({"code": code(&secret, 0)});
    let on = api.post(&format!("{TOTP}/confirm"), &token, &body).await;
    assert_eq!(on.status, StatusCode::OK, "{}", on.body);
    let codes = on.body["recovery_codes"].as_array().unwrap();
    let codes = codes.iter().map(|c| c.as_str().unwrap().to_owned());
    (token, secret, codes.collect())
}

#[tokio::test]
async fn it_is_begun_with_the_password_and_counts_from_the_first_right_code_on() {
    let api = TestApi::new().await;
    api.account("vera", Role::Viewer).await;
    let first = api.login("vera", PASSWORD).await.body["token"].clone();
    let token = api.login("vera", PASSWORD).await.body["token"].clone();
    let (first, token) = (first.as_str().unwrap(), token.as_str().unwrap());
    let wrong = api
        .post(TOTP, token, &json!({"password": "not the password"}))
        .await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert_eq!(wrong.problem(), "wrong-password");
    let begun = api.post(TOTP, token, &json!({"password": PASSWORD})).await;
    let secret = begun.body["secret"].as_str().unwrap();
    let uri = begun.body["uri"].as_str().unwrap();
    assert!(uri.starts_with(&format!("otpauth://totp/DECNET:vera?secret={secret}&")));
    let vera = api.db.user_by_name("vera").await.unwrap().unwrap();
    let stored = api.db.totp_find(&vera.id).await.unwrap().unwrap().secret;
    assert!(stored.starts_with("v1.") && !stored.contains(secret));
    let state = api.get(TOTP, token).await.body;
    assert_eq!(state, json!({"enabled": false, "recovery_codes_left": 0}));
    let login = api.login("vera", PASSWORD).await;
    assert_eq!(login.status, StatusCode::OK, "not yet");

    let confirm = format!("{TOTP}/confirm");
    let bad = api.post(&confirm, token, &json!({"code": "12345"})).await;
    assert_eq!(bad.problem(), "wrong-code");
    let good = json!({"code": code(secret, 0)});
    let on = api.post(&confirm, token, &good).await;
    assert_eq!(on.status, StatusCode::OK, "{}", on.body);
    assert_eq!(on.body["recovery_codes"].as_array().unwrap().len(), 10);
    let me = "/api/v1/auth/me";
    assert_eq!(api.get(me, token).await.status, StatusCode::OK);
    assert_eq!(
        api.get(me, first).await.status,
        StatusCode::UNAUTHORIZED,
        "other sessions knew no code"
    );
    let state = api.get(TOTP, token).await.body;
    assert_eq!(state, json!({"enabled": true, "recovery_codes_left": 10}));
    let again = api.post(&confirm, token, &good).await;
    assert_eq!(again.problem(), "totp-not-begun");
    let anew = api.post(TOTP, token, &json!({"password": PASSWORD})).await;
    assert_eq!(anew.problem(), "totp-enabled");
}

#[tokio::test]
async fn a_login_needs_password_and_code_and_takes_each_code_once() {
    let api = TestApi::new().await;
    let (_, secret, codes) = with_totp(&api).await;
    let without = api.login("vera", PASSWORD).await;
    assert_eq!(without.status, StatusCode::UNAUTHORIZED);
    assert_eq!(without.problem(), "totp-required");
    assert_eq!(without.body["type"], "urn:decnet:problem:totp-required");
    let next = code(&secret, 1);
    let guess = login(&api, "not the password", &next).await;
    assert_eq!(guess.problem(), "unauthorized", "as without a code");
    let used = login(&api, PASSWORD, &code(&secret, 0)).await;
    assert_eq!(used.problem(), "wrong-code", "it confirmed");
    let (head, tail) = next.split_at(3);
    let spaced = format!("{head} {tail}");
    let good = login(&api, PASSWORD, &spaced).await;
    assert_eq!(good.status, StatusCode::OK, "{}", good.body);
    assert_eq!(login(&api, PASSWORD, &next).await.problem(), "wrong-code");
    let recovered = login(&api, PASSWORD, &codes[3].to_uppercase()).await;
    assert_eq!(recovered.status, StatusCode::OK, "{}", recovered.body);
    let token = recovered.body["token"].as_str().unwrap();
    assert_eq!(api.get(TOTP, token).await.body["recovery_codes_left"], 9);
    let twice = login(&api, PASSWORD, &codes[3]).await;
    assert_eq!(twice.problem(), "wrong-code");
    let long = login(&api, PASSWORD, &"1".repeat(65)).await;
    assert_eq!(long.problem(), "bad-body");
    let audit = api.db.audit_latest(3).await.unwrap();
    let said: Vec<(&str, &str)> = audit
        .iter()
        .map(|row| (row.action.as_str(), row.outcome.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("login", "wrong-code"),
            ("login", "ok"),
            ("totp.recovery-code", "ok, 9 left")
        ]
    );
}

#[tokio::test]
async fn codes_are_guessed_no_faster_than_passwords() {
    let api = TestApi::new().await;
    let (_, _, codes) = with_totp(&api).await;
    // The right password takes nothing back as long as the code is missing.
    for n in 0..5 {
        let code = if n % 2 == 0 { "000000x" } else { "" };
        let reply = login(&api, PASSWORD, code).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{n}");
    }
    let reply = login(&api, PASSWORD, &codes[0]).await;
    assert_eq!(reply.problem(), "too-many-attempts");
}

#[tokio::test]
async fn it_is_ended_with_both_or_by_an_administrator() {
    let api = TestApi::new().await;
    let (token, _, codes) = with_totp(&api).await;
    let tokens = json!({"name": "script", "role": "viewer"});
    let key = api.post("/api/v1/auth/tokens", &token, &tokens).await.body;
    let both = json!({"password": PASSWORD, "code": codes[0]});
    let by_key = end(&api, key["token"].as_str().unwrap(), &both).await;
    assert_eq!(by_key.problem(), "session-needed");
    let code_alone = json!({"password": "not the password", "code": codes[0]});
    let refused = end(&api, &token, &code_alone).await;
    assert_eq!(refused.problem(), "wrong-password");
    let password_alone = json!({"password": PASSWORD, "code": "1"});
    let refused = end(&api, &token, &password_alone).await;
    assert_eq!(refused.problem(), "wrong-code");
    let ended = end(&api, &token, &both).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    assert_eq!(end(&api, &token, &both).await.problem(), "totp-off");
    assert_eq!(api.login("vera", PASSWORD).await.status, StatusCode::OK);

    let begun = api.post(TOTP, &token, &json!({"password": PASSWORD})).await;
    let body = json!({"code": code(begun.body["secret"].as_str().unwrap(), 0)});
    api.post(&format!("{TOTP}/confirm"), &token, &body).await;
    let admin = api.admin().await;
    let users = api.get("/api/v1/config/users", &admin).await.body;
    let vera = users["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["username"] == "vera")
        .unwrap();
    assert_eq!(vera["totp_enabled"], true);
    let path = format!("/api/v1/config/users/{}/totp", vera["id"].as_str().unwrap());
    let reset = || request(Method::DELETE, &path, &admin, Body::empty());
    assert_eq!(api.send(reset()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.send(reset()).await.status, StatusCode::NOT_FOUND);
    let over = api.get(TOTP, &token).await;
    assert_eq!(over.status, StatusCode::UNAUTHORIZED, "its sessions end");
    assert_eq!(api.login("vera", PASSWORD).await.status, StatusCode::OK);
    let audit = api
        .get("/api/v1/audit?action=user.reset-totp", &admin)
        .await
        .body;
    assert_eq!(audit["items"][0]["target"], "vera");
}
