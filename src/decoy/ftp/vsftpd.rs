//! vsftpd 3.0 as Debian and Ubuntu build it, with `local_enable`, `write_enable`,
//! `chroot_local_user` and `allow_writeable_chroot` on, no TLS. Its FEAT, HELP and
//! refusals depend on nothing else; the version shows in the greeting and in STAT.

use crate::decoy::End;
use crate::decoy::ftp::account::Anonymous;
use crate::decoy::ftp::data::{NoData, Ports};
use crate::decoy::ftp::list::{self, Listed, Options};
use crate::decoy::ftp::request::{self, BadEprt, Framing, Request};
use crate::decoy::ftp::tree::join;
use crate::decoy::ftp::{Conn, Onto, Step, mapped};
use crate::model::Stamp;
use crate::persona::Persona;

pub(super) const FRAMING: Framing = Framing {
    max: 4096,
    bare_lf: true,
    telnet: false,
};

const FEATURES: &str = "211-Features:\r\n EPRT\r\n EPSV\r\n MDTM\r\n PASV\r\n REST STREAM\r\n \
                        SIZE\r\n TVFS\r\n211 End";
const HELP: &str = "214-The following commands are recognized.\r\n ABOR ACCT ALLO APPE CDUP CWD  \
                    DELE EPRT EPSV FEAT HELP LIST MDTM MKD\r\n MODE NLST NOOP OPTS PASS PASV \
                    PORT PWD  QUIT REIN REST RETR RMD  RNFR\r\n RNTO SITE SIZE SMNT STAT STOR \
                    STOU STRU SYST TYPE USER XCUP XCWD XMKD\r\n XPWD XRMD\r\n214 Help OK.";
/// Telnet is not understood, but IAC IP IAC DM before ABOR is known by heart (the four
/// bytes are not UTF-8).
const INTERRUPTED_ABOR: &str = "\u{fffd}\u{fffd}\u{fffd}\u{fffd}ABOR";
const DENIED: &str = "550 Permission denied.";

pub(super) fn greeting(persona: &Persona) -> String {
    format!("220 (vsFTPd {})", persona.ftp_version)
}

pub(super) async fn answer(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "QUIT" => {
            c.reply("221 Goodbye.").await?;
            Ok(Step::Close)
        }
        "FEAT" => c.say(FEATURES).await,
        "OPTS" if r.arg.eq_ignore_ascii_case("UTF8 ON") => c.say("200 Always in UTF8 mode.").await,
        "OPTS" => c.say("501 Option not understood.").await,
        "USER" => user(c, r).await,
        "PASS" => pass(c, r).await,
        _ if c.login.is_none() => c.say("530 Please login with USER and PASS.").await,
        "ABOR" | INTERRUPTED_ABOR => c.say("225 No transfer to ABOR.").await,
        _ => session(c, r).await,
    }
}

async fn user(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if let Some(login) = &c.login {
        let text = if c.is_guest() {
            "530 Can't change from guest user."
        } else if login.typed == r.arg {
            "331 Any password will do."
        } else {
            "530 Can't change to another user."
        };
        return c.say(text).await;
    }
    c.name(&r.arg);
    c.say("331 Please specify the password.").await
}

async fn pass(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if c.login.is_some() {
        return c.say("230 Already logged in.").await;
    }
    if c.user.is_none() {
        return c.say("503 Login with USER first.").await;
    }
    // `delay_failed_login` is a second; PAM adds a part of two.
    if c.log_in(&r.raw, 1400..2000).await {
        c.umask = if c.is_guest() { 0o077 } else { 0o022 };
        return c.say("230 Login successful.").await;
    }
    c.reply("530 Login incorrect.").await?;
    Ok(if c.is_out() { Step::Close } else { Step::Next })
}

