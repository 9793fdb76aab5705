//! Everybody who touched a decky, and one of them in full.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;

use super::Web;
use super::error::Failure;
use super::exports::Export;
use super::files::{File, file};
use super::page::{Shell, next_link, query, show};
use super::sessions::{Session, session};
use super::text::{self, When, grouped, number, short, visible, when, word};
use super::visitor::Visitor;

struct Row {
    id: String,
    ip: String,
    country: String,
    activity: String,
    events: String,
    sessions: String,
    credentials: String,
    commands: String,
    files: String,
    services: String,
    deckies: String,
    first: When,
    last: When,
}

fn list_of(value: &Value) -> String {
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<String> = all
        .iter()
        .filter_map(|name| name.as_str().map(visible))
        .collect();
    names.join(", ")
}

fn row(value: &Value, visitor: &Visitor) -> Row {
    let country = word(value, "country");
    Row {
        id: text::encode(value["id"].as_str().unwrap_or_default()),
        ip: word(value, "ip"),
        country: if country.is_empty() {
            "–".to_owned()
        } else {
            country
        },
        activity: word(value, "activity"),
        events: number(value, "event_count"),
        sessions: number(value, "session_count"),
        credentials: number(value, "credential_count"),
        commands: number(value, "command_count"),
        files: number(value, "artifact_count"),
        services: list_of(&value["services"]),
        deckies: list_of(&value["deckies"]),
        first: when(value, "first_seen", visitor.look.tz()),
        last: when(value, "last_seen", visitor.look.tz()),
    }
}

/// A choice of a filter.
pub(super) struct Choice {
    value: &'static str,
    name: &'static str,
    chosen: bool,
}

/// The choices of a select box, the one in the query chosen.
fn choices(given: &str, name: &str, all: &[(&'static str, &'static str)]) -> Vec<Choice> {
    let chosen = parameter(given, name);
    all.iter()
        .map(|(value, name)| Choice {
            value,
            name,
            chosen: *value == chosen,
        })
        .collect()
}

/// A parameter of the query; empty when it is not there.
pub(super) fn parameter(given: &str, name: &str) -> String {
    let mut found = text::pairs(given).filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "attackers.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<Row>,
    next: String,
    search: String,
    country: String,
    service: String,
    decky: String,
    activities: Vec<Choice>,
    sorts: Vec<Choice>,
    export: Export,
}

/// The list.
pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let given = uri.query().unwrap_or_default();
    let known = [
        "search", "country", "service", "decky", "activity", "sort", "before",
    ];
    let path = format!("/attackers?{}", query(given, &known));
    let found = web.get(&visitor.caller, &path).await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    show(&List {
        rows: rows.iter().map(|r| row(r, &visitor)).collect(),
        next: next_link(&visitor.here, &found["next"]),
        export: Export::new("attackers", given),
        search: visible(&parameter(given, "search")),
        country: visible(&parameter(given, "country")),
        service: visible(&parameter(given, "service")),
        decky: visible(&parameter(given, "decky")),
        activities: choices(
            given,
            "activity",
            &[
                ("", "any"),
                ("active", "active"),
                ("passive", "passive"),
                ("inactive", "inactive"),
            ],
        ),
        sorts: choices(
            given,
            "sort",
            &[
                ("", "last seen"),
                ("active", "most events"),
                ("first", "first seen"),
            ],
        ),
        shell: Shell::new(&visitor, "Attackers", "/attackers"),
    })
}

struct OnService {
    service: String,
    events: String,
    commands: String,
    logins: String,
    first: When,
    last: When,
}

/// A stop on the path across deckies, drawn.
struct Stop {
    decky: String,
    href: String,
    events: String,
    first: When,
    last: When,
    /// Centre of its box in the drawing.
    x: usize,
}

struct Command {
    id: i64,
    at: When,
    decky: String,
    service: String,
    command: String,
}

/// A credential in a list.
pub(super) struct Credential {
    /// Claimed identity.
    pub(super) principal: String,
    /// What was tried.
    pub(super) secret: String,
    /// Which kind.
    pub(super) kind: String,
    /// Where.
    pub(super) decky: String,
    /// Where.
    pub(super) service: String,
    /// Who.
    pub(super) attacker: String,
    /// For links.
    pub(super) attacker_link: String,
    /// How often.
    pub(super) count: String,
    /// Last time.
    pub(super) last: When,
    /// For the link to who else tried it.
    pub(super) sha256: String,
    /// There is a line for hashcat.
    pub(super) crack: String,
}

