//! The small FTP servers of devices: HP JetDirect cards, which print what is left with
//! them, and Cisco IOS with its flash file system. One dialogue, two sets of words.

use crate::decoy::End;
use crate::decoy::ftp::data::Ports;
use crate::decoy::ftp::list::{self, Options};
use crate::decoy::ftp::request::{self, Framing, Request};
use crate::decoy::ftp::tree::Tree;
use crate::decoy::ftp::{Channel, Conn, Onto, Step};
use crate::decoy::http::device;
use crate::model::Stamp;
use crate::persona::{FtpServer, Persona};

pub(super) const FRAMING: Framing = Framing {
    max: 1024,
    bare_lf: true,
    telnet: true,
};

/// What the two say differently.
struct Words {
    goodbye: &'static str,
    bad_login: &'static str,
    login_first: &'static str,
    system: &'static str,
    unknown: &'static str,
    unimplemented: &'static str,
    missing: &'static str,
    denied: &'static str,
    no_data: &'static str,
    help: &'static str,
    /// Verbs answered with `unimplemented`.
    absent: &'static [&'static str],
}

static JETDIRECT: Words = Words {
    goodbye: "221 Thank you for using the FTP print server.",
    bad_login: "530 Login incorrect.",
    login_first: "530 Please login with USER and PASS.",
    system: "215 UNIX Type: L8",
    unknown: "500 Command not recognized",
    unimplemented: "502 Command not implemented",
    missing: "550 No such directory",
    denied: "550 Permission denied",
    no_data: "425 Can't build data connection",
    help: "214-The following commands are recognized:\r\n USER PASS QUIT PORT PASV TYPE MODE STRU\r\n \
           STOR LIST NLST CWD  XCWD CDUP PWD  XPWD\r\n SYST HELP NOOP ABOR\r\n214 End of help",
    absent: &[
        "RETR", "DELE", "MKD", "RMD", "RNFR", "RNTO", "APPE", "STOU", "SIZE", "MDTM", "REST",
        "SITE", "FEAT", "OPTS", "AUTH", "EPSV", "EPRT",
    ],
};

static CISCO: Words = Words {
    goodbye: "221 Goodbye.",
    bad_login: "530 Login incorrect.",
    login_first: "530 Please login with USER and PASS.",
    system: "215 Cisco IOS Type: L8",
    unknown: "500 command not understood.",
    unimplemented: "502 command not implemented.",
    missing: "550 No such file or directory.",
    denied: "550 Permission denied.",
    no_data: "425 Can't open data connection.",
    help: "214-The following commands are recognized:\r\n   USER  PASS  QUIT  PORT  PASV  TYPE  \
           MODE  STRU\r\n   RETR  STOR  DELE  LIST  NLST  CWD   CDUP  PWD\r\n   SIZE  SYST  HELP  \
           NOOP  ABOR\r\n214 ",
    absent: &[
        "MKD", "RMD", "RNFR", "RNTO", "APPE", "STOU", "MDTM", "REST", "SITE", "FEAT", "OPTS",
        "AUTH", "EPSV", "EPRT",
    ],
};

fn words(c: &Conn<'_>) -> &'static Words {
    if is_printer(&c.s.persona) {
        &JETDIRECT
    } else {
        &CISCO
    }
}

fn is_printer(persona: &Persona) -> bool {
    persona.ftp_server == FtpServer::Jetdirect
}

pub(super) fn greeting(persona: &Persona) -> String {
    if is_printer(persona) {
        return "220 JD FTP Server Ready".to_owned();
    }
    format!(
        "220 {} IOS-FTP server (version 1.00) ready.",
        persona.hostname
    )
}

pub(super) fn timeout(persona: &Persona) -> &'static str {
    if is_printer(persona) {
        "421 Timeout, closing connection"
    } else {
        "421 Timeout: closing control connection."
    }
}

pub(super) async fn answer(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let w = words(c);
    let printer = is_printer(&c.s.persona);
    match r.verb.as_str() {
        "QUIT" => {
            c.reply(w.goodbye).await?;
            Ok(Step::Close)
        }
        "USER" => {
            c.login = None;
            c.name(&r.arg);
            if printer {
                c.say("331 Username Ok, send identity (e-mail address) as password.")
                    .await
            } else {
                let text = format!("331 Password required for {}.", r.arg);
                c.say(&text).await
            }
        }
        "PASS" if c.user.is_none() => c.say("503 Login with USER first.").await,
        "PASS" => pass(c, r, w).await,
        "HELP" => c.say(w.help).await,
        "NOOP" => c.say("200 NOOP command successful.").await,
        "SYST" => c.say(w.system).await,
        verb if w.absent.contains(&verb) => c.say(w.unimplemented).await,
        verb if !w.help.contains(verb) || verb.len() < 3 => c.say(w.unknown).await,
        _ if c.login.is_none() => c.say(w.login_first).await,
        _ => session(c, r, w).await,
    }
}

