//! Reads a request head as nginx 1.22 does: byte by byte, so that a wrong byte is
//! answered before the line ends; 1 KiB and then four times 8 KiB of room.

use crate::decoy::http::request::{Bad, Framing, Head, Version, Why, decimal};

/// `client_header_buffer_size`.
const FIRST_BUFFER: usize = 1024;
/// Size of one of `large_client_header_buffers`.
const LARGE_BUFFER: usize = 8 * 1024;
/// Number of `large_client_header_buffers`.
const LARGE_COUNT: usize = 4;

/// Where nginx's buffers are: which line still fits.
struct Room {
    size: usize,
    used: usize,
    large: usize,
}

impl Room {
    /// Takes a line of `len` bytes, moving it to a fresh buffer when it does not fit.
    fn take(&mut self, len: usize) -> bool {
        if self.used.saturating_add(len) <= self.size {
            self.used = self.used.saturating_add(len);
            return true;
        }
        if len > LARGE_BUFFER || self.large >= LARGE_COUNT {
            return false;
        }
        self.large = self.large.saturating_add(1);
        self.size = LARGE_BUFFER;
        self.used = len;
        true
    }
}

/// See [`super::request::parse`].
///
/// # Errors
/// With the status of the answer.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    let start = input
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let rest = input.get(start..).unwrap_or_default();
    let mut head = Head::empty();
    let line_len = match request_line(rest, &mut head) {
        Ok(Some(len)) => len,
        Ok(None) if rest.len() > LARGE_BUFFER => return Err(head.bad(414)),
        Ok(None) => return Ok(None),
        Err(status) => return Err(head.bad(status)),
    };
    let mut room = Room {
        size: FIRST_BUFFER,
        used: start.min(FIRST_BUFFER),
        large: 0,
    };
    if !room.take(line_len) {
        return Err(head.bad(414));
    }
    let mut at = start.saturating_add(line_len);
    if !head.path.is_empty() && super::nginx::normalise(&head.path).is_none() {
        return Err(head.bad(400));
    }
    if head.version == Version::V09 {
        return Ok(Some((head, at)));
    }
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let line = match header_line(rest) {
            Ok(Some(line)) => line,
            Ok(None) => {
                let mut probe = Room { ..room };
                if !probe.take(rest.len()) {
                    return Err(too_large(head));
                }
                return Ok(None);
            }
            Err(()) => return Err(head.bad(400)),
        };
        if !room.take(line.len) {
            return Err(too_large(head));
        }
        at = at.saturating_add(line.len);
        match line.field {
            None => break,
            Some((name, value)) => {
                if field(&mut head, &name, &value, line.valid).is_err() {
                    return Err(head.bad(400));
                }
                head.headers.push((name, value));
            }
        }
    }
    finish(head).map(|head| Some((head, at)))
}

fn too_large(head: Head) -> Bad {
    Bad {
        why: Why::FieldSize,
        ..head.bad(400)
    }
}

/// Checks that nginx makes as soon as it has read a field.
fn field(head: &mut Head, name: &str, value: &[u8], valid: bool) -> Result<(), ()> {
    if !valid {
        return Ok(());
    }
    if name.eq_ignore_ascii_case("host") {
        if head
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("host"))
        {
            return Err(());
        }
        let (host, port) = host_name(value).ok_or(())?;
        // An authority in the request line wins over the field.
        if head.host.is_none() {
            head.host = Some(host);
            head.port = port;
        }
    } else if name.eq_ignore_ascii_case("content-length")
        && head
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("content-length"))
    {
        return Err(());
    }
    Ok(())
}

/// Checks that wait for the end of the head.
fn finish(mut head: Head) -> Result<Head, Bad> {
    if head.host.as_deref().is_none_or(str::is_empty) {
        let named = head.host.is_some() || head.header("host").is_some();
        if head.version == Version::V11 || named {
            return Err(head.bad(400));
        }
    }
    if head.version == Version::V11 && head.header("host").is_none() {
        return Err(head.bad(400));
    }
    let length = match head.header("content-length") {
        None => None,
        Some(text) => match decimal(text).filter(|n| i64::try_from(*n).is_ok()) {
            Some(length) => Some(length),
            None => return Err(head.bad(400)),
        },
    };
    if let Some(coding) = head.text("transfer-encoding") {
        if head.version != Version::V11 || length.is_some() {
            return Err(head.bad(400));
        }
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(head.bad(501));
        }
        head.framing = Framing::Chunked;
    } else if let Some(length) = length.filter(|n| *n > 0) {
        head.framing = Framing::Length(length);
    }
    if head.method == "TRACE" || head.method == "CONNECT" {
        return Err(head.bad(405));
    }
    Ok(head)
}

