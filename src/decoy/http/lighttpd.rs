//! Answers as lighttpd 1.4 gives them, as Debian builds it and devices carry it: static
//! pages of a device, a CGI that signs in, Basic and Digest areas. Held against the real
//! server by `tests/clients/http.rs`.

use crate::decoy::http::date;
use crate::decoy::http::range::{self, Ranges};
use crate::decoy::http::reply::{Body, Lines, Place, Reply, part, random_text};
use crate::decoy::http::request::{Bad, Framing, Head, Version, hex_digit};
use crate::decoy::http::site::File;

/// Ranges nearer than this are sent as one.
const NEAR: u64 = 80;

enum Target<'a> {
    File(&'a File),
    Dir,
    Redirect,
    Login,
    Basic,
    Digest,
    Missing,
}

/// The path a target means: decoded, dots resolved, slashes merged, query cut off.
/// `None` when lighttpd refuses it.
pub(super) fn normalise(raw: &[u8]) -> Option<Vec<u8>> {
    let raw = raw.split(|b| matches!(b, b'?' | b'#')).next()?;
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0usize;
    while let Some(byte) = raw.get(at).copied() {
        at = at.saturating_add(1);
        let pair = (byte == b'%').then(|| {
            let high = raw.get(at).copied().and_then(hex_digit)?;
            let low = raw.get(at.saturating_add(1)).copied().and_then(hex_digit)?;
            Some(high.wrapping_mul(16).wrapping_add(low))
        });
        let byte = match pair.flatten() {
            Some(byte) => {
                at = at.saturating_add(2);
                byte
            }
            None => byte,
        };
        if byte < 0x20 || byte == 0x7f || byte == 0xff {
            return None;
        }
        decoded.push(byte);
    }
    let mut out = vec![b'/'];
    let mut segments = decoded.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let above = out.strip_suffix(b"/").unwrap_or_default();
                let up = above.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(up.saturating_add(1));
            }
            name => {
                out.extend_from_slice(name);
                if !last {
                    out.push(b'/');
                }
            }
        }
    }
    Some(out)
}

fn target<'a>(place: &Place<'a>, path: &[u8]) -> Target<'a> {
    let slashed = [path, b"/"].concat();
    if path == b"/login" || path.starts_with(b"/login/") {
        return Target::Login;
    }
    if path.starts_with(b"/admin/") {
        return Target::Basic;
    }
    if path.starts_with(place.site.digest_path.as_bytes()) {
        return Target::Digest;
    }
    if path == b"/" {
        return place.site.front().map_or(Target::Dir, Target::File);
    }
    if place.site.is_dir(path) {
        return Target::Dir;
    }
    if place.site.is_dir(&slashed) {
        return Target::Redirect;
    }
    // What follows a file's name is path info, which static files ignore.
    place
        .site
        .files
        .iter()
        .find(|f| {
            path.strip_prefix(f.path.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
        .map_or(Target::Missing, Target::File)
}

/// When the body of this request is read.
pub(super) fn body(place: &Place<'_>, head: &Head) -> Body {
    let path = normalise(&head.path).unwrap_or_default();
    match target(place, &path) {
        Target::Login => Body::First(
            head.version == Version::V11
                && head.framing != Framing::None
                && head
                    .header("expect")
                    .is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue")),
        ),
        _ => Body::After,
    }
}

/// Answers a request whose head was understood.
pub(super) fn answer(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    // A body nobody reads ends the connection.
    let close = head.framing != Framing::None;
    if head.path == b"*" {
        return options(place, head, close);
    }
    let Some(path) = normalise(&head.path) else {
        return error(place, head, 400, &[], true);
    };
    let denied = path.ends_with(b"~") || path.ends_with(b".inc");
    match target(place, &path) {
        Target::Login => login(place, head, tried),
        Target::Basic => basic(place, head, close),
        Target::Digest => digest(place, head, close),
        _ if denied => error(place, head, 403, &[], close),
        Target::Redirect => moved(place, head, &path, close),
        Target::Missing => error(place, head, 404, &[], close),
        Target::Dir | Target::File(_) if head.method == "OPTIONS" => options(place, head, close),
        Target::Dir if is_plain(head) => error(place, head, 403, &[], close),
        Target::File(file) if is_plain(head) => static_file(place, head, file, close),
        Target::Dir | Target::File(_) => error(place, head, 501, &[], close),
    }
}

fn is_plain(head: &Head) -> bool {
    matches!(head.method.as_str(), "GET" | "HEAD" | "POST" | "QUERY")
}

/// Answers a head that was not understood.
pub(super) fn refuse(place: &Place<'_>, bad: &Bad) -> Reply {
    error(place, &bad.seen, bad.status, &[], true)
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        304 => "304 Not Modified",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        411 => "411 Length Required",
        413 => "413 Payload Too Large",
        416 => "416 Range Not Satisfiable",
        431 => "431 Request Header Fields Too Large",
        501 => "501 Not Implemented",
        505 => "505 HTTP Version Not Supported",
        _ => "400 Bad Request",
    }
}

/// Whether the version writes `404 - Not Found` on its pages.
fn is_old(place: &Place<'_>) -> bool {
    let minor = place.server.rsplit('.').next().unwrap_or_default();
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    place.server.starts_with("lighttpd/1.4.") && digits.parse::<u32>().is_ok_and(|n| n < 50)
}

/// One of lighttpd's own pages.
pub(super) fn error(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    extra: &[(&str, String)],
    close: bool,
) -> Reply {
    let title = if is_old(place) {
        phrase(status).replacen(' ', " - ", 1)
    } else {
        phrase(status).to_owned()
    };
    let page = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n         \
         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n  \
         <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    );
    let mut fields = String::new();
    for (name, value) in extra {
        fields.push_str(&format!("{name}: {value}\r\n"));
    }
    fields.push_str(&format!(
        "Content-Type: text/html\r\nContent-Length: {}\r\n",
        page.len()
    ));
    done(place, head, status, &fields, page.as_bytes(), close)
}

