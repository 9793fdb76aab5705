//! Reading a web request of anybody: head and framing, with limits. Pure; `httparse` takes
//! the head apart, what follows from it is decided here.

/// Longest head.
pub(super) const HEAD_MAX: usize = 16 * 1024;
/// Most fields of a head.
const FIELDS_MAX: usize = 64;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// As sent, without scheme and authority.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    /// The connection may go on afterwards.
    pub(super) keep: bool,
    /// The client waits for a word before it sends the body.
    pub(super) expects: bool,
}

impl Request {
    /// The first field of that name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }
}

/// What some bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The begin of a head.
    More,
    /// A head of so many bytes.
    Head(Box<Request>, usize),
    /// None; to be answered with this status.
    Bad(u16),
}

/// Reads a head.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
        Ok(httparse::Status::Complete(_)) => return Parsed::Bad(400),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Parsed::More,
        Ok(httparse::Status::Partial) if !bytes.contains(&b'\n') => return Parsed::Bad(414),
        Ok(httparse::Status::Partial) => return Parsed::Bad(400),
        Err(httparse::Error::Version) => return Parsed::Bad(505),
        Err(_) => return Parsed::Bad(400),
    };
    let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return Parsed::Bad(400);
    };
    let known = |b: u8| b.is_ascii_uppercase() || b == b'_' || b == b'-';
    if !method.bytes().all(known) {
        return Parsed::Bad(400);
    }
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|field| {
            let value = String::from_utf8_lossy(field.value);
            (field.name.to_owned(), value.into_owned())
        })
        .collect();
    let mut request = Request {
        method: method.to_owned(),
        target: origin(target).to_owned(),
        headers,
        framing: Framing::None,
        keep: minor == 1,
        expects: false,
    };
    if !request.target.starts_with('/') {
        return Parsed::Bad(400);
    }
    match framing(&request, minor) {
        Ok(framing) => request.framing = framing,
        Err(status) => return Parsed::Bad(status),
    }
    let connection = request.header("connection").unwrap_or_default();
    let connection = connection.to_ascii_lowercase();
    request.keep = match minor {
        1 => !connection.contains("close"),
        _ => connection.contains("keep-alive"),
    };
    request.expects = minor == 1
        && request
            .header("expect")
            .is_some_and(|e| e.eq_ignore_ascii_case("100-continue"));
    Parsed::Head(Box::new(request), len)
}

/// The part of an absolute target that a server looks at.
fn origin(target: &str) -> &str {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(scheme));
    match rest {
        None => target,
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
    }
}

fn framing(request: &Request, minor: u8) -> Result<Framing, u16> {
    let count = |name: &str| {
        let fields = request.headers.iter();
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    };
    if minor == 1 && count("host") != 1 || count("content-length") > 1 {
        return Err(400);
    }
    match (
        request.header("transfer-encoding"),
        request.header("content-length"),
    ) {
        (Some(_), Some(_)) => Err(400),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(501),
        (None, Some(length)) => {
            let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
            let length = digits.then(|| length.parse().ok()).flatten();
            length.map(Framing::Length).ok_or(400)
        }
        (None, None) => Ok(Framing::None),
    }
}

/// Takes chunked bytes apart as they come.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    left: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailer,
    Done,
}

/// Longest line between chunks.
const CHUNK_LINE: usize = 256;

impl Chunks {
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Takes what it understands off `input` and hands content to `out`.
    ///
    /// # Errors
    /// When it is not chunked.
    pub(super) fn take(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), ()> {
        loop {
            match self.stage {
                Stage::Data => {
                    let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                    let take = most.min(input.len());
                    out.extend(input.drain(..take));
                    self.left -= take as u64;
                    if self.left > 0 {
                        return Ok(());
                    }
                    self.stage = Stage::DataEnd;
                }
                Stage::Done => return Ok(()),
                Stage::Size | Stage::DataEnd | Stage::Trailer => {
                    let Some(end) = input.iter().position(|b| *b == b'\n') else {
                        return if input.len() > CHUNK_LINE {
                            Err(())
                        } else {
                            Ok(())
                        };
                    };
                    let line: Vec<u8> = input.drain(..=end).collect();
                    self.line(line.trim_ascii())?;
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ()> {
        self.stage = match self.stage {
            Stage::DataEnd if line.is_empty() => Stage::Size,
            Stage::Trailer if line.is_empty() => Stage::Done,
            Stage::Trailer => Stage::Trailer,
            Stage::Size => {
                let size = line.split(|b| *b == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(size.trim_ascii()).map_err(|_| ())?;
                if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(());
                }
                self.left = u64::from_str_radix(size, 16).map_err(|_| ())?;
                if self.left == 0 {
                    Stage::Trailer
                } else {
                    Stage::Data
                }
            }
            _ => return Err(()),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Head(request, len) => {
                assert_eq!(len, text.len());
                *request
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_head_says_what_follows_it() {
        let get = head("GET /c/x?y HTTP/1.1\r\nHost: a\r\nUser-Agent: u\r\n\r\n");
        assert_eq!((get.path(), get.framing), ("/c/x", Framing::None));
        assert!(get.keep && !get.expects);
        assert_eq!(get.header("user-agent"), Some("u"));
        let post = head("POST / HTTP/1.0\r\nContent-Length: 7\r\n\r\n");
        assert_eq!((post.framing, post.keep), (Framing::Length(7), false));
        let proxy = head("GET http://a.example/c/x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(proxy.target, "/c/x");
        let chunked = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        let chunked = head(chunked);
        assert!(chunked.expects && chunked.framing == Framing::Chunked);
    }

    #[test]
    fn what_is_no_request_has_a_status() {
        for (text, status) in [
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                501,
            ),
            ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", 400),
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad(status), "{text}");
        }
        assert_eq!(parse(&[b'A'; HEAD_MAX]), Parsed::Bad(414));
    }

    proptest! {
        #[test]
        fn any_bytes_are_something(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _parsed = parse(&bytes);
            let (mut input, mut out) = (bytes, Vec::new());
            let _taken = Chunks::default().take(&mut input, &mut out);
        }

        #[test]
        fn a_head_cut_anywhere_wants_more(at in 0usize..70) {
            let whole = b"POST /c/x/b?q=1 HTTP/1.1\r\nHost: files.example\r\nContent-Length: 3\r\n\r\n";
            let cut = at.min(whole.len() - 1);
            prop_assert_eq!(parse(&whole[..cut]), Parsed::More);
        }

        #[test]
        fn chunks_come_back_however_they_are_cut(
            parts in proptest::collection::vec("[a-z]{1,20}", 0..6), step in 1usize..9,
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend(format!("{:x};x=y\r\n{part}\r\n", part.len()).into_bytes());
            }
            wire.extend(b"0\r\nTrailer: x\r\n\r\n");
            let (mut chunks, mut input, mut out) = (Chunks::default(), Vec::new(), Vec::new());
            for piece in wire.chunks(step) {
                input.extend(piece);
                prop_assert!(chunks.take(&mut input, &mut out).is_ok());
            }
            prop_assert!(chunks.is_done());
            prop_assert_eq!(String::from_utf8(out).unwrap(), parts.concat());
        }
    }
}
