//! The web listener: reads requests of anybody, finds the token in them, writes the use
//! down, answers. Everything that names no token of ours meets an nginx with nothing to
//! show.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Watch;
use super::known::{self, Look};
use super::reply::{self, Say};
use super::request::{Chunks, Framing, HEAD_MAX, Parsed, Request, parse};
use crate::canary::{Kind, Slug, fingerprint};
use crate::model::Stamp;
use crate::model::canary::{Hit, Via};
use crate::net::forwarded;

/// Longest wait for a head, or for the next request.
const HEAD: Duration = Duration::from_secs(60);
/// Longest wait for a body.
const BODY: Duration = Duration::from_secs(15);
/// Longest wait for an answer to be taken.
const SENDING: Duration = Duration::from_secs(30);
/// Longest wait for a client to be done.
const LINGER: Duration = Duration::from_secs(2);
/// Most that is read of it meanwhile, in pieces.
const LINGER_READS: usize = 1024;
/// Bytes of a body that are kept; with as many it may be a beacon.
const BODY_KEPT: usize = fingerprint::BYTES_MAX;
/// Longest body that is read to its end, as nginx has it.
const BODY_MAX: u64 = 1024 * 1024;
/// Bytes of a target that are kept.
const TARGET_KEPT: usize = 4096;
/// Bytes of a head's fields that are kept.
const HEADERS_KEPT: usize = 8 * 1024;
/// Requests of one connection, as nginx has it.
const REQUESTS: usize = 1000;

/// Where a connection came from and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) via: Via,
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(stream: S, ends: Ends, watch: Arc<Watch>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        stream,
        input: Vec::new(),
    };
    for _ in 0..REQUESTS {
        match connection.turn(ends, &watch).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::debug!(client.addr = %ends.peer, "connection ended: {error}");
                return;
            }
        }
    }
    linger(&mut connection.stream).await;
}

/// Ends a connection as nginx does: what the client still sends is read for a while, since
/// a reset would take the last answer away from it.
pub(super) async fn linger<S>(stream: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        for _ in 0..LINGER_READS {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, reading).await {
        tracing::debug!("closing a connection: {error}");
    }
}

struct Connection<S> {
    stream: S,
    input: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// One request and its answer; says whether there may be another.
    async fn turn(&mut self, ends: Ends, watch: &Watch) -> std::io::Result<bool> {
        let Ok(read) = tokio::time::timeout(HEAD, self.head()).await else {
            return Ok(false);
        };
        let request = match read? {
            None => return Ok(false),
            Some(Ok(request)) => request,
            Some(Err(status)) => {
                self.send(&Say::Refusal(status), None).await?;
                return Ok(false);
            }
        };
        let found = watch.find(&request);
        let (body, whole) = self.body(&request).await?;
        let say = match &found {
            Some((slug, look)) => {
                watch.record(hit(&request, slug, &body, ends, &watch.trusted));
                answer(&request, slug, look)
            }
            None => passer_by(&request),
        };
        let too_long = matches!(request.framing, Framing::Length(len) if len > BODY_MAX);
        let say = if too_long { Say::Refusal(413) } else { say };
        let close = self.send(&say, Some(&request)).await?;
        Ok(whole && !close)
    }

