//! ProFTPD 1.3 as Debian and Ubuntu package it (no TLS module, mod_copy, mod_site_misc
//! and mod_facts loaded) with `DefaultRoot ~` and, where anonymous users are allowed,
//! the packaged `<Anonymous ~ftp>` example. The greeting names no version since 1.3.6;
//! CSID does, from 1.3.8.

use std::net::SocketAddr;

use crate::decoy::End;
use crate::decoy::ftp::account::Anonymous;
use crate::decoy::ftp::data::{NoData, Ports};
use crate::decoy::ftp::request::{self, Framing, Request};
use crate::decoy::ftp::tree::Fault;
use crate::decoy::ftp::{Conn, Step, mapped};
use crate::model::Stamp;
use crate::persona::Persona;

mod files;
mod site;

const HELP: &str = "214-The following commands are recognized (* =>'s unimplemented):\r\n CWD     \
XCWD    CDUP    XCUP    SMNT*   QUIT    PORT    PASV    \r\n EPRT    EPSV    ALLO    RNFR    \
RNTO    DELE    MDTM    RMD     \r\n XRMD    MKD     XMKD    PWD     XPWD    SIZE    SYST    HELP    \
\r\n NOOP    FEAT    OPTS    HOST    CLNT    AUTH*   CCC*    CONF*   \r\n ENC*    MIC*    PBSZ*   \
PROT*   TYPE    STRU    MODE    RETR    \r\n STOR    STOU    APPE    REST    ABOR    RANG    \
USER    PASS    \r\n ACCT*   REIN*   LIST    NLST    STAT    SITE    MLSD    MLST    \r\n214 Direct \
comments to root@";

/// What HELP says of one verb.
const SYNTAX: &[(&str, &str)] = &[
    ("CWD", "<sp> pathname"),
    ("XCWD", "<sp> pathname"),
    ("CDUP", "(up one directory)"),
    ("XCUP", "(up one directory)"),
    ("SMNT", "is not implemented"),
    ("QUIT", "(close control connection)"),
    ("PORT", "<sp> h1,h2,h3,h4,p1,p2"),
    ("PASV", "(returns address/port)"),
    ("EPRT", "<sp> |proto|addr|port|"),
    ("EPSV", "(returns port |||port|)"),
    ("ALLO", "<sp> size"),
    ("RNFR", "<sp> pathname"),
    ("RNTO", "<sp> pathname"),
    ("DELE", "<sp> pathname"),
    ("MDTM", "<sp> pathname"),
    ("RMD", "<sp> pathname"),
    ("XRMD", "<sp> pathname"),
    ("MKD", "<sp> pathname"),
    ("XMKD", "<sp> pathname"),
    ("PWD", "(returns current working directory)"),
    ("XPWD", "(returns current working directory)"),
    ("SIZE", "<sp> pathname"),
    ("SYST", "(returns system type)"),
    ("HELP", "[<sp> command]"),
    ("NOOP", "(no operation)"),
    ("FEAT", "(returns feature list)"),
    ("OPTS", "<sp> command [<sp> options]"),
    ("HOST", "<cp> hostname"),
    ("CLNT", "<cp> client-info"),
    ("AUTH", "<sp> base64-data"),
    ("CCC", "(clears protection level)"),
    ("CONF", "<sp> base64-data"),
    ("ENC", "<sp> base64-data"),
    ("MIC", "<sp> base64-data"),
    ("PBSZ", "<sp> protection buffer size"),
    ("PROT", "<sp> protection code"),
    ("TYPE", "<sp> type-code (A, I, L 7, L 8)"),
    ("STRU", "is not implemented (always F)"),
    ("MODE", "is not implemented (always S)"),
    ("RETR", "<sp> pathname"),
    ("STOR", "<sp> pathname"),
    ("STOU", "(store unique filename)"),
    ("APPE", "<sp> pathname"),
    ("REST", "<sp> byte-count"),
    ("ABOR", "(abort current operation)"),
    ("RANG", "<sp> start-point <sp> end-point"),
    ("USER", "<sp> username"),
    ("PASS", "<sp> password"),
    ("ACCT", "is not implemented"),
    ("REIN", "is not implemented"),
    ("LIST", "[<sp> pathname]"),
    ("NLST", "[<sp> (pathname)]"),
    ("STAT", "[<sp> pathname]"),
    ("MLSD", "[<sp> pathname]"),
    ("MLST", "[<sp> pathname]"),
];

