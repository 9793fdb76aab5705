//! Microsoft FTP Service as IIS 10 carries it: MS-DOS listings, names without regard to
//! case, back slashes, one reply for every failed login, errors in the words of the
//! file system. TLS is off by policy.

use crate::decoy::End;
use crate::decoy::ftp::account::Anonymous;
use crate::decoy::ftp::data::{NoData, Ports};
use crate::decoy::ftp::list::{self, Options};
use crate::decoy::ftp::request::{self, BadEprt, Framing, Request};
use crate::decoy::ftp::tree::{self, Fault, Tree};
use crate::decoy::ftp::{Channel, Conn, Onto, Step};
use crate::model::Stamp;

pub(super) const FRAMING: Framing = Framing {
    max: 4096,
    bare_lf: true,
    telnet: true,
};

pub(super) const GREETING: &str = "220 Microsoft FTP Service";
pub(super) const TIMEOUT: &str = "421 Connection timed out.";

const FEATURES: &str = "211-Extended features supported:\r\n LANG EN*\r\n UTF8\r\n \
                        AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n PROT C;P;\r\n CCC\r\n HOST\r\n \
                        SIZE\r\n MDTM\r\n REST STREAM\r\n211 END";
const COMMANDS: &[&str] = &[
    "ABOR", "ACCT", "ADAT *", "ALLO", "APPE", "AUTH", "CCC", "CDUP", "CWD", "DELE", "ENC *",
    "EPRT", "EPSV", "FEAT", "HELP", "HOST", "LANG", "LIST", "MDTM", "MIC *", "MKD", "MODE", "NLST",
    "NOOP", "OPTS", "PASS", "PASV", "PBSZ", "PORT", "PROT", "PWD", "QUIT", "REIN", "REST", "RETR",
    "RMD", "RNFR", "RNTO", "SITE", "SIZE", "SMNT", "STAT", "STOR", "STOU", "STRU", "SYST", "TYPE",
    "USER", "XCUP", "XCWD", "XMKD", "XPWD", "XRMD",
];
const PARAMETER: &str = "501 Parameter cannot be recognized.";
const SYNTAX: &str = "501 Syntax error in parameter or argument.";
const NO_DATA: &str = "425 Cannot open data connection.";

/// The sentence of a fault; the space behind it is the server's.
fn failed(fault: Fault) -> &'static str {
    match fault {
        Fault::Missing => "550 The system cannot find the file specified. ",
        Fault::NotDir => "550 The directory name is invalid. ",
        Fault::IsDir | Fault::Denied => "550 Access is denied. ",
        Fault::NotEmpty => "550 The directory is not empty. ",
        Fault::Exists => "550 Cannot create a file when that file already exists. ",
        Fault::Invalid => "550 The parameter is incorrect. ",
        Fault::Full => "550 There is not enough space on the disk. ",
    }
}

pub(super) async fn answer(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "QUIT" => {
            c.reply("221 Goodbye.").await?;
            Ok(Step::Close)
        }
        "FEAT" => c.say(FEATURES).await,
        "USER" if r.arg.is_empty() => c.say(SYNTAX).await,
        "USER" => {
            c.login = None;
            let anonymous = c.shared.accounts.is_anonymous(&r.arg);
            c.name(&r.arg);
            c.say(if anonymous {
                "331 Anonymous access allowed, send identity (e-mail name) as password."
            } else {
                "331 Password required"
            })
            .await
        }
        "PASS" if c.user.is_none() => c.say("503 Login with USER first.").await,
        "PASS" => {
            let accepted = c.log_in(&r.raw, 20..60).await;
            c.say(if accepted {
                "230 User logged in."
            } else {
                "530 User cannot log in."
            })
            .await
        }
        "AUTH" => {
            c.say("534 Local policy on server does not allow TLS secure connections.")
                .await
        }
        "OPTS" => options(c, r).await,
        "HOST" if r.arg.is_empty() => c.say(SYNTAX).await,
        "HOST" => c.say("220 Host accepted.").await,
        "HELP" => help(c).await,
        verb if !is_known(verb) => c.say("500 Command not understood.").await,
        _ if c.login.is_none() => c.say("530 Please login with USER and PASS.").await,
        _ => session(c, r).await,
    }
}

fn is_known(verb: &str) -> bool {
    COMMANDS
        .iter()
        .any(|known| known.split(' ').next() == Some(verb))
}

async fn help(c: &mut Conn<'_>) -> Result<Step, End> {
    let mut text = "214-The following commands are recognized (* ==>'s unimplemented).".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("\r\n {command}"));
    }
    text.push_str("\r\n214 HELP command successful.");
    c.say(&text).await
}