async fn pass(c: &mut Conn<'_>, r: &Request, w: &Words) -> Result<Step, End> {
    let user = c.user.clone().unwrap_or_default();
    if !c.log_in(&r.raw, 100..400).await {
        c.reply(w.bad_login).await?;
        return Ok(if c.is_out() { Step::Close } else { Step::Next });
    }
    if !is_printer(&c.s.persona) {
        let text = format!("230 User {user} logged in.");
        return c.say(&text).await;
    }
    let text = format!(
        "230- Hewlett-Packard FTP Print Server Version 2.0\r\n \r\n Directory:       \
         Description\r\n ------------------------------------------------------\r\n PORT1            \
         Print to port 1 {}\r\n \r\n To print a file, use the command: put <filename> \
         [portx]\r\n or 'cd' to a desired port and use: put <filename>.\r\n \r\n Ready to print to \
         PORT1\r\n \r\n230 User logged in.",
        device::printer(&c.s.persona).0
    );
    c.say(&text).await
}

async fn session(c: &mut Conn<'_>, r: &Request, w: &Words) -> Result<Step, End> {
    let printer = is_printer(&c.s.persona);
    match r.verb.as_str() {
        "PWD" | "XPWD" => {
            let shown = if printer {
                c.cwd.clone()
            } else {
                format!("flash:{}", c.cwd)
            };
            let text = format!("257 \"{shown}\" is current directory.");
            c.say(&text).await
        }
        "CWD" | "XCWD" | "CDUP" => {
            let target = if r.verb == "CDUP" {
                "..".to_owned()
            } else {
                local(c, &r.arg)
            };
            match c.change_dir(&target) {
                Ok(()) if printer => {
                    let text = format!("250 Changed directory to \"{}\"", c.cwd);
                    c.say(&text).await
                }
                Ok(()) => c.say("250 CWD command successful.").await,
                Err(_) => c.say(w.missing).await,
            }
        }
        "TYPE" => match r.arg.to_ascii_uppercase().as_str() {
            "A" | "A N" => {
                c.ascii = true;
                c.say("200 Type set to A.").await
            }
            "I" | "L 8" => {
                c.ascii = false;
                c.say(if printer {
                    "200 Type set to I. Using binary mode to transfer files."
                } else {
                    "200 Type set to I."
                })
                .await
            }
            _ => c.say("504 Type not supported.").await,
        },
        "MODE" if r.arg.eq_ignore_ascii_case("S") => c.say("200 MODE S ok.").await,
        "STRU" if r.arg.eq_ignore_ascii_case("F") => c.say("200 STRU F ok.").await,
        "MODE" | "STRU" => c.say("504 Parameter not supported.").await,
        "ABOR" => c.say("226 ABOR command successful.").await,
        "PASV" => match c.listen(Ports::Own) {
            Some(port) => {
                let text = format!("227 Entering Passive Mode ({})", c.pasv_address(port));
                c.say(&text).await
            }
            None => c.say(w.no_data).await,
        },
        "PORT" => {
            let own = request::port(&r.arg).is_some_and(|target| c.active(target));
            c.say(if own {
                "200 PORT command successful."
            } else {
                "500 Illegal PORT command."
            })
            .await
        }
        "LIST" | "NLST" => listing(c, r, w).await,
        "RETR" => fetch(c, r, w).await,
        "STOR" => store(c, r, w).await,
        "SIZE" | "DELE" => files(c, r, w).await,
        _ => c.say(w.unknown).await,
    }
}

/// The argument as a path: IOS names its file system, printers know no case.
fn local(c: &Conn<'_>, arg: &str) -> String {
    let rest = arg.strip_prefix("flash:").unwrap_or(arg);
    if is_printer(&c.s.persona) {
        rest.to_ascii_uppercase()
    } else {
        rest.to_owned()
    }
}

