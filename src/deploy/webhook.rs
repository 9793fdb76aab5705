//! Receivers of events, as the API, the command line and the worker handle them alike: what an
//! operator asks for becomes a row, an event becomes a request, its reply a verdict.

use std::time::Duration;

use crate::bus;
use crate::db::webhook::{Hidden, Wanted, Webhook};
use crate::export::{self, Envelope, Format, PRESETS, Target, signature};
use crate::model::Stamp;
use crate::net::outbound::{self, Fault, Outbound};

/// Longest name.
const NAME: usize = 64;
/// Patterns of one receiver.
const PATTERNS: usize = 32;
/// Headers of one receiver.
const HEADERS: usize = 16;
/// Characters of a receiver's reply in an error.
const SAID: usize = 200;
/// How long the secret before the current one still signs.
pub const ROTATION: Duration = Duration::from_secs(24 * 3600);

/// Every pattern of the presets and the given ones, each once, in order.
///
/// # Errors
/// When a preset is unknown, a pattern is none, or there is none at all.
pub fn patterns(presets: &[String], given: &[String]) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |pattern: &str| {
        if !all.iter().any(|known| known == pattern) {
            all.push(pattern.to_owned());
        }
    };
    for name in presets {
        let Some(preset) = PRESETS.iter().find(|p| p.name == name) else {
            let known: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
            return Err(format!(
                "there is no preset '{}' (there are: {})",
                name.escape_debug().take(80).collect::<String>(),
                known.join(", ")
            ));
        };
        preset.patterns.iter().for_each(|pattern| add(pattern));
    }
    for pattern in given {
        bus::check_pattern(pattern).map_err(|e| e.to_string())?;
        add(pattern);
    }
    match all.len() {
        0 => Err("name at least one pattern or preset; '>' is everything".to_owned()),
        n if n > PATTERNS => Err(format!("a webhook takes at most {PATTERNS} patterns")),
        _ => Ok(all),
    }
}

/// Whether a receiver can be as asked.
///
/// # Errors
/// The field and one line saying what is wrong with it.
pub fn check(wanted: &Wanted, allow_private: bool) -> Result<(), (&'static str, String)> {
    let name = wanted.name.as_str();
    if name.trim() != name
        || name.is_empty()
        || name.len() > NAME
        || name.contains(char::is_control)
    {
        return Err(("name", format!("a name takes 1 to {NAME} bytes of text")));
    }
    let hidden = &wanted.hidden;
    outbound::check_url(&hidden.url, allow_private).map_err(|e| ("url", e))?;
    let Some(format) = Format::parse(&wanted.format) else {
        let known: Vec<&str> = Format::ALL.iter().map(|f| f.as_str()).collect();
        return Err(("format", format!("a format is one of {}", known.join(", "))));
    };
    if hidden.headers.len() > HEADERS {
        return Err((
            "headers",
            format!("a webhook takes at most {HEADERS} headers"),
        ));
    }
    for (n, (name, value)) in hidden.headers.iter().enumerate() {
        export::check_header(name, value).map_err(|e| ("headers", e))?;
        let again = |(other, _): &(String, String)| other.eq_ignore_ascii_case(name);
        if hidden.headers.iter().take(n).any(again) {
            return Err(("headers", format!("{name} is named twice")));
        }
    }
    signature::check(&hidden.secret).map_err(|e| ("secret", e))?;
    match (format, &wanted.template) {
        (Format::Template, None) => Err(("template", "this format needs a template".to_owned())),
        (Format::Template, Some(template)) => export::check_template(template, &hidden.headers)
            .map_err(|e| ("template", e.to_string())),
        (_, Some(_)) => Err(("template", "only the format template takes one".to_owned())),
        (_, None) => Ok(()),
    }
}

/// Gives a receiver a new secret; the one before it goes on signing for [`ROTATION`].
#[must_use]
pub fn rotated(hidden: Hidden, secret: String, now: Stamp) -> Hidden {
    Hidden {
        previous: Some((hidden.secret, now.plus(ROTATION))),
        secret,
        ..hidden
    }
}

/// What a reply, or its absence, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// The receiver is away or busy: whatever we send, it would have said so.
    Away,
    /// The receiver stumbled, perhaps over this event.
    Stumbled,
    /// It will never take this one as it is.
    Never,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What it means.
    pub verdict: Verdict,
    /// The receiver's status.
    pub status: Option<u16>,
    /// Why it failed, as one line.
    pub error: Option<String>,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub took: Duration,
}

impl Sent {
    fn never(error: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Never,
            status: None,
            error: Some(error.into()),
            retry_after: None,
            took: Duration::ZERO,
        }
    }
}

