//! Messages for people. A payload is shown as text in a code block: no mention, no link, no
//! markup of it takes effect, and what would act or hide is made visible.

use serde_json::json;

use super::Envelope;

/// Facts in one message.
const FACTS: usize = 24;
/// Characters of one fact.
const FACT: usize = 300;
/// Characters of the facts of one message; Discord's limit is 2000 for everything.
const TEXT: usize = 1500;

/// One line: what happened, to whom, by whom.
fn headline(event: &Envelope) -> String {
    let mut line = event.name();
    if let Some(attacker) = event.attacker() {
        line.push_str(&format!(" by {}", tame(attacker, 64)));
    }
    if let Some(decky) = event.decky() {
        line.push_str(&format!(" on {}", tame(decky, 64)));
    }
    line
}

/// `name: value` lines.
fn facts(event: &Envelope) -> String {
    let mut text = format!("time: {}", event.ts);
    for (name, value) in event.facts(FACTS) {
        let line = format!("\n{}: {}", tame(&name, 64), tame(&value, FACT));
        if text.chars().count() + line.chars().count() > TEXT {
            text.push_str("\n…");
            break;
        }
        text.push_str(&line);
    }
    text
}

/// Attackers' text for a person: control, format and bidirectional characters are written
/// out, back quotes cannot close the code block.
fn tame(text: &str, most: usize) -> String {
    let mut tame = String::new();
    for c in text.chars().take(most) {
        match c {
            '`' => tame.push('\''),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}') =>
            {
                tame.extend(c.escape_unicode());
            }
            c => tame.push(c),
        }
    }
    if text.chars().nth(most).is_some() {
        tame.push('…');
    }
    tame
}

/// Slack reads `&`, `<` and `>` as markup even in code.
pub(super) fn slack(event: &Envelope) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let text = format!(
        "`{}`\n```\n{}\n```",
        escape(&headline(event)),
        escape(&facts(event))
    );
    json!({"text": text}).to_string()
}

pub(super) fn mattermost(event: &Envelope) -> String {
    let text = format!("`{}`\n```text\n{}\n```", headline(event), facts(event));
    json!({"text": text}).to_string()
}

pub(super) fn discord(event: &Envelope) -> String {
    let text = format!("`{}`\n```text\n{}\n```", headline(event), facts(event));
    json!({"content": text, "allowed_mentions": {"parse": []}}).to_string()
}

/// Teams reads a little Markdown in a card's texts; a backslash takes its meaning away.
pub(super) fn teams(event: &Envelope) -> String {
    let escape = |text: &str| {
        let mut escaped = String::new();
        for c in text.chars() {
            if matches!(
                c,
                '\\' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '<' | '>'
            ) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    };
    let facts: Vec<_> = event
        .facts(FACTS)
        .into_iter()
        .map(|(name, value)| {
            json!({"title": escape(&tame(&name, 64)), "value": escape(&tame(&value, FACT))})
        })
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "weight": "Bolder", "wrap": true, "text": escape(&headline(event))},
                    {"type": "TextBlock", "isSubtle": true, "text": event.ts.to_string()},
                    {"type": "FactSet", "facts": facts},
                ],
            },
        }],
    })
    .to_string()
}
