//! One command on its way: the checks every command passes, in the server's order, and
//! the table from name to function.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::reply::{Fault, NOT_INTEGER, OK, OOM, Reply, WRONG_TYPE, fixed};
use super::state::State;
use super::store::{DATABASES, MAX_BYTES};
use super::table::{self, Command};
use super::{admin, client, collection, config, info, keyspace, pubsub, rdb, script, text, zset};

/// Most commands and bytes one MULTI may hold.
const QUEUE_MAX: usize = 4096;
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Most keys one connection may watch.
const WATCH_MAX: usize = 4096;

/// One connection's side of the protocol.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: u64,
    pub(super) db: usize,
    pub(super) proto: u8,
    pub(super) known: bool,
    pub(super) queue: Option<Queue>,
    pub(super) watched: Vec<(usize, Vec<u8>, u64)>,
    pub(super) channels: BTreeSet<Vec<u8>>,
    pub(super) patterns: BTreeSet<Vec<u8>>,
    pub(super) inbox: Option<mpsc::Receiver<Arc<[u8]>>>,
    pub(super) kill: CancellationToken,
    /// Close after the reply.
    pub(super) leave: bool,
    /// Say nothing more (CLIENT REPLY OFF, replica link).
    pub(super) mute: bool,
}

impl Conn {
    /// Commands queued by MULTI, -1 outside, as CLIENT LIST shows it.
    pub(super) fn queued(&self) -> i64 {
        let queued = self.queue.as_ref().map(|q| q.calls.len());
        queued.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX))
    }
}

/// What MULTI collected.
#[derive(Debug, Default)]
pub(super) struct Queue {
    calls: Vec<Vec<Vec<u8>>>,
    bytes: usize,
    broken: bool,
}

/// Something worth an event of its own.
#[derive(Debug)]
pub(super) enum Note {
    Auth {
        user: Option<Vec<u8>>,
        secret: Vec<u8>,
        accepted: bool,
    },
    /// A dump was written to `path`.
    Write {
        op: &'static str,
        path: String,
        dump: Option<Vec<u8>>,
        payload: Vec<u8>,
    },
    RogueMaster {
        host: String,
        port: u16,
    },
    Module {
        op: String,
        path: Vec<u8>,
    },
    Script {
        op: &'static str,
        body: Vec<u8>,
    },
    Replica {
        op: &'static str,
    },
    Shutdown,
}

/// A call being executed.
pub(super) struct Cx<'a> {
    pub(super) st: &'a mut State,
    pub(super) conn: &'a mut Conn,
    pub(super) args: &'a [Vec<u8>],
    /// Milliseconds since the epoch.
    pub(super) now: i64,
    pub(super) notes: &'a mut Vec<Note>,
    /// Bytes the reply may still hold.
    pub(super) room: &'a mut usize,
}

impl Cx<'_> {
    pub(super) fn arg(&self, at: usize) -> &[u8] {
        self.args.get(at).map_or(&[], Vec::as_slice)
    }

    /// An argument as a lower-case keyword.
    pub(super) fn word(&self, at: usize) -> String {
        lower(self.arg(at))
    }

    pub(super) fn int(&self, at: usize) -> Result<i64, Fault> {
        super::request::integer(self.arg(at)).ok_or(NOT_INTEGER)
    }

    pub(super) fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(self.arg(at)).into_owned()
    }

    /// A bulk reply that counts against the room for the whole answer.
    pub(super) fn bulk(&mut self, bytes: Option<&[u8]>) -> Reply {
        let Some(bytes) = bytes else {
            return Reply::Nil;
        };
        match self.room.checked_sub(bytes.len().saturating_add(32)) {
            Some(left) => {
                *self.room = left;
                Reply::bulk(bytes)
            }
            None => {
                // The output buffer limit of a real server also ends the connection.
                self.conn.leave = true;
                Reply::Nil
            }
        }
    }

    pub(super) fn wrong_arity(&self) -> Fault {
        wrong_arity(&self.word(0))
    }

    pub(super) fn wrong_arity_of_sub(&self) -> Fault {
        if self.st.version.seven() {
            wrong_arity(&format!("{}|{}", self.word(0), self.word(1)))
        } else {
            self.unknown_sub()
        }
    }

    pub(super) fn unknown_sub(&self) -> Fault {
        let (sub, name) = (clip(self.arg(1), 128), self.word(0).to_uppercase());
        Fault::err(if self.st.version.seven() {
            format!("unknown subcommand '{sub}'. Try {name} HELP.")
        } else {
            format!("Unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP.")
        })
    }
}