async fn session(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "PWD" | "XPWD" => {
            let text = format!("257 \"{}\" is the current directory", quoted(&c.cwd));
            c.say(&text).await
        }
        "SYST" => c.say("215 UNIX Type: L8").await,
        "HELP" => c.say(HELP).await,
        "NOOP" => c.say("200 NOOP ok.").await,
        "ALLO" => c.say("202 ALLO command ignored.").await,
        "ACCT" | "SMNT" | "REIN" => {
            let text = format!("502 {} not implemented.", r.verb);
            c.say(&text).await
        }
        "PBSZ" | "PROT" => c.say(DENIED).await,
        "TYPE" => set_type(c, r).await,
        "MODE" if r.arg.eq_ignore_ascii_case("S") => c.say("200 Mode set to S.").await,
        "MODE" => c.say("504 Bad MODE command.").await,
        "STRU" if r.arg.eq_ignore_ascii_case("F") => c.say("200 Structure set to F.").await,
        "STRU" => c.say("504 Bad STRU command.").await,
        "REST" => {
            c.rest = r
                .arg
                .parse::<i64>()
                .ok()
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0);
            let text = format!("350 Restart position accepted ({}).", c.rest);
            c.say(&text).await
        }
        "CWD" | "XCWD" => enter(c, &r.arg).await,
        "CDUP" | "XCUP" => enter(c, "..").await,
        "MKD" | "XMKD" | "RMD" | "XRMD" | "DELE" | "RNFR" | "RNTO" => change(c, r).await,
        "SIZE" | "MDTM" => measure(c, r).await,
        "SITE" => site(c, r).await,
        "STAT" => stat(c, r).await,
        "PASV" | "EPSV" | "PORT" | "EPRT" => arrange(c, r).await,
        "LIST" | "NLST" => listing(c, r).await,
        "RETR" => fetch(c, r).await,
        "STOR" | "STOU" | "APPE" => store(c, r).await,
        _ => c.say("500 Unknown command.").await,
    }
}

/// Quotes are doubled in 257.
fn quoted(path: &str) -> String {
    path.replace('"', "\"\"")
}

async fn set_type(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.arg.to_ascii_uppercase().as_str() {
        "A" | "A N" => {
            c.ascii = true;
            c.say("200 Switching to ASCII mode.").await
        }
        "I" | "L8" | "L 8" => {
            c.ascii = false;
            c.say("200 Switching to Binary mode.").await
        }
        _ => c.say("500 Unrecognised TYPE command.").await,
    }
}

async fn enter(c: &mut Conn<'_>, arg: &str) -> Result<Step, End> {
    // The home directory is the root.
    let arg = match arg.strip_prefix('~') {
        Some("") => "/",
        _ => arg,
    };
    let entered = !arg.is_empty() && c.change_dir(arg).is_ok();
    c.say(if entered {
        "250 Directory successfully changed."
    } else {
        "550 Failed to change directory."
    })
    .await
}

/// Commands that change names. Guests may at most make directories.
async fn change(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let makes = matches!(r.verb.as_str(), "MKD" | "XMKD");
    if c.is_guest() && !(makes && c.shared.accounts.anonymous == Anonymous::Upload) {
        return c.say(DENIED).await;
    }
    let (path, owner, now) = (c.resolve(&r.arg), c.owner(), Stamp::now());
    let given = !r.arg.is_empty();
    match r.verb.as_str() {
        "MKD" | "XMKD" => {
            let mode = 0o777 & !c.umask;
            let made = given && c.tree().mkdir(&path, mode, owner, now).is_ok();
            if !made {
                return c.say("550 Create directory operation failed.").await;
            }
            let shown = if r.arg.starts_with('/') {
                r.arg.clone()
            } else {
                join(&c.cwd, &r.arg)
            };
            let text = format!("257 \"{}\" created", quoted(&shown));
            c.say(&text).await
        }
        "RMD" | "XRMD" => {
            let done = given && c.tree().rmdir(&path, owner, now).is_ok();
            c.say(if done {
                "250 Remove directory operation successful."
            } else {
                "550 Remove directory operation failed."
            })
            .await
        }
        "DELE" => {
            let done = given && c.tree().unlink(&path, owner, now).is_ok();
            c.say(if done {
                "250 Delete operation successful."
            } else {
                "550 Delete operation failed."
            })
            .await
        }
        "RNFR" => {
            let found = given && c.tree().get(&path).is_ok();
            c.rename = found.then_some(path);
            c.say(if found {
                "350 Ready for RNTO."
            } else {
                "550 RNFR command failed."
            })
            .await
        }
        _ => {
            let Some(from) = c.rename.take() else {
                return c.say("503 RNFR required first.").await;
            };
            let done = given && c.tree().rename(&from, &path, owner, now).is_ok();
            c.say(if done {
                "250 Rename successful."
            } else {
                "550 Rename failed."
            })
            .await
        }
    }
}

async fn measure(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if r.verb == "MDTM"
        && !c.is_guest()
        && let Some((time, name)) = r.arg.split_once(' ')
        && let Some(at) = list::parse_stamp(time)
    {
        let (path, owner) = (c.resolve(name), c.owner());
        let set = c.tree().touch(&path, at, owner).is_ok();
        return c
            .say(if set {
                "213 File modification time set."
            } else {
                "550 Could not set file modification time."
            })
            .await;
    }
    let path = c.resolve(&r.arg);
    let found = {
        let tree = c.tree();
        tree.get(&path)
            .ok()
            .filter(|node| !node.is_dir())
            .map(|node| (node.size(), node.mtime))
    };
    let text = match (r.verb.as_str(), found) {
        ("SIZE", Some((size, _))) => format!("213 {size}"),
        ("SIZE", None) => "550 Could not get file size.".to_owned(),
        (_, Some((_, mtime))) => format!("213 {}", list::stamp(mtime)),
        (_, None) => "550 Could not get file modification time.".to_owned(),
    };
    c.say(&text).await
}