async fn listing(c: &mut Conn<'_>, r: &Request, w: &Words) -> Result<Step, End> {
    let (options, target) = list::options(&r.arg);
    let target = local(c, target);
    let printer = is_printer(&c.s.persona);
    let text = {
        let tree = c.tree();
        let path = c.resolve(&target);
        render(&tree, &path, options, r.verb == "LIST", printer)
    };
    let Some(text) = text else {
        c.channel = Channel::None;
        return c.say(w.missing).await;
    };
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(_) => return c.say(w.no_data).await,
    };
    c.reply("150 Opening ASCII mode data connection for file list.")
        .await?;
    c.push(stream, text.as_bytes()).await;
    c.say("226 Transfer complete.").await
}

fn render(tree: &Tree, path: &str, options: Options, long: bool, printer: bool) -> Option<String> {
    let entries = list::lookup(tree, "/", path, options).ok()?.entries();
    let mut text = String::new();
    if long && printer {
        text.push_str(&format!("total {}\r\n", entries.len()));
    }
    for entry in entries {
        let name = entry.name.rsplit('/').next().unwrap_or_default();
        let node = entry.node;
        let at = node.mtime.utc();
        text.push_str(&match (long, printer) {
            (false, _) => name.to_owned(),
            (true, true) => format!(
                "d-wx-wx-wx   2 JetDirect public      512 {} {name}",
                at.strftime("%b %d %Y")
            ),
            (true, false) => format!(
                "{}   1 0        0        {:>12} {} {name}",
                list::mode(node),
                node.size(),
                at.strftime("%b %d %Y %H:%M:%S")
            ),
        });
        text.push_str("\r\n");
    }
    Some(text)
}

async fn fetch(c: &mut Conn<'_>, r: &Request, w: &Words) -> Result<Step, End> {
    let path = c.resolve(&local(c, &r.arg));
    let Ok((bytes, size)) = c.open_file(&path) else {
        c.channel = Channel::None;
        return c.say(w.missing).await;
    };
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(_) => return c.say(w.no_data).await,
    };
    let text = format!("150 Opening data connection for {} ({size} bytes).", r.arg);
    c.reply(&text).await?;
    let sent = c.push(stream, &bytes).await;
    c.downloaded(&path, bytes.len(), sent);
    c.say("226 Transfer complete.").await
}

async fn store(c: &mut Conn<'_>, r: &Request, w: &Words) -> Result<Step, End> {
    let printer = is_printer(&c.s.persona);
    // Whatever the directory, a printer has one place for jobs.
    let name = r.arg.replace(['/', '\\'], "_");
    let path = if printer {
        format!("/PORT1/{name}")
    } else {
        c.resolve(&local(c, &r.arg))
    };
    if r.arg.is_empty() || c.tree().may_write(&path, c.owner()).is_err() {
        c.channel = Channel::None;
        return c.say(w.denied).await;
    }
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(_) => return c.say(w.no_data).await,
    };
    let mode = if c.ascii { "ASCII" } else { "BINARY" };
    let text = format!("150 Opening {mode} mode data connection for {}", r.arg);
    c.reply(&text).await?;
    let received = c.upload(stream, &path, Onto::Nothing, false).await;
    if received.is_err() {
        return c.say(w.denied).await;
    }
    if !printer {
        return c.say("226 Transfer complete.").await;
    }
    // Printed, and gone.
    let (owner, now) = (c.owner(), Stamp::now());
    let gone = c.tree().unlink(&path, owner, now);
    tracing::trace!("print job taken: {gone:?}");
    let job = c.jobs();
    let text = format!(
        "226- Ready\r\n226- Processing job: {job} {}\r\n226 Transfer complete",
        now.utc().strftime("%m/%d/%Y %H:%M:%S")
    );
    c.say(&text).await
}

async fn files(c: &mut Conn<'_>, r: &Request, w: &Words) -> Result<Step, End> {
    let (path, owner) = (c.resolve(&local(c, &r.arg)), c.owner());
    if r.verb == "DELE" {
        let done = c.tree().unlink(&path, owner, Stamp::now());
        return c
            .say(if done.is_ok() {
                "250 DELE command successful."
            } else {
                w.missing
            })
            .await;
    }
    let size = {
        let tree = c.tree();
        let node = tree.get(&path).ok();
        node.filter(|n| !n.is_dir()).map(|n| n.size())
    };
    match size {
        Some(size) => c.say(&format!("213 {size}")).await,
        None => c.say(w.missing).await,
    }
}
