//! Who else is told: receivers, what they were sent, and sending it again.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Web;
use super::attackers::parameter;
use super::error::{Failure, not_found};
use super::fleet::Confirm;
use super::page::{Shell, back, next_link, query, show};
use super::text::{self, When, number, short, visible, when, word};
use super::visitor::{Posted, Visitor};

/// A group of topics to tick.
struct Preset {
    name: String,
    about: String,
}

/// What a form is filled with.
#[derive(Default)]
struct Filled {
    name: String,
    url: String,
    format: String,
    template: String,
    patterns: String,
}

/// Text of several lines for a form; what would act in one of them is visible.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(visible).collect();
    lines.join("\n")
}

struct Hook {
    link: String,
    name: String,
    name_link: String,
    url: String,
    format: String,
    patterns: Vec<String>,
    enabled: bool,
    /// `ok`, `failing`, `open`, `off`.
    state: &'static str,
    waiting: String,
    dead: String,
    dropped: String,
    last_success: When,
    last_failure: When,
    error: String,
    retry: When,
    previous_until: When,
    headers: Vec<String>,
    insecure: bool,
}

fn hook(row: &Value, visitor: &Visitor) -> Hook {
    let tz = visitor.look.tz();
    let texts = |key: &str| -> Vec<String> {
        let list = row[key].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().filter_map(Value::as_str).map(visible).collect()
    };
    let enabled = row["enabled"] == true;
    Hook {
        link: text::encode(row["id"].as_str().unwrap_or_default()),
        name: word(row, "name"),
        name_link: text::encode(row["name"].as_str().unwrap_or_default()),
        url: word(row, "url"),
        format: word(row, "format"),
        patterns: texts("topic_patterns"),
        enabled,
        state: match (enabled, row["circuit"].as_str().unwrap_or_default()) {
            (false, _) => "off",
            (true, "open") => "open",
            (true, "failing") => "failing",
            (true, _) => "ok",
        },
        waiting: number(row, "pending"),
        dead: number(row, "dead"),
        dropped: number(row, "dropped"),
        last_success: when(row, "last_success_at", tz),
        last_failure: when(row, "last_failure_at", tz),
        error: short(row["last_error"].as_str().unwrap_or_default()),
        retry: when(row, "retry_at", tz),
        previous_until: when(row, "previous_secret_until", tz),
        headers: texts("header_names"),
        insecure: texts("warnings").iter().any(|w| w == "insecure_url"),
    }
}

#[derive(Template)]
#[template(path = "webhooks.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<Hook>,
    formats: Vec<String>,
    presets: Vec<Preset>,
    filled: Filled,
    /// The name and secret of one that was just made, shown once.
    made: String,
    secret: String,
    problem: String,
}

async fn choices(web: &Web, visitor: &Visitor) -> Result<(Vec<String>, Vec<Preset>), Failure> {
    let found = web.get(&visitor.caller, "/webhook-formats").await?;
    let rows = |key: &str| found[key].as_array().cloned().unwrap_or_default();
    let formats = rows("formats").iter().map(|f| word(f, "name")).collect();
    let presets = rows("presets")
        .iter()
        .map(|p| Preset {
            name: word(p, "name"),
            about: word(p, "about"),
        })
        .collect();
    Ok((formats, presets))
}

async fn page(
    web: &Web,
    visitor: &Visitor,
    filled: Filled,
    made: (String, String),
    problem: String,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let found = web.get(&visitor.caller, "/webhooks").await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let (formats, presets) = choices(web, visitor).await?;
    show(&List {
        rows: rows.iter().map(|row| hook(row, visitor)).collect(),
        formats,
        presets,
        filled,
        made: made.0,
        secret: made.1,
        problem,
        shell: Shell::new(visitor, "Webhooks", "/webhooks"),
    })
}

/// Every receiver, and the form for one more.
pub(super) async fn list(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    page(
        &web,
        &visitor,
        Filled::default(),
        Default::default(),
        String::new(),
    )
    .await
}

