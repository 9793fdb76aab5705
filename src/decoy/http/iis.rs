//! Answers as IIS 10 on http.sys gives them: a start page or a portal, custom error
//! pages for remote visitors, Windows authentication on two areas, Basic beside it on
//! one. Names are looked up without regard to case, as the file system does.

use crate::decoy::http::date;
use crate::decoy::http::iis_head::normalise;
use crate::decoy::http::iis_pages::{self, error_page, kernel_page, phrase};
use crate::decoy::http::range::{self, Ranges};
use crate::decoy::http::reply::{Body, Lines, Place, Reply, part, random_text};
use crate::decoy::http::request::{Bad, Framing, Head, Version, Why};
use crate::decoy::http::site::{File, escape};

/// `maxAllowedContentLength`.
const BODY_MAX: u64 = 30_000_000;
/// `maxUrl` and `maxQueryString` of request filtering.
const URL_MAX: usize = 4096;
const QUERY_MAX: usize = 2048;
/// Methods of the static file handler, in the order OPTIONS gives them.
const PUBLIC: &str = "OPTIONS, TRACE, GET, HEAD, POST";
/// Seconds between 1601 and 1970.
const EPOCH: i64 = 11_644_473_600;

enum Target<'a> {
    File(&'a File),
    Dir,
    Redirect,
    Login,
    /// Basic and Windows authentication.
    Basic,
    /// Windows authentication.
    Windows,
    Missing,
}

fn target<'a>(place: &Place<'a>, path: &[u8]) -> Target<'a> {
    let lower = path.to_ascii_lowercase();
    let slashed = [lower.as_slice(), b"/"].concat();
    let area = place.site.digest_path.as_bytes();
    if lower == b"/login" && place.site.app {
        return Target::Login;
    }
    if lower.starts_with(b"/admin/") {
        return Target::Basic;
    }
    if lower.starts_with(area) {
        return Target::Windows;
    }
    if lower == b"/" {
        return place.site.front().map_or(Target::Dir, Target::File);
    }
    if place.site.is_dir(&lower) || lower == b"/aspnet_client/" {
        return Target::Dir;
    }
    if place.site.is_dir(&slashed) || slashed == b"/aspnet_client/" {
        return Target::Redirect;
    }
    place
        .site
        .files
        .iter()
        .find(|f| f.path.as_bytes().eq_ignore_ascii_case(&lower))
        .map_or(Target::Missing, Target::File)
}

/// When the body of this request is read.
pub(super) fn body(place: &Place<'_>, head: &Head) -> Body {
    if matches!(head.framing, Framing::Length(n) if n > BODY_MAX) {
        return Body::Refused;
    }
    let expects = head
        .header("expect")
        .is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
    let path = normalise(&head.path).unwrap_or_default();
    match target(place, &path) {
        Target::Login => Body::First(expects && head.version == Version::V11),
        _ => Body::After,
    }
}

/// Answers a request whose head was understood.
pub(super) fn answer(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    if head.method == "OPTIONS" && head.path == b"*" {
        return options(place, head);
    }
    let Some(path) = normalise(&head.path) else {
        return refused(place, head, 400, Why::Url);
    };
    let query = head.path.iter().position(|b| *b == b'?');
    let cut = query.unwrap_or(head.path.len());
    let too_long = cut > URL_MAX || head.path.len().saturating_sub(cut) > QUERY_MAX;
    // Still encoded after decoding once is refused, and so is what request filtering hides.
    if too_long || path.contains(&b'%') || is_hidden(&path) {
        return page(place, head, 404, &[]);
    }
    match target(place, &path) {
        Target::Basic => denied(place, head, true),
        Target::Windows => denied(place, head, false),
        _ if head.method == "TRACE" => page(place, head, 501, &[]),
        Target::Missing => page(place, head, 404, &[]),
        _ if head.method == "OPTIONS" => options(place, head),
        Target::Login => login(place, head, tried),
        Target::Redirect => moved(place, head, &path),
        Target::File(file) => match head.method.as_str() {
            "GET" | "HEAD" => static_file(place, head, file),
            _ => not_allowed(place, head),
        },
        Target::Dir => match head.method.as_str() {
            "GET" | "HEAD" => page(place, head, 403, &[]),
            _ => not_allowed(place, head),
        },
    }
}

/// Segments and endings request filtering hides.
fn is_hidden(path: &[u8]) -> bool {
    let lower = String::from_utf8_lossy(path).to_ascii_lowercase();
    let names = [
        "web.config",
        "bin",
        "app_code",
        "app_data",
        "app_globalresources",
    ];
    let ends = [
        ".config", ".asax", ".ascx", ".cs", ".csproj", ".vb", ".mdb", ".java",
    ];
    lower.split('/').any(|segment| names.contains(&segment))
        || ends.iter().any(|end| lower.ends_with(end))
}