/// Reads a host name with an optional port.
fn host_name(value: &[u8]) -> Option<(String, Option<u16>)> {
    let text = value.to_ascii_lowercase();
    let (name, port) = if text.first() == Some(&b'[') {
        let end = text.iter().position(|b| *b == b']')?.saturating_add(1);
        text.split_at_checked(end)?
    } else {
        let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
        text.split_at_checked(end)?
    };
    let wrong = |b: &u8| *b <= b' ' || *b == 0x7f || *b == b'/';
    if text.iter().any(wrong) || name.windows(2).any(|two| two == b"..") {
        return None;
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return None;
    }
    let port = port
        .strip_prefix(b":")
        .and_then(decimal)
        .and_then(|p| u16::try_from(p).ok());
    Some((String::from_utf8_lossy(name).into_owned(), port))
}

struct Line {
    len: usize,
    /// `None` for the empty line that ends the head.
    field: Option<(String, Vec<u8>)>,
    /// nginx ignores fields with unusual names, but keeps them in the record.
    valid: bool,
}

fn header_line(rest: &[u8]) -> Result<Option<Line>, ()> {
    match rest {
        [] | [b'\r'] => return Ok(None),
        [b'\n', ..] => {
            return Ok(Some(Line {
                len: 1,
                field: None,
                valid: true,
            }));
        }
        [b'\r', b'\n', ..] => {
            return Ok(Some(Line {
                len: 2,
                field: None,
                valid: true,
            }));
        }
        [b':' | b'\r', ..] => return Err(()),
        _ => {}
    }
    let mut name_end = None;
    let mut valid = true;
    let mut cr = false;
    for (at, byte) in rest.iter().enumerate() {
        match (byte, cr) {
            (b'\n', _) => {
                let text = rest.get(..at).unwrap_or_default();
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                let colon = name_end.unwrap_or(text.len());
                let name = text.get(..colon).unwrap_or_default();
                let value = text.get(colon.saturating_add(1)..).unwrap_or_default();
                return Ok(Some(Line {
                    len: at.saturating_add(1),
                    field: Some((
                        String::from_utf8_lossy(name).into_owned(),
                        value.trim_ascii().to_vec(),
                    )),
                    valid: valid && name_end.is_some(),
                }));
            }
            (b'\r', _) => cr = true,
            (_, true) | (0, _) => return Err(()),
            (b':', _) if name_end.is_none() => name_end = Some(at),
            _ if name_end.is_some() => {}
            (byte, _) if *byte <= b' ' || *byte == 0x7f => return Err(()),
            (byte, _) if byte.is_ascii_alphanumeric() || *byte == b'-' => {}
            _ => valid = false,
        }
    }
    Ok(None)
}

enum State {
    Method,
    BeforeUri,
    Schema,
    Slash1,
    Slash2,
    Host,
    Port,
    Uri,
    AfterUri,
    Proto(usize),
    Major,
    MajorMore,
    Minor,
    MinorMore,
    Trailing,
    Lf(bool),
}

