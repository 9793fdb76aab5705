//! Answers as Apache 2.4 with Debian's configuration gives them, with directory
//! listings off and one PHP page behind FPM. Held against the real server by
//! `tests/clients/http.rs`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::decoy::http::apache_file::static_file;
use crate::decoy::http::date;
use crate::decoy::http::reply::{
    Body, Lines, Place, Reply, chunked, has_session, random_text, session_id,
};
use crate::decoy::http::request::{Bad, Framing, Head, Version, Why, hex_digit};
use crate::decoy::http::site::{File, escape, gzip};
use crate::persona::WebServer;

/// `MaxKeepAliveRequests`.
const REQUESTS: u32 = 100;
/// `KeepAliveTimeout`, seconds.
pub(super) const KEEP_ALIVE: u64 = 5;
/// Longest name the file system takes.
const NAME_MAX: usize = 255;

/// Orders in which one running server lists the same four methods: its hash table is
/// seeded at every start.
pub(super) const ALLOW: [&str; 4] = [
    "GET,POST,OPTIONS,HEAD",
    "POST,OPTIONS,HEAD,GET",
    "OPTIONS,HEAD,GET,POST",
    "HEAD,GET,POST,OPTIONS",
];

/// Methods Apache knows by name but its file handler does not serve.
const KNOWN: &[&str] = &[
    "PUT",
    "DELETE",
    "CONNECT",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "VERSION-CONTROL",
    "CHECKOUT",
    "UNCHECKOUT",
    "CHECKIN",
    "UPDATE",
    "LABEL",
    "REPORT",
    "MKWORKSPACE",
    "MKACTIVITY",
    "BASELINE-CONTROL",
    "MERGE",
];

/// What a path leads to.
enum Target<'a> {
    File(&'a File),
    Dir,
    Redirect,
    Login,
    Basic,
    Digest,
    Forbidden,
    NoScript,
    Server,
    Missing,
}

/// The path a target means, or the status of its refusal.
pub(super) fn normalise(raw: &[u8]) -> Result<Vec<u8>, u16> {
    let raw = raw.split(|b| *b == b'?').next().unwrap_or_default();
    let mut hidden = false;
    let mut out: Vec<u8> = Vec::new();
    let mut segments = raw.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let mut name = Vec::with_capacity(segment.len());
        let mut bytes = segment.iter().copied();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                name.push(byte);
                continue;
            }
            let high = bytes.next().and_then(hex_digit).ok_or(400u16)?;
            let low = bytes.next().and_then(hex_digit).ok_or(400u16)?;
            let decoded = high.wrapping_mul(16).wrapping_add(low);
            hidden |= decoded == 0 || decoded == b'/';
            name.push(decoded);
        }
        let last = segments.peek().is_none();
        match name.as_slice() {
            b".." => {
                let up = out.iter().rposition(|b| *b == b'/').ok_or(400u16)?;
                out.truncate(up);
                if last {
                    out.push(b'/');
                }
            }
            b"" | b"." => {
                if last {
                    out.push(b'/');
                }
            }
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if hidden {
        return Err(404);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(out)
}

fn target<'a>(place: &Place<'a>, path: &[u8]) -> Target<'a> {
    let digest = place.site.digest_path.as_bytes();
    match path {
        b"*" => return Target::Server,
        b"/login" if place.site.app => return Target::Login,
        b"/icons/" => return Target::Dir,
        b"/" => {
            return place
                .site
                .file(b"/index.html")
                .map_or(Target::Missing, Target::File);
        }
        _ => {}
    }
    if path.starts_with(b"/admin/") {
        return Target::Basic;
    }
    if path.starts_with(digest) {
        return Target::Digest;
    }
    // Only Debian's configuration has the status page on.
    let status = path == b"/server-status" || path.starts_with(b"/server-status/");
    if status && place.signed {
        return Target::Forbidden;
    }
    if place.site.is_dir(path) {
        return Target::Dir;
    }
    if place.site.is_dir(&[path, b"/"].concat()) {
        return Target::Redirect;
    }
    if let Some(file) = place.site.file(path) {
        return Target::File(file);
    }
    // The first name that is no directory is the file Apache looks for.
    let below = path.strip_prefix(b"/assets").unwrap_or(path);
    let name = below.split(|b| *b == b'/').nth(1).unwrap_or_default();
    let script = [b".php".as_slice(), b".phar", b".phtml"]
        .iter()
        .any(|end| name.len() > end.len() && name.ends_with(end));
    if name.len() > NAME_MAX || name.starts_with(b".ht") {
        Target::Forbidden
    } else if script {
        Target::NoScript
    } else {
        Target::Missing
    }
}

