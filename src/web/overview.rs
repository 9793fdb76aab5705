//! The first page: is everything running, who is attacking, what are they after.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::Web;
use super::error::Failure;
use super::page::{Shell, part as fragment, show};
use super::text::{grouped, number, word};
use super::visitor::Visitor;

/// A number with what it counts.
struct Figure {
    label: &'static str,
    value: String,
    href: &'static str,
}

/// A name with a share of the largest.
struct Share {
    name: String,
    href: String,
    value: String,
    /// For a `meter`: 0 to 100.
    part: i64,
}

struct Minute {
    time: String,
    count: i64,
}

struct Part {
    figures: Vec<Figure>,
    top: Vec<Share>,
    siege: Vec<Share>,
    services: Vec<Share>,
    countries: Vec<Share>,
    known_countries: bool,
    minutes: Vec<Minute>,
    busiest: i64,
    workers: Vec<Share>,
    workers_well: usize,
    bus: bool,
}

#[derive(Template)]
#[template(path = "overview_part.html", config = "src/askama.toml")]
struct Fragment {
    part: Part,
}

#[derive(Template)]
#[template(path = "overview.html", config = "src/askama.toml")]
struct Page {
    shell: Shell,
    part: Part,
}

fn shares(rows: &Value, name: &str, count: &str, href: impl Fn(&str) -> String) -> Vec<Share> {
    let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
    let most = rows.iter().filter_map(|r| r[count].as_i64()).max();
    let most = most.unwrap_or(0).max(1);
    rows.iter()
        .take(10)
        .map(|row| {
            let raw = row[name].as_str().unwrap_or_default();
            let value = row[count].as_i64().unwrap_or(0);
            Share {
                name: word(row, name),
                href: href(raw),
                value: grouped(value),
                part: value.saturating_mul(100) / most,
            }
        })
        .collect()
}

async fn look(web: &Web, visitor: &Visitor) -> Result<Part, Failure> {
    let seen = web.get(&visitor.caller, "/stats/overview").await?;
    let workers = web.get(&visitor.caller, "/workers").await?;
    let stats = &seen["stats"];
    let figure = |label, key, href| Figure {
        label,
        value: number(stats, key),
        href,
    };
    let encode = super::text::encode;
    let minutes: Vec<Minute> = seen["per_minute"]["items"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|bar| Minute {
            time: bar["time"]
                .as_str()
                .and_then(|t| t.get(11..16))
                .unwrap_or_default()
                .to_owned(),
            count: bar["count"].as_i64().unwrap_or(0),
        })
        .collect();
    let all = workers["workers"].as_array().map_or(&[][..], Vec::as_slice);
    let ill: Vec<Share> = all
        .iter()
        .filter(|w| w["status"] != "ok" && w["in_target"] == true)
        .map(|w| Share {
            name: word(w, "name"),
            href: "/workers".to_owned(),
            value: word(w, "status"),
            part: 0,
        })
        .collect();
    Ok(Part {
        figures: vec![
            figure("events in the last minute", "events_1m", "/live"),
            figure("events in 24 hours", "events_24h", "/live"),
            figure("attackers", "unique_attackers", "/attackers"),
            figure("credentials", "credentials", "/credentials"),
            figure("sessions", "sessions", "/sessions"),
            figure("files", "artifacts", "/artifacts"),
            Figure {
                label: "deckies running",
                value: format!(
                    "{} of {}",
                    number(stats, "active_deckies"),
                    number(stats, "deployed_deckies")
                ),
                href: "/fleet",
            },
        ],
        top: shares(&seen["top_attackers"], "ip", "event_count", |ip| {
            format!("/attackers/{}", encode(ip))
        }),
        siege: shares(&seen["siege"], "decky", "hits", |name| {
            format!("/fleet/{}", encode(name))
        }),
        services: shares(&seen["services"], "service", "count", |name| {
            format!("/live?service={}", encode(name))
        }),
        known_countries: seen["countries"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["country"] != "??")),
        countries: shares(&seen["countries"], "country", "attackers", |name| {
            format!("/attackers?country={}", encode(name))
        }),
        busiest: minutes.iter().map(|m| m.count).max().unwrap_or(0),
        minutes,
        workers_well: all.iter().filter(|w| w["status"] == "ok").count(),
        workers: ill,
        bus: workers["bus_connected"] == true,
    })
}

/// The page.
pub(super) async fn page(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    let part = look(&web, &visitor).await?;
    show(&Page {
        shell: Shell::new(&visitor, "Overview", "/"),
        part,
    })
}

/// What of it changes.
pub(super) async fn part(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    fragment(&Fragment {
        part: look(&web, &visitor).await?,
    })
}
