//! Commands on keys of any type, and on whole databases.

use rand::RngExt;

use super::call::{Cx, NOT_OURS, database, glob};
use super::reply::{Fault, NO_KEY, OK, Reply, SYNTAX, WRONG_TYPE, fixed};
use super::store::{Entry, Value};

/// Most keys one reply lists.
const LIST_MAX: usize = 100_000;

pub(super) fn call(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    match cx.word(0).as_str() {
        "del" | "unlink" => Ok(count(cx, |cx, key| {
            cx.st.store.remove(db, key, now).is_some()
        })),
        "exists" | "touch" => Ok(count(cx, |cx, key| cx.st.store.get(db, key, now).is_some())),
        name @ ("expire" | "pexpire" | "expireat" | "pexpireat") => {
            let unit = if name.starts_with('p') { 1 } else { 1000 };
            let base = if name.ends_with("at") { 0 } else { now };
            let at = cx
                .int(2)?
                .checked_mul(unit)
                .and_then(|ms| ms.checked_add(base))
                .ok_or_else(|| Fault::err(format!("invalid expire time in '{name}' command")))?;
            Ok(Reply::flag(cx.st.store.expire(db, &key, Some(at), now)))
        }
        name @ ("ttl" | "pttl" | "expiretime" | "pexpiretime") => {
            let left = match cx.st.store.get(db, &key, now) {
                None => -2,
                Some(Entry { expires: None, .. }) => -1,
                Some(Entry {
                    expires: Some(at), ..
                }) => {
                    let base = if name.ends_with("time") { 0 } else { now };
                    let ms = at.saturating_sub(base);
                    if name.starts_with('p') {
                        ms
                    } else {
                        ms.saturating_add(500).wrapping_div(1000)
                    }
                }
            };
            Ok(Reply::Int(left))
        }
        "persist" => {
            let bound = cx
                .st
                .store
                .get(db, &key, now)
                .is_some_and(|e| e.expires.is_some());
            if bound {
                cx.st.store.expire(db, &key, None, now);
            }
            Ok(Reply::flag(bound))
        }
        "type" => {
            let kind = cx
                .st
                .store
                .get(db, &key, now)
                .map_or("none", |e| e.value.kind());
            Ok(Reply::Simple(kind.into()))
        }
        "keys" => {
            cx.st.store.sweep(db, now);
            let found: Vec<Vec<u8>> = cx
                .st
                .store
                .iter(db)
                .filter(|(name, _)| glob(key.get(..key.len().min(1024)).unwrap_or_default(), name))
                .take(LIST_MAX)
                .map(|(name, _)| name.to_vec())
                .collect();
            Ok(Reply::bulks(found))
        }
        "scan" => scan(cx),
        "randomkey" => {
            cx.st.store.sweep(db, now);
            let some = cx.st.store.any(db, rand::rng().random());
            Ok(Reply::maybe(some))
        }
        "dbsize" => {
            cx.st.store.sweep(db, now);
            Ok(Reply::size(cx.st.store.len(db)))
        }
        name @ ("rename" | "renamenx") => rename(cx, name == "renamenx"),
        name @ ("flushall" | "flushdb") => {
            if cx.args.len() > 2
                || (cx.args.len() == 2 && !["sync", "async"].contains(&cx.word(1).as_str()))
            {
                return Err(SYNTAX);
            }
            cx.st.store.flush((name == "flushdb").then_some(db));
            Ok(OK)
        }
        "swapdb" => {
            let (a, b) = (database(cx, 1)?, database(cx, 2)?);
            cx.st.store.swap(a, b);
            Ok(OK)
        }
        "move" | "copy" => transfer(cx),
        "object" => object(cx),
        "sort" => sort(cx),
        _ => Err(NOT_OURS),
    }
}

fn count(cx: &mut Cx<'_>, hit: impl Fn(&mut Cx<'_>, &[u8]) -> bool) -> Reply {
    let args = cx.args;
    let hits = args.iter().skip(1).filter(|key| hit(cx, key)).count();
    Reply::size(hits)
}

/// What the options of SCAN and its kin say.
#[derive(Debug)]
pub(super) struct ScanOptions {
    pub(super) pattern: Option<Vec<u8>>,
    pub(super) count: usize,
    kind: Option<String>,
}

impl ScanOptions {
    pub(super) fn read(cx: &Cx<'_>, mut at: usize) -> Result<Self, Fault> {
        let mut options = Self {
            pattern: None,
            count: 10,
            kind: None,
        };
        while at < cx.args.len() {
            let value = at.saturating_add(1);
            if value >= cx.args.len() {
                return Err(SYNTAX);
            }
            match cx.word(at).as_str() {
                "match" => {
                    let pattern = cx.arg(value);
                    options.pattern = Some(
                        pattern
                            .get(..pattern.len().min(1024))
                            .unwrap_or_default()
                            .to_vec(),
                    );
                }
                "count" => {
                    options.count = usize::try_from(cx.int(value)?)
                        .ok()
                        .filter(|n| *n > 0)
                        .ok_or(SYNTAX)?;
                }
                "type" if cx.st.version.six() && cx.word(0) == "scan" => {
                    options.kind = Some(cx.word(value));
                }
                _ => return Err(SYNTAX),
            }
            at = value.saturating_add(1);
        }
        Ok(options)
    }

    pub(super) fn fits(&self, name: &[u8]) -> bool {
        self.pattern.as_deref().is_none_or(|p| glob(p, name))
    }
}

