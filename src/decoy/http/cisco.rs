//! The HTTP server of Cisco IOS: nothing without a password, nothing kept alive, errors
//! in plain words. Every request is answered 401, whatever it asks for.

use crate::decoy::http::date;
use crate::decoy::http::reply::{Lines, Place, Reply};
use crate::decoy::http::request::{Bad, Head, Version};

/// Methods the server knows.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"];

/// Answers a request whose head was understood.
pub(super) fn answer(place: &Place<'_>, head: &Head, _tried: Option<&str>) -> Reply {
    if !METHODS.contains(&head.method.as_str()) {
        return plain(place, head, 501);
    }
    plain(place, head, 401)
}

/// Answers a head that was not understood.
pub(super) fn refuse(place: &Place<'_>, bad: &Bad) -> Reply {
    let mut head = (*bad.seen).clone();
    head.version = Version::V11;
    plain(place, &head, bad.status)
}

/// A status as the whole page.
pub(super) fn plain(place: &Place<'_>, head: &Head, status: u16) -> Reply {
    let phrase = match status {
        401 => "Unauthorized",
        413 => "Request Entity Too Large",
        501 => "Not Implemented",
        _ => "Bad Request",
    };
    let now = date::print(place.now);
    let mut lines = Lines::new(&format!("{status} {phrase}"));
    lines.add("Date", &now);
    lines.add("Server", place.server);
    if status == 401 {
        lines.add("Connection", "close");
    }
    lines.add("Accept-Ranges", "none");
    if status == 401 {
        lines.add(
            "WWW-Authenticate",
            "Basic realm=\"level_15 or view_access\"",
        );
    }
    let page = format!("{status} {phrase}\r\n");
    let body = if head.method == "HEAD" { "" } else { &page };
    let bytes = if head.version == Version::V09 {
        body.as_bytes().to_vec()
    } else {
        lines.with(body.as_bytes())
    };
    Reply {
        status,
        bytes,
        close: true,
    }
}
