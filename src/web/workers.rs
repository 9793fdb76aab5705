//! The workers panel: what each says of itself and what systemd says of it, side by side.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use reqwest::Method;
use serde_json::{Value, json};

use super::Web;
use super::error::Failure;
use super::page::{Shell, back, part as fragment, show};
use super::text::{self, ago, bytes, number, visible, word};
use super::visitor::{Posted, Visitor};

struct Row {
    name: String,
    summary: String,
    status: String,
    age: String,
    unit: String,
    unit_note: String,
    pid: String,
    memory: String,
    passes: String,
    failures: String,
    version: String,
    doing: String,
    error: String,
    can_start: bool,
    can_stop: bool,
}

struct Part {
    rows: Vec<Row>,
    bus: bool,
    systemd: String,
    admin: bool,
    csrf: String,
}

#[derive(Template)]
#[template(path = "workers_part.html", config = "src/askama.toml")]
struct Fragment {
    part: Part,
}

#[derive(Template)]
#[template(path = "workers.html", config = "src/askama.toml")]
struct Page {
    shell: Shell,
    part: Part,
    /// What became of each when all were started; longer than what is carried to the next
    /// page, so it is shown on this one.
    started: Vec<Started>,
}

struct Started {
    worker: String,
    outcome: String,
    detail: String,
}

fn row(value: &Value) -> Row {
    let unit = &value["unit"];
    let active = unit["active"].as_str().unwrap_or_default();
    let installed = unit["installed"] == true;
    let enabled = unit["enabled"].as_str().unwrap_or_default();
    Row {
        name: word(value, "name"),
        summary: word(value, "summary"),
        status: word(value, "status"),
        age: value["seconds_since"].as_u64().map(ago).unwrap_or_default(),
        unit: if installed {
            format!("{active} ({})", word(unit, "sub"))
        } else {
            String::new()
        },
        unit_note: if installed && enabled != "enabled" {
            visible(enabled)
        } else {
            String::new()
        },
        pid: match unit["main_pid"].as_u64() {
            // systemd knows of none: what the last sign of life says is over.
            Some(0) if installed => String::new(),
            Some(pid) if installed => pid.to_string(),
            _ => number(value, "pid").replace('\u{202f}', ""),
        },
        memory: value["rss_bytes"].as_u64().map(bytes).unwrap_or_default(),
        passes: number(value, "passes"),
        failures: number(value, "failures"),
        version: word(value, "version"),
        doing: word(value, "doing"),
        error: word(value, "last_error"),
        can_start: installed && matches!(active, "inactive" | "failed"),
        can_stop: installed && !matches!(active, "inactive" | "failed"),
    }
}

async fn look(web: &Web, visitor: &Visitor) -> Result<Part, Failure> {
    let seen = web.get(&visitor.caller, "/workers").await?;
    let rows = seen["workers"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(Part {
        rows: rows.iter().map(row).collect(),
        bus: seen["bus_connected"] == true,
        systemd: word(&seen, "systemd"),
        admin: visitor.admin,
        csrf: visitor.csrf.clone(),
    })
}

/// The panel.
pub(super) async fn page(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    with(&web, &visitor, Vec::new()).await
}

async fn with(web: &Web, visitor: &Visitor, started: Vec<Started>) -> Result<Response, Failure> {
    show(&Page {
        part: look(web, visitor).await?,
        shell: Shell::new(visitor, "Workers", "/workers"),
        started,
    })
}

/// What of it changes.
pub(super) async fn part(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    fragment(&Fragment {
        part: look(&web, &visitor).await?,
    })
}

/// Starts, stops or restarts a worker.
pub(super) async fn act(
    State(web): State<Web>,
    Path((name, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = format!("/workers/{}/{}", text::encode(&name), text::encode(&verb));
    let done = web
        .send(&posted.visitor.caller, Method::POST, &path, &json!({}))
        .await;
    let said = match done {
        Ok(_) => format!("{name}: {verb} was ordered."),
        Err(failure @ Failure::Api { .. }) => format!("{name}: {}", failure.detail()),
        Err(other) => return Err(other),
    };
    Ok(back("/workers", &said))
}

/// Starts everything that is not running, and says what became of each.
pub(super) async fn start_all(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let path = "/workers/start-all";
    let done = web
        .send(&posted.visitor.caller, Method::POST, path, &json!({}))
        .await;
    match done {
        Ok(done) => {
            let all = done["workers"].as_array().into_iter().flatten();
            let started = all.map(|one| Started {
                worker: word(one, "worker"),
                outcome: word(one, "outcome"),
                detail: word(one, "detail"),
            });
            with(&web, &posted.visitor, started.collect()).await
        }
        Err(failure @ Failure::Api { .. }) => Ok(back("/workers", &failure.detail())),
        Err(other) => Err(other),
    }
}

#[derive(Template)]
#[template(path = "worker.html", config = "src/askama.toml")]
struct Log {
    shell: Shell,
    name: String,
    lines: Vec<String>,
    problem: String,
}

/// The end of a worker's log.
pub(super) async fn log(
    State(web): State<Web>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let path = format!("/workers/{}/log?lines=300", text::encode(&name));
    let (lines, problem) = match web.get(&visitor.caller, &path).await {
        Ok(found) => {
            let lines = found["lines"].as_array().map_or(&[][..], Vec::as_slice);
            let lines = lines.iter().filter_map(|l| l.as_str().map(visible));
            (lines.collect(), String::new())
        }
        Err(failure @ Failure::Api { .. }) => (Vec::new(), failure.detail()),
        Err(other) => return Err(other),
    };
    let name = visible(&name);
    show(&Log {
        shell: Shell::new(&visitor, format!("Log of {name}"), "/workers"),
        name,
        lines,
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_the_one_systemd_knows_or_else_the_one_that_said_so() {
        let shown = |unit: Value| row(&json!({"name": "bus", "pid": 12, "unit": unit})).pid;
        let unit = |pid| json!({"installed": true, "active": "active", "main_pid": pid});
        assert_eq!(shown(unit(345_678)), "345678");
        assert_eq!(shown(unit(0)), "");
        assert_eq!(shown(Value::Null), "12");
    }
}
