//! Canary tokens: what was made, where it lies, who used it.

use askama::Template;
use axum::body::Bytes;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use reqwest::Method;
use serde_json::{Value, json};

use super::Web;
use super::attackers::parameter;
use super::error::{Failure, not_found};
use super::fleet::Confirm;
use super::page::{Shell, back, next_link, part as fragment, query, show};
use super::sessions::download;
use super::text::{self, When, bytes, number, short, visible, when, word};
use super::visitor::{Posted, Visitor};

struct Token {
    link: String,
    kind: String,
    memo: String,
    decky: String,
    decky_link: String,
    state: String,
    error: String,
    planted: Vec<String>,
    url: String,
    caution: String,
    host: String,
    by: String,
    created: When,
    triggers: String,
    used: bool,
    last: When,
}

fn token(row: &Value, visitor: &Visitor) -> Token {
    let tz = visitor.look.tz();
    let planted = row["planted"].as_array().map_or(&[][..], Vec::as_slice);
    Token {
        link: text::encode(row["id"].as_str().unwrap_or_default()),
        kind: word(row, "kind"),
        memo: word(row, "memo"),
        decky: word(row, "decky"),
        decky_link: text::encode(row["decky"].as_str().unwrap_or_default()),
        state: word(row, "state"),
        error: short(row["last_error"].as_str().unwrap_or_default()),
        planted: planted
            .iter()
            .filter_map(Value::as_str)
            .map(visible)
            .collect(),
        url: word(row, "url"),
        caution: word(row, "caution"),
        host: word(row, "host"),
        by: word(row, "created_by"),
        created: when(row, "created_at", tz),
        triggers: number(row, "trigger_count"),
        used: row["trigger_count"].as_i64().unwrap_or(0) > 0,
        last: when(row, "last_triggered_at", tz),
    }
}

struct Kind {
    name: String,
    summary: String,
    /// The setting that is missing for it; empty when it can be made.
    needs: String,
}

struct Blob {
    sha256: String,
    name: String,
    size: String,
    tokens: String,
    unused: bool,
}

/// What a form is filled with.
#[derive(Default)]
struct Filled {
    kind: String,
    memo: String,
    decky: String,
    path: String,
    user: String,
    blob: String,
    windows: bool,
}

#[derive(Template)]
#[template(path = "canary.html", config = "src/askama.toml")]
struct List {
    shell: Shell,
    rows: Vec<Token>,
    next: String,
    kinds: Vec<Kind>,
    deckies: Vec<String>,
    blobs: Vec<Blob>,
    filled: Filled,
    problem: String,
    kind: String,
    state: String,
    decky: String,
}

fn items(found: &Value) -> &[Value] {
    found["items"].as_array().map_or(&[][..], Vec::as_slice)
}

async fn page(
    web: &Web,
    visitor: &Visitor,
    filled: Filled,
    problem: String,
) -> Result<Response, Failure> {
    let given = visitor.here.split_once('?').map_or("", |(_, query)| query);
    let asked = query(given, &["kind", "state", "decky", "before"]);
    let caller = &visitor.caller;
    let found = web.get(caller, &format!("/canary/tokens?{asked}")).await?;
    let kinds = web.get(caller, "/canary/kinds").await?;
    let (mut deckies, mut blobs) = (Value::Null, Value::Null);
    if visitor.admin {
        deckies = web.get(caller, "/deckies").await?;
        blobs = web.get(caller, "/canary/blobs").await?;
    }
    show(&List {
        rows: items(&found)
            .iter()
            .map(|row| token(row, visitor))
            .collect(),
        next: next_link(&visitor.here, &found["next"]),
        kinds: items(&kinds)
            .iter()
            .map(|kind| Kind {
                name: word(kind, "name"),
                summary: word(kind, "summary"),
                needs: word(kind, "needs"),
            })
            .collect(),
        deckies: items(&deckies).iter().map(|d| word(d, "name")).collect(),
        blobs: items(&blobs)
            .iter()
            .map(|blob| Blob {
                sha256: word(blob, "sha256"),
                name: word(blob, "name"),
                size: bytes(blob["size_bytes"].as_u64().unwrap_or(0)),
                tokens: number(blob, "tokens"),
                unused: blob["tokens"].as_i64() == Some(0),
            })
            .collect(),
        filled,
        problem,
        kind: visible(&parameter(given, "kind")),
        state: visible(&parameter(given, "state")),
        decky: visible(&parameter(given, "decky")),
        shell: Shell::new(visitor, "Canary tokens", "/canary"),
    })
}

/// Every token, and for administrators the form for one more.
pub(super) async fn list(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    page(&web, &visitor, Filled::default(), String::new()).await
}

