//! Reads a request head as lighttpd 1.4 with Debian's strict options does: the whole
//! head first, then one verdict. What was wrong before the version was known is
//! answered as HTTP/1.0.

use crate::decoy::http::lighttpd::normalise;
use crate::decoy::http::request::{Bad, Framing, Head, Version, decimal};

/// `server.max-request-field-size`.
const HEAD_MAX: usize = 8 * 1024;

/// Methods it knows by name.
const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "QUERY",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// See [`super::request::parse`].
///
/// # Errors
/// With the status of the answer.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    let mut head = Head::empty();
    head.version = Version::V10;
    // A line end where the method should be is an empty request line.
    let first = input.first().copied().unwrap_or(b'G');
    if !(0x20..0x7f).contains(&first) {
        return Err(head.bad(400));
    }
    let Some((size, lines)) = split(input) else {
        return if input.len() >= HEAD_MAX {
            Err(head.bad(431))
        } else {
            Ok(None)
        };
    };
    if size > HEAD_MAX {
        return Err(head.bad(431));
    }
    let mut lines = lines.into_iter();
    let line = lines.next().unwrap_or_default();
    if let Err(status) = request_line(line, &mut head) {
        return Err(head.bad(status));
    }
    for text in lines {
        if !field(text, &mut head) {
            return Err(head.bad(400));
        }
    }
    if let Err(status) = finish(&mut head) {
        return Err(head.bad(status));
    }
    Ok(Some((head, size)))
}

/// The lines of a whole head (without their ends) and its size.
fn split(input: &[u8]) -> Option<(usize, Vec<&[u8]>)> {
    let mut lines = Vec::new();
    let mut at = 0usize;
    loop {
        let left = input.get(at..)?;
        let end = left.iter().position(|b| *b == b'\n')?;
        let text = left.get(..end)?;
        at = at.saturating_add(end).saturating_add(1);
        if text.is_empty() || text == b"\r" {
            return Some((at, lines));
        }
        lines.push(text);
    }
}

fn request_line(line: &[u8], head: &mut Head) -> Result<(), u16> {
    // Strict: a line ends with both.
    let line = line.strip_suffix(b"\r").ok_or(400u16)?;
    let first = line.iter().position(|b| *b == b' ').ok_or(400u16)?;
    let last = line.iter().rposition(|b| *b == b' ').ok_or(400u16)?;
    let method = line.get(..first).unwrap_or_default();
    let token = line.get(last.saturating_add(1)..).unwrap_or_default();
    head.method = String::from_utf8_lossy(method).into_owned();
    if first == last {
        return Err(400);
    }
    let target = line.get(first.saturating_add(1)..last).unwrap_or_default();
    head.target = target.to_vec();
    head.path = target.to_vec();
    head.token = String::from_utf8_lossy(token).into_owned();
    let version = match token {
        b"HTTP/1.1" => Version::V11,
        b"HTTP/1.0" => Version::V10,
        _ if token.starts_with(b"HTTP/1.1") || token.starts_with(b"HTTP/1.0") => return Err(400),
        _ if token.starts_with(b"HTTP/") && token.len() <= 9 => return Err(505),
        _ => return Err(400),
    };
    if !METHODS.contains(&head.method.as_str()) {
        head.version = version;
        return Err(501);
    }
    head.version = version;
    if target.starts_with(b" ") || target.is_empty() {
        head.version = Version::V10;
        return Err(400);
    }
    Ok(())
}

/// Whether a header line was good.
fn field(text: &[u8], head: &mut Head) -> bool {
    let Some(text) = text.strip_suffix(b"\r") else {
        return false;
    };
    if text.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
        let Some((_, value)) = head.headers.last_mut() else {
            return false;
        };
        value.push(b' ');
        value.extend_from_slice(text.trim_ascii());
        return true;
    }
    let Some(colon) = text.iter().position(|b| *b == b':') else {
        return false;
    };
    let name = text.get(..colon).unwrap_or_default();
    let value = text.get(colon.saturating_add(1)..).unwrap_or_default();
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let bad = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
    if name.is_empty() || !name.iter().all(good) || value.iter().any(bad) {
        return false;
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let value = value.trim_ascii().to_vec();
    // What may come once comes once.
    let single = ["host", "content-length"];
    if single.iter().any(|s| name.eq_ignore_ascii_case(s)) && head.header(&name).is_some() {
        return false;
    }
    head.headers.push((name, value));
    true
}

fn finish(head: &mut Head) -> Result<(), u16> {
    let authority = match (head.method.as_str(), head.path.as_slice()) {
        ("CONNECT", _) => {
            return Err(if head.path.starts_with(b"/") {
                405
            } else {
                400
            });
        }
        ("OPTIONS", b"*") | (_, [b'/', ..]) => None,
        (_, path) => {
            let rest = path
                .strip_prefix(b"http://")
                .or_else(|| path.strip_prefix(b"https://"))
                .ok_or(400u16)?;
            let slash = rest.iter().position(|b| *b == b'/').ok_or(400u16)?;
            let (host, path) = rest.split_at_checked(slash).ok_or(400u16)?;
            let (host, path) = (host.to_vec(), path.to_vec());
            head.path = path;
            Some(host)
        }
    };
    let host = head.header("host").map(<[u8]>::to_vec);
    if let (Some(asked), Some(named)) = (&authority, &host)
        && asked != named
    {
        return Err(400);
    }
    match authority.or(host) {
        None if head.version == Version::V11 => return Err(400),
        None => {}
        Some(host) if !is_host(&host) => return Err(400),
        Some(host) => head.host = Some(String::from_utf8_lossy(&host).to_ascii_lowercase()),
    }
    if head.path != b"*" && normalise(&head.path).is_none() {
        return Err(400);
    }
    let length = head.header("content-length").map(decimal);
    let coding = head.text("transfer-encoding");
    head.framing = match (coding, length) {
        (Some(_), _) if head.version == Version::V10 => return Err(400),
        (Some(_), Some(_)) => return Err(400),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        (Some(_), None) => return Err(501),
        (None, Some(None)) => return Err(400),
        (None, Some(Some(length))) if i64::try_from(length).is_err() => return Err(400),
        (None, Some(Some(0))) => Framing::None,
        (None, Some(Some(length))) => Framing::Length(length),
        (None, None) if head.method == "POST" => return Err(411),
        (None, None) => Framing::None,
    };
    if matches!(head.method.as_str(), "GET" | "HEAD") && head.framing != Framing::None {
        return Err(400);
    }
    Ok(())
}

/// `host-strict`: a name of labels, an address in brackets, and a port.
fn is_host(host: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host) else {
        return false;
    };
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, port),
        _ => (text, "0"),
    };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    if let Some(inner) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}