pub(super) fn lower(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(64)).unwrap_or_default())
        .to_ascii_lowercase()
}

fn clip(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(max)).unwrap_or_default()).into_owned()
}

fn wrong_arity(name: &str) -> Fault {
    Fault::err(format!("wrong number of arguments for '{name}' command"))
}

fn unknown(st: &State, args: &[Vec<u8>]) -> Fault {
    let name = clip(args.first().map_or(&[], Vec::as_slice), 128);
    if st.version.0 < 5 {
        return Fault::err(format!("unknown command '{name}'"));
    }
    let (open, close, gap) = if st.version.seven() {
        ("'", "'", " ")
    } else {
        ("`", "`", ", ")
    };
    let mut shown = String::new();
    for arg in args.iter().skip(1) {
        let left = 128usize.saturating_sub(shown.len());
        if left == 0 {
            break;
        }
        shown.push_str(&format!("{open}{}{close}{gap}", clip(arg, left)));
    }
    Fault::err(format!(
        "unknown command {open}{name}{close}, with args beginning with: {shown}"
    ))
}

/// Executes one request; the reply is `None` when the server stays silent.
pub(super) fn run(cx: &mut Cx<'_>) -> Option<Reply> {
    let name = cx.word(0);
    if name == "host:" || name == "post" {
        // Cross-protocol scripting: the server hangs up without a word.
        cx.conn.leave = true;
        return None;
    }
    let outcome = checked(cx, &name);
    cx.st.stats.commands = cx.st.stats.commands.saturating_add(1);
    if matches!(outcome, Err(_) | Ok(Some(Reply::Error(_)))) {
        cx.st.stats.errors = cx.st.stats.errors.saturating_add(1);
    }
    match outcome {
        Ok(reply) => reply,
        Err(fault) => Some(Err(fault).into()),
    }
}

fn checked(cx: &mut Cx<'_>, name: &str) -> Result<Option<Reply>, Fault> {
    let command = admit(cx, name).inspect_err(|_| {
        if let Some(queue) = &mut cx.conn.queue {
            queue.broken = true;
        }
    })?;
    if let Some(client) = cx.st.clients.get_mut(&cx.conn.id) {
        client.command = command.name;
        client.last = cx.now;
    }
    if let Some(queue) = &mut cx.conn.queue
        && !["exec", "discard", "multi", "watch", "quit", "reset"].contains(&name)
    {
        let size = cx
            .args
            .iter()
            .fold(0usize, |n, a| n.saturating_add(a.len()));
        queue.bytes = queue.bytes.saturating_add(size);
        if queue.calls.len() >= QUEUE_MAX || queue.bytes > QUEUE_BYTES {
            cx.conn.leave = true;
            return Ok(None);
        }
        queue.calls.push(cx.args.to_vec());
        return Ok(Some(Reply::Simple("QUEUED".into())));
    }
    // Monitors see a command before it runs, and never a password.
    if !command.has("admin") && !command.has("skip_monitor") && !["auth", "hello"].contains(&name) {
        pubsub::show_monitors(cx);
    }
    dispatch(cx, command)
}

