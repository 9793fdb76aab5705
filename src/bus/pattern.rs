//! Topics and the patterns that select them: tokens joined by `.`; in a pattern `*` is
//! exactly one token and `>`, legal only as the last one, one or more. Case matters.
//!
//! Anything else is refused here, once, for every transport; nothing is half-understood.

use crate::bus::Error;

/// Longest topic or pattern: with its verb it still fits the longest frame header.
pub(crate) const MAX_NAME: usize = 4000;

/// A pattern that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Box<str>);

impl Pattern {
    /// Checks `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why| {
            Err(Error::Pattern {
                pattern: shown(text),
                why,
            })
        };
        if let Err(why) = check_bytes(text) {
            return refuse(why);
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            match token {
                "" => return refuse("a token is empty"),
                "*" => {}
                ">" if tokens.peek().is_some() => return refuse("'>' must be the last token"),
                ">" => {}
                _ if token.contains(['*', '>']) => {
                    return refuse("'*' and '>' stand alone between dots");
                }
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether `topic` is selected.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        let mut given = topic.split('.');
        for wanted in self.0.split('.') {
            if wanted == ">" {
                let mut rest = given.peekable();
                return rest.peek().is_some() && rest.all(|token| !token.is_empty());
            }
            match given.next() {
                Some(token) if !token.is_empty() && (wanted == "*" || wanted == token) => {}
                _ => return false,
            }
        }
        given.next().is_none()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` can be published on; the reason when it cannot.
pub(crate) fn check_topic(text: &str) -> Result<(), &'static str> {
    check_bytes(text)?;
    if text.contains(['*', '>']) {
        return Err("'*' and '>' belong in patterns");
    }
    if text.split('.').any(str::is_empty) {
        return Err("a token is empty");
    }
    if text == super::DROPPED {
        return Err("only the bus itself speaks there");
    }
    Ok(())
}

fn check_bytes(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_NAME {
        return Err("it is longer than 4000 bytes");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("use printable ASCII without spaces");
    }
    Ok(())
}

/// Hostile text for an error message: escaped and short.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(80)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(topic)
    }

    #[test]
    fn wildcards_select_what_they_say() {
        for (pattern, topic, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.B", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.", false),
            (">", "a", true),
            (">", "", false),
            ("*", "", false),
            ("*.b", "a.b", true),
            ("attacker.*", "attacker.session.ended", false),
            ("system.*.health", "system.bus.health", true),
            ("topology.>", "topology", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn bad_patterns_and_topics_are_refused_with_a_reason() {
        for bad in [
            "", ".", "a.", ".a", "a..b", "a.>.c", ">.a", "a*", "*a.b", "a.b>", "a b", "a\n", "ä",
            "a.\u{7f}",
        ] {
            let error = Pattern::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("bad bus pattern '"), "{error}");
            assert!(!error.contains('\n'), "{error}");
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
        assert!(check_topic("a.*").is_err());
        assert!(check_topic("system.bus.dropped").is_err());
        assert!(check_topic("decky.local:web-1.state").is_ok());
        assert!(check_topic(&"a".repeat(MAX_NAME + 1)).is_err());
    }

    /// The rule as a sentence, without an eye on speed.
    fn reference(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern.split_first(), topic.split_first()) {
            (None, None) => true,
            (Some((&">", [])), Some(_)) => true,
            (Some((&"*", pattern)), Some((_, topic))) => reference(pattern, topic),
            (Some((wanted, pattern)), Some((token, topic))) => {
                wanted == token && reference(pattern, topic)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_naive_rule(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "*"]), 0..5),
            tail in prop::bool::ANY,
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..6),
        ) {
            let mut pattern = pattern;
            if tail || pattern.is_empty() {
                pattern.push(">");
            }
            prop_assert_eq!(
                matches(&pattern.join("."), &topic.join(".")),
                reference(&pattern, &topic)
            );
        }

        #[test]
        fn any_text_is_either_refused_or_harmless(pattern in ".{0,40}", topic in ".{0,40}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _seen = pattern.matches(&topic);
                if check_topic(&topic).is_ok() && pattern.as_str() == ">" {
                    prop_assert!(pattern.matches(&topic));
                }
            }
        }
    }
}