/// Fills `head` from the request line; gives its length with the line end.
fn request_line(rest: &[u8], head: &mut Head) -> Result<Option<usize>, u16> {
    let mut state = State::Method;
    let mut mark = 0usize;
    let mut path_at = 0usize;
    let mut major = 0u32;
    let mut minor = 0u32;
    let slice = |from: usize, to: usize| rest.get(from..to).unwrap_or_default();
    let lossy = |from, to| String::from_utf8_lossy(slice(from, to)).into_owned();
    let mut token_at = 0usize;
    for (at, byte) in rest.iter().enumerate() {
        let byte = *byte;
        let next = at.saturating_add(1);
        state = match state {
            State::Method => match byte {
                b'A'..=b'Z' | b'_' | b'-' => State::Method,
                b' ' if at > 0 => {
                    head.method = lossy(0, at);
                    State::BeforeUri
                }
                _ => return Err(400),
            },
            State::BeforeUri => {
                mark = at;
                path_at = at;
                match byte {
                    b' ' => State::BeforeUri,
                    b'/' => State::Uri,
                    _ if byte.is_ascii_alphabetic() => State::Schema,
                    _ => return Err(400),
                }
            }
            State::Schema => match byte {
                b':' => State::Slash1,
                b'+' | b'-' | b'.' => State::Schema,
                _ if byte.is_ascii_alphanumeric() => State::Schema,
                _ => return Err(400),
            },
            State::Slash1 if byte == b'/' => State::Slash2,
            State::Slash2 if byte == b'/' => {
                path_at = next;
                State::Host
            }
            State::Slash1 | State::Slash2 => return Err(400),
            State::Host | State::Port => match byte {
                b'/' | b'?' | b' ' => {
                    let authority = slice(path_at, at);
                    let (host, port) = host_name(authority).ok_or(400u16)?;
                    head.host = Some(host);
                    head.port = port;
                    path_at = at;
                    if byte == b' ' {
                        head.target = slice(mark, at).to_vec();
                        head.path = b"/".to_vec();
                        State::AfterUri
                    } else {
                        State::Uri
                    }
                }
                b':' if matches!(state, State::Host) => State::Port,
                b'0'..=b'9' => state,
                b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'-' | b'[' | b']' | b'_'
                    if matches!(state, State::Host) =>
                {
                    State::Host
                }
                _ => return Err(400),
            },
            State::Uri => match byte {
                b' ' | b'\r' | b'\n' => {
                    head.target = slice(mark, at).to_vec();
                    head.path = slice(path_at, at).to_vec();
                    if byte == b' ' {
                        State::AfterUri
                    } else {
                        head.version = Version::V09;
                        if byte == b'\n' {
                            return nine(head).map(|()| Some(next));
                        }
                        State::Lf(true)
                    }
                }
                0..=0x1f | 0x7f => return Err(400),
                _ => State::Uri,
            },
            State::AfterUri => match byte {
                b' ' => State::AfterUri,
                b'\r' => {
                    head.version = Version::V09;
                    State::Lf(true)
                }
                b'\n' => {
                    head.version = Version::V09;
                    return nine(head).map(|()| Some(next));
                }
                b'H' => {
                    token_at = at;
                    State::Proto(1)
                }
                _ => return Err(400),
            },
            State::Proto(done) => {
                if b"HTTP/".get(done) != Some(&byte) {
                    return Err(400);
                }
                if done == 4 {
                    State::Major
                } else {
                    State::Proto(done.saturating_add(1))
                }
            }
            State::Major => match byte {
                b'1' => {
                    major = 1;
                    State::MajorMore
                }
                b'2'..=b'9' => return Err(505),
                _ => return Err(400),
            },
            State::MajorMore => match byte {
                b'.' => State::Minor,
                b'0'..=b'9' => return Err(505),
                _ => return Err(400),
            },
            State::Minor | State::MinorMore if byte.is_ascii_digit() => {
                minor = minor
                    .saturating_mul(10)
                    .saturating_add(u32::from(byte.saturating_sub(b'0')));
                if minor > 99 {
                    return Err(400);
                }
                State::MinorMore
            }
            State::Minor => return Err(400),
            State::MinorMore | State::Trailing => {
                if head.token.is_empty() {
                    head.token = lossy(token_at, at);
                }
                match byte {
                    b' ' => State::Trailing,
                    b'\r' => State::Lf(false),
                    b'\n' => {
                        set_version(head, major, minor);
                        return Ok(Some(next));
                    }
                    _ => return Err(400),
                }
            }
            State::Lf(nine_line) => {
                if byte != b'\n' {
                    return Err(400);
                }
                if nine_line {
                    nine(head)?;
                } else {
                    set_version(head, major, minor);
                }
                return Ok(Some(next));
            }
        };
    }
    Ok(None)
}

/// HTTP/0.9 knows one method.
fn nine(head: &Head) -> Result<(), u16> {
    if head.method == "GET" {
        Ok(())
    } else {
        Err(400)
    }
}

fn set_version(head: &mut Head, major: u32, minor: u32) {
    head.version = if major == 1 && minor == 0 {
        Version::V10
    } else {
        Version::V11
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(input: &[u8]) -> Option<u16> {
        parse(input).err().map(|bad| bad.status)
    }

    #[test]
    fn a_wrong_byte_is_answered_before_its_line_ends() {
        assert_eq!(status(b"\x16\x03"), Some(400));
        assert_eq!(status(b"get"), Some(400));
        assert_eq!(status(b"GET / HTTP/2"), Some(505));
        assert_eq!(parse(b"GET / HTTP/1").unwrap(), None);
    }

    #[test]
    fn a_line_fits_eight_kibibytes_and_a_head_four_of_them() {
        let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n));
        assert!(parse(line(8170).as_bytes()).unwrap().is_some());
        assert_eq!(status(line(8180).as_bytes()), Some(414));
        let head = |n: usize| {
            let field = format!("X: {}\r\n", "a".repeat(7000));
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field.repeat(n))
        };
        assert!(parse(head(3).as_bytes()).unwrap().is_some());
        assert_eq!(parse(head(6).as_bytes()).unwrap_err().why, Why::FieldSize);
    }

    #[test]
    fn an_authority_in_the_target_names_the_host() {
        let (head, _) = parse(b"GET http://Web:81/a HTTP/1.1\r\nHost: b\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(head.host.as_deref(), Some("web"));
        assert_eq!(head.path, b"/a");
    }
}