/// The checks before a command runs, or is queued.
fn admit(cx: &mut Cx<'_>, name: &str) -> Result<&'static Command, Fault> {
    let version = cx.st.version;
    let Some(command) = table::find(name, version) else {
        return Err(unknown(cx.st, cx.args));
    };
    let arity = if name == "auth" && !version.six() {
        cx.args.len() == 2
    } else {
        command.takes(cx.args.len())
    };
    if !arity {
        return Err(wrong_arity(command.name));
    }
    let free = ["auth", "hello", "quit", "reset"].contains(&name);
    if !cx.conn.known && !free && !cx.st.settings.get("requirepass").is_empty() {
        return Err(fixed("NOAUTH Authentication required."));
    }
    if command.has("denyoom") && cx.st.store.used() > MAX_BYTES {
        return Err(OOM);
    }
    if command.has("write")
        && cx.st.master.is_some()
        && cx.st.settings.get("replica-read-only") != "no"
    {
        return Err(fixed(
            "READONLY You can't write against a read only replica.",
        ));
    }
    let listening = !cx.conn.channels.is_empty() || !cx.conn.patterns.is_empty();
    let allowed = [
        "ping",
        "subscribe",
        "psubscribe",
        "unsubscribe",
        "punsubscribe",
        "quit",
        "reset",
        "ssubscribe",
        "sunsubscribe",
    ];
    if listening && cx.conn.proto == 2 && !allowed.contains(&name) {
        return Err(Fault::err(if version.seven() {
            format!(
                "Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            )
        } else if version.six() {
            format!(
                "Can't execute '{name}': only (P)SUBSCRIBE / (P)UNSUBSCRIBE / PING / QUIT are allowed in this context"
            )
        } else {
            "only (P)SUBSCRIBE / (P)UNSUBSCRIBE / PING / QUIT allowed in this context".to_owned()
        }));
    }
    Ok(command)
}

fn dispatch(cx: &mut Cx<'_>, command: &'static Command) -> Result<Option<Reply>, Fault> {
    let silent = match command.name {
        "monitor" => return pubsub::monitor(cx).map(Some),
        "client" => return client::client(cx),
        "shutdown" => return admin::shutdown(cx),
        name => name,
    };
    let reply = match silent {
        "multi" => multi(cx),
        "exec" => exec(cx),
        "discard" => discard(cx),
        "watch" => watch(cx),
        "unwatch" => {
            cx.conn.watched.clear();
            Ok(OK)
        }
        "ping" | "echo" | "quit" | "select" | "time" | "lolwut" | "command" | "auth" | "hello"
        | "acl" | "reset" => client::basic(cx),
        "config" => config::config(cx),
        "info" => Ok(info::info(cx)),
        "subscribe" | "psubscribe" | "unsubscribe" | "punsubscribe" => Ok(pubsub::subscribe(cx)),
        "publish" | "pubsub" => pubsub::publish(cx),
        "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "script" => script::script(cx),
        "sync" | "psync" | "dump" | "restore" => rdb::call(cx),
        "get" | "set" | "getset" | "getdel" | "getex" | "mset" | "msetnx" | "mget" | "incr"
        | "decr" | "incrby" | "decrby" | "incrbyfloat" | "append" | "strlen" | "setex"
        | "psetex" | "setnx" | "getrange" | "substr" | "setrange" | "getbit" | "setbit"
        | "bitcount" => text::call(cx),
        "del" | "unlink" | "exists" | "touch" | "expire" | "pexpire" | "expireat" | "pexpireat"
        | "ttl" | "pttl" | "expiretime" | "pexpiretime" | "persist" | "type" | "keys" | "scan"
        | "randomkey" | "dbsize" | "rename" | "renamenx" | "flushall" | "flushdb" | "swapdb"
        | "move" | "copy" | "object" | "sort" => keyspace::call(cx),
        name if name.starts_with('z') => zset::call(cx),
        "hset" | "hsetnx" | "hmset" | "hget" | "hmget" | "hgetall" | "hdel" | "hexists"
        | "hkeys" | "hvals" | "hlen" | "hincrby" | "hstrlen" | "hscan" | "lpush" | "rpush"
        | "lpushx" | "rpushx" | "lrange" | "llen" | "lpop" | "rpop" | "lindex" | "lset"
        | "lrem" | "ltrim" | "linsert" | "rpoplpush" | "sadd" | "srem" | "smembers"
        | "sismember" | "scard" | "spop" | "srandmember" | "sscan" => collection::call(cx),
        _ => admin::call(cx),
    };
    match reply {
        Err(Fault(text)) if text.is_empty() => restricted(cx, command).map(Some),
        other => other.map(Some),
    }
}

/// Returned by a group that does not know the command; see [`restricted`].
pub(super) const NOT_OURS: Fault = fixed("");

/// A command of the claimed version without an implementation: reading finds nothing,
/// writing is not permitted to this user (ACL LIST says the same).
fn restricted(cx: &mut Cx<'_>, command: &'static Command) -> Result<Reply, Fault> {
    for at in command.key_positions(cx.args.len()) {
        let key = cx.arg(at).to_vec();
        if cx.st.store.get(cx.conn.db, &key, cx.now).is_some() {
            return Err(WRONG_TYPE);
        }
    }
    if command.has("write") {
        return Err(if cx.st.version.six() {
            Fault(
                format!(
                    "NOPERM this user has no permissions to run the '{}' command{}",
                    command.name,
                    if cx.st.version.seven() {
                        ""
                    } else {
                        " or its subcommand"
                    }
                )
                .into(),
            )
        } else {
            unknown(cx.st, cx.args)
        });
    }
    Ok(match command.name {
        "bitpos" | "pfcount" | "xlen" | "sintercard" => Reply::Int(0),
        "geodist" => Reply::Nil,
        _ => Reply::Array(Vec::new()),
    })
}

fn multi(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    if cx.conn.queue.is_some() {
        return Err(fixed("ERR MULTI calls can not be nested"));
    }
    cx.conn.queue = Some(Queue::default());
    Ok(OK)
}

fn discard(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    if cx.conn.queue.take().is_none() {
        return Err(fixed("ERR DISCARD without MULTI"));
    }
    cx.conn.watched.clear();
    Ok(OK)
}

fn exec(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let Some(queue) = cx.conn.queue.take() else {
        return Err(fixed("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut cx.conn.watched);
    if queue.broken {
        return Err(fixed(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    for (db, key, version) in watched {
        if cx.st.store.version(db, &key, cx.now) != version {
            return Ok(Reply::NilArray);
        }
    }
    let mut replies = Vec::new();
    for call in &queue.calls {
        replies.push(nested(cx, call));
    }
    Ok(Reply::Array(replies))
}

/// Runs `args` inside another command.
pub(super) fn nested(cx: &mut Cx<'_>, args: &[Vec<u8>]) -> Reply {
    let mut inner = Cx {
        st: &mut *cx.st,
        conn: &mut *cx.conn,
        args,
        now: cx.now,
        notes: &mut *cx.notes,
        room: &mut *cx.room,
    };
    let name = inner.word(0);
    match admit(&mut inner, &name).and_then(|command| dispatch(&mut inner, command)) {
        Ok(reply) => reply.unwrap_or(Reply::Nil),
        Err(fault) => Err(fault).into(),
    }
}

fn watch(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    if cx.conn.queue.is_some() {
        return Err(fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let db = cx.conn.db;
    for key in cx.args.iter().skip(1) {
        if cx.conn.watched.len() >= WATCH_MAX {
            break;
        }
        let version = cx.st.store.version(db, key, cx.now);
        cx.conn.watched.push((db, key.clone(), version));
    }
    Ok(OK)
}

/// A database number argument.
pub(super) fn database(cx: &Cx<'_>, at: usize) -> Result<usize, Fault> {
    let number = cx.int(at).map_err(|fault| {
        if cx.st.version.seven() {
            fault
        } else {
            fixed("ERR invalid DB index")
        }
    })?;
    usize::try_from(number)
        .ok()
        .filter(|db| *db < DATABASES)
        .ok_or(fixed("ERR DB index is out of range"))
}

/// Redis' glob: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Takes at most pattern × text steps.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(rest) = p.strip_prefix(b"*") {
            p = rest;
            retry = Some((rest, t));
            continue;
        }
        let stepped = match (p.first(), t.split_first()) {
            (None, None) => return true,
            (Some(_), Some((c, t_rest))) => one(p, *c).map(|p_rest| (p_rest, t_rest)),
            _ => None,
        };
        if let Some((p_rest, t_rest)) = stepped {
            (p, t) = (p_rest, t_rest);
            continue;
        }
        let Some((star, from)) = retry else {
            return false;
        };
        let Some((_, from)) = from.split_first() else {
            return false;
        };
        retry = Some((star, from));
        (p, t) = (star, from);
    }
}

/// Matches one byte; gives the rest of the pattern.
fn one(pattern: &[u8], c: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'\\', literal, rest @ ..] => (*literal == c).then_some(rest),
        [b'[', rest @ ..] => {
            let (negated, mut rest) = match rest {
                [b'^', tail @ ..] => (true, tail),
                _ => (false, rest),
            };
            let mut hit = false;
            loop {
                rest = match rest {
                    [] => break,
                    [b']', tail @ ..] => {
                        rest = tail;
                        break;
                    }
                    [b'\\', literal, tail @ ..] => {
                        hit |= *literal == c;
                        tail
                    }
                    [from, b'-', to, tail @ ..] => {
                        let (low, high) = (from.min(to), from.max(to));
                        hit |= (*low..=*high).contains(&c);
                        tail
                    }
                    [literal, tail @ ..] => {
                        hit |= *literal == c;
                        tail
                    }
                };
            }
            (hit != negated).then_some(rest)
        }
        [literal, rest @ ..] => (*literal == c).then_some(rest),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs_match_as_redis_does() {
        for (pattern, text, hit) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-e]llo", "hello", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b", "axxc", false),
            ("a\\*", "a*", true),
            ("[", "[", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                hit,
                "{pattern} {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_glob_ends(pattern in prop::collection::vec(any::<u8>(), 0..30), text in prop::collection::vec(any::<u8>(), 0..30)) {
            let _hit = glob(&pattern, &text);
        }
    }
}
