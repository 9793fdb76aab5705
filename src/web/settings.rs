//! How pages look, everybody's accounts, and what everybody did.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use reqwest::Method;
use serde_json::{Value, json};

use super::Web;
use super::attackers::parameter;
use super::error::{Failure, not_found};
use super::fleet::Confirm;
use super::page::{Look, Shell, back, local, next_link, query, show};
use super::text::{self, When, short, visible, when, word};
use super::visitor::{LOOK, Posted, Visitor};

/// Remembers theme and time zone; anybody logged in may, with no more than the page's word.
pub(super) async fn look(posted: Posted) -> Response {
    let look = Look::new(posted.field("theme"), posted.field("zone"));
    let chosen = text::encode(&format!("{}.{}", look.theme, look.zone));
    let mut response = Redirect::to(local(posted.field("here"))).into_response();
    let value = format!("{LOOK}={chosen}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

struct User {
    id: String,
    name: String,
    link: String,
    role: String,
    must_change: bool,
    totp: bool,
    created: When,
    own: bool,
}

#[derive(Template)]
#[template(path = "users.html", config = "src/askama.toml")]
struct Users {
    shell: Shell,
    users: Vec<User>,
    problem: String,
    made: String,
    password: String,
}

async fn users_page(
    web: &Web,
    visitor: &Visitor,
    made: &Value,
    problem: String,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let found = web.get(&visitor.caller, "/config/users").await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    show(&Users {
        users: rows
            .iter()
            .map(|row| User {
                id: text::encode(row["id"].as_str().unwrap_or_default()),
                name: word(row, "username"),
                link: text::encode(row["username"].as_str().unwrap_or_default()),
                role: word(row, "role"),
                must_change: row["must_change_password"] == true,
                totp: row["totp_enabled"] == true,
                created: when(row, "created_at", visitor.look.tz()),
                own: row["username"] == visitor.name.as_str(),
            })
            .collect(),
        problem,
        made: word(made, "username"),
        password: word(made, "password"),
        shell: Shell::new(visitor, "Users", "/users"),
    })
}

/// Everybody's accounts.
pub(super) async fn users(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    users_page(&web, &visitor, &Value::Null, String::new()).await
}

/// Adds an account and shows its password once.
pub(super) async fn add_user(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let body = json!({"username": posted.field("username"), "role": posted.field("role")});
    let caller = &posted.visitor.caller;
    match web.send(caller, Method::POST, "/config/users", &body).await {
        Ok(made) => users_page(&web, &posted.visitor, &made, String::new()).await,
        Err(failure @ Failure::Api { .. }) => {
            users_page(&web, &posted.visitor, &Value::Null, failure.detail()).await
        }
        Err(other) => Err(other),
    }
}

/// Asks before something is done to an account that it would notice.
pub(super) async fn confirm(
    visitor: Visitor,
    Path((id, verb)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let name = visible(&parameter(uri.query().unwrap_or_default(), "name"));
    let (question, meaning, button) = match verb.as_str() {
        "delete" => (
            format!("Delete the account {name}?"),
            "Its sessions end. What it did stays in the audit record.",
            "Delete",
        ),
        "reset" => (
            format!("Give {name} a new password?"),
            "Its sessions end. The new password is shown once and must be changed at the next login.",
            "Reset",
        ),
        "reset-totp" => (
            format!("Take the second factor of {name} away?"),
            "The password alone opens the account again, until another is set up. Its sessions end.",
            "Take it away",
        ),
        "end-sessions" => (
            format!("End every session of {name}?"),
            "Wherever it is logged in, it must log in again. Its API tokens stay.",
            "End them",
        ),
        _ => return Ok(not_found().await),
    };
    show(&Confirm {
        question,
        meaning: meaning.to_owned(),
        action: format!("/users/{}/{verb}", text::encode(&id)),
        button: button.to_owned(),
        back: "/users".to_owned(),
        shell: Shell::new(&visitor, "Sure?", "/users"),
    })
}

/// Changes or deletes an account.
pub(super) async fn change_user(
    State(web): State<Web>,
    Path((id, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = format!("/config/users/{}", text::encode(&id));
    let caller = &posted.visitor.caller;
    let done = match verb.as_str() {
        "delete" => web.send(caller, Method::DELETE, &path, &json!({})).await,
        "reset" => {
            let path = format!("{path}/reset-password");
            web.send(caller, Method::PUT, &path, &json!({})).await
        }
        "reset-totp" => {
            let path = format!("{path}/totp");
            web.send(caller, Method::DELETE, &path, &json!({})).await
        }
        "end-sessions" => {
            let path = format!("{path}/sessions");
            web.send(caller, Method::DELETE, &path, &json!({})).await
        }
        "role" => {
            let path = format!("{path}/role");
            let body = json!({"role": posted.field("role")});
            web.send(caller, Method::PUT, &path, &body).await
        }
        _ => return Ok(not_found().await),
    };
    match done {
        Ok(made) if verb == "reset" => {
            users_page(&web, &posted.visitor, &made, String::new()).await
        }
        Ok(_) => Ok(back("/users", "Done.")),
        Err(failure @ Failure::Api { .. }) => Ok(back("/users", &failure.detail())),
        Err(other) => Err(other),
    }
}

struct Deed {
    at: When,
    actor: String,
    address: String,
    action: String,
    target: String,
    outcome: String,
}

#[derive(Template)]
#[template(path = "audit.html", config = "src/askama.toml")]
struct Audit {
    shell: Shell,
    rows: Vec<Deed>,
    next: String,
    actor: String,
    action: String,
}

/// What everybody did.
pub(super) async fn audit(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let given = uri.query().unwrap_or_default();
    let asked = query(given, &["actor", "action", "before"]);
    let found = web.get(&visitor.caller, &format!("/audit?{asked}")).await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let deeds = rows.iter().map(|row| Deed {
        at: when(row, "at", visitor.look.tz()),
        actor: short(row["actor"].as_str().unwrap_or_default()),
        address: word(row, "address"),
        action: word(row, "action"),
        target: short(row["target"].as_str().unwrap_or_default()),
        outcome: word(row, "outcome"),
    });
    show(&Audit {
        rows: deeds.collect(),
        next: next_link(&visitor.here, &found["next"]),
        actor: visible(&parameter(given, "actor")),
        action: visible(&parameter(given, "action")),
        shell: Shell::new(&visitor, "Audit", "/audit"),
    })
}
