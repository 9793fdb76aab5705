//! The wire: `VERB[ SP ARGS]\n`, four bytes of big-endian length, that many bytes of
//! JSON. Pure functions over bytes: nothing is read past the limits, nothing panics,
//! and cutting the input anywhere gives the same frames.
//!
//! A published body carries `type` and `payload`; the bus makes the envelope of what it
//! delivers (`v`, `id`, `topic`, `ts`) itself and passes the payload through as text.

use std::borrow::Cow;
use std::io::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bus::Message;
use crate::bus::pattern::shown;

/// Longest header, its line feed included.
pub(super) const MAX_HEADER: usize = 4096;
/// Longest body.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// What a frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// The client's name; optional.
    Hello,
    /// Publish the body on a topic.
    Pub,
    /// Start delivering a pattern.
    Sub,
    /// Stop delivering a pattern.
    Unsub,
    /// A delivery; only the bus sends it.
    Evt,
    /// The sender is about to close.
    Bye,
}

impl Verb {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Pub, "PUB"),
        (Self::Evt, "EVT"),
        (Self::Sub, "SUB"),
        (Self::Unsub, "UNSUB"),
        (Self::Hello, "HELLO"),
        (Self::Bye, "BYE"),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(verb, _)| *verb == self)
            .map_or("", |(_, name)| name)
    }
}

/// One frame, borrowed from the buffer it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) verb: Verb,
    pub(super) args: &'a str,
    pub(super) body: &'a [u8],
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A frame and how many bytes it took.
    Frame(Frame<'a>, usize),
    /// Not yet a frame; it will be at least this long.
    More(usize),
}

/// Why a peer is not understood; its connection ends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("a header is longer than {MAX_HEADER} bytes")]
    LongHeader,
    #[error("a header holds bytes other than printable ASCII")]
    HeaderBytes,
    #[error("unknown verb '{0}'")]
    Verb(String),
    #[error("{0} without an argument")]
    NoArgument(&'static str),
    #[error("a body of {0} bytes is over the limit of {MAX_BODY}")]
    LongBody(u32),
    #[error("a body is not a JSON object with 'type' and 'payload': {0}")]
    Body(String),
    #[error("publishing on '{0}': {1}")]
    Topic(String, &'static str),
    #[error("{0}")]
    Pattern(String),
    #[error("more patterns than one connection may have")]
    ManyPatterns,
    #[error("{0} is not for this side to send")]
    WrongSide(&'static str),
    #[error("a frame was begun and not finished in time")]
    Unfinished,
}

/// Finds the first frame in `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<Step<'_>, Bad> {
    let window = bytes.get(..MAX_HEADER).unwrap_or(bytes);
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        if bytes.len() >= MAX_HEADER {
            return Err(Bad::LongHeader);
        }
        // The line feed and the length are still to come.
        return Ok(Step::More(bytes.len() + 5));
    };
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let (verb, args) = header(line)?;
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(Step::More(end + 5));
    };
    let length = u32::from_be_bytes(*length);
    let size = length as usize;
    if size > MAX_BODY {
        return Err(Bad::LongBody(length));
    }
    let total = end + 5 + size;
    match rest.get(..size) {
        Some(body) => Ok(Step::Frame(Frame { verb, args, body }, total)),
        None => Ok(Step::More(total)),
    }
}

fn header(line: &[u8]) -> Result<(Verb, &str), Bad> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.iter().all(|b| matches!(b, b' '..=b'~')) {
        return Err(Bad::HeaderBytes);
    }
    let line = str::from_utf8(line).map_err(|_| Bad::HeaderBytes)?;
    let (word, args) = line.split_once(' ').unwrap_or((line, ""));
    let Some((verb, name)) = Verb::ALL.iter().find(|(_, name)| *name == word) else {
        return Err(Bad::Verb(shown(word)));
    };
    let args = args.trim_matches(' ');
    if args.is_empty() && !matches!(verb, Verb::Hello | Verb::Bye) {
        return Err(Bad::NoArgument(name));
    }
    Ok((*verb, args))
}

/// Appends one frame. The caller keeps `args` and `body` within the limits.
pub(super) fn encode(out: &mut Vec<u8>, verb: Verb, args: &str, body: &[u8]) {
    encode_header(out, verb, args);
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(body);
}

fn encode_header(out: &mut Vec<u8>, verb: Verb, args: &str) {
    out.extend_from_slice(verb.name().as_bytes());
    if !args.is_empty() {
        out.push(b' ');
        out.extend_from_slice(args.as_bytes());
    }
    out.push(b'\n');
}

