//! Transcripts: recorded dialogues with a decoy, replayed byte for byte. One text file
//! under `tests/it/transcripts/<service>/` is one test case; a line is one of
//!
//! - `P: key=value …` persona: `seed` picks the host, any other key replaces a field
//! - `V: key=value …` settings of the service, in their text form
//! - `C: bytes`       the client sends; several in a row are one write
//! - `S: bytes`       the server answers exactly this; several in a row are one answer
//! - `S~ regex`       a part of the answer that varies
//! - `X:`             the server closes
//! - `F:`             the client closes
//! - `@ name`         go on on connection `name`, opened when new (the first is `1`)
//! - `E: kind key=value key~regex …`  an event; they must appear in this order, with
//!   others allowed between
//! - `E! kind`        no event of this kind
//! - `# …`            a remark
//!
//! Bytes know `\r \n \t \0 \\ \xNN`. Values with spaces stand in double quotes.

use std::collections::BTreeMap;
use std::path::Path;

use decnet::decoy::Values;
use decnet::model::{Service, Stamp, setting};
use decnet::persona::Persona;
use regex::bytes::Regex;

/// One thing to do or to see.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Pattern of the whole answer, and the same for people.
    Expect(Regex, String),
    Closed,
    Finish,
    Switch(String),
}

/// An event that must have been recorded.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) shown: String,
    kind: String,
    fields: Vec<(String, Regex)>,
}

#[derive(Debug)]
pub(crate) struct Transcript {
    pub(crate) persona: Persona,
    pub(crate) settings: Values,
    pub(crate) steps: Vec<Step>,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) unwanted: Vec<String>,
}

impl Wanted {
    pub(crate) fn fits(&self, event: &decnet::model::Event) -> bool {
        event.kind == self.kind
            && self.fields.iter().all(|(key, pattern)| {
                event
                    .field(key)
                    .is_some_and(|v| pattern.is_match(v.as_bytes()))
            })
    }
}

impl Transcript {
    pub(crate) fn load(service: Service, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut persona = BTreeMap::new();
        let mut this = Self {
            persona: host(&persona),
            settings: Values::new(),
            steps: Vec::new(),
            wanted: Vec::new(),
            unwanted: Vec::new(),
        };
        let mut answer = Answer::default();
        for (index, line) in text.lines().enumerate() {
            let at = format!("{}:{}", path.display(), index + 1);
            let (mark, rest) = (line.get(..2).unwrap_or(line), line.get(2..).unwrap_or(""));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            if !matches!(mark, "S:" | "S~" | "") {
                this.steps.extend(answer.take());
            }
            match mark {
                "P:" => persona.extend(words(rest).into_iter().map(|w| {
                    let (key, value) = w.split_once('=').expect(&at);
                    (key.to_owned(), value.to_owned())
                })),
                "V:" => this.settings.extend(words(rest).into_iter().map(|w| {
                    let (key, value) = w.split_once('=').expect(&at);
                    let value = setting::parse(service, key, value).expect(&at);
                    (key.to_owned(), value)
                })),
                "C:" => match this.steps.last_mut() {
                    Some(Step::Send(bytes)) => bytes.extend(unescape(rest, &at)),
                    _ => this.steps.push(Step::Send(unescape(rest, &at))),
                },
                "S:" => answer.literal(&unescape(rest, &at), rest),
                "S~" => answer.pattern(rest),
                "X:" => this.steps.push(Step::Closed),
                "F:" => this.steps.push(Step::Finish),
                "@ " => this.steps.push(Step::Switch(rest.trim().to_owned())),
                "E:" => this.wanted.push(wanted(rest, &at)),
                "E!" => this.unwanted.push(rest.trim().to_owned()),
                "" | "# " | "#" => {}
                _ => panic!("{at}: what is {line:?}?"),
            }
        }
        this.steps.extend(answer.take());
        this.persona = host(&persona);
        assert!(!this.steps.is_empty(), "{}: nothing in it", path.display());
        this
    }
}

/// Consecutive answer lines, put together.
#[derive(Default)]
struct Answer {
    pattern: String,
    shown: String,
}

impl Answer {
    fn literal(&mut self, bytes: &[u8], shown: &str) {
        for byte in bytes {
            self.pattern.push_str(&format!("\\x{byte:02x}"));
        }
        self.shown.push_str(shown);
    }

    fn pattern(&mut self, regex: &str) {
        self.pattern.push_str(&format!("(?:{regex})"));
        self.shown.push_str(&format!("«{regex}»"));
    }

    fn take(&mut self) -> Option<Step> {
        if self.pattern.is_empty() {
            return None;
        }
        let pattern = std::mem::take(&mut self.pattern);
        let regex = Regex::new(&format!("(?s-u)^(?:{pattern})$")).unwrap();
        Some(Step::Expect(regex, std::mem::take(&mut self.shown)))
    }
}

fn host(overrides: &BTreeMap<String, String>) -> Persona {
    let seed = overrides.get("seed").map_or("transcripts", String::as_str);
    let derived = Persona::derive(
        seed.as_bytes(),
        "transcript",
        &decnet::persona::Asked::default(),
        Stamp::now(),
    );
    let mut fields = serde_json::to_value(derived).unwrap();
    for (key, value) in overrides.iter().filter(|(key, _)| *key != "seed") {
        assert!(fields.get(key).is_some(), "a persona has no {key}");
        // Numbers and lists as JSON, everything else as text.
        fields[key] = match fields[key] {
            serde_json::Value::String(_) => value.as_str().into(),
            _ => serde_json::from_str(value).unwrap(),
        };
    }
    serde_json::from_value(fields).unwrap()
}

fn wanted(text: &str, at: &str) -> Wanted {
    let mut parts = words(text).into_iter();
    let kind = parts.next().expect(at);
    let fields = parts
        .map(|part| {
            let split = part.find(['=', '~']).expect(at);
            let (key, value) = part.split_at(split);
            let pattern = match value.split_at(1) {
                ("=", literal) => {
                    let bytes = unescape(literal, at);
                    regex::escape(&String::from_utf8_lossy(&bytes))
                }
                (_, pattern) => pattern.to_owned(),
            };
            let pattern = Regex::new(&format!("(?s)^(?:{pattern})$")).expect(at);
            (key.to_owned(), pattern)
        })
        .collect();
    Wanted {
        shown: text.to_owned(),
        kind,
        fields,
    }
}

/// Splits at spaces outside double quotes; the quotes go, `\"` stays a quote.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next_if_eq(&'"').is_some() => word.push('"'),
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

fn unescape(text: &str, at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'"') => b'"',
            Some(b'x') => {
                let digits = [rest.next().expect(at), rest.next().expect(at)];
                u8::from_str_radix(std::str::from_utf8(&digits).expect(at), 16).expect(at)
            }
            other => panic!("{at}: no escape \\{other:?}"),
        });
    }
    out
}
