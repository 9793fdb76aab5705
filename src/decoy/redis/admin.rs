//! Commands an operator would use, and an intruder does: saving, replication, modules,
//! diagnostics. Nothing leaves the process: a dump becomes an artifact, a master is
//! noted and never called.

use super::call::{Cx, NOT_OURS, Note};
use super::rdb;
use super::reply::{Fault, OK, Reply, SYNTAX, fixed};
use super::store::{DATABASES, Value};

/// Largest dump that is kept.
const DUMP_MAX: usize = crate::decoy::artifact::MAX_BYTES;
/// Most bytes of visitors' values quoted in the event.
const PAYLOAD_MAX: usize = 8 * 1024;

pub(super) fn call(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let now = cx.now;
    match cx.word(0).as_str() {
        "save" => {
            save(cx, "save");
            Ok(OK)
        }
        "bgsave" => match (cx.args.len(), cx.word(1).as_str()) {
            (1, _) | (2, "schedule") => {
                save(cx, "bgsave");
                Ok(Reply::Simple("Background saving started".into()))
            }
            _ => Err(SYNTAX),
        },
        "bgrewriteaof" => Ok(Reply::Simple(
            "Background append only file rewriting started".into(),
        )),
        "lastsave" => Ok(Reply::Int(cx.st.saved.wrapping_div(1000))),
        "slaveof" | "replicaof" => follow(cx),
        "role" => Ok(role(cx)),
        "replconf" => {
            cx.notes.push(Note::Replica { op: "replconf" });
            Ok(OK)
        }
        "wait" => {
            cx.int(1)?;
            cx.int(2)?;
            Ok(Reply::Int(0))
        }
        "module" => module(cx),
        "memory" => memory(cx),
        "slowlog" => match (cx.word(1).as_str(), cx.args.len()) {
            ("get", 2 | 3) => Ok(Reply::Array(Vec::new())),
            ("len", 2) => Ok(Reply::Int(0)),
            ("reset", 2) => Ok(OK),
            _ => Err(cx.unknown_sub()),
        },
        "latency" => match cx.word(1).as_str() {
            "latest" | "history" => Ok(Reply::Array(Vec::new())),
            "reset" => Ok(Reply::Int(0)),
            "histogram" if cx.st.version.seven() => Ok(Reply::Map(Vec::new())),
            "doctor" => Ok(Reply::Text(LATENCY.to_owned())),
            _ => Err(cx.unknown_sub()),
        },
        "debug" => debug(cx),
        "cluster" | "readonly" | "readwrite" | "asking" => {
            Err(fixed("ERR This instance has cluster support disabled"))
        }
        "failover" => Err(fixed("ERR FAILOVER requires connected replicas.")),
        "migrate" => {
            let key = cx.arg(3).to_vec();
            if cx.st.store.get(cx.conn.db, &key, now).is_none() {
                return Ok(Reply::Simple("NOKEY".into()));
            }
            Err(fixed("IOERR error or timeout connecting to the client"))
        }
        "function" => match cx.word(1).as_str() {
            "list" => Ok(Reply::Array(Vec::new())),
            "flush" => Ok(OK),
            _ => Err(cx.unknown_sub()),
        },
        _ => Err(NOT_OURS),
    }
}

const LATENCY: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep space mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n";
const DOCTOR: &str = "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be back to our programming as soon as I finished rebooting.\n";

/// "Writes" the dump: what would lie on the disk becomes a note with the bytes.
fn save(cx: &mut Cx<'_>, op: &'static str) {
    let st = &mut *cx.st;
    let payload = payload(cx.now, st);
    // The same data again is the same file again.
    let dump = (st.store.dirty > 0 && st.store.used() < DUMP_MAX)
        .then(|| rdb::dump(&st.store, &st.persona.redis_version, cx.now));
    st.store.dirty = 0;
    st.saved = cx.now;
    st.saves = st.saves.saturating_add(1);
    cx.notes.push(Note::Write {
        op,
        path: st.settings.dump_path(),
        dump,
        payload,
    });
}

/// What visitors wrote, one value after the other.
fn payload(now: i64, st: &super::state::State) -> Vec<u8> {
    let mut payload = Vec::new();
    for db in 0..DATABASES {
        for (_, entry) in st.store.iter(db) {
            let live = entry.expires.is_none_or(|at| at > now);
            if let Value::Str(text) = &entry.value
                && entry.touched
                && live
            {
                let room = PAYLOAD_MAX.saturating_sub(payload.len());
                payload.extend_from_slice(text.get(..text.len().min(room)).unwrap_or_default());
            }
        }
    }
    payload
}

fn follow(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    if cx.word(1) == "no" && cx.word(2) == "one" {
        cx.st.master = None;
        return Ok(OK);
    }
    let port = cx
        .int(2)
        .ok()
        .and_then(|port| u16::try_from(port).ok())
        .ok_or(if cx.st.version.seven() {
            fixed("ERR Invalid master port")
        } else {
            super::reply::NOT_INTEGER
        })?;
    let host: String = cx.text(1).chars().take(255).collect();
    cx.notes.push(Note::RogueMaster {
        host: host.clone(),
        port,
    });
    let same = cx
        .st
        .master
        .as_ref()
        .is_some_and(|(h, p, _)| *h == host && *p == port);
    if same {
        return Ok(Reply::Simple(
            "OK Already connected to specified master".into(),
        ));
    }
    cx.st.master = Some((host, port, cx.now));
    Ok(OK)
}

