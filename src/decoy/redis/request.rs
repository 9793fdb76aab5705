//! Redis requests as the real server reads them: RESP multibulk or an inline line.
//! Pure, resumable, bounded by the buffer it is shown. The texts of [`Bad`] and the
//! order of the checks are the server's own (networking.c), so that a broken request
//! is refused the same way at the same byte.

use std::ops::Range;

/// One request; empty for a blank line or `*0`.
pub type Request = Vec<Vec<u8>>;

/// A protocol error, as sent after `-ERR `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad(pub String);

/// Longest line of any kind.
const LINE_MAX: usize = 64 * 1024;
/// Largest argument the real server takes.
const BULK_MAX: i64 = 512 * 1024 * 1024;

/// What the server allows at this point of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Most arguments.
    pub(super) args: i64,
    /// Before a required AUTH everything is small.
    pub(super) stranger: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            args: 1024 * 1024,
            stranger: false,
        }
    }
}

/// How far the request at the start of the buffer was read, so that a large one
/// arriving in pieces is not read again from its start.
#[derive(Debug, Default)]
pub(super) struct Progress {
    at: usize,
    left: Option<i64>,
    args: Vec<Range<usize>>,
}

/// Reads one request from the start of `buf`: the request and the bytes it took, or
/// `None` when more bytes are needed.
///
/// # Errors
/// The server's complaint; it closes the connection after it.
pub fn parse(buf: &[u8]) -> Result<Option<(Request, usize)>, Bad> {
    Progress::default().advance(buf, Rules::default())
}

fn bad<T>(text: impl Into<String>) -> Result<T, Bad> {
    Err(Bad(format!("Protocol error: {}", text.into())))
}

impl Progress {
    /// Goes on where the last call stopped; `buf` holds the same bytes and maybe more.
    pub(super) fn advance(
        &mut self,
        buf: &[u8],
        rules: Rules,
    ) -> Result<Option<(Request, usize)>, Bad> {
        let done = if buf.first() == Some(&b'*') {
            self.multibulk(buf, rules)?
        } else {
            return self.inline(buf);
        };
        if !done {
            return Ok(None);
        }
        let request = self
            .args
            .iter()
            .map(|range| buf.get(range.clone()).unwrap_or_default().to_vec())
            .collect();
        Ok(Some((request, std::mem::take(self).at)))
    }

    fn inline(&mut self, buf: &[u8]) -> Result<Option<(Request, usize)>, Bad> {
        let rest = buf.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            self.at = buf.len();
            if buf.len() > LINE_MAX {
                return bad("too big inline request");
            }
            return Ok(None);
        };
        let end = self.at.saturating_add(end);
        let line = buf.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        *self = Self::default();
        match split(line) {
            Some(request) => Ok(Some((request, end.saturating_add(1)))),
            None => bad("unbalanced quotes in request"),
        }
    }

    fn multibulk(&mut self, buf: &[u8], rules: Rules) -> Result<bool, Bad> {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                let Some((line, next)) = self.line(buf, "too big mbulk count string")? else {
                    return Ok(false);
                };
                let Some(count) = integer(line.get(1..).unwrap_or_default()) else {
                    return bad("invalid multibulk length");
                };
                if count > rules.args {
                    return bad("invalid multibulk length");
                }
                if count > 10 && rules.stranger {
                    return bad("unauthenticated multibulk length");
                }
                self.at = next;
                count
            }
        };
        while left > 0 {
            self.left = Some(left);
            let Some((line, next)) = self.line(buf, "too big bulk count string")? else {
                return Ok(false);
            };
            match line.first() {
                Some(b'$') => {}
                other => {
                    let got = char::from(other.copied().unwrap_or(b'\r'));
                    return bad(format!("expected '$', got '{got}'"));
                }
            }
            let size = match integer(line.get(1..).unwrap_or_default()) {
                Some(size) if (0..=BULK_MAX).contains(&size) => size,
                _ => return bad("invalid bulk length"),
            };
            if size > 16_384 && rules.stranger {
                return bad("unauthenticated bulk length");
            }
            let end = next.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            // The two bytes after the argument are skipped unseen.
            let after = end.saturating_add(2);
            if buf.len() < after {
                return Ok(false);
            }
            self.args.push(next..end);
            self.at = after;
            left = left.saturating_sub(1);
        }
        Ok(true)
    }

    /// The line at the cursor without its `\r`, and where the next begins.
    fn line<'b>(
        &self,
        buf: &'b [u8],
        too_long: &'static str,
    ) -> Result<Option<(&'b [u8], usize)>, Bad> {
        let rest = buf.get(self.at..).unwrap_or_default();
        let window = rest.get(..LINE_MAX.min(rest.len())).unwrap_or_default();
        let Some(end) = window.iter().position(|b| *b == b'\r') else {
            if rest.len() > LINE_MAX {
                return bad(too_long);
            }
            return Ok(None);
        };
        if rest.len() < end.saturating_add(2) {
            return Ok(None);
        }
        let line = rest.get(..end).unwrap_or_default();
        Ok(Some((line, self.at.saturating_add(end).saturating_add(2))))
    }
}

