//! An open action in a PDF document, as an incremental update: the file's bytes stay,
//! behind them come a new catalog and its cross-reference (ISO 32000-1, 7.5.6). Only what
//! is needed for that is read: the trailer and the catalog.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{Fault, PART_MAX};
use crate::canary::pdf::literal;

/// Deepest nesting of a value.
const DEPTH_MAX: usize = 200;
/// Longest dictionary that is read.
const DICTIONARY_MAX: usize = 1 << 20;
/// Most places at which the catalog is looked for.
const PLACES_MAX: usize = 64;
/// Object streams that are unpacked while the catalog is looked for.
const STREAMS_MAX: usize = 2_000;
/// Longest dictionary of an object stream.
const STREAM_HEAD_MAX: usize = 16 << 10;

/// The document with an open action for `url`.
pub(super) fn open_action(bytes: &[u8], url: &str) -> Result<Vec<u8>, Fault> {
    let broken = |what: &str| Fault::damaged(format!("its {what} cannot be found"));
    let start = rfind(bytes, b"startxref", bytes.len()).ok_or_else(|| broken("end"))?;
    let previous = number(bytes, skip_space(bytes, start + 9)).ok_or_else(|| broken("end"))?;
    let trailer = trailer(bytes, previous.0).ok_or_else(|| broken("trailer"))?;
    if trailer.value(b"Encrypt").is_some() {
        return Err(Fault::damaged("it is encrypted"));
    }
    let (root, generation) = trailer
        .value(b"Root")
        .and_then(reference)
        .ok_or_else(|| broken("catalog"))?;
    let size = trailer
        .value(b"Size")
        .and_then(|value| number(value, 0))
        .map(|(size, _)| size)
        .filter(|size| (1..8_388_608).contains(size))
        .ok_or_else(|| broken("size"))?;
    let catalog = catalog(bytes, root, generation).ok_or_else(|| broken("catalog"))?;

    let mut out = bytes.to_vec();
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    let catalog_at = out.len();
    out.extend_from_slice(format!("{root} {generation} obj\n<<").as_bytes());
    for (key, value) in &catalog.entries {
        if *key != b"OpenAction" {
            out.push(b'/');
            out.extend_from_slice(key);
            out.push(b' ');
            out.extend_from_slice(value);
        }
    }
    let action = format!(
        "/OpenAction<</Type/Action/S/URI/URI{}>>>>\nendobj\n",
        literal(url)
    );
    out.extend_from_slice(action.as_bytes());

    let mut keys = Vec::new();
    for key in [&b"Info"[..], b"ID"] {
        if let Some(value) = trailer.value(key) {
            keys.push(b'/');
            keys.extend_from_slice(key);
            keys.push(b' ');
            keys.extend_from_slice(value);
        }
    }
    let table_at = out.len();
    let common = format!("/Root {root} {generation} R/Prev {}", previous.0);
    if trailer.stream {
        // A file with cross-reference streams goes on with one.
        let mut rows = Vec::new();
        for (offset, generation) in [(catalog_at, generation), (table_at, 0)] {
            rows.push(1);
            rows.extend_from_slice(&u32::try_from(offset).unwrap_or(u32::MAX).to_be_bytes());
            rows.extend_from_slice(&u16::try_from(generation).unwrap_or(u16::MAX).to_be_bytes());
        }
        let head = format!(
            "{size} 0 obj\n<</Type/XRef/Size {}/W[1 4 2]/Index[{root} 1 {size} 1]/Length {}{common}",
            size + 1,
            rows.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&keys);
        out.extend_from_slice(b">>\nstream\n");
        out.extend_from_slice(&rows);
        out.extend_from_slice(b"\nendstream\nendobj\n");
    } else {
        let table = format!(
            "xref\n0 1\n0000000000 65535 f \n{root} 1\n{catalog_at:010} {generation:05} n \ntrailer\n<</Size {size}{common}"
        );
        out.extend_from_slice(table.as_bytes());
        out.extend_from_slice(&keys);
        out.extend_from_slice(b">>\n");
    }
    out.extend_from_slice(format!("startxref\n{table_at}\n%%EOF\n").as_bytes());
    Ok(out)
}

/// A dictionary: its keys without their slash, and its values as they stand.
struct Dictionary<'a> {
    entries: Vec<(&'a [u8], &'a [u8])>,
    /// The first byte after it.
    end: usize,
    /// Whether it is of a cross-reference stream.
    stream: bool,
}

