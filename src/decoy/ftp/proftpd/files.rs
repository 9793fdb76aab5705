//! ProFTPD's commands on files and over data connections.

use std::sync::Arc;

use rand::RngExt;

use super::{PARAMETERS, SEQUENCE, in_incoming, mode, no_data, quoted, refused, touch};
use crate::decoy::End;
use crate::decoy::ftp::account::Anonymous;
use crate::decoy::ftp::list::{self, Entry, Listed, Options};
use crate::decoy::ftp::request::Request;
use crate::decoy::ftp::tree::{Fault, Tree};
use crate::decoy::ftp::{Conn, Onto, Step, with_cr};
use crate::model::Stamp;
use crate::persona::Persona;

/// Facts of MLST in the order they are listed.
pub(super) const FACTS: &[&str] = &[
    "modify",
    "perm",
    "size",
    "type",
    "unique",
    "UNIX.group",
    "UNIX.groupname",
    "UNIX.mode",
    "UNIX.owner",
    "UNIX.ownername",
];

/// Names of owners came with 1.3.7.
pub(super) fn has_fact(persona: &Persona, fact: &str) -> bool {
    !(fact.ends_with("name") && persona.ftp_version.starts_with("1.3.6"))
}

const NOT_PERMITTED: &str = "Operation not permitted";

pub(super) async fn answer(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "CWD" | "XCWD" | "CDUP" | "XCUP" => enter(c, r).await,
        "MKD" | "XMKD" | "RMD" | "XRMD" | "DELE" | "RNFR" | "RNTO" => change(c, r).await,
        "SIZE" | "MDTM" => measure(c, r).await,
        "MFMT" | "MFF" => modify(c, r).await,
        "STAT" => stat(c, r).await,
        "LIST" => listing(c, r).await,
        "NLST" => names(c, r).await,
        "MLST" => facts(c, r).await,
        "MLSD" => facts_of_dir(c, r).await,
        "RETR" => fetch(c, r).await,
        "STOR" | "STOU" | "APPE" => store(c, r).await,
        verb => {
            let text = format!("500 {verb} not understood");
            c.say(&text).await
        }
    }
}

async fn enter(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let up = matches!(r.verb.as_str(), "CDUP" | "XCUP");
    if up != r.arg.is_empty() {
        return c.say(PARAMETERS).await;
    }
    let target = if up { ".." } else { r.arg.as_str() };
    let text = match c.change_dir(target) {
        Ok(()) => format!("250 {} command successful", r.verb),
        Err(fault) => refused(&r.arg, fault),
    };
    c.say(&text).await
}

async fn change(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let pending = c.rename.take();
    if r.arg.is_empty() {
        return c.say(PARAMETERS).await;
    }
    let (path, owner, now) = (c.resolve(&r.arg), c.owner(), Stamp::now());
    let name = &r.arg;
    let makes_dirs = matches!(r.verb.as_str(), "MKD" | "XMKD" | "RMD" | "XRMD");
    let text = match r.verb.as_str() {
        _ if c.is_guest() && makes_dirs => refused(name, Fault::Denied),
        _ if c.is_guest() && r.verb != "RNTO" => format!("550 {name}: {NOT_PERMITTED}"),
        "MKD" | "XMKD" => {
            let made = c.tree().mkdir(&path, 0o777 & !c.umask, owner, now);
            match made {
                Ok(()) => format!("257 \"{}\" - Directory successfully created", quoted(&path)),
                Err(fault) => refused(name, fault),
            }
        }
        "RMD" | "XRMD" | "DELE" => {
            let done = if r.verb == "DELE" {
                c.tree().unlink(&path, owner, now)
            } else {
                c.tree().rmdir(&path, owner, now)
            };
            match done {
                Ok(()) => format!("250 {} command successful", r.verb),
                Err(fault) => refused(name, fault),
            }
        }
        "RNFR" => {
            let found = c.tree().get(&path).map(|_| ());
            match found {
                Ok(()) => {
                    c.rename = Some(path);
                    "350 File or directory exists, ready for destination name".to_owned()
                }
                Err(fault) => refused(name, fault),
            }
        }
        _ => match pending {
            None => SEQUENCE.to_owned(),
            Some(from) => {
                let done = c.tree().rename(&from, &path, owner, now);
                match done {
                    Ok(()) => "250 Rename successful".to_owned(),
                    Err(Fault::IsDir) => format!("550 {name}: {NOT_PERMITTED}"),
                    Err(fault) => refused(name, fault),
                }
            }
        },
    };
    c.say(&text).await
}