async fn options(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let upper = r.arg.to_ascii_uppercase();
    match upper.as_str() {
        "UTF8 ON" | "UTF8" => {
            c.say("200 OPTS UTF8 command successful - UTF8 encoding now ON.")
                .await
        }
        "UTF8 OFF" => {
            c.say("200 OPTS UTF8 command successful - UTF8 encoding now OFF.")
                .await
        }
        _ => c.say(PARAMETER).await,
    }
}

async fn session(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "PWD" | "XPWD" => {
            let text = format!("257 \"{}\" is current directory.", c.cwd);
            c.say(&text).await
        }
        "SYST" => c.say("215 Windows_NT").await,
        "NOOP" => c.say("200 noop command successful.").await,
        "ALLO" => c.say("200 ALLO command successful.").await,
        "ABOR" => c.say("226 ABOR command successful.").await,
        "ACCT" | "SMNT" => {
            c.say("202 Command not implemented, superfluous at this site.")
                .await
        }
        "REIN" => {
            c.login = None;
            c.say("220 Service ready for new user.").await
        }
        "PBSZ" | "PROT" | "CCC" => c.say("503 Bad sequence of commands.").await,
        "ADAT" | "ENC" | "MIC" => c.say("502 Command not implemented.").await,
        "LANG" => c.say("200 LANG is now EN-US.").await,
        "TYPE" => match r.arg.to_ascii_uppercase().as_str() {
            "A" | "A N" => {
                c.ascii = true;
                c.say("200 Type set to A.").await
            }
            "I" | "L 8" => {
                c.ascii = false;
                c.say("200 Type set to I.").await
            }
            "" => c.say(SYNTAX).await,
            _ => {
                c.say("504 Command not implemented for that parameter.")
                    .await
            }
        },
        "MODE" if r.arg.eq_ignore_ascii_case("S") => c.say("200 Mode S ok.").await,
        "STRU" if r.arg.eq_ignore_ascii_case("F") => c.say("200 STRU F ok.").await,
        "MODE" | "STRU" => {
            c.say("504 Command not implemented for that parameter.")
                .await
        }
        "REST" => match r.arg.parse::<u64>() {
            Ok(offset) => {
                c.rest = offset;
                let text = format!("350 Restarting at {offset}.");
                c.say(&text).await
            }
            Err(_) => c.say(SYNTAX).await,
        },
        "CWD" | "XCWD" => enter(c, &r.arg).await,
        "CDUP" | "XCUP" => match c.change_dir("..") {
            Ok(()) => c.say("250 CDUP command successful.").await,
            Err(fault) => c.say(failed(fault)).await,
        },
        "MKD" | "XMKD" | "RMD" | "XRMD" | "DELE" | "RNFR" | "RNTO" => change(c, r).await,
        "SIZE" | "MDTM" => measure(c, r).await,
        "SITE" => site(c, r).await,
        "STAT" => stat(c).await,
        "PASV" | "EPSV" | "PORT" | "EPRT" => arrange(c, r).await,
        "LIST" | "NLST" => listing(c, r).await,
        "RETR" => fetch(c, r).await,
        "STOR" | "STOU" | "APPE" => store(c, r).await,
        _ => c.say("500 Command not understood.").await,
    }
}

/// The path an argument means: names as they are written in the tree, whatever their
/// case; the rest as typed.
fn find(c: &Conn<'_>, arg: &str) -> String {
    let asked = tree::resolve(&c.cwd, &arg.replace('\\', "/"));
    let tree = c.tree();
    let mut path = "/".to_owned();
    for name in asked.split('/').filter(|n| !n.is_empty()) {
        let known = known(&tree, &path, name);
        path = tree::join(&path, &known);
    }
    path
}

fn known(tree: &Tree, dir: &str, name: &str) -> String {
    let children = tree.children(dir).into_iter();
    children
        .map(|(known, _)| known)
        .find(|known| known.eq_ignore_ascii_case(name))
        .unwrap_or(name)
        .to_owned()
}

async fn enter(c: &mut Conn<'_>, arg: &str) -> Result<Step, End> {
    let path = find(c, arg);
    match c.change_dir(&path) {
        Ok(()) => c.say("250 CWD command successful.").await,
        Err(fault) => c.say(failed(fault)).await,
    }
}

