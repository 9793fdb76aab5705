//! How things are written on pages.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Longest attacker text shown in a list.
const SHOWN: usize = 300;

/// Attackers' text with everything visible that would otherwise act or hide: control
/// characters, marks of writing direction, characters without width.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let acts = c.is_control()
            || matches!(c,
                '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if acts {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Likewise, cut to what fits a list.
pub(super) fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    visible(&cut)
}

/// A text of a JSON object, made visible; empty when it is not there.
pub(super) fn word(value: &Value, key: &str) -> String {
    visible(value[key].as_str().unwrap_or_default())
}

/// A number of a JSON object with its thousands set apart; empty when it is not there.
pub(super) fn number(value: &Value, key: &str) -> String {
    value[key].as_i64().map(grouped).unwrap_or_default()
}

/// `1 234 567`, with narrow spaces.
pub(super) fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    if n < 0 {
        out.push('−');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A size in the largest unit that keeps it above one.
pub(super) fn bytes(n: u64) -> String {
    let mut size = n;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 10 * 1024 {
            break;
        }
        size /= 1024;
        unit = larger;
    }
    format!("{size}\u{202f}{unit}")
}

/// A moment: for machines and for people.
#[derive(Clone, Debug, Default)]
pub(super) struct When {
    /// RFC 3339, UTC; empty when there is none.
    pub(super) iso: String,
    /// In the visitor's zone.
    pub(super) text: String,
}

/// Reads RFC 3339.
pub(super) fn when(value: &Value, key: &str, zone: &TimeZone) -> When {
    let iso = value[key].as_str().unwrap_or_default();
    let Ok(stamp) = iso.parse::<Timestamp>() else {
        return When::default();
    };
    let local = stamp.to_zoned(zone.clone());
    When {
        iso: iso.to_owned(),
        text: local.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    }
}

/// Seconds in words: `12 s`, `3 min`, `5 h`, `2 d`.
pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}\u{202f}s"),
        120..7200 => format!("{}\u{202f}min", seconds / 60),
        7200..172_800 => format!("{}\u{202f}h", seconds / 3600),
        _ => format!("{}\u{202f}d", seconds / 86_400),
    }
}

/// Milliseconds in words.
pub(super) fn duration(millis: i64) -> String {
    let millis = u64::try_from(millis).unwrap_or(0);
    match millis {
        0..1000 => format!("{millis}\u{202f}ms"),
        1000..10_000 => format!("{}.{}\u{202f}s", millis / 1000, millis % 1000 / 100),
        _ => ago(millis / 1000),
    }
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Undoes [`encode`]; a plus sign is a space, as in forms.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let two: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = std::str::from_utf8(&two).unwrap_or_default();
                bytes.push(u8::from_str_radix(hex, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Names and values of a query string or a form.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_acts_or_hides_is_visible() {
        assert_eq!(
            visible("a\0b\u{202e}c\u{200b}\n\u{1b}["),
            "a\\u{0}b\\u{202e}c\\u{200b}\\n\\u{1b}["
        );
        assert_eq!(visible("ünïcode 漢字 <b>"), "ünïcode 漢字 <b>");
    }

    #[test]
    fn numbers_and_sizes_are_easy_to_read() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(-12), "−12");
        assert_eq!(bytes(512), "512\u{202f}B");
        assert_eq!(bytes(20 * 1024), "20\u{202f}KiB");
        assert_eq!(duration(1500), "1.5\u{202f}s");
        assert_eq!(ago(90_000), "25\u{202f}h");
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in ".{0,80}") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }

        #[test]
        fn any_form_can_be_read(text in ".{0,200}") {
            let _pairs: Vec<_> = pairs(&text).collect();
        }
    }
}
