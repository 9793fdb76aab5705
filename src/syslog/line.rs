//! Writer and parser of one line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Event, Flow, Proto, Severity, Stamp};

/// SD-ID of the only structured-data element (RFC 5424 §6.3.2).
const SD_ID: &str = "relay@55555";
/// Longest HOST, APP and MSGID (RFC 5424 §6).
const HOST_MAX: usize = 255;
const APP_MAX: usize = 48;
const MSGID_MAX: usize = 32;
/// local0.
const FACILITY: u16 = 16;

/// Why a line is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event line: {0}")]
pub struct Bad(pub &'static str);

/// Writes `event` as one line without the newline.
#[must_use]
pub fn write(event: &Event) -> String {
    let mut line = String::with_capacity(256);
    let pri = FACILITY * 8 + u16::from(event.severity.number());
    // Writing to a String cannot fail.
    let _infallible = write!(
        line,
        "<{pri}>1 {} {} {} - {} [{SD_ID}",
        event.ts,
        header(&event.decky, HOST_MAX),
        header(&event.service, APP_MAX),
        header(&event.kind, MSGID_MAX),
    );
    push_param(&mut line, "eid", &event.eid);
    if let Some(flow) = &event.flow {
        push_param(&mut line, "src_ip", &flow.src.ip().to_string());
        push_param(&mut line, "src_port", &flow.src.port().to_string());
        push_param(&mut line, "dst_ip", &flow.dst.ip().to_string());
        push_param(&mut line, "dst_port", &flow.dst.port().to_string());
        push_param(&mut line, "proto", flow.proto.as_str());
        push_param(&mut line, "session", &flow.session);
    }
    for (key, value) in &event.fields {
        push_param(&mut line, key, value);
    }
    line.push(']');
    if !event.msg.is_empty() {
        line.push(' ');
        escape(&mut line, &event.msg);
    }
    line
}

/// A header token: printable ASCII without spaces, `-` when empty.
fn header(text: &str, max: usize) -> String {
    let token: String = text
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '_' })
        .take(max)
        .collect();
    if token.is_empty() {
        "-".to_owned()
    } else {
        token
    }
}

fn push_param(line: &mut String, key: &str, value: &str) {
    line.push(' ');
    // RFC 5424 §6.3.3: a PARAM-NAME holds no '=', space, ']' or '"'.
    line.extend(
        key.chars()
            .map(|c| match c {
                '=' | ']' | '"' => '_',
                c if c.is_ascii_graphic() => c,
                _ => '_',
            })
            .take(32),
    );
    line.push_str("=\"");
    escape(line, value);
    line.push('"');
}

fn escape(line: &mut String, value: &str) {
    if value
        .bytes()
        .all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'\\' | b'"' | b']'))
    {
        line.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '\\' | '"' | ']' => {
                line.push('\\');
                line.push(c);
            }
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
                let _infallible = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
}

/// Reads a line that [`write()`] made.
///
/// # Errors
/// What the line lacks.
pub fn parse(line: &str) -> Result<Event, Bad> {
    let rest = line.strip_prefix('<').ok_or(Bad("no <PRI>"))?;
    let (pri, rest) = rest.split_once('>').ok_or(Bad("no <PRI>"))?;
    let pri: u16 = pri.parse().map_err(|_| Bad("PRI is not a number"))?;
    if pri / 8 != FACILITY {
        return Err(Bad("facility is not local0"));
    }
    let severity = Severity::from_number(u8::try_from(pri % 8).unwrap_or(6));
    let rest = rest.strip_prefix("1 ").ok_or(Bad("version is not 1"))?;
    let mut parts = rest.splitn(6, ' ');
    let mut next = |what| parts.next().ok_or(Bad(what));
    let ts = Stamp::parse(next("no timestamp")?).ok_or(Bad("bad timestamp"))?;
    let decky = unheader(next("no host")?);
    let service = unheader(next("no app")?);
    if next("no procid")? != "-" {
        return Err(Bad("procid is not '-'"));
    }
    let kind = unheader(next("no msgid")?);
    let rest = next("no structured data")?;
    let rest = rest
        .strip_prefix('[')
        .and_then(|r| r.strip_prefix(SD_ID))
        .ok_or(Bad("no relay@55555 element"))?;
    let (params, rest) = read_params(rest)?;
    let msg = match rest.strip_prefix(' ') {
        Some(text) => unescape_all(text)?,
        None if rest.is_empty() => String::new(),
        None => return Err(Bad("text right after the structured data")),
    };
    let mut params = params.into_iter();
    let eid = match params.next() {
        Some((key, eid)) if key == "eid" => eid.into_owned(),
        _ => return Err(Bad("no eid")),
    };
    let head = Head {
        ts,
        severity,
        decky,
        service,
        kind,
    };
    assemble(head, eid, params, msg)
}

