//! The table of service settings: what `[decky.service]` in a deployment file, the
//! live configuration and the API may set, with its type. A value that is not of its
//! type is refused, so `nla = false` means false wherever it comes from.

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
        doc: "Server header sent instead of the persona's.",
    },
    Setting {
        service: Service::Redis,
        key: "version",
        kind: Kind::Text,
        doc: "Version reported instead of the persona's.",
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
        let unknown = parse(Service::Ftp, "nla", "false").unwrap_err();
        assert!(unknown.contains("anonymous"), "{unknown}");
    }
}