impl<'a> Dictionary<'a> {
    fn parse(bytes: &'a [u8], at: usize) -> Option<Self> {
        let end = at.saturating_add(DICTIONARY_MAX).min(bytes.len());
        let bytes = bytes.get(..end)?;
        let mut at = skip_space(bytes, at);
        if bytes.get(at..at + 2)? != b"<<" {
            return None;
        }
        at += 2;
        let mut entries = Vec::new();
        loop {
            at = skip_space(bytes, at);
            if bytes.get(at..at + 2)? == b">>" {
                return Some(Self {
                    entries,
                    end: at + 2,
                    stream: false,
                });
            }
            if bytes.get(at)? != &b'/' {
                return None;
            }
            let end = word_end(bytes, at + 1);
            let key = bytes.get(at + 1..end)?;
            let start = skip_space(bytes, end);
            at = value_end(bytes, start)?;
            entries.push((key, bytes.get(start..at)?));
        }
    }

    fn value(&self, key: &[u8]) -> Option<&'a [u8]> {
        let found = self.entries.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| *value)
    }
}

/// The trailer whose cross-reference starts at `at`.
fn trailer(bytes: &[u8], at: usize) -> Option<Dictionary<'_>> {
    if bytes.get(at..)?.starts_with(b"xref") {
        let found = find(bytes, b"trailer", at)?;
        return Dictionary::parse(bytes, found + 7);
    }
    let body = object_body(bytes, at)?;
    let mut found = Dictionary::parse(bytes, body)?;
    found.stream = true;
    (found.value(b"Type")? == b"/XRef").then_some(found)
}

/// Where the body of the object that starts at `at` starts.
fn object_body(bytes: &[u8], at: usize) -> Option<usize> {
    let (_, at) = number(bytes, at)?;
    let (_, at) = number(bytes, skip_space(bytes, at))?;
    let at = skip_space(bytes, at);
    (bytes.get(at..at + 3)? == b"obj").then_some(at + 3)
}

/// The newest object `root` that looks like a catalog: the last one in the file, or in the
/// last object stream that holds it.
fn catalog(bytes: &[u8], root: usize, generation: usize) -> Option<Owned> {
    let mark = format!("{root} {generation} obj");
    let mut end = bytes.len();
    let mut direct = None;
    for _ in 0..PLACES_MAX {
        let Some(at) = rfind(bytes, mark.as_bytes(), end) else {
            break;
        };
        end = at;
        let alone = at == 0 || bytes.get(at - 1).is_some_and(|b| !b.is_ascii_digit());
        if alone {
            let found = Dictionary::parse(bytes, at + mark.len());
            if let Some(found) = found.filter(is_catalog) {
                direct = Some((at, Owned::from(&found)));
                break;
            }
        }
    }
    let packed = packed_catalog(bytes, root, direct.as_ref().map_or(0, |(at, _)| *at));
    packed.or(direct.map(|(_, found)| found))
}

fn is_catalog(found: &Dictionary<'_>) -> bool {
    found.value(b"Type") == Some(b"/Catalog") || found.value(b"Pages").is_some()
}

/// A dictionary's entries on their own.
struct Owned {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl From<&Dictionary<'_>> for Owned {
    fn from(found: &Dictionary<'_>) -> Self {
        let owned = |(key, value): &(&[u8], &[u8])| (key.to_vec(), value.to_vec());
        Self {
            entries: found.entries.iter().map(owned).collect(),
        }
    }
}

/// The catalog in an object stream behind `after`.
fn packed_catalog(bytes: &[u8], root: usize, after: usize) -> Option<Owned> {
    let mut end = bytes.len();
    // A hostile file must not have the same megabytes unpacked again and again.
    let mut left = PART_MAX * 4;
    for _ in 0..STREAMS_MAX {
        let at = rfind(bytes, b"/ObjStm", end).filter(|at| *at > after)?;
        end = at;
        let from = at.saturating_sub(STREAM_HEAD_MAX);
        let near = bytes.get(from..at + STREAM_HEAD_MAX.min(bytes.len() - at))?;
        let head = rfind(near, b"obj", at - from).and_then(|o| Dictionary::parse(near, o + 3));
        let Some(head) = head else { continue };
        let Some(text) = object_stream(&head, bytes.get(from + head.end..)?, left) else {
            continue;
        };
        left = left.saturating_sub(text.1.len());
        if let Some(found) = in_object_stream(&text.0, &text.1, root) {
            return Some(found);
        }
        if left == 0 {
            return None;
        }
    }
    None
}

