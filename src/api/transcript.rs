//! A session as a terminal would have shown it, made of its events: what the client sent
//! as input, what became of it as output. Control bytes an attacker sent are made visible,
//! so that playing a transcript cannot do anything to the terminal it is played on.
//!
//! The form is asciicast version 2 (docs.asciinema.org/manual/asciicast/v2).

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::attackers::command_line;
use crate::db::attack_session::AttackSession;
use crate::db::log::LogRow;
use crate::db::tally::COMMAND_KINDS;

const WIDTH: u16 = 100;
const HEIGHT: u16 = 30;
/// Longest line of one event.
const LINE: usize = 2000;

/// What a player needs before the first event.
#[derive(Serialize, ToSchema)]
pub(super) struct Header {
    version: u8,
    width: u16,
    height: u16,
    /// Seconds since the epoch.
    timestamp: i64,
    title: String,
}

/// A transcript.
#[derive(Serialize, ToSchema)]
pub(super) struct Transcript {
    header: Header,
    /// Seconds since the beginning, `i` or `o`, text.
    #[schema(value_type = Vec<(f64, String, String)>)]
    events: Vec<(f64, &'static str, String)>,
    /// Number of events of the session; what was typed is here twice, as it is in a
    /// terminal.
    total: i64,
    /// `offset` of the next part; null when this is the last.
    next: Option<i64>,
}

/// The transcript of `rows`, events of the session, oldest first.
pub(super) fn of(session: &AttackSession, rows: &[LogRow], next: Option<i64>) -> Transcript {
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let micros = row.event.ts.0.saturating_sub(session.started_at.0).max(0);
        // A session of a century would still be exact to the millisecond.
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are plenty")]
        let at = (micros / 1000) as f64 / 1000.0;
        let kind = row.event.kind.as_str();
        if COMMAND_KINDS.contains(&kind) {
            let typed = format!("> {}\r\n", shown(&command_line(row)));
            events.push((at, "i", typed.clone()));
            events.push((at, "o", typed));
        } else {
            events.push((at, "o", format!("[{}]\r\n", shown(&happened(row)))));
        }
    }
    Transcript {
        header: Header {
            version: 2,
            width: WIDTH,
            height: HEIGHT,
            timestamp: session.started_at.0.div_euclid(1_000_000),
            title: format!(
                "{} on {} ({})",
                session.attacker_ip, session.decky, session.service
            ),
        },
        total: session.events,
        next,
        events,
    }
}

impl Transcript {
    /// One JSON value a line: the header, then the events.
    pub(super) fn cast(&self) -> String {
        let mut text = json!(self.header).to_string();
        text.push('\n');
        for event in &self.events {
            text.push_str(&json!(event).to_string());
            text.push('\n');
        }
        text
    }
}

/// An event that is no command, in words.
fn happened(row: &LogRow) -> String {
    let event = &row.event;
    let mut text = event.kind.clone();
    for (key, value) in event.distinct_fields() {
        if key != "secret_b64" && key != "secret_kind" {
            text.push_str(&format!(" {key}={value}"));
        }
    }
    if !event.msg.is_empty() {
        text.push_str(&format!(" {}", event.msg));
    }
    text
}

/// Without anything a terminal would obey.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(LINE) {
        let obeyed = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if obeyed {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        let text = shown("a\u{1b}]0;x\u{7}\r\nb\u{202e}c\u{0}");
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
        assert_eq!(text, "a\\u{1b}]0;x\\u{7}\\r\\nb\\u{202e}c\\u{0}");
        assert_eq!(shown(&"x".repeat(5000)).len(), LINE);
    }
}