/// Answers a head that was not understood: http.sys does it by itself.
pub(super) fn refuse(place: &Place<'_>, bad: &Bad) -> Reply {
    let text = iis_pages::refusal(bad);
    kernel(place, &bad.seen, bad.status, &text, None, true)
}

/// Answers a body that broke its own framing.
pub(super) fn broken_body(place: &Place<'_>, head: &Head) -> Reply {
    refused(place, head, 400, Why::Length)
}

fn refused(place: &Place<'_>, head: &Head, status: u16, why: Why) -> Reply {
    kernel(place, head, status, &kernel_page(status, why), None, true)
}

/// An answer of http.sys.
fn kernel(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    text: &str,
    challenge: Option<&str>,
    close: bool,
) -> Reply {
    let mut lines = Lines::new(&format!("{status} {}", phrase(status)));
    lines.add("Content-Type", "text/html; charset=us-ascii");
    lines.add("Server", place.kernel.unwrap_or("Microsoft-HTTPAPI/2.0"));
    if let Some(challenge) = challenge {
        lines.add("WWW-Authenticate", challenge);
    }
    lines.add("Date", date::print(place.now));
    if close {
        lines.add("Connection", "close");
    }
    lines.add("Content-Length", text.len());
    let body = if head.method == "HEAD" { "" } else { text };
    Reply {
        status,
        bytes: lines.with(body.as_bytes()),
        close,
    }
}

fn keeps(head: &Head) -> bool {
    match head.version {
        Version::V11 => !head.lists("connection", "close"),
        _ => head.lists("connection", "keep-alive"),
    }
}

/// Ends an answer: what IIS adds to every one, in its order.
fn done(place: &Place<'_>, head: &Head, status: u16, mut lines: Lines, body: &[u8]) -> Reply {
    finish(place, head, status, &mut lines, &[], body)
}

fn finish(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    lines: &mut Lines,
    late: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let keep = keeps(head);
    lines.add("Server", place.server);
    for (name, value) in late {
        lines.add(name, value);
    }
    lines.add("X-Powered-By", "ASP.NET");
    lines.add("Date", date::print(place.now));
    if !keep {
        lines.add("Connection", "close");
    } else if head.version == Version::V10 {
        lines.add("Connection", "keep-alive");
    }
    if status != 304 {
        lines.add("Content-Length", body.len());
    }
    let bare = head.method == "HEAD" || status == 304;
    let lines = Lines(std::mem::take(&mut lines.0));
    Reply {
        status,
        bytes: lines.with(if bare { b"" } else { body }),
        close: !keep,
    }
}

fn start(status: u16) -> Lines {
    Lines::new(&format!("{status} {}", phrase(status)))
}

/// One of the custom error pages.
pub(super) fn page(place: &Place<'_>, head: &Head, status: u16, extra: &[(&str, &str)]) -> Reply {
    let mut lines = start(status);
    for (name, value) in extra {
        lines.add(name, value);
    }
    lines.add("Content-Type", "text/html");
    done(place, head, status, lines, error_page(status).as_bytes())
}

fn not_allowed(place: &Place<'_>, head: &Head) -> Reply {
    page(place, head, 405, &[("Allow", "GET, HEAD, OPTIONS, TRACE")])
}

fn denied(place: &Place<'_>, head: &Head, basic: bool) -> Reply {
    if let Some(challenge) = place.challenge {
        let text = kernel_page(401, Why::Plain);
        return kernel(place, head, 401, &text, Some(challenge), false);
    }
    let realm = format!("Basic realm=\"{}\"", place.fqdn);
    let mut late = vec![
        ("WWW-Authenticate", "Negotiate"),
        ("WWW-Authenticate", "NTLM"),
    ];
    if basic {
        late.push(("WWW-Authenticate", realm.as_str()));
    }
    let mut lines = start(401);
    lines.add("Content-Type", "text/html");
    let text = error_page(401);
    finish(place, head, 401, &mut lines, &late, text.as_bytes())
}

fn options(place: &Place<'_>, head: &Head) -> Reply {
    let mut lines = start(200);
    lines.add("Allow", PUBLIC);
    finish(place, head, 200, &mut lines, &[("Public", PUBLIC)], b"")
}