/// Count and start of the objects, and the unpacked stream that follows `head`.
fn object_stream(
    head: &Dictionary<'_>,
    rest: &[u8],
    limit: usize,
) -> Option<((usize, usize), Vec<u8>)> {
    let count = number(head.value(b"N")?, 0)?.0;
    let first = number(head.value(b"First")?, 0)?.0;
    if head.value(b"DecodeParms").is_some() {
        return None;
    }
    let start = skip_space(rest.get(..64)?, 0);
    let packed = rest.get(start..)?.strip_prefix(b"stream")?;
    let packed = packed.strip_prefix(b"\r").unwrap_or(packed);
    let packed = packed.strip_prefix(b"\n")?;
    let limit = limit.min(PART_MAX);
    let text = match head.value(b"Filter") {
        None => {
            let near = packed.get(..limit.min(packed.len()))?;
            near.get(..find(near, b"endstream", 0)?)?.to_vec()
        }
        Some(b"/FlateDecode" | b"[/FlateDecode]" | b"[ /FlateDecode ]") => {
            let mut text = Vec::new();
            let limit = u64::try_from(limit).unwrap_or(0);
            // What came before an error may hold the catalog all the same.
            ZlibDecoder::new(packed)
                .take(limit)
                .read_to_end(&mut text)
                .ok();
            text
        }
        Some(_) => return None,
    };
    Some(((count, first), text))
}

fn in_object_stream(head: &(usize, usize), text: &[u8], root: usize) -> Option<Owned> {
    let (count, first) = *head;
    let mut at = 0;
    for _ in 0..count.min(text.len()) {
        let (id, next) = number(text, skip_space(text, at))?;
        let (offset, next) = number(text, skip_space(text, next))?;
        at = next;
        if id == root {
            let found = Dictionary::parse(text, first.checked_add(offset)?)?;
            return is_catalog(&found).then(|| Owned::from(&found));
        }
    }
    None
}

/// `12 0 R`.
fn reference(value: &[u8]) -> Option<(usize, usize)> {
    let (id, at) = number(value, 0)?;
    let (generation, at) = number(value, skip_space(value, at))?;
    let end = skip_space(value, at);
    (value.get(end..) == Some(b"R") && generation <= 65_535).then_some((id, generation))
}

/// A whole number and where it ends.
fn number(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let digits = bytes.get(at..)?;
    let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = std::str::from_utf8(digits.get(..len)?).ok()?;
    Some((text.parse().ok()?, at + len))
}

/// Where the value that starts at `at` ends.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let mut depth = 0usize;
    loop {
        at = skip_space(bytes, at);
        let first = *bytes.get(at)?;
        let second = bytes.get(at + 1).copied();
        match (first, second) {
            (b'<', Some(b'<')) => {
                depth += 1;
                at += 2;
            }
            (b'>', Some(b'>')) => {
                depth = depth.checked_sub(1)?;
                at += 2;
            }
            (b'[', _) => {
                depth += 1;
                at += 1;
            }
            (b']', _) => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            (b'(', _) => at = string_end(bytes, at)?,
            (b'<', _) => at = find(bytes, b">", at)? + 1,
            (b'/', _) => at = word_end(bytes, at + 1),
            _ => {
                let end = word_end(bytes, at);
                if end == at {
                    return None;
                }
                // A number may be the start of a reference.
                at = reference_end(bytes, at).unwrap_or(end);
            }
        }
        if depth == 0 {
            return Some(at);
        }
        if depth > DEPTH_MAX {
            return None;
        }
    }
}

fn reference_end(bytes: &[u8], at: usize) -> Option<usize> {
    let (_, at) = number(bytes, at)?;
    let next = skip_space(bytes, at);
    let (_, at) = number(bytes, next).filter(|_| next > at)?;
    let next = skip_space(bytes, at);
    (bytes.get(next) == Some(&b'R') && word_end(bytes, next) == next + 1).then_some(next + 1)
}

/// Behind a string in parentheses.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let mut open = 0usize;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 1,
            b'(' => open += 1,
            b')' => {
                open -= 1;
                if open == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Behind the regular characters that start at `at`.
fn word_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let regular = |b: &&u8| !b.is_ascii_whitespace() && **b != 0 && !b"()<>[]{}/%".contains(b);
    at + rest.iter().take_while(regular).count()
}

/// Behind white space and comments.
fn skip_space(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    let mut comment = false;
    while let Some(b) = bytes.get(at) {
        match b {
            b'\r' | b'\n' => comment = false,
            b'%' => comment = true,
            _ if comment || b.is_ascii_whitespace() || *b == 0 => {}
            _ => break,
        }
        at += 1;
    }
    at
}

/// The first `what` at or after `from`.
fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len())
        .position(|w| w == what)
        .map(|at| from + at)
}

/// The last `what` that starts before `end`.
fn rfind(bytes: &[u8], what: &[u8], end: usize) -> Option<usize> {
    let until = end.saturating_add(what.len() - 1).min(bytes.len());
    bytes
        .get(..until)?
        .windows(what.len())
        .rposition(|w| w == what)
}
