//! Sessions, roles, passwords, back-off.

use std::time::Duration;

use axum::http::{StatusCode, header};
use decnet::db::token::Whence;
use decnet::db::user::Role;
use decnet::model::Stamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{PASSWORD, TestApi};

const CHANGE: &str = "/api/v1/auth/change-password";

async fn with_admin() -> TestApi {
    let api = TestApi::with(&[("DECNET_ADMIN_PASSWORD", PASSWORD)]).await;
    api.api.seed().await.unwrap();
    api
}

#[tokio::test]
async fn a_given_first_password_must_be_changed_before_anything_else() {
    let api = with_admin().await;
    let login = api.login("admin", PASSWORD).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.body);
    assert_eq!(login.body["must_change_password"], true);
    assert_eq!(login.body["role"], "admin");
    assert!(Stamp::parse(login.body["expires_at"].as_str().unwrap()).unwrap() > Stamp::now());
    let token = login.body["token"].as_str().unwrap();
    assert_eq!(token.len(), 43, "256 bits");
    let other = api.login("admin", PASSWORD).await.body["token"]
        .as_str()
        .unwrap()
        .to_owned();

    let refused = api.get("/api/v1/logs", token).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.problem(), "password-change-required");
    assert!(refused.body["detail"].as_str().unwrap().contains(CHANGE));
    assert_eq!(
        api.get("/api/v1/auth/me", token).await.status,
        StatusCode::OK
    );

    let change = |old: &str, new: &str| json!({"old_password": old, "new_password": new});
    let wrong = api
        .post(
            CHANGE,
            token,
            &change("not it, really", "a brand new phrase"),
        )
        .await;
    assert_eq!(
        (wrong.status, wrong.problem()),
        (StatusCode::FORBIDDEN, "wrong-password")
    );
    for bad in [PASSWORD, "short", "aaaaaaaaaaaaaaaa", "the admin's phrase"] {
        let reply = api.post(CHANGE, token, &change(PASSWORD, bad)).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        assert_eq!(reply.problem(), "bad-password");
    }
    let done = api
        .post(CHANGE, token, &change(PASSWORD, "a brand new phrase"))
        .await;
    assert_eq!(done.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get("/api/v1/logs", token).await.status, StatusCode::OK);
    assert_eq!(
        api.get("/api/v1/logs", &other).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        api.login("admin", PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        api.login("admin", "a brand new phrase").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn none_of_the_last_five_passwords_is_taken_again() {
    let api = TestApi::new().await;
    api.account("vera", Role::Viewer).await;
    let login = api.login("vera", PASSWORD).await.body;
    let token = login["token"].as_str().unwrap();
    let mut old = PASSWORD.to_owned();
    let change = |old: &str, new: &str| json!({"old_password": old, "new_password": new});
    for n in 1..=5 {
        // The first one is refused until five others came after it.
        let back = api.post(CHANGE, token, &change(&old, PASSWORD)).await;
        assert_eq!(back.problem(), "bad-password", "{n}");
        let new = format!("another long phrase {n}");
        let done = api.post(CHANGE, token, &change(&old, &new)).await;
        assert_eq!(done.status, StatusCode::NO_CONTENT, "{n}: {}", done.body);
        old = new;
    }
    let done = api.post(CHANGE, token, &change(&old, PASSWORD)).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT, "{}", done.body);
}

#[tokio::test]
async fn the_first_password_is_made_once_kept_private_and_its_file_goes_when_it_is_changed() {
    use std::os::unix::fs::PermissionsExt;
    let api = TestApi::new().await;
    api.api.seed().await.unwrap();
    api.api.seed().await.unwrap();
    let path = api.dir.path().join("admin-password");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(password.len(), 24);
    let login = api.login("admin", &password).await.body;
    assert_eq!(login["must_change_password"], true);
    let token = login["token"].as_str().unwrap();
    let body = json!({"old_password": password, "new_password": "a brand new phrase"});
    assert_eq!(
        api.post(CHANGE, token, &body).await.status,
        StatusCode::NO_CONTENT
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn an_unusable_given_password_is_a_configuration_error() {
    let api = TestApi::with(&[("DECNET_ADMIN_PASSWORD", "short")]).await;
    let error = api.api.seed().await.unwrap_err();
    assert!(error.is::<decnet::config::Error>());
    assert!(!format!("{error:#}").contains("short"), "{error:#}");
}

#[tokio::test]
async fn wrong_passwords_are_refused_alike_and_slowed_down_for_known_and_unknown_names() {
    let api = with_admin().await;
    for name in ["admin", "nobody"] {
        for _ in 0..5 {
            let reply = api.login(name, "wrong wrong wrong").await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
            assert_eq!(reply.body["detail"], "Wrong user name or password.");
        }
        let reply = api.login(name, PASSWORD).await;
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{name}");
        assert_eq!(reply.problem(), "too-many-attempts");
        assert_eq!(reply.headers[header::RETRY_AFTER], "1");
        // The address has failed ten times by the second name; clear both by waiting.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::time::resume();
    }
    let reply = api.login("admin", PASSWORD).await;
    assert_eq!(
        reply.status,
        StatusCode::OK,
        "after the wait the right one works"
    );
    let audit = api.db.audit_latest(100).await.unwrap();
    assert_eq!(audit.len(), 11, "what was not looked at is not recorded");
    assert_eq!(
        (audit[0].actor.as_str(), audit[0].outcome.as_str()),
        ("admin", "ok")
    );
    assert_eq!(
        (audit[1].actor.as_str(), audit[1].outcome.as_str()),
        ("nobody", "refused")
    );
    assert_eq!(audit[1].address, "192.0.2.1");
}

#[tokio::test]
async fn an_unknown_name_takes_as_long_as_a_known_one() {
    let api = with_admin().await;
    // Best of three each: the machine may be busy with other things.
    let mut best = [Duration::MAX; 2];
    for _ in 0..3 {
        for (slot, name) in best.iter_mut().zip(["admin", "nobody"]) {
            let start = std::time::Instant::now();
            assert_eq!(
                api.login(name, "wrong wrong wrong").await.status,
                StatusCode::UNAUTHORIZED
            );
            *slot = (*slot).min(start.elapsed());
        }
    }
    let [known, unknown] = best;
    assert!(
        unknown * 4 > known && known * 4 > unknown,
        "{known:?} against {unknown:?}"
    );
}

#[tokio::test]
async fn a_session_ends_at_logout_and_when_it_expires() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    assert_eq!(api.get("/api/v1/logs", &token).await.status, StatusCode::OK);
    let out = api.post("/api/v1/auth/logout", &token, &json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert_eq!(
        api.get("/api/v1/logs", &token).await.status,
        StatusCode::UNAUTHORIZED
    );

    let user = api.db.user_by_name("vera").await.unwrap().unwrap();
    let past = Stamp(Stamp::now().0 - 10_000_000);
    let hash: [u8; 32] = Sha256::digest(b"old").into();
    api.db
        .session_add(&hash, &user.id, &Whence::default(), past, Stamp(past.0 + 1))
        .await
        .unwrap();
    assert_eq!(
        api.get("/api/v1/logs", "old").await.status,
        StatusCode::UNAUTHORIZED
    );
    let idle = Stamp(Stamp::now().0 - 3_601_000_000);
    let hash: [u8; 32] = Sha256::digest(b"idle").into();
    let far = Stamp::now().plus(Duration::from_secs(9999));
    api.db
        .session_add(&hash, &user.id, &Whence::default(), idle, far)
        .await
        .unwrap();
    assert_eq!(
        api.get("/api/v1/logs", "idle").await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_viewer_may_look_and_not_act() {
    let api = TestApi::new().await;
    let viewer = api.token("vera", Role::Viewer).await;
    assert_eq!(
        api.get("/api/v1/workers", &viewer).await.status,
        StatusCode::OK
    );
    for path in ["bus/start", "bus/stop", "bus/restart", "start-all"] {
        let reply = api
            .post(&format!("/api/v1/workers/{path}"), &viewer, &json!({}))
            .await;
        assert_eq!(
            (reply.status, reply.problem()),
            (StatusCode::FORBIDDEN, "admin-only")
        );
    }
}

#[tokio::test]
async fn only_the_bearer_scheme_with_a_known_token_opens_anything() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let me = api.get("/api/v1/auth/me", &token).await;
    assert_eq!(me.body["username"], "vera");
    for bad in ["", "x", "Bearer"] {
        let reply = api.get("/api/v1/auth/me", bad).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    let url = format!("/api/v1/auth/me?token={token}");
    assert_eq!(api.get(&url, "").await.status, StatusCode::UNAUTHORIZED);
}
