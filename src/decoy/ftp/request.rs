//! Bytes of the control connection into commands: line framing as each server does it,
//! Telnet options, the verb and its argument, addresses of PORT and EPRT. Pure and
//! bounded: a line longer than the server's limit is never held.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How a server cuts lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// Longest line with its terminator.
    pub(super) max: usize,
    /// Whether a bare LF ends a line.
    pub(super) bare_lf: bool,
    /// Whether Telnet commands are taken out (and options refused).
    pub(super) telnet: bool,
}

/// One line without its terminator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What is left after Telnet.
    pub(super) text: Vec<u8>,
    /// Refusals of Telnet options, to be sent before the reply.
    pub(super) refusals: Vec<u8>,
}

/// A line over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// The first line of `bytes` and how much of them it takes.
pub(super) fn line(bytes: &[u8], framing: Framing) -> Result<Option<(Line, usize)>, TooLong> {
    let window = bytes.get(..bytes.len().min(framing.max)).unwrap_or(bytes);
    let Some(end) = terminator(window, framing.bare_lf) else {
        return if bytes.len() >= framing.max {
            Err(TooLong)
        } else {
            Ok(None)
        };
    };
    let body = window.get(..end).unwrap_or_default();
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    let line = if framing.telnet {
        without_telnet(body)
    } else {
        Line {
            text: body.to_vec(),
            refusals: Vec::new(),
        }
    };
    Ok(Some((line, end.saturating_add(1))))
}

/// How many bytes of a line that is too long can be dropped, and whether its end was
/// among them.
pub(super) fn skip(bytes: &[u8], framing: Framing) -> (usize, bool) {
    match terminator(bytes, framing.bare_lf) {
        Some(end) => (end.saturating_add(1), true),
        // A CR may be half of the end.
        None if bytes.ends_with(b"\r") => (bytes.len().saturating_sub(1), false),
        None => (bytes.len(), false),
    }
}

/// Where the LF of the first line end is.
fn terminator(bytes: &[u8], bare_lf: bool) -> Option<usize> {
    let mut before = 0u8;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' && (bare_lf || before == b'\r') {
            return Some(at);
        }
        before = *byte;
    }
    None
}

const IAC: u8 = 255;

/// Takes out Telnet commands, refuses options (RFC 854), and drops the NUL of CR NUL.
fn without_telnet(body: &[u8]) -> Line {
    let mut text = Vec::with_capacity(body.len());
    let mut refusals = Vec::new();
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            IAC => match bytes.next() {
                Some(IAC) => text.push(IAC),
                // WILL and WONT are answered DONT, DO and DONT are answered WONT.
                Some(asked @ 251..=254) => {
                    if let Some(option) = bytes.next() {
                        let answer = if asked <= 252 { 254 } else { 252 };
                        refusals.extend([IAC, answer, option]);
                    }
                }
                Some(_) | None => {}
            },
            b'\r' if bytes.peek() == Some(&0) => {
                bytes.next();
            }
            other => text.push(other),
        }
    }
    Line { text, refusals }
}

/// A verb and its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Upper case.
    pub(super) verb: String,
    /// After the space; bytes that are not UTF-8 are U+FFFD.
    pub(super) arg: String,
    /// The same, exact.
    pub(super) raw: Vec<u8>,
}

impl Request {
    /// Splits at the first byte for which `space` holds.
    pub(super) fn new(text: &[u8], space: impl Fn(u8) -> bool) -> Self {
        let at = text.iter().position(|b| space(*b)).unwrap_or(text.len());
        let verb = text.get(..at).unwrap_or_default();
        let raw = text.get(at.saturating_add(1)..).unwrap_or_default();
        Self {
            verb: String::from_utf8_lossy(verb).to_uppercase(),
            arg: String::from_utf8_lossy(raw).into_owned(),
            raw: raw.to_vec(),
        }
    }
}

/// `h1,h2,h3,h4,p1,p2`.
pub(super) fn port(arg: &str) -> Option<SocketAddr> {
    let mut parts = arg.trim().split(',');
    let mut next = || parts.next()?.parse::<u8>().ok();
    let ip = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    let port = u16::from_be_bytes([next()?, next()?]);
    match parts.next() {
        None => Some(SocketAddr::new(IpAddr::V4(ip), port)),
        Some(_) => None,
    }
}

/// What is wrong with an EPRT argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadEprt {
    /// The protocol is neither 1 nor 2.
    Protocol,
    /// Not three parts between delimiters, or not an address.
    Syntax,
}

