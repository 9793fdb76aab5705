//! A strict INI reader that remembers line numbers, so that every complaint can name
//! its line. Own code because the maintained INI crates do not keep positions.
//!
//! Grammar: `[section]`, `key = value` or `key: value`, `#` and `;` comments on their
//! own line or after white space, blank lines. Keys are lower-cased and `-` becomes
//! `_`. Input is capped at 512 KiB.

use std::collections::HashMap;

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
    let (sections, problems) = read(text);
    if problems.is_empty() {
        Ok(sections)
    } else {
        Err(problems)
    }
}

/// Reads what can be read, beside everything that is wrong: for who has more to say about
/// the rest. Of a section or key that appears twice the first counts; what stands below a
/// header that cannot be read belongs to no section.
#[must_use]
pub fn read(text: &str) -> (Vec<Section>, Vec<Problem>) {
    let mut sections: Vec<Section> = Vec::new();
    let mut problems = Vec::new();
    if text.len() > MAX_BYTES {
        let what = format!("the file is larger than {} KiB", MAX_BYTES / 1024);
        return (sections, vec![problem(1, &what)]);
    }
    let mut begun: HashMap<&str, usize> = HashMap::new();
    let mut keys: HashMap<String, usize> = HashMap::new();
    // Below a header that does not count, keys are only read for their form.
    let mut orphan = false;
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = strip_comment(raw).trim();
        if content.is_empty() {
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            orphan = true;
            keys.clear();
            let Some(name) = rest.strip_suffix(']').map(str::trim) else {
                problems.push(problem(line, "section header lacks its closing ']'"));
                continue;
            };
            if name.is_empty() {
                problems.push(problem(line, "empty section name"));
                continue;
            }
            if let Some(first) = begun.get(name) {
                let what = format!("section [{name}] already began at line {first}");
                problems.push(problem(line, &what));
                continue;
            }
            begun.insert(name, line);
            orphan = false;
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
        if let Some(first) = keys.get(&key) {
            let what = format!("key '{key}' was already set at line {first}");
            problems.push(problem(line, &what));
            continue;
        }
        keys.insert(key.clone(), line);
        if orphan {
            continue;
        }
        let Some(section) = sections.last_mut() else {
            problems.push(problem(line, "a key must stand below a [section]"));
            continue;
        };
        section.entries.push(Entry {
            key,
            value: unquote(value).to_owned(),
            line,
        });
    }
    (sections, problems)
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

/// Without surrounding white space and one pair of matching quotes. `"a" and "b"` begins
/// and ends with one, but they are no pair: it stays as it is.
pub(super) fn unquote(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
            .filter(|inner| !inner.contains(quote))
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

    #[test]
    fn quotes_that_are_no_pair_stay() {
        assert_eq!(unquote(" 'x' "), "x");
        assert_eq!(unquote("\"a b\" -c \"d\""), "\"a b\" -c \"d\"");
        assert_eq!(unquote("'"), "'");
    }

    #[test]
    fn a_file_of_nothing_but_headers_is_read_in_time() {
        let text = "[a]\n".repeat(MAX_BYTES / 4);
        let begun = std::time::Instant::now();
        let (sections, problems) = read(&text);
        assert_eq!((sections.len(), problems.len()), (1, MAX_BYTES / 4 - 1));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,400}") {
            let _outcome = parse(&text);
        }
    }
}