/// Verbs of HTTP, SMTP and SSH: it hangs up without a word, so that nobody's browser
/// or mailer can be made to speak FTP.
const OTHER_PROTOCOLS: &[&str] = &[
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "DATA", "EHLO", "HELO",
    "MAIL", "RCPT", "RSET", "VRFY",
];

/// Commands that need a login, besides those of files.
const AFTER_LOGIN: &[&str] = &[
    "ABOR", "ALLO", "CSID", "MFF", "MFMT", "MLSD", "MLST", "MODE", "PWD", "XPWD", "RANG", "REST",
    "SMNT", "STAT", "STRU", "PASV", "EPSV", "PORT", "EPRT", "CWD", "XCWD", "CDUP", "XCUP", "MKD",
    "XMKD", "RMD", "XRMD", "DELE", "RNFR", "RNTO", "SIZE", "MDTM", "LIST", "NLST", "RETR", "STOR",
    "STOU", "APPE",
];

const LOGIN_FIRST: &str = "530 Please login with USER and PASS";
const PARAMETERS: &str = "501 Invalid number of parameters";
const SEQUENCE: &str = "503 Bad sequence of commands";

/// Bare line feeds end no line from 1.3.8 on.
pub(super) fn framing(persona: &Persona) -> Framing {
    Framing {
        max: 4103,
        bare_lf: !is_138(persona),
        telnet: true,
    }
}

pub(super) fn greeting(persona: &Persona, local: SocketAddr) -> String {
    let name = server_name(persona);
    format!("220 ProFTPD Server ({name}) [{}]", mapped(local.ip()))
}

/// `ServerName` of the packaged configuration.
fn server_name(persona: &Persona) -> &'static str {
    match persona.distro.as_str() {
        "Debian" | "Ubuntu" | "Kali" => "Debian",
        _ => "ProFTPD Default Installation",
    }
}

pub(super) fn timeout(logged_in: bool) -> &'static str {
    if logged_in {
        "421 Idle timeout (1200 seconds): closing control connection"
    } else {
        "421 Login timeout (300 seconds): closing control connection"
    }
}

/// The verb ends at white space, the line at a NUL; leading white space is no verb.
pub(super) fn request(text: &[u8]) -> Request {
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    let mut request = Request::new(text, |b| b.is_ascii_whitespace());
    let trimmed = request.arg.trim_start();
    if trimmed.len() != request.arg.len() {
        request.arg = trimmed.to_owned();
    }
    request
}

fn is_138(persona: &Persona) -> bool {
    persona.ftp_version.starts_with("1.3.8")
}

fn features(persona: &Persona) -> String {
    let csid = if is_138(persona) { " CSID\r\n" } else { "" };
    let facts: String = files::FACTS
        .iter()
        .filter(|fact| files::has_fact(persona, fact))
        .map(|fact| format!("{fact}*;"))
        .collect();
    format!(
        "211-Features:\r\n CLNT\r\n{csid} EPRT\r\n EPSV\r\n HOST\r\n LANG C.UTF-8*\r\n MDTM\r\n MFF \
         modify;UNIX.group;UNIX.mode;\r\n MFMT\r\n MLST {facts}\r\n RANG STREAM\r\n REST \
         STREAM\r\n SITE COPY\r\n SITE MKDIR\r\n SITE RMDIR\r\n SITE SYMLINK\r\n SITE \
         UTIME\r\n SIZE\r\n TVFS\r\n UTF8\r\n211 End"
    )
}

