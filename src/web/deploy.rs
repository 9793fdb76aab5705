//! Adding and changing deckies: what is wanted as a few choices or as a deployment file,
//! the difference it makes, and the job that carries it out, as it does exports. Nothing
//! here needs JavaScript.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use reqwest::Method;
use serde_json::{Value, json};

use super::Web;
use super::error::Failure;
use super::page::{Shell, next_link, part as fragment, query, show};
use super::text::{self, When, visible, when, word};
use super::visitor::{Posted, Visitor};

/// A kind of host to choose.
struct Kind {
    slug: String,
    name: String,
    about: String,
}

/// What would become of one decky.
struct Change {
    name: String,
    action: String,
    lines: Vec<String>,
}

#[derive(Template)]
#[template(path = "deploy.html", config = "src/askama.toml")]
struct Page {
    shell: Shell,
    kinds: Vec<Kind>,
    ini: String,
    replace: bool,
    problems: Vec<String>,
    /// A preview was asked for and is below.
    previewed: bool,
    changes: Vec<Change>,
    summary: String,
    notes: Vec<String>,
}

/// What is shown beside the file.
#[derive(Default)]
struct Shown {
    ini: String,
    replace: bool,
    problems: Vec<String>,
    preview: Option<Value>,
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|t| t.as_str().map(visible)).collect()
}

async fn page(web: &Web, visitor: &Visitor, shown: Shown) -> Result<Response, Failure> {
    let found = web.get(&visitor.caller, "/archetypes").await?;
    let kinds = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let preview = shown.preview.unwrap_or_default();
    let changes = preview["changes"].as_array().map_or(&[][..], Vec::as_slice);
    show(&Page {
        kinds: kinds
            .iter()
            .map(|kind| Kind {
                slug: word(kind, "slug"),
                name: word(kind, "display_name"),
                about: word(kind, "description"),
            })
            .collect(),
        ini: shown.ini,
        replace: shown.replace,
        problems: shown.problems,
        previewed: !preview.is_null(),
        changes: changes
            .iter()
            .map(|change| Change {
                name: word(change, "name"),
                action: word(change, "action"),
                lines: texts(&change["lines"]),
            })
            .collect(),
        summary: word(&preview, "summary"),
        notes: texts(&preview["notes"]),
        shell: Shell::new(visitor, "Add deckies", "/fleet"),
    })
}

/// The choices.
pub(super) async fn form(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    visitor.must_act()?;
    page(&web, &visitor, Shown::default()).await
}

/// The file that a few choices stand for. A line break in a choice would be another line
/// of the file, so control characters are left out.
fn compose(posted: &Posted) -> String {
    let one_line = |name: &str| -> String {
        let text = posted.field(name).trim();
        text.chars().filter(|c| !c.is_control()).collect()
    };
    let mut ini = String::new();
    let interface = one_line("interface");
    if interface.is_empty() {
        ini.push_str("[general]\nruntime = local\n\n");
    } else {
        ini.push_str(&format!("[general]\ninterface = {interface}\n\n"));
    }
    ini.push_str(&format!("[{}]\n", one_line("name")));
    for (key, field) in [
        ("archetype", "archetype"),
        ("amount", "amount"),
        ("services", "services"),
        ("mutate_interval", "mutate_interval"),
    ] {
        let value = one_line(field);
        if !value.is_empty() {
            ini.push_str(&format!("{key} = {value}\n"));
        }
    }
    ini
}

/// Composes, shows the difference, or deploys, by the button that was pressed.
pub(super) async fn submit(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    visitor.must_act()?;
    let step = posted.field("step");
    let ini = match step {
        "compose" => compose(&posted),
        _ => posted.field("ini").replace("\r\n", "\n"),
    };
    let replace = posted.field("replace") == "yes";
    let body = json!({"ini_content": ini, "replace_fleet": replace});
    let path = if step == "deploy" {
        "/deckies/deploy"
    } else {
        "/deckies/preview"
    };
    let mut shown = Shown {
        ini,
        replace,
        ..Shown::default()
    };
    match web.send(&visitor.caller, Method::POST, path, &body).await {
        Ok(done) if step == "deploy" => Ok(to_job(&done)),
        Ok(preview) => {
            shown.preview = Some(preview);
            page(&web, visitor, shown).await
        }
        Err(failure @ Failure::Api { .. }) => {
            shown.problems = failure.detail().lines().map(str::to_owned).collect();
            page(&web, visitor, shown).await
        }
        Err(other) => Err(other),
    }
}