fn moved(place: &Place<'_>, head: &Head, path: &[u8]) -> Reply {
    let host = head
        .text("host")
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| place.local.ip().to_string());
    let query = head.path.iter().position(|b| *b == b'?');
    let query = query.and_then(|at| head.path.get(at..)).unwrap_or_default();
    let location = format!(
        "http://{host}{}/{}",
        String::from_utf8_lossy(path),
        String::from_utf8_lossy(query)
    );
    // What came decoded must not end the field it goes into.
    let location: String = location.chars().filter(|c| !c.is_control()).collect();
    let text = format!(
        "<head><title>Document Moved</title></head>\n<body><h1>Object Moved</h1>This document \
         may be found <a HREF=\"{}\">here</a></body>",
        escape(&location)
    );
    let mut lines = start(301);
    lines.add("Content-Type", "text/html; charset=UTF-8");
    lines.add("Location", &location);
    done(place, head, 301, lines, text.as_bytes())
}

/// The application's page.
fn login(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    let mut lines = start(200);
    lines.add("Cache-Control", "private");
    lines.add("Content-Type", "text/html; charset=utf-8");
    let cookies = head.text("cookie").unwrap_or_default();
    let session = format!(
        "ASP.NET_SessionId={}; path=/; HttpOnly; SameSite=Lax",
        random_text(b"abcdefghijklmnopqrstuvwxyz012345", 24)
    );
    let mut late = vec![("X-AspNet-Version", "4.0.30319")];
    if !cookies.contains("ASP.NET_SessionId=") {
        late.insert(0, ("Set-Cookie", session.as_str()));
    }
    let text = place.site.login(tried);
    finish(place, head, 200, &mut lines, &late, text.as_bytes())
}

/// Bytes of the file time, lowest first, each without leading zero, and the change
/// number of the metabase.
fn etag(file: &File) -> String {
    let ticks = file
        .modified
        .0
        .saturating_add(EPOCH.saturating_mul(1_000_000))
        .saturating_mul(10);
    let bytes = ticks.to_le_bytes();
    let hex: String = bytes.iter().map(|b| format!("{b:x}")).collect();
    format!("\"{hex}:0\"")
}

fn names(list: &str, tag: &str) -> bool {
    list.trim() == "*"
        || list
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/") == tag)
}

fn static_file(place: &Place<'_>, head: &Head, file: &File) -> Reply {
    let seconds = file.modified.0.div_euclid(1_000_000);
    let tag = etag(file);
    let when = |name: &str| head.text(name).and_then(|v| date::parse(&v));
    let other = head.text("if-match").is_some_and(|l| !names(&l, &tag));
    if other || when("if-unmodified-since").is_some_and(|d| d < seconds) {
        return page(place, head, 412, &[]);
    }
    let describe = |lines: &mut Lines| {
        lines.add("Last-Modified", date::print(file.modified));
        lines.add("Accept-Ranges", "bytes");
        lines.add("ETag", &tag);
    };
    let unchanged = match head.text("if-none-match") {
        Some(list) => names(&list, &tag),
        None => when("if-modified-since").is_some_and(|d| d >= seconds),
    };
    if unchanged {
        let mut lines = start(304);
        describe(&mut lines);
        return done(place, head, 304, lines, b"");
    }
    let size = u64::try_from(file.body.len()).unwrap_or(u64::MAX);
    let same = head
        .text("if-range")
        .is_none_or(|v| v.trim() == tag || date::parse(&v) == Some(seconds));
    let ranges = match head.text("range") {
        Some(value) if same => range::apache(&value, size),
        _ => Ranges::Whole,
    };
    let mut lines;
    let (status, body) = match ranges {
        Ranges::Unsatisfiable => {
            lines = start(416);
            lines.add("Content-Type", file.mime);
            lines.add("Content-Range", format!("bytes */{size}"));
            (416, Vec::new())
        }
        Ranges::Whole => {
            lines = start(200);
            lines.add("Content-Type", file.mime);
            (200, file.body.clone())
        }
        Ranges::Parts(parts) => {
            lines = start(206);
            match parts.as_slice() {
                [(first, last)] => {
                    lines.add("Content-Type", file.mime);
                    lines.add("Content-Range", format!("bytes {first}-{last}/{size}"));
                    (206, part(&file.body, *first, *last).to_vec())
                }
                parts => {
                    let boundary = "<q1w2e3r4t5y6u7i8o9p0zaxscdvfbgnhmjklkl>";
                    lines.add(
                        "Content-Type",
                        format!("multipart/byteranges; boundary={boundary}"),
                    );
                    let mut body = Vec::new();
                    for (first, last) in parts {
                        body.extend_from_slice(
                            format!(
                                "--{boundary}\r\nContent-Type: {}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n",
                                file.mime
                            )
                            .as_bytes(),
                        );
                        body.extend_from_slice(part(&file.body, *first, *last));
                        body.extend_from_slice(b"\r\n");
                    }
                    body.extend_from_slice(format!("--{boundary}--\r\n\r\n").as_bytes());
                    (206, body)
                }
            }
        }
    };
    describe(&mut lines);
    done(place, head, status, lines, &body)
}