/// When the body of this request is read.
pub(super) fn body(place: &Place<'_>, head: &Head) -> Body {
    let login = normalise(&head.path).is_ok_and(|p| matches!(target(place, &p), Target::Login));
    Body::First(head.framing != Framing::None && expects(head) && !login)
}

fn expects(head: &Head) -> bool {
    head.version == Version::V11
        && head
            .header("expect")
            .is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"))
}

/// Answers a request whose head was understood.
pub(super) fn answer(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    if head.version == Version::V11
        && let Some(expect) = head.text("expect").filter(|v| !v.is_empty())
        && !expects(head)
    {
        return expectation_failed(place, head, &expect);
    }
    let path = if head.path == b"*" {
        b"*".to_vec()
    } else {
        match normalise(&head.path) {
            Ok(path) => path,
            Err(status) => return error(place, head, status, &[]),
        }
    };
    // Refused before anything is looked up.
    if head.method == "TRACE" {
        return error(place, head, 405, &[("Allow", String::new())]);
    }
    let target = target(place, &path);
    match target {
        Target::Server => return plain_options(place, head, None),
        Target::Basic => {
            let realm = format!("Basic realm=\"{}\"", place.site.basic_realm);
            return error(place, head, 401, &[("WWW-Authenticate", realm)]);
        }
        Target::Digest => {
            let challenge = format!(
                "Digest realm=\"{}\", nonce=\"{}\", algorithm=MD5, qop=\"auth\"",
                place.site.digest_realm,
                nonce(place)
            );
            return error(place, head, 401, &[("WWW-Authenticate", challenge)]);
        }
        Target::Redirect => {
            return error(
                place,
                head,
                301,
                &[("Location", location(place, head, &path))],
            );
        }
        Target::Forbidden => return error(place, head, 403, &[]),
        Target::NoScript => return no_script(place, head),
        Target::Login => return login(place, head, tried),
        _ => {}
    }
    match head.method.as_str() {
        "GET" | "HEAD" | "POST" => match target {
            Target::File(file) => static_file(place, head, file),
            Target::Dir if head.method != "POST" => error(place, head, 403, &[]),
            _ => error(place, head, 404, &[]),
        },
        "OPTIONS" => plain_options(
            place,
            head,
            Some(match target {
                Target::File(file) => file.mime,
                Target::Dir => "httpd/unix-directory",
                _ => "",
            }),
        ),
        method if KNOWN.contains(&method) => {
            error(place, head, 405, &[("Allow", place.allow.to_owned())])
        }
        _ => error(place, head, 501, &[("Allow", place.allow.to_owned())]),
    }
}

/// Answers a head that was not understood.
pub(super) fn refuse(place: &Place<'_>, bad: &Bad) -> Reply {
    let mut head = (*bad.seen).clone();
    if !bad.host_known {
        head.host = None;
        head.port = None;
    }
    if head.version == Version::V09 {
        head.version = Version::V10;
    }
    let detail = match (bad.status, bad.why) {
        (400, Why::FieldSize) => "Size of a request header field exceeds server limit.",
        (400, Why::FieldCount) => {
            "The number of request header fields exceeds this server's limit."
        }
        _ => "",
    };
    page(place, &head, bad.status, &[], detail)
}

/// Answers a body that broke its own framing.
pub(super) fn broken_body(place: &Place<'_>, head: &Head) -> Reply {
    let (title, text) = wording(place, head, 400, "");
    let mut lines = start(place, 400);
    lines.add("Connection", "close");
    lines.add("Content-Type", "text/html; charset=iso-8859-1");
    let body = document(place, head, 400, title, &text);
    done(head, 400, lines, body.as_bytes(), true)
}

/// Half a nonce's own format: the time, then a hash nobody can check.
fn nonce(place: &Place<'_>) -> String {
    let time = STANDARD.encode(place.now.0.to_le_bytes());
    format!("{time}{}", random_text(b"0123456789abcdef", 40))
}

/// Name and port Apache believes to be asked for.
fn name(place: &Place<'_>, head: &Head) -> (String, u16) {
    match &head.host {
        Some(host) => (
            host.clone(),
            head.port.unwrap_or_else(|| place.local.port()),
        ),
        None => (place.fqdn.to_owned(), place.local.port()),
    }
}

