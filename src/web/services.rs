//! A service of a decky: adding it, setting it, taking it away. The form is made from the
//! service's own table of settings, as the API tells it.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Redirect, Response};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Web;
use super::attackers::parameter;
use super::deploy::to_job;
use super::error::Failure;
use super::fleet::Confirm;
use super::page::{Shell, back, show};
use super::text::{self, visible, word};
use super::visitor::{Posted, Visitor};

/// One setting in the form.
struct Field {
    key: String,
    label: String,
    help: String,
    /// `text`, `lines`, `secret`, `number`, `choice`.
    kind: &'static str,
    /// What is set now, or what was typed; as it is, since it goes back as it is.
    value: String,
    /// Words of a choice.
    words: Vec<String>,
    /// Attributes of a number; empty where there is no limit.
    min: String,
    max: String,
}

#[derive(Template)]
#[template(path = "service.html", config = "src/askama.toml")]
struct Form {
    shell: Shell,
    decky: String,
    service: String,
    /// The same for addresses.
    link: String,
    here: String,
    /// The decky offers it already.
    offered: bool,
    fields: Vec<Field>,
    problem: String,
}

/// A service of a decky as the API knows it.
struct Subject {
    schema: Value,
    offered: bool,
    /// What is set.
    settings: Value,
}

async fn subject(
    web: &Web,
    visitor: &Visitor,
    name: &str,
    service: &str,
) -> Result<Subject, Failure> {
    visitor.must_act()?;
    let caller = &visitor.caller;
    let path = format!("/services/{}/schema", text::encode(service));
    let schema = web.get(caller, &path).await?;
    let path = format!("/deckies/{}", text::encode(name));
    let decky = web.get(caller, &path).await?;
    let mut offers = decky["services"].as_array().into_iter().flatten();
    Ok(Subject {
        schema,
        offered: offers.any(|offer| offer["name"] == service),
        settings: decky["settings"][service].clone(),
    })
}

/// The fields of the form; `value` says what stands in each.
fn fields(schema: &Value, value: impl Fn(&str) -> String) -> Vec<Field> {
    let all = schema["fields"].as_array().into_iter().flatten();
    all.map(|field| {
        let key = field["key"].as_str().unwrap_or_default();
        let known = field["type"].as_str().unwrap_or_default();
        let words = field["enum"].as_array().into_iter().flatten();
        let words = words.filter_map(|w| w.as_str().map(str::to_owned));
        let limit = |name: &str| field[name].as_i64().map(|n| n.to_string());
        Field {
            key: key.to_owned(),
            label: word(field, "label"),
            help: word(field, "help"),
            kind: match known {
                "number" => "number",
                "bool" | "choice" => "choice",
                _ if field["secret"] == true => "secret",
                _ if field["multiline"] == true => "lines",
                _ => "text",
            },
            value: value(key),
            words: match known {
                "bool" => vec!["true".to_owned(), "false".to_owned()],
                _ => words.collect(),
            },
            min: limit("min").unwrap_or_default(),
            max: limit("max").unwrap_or_default(),
        }
    })
    .collect()
}

/// A value as the form shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What was typed, in the types the API takes; what was left empty is the persona's.
fn typed(schema: &Value, field: impl Fn(&str) -> String) -> Map<String, Value> {
    let all = schema["fields"].as_array().into_iter().flatten();
    let pairs = all.filter_map(|known| {
        let key = known["key"].as_str()?;
        // A browser ends lines the way mail does.
        let text = field(key).replace("\r\n", "\n");
        let value = match known["type"].as_str().unwrap_or_default() {
            _ if text.is_empty() => return None,
            // What is no number goes as it is: the API says what is wrong with it.
            "number" => text.trim().parse::<i64>().map_or(text.into(), Value::from),
            "bool" => Value::from(text == "true"),
            _ => text.into(),
        };
        Some((key.to_owned(), value))
    });
    pairs.collect()
}

fn form(
    visitor: &Visitor,
    (name, service): (&str, &str),
    offered: bool,
    fields: Vec<Field>,
    problem: String,
) -> Result<Response, Failure> {
    let link = text::encode(name);
    let (decky, service_shown) = (visible(name), visible(service));
    show(&Form {
        shell: Shell::new(visitor, format!("{service_shown} of {decky}"), "/fleet"),
        here: format!("/fleet/{link}/services/{}", text::encode(service)),
        decky,
        service: service_shown,
        link,
        offered,
        fields,
        problem,
    })
}

/// Leads from the choice of a service to its form.
pub(super) async fn choose(
    visitor: Visitor,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let service = parameter(uri.query().unwrap_or_default(), "service");
    let link = text::encode(&name);
    let to = if service.is_empty() {
        format!("/fleet/{link}")
    } else {
        format!("/fleet/{link}/services/{}", text::encode(&service))
    };
    Ok(Redirect::to(&to).into_response())
}

