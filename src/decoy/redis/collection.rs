//! Commands on hashes, lists and sets.

use rand::RngExt;

use super::call::{Cx, NOT_OURS};
use super::keyspace::{ScanOptions, cursor};
use super::reply::{Fault, NO_KEY, OK, Reply, SYNTAX, fixed};
use super::store::{grown, shrunk};
use super::text::window;

/// Most elements one reply draws at random.
const DRAW_MAX: i64 = 100_000;

pub(super) fn call(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let name = cx.word(0);
    match name.as_bytes().first() {
        Some(b'h') => hash(cx, &name),
        Some(b's') => set(cx, &name),
        _ => list(cx, &name),
    }
}

fn hash(cx: &mut Cx<'_>, name: &str) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    let field = cx.arg(2).to_vec();
    match name {
        "hset" | "hmset" => {
            let args = cx.args;
            let pairs = args.get(2..).unwrap_or_default();
            if !pairs.len().is_multiple_of(2) {
                return Err(if cx.st.version.seven() {
                    cx.wrong_arity()
                } else {
                    fixed("ERR wrong number of arguments for HMSET")
                });
            }
            let new = cx.st.store.hash_mut(db, &key, now, |map, delta| {
                let mut new = 0usize;
                for pair in pairs.chunks(2) {
                    let [field, value] = pair else { continue };
                    *delta = delta.saturating_add(grown(field.len().saturating_add(value.len())));
                    match map.insert(field.clone(), value.clone()) {
                        Some(old) => {
                            let gone = field.len().saturating_add(old.len());
                            *delta = delta.saturating_add(shrunk(gone));
                        }
                        None => new = new.saturating_add(1),
                    }
                }
                new
            })?;
            Ok(if name == "hset" { Reply::size(new) } else { OK })
        }
        "hsetnx" => {
            let value = cx.arg(3).to_vec();
            let present = cx
                .st
                .store
                .hash(db, &key, now)?
                .is_some_and(|m| m.contains_key(&field));
            if !present {
                cx.st.store.hash_mut(db, &key, now, |map, delta| {
                    *delta = grown(field.len().saturating_add(value.len()));
                    map.insert(field, value);
                })?;
            }
            Ok(Reply::flag(!present))
        }
        "hget" => {
            let value = cx
                .st
                .store
                .hash(db, &key, now)?
                .and_then(|m| m.get(&field))
                .cloned();
            Ok(cx.bulk(value.as_deref()))
        }
        "hmget" => {
            let mut values = Vec::new();
            for field in cx.args.iter().skip(2) {
                let value = cx
                    .st
                    .store
                    .hash(db, &key, now)?
                    .and_then(|m| m.get(field))
                    .cloned();
                values.push(cx.bulk(value.as_deref()));
                if cx.conn.leave {
                    break;
                }
            }
            Ok(Reply::Array(values))
        }
        "hgetall" => {
            let map = cx.st.store.hash(db, &key, now)?;
            let pairs = map.into_iter().flatten();
            Ok(Reply::Map(
                pairs
                    .map(|(k, v)| (Reply::bulk(k), Reply::bulk(v)))
                    .collect(),
            ))
        }
        "hkeys" => Ok(Reply::bulks(
            cx.st
                .store
                .hash(db, &key, now)?
                .into_iter()
                .flat_map(|m| m.keys()),
        )),
        "hvals" => Ok(Reply::bulks(
            cx.st
                .store
                .hash(db, &key, now)?
                .into_iter()
                .flat_map(|m| m.values()),
        )),
        "hlen" => Ok(Reply::size(
            cx.st.store.hash(db, &key, now)?.map_or(0, |m| m.len()),
        )),
        "hexists" => Ok(Reply::flag(
            cx.st
                .store
                .hash(db, &key, now)?
                .is_some_and(|m| m.contains_key(&field)),
        )),
        "hstrlen" => Ok(Reply::size(
            cx.st
                .store
                .hash(db, &key, now)?
                .and_then(|m| m.get(&field))
                .map_or(0, Vec::len),
        )),
        "hdel" => {
            if cx.st.store.hash(db, &key, now)?.is_none() {
                return Ok(Reply::Int(0));
            }
            let args = cx.args;
            let gone = cx.st.store.hash_mut(db, &key, now, |map, delta| {
                let mut gone = 0usize;
                for field in args.iter().skip(2) {
                    if let Some(old) = map.swap_remove(field) {
                        gone = gone.saturating_add(1);
                        *delta =
                            delta.saturating_add(shrunk(field.len().saturating_add(old.len())));
                    }
                }
                gone
            })?;
            Ok(Reply::size(gone))
        }
        "hincrby" => {
            let step = cx.int(3)?;
            let old = cx
                .st
                .store
                .hash(db, &key, now)?
                .and_then(|m| m.get(&field))
                .cloned();
            let wrong = fixed("ERR hash value is not an integer");
            let value = match &old {
                Some(text) => super::request::integer(text).ok_or(wrong)?,
                None => 0,
            };
            let overflow = fixed("ERR increment or decrement would overflow");
            let value = value.checked_add(step).ok_or(overflow)?;
            cx.st.store.hash_mut(db, &key, now, |map, delta| {
                let text = value.to_string().into_bytes();
                *delta = grown(field.len().saturating_add(text.len()));
                if let Some(old) = old {
                    *delta = delta.saturating_add(shrunk(field.len().saturating_add(old.len())));
                }
                map.insert(field, text);
            })?;
            Ok(Reply::Int(value))
        }
        "hscan" => {
            cursor(cx, 2)?;
            let options = ScanOptions::read(cx, 3)?;
            let map = cx.st.store.hash(db, &key, now)?;
            let hits = map.into_iter().flatten().filter(|(k, _)| options.fits(k));
            Ok(whole_scan(hits.flat_map(|(k, v)| [k, v])))
        }
        _ => Err(NOT_OURS),
    }
}

