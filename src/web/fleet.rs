//! The deckies: how each is, what it offers, who comes; and orders to single ones.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use reqwest::Method;
use serde_json::{Value, json};

use super::Web;
use super::attackers::parameter;
use super::error::{Failure, not_found};
use super::page::{Shell, back, part as fragment, show};
use super::text::{self, When, number, visible, when, word};
use super::visitor::{Posted, Visitor};

struct Offer {
    name: String,
    link: String,
    address: String,
    note: String,
}

struct Row {
    name: String,
    link: String,
    ip: String,
    state: String,
    runtime: String,
    archetype: String,
    hostname: String,
    os: String,
    mac: String,
    services: Vec<Offer>,
    error: String,
    hits: String,
    mutated: When,
    updated: When,
}

fn row(value: &Value, visitor: &Visitor) -> Row {
    let offers = value["services"].as_array().map_or(&[][..], Vec::as_slice);
    let name = value["name"].as_str().unwrap_or_default();
    Row {
        name: visible(name),
        link: text::encode(name),
        ip: word(value, "ip"),
        state: if value["removed"] == true {
            "going".to_owned()
        } else {
            word(value, "state")
        },
        runtime: word(value, "runtime"),
        archetype: word(value, "archetype"),
        hostname: word(value, "hostname"),
        os: word(value, "os"),
        mac: word(value, "mac"),
        services: offers
            .iter()
            .map(|offer| Offer {
                name: word(offer, "name"),
                link: text::encode(offer["name"].as_str().unwrap_or_default()),
                address: word(offer, "address"),
                note: word(offer, "note"),
            })
            .collect(),
        error: word(value, "last_error"),
        hits: number(value, "hits_24h"),
        mutated: when(value, "last_mutated", visitor.look.tz()),
        updated: when(value, "updated_at", visitor.look.tz()),
    }
}

struct Part {
    rows: Vec<Row>,
    none_at_all: bool,
}

#[derive(Template)]
#[template(path = "fleet_part.html", config = "src/askama.toml")]
struct Fragment {
    part: Part,
}

#[derive(Template)]
#[template(path = "fleet.html", config = "src/askama.toml")]
struct Page {
    shell: Shell,
    part: Part,
    search: String,
    state: String,
    fresh: String,
}

async fn look(web: &Web, visitor: &Visitor, given: &str) -> Result<Part, Failure> {
    let found = web.get(&visitor.caller, "/deckies").await?;
    let all = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let search = parameter(given, "search").to_lowercase();
    let state = parameter(given, "state");
    let fits = |row: &Row| {
        let text = format!("{} {} {} {}", row.name, row.ip, row.hostname, row.os);
        (state.is_empty() || row.state == state) && text.to_lowercase().contains(&search)
    };
    Ok(Part {
        rows: all.iter().map(|r| row(r, visitor)).filter(fits).collect(),
        none_at_all: all.is_empty(),
    })
}

/// The fleet.
pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let given = uri.query().unwrap_or_default();
    let part = look(&web, &visitor, given).await?;
    show(&Page {
        part,
        search: visible(&parameter(given, "search")),
        state: parameter(given, "state"),
        fresh: format!("/fleet/-/part?{given}"),
        shell: Shell::new(&visitor, "Fleet", "/fleet"),
    })
}

/// What of it changes.
pub(super) async fn part(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let part = look(&web, &visitor, uri.query().unwrap_or_default()).await?;
    fragment(&Fragment { part })
}

#[derive(Template)]
#[template(path = "decky.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    decky: Row,
    /// Services that can be set.
    known: Vec<String>,
    /// Those of them that it does not offer.
    more: Vec<String>,
}

/// One decky.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let path = format!("/deckies/{}", text::encode(&name));
    let found = web.get(&visitor.caller, &path).await?;
    let decky = row(&found, &visitor);
    let known = if visitor.admin {
        services(&web, &visitor).await?
    } else {
        Vec::new()
    };
    let more = known.iter().filter(|name| {
        let mut offers = decky.services.iter();
        !offers.any(|offer| offer.name == **name)
    });
    show(&One {
        more: more.cloned().collect(),
        known,
        decky,
        shell: Shell::new(&visitor, visible(&name), "/fleet"),
    })
}

/// Every service there is.
async fn services(web: &Web, visitor: &Visitor) -> Result<Vec<String>, Failure> {
    let found = web.get(&visitor.caller, "/services").await?;
    let all = found["items"].as_array().into_iter().flatten();
    Ok(all.map(|one| word(one, "name")).collect())
}

/// Path words of orders, and what they mean.
const ORDERS: [(&str, &str, &str); 3] = [
    (
        "teardown",
        "Remove",
        "It stops, and its address is free again. What was captured stays.",
    ),
    (
        "redeploy",
        "Start anew",
        "It stops and starts again, unchanged; open connections are cut.",
    ),
    (
        "mutate",
        "Change now",
        "It changes by one believable step: a service opens or closes, or the host is updated.",
    ),
];

#[derive(Template)]
#[template(path = "confirm.html", config = "src/askama.toml")]
pub(super) struct Confirm {
    /// Shell.
    pub(super) shell: Shell,
    /// What is asked.
    pub(super) question: String,
    /// What it means.
    pub(super) meaning: String,
    /// Where the form goes.
    pub(super) action: String,
    /// On the button.
    pub(super) button: String,
    /// Back without doing it.
    pub(super) back: String,
}

/// Asks before an order is carried out.
pub(super) async fn confirm(
    visitor: Visitor,
    Path((name, verb)): Path<(String, String)>,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let Some((_, button, meaning)) = ORDERS.iter().find(|(word, _, _)| *word == verb) else {
        return Ok(not_found().await);
    };
    let link = text::encode(&name);
    show(&Confirm {
        question: format!("{button}: {}?", visible(&name)),
        meaning: (*meaning).to_owned(),
        action: format!("/fleet/{link}/{verb}"),
        button: (*button).to_owned(),
        back: format!("/fleet/{link}"),
        shell: Shell::new(&visitor, "Sure?", "/fleet"),
    })
}

/// Carries an order out.
pub(super) async fn act(
    State(web): State<Web>,
    Path((name, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let link = text::encode(&name);
    let (method, path) = match verb.as_str() {
        "teardown" => (Method::DELETE, format!("/deckies/{link}")),
        "redeploy" | "mutate" => (Method::POST, format!("/deckies/{link}/{verb}")),
        _ => return Ok(not_found().await),
    };
    let done = web
        .send(&posted.visitor.caller, method, &path, &json!({}))
        .await;
    let said = match done {
        Ok(done) if done["job"]["id"].is_string() => return Ok(super::deploy::to_job(&done)),
        Ok(_) => format!("{name}: ordered; the list shows how it goes."),
        Err(failure @ Failure::Api { .. }) => format!("{name}: {}", failure.detail()),
        Err(other) => return Err(other),
    };
    Ok(back("/fleet", &said))
}