/// The form of one service: to add it, or to set it differently.
pub(super) async fn page(
    State(web): State<Web>,
    visitor: Visitor,
    Path((name, service)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let subject = subject(&web, &visitor, &name, &service).await?;
    let fields = fields(&subject.schema, |key| shown(&subject.settings[key]));
    let (at, offered) = ((name.as_str(), service.as_str()), subject.offered);
    form(&visitor, at, offered, fields, String::new())
}

/// Adds the service, or sets it.
pub(super) async fn set(
    State(web): State<Web>,
    Path((name, service)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let visitor = &posted.visitor;
    let subject = subject(&web, visitor, &name, &service).await?;
    let value = |key: &str| posted.field(&format!("set.{key}")).to_owned();
    let values = typed(&subject.schema, value);
    let services = format!("/deckies/{}/services", text::encode(&name));
    let (method, path, body) = if subject.offered {
        let path = format!("{services}/{}/config", text::encode(&service));
        (Method::PUT, path, Value::Object(values))
    } else {
        let body = json!({"name": service, "config": values});
        (Method::POST, services, body)
    };
    match web.send(&visitor.caller, method, &path, &body).await {
        Ok(done) => Ok(to_job(&done)),
        Err(failure @ Failure::Api { .. }) => {
            let fields = fields(&subject.schema, value);
            let (at, offered) = ((name.as_str(), service.as_str()), subject.offered);
            form(visitor, at, offered, fields, failure.detail())
        }
        Err(other) => Err(other),
    }
}

/// Asks before a service is taken away.
pub(super) async fn confirm(
    visitor: Visitor,
    Path((name, service)): Path<(String, String)>,
) -> Result<Response, Failure> {
    visitor.must_act()?;
    let link = text::encode(&name);
    show(&Confirm {
        question: format!("Take {} from {}?", visible(&service), visible(&name)),
        meaning: "Its port closes and open connections to it end; the other services go on."
            .to_owned(),
        action: format!("/fleet/{link}/services/{}/remove", text::encode(&service)),
        button: "Take it away".to_owned(),
        back: format!("/fleet/{link}"),
        shell: Shell::new(&visitor, "Sure?", "/fleet"),
    })
}

/// Takes the service away.
pub(super) async fn remove(
    State(web): State<Web>,
    Path((name, service)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failure> {
    let link = text::encode(&name);
    let path = format!("/deckies/{link}/services/{}", text::encode(&service));
    let caller = &posted.visitor.caller;
    match web.send(caller, Method::DELETE, &path, &json!({})).await {
        Ok(done) => Ok(to_job(&done)),
        Err(failure @ Failure::Api { .. }) => {
            Ok(back(&format!("/fleet/{link}"), &failure.detail()))
        }
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"fields": [
            {"key": "banner", "label": "Banner", "type": "text", "help": "Greeting."},
            {"key": "body", "label": "Body", "type": "text", "multiline": true},
            {"key": "password", "label": "Password", "type": "text", "secret": true},
            {"key": "code", "label": "Code", "type": "number", "min": 100, "max": 599},
            {"key": "open", "label": "Open", "type": "bool"},
            {"key": "app", "label": "App", "type": "choice", "enum": ["none", "login"]},
        ]})
    }

    #[test]
    fn every_type_has_its_input() {
        let set = json!({"code": 404, "open": false, "banner": "hi"});
        let fields = fields(&schema(), |key| shown(&set[key]));
        let told: Vec<(&str, &str)> = fields.iter().map(|f| (f.kind, f.value.as_str())).collect();
        assert_eq!(
            told,
            [
                ("text", "hi"),
                ("lines", ""),
                ("secret", ""),
                ("number", "404"),
                ("choice", "false"),
                ("choice", ""),
            ]
        );
        assert_eq!(fields[3].min, "100");
        assert_eq!(fields[4].words, ["true", "false"]);
        assert_eq!(fields[5].words, ["none", "login"]);
    }

    #[test]
    fn what_is_typed_gets_its_type_and_what_is_empty_is_left_out() {
        let typed = typed(&schema(), |key| {
            let text = match key {
                "body" => "one\r\ntwo",
                "code" => " 404 ",
                "open" => "false",
                "app" => "login",
                _ => "",
            };
            text.to_owned()
        });
        let expected = json!({"body": "one\ntwo", "code": 404, "open": false, "app": "login"});
        assert_eq!(Value::Object(typed), expected);
        let wrong = super::typed(&schema(), |key| {
            if key == "code" { "many" } else { "" }.to_owned()
        });
        assert_eq!(Value::Object(wrong), json!({"code": "many"}));
    }
}