/// A small collection is scanned in one step, as the packed encodings are.
pub(super) fn whole_scan<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Reply {
    Reply::Array(vec![Reply::bulk("0"), Reply::bulks(items)])
}

fn list(cx: &mut Cx<'_>, name: &str) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    let left = name.starts_with('l');
    match name {
        "lpush" | "rpush" | "lpushx" | "rpushx" => {
            if name.ends_with('x') && cx.st.store.list(db, &key, now)?.is_none() {
                return Ok(Reply::Int(0));
            }
            let args = cx.args;
            let length = cx.st.store.list_mut(db, &key, now, |items, delta| {
                for item in args.iter().skip(2) {
                    *delta = delta.saturating_add(grown(item.len()));
                    if left {
                        items.push_front(item.clone());
                    } else {
                        items.push_back(item.clone());
                    }
                }
                items.len()
            })?;
            Ok(Reply::size(length))
        }
        "llen" => Ok(Reply::size(
            cx.st.store.list(db, &key, now)?.map_or(0, |l| l.len()),
        )),
        "lrange" => {
            let (from, to) = (cx.int(2)?, cx.int(3)?);
            let Some(items) = cx.st.store.list(db, &key, now)? else {
                return Ok(Reply::Array(Vec::new()));
            };
            let range = window(from, to, items.len());
            Ok(Reply::bulks(items.range(range)))
        }
        "lindex" => {
            let index = cx.int(2)?;
            let items = cx.st.store.list(db, &key, now)?;
            let item = items.and_then(|l| l.get(place(index, l.len())?)).cloned();
            Ok(Reply::maybe(item.as_deref()))
        }
        "lset" => {
            let (index, value) = (cx.int(2), cx.arg(3).to_vec());
            if cx.st.store.list(db, &key, now)?.is_none() {
                return Err(NO_KEY);
            }
            let index = index?;
            cx.st.store.list_mut(db, &key, now, |items, delta| {
                let at = place(index, items.len()).and_then(|at| items.get_mut(at));
                let slot = at.ok_or(fixed("ERR index out of range"))?;
                *delta = grown(value.len()).saturating_add(shrunk(slot.len()));
                *slot = value;
                Ok(OK)
            })?
        }
        "lpop" | "rpop" => pop(cx, &key, left),
        "rpoplpush" => {
            let to = cx.arg(2).to_vec();
            cx.st.store.list(db, &to, now)?;
            let moved = pop_one(cx, &key, false)?;
            if let Some(item) = &moved {
                cx.st.store.list_mut(db, &to, now, |items, delta| {
                    *delta = grown(item.len());
                    items.push_front(item.clone());
                })?;
            }
            Ok(Reply::maybe(moved.as_deref()))
        }
        "lrem" => {
            let (count, item) = (cx.int(2)?, cx.arg(3).to_vec());
            if cx.st.store.list(db, &key, now)?.is_none() {
                return Ok(Reply::Int(0));
            }
            let gone = cx.st.store.list_mut(db, &key, now, |items, delta| {
                let most = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
                let most = if most == 0 { usize::MAX } else { most };
                let mut gone = 0usize;
                let mut keep = |other: &Vec<u8>| {
                    let hit = *other == item && gone < most;
                    gone = gone.saturating_add(usize::from(hit));
                    !hit
                };
                if count < 0 {
                    let kept: Vec<Vec<u8>> = items.drain(..).rev().filter(|i| keep(i)).collect();
                    items.extend(kept.into_iter().rev());
                } else {
                    items.retain(keep);
                }
                for _ in 0..gone {
                    *delta = delta.saturating_add(shrunk(item.len()));
                }
                gone
            })?;
            Ok(Reply::size(gone))
        }
        "linsert" => {
            let after = match cx.word(2).as_str() {
                "before" => 0usize,
                "after" => 1,
                _ => return Err(SYNTAX),
            };
            let (pivot, item) = (cx.arg(3).to_vec(), cx.arg(4).to_vec());
            if cx.st.store.list(db, &key, now)?.is_none() {
                return Ok(Reply::Int(0));
            }
            cx.st.store.list_mut(db, &key, now, |items, delta| {
                let Some(at) = items.iter().position(|i| *i == pivot) else {
                    return Reply::Int(-1);
                };
                *delta = grown(item.len());
                items.insert(at.saturating_add(after), item);
                Reply::size(items.len())
            })
        }
        "ltrim" => {
            let (from, to) = (cx.int(2)?, cx.int(3)?);
            if cx.st.store.list(db, &key, now)?.is_none() {
                return Ok(OK);
            }
            cx.st.store.list_mut(db, &key, now, |items, delta| {
                let range = window(from, to, items.len());
                let kept = items.range(range).cloned().collect();
                let all = items
                    .iter()
                    .fold(0isize, |n, i| n.saturating_add(shrunk(i.len())));
                *items = kept;
                *delta = items
                    .iter()
                    .fold(all, |n, i| n.saturating_add(grown(i.len())));
            })?;
            Ok(OK)
        }
        _ => Err(NOT_OURS),
    }
}

