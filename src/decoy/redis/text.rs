//! Commands on strings.

use super::call::{Cx, NOT_OURS};
use super::reply::{Fault, NOT_FLOAT, NOT_INTEGER, OK, Reply, SYNTAX, fixed};
use super::store::{MAX_STRING, Value};

const TOO_LONG: Fault = fixed("ERR string exceeds maximum allowed size (512MB)");
const OVERFLOW: Fault = fixed("ERR increment or decrement would overflow");

pub(super) fn call(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    match cx.word(0).as_str() {
        "get" => get(cx, &key),
        "set" => set(cx, &key),
        "setnx" => {
            let free = cx.st.store.get(db, &key, now).is_none();
            if free {
                store(cx, &key, cx.arg(2).to_vec(), None);
            }
            Ok(Reply::flag(free))
        }
        "setex" | "psetex" => {
            let unit = if cx.word(0) == "setex" { 1000 } else { 1 };
            let end = lifetime(cx, 2, unit, false)?;
            store(cx, &key, cx.arg(3).to_vec(), Some(end));
            Ok(OK)
        }
        "getset" => {
            let old = get(cx, &key)?;
            store(cx, &key, cx.arg(2).to_vec(), None);
            Ok(old)
        }
        "getdel" => {
            let old = get(cx, &key)?;
            cx.st.store.remove(db, &key, now);
            Ok(old)
        }
        "getex" => get(cx, &key),
        "mget" => {
            let mut values = Vec::new();
            for key in cx.args.iter().skip(1) {
                let value = cx.st.store.string(db, key, now).unwrap_or(None).cloned();
                values.push(cx.bulk(value.as_deref()));
                if cx.conn.leave {
                    break;
                }
            }
            Ok(Reply::Array(values))
        }
        "mset" | "msetnx" => many(cx),
        "incr" => add(cx, &key, 1),
        "decr" => add(cx, &key, -1),
        "incrby" => add(cx, &key, cx.int(2)?),
        "decrby" => match cx.int(2)?.checked_neg() {
            Some(step) => add(cx, &key, step),
            None => Err(fixed("ERR decrement would overflow")),
        },
        "incrbyfloat" => add_float(cx, &key),
        "append" => {
            let tail = cx.arg(2).to_vec();
            let length = cx.st.store.string_mut(db, &key, now, |text, delta| {
                if text.len().saturating_add(tail.len()) > MAX_STRING {
                    return Err(TOO_LONG);
                }
                text.extend_from_slice(&tail);
                *delta = isize::try_from(tail.len()).unwrap_or(isize::MAX);
                Ok(text.len())
            })??;
            Ok(Reply::size(length))
        }
        "strlen" => {
            let text = cx.st.store.string(db, &key, now)?;
            Ok(Reply::size(text.map_or(0, Vec::len)))
        }
        "getrange" | "substr" => {
            let (from, to) = (cx.int(2)?, cx.int(3)?);
            let text = cx
                .st
                .store
                .string(db, &key, now)?
                .cloned()
                .unwrap_or_default();
            let range = window(from, to, text.len());
            Ok(cx.bulk(Some(text.get(range).unwrap_or_default())))
        }
        "setrange" => {
            let offset =
                usize::try_from(cx.int(2)?).map_err(|_| fixed("ERR offset is out of range"))?;
            let part = cx.arg(3).to_vec();
            overwrite(cx, &key, offset, &part)
        }
        "getbit" => {
            let (byte, bit) = offset(cx)?;
            let text = cx.st.store.string(db, &key, now)?;
            let byte = text.and_then(|t| t.get(byte)).copied().unwrap_or(0);
            Ok(Reply::Int(i64::from(byte.wrapping_shr(bit) & 1)))
        }
        "setbit" => {
            let (at, bit) = offset(cx)?;
            let on = match cx.arg(3) {
                b"0" => 0u8,
                b"1" => 1,
                _ => return Err(fixed("ERR bit is not an integer or out of range")),
            };
            let old = cx.st.store.string(db, &key, now)?;
            let byte = old.and_then(|t| t.get(at)).copied().unwrap_or(0);
            let new = byte & !1u8.wrapping_shl(bit) | on.wrapping_shl(bit);
            overwrite(cx, &key, at, &[new])?;
            Ok(Reply::Int(i64::from(byte.wrapping_shr(bit) & 1)))
        }
        "bitcount" => {
            let text = cx.st.store.string(db, &key, now)?;
            let ones = text.map_or(0, |t| {
                t.iter()
                    .fold(0i64, |sum, b| sum.saturating_add(i64::from(b.count_ones())))
            });
            Ok(Reply::Int(ones))
        }
        _ => Err(NOT_OURS),
    }
}

fn store(cx: &mut Cx<'_>, key: &[u8], text: Vec<u8>, expires: Option<i64>) {
    let (db, now) = (cx.conn.db, cx.now);
    cx.st.store.put(db, key, Value::Str(text), expires, now);
}

fn get(cx: &mut Cx<'_>, key: &[u8]) -> Result<Reply, Fault> {
    let value = cx.st.store.string(cx.conn.db, key, cx.now)?.cloned();
    let stats = &mut cx.st.stats;
    match value {
        Some(_) => stats.hits = stats.hits.saturating_add(1),
        None => stats.misses = stats.misses.saturating_add(1),
    }
    Ok(cx.bulk(value.as_deref()))
}

/// When something given a lifetime at argument `at` ends.
pub(super) fn lifetime(cx: &Cx<'_>, at: usize, unit: i64, absolute: bool) -> Result<i64, Fault> {
    let name = cx.word(0);
    let wrong = || {
        Fault::err(if cx.st.version.seven() {
            format!("invalid expire time in '{name}' command")
        } else {
            format!("invalid expire time in {name}")
        })
    };
    let value = cx.int(at)?;
    if value <= 0 {
        return Err(wrong());
    }
    let value = value.checked_mul(unit).ok_or_else(wrong)?;
    let base = if absolute { 0 } else { cx.now };
    value.checked_add(base).ok_or_else(wrong)
}