/// A parameter, copied only when an escape in it had to be undone.
pub(super) type Param<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What stands outside the structured data.
pub(super) struct Head {
    pub(super) ts: Stamp,
    pub(super) severity: Severity,
    pub(super) decky: String,
    pub(super) service: String,
    pub(super) kind: String,
}

/// Splits the transport parameters off and builds the event.
pub(super) fn assemble(
    head: Head,
    eid: String,
    params: std::vec::IntoIter<Param<'_>>,
    msg: String,
) -> Result<Event, Bad> {
    let mut params = params.peekable();
    let mut take = |key: &str| params.next_if(|(k, _)| k == key).map(|(_, v)| v);
    let flow = match take("src_ip") {
        None => None,
        Some(src_ip) => {
            let mut need = |key| take(key).ok_or(Bad("incomplete source and destination"));
            let src_port = need("src_port")?;
            let dst_ip = need("dst_ip")?;
            let dst_port = need("dst_port")?;
            let proto = need("proto")?;
            let session = need("session")?;
            Some(Flow {
                src: addr(&src_ip, &src_port)?,
                dst: addr(&dst_ip, &dst_port)?,
                proto: Proto::parse(&proto).ok_or(Bad("unknown proto"))?,
                session: session.into_owned(),
            })
        }
    };
    Ok(Event {
        eid,
        ts: head.ts,
        severity: head.severity,
        decky: head.decky,
        service: head.service,
        kind: head.kind,
        flow,
        fields: params
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect(),
        msg,
    })
}

fn unheader(token: &str) -> String {
    if token == "-" {
        String::new()
    } else {
        token.to_owned()
    }
}

fn addr(ip: &str, port: &str) -> Result<SocketAddr, Bad> {
    let ip: IpAddr = ip.parse().map_err(|_| Bad("bad address"))?;
    let port: u16 = port.parse().map_err(|_| Bad("bad port"))?;
    Ok(SocketAddr::new(ip, port))
}

/// Reads ` key="value"…]`; returns the parameters and what follows the bracket.
fn read_params(mut rest: &str) -> Result<(Vec<Param<'_>>, &str), Bad> {
    let mut params = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return Ok((params, after));
        }
        let param = rest
            .strip_prefix(' ')
            .ok_or(Bad("structured data does not end"))?;
        let (key, after) = param
            .split_once("=\"")
            .ok_or(Bad("parameter without value"))?;
        if key.is_empty() || key.contains([' ', ']', '"']) {
            return Err(Bad("bad parameter name"));
        }
        let (value, after) = read_value(after)?;
        params.push((Cow::Borrowed(key), value));
        rest = after;
    }
}

/// Reads up to the closing quote; returns the value and what follows the quote.
fn read_value(text: &str) -> Result<(Cow<'_, str>, &str), Bad> {
    // Most values are plain up to the quote.
    let plain = text
        .find(|c: char| matches!(c, '"' | '\\') || c.is_control())
        .ok_or(Bad("value does not end"))?;
    let (value, rest) = text.split_at(plain);
    if let Some(after) = rest.strip_prefix('"') {
        return Ok((Cow::Borrowed(value), after));
    }
    let mut value = value.to_owned();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Cow::Owned(value), rest.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(unescape_one(&mut chars)?),
            c if c.is_control() => return Err(Bad("raw control character")),
            c => value.push(c),
        }
    }
    Err(Bad("value does not end"))
}

