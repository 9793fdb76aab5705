//! Answers as nginx 1.22 with Debian's default site gives them, with one PHP page
//! behind it. Held against the real server by `tests/clients/http.rs`.

use crate::decoy::http::date;
use crate::decoy::http::range::{self, Ranges};
use crate::decoy::http::reply::{
    Body, Lines, Place, Reply, chunked, has_session, part, session_id,
};
use crate::decoy::http::request::{Bad, Framing, Head, Version, Why, hex_digit};
use crate::decoy::http::site::{File, gzip};
use crate::persona::WebServer;

/// `client_max_body_size`.
pub(super) const BODY_MAX: u64 = 1024 * 1024;
/// `keepalive_requests`.
const REQUESTS: u32 = 1000;

/// What a path leads to.
enum Target<'a> {
    File(&'a File),
    Dir,
    Redirect(bool),
    Login,
    Basic,
    Digest,
    Missing,
}

/// The path a target means: decoded, dots resolved, slashes merged, query cut off.
/// `None` when nginx refuses it.
pub(super) fn normalise(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    let mut done = false;
    while !done {
        let byte = match bytes.next() {
            None => {
                done = true;
                None
            }
            Some(b'?' | b'#') => {
                done = true;
                None
            }
            Some(b'%') => {
                let high = bytes.next().and_then(hex_digit)?;
                let low = bytes.next().and_then(hex_digit)?;
                match high.wrapping_mul(16).wrapping_add(low) {
                    0 => return None,
                    decoded => Some(decoded),
                }
            }
            byte => byte,
        };
        match byte {
            Some(b'/') | None => {
                // A segment ends: is it one of the two special ones?
                let start = out
                    .iter()
                    .rposition(|b| *b == b'/')
                    .map_or(0, |at| at.saturating_add(1));
                match out.get(start..).unwrap_or_default() {
                    b"." => out.truncate(start),
                    b".." => {
                        let parent = start.checked_sub(1)?;
                        let above = out.get(..parent).unwrap_or_default();
                        let up = above.iter().rposition(|b| *b == b'/')?;
                        out.truncate(up.saturating_add(1));
                    }
                    _ => {}
                }
                if byte.is_some() && out.last() != Some(&b'/') {
                    out.push(b'/');
                }
            }
            Some(byte) => out.push(byte),
        }
    }
    Some(out)
}

fn target<'a>(place: &Place<'a>, path: &[u8]) -> Target<'a> {
    let digest = place.site.digest_path.as_bytes();
    if path == b"/login" && place.site.app {
        return Target::Login;
    }
    if path.starts_with(b"/admin/") {
        return Target::Basic;
    }
    if path.starts_with(digest) {
        return Target::Digest;
    }
    let slashed = [path, b"/"].concat();
    if slashed == digest {
        return Target::Redirect(true);
    }
    if place.site.is_dir(&slashed) {
        return Target::Redirect(false);
    }
    if place.site.is_dir(path) {
        return Target::Dir;
    }
    let path = if path == b"/" { b"/index.html" } else { path };
    place.site.file(path).map_or(Target::Missing, Target::File)
}

/// When the body of this request is read.
pub(super) fn body(place: &Place<'_>, head: &Head) -> Body {
    if matches!(head.framing, Framing::Length(n) if n > BODY_MAX) {
        return Body::Refused;
    }
    let path = normalise(&head.path).unwrap_or_default();
    match target(place, &path) {
        Target::Login | Target::Digest => Body::First(
            head.version == Version::V11
                && head
                    .header("expect")
                    .is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue")),
        ),
        _ => Body::After,
    }
}

