//! Secrets that attackers tried, and which of them were tried in more than one place.

use askama::Template;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::Web;
use super::attackers::{Credential, credential, parameter};
use super::error::Failure;
use super::exports::Export;
use super::page::{Shell, next_link, query, show};
use super::text::{When, number, short, visible, when, word};
use super::visitor::Visitor;

#[derive(Template)]
#[template(path = "credentials.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<Credential>,
    next: String,
    src: String,
    decky: String,
    service: String,
    principal: String,
    sha256: String,
    export: Export,
}

/// Everything that was tried.
pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let given = uri.query().unwrap_or_default();
    let known = ["src", "decky", "service", "principal", "sha256", "before"];
    let path = format!("/credentials?{}", query(given, &known));
    let found = web.get(&visitor.caller, &path).await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let export = Export::new("credentials", given);
    let given = |name| visible(&parameter(given, name));
    show(&List {
        rows: rows.iter().map(|row| credential(row, &visitor)).collect(),
        next: next_link(&visitor.here, &found["next"]),
        src: given("src"),
        decky: given("decky"),
        service: given("service"),
        principal: given("principal"),
        sha256: given("sha256"),
        export,
        shell: Shell::new(&visitor, "Credentials", "/credentials"),
    })
}

struct Reused {
    secret: String,
    sha256: String,
    principals: String,
    attackers: String,
    deckies: String,
    services: String,
    attempts: String,
    last: When,
}

#[derive(Template)]
#[template(path = "reuse.html", config = "src/askama.toml")]
struct Reuse {
    shell: Shell,
    rows: Vec<Reused>,
    next: String,
}

/// What was tried in more than one place.
pub(super) async fn reuse(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let asked = query(uri.query().unwrap_or_default(), &["before"]);
    let path = format!("/credential-reuse?{asked}");
    let found = web.get(&visitor.caller, &path).await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let reused = rows.iter().map(|row| {
        let names = row["principals"].as_array().map_or(&[][..], Vec::as_slice);
        let names: Vec<&str> = names.iter().filter_map(|n| n.as_str()).collect();
        Reused {
            secret: short(row["secret_printable"].as_str().unwrap_or_default()),
            sha256: word(row, "secret_sha256"),
            principals: short(&names.join(", ")),
            attackers: number(row, "attackers"),
            deckies: number(row, "deckies"),
            services: number(row, "services"),
            attempts: number(row, "attempts"),
            last: when(row, "last_seen", visitor.look.tz()),
        }
    });
    show(&Reuse {
        rows: reused.collect(),
        next: next_link(&visitor.here, &found["next"]),
        shell: Shell::new(&visitor, "Reused credentials", "/credentials"),
    })
}
