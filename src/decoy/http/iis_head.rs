//! Reads a request head as http.sys of Windows 10 and Server 2016 to 2022 does: it
//! refuses a bad verb at its first wrong byte, a bad address before looking at fields,
//! and anything over 16 KiB.

use crate::decoy::http::request::{Bad, Framing, Head, Version, Why, decimal, hex_digit};

/// `MaxRequestBytes`, and `MaxFieldLength`.
const HEAD_MAX: usize = 16 * 1024;
/// Longest verb.
const VERB_MAX: usize = 255;

/// See [`super::request::parse`].
///
/// # Errors
/// With the status of the answer.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    let mut head = Head::empty();
    let start = input
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let rest = input.get(start..).unwrap_or_default();
    let verb_end = rest.iter().position(|b| !token(*b)).unwrap_or(rest.len());
    let verb = rest.get(..verb_end).unwrap_or_default();
    head.method = String::from_utf8_lossy(verb).into_owned();
    match rest.get(verb_end) {
        None if verb_end > VERB_MAX => return Err(because(head, 400, Why::Verb)),
        None => return Ok(None),
        Some(b' ') if verb_end > 0 && verb_end <= VERB_MAX => {}
        Some(_) => return Err(because(head, 400, Why::Verb)),
    }
    let Some(line_end) = rest.iter().position(|b| *b == b'\n') else {
        return more(rest, head, Why::Url);
    };
    let line = rest.get(..line_end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > HEAD_MAX {
        return Err(because(head, 414, Why::Plain));
    }
    let after = line.get(verb_end.saturating_add(1)..).unwrap_or_default();
    if let Err((status, why)) = target(after, &mut head) {
        return Err(because(head, status, why));
    }
    let mut at = line_end.saturating_add(1);
    loop {
        let left = rest.get(at..).unwrap_or_default();
        let Some(end) = left.iter().position(|b| *b == b'\n') else {
            return more(rest, head, Why::FieldSize);
        };
        let text = left.get(..end).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        at = at.saturating_add(end).saturating_add(1);
        if at > HEAD_MAX {
            return Err(because(head, 400, Why::FieldSize));
        }
        if text.is_empty() {
            break;
        }
        if let Err(why) = field(text, &mut head) {
            return Err(because(head, 400, why));
        }
    }
    if let Err((status, why)) = finish(&mut head) {
        return Err(because(head, status, why));
    }
    Ok(Some((head, start.saturating_add(at))))
}

fn because(head: Head, status: u16, why: Why) -> Bad {
    Bad {
        why,
        ..head.bad(status)
    }
}

fn more(rest: &[u8], head: Head, why: Why) -> Result<Option<(Head, usize)>, Bad> {
    match (rest.len() > HEAD_MAX, why) {
        (false, _) => Ok(None),
        (true, Why::Url) => Err(because(head, 414, Why::Plain)),
        (true, why) => Err(because(head, 400, why)),
    }
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Address and version.
fn target(after: &[u8], head: &mut Head) -> Result<(), (u16, Why)> {
    let space = after.iter().position(|b| *b == b' ');
    let address = after
        .get(..space.unwrap_or(after.len()))
        .unwrap_or_default();
    let version = space.and_then(|at| after.get(at.saturating_add(1)..));
    head.target = address.to_vec();
    let url = (400, Why::Url);
    if address.is_empty() || address.iter().any(|b| *b < 0x20 || *b == 0x7f) {
        return Err(url);
    }
    head.path = address.to_vec();
    if let Some(rest) = without_scheme(address) {
        let slash = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(slash).unwrap_or((rest, b""));
        if authority.is_empty() {
            return Err(url);
        }
        set_host(head, authority);
        head.path = if path.is_empty() {
            b"/".to_vec()
        } else {
            path.to_vec()
        };
    } else if address != b"*" && !address.starts_with(b"/") {
        return Err(url);
    }
    if address == b"*" && head.method != "OPTIONS" {
        return Err(url);
    }
    if address != b"*" && normalise(&head.path).is_none() {
        return Err(url);
    }
    // Without a version it would be HTTP/0.9, which http.sys does not serve.
    let version = version.ok_or((400, Why::Plain))?;
    head.token = String::from_utf8_lossy(version).into_owned();
    let number = version.strip_prefix(b"HTTP/").ok_or((505, Why::Plain))?;
    let mut parts = number.splitn(2, |b| *b == b'.');
    let major = parts.next().and_then(decimal);
    let minor = parts.next().and_then(decimal);
    head.version = match (major, minor) {
        (Some(1), Some(0)) => Version::V10,
        (Some(1), Some(_)) => Version::V11,
        (Some(_), Some(_)) => return Err((505, Why::Plain)),
        _ => return Err((400, Why::Plain)),
    };
    Ok(())
}

fn without_scheme(address: &[u8]) -> Option<&[u8]> {
    let lower: Vec<u8> = address.iter().take(8).map(u8::to_ascii_lowercase).collect();
    if lower.starts_with(b"http://") {
        address.get(7..)
    } else if lower.starts_with(b"https://") {
        address.get(8..)
    } else {
        None
    }
}

fn set_host(head: &mut Head, value: &[u8]) {
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (name.to_owned(), port.parse().ok())
        }
        _ => (text, None),
    };
    head.host = Some(name);
    head.port = port;
}

