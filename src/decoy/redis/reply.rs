//! What the server answers, and its bytes in RESP2 and RESP3.

use std::borrow::Cow;

/// An error reply without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) Cow<'static, str>);

impl Fault {
    /// `ERR text`.
    pub(super) fn err(text: impl AsRef<str>) -> Self {
        Self(Cow::Owned(format!("ERR {}", text.as_ref())))
    }
}

pub(super) const NOT_INTEGER: Fault = fixed("ERR value is not an integer or out of range");
pub(super) const NOT_FLOAT: Fault = fixed("ERR value is not a valid float");
pub(super) const SYNTAX: Fault = fixed("ERR syntax error");
pub(super) const NO_KEY: Fault = fixed("ERR no such key");
pub(super) const WRONG_TYPE: Fault =
    fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(super) const OOM: Fault = fixed("OOM command not allowed when used memory > 'maxmemory'.");

/// An error with a constant text.
pub(super) const fn fixed(text: &'static str) -> Fault {
    Fault(Cow::Borrowed(text))
}

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Simple(Cow<'static, str>),
    Error(Cow<'static, str>),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    NilArray,
    Array(Vec<Reply>),
    /// Flat in RESP2.
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Double(f64),
    /// `txt` in RESP3, bulk in RESP2.
    Text(String),
    /// Out of band in RESP3.
    Push(Vec<Reply>),
    /// Several replies to one request.
    Many(Vec<Reply>),
    /// Bytes of another protocol (replication).
    Raw(Vec<u8>),
}

pub(super) const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

impl Reply {
    pub(super) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    pub(super) fn bulks<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Self {
        Reply::Array(items.into_iter().map(Reply::bulk).collect())
    }

    pub(super) fn size(count: usize) -> Self {
        Reply::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn flag(yes: bool) -> Self {
        Reply::Int(i64::from(yes))
    }

    pub(super) fn maybe(value: Option<&[u8]>) -> Self {
        value.map_or(Reply::Nil, Reply::bulk)
    }

    /// Appends the bytes for protocol version `proto` (2 or 3).
    pub(super) fn write(&self, out: &mut Vec<u8>, proto: u8) {
        let three = proto >= 3;
        match self {
            Reply::Simple(text) => line(out, b'+', text),
            Reply::Error(text) => line(out, b'-', &text.replace(['\r', '\n'], " ")),
            Reply::Int(value) => line(out, b':', &value.to_string()),
            Reply::Bulk(bytes) => blob(out, b'$', bytes),
            Reply::Nil if three => out.extend_from_slice(b"_\r\n"),
            Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
            Reply::NilArray if three => out.extend_from_slice(b"_\r\n"),
            Reply::NilArray => out.extend_from_slice(b"*-1\r\n"),
            Reply::Array(items) => list(out, b'*', items, proto),
            Reply::Set(items) => list(out, if three { b'~' } else { b'*' }, items, proto),
            Reply::Push(items) => list(out, if three { b'>' } else { b'*' }, items, proto),
            Reply::Map(pairs) => {
                let count = if three {
                    pairs.len()
                } else {
                    pairs.len().saturating_mul(2)
                };
                line(out, if three { b'%' } else { b'*' }, &count.to_string());
                for (key, value) in pairs {
                    key.write(out, proto);
                    value.write(out, proto);
                }
            }
            Reply::Double(value) if three => line(out, b',', &float(*value)),
            Reply::Double(value) => blob(out, b'$', float(*value).as_bytes()),
            Reply::Text(text) if three => {
                blob(out, b'=', format!("txt:{text}").as_bytes());
            }
            Reply::Text(text) => blob(out, b'$', text.as_bytes()),
            Reply::Many(items) => items.iter().for_each(|item| item.write(out, proto)),
            Reply::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

impl From<Result<Reply, Fault>> for Reply {
    fn from(outcome: Result<Reply, Fault>) -> Self {
        match outcome {
            Ok(reply) => reply,
            Err(Fault(text)) => Reply::Error(text),
        }
    }
}

fn line(out: &mut Vec<u8>, mark: u8, text: &str) {
    out.push(mark);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn blob(out: &mut Vec<u8>, mark: u8, bytes: &[u8]) {
    line(out, mark, &bytes.len().to_string());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn list(out: &mut Vec<u8>, mark: u8, items: &[Reply], proto: u8) {
    line(out, mark, &items.len().to_string());
    for item in items {
        item.write(out, proto);
    }
}

/// A score as the server prints it: `inf`, whole numbers without a point.
pub(super) fn float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reply_in_both_protocols() {
        let reply = Reply::Map(vec![(Reply::bulk("a"), Reply::Nil)]);
        let (mut two, mut three) = (Vec::new(), Vec::new());
        reply.write(&mut two, 2);
        reply.write(&mut three, 3);
        assert_eq!(two, b"*2\r\n$1\r\na\r\n$-1\r\n");
        assert_eq!(three, b"%1\r\n$1\r\na\r\n_\r\n");
    }

    #[test]
    fn an_error_never_spans_lines() {
        let mut out = Vec::new();
        Reply::Error("ERR a\r\nb".into()).write(&mut out, 2);
        assert_eq!(out, b"-ERR a  b\r\n");
    }
}
