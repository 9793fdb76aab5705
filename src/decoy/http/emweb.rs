//! The embedded web server of HP printers: the older Virata EmWeb (`R6_2_1`) with a
//! status page made on the fly, and the newer one that tells model and serial number in
//! its `Server` field. Settings pages ask for the administrator's password.

use crate::decoy::http::date;
use crate::decoy::http::reply::{Body, Lines, Place, Reply, chunked};
use crate::decoy::http::request::{Bad, Framing, Head, Version};

/// Pages that ask for a password.
const SETTINGS: &[&str] = &[
    "/hp/jetdirect",
    "/hp/device/set_config",
    "/hp/device/save_restore",
    "/hp/device/webaccess",
    "/security",
    "/admin",
    "/tcpipv4",
];

/// When the body of this request is read.
pub(super) fn body(_place: &Place<'_>, head: &Head) -> Body {
    Body::First(head.framing != Framing::None && head.lists("expect", "100-continue"))
}

/// Answers a request whose head was understood.
pub(super) fn answer(place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
    if !matches!(head.method.as_str(), "GET" | "HEAD" | "POST") {
        return error(place, head, 501);
    }
    let path = head.path.split(|b| *b == b'?').next().unwrap_or_default();
    let path = String::from_utf8_lossy(path);
    let lower = path.to_ascii_lowercase();
    if tried.is_some() || SETTINGS.iter().any(|p| lower.starts_with(p)) {
        return error(place, head, 401);
    }
    let found = place
        .site
        .files
        .iter()
        .find(|f| f.path.eq_ignore_ascii_case(&path))
        .or_else(|| place.site.front().filter(|_| path == "/"));
    match found {
        Some(file) if file.mime.starts_with("text/") => {
            send(place, head, 200, file.mime, &file.body, true)
        }
        Some(file) => send(place, head, 200, file.mime, &file.body, false),
        None => error(place, head, 404),
    }
}

/// Answers a head that was not understood.
pub(super) fn refuse(place: &Place<'_>, bad: &Bad) -> Reply {
    let mut head = (*bad.seen).clone();
    head.version = Version::V10;
    error(place, &head, bad.status)
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Request Entity Too Large",
        501 => "Not Implemented",
        _ => "Bad Request",
    }
}

/// A page that says what went wrong.
pub(super) fn error(place: &Place<'_>, head: &Head, status: u16) -> Reply {
    let page = format!(
        "<HTML><HEAD><TITLE>{status} {0}</TITLE></HEAD>\r\n<BODY><H1>{status} {0}</H1>\r\n\
         </BODY></HTML>\r\n",
        phrase(status)
    );
    send(place, head, status, "text/html", page.as_bytes(), false)
}

fn send(
    place: &Place<'_>,
    head: &Head,
    status: u16,
    mime: &str,
    body: &[u8],
    dynamic: bool,
) -> Reply {
    let v11 = head.version == Version::V11;
    let old = place.server.starts_with("Virata-EmWeb");
    let chunks = dynamic && v11 && old;
    let mut lines = Lines::new(&format!("{status} {}", phrase(status)));
    lines.add("Server", place.server);
    if status == 401 {
        lines.add(
            "WWW-Authenticate",
            format!("Basic realm=\"{}\"", place.site.basic_realm),
        );
    }
    if chunks {
        lines.add("Transfer-Encoding", "chunked");
    }
    if old && dynamic {
        lines.add("Content-Type", format!("{mime}; charset=UTF-8"));
        lines.add("Expires", "Thu, 01 Jan 1970 00:00:00 GMT");
        lines.add("Cache-Control", "no-cache");
        lines.add("Pragma", "no-cache");
    } else {
        lines.add("Content-Type", mime);
        if !old && status == 200 {
            let modified = place.site.published;
            lines.add("Last-Modified", date::print(modified));
            lines.add("Content-Language", "en");
        }
    }
    let sized = !(old && dynamic);
    if sized {
        lines.add("Content-Length", body.len());
    }
    let keep = v11 && (sized || chunks) && status < 400 && !head.lists("connection", "close");
    if !keep && v11 {
        lines.add("Connection", "close");
    }
    let body = match (head.method.as_str(), chunks) {
        ("HEAD", _) => Vec::new(),
        (_, true) => chunked(body),
        (_, false) => body.to_vec(),
    };
    let bytes = if head.version == Version::V09 {
        body
    } else {
        lines.with(&body)
    };
    Reply {
        status,
        bytes,
        close: !keep,
    }
}