fn set(cx: &mut Cx<'_>, key: &[u8]) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let (mut nx, mut xx, mut keep, mut want_old, mut end) = (false, false, false, false, None);
    let modern = cx.st.version.seven();
    let mut at = 3usize;
    while at < cx.args.len() {
        match cx.word(at).as_str() {
            "nx" if !xx => nx = true,
            "xx" if !nx => xx = true,
            "keepttl" if cx.st.version.six() && end.is_none() => keep = true,
            "get" if modern => want_old = true,
            unit @ ("ex" | "px" | "exat" | "pxat")
                if end.is_none() && !keep && (modern || unit.len() == 2) =>
            {
                at = at.saturating_add(1);
                if at >= cx.args.len() {
                    return Err(SYNTAX);
                }
                let factor = if unit.starts_with('e') { 1000 } else { 1 };
                end = Some((at, factor, unit.len() > 2));
            }
            _ => return Err(SYNTAX),
        }
        at = at.saturating_add(1);
    }
    let end = match end {
        Some((at, factor, absolute)) => Some(lifetime(cx, at, factor, absolute)?),
        None if keep => cx.st.store.get(db, key, now).and_then(|e| e.expires),
        None => None,
    };
    let old = if want_old { get(cx, key)? } else { Reply::Nil };
    let present = cx.st.store.get(db, key, now).is_some();
    if (nx && present) || (xx && !present) {
        return Ok(if want_old { old } else { Reply::Nil });
    }
    store(cx, key, cx.arg(2).to_vec(), end);
    Ok(if want_old { old } else { OK })
}

fn many(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let only_new = cx.word(0) == "msetnx";
    let pairs = cx.args.get(1..).unwrap_or_default();
    if !pairs.len().is_multiple_of(2) {
        return Err(if cx.st.version.seven() {
            cx.wrong_arity()
        } else {
            fixed("ERR wrong number of arguments for MSET")
        });
    }
    if only_new {
        for pair in pairs.chunks(2) {
            if let [key, _] = pair
                && cx.st.store.get(db, key, now).is_some()
            {
                return Ok(Reply::Int(0));
            }
        }
    }
    for pair in pairs.chunks(2) {
        if let [key, value] = pair {
            store(cx, key, value.clone(), None);
        }
    }
    Ok(if only_new { Reply::Int(1) } else { OK })
}

fn add(cx: &mut Cx<'_>, key: &[u8], step: i64) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let old = match cx.st.store.string(db, key, now)? {
        Some(text) => super::request::integer(text).ok_or(NOT_INTEGER)?,
        None => 0,
    };
    let new = old.checked_add(step).ok_or(OVERFLOW)?;
    replace(cx, key, new.to_string().into_bytes())?;
    Ok(Reply::Int(new))
}

fn add_float(cx: &mut Cx<'_>, key: &[u8]) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let number = |text: &[u8]| {
        let value: Option<f64> = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
        value.filter(|v| v.is_finite()).ok_or(NOT_FLOAT)
    };
    let old = match cx.st.store.string(db, key, now)? {
        Some(text) => number(text)?,
        None => 0.0,
    };
    let shown = super::reply::float(old + number(cx.arg(2))?);
    replace(cx, key, shown.clone().into_bytes())?;
    Ok(Reply::bulk(shown))
}

/// Sets the text and keeps the time to live.
fn replace(cx: &mut Cx<'_>, key: &[u8], new: Vec<u8>) -> Result<(), Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    cx.st.store.string_mut(db, key, now, |text, delta| {
        *delta = change(text.len(), new.len());
        *text = new;
    })
}

fn overwrite(cx: &mut Cx<'_>, key: &[u8], offset: usize, part: &[u8]) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    if part.is_empty() {
        let length = cx.st.store.string(db, key, now)?.map_or(0, Vec::len);
        return Ok(Reply::size(length));
    }
    let end = offset.saturating_add(part.len());
    if end > MAX_STRING {
        return Err(TOO_LONG);
    }
    let length = cx.st.store.string_mut(db, key, now, |text, delta| {
        let before = text.len();
        if before < end {
            text.resize(end, 0);
        }
        if let Some(slot) = text.get_mut(offset..end) {
            slot.copy_from_slice(part);
        }
        *delta = change(before, text.len());
        text.len()
    })?;
    Ok(Reply::size(length))
}

fn change(before: usize, after: usize) -> isize {
    let size = |n: usize| isize::try_from(n).unwrap_or(isize::MAX);
    size(after).saturating_sub(size(before))
}

/// Byte and bit (from the low end) of a bit offset argument.
fn offset(cx: &Cx<'_>) -> Result<(usize, u32), Fault> {
    let wrong = fixed("ERR bit offset is not an integer or out of range");
    let Some(bit) = super::request::integer(cx.arg(2)).filter(|b| *b >= 0) else {
        return Err(wrong);
    };
    let byte = usize::try_from(bit.wrapping_div(8)).unwrap_or(usize::MAX);
    let low = u32::try_from(bit & 7).unwrap_or(0);
    Ok((byte, 7u32.saturating_sub(low)))
}

/// A range as GETRANGE and LRANGE take it: inclusive, negative from the end.
pub(super) fn window(from: i64, to: i64, length: usize) -> std::ops::Range<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |n: i64| if n < 0 { n.saturating_add(length) } else { n };
    let from = place(from).max(0);
    let to = place(to).saturating_add(1).min(length);
    if from >= to {
        return 0..0;
    }
    usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0)
}
