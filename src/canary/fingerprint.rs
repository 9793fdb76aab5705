//! What the page of [`super::Kind::HtmlFingerprint`] sends to `/c/<slug>/b`: a JSON object
//! of sections, as the body of a POST or as `?d=` in base64url. It comes from whoever
//! likes to send something, so it is read with limits and everything unknown is dropped.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Longest body or decoded query that is read.
pub const BYTES_MAX: usize = 8 << 10;
/// Sections a beacon must have to count.
const SECTIONS_MIN: usize = 3;
/// Longest text of a field, in bytes.
const TEXT_MAX: usize = 512;
/// Most elements of a list.
const LIST_MAX: usize = 64;
/// Most fields of a section.
const FIELDS_MAX: usize = 32;

/// What a beacon may say of a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// What the browser says of itself.
    Nav,
    /// Screen.
    Scr,
    /// Time zone.
    Tz,
    /// Hash of a drawn picture.
    Cv,
    /// Graphics card.
    Gl,
    /// Hash of rendered sound.
    Au,
    /// Fonts.
    Ft,
    /// Addresses that WebRTC found.
    Rtc,
}

impl Section {
    /// All of them.
    pub const ALL: &'static [Section] = &[
        Section::Nav,
        Section::Scr,
        Section::Tz,
        Section::Cv,
        Section::Gl,
        Section::Au,
        Section::Ft,
        Section::Rtc,
    ];

    /// Its key in the beacon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Section::Nav => "nav",
            Section::Scr => "scr",
            Section::Tz => "tz",
            Section::Cv => "cv",
            Section::Gl => "gl",
            Section::Au => "au",
            Section::Ft => "ft",
            Section::Rtc => "rtc",
        }
    }
}

/// A value inside a section; nothing is nested deeper than a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A finite number.
    Number(f64),
    /// A text of at most 512 bytes.
    Text(String),
    /// At most 64 texts.
    List(Vec<String>),
}

/// A browser, as a beacon described it. Serialises as the JSON to be stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint {
    /// The sections that were there.
    pub sections: BTreeMap<Section, BTreeMap<String, Value>>,
}

/// Why a beacon is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than [`BYTES_MAX`].
    #[error("longer than 8 KiB")]
    TooLong,
    /// Neither JSON nor base64url of it.
    #[error("not a JSON object")]
    NotJson,
    /// Fewer than three sections.
    #[error("fewer than three sections")]
    TooFew,
}

impl Fingerprint {
    /// What is stable over visits of one browser, as 32 hex digits; equal values link
    /// call-backs of different things. `None` when nothing telling was sent.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        use sha2::{Digest, Sha256};
        let telling = [
            Section::Scr,
            Section::Cv,
            Section::Gl,
            Section::Au,
            Section::Ft,
        ];
        let mut hash = Sha256::new();
        let mut any = false;
        for section in telling {
            let Some(fields) = self.sections.get(&section) else {
                continue;
            };
            any |= matches!(section, Section::Cv | Section::Gl | Section::Au);
            // The size of a window is its user's whim.
            let lasting = fields.iter().filter(|(name, _)| !name.starts_with("inner"));
            let lasting: BTreeMap<_, _> = lasting.collect();
            hash.update(section.as_str());
            hash.update(serde_json::to_vec(&lasting).unwrap_or_default());
        }
        let digest: [u8; 32] = hash.finalize().into();
        any.then(|| digest.iter().take(16).map(|b| format!("{b:02x}")).collect())
    }
}

/// Reads the body of a POST.
///
/// # Errors
/// It is none of ours.
pub fn parse(body: &[u8]) -> Result<Fingerprint, Refused> {
    if body.len() > BYTES_MAX {
        return Err(Refused::TooLong);
    }
    let sent: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(|_| Refused::NotJson)?;
    let mut sections = BTreeMap::new();
    for section in Section::ALL {
        let Some(serde_json::Value::Object(fields)) = sent.get(section.as_str()) else {
            continue;
        };
        let fields: BTreeMap<String, Value> = fields
            .iter()
            .take(FIELDS_MAX)
            .filter_map(|(key, value)| Some((name(key)?, bounded(value)?)))
            .collect();
        if !fields.is_empty() {
            sections.insert(*section, fields);
        }
    }
    if sections.len() < SECTIONS_MIN {
        return Err(Refused::TooFew);
    }
    Ok(Fingerprint { sections })
}

/// Reads the query of a GET: `d=` is the JSON in base64url without padding.
///
/// # Errors
/// It is none of ours.
pub fn parse_query(query: &str) -> Result<Fingerprint, Refused> {
    // Base64 takes four letters for three bytes.
    if query.len() > BYTES_MAX * 4 / 3 + 64 {
        return Err(Refused::TooLong);
    }
    let data = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("d="))
        .ok_or(Refused::NotJson)?;
    let json = URL_SAFE_NO_PAD
        .decode(data.trim_end_matches('='))
        .map_err(|_| Refused::NotJson)?;
    parse(&json)
}