pub(super) async fn answer(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let verb = r.verb.as_str();
    if verb.is_empty() {
        return c.say("500 Invalid command: try being more creative").await;
    }
    if OTHER_PROTOCOLS.contains(&verb) || verb.starts_with("SSH-2.0-") {
        return Ok(Step::Close);
    }
    if c.rename.is_some() && !["RNTO", "NOOP", "QUIT", "STAT", "HELP"].contains(&verb) {
        return c.say("501 Bad sequence of commands").await;
    }
    let known = verb != "CSID" || is_138(&c.s.persona);
    if known && c.login.is_none() && AFTER_LOGIN.contains(&verb) {
        return c.say(LOGIN_FIRST).await;
    }
    match verb {
        "QUIT" => {
            c.reply("221 Goodbye.").await?;
            Ok(Step::Close)
        }
        "USER" => user(c, r).await,
        "PASS" => pass(c, r).await,
        "FEAT" => {
            let text = features(&c.s.persona);
            c.say(&text).await
        }
        "SYST" => c.say("215 UNIX Type: L8").await,
        "NOOP" => c.say("200 NOOP command successful").await,
        "CLNT" => c.say("200 OK").await,
        "HELP" => help(c, r).await,
        "HOST" | "LANG" => virtual_host(c, r).await,
        "OPTS" => options(c, r).await,
        "TYPE" | "MODE" | "STRU" | "ALLO" | "REST" | "RANG" => parameters(c, r).await,
        "ACCT" | "REIN" | "SMNT" => {
            let text = format!("502 {verb} command not implemented");
            c.say(&text).await
        }
        "SITE" => site::answer(c, r).await,
        "CSID" if is_138(&c.s.persona) => {
            let text = format!(
                "200 name=ProFTPD;version={};casesensitive=1;",
                c.s.persona.ftp_version
            );
            c.say(&text).await
        }
        "ABOR" => c.say("226 Abort successful").await,
        "STAT" if r.arg.is_empty() => status(c).await,
        "PASV" | "EPSV" | "PORT" | "EPRT" => arrange(c, r).await,
        "PWD" | "XPWD" => {
            if !r.arg.is_empty() {
                return c.say(PARAMETERS).await;
            }
            let text = format!("257 \"{}\" is the current directory", quoted(&c.cwd));
            c.say(&text).await
        }
        _ => files::answer(c, r).await,
    }
}

/// Quotes are doubled in 257.
fn quoted(path: &str) -> String {
    path.replace('"', "\"\"")
}

async fn user(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if r.arg.is_empty() {
        return c.say("500 USER: command requires a parameter").await;
    }
    if r.raw.len() > 256 {
        return c.say("501 Login incorrect.").await;
    }
    if let Some(login) = &c.login {
        let text = if login.typed == r.arg {
            format!("230 User {} logged in", r.arg)
        } else {
            "501 Reauthentication not supported".to_owned()
        };
        return c.say(&text).await;
    }
    c.name(&r.arg);
    let text = if c.shared.accounts.is_anonymous(&r.arg) {
        "331 Anonymous login ok, send your complete email address as your password".to_owned()
    } else {
        format!("331 Password required for {}", r.arg)
    };
    c.say(&text).await
}

async fn pass(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if c.login.is_some() {
        return c.say("503 You are already logged in").await;
    }
    let Some(name) = c.user.clone() else {
        return c.say("503 Login with USER first").await;
    };
    // The last attempt is not delayed.
    let last = c.failures.saturating_add(1) >= super::MAX_FAILURES;
    let pause = if last { 0..0 } else { 1100..2000 };
    if c.log_in(&r.raw, pause).await {
        c.s.limits.idle = std::time::Duration::from_secs(1200);
        let text = if c.is_guest() {
            "230 Anonymous access granted, restrictions apply".to_owned()
        } else {
            format!("230 User {name} logged in")
        };
        return c.say(&text).await;
    }
    c.reply("530 Login incorrect.").await?;
    Ok(if c.is_out() { Step::Close } else { Step::Next })
}

async fn help(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let asked = r.arg.to_uppercase();
    let text = if asked.is_empty() {
        format!("{HELP}{}", c.s.persona.fqdn())
    } else if asked == "SITE" {
        "214-HELP\r\n CHGRP\r\n214 CHMOD".to_owned()
    } else {
        match SYNTAX.iter().find(|(verb, _)| *verb == asked) {
            Some((verb, syntax)) => format!("214 Syntax: {verb} {syntax}"),
            None => format!("502 Unknown command '{}'", r.arg),
        }
    };
    c.say(&text).await
}

