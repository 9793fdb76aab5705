//! Static files as Apache 2.4 serves them: validators, conditions, ranges, compression.

use rand::RngExt;

use crate::decoy::http::apache::{document, done, keep, start, unsized_body, wording};
use crate::decoy::http::date;
use crate::decoy::http::range::{self, Ranges};
use crate::decoy::http::reply::{Place, Reply, part};
use crate::decoy::http::request::{Head, Version};
use crate::decoy::http::site::File;

fn etag(file: &File) -> String {
    format!("{:x}-{:x}", file.body.len(), file.modified.0)
}

fn names_tag(list: &str, tag: &str, weak: bool) -> bool {
    list.trim() == "*"
        || list.split(',').any(|one| {
            let one = one.trim();
            let one = if weak {
                one.strip_prefix("W/").unwrap_or(one)
            } else {
                one
            };
            one.strip_prefix('"')
                .and_then(|one| one.strip_suffix('"'))
                .is_some_and(|one| one == tag)
        })
}

/// The answer to a request for `file`: whole, in parts, or not at all.
pub(super) fn static_file(place: &Place<'_>, head: &Head, file: &File) -> Reply {
    let seconds = file.modified.0.div_euclid(1_000_000);
    let tag = etag(file);
    let when = |name: &str| head.text(name).and_then(|v| date::parse(&v));
    let lines_of = |status: u16, tag: &str| {
        let mut lines = start(place, status);
        lines.add("Last-Modified", date::print(file.modified));
        lines.add("ETag", format!("\"{tag}\""));
        lines.add("Accept-Ranges", "bytes");
        lines
    };
    let other = head
        .text("if-match")
        .is_some_and(|list| !names_tag(&list, &tag, false));
    if other || when("if-unmodified-since").is_some_and(|d| d < seconds) {
        let keep = keep(place, head, 412, true);
        let mut lines = lines_of(412, &tag);
        lines.add("Content-Length", 0);
        lines.0.push_str(&keep.line);
        lines.add("Content-Type", file.mime);
        return done(head, 412, lines, b"", keep.close);
    }
    let now = place.now.0.div_euclid(1_000_000);
    let unchanged = match head.text("if-none-match") {
        Some(list) => names_tag(&list, &tag, true),
        None => when("if-modified-since").is_some_and(|d| d >= seconds && d <= now),
    };
    if unchanged && head.method != "POST" {
        let keep = keep(place, head, 304, true);
        let mut lines = lines_of(304, &tag);
        lines.0.push_str(&keep.line);
        return done(head, 304, lines, b"", keep.close);
    }
    let packed = file.gzip.as_ref().filter(|_| head.accepts_gzip());
    let shown_tag = match packed {
        Some(_) => format!("{tag}-gzip"),
        None => tag,
    };
    let content = packed.unwrap_or(&file.body);
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let same = head.text("if-range").is_none_or(|v| {
        let v = v.trim();
        v == format!("\"{shown_tag}\"") || date::parse(v) == Some(seconds)
    });
    let ranges = match head.text("range") {
        Some(value) if same && head.version != Version::V09 => range::apache(&value, length),
        _ => Ranges::Whole,
    };
    if ranges == Ranges::Unsatisfiable {
        // The page replaces a file that was already counted as one answer.
        let again = Place {
            served: place.served.saturating_add(1),
            ..*place
        };
        let (title, text) = wording(place, head, 416, "");
        let page = document(place, head, 416, title, &text);
        let mime = "text/html; charset=iso-8859-1";
        return unsized_body(&again, head, 416, start(place, 416), mime, page.as_bytes());
    }
    let mut mime = file.mime.to_owned();
    let mut content_range = None;
    let (status, body) = match ranges {
        Ranges::Parts(parts) => {
            let body = match parts.as_slice() {
                [(first, last)] => {
                    content_range = Some(format!("bytes {first}-{last}/{length}"));
                    part(content, *first, *last).to_vec()
                }
                parts => {
                    let boundary = format!("{:016x}", rand::rng().random::<u64>());
                    mime = format!("multipart/byteranges; boundary={boundary}");
                    multipart(file.mime, &boundary, content, parts, length)
                }
            };
            (206, body)
        }
        _ => (200, content.clone()),
    };
    let keep = keep(place, head, status, true);
    let mut lines = lines_of(status, &shown_tag);
    if packed.is_some() {
        lines.add("Vary", "Accept-Encoding");
        lines.add("Content-Encoding", "gzip");
        if let Some(range) = content_range {
            lines.add("Content-Range", range);
        }
        lines.add("Content-Length", body.len());
    } else {
        lines.add("Content-Length", body.len());
        if file.gzip.is_some() {
            lines.add("Vary", "Accept-Encoding");
        }
        if let Some(range) = content_range {
            lines.add("Content-Range", range);
        }
    }
    lines.0.push_str(&keep.line);
    lines.add("Content-Type", mime);
    let body = if head.method == "HEAD" {
        Vec::new()
    } else {
        body
    };
    done(head, status, lines, &body, keep.close)
}

fn multipart(
    mime: &str,
    boundary: &str,
    content: &[u8],
    parts: &[(u64, u64)],
    length: u64,
) -> Vec<u8> {
    let mut body = Vec::new();
    for (first, last) in parts {
        let lead = format!(
            "\r\n--{boundary}\r\nContent-type: {mime}\r\nContent-range: bytes {first}-{last}/{length}\r\n\r\n"
        );
        body.extend_from_slice(lead.as_bytes());
        body.extend_from_slice(part(content, *first, *last));
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}