async fn change(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if r.arg.is_empty() {
        return c.say(SYNTAX).await;
    }
    let makes = matches!(r.verb.as_str(), "MKD" | "XMKD");
    if c.is_guest() && !(makes && c.shared.accounts.anonymous == Anonymous::Upload) {
        return c.say(failed(Fault::Denied)).await;
    }
    let (path, owner, now) = (find(c, &r.arg), c.owner(), Stamp::now());
    let verb = r.verb.trim_start_matches('X');
    let done = match verb {
        "MKD" => c.tree().mkdir(&path, 0o755, owner, now),
        "RMD" => c.tree().rmdir(&path, owner, now),
        "DELE" => c.tree().unlink(&path, owner, now),
        "RNFR" => {
            let found = c.tree().get(&path).map(|_| ());
            c.rename = found.is_ok().then_some(path);
            found
        }
        _ => match c.rename.take() {
            Some(from) => c.tree().rename(&from, &path, owner, now),
            None => return c.say("503 Bad sequence of commands.").await,
        },
    };
    match (done, verb) {
        (Err(fault), _) => c.say(failed(fault)).await,
        (Ok(()), "MKD") => {
            let text = format!("257 \"{}\" directory created.", r.arg);
            c.say(&text).await
        }
        (Ok(()), "RNFR") => {
            c.say("350 Requested file action pending further information.")
                .await
        }
        (Ok(()), verb) => {
            let text = format!("250 {verb} command successful.");
            c.say(&text).await
        }
    }
}

async fn measure(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let path = find(c, &r.arg);
    let found = {
        let tree = c.tree();
        tree.get(&path)
            .map(|node| (node.is_dir(), node.size(), node.mtime))
    };
    match found {
        Ok((true, ..)) => c.say(failed(Fault::Denied)).await,
        Ok((_, size, _)) if r.verb == "SIZE" => c.say(&format!("213 {size}")).await,
        Ok((_, _, mtime)) => c.say(&format!("213 {}", list::stamp(mtime))).await,
        Err(fault) => c.say(failed(fault)).await,
    }
}

async fn site(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.arg.to_ascii_uppercase().as_str() {
        "DIRSTYLE" => {
            c.unix_lists = !c.unix_lists;
            let state = if c.unix_lists { "off" } else { "on" };
            let text = format!("200 MSDOS-like directory output is {state}.");
            c.say(&text).await
        }
        "HELP" => {
            c.say(
                "214-The following SITE commands are recognized (* ==>'s unimplemented).\r\n \
                 DIRSTYLE\r\n HELP\r\n214 SITE HELP command successful.",
            )
            .await
        }
        "" => c.say(SYNTAX).await,
        _ => c.say(PARAMETER).await,
    }
}

async fn stat(c: &mut Conn<'_>) -> Result<Step, End> {
    let text = format!(
        "211-Microsoft FTP Service status:\r\n     Connected to {}\r\n     Logged in as {}\r\n     \
         TYPE: {}, FORM: Nonprint; STRUcture: File; transfer MODE: STREAM\r\n     No data \
         connection\r\n211 End of status.",
        c.s.persona.hostname.to_uppercase(),
        c.login.as_ref().map_or("", |l| l.typed.as_str()),
        if c.ascii { "ASCII" } else { "Image" },
    );
    c.say(&text).await
}

async fn arrange(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "PASV" => match c.listen(Ports::Kernel) {
            Some(port) => {
                let text = format!("227 Entering Passive Mode ({}).", c.pasv_address(port));
                c.say(&text).await
            }
            None => c.say(NO_DATA).await,
        },
        "EPSV" => match c.listen(Ports::Kernel) {
            Some(port) => {
                let text = format!("229 Entering Extended Passive Mode (|||{port}|)");
                c.say(&text).await
            }
            None => c.say(NO_DATA).await,
        },
        "PORT" => {
            let own = request::port(&r.arg).is_some_and(|target| c.active(target));
            c.say(if own {
                "200 PORT command successful."
            } else {
                "501 Server cannot accept argument."
            })
            .await
        }
        _ => match request::eprt(&r.arg) {
            Err(BadEprt::Protocol) => c.say("522 Network protocol not supported.").await,
            Err(BadEprt::Syntax) => c.say(SYNTAX).await,
            Ok(target) => {
                let own = c.active(target);
                c.say(if own {
                    "200 EPRT command successful."
                } else {
                    "501 Server cannot accept argument."
                })
                .await
            }
        },
    }
}

