//! A strict INI reader that remembers line numbers, so that every complaint can name
//! its line. Own code because the maintained INI crates do not keep positions.
//!
//! Grammar: `[section]`, `key = value` or `key: value`, `#` and `;` comments on their
//! own line or after white space, blank lines. Keys are lower-cased and `-` becomes
//! `_`. Input is capped at 512 KiB.

/// Largest file read.
pub const MAX_BYTES: usize = 512 * 1024;

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Lower-case key with `_`.
    pub key: String,
    /// Value without surrounding white space, comment or matching quotes.
    pub value: String,
    /// Line, from 1.
    pub line: usize,
}

/// One `[section]` with its entries in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name as written.
    pub name: String,
    /// Line of the header, from 1.
    pub line: usize,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// One thing wrong with the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and how to fix it.
    pub what: String,
}

/// Reads the whole text, or returns everything that is wrong with it.
///
/// # Errors
/// Every malformed line, duplicate section and duplicate key.
pub fn parse(text: &str) -> Result<Vec<Section>, Vec<Problem>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut problems = Vec::new();
    if text.len() > MAX_BYTES {
        return Err(vec![Problem {
            line: 1,
            what: format!("the file is larger than {} KiB", MAX_BYTES / 1024),
        }]);
    }
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = strip_comment(raw).trim();
        if content.is_empty() {
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let Some(name) = rest.strip_suffix(']').map(str::trim) else {
                problems.push(problem(line, "section header lacks its closing ']'"));
                continue;
            };
            if name.is_empty() {
                problems.push(problem(line, "empty section name"));
                continue;
            }
            if let Some(first) = sections.iter().find(|s| s.name == name) {
                problems.push(problem(
                    line,
                    &format!("section [{name}] already began at line {}", first.line),
                ));
            }
            sections.push(Section {
                name: name.to_owned(),
                line,
                entries: Vec::new(),
            });
            continue;
        }
        let Some((key, value)) = content.split_once(['=', ':']) else {
            problems.push(problem(line, "expected 'key = value' or '[section]'"));
            continue;
        };
        let key = key.trim().to_ascii_lowercase().replace('-', "_");
        if key.is_empty() {
            problems.push(problem(line, "empty key"));
            continue;
        }
        let Some(section) = sections.last_mut() else {
            problems.push(problem(line, "a key must stand below a [section]"));
            continue;
        };
        if let Some(first) = section.entries.iter().find(|e| e.key == key) {
            problems.push(problem(
                line,
                &format!("key '{key}' was already set at line {}", first.line),
            ));
            continue;
        }
        section.entries.push(Entry {
            key,
            value: unquote(value).to_owned(),
            line,
        });
    }
    if problems.is_empty() {
        Ok(sections)
    } else {
        Err(problems)
    }
}

fn problem(line: usize, what: &str) -> Problem {
    Problem {
        line,
        what: what.to_owned(),
    }
}

/// Cuts a comment: at the start of the line, or after white space.
fn strip_comment(line: &str) -> &str {
    let mut previous_is_space = true;
    for (at, c) in line.char_indices() {
        if (c == '#' || c == ';') && previous_is_space {
            return line.get(..at).unwrap_or_default();
        }
        previous_is_space = c.is_whitespace();
    }
    line
}

/// Without surrounding white space and one pair of matching quotes.
pub(super) fn unquote(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_comments_quotes_and_dashes_are_understood() {
        let sections =
            parse("# top\n[api]\nbind-host = '::1' ; local only\nport: 8000 # default\n").unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].entries[0].key, "bind_host");
        assert_eq!(sections[0].entries[0].value, "::1");
        assert_eq!(sections[0].entries[1].value, "8000");
        assert_eq!(sections[0].entries[1].line, 4);
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let problems = parse("a = 1\n[x\n[y]\nb\nc = 1\nc = 2\n[y]\n").unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, vec![1, 2, 4, 6, 7]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,400}") {
            let _outcome = parse(&text);
        }
    }
}