/// Reads what stands after a backslash.
fn unescape_one(chars: &mut std::str::CharIndices<'_>) -> Result<char, Bad> {
    match chars.next() {
        Some((_, c @ ('\\' | '"' | ']'))) => Ok(c),
        Some((_, 'u')) => {
            if chars.next().map(|(_, c)| c) != Some('{') {
                return Err(Bad("bad \\u escape"));
            }
            let mut code: u32 = 0;
            for digits in 0..=6 {
                match chars.next() {
                    Some((_, '}')) if digits > 0 => {
                        return char::from_u32(code).ok_or(Bad("bad \\u escape"));
                    }
                    Some((_, c)) => {
                        let digit = c.to_digit(16).ok_or(Bad("bad \\u escape"))?;
                        code = code.checked_mul(16).ok_or(Bad("bad \\u escape"))? + digit;
                    }
                    None => break,
                }
            }
            Err(Bad("bad \\u escape"))
        }
        _ => Err(Bad("bad escape")),
    }
}

fn unescape_all(text: &str) -> Result<String, Bad> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices();
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => out.push(unescape_one(&mut chars)?),
            c if c.is_control() => return Err(Bad("raw control character")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(fields: Vec<(String, String)>, msg: String) -> Event {
        Event {
            eid: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            ts: Stamp(1_776_478_976_123_456),
            severity: Severity::Warning,
            decky: "decky-01".into(),
            service: "ftp".into(),
            kind: "auth_attempt".into(),
            flow: Some(Flow {
                src: "203.0.113.9:4711".parse().unwrap(),
                dst: "[::1]:21".parse().unwrap(),
                proto: Proto::Tcp,
                session: "s1".into(),
            }),
            fields,
            msg,
        }
    }

    #[test]
    fn the_line_is_rfc_5424() {
        let event = sample(vec![("username".into(), "a]b\"c\\d".into())], String::new());
        assert_eq!(
            write(&event),
            "<132>1 2026-04-18T02:22:56.123456+00:00 decky-01 ftp - auth_attempt [relay@55555 \
             eid=\"01ARZ3NDEKTSV4RRFFQ69G5FAV\" src_ip=\"203.0.113.9\" src_port=\"4711\" \
             dst_ip=\"::1\" dst_port=\"21\" proto=\"tcp\" session=\"s1\" \
             username=\"a\\]b\\\"c\\\\d\"]"
        );
    }

    #[test]
    fn a_forged_line_in_a_value_stays_inside_it() {
        let forged = "x\n<134>1 2026-01-01T00:00:00.000000+00:00 d s - k [relay@55555 eid=\"1\"]";
        let event = sample(vec![("body".into(), forged.into())], String::new());
        let line = write(&event);
        assert!(!line.contains('\n'));
        assert_eq!(parse(&line).unwrap(), event);
    }

    proptest! {
        #[test]
        fn any_value_makes_the_round_trip(values in prop::collection::vec(any::<String>(), 0..4), msg in any::<String>()) {
            let fields = values.into_iter().enumerate().map(|(i, v)| (format!("k{i}"), v)).collect();
            let event = sample(fields, msg);
            let line = write(&event);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(parse(&line), Ok(event));
        }

        #[test]
        fn any_line_is_read_or_refused_without_panic(line in any::<String>()) {
            let _outcome = parse(&line);
        }

        #[test]
        fn a_damaged_line_is_read_or_refused_without_panic(cut in 0usize..300, insert in any::<char>()) {
            let line = write(&sample(vec![("k".into(), "v".into())], "m".into()));
            let damaged: String = line.chars().take(cut).chain([insert]).chain(line.chars().skip(cut + 1)).collect();
            let _outcome = parse(&damaged);
        }
    }
}