/// What is said before a transfer: whether the connection is there already.
fn opening(c: &Conn<'_>) -> &'static str {
    match (&c.channel, c.ascii) {
        (Channel::Passive(_), _) => "125 Data connection already open; Transfer starting.",
        (_, true) => "150 Opening ASCII mode data connection.",
        (_, false) => "150 Opening BINARY mode data connection.",
    }
}

/// The data connection, announced; `None` when there is none, which was said too.
async fn data(c: &mut Conn<'_>) -> Result<Option<tokio::net::TcpStream>, End> {
    let text = opening(c);
    match c.data().await? {
        Ok(stream) => {
            c.reply(text).await?;
            Ok(Some(stream))
        }
        Err(NoData::NotArranged | NoData::TimedOut | NoData::Foreign | NoData::Stopped) => {
            c.reply("150 Opening ASCII mode data connection.").await?;
            c.reply(NO_DATA).await?;
            Ok(None)
        }
    }
}

async fn listing(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let (options, target) = list::options(&r.arg);
    let path = find(c, target);
    let long = r.verb == "LIST" || options.long;
    let text = {
        let tree = c.tree();
        render(&tree, &path, options, long, c.unix_lists)
    };
    let text = match text {
        Ok(text) => text,
        Err(fault) => {
            c.channel = Channel::None;
            return c.say(failed(fault)).await;
        }
    };
    let Some(stream) = data(c).await? else {
        return Ok(Step::Next);
    };
    if c.push(stream, text.as_bytes()).await {
        c.say("226 Transfer complete.").await
    } else {
        c.say("426 Connection closed; transfer aborted.").await
    }
}

fn render(
    tree: &Tree,
    path: &str,
    options: Options,
    long: bool,
    unix: bool,
) -> Result<String, Fault> {
    let entries = list::lookup(tree, "/", path, options)?.entries();
    let mut text = String::new();
    for entry in entries {
        let name = entry.name.rsplit('/').next().unwrap_or_default();
        let node = entry.node;
        let at = node.mtime.utc();
        let line = match (long, unix, node.is_dir()) {
            (false, ..) => name.to_owned(),
            (true, false, true) => {
                format!(
                    "{}       <DIR>          {name}",
                    at.strftime("%m-%d-%y  %I:%M%p")
                )
            }
            (true, false, false) => {
                let size = node.size();
                format!("{}{size:>21} {name}", at.strftime("%m-%d-%y  %I:%M%p"))
            }
            (true, true, dir) => {
                let (kind, size) = if dir { ('d', 0) } else { ('-', node.size()) };
                let when = at.strftime("%b %e %H:%M");
                format!("{kind}rwxrwxrwx   1 owner    group    {size:>15} {when} {name}")
            }
        };
        text.push_str(&line);
        text.push_str("\r\n");
    }
    Ok(text)
}

async fn fetch(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let offset = usize::try_from(std::mem::take(&mut c.rest)).unwrap_or(usize::MAX);
    let path = find(c, &r.arg);
    let (bytes, _) = match c.open_file(&path) {
        Ok(file) => file,
        Err(fault) => {
            c.channel = Channel::None;
            return c.say(failed(fault)).await;
        }
    };
    let Some(stream) = data(c).await? else {
        return Ok(Step::Next);
    };
    let part = bytes.get(offset..).unwrap_or_default();
    let sent = c.push(stream, part).await;
    c.downloaded(&path, part.len(), sent);
    c.say(if sent {
        "226 Transfer complete."
    } else {
        "426 Connection closed; transfer aborted."
    })
    .await
}

async fn store(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let offset = std::mem::take(&mut c.rest);
    if r.arg.is_empty() && r.verb != "STOU" {
        return c.say(SYNTAX).await;
    }
    let name = if r.verb == "STOU" {
        format!("ftp{:04X}.tmp", Stamp::now().0.rem_euclid(0x1_0000))
    } else {
        r.arg.clone()
    };
    let path = find(c, &name);
    let allowed = !c.is_guest() || c.shared.accounts.anonymous == Anonymous::Upload;
    let writable = c.tree().may_write(&path, c.owner());
    match writable {
        Ok(_) if allowed => {}
        Ok(_) => {
            c.channel = Channel::None;
            return c.say(failed(Fault::Denied)).await;
        }
        Err(fault) => {
            c.channel = Channel::None;
            return c.say(failed(fault)).await;
        }
    }
    let Some(stream) = data(c).await? else {
        return Ok(Step::Next);
    };
    let onto = match (r.verb.as_str(), offset) {
        ("APPE", _) => Onto::End,
        (_, 1..) => Onto::Offset(offset),
        _ => Onto::Nothing,
    };
    match c.upload(stream, &path, onto, false).await {
        Ok(received) if received.whole => c.say("226 Transfer complete.").await,
        Ok(_) => c.say("426 Connection closed; transfer aborted.").await,
        Err(fault) => c.say(failed(fault)).await,
    }
}