/// Redis' own reading of a number: no sign but `-`, no leading zero, no space.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// Splits an inline line: words, `"…"` with escapes, `'…'` with `\'` only. `None` when
/// a quote does not end or something follows it directly.
fn split(line: &[u8]) -> Option<Request> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let Some((first, tail)) = rest.split_first() {
            if !first.is_ascii_whitespace() && *first != 0x0b {
                break;
            }
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let (word, tail) = word(rest)?;
        words.push(word);
        rest = tail;
    }
}

fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        match first {
            b'"' | b'\'' => {
                rest = quoted(tail, *first, &mut word)?;
                return match rest.first() {
                    None => Some((word, rest)),
                    Some(b) if b.is_ascii_whitespace() => Some((word, rest)),
                    Some(_) => None,
                };
            }
            b if b.is_ascii_whitespace() || *b == 0 => return Some((word, tail)),
            b => word.push(*b),
        }
        rest = tail;
    }
    Some((word, rest))
}

fn quoted<'b>(mut rest: &'b [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'b [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'x', a, b, tail @ ..]
                if quote == b'"' && a.is_ascii_hexdigit() && b.is_ascii_hexdigit() =>
            {
                let digit = |c: u8| char::from(c).to_digit(16).unwrap_or(0);
                let value = digit(*a).wrapping_shl(4) | digit(*b);
                word.push(u8::try_from(value).unwrap_or(0));
                tail
            }
            [b'\\', c, tail @ ..] if quote == b'"' => {
                word.push(match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    c => *c,
                });
                tail
            }
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                word.push(b'\'');
                tail
            }
            [c, tail @ ..] if *c == quote => return Some(tail),
            [c, tail @ ..] => {
                word.push(*c);
                tail
            }
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut buf: &[u8]) -> (Vec<Request>, Option<Bad>, usize) {
        let mut found = Vec::new();
        loop {
            match parse(buf) {
                Ok(Some((request, used))) => {
                    assert!(used > 0 && used <= buf.len());
                    found.push(request);
                    buf = &buf[used..];
                }
                Ok(None) => return (found, None, buf.len()),
                Err(bad) => return (found, Some(bad), 0),
            }
        }
    }

    /// The same with the bytes arriving in pieces, as the connection does it.
    fn in_pieces(bytes: &[u8], sizes: &[usize]) -> (Vec<Request>, Option<Bad>, usize) {
        let (mut found, mut held, mut progress) = (Vec::new(), Vec::new(), Progress::default());
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let take = (*sizes.next().unwrap()).clamp(1, rest.len());
            held.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            loop {
                match progress.advance(&held, Rules::default()) {
                    Ok(Some((request, used))) => {
                        found.push(request);
                        held.drain(..used);
                        if held.is_empty() {
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(bad) => return (found, Some(bad), 0),
                }
            }
        }
        let left = held.len();
        (found, None, left)
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n".to_vec()),
            Just(b"*1\r\n".to_vec()),
            Just(b"$3\r\nGET\r\n".to_vec()),
            Just(b"PING \"a\\x41\" 'b'\r\n".to_vec()),
            Just(b"*-1\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            "[*$\"' \\\\\r\n0-9a-]{0,12}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..12),
        ];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn splitting_the_bytes_changes_nothing(bytes in pieces(), sizes in prop::collection::vec(1usize..9, 1..5)) {
            let whole = all(&bytes);
            prop_assert_eq!(in_pieces(&bytes, &sizes), whole);
        }

        #[test]
        fn what_a_client_encodes_is_what_is_read(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)) {
            let mut wire = format!("*{}\r\n", args.len()).into_bytes();
            for arg in &args {
                wire.extend(format!("${}\r\n", arg.len()).bytes());
                wire.extend(arg);
                wire.extend(b"\r\n");
            }
            let used = wire.len();
            prop_assert_eq!(parse(&wire), Ok(Some((args, used))));
        }
    }

    #[test]
    fn errors_are_the_servers_own() {
        for (bytes, text) in [
            ("*x\r\n", "invalid multibulk length"),
            ("*1048577\r\n", "invalid multibulk length"),
            ("*1\r\nx\r\n", "expected '$', got 'x'"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$536870913\r\n", "invalid bulk length"),
            ("*1\n$4\r\nPING\r\n", "invalid multibulk length"),
            ("PING \"a\r\n", "unbalanced quotes in request"),
            ("ping \"a\"b\r\n", "unbalanced quotes in request"),
        ] {
            assert_eq!(parse(bytes.as_bytes()), bad::<Option<_>>(text), "{bytes:?}");
        }
        let long = vec![b'a'; LINE_MAX + 1];
        assert_eq!(parse(&long), bad::<Option<_>>("too big inline request"));
    }
}
