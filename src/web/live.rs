//! Events as they come: the query box, the time they fell in, each with all it holds.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Web;
use super::error::Failure;
use super::exports::Export;
use super::page::{Shell, next_link, query, show};
use super::text::{self, When, short, visible, when, word};
use super::visitor::Visitor;

/// What the API is asked of what the page is asked.
const KNOWN: [&str; 9] = [
    "q", "decky", "service", "kind", "src", "session", "since", "until", "before",
];
/// Names and lengths of the ranges.
const RANGES: [(&str, &str, i64); 4] = [
    ("15m", "15 minutes", 15),
    ("1h", "1 hour", 60),
    ("24h", "24 hours", 1440),
    ("", "all time", 0),
];

/// A field of an event.
pub(super) struct Field {
    name: String,
    value: String,
}

/// An event in a list.
pub(super) struct Event {
    id: i64,
    at: When,
    decky: String,
    service: String,
    kind: String,
    attacker: String,
    attacker_link: String,
    summary: String,
    session: String,
    fields: Vec<Field>,
    artifact: String,
    message: String,
    raw: String,
}

/// An event for a page.
pub(super) fn event(row: &Value, visitor: &Visitor) -> Event {
    let no_fields = serde_json::Map::new();
    let fields = row["fields"].as_object().unwrap_or(&no_fields);
    let own = [
        "src_ip", "src_port", "dst_ip", "dst_port", "proto", "session", "eid",
    ];
    let shown: Vec<Field> = fields
        .iter()
        .map(|(name, value)| Field {
            name: visible(name),
            value: visible(value.as_str().unwrap_or(&value.to_string())),
        })
        .collect();
    let summary: Vec<String> = fields
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()) && *name != "secret_b64")
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let stored = row["fields"]["stored"] == "true";
    let attacker = row["attacker_ip"].as_str().unwrap_or_default();
    Event {
        id: row["id"].as_i64().unwrap_or(0),
        at: when(row, "timestamp", visitor.look.tz()),
        decky: word(row, "decky"),
        service: word(row, "service"),
        kind: word(row, "event_type"),
        attacker: visible(attacker),
        attacker_link: text::encode(attacker),
        summary: short(&summary.join(" ")),
        session: text::encode(row["fields"]["session"].as_str().unwrap_or_default()),
        fields: shown,
        artifact: if stored {
            let name = ["sha256", "body_sha256"]
                .iter()
                .find_map(|key| row["fields"][key].as_str());
            text::encode(name.unwrap_or_default())
        } else {
            String::new()
        },
        message: word(row, "msg"),
        raw: word(row, "raw_line"),
    }
}

struct Range {
    value: &'static str,
    name: &'static str,
    chosen: bool,
}

struct Bar {
    href: String,
    label: String,
    /// 0 to 100.
    height: i64,
}

#[derive(Template)]
#[template(path = "live.html", config = "src/askama.toml")]
struct Page {
    shell: Shell,
    q: String,
    ranges: Vec<Range>,
    rows: Vec<Event>,
    bars: Vec<Bar>,
    next: String,
    problem: String,
    /// Query of the stream; empty when the page shows the past.
    stream: String,
    following: bool,
    export: Export,
}

/// The query for the API, with the range's beginning in place of its name.
fn asked(uri: &Uri) -> (String, String) {
    let given = uri.query().unwrap_or_default();
    let mut asked = query(given, &KNOWN);
    let range = text::pairs(given).find(|(name, _)| name == "range");
    let range = range.map(|(_, value)| value).unwrap_or_default();
    let minutes = RANGES.iter().find(|(name, _, _)| *name == range);
    if let Some((_, _, minutes)) = minutes.filter(|(_, _, minutes)| *minutes > 0)
        && let Ok(since) = Timestamp::now().checked_sub(SignedDuration::from_mins(*minutes))
    {
        asked.push_str(&format!("&since={}", text::encode(&since.to_string())));
    }
    (asked, range)
}

/// The page.
pub(super) async fn page(
    State(web): State<Web>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Failure> {
    let (asked, range) = asked(&uri);
    let given = uri.query().unwrap_or_default();
    let typed = text::pairs(given).find(|(name, _)| name == "q");
    let past = text::pairs(given).any(|(name, value)| {
        matches!(name.as_str(), "before" | "until" | "since") && !value.is_empty()
    });
    let found = web.get(&visitor.caller, &format!("/logs?{asked}")).await;
    let (found, problem) = match found {
        Ok(found) => (found, String::new()),
        // What was typed stays, with the reason beside it.
        Err(failure @ Failure::Api { .. }) => (Value::Null, failure.detail()),
        Err(other) => return Err(other),
    };
    let mut bars = Vec::new();
    if problem.is_empty() {
        let counted: String = asked
            .split('&')
            .filter(|pair| !pair.starts_with("before="))
            .collect::<Vec<_>>()
            .join("&");
        let path = format!("/logs/histogram?{counted}");
        let histogram = web.get(&visitor.caller, &path).await?;
        bars = draw(&histogram, given, &visitor);
    }
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let streamed = ["q", "decky", "service", "kind", "src", "session"];
    show(&Page {
        q: visible(&typed.map(|(_, value)| value).unwrap_or_default()),
        ranges: RANGES
            .iter()
            .map(|(value, name, _)| Range {
                value,
                name,
                chosen: *value == range,
            })
            .collect(),
        rows: rows.iter().map(|row| event(row, &visitor)).collect(),
        bars,
        next: next_link(&visitor.here, &found["next"]),
        following: !past && problem.is_empty(),
        stream: query(given, &streamed),
        export: Export::new("events", &asked),
        problem,
        shell: Shell::new(&visitor, "Live", "/live"),
    })
}

/// Bars that lead to their part of the time.
fn draw(histogram: &Value, given: &str, visitor: &Visitor) -> Vec<Bar> {
    let items = histogram["items"].as_array().map_or(&[][..], Vec::as_slice);
    let seconds = histogram["interval_seconds"].as_i64().unwrap_or(60);
    let most = items.iter().filter_map(|bar| bar["count"].as_i64()).max();
    let most = most.unwrap_or(0).max(1);
    let kept = query(given, &["q", "decky", "service", "kind", "src", "session"]);
    items
        .iter()
        .map(|bar| {
            let count = bar["count"].as_i64().unwrap_or(0);
            let start = bar["time"].as_str().unwrap_or_default();
            let begins = start.parse::<Timestamp>().ok();
            let ends =
                begins.and_then(|at| at.checked_add(SignedDuration::from_secs(seconds)).ok());
            let ends = ends.map(|at| at.to_string()).unwrap_or_default();
            Bar {
                href: format!(
                    "/live?{kept}&since={}&until={}",
                    text::encode(start),
                    text::encode(&ends)
                ),
                label: format!("{}: {count}", when(bar, "time", visitor.look.tz()).text),
                height: if count == 0 {
                    0
                } else {
                    (count.saturating_mul(100) / most).max(3)
                },
            }
        })
        .collect()
}

#[derive(Template)]
#[template(path = "event.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    event: Event,
}

/// One event on a page of its own.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let path = format!("/logs/{}", text::encode(&id));
    let row = web.get(&visitor.caller, &path).await?;
    show(&One {
        shell: Shell::new(&visitor, "Event", "/live"),
        event: event(&row, &visitor),
    })
}