pub(super) fn cursor(cx: &Cx<'_>, at: usize) -> Result<u64, Fault> {
    std::str::from_utf8(cx.arg(at))
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(fixed("ERR invalid cursor"))
}

fn scan(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let from = cursor(cx, 1)?;
    let options = ScanOptions::read(cx, 2)?;
    cx.st.store.sweep(db, now);
    let (next, mut keys) = cx.st.store.scan(db, from, options.count.min(LIST_MAX));
    keys.retain(|key| options.fits(key));
    if let Some(kind) = &options.kind {
        keys.retain(|key| {
            cx.st
                .store
                .get(db, key, now)
                .is_some_and(|e| e.value.kind() == kind)
        });
    }
    Ok(Reply::Array(vec![
        Reply::bulk(next.to_string()),
        Reply::bulks(keys),
    ]))
}

fn rename(cx: &mut Cx<'_>, only_new: bool) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let to = cx.arg(2).to_vec();
    let from = cx.arg(1).to_vec();
    if cx.st.store.get(db, &from, now).is_none() {
        return Err(NO_KEY);
    }
    if only_new && cx.st.store.get(db, &to, now).is_some() {
        return Ok(Reply::Int(0));
    }
    if let Some(entry) = cx.st.store.remove(db, &from, now) {
        cx.st.store.put(db, &to, entry.value, entry.expires, now);
    }
    Ok(if only_new { Reply::Int(1) } else { OK })
}

fn transfer(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let copy = cx.word(0) == "copy";
    let (mut target, mut over) = (db, false);
    let key = cx.arg(1).to_vec();
    let name = if copy {
        cx.arg(2).to_vec()
    } else {
        key.clone()
    };
    if copy {
        let mut at = 3usize;
        while at < cx.args.len() {
            match cx.word(at).as_str() {
                "replace" => over = true,
                "db" => {
                    at = at.saturating_add(1);
                    target = database(cx, at)?;
                }
                _ => return Err(SYNTAX),
            }
            at = at.saturating_add(1);
        }
    } else {
        target = database(cx, 2)?;
    }
    if target == db && name == key {
        return Err(fixed("ERR source and destination objects are the same"));
    }
    let Some(entry) = cx.st.store.get(db, &key, now).cloned() else {
        return Ok(Reply::Int(0));
    };
    if !over && cx.st.store.get(target, &name, now).is_some() {
        return Ok(Reply::Int(0));
    }
    if !copy {
        cx.st.store.remove(db, &key, now);
    }
    cx.st
        .store
        .put(target, &name, entry.value, entry.expires, now);
    Ok(Reply::Int(1))
}

fn object(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let seven = cx.st.version.seven();
    let sub = cx.word(1);
    match (sub.as_str(), cx.args.len()) {
        ("encoding" | "refcount" | "idletime" | "freq", 3) => {}
        ("encoding" | "refcount" | "idletime" | "freq", _) => return Err(cx.wrong_arity_of_sub()),
        _ => return Err(cx.unknown_sub()),
    }
    let key = cx.arg(2).to_vec();
    // Looking does not count as an access.
    let found = cx
        .st
        .store
        .iter(db)
        .find(|(name, e)| *name == key.as_slice() && e.expires.is_none_or(|at| at > now));
    let Some((_, entry)) = found else {
        return Ok(Reply::Nil);
    };
    match sub.as_str() {
        "encoding" => Ok(Reply::bulk(encoding(&entry.value, seven))),
        "refcount" => Ok(Reply::Int(1)),
        "idletime" => Ok(Reply::Int(
            now.saturating_sub(entry.access).max(0).wrapping_div(1000),
        )),
        _ => Err(fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

fn encoding(value: &Value, seven: bool) -> &'static str {
    let packed = if seven { "listpack" } else { "ziplist" };
    match value {
        Value::Str(text) if super::request::integer(text).is_some() => "int",
        Value::Str(text) if text.len() <= 44 => "embstr",
        Value::Str(_) => "raw",
        Value::List(_) => "quicklist",
        Value::Hash(items) if items.len() <= 512 => packed,
        Value::Hash(_) => "hashtable",
        Value::Set(items) if items.iter().all(|i| super::request::integer(i).is_some()) => "intset",
        Value::Set(_) => "hashtable",
        Value::Zset(items) if items.len() <= 128 => packed,
        Value::Zset(_) => "skiplist",
    }
}

fn sort(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    let (mut alpha, mut down) = (false, false);
    for at in 2..cx.args.len() {
        match cx.word(at).as_str() {
            "alpha" => alpha = true,
            "desc" => down = true,
            "asc" => down = false,
            _ => return Err(SYNTAX),
        }
    }
    let mut items: Vec<Vec<u8>> = match cx.st.store.get(db, &key, now).map(|e| &e.value) {
        None => Vec::new(),
        Some(Value::List(items)) => items.iter().cloned().collect(),
        Some(Value::Set(items)) => items.iter().cloned().collect(),
        Some(Value::Zset(items)) => items.keys().cloned().collect(),
        Some(_) => return Err(WRONG_TYPE),
    };
    if alpha {
        items.sort();
    } else {
        let mut scored = Vec::new();
        for item in items {
            let score: Option<f64> = std::str::from_utf8(&item).ok().and_then(|t| t.parse().ok());
            let score = score.ok_or(fixed(
                "ERR One or more scores can't be converted into double",
            ))?;
            scored.push((score, item));
        }
        scored.sort_by(|a, b| a.0.total_cmp(&b.0));
        items = scored.into_iter().map(|(_, item)| item).collect();
    }
    if down {
        items.reverse();
    }
    Ok(Reply::bulks(items))
}
