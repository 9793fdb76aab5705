//! Publish, subscribe and MONITOR: messages between the connections of one decky.

use std::fmt::Write as _;

use tokio::sync::mpsc;

use super::call::{Cx, glob};
use super::reply::{Fault, OK, Reply};

/// Messages waiting for one connection.
const WAITING: usize = 64;
/// Most channels and patterns of one connection.
const CHANNELS_MAX: usize = 1024;

fn open_inbox(cx: &mut Cx<'_>) {
    if cx.conn.inbox.is_some() {
        return;
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    cx.conn.inbox = Some(receiver);
    if let Some(client) = cx.st.clients.get_mut(&cx.conn.id) {
        client.outbox = Some(sender);
    }
}

pub(super) fn subscribe(cx: &mut Cx<'_>) -> Reply {
    open_inbox(cx);
    let name = cx.word(0);
    let by_pattern = name.contains("psub") || name == "punsubscribe";
    let joining = !name.contains("unsub");
    let mut names: Vec<Vec<u8>> = cx.args.get(1..).unwrap_or_default().to_vec();
    let own = if by_pattern {
        &cx.conn.patterns
    } else {
        &cx.conn.channels
    };
    if names.is_empty() && !joining {
        names = own.iter().cloned().collect();
    }
    let nothing = names.is_empty();
    let mut replies = Vec::new();
    for channel in names {
        let own = if by_pattern {
            &mut cx.conn.patterns
        } else {
            &mut cx.conn.channels
        };
        if !joining {
            own.remove(&channel);
        } else if own.len() < CHANNELS_MAX {
            own.insert(channel.clone());
        } else {
            cx.conn.leave = true;
        }
        let total = cx
            .conn
            .channels
            .len()
            .saturating_add(cx.conn.patterns.len());
        replies.push(Reply::Push(vec![
            Reply::bulk(&name),
            Reply::bulk(channel),
            Reply::size(total),
        ]));
    }
    let total = cx
        .conn
        .channels
        .len()
        .saturating_add(cx.conn.patterns.len());
    if nothing {
        replies.push(Reply::Push(vec![
            Reply::bulk(&name),
            Reply::Nil,
            Reply::size(total),
        ]));
    }
    if let Some(client) = cx.st.clients.get_mut(&cx.conn.id) {
        client.channels.clone_from(&cx.conn.channels);
        client.patterns.clone_from(&cx.conn.patterns);
        client.flags = if total > 0 { "P" } else { "N" };
    }
    Reply::Many(replies)
}

pub(super) fn publish(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    if cx.word(0) == "publish" {
        return Ok(Reply::Int(send(cx)));
    }
    let clients = &cx.st.clients;
    match (cx.word(1).as_str(), cx.args.len()) {
        ("channels", 2 | 3) => {
            let mut found: Vec<&Vec<u8>> = clients.values().flat_map(|c| &c.channels).collect();
            found.sort();
            found.dedup();
            found.retain(|name| cx.args.len() == 2 || glob(cx.arg(2), name));
            Ok(Reply::bulks(found))
        }
        ("numsub", _) => {
            let mut counts = Vec::new();
            for name in cx.args.iter().skip(2).take(CHANNELS_MAX) {
                let count = clients
                    .values()
                    .filter(|c| c.channels.contains(name))
                    .count();
                counts.push(Reply::bulk(name));
                counts.push(Reply::size(count));
            }
            Ok(Reply::Array(counts))
        }
        ("numpat", 2) => Ok(Reply::size(
            clients
                .values()
                .fold(0, |n, c| n.saturating_add(c.patterns.len())),
        )),
        _ => Err(cx.unknown_sub()),
    }
}

fn send(cx: &mut Cx<'_>) -> i64 {
    let (channel, message) = (cx.arg(1), cx.arg(2));
    let mut sent = 0i64;
    for (id, client) in &cx.st.clients {
        if client.channels.contains(channel) {
            sent = sent.saturating_add(1);
            let parts = ["message".as_bytes(), channel, message];
            let parts = parts.iter().map(Reply::bulk).collect();
            cx.st.deliver(*id, &Reply::Push(parts));
        }
        for pattern in client.patterns.iter().filter(|p| glob(p, channel)) {
            sent = sent.saturating_add(1);
            let parts = ["pmessage".as_bytes(), pattern, channel, message];
            let parts = parts.iter().map(Reply::bulk).collect();
            cx.st.deliver(*id, &Reply::Push(parts));
        }
    }
    sent
}

pub(super) fn monitor(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    open_inbox(cx);
    if let Some(client) = cx.st.clients.get_mut(&cx.conn.id) {
        client.flags = "O";
    }
    Ok(OK)
}

/// Shows the command to every monitor.
pub(super) fn show_monitors(cx: &Cx<'_>) {
    let monitors: Vec<u64> = cx
        .st
        .clients
        .iter()
        .filter(|(_, client)| client.flags == "O")
        .map(|(id, _)| *id)
        .collect();
    if monitors.is_empty() {
        return;
    }
    let addr = cx.st.clients.get(&cx.conn.id).map(|c| c.addr.to_string());
    let micros = crate::model::Stamp::now().0;
    let mut line = format!(
        "{}.{:06} [{} {}]",
        micros.wrapping_div(1_000_000),
        micros.wrapping_rem(1_000_000),
        cx.conn.db,
        addr.unwrap_or_default()
    );
    for arg in cx.args.iter().take(128) {
        // Writing to a String cannot fail.
        let _infallible = write!(line, " {}", quote(arg));
    }
    for id in monitors {
        cx.st.deliver(id, &Reply::Simple(line.clone().into()));
    }
}

/// As the server prints arguments: quoted, bytes outside ASCII as `\xNN`.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in bytes.iter().take(1024) {
        match byte {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _infallible = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}