async fn site(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    if c.is_guest() {
        return c.say(DENIED).await;
    }
    let (word, rest) = r.arg.split_once(' ').unwrap_or((&r.arg, ""));
    match word.to_ascii_uppercase().as_str() {
        "HELP" => c.say("214 CHMOD UMASK HELP").await,
        "CHMOD" => {
            let Some((mode, name)) = rest.split_once(' ') else {
                return c.say("500 SITE CHMOD needs 2 arguments.").await;
            };
            let (path, owner) = (c.resolve(name), c.owner());
            let done = c.tree().chmod(&path, octal(mode), owner).is_ok();
            c.say(if done {
                "200 SITE CHMOD command ok."
            } else {
                "550 SITE CHMOD command failed."
            })
            .await
        }
        "UMASK" if rest.is_empty() => {
            let text = format!("200 Your current UMASK is {}", umask(c.umask));
            c.say(&text).await
        }
        "UMASK" => {
            c.umask = octal(rest) & 0o777;
            let text = format!("200 UMASK set to {}", umask(c.umask));
            c.say(&text).await
        }
        _ => c.say("500 Unknown SITE command.").await,
    }
}

/// Its number parser gives 0 for what is not octal.
fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap_or(0)
}

/// A leading zero, except for zero.
fn umask(mask: u32) -> String {
    if mask == 0 {
        "0".to_owned()
    } else {
        format!("0{mask:o}")
    }
}

async fn stat(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let mut text;
    if r.arg.is_empty() {
        text = format!(
            "211-FTP server status:\r\n     Connected to {}\r\n     Logged in as {}\r\n     TYPE: \
             {}\r\n     No session bandwidth limit\r\n     Session timeout in seconds is \
             300\r\n     Control connection is plain text\r\n     Data connections will be plain \
             text\r\n     At session startup, client count was {}\r\n     vsFTPd {} - secure, \
             fast, stable\r\n211 End of status",
            mapped(c.s.peer.ip()),
            c.login.as_ref().map_or("", |l| l.name.as_str()),
            if c.ascii { "ASCII" } else { "BINARY" },
            c.clients,
            c.s.persona.ftp_version,
        );
    } else {
        let (options, target) = list::options(&r.arg);
        // STAT always shows everything, and of a pattern "*" the whole directory.
        let options = Options {
            all: true,
            ..options
        };
        text = "213-Status follows:\r\n".to_owned();
        text.push_str(&render(c, target, options, true));
        text.push_str("213 End of status");
    }
    c.say(&text).await
}

/// A listing as it goes over the wire; nothing for what does not exist.
fn render(c: &Conn<'_>, target: &str, options: Options, long: bool) -> String {
    let now = Stamp::now();
    let mut text = String::new();
    let tree = c.tree();
    let Ok(listed) = list::lookup(&tree, &c.cwd, target, options) else {
        return text;
    };
    // Short names of another directory carry the way there.
    let prefix = match &listed {
        Listed::Dir(_) if !long && !target.is_empty() => {
            format!("{}/", target.trim_end_matches('/'))
        }
        _ => String::new(),
    };
    for entry in listed.entries() {
        if long {
            text.push_str(&list::vsftpd(&tree, &entry, now));
        } else {
            text.push_str(&format!("{prefix}{}\r\n", entry.name));
        }
    }
    text
}

async fn arrange(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    match r.verb.as_str() {
        "PASV" | "PORT" if c.epsv_all => c.say(DENIED).await,
        "PASV" => {
            let Some(port) = c.listen(Ports::Own) else {
                return c.say("425 Failed to establish connection.").await;
            };
            let text = format!("227 Entering Passive Mode ({}).", c.pasv_address(port));
            c.say(&text).await
        }
        "EPSV" => {
            if r.arg.eq_ignore_ascii_case("ALL") {
                c.epsv_all = true;
                return c.say("200 EPSV ALL ok.").await;
            }
            if !r.arg.is_empty() && !r.arg.starts_with(['1', '2']) {
                return c.say("522 Bad network protocol.").await;
            }
            let Some(port) = c.listen(Ports::Own) else {
                return c.say("425 Failed to establish connection.").await;
            };
            let text = format!("229 Entering Extended Passive Mode (|||{port}|)");
            c.say(&text).await
        }
        "PORT" => {
            let own = request::port(&r.arg).is_some_and(|target| c.active(target));
            c.say(if own {
                "200 PORT command successful. Consider using PASV."
            } else {
                "500 Illegal PORT command."
            })
            .await
        }
        _ => match request::eprt(&r.arg) {
            Err(BadEprt::Protocol) => c.say("500 Bad EPRT protocol.").await,
            Err(BadEprt::Syntax) => c.say("500 Bad EPRT command.").await,
            Ok(target) => {
                let own = c.active(target);
                c.say(if own {
                    "200 EPRT command successful. Consider using EPSV."
                } else {
                    "500 Illegal EPRT command."
                })
                .await
            }
        },
    }
}