async fn virtual_host(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let text = match (r.verb.as_str(), c.login.is_some(), r.arg.is_empty()) {
        ("HOST", _, true) => "500 'HOST' not understood".to_owned(),
        ("HOST", true, _) => SEQUENCE.to_owned(),
        ("HOST", false, _) => format!("504 {}: Unknown hostname provided", r.arg),
        (_, true, _) => "500 Unable to handle command".to_owned(),
        (_, false, true) => "200 Using default language C.UTF-8".to_owned(),
        (_, false, false) => format!("504 Language {} not supported", r.arg),
    };
    c.say(&text).await
}

async fn options(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if r.arg.is_empty() {
        return c.say(PARAMETERS).await;
    }
    let (what, value) = r.arg.split_once(' ').unwrap_or((&r.arg, ""));
    match what.to_ascii_uppercase().as_str() {
        "UTF8" => {
            let off = value.eq_ignore_ascii_case("off");
            c.say(if off {
                "200 UTF8 set to off"
            } else {
                "200 UTF8 set to on"
            })
            .await
        }
        "MLST" => {
            let persona = &c.s.persona;
            // Named in the order of the request.
            let chosen: Vec<String> = value
                .split(';')
                .filter_map(|wish| files::FACTS.iter().find(|f| f.eq_ignore_ascii_case(wish)))
                .filter(|fact| files::has_fact(persona, fact))
                .map(|fact| (*fact).to_owned())
                .collect();
            let mut text = "200 MLST OPTS".to_owned();
            if !chosen.is_empty() {
                text.push(' ');
            }
            for fact in &chosen {
                text.push_str(fact);
                text.push(';');
            }
            c.facts = Some(chosen);
            c.say(&text).await
        }
        _ => {
            let text = format!("500 OPTS {} not understood", r.arg);
            c.say(&text).await
        }
    }
}

/// Transfer parameters.
async fn parameters(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let verb = r.verb.as_str();
    let first = r.arg.split(' ').next().unwrap_or_default();
    let upper = first.to_ascii_uppercase();
    let line = format!("{verb} {}", r.arg);
    let text = match (verb, upper.as_str()) {
        ("TYPE" | "REST" | "RANG", "") => format!("500 '{verb}' not understood"),
        ("MODE" | "STRU", "") => format!("501 '{verb}' not understood"),
        ("ALLO", "") => "504 'ALLO' not understood".to_owned(),
        ("TYPE", "A" | "I" | "L") => {
            c.ascii = upper == "A";
            format!("200 Type set to {first}")
        }
        ("TYPE", _) => format!("504 TYPE not implemented for '{first}' parameter"),
        ("MODE", "S") => "200 Mode set to S".to_owned(),
        ("MODE", "B" | "C") => format!("504 '{line}' unsupported transfer mode"),
        ("MODE", _) => format!("501 '{line}' unrecognized transfer mode"),
        ("STRU", "F") => "200 Structure set to F".to_owned(),
        ("STRU", "R" | "P") => format!("504 '{line}' unsupported structure type"),
        ("STRU", _) => format!("501 '{line}' unrecognized structure type"),
        ("ALLO", _) => {
            if first.parse::<u64>().is_ok() {
                "202 No storage allocation necessary".to_owned()
            } else {
                format!("504 {first}: Invalid ALLO argument")
            }
        }
        ("REST", _) => match first.parse::<u64>() {
            Ok(1..) if c.ascii => {
                "501 REST: Resuming transfers not allowed in ASCII mode".to_owned()
            }
            Ok(at) => {
                c.rest = at;
                format!("350 Restarting at {at}. Send STORE or RETRIEVE to initiate transfer")
            }
            Err(_) => "501 REST requires a value greater than or equal to 0".to_owned(),
        },
        _ => range(c, r),
    };
    c.say(&text).await
}

