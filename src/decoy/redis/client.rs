//! Commands about the connection itself: greeting, authentication, CLIENT, COMMAND, ACL.

use subtle::ConstantTimeEq;

use super::call::{Cx, Note, database};
use super::reply::{Fault, OK, Reply, SYNTAX, fixed};
use super::table;

const NO_PASSWORD: &str = "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const CATEGORIES: &str = "keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking dangerous connection transaction scripting";

pub(super) fn basic(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    match cx.word(0).as_str() {
        "ping" => {
            if cx.args.len() > 2 {
                return Err(cx.wrong_arity());
            }
            let subscribed = !cx.conn.channels.is_empty() || !cx.conn.patterns.is_empty();
            Ok(if subscribed && cx.conn.proto == 2 {
                Reply::Array(vec![Reply::bulk("pong"), Reply::bulk(cx.arg(1))])
            } else if cx.args.len() == 2 {
                Reply::bulk(cx.arg(1))
            } else {
                Reply::Simple("PONG".into())
            })
        }
        "echo" => Ok(Reply::bulk(cx.arg(1))),
        "quit" => {
            cx.conn.leave = true;
            Ok(OK)
        }
        "select" => {
            cx.conn.db = database(cx, 1)?;
            Ok(OK)
        }
        "time" => {
            let micros = crate::model::Stamp::now().0;
            Ok(Reply::bulks([
                micros.wrapping_div(1_000_000).to_string(),
                micros.wrapping_rem(1_000_000).to_string(),
            ]))
        }
        "lolwut" => Ok(Reply::Text(format!(
            "Redis ver. {}\n",
            cx.st.persona.redis_version
        ))),
        "reset" => {
            cx.conn.queue = None;
            cx.conn.watched.clear();
            cx.conn.channels.clear();
            cx.conn.patterns.clear();
            cx.conn.db = 0;
            cx.conn.proto = 2;
            cx.conn.known = cx.st.settings.get("requirepass").is_empty();
            Ok(Reply::Simple("RESET".into()))
        }
        "auth" => auth(cx),
        "hello" => hello(cx),
        "command" => command(cx),
        _ => acl(cx),
    }
}

/// Checks a password; records it either way.
fn login(cx: &mut Cx<'_>, user: Option<&[u8]>, secret: &[u8]) -> Result<(), Fault> {
    let required = cx.st.settings.get("requirepass").to_owned();
    let default = user.is_none_or(|u| u == b"default");
    // Without a password the default user accepts any when it is named.
    let accepted = default
        && (if required.is_empty() {
            user.is_some()
        } else {
            bool::from(required.as_bytes().ct_eq(secret))
        });
    cx.notes.push(Note::Auth {
        user: user.map(<[u8]>::to_vec),
        secret: secret.to_vec(),
        accepted,
    });
    if accepted {
        cx.conn.known = true;
        return Ok(());
    }
    if required.is_empty() && user.is_none() {
        return Err(if cx.st.version.six() {
            Fault::err(NO_PASSWORD)
        } else {
            fixed("ERR Client sent AUTH, but no password is set")
        });
    }
    Err(if cx.st.version.seven() {
        fixed("WRONGPASS invalid username-password pair or user is disabled.")
    } else if cx.st.version.six() {
        fixed("WRONGPASS invalid username-password pair")
    } else {
        fixed("ERR invalid password")
    })
}

fn auth(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let (one, two) = (cx.arg(1).to_vec(), cx.arg(2).to_vec());
    match cx.args.len() {
        2 => login(cx, None, &one)?,
        3 => login(cx, Some(&one), &two)?,
        _ => return Err(SYNTAX),
    }
    Ok(OK)
}

