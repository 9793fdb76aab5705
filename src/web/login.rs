//! Getting in and out, and the change of password that the first login asks for.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use reqwest::Method;
use serde_json::json;

use super::client::Caller;
use super::error::Failure;
use super::page::{Look, back, local};
use super::second::{self, Pending};
use super::visitor::{self, Posted, SESSION};
use super::{Web, assets, text};

#[derive(Template)]
#[template(path = "login.html", config = "src/askama.toml")]
struct Login {
    css: String,
    theme: &'static str,
    next: String,
    name: String,
    problem: String,
}

/// The login page, which says `problem`.
pub(super) fn again(
    headers: &HeaderMap,
    next: &str,
    name: &str,
    problem: &str,
) -> Result<Response, Failure> {
    let page = Login {
        css: assets::link("app.css"),
        theme: Look::of(headers).theme,
        next: local(next).to_owned(),
        name: name.to_owned(),
        problem: problem.to_owned(),
    };
    Ok(Html(page.render()?).into_response())
}

fn parameter(uri: &Uri, name: &str) -> String {
    let query = uri.query().unwrap_or_default();
    let mut found = text::pairs(query).filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value).unwrap_or_default()
}

/// The login page.
pub(super) async fn form(uri: Uri, headers: HeaderMap) -> Result<Response, Failure> {
    again(&headers, &parameter(&uri, "next"), "", "")
}

/// Logs in.
pub(super) async fn submit(State(web): State<Web>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let mut caller = visitor::caller(&parts);
    caller.token.clear();
    let headers = parts.headers.clone();
    let fields = visitor::fields(Request::from_parts(parts, body)).await?;
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let given = Pending {
        name: field("username").to_owned(),
        password: field("password").to_owned(),
        next: field("next").to_owned(),
    };
    let problem = match attempt(&web, &caller, &given, None).await {
        Err(Failure::CodeNeeded) => return second::ask(&web, &headers, given),
        Err(Failure::LoggedOut(_)) => "Wrong user name or password.".to_owned(),
        Err(failure @ Failure::Api { .. }) => failure.detail(),
        done => return done,
    };
    again(&headers, &given.next, &given.name, &problem)
}

/// Logs in and leads to where one wanted to go.
pub(super) async fn attempt(
    web: &Web,
    caller: &Caller,
    given: &Pending,
    code: Option<&str>,
) -> Result<Response, Failure> {
    let mut body = json!({"username": given.name, "password": given.password});
    if let Some(code) = code {
        body["totp"] = code.into();
    }
    let said = web.send(caller, Method::POST, "/auth/login", &body).await?;
    let mut response = Redirect::to(local(&given.next)).into_response();
    let token = said["token"].as_str().unwrap_or_default();
    set_session(&mut response, token, "");
    Ok(response)
}

fn set_session(response: &mut Response, token: &str, more: &str) {
    let value = format!("{SESSION}={token}; Path=/; HttpOnly; SameSite=Strict{more}");
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Ends the session, here and in the API.
pub(super) async fn logout(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let path = "/auth/logout";
    let ended = web
        .send(&posted.visitor.caller, Method::POST, path, &json!({}))
        .await;
    if let Err(failure) = ended {
        tracing::warn!("logging out: {}", failure.detail());
    }
    let mut response = Redirect::to("/login").into_response();
    end_session(&mut response);
    Ok(response)
}

/// Takes the session's cookie away.
pub(super) fn end_session(response: &mut Response) {
    set_session(response, "", "; Max-Age=0");
}

#[derive(Template)]
#[template(path = "password.html", config = "src/askama.toml")]
struct Password {
    css: String,
    theme: &'static str,
    problem: String,
}

fn change_page(headers: &HeaderMap, problem: &str) -> Result<Response, Failure> {
    let page = Password {
        css: assets::link("app.css"),
        theme: Look::of(headers).theme,
        problem: problem.to_owned(),
    };
    Ok(Html(page.render()?).into_response())
}

/// The page to change one's password, for whoever has a session, even one that may do
/// nothing else yet.
pub(super) async fn password(
    State(web): State<Web>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    web.get(&visitor::caller(&parts), "/auth/me").await?;
    change_page(&parts.headers, "")
}

/// Changes it. The edge lets only our own pages send this, and the old password is asked
/// for, so there is no form token: this page is shown before there is a visitor.
pub(super) async fn change(State(web): State<Web>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let caller = visitor::caller(&parts);
    let headers = parts.headers.clone();
    let fields = visitor::fields(Request::from_parts(parts, body)).await?;
    match set(&web, &caller, &fields).await {
        Ok(()) => Ok(back("/", "The password was changed.")),
        Err(failure @ Failure::Api { .. }) => change_page(&headers, &failure.detail()),
        Err(other) => Err(other),
    }
}

async fn set(web: &Web, caller: &Caller, fields: &HashMap<String, String>) -> Result<(), Failure> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    if field("new_password") != field("repeat_password") {
        return Err(Failure::Api {
            status: axum::http::StatusCode::UNPROCESSABLE_ENTITY,
            detail: "The new password was typed in two different ways.".to_owned(),
            request_id: String::new(),
        });
    }
    let body = json!({
        "old_password": field("old_password"),
        "new_password": field("new_password"),
    });
    let path = "/auth/change-password";
    web.send(caller, Method::POST, path, &body).await?;
    Ok(())
}
