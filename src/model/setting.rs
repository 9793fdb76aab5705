//! The table of service settings: what `[decky.service]` in a deployment file, the
//! live configuration and the API may set, with its type. A value that is not of its
//! type is refused, so `nla = false` means false wherever it comes from.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::model::Service;

/// Longest text value.
const TEXT_MAX: usize = 64 * 1024;

/// The type of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true, false, yes, no, on, off, 1, 0.
    Bool,
    /// A whole number in this range.
    Int(i64, i64),
    /// One line of text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Header fields: `Name: value`, several with `|` between; as JSON also a map.
    Headers,
    /// Text, or `b64:` and base64.
    Bytes,
}

/// One setting of one service.
#[derive(Debug)]
pub struct Setting {
    /// The service.
    pub service: Service,
    /// The key.
    pub key: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One sentence.
    pub doc: &'static str,
}

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    Setting {
        service: Service::Http,
        key: "server_header",
        kind: Kind::Text,
        doc: "Server header sent instead of the persona's; a known product answers in its own way.",
    },
    Setting {
        service: Service::Http,
        key: "response_code",
        kind: Kind::Int(100, 599),
        doc: "Status of every answer that would be 200.",
    },
    Setting {
        service: Service::Http,
        key: "fake_app",
        kind: Kind::Choice(&["none", "login"]),
        doc: "What the site shows: the server's start page, or a portal with a sign-in form.",
    },
    Setting {
        service: Service::Http,
        key: "extra_headers",
        kind: Kind::Headers,
        doc: "Header fields added to every answer, 'Name: value' with '|' between.",
    },
    Setting {
        service: Service::Http,
        key: "custom_body",
        kind: Kind::Bytes,
        doc: "Content of the front page, as text or as b64:….",
    },
    Setting {
        service: Service::Redis,
        key: "version",
        kind: Kind::Text,
        doc: "Version reported instead of the persona's, like 7.0.15.",
    },
    Setting {
        service: Service::Redis,
        key: "os_string",
        kind: Kind::Text,
        doc: "What INFO says the operating system is.",
    },
    Setting {
        service: Service::Redis,
        key: "password",
        kind: Kind::Text,
        doc: "Password clients must give (requirepass); empty asks for none.",
    },
    Setting {
        service: Service::Ftp,
        key: "banner",
        kind: Kind::Text,
        doc: "Greeting sent instead of the server's own, without the code 220.",
    },
    Setting {
        service: Service::Ftp,
        key: "anonymous",
        kind: Kind::Bool,
        doc: "Whether anonymous logins succeed.",
    },
];

/// Reads the text form of a setting (INI files, flags).
///
/// # Errors
/// One line saying what is wrong: an unknown key, or a value not of its type.
pub fn parse(service: Service, key: &str, text: &str) -> Result<Value, String> {
    let setting = find(service, key)?;
    let bad = |must: String| format!("{service}.{key} = '{text}' {must}");
    match setting.kind {
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
            "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
            _ => Err(bad("must be true or false".to_owned())),
        },
        Kind::Int(low, high) => match text.parse::<i64>() {
            Ok(n) if (low..=high).contains(&n) => Ok(Value::from(n)),
            _ => Err(bad(format!("must be {low} to {high}"))),
        },
        Kind::Text => {
            if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
                return Err(bad(format!("must be one line of at most {TEXT_MAX} bytes")));
            }
            Ok(Value::from(text))
        }
        Kind::Choice(words) => {
            if words.contains(&text) {
                Ok(Value::from(text))
            } else {
                Err(bad(format!("must be one of {}", words.join(", "))))
            }
        }
        Kind::Headers => headers(text).map(|_| Value::from(text)).map_err(bad),
        Kind::Bytes => bytes(text).map(|_| Value::from(text)).map_err(bad),
    }
}