/// Appends a PUB frame; false, and nothing appended, when it is too long to deliver.
pub(super) fn encode_published(out: &mut Vec<u8>, topic: &str, kind: &str, payload: &str) -> bool {
    let start = out.len();
    encode_header(out, Verb::Pub, topic);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(br#"{"type":"#);
    quote(out, kind);
    out.extend_from_slice(br#","payload":"#);
    out.extend_from_slice(payload.as_bytes());
    out.push(b'}');
    fill_length(out, start, length_at, ENVELOPE + 2 * topic.len())
}

/// What the bus adds to a published body: `v`, `id`, `ts` and the keys' names.
const ENVELOPE: usize = 128;

/// The parts of a PUB body that survive. The publisher's own id and time do not.
#[derive(Deserialize)]
struct Published<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads `(type, payload text)` from a PUB body; an empty body is an empty object.
pub(super) fn published(body: &[u8]) -> Result<(Cow<'_, str>, &str), Bad> {
    if body.is_empty() {
        return Ok((Cow::Borrowed(""), "{}"));
    }
    // A derived struct also reads itself from an array.
    if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Bad::Body("it does not begin with '{'".to_owned()));
    }
    let read: Published<'_> =
        serde_json::from_slice(body).map_err(|error| Bad::Body(shown(&error.to_string())))?;
    Ok((read.kind, read.payload.map_or("{}", RawValue::get)))
}

/// An event's identity, as the bus stamps it.
#[derive(Clone, Copy)]
pub(super) struct Seal<'a> {
    /// Unique per event.
    pub(super) id: u128,
    /// Seconds since the epoch, as JSON text.
    pub(super) ts: &'a str,
}