fn hello(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let mut proto = cx.conn.proto;
    if cx.args.len() > 1 {
        proto = match (cx.int(1), cx.st.version.seven()) {
            (Ok(2), _) => 2,
            (Ok(3), _) => 3,
            (Err(_), true) => {
                return Err(fixed(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
            _ => return Err(fixed("NOPROTO unsupported protocol version")),
        };
    }
    let mut at = 2usize;
    while at < cx.args.len() {
        let left = cx.args.len().saturating_sub(at);
        match cx.word(at).as_str() {
            "auth" if left > 2 => {
                let user = cx.arg(at.saturating_add(1)).to_vec();
                let secret = cx.arg(at.saturating_add(2)).to_vec();
                login(cx, Some(&user), &secret)?;
                at = at.saturating_add(3);
            }
            "setname" if left > 1 => {
                set_name(cx, at.saturating_add(1))?;
                at = at.saturating_add(2);
            }
            _ => {
                return Err(Fault::err(format!(
                    "Syntax error in HELLO option '{}'",
                    cx.text(at)
                )));
            }
        }
    }
    if !cx.conn.known && !cx.st.settings.get("requirepass").is_empty() {
        return Err(fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    cx.conn.proto = proto;
    if let Some(client) = cx.st.clients.get_mut(&cx.conn.id) {
        client.proto = proto;
    }
    let role = if cx.st.master.is_some() {
        "replica"
    } else {
        "master"
    };
    let id = i64::try_from(cx.conn.id).unwrap_or(0);
    Ok(Reply::Map(vec![
        (Reply::bulk("server"), Reply::bulk("redis")),
        (
            Reply::bulk("version"),
            Reply::bulk(&cx.st.persona.redis_version),
        ),
        (Reply::bulk("proto"), Reply::Int(i64::from(proto))),
        (Reply::bulk("id"), Reply::Int(id)),
        (Reply::bulk("mode"), Reply::bulk("standalone")),
        (Reply::bulk("role"), Reply::bulk(role)),
        (Reply::bulk("modules"), Reply::Array(Vec::new())),
    ]))
}

fn set_name(cx: &mut Cx<'_>, at: usize) -> Result<(), Fault> {
    if cx.arg(at).iter().any(|b| !(b'!'..=b'~').contains(b)) {
        return Err(fixed(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    let name = cx.text(at);
    if let Some(client) = cx.st.clients.get_mut(&cx.conn.id) {
        client.name = name.chars().take(1024).collect();
    }
    Ok(())
}

pub(super) fn client(cx: &mut Cx<'_>) -> Result<Option<Reply>, Fault> {
    let sub = cx.word(1);
    let reply = match (sub.as_str(), cx.args.len()) {
        ("id", 2) => Reply::Int(i64::try_from(cx.conn.id).unwrap_or(0)),
        ("getname", 2) => {
            let client = cx.st.clients.get(&cx.conn.id);
            match client.map(|c| c.name.as_str()) {
                None | Some("") => Reply::Nil,
                Some(name) => Reply::bulk(name),
            }
        }
        ("setname", 3) => {
            set_name(cx, 2)?;
            OK
        }
        ("list", 2 | 4..) => {
            let text: String = cx.st.clients.keys().map(|id| describe(cx, *id)).collect();
            Reply::Text(text)
        }
        ("info", 2) if cx.st.version.seven() => Reply::Text(describe(cx, cx.conn.id)),
        ("kill", 3..) => kill(cx)?,
        ("reply", 3) => {
            match cx.word(2).as_str() {
                "on" => cx.conn.mute = false,
                "off" | "skip" => {
                    cx.conn.mute = cx.word(2) == "off";
                    return Ok(None);
                }
                _ => return Err(SYNTAX),
            }
            OK
        }
        ("pause" | "no-evict", 3..) | ("unpause", 2) => OK,
        ("tracking", 3..) | ("caching", 3) if cx.st.version.six() => OK,
        ("unblock", 3..) => Reply::Int(0),
        ("getredir", 2) if cx.st.version.six() => Reply::Int(-1),
        ("id" | "getname" | "setname" | "list" | "kill" | "reply" | "pause", _) => {
            return Err(cx.wrong_arity_of_sub());
        }
        _ => return Err(cx.unknown_sub()),
    };
    Ok(Some(reply))
}

/// One line of CLIENT LIST, in the shape of the version.
fn describe(cx: &Cx<'_>, id: u64) -> String {
    let Some(client) = cx.st.clients.get(&id) else {
        return String::new();
    };
    let own = id == cx.conn.id;
    let position = cx.st.clients.keys().position(|k| *k == id).unwrap_or(0);
    let seconds = |since: i64| cx.now.saturating_sub(since).max(0).wrapping_div(1000);
    let command = match (own, cx.st.version.seven()) {
        (true, true) => format!("{}|{}", client.command, cx.word(1)),
        _ => client.command.to_owned(),
    };
    let (qbuf, free) = match (own, cx.st.version.seven()) {
        (true, true) => (26, 20_448),
        (true, false) => (26, 32_742),
        _ => (0, 0),
    };
    let mut line = format!("id={id} addr={}", client.addr);
    if cx.st.version.seven() {
        line.push_str(&format!(" laddr={}", client.local));
    }
    line.push_str(&format!(
        " fd={} name={} age={} idle={} flags={} db={} sub={} psub={}",
        position.saturating_add(8),
        client.name,
        seconds(client.born),
        seconds(client.last),
        client.flags,
        client.db,
        client.channels.len(),
        client.patterns.len(),
    ));
    if cx.st.version.seven() {
        line.push_str(&format!(
            " ssub=0 multi={} qbuf={qbuf} qbuf-free={free} argv-mem={} multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem={} events=r cmd={command} user=default redir=-1 resp={}\n",
            client.queued,
            if own { 10 } else { 0 },
            if own { 22_298 } else { 1_928 },
            client.proto,
        ));
    } else {
        line.push_str(&format!(
            " multi={} qbuf={qbuf} qbuf-free={free} obl=0 oll=0 omem=0 events=r cmd={command}",
            client.queued,
        ));
        line.push_str(if cx.st.version.six() {
            " user=default\n"
        } else {
            "\n"
        });
    }
    line
}

fn kill(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let old_style = cx.args.len() == 3;
    let mut hits = Vec::new();
    let mut options = Vec::new();
    if !old_style {
        for pair in cx.args.get(2..).unwrap_or_default().chunks(2) {
            let [key, value] = pair else {
                return Err(SYNTAX);
            };
            options.push((
                super::call::lower(key),
                String::from_utf8_lossy(value).into_owned(),
            ));
        }
    }
    let skip_me = !options
        .iter()
        .any(|(k, v)| k == "skipme" && v.eq_ignore_ascii_case("no"));
    for (id, client) in &cx.st.clients {
        let hit = if old_style {
            client.addr.to_string() == cx.text(2)
        } else {
            (*id != cx.conn.id || !skip_me)
                && options.iter().all(|(key, value)| match key.as_str() {
                    "id" => id.to_string() == *value,
                    "addr" => client.addr.to_string() == *value,
                    "laddr" => client.local.to_string() == *value,
                    "type" => value.eq_ignore_ascii_case("normal"),
                    "user" => value == "default",
                    "skipme" => true,
                    _ => false,
                })
        };
        if hit {
            hits.push(*id);
        }
    }
    for id in &hits {
        if *id == cx.conn.id {
            cx.conn.leave = true;
        } else if let Some(client) = cx.st.clients.get(id) {
            client.kill.cancel();
        }
    }
    if old_style {
        return if hits.is_empty() {
            Err(fixed("ERR No such client"))
        } else {
            Ok(OK)
        };
    }
    Ok(Reply::size(hits.len()))
}

fn command(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let version = cx.st.version;
    let named = |from: usize| {
        cx.args
            .iter()
            .skip(from)
            .take(1024)
            .map(|name| table::find(&super::call::lower(name), version))
    };
    match (cx.word(1).as_str(), cx.args.len()) {
        (_, 1) => Ok(Reply::Array(
            table::all(version).map(|c| c.describe(version)).collect(),
        )),
        ("count", 2) => Ok(Reply::size(table::all(version).count())),
        ("info", 2) if version.seven() => Ok(Reply::Array(
            table::all(version).map(|c| c.describe(version)).collect(),
        )),
        ("info", _) => Ok(Reply::Array(
            named(2)
                .map(|c| c.map_or(Reply::NilArray, |c| c.describe(version)))
                .collect(),
        )),
        ("docs", 2) if version.seven() => {
            Ok(Reply::Map(table::all(version).map(|c| c.docs()).collect()))
        }
        ("docs", _) if version.seven() => {
            Ok(Reply::Map(named(2).flatten().map(|c| c.docs()).collect()))
        }
        ("list", 2) if version.seven() => Ok(Reply::bulks(table::all(version).map(|c| c.name))),
        ("getkeys", 3..) => {
            let Some(Some(found)) = named(2).next() else {
                return Err(fixed("ERR Invalid command specified"));
            };
            let call = cx.args.get(2..).unwrap_or_default();
            let keys = found.key_positions(call.len());
            if keys.is_empty() {
                return Err(fixed("ERR The command has no key arguments"));
            }
            Ok(Reply::bulks(keys.iter().filter_map(|at| call.get(*at))))
        }
        _ => Err(cx.unknown_sub()),
    }
}

fn acl(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let version = cx.st.version;
    let password = cx.st.settings.get("requirepass").to_owned();
    let secret = if password.is_empty() {
        "nopass".to_owned()
    } else {
        use sha2::Digest;
        let hash: String = sha2::Sha256::digest(password.as_bytes())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("#{hash}")
    };
    let channels = if version.seven() { " &*" } else { "" };
    match (cx.word(1).as_str(), cx.args.len()) {
        ("whoami", 2) => Ok(Reply::bulk("default")),
        ("users", 2) => Ok(Reply::bulks(["default"])),
        ("list", 2) => Ok(Reply::bulks([format!(
            "user default on {secret} ~*{channels} +@all -@hyperloglog -@geo -@stream"
        )])),
        ("cat", 2) => Ok(Reply::bulks(CATEGORIES.split(' '))),
        ("log", 2..) => Ok(Reply::Array(Vec::new())),
        ("genpass", 2..) => {
            use rand::RngExt;
            let mut rng = rand::rng();
            let pass: String = (0..64)
                .map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0'))
                .collect();
            Ok(Reply::bulk(pass))
        }
        ("setuser" | "save" | "load" | "deluser", _) => Err(Fault(
            format!(
                "NOPERM this user has no permissions to run the 'acl{}' command{}",
                if version.seven() {
                    format!("|{}", cx.word(1))
                } else {
                    String::new()
                },
                if version.seven() {
                    ""
                } else {
                    " or its subcommand"
                }
            )
            .into(),
        )),
        ("getuser", 3) if cx.arg(2) == b"default" => {
            let flags = if password.is_empty() {
                vec!["on", "nopass"]
            } else {
                vec!["on"]
            };
            Ok(Reply::Map(vec![
                (Reply::bulk("flags"), Reply::bulks(flags)),
                (Reply::bulk("passwords"), Reply::Array(Vec::new())),
                (
                    Reply::bulk("commands"),
                    Reply::bulk("+@all -@hyperloglog -@geo -@stream"),
                ),
                (Reply::bulk("keys"), Reply::bulk("~*")),
                (Reply::bulk("channels"), Reply::bulk("&*")),
                (Reply::bulk("selectors"), Reply::Array(Vec::new())),
            ]))
        }
        ("getuser", 3) => Ok(Reply::Nil),
        _ => Err(cx.unknown_sub()),
    }
}