fn place(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 {
        index.checked_add(length)?
    } else {
        index
    };
    usize::try_from(index).ok()
}

fn pop_one(cx: &mut Cx<'_>, key: &[u8], left: bool) -> Result<Option<Vec<u8>>, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    if cx.st.store.list(db, key, now)?.is_none() {
        return Ok(None);
    }
    cx.st.store.list_mut(db, key, now, |items, delta| {
        let item = if left {
            items.pop_front()
        } else {
            items.pop_back()
        };
        if let Some(item) = &item {
            *delta = shrunk(item.len());
        }
        item
    })
}

fn pop(cx: &mut Cx<'_>, key: &[u8], left: bool) -> Result<Reply, Fault> {
    if cx.args.len() == 2 {
        return Ok(Reply::maybe(pop_one(cx, key, left)?.as_deref()));
    }
    if !cx.st.version.seven() || cx.args.len() > 3 {
        return Err(cx.wrong_arity());
    }
    let count = cx
        .int(2)
        .ok()
        .filter(|n| *n >= 0)
        .ok_or(fixed("ERR value is out of range, must be positive"))?;
    if cx.st.store.list(cx.conn.db, key, cx.now)?.is_none() {
        return Ok(Reply::NilArray);
    }
    let mut items = Vec::new();
    for _ in 0..count {
        match pop_one(cx, key, left)? {
            Some(item) => items.push(item),
            None => break,
        }
    }
    Ok(Reply::bulks(items))
}

