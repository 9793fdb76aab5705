//! The common commands on sorted sets.

use super::call::{Cx, NOT_OURS};
use super::collection::whole_scan;
use super::keyspace::{ScanOptions, cursor};
use super::reply::{Fault, NOT_FLOAT, Reply, SYNTAX, float};
use super::store::{grown, shrunk};
use super::text::window;

pub(super) fn call(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let key = cx.arg(1).to_vec();
    let args = cx.args;
    let member = cx.arg(2).to_vec();
    match cx.word(0).as_str() {
        "zadd" => add(cx, &key),
        "zscore" => {
            let score = cx
                .st
                .store
                .zset(db, &key, now)?
                .and_then(|z| z.get(&member));
            Ok(score.map_or(Reply::Nil, |s| Reply::Double(*s)))
        }
        "zcard" => Ok(Reply::size(
            cx.st.store.zset(db, &key, now)?.map_or(0, |z| z.len()),
        )),
        "zrem" => {
            if cx.st.store.zset(db, &key, now)?.is_none() {
                return Ok(Reply::Int(0));
            }
            let gone = cx.st.store.zset_mut(db, &key, now, |items, delta| {
                let mut gone = 0usize;
                for member in args.iter().skip(2) {
                    if items.swap_remove(member).is_some() {
                        gone = gone.saturating_add(1);
                        *delta = delta.saturating_add(shrunk(member.len()));
                    }
                }
                gone
            })?;
            Ok(Reply::size(gone))
        }
        "zincrby" => {
            let step = score(cx.arg(2))?;
            let member = cx.arg(3).to_vec();
            let value = cx.st.store.zset_mut(db, &key, now, |items, delta| {
                let length = member.len();
                if !items.contains_key(&member) {
                    *delta = grown(length);
                }
                let slot = items.entry(member).or_insert(0.0);
                *slot += step;
                *slot
            })?;
            Ok(Reply::Double(value))
        }
        "zrank" => {
            let order = sorted(cx, &key)?;
            let at = order.iter().position(|(m, _)| *m == member);
            Ok(at.map_or(Reply::Nil, Reply::size))
        }
        name @ ("zrange" | "zrevrange") => {
            let (from, to) = (cx.int(2)?, cx.int(3)?);
            let scores = match cx.args.len() {
                4 => false,
                5 if cx.word(4) == "withscores" => true,
                _ => return Err(SYNTAX),
            };
            let mut order = sorted(cx, &key)?;
            if name == "zrevrange" {
                order.reverse();
            }
            let range = window(from, to, order.len());
            let mut items = Vec::new();
            for (member, score) in order.get(range).unwrap_or_default() {
                items.push(Reply::bulk(member));
                if scores {
                    items.push(Reply::bulk(float(*score)));
                }
            }
            Ok(Reply::Array(items))
        }
        "zscan" => {
            cursor(cx, 2)?;
            let options = ScanOptions::read(cx, 3)?;
            let items = cx.st.store.zset(db, &key, now)?;
            let hits = items.into_iter().flatten().filter(|(m, _)| options.fits(m));
            Ok(whole_scan(
                hits.flat_map(|(m, s)| [m.clone(), float(*s).into_bytes()]),
            ))
        }
        _ => Err(NOT_OURS),
    }
}

fn score(text: &[u8]) -> Result<f64, Fault> {
    let value: Option<f64> = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    value.filter(|v| !v.is_nan()).ok_or(NOT_FLOAT)
}

fn sorted(cx: &mut Cx<'_>, key: &[u8]) -> Result<Vec<(Vec<u8>, f64)>, Fault> {
    let items = cx.st.store.zset(cx.conn.db, key, cx.now)?;
    let mut order: Vec<(Vec<u8>, f64)> = items
        .into_iter()
        .flatten()
        .map(|(m, s)| (m.clone(), *s))
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    Ok(order)
}

fn add(cx: &mut Cx<'_>, key: &[u8]) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let mut at = 2usize;
    let (mut nx, mut xx) = (false, false);
    loop {
        match cx.word(at).as_str() {
            "nx" => nx = true,
            "xx" => xx = true,
            _ => break,
        }
        at = at.saturating_add(1);
    }
    let pairs = cx.args.get(at..).unwrap_or_default();
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) || (nx && xx) {
        return Err(SYNTAX);
    }
    let mut scored = Vec::new();
    for pair in pairs.chunks(2) {
        if let [value, member] = pair {
            scored.push((score(value)?, member.clone()));
        }
    }
    let new = cx.st.store.zset_mut(db, key, now, |items, delta| {
        let mut new = 0usize;
        for (score, member) in scored {
            let present = items.contains_key(&member);
            if (nx && present) || (xx && !present) {
                continue;
            }
            if !present {
                new = new.saturating_add(1);
                *delta = delta.saturating_add(grown(member.len()));
            }
            items.insert(member, score);
        }
        new
    })?;
    Ok(Reply::size(new))
}