/// A credential for a page.
pub(super) fn credential(value: &Value, visitor: &Visitor) -> Credential {
    let attacker = value["attacker_ip"].as_str().unwrap_or_default();
    Credential {
        principal: word(value, "principal"),
        secret: short(value["secret_printable"].as_str().unwrap_or_default()),
        kind: word(value, "secret_kind"),
        decky: word(value, "decky"),
        service: word(value, "service"),
        attacker: visible(attacker),
        attacker_link: text::encode(attacker),
        count: number(value, "count"),
        last: when(value, "last_seen", visitor.look.tz()),
        sha256: text::encode(value["secret_sha256"].as_str().unwrap_or_default()),
        crack: word(value, "crack"),
    }
}

struct Bar {
    label: String,
    height: i64,
}

#[derive(Template)]
#[template(path = "attacker.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    attacker: Row,
    services: Vec<OnService>,
    stops: Vec<Stop>,
    width: usize,
    bars: Vec<Bar>,
    commands: Vec<Command>,
    credentials: Vec<Credential>,
    sessions: Vec<Session>,
    files: Vec<File>,
    link: String,
}

fn items(value: &Value) -> &[Value] {
    value["items"].as_array().map_or(&[][..], Vec::as_slice)
}

/// One attacker.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let caller = &visitor.caller;
    let id = text::encode(&id);
    let found = web.get(caller, &format!("/attackers/{id}")).await?;
    let link = text::encode(found["ip"].as_str().unwrap_or_default());
    let paths = [
        format!("/attackers/{id}/histogram"),
        format!("/attackers/{id}/commands?limit=30"),
        format!("/credentials?src={link}&limit=30"),
        format!("/sessions?src={link}&limit=30"),
        format!("/artifacts?src={link}&limit=30"),
    ];
    let asked = paths.iter().map(|path| web.get(caller, path));
    let mut replies = futures_util::future::try_join_all(asked).await?.into_iter();
    let mut reply = || replies.next().unwrap_or_default();
    let (histogram, commands, credentials) = (reply(), reply(), reply());
    let (sessions, files) = (reply(), reply());
    let tz = visitor.look.tz();
    let services = found["service_activity"].as_array();
    let services = services.map_or(&[][..], Vec::as_slice);
    let deckies = found["decky_activity"].as_array();
    let deckies = deckies.map_or(&[][..], Vec::as_slice);
    let most = items(&histogram)
        .iter()
        .filter_map(|b| b["count"].as_i64())
        .max();
    let most = most.unwrap_or(0).max(1);
    show(&One {
        services: services
            .iter()
            .map(|row| OnService {
                service: word(row, "service"),
                events: number(row, "events"),
                commands: number(row, "commands"),
                logins: number(row, "credentials"),
                first: when(row, "first_seen", tz),
                last: when(row, "last_seen", tz),
            })
            .collect(),
        width: deckies.len().min(12) * 160 + 20,
        stops: deckies
            .iter()
            .enumerate()
            .map(|(n, row)| Stop {
                decky: word(row, "decky"),
                href: text::encode(row["decky"].as_str().unwrap_or_default()),
                events: row["events"].as_i64().map(grouped).unwrap_or_default(),
                first: when(row, "first_seen", tz),
                last: when(row, "last_seen", tz),
                x: n * 160 + 80,
            })
            .collect(),
        bars: items(&histogram)
            .iter()
            .map(|bar| {
                let count = bar["count"].as_i64().unwrap_or(0);
                Bar {
                    label: format!("{}: {count}", when(bar, "time", tz).text),
                    height: if count == 0 {
                        0
                    } else {
                        (count.saturating_mul(100) / most).max(3)
                    },
                }
            })
            .collect(),
        commands: items(&commands)
            .iter()
            .map(|row| Command {
                id: row["id"].as_i64().unwrap_or(0),
                at: when(row, "at", tz),
                decky: word(row, "decky"),
                service: word(row, "service"),
                command: short(row["command"].as_str().unwrap_or_default()),
            })
            .collect(),
        credentials: items(&credentials)
            .iter()
            .map(|row| credential(row, &visitor))
            .collect(),
        sessions: items(&sessions)
            .iter()
            .map(|row| session(row, &visitor))
            .collect(),
        files: items(&files)
            .iter()
            .map(|row| file(row, &visitor))
            .collect(),
        attacker: row(&found, &visitor),
        shell: Shell::new(&visitor, word(&found, "ip"), "/attackers"),
        link,
    })
}