/// Appends an EVT frame; false, and nothing appended, when its body would be too long.
pub(super) fn encode_event(
    out: &mut Vec<u8>,
    seal: Seal<'_>,
    topic: &str,
    kind: &str,
    payload: &str,
) -> bool {
    let start = out.len();
    encode_header(out, Verb::Evt, topic);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(br#"{"v":1,"id":""#);
    out.extend_from_slice(&hex(seal.id));
    out.extend_from_slice(br#"","topic":"#);
    quote(out, topic);
    out.extend_from_slice(br#","type":"#);
    quote(out, kind);
    out.extend_from_slice(br#","ts":"#);
    out.extend_from_slice(seal.ts.as_bytes());
    out.extend_from_slice(br#","payload":"#);
    out.extend_from_slice(payload.as_bytes());
    out.push(b'}');
    fill_length(out, start, length_at, 0)
}

fn fill_length(out: &mut Vec<u8>, start: usize, length_at: usize, reserve: usize) -> bool {
    let size = out.len() - length_at - 4;
    if size + reserve > MAX_BODY {
        out.truncate(start);
        return false;
    }
    if let (Ok(size), Some(place)) = (u32::try_from(size), out.get_mut(length_at..length_at + 4)) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    true
}

fn quote(out: &mut Vec<u8>, text: &str) {
    if text
        .bytes()
        .all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\')
    {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to a Vec does not fail.
        let _written = write!(out, "{}", serde_json::Value::from(text));
    }
}

fn hex(id: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 32];
    for (byte, pair) in id.to_be_bytes().iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Reads a delivery; missing fields get defaults, the frame's topic is the topic.
pub(super) fn message(frame: &Frame<'_>) -> Result<Message, Bad> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default = "one")]
        v: u8,
        #[serde(default)]
        id: String,
        #[serde(default, rename = "type")]
        kind: String,
        #[serde(default)]
        ts: f64,
        #[serde(default)]
        payload: serde_json::Value,
    }
    fn one() -> u8 {
        1
    }
    let read: Envelope =
        serde_json::from_slice(frame.body).map_err(|error| Bad::Body(shown(&error.to_string())))?;
    Ok(Message {
        v: read.v,
        id: read.id,
        topic: frame.args.to_owned(),
        kind: read.kind,
        ts: read.ts,
        payload: read.payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(bytes: &[u8]) -> Frame<'_> {
        match decode(bytes).unwrap() {
            Step::Frame(frame, used) => {
                assert_eq!(used, bytes.len());
                frame
            }
            Step::More(n) => panic!("incomplete, {n}"),
        }
    }

    #[test]
    fn the_documented_bytes_are_written_and_read() {
        let mut out = Vec::new();
        encode(&mut out, Verb::Sub, "a.*", b"");
        assert_eq!(out, b"SUB a.*\n\0\0\0\0");
        out.clear();
        encode(&mut out, Verb::Bye, "", b"");
        assert_eq!(out, b"BYE\n\0\0\0\0");
        let frame = one(b"PUB a.b\n\0\0\0\x13{\"payload\":{\"x\":1}}");
        assert_eq!((frame.verb, frame.args), (Verb::Pub, "a.b"));
        assert_eq!(published(frame.body).unwrap(), ("".into(), "{\"x\":1}"));
        assert_eq!(one(b"PUB  x \r\n\0\0\0\0").args, "x");
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        let long = [b'a'; MAX_HEADER];
        for (bytes, expected) in [
            (&long[..], "a header is longer than 4096 bytes"),
            (b"\n", "unknown verb ''"),
            (b"NOPE x\n", "unknown verb 'NOPE'"),
            (b"pub x\n", "unknown verb 'pub'"),
            (b"PUB\n", "PUB without an argument"),
            (b"SUB  \n", "SUB without an argument"),
            (
                b"PUB \xff\n",
                "a header holds bytes other than printable ASCII",
            ),
            (
                b"PUB a\rb\n",
                "a header holds bytes other than printable ASCII",
            ),
            (
                b"PUB a\n\0\x10\0\x01",
                "a body of 1048577 bytes is over the limit of 1048576",
            ),
        ] {
            assert_eq!(decode(bytes).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn only_an_object_is_a_published_body() {
        for bad in [
            &b"[\"a\",{}]"[..],
            b"1",
            b"{",
            b"{}x",
            b"\xff",
            b"{\"type\":1}",
            b"{\"payload\":}",
            b"{\"payload\":\"\xff\"}",
        ] {
            assert!(published(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert_eq!(published(b"").unwrap(), ("".into(), "{}"));
        assert_eq!(published(b" {} ").unwrap(), ("".into(), "{}"));
    }

    #[test]
    fn an_event_that_would_be_too_long_leaves_nothing_behind() {
        let seal = Seal { id: 1, ts: "1.5" };
        let mut out = vec![7];
        let payload = format!("\"{}\"", "x".repeat(MAX_BODY));
        assert!(!encode_event(&mut out, seal, "a", "k", &payload));
        assert!(!encode_published(&mut out, "a", "k", &payload));
        assert_eq!(out, [7]);
    }

    #[test]
    fn whatever_a_client_may_publish_the_bus_can_deliver() {
        let topic = format!("a{}", "\"".repeat(1000));
        let mut size = MAX_BODY;
        let mut out = Vec::new();
        while !encode_published(&mut out, &topic, "k", &format!("\"{}\"", "x".repeat(size))) {
            size -= 1;
        }
        let Step::Frame(frame, _) = decode(&out).unwrap() else {
            panic!("incomplete");
        };
        let (kind, payload) = published(frame.body).unwrap();
        let seal = Seal {
            id: u128::MAX,
            ts: "17764789760.123456",
        };
        assert!(encode_event(&mut Vec::new(), seal, &topic, &kind, payload));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_frame_a_refusal_or_a_wish_for_more(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            match decode(&bytes) {
                Ok(Step::Frame(_, used)) => prop_assert!(used <= bytes.len() && used >= 5),
                Ok(Step::More(n)) => prop_assert!(n > bytes.len()),
                Err(_) => {}
            }
            let _read = published(&bytes);
        }

        #[test]
        fn cutting_the_stream_anywhere_gives_the_same_frames(
            frames in prop::collection::vec(
                (0usize..6, "[!-~]{1,20}", prop::collection::vec(any::<u8>(), 0..50)), 1..6),
            cut in 1usize..40,
        ) {
            let mut wire = Vec::new();
            for (verb, args, body) in &frames {
                encode(&mut wire, Verb::ALL[*verb].0, args, body);
            }
            let mut buffer = Vec::new();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                loop {
                    let used = match decode(&buffer).unwrap() {
                        Step::Frame(frame, used) => {
                            seen.push((frame.verb, frame.args.to_owned(), frame.body.to_owned()));
                            used
                        }
                        Step::More(n) => {
                            prop_assert!(n > buffer.len());
                            break;
                        }
                    };
                    buffer.drain(..used);
                }
            }
            prop_assert!(buffer.is_empty());
            let sent: Vec<_> = frames
                .into_iter()
                .map(|(v, a, b)| (Verb::ALL[v].0, a, b))
                .collect();
            prop_assert_eq!(seen, sent);
        }

        #[test]
        fn a_message_survives_the_bus(
            topic in "[!-)+-=?-~]{1,30}", kind in ".{0,20}", text in ".{0,60}", id: u128
        ) {
            let payload = serde_json::json!({ "text": text });
            let mut wire = Vec::new();
            prop_assert!(encode_published(&mut wire, &topic, &kind, &payload.to_string()));
            let Ok(Step::Frame(frame, _)) = decode(&wire) else { panic!("no frame") };
            let (read_kind, read_payload) = published(frame.body).unwrap();
            let mut event = Vec::new();
            let seal = Seal { id, ts: "2.25" };
            prop_assert!(encode_event(&mut event, seal, frame.args, &read_kind, read_payload));
            let Ok(Step::Frame(frame, _)) = decode(&event) else { panic!("no event") };
            let body: serde_json::Value = serde_json::from_slice(frame.body).unwrap();
            prop_assert_eq!(&body["topic"], &serde_json::json!(topic));
            let got = message(&frame).unwrap();
            prop_assert_eq!(got.id, format!("{id:032x}"));
            prop_assert_eq!((got.topic, got.kind, got.payload), (topic, kind, payload));
        }
    }
}
