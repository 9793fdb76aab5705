//! One event as it was seen on the bus.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::Stamp;

/// An event on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The bus's id of the message; the same in every attempt.
    pub id: String,
    /// When it was published.
    pub ts: Stamp,
    /// Where.
    pub topic: String,
    /// Short kind (`captured`, `state`, …).
    pub kind: String,
    /// The body.
    pub payload: Value,
}

impl Envelope {
    /// What a test delivery sends.
    #[must_use]
    pub fn sample(now: Stamp) -> Self {
        Self {
            id: format!("test-{}", now.0),
            ts: now,
            topic: "system.webhook.test".to_owned(),
            kind: "test".to_owned(),
            payload: json!({
                "attacker_ip": "192.0.2.1",
                "decky": "decky-01",
                "service": "ssh",
                "message": "A test delivery: nobody attacked anything.",
            }),
        }
    }

    /// The first and the last part of the topic: `decky.host:name.state` is `decky.state`,
    /// whichever decky it was.
    pub(super) fn name(&self) -> String {
        let first = self.topic.split('.').next().unwrap_or_default();
        let last = self.topic.rsplit('.').next().unwrap_or_default();
        if first == last {
            first.to_owned()
        } else {
            format!("{first}.{last}")
        }
    }

    /// The original's body: sorted keys, `v` 1.
    pub(super) fn to_json(&self) -> Value {
        sorted(&json!({
            "v": 1,
            "id": self.id,
            "ts": self.ts.to_string(),
            "topic": self.topic,
            "type": self.kind,
            "payload": self.payload,
        }))
    }

    /// The address of whoever did it, when the payload names one.
    pub(super) fn attacker(&self) -> Option<&str> {
        ["attacker_ip", "src_ip"]
            .iter()
            .find_map(|key| self.payload.get(key)?.as_str())
    }

    /// The host it happened to, when the payload names one.
    pub(super) fn decky(&self) -> Option<&str> {
        ["decky", "decky_name", "name"]
            .iter()
            .find_map(|key| self.payload.get(key)?.as_str())
    }

    /// Every plain value of the payload with its path, at most `most`.
    pub(super) fn facts(&self, most: usize) -> Vec<(String, String)> {
        let mut facts = Vec::new();
        gather("", &self.payload, most, &mut facts);
        facts
    }
}

fn gather(path: &str, value: &Value, most: usize, facts: &mut Vec<(String, String)>) {
    if facts.len() >= most {
        return;
    }
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                gather(&below(key), value, most, facts);
            }
        }
        Value::Array(list) if list.iter().any(|v| v.is_object() || v.is_array()) => {
            for (n, value) in list.iter().enumerate() {
                gather(&below(&n.to_string()), value, most, facts);
            }
        }
        Value::Array(list) => {
            let words: Vec<String> = list.iter().map(plain).collect();
            facts.push((path.to_owned(), words.join(", ")));
        }
        plain_value => facts.push((path.to_owned(), plain(plain_value))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The same value, keys of every object in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, Value> = map
                .iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect();
            json!(ordered)
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// A group of topics under a name an operator understands.
#[derive(Debug)]
pub struct Preset {
    /// As the API and forms name it.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What it stands for.
    pub patterns: &'static [&'static str],
}

/// Every preset. The first three keep the original's names; `SystemStatus` leaves out the
/// control channels and the notes about log lines that it had.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "AttackerDetail",
        about: "An attacker is seen for the first time, or more becomes known of one",
        patterns: &["attacker.>"],
    },
    Preset {
        name: "DeckyStatus",
        about: "A decky starts, stops, changes or fails",
        patterns: &["decky.*.state", "decky.*.traffic", "decky.*.mutation"],
    },
    Preset {
        name: "SystemStatus",
        about: "Signs of life of DECNET's own workers, each every 30 seconds",
        patterns: &["system.*.health"],
    },
    Preset {
        name: "Credentials",
        about: "A credential is captured that was not known, or tried in a second place",
        patterns: &["credential.>"],
    },
    Preset {
        name: "CanaryAlert",
        about: "Somebody used a canary token",
        patterns: &["canary.*.triggered"],
    },
];