/// `|1|192.0.2.1|1025|` with any delimiter (RFC 2428).
pub(super) fn eprt(arg: &str) -> Result<SocketAddr, BadEprt> {
    let Some(delimiter) = arg.chars().next() else {
        return Err(BadEprt::Protocol);
    };
    let parts: Vec<&str> = arg.split(delimiter).take(6).collect();
    let [_, family, address, port, ..] = parts.as_slice() else {
        return Err(BadEprt::Syntax);
    };
    if !["1", "2"].contains(family) {
        return Err(BadEprt::Protocol);
    }
    let address: IpAddr = address.parse().map_err(|_| BadEprt::Syntax)?;
    let port = port.parse().map_err(|_| BadEprt::Syntax)?;
    if address.is_ipv4() != (*family == "1") {
        return Err(BadEprt::Syntax);
    }
    Ok(SocketAddr::new(address, port))
}

/// For the fuzz target: everything here on the same bytes.
pub fn exercise(bytes: &[u8]) {
    for (bare_lf, telnet) in [(true, false), (false, true)] {
        let framing = Framing {
            max: 4096,
            bare_lf,
            telnet,
        };
        let mut rest = bytes;
        while let Ok(Some((line, used))) = line(rest, framing) {
            let request = Request::new(&line.text, |b| b == b' ');
            std::hint::black_box((port(&request.arg), eprt(&request.arg)).1.is_ok());
            rest = rest.get(used..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Framing = Framing {
        max: 64,
        bare_lf: true,
        telnet: false,
    };
    const TELNET: Framing = Framing {
        max: 64,
        bare_lf: false,
        telnet: true,
    };

    fn all(bytes: &[u8], framing: Framing) -> Vec<Line> {
        feed(&[bytes], framing)
    }

    /// The lines of a connection on which the pieces arrive one by one.
    fn feed(pieces: &[&[u8]], framing: Framing) -> Vec<Line> {
        let mut buffer = Vec::new();
        let mut lines = Vec::new();
        let mut skipping = false;
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                if skipping {
                    let (used, ended) = skip(&buffer, framing);
                    buffer.drain(..used);
                    skipping = !ended;
                    if !ended {
                        break;
                    }
                }
                match line(&buffer, framing) {
                    Ok(Some((line, used))) => {
                        buffer.drain(..used);
                        lines.push(line);
                    }
                    Ok(None) => break,
                    Err(TooLong) => skipping = true,
                }
            }
        }
        lines
    }

    #[test]
    fn telnet_options_are_refused_and_taken_out() {
        let lines = all(b"\xff\xf4\xff\xf2AB\xff\xfb\x06OR\r\0\r\n", TELNET);
        assert_eq!(lines[0].text, b"ABOR");
        assert_eq!(lines[0].refusals, b"\xff\xfe\x06");
        assert_eq!(
            all(b"\xff\xf4\xff\xf2ABOR\n", PLAIN)[0].text,
            b"\xff\xf4\xff\xf2ABOR"
        );
    }

    #[test]
    fn a_bare_line_feed_ends_a_line_only_where_the_server_says_so() {
        assert_eq!(all(b"NOOP\n", PLAIN).len(), 1);
        assert_eq!(all(b"NOOP\nABOR\r\n", TELNET)[0].text, b"NOOP\nABOR");
    }

    #[test]
    fn addresses() {
        assert_eq!(
            port("127,0,0,1,4,1"),
            Some("127.0.0.1:1025".parse().unwrap())
        );
        assert_eq!(port("256,0,0,1,4,1"), None);
        assert_eq!(port("1,2,3"), None);
        assert_eq!(eprt("|2|::1|1025|"), Ok("[::1]:1025".parse().unwrap()));
        assert_eq!(eprt(""), Err(BadEprt::Protocol));
        assert_eq!(eprt("foo"), Err(BadEprt::Syntax));
        assert_eq!(eprt("|3|x|1|"), Err(BadEprt::Protocol));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_split_changes_nothing(
            bytes in proptest::collection::vec(
                prop_oneof![
                    Just(b'\r'),
                    Just(b'\n'),
                    Just(255u8),
                    Just(b'A'),
                    any::<u8>()
                ],
                0..300,
            ),
            at in 0usize..300,
            telnet: bool,
        ) {
            let framing = if telnet { TELNET } else { PLAIN };
            let at = at.min(bytes.len());
            let (one, two) = bytes.split_at(at);
            prop_assert_eq!(all(&bytes, framing), feed(&[one, two], framing));
        }

        #[test]
        fn no_argument_panics(text: String) {
            exercise(text.as_bytes());
        }
    }
}