/// What a form asks for.
fn wanted(posted: &Posted, presets: &[Preset]) -> Result<Value, String> {
    let mut body = json!({
        "name": posted.field("name").trim(),
        "url": posted.field("url").trim(),
        "format": posted.field("format"),
        "topic_patterns": posted.field("patterns").split_whitespace().collect::<Vec<_>>(),
    });
    let ticked = |p: &&Preset| !posted.field(&format!("preset.{}", p.name)).is_empty();
    let ticked: Vec<&str> = presets
        .iter()
        .filter(ticked)
        .map(|p| p.name.as_str())
        .collect();
    body["simple_events"] = json!(ticked);
    if posted.field("format") == "template" {
        body["template"] = json!(posted.field("template"));
    }
    if !posted.field("secret").is_empty() {
        body["secret"] = json!(posted.field("secret"));
    }
    let mut headers = Map::new();
    for line in posted
        .field("headers")
        .lines()
        .filter(|l| !l.trim().is_empty())
    {
        let Some((name, value)) = line.split_once(':') else {
            return Err("Headers are written one to a line, as Name: value.".to_owned());
        };
        headers.insert(name.trim().to_owned(), json!(value.trim()));
    }
    if !headers.is_empty() || !posted.field("no_headers").is_empty() {
        body["headers"] = Value::Object(headers);
    }
    Ok(body)
}

/// The form as it was sent, to mend it.
fn filled(posted: &Posted) -> Filled {
    Filled {
        name: visible(posted.field("name")),
        url: visible(posted.field("url")),
        format: visible(posted.field("format")),
        template: lines(posted.field("template")),
        patterns: lines(posted.field("patterns")),
    }
}

/// Adds a receiver and shows its secret once.
pub(super) async fn add(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    visitor.must_act()?;
    let (_, presets) = choices(&web, visitor).await?;
    let body = match wanted(&posted, &presets) {
        Ok(body) => body,
        Err(why) => return page(&web, visitor, filled(&posted), Default::default(), why).await,
    };
    match web
        .send(&visitor.caller, Method::POST, "/webhooks", &body)
        .await
    {
        Ok(made) => {
            let made = (word(&made, "name"), word(&made, "secret"));
            page(&web, visitor, Filled::default(), made, String::new()).await
        }
        Err(failure @ Failure::Api { .. }) => {
            page(
                &web,
                visitor,
                filled(&posted),
                Default::default(),
                failure.detail(),
            )
            .await
        }
        Err(other) => Err(other),
    }
}

struct Delivery {
    id: String,
    at: When,
    topic: String,
    payload: String,
    status: String,
    over: bool,
    attempts: String,
    next: When,
    error: String,
}

#[derive(Template)]
#[template(path = "webhook.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    hook: Hook,
    formats: Vec<String>,
    presets: Vec<Preset>,
    filled: Filled,
    deliveries: Vec<Delivery>,
    next: String,
    status: String,
    secret: String,
    problem: String,
}

async fn one_page(
    web: &Web,
    visitor: &Visitor,
    id: &str,
    secret: String,
    problem: String,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let path = format!("/webhooks/{}", text::encode(id));
    let row = web.get(&visitor.caller, &path).await?;
    let given = visitor.here.split_once('?').map_or("", |(_, query)| query);
    let asked = query(given, &["status", "before"]);
    let found = web
        .get(&visitor.caller, &format!("{path}/deliveries?{asked}"))
        .await?;
    let (formats, presets) = choices(web, visitor).await?;
    let rows = found["items"].as_array().map_or(&[][..], Vec::as_slice);
    let tz = visitor.look.tz();
    let hook = hook(&row, visitor);
    show(&One {
        filled: Filled {
            name: hook.name.clone(),
            url: hook.url.clone(),
            format: hook.format.clone(),
            template: lines(row["template"].as_str().unwrap_or_default()),
            patterns: hook.patterns.join("\n"),
        },
        formats,
        presets,
        deliveries: rows
            .iter()
            .map(|row| Delivery {
                id: row["id"].as_i64().unwrap_or(0).to_string(),
                at: when(row, "event_at", tz),
                topic: word(row, "topic"),
                payload: short(&row["payload"].to_string()),
                over: row["status"] != "pending",
                status: word(row, "status"),
                attempts: number(row, "attempts"),
                next: when(row, "next_attempt_at", tz),
                error: short(row["error"].as_str().unwrap_or_default()),
            })
            .collect(),
        next: next_link(&visitor.here, &found["next"]),
        status: visible(&parameter(given, "status")),
        secret,
        problem,
        shell: Shell::new(visitor, format!("Webhook {}", hook.name), "/webhooks"),
        hook,
    })
}