fn field(text: &[u8], head: &mut Head) -> Result<(), Why> {
    // A line that begins with white space goes on with the one before.
    if text.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
        let Some((_, value)) = head.headers.last_mut() else {
            return Err(Why::Header);
        };
        value.push(b' ');
        value.extend_from_slice(text.trim_ascii());
        return Ok(());
    }
    let colon = text.iter().position(|b| *b == b':').ok_or(Why::Header)?;
    let name = text.get(..colon).unwrap_or_default();
    let value = text.get(colon.saturating_add(1)..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|b| token(*b)) {
        return Err(Why::Header);
    }
    if value.iter().any(|b| *b == 0 || *b == b'\r') {
        return Err(Why::Plain);
    }
    head.headers.push((
        String::from_utf8_lossy(name).into_owned(),
        value.trim_ascii().to_vec(),
    ));
    Ok(())
}

/// What needs all fields: host and body.
fn finish(head: &mut Head) -> Result<(), (u16, Why)> {
    let count = |name: &str| {
        let named = head.headers.iter();
        named.filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    };
    let (hosts, lengths) = (count("host"), count("content-length"));
    if hosts > 1 || lengths > 1 {
        return Err((400, Why::Plain));
    }
    match head.header("host").map(<[u8]>::to_vec) {
        None if head.version == Version::V11 => return Err((400, Why::Host)),
        None => {}
        Some(value) => {
            let bad = |b: &u8| *b <= b' ' || b"/\\<>\"#?@^`{|}".contains(b);
            if value.iter().any(bad) {
                return Err((400, Why::Host));
            }
            if head.host.is_none() && !value.is_empty() {
                set_host(head, &value);
            }
        }
    }
    let coding = head.text("transfer-encoding");
    let length = head.header("content-length").map(decimal);
    head.framing = match (coding, length) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        (Some(_), _) => return Err((501, Why::Plain)),
        (None, Some(None)) => return Err((400, Why::Length)),
        (None, Some(Some(0))) => Framing::None,
        (None, Some(Some(length))) => Framing::Length(length),
        (None, None) if matches!(head.method.as_str(), "POST" | "PUT") => {
            return Err((411, Why::Plain));
        }
        (None, None) => Framing::None,
    };
    Ok(())
}

/// The path an address means: decoded, back slashes turned, dots resolved, query cut
/// off. `None` when http.sys refuses it.
pub(super) fn normalise(raw: &[u8]) -> Option<Vec<u8>> {
    let raw = raw.split(|b| *b == b'?').next().unwrap_or_default();
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let high = bytes.next().and_then(hex_digit)?;
            let low = bytes.next().and_then(hex_digit)?;
            high.wrapping_mul(16).wrapping_add(low)
        } else {
            byte
        };
        match byte {
            0 => return None,
            b'\\' => decoded.push(b'/'),
            byte => decoded.push(byte),
        }
    }
    let mut out: Vec<u8> = vec![b'/'];
    let mut segments = decoded.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let above = out.strip_suffix(b"/").unwrap_or_default();
                let up = above.iter().rposition(|b| *b == b'/')?;
                out.truncate(up.saturating_add(1));
            }
            name => {
                out.extend_from_slice(name);
                if !last {
                    out.push(b'/');
                }
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_as_windows_does() {
        let path = |raw: &str| normalise(raw.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(path("/a/../robots.txt?x"), Some("/robots.txt".into()));
        assert_eq!(path("/a\\b%5cc"), Some("/a/b/c".into()));
        assert_eq!(path("/a/./"), Some("/a/".into()));
        assert_eq!(path("/.."), None);
        assert_eq!(path("/%2e%2e/x"), None);
        assert_eq!(path("/%zz"), None);
        assert_eq!(path("/%00"), None);
    }

    #[test]
    fn each_fault_has_its_own_wording() {
        let why = |text: &str| {
            parse(text.as_bytes())
                .map(|_| ())
                .map_err(|b| (b.status, b.why))
        };
        assert_eq!(why("\x16\x03\x01"), Err((400, Why::Verb)));
        assert_eq!(why("GET x HTTP/1.1\r\n"), Err((400, Why::Url)));
        assert_eq!(why("GET / HTTP/1.1\r\n\r\n"), Err((400, Why::Host)));
        assert_eq!(why("GET / HTTP/1.1\r\nF o: x\r\n"), Err((400, Why::Header)));
        assert_eq!(why("OPTIONS / RTSP/1.0\r\n\r\n"), Err((505, Why::Plain)));
        assert_eq!(
            why("POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Err((411, Why::Plain))
        );
        assert_eq!(why("GET / HTTP/1.0\r\n\r\n"), Ok(()));
    }
}
