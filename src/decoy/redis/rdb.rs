//! The dump format (RDB): what SAVE would have written, what a replica is sent, what
//! DUMP returns. Written as valid files with the plain encodings; nothing is read back.

use super::call::{Cx, Note};
use super::reply::{Fault, Reply, fixed, float};
use super::store::{DATABASES, Store, Value};

/// Format version by server: 9 up to 6.x, 10 from 7.0.
fn format(server: &str) -> u16 {
    if server.starts_with('7') { 10 } else { 9 }
}

/// A whole dump file.
pub(super) fn dump(store: &Store, server: &str, now: i64) -> Vec<u8> {
    let mut out = format!("REDIS{:04}", format(server)).into_bytes();
    for (key, value) in [("redis-ver", server), ("redis-bits", "64")] {
        out.push(0xfa);
        text(&mut out, key.as_bytes());
        text(&mut out, value.as_bytes());
    }
    for db in 0..DATABASES {
        if store.len(db) == 0 {
            continue;
        }
        out.push(0xfe);
        length(&mut out, db);
        for (key, entry) in store.iter(db) {
            if let Some(at) = entry.expires {
                if at <= now {
                    continue;
                }
                out.push(0xfc);
                out.extend_from_slice(&at.to_le_bytes());
            }
            out.push(kind(&entry.value));
            text(&mut out, key);
            body(&mut out, &entry.value);
        }
    }
    out.push(0xff);
    let sum = crc64(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Str(_) => 0,
        Value::List(_) => 1,
        Value::Set(_) => 2,
        Value::Zset(_) => 3,
        Value::Hash(_) => 4,
    }
}

fn body(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Str(bytes) => text(out, bytes),
        Value::List(items) => {
            length(out, items.len());
            items.iter().for_each(|item| text(out, item));
        }
        Value::Set(items) => {
            length(out, items.len());
            items.iter().for_each(|item| text(out, item));
        }
        Value::Hash(items) => {
            length(out, items.len());
            for (field, value) in items {
                text(out, field);
                text(out, value);
            }
        }
        Value::Zset(items) => {
            length(out, items.len());
            for (member, score) in items {
                text(out, member);
                // A score is a short string with a one-byte length.
                let score = float(*score);
                let size = score.len().min(252);
                out.push(u8::try_from(size).unwrap_or(0));
                out.extend_from_slice(score.as_bytes().get(..size).unwrap_or_default());
            }
        }
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn length(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    let [.., c, d] = n.to_be_bytes();
    match n {
        0..64 => out.push(d),
        64..16_384 => out.extend_from_slice(&[0x40 | c, d]),
        _ => {
            out.push(0x80);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

/// CRC-64 with the Jones polynomial, reflected, as Redis uses it.
fn crc64(bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = table();
    bytes.iter().fold(0, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        let entry = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or(0);
        entry ^ crc.wrapping_shr(8)
    })
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler, which would refuse a bad index"
)]
const fn table() -> [u64; 256] {
    let mut table = [0u64; 256];
    let mut n = 0usize;
    while n < 256 {
        let mut crc = n as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x95ac_9329_ac4b_c9b5
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

/// DUMP, RESTORE and the replica's side of replication.
pub(super) fn call(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (db, now) = (cx.conn.db, cx.now);
    let server = cx.st.persona.redis_version.clone();
    match cx.word(0).as_str() {
        "dump" => {
            let key = cx.arg(1).to_vec();
            let Some(entry) = cx.st.store.get(db, &key, now) else {
                return Ok(Reply::Nil);
            };
            let mut out = vec![kind(&entry.value)];
            body(&mut out, &entry.value);
            out.extend_from_slice(&format(&server).to_le_bytes());
            let sum = crc64(&out);
            out.extend_from_slice(&sum.to_le_bytes());
            Ok(Reply::Bulk(out))
        }
        "restore" => {
            let (key, bytes) = (cx.arg(1).to_vec(), cx.arg(3));
            let replace = (4..cx.args.len()).any(|at| cx.word(at) == "replace");
            if cx.int(2)? < 0 {
                return Err(fixed("ERR Invalid TTL value, must be >= 0"));
            }
            let sum = bytes.split_last_chunk::<8>();
            let whole = sum.is_some_and(|(rest, sum)| {
                rest.len() > 2 && crc64(rest) == u64::from_le_bytes(*sum)
            });
            if cx.st.store.get(db, &key, now).is_some() && !replace {
                return Err(fixed("BUSYKEY Target key name already exists."));
            }
            Err(if whole {
                fixed("ERR Bad data format")
            } else {
                fixed("ERR DUMP payload version or checksum are wrong")
            })
        }
        name => {
            let op = if name == "sync" { "sync" } else { "psync" };
            cx.notes.push(Note::Replica { op });
            if cx.st.master.is_some() {
                return Err(fixed(
                    "NOMASTERLINK Can't SYNC while not connected with my master",
                ));
            }
            let file = dump(&cx.st.store, &server, now);
            let mut out = Vec::new();
            if op == "psync" {
                out.extend_from_slice(format!("+FULLRESYNC {} 0\r\n", cx.st.replid).as_bytes());
            }
            out.extend_from_slice(format!("${}\r\n", file.len()).as_bytes());
            out.extend_from_slice(&file);
            Ok(Reply::Raw(out))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_redis_own() {
        // The test value of crc64.c.
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