/// Makes a token, and plants it when it is for a decky.
pub(super) async fn add(State(web): State<Web>, posted: Posted) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    visitor.must_act()?;
    let mut body = json!({"kind": posted.field("kind")});
    for name in ["memo", "decky", "path", "user", "blob"] {
        let value = posted.field(name).trim();
        if !value.is_empty() {
            body[name] = json!(value);
        }
    }
    body["windows"] = json!(!posted.field("windows").is_empty());
    match web
        .send(&visitor.caller, Method::POST, "/canary/tokens", &body)
        .await
    {
        Ok(made) => {
            let to = format!(
                "/canary/{}",
                text::encode(made["id"].as_str().unwrap_or_default())
            );
            let said = match made["state"].as_str() {
                Some("planted") => "The token was made and planted.".to_owned(),
                Some("failed") => format!("It was made, not planted: {}", word(&made, "last_error")),
                _ => "The token was made; take its files away and leave them where they will be found."
                    .to_owned(),
            };
            Ok(back(&to, &said))
        }
        Err(failure @ Failure::Api { .. }) => {
            let filled = Filled {
                kind: visible(posted.field("kind")),
                memo: visible(posted.field("memo")),
                decky: visible(posted.field("decky")),
                path: visible(posted.field("path")),
                user: visible(posted.field("user")),
                blob: visible(posted.field("blob")),
                windows: !posted.field("windows").is_empty(),
            };
            page(&web, visitor, filled, failure.detail()).await
        }
        Err(other) => Err(other),
    }
}

struct File {
    n: String,
    name: String,
    path: String,
    size: String,
}

struct Trigger {
    first: When,
    last: When,
    count: String,
    attacker: String,
    attacker_link: String,
    via: String,
    method: String,
    path: String,
    agent: String,
    country: String,
    resolver: String,
    headers: Vec<(String, String)>,
    fingerprint: String,
}

struct Part {
    token: Token,
    triggers: Vec<Trigger>,
    next: String,
}

#[derive(Template)]
#[template(path = "canary_one.html", config = "src/askama.toml")]
struct One {
    shell: Shell,
    part: Part,
    files: Vec<File>,
    files_problem: String,
    fresh: String,
}

#[derive(Template)]
#[template(path = "canary_part.html", config = "src/askama.toml")]
struct Fragment {
    part: Part,
}

async fn part(web: &Web, visitor: &Visitor, id: &str) -> Result<Part, Failure> {
    let path = format!("/canary/tokens/{}", text::encode(id));
    let row = web.get(&visitor.caller, &path).await?;
    let given = visitor.here.split_once('?').map_or("", |(_, query)| query);
    let asked = query(given, &["before"]);
    let found = web
        .get(&visitor.caller, &format!("{path}/triggers?{asked}"))
        .await?;
    let tz = visitor.look.tz();
    let triggers = items(&found).iter().map(|row| {
        let attacker = row["attacker_ip"].as_str().unwrap_or_default();
        let headers = row["headers"].as_array().map_or(&[][..], Vec::as_slice);
        Trigger {
            first: when(row, "first_at", tz),
            last: when(row, "last_at", tz),
            count: number(row, "count"),
            attacker: visible(attacker),
            attacker_link: text::encode(attacker),
            via: word(row, "via"),
            method: word(row, "method"),
            path: short(row["path"].as_str().unwrap_or_default()),
            agent: short(row["user_agent"].as_str().unwrap_or_default()),
            country: word(row, "country"),
            resolver: word(row, "resolver"),
            headers: headers
                .iter()
                .map(|h| (word(h, "name"), word(h, "value")))
                .collect(),
            fingerprint: match &row["fingerprint"] {
                Value::Null => String::new(),
                found => visible(&serde_json::to_string_pretty(found).unwrap_or_default())
                    .replace("\\n", "\n"),
            },
        }
    });
    Ok(Part {
        triggers: triggers.collect(),
        // The fragment's address is none to go to.
        next: next_link(&visitor.here.replacen("/part", "", 1), &found["next"]),
        token: token(&row, visitor),
    })
}

/// One token: where it lies and who used it.
pub(super) async fn one(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let part = part(&web, &visitor, &id).await?;
    let (mut files, mut files_problem) = (Vec::new(), String::new());
    if visitor.admin {
        let path = format!("/canary/tokens/{}/files", text::encode(&id));
        match web.get(&visitor.caller, &path).await {
            Ok(found) => {
                files = items(&found)
                    .iter()
                    .map(|file| File {
                        n: file["n"].as_u64().unwrap_or(0).to_string(),
                        name: word(file, "name"),
                        path: word(file, "path"),
                        size: bytes(file["size_bytes"].as_u64().unwrap_or(0)),
                    })
                    .collect();
            }
            Err(failure @ Failure::Api { .. }) => files_problem = failure.detail(),
            Err(other) => return Err(other),
        }
    }
    show(&One {
        files,
        files_problem,
        fresh: format!("/canary/{}/part", text::encode(&id)),
        shell: Shell::new(&visitor, format!("Token: {}", part.token.kind), "/canary"),
        part,
    })
}

/// What moves of that page.
pub(super) async fn one_part(
    State(web): State<Web>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let part = part(&web, &visitor, &id).await?;
    fragment(&Fragment { part })
}