fn location(place: &Place<'_>, head: &Head, path: &[u8]) -> String {
    let (host, port) = name(place, head);
    let port = match port {
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

/// How the connection goes on, and what is said about it.
pub(super) struct Keep {
    /// Whether it ends.
    pub(super) close: bool,
    /// The fields that say so.
    pub(super) line: String,
}

/// `sized`: whether the end of the body can be seen without closing.
pub(super) fn keep(place: &Place<'_>, head: &Head, status: u16, sized: bool) -> Keep {
    let drops = matches!(status, 400 | 408 | 411 | 413 | 414 | 500 | 501 | 503);
    let ambiguous = head.header("transfer-encoding").is_some()
        && (head.header("content-length").is_some() || head.version == Version::V10);
    let asks = head.lists("connection", "keep-alive");
    let fits = match head.version {
        Version::V09 => false,
        Version::V10 => asks && sized,
        Version::V11 => true,
    };
    let left = REQUESTS.saturating_sub(place.served);
    if drops || ambiguous || !fits || left == 0 || head.lists("connection", "close") {
        return Keep {
            close: true,
            line: "Connection: close\r\n".to_owned(),
        };
    }
    Keep {
        close: false,
        line: if asks {
            format!("Keep-Alive: timeout={KEEP_ALIVE}, max={left}\r\nConnection: Keep-Alive\r\n")
        } else {
            String::new()
        },
    }
}

pub(super) fn start(place: &Place<'_>, status: u16) -> Lines {
    let mut lines = Lines::new(&format!("{status} {}", phrase(status)));
    lines.add("Date", date::print(place.now));
    lines.add("Server", place.server);
    lines
}

pub(super) fn done(head: &Head, status: u16, lines: Lines, body: &[u8], close: bool) -> Reply {
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

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        416 => "Requested Range Not Satisfiable",
        417 => "Expectation Failed",
        501 => "Not Implemented",
        _ => "Internal Server Error",
    }
}

/// One of Apache's own pages.
pub(super) fn error(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    extra: &[(&str, String)],
) -> Reply {
    let detail = match (status, extra.first()) {
        (301, Some((_, location))) => escape(location),
        _ => String::new(),
    };
    page(place, head, status, extra, &detail)
}

fn page(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    extra: &[(&str, String)],
    detail: &str,
) -> Reply {
    let (title, text) = wording(place, head, status, detail);
    let body = document(place, head, status, title, &text);
    let keep = keep(place, head, status, true);
    let mut lines = start(place, status);
    for (name, value) in extra {
        lines.add(name, value);
    }
    let bare = head.method == "HEAD";
    if !bare {
        lines.add("Content-Length", body.len());
    }
    lines.0.push_str(&keep.line);
    lines.add("Content-Type", "text/html; charset=iso-8859-1");
    let body = if bare { "" } else { body.as_str() };
    done(head, status, lines, body.as_bytes(), keep.close)
}

pub(super) fn document(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    title: &str,
    text: &str,
) -> String {
    let (host, port) = name(place, head);
    let signature = if place.signed {
        format!(
            "<hr>\n<address>{} Server at {} Port {port}</address>\n",
            place.server,
            escape(&host)
        )
    } else {
        String::new()
    };
    format!(
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\n\
         <html><head>\n<title>{status} {title}</title>\n</head><body>\n<h1>{title}</h1>\n{text}{signature}\
         </body></html>\n"
    )
}

pub(super) fn wording(
    _place: &Place<'_>,
    head: &Head,
    status: u16,
    detail: &str,
) -> (&'static str, String) {
    let method = escape(&head.method);
    let text = match status {
        301 => format!("<p>The document has moved <a href=\"{detail}\">here</a>.</p>\n"),
        400 => format!(
            "<p>Your browser sent a request that this server could not understand.<br />\n{detail}</p>\n"
        ),
        401 => "<p>This server could not verify that you\nare authorized to access the document\n\
                requested.  Either you supplied the wrong\ncredentials (e.g., bad password), or your\n\
                browser doesn't understand how to supply\nthe credentials required.</p>\n"
            .to_owned(),
        403 => "<p>You don't have permission to access this resource.</p>\n".to_owned(),
        404 => "<p>The requested URL was not found on this server.</p>\n".to_owned(),
        405 => format!("<p>The requested method {method} is not allowed for this URL.</p>\n"),
        408 => "<p>Server timeout waiting for the HTTP request from the client.</p>\n".to_owned(),
        414 => "<p>The requested URL's length exceeds the capacity\nlimit for this server.<br />\n</p>\n"
            .to_owned(),
        416 => "<p>None of the range-specifier values in the Range\nrequest-header field overlap the \
                current extent\nof the selected resource.</p>\n"
            .to_owned(),
        417 => format!(
            "<p>The expectation given in the Expect request-header\nfield could not be met by this \
             server.\nThe client sent<pre>\n    Expect: {detail}\n</pre>\n</p><p>Only the \
             100-continue expectation is supported.</p>\n"
        ),
        _ => format!("<p>{method} not supported for current URL.<br />\n</p>\n"),
    };
    (phrase(status), text)
}

/// The one page that closes without saying so.
fn expectation_failed(place: &Place<'_>, head: &Head, expect: &str) -> Reply {
    let (title, text) = wording(place, head, 417, &escape(expect));
    let body = document(place, head, 417, title, &text);
    let mut lines = start(place, 417);
    lines.add("Content-Length", body.len());
    lines.add("Content-Type", "text/html; charset=iso-8859-1");
    done(head, 417, lines, body.as_bytes(), true)
}

/// `OPTIONS`; `mime` is `None` for the server as a whole, empty for what has no type.
fn plain_options(place: &Place<'_>, head: &Head, mime: Option<&str>) -> Reply {
    let keep = keep(place, head, 200, true);
    let mut lines = start(place, 200);
    if mime.is_some() {
        lines.add("Allow", place.allow);
    }
    lines.add("Content-Length", 0);
    lines.0.push_str(&keep.line);
    if let Some(mime) = mime.filter(|m| !m.is_empty()) {
        lines.add("Content-Type", mime);
    }
    done(head, 200, lines, b"", keep.close)
}

/// Sends a body of unknown length: chunks, or until the end of the connection.
pub(super) fn unsized_body(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    mut lines: Lines,
    mime: &str,
    body: &[u8],
) -> Reply {
    let bare = head.method == "HEAD";
    let v11 = head.version == Version::V11;
    let mut keep = keep(place, head, status, bare);
    // A client still waiting for "100 Continue" would be out of step.
    if expects(head) {
        keep = Keep {
            close: true,
            line: "Connection: close\r\n".to_owned(),
        };
    }
    let chunks = v11 && !bare && (!keep.close || head.lists("connection", "close"));
    lines.0.push_str(&keep.line);
    if chunks {
        lines.add("Transfer-Encoding", "chunked");
    }
    lines.add("Content-Type", mime);
    let body = match (bare, chunks) {
        (true, _) => Vec::new(),
        (false, true) => chunked(body),
        (false, false) => body.to_vec(),
    };
    done(head, status, lines, &body, keep.close)
}

/// What FPM says about a script that is not there.
fn no_script(place: &Place<'_>, head: &Head) -> Reply {
    let lines = start(place, 404);
    let mime = "text/html; charset=UTF-8";
    unsized_body(place, head, 404, lines, mime, b"File not found.\n")
}

/// The application's page.
fn login(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    let mime = "text/html; charset=UTF-8";
    let page = place.site.login(tried);
    let fresh = matches!(head.method.as_str(), "GET" | "HEAD")
        && head.text("if-none-match").is_some_and(|v| v.trim() == "*");
    let status = if fresh { 304 } else { 200 };
    let mut lines = start(place, status);
    lines.add("Expires", "Thu, 19 Nov 1981 08:52:00 GMT");
    lines.add("Cache-Control", "no-store, no-cache, must-revalidate");
    lines.add("Pragma", "no-cache");
    if !has_session(head.text("cookie").as_deref()) {
        lines.add("Set-Cookie", format!("PHPSESSID={}; path=/", session_id()));
    }
    if fresh {
        let keep = keep(place, head, 304, true);
        lines.0.push_str(&keep.line);
        return done(head, 304, lines, b"", keep.close);
    }
    if head.method == "HEAD" {
        return unsized_body(place, head, 200, lines, mime, b"");
    }
    lines.add("Vary", "Accept-Encoding");
    if !head.accepts_gzip() {
        return unsized_body(place, head, 200, lines, mime, page.as_bytes());
    }
    let packed = gzip(page.as_bytes(), WebServer::Apache);
    let keep = keep(place, head, 200, true);
    lines.add("Content-Encoding", "gzip");
    lines.add("Content-Length", packed.len());
    lines.0.push_str(&keep.line);
    lines.add("Content-Type", mime);
    done(head, 200, lines, &packed, keep.close)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_before_they_are_looked_up() {
        let path = |raw: &str| normalise(raw.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(path("/a/../robots.txt"), Ok("/robots.txt".into()));
        assert_eq!(path("//x///y"), Ok("/x/y".into()));
        assert_eq!(path("/a/.?q"), Ok("/a/".into()));
        assert_eq!(path("/"), Ok("/".into()));
        assert_eq!(path("/a%2fb"), Err(404));
        assert_eq!(path("/a%00"), Err(404));
        assert_eq!(path("/%2e%2e/etc/passwd"), Err(400));
        assert_eq!(path("/.."), Err(400));
        assert_eq!(path("/%zz"), Err(400));
    }
}