fn role(cx: &Cx<'_>) -> Reply {
    match &cx.st.master {
        None => Reply::Array(vec![
            Reply::bulk("master"),
            Reply::Int(0),
            Reply::Array(Vec::new()),
        ]),
        Some((host, port, _)) => Reply::Array(vec![
            Reply::bulk("slave"),
            Reply::bulk(host),
            Reply::Int(i64::from(*port)),
            Reply::bulk("connect"),
            Reply::Int(-1),
        ]),
    }
}

fn module(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let op = cx.word(1);
    match (op.as_str(), cx.args.len()) {
        ("list", 2) => Ok(Reply::Array(Vec::new())),
        ("load" | "loadex", 3..) => {
            let path = cx.arg(2).to_vec();
            cx.notes.push(Note::Module { op, path });
            Err(fixed(
                "ERR Error loading the extension. Please check the server logs.",
            ))
        }
        ("unload", 3) => {
            let path = cx.arg(2).to_vec();
            cx.notes.push(Note::Module { op, path });
            Err(fixed(
                "ERR Error unloading module: no such module with that name",
            ))
        }
        ("list" | "load" | "unload", _) => Err(cx.wrong_arity_of_sub()),
        _ => Err(cx.unknown_sub()),
    }
}

fn memory(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    match (cx.word(1).as_str(), cx.args.len()) {
        ("usage", 3 | 5) => {
            let key = cx.arg(2).to_vec();
            let entry = cx.st.store.get(cx.conn.db, &key, cx.now);
            Ok(entry.map_or(Reply::Nil, |e| {
                let bytes = e
                    .value
                    .weight()
                    .saturating_add(key.len())
                    .saturating_add(56);
                Reply::size(bytes.next_multiple_of(8))
            }))
        }
        ("doctor", 2) => Ok(Reply::Text(DOCTOR.to_owned())),
        ("purge", 2) => Ok(OK),
        ("malloc-stats", 2) => Ok(Reply::Text(
            "___ Begin jemalloc statistics ___\n".to_owned(),
        )),
        ("stats", 2) => {
            let total = cx.st.used_memory();
            let peak = cx.st.peak;
            let keys: usize = (0..DATABASES).fold(0, |n, db| n.saturating_add(cx.st.store.len(db)));
            let base = total.saturating_sub(cx.st.store.used());
            let pair = |key: &str, value: usize| (Reply::bulk(key), Reply::size(value));
            Ok(Reply::Map(vec![
                pair("peak.allocated", peak),
                pair("total.allocated", total),
                pair("startup.allocated", base),
                pair("replication.backlog", 0),
                pair("clients.slaves", 0),
                pair("clients.normal", cx.st.clients.len().saturating_mul(20_512)),
                pair("aof.buffer", 0),
                pair("lua.caches", 0),
                pair("overhead.total", base),
                pair("keys.count", keys),
                pair(
                    "keys.bytes-per-key",
                    cx.st.store.used().checked_div(keys).unwrap_or(0),
                ),
                pair("dataset.bytes", cx.st.store.used()),
            ]))
        }
        ("usage" | "doctor" | "purge" | "stats", _) => Err(cx.wrong_arity_of_sub()),
        _ => Err(cx.unknown_sub()),
    }
}

fn debug(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    if cx.st.version.seven() {
        return Err(fixed(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    match cx.word(1).as_str() {
        "sleep" | "set-active-expire" | "reload" | "loadaof" => Ok(OK),
        "segfault" | "restart" | "crash-and-recover" | "panic" | "oom" => {
            cx.notes.push(Note::Shutdown);
            cx.st.restart(cx.now);
            cx.conn.leave = true;
            cx.conn.mute = true;
            Ok(OK)
        }
        "object" => {
            let key = cx.arg(2).to_vec();
            if cx.st.store.get(cx.conn.db, &key, cx.now).is_none() {
                return Err(super::reply::NO_KEY);
            }
            Ok(Reply::Simple(
                "Value at:0x7f2c1ac0b4e0 refcount:1 encoding:embstr serializedlength:12 lru:9437282 lru_seconds_idle:4".into(),
            ))
        }
        _ => Err(cx.unknown_sub()),
    }
}

/// SHUTDOWN: every connection ends and the service manager starts the server again.
pub(super) fn shutdown(cx: &mut Cx<'_>) -> Result<Option<Reply>, Fault> {
    let known = ["save", "nosave", "now", "force", "abort"];
    let words: Vec<String> = (1..cx.args.len().min(8)).map(|at| cx.word(at)).collect();
    if words.iter().any(|w| !known.contains(&w.as_str())) {
        return Err(SYNTAX);
    }
    if words.iter().any(|w| w == "abort") {
        return Err(fixed("ERR No shutdown in progress."));
    }
    if !words.iter().any(|w| w == "nosave") {
        save(cx, "shutdown");
    }
    cx.notes.push(Note::Shutdown);
    cx.st.restart(cx.now);
    cx.conn.leave = true;
    Ok(None)
}