fn no_data(why: NoData) -> &'static str {
    match why {
        NoData::NotArranged => "425 Use PORT or PASV first.",
        NoData::Foreign => "425 Security: Bad IP connecting.",
        NoData::TimedOut | NoData::Stopped => "425 Failed to establish connection.",
    }
}

async fn listing(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let (options, target) = list::options(&r.arg);
    let text = render(c, target, options, r.verb == "LIST" || options.long);
    c.reply("150 Here comes the directory listing.").await?;
    if c.push(stream, text.as_bytes()).await {
        c.say("226 Directory send OK.").await
    } else {
        c.say("426 Failure writing network stream.").await
    }
}

async fn fetch(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let offset = std::mem::take(&mut c.rest);
    if matches!(c.channel, super::Channel::None) {
        return c.say(no_data(NoData::NotArranged)).await;
    }
    let path = c.resolve(&r.arg);
    // Guests may read what everybody may.
    let file = c
        .open_file(&path)
        .ok()
        .filter(|_| !c.is_guest() || c.tree().get(&path).is_ok_and(|node| node.mode & 0o004 != 0));
    let Some((bytes, size)) = file else {
        c.channel = super::Channel::None;
        return c.say("550 Failed to open file.").await;
    };
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    let text = format!(
        "150 Opening BINARY mode data connection for {} ({size} bytes).",
        r.arg
    );
    c.reply(&text).await?;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes.get(offset..).unwrap_or_default();
    let sent = c.push(stream, part).await;
    c.downloaded(&path, part.len(), sent);
    c.say(if sent {
        "226 Transfer complete."
    } else {
        "426 Failure writing network stream."
    })
    .await
}

async fn store(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let offset = std::mem::take(&mut c.rest);
    let allowed =
        !c.is_guest() || (r.verb != "APPE" && c.shared.accounts.anonymous == Anonymous::Upload);
    if !allowed {
        return c.say(DENIED).await;
    }
    if matches!(c.channel, super::Channel::None) && (r.verb != "STOU" || !c.is_guest()) {
        return c.say(no_data(NoData::NotArranged)).await;
    }
    let name = if r.verb == "STOU" {
        unique(c, &r.arg)
    } else {
        r.arg.clone()
    };
    let path = c.resolve(&name);
    let writable = c.tree().may_write(&path, c.owner());
    // Guests never overwrite.
    let writable = writable.is_ok_and(|exists| !(exists && c.is_guest())) && !name.is_empty();
    if !writable {
        c.channel = super::Channel::None;
        return c.say("553 Could not create file.").await;
    }
    let stream = match c.data().await? {
        Ok(stream) => stream,
        Err(why) => return c.say(no_data(why)).await,
    };
    if r.verb == "STOU" {
        let text = format!("150 FILE: {name}");
        c.reply(&text).await?;
    } else {
        c.reply("150 Ok to send data.").await?;
    }
    let onto = match (r.verb.as_str(), offset) {
        ("APPE", _) => Onto::End,
        ("STOR", 1..) => Onto::Offset(offset),
        _ => Onto::Nothing,
    };
    match c.upload(stream, &path, onto, false).await {
        Ok(received) if received.whole => c.say("226 Transfer complete.").await,
        Ok(_) => c.say("426 Failure reading network stream.").await,
        Err(_) => c.say("451 Failure writing to local file.").await,
    }
}

/// A name nobody has: the one given, or numbered.
fn unique(c: &Conn<'_>, wish: &str) -> String {
    let tree = c.tree();
    if !wish.is_empty() && tree.get(&c.resolve(wish)).is_err() {
        return wish.to_owned();
    }
    let base = if wish.is_empty() { "STOU" } else { wish };
    (1..10_000)
        .map(|number| format!("{base}.{number}"))
        .find(|name| tree.get(&c.resolve(name)).is_err())
        .unwrap_or_default()
}