/// Status line, `fields`, and what ends every head.
fn done(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    fields: &str,
    body: &[u8],
    close: bool,
) -> Reply {
    let v11 = head.version == Version::V11;
    let keep = !close
        && if v11 {
            !head.lists("connection", "close")
        } else {
            head.lists("connection", "keep-alive")
        };
    let version = if v11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let mut lines = Lines(format!("{version} {}\r\n{fields}", phrase(status)));
    match (keep, v11) {
        (false, _) => lines.add("Connection", "close"),
        (true, false) => lines.add("Connection", "keep-alive"),
        (true, true) => {}
    }
    lines.add("Date", date::print(place.now));
    lines.add("Server", place.server);
    let bare = head.method == "HEAD" || status == 304;
    Reply {
        status,
        bytes: lines.with(if bare { b"" } else { body }),
        close: !keep,
    }
}

fn options(place: &Place<'_>, head: &Head, close: bool) -> Reply {
    let fields = "Allow: OPTIONS, GET, HEAD, POST\r\nContent-Length: 0\r\n";
    done(place, head, 200, fields, b"", close)
}

fn moved(place: &Place<'_>, head: &Head, path: &[u8], close: bool) -> Reply {
    let query = head.path.iter().position(|b| *b == b'?');
    let query = query.and_then(|at| head.path.get(at..)).unwrap_or_default();
    // What came decoded must not end the field it goes into; such paths were refused.
    let mut fields = format!(
        "Location: {}/{}\r\n",
        String::from_utf8_lossy(path),
        String::from_utf8_lossy(query)
    );
    if head.method != "HEAD" {
        fields.push_str("Content-Length: 0\r\n");
    }
    done(place, head, 301, &fields, b"", close)
}

fn basic(place: &Place<'_>, head: &Head, close: bool) -> Reply {
    let value = head.text("authorization").unwrap_or_default();
    let given = value.strip_prefix("Basic ").map(str::trim);
    let mut close = close;
    if let Some(given) = given.filter(|g| !g.is_empty()) {
        if super::auth::read(&format!("Basic {given}"), &head.method).is_none() {
            return error(place, head, 400, &[], close);
        }
        // A wrong password is punished with the connection.
        close = true;
    }
    let realm = format!(
        "Basic realm=\"{}\", charset=\"UTF-8\"",
        place.site.basic_realm
    );
    error(place, head, 401, &[("WWW-Authenticate", realm)], close)
}

fn digest(place: &Place<'_>, head: &Head, close: bool) -> Reply {
    let value = head.text("authorization").unwrap_or_default();
    if let Some(given) = value.strip_prefix("Digest ") {
        let needed = ["username", "realm", "nonce", "uri", "response"];
        if needed
            .iter()
            .any(|name| !given.contains(&format!("{name}=")))
        {
            return error(place, head, 400, &[], close);
        }
    }
    let challenge = format!(
        "Digest realm=\"{}\", charset=\"UTF-8\", algorithm=MD5, nonce=\"{:x}:{}\", qop=\"auth\"",
        place.site.digest_realm,
        place.now.0.div_euclid(1_000_000),
        random_text(b"0123456789abcdef", 32)
    );
    error(place, head, 401, &[("WWW-Authenticate", challenge)], close)
}

/// The CGI that signs in.
fn login(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    let page = place.site.login(tried);
    let size = u64::try_from(page.len()).unwrap_or(0);
    let mut fields = "Content-Type: text/html\r\nCache-Control: no-cache\r\n".to_owned();
    let range = head
        .text("range")
        .filter(|_| head.method == "GET" && head.version == Version::V11);
    if let Some((first, last)) = range.and_then(|r| one_range(&r, size)) {
        let body = part(page.as_bytes(), first, last);
        fields.push_str(&format!(
            "Accept-Ranges: bytes\r\nContent-Range: bytes {first}-{last}/{size}\r\n\
             Content-Length: {}\r\n",
            body.len()
        ));
        return done(place, head, 206, &fields, body, false);
    }
    if matches!(head.method.as_str(), "GET" | "HEAD") && head.version == Version::V11 {
        fields.push_str("Accept-Ranges: bytes\r\n");
    }
    fields.push_str(&format!("Content-Length: {size}\r\n"));
    done(place, head, 200, &fields, page.as_bytes(), false)
}

