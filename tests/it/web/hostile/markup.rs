//! Looking at HTML as a browser's tokeniser would, as far as the tests need it; and what
//! holds for every template.

use std::path::Path;

use regex::Regex;

/// A start tag.
#[derive(Debug)]
pub(super) struct Tag {
    /// Lower case.
    pub(super) name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Every start tag of a page, its attributes decoded.
pub(super) fn tags(page: &str) -> Vec<Tag> {
    let tag = Regex::new(r#"<([a-zA-Z][a-zA-Z0-9]*)((?:[^>"']|"[^"]*"|'[^']*')*)>"#).unwrap();
    let attribute =
        Regex::new(r#"([^\s"'>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?"#).unwrap();
    tag.captures_iter(page)
        .map(|found| Tag {
            name: found[1].to_ascii_lowercase(),
            attributes: attribute
                .captures_iter(&found[2])
                .map(|pair| {
                    let value = pair.get(2).or(pair.get(3)).or(pair.get(4));
                    let value = value.map_or("", |v| v.as_str());
                    (pair[1].to_ascii_lowercase(), decoded(value))
                })
                .collect(),
        })
        .collect()
}

/// Text with the character references that askama writes undone.
pub(super) fn decoded(text: &str) -> String {
    text.replace("&#60;", "<")
        .replace("&lt;", "<")
        .replace("&#62;", ">")
        .replace("&gt;", ">")
        .replace("&#34;", "\"")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}

/// Why a page would not be safe to show, if so.
pub(super) fn dangers(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for tag in tags(page) {
        match tag.name.as_str() {
            "script" if tag.attribute("src").is_none() => {
                found.push("a script without a source".to_owned());
            }
            "style" | "iframe" | "object" | "embed" | "base" => {
                found.push(format!("an element {}", tag.name));
            }
            "img" if tag.attribute("src") == Some("x") => {
                found.push("an attacker's element".to_owned());
            }
            _ => {}
        }
        for (name, value) in &tag.attributes {
            if name == "style" || name.starts_with("on") || name.starts_with("hx-on") {
                found.push(format!("{} with {name}=\"{value}\"", tag.name));
            }
            let start: String = value.trim().chars().take(11).collect();
            if start.eq_ignore_ascii_case("javascript:") {
                found.push(format!("{} with {name}=\"{value}\"", tag.name));
            }
        }
    }
    for c in page.chars() {
        let hidden = c.is_control() && c != '\n'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden {
            found.push(format!("a raw {}", c.escape_unicode()));
        }
    }
    found.dedup();
    found
}

fn templates() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/templates");
    let mut all: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    assert!(all.len() > 10, "{}", all.len());
    all
}

#[test]
fn templates_never_switch_escaping_off_and_hold_no_inline_code() {
    let banned = [
        (r"\|\s*(safe|escape\s*\()", "switches escaping off"),
        (r"(?i)<[^>]*\sstyle\s*=", "styles inline"),
        (r"(?i)<[^>]*\son[a-z]+\s*=", "scripts inline"),
        (r"(?i)<style\b", "styles inline"),
        (r"(?i)<script(?:\s+defer)?\s*>", "scripts inline"),
        (r"(?i)javascript:", "scripts inline"),
        (r"(?i)https?://", "leads to another site"),
    ];
    let mut wrong = Vec::new();
    for (name, text) in templates() {
        for (pattern, why) in banned {
            for (at, line) in text.lines().enumerate() {
                if Regex::new(pattern).unwrap().is_match(line) {
                    wrong.push(format!("{name}:{}: {why}", at + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_tokeniser_sees_a_planted_danger() {
    assert_eq!(
        dangers("<p class='x'>fine</p>\n<script src=\"/a\"></script>"),
        [""; 0]
    );
    for bad in [
        "<script>1</script>",
        "<p style=\"color:red\">",
        "<img src=x onerror=alert(2)>",
        "<a href=\" JavaScript:1\">",
        "a\0b",
        "a\u{202e}b",
        "<iframe src=\"/\">",
    ] {
        assert!(!dangers(bad).is_empty(), "{bad}");
    }
    let safe = "<input value=\"&#34; onclick=&#34;x\">";
    assert_eq!(dangers(safe), [""; 0]);
}
