//! What a request head is, and the readings of the same bytes: servers disagree about
//! almost every malformed one. Pure; bounded by the limits of the claimed server, which
//! refuses a head long before it grows large.

use crate::decoy::http::skin::skin;
use crate::persona::WebServer;

/// Protocol version as the server understood it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// A bare `GET /`.
    V09,
    /// HTTP/1.0.
    V10,
    /// HTTP/1.1, and what the server takes for it.
    V11,
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked.
    Chunked,
}

/// A request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Method, as sent.
    pub method: String,
    /// Request target, as sent.
    pub target: Vec<u8>,
    /// Version token, as sent; empty for HTTP/0.9.
    pub token: String,
    /// What the server takes it for.
    pub version: Version,
    /// Header fields in order, names as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Delimitation of the body.
    pub framing: Framing,
    /// Host name the server believes it was asked for, lower case, without port.
    pub host: Option<String>,
    /// Port that came with the host name.
    pub port: Option<u16>,
    /// Path and query of the target, without scheme and authority.
    pub path: Vec<u8>,
}

impl Head {
    /// The first field named `name`, any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_slice())
    }

    /// The first field named `name` as text; bytes above ASCII become U+FFFD.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.header(name)
            .map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// Whether a comma list in `name` holds `token`.
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .flat_map(|(_, v)| v.split(|b| *b == b','))
            .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the client takes gzip.
    #[must_use]
    pub fn accepts_gzip(&self) -> bool {
        let Some(value) = self.text("accept-encoding") else {
            return false;
        };
        value.split(',').any(|part| {
            let mut words = part.split(';').map(str::trim);
            let named = words.next().is_some_and(|w| w.eq_ignore_ascii_case("gzip"));
            let refused = words.any(|w| {
                w.strip_prefix("q=")
                    .is_some_and(|q| q.trim_start_matches(['0', '.']).is_empty())
            });
            named && !refused
        })
    }
}

/// A head that is answered with an error at once, before the rest of it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Status of the answer.
    pub status: u16,
    /// Which of several wordings of that status.
    pub why: Why,
    /// What had been understood.
    pub seen: Box<Head>,
    /// Whether the host had been understood; Apache names itself differently before.
    pub host_known: bool,
}

/// Wordings of the same status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No particular.
    Plain,
    /// One header line is too long.
    FieldSize,
    /// There are too many of them.
    FieldCount,
    /// The method is no word.
    Verb,
    /// The address is none.
    Url,
    /// The host name is none, or missing.
    Host,
    /// A field has no proper name.
    Header,
    /// The length of the body is no number.
    Length,
}

impl Head {
    /// Nothing understood yet.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            method: String::new(),
            target: Vec::new(),
            token: String::new(),
            version: Version::V11,
            headers: Vec::new(),
            framing: Framing::None,
            host: None,
            port: None,
            path: Vec::new(),
        }
    }

    /// This head, answered with `status`.
    #[must_use]
    pub fn bad(self, status: u16) -> Bad {
        Bad {
            status,
            why: Why::Plain,
            seen: Box::new(self),
            host_known: false,
        }
    }
}

/// Reads one head from the start of `input` the way `server` does. Gives the head and
/// how many bytes it took, or `None` when more are needed.
///
/// # Errors
/// With the status a head deserves that the server refuses.
pub fn parse(server: WebServer, input: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    (skin(server).parse)(input)
}

/// Decimal digits only, no sign, no overflow.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The value of one hex digit.
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [WebServer; 6] = [
        WebServer::Nginx,
        WebServer::Apache,
        WebServer::Iis,
        WebServer::Lighttpd,
        WebServer::Emweb,
        WebServer::CiscoIos,
    ];

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"POST /login HTTP/1.0\r\n".to_vec()),
            Just(b"Host: a\r\n".to_vec()),
            Just(b"Content-Length: 3\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"GET http://a:80/%2e%2e/x?y HTTP/1.1\r\nHost: b\r\n\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
            "[ -~]{0,20}\r\n".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic_or_read_past_its_input(input in pieces()) {
            for server in ALL {
                if let Ok(Some((_, used))) = parse(server, &input) {
                    prop_assert!(used > 0 && used <= input.len());
                }
            }
        }

        #[test]
        fn a_split_anywhere_gives_the_same_answer(input in pieces()) {
            for server in ALL {
                let whole = parse(server, &input);
                for cut in 0..input.len() {
                    match parse(server, &input[..cut]) {
                        Ok(None) => {}
                        early => {
                            // What a shorter read decided, a longer one must not change,
                            // except that an error may have seen more.
                            match (early, &whole) {
                                (Ok(early), Ok(whole)) => prop_assert_eq!(&early, whole),
                                (Err(early), Err(whole)) => {
                                    prop_assert_eq!(early.status, whole.status);
                                }
                                (early, whole) => prop_assert!(false, "{:?} then {:?}", early, whole),
                            }
                            break;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn gzip_is_accepted_unless_refused() {
        let with = |value: &str| Head {
            headers: vec![("Accept-Encoding".into(), value.into())],
            ..Head::empty()
        };
        assert!(with("deflate, gzip").accepts_gzip());
        assert!(!with("gzip;q=0").accepts_gzip());
        assert!(with("gzip;q=0.5").accepts_gzip());
        assert!(!with("*").accepts_gzip());
    }
}
