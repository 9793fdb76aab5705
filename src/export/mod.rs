//! What leaves for other systems: an event as the receiver wants it, signed. Values in,
//! values out; `net::outbound` carries it.
//!
//! Every text of a payload may be an attacker's: it is never markup, never a mention, never
//! the end of a line or a record at the receiver.

mod chat;
mod envelope;
mod siem;
pub mod signature;
mod template;

pub use envelope::{Envelope, PRESETS, Preset};
pub use template::TemplateError;

use serde_json::{Value, json};

use crate::model::Stamp;

/// How a receiver wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `{v, id, ts, topic, type, payload}` with sorted keys.
    Json,
    /// CloudEvents 1.0, structured mode.
    CloudEvents,
    /// An incoming webhook of Slack.
    Slack,
    /// An incoming webhook of Mattermost (or Rocket.Chat).
    Mattermost,
    /// A webhook of Discord.
    Discord,
    /// A workflow webhook of Microsoft Teams: a message with an Adaptive Card.
    Teams,
    /// The HTTP Event Collector of Splunk (`/services/collector/event`).
    SplunkHec,
    /// The bulk API of Elasticsearch or OpenSearch (`/INDEX/_bulk`), fields of ECS 8.
    EcsBulk,
    /// The operator's own template.
    Template,
}

impl Format {
    /// Every format, in the order forms offer them.
    pub const ALL: [Self; 9] = [
        Self::Json,
        Self::CloudEvents,
        Self::Slack,
        Self::Mattermost,
        Self::Discord,
        Self::Teams,
        Self::SplunkHec,
        Self::EcsBulk,
        Self::Template,
    ];

    /// Its name in the API, the database and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::CloudEvents => "cloudevents",
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Discord => "discord",
            Self::Teams => "teams",
            Self::SplunkHec => "splunk_hec",
            Self::EcsBulk => "ecs_bulk",
            Self::Template => "template",
        }
    }

    /// The format called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// Where a delivery goes and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// What the receiver reads.
    pub format: Format,
    /// For [`Format::Template`].
    pub template: Option<&'a str>,
    /// The operator's own headers (an authorization, say).
    pub headers: &'a [(String, String)],
    /// What to sign with: the secret, and for a while the one before it.
    pub secrets: &'a [&'a str],
}

/// One request, ready to be sent by `POST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Headers, each name once.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Renders and signs one event for one receiver at `now`.
///
/// # Errors
/// When the operator's template does not make a body of this event.
pub fn outgoing(
    target: &Target<'_>,
    event: &Envelope,
    now: Stamp,
) -> Result<Outgoing, TemplateError> {
    let own_type = content_type(target.headers);
    let (kind, body) = match target.format {
        Format::Json => ("application/json", event.to_json().to_string()),
        Format::CloudEvents => ("application/cloudevents+json", siem::cloudevent(event)),
        Format::Slack => ("application/json", chat::slack(event)),
        Format::Mattermost => ("application/json", chat::mattermost(event)),
        Format::Discord => ("application/json", chat::discord(event)),
        Format::Teams => ("application/json", chat::teams(event)),
        Format::SplunkHec => ("application/json", siem::splunk(event)),
        Format::EcsBulk => ("application/x-ndjson", siem::ecs(event)),
        Format::Template => {
            let template = target.template.unwrap_or_default();
            let is_json = is_json(target.headers);
            let kind = if is_json {
                "application/json"
            } else {
                "text/plain"
            };
            (kind, template::render(template, is_json, event)?)
        }
    };
    let body = body.into_bytes();
    let mut headers: Vec<(String, String)> = target.headers.to_vec();
    if own_type.is_none() {
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    headers.extend(signature::headers(target.secrets, event, &body, now));
    Ok(Outgoing { headers, body })
}

/// Whether the receiver took the event: the status alone does not say so everywhere. The
/// bulk API answers 200 and tells failures in the body.
///
/// # Errors
/// What the receiver said, as one line.
pub fn accepted(format: Format, body: &[u8]) -> Result<(), String> {
    if format != Format::EcsBulk {
        return Ok(());
    }
    let Ok(said) = serde_json::from_slice::<Value>(body) else {
        return Ok(());
    };
    if said["errors"] != json!(true) {
        return Ok(());
    }
    let items = said["items"].as_array().map_or(&[][..], Vec::as_slice);
    for item in items {
        let result = &item["create"];
        // 409: the event is there already, from an attempt whose answer was lost.
        if result["status"]
            .as_u64()
            .is_some_and(|s| s >= 300 && s != 409)
        {
            let reason = result["error"]["reason"].as_str().unwrap_or("no reason");
            return Err(format!("the bulk API refused the event: {reason}"));
        }
    }
    Ok(())
}

/// Whether an operator's header may go out.
///
/// # Errors
/// One line saying what is wrong with it.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
        return Err(format!(
            "'{}' is no header name",
            name.escape_debug().take(80).collect::<String>()
        ));
    }
    if value.len() > 4096
        || !value
            .bytes()
            .all(|b| b == b'\t' || (0x20..0x7f).contains(&b))
    {
        return Err(format!(
            "the value of {name} takes at most 4096 printable ASCII characters"
        ));
    }
    let lower = name.to_ascii_lowercase();
    let ours = ["webhook-", "x-decnet-"];
    let framing = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
    ];
    if framing.contains(&lower.as_str()) || ours.iter().any(|own| lower.starts_with(own)) {
        return Err(format!("{name} is set by the delivery itself"));
    }
    Ok(())
}

fn content_type(headers: &[(String, String)]) -> Option<&str> {
    let found = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    found.map(|(_, value)| value.as_str())
}

/// Whether a template makes JSON, as it does unless a header says otherwise.
fn is_json(headers: &[(String, String)]) -> bool {
    content_type(headers).is_none_or(|kind| kind.contains("json"))
}

/// Whether a template makes a body of an ordinary event, sent with these headers.
///
/// # Errors
/// Where it goes wrong.
pub fn check_template(template: &str, headers: &[(String, String)]) -> Result<(), TemplateError> {
    template::render(template, is_json(headers), &Envelope::sample(Stamp(0))).map(drop)
}

#[cfg(test)]
mod tests;