    /// The next head: `None` when the client went, a status when it is none.
    async fn head(&mut self) -> std::io::Result<Option<Result<Request, u16>>> {
        loop {
            // Empty lines before a request are passed over.
            let blank = self.input.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
            let blank = blank.count();
            self.input.drain(..blank);
            match parse(&self.input) {
                Parsed::Head(request, len) => {
                    self.input.drain(..len);
                    return Ok(Some(Ok(*request)));
                }
                Parsed::Bad(status) => return Ok(Some(Err(status))),
                Parsed::More => {}
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<bool> {
        if self.input.len() >= HEAD_MAX * 2 {
            return Ok(false);
        }
        let mut piece = [0; 4096];
        let read = self.stream.read(&mut piece).await?;
        self.input.extend(piece.iter().take(read));
        Ok(read > 0)
    }

    /// The begin of the body, and whether all of it was read: what came is worth keeping
    /// even when the rest does not.
    async fn body(&mut self, request: &Request) -> std::io::Result<(Vec<u8>, bool)> {
        let mut kept = Vec::new();
        if request.framing == Framing::None {
            return Ok((kept, true));
        }
        if matches!(request.framing, Framing::Length(len) if len > BODY_MAX) {
            return Ok((kept, false));
        }
        if request.expects {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        let reading = self.read_body(request.framing, &mut kept);
        let whole = matches!(tokio::time::timeout(BODY, reading).await, Ok(Ok(true)));
        Ok((kept, whole))
    }

    async fn read_body(&mut self, framing: Framing, kept: &mut Vec<u8>) -> std::io::Result<bool> {
        let mut chunks = Chunks::default();
        let mut total = 0u64;
        loop {
            let mut piece = Vec::new();
            match framing {
                Framing::Length(len) => {
                    let left = usize::try_from(len - total).unwrap_or(usize::MAX);
                    let take = left.min(self.input.len());
                    piece.extend(self.input.drain(..take));
                }
                _ => {
                    if chunks.take(&mut self.input, &mut piece).is_err() {
                        return Ok(false);
                    }
                }
            }
            total += piece.len() as u64;
            let room = BODY_KEPT.saturating_add(1).saturating_sub(kept.len());
            kept.extend(piece.iter().take(room));
            let done = match framing {
                Framing::Length(len) => total >= len,
                _ => chunks.is_done(),
            };
            if done {
                return Ok(true);
            }
            if total > BODY_MAX || !self.fill().await? {
                return Ok(false);
            }
        }
    }

    async fn send(&mut self, say: &Say, request: Option<&Request>) -> std::io::Result<bool> {
        let (bytes, close) = reply::bytes(say, request, Stamp::now());
        let sending = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(SENDING, sending).await {
            Ok(sent) => sent.map(|()| close),
            Err(_) => Ok(true),
        }
    }
}

/// The token's part of a path: `/c/<slug>` and whatever follows.
pub(super) fn slug_of_path(path: &str) -> Option<(Slug, &str)> {
    let rest = path.trim_start_matches('/').strip_prefix("c/")?;
    let rest = rest.trim_start_matches('/');
    let (letters, after) = rest.split_at_checked(26)?;
    // A full stop or a bracket of the text around a link is no letter of it.
    if after.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    Some((Slug::parse(letters)?, after))
}

/// The token's part of a host name: any label.
pub(super) fn slug_of_host(host: &str) -> Option<Slug> {
    let name = host.split(':').next().unwrap_or_default();
    name.split('.').find_map(Slug::parse)
}

impl Watch {
    /// The token a request names, if it is one.
    fn find(&self, request: &Request) -> Option<(Slug, Look)> {
        let of_path = slug_of_path(request.path()).map(|(slug, _)| slug);
        let of_host = || slug_of_host(request.header("host")?);
        let slug = of_path.or_else(of_host)?;
        match self.known.look(&slug) {
            Look::Unknown => None,
            look => Some((slug, look)),
        }
    }
}

/// What is answered to somebody who has a token.
fn answer(request: &Request, slug: &Slug, look: &Look) -> Say {
    let kind = match look {
        Look::Known(token) => Kind::parse(&token.kind),
        _ => None,
    };
    let after = slug_of_path(request.path())
        .filter(|(found, _)| found == slug)
        .map_or("", |(_, after)| after);
    let looks = matches!(request.method.as_str(), "GET" | "HEAD");
    let logged_in = request.header("authorization").is_some();
    if asks_for_a_share(request) && request.method == "OPTIONS" {
        return Say::Share;
    }
    match kind {
        Some(Kind::HtmlFingerprint) if after == "/b" => Say::Nothing,
        Some(Kind::HtmlFingerprint) if looks && matches!(after, "" | "/") => {
            let page = match look {
                Look::Known(token) => known::page(token),
                _ => None,
            };
            page.map_or(Say::Pixel, Say::Page)
        }
        Some(Kind::GitConfig) if !logged_in => Say::Login,
        Some(Kind::GitConfig | Kind::Kubeconfig | Kind::AwsCredentials | Kind::EnvFile) => {
            Say::Refusal(403)
        }
        _ if looks => Say::Pixel,
        _ => Say::Refusal(405),
    }
}

/// Whether this is a Windows host that resolves a name such as `\\host\share\icon.ico`. It
/// asks its way down from the top and gives up where nobody answers, before it names the
/// token.
fn asks_for_a_share(request: &Request) -> bool {
    let agent = request.header("user-agent").unwrap_or_default();
    let known = ["DavClnt", "Microsoft-WebDAV-MiniRedir"];
    known.iter().any(|name| agent.starts_with(name))
}

/// What is answered to everybody else.
fn passer_by(request: &Request) -> Say {
    if asks_for_a_share(request) {
        match (request.method.as_str(), request.path()) {
            ("OPTIONS", _) => return Say::Share,
            ("PROPFIND", path @ ("/" | "/c" | "/c/")) => return Say::Directory(path.to_owned()),
            ("PROPFIND", _) => return Say::Refusal(404),
            _ => {}
        }
    }
    Say::Refusal(match (request.method.as_str(), request.path()) {
        ("GET" | "HEAD" | "POST", "/") => 403,
        ("GET" | "HEAD" | "POST", _) => 404,
        _ => 405,
    })
}

fn hit(request: &Request, slug: &Slug, body: &[u8], ends: Ends, trusted: &[IpNet]) -> Hit {
    let (address, port) = client(ends.peer, &request.headers, trusted);
    let is_beacon = slug_of_path(request.path()).is_some_and(|(_, after)| after == "/b");
    let query = request
        .target
        .split_once('?')
        .map_or("", |(_, query)| query);
    let beacon = is_beacon.then(|| {
        let posted = fingerprint::parse(body);
        posted.or_else(|_| fingerprint::parse_query(query)).ok()
    });
    let fingerprint = beacon.flatten().map(|found| {
        let id = found.id();
        serde_json::json!({"id": id, "sections": found})
    });
    let mut room = HEADERS_KEPT;
    let mut headers = Vec::new();
    for (name, value) in &request.headers {
        let (name, value) = (cut(name, 128), cut(value, 2048));
        let size = name.len() + value.len();
        if size > room {
            break;
        }
        room -= size;
        headers.push((name, value));
    }
    // What was understood is not kept once more as it came.
    let body = match &fingerprint {
        Some(_) => String::new(),
        None => cut(&String::from_utf8_lossy(body), BODY_KEPT),
    };
    let resolver = (address != ends.peer.ip().to_canonical())
        .then(|| ends.peer.ip().to_canonical().to_string());
    Hit {
        id: ulid::Ulid::generate().to_string(),
        at: Stamp::now(),
        slug: slug.as_str().to_owned(),
        via: ends.via,
        address,
        port,
        local: ends.local,
        tcp: true,
        method: cut(&request.method, 32),
        path: cut(&request.target, TARGET_KEPT),
        user_agent: cut(request.header("user-agent").unwrap_or_default(), 1024),
        headers,
        body,
        resolver,
        fingerprint,
        more: 0,
    }
}

/// Who asks: the peer, or whom a chain of trusted proxies names; then nobody knows the port.
fn client(
    peer: SocketAddr,
    headers: &[(String, String)],
    trusted: &[IpNet],
) -> (IpAddr, Option<u16>) {
    let field = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("x-forwarded-for");
    let lines = headers
        .iter()
        .filter(field)
        .map(|(_, value)| value.as_str());
    let own = peer.ip().to_canonical();
    let found = forwarded::behind(peer.ip(), lines, trusted).to_canonical();
    (found, (found == own).then_some(peer.port()))
}

/// The begin of a text, at a character's border.
fn cut(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    text.get(..end).unwrap_or_default().to_owned()
}

impl Watch {
    /// Writes a use down, before it is answered.
    pub(super) fn record(&self, hit: Hit) {
        match self.spool.keep(hit, Instant::now()) {
            Ok(()) => self.news.notify_one(),
            Err(error) => tracing::error!(
                "a use of a canary token could not be written down: {error}; make room below {}",
                self.dir.display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLUG: &str = "mzxw6ytboiydcmrtgq2tmnzyhe";

    #[test]
    fn a_token_is_found_wherever_it_is_asked_for() {
        for (path, after) in [
            (format!("/c/{SLUG}"), ""),
            (
                format!("//c//{SLUG}/repo.git/info/refs"),
                "/repo.git/info/refs",
            ),
            (format!("/c/{}/b", SLUG.to_uppercase()), "/b"),
            (format!("/c/{SLUG}."), "."),
        ] {
            let (slug, rest) = slug_of_path(&path).unwrap();
            assert_eq!((slug.as_str(), rest), (SLUG, after));
        }
        for none in [
            "/",
            "/c/",
            "/c/short",
            &format!("/c/{SLUG}a"),
            &format!("/x/{SLUG}"),
        ] {
            assert!(slug_of_path(none).is_none(), "{none}");
        }
        let host = format!("www.{SLUG}.cdn.example.org:8088");
        assert_eq!(slug_of_host(&host).unwrap().as_str(), SLUG);
        assert!(slug_of_host("cdn.example.org").is_none());
    }

    #[test]
    fn nobody_but_a_trusted_proxy_says_who_asks() {
        let nets =
            |list: &[&str]| -> Vec<IpNet> { list.iter().map(|n| n.parse().unwrap()).collect() };
        let peer: SocketAddr = "10.0.0.1:9".parse().unwrap();
        let ours = nets(&["10.0.0.0/8"]);
        for (lines, trusted, expected, port) in [
            (&["203.0.113.9"][..], &[][..], "10.0.0.1", Some(9)),
            (&["203.0.113.9"], &ours, "203.0.113.9", None),
            // What the client itself wrote before, in one field or in one of its own.
            (&["1.1.1.1, 203.0.113.9"], &ours, "203.0.113.9", None),
            (&["1.1.1.1", "203.0.113.9"], &ours, "203.0.113.9", None),
            (&["203.0.113.9, 10.0.0.2"], &ours, "203.0.113.9", None),
            (&["nonsense"], &ours, "10.0.0.1", Some(9)),
            (&["[2001:db8::1]:44"], &ours, "2001:db8::1", None),
        ] {
            let headers: Vec<(String, String)> = lines
                .iter()
                .map(|line| ("X-Forwarded-For".to_owned(), (*line).to_owned()))
                .collect();
            let (found, its) = client(peer, &headers, trusted);
            assert_eq!(
                (found.to_string().as_str(), its),
                (expected, port),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_windows_host_finds_its_way_down_to_the_token() {
        let asked = |method: &str, path: &str, agent: &str| {
            let text =
                format!("{method} {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n");
            match parse(text.as_bytes()) {
                Parsed::Head(request, _) => passer_by(&request),
                other => panic!("{other:?}"),
            }
        };
        let windows = "Microsoft-WebDAV-MiniRedir/10.0.19045";
        assert_eq!(asked("OPTIONS", "/", "DavClnt"), Say::Share);
        let directory = Say::Directory("/c".to_owned());
        assert_eq!(asked("PROPFIND", "/c", windows), directory);
        assert_eq!(
            asked("PROPFIND", "/desktop.ini", windows),
            Say::Refusal(404)
        );
        assert_eq!(asked("OPTIONS", "/", "curl/8"), Say::Refusal(405));
    }

    proptest! {
        #[test]
        fn any_path_and_header_is_survived(path in "\\PC{0,80}", header in "\\PC{0,80}") {
            let _slug = (slug_of_path(&path), slug_of_host(&path));
            let peer: SocketAddr = "10.0.0.1:9".parse().unwrap();
            let all: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap()];
            let headers = [("x-forwarded-for".to_owned(), header)];
            let _client = client(peer, &headers, &all);
            prop_assert!(cut(&path, 7).len() <= 7);
        }
    }
}