/// Answers a request whose head was understood. `tried` is the name somebody gave who
/// tried to sign in.
pub(super) fn answer(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    let Some(path) = normalise(&head.path) else {
        return error(place, head, 400, &[]);
    };
    let reads = matches!(head.method.as_str(), "GET" | "HEAD");
    match target(place, &path) {
        Target::Login => dynamic(place, head, 200, &place.site.login(tried), true, None),
        Target::Basic => {
            let realm = format!("Basic realm=\"{}\"", place.site.basic_realm);
            error(place, head, 401, &[("WWW-Authenticate", realm)])
        }
        Target::Digest => {
            let micros = place.now.0.rem_euclid(1_000_000);
            let challenge = format!(
                "Digest realm=\"{}\",qop=\"auth\",nonce=\"{:08x}{micros:05x}\",opaque=\"{}\"",
                place.site.digest_realm,
                place.now.0.div_euclid(1_000_000),
                place.site.opaque
            );
            let page = place.site.denied();
            dynamic(place, head, 401, &page, false, Some(challenge))
        }
        Target::Redirect(always) if always || reads || head.method == "POST" => error(
            place,
            head,
            301,
            &[("Location", location(place, head, &path))],
        ),
        Target::File(file) if reads => static_file(place, head, file),
        Target::Dir if reads || head.method == "POST" => error(place, head, 403, &[]),
        Target::Missing => error(place, head, 404, &[]),
        Target::File(_) | Target::Dir | Target::Redirect(_) => error(place, head, 405, &[]),
    }
}

/// Answers a head that was not understood.
pub(super) fn refuse(place: &Place<'_>, bad: &Bad) -> Reply {
    let mut head = (*bad.seen).clone();
    if head.version == Version::V09 {
        head.version = Version::V10;
    }
    if bad.why == Why::FieldSize {
        return too_large_head(place, &head);
    }
    error(place, &head, bad.status, &[])
}

fn location(place: &Place<'_>, head: &Head, path: &[u8]) -> String {
    let host = head
        .host
        .clone()
        .unwrap_or_else(|| place.local.ip().to_string());
    let port = match place.local.port() {
        80 => String::new(),
        port => format!(":{port}"),
    };
    let query = head
        .path
        .iter()
        .position(|b| *b == b'?')
        .and_then(|at| head.path.get(at..))
        .unwrap_or_default();
    format!(
        "http://{host}{port}{}/{}",
        String::from_utf8_lossy(path),
        String::from_utf8_lossy(query)
    )
}

fn keeps(place: &Place<'_>, head: &Head) -> bool {
    if place.served.saturating_add(1) >= REQUESTS {
        return false;
    }
    let wish = head
        .text("connection")
        .unwrap_or_default()
        .to_ascii_lowercase();
    if wish.contains("close") {
        false
    } else {
        head.version == Version::V11
            || (head.version == Version::V10 && wish.contains("keep-alive"))
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        304 => "304 Not Modified",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        416 => "416 Requested Range Not Satisfiable",
        501 => "501 Not Implemented",
        505 => "505 HTTP Version Not Supported",
        _ => "500 Internal Server Error",
    }
}

/// Browsers that hide short error pages are sent a longer one.
fn padded(head: &Head) -> bool {
    let agent = head.text("user-agent").unwrap_or_default();
    let opera = agent.contains("Opera");
    (agent.contains("MSIE ") && !opera)
        || (!opera && !agent.contains("Gecko/") && agent.contains("Chrome/"))
}

fn too_large_head(place: &Place<'_>, head: &Head) -> Reply {
    let mut page = format!(
        "<html>\r\n<head><title>400 Request Header Or Cookie Too Large</title></head>\r\n<body>\r\n\
         <center><h1>400 Bad Request</h1></center>\r\n\
         <center>Request Header Or Cookie Too Large</center>\r\n\
         <hr><center>{}</center>\r\n</body>\r\n</html>\r\n",
        place.server
    );
    pad(head, &mut page);
    finish_error(place, head, 400, &page, &[])
}

fn pad(head: &Head, page: &mut String) {
    if padded(head) {
        let line = "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";
        page.push_str(&line.repeat(6));
    }
}

/// One of nginx's own pages.
pub(super) fn error(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    extra: &[(&str, String)],
) -> Reply {
    let title = match status {
        401 => "401 Authorization Required",
        other => phrase(other),
    };
    let mut page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n<hr><center>{}</center>\r\n</body>\r\n</html>\r\n",
        place.server
    );
    if status >= 400 {
        pad(head, &mut page);
    }
    finish_error(place, head, status, &page, extra)
}