/// One receiver and what it was sent.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    one_page(&web, &visitor, &id, String::new(), String::new()).await
}

/// Asks before something that cannot be undone.
pub(super) async fn confirm(
    visitor: Visitor,
    Path((id, verb)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let name = visible(&parameter(uri.query().unwrap_or_default(), "name"));
    let (question, meaning, button) = match verb.as_str() {
        "remove" => (
            format!("Remove the webhook {name}?"),
            "What waits for it and what it was sent is forgotten.",
            "Remove",
        ),
        "rotate" => (
            format!("Give {name} a new secret?"),
            "It is shown once. For a day deliveries carry a signature with the old one, too.",
            "New secret",
        ),
        _ => return Ok(not_found().await),
    };
    let link = text::encode(&id);
    show(&Confirm {
        question,
        meaning: meaning.to_owned(),
        action: format!("/webhooks/{link}/{verb}"),
        button: button.to_owned(),
        back: format!("/webhooks/{link}"),
        shell: Shell::new(&visitor, "Sure?", "/webhooks"),
    })
}

/// Carries an order out.
pub(super) async fn act(
    State(web): State<Web>,
    Path((id, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    visitor.must_act()?;
    let link = text::encode(&id);
    let path = format!("/webhooks/{link}");
    let (method, to, body) = match verb.as_str() {
        "test" | "replay" | "rotate" => (Method::POST, format!("{path}/{verb}"), json!({})),
        "enable" => (Method::PATCH, path.clone(), json!({"enabled": true})),
        "disable" => (Method::PATCH, path.clone(), json!({"enabled": false})),
        "remove" => (Method::DELETE, path.clone(), json!({})),
        "change" => {
            let (_, presets) = choices(&web, visitor).await?;
            match wanted(&posted, &presets) {
                Ok(body) => (Method::PATCH, path.clone(), body),
                Err(why) => return one_page(&web, visitor, &id, String::new(), why).await,
            }
        }
        _ => return Ok(not_found().await),
    };
    match web.send(&visitor.caller, method, &to, &body).await {
        Ok(done) => {
            let said = match verb.as_str() {
                "rotate" => {
                    let secret = word(&done, "secret");
                    return one_page(&web, visitor, &id, secret, String::new()).await;
                }
                "remove" => return Ok(back("/webhooks", "The webhook was removed.")),
                "test" if done["delivered"] == true => {
                    format!("The test was delivered in {} ms.", done["took_ms"])
                }
                "test" => format!("The test was not delivered: {}.", word(&done, "error")),
                "replay" => format!("{} deliveries are back in line.", done["replayed"]),
                "enable" => "Events are delivered from now on.".to_owned(),
                "disable" => "Nothing is delivered until it is switched on again.".to_owned(),
                _ => "Changed.".to_owned(),
            };
            Ok(back(&path, &said))
        }
        Err(failure @ Failure::Api { .. }) if verb == "change" => {
            one_page(&web, visitor, &id, String::new(), failure.detail()).await
        }
        Err(failure @ Failure::Api { .. }) => Ok(back(&path, &failure.detail())),
        Err(other) => Err(other),
    }
}

/// Puts one delivery back in line.
pub(super) async fn replay(
    State(web): State<Web>,
    Path((id, delivery)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = format!("/webhooks/{}", text::encode(&id));
    let to = format!("{path}/deliveries/{}/replay", text::encode(&delivery));
    let caller = &posted.visitor.caller;
    match web.send(caller, Method::POST, &to, &json!({})).await {
        Ok(_) => Ok(back(&path, "The delivery is back in line.")),
        Err(failure @ Failure::Api { .. }) => Ok(back(&path, &failure.detail())),
        Err(other) => Err(other),
    }
}
