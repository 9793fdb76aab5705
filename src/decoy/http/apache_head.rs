//! Reads a request head as Apache 2.4 does: line by line, strictly, 8,190 bytes a
//! line and a hundred fields.

use crate::decoy::http::request::{Bad, Framing, Head, Version, Why, decimal};

/// `LimitRequestLine` and `LimitRequestFieldSize`.
const LINE: usize = 8190;
/// `LimitRequestFields`.
const FIELDS: usize = 100;

/// See [`super::request::parse`].
///
/// # Errors
/// With the status of the answer.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    let mut head = Head::empty();
    let mut at = 0usize;
    while input.get(at..).unwrap_or_default().starts_with(b"\r\n") {
        at = at.saturating_add(2);
    }
    let rest = input.get(at..).unwrap_or_default();
    let Some(line) = line(rest) else {
        if rest.len() > LINE.saturating_add(2) {
            return Err(head.bad(414));
        }
        return Ok(None);
    };
    if line.len() > LINE.saturating_add(2) {
        return Err(head.bad(414));
    }
    at = at.saturating_add(line.len());
    if !request_line(line, &mut head) {
        return Err(head.bad(400));
    }
    if head.version == Version::V09 {
        return host(head).map(|head| Some((head, at)));
    }
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(line) = self::line(rest) else {
            if rest.len() > LINE.saturating_add(2) {
                return Err(field_size(head));
            }
            return Ok(None);
        };
        if line.len() > LINE.saturating_add(2) {
            return Err(field_size(head));
        }
        at = at.saturating_add(line.len());
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(head.bad(400));
        };
        if text.is_empty() {
            break;
        }
        if matches!(text.first(), Some(b' ' | b'\t')) {
            let Some((_, value)) = head.headers.last_mut() else {
                return Err(head.bad(400));
            };
            if value.len().saturating_add(text.len()) > LINE {
                return Err(field_size(head));
            }
            value.push(b' ');
            value.extend_from_slice(text.trim_ascii());
            continue;
        }
        if head.headers.len() >= FIELDS {
            return Err(Bad {
                why: Why::FieldCount,
                ..head.bad(400)
            });
        }
        match field(text) {
            Some(field) => head.headers.push(field),
            None => return Err(head.bad(400)),
        }
    }
    finish(head).map(|head| Some((head, at)))
}

fn field_size(head: Head) -> Bad {
    Bad {
        why: Why::FieldSize,
        ..head.bad(400)
    }
}

/// The first line with its end.
fn line(rest: &[u8]) -> Option<&[u8]> {
    let end = rest.iter().position(|b| *b == b'\n')?;
    rest.get(..=end)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Method, target, version, each apart by one space; a line without version is
/// HTTP/0.9.
fn request_line(line: &[u8], head: &mut Head) -> bool {
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return false;
    };
    let mut words = text.split(|b| *b == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return false;
    };
    let token = words.next();
    if words.next().is_some() || method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return false;
    }
    head.method = String::from_utf8_lossy(method).into_owned();
    head.target = target.to_vec();
    if target.is_empty()
        || target
            .iter()
            .any(|b| *b <= b' ' || *b == 0x7f || *b == b'#')
    {
        return false;
    }
    match token {
        None => {
            head.version = Version::V09;
            head.method == "GET" && split_target(head)
        }
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() && *major > b'0' =>
        {
            head.token = String::from_utf8_lossy(token.unwrap_or_default()).into_owned();
            head.version = if (*major, *minor) == (b'1', b'0') {
                Version::V10
            } else {
                Version::V11
            };
            split_target(head)
        }
        Some(_) => false,
    }
}

/// Takes scheme and authority off the target.
fn split_target(head: &mut Head) -> bool {
    let target = head.target.clone();
    if head.method == "CONNECT" {
        let Some((host, port)) = target
            .iter()
            .rposition(|b| *b == b':')
            .and_then(|at| target.split_at_checked(at))
        else {
            return false;
        };
        head.port = port
            .strip_prefix(b":")
            .and_then(decimal)
            .and_then(|p| u16::try_from(p).ok());
        head.host = Some(String::from_utf8_lossy(host).to_ascii_lowercase());
        head.path = b"/".to_vec();
        return head.port.is_some() && !host.is_empty();
    }
    if target.first() == Some(&b'/') {
        head.path = target;
        return true;
    }
    if target == b"*" {
        head.path = target;
        return head.method == "OPTIONS";
    }
    let Some(scheme) = target.windows(3).position(|w| w == b"://") else {
        return false;
    };
    let rest = target.get(scheme.saturating_add(3)..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, &[]));
    head.path = match path.first() {
        Some(b'/') => path.to_vec(),
        Some(_) => [b"/", path].concat(),
        None => b"/".to_vec(),
    };
    if !authority.is_empty() {
        let Some((host, port)) = host_name(authority) else {
            return false;
        };
        head.host = Some(host);
        head.port = port;
    }
    true
}

fn field(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = text.iter().position(|b| *b == b':')?;
    let (name, value) = text.split_at_checked(colon)?;
    let value = value.strip_prefix(b":")?;
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return None;
    }
    let control = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
    if value.iter().any(control) {
        return None;
    }
    Some((
        String::from_utf8_lossy(name).into_owned(),
        value.trim_ascii().to_vec(),
    ))
}