fn finish_error(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    page: &str,
    extra: &[(&str, String)],
) -> Reply {
    let refused = matches!(status, 400 | 413 | 414 | 500 | 501 | 505)
        || matches!(head.method.as_str(), "TRACE" | "CONNECT");
    let keep = !refused && keeps(place, head);
    let packed = matches!(status, 403 | 404) && compresses(head);
    let mut lines = start(place, status);
    lines.add("Content-Type", "text/html");
    if !packed {
        lines.add("Content-Length", page.len());
    }
    for (name, value) in extra.iter().filter(|(name, _)| *name == "Location") {
        lines.add(name, value);
    }
    let bare = head.method == "HEAD";
    if packed && !bare {
        lines.add("Transfer-Encoding", "chunked");
    }
    lines.add("Connection", if keep { "keep-alive" } else { "close" });
    for (name, value) in extra.iter().filter(|(name, _)| *name != "Location") {
        lines.add(name, value);
    }
    if packed {
        lines.add("Content-Encoding", "gzip");
    }
    let body = match (bare, packed) {
        (true, _) => Vec::new(),
        (false, true) => chunked(&gzip(page.as_bytes(), WebServer::Nginx)),
        (false, false) => page.as_bytes().to_vec(),
    };
    done(head, status, lines, &body, !keep)
}

fn start(place: &Place<'_>, status: u16) -> Lines {
    let mut lines = Lines::new(phrase(status));
    lines.add("Server", place.server);
    lines.add("Date", date::print(place.now));
    lines
}

fn done(head: &Head, status: u16, lines: Lines, body: &[u8], close: bool) -> Reply {
    let bytes = if head.version == Version::V09 {
        body.to_vec()
    } else {
        lines.with(body)
    };
    Reply {
        status,
        bytes,
        close,
    }
}

fn compresses(head: &Head) -> bool {
    head.version == Version::V11 && head.accepts_gzip() && head.header("via").is_none()
}

/// A page of the PHP application behind nginx.
fn dynamic(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    page: &str,
    session: bool,
    challenge: Option<String>,
) -> Reply {
    let v11 = head.version == Version::V11;
    // Without a length, only chunks can keep the connection.
    let bare = head.method == "HEAD";
    let keep = (v11 || bare) && keeps(place, head);
    let packed = status == 200 && compresses(head);
    let mut lines = start(place, status);
    lines.add("Content-Type", "text/html; charset=UTF-8");
    if v11 && !bare {
        lines.add("Transfer-Encoding", "chunked");
    }
    lines.add("Connection", if keep { "keep-alive" } else { "close" });
    if session {
        if !has_session(head.text("cookie").as_deref()) {
            lines.add("Set-Cookie", format!("PHPSESSID={}; path=/", session_id()));
        }
        lines.add("Expires", "Thu, 19 Nov 1981 08:52:00 GMT");
        lines.add("Cache-Control", "no-store, no-cache, must-revalidate");
        lines.add("Pragma", "no-cache");
    }
    if let Some(challenge) = challenge {
        lines.add("WWW-Authenticate", challenge);
    }
    if packed {
        lines.add("Content-Encoding", "gzip");
    }
    let body = if packed {
        gzip(page.as_bytes(), WebServer::Nginx)
    } else {
        page.as_bytes().to_vec()
    };
    let body = match (bare, v11) {
        (true, _) => Vec::new(),
        (false, true) => chunked(&body),
        (false, false) => body,
    };
    done(head, status, lines, &body, !keep)
}

fn etag(file: &File) -> String {
    format!(
        "\"{:x}-{:x}\"",
        file.modified.0.div_euclid(1_000_000),
        file.body.len()
    )
}

/// Whether a list of entity tags names `tag`; `weak` ones only where they count.
fn matches_tag(list: &str, tag: &str, weak: bool) -> bool {
    list.trim() == "*"
        || list.split(',').any(|one| {
            let one = one.trim();
            let one = if weak {
                one.strip_prefix("W/").unwrap_or(one)
            } else {
                one
            };
            one == tag
        })
}

