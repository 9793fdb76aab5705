//! Files that attackers left. Nothing of them is ever shown; administrators take them away.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;

use super::Web;
use super::attackers::parameter;
use super::error::{Failure, not_found};
use super::page::{Shell, next_link, query, show};
use super::sessions::download;
use super::text::{self, When, bytes, number, short, visible, when, word};
use super::visitor::Visitor;

/// A file in a list.
pub(super) struct File {
    pub(super) sha256: String,
    pub(super) name: String,
    pub(super) size: String,
    pub(super) count: String,
    pub(super) attacker: String,
    pub(super) attacker_link: String,
    pub(super) decky: String,
    pub(super) service: String,
    pub(super) session: String,
    pub(super) first: When,
    pub(super) last: When,
}

/// A file for a page.
pub(super) fn file(row: &Value, visitor: &Visitor) -> File {
    let attacker = row["attacker_ip"].as_str().unwrap_or_default();
    File {
        sha256: word(row, "sha256"),
        name: short(row["name"].as_str().unwrap_or("(no name)")),
        size: bytes(row["size_bytes"].as_u64().unwrap_or(0)),
        count: number(row, "count"),
        attacker: visible(attacker),
        attacker_link: text::encode(attacker),
        decky: word(row, "decky"),
        service: word(row, "service"),
        session: text::encode(row["session"].as_str().unwrap_or_default()),
        first: when(row, "first_seen", visitor.look.tz()),
        last: when(row, "last_seen", visitor.look.tz()),
    }
}

#[derive(Template)]
#[template(path = "files.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<File>,
    next: String,
    src: String,
    decky: String,
    service: String,
}

/// The list.
pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let given = uri.query().unwrap_or_default();
    let asked = query(given, &["src", "decky", "service", "before"]);
    let found = web
        .get(&visitor.caller, &format!("/artifacts?{asked}"))
        .await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    show(&List {
        rows: rows.iter().map(|row| file(row, &visitor)).collect(),
        next: next_link(&visitor.here, &found["next"]),
        src: visible(&parameter(given, "src")),
        decky: visible(&parameter(given, "decky")),
        service: visible(&parameter(given, "service")),
        shell: Shell::new(&visitor, "Files", "/artifacts"),
    })
}

struct Sighting {
    at: When,
    attacker: String,
    attacker_link: String,
    decky: String,
    service: String,
    session: String,
    name: String,
}

#[derive(Template)]
#[template(path = "file.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    file: File,
    available: bool,
    sightings: Vec<Sighting>,
}

/// One file.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(sha256): Path<String>,
) -> Result<Response, Failure> {
    let path = format!("/artifacts/{}", text::encode(&sha256));
    let row = web.get(&visitor.caller, &path).await?;
    let all = row["observations"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let sightings = all.iter().map(|seen| {
        let attacker = seen["attacker_ip"].as_str().unwrap_or_default();
        Sighting {
            at: when(seen, "at", visitor.look.tz()),
            attacker: visible(attacker),
            attacker_link: text::encode(attacker),
            decky: word(seen, "decky"),
            service: word(seen, "service"),
            session: text::encode(seen["session"].as_str().unwrap_or_default()),
            name: short(seen["name"].as_str().unwrap_or_default()),
        }
    });
    show(&One {
        sightings: sightings.collect(),
        available: row["available"] == true,
        file: file(&row, &visitor),
        shell: Shell::new(&visitor, "File", "/artifacts"),
    })
}

/// Its bytes, for administrators.
pub(super) async fn download_one(
    State(web): State<Web>,
    visitor: Visitor,
    Path((sha256, form)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (kind, ending) = match form.as_str() {
        "raw" => ("application/octet-stream", "bin"),
        "zip" => ("application/zip", "zip"),
        _ => return Ok(not_found().await),
    };
    let sha256 = text::encode(&sha256);
    let path = format!("/artifacts/{sha256}/download?format={form}");
    download(&web, &visitor, &path, kind, &format!("{sha256}.{ending}")).await
}
