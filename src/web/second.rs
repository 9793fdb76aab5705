//! The second step of a login: the code of an authenticator. Between the two steps name and
//! password wait here, in memory, for as long as it takes to find the telephone; the page
//! holds no more than a ticket for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::error::Failure;
use super::page::Look;
use super::visitor;
use super::{Web, assets, login};

/// How long a login waits for its code.
const PATIENCE: Duration = Duration::from_secs(300);
/// Logins that wait; only right passwords get here, so there are never many.
const MOST: usize = 256;

/// A login whose password was right.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) name: String,
    pub(super) password: String,
    /// The page to go to then.
    pub(super) next: String,
}

/// Logins between their two steps.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, (Pending, Instant)>>);

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting(***)")
    }
}

impl Waiting {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (Pending, Instant)>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, (_, since)| since.elapsed() < PATIENCE);
        map
    }

    /// Keeps a login; the ticket is its name from now on.
    fn keep(&self, login: Pending) -> String {
        let ticket = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut map = self.all();
        let oldest = map.iter().min_by_key(|(_, (_, since))| *since);
        if let Some(oldest) = oldest.map(|(ticket, _)| ticket.clone())
            && map.len() >= MOST
        {
            map.remove(&oldest);
        }
        map.insert(ticket.clone(), (login, Instant::now()));
        ticket
    }

    fn get(&self, ticket: &str) -> Option<Pending> {
        self.all().get(ticket).map(|(login, _)| login.clone())
    }

    fn forget(&self, ticket: &str) {
        self.all().remove(ticket);
    }
}

#[derive(Template)]
#[template(path = "code.html", config = "src/askama.toml")]
struct Code {
    css: String,
    theme: &'static str,
    ticket: String,
    problem: String,
}

/// Asks for the code of a login.
pub(super) fn ask(web: &Web, headers: &HeaderMap, login: Pending) -> Result<Response, Failure> {
    form(headers, web.waiting.keep(login), String::new())
}

fn form(headers: &HeaderMap, ticket: String, problem: String) -> Result<Response, Failure> {
    let page = Code {
        css: assets::link("app.css"),
        theme: Look::of(headers).theme,
        ticket,
        problem,
    };
    Ok(Html(page.render()?).into_response())
}

/// Takes the code and logs in.
pub(super) async fn submit(State(web): State<Web>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let mut caller = visitor::caller(&parts);
    caller.token.clear();
    let headers = parts.headers.clone();
    let fields = visitor::fields(Request::from_parts(parts, body)).await?;
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let ticket = field("ticket");
    let Some(pending) = web.waiting.get(ticket) else {
        return login::again(&headers, "/", "", "That took too long; log in once more.");
    };
    match login::attempt(&web, &caller, &pending, Some(field("code"))).await {
        Ok(response) => {
            web.waiting.forget(ticket);
            Ok(response)
        }
        Err(Failure::CodeNeeded) => form(&headers, ticket.to_owned(), "Type the code.".to_owned()),
        Err(Failure::LoggedOut(_)) => {
            // The password was changed in between.
            web.waiting.forget(ticket);
            let problem = "Wrong user name or password.";
            login::again(&headers, &pending.next, &pending.name, problem)
        }
        Err(failure @ Failure::Api { .. }) => form(&headers, ticket.to_owned(), failure.detail()),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(name: &str) -> Pending {
        Pending {
            name: name.to_owned(),
            password: "secret".to_owned(),
            next: "/".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_waits_five_minutes_for_its_code_and_says_nothing_of_itself() {
        let waiting = Waiting::default();
        let ticket = waiting.keep(pending("ada"));
        assert!(!format!("{waiting:?}").contains("secret"));
        assert!(waiting.get("guess").is_none());
        assert_eq!(waiting.get(&ticket).unwrap().name, "ada");
        tokio::time::advance(PATIENCE).await;
        assert!(waiting.get(&ticket).is_none());
        let first = waiting.keep(pending("first"));
        for n in 0..MOST {
            tokio::time::advance(Duration::from_millis(1)).await;
            waiting.keep(pending(&n.to_string()));
        }
        assert!(waiting.get(&first).is_none(), "the oldest makes room");
        assert_eq!(waiting.all().len(), MOST);
        let last = waiting.keep(pending("last"));
        waiting.forget(&last);
        assert!(waiting.get(&last).is_none());
    }
}