fn set(cx: &mut Cx<'_>, name: &str) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    let args = cx.args;
    match name {
        "sadd" => {
            let new = cx.st.store.set_mut(db, &key, now, |items, delta| {
                let mut new = 0usize;
                for item in args.iter().skip(2) {
                    if items.insert(item.clone()) {
                        new = new.saturating_add(1);
                        *delta = delta.saturating_add(grown(item.len()));
                    }
                }
                new
            })?;
            Ok(Reply::size(new))
        }
        "srem" => {
            if cx.st.store.set(db, &key, now)?.is_none() {
                return Ok(Reply::Int(0));
            }
            let gone = cx.st.store.set_mut(db, &key, now, |items, delta| {
                let mut gone = 0usize;
                for item in args.iter().skip(2) {
                    if items.swap_remove(item) {
                        gone = gone.saturating_add(1);
                        *delta = delta.saturating_add(shrunk(item.len()));
                    }
                }
                gone
            })?;
            Ok(Reply::size(gone))
        }
        "smembers" => {
            let items = cx.st.store.set(db, &key, now)?;
            Ok(Reply::Set(
                items.into_iter().flatten().map(Reply::bulk).collect(),
            ))
        }
        "sismember" => Ok(Reply::flag(cx.st.store.set(db, &key, now)?.is_some_and(
            |s| s.contains(cx.args.get(2).map_or(&[][..], Vec::as_slice)),
        ))),
        "scard" => Ok(Reply::size(
            cx.st.store.set(db, &key, now)?.map_or(0, |s| s.len()),
        )),
        "spop" | "srandmember" => draw(cx, name == "spop"),
        "sscan" => {
            cursor(cx, 2)?;
            let options = ScanOptions::read(cx, 3)?;
            let items = cx.st.store.set(db, &key, now)?;
            Ok(whole_scan(
                items.into_iter().flatten().filter(|i| options.fits(i)),
            ))
        }
        _ => Err(NOT_OURS),
    }
}

fn draw(cx: &mut Cx<'_>, take: bool) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    let one = cx.args.len() == 2;
    let count = if one { 1 } else { cx.int(2)? };
    if take && count < 0 {
        return Err(fixed("ERR value is out of range, must be positive"));
    }
    let count = count.clamp(DRAW_MAX.saturating_neg(), DRAW_MAX);
    let mut drawn = Vec::new();
    for step in 0..count.unsigned_abs() {
        let Some(items) = cx.st.store.set(db, &key, now)? else {
            break;
        };
        // Distinct draws walk on from one random place; a negative count may repeat.
        let at = if count < 0 || take || one {
            rand::rng().random_range(0..items.len().max(1))
        } else {
            usize::try_from(step).unwrap_or(usize::MAX)
        };
        let Some(item) = items.get_index(at).cloned() else {
            break;
        };
        if take {
            cx.st.store.set_mut(db, &key, now, |items, delta| {
                if items.swap_remove(&item) {
                    *delta = shrunk(item.len());
                }
            })?;
        }
        drawn.push(cx.bulk(Some(&item)));
        if cx.conn.leave {
            break;
        }
    }
    if one {
        return Ok(drawn.pop().unwrap_or(Reply::Nil));
    }
    Ok(Reply::Array(drawn))
}