/// Letters, digits, `-`, `.`, `_`; no empty label; an optional numeric port.
fn host_name(value: &[u8]) -> Option<(String, Option<u16>)> {
    let (name, port) = if value.first() == Some(&b'[') {
        let end = value.iter().position(|b| *b == b']')?;
        let inner = value.get(1..end)?;
        if !inner.iter().all(|b| b.is_ascii_hexdigit() || *b == b':') {
            return None;
        }
        (inner, value.get(end.saturating_add(1)..)?)
    } else {
        let end = value.iter().position(|b| *b == b':').unwrap_or(value.len());
        let (name, port) = value.split_at_checked(end)?;
        let name = name.strip_suffix(b".").unwrap_or(name);
        let fine = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !name.iter().all(fine) || name.windows(2).any(|two| two == b"..") {
            return None;
        }
        (name, port)
    };
    let port = match port {
        [] => None,
        [b':', digits @ ..] => Some(
            u16::try_from(decimal(digits)?)
                .ok()
                .filter(|port| *port > 0)?,
        ),
        _ => return None,
    };
    if name.is_empty() {
        return None;
    }
    Some((String::from_utf8_lossy(name).to_ascii_lowercase(), port))
}

/// Takes the host from its field unless the target named one.
fn host(mut head: Head) -> Result<Head, Bad> {
    let fields = head
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("host"))
        .count();
    if fields > 1 {
        return Err(head.bad(400));
    }
    let Some(value) = head.header("host") else {
        return Ok(head);
    };
    // A literal address without port stands for the scheme's own.
    let literal = value.first() == Some(&b'[');
    let Some((host, port)) = host_name(value) else {
        return Err(head.bad(400));
    };
    if head.host.is_none() {
        head.host = Some(host);
        head.port = port.or(literal.then_some(80));
    }
    Ok(head)
}

/// Apache joins fields of one name, and then measures again.
fn too_long_joined(head: &Head) -> bool {
    let mut sums: Vec<(&str, usize)> = Vec::new();
    for (name, value) in &head.headers {
        match sums.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, sum)) => *sum = sum.saturating_add(value.len()).saturating_add(2),
            None => sums.push((name, value.len())),
        }
    }
    sums.iter().any(|(_, sum)| *sum > LINE)
}

/// Whether the target names a scheme that this server does not speak.
fn foreign(target: &[u8]) -> bool {
    let own = [b"http://".as_slice(), b"https://"];
    let named = |scheme: &&[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    !matches!(target.first(), Some(b'/' | b'*')) && !own.iter().any(named)
}

fn finish(head: Head) -> Result<Head, Bad> {
    if too_long_joined(&head) {
        return Err(field_size(head));
    }
    let lengths = head
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
        .count();
    let coding = head.text("transfer-encoding");
    let framing = match (coding.as_deref(), head.header("content-length")) {
        (Some(coding), _) => {
            let last = coding.rsplit(',').next().unwrap_or_default().trim();
            if !last.eq_ignore_ascii_case("chunked") {
                return Err(head.bad(400));
            }
            Framing::Chunked
        }
        (None, None) => Framing::None,
        (None, Some(text)) => match decimal(text).filter(|n| i64::try_from(*n).is_ok()) {
            Some(_) if lengths > 1 => return Err(head.bad(400)),
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => return Err(head.bad(400)),
        },
    };
    let mut head = host(head)?;
    head.framing = framing;
    if head.method != "CONNECT" && foreign(&head.target) {
        return Err(Bad {
            host_known: true,
            ..head.bad(400)
        });
    }
    if head.version == Version::V11 && head.header("host").is_none() {
        let known = head.host.is_some();
        return Err(Bad {
            host_known: known,
            ..head.bad(400)
        });
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(input: &[u8]) -> Option<u16> {
        parse(input).err().map(|bad| bad.status)
    }

    #[test]
    fn a_bad_line_is_answered_when_it_ends() {
        assert_eq!(status(b"\x16\x03\x01"), None);
        assert_eq!(status(b"HELP\r\n"), Some(400));
        assert_eq!(status(b"GET / HTTP/1.1\n"), Some(400));
        assert_eq!(status(b"GET  / HTTP/1.0\r\n"), Some(400));
    }

    #[test]
    fn a_hundred_fields_pass_and_one_more_does_not() {
        let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(n));
        assert!(parse(head(99).as_bytes()).unwrap().is_some());
        assert_eq!(
            parse(head(100).as_bytes()).unwrap_err().why,
            Why::FieldCount
        );
    }

    #[test]
    fn an_unknown_higher_version_is_taken_for_http_1_1() {
        let (head, _) = parse(b"GET / HTTP/9.9\r\nHost: a\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(head.version, Version::V11);
        assert_eq!(status(b"GET / HTTP/3.0\r\n\r\n"), Some(400));
    }

    #[test]
    fn a_folded_field_is_one_field() {
        let (head, _) = parse(b"GET / HTTP/1.0\r\nFoo: a\r\n b\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(head.headers, vec![("Foo".to_owned(), b"a b".to_vec())]);
    }
}
