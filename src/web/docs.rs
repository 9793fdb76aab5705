//! The API's own description as a page: every route by its tag, with what it takes, what it
//! answers and how to ask it from a shell.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::Web;
use super::error::Failure;
use super::page::{Shell, show};
use super::schema::{Field, Schemas};
use super::text::{visible, word};
use super::visitor::Visitor;

/// Methods in the order they are shown.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

struct Parameter {
    name: String,
    place: String,
    kind: String,
    required: bool,
    description: String,
}

struct Answer {
    status: String,
    description: String,
    /// Media type; empty where there is no body.
    media: String,
    /// A body, where it is JSON and not a problem document.
    sample: String,
}

struct Operation {
    anchor: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    open: bool,
    parameters: Vec<Parameter>,
    fields: Vec<Field>,
    answers: Vec<Answer>,
    curl: String,
}

struct Tag {
    name: String,
    description: String,
    operations: Vec<Operation>,
}

#[derive(Template)]
#[template(path = "docs.html", config = "src/askama.toml")]
struct Docs {
    shell: Shell,
    about: String,
    address: String,
    tags: Vec<Tag>,
}

/// The page.
pub(super) async fn page(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failure> {
    let document = web.get(&visitor.caller, "/openapi.json").await?;
    show(&Docs {
        about: word(&document["info"], "description"),
        address: format!("{}/api/v1", web.base().await),
        tags: tags(&document),
        shell: Shell::new(&visitor, "API", "/docs"),
    })
}

fn tags(document: &Value) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    for tag in list(&document["tags"]) {
        tags.push(Tag {
            name: word(tag, "name"),
            description: word(tag, "description"),
            operations: Vec::new(),
        });
    }
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            let Some(operation) = item.get(method) else {
                continue;
            };
            let name = operation["tags"][0].as_str().unwrap_or("other");
            let name = visible(name);
            let told = operation_of(document, method, path, operation);
            match tags.iter_mut().find(|tag| tag.name == name) {
                Some(tag) => tag.operations.push(told),
                None => tags.push(Tag {
                    name,
                    description: String::new(),
                    operations: vec![told],
                }),
            }
        }
    }
    tags.retain(|tag| !tag.operations.is_empty());
    tags
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Text of the description; it may have line feeds, which are spaces on a page.
fn prose(value: &Value, key: &str) -> String {
    visible(&value[key].as_str().unwrap_or_default().replace('\n', " "))
}

fn operation_of(document: &Value, method: &str, path: &str, operation: &Value) -> Operation {
    let schemas = Schemas(document);
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let mut fields = schemas.fields(body);
    for field in &mut fields {
        field.name = visible(&field.name);
        field.kind = visible(&field.kind);
        field.description = visible(&field.description.replace('\n', " "));
    }
    let parameters = list(&operation["parameters"]).map(|one| Parameter {
        name: word(one, "name"),
        place: word(one, "in"),
        kind: visible(&schemas.kind(&one["schema"])),
        required: one["required"] == true,
        description: prose(one, "description"),
    });
    let answers = operation["responses"].as_object().into_iter().flatten();
    let slug: String = path
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let open =
        list(&operation["security"]).any(|way| way.as_object().is_some_and(|w| w.is_empty()));
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    Operation {
        anchor: format!("{method}{slug}"),
        method: method.to_uppercase(),
        path: visible(path),
        summary: prose(operation, "summary"),
        description: prose(operation, "description"),
        open,
        parameters: parameters.collect(),
        fields,
        answers: answers
            .map(|(status, answer)| answer_of(schemas, status, answer))
            .collect(),
        curl: visible(&curl(schemas, method, path, open, operation)),
    }
}

fn answer_of(schemas: Schemas<'_>, status: &str, answer: &Value) -> Answer {
    let content = answer["content"].as_object().into_iter().flatten().next();
    let (media, schema) = match content {
        Some((media, content)) => (media.as_str(), &content["schema"]),
        None => ("", &Value::Null),
    };
    Answer {
        status: visible(status),
        description: prose(answer, "description"),
        media: visible(media),
        sample: if media == "application/json" {
            pretty(&schemas.sample(schema))
        } else {
            String::new()
        },
    }
}

/// JSON over several lines, each made visible.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(visible).collect();
    lines.join("\n")
}

/// How to ask it from a shell.
fn curl(schemas: Schemas<'_>, method: &str, path: &str, open: bool, operation: &Value) -> String {
    let mut line = "curl -s".to_owned();
    if method != "get" {
        line.push_str(&format!(" -X {}", method.to_uppercase()));
    }
    if !open {
        line.push_str(" -H \"authorization: Bearer $TOKEN\"");
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    if schema.is_object() {
        let body = schemas.sample(schema).to_string();
        line.push_str(" -H 'content-type: application/json' -d ");
        line.push_str(&format!("'{}'", body.replace('\'', "'\\''")));
    }
    let needed = list(&operation["parameters"])
        .filter(|one| one["in"] == "query" && one["required"] == true)
        .filter_map(|one| Some(format!("{}=…", one["name"].as_str()?)));
    let query: Vec<String> = needed.collect();
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{}", query.join("&"))
    };
    // A name in braces is what the reader puts there.
    format!("{line} \"$API{path}{query}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_is_told_with_what_it_takes_and_how_to_ask_it() {
        let document = json!({
            "tags": [{"name": "auth", "description": "In and out"}, {"name": "empty"}],
            "paths": {"/api/v1/x/{id}": {
                "post": {
                    "tags": ["auth"], "summary": "Does\nx.",
                    "parameters": [
                        {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
                        {"name": "q", "in": "query", "required": true, "schema": {"type": "string"}},
                    ],
                    "requestBody": {"content": {"application/json": {"schema": {
                        "type": "object", "properties": {"it's": {"type": "boolean"}}}}}},
                    "responses": {"204": {"description": "Done"}},
                },
                "get": {"tags": ["new"], "security": [{}], "responses": {}},
            }},
        });
        let tags = tags(&document);
        let names: Vec<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
        assert_eq!(names, ["auth", "new"]);
        let post = &tags[0].operations[0];
        assert_eq!(post.summary, "Does x.");
        assert_eq!(post.anchor, "post-api-v1-x--id-");
        assert_eq!(
            post.curl,
            "curl -s -X POST -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \
             -d '{\"it'\\''s\":false}' \"$API/x/{id}?q=…\""
        );
        assert_eq!(tags[1].operations[0].curl, "curl -s \"$API/x/{id}\"");
    }
}
