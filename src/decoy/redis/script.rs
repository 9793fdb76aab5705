//! EVAL, EVALSHA and SCRIPT. Every script is recorded; what it does is decided by the
//! sliver of Lua in `lua`, and beyond that it does nothing, as a script without a
//! `return` would.

use sha1::{Digest, Sha1};

use super::call::{Cx, Note, nested};
use super::lua::{self, Stop, Val};
use super::reply::{Fault, NOT_INTEGER, OK, Reply, fixed};

/// Most scripts and the longest one kept for EVALSHA.
const SCRIPTS_MAX: usize = 256;
const SCRIPT_BYTES: usize = 64 * 1024;

pub(super) fn sha1(text: &[u8]) -> String {
    Sha1::digest(text)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

pub(super) fn script(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    match cx.word(0).as_str() {
        "eval" | "eval_ro" => {
            let body = cx.arg(1).to_vec();
            eval(cx, "eval", &body)
        }
        "evalsha" | "evalsha_ro" => {
            let Some(body) = cx.st.scripts.get(&cx.word(1)).cloned() else {
                cx.notes.push(Note::Script {
                    op: "evalsha",
                    body: cx.arg(1).to_vec(),
                });
                return Err(fixed("NOSCRIPT No matching script. Please use EVAL."));
            };
            eval(cx, "evalsha", &body)
        }
        _ => manage(cx),
    }
}

fn manage(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    match (cx.word(1).as_str(), cx.args.len()) {
        ("load", 3) => {
            let body = cx.arg(2).to_vec();
            cx.notes.push(Note::Script {
                op: "load",
                body: body.clone(),
            });
            Ok(Reply::bulk(remember(cx, body)))
        }
        ("exists", 3..) => Ok(Reply::Array(
            (2..cx.args.len())
                .map(|at| Reply::flag(cx.st.scripts.contains_key(&cx.word(at))))
                .collect(),
        )),
        ("flush", 2 | 3) => {
            cx.st.scripts.clear();
            Ok(OK)
        }
        ("kill", 2) => Err(fixed("NOTBUSY No scripts in execution right now.")),
        ("debug", 3) => Ok(OK),
        ("load" | "exists" | "flush" | "kill" | "debug", _) => Err(cx.wrong_arity_of_sub()),
        _ => Err(cx.unknown_sub()),
    }
}

fn remember(cx: &mut Cx<'_>, body: Vec<u8>) -> String {
    let sha = sha1(&body);
    if cx.st.scripts.len() < SCRIPTS_MAX && body.len() <= SCRIPT_BYTES {
        cx.st.scripts.insert(sha.clone(), body);
    }
    sha
}

fn eval(cx: &mut Cx<'_>, op: &'static str, body: &[u8]) -> Result<Reply, Fault> {
    let count = super::request::integer(cx.arg(2)).ok_or(NOT_INTEGER)?;
    let Ok(count) = usize::try_from(count) else {
        return Err(fixed("ERR Number of keys can't be negative"));
    };
    let rest = cx.args.get(3..).unwrap_or_default();
    if count > rest.len() {
        return Err(fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let (keys, argv) = rest.split_at(count);
    cx.notes.push(Note::Script {
        op,
        body: body.to_vec(),
    });
    let sha = remember(cx, body.to_vec());
    let outcome = lua::run(body, keys, argv, &mut |args| command(cx, &args));
    match outcome {
        Ok(value) => Ok(reply(&value)),
        Err(Stop::Beyond) => Ok(Reply::Nil),
        Err(Stop::Compile(why)) => Err(Fault::err(format!(
            "Error compiling script (new function): user_script:1: {why}"
        ))),
        Err(Stop::Global(name)) => Err(raised(
            cx,
            &sha,
            &format!("Script attempted to access nonexistent global variable '{name}'"),
            Some("@enable_strict_lua:15: "),
        )),
        Err(Stop::Raise(why)) => Err(raised(cx, &sha, &why, None)),
    }
}

/// A runtime error in the words of the version.
fn raised(cx: &Cx<'_>, sha: &str, why: &str, strict: Option<&str>) -> Fault {
    if cx.st.version.seven() {
        // An error of a command keeps its own code.
        let code = why.split(' ').next().unwrap_or_default();
        if code.len() > 2 && code.chars().all(|c| c.is_ascii_uppercase()) {
            return Fault(format!("{why} script: {sha}, on @user_script:1.").into());
        }
        return Fault::err(format!(
            "user_script:1: {why} script: {sha}, on @user_script:1."
        ));
    }
    match strict {
        Some(place) => Fault::err(format!(
            "Error running script (call to f_{sha}): {place}user_script:1: {why} "
        )),
        None => Fault::err(format!(
            "Error running script (call to f_{sha}): @user_script:1: {why} "
        )),
    }
}

/// What `redis.call` does.
fn command(cx: &mut Cx<'_>, args: &[Vec<u8>]) -> Val {
    let name = args
        .first()
        .map(|a| super::call::lower(a))
        .unwrap_or_default();
    match super::table::find(&name, cx.st.version) {
        None => {
            return Val::Error(if cx.st.version.seven() {
                "ERR Unknown Redis command called from script".to_owned()
            } else {
                "Unknown Redis command called from Lua script".to_owned()
            });
        }
        Some(found) if found.has("noscript") => {
            return Val::Error(if cx.st.version.seven() {
                "ERR This Redis command is not allowed from script".to_owned()
            } else {
                "This Redis command is not allowed from scripts".to_owned()
            });
        }
        Some(_) => {}
    }
    value(nested(cx, args))
}

fn value(reply: Reply) -> Val {
    match reply {
        Reply::Simple(text) => Val::Status(text.into_owned()),
        Reply::Error(text) => Val::Error(text.into_owned()),
        Reply::Int(n) => n.to_string().parse().map_or(Val::Nil, Val::Num),
        Reply::Bulk(bytes) => Val::Text(bytes),
        Reply::Text(text) => Val::Text(text.into_bytes()),
        Reply::Double(n) => Val::Text(super::reply::float(n).into_bytes()),
        Reply::Nil | Reply::NilArray | Reply::Raw(_) => Val::Bool(false),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) | Reply::Many(items) => {
            Val::Table(items.into_iter().map(value).collect())
        }
        Reply::Map(pairs) => Val::Table(
            pairs
                .into_iter()
                .flat_map(|(k, v)| [value(k), value(v)])
                .collect(),
        ),
    }
}

/// A script's result as a reply: numbers are cut to integers, a table ends at its
/// first nil.
fn reply(value: &Val) -> Reply {
    match value {
        Val::Nil | Val::Bool(false) => Reply::Nil,
        Val::Bool(true) => Reply::Int(1),
        Val::Num(n) => Reply::Int(format!("{:.0}", n.trunc()).parse().unwrap_or(i64::MIN)),
        Val::Text(text) => Reply::bulk(text),
        Val::Table(items) => Reply::Array(
            items
                .iter()
                .take_while(|v| **v != Val::Nil)
                .map(reply)
                .collect(),
        ),
        Val::Status(text) => Reply::Simple(text.clone().into()),
        Val::Error(text) => Reply::Error(text.clone().into()),
    }
}
