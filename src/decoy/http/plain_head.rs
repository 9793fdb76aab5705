//! Reads a request head as small embedded servers do: line by line, lenient about line
//! ends and white space, strict about what it cannot use. Bounded: a head over
//! [`HEAD_MAX`] is refused.

use crate::decoy::http::request::{Bad, Framing, Head, Version, decimal};

/// Longest head such a server has room for.
const HEAD_MAX: usize = 8 * 1024;
/// Most header fields it keeps.
const FIELDS_MAX: usize = 64;

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
    // Bytes no method begins with are no request, however long they go on.
    if rest.first().is_some_and(|b| !b.is_ascii_alphabetic()) {
        return Err(head.bad(400));
    }
    let Some((line, mut at)) = line(rest) else {
        return more(input, head);
    };
    if let Err(status) = request_line(line, &mut head) {
        return Err(head.bad(status));
    }
    if head.version == Version::V09 {
        return Ok(Some((head, start.saturating_add(at))));
    }
    loop {
        let Some((text, used)) = self::line(rest.get(at..).unwrap_or_default()) else {
            return more(input, head);
        };
        at = at.saturating_add(used);
        if at > HEAD_MAX {
            return Err(head.bad(400));
        }
        if text.is_empty() {
            break;
        }
        let Some(colon) = text.iter().position(|b| *b == b':') else {
            continue;
        };
        if head.headers.len() < FIELDS_MAX {
            let name = text.get(..colon).unwrap_or_default().trim_ascii();
            let value = text.get(colon.saturating_add(1)..).unwrap_or_default();
            head.headers.push((
                String::from_utf8_lossy(name).into_owned(),
                value.trim_ascii().to_vec(),
            ));
        }
    }
    head.host = head.text("host").map(|h| h.to_ascii_lowercase());
    head.framing = match (
        head.lists("transfer-encoding", "chunked"),
        head.header("content-length").map(decimal),
    ) {
        (true, _) => Framing::Chunked,
        (false, None | Some(Some(0))) => Framing::None,
        (false, Some(Some(length))) => Framing::Length(length),
        (false, Some(None)) => return Err(head.bad(400)),
    };
    Ok(Some((head, start.saturating_add(at))))
}

/// The first line without its end, and how many bytes it takes.
fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = input.iter().position(|b| *b == b'\n')?;
    let text = input.get(..end).unwrap_or_default();
    Some((
        text.strip_suffix(b"\r").unwrap_or(text),
        end.saturating_add(1),
    ))
}

fn more(input: &[u8], head: Head) -> Result<Option<(Head, usize)>, Bad> {
    if input.len() > HEAD_MAX {
        Err(head.bad(400))
    } else {
        Ok(None)
    }
}

fn request_line(line: &[u8], head: &mut Head) -> Result<(), u16> {
    let mut words = line
        .split(|b| *b == b' ' || *b == b'\t')
        .filter(|w| !w.is_empty());
    let method = words.next().unwrap_or_default();
    head.method = String::from_utf8_lossy(method).into_owned();
    let target = words.next().ok_or(400u16)?;
    head.target = target.to_vec();
    head.path = target.to_vec();
    if let Some(scheme) = target.windows(3).position(|w| w == b"://") {
        let rest = target.get(scheme.saturating_add(3)..).unwrap_or_default();
        let slash = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        head.path = rest.get(slash..).unwrap_or_default().to_vec();
    }
    if head.path.is_empty() {
        head.path.push(b'/');
    }
    match words.next() {
        None => head.version = Version::V09,
        Some(token) => {
            head.token = String::from_utf8_lossy(token).into_owned();
            head.version = match token {
                b"HTTP/1.0" => Version::V10,
                _ if token.starts_with(b"HTTP/1.") => Version::V11,
                _ => return Err(400),
            };
        }
    }
    Ok(())
}