/// The range that covers all that are asked for and lie near each other.
fn one_range(value: &str, size: u64) -> Option<(u64, u64)> {
    match ranges(value, size) {
        Ranges::Parts(parts) => match parts.as_slice() {
            [one] => Some(*one),
            _ => None,
        },
        _ => None,
    }
}

/// What lighttpd makes of a Range field.
fn ranges(value: &str, size: u64) -> Ranges {
    if !value
        .get(..6)
        .is_some_and(|p| p.eq_ignore_ascii_case("bytes="))
    {
        return Ranges::Whole;
    }
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for spec in value.get(6..).unwrap_or_default().split(',').take(10) {
        // One by one: a part nobody can have does not spoil the others.
        if let Ranges::Parts(found) = range::nginx(&format!("bytes={}", spec.trim()), size) {
            parts.extend(found);
        }
    }
    if parts.is_empty() {
        return Ranges::Unsatisfiable;
    }
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in parts {
        match merged.iter_mut().find(|(from, to)| {
            first <= to.saturating_add(NEAR) && last.saturating_add(NEAR) >= *from
        }) {
            Some((from, to)) => {
                *from = first.min(*from);
                *to = last.max(*to);
            }
            None => merged.push((first, last)),
        }
    }
    Ranges::Parts(merged)
}

fn etag(file: &File) -> String {
    // The hash of its own it writes as a decimal number.
    let mut hash: u32 = 5381;
    let seconds = file.modified.0.div_euclid(1_000_000);
    let size = u64::try_from(file.body.len()).unwrap_or(0);
    for byte in size.to_le_bytes().into_iter().chain(seconds.to_le_bytes()) {
        hash = hash.wrapping_mul(33) ^ u32::from(byte);
    }
    format!("\"{}\"", hash | 0x8000_0000)
}

fn static_file(place: &Place<'_>, head: &Head, file: &File, close: bool) -> Reply {
    let seconds = file.modified.0.div_euclid(1_000_000);
    let tag = etag(file);
    let describe = format!(
        "Content-Type: {}\r\nETag: {tag}\r\nLast-Modified: {}\r\n",
        file.mime,
        date::print(file.modified)
    );
    let reads = matches!(head.method.as_str(), "GET" | "HEAD");
    let unchanged = match head.text("if-none-match") {
        Some(list) => {
            list.trim() == "*"
                || list
                    .split(',')
                    .any(|one| one.trim().trim_start_matches("W/") == tag)
        }
        None => head
            .text("if-modified-since")
            .and_then(|v| date::parse(&v))
            .is_some_and(|d| d >= seconds),
    };
    if unchanged && reads {
        return done(place, head, 304, &describe, b"", close);
    }
    let size = u64::try_from(file.body.len()).unwrap_or(u64::MAX);
    let v11 = head.version == Version::V11;
    let same = head
        .text("if-range")
        .is_none_or(|v| v.trim() == tag || date::parse(&v) == Some(seconds));
    let wanted = match head.text("range") {
        Some(value) if head.method == "GET" && v11 && same => ranges(&value, size),
        _ => Ranges::Whole,
    };
    let accepts = if v11 && reads {
        "Accept-Ranges: bytes\r\n"
    } else {
        ""
    };
    match wanted {
        Ranges::Unsatisfiable => error(place, head, 416, &[], close),
        Ranges::Whole => {
            let fields = format!("{describe}Content-Length: {size}\r\n{accepts}");
            done(place, head, 200, &fields, &file.body, close)
        }
        Ranges::Parts(parts) => match parts.as_slice() {
            [(first, last)] => {
                let body = part(&file.body, *first, *last);
                let fields = format!(
                    "{describe}Content-Length: {}\r\n{accepts}Content-Range: bytes {first}-{last}/{size}\r\n",
                    body.len()
                );
                done(place, head, 206, &fields, body, close)
            }
            parts => {
                let boundary = "fkj49sn38dcn3";
                let mut body = Vec::new();
                for (first, last) in parts {
                    let lead = format!(
                        "\r\n--{boundary}\r\nContent-Range: bytes {first}-{last}/{size}\r\nContent-Type: {}\r\n\r\n",
                        file.mime
                    );
                    body.extend_from_slice(lead.as_bytes());
                    body.extend_from_slice(part(&file.body, *first, *last));
                }
                body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                let fields = format!(
                    "Content-Type: multipart/byteranges; boundary={boundary}\r\nETag: {tag}\r\nLast-Modified: {}\r\nContent-Length: {}\r\n{accepts}",
                    date::print(file.modified),
                    body.len()
                );
                done(place, head, 206, &fields, &body, close)
            }
        },
    }
}
