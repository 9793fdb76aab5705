//! What all skins share: the pieces of an answer and the facts of its connection.

use std::net::SocketAddr;

use rand::RngExt;

use crate::decoy::http::site::Site;
use crate::model::Stamp;

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its status code, for the event.
    pub(super) status: u16,
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Whether the connection ends after it.
    pub(super) close: bool,
}

/// When the server looks at a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Before it answers; says so to a client that asked (`Expect`), if true.
    First(bool),
    /// After it has answered, to throw it away.
    After,
    /// Not at all: it is too large.
    Refused,
}

/// What an answer depends on besides the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The site.
    pub(super) site: &'a Site,
    /// The `Server` field.
    pub(super) server: &'a str,
    /// The host's own name.
    pub(super) fqdn: &'a str,
    /// Our end of the connection.
    pub(super) local: SocketAddr,
    /// Now.
    pub(super) now: Stamp,
    /// Requests answered on this connection before.
    pub(super) served: u32,
    /// A number that grows with the server's work.
    pub(super) serial: u64,
    /// Which of its equal orders Apache's `Allow` has on this host.
    pub(super) allow: &'static str,
    /// Whether Apache signs its error pages, as Debian has it do.
    pub(super) signed: bool,
    /// The `Server` field below IIS, where the operator set one for all.
    pub(super) kernel: Option<&'a str>,
    /// The `WWW-Authenticate` value that answers a first NTLM message.
    pub(super) challenge: Option<&'a str>,
}

/// A response head being put together.
#[derive(Debug)]
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn new(status: &str) -> Self {
        Self(format!("HTTP/1.1 {status}\r\n"))
    }

    pub(super) fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(name);
        self.0.push_str(": ");
        self.0.push_str(&value.to_string());
        self.0.push_str("\r\n");
    }

    pub(super) fn with(mut self, body: &[u8]) -> Vec<u8> {
        self.0.push_str("\r\n");
        let mut out = self.0.into_bytes();
        out.extend_from_slice(body);
        out
    }
}

/// A body as one chunk and the last one.
pub(super) fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !body.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// `len` random characters of `alphabet`.
pub(super) fn random_text(alphabet: &[u8], len: usize) -> String {
    let mut rng = rand::rng();
    (0..len)
        .filter_map(|_| alphabet.get(rng.random_range(0..alphabet.len().max(1))))
        .map(|b| char::from(*b))
        .collect()
}

/// A session id as PHP makes them: 26 digits of base 32.
pub(super) fn session_id() -> String {
    random_text(b"0123456789abcdefghijklmnopqrstuv", 26)
}

/// The value of a PHP session cookie that PHP would take over.
pub(super) fn has_session(cookies: Option<&str>) -> bool {
    cookies.unwrap_or_default().split(';').any(|pair| {
        pair.trim().strip_prefix("PHPSESSID=").is_some_and(|id| {
            (22..=256).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b',' | b'-'))
        })
    })
}

/// The bytes `first..=last` of `body`.
pub(super) fn part(body: &[u8], first: u64, last: u64) -> &[u8] {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    body.get(at(first)..at(last).saturating_add(1).min(body.len()))
        .unwrap_or_default()
}
