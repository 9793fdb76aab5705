//! One's own account: its second factor, where it is logged in, its API tokens.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use reqwest::Method;
use serde_json::{Value, json};

use super::Web;
use super::error::Failure;
use super::login;
use super::page::{Shell, back, show};
use super::text::{self, When, short, when, word};
use super::visitor::{Posted, Visitor};

/// Where it is.
pub(super) const HERE: &str = "/account";

#[derive(Template)]
#[template(path = "account.html", config = "src/askama.toml")]
struct Account {
    shell: Shell,
    role: String,
    expires: When,
    /// Whether the login asks for a code.
    totp: bool,
    /// Recovery codes left.
    left: i64,
    sessions: Vec<Session>,
    tokens: Vec<Token>,
    /// A token that was just made, shown once.
    made: String,
    problem: String,
}

struct Session {
    id: String,
    address: String,
    agent: String,
    created: When,
    used: When,
    current: bool,
}

struct Token {
    id: String,
    name: String,
    role: String,
    created: When,
    expires: When,
    used: When,
}

/// One's own account.
pub(super) async fn page(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    with(&web, &visitor, String::new(), String::new()).await
}

async fn with(
    web: &Web,
    visitor: &Visitor,
    made: String,
    problem: String,
) -> Result<Response, Failure> {
    let caller = &visitor.caller;
    let me = web.get(caller, "/auth/me").await?;
    let totp = web.get(caller, "/auth/totp").await?;
    let sessions = web.get(caller, "/auth/sessions").await?;
    let tokens = web.get(caller, "/auth/tokens").await?;
    let tz = visitor.look.tz();
    show(&Account {
        role: word(&me, "role"),
        expires: when(&me, "expires_at", tz),
        totp: totp["enabled"] == true,
        left: totp["recovery_codes_left"].as_i64().unwrap_or_default(),
        sessions: items(&sessions)
            .map(|row| Session {
                id: link(row),
                address: word(row, "address"),
                agent: short(row["agent"].as_str().unwrap_or_default()),
                created: when(row, "created_at", tz),
                used: when(row, "last_used_at", tz),
                current: row["current"] == true,
            })
            .collect(),
        tokens: items(&tokens)
            .map(|row| Token {
                id: link(row),
                name: word(row, "name"),
                role: word(row, "role"),
                created: when(row, "created_at", tz),
                expires: when(row, "expires_at", tz),
                used: when(row, "last_used_at", tz),
            })
            .collect(),
        made,
        problem,
        shell: Shell::new(visitor, "Account", HERE),
    })
}

/// The account, and what was wrong with what was asked.
pub(super) async fn wrong(
    web: &Web,
    visitor: &Visitor,
    failure: &Failure,
) -> Result<Response, Failure> {
    with(web, visitor, String::new(), failure.detail()).await
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// The id of a row as part of an address.
fn link(row: &Value) -> String {
    text::encode(row["id"].as_str().unwrap_or_default())
}

/// Back to the account, which says `done` or why not.
pub(super) fn said(outcome: Result<Value, Failure>, done: &str) -> Result<Response, Failure> {
    match outcome {
        Ok(_) => Ok(back(HERE, done)),
        Err(failure @ Failure::Api { .. }) => Ok(back(HERE, &failure.detail())),
        Err(other) => Err(other),
    }
}

/// Ends one of one's own sessions.
pub(super) async fn end_session(
    State(web): State<Web>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = format!("/auth/sessions/{}", text::encode(&id));
    let caller = &posted.visitor.caller;
    let ended = web.send(caller, Method::DELETE, &path, &json!({})).await;
    said(ended, "The session was ended.")
}

/// Ends every session of the account, this one too.
pub(super) async fn logout_all(
    State(web): State<Web>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = "/auth/logout-all";
    let caller = &posted.visitor.caller;
    web.send(caller, Method::POST, path, &json!({})).await?;
    let mut response = Redirect::to("/login").into_response();
    login::end_session(&mut response);
    Ok(response)
}

/// Makes an API token and shows it once.
pub(super) async fn add_token(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let mut body = json!({"name": posted.field("name"), "role": posted.field("role")});
    if let Ok(days) = posted.field("days").parse::<u32>() {
        body["expires_in_days"] = days.into();
    }
    let caller = &posted.visitor.caller;
    match web.send(caller, Method::POST, "/auth/tokens", &body).await {
        Ok(made) => {
            let token = word(&made, "token");
            with(&web, &posted.visitor, token, String::new()).await
        }
        Err(failure @ Failure::Api { .. }) => wrong(&web, &posted.visitor, &failure).await,
        Err(other) => Err(other),
    }
}

/// Ends an API token.
pub(super) async fn revoke_token(
    State(web): State<Web>,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = format!("/auth/tokens/{}", text::encode(&id));
    let caller = &posted.visitor.caller;
    let revoked = web.send(caller, Method::DELETE, &path, &json!({})).await;
    said(revoked, "The token was revoked.")
}