/// Checks the JSON form of a setting (the API, the live configuration); gives it the way
/// [`parse`] would.
///
/// # Errors
/// One line saying what is wrong.
pub fn check(service: Service, key: &str, value: &Value) -> Result<Value, String> {
    let setting = find(service, key)?;
    match (setting.kind, value) {
        (Kind::Bool, Value::Bool(_)) => Ok(value.clone()),
        (Kind::Int(..), Value::Number(number)) => parse(service, key, &number.to_string()),
        (Kind::Headers, Value::Object(map)) => {
            let mut list = Vec::new();
            for (name, value) in map {
                let value = value.as_str().ok_or_else(|| {
                    format!("{service}.{key}: the value of '{name}' must be text")
                })?;
                if value.contains('|') {
                    return Err(format!("{service}.{key}: '{name}' may not hold '|'"));
                }
                list.push(format!("{name}: {value}"));
            }
            parse(service, key, &list.join("|"))
        }
        (_, Value::String(text)) => parse(service, key, text),
        _ => Err(format!("{service}.{key} = {value} is of the wrong type")),
    }
}

/// The fields of a [`Kind::Headers`] text.
///
/// # Errors
/// What the value must be, to follow its name in a sentence.
pub fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err("must hold no line ends or control characters".to_owned());
    }
    text.split('|')
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| {
            let (name, value) = entry.split_once(':').unwrap_or((entry, ""));
            let name = name.trim();
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`~".contains(c);
            let framing = ["content-length", "transfer-encoding", "connection"];
            if !entry.contains(':') || name.is_empty() || !name.chars().all(token) {
                return Err("must be 'Name: value' with '|' between".to_owned());
            }
            if framing.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(format!("must not set {name}, which the server does itself"));
            }
            Ok((name.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The bytes of a [`Kind::Bytes`] text.
///
/// # Errors
/// What the value must be, to follow its name in a sentence.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("must be at most {TEXT_MAX} bytes"));
    }
    match text.strip_prefix("b64:") {
        Some(encoded) => STANDARD
            .decode(encoded.trim())
            .map_err(|error| format!("must be base64 after b64: ({error})")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// The row of `service` and `key`.
///
/// # Errors
/// One line naming the keys the service has.
pub fn find(service: Service, key: &str) -> Result<&'static Setting, String> {
    let mut known = Vec::new();
    for setting in SETTINGS.iter().filter(|s| s.service == service) {
        if setting.key == key {
            return Ok(setting);
        }
        known.push(setting.key);
    }
    Err(format!(
        "unknown setting '{key}' of {service} (known: {})",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_means_false_and_nonsense_is_refused() {
        for (text, expected) in [("false", false), ("No", false), ("0", false), ("on", true)] {
            assert_eq!(
                parse(Service::Ftp, "anonymous", text),
                Ok(Value::Bool(expected))
            );
        }
        assert!(parse(Service::Ftp, "anonymous", "nein").is_err());
        assert!(check(Service::Ftp, "anonymous", &Value::Bool(false)).is_ok());
        assert!(check(Service::Ftp, "anonymous", &Value::from(0)).is_err());
        let unknown = parse(Service::Ftp, "nla", "false").unwrap_err();
        assert!(unknown.contains("anonymous"), "{unknown}");
    }

    #[test]
    fn no_header_can_end_its_line_or_change_the_framing() {
        let headers = |text: &str| parse(Service::Http, "extra_headers", text);
        assert!(headers("X-A: b|Via: c").is_ok());
        for bad in ["X-A: b\r\nX: y", "X A: b", "novalue", "Content-Length: 3"] {
            assert!(headers(bad).is_err(), "{bad}");
        }
        let map = serde_json::json!({"X-A": "b", "X-B": "c"});
        let text = check(Service::Http, "extra_headers", &map).unwrap();
        assert_eq!(text, "X-A: b|X-B: c");
        let split = serde_json::json!({"X-A": "b\nc"});
        assert!(check(Service::Http, "extra_headers", &split).is_err());
    }

    #[test]
    fn numbers_have_their_range_and_bodies_their_encoding() {
        let code = |text: &str| parse(Service::Http, "response_code", text);
        assert_eq!(code("503"), Ok(Value::from(503)));
        assert!(code("99").is_err() && code("600").is_err() && code("x").is_err());
        assert!(parse(Service::Http, "fake_app", "wordpress").is_err());
        assert_eq!(bytes("b64:aGk="), Ok(b"hi".to_vec()));
        assert!(bytes("b64:*").is_err());
    }
}