/// A field's name: a short word.
fn name(key: &str) -> Option<String> {
    let good = (1..=24).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| key.to_owned())
}

fn bounded(value: &serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    match value {
        Json::Bool(flag) => Some(Value::Flag(*flag)),
        Json::Number(number) => number.as_f64().filter(|n| n.is_finite()).map(Value::Number),
        Json::String(text) => Some(Value::Text(cut(text))),
        Json::Array(list) => Some(Value::List(
            list.iter()
                .filter_map(Json::as_str)
                .take(LIST_MAX)
                .map(cut)
                .collect(),
        )),
        Json::Null | Json::Object(_) => None,
    }
}

/// The first [`TEXT_MAX`] bytes, at a character's border.
fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_MAX))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEACON: &str = r#"{"nav":{"agent":"Mozilla/5.0","cores":8,"driven":false,"languages":["de","en"],"x":null,"bad key":1},
        "scr":{"width":1920},"tz":{"zone":"Europe/Berlin"},"cv":{"hash":"00ff"},"other":{"a":1},"gl":"text"}"#;

    #[test]
    fn a_beacon_is_read_from_a_body_and_from_a_query() {
        let found = parse(BEACON.as_bytes()).unwrap();
        assert_eq!(found.sections.len(), 4);
        let nav = &found.sections[&Section::Nav];
        assert_eq!(nav["cores"], Value::Number(8.0));
        assert_eq!(nav["driven"], Value::Flag(false));
        assert_eq!(
            nav["languages"],
            Value::List(vec!["de".to_owned(), "en".to_owned()])
        );
        assert!(nav.len() == 4 && found.id().unwrap().len() == 32);
        let query = format!("x=1&d={}", URL_SAFE_NO_PAD.encode(BEACON));
        assert_eq!(parse_query(&query), Ok(found.clone()));
        let stored = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&stored).unwrap(), found);
        assert!(stored.starts_with("{\"nav\":{\"agent\":"));
    }

    #[test]
    fn the_identity_is_of_what_stays() {
        let first = parse(BEACON.as_bytes()).unwrap();
        let moved = parse(BEACON.replace("Europe/Berlin", "Asia/Tokyo").as_bytes()).unwrap();
        let other = parse(BEACON.replace("00ff", "0100").as_bytes()).unwrap();
        assert_eq!(first.id(), moved.id());
        assert_ne!(first.id(), other.id());
        let sized = |width: u32| {
            let beacon = format!(
                r#"{{"cv":{{"hash":"1"}},"scr":{{"width":9,"innerWidth":{width}}},"tz":{{"a":1}}}}"#
            );
            parse(beacon.as_bytes()).unwrap().id().unwrap()
        };
        assert_eq!(sized(800), sized(640));
        let bare = parse(br#"{"nav":{"a":1},"scr":{"a":1},"tz":{"a":1}}"#).unwrap();
        assert_eq!(bare.id(), None);
    }

    #[test]
    fn what_is_no_beacon_is_refused_with_the_reason() {
        assert_eq!(parse(b"[]"), Err(Refused::NotJson));
        assert_eq!(
            parse(br#"{"nav":{"a":1},"scr":{"a":1},"tz":{}}"#),
            Err(Refused::TooFew)
        );
        assert_eq!(parse(&vec![b' '; BYTES_MAX + 1]), Err(Refused::TooLong));
        assert_eq!(parse_query("e=1"), Err(Refused::NotJson));
        assert_eq!(
            parse_query(&"d".repeat(BYTES_MAX * 2)),
            Err(Refused::TooLong)
        );
        let deep = format!("{{\"nav\":{}", "[".repeat(4000));
        assert_eq!(parse(deep.as_bytes()), Err(Refused::NotJson));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_bounded(body in proptest::collection::vec(any::<u8>(), 0..600), text in "\\PC{0,900}") {
            parse(&body).ok();
            parse_query(&String::from_utf8_lossy(&body)).ok();
            let sent = serde_json::json!({"nav": {"a": text, "b": vec![text.clone(); 100]}, "tz": {"a": text}, "scr": {"a": 1}});
            if let Ok(found) = parse(sent.to_string().as_bytes()) {
                let Value::Text(kept) = &found.sections[&Section::Nav]["a"] else { panic!() };
                prop_assert!(kept.len() <= TEXT_MAX);
                let Value::List(list) = &found.sections[&Section::Nav]["b"] else { panic!() };
                prop_assert!(list.len() <= LIST_MAX);
            }
        }
    }
}