/// Sends one event to one receiver, once.
pub async fn send(outbound: &Outbound, hook: &Webhook, event: &Envelope, now: Stamp) -> Sent {
    let Some(hidden) = &hook.hidden else {
        return Sent::never(
            "its URL and secret cannot be opened: the key file was replaced; set them anew",
        );
    };
    let Some(format) = Format::parse(&hook.format) else {
        return Sent::never(format!("its format '{}' is not known here", hook.format));
    };
    let secrets = hidden.secrets(now);
    let target = Target {
        format,
        template: hook.template.as_deref(),
        headers: &hidden.headers,
        secrets: &secrets,
    };
    let request = match export::outgoing(&target, event, now) {
        Ok(request) => request,
        Err(error) => return Sent::never(error.to_string()),
    };
    let reply = outbound
        .post(&hidden.url, &request.headers, request.body)
        .await;
    let reply = match reply {
        Ok(reply) => reply,
        Err(fault) => {
            let verdict = match fault {
                Fault::Refused(_) => Verdict::Never,
                Fault::Unreachable(_) => Verdict::Away,
            };
            return Sent {
                verdict,
                ..Sent::never(fault.to_string())
            };
        }
    };
    let (verdict, error) = match reply.status {
        200..=299 => match export::accepted(format, &reply.body) {
            Ok(()) => (Verdict::Delivered, None),
            Err(why) => (Verdict::Never, Some(why)),
        },
        status @ (408 | 425 | 429 | 502..=504) => (Verdict::Away, Some(said(status, &reply.body))),
        status @ 500..=599 => (Verdict::Stumbled, Some(said(status, &reply.body))),
        status @ 300..=399 => {
            let why = format!("it answered {status}, and redirects are not followed");
            (Verdict::Never, Some(why))
        }
        status => (Verdict::Never, Some(said(status, &reply.body))),
    };
    Sent {
        verdict,
        status: Some(reply.status),
        error,
        retry_after: reply.retry_after,
        took: reply.took,
    }
}

/// A status and the beginning of what came with it.
fn said(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(SAID)
        .collect();
    if words.is_empty() {
        format!("it answered {status}")
    } else {
        format!("it answered {status}: {words}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            name: "siem".to_owned(),
            format: "json".to_owned(),
            template: None,
            patterns: vec![">".to_owned()],
            enabled: true,
            hidden: Hidden {
                url: "https://hooks.example.com/x".to_owned(),
                headers: Vec::new(),
                secret: "sixteen bytes ok".to_owned(),
                previous: None,
            },
        }
    }

    #[test]
    fn presets_and_patterns_are_merged_in_order_each_once() {
        let own = ["decky.*.state".to_owned(), "x.>".to_owned()];
        let merged = patterns(&["DeckyStatus".to_owned()], &own).unwrap();
        assert_eq!(merged.last().map(String::as_str), Some("x.>"));
        assert_eq!(merged.iter().filter(|p| *p == "decky.*.state").count(), 1);
        assert!(patterns(&[], &[]).unwrap_err().contains("at least one"));
        assert!(
            patterns(&["Nope".to_owned()], &[])
                .unwrap_err()
                .contains("AttackerDetail")
        );
        assert!(patterns(&[], &["a.>.b".to_owned()]).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_receiver_is_named_by_its_field() {
        assert_eq!(check(&wanted(), false), Ok(()));
        let broken = |change: fn(&mut Wanted)| {
            let mut one = wanted();
            change(&mut one);
            check(&one, false).unwrap_err().0
        };
        assert_eq!(broken(|w| w.name.clear()), "name");
        assert_eq!(broken(|w| w.format = "xml".to_owned()), "format");
        assert_eq!(
            broken(|w| w.hidden.url = "http://10.0.0.1/".to_owned()),
            "url"
        );
        assert_eq!(broken(|w| w.hidden.secret = "short".to_owned()), "secret");
        assert_eq!(broken(|w| w.template = Some("x".to_owned())), "template");
        assert_eq!(broken(|w| w.format = "template".to_owned()), "template");
        let host = || ("Host".to_owned(), "x".to_owned());
        let mut one = wanted();
        one.hidden.headers = vec![host()];
        assert_eq!(check(&one, false).unwrap_err().0, "headers");
    }

    #[test]
    fn after_a_rotation_both_secrets_sign_for_a_day() {
        let hidden = rotated(wanted().hidden, "the new one, long".to_owned(), Stamp(0));
        assert_eq!(
            hidden.secrets(Stamp(1)),
            ["the new one, long", "sixteen bytes ok"]
        );
        let later = Stamp(0).plus(ROTATION);
        assert_eq!(hidden.secrets(later), ["the new one, long"]);
    }
}