/// To the job that an order became.
pub(super) fn to_job(done: &Value) -> Response {
    let id = text::encode(done["job"]["id"].as_str().unwrap_or_default());
    Redirect::to(&format!("/jobs/{id}")).into_response()
}

struct Item {
    name: String,
    link: String,
    state: String,
    detail: String,
}

struct Job {
    id: String,
    kind: String,
    status: String,
    over: bool,
    /// How far it is, in words.
    progress: String,
    /// It is about rows, not deckies.
    export: bool,
    /// What an export was asked for, condition by condition.
    asked: Vec<(String, String)>,
    /// The page of the list it was made of.
    list: &'static str,
    items: Vec<Item>,
    /// The name of what it made; empty when there is nothing to take.
    file: String,
    size: String,
    error: String,
    by: String,
    created: When,
    finished: When,
}

/// How far it is: deckies that are settled, or rows that are written.
fn progress(value: &Value, export: bool) -> String {
    let (done, total) = (text::number(value, "done"), text::number(value, "total"));
    match (export, value["total"].as_i64()) {
        (false, _) => format!("{done} of {total} settled"),
        // An export may not know how many rows there will be.
        (true, None | Some(0)) => format!("{done} rows written"),
        (true, Some(_)) => format!("{done} of {total} rows written"),
    }
}

/// The list that an export is of: where its page is.
fn list_of(what: &str) -> &'static str {
    match what {
        "attackers" => "/attackers",
        "credentials" => "/credentials",
        _ => "/live",
    }
}

fn job(value: &Value, visitor: &Visitor) -> Job {
    let export = value["kind"] == "export";
    let request = &value["request"];
    let filter = request["filter"].as_object().filter(|_| export);
    let given = |(name, value): (&String, &Value)| {
        let value = value.as_str().unwrap_or_default();
        (visible(name), visible(value))
    };
    let mut asked = Vec::new();
    if export {
        asked.push(("of".to_owned(), word(request, "what")));
        asked.push(("as".to_owned(), word(request, "format")));
        asked.extend(filter.into_iter().flatten().map(given));
    }
    let file = &value["file"];
    let items = value["items"].as_array().map_or(&[][..], Vec::as_slice);
    Job {
        id: text::encode(value["id"].as_str().unwrap_or_default()),
        kind: word(value, "kind"),
        status: word(value, "status"),
        over: !value["finished_at"].is_null(),
        progress: progress(value, export),
        list: list_of(request["what"].as_str().unwrap_or_default()),
        export,
        asked,
        file: word(file, "name"),
        size: text::bytes(file["size_bytes"].as_u64().unwrap_or(0)),
        items: items
            .iter()
            .map(|item| Item {
                name: word(item, "name"),
                link: text::encode(item["name"].as_str().unwrap_or_default()),
                state: word(item, "state"),
                detail: word(item, "detail"),
            })
            .collect(),
        error: word(value, "error"),
        by: word(value, "created_by"),
        created: when(value, "created_at", visitor.look.tz()),
        finished: when(value, "finished_at", visitor.look.tz()),
    }
}

#[derive(Template)]
#[template(path = "job_part.html", config = "src/askama.toml")]
struct Fragment {
    job: Job,
}

#[derive(Template)]
#[template(path = "job.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    job: Job,
}

async fn read(web: &Web, visitor: &Visitor, id: &str) -> Result<Job, Failure> {
    let path = format!("/jobs/{}", text::encode(id));
    Ok(job(&web.get(&visitor.caller, &path).await?, visitor))
}

/// A job, followed until it is over.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let job = read(&web, &visitor, &id).await?;
    show(&One {
        shell: Shell::new(&visitor, "Job", "/fleet"),
        job,
    })
}

/// What of it changes.
pub(super) async fn part(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let job = read(&web, &visitor, &id).await?;
    fragment(&Fragment { job })
}

#[derive(Template)]
#[template(path = "jobs.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<Job>,
    next: String,
}

/// What was ordered lately.
pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    uri: axum::http::Uri,
) -> Result<Response, Failure> {
    let asked = query(uri.query().unwrap_or_default(), &["before"]);
    let found = web.get(&visitor.caller, &format!("/jobs?{asked}")).await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    show(&List {
        rows: rows.iter().map(|row| job(row, &visitor)).collect(),
        next: next_link(&visitor.here, &found["next"]),
        shell: Shell::new(&visitor, "Jobs", "/fleet"),
    })
}