/// A file of a token, to be left on a real machine.
pub(super) async fn file(
    State(web): State<Web>,
    visitor: Visitor,
    Path((id, n)): Path<(String, String)>,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let path = format!("/canary/tokens/{}/files", text::encode(&id));
    let found = web.get(&visitor.caller, &path).await?;
    let number: u64 = n.parse().unwrap_or(u64::MAX);
    let wanted = items(&found)
        .iter()
        .find(|file| file["n"].as_u64() == Some(number));
    let Some(wanted) = wanted else {
        return Ok(not_found().await);
    };
    // Quotes and control characters would end the header's value.
    let name: String = word(wanted, "name")
        .chars()
        .filter(|c| c.is_ascii_graphic() && !"\"\\/".contains(*c))
        .collect();
    let path = format!("{path}/{number}");
    download(&web, &visitor, &path, "application/octet-stream", &name).await
}

/// Asks before a token is taken back or forgotten.
pub(super) async fn confirm(
    visitor: Visitor,
    Path((id, verb)): Path<(String, String)>,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let (question, meaning, button) = match verb.as_str() {
        "revoke" => (
            "Take this token back?",
            "Its files are removed from the decky. Whoever has a copy is still recorded.",
            "Take back",
        ),
        "forget" => (
            "Forget this token?",
            "What it caught is deleted. Whoever has a copy is no longer noticed.",
            "Forget",
        ),
        _ => return Ok(not_found().await),
    };
    let link = text::encode(&id);
    show(&Confirm {
        question: question.to_owned(),
        meaning: meaning.to_owned(),
        action: format!("/canary/{link}/{verb}"),
        button: button.to_owned(),
        back: format!("/canary/{link}"),
        shell: Shell::new(&visitor, "Sure?", "/canary"),
    })
}

/// Plants a token, takes it back, or forgets it.
pub(super) async fn act(
    State(web): State<Web>,
    Path((id, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let link = text::encode(&id);
    let path = format!("/canary/tokens/{link}");
    let (method, to, said) = match verb.as_str() {
        "plant" => (
            Method::POST,
            format!("{path}/plant"),
            "The token is planted.",
        ),
        "revoke" => (Method::DELETE, path, "The token was taken back."),
        "forget" => (
            Method::DELETE,
            format!("{path}?forget=true"),
            "The token was forgotten.",
        ),
        _ => return Ok(not_found().await),
    };
    let here = format!("/canary/{link}");
    let done = web
        .send(&posted.visitor.caller, method, &to, &json!({}))
        .await;
    match done {
        Ok(_) if verb == "forget" => Ok(back("/canary", said)),
        Ok(_) => Ok(back(&here, said)),
        Err(failure @ Failure::Api { .. }) => Ok(back(&here, &failure.detail())),
        Err(other) => Err(other),
    }
}

/// Keeps a file of the operator's that a token can go into.
pub(super) async fn upload(
    State(web): State<Web>,
    visitor: Visitor,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure> {
    let bad = |detail: &str| Failure::Api {
        status: StatusCode::BAD_REQUEST,
        detail: detail.to_owned(),
        request_id: String::new(),
    };
    let broken = |_| bad("The form is too large or was cut off.");
    let (mut token, mut file) = (String::new(), None);
    let Ok(mut form) = form else {
        visitor.must_have_sent("")?;
        return Err(bad("The form is too large or was cut off."));
    };
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name() {
            Some("csrf") => token = field.text().await.map_err(broken)?,
            Some("file") => {
                let name = field.file_name().unwrap_or_default().to_owned();
                file = Some((name, field.bytes().await.map_err(broken)?));
            }
            _ => {}
        }
    }
    visitor.must_have_sent(&token)?;
    visitor.must_act()?;
    let Some((name, content)) = file.filter(|(name, _): &(String, Bytes)| !name.is_empty()) else {
        return Ok(back("/canary", "Choose a file first."));
    };
    let path = format!("/canary/blobs?name={}", text::encode(&name));
    let request = web
        .request(&visitor.caller, Method::POST, &path)
        .await
        .header("content-type", "application/octet-stream")
        .body(content);
    match web.reply(request, "/canary").await {
        Ok(_) => Ok(back(
            "/canary",
            "The file is kept; choose it for a token of the kind upload.",
        )),
        Err(failure @ Failure::Api { .. }) => Ok(back("/canary", &failure.detail())),
        Err(other) => Err(other),
    }
}

/// Forgets a file that no token is in.
pub(super) async fn forget(
    State(web): State<Web>,
    Path(sha256): Path<String>,
    posted: Posted,
) -> Result<Response, Failure> {
    let path = format!("/canary/blobs/{}", text::encode(&sha256));
    let caller = &posted.visitor.caller;
    match web.send(caller, Method::DELETE, &path, &json!({})).await {
        Ok(_) => Ok(back("/canary", "The file was forgotten.")),
        Err(failure @ Failure::Api { .. }) => Ok(back("/canary", &failure.detail())),
        Err(other) => Err(other),
    }
}