async fn measure(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if r.arg.is_empty() {
        return c.say(PARAMETERS).await;
    }
    let size = r.verb == "SIZE";
    if size && c.ascii {
        return c.say("550 SIZE not allowed in ASCII mode").await;
    }
    let path = c.resolve(&r.arg);
    let text = {
        let tree = c.tree();
        match tree.get(&path) {
            Err(fault) => refused(&r.arg, fault),
            Ok(node) if node.is_dir() && size => format!("550 {}: not a regular file", r.arg),
            Ok(node) if node.is_dir() => format!("550 {}: not a plain file", r.arg),
            Ok(node) if size => format!("213 {}", node.size()),
            Ok(node) => format!("213 {}", list::stamp(node.mtime)),
        }
    };
    c.say(&text).await
}

/// MFMT and MFF change times (and modes) of files.
async fn modify(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let Some((what, name)) = r.arg.split_once(' ') else {
        return c.say(PARAMETERS).await;
    };
    if c.is_guest() {
        return c.say("550 Unable to handle command").await;
    }
    let text = if r.verb == "MFMT" {
        match list::parse_stamp(what) {
            None => format!("501 {what}: Invalid argument"),
            Some(at) => match touch(c, name, at) {
                Ok(()) => format!("213 Modify={what}; {name}"),
                Err(fault) => refused(name, fault),
            },
        }
    } else {
        let mut outcome = format!("213 {what} {name}");
        for fact in what.split(';').filter(|f| !f.is_empty()) {
            let (key, value) = fact.split_once('=').unwrap_or((fact, ""));
            let done = match (key.to_ascii_lowercase().as_str(), list::parse_stamp(value)) {
                ("modify", Some(at)) => touch(c, name, at),
                ("modify", None) => Err(Fault::Invalid),
                ("unix.mode", _) => match u32::from_str_radix(value, 8) {
                    Ok(bits) => {
                        let (path, owner) = (c.resolve(name), c.owner());
                        c.tree().chmod(&path, bits, owner)
                    }
                    Err(_) => Err(Fault::Invalid),
                },
                ("unix.group", _) => c.tree().get(&c.resolve(name)).map(|_| ()),
                _ => {
                    outcome = format!("504 Cannot modify fact '{fact}'");
                    break;
                }
            };
            if let Err(fault) = done {
                outcome = refused(name, fault);
                break;
            }
        }
        outcome
    };
    c.say(&text).await
}

/// Owner and group as shown.
fn shown_owner(c: &Conn<'_>) -> String {
    c.login
        .as_ref()
        .map_or_else(String::new, |l| l.name.clone())
}

fn lines(c: &Conn<'_>, tree: &Tree, entries: &[Entry<'_>], indent: &str) -> String {
    let now = Stamp::now();
    let owner = shown_owner(c);
    let mut text = String::new();
    for entry in entries {
        text.push_str(indent);
        text.push_str(&list::proftpd(tree, entry, (&owner, &owner), now));
    }
    text
}

async fn stat(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let (options, target) = list::options(&r.arg);
    let options = Options {
        all: true,
        ..options
    };
    let target = if target.is_empty() { "." } else { target };
    let text = {
        let tree = c.tree();
        match list::lookup(&tree, &c.cwd, target, options) {
            Err(fault) => format!("450 {target}: {}", fault.text()),
            Ok(listed) => {
                let code = match listed {
                    Listed::Dir(_) => "212",
                    Listed::Names(_) => "213",
                };
                let body = lines(c, &tree, &listed.entries(), " ");
                format!("{code}-Status of {target}:\r\n{body}{code} End of status")
            }
        }
    };
    c.say(&text).await
}

async fn listing(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let (options, target) = list::options(&r.arg);
    let listed = {
        let tree = c.tree();
        match list::lookup(&tree, &c.cwd, target, options) {
            Ok(Listed::Dir(entries)) if options.recurse => {
                Ok(recursive(c, &tree, &entries, options, ""))
            }
            Ok(listed) => Ok(lines(c, &tree, &listed.entries(), "")),
            Err(fault) => Err(format!("450 {target}: {}", fault.text())),
        }
    };
    let opening = format!("150 Opening {} mode data connection for file list", mode(c));
    c.reply(&opening).await?;
    let body = listed.as_deref().unwrap_or_default().to_owned();
    finish(c, stream, body.as_bytes(), listed.err()).await
}