fn range(c: &mut Conn<'_>, r: &Request) -> String {
    let Some((start, end)) = r.arg.split_once(' ') else {
        return format!("500 'RANG {}' not understood", r.arg);
    };
    let (Ok(start), Ok(end)) = (start.parse::<u64>(), end.parse::<u64>()) else {
        return "501 RANG requires a value greater than or equal to 0".to_owned();
    };
    if start >= end {
        return "501 RANG start must be less than end".to_owned();
    }
    let length = end.saturating_sub(start).saturating_add(1);
    c.rest = start;
    c.range = Some(length);
    format!("350 Transferring byte range of {length} bytes starting from {start}")
}

async fn status(c: &mut Conn<'_>) -> Result<Step, End> {
    let peer = c.peer_ip();
    let name = if peer.is_loopback() {
        "localhost".to_owned()
    } else {
        peer.to_string()
    };
    let moved = if c.moved == 0 {
        String::new()
    } else {
        format!("\r\n Total bytes transferred for session: {}", c.moved)
    };
    let text = format!(
        "211-Status of 'Debian'\r\n Connected from {name} ({peer})\r\n Logged in as {}\r\n TYPE: {}, \
         STRUcture: File, Mode: Stream{moved}\r\n No data connection\r\n211 End of status",
        c.login.as_ref().map_or("", |l| l.name.as_str()),
        mode(c),
    );
    c.say(&text).await
}

fn mode(c: &Conn<'_>) -> &'static str {
    if c.ascii { "ASCII" } else { "BINARY" }
}

async fn arrange(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let verb = r.verb.as_str();
    if c.epsv_all && verb != "EPSV" {
        let text = format!("500 Illegal {verb} command, EPSV ALL in effect");
        return c.say(&text).await;
    }
    match verb {
        "PASV" => {
            if !r.arg.is_empty() {
                return c.say(PARAMETERS).await;
            }
            let Some(port) = c.listen(Ports::Kernel) else {
                return c.say(no_data(NoData::TimedOut)).await;
            };
            let text = format!("227 Entering Passive Mode ({}).", c.pasv_address(port));
            c.say(&text).await
        }
        "EPSV" => {
            if r.arg.eq_ignore_ascii_case("ALL") {
                c.epsv_all = true;
                return c.say("200 EPSV ALL command successful").await;
            }
            if !["", "1", "2"].contains(&r.arg.as_str()) {
                return c.say("522 Network protocol not supported, use (1,2)").await;
            }
            let Some(port) = c.listen(Ports::Own) else {
                return c.say(no_data(NoData::TimedOut)).await;
            };
            let text = format!("229 Entering Extended Passive Mode (|||{port}|)");
            c.say(&text).await
        }
        _ if r.arg.is_empty() => c.say(PARAMETERS).await,
        _ => {
            let target = if verb == "PORT" {
                request::port(&r.arg)
            } else {
                request::eprt(&r.arg).ok()
            };
            let text = match target {
                None if verb == "PORT" => "501 Illegal PORT command".to_owned(),
                None => "522 Network protocol not supported, use (1,2)".to_owned(),
                Some(target) if c.active(target) => format!("200 {verb} command successful"),
                Some(_) => format!("500 Illegal {verb} command"),
            };
            c.say(&text).await
        }
    }
}

fn no_data(why: NoData) -> &'static str {
    match why {
        // It then calls the port the control connection comes from.
        NoData::NotArranged => "425 Unable to build data connection: Connection refused",
        NoData::Foreign => "425 Unable to build data connection: Operation not permitted",
        NoData::TimedOut | NoData::Stopped => {
            "425 Unable to build data connection: Connection timed out"
        }
    }
}

/// `550 name: why`.
fn refused(name: &str, fault: Fault) -> String {
    format!("550 {name}: {}", fault.text())
}

/// Whether `path` lies in the upload directory, where guests may only leave files.
fn in_incoming(c: &Conn<'_>, path: &str) -> bool {
    c.shared.accounts.anonymous == Anonymous::Upload && path.starts_with("/incoming/")
}

/// Sets the time of a file.
fn touch(c: &Conn<'_>, name: &str, at: Stamp) -> Result<(), Fault> {
    let (path, owner) = (c.resolve(name), c.owner());
    c.tree().touch(&path, at, owner)
}