fn static_file(place: &Place<'_>, head: &Head, file: &File) -> Reply {
    let seconds = file.modified.0.div_euclid(1_000_000);
    let tag = etag(file);
    let since = head.text("if-unmodified-since");
    let late = since.is_some_and(|d| date::parse(&d).is_some_and(|d| d < seconds));
    let other = head
        .text("if-match")
        .is_some_and(|list| !matches_tag(&list, &tag, false));
    if late || other {
        // The real one says it keeps the connection and then does not.
        return Reply {
            close: true,
            ..error(place, head, 412, &[])
        };
    }
    let keep = keeps(place, head);
    let connection = if keep { "keep-alive" } else { "close" };
    let modified = date::print(file.modified);
    let since = head.text("if-modified-since");
    let tags = head.text("if-none-match");
    let same_date = since
        .as_deref()
        .is_none_or(|d| date::parse(d) == Some(seconds));
    let same_tag = tags
        .as_deref()
        .is_none_or(|list| matches_tag(list, &tag, true));
    if (since.is_some() || tags.is_some()) && same_date && same_tag {
        let mut lines = start(place, 304);
        lines.add("Last-Modified", modified);
        lines.add("Connection", connection);
        lines.add("ETag", tag);
        return done(head, 304, lines, b"", !keep);
    }
    let bare = head.method == "HEAD";
    if let Some(packed) = file.gzip.as_ref().filter(|_| compresses(head)) {
        let mut lines = start(place, 200);
        lines.add("Content-Type", file.mime);
        lines.add("Last-Modified", modified);
        if !bare {
            lines.add("Transfer-Encoding", "chunked");
        }
        lines.add("Connection", connection);
        lines.add("ETag", format!("W/{tag}"));
        lines.add("Content-Encoding", "gzip");
        let body = if bare { Vec::new() } else { chunked(packed) };
        return done(head, 200, lines, &body, !keep);
    }
    let size = u64::try_from(file.body.len()).unwrap_or(u64::MAX);
    let same = head.text("if-range").is_none_or(|v| {
        let v = v.trim();
        v == tag || date::parse(v) == Some(seconds)
    });
    let ranges = match head.text("range") {
        Some(value) if same && head.version != Version::V09 => range::nginx(&value, size),
        _ => Ranges::Whole,
    };
    let (status, mime, body, content_range) = match ranges {
        Ranges::Unsatisfiable => {
            return error(
                place,
                head,
                416,
                &[("Content-Range", format!("bytes */{size}"))],
            );
        }
        Ranges::Whole => (200, file.mime.to_owned(), file.body.clone(), None),
        Ranges::Parts(parts) => match parts.as_slice() {
            [(first, last)] => (
                206,
                file.mime.to_owned(),
                part(&file.body, *first, *last).to_vec(),
                Some(format!("bytes {first}-{last}/{size}")),
            ),
            parts => {
                let boundary = format!("{:020}", place.serial);
                let mut body = Vec::new();
                for (first, last) in parts {
                    let lead = format!(
                        "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n",
                        file.mime
                    );
                    body.extend_from_slice(lead.as_bytes());
                    body.extend_from_slice(part(&file.body, *first, *last));
                }
                body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                let mime = format!("multipart/byteranges; boundary={boundary}");
                (206, mime, body, None)
            }
        },
    };
    let mut lines = start(place, status);
    lines.add("Content-Type", mime);
    lines.add("Content-Length", body.len());
    lines.add("Last-Modified", modified);
    lines.add("Connection", connection);
    lines.add("ETag", tag);
    match (status, content_range) {
        (200, _) => lines.add("Accept-Ranges", "bytes"),
        (_, Some(range)) => lines.add("Content-Range", range),
        _ => {}
    }
    done(head, status, lines, if bare { b"" } else { &body }, !keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_before_they_are_looked_up() {
        let path = |raw: &str| normalise(raw.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(path("/a/../robots.txt"), Some("/robots.txt".into()));
        assert_eq!(path("//x///y"), Some("/x/y".into()));
        assert_eq!(path("/%2f"), Some("/".into()));
        assert_eq!(path("/a/.?q=/../.."), Some("/a/".into()));
        assert_eq!(path("/%2e%2e/etc/passwd"), None);
        assert_eq!(path("/.."), None);
        assert_eq!(path("/%zz"), None);
        assert_eq!(path("/a%00"), None);
        assert_eq!(path("/a..b/c"), Some("/a..b/c".into()));
    }
}