/// A directory, then each of its directories under its name. The tree is bounded, so
/// is this.
fn recursive(
    c: &Conn<'_>,
    tree: &Tree,
    entries: &[Entry<'_>],
    options: Options,
    prefix: &str,
) -> String {
    let mut text = lines(c, tree, entries, "");
    for entry in entries {
        if entry.node.is_dir() && entry.name != "." && entry.name != ".." {
            let name = format!("{prefix}{}", entry.name);
            text.push_str(&format!("\r\n{name}:\r\n"));
            let below = list::read_dir(tree, &entry.path, options);
            text.push_str(&recursive(c, tree, &below, options, &format!("{name}/")));
        }
    }
    text
}

/// Sends a listing and the last reply.
async fn finish(
    c: &mut Conn<'_>,
    stream: tokio::net::TcpStream,
    body: &[u8],
    instead: Option<String>,
) -> Result<Step, End> {
    let sent = c.push(stream, body).await;
    match instead {
        Some(text) => c.say(&text).await,
        None if sent => c.say("226 Transfer complete").await,
        None => c.say("426 Transfer aborted. Data connection closed").await,
    }
}

async fn names(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let (options, target) = list::options(&r.arg);
    let found = {
        let tree = c.tree();
        match list::lookup(&tree, &c.cwd, target, options) {
            Err(fault) => Err(format!("450 {target}: {}", fault.text())),
            Ok(Listed::Names(entries)) if entries.is_empty() => {
                Err("450 No files found".to_owned())
            }
            Ok(listed) => {
                let prefix = match &listed {
                    Listed::Dir(_) if !target.is_empty() => {
                        format!("{}/", target.trim_end_matches('/'))
                    }
                    _ => String::new(),
                };
                Ok(list::unsorted(listed.entries())
                    .iter()
                    .map(|entry| format!("{prefix}{}\r\n", entry.name))
                    .collect::<String>())
            }
        }
    };
    let text = match found {
        Ok(text) => text,
        Err(refusal) => return c.say(&refusal).await,
    };
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let opening = format!("150 Opening {} mode data connection for file list", mode(c));
    c.reply(&opening).await?;
    finish(c, stream, text.as_bytes(), None).await
}

/// The facts of one name.
fn fact_line(c: &Conn<'_>, entry: &Entry<'_>, kind: &str, name: &str) -> String {
    let node = entry.node;
    let owner = shown_owner(c);
    let me = c.owner();
    // A disk of a machine or of a virtual one.
    let device = match c.s.persona.hex_id("ftp/device", 1).as_str() {
        "0" | "1" | "2" | "3" | "4" | "5" => "801",
        "6" | "7" | "8" | "9" => "FD00",
        _ => "FE01",
    };
    let mut text = String::new();
    for fact in FACTS.iter().filter(|fact| has_fact(&c.s.persona, fact)) {
        let wanted = c
            .facts
            .as_ref()
            .is_none_or(|chosen| chosen.iter().any(|f| f == fact));
        if !wanted {
            continue;
        }
        let value = match *fact {
            "modify" => list::stamp(node.mtime),
            "perm" => match (node.is_dir(), node.allows(me, 2)) {
                (true, true) => "flcdmpe".to_owned(),
                (true, false) => "fle".to_owned(),
                (false, true) => "adfrw".to_owned(),
                (false, false) => "adfr".to_owned(),
            },
            "size" if node.is_dir() => continue,
            "size" => node.size().to_string(),
            "type" => kind.to_owned(),
            "unique" => format!("{device}U{:X}", node.inode),
            "UNIX.group" => node.owner.gid.to_string(),
            "UNIX.mode" => format!("0{:o}", node.mode),
            "UNIX.owner" => me.uid.to_string(),
            _ => owner.clone(),
        };
        text.push_str(&format!("{fact}={value};"));
    }
    format!("{text} {name}\r\n")
}

async fn facts(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let path = c.resolve(&r.arg);
    let shown = if r.arg.is_empty() { &path } else { &r.arg };
    let text = {
        let tree = c.tree();
        match tree.get(&path) {
            Err(_) => format!("550 '{shown}' cannot be listed"),
            Ok(node) => {
                let kind = if node.is_dir() { "dir" } else { "file" };
                let entry = Entry {
                    name: String::new(),
                    path: path.clone(),
                    node,
                };
                let line = fact_line(c, &entry, kind, &path);
                format!("250-Start of list for {shown}\r\n {line}250 End of list")
            }
        }
    };
    c.say(&text).await
}

async fn facts_of_dir(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let path = c.resolve(&r.arg);
    let found = {
        let tree = c.tree();
        match tree.get(&path) {
            Err(fault) => Err(refused(&r.arg, fault)),
            Ok(node) if !node.is_dir() => Err(format!("550 '{}' is not a directory", r.arg)),
            Ok(_) => {
                let options = Options {
                    all: true,
                    ..Options::default()
                };
                let entries = list::unsorted(list::read_dir(&tree, &path, options));
                let line = |entry: &Entry<'_>| {
                    let kind = match (entry.name.as_str(), entry.node.is_dir()) {
                        (".", _) => "cdir",
                        ("..", _) => "pdir",
                        (_, true) => "dir",
                        (_, false) => "file",
                    };
                    fact_line(c, entry, kind, &entry.name)
                };
                Ok(entries.iter().map(line).collect::<String>())
            }
        }
    };
    let text = match found {
        Ok(text) => text,
        Err(refusal) => return c.say(&refusal).await,
    };
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let opening = format!("150 Opening {} mode data connection for MLSD", mode(c));
    c.reply(&opening).await?;
    finish(c, stream, text.as_bytes(), None).await
}

