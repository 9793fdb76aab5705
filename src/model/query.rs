//! The query box: what a person types to find events, read into conditions.
//!
//! Words are separated by white space; quotes (`"` or `'`) keep it, a backslash takes the
//! next character as it is. `decky:`, `service:`, `event:` (or `kind:`), `attacker:` (also
//! `attacker-ip:`, `attacker_ip:`, `src:`) and `session:` compare exactly; any other
//! `key:value` compares the event's own field of that name; a word without a colon is
//! looked for at the beginnings of the words of the event, letter case ignored. All
//! conditions must hold.

use std::net::IpAddr;

/// Most conditions of one query.
const CONDITIONS: usize = 32;

/// The conditions of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Decky name.
    pub decky: Option<String>,
    /// Service slug.
    pub service: Option<String>,
    /// Event kind.
    pub kind: Option<String>,
    /// Attacker's address, in the form it is stored in.
    pub src_ip: Option<String>,
    /// Connection id.
    pub session: Option<String>,
    /// Field and exact value.
    pub fields: Vec<(String, String)>,
    /// Words to be found anywhere in the event.
    pub words: Vec<String>,
}

/// Why a text is no query: one sentence that says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(String);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// When a quote is left open, a condition is given twice with different values, an
    /// address is none, or there are too many conditions.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let mut query = Self::default();
        let words = split(text)?;
        if words.len() > CONDITIONS {
            return Err(Bad(format!(
                "a query takes at most {CONDITIONS} conditions"
            )));
        }
        for word in words {
            query.add(word)?;
        }
        Ok(query)
    }

    fn add(&mut self, word: Word) -> Result<(), Bad> {
        let Some((key, value)) = word.key_value() else {
            if !word.text.contains(char::is_alphanumeric) {
                return Err(Bad(format!(
                    "'{}' has no letter and no digit; give more of the word",
                    word.text
                )));
            }
            self.words.push(word.text);
            return Ok(());
        };
        let place = match key.to_ascii_lowercase().as_str() {
            "decky" => &mut self.decky,
            "service" => &mut self.service,
            "event" | "kind" | "event_type" => &mut self.kind,
            "session" => &mut self.session,
            "attacker" | "attacker-ip" | "attacker_ip" | "src" => {
                let ip: IpAddr = value
                    .parse()
                    .map_err(|_| Bad(format!("{key}: takes an IP address, not '{value}'")))?;
                return once(&mut self.src_ip, &key, ip.to_string());
            }
            _ => {
                self.fields.push((key, value));
                return Ok(());
            }
        };
        once(place, &key, value)
    }
}

fn once(place: &mut Option<String>, key: &str, value: String) -> Result<(), Bad> {
    if place.as_ref().is_some_and(|old| *old != value) {
        return Err(Bad(format!("{key}: is given twice with different values")));
    }
    *place = Some(value);
    Ok(())
}

/// One word of the text.
#[derive(Debug, Default)]
struct Word {
    text: String,
    /// Where its first colon stands that was not quoted.
    colon: Option<usize>,
}

impl Word {
    /// `key:value` with something on both sides; a key is a name, so that a time, an IPv6
    /// address or a URL are words.
    fn key_value(&self) -> Option<(String, String)> {
        let (key, rest) = self.text.split_at_checked(self.colon?)?;
        let value = rest.strip_prefix(':')?;
        let named = key.starts_with(|c: char| c.is_ascii_alphabetic())
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let is_url = value.starts_with("//");
        let is_address = self.text.parse::<IpAddr>().is_ok();
        (named && !value.is_empty() && !is_url && !is_address)
            .then(|| (key.to_owned(), value.to_owned()))
    }
}

fn split(text: &str) -> Result<Vec<Word>, Bad> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => match chars.next() {
                Some(next) => word.get_or_insert_default().text.push(next),
                None => return Err(Bad("a backslash stands at the end".to_owned())),
            },
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().text.push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => {
                let word = word.get_or_insert_default();
                if c == ':' && word.colon.is_none() {
                    word.colon = Some(word.text.len());
                }
                word.text.push(c);
            }
        }
    }
    if let Some(open) = quote {
        return Err(Bad(format!("a quote ({open}) is not closed")));
    }
    words.extend(word);
    words.retain(|word| !word.text.is_empty());
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn names_compare_exactly_other_keys_are_fields_and_the_rest_are_words() {
        let query = parse("service:ftp decky:web-01 event:auth attacker-ip:10.0.0.7 session:s1");
        assert_eq!(query.service.as_deref(), Some("ftp"));
        assert_eq!(query.decky.as_deref(), Some("web-01"));
        assert_eq!(query.kind.as_deref(), Some("auth"));
        assert_eq!(query.src_ip.as_deref(), Some("10.0.0.7"));
        assert_eq!(query.session.as_deref(), Some("s1"));
        let query = parse("user-agent:curl/8.0 x.y:z 'two words' http://x/y 12:30 fe80::1 key:");
        let field = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            query.fields,
            [field("user-agent", "curl/8.0"), field("x.y", "z")]
        );
        assert_eq!(
            query.words,
            ["two words", "http://x/y", "12:30", "fe80::1", "key:"]
        );
    }

    #[test]
    fn quotes_and_backslashes_keep_what_they_hold() {
        let query = parse(r#"path:"/a b" c\ d "x:y" e'f'g"#);
        assert_eq!(query.fields, [("path".to_owned(), "/a b".to_owned())]);
        assert_eq!(query.words, ["c d", "x:y", "efg"]);
        assert_eq!(parse("  '' \t"), Query::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (text, why) in [
            ("\"open", "not closed"),
            ("x\\", "backslash"),
            ("attacker:nobody", "IP address"),
            ("a && b", "no letter"),
            ("decky:a decky:b", "twice"),
        ] {
            let said = Query::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(Query::parse(&"x ".repeat(33)).is_err());
        assert!(Query::parse("decky:a decky:a").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in ".{0,600}") {
            let _either = Query::parse(&text);
        }

        #[test]
        fn a_quoted_word_comes_back_as_it_was(text in "[^'\\\\]{0,80}x") {
            let query = Query::parse(&format!("'{text}'")).unwrap();
            prop_assert_eq!(query.words, [text]);
        }
    }
}