async fn fetch(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let offset = std::mem::take(&mut c.rest);
    let range = c.range.take();
    if r.arg.is_empty() {
        return c.say("500 'RETR' not understood").await;
    }
    let path = c.resolve(&r.arg);
    if c.is_guest() && in_incoming(c, &path) {
        let text = format!("550 {}: {NOT_PERMITTED}", r.arg);
        return c.say(&text).await;
    }
    let (bytes, size) = match c.open_file(&path) {
        Ok(file) => file,
        Err(Fault::IsDir) => {
            let text = format!("550 {}: Not a regular file", r.arg);
            return c.say(&text).await;
        }
        Err(fault) => return c.say(&refused(&r.arg, fault)).await,
    };
    if offset > size {
        let text = format!("554 REST: invalid {} argument", r.arg);
        return c.say(&text).await;
    }
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let length = size.saturating_sub(offset).min(range.unwrap_or(u64::MAX));
    let mut opening = format!("150 Opening {} mode data connection for {}", mode(c), r.arg);
    if length > 0 {
        opening.push_str(&format!(" ({length} bytes)"));
    }
    c.reply(&opening).await?;
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes.get(start..).unwrap_or_default();
    let part = part
        .get(
            ..part
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX)),
        )
        .unwrap_or_default();
    let body = if c.ascii {
        Arc::new(with_cr(part))
    } else {
        Arc::new(part.to_vec())
    };
    let sent = c.push(stream, &body).await;
    c.downloaded(&path, part.len(), sent);
    c.say(if sent {
        "226 Transfer complete"
    } else {
        "426 Transfer aborted. Data connection closed"
    })
    .await
}

async fn store(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let offset = std::mem::take(&mut c.rest);
    c.range = None;
    let unique = r.verb == "STOU";
    if r.arg.is_empty() && !unique {
        let text = format!("500 '{}' not understood", r.verb);
        return c.say(&text).await;
    }
    let name = if unique {
        let mut rng = rand::rng();
        let tail: String = (0..6)
            .map(|_| char::from(rng.sample(rand::distr::Alphanumeric)))
            .collect();
        format!("ftp{tail}")
    } else {
        r.arg.clone()
    };
    let path = c.resolve(&name);
    if c.is_guest() && (r.verb == "APPE" || !in_incoming(c, &path)) {
        let text = if unique {
            "450 STOU: unable to generate unique filename".to_owned()
        } else {
            format!("550 {name}: {NOT_PERMITTED}")
        };
        return c.say(&text).await;
    }
    debug_assert!(!c.is_guest() || c.shared.accounts.anonymous == Anonymous::Upload);
    let writable = c.tree().may_write(&path, c.owner());
    let refusal = match writable {
        // AllowStoreRestart is off by default.
        Ok(true) if r.verb == "APPE" || offset > 0 => Some(format!(
            "451 {name}: Append/Restart not permitted, try again"
        )),
        Ok(_) => None,
        Err(Fault::IsDir) => Some(format!("550 {name}: Not a regular file")),
        Err(fault) => Some(refused(&name, fault)),
    };
    if let Some(text) = refusal {
        return c.say(&text).await;
    }
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let opening = if unique {
        format!("150 FILE: {name}")
    } else {
        format!("150 Opening {} mode data connection for {name}", mode(c))
    };
    c.reply(&opening).await?;
    match c.upload(stream, &path, Onto::Nothing, c.ascii).await {
        Ok(received) if received.whole => c.say("226 Transfer complete").await,
        Ok(_) => c.say("426 Transfer aborted. Data connection closed").await,
        Err(fault) => c.say(&refused(&name, fault)).await,
    }
}
